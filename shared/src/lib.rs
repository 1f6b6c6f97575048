//! The sealing core: what a SealedSecret is, how it is sealed, and how it is unsealed.
//!
//! Three principles apply to this crate. It contains only pure functions; callers do the I/O. It reads no clock, file,
//! network or environment: time and randomness are arguments. There are three exceptions: key generation and OAEP draw
//! their randomness inside aws-lc-rs ([`key`], [`envelope`]), [`unseal`] and [`needs`] open v2 items with randomness
//! from the operating system, on which no result depends, and [`key`] counts private-key operations. A plaintext value
//! stays in a [`plain::Plain`], which wipes itself, shows nothing in `Debug`, and never appears in an error text.
//!
//! Sealing a value needs only the certificate; unsealing it needs the private key:
//!
//! ```
//! use jiff::{SignedDuration, Timestamp};
//! use shared::envelope;
//! use shared::key::{KeySize, KeySpec};
//! use shared::random;
//! use shared::scope::Scope;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let spec = KeySpec {
//!     size: KeySize::Rsa2048,
//!     ttl: SignedDuration::from_hours(24 * 30),
//!     common_name: String::new(),
//! };
//! let pair = spec.generate(Timestamp::now(), &mut random::system())?.pair;
//!
//! let label = Scope::Strict.label_for_sealing("shop", "db")?;
//! let public = pair.certificate().public_key();
//! let sealed = envelope::seal(public, &label, b"hunter2", &mut random::system())?;
//!
//! assert_eq!(envelope::open(pair.private(), &label, &sealed)?.expose(), b"hunter2");
//! // A strict value can be unsealed only with its own namespace and name.
//! let elsewhere = Scope::Strict.label_for_sealing("shop", "web")?;
//! assert!(envelope::open(pair.private(), &elsewhere, &sealed).is_err());
//! # Ok(())
//! # }
//! ```
//!
//! | module | content |
//! |---|---|
//! | [`scope`] | where a value may be unsealed: strict, namespace-wide, cluster-wide; label bytes |
//! | [`envelope`] | the ciphertext of one value: encryption and decryption |
//! | [`key`] | one RSA key and its certificate: generation, parsing, PEM, fingerprint, validity |
//! | [`key_secret`] | the Secret that stores a key and its certificate |
//! | [`key_marks`] | marks on a key: backed up, compromised, opening-only; its state |
//! | [`key_ring`] | ordered keys: the newest that may seal is the sealing key, any can unseal |
//! | [`renewal`] | newest key + policy + now → renewal due, or the time of the next one |
//! | [`names`] | names and item keys that the API server accepts |
//! | [`resource`] | the SealedSecret API type; every annotation and label name |
//! | [`hints`] | which certificate sealed each item: advice in an annotation |
//! | [`rotate_by`] | the date from which each value is overdue for a change: advice in an annotation |
//! | [`record`] | SealedSecret + Secret + key → proof that the Secret was created from the SealedSecret |
//! | [`random_mark`] | random values + key → mark that shows for which version they were rendered |
//! | [`former_mark`] | former values + key → proof of the marks that name them |
//! | [`secret`] | a Secret with its plaintext values |
//! | [`secret_types`] | the API server's requirements for the built-in types of Secret |
//! | [`readable`] | JSON of the API server → objects that typed parsing can read |
//! | [`known_fields`] | JSON of clients without the fields that nothing reads |
//! | [`manifest`] | YAML/JSON bytes ↔ documents |
//! | [`sealed_file`] | the SealedSecrets in a file; edits of their items |
//! | [`seal`] | Secret + certificate + scope → SealedSecret |
//! | [`reseal`] | SealedSecret → SealedSecret, re-encrypted for the sealing key |
//! | [`convert`] | SealedSecret with v2 values → SealedSecret with v1 values |
//! | [`unseal`] | SealedSecret + key ring → Secret, with an error per item |
//! | [`v2`] | the second format: post-quantum suites, locks that open several items, items bound to their names |
//! | [`sealed_text`] | string → the envelope in the string, or the actual format of the string |
//! | [`needs`] | SealedSecret + keys → which key each item needs, and why an item cannot be unsealed |
//! | [`meter`] | the cost of sealing and unsealing, reported to a meter before the work begins |
//! | [`clock`] | whether the clock was set back |
//! | [`random`] | the operating system's random generator, which programs pass in |
//! | [`plain`], [`base64`] | bytes that wipe themselves; Go's base64 |

pub mod clock;
pub mod convert;
pub mod envelope;
pub mod former_mark;
pub mod hints;
pub mod key;
pub mod key_marks;
pub mod key_ring;
pub mod key_secret;
pub mod known_fields;
pub mod manifest;
pub mod meter;
pub mod names;
pub mod needs;
pub mod plain;
pub mod random;
pub mod random_mark;
pub mod readable;
pub mod record;
pub mod renewal;
pub mod reseal;
pub mod resource;
pub mod rotate_by;
pub mod scope;
pub mod seal;
pub mod sealed_file;
pub mod sealed_text;
pub mod secret;
pub mod secret_types;
pub mod unseal;
pub mod v2;

pub use go::base64;
pub use text::{error_chain, is_hidden, visible, visible_line};
