//! The names of recipients in rules and flags.

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;

use shared::v2::{KeyTextError, PublicRecipient, Recipient as _};

use crate::redacted::redacted_source;

/// The name, in rules and flags, of the key that the controller prefers.
const CLUSTER: &str = "cluster";

/// The source of a recipient's public key.
#[derive(Debug, Clone)]
pub enum RecipientSource {
    /// The key itself, as a line.
    Line(Box<PublicRecipient>),
    /// A file or a URL with a certificate, lines of keys, or the list of a controller.
    At(OsString),
    /// The key that the controller prefers.
    Cluster,
}

/// Why a string names no recipient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipientSourceError {
    /// A line with an unusable key.
    #[error(transparent)]
    Line(#[from] KeyTextError),
    /// A private key instead of a public one. The message does not quote the key.
    #[error(
        "this is a private key\nhint: remove it, and name the public key (`seal2-recipient …` or `age1pq1…`)"
    )]
    PrivateKey,
    /// An age recipient that is not post-quantum.
    #[error("only post-quantum age recipients can be used; they begin with `age1pq1`")]
    ClassicalAge,
    /// The string is empty.
    #[error("the recipient is empty")]
    Empty,
}

impl FromStr for RecipientSource {
    type Err = RecipientSourceError;

    fn from_str(text: &str) -> Result<Self, RecipientSourceError> {
        let text = text.trim_ascii();
        let begins_with = |prefix: &str| {
            let start = text.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        if text.is_empty() {
            Err(RecipientSourceError::Empty)
        } else if begins_with("seal2-key") || begins_with("age-secret-key-") {
            Err(RecipientSourceError::PrivateKey)
        } else if begins_with("seal2-recipient") || begins_with("age1pq1") {
            Ok(Self::Line(PublicRecipient::parse(text)?.into()))
        } else if begins_with("age1") && !text.contains(['.', '/']) {
            Err(RecipientSourceError::ClassicalAge)
        } else if text == CLUSTER {
            Ok(Self::Cluster)
        } else {
            Ok(Self::At(text.into()))
        }
    }
}

impl PartialEq for RecipientSource {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Line(a), Self::Line(b)) => a.key_id() == b.key_id(),
            (Self::At(a), Self::At(b)) => a == b,
            (Self::Cluster, Self::Cluster) => true,
            _ => false,
        }
    }
}

impl fmt::Display for RecipientSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => line.fmt(f),
            Self::At(at) => f.write_str(&redacted_source(at)),
            Self::Cluster => f.write_str(CLUSTER),
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::v2::{SecretKey, Suite};

    use super::*;

    #[test]
    fn distinguishes_keys_files_and_the_cluster() {
        let key = SecretKey::from_bytes(Suite::P256, &[1; 32]).unwrap();
        let line = key.recipient().to_string();
        for (text, want) in [
            (line.as_str(), line.as_str()),
            ("cluster", "cluster"),
            ("certs/prod.pem", "certs/prod.pem"),
            ("./cluster", "./cluster"),
            ("age1/keys.txt", "age1/keys.txt"),
            ("https://user:pw@host/cert.pem", "https://***@host/cert.pem"),
        ] {
            let source: RecipientSource = text.parse().unwrap();
            assert_eq!(source.to_string(), want);
        }
    }

    #[test]
    fn refuses_private_and_classical_keys_without_quoting_them() {
        let key = SecretKey::from_bytes(Suite::XWing, &[1; 32]).unwrap();
        let secret = String::from_utf8(key.to_text().expose().to_vec()).unwrap();
        for (text, want) in [
            (secret.as_str(), RecipientSourceError::PrivateKey),
            ("AGE-SECRET-KEY-PQ-1ABC", RecipientSourceError::PrivateKey),
            ("AGE-SECRET-KEY-1ABC", RecipientSourceError::PrivateKey),
            ("age1abc", RecipientSourceError::ClassicalAge),
            ("  ", RecipientSourceError::Empty),
            (
                "seal2-recipient xw",
                RecipientSourceError::Line(KeyTextError::RecipientForm),
            ),
        ] {
            let error = text.parse::<RecipientSource>().unwrap_err();
            assert_eq!(error, want);
            assert!(!error.to_string().contains("ABC"));
        }
    }
}
