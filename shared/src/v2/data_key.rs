//! The key of a lock.

use std::fmt;

use aws_lc_rs::hkdf::{HKDF_SHA256, Prk};
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::encoder::{Encoder, Purpose};
use super::header::{Fields, Header};
use super::place::Place;

/// The random key of a lock, which is wrapped for each recipient. Wiped on drop. The key is on the heap, because a move
/// would leave a copy on the stack.
#[derive(Clone)]
pub struct DataKey(Box<Zeroizing<[u8; 32]>>);

impl DataKey {
    pub(super) fn random(rng: &mut dyn CryptoRng) -> Self {
        let mut bytes = Box::new(Zeroizing::new([0; 32]));
        rng.fill_bytes(bytes.as_mut().as_mut());
        Self(bytes)
    }

    /// Reads the 32 bytes that a recipient unwrapped; `None` for another length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut copy = Box::new(Zeroizing::new([0; 32]));
        (bytes.len() == copy.len()).then(|| copy.copy_from_slice(bytes))?;
        Some(Self(copy))
    }

    /// Exposes the bytes, for wrapping.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the header with the commitment to this key, the fields and the place.
    pub(super) fn commit(&self, fields: Fields, place: &Place) -> Option<Header> {
        let commitment = *self.commitment(&fields, place)?;
        Some(Header { fields, commitment })
    }

    /// Calculates the commitment of a header.
    pub(super) fn commitment(&self, fields: &Fields, place: &Place) -> Option<Zeroizing<[u8; 32]>> {
        let info = Encoder::new(Purpose::Commit)
            .fixed(&fields.to_bytes())
            .fixed(place.context())
            .finish();
        self.expand(&info)
    }

    /// Derives 32 bytes from the key with HKDF-Expand.
    pub(super) fn expand(&self, info: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let key = Prk::new_less_safe(HKDF_SHA256, self.expose());
        let mut output = Zeroizing::new([0; 32]);
        let info = [info];
        let expanded = key.expand(&info, HKDF_SHA256).ok()?;
        expanded.fill(output.as_mut()).ok()?;
        Some(output)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(…)")
    }
}
