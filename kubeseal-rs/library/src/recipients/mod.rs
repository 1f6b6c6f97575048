//! The recipients of v2 values: how rules and flags name them, and reading their public keys.
//!
//! | module | owns |
//! |---|---|
//! | `source` | how a rule or a flag names a recipient |
//! | `read` | the public keys in a file, at a URL or of a controller |

mod read;
mod source;

use std::sync::Arc;

use rand::CryptoRng;
use shared::key::Certificate;
use shared::v2::{Binding, DataKey, KeyId, PublicRecipient, Recipient, ShortKeyId, Suite};

pub use read::{RecipientsError, from_list, in_text};
pub use source::{RecipientSource, RecipientSourceError};

/// A public key that v2 values can be sealed for.
#[derive(Debug, Clone)]
pub enum RecipientKey {
    /// An RSA key, with its certificate.
    Certificate(Arc<Certificate>),
    /// A key that is only for v2.
    Line(Box<PublicRecipient>),
}

impl RecipientKey {
    fn as_recipient(&self) -> &dyn Recipient {
        match self {
            Self::Certificate(certificate) => certificate.public_key(),
            Self::Line(line) => &**line,
        }
    }

    /// Returns the comment of the line; empty for a certificate.
    pub fn comment(&self) -> &str {
        match self {
            Self::Certificate(_) => "",
            Self::Line(line) => &line.comment,
        }
    }

    /// Returns the short identifier, as sealed values contain it.
    pub fn short_id(&self) -> ShortKeyId {
        self.key_id().short()
    }
}

impl Recipient for RecipientKey {
    fn suite(&self) -> Suite {
        self.as_recipient().suite()
    }

    fn key_id(&self) -> KeyId {
        self.as_recipient().key_id()
    }

    fn wrap_key(
        &self,
        key: &DataKey,
        binding: &Binding<'_>,
        rng: &mut dyn CryptoRng,
    ) -> Option<Vec<u8>> {
        self.as_recipient().wrap_key(key, binding, rng)
    }
}
