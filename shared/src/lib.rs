//! The sealing core: what a SealedSecret is, how it is made, and how it opens.
//!
//! Three rules hold in this crate. Values are fetched and written elsewhere: here are only plain
//! functions over plain data. Nothing reads a clock, a file, the network or the environment: time
//! and randomness are arguments, except that making a key and OAEP draw their randomness inside
//! aws-lc-rs ([`key`], [`envelope`]). And a plain value stays in a [`plain::Plain`], which wipes
//! itself, shows nothing in `Debug`, and never enters an error text.
//!
//! | module | owns |
//! |---|---|
//! | [`scope`] | who may open a value: strict, namespace-wide, cluster-wide; label bytes |
//! | [`envelope`] | the ciphertext bytes of one value, in and out |
//! | [`key`] | one RSA key and its certificate: make, parse, PEM, fingerprint, validity |
//! | [`key_secret`] | a key and certificate as the Secret that stores them |
//! | [`key_marks`] | what is noted on a key: backed up, compromised; its state |
//! | [`key_ring`] | ordered keys: the newest that may seals, any opens |
//! | [`renewal`] | newest key + policy + now → due, or when next |
//! | [`names`] | names and keys that an API server takes |
//! | [`resource`] | SealedSecret on the wire; every annotation and label name |
//! | [`hints`] | which certificate sealed each item: advice in an annotation |
//! | [`record`] | SealedSecret + Secret + key → proof that the one came of the other |
//! | [`secret`] | a Secret with its plain values |
//! | [`manifest`] | YAML/JSON bytes ↔ documents |
//! | [`sealed_file`] | the SealedSecrets of a file; edits of their items |
//! | [`seal`] | Secret + certificate + scope → SealedSecret |
//! | [`reseal`] | SealedSecret → the same for the newest key |
//! | [`unseal`] | SealedSecret + ring → Secret, with an error per item |
//! | [`needs`] | SealedSecret + keys → which key each item needs, and why one does not open |
//! | [`meter`] | what that work costs, and who is asked before it is done |
//! | [`random`] | the system's generator, which programs pass in |
//! | [`plain`], [`base64`] | bytes that wipe themselves; the peer's base64 |

pub mod base64;
pub mod envelope;
pub mod hints;
pub mod key;
pub mod key_marks;
pub mod key_ring;
pub mod key_secret;
pub mod manifest;
pub mod meter;
pub mod names;
pub mod needs;
pub mod plain;
pub mod random;
pub mod record;
pub mod renewal;
pub mod reseal;
pub mod resource;
pub mod scope;
pub mod seal;
pub mod sealed_file;
pub mod secret;
pub mod secret_types;
pub mod unseal;
mod visible;

pub use visible::{visible, visible_line};

/// An error with its causes, each its own sentence, joined by colons: what a person is shown. A cause
/// that an error has in its own words already is not said twice.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}
