//! The key that unsealed an item.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::key::Fingerprint;
use crate::key_ring::{KeyRing, RingKey};
use crate::v2::ShortKeyId;

/// The key that unsealed an item: the fingerprint of an RSA key (for v1 and v2 items), or the short identifier of a v2
/// key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum UsedKey {
    /// An RSA key.
    Rsa(Fingerprint),
    /// A key that is only for v2.
    V2(ShortKeyId),
}

impl UsedKey {
    /// Returns the key with this identifier in sealed values. An RSA key that is not in the ring cannot be recognized,
    /// and is returned as a v2 key.
    pub(crate) fn of(key: ShortKeyId, ring: &KeyRing) -> Self {
        let is_key = |rsa_key: &&Arc<RingKey>| rsa_key.key_id().short() == key;
        match ring.keys().iter().find(is_key) {
            Some(rsa_key) => Self::Rsa(rsa_key.fingerprint().clone()),
            None => Self::V2(key),
        }
    }

    /// Returns the fingerprint of an RSA key; `None` for a v2 key.
    pub fn fingerprint(&self) -> Option<&Fingerprint> {
        match self {
            Self::Rsa(fingerprint) => Some(fingerprint),
            Self::V2(_) => None,
        }
    }
}

/// The string is neither a fingerprint nor the short identifier of a v2 key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a fingerprint `SHA256:…` or the identifier of a v2 key")]
pub struct MalformedUsedKey;

impl FromStr for UsedKey {
    type Err = MalformedUsedKey;

    fn from_str(text: &str) -> Result<Self, MalformedUsedKey> {
        let rsa = text.parse().map(Self::Rsa).ok();
        rsa.or_else(|| text.parse().map(Self::V2).ok())
            .ok_or(MalformedUsedKey)
    }
}

impl fmt::Display for UsedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(fingerprint) => fingerprint.fmt(f),
            Self::V2(key) => key.fmt(f),
        }
    }
}
