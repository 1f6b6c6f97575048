//! Values before sealing and after opening.

use std::fmt;

use rand::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::id::KeyId;
use crate::plain::Plain;

/// The random identifier of a value. It is generated when a value is set, and kept when the unchanged value is sealed
/// again. It is sealed with the value (in v1, it is derived from the session key), and must not be published: equal
/// identifiers usually mean equal values.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ValueId([u8; 16]);

impl ValueId {
    /// Generates an identifier for a value that is set.
    pub fn random(rng: &mut dyn CryptoRng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(super) fn expose(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for ValueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ValueId(…)")
    }
}

/// A value with its identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The identifier of the value.
    pub id: ValueId,
    /// The value in plaintext.
    pub plain: Plain,
}

impl Value {
    /// Returns a value with a new identifier.
    pub fn new(plain: Plain, rng: &mut dyn CryptoRng) -> Self {
        let id = ValueId::random(rng);
        Self { id, plain }
    }
}

/// An opened value, and the key that opened its lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedValue {
    /// The value with its identifier.
    pub value: Value,
    /// The full identifier of the key that opened the item's lock.
    pub key: KeyId,
}
