//! The post-quantum recipients and identities of age 1.3 (`mlkem768x25519` of C2SP's age specification), which the crate
//! `age` does not have.

use std::collections::HashSet;
use std::io;

use age::secrecy::ExposeSecret as _;
use age::{DecryptError, EncryptError};
use age_core::format::{FileKey, Stanza};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use shared::random;
use shared::v2::{AgeIdentity, AgeRecipient};

const TAG: &str = "mlkem768x25519";
/// The label of post-quantum recipients in the age specification. Either all recipients of a file have this label or
/// none: one recipient without it would make the file decryptable with a quantum computer.
const LABEL: &str = "postquantum";
/// Lengths in bytes of the encapsulation and of the wrapped file key.
const LENS: (usize, usize) = (1120, 32);

/// A recipient `age1pq1…`.
pub(super) struct HybridRecipient(pub(super) AgeRecipient);

impl age::Recipient for HybridRecipient {
    fn wrap_file_key(&self, key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let wrapped = self
            .0
            .wrap_file_key(key.expose_secret(), &mut random::system());
        let (encapsulated, body) = wrapped.ok_or_else(|| io::Error::other("cannot use the key"))?;
        let stanza = Stanza {
            tag: TAG.to_owned(),
            args: vec![STANDARD_NO_PAD.encode(encapsulated)],
            body,
        };
        Ok((vec![stanza], HashSet::from([LABEL.to_owned()])))
    }
}

/// An identity `AGE-SECRET-KEY-PQ-1…`.
pub(super) struct HybridIdentity(pub(super) AgeIdentity);

impl age::Identity for HybridIdentity {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if stanza.tag != TAG {
            return None;
        }
        let [argument] = &stanza.args[..] else {
            return Some(Err(DecryptError::InvalidHeader));
        };
        let encapsulated = STANDARD_NO_PAD.decode(argument).unwrap_or_default();
        if (encapsulated.len(), stanza.body.len()) != LENS {
            return Some(Err(DecryptError::InvalidHeader));
        }
        // A failure does not show whether the stanza belongs to another identity, so the others are tried.
        let key = self.0.unwrap_file_key(&encapsulated, &stanza.body)?;
        Some(Ok(FileKey::init_with_mut(|copy| {
            copy.copy_from_slice(&*key);
        })))
    }
}
