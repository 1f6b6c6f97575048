//! The ways to wrap a data key for a recipient.

mod hpke;
pub(crate) mod p256;
mod rsa;
pub(crate) mod xwing;

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey};
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::data_key::DataKey;
use super::encoder::{Encoder, Purpose};
use super::id::KeyId;

/// The number of a suite in sealed values, also of suites that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SuiteCode(pub(crate) u16);

impl SuiteCode {
    /// Set for suites that a quantum computer breaks.
    const CLASSICAL: u16 = 0x8000;

    pub(super) fn is_post_quantum(self) -> bool {
        self.0 & Self::CLASSICAL == 0
    }

    /// Returns the suite, if this version knows it.
    pub(super) fn suite(self) -> Option<Suite> {
        Suite::ALL.into_iter().find(|suite| suite.code() == self)
    }
}

/// A way to wrap a data key for a recipient. Ordered by the cost of opening, the cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Suite {
    /// HPKE with X-Wing: ML-KEM-768 and X25519. Experimental until X-Wing is an RFC.
    XWing,
    /// HPKE with P-256.
    P256,
    /// RSA-OAEP with the keys of v1.
    Rsa,
}

impl Suite {
    /// Every suite that this version knows.
    pub const ALL: [Self; 3] = [Self::XWing, Self::P256, Self::Rsa];

    pub(crate) const fn code(self) -> SuiteCode {
        SuiteCode(match self {
            Self::XWing => 0x0001,
            Self::P256 => 0x8002,
            Self::Rsa => 0x8003,
        })
    }

    /// Returns whether recorded values stay secret if quantum computers break classical cryptography.
    pub fn is_post_quantum(self) -> bool {
        self.code().is_post_quantum()
    }

    /// Returns whether a wrapped data key can have this length.
    pub(super) fn is_wrapped_len(self, len: usize) -> bool {
        match self {
            Self::XWing => len == xwing::ENCAPSULATED_LEN + hpke::WRAPPED_LEN,
            Self::P256 => len == p256::POINT_LEN + hpke::WRAPPED_LEN,
            Self::Rsa => rsa::MODULUS_LENS.contains(&len),
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::XWing => "xw",
            Self::P256 => "p256",
            Self::Rsa => "rsa",
        })
    }
}

/// The string is not the name of a suite.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown suite: must be one of: xw, p256, rsa")]
pub struct UnknownSuite;

impl FromStr for Suite {
    type Err = UnknownSuite;

    fn from_str(text: &str) -> Result<Self, UnknownSuite> {
        let suite = Self::ALL.into_iter().find(|s| s.to_string() == text);
        suite.ok_or(UnknownSuite)
    }
}

/// What a wrapped data key is bound to: the header of its lock, and the place.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    pub(super) header: &'a [u8],
    pub(super) context: &'a [u8],
}

impl Binding<'_> {
    /// Returns the HPKE info.
    pub fn info(&self, suite: Suite) -> Vec<u8> {
        Encoder::new(Purpose::Wrap)
            .fixed(self.header)
            .fixed(&suite.code().0.to_be_bytes())
            .finish()
    }

    /// Returns the associated data of the wrapped key.
    pub fn associated_data(&self, key: &KeyId) -> Vec<u8> {
        [self.context, key.as_bytes()].concat()
    }
}

/// A public key that data keys can be wrapped for.
pub trait Recipient: Send + Sync {
    /// Returns the suite of the key.
    fn suite(&self) -> Suite;

    /// Returns the identifier of the key.
    fn key_id(&self) -> KeyId;

    /// Wraps a data key. Returns `None` if the key cannot encrypt.
    fn wrap_key(
        &self,
        key: &DataKey,
        binding: &Binding<'_>,
        rng: &mut dyn CryptoRng,
    ) -> Option<Vec<u8>>;
}

/// A private key that can unwrap data keys, in this process or outside it.
pub trait Opener: Send + Sync {
    /// Returns the suite of the key.
    fn suite(&self) -> Suite;

    /// Returns the identifier of the public key.
    fn key_id(&self) -> KeyId;

    /// Returns the cost of one operation, in microseconds of one core as in [`crate::meter`].
    fn cost(&self) -> u64;

    /// Unwraps a data key. Returns `None` for every failure that depends on the wrapped key, after the same work as far
    /// as the key allows. The caller must not report why, and must not report a failure before the items of the lock are
    /// decrypted too.
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if the key cannot be asked, which must not depend on what it would answer.
    fn unwrap_key(
        &self,
        wrapped: &[u8],
        binding: &Binding<'_>,
    ) -> Result<Option<DataKey>, Unavailable>;
}

/// A key outside this process could not be asked, which says nothing about the sealed value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Agrees on a secret of 32 bytes. Returns `None` for a peer that is not a valid public key, or an all-zero secret.
fn agree(key: &PrivateKey, peer: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let peer = UnparsedPublicKey::new(key.algorithm(), peer);
    agreement::agree(key, peer, (), |secret| {
        let mut copy = Zeroizing::new([0; 32]);
        let is_secret = secret.len() == copy.len();
        is_secret.then(|| copy.copy_from_slice(secret)).ok_or(())?;
        Ok(copy)
    })
    .ok()
}
