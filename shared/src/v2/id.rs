//! The identifiers of locks and keys.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};

use super::encoder::{Encoder, Purpose};
use super::suite::SuiteCode;
use super::text;

/// The identifier of a lock: the first 16 bytes of its header's commitment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockId(pub(super) [u8; 16]);

/// The short identifier of a public key in sealed values: the first 16 bytes of its [`KeyId`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShortKeyId(pub(super) [u8; 16]);

/// The identifier of a public key: SHA-256 over its suite and its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub(super) [u8; 32]);

impl KeyId {
    pub(crate) fn of(suite: SuiteCode, public_key: &[u8]) -> Self {
        let bytes = Encoder::new(Purpose::KeyId)
            .fixed(&suite.0.to_be_bytes())
            .prefixed(public_key)
            .finish();
        Self(sha256(&bytes))
    }

    /// Returns the short identifier, as in sealed values.
    pub fn short(&self) -> ShortKeyId {
        ShortKeyId(first_half(&self.0))
    }

    /// Returns all 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

pub(super) fn first_half(bytes: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&bytes[..16]);
    half
}

impl fmt::Display for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::base64url(&self.0))
    }
}

impl fmt::Display for ShortKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::base64url(&self.0))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::base64url(&self.0))
    }
}

impl fmt::Debug for LockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockId({self})")
    }
}

impl fmt::Debug for ShortKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShortKeyId({self})")
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// The string is not a full key identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid key identifier: expected 43 characters of base64url without padding")]
pub struct MalformedFullKeyId;

impl FromStr for KeyId {
    type Err = MalformedFullKeyId;

    fn from_str(text: &str) -> Result<Self, MalformedFullKeyId> {
        let bytes = text::from_base64url(text).ok_or(MalformedFullKeyId)?;
        bytes.try_into().map(Self).map_err(|_| MalformedFullKeyId)
    }
}

/// A key identifier as users write it: all 32 bytes, or the short form, which sealed values and `seal2-recipient` lines
/// contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnyKeyId {
    /// All 32 bytes.
    Full(KeyId),
    /// The first 16 bytes. Finding another key with the same 16 bytes takes about 2^128 attempts.
    Short(ShortKeyId),
}

impl AnyKeyId {
    /// Returns whether this identifies `key`, in either form.
    pub fn is_of(&self, key: &KeyId) -> bool {
        match self {
            Self::Full(id) => id == key,
            Self::Short(id) => *id == key.short(),
        }
    }

    /// Returns the short form.
    pub fn short(&self) -> ShortKeyId {
        match self {
            Self::Full(id) => id.short(),
            Self::Short(id) => *id,
        }
    }
}

impl From<KeyId> for AnyKeyId {
    fn from(id: KeyId) -> Self {
        Self::Full(id)
    }
}

impl fmt::Display for AnyKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(id) => id.fmt(f),
            Self::Short(id) => id.fmt(f),
        }
    }
}

/// The string is no key identifier, neither full nor short.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid key identifier: expected 22 or 43 characters of base64url without padding")]
pub struct MalformedAnyKeyId;

impl FromStr for AnyKeyId {
    type Err = MalformedAnyKeyId;

    fn from_str(text: &str) -> Result<Self, MalformedAnyKeyId> {
        let full = text.parse().map(Self::Full).ok();
        let short = || text.parse().map(Self::Short).ok();
        full.or_else(short).ok_or(MalformedAnyKeyId)
    }
}

/// The string is not a short key identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid key identifier: expected 22 characters of base64url without padding")]
pub struct MalformedKeyId;

impl FromStr for ShortKeyId {
    type Err = MalformedKeyId;

    fn from_str(text: &str) -> Result<Self, MalformedKeyId> {
        text::id(text).map(Self).ok_or(MalformedKeyId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_id_depends_on_suite_and_bytes() {
        let id = |suite, bytes: &[u8]| KeyId::of(SuiteCode(suite), bytes);
        assert_ne!(id(1, b"a"), id(2, b"a"));
        assert_ne!(id(1, b"a"), id(1, b"b"));
        assert_eq!(id(1, b"a").short().0[..], id(1, b"a").as_bytes()[..16]);
    }

    #[test]
    fn parses_what_it_displays_and_refuses_malformed_texts() {
        let id = KeyId::of(SuiteCode(1), b"a").short();
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in [
            "",
            "AAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAB",
            "AAAAAAAAAAAAAAAAAAAAAA==",
            "AAAAAAAAAAAAAAAAAAAAA+",
        ] {
            assert_eq!(text.parse::<ShortKeyId>(), Err(MalformedKeyId), "{text}");
        }
    }
}
