//! A key of a ring, of any suite.

use std::sync::Arc;

use jiff::Timestamp;

use super::{RingKey, RingV2Key};
use crate::key::{Certificate, Validity};
use crate::key_marks::Marks;
use crate::v2::{KeyId, Opener as _, Recipient, Suite};

/// A key of a ring.
#[derive(Debug, Clone)]
pub enum AnyKey {
    /// An RSA key, for v1 and v2.
    Rsa(Arc<RingKey>),
    /// A key that is only for v2.
    V2(Arc<RingV2Key>),
}

impl AnyKey {
    /// Returns the name of the Secret that stores the key, or of the file that contains it.
    pub fn name(&self) -> &str {
        match self {
            Self::Rsa(key) => key.name(),
            Self::V2(key) => key.name(),
        }
    }

    /// Returns the suite of the key.
    pub fn suite(&self) -> Suite {
        match self {
            Self::Rsa(_) => Suite::Rsa,
            Self::V2(key) => key.suite(),
        }
    }

    /// Returns the identifier by which v2 values name the key.
    pub fn key_id(&self) -> KeyId {
        match self {
            Self::Rsa(key) => key.private().key_id(),
            Self::V2(key) => key.key_id(),
        }
    }

    /// Returns the identifier that is shown to users and used in the backup mark: the fingerprint of an RSA key, the
    /// key id of a v2 key.
    pub fn id_text(&self) -> String {
        match self {
            Self::Rsa(key) => key.fingerprint().to_string(),
            Self::V2(key) => key.key_id().to_string(),
        }
    }

    /// Returns the time by which the key is ordered.
    pub fn order_time(&self) -> Timestamp {
        match self {
            Self::Rsa(key) => key.order_time(),
            Self::V2(key) => key.order_time(),
        }
    }

    /// Returns the marks of the key's Secret.
    pub fn marks(&self) -> Marks {
        match self {
            Self::Rsa(key) => key.marks(),
            Self::V2(key) => key.marks(),
        }
    }

    /// Returns the public key, and the period in which it may seal; `None` for an RSA key without a certificate, which
    /// never seals.
    pub fn sealing_half(&self) -> Option<SealingHalf<'_>> {
        Some(match self {
            Self::Rsa(key) => {
                let certificate = key.certificate()?;
                SealingHalf {
                    recipient: certificate.public_key(),
                    certificate: Some(certificate),
                    not_before: certificate.not_before(),
                    not_after: certificate.not_after(),
                }
            }
            Self::V2(key) => {
                let (not_before, not_after) = key.validity();
                SealingHalf {
                    recipient: key.recipient(),
                    certificate: None,
                    not_before,
                    not_after,
                }
            }
        })
    }
}

/// The public half of a key that can seal.
#[derive(Clone, Copy)]
pub struct SealingHalf<'a> {
    /// The public key.
    pub recipient: &'a dyn Recipient,
    /// The certificate of an RSA key; `None` for a v2 key.
    pub certificate: Option<&'a Certificate>,
    /// The time from which the key may seal.
    pub not_before: Timestamp,
    /// The time until which the key may seal.
    pub not_after: Timestamp,
}

impl SealingHalf<'_> {
    /// Returns whether this time is before, within or after the period in which the key may seal.
    pub fn validity(&self, now: Timestamp) -> Validity {
        Validity::at(now, self.not_before, self.not_after)
    }
}
