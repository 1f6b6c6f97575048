//! The suites: algorithms that wrap a data key for a recipient.

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

/// The number of a suite in sealed values, including suites that this program does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SuiteCode(pub(crate) u16);

impl SuiteCode {
    /// The bit that is set for suites that a quantum computer can break.
    const CLASSICAL: u16 = 0x8000;

    pub(super) fn is_post_quantum(self) -> bool {
        self.0 & Self::CLASSICAL == 0
    }

    /// Returns the suite, or `None` if this program does not know it.
    pub(super) fn suite(self) -> Option<Suite> {
        Suite::ALL.into_iter().find(|suite| suite.code() == self)
    }
}

/// An algorithm that wraps a data key for a recipient. Ordered by the cost of opening, the cheapest first.
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
    /// Every suite that this program knows.
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

/// The header and place that a wrapped data key is bound to.
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

/// A public key for which data keys can be wrapped.
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

    /// Unwraps a data key. Returns `None` for every failure that depends on the wrapped key. As far as the key allows,
    /// a failure takes the same time as a success. The caller must not report the cause, and must decrypt the items of
    /// the lock before it reports a failure.
    ///
    /// # Errors
    ///
    /// Returns [`Unavailable`] if the key is unavailable. This must not depend on the wrapped key.
    fn unwrap_key(
        &self,
        wrapped: &[u8],
        binding: &Binding<'_>,
    ) -> Result<Option<DataKey>, Unavailable>;
}

/// A key outside this process is unavailable. This is independent of the sealed value's validity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Performs X25519 or ECDH key agreement. Returns `None` if `public` is not a valid public key, or the secret is all
/// zeros.
fn agree(key: &PrivateKey, public: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let public = UnparsedPublicKey::new(key.algorithm(), public);
    agreement::agree(key, public, (), |secret| {
        let mut copy = Zeroizing::new([0; 32]);
        let is_secret = secret.len() == copy.len();
        is_secret.then(|| copy.copy_from_slice(secret)).ok_or(())?;
        Ok(copy)
    })
    .ok()
}
