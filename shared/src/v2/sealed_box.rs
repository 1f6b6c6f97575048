//! The ciphertext of one item: `nonce (12) ‖ AES-256-GCM(identifier ‖ value, padded) ‖ tag (16)`.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::data_key::DataKey;
use super::encoder::{Encoder, Purpose};
use super::error::Problem;
use super::padding::{self, BLOCK_LEN};
use super::value::Value;

const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;

/// A box of a valid length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SealedBox(Vec<u8>);

impl SealedBox {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let len = bytes.len().checked_sub(NONCE_LEN + TAG_LEN);
        let is_padded = |len: usize| len > 0 && len.is_multiple_of(BLOCK_LEN);
        if len.is_some_and(is_padded) {
            Ok(Self(bytes.to_vec()))
        } else {
            Err(Problem::Length)
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the maximum length of the value in bytes.
    pub(super) fn max_plain_len(&self) -> usize {
        let padded = self.0.len().saturating_sub(NONCE_LEN + TAG_LEN);
        padded.saturating_sub(padding::MIN_OVERHEAD)
    }

    /// Encrypts a value with the key of its item. One item key must never encrypt two values.
    pub(super) fn seal(item: &ItemKey, value: &Value, rng: &mut dyn CryptoRng) -> Option<Self> {
        let padded = padding::pad(&value.id, value.plain.expose());
        Self::encrypt(item, padded, rng)
    }

    pub(super) fn encrypt(
        item: &ItemKey,
        mut bytes: Zeroizing<Vec<u8>>,
        rng: &mut dyn CryptoRng,
    ) -> Option<Self> {
        let mut nonce = [0; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        let tag = item
            .aead()?
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(&item.info),
                &mut bytes,
            )
            .ok()?;
        Some(Self([&nonce[..], &bytes, tag.as_ref()].concat()))
    }

    /// Decrypts the value. Returns `None` for every failure.
    pub(super) fn open(&self, item: &ItemKey) -> Option<Value> {
        let (nonce, encrypted) = self.0.split_first_chunk::<NONCE_LEN>()?;
        let mut bytes = Zeroizing::new(encrypted.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let aead = item.aead()?;
        let padded = aead
            .open_in_place(nonce, Aad::from(&item.info), &mut bytes)
            .ok()?;
        let (id, plain) = padding::unpad(padded)?;
        Some(Value { id, plain })
    }
}

/// The symmetric key that encrypts one item.
pub(super) struct ItemKey {
    key: Zeroizing<[u8; 32]>,
    info: Vec<u8>,
}

impl ItemKey {
    /// Derives the key of an item from the key and the commitment of its lock.
    pub(super) fn derive(key: &DataKey, commitment: &[u8; 32], item: &str) -> Option<Self> {
        let info = Encoder::new(Purpose::Item)
            .fixed(commitment)
            .prefixed(item.as_bytes())
            .finish();
        let key = key.expand(&info)?;
        Some(Self { key, info })
    }

    fn aead(&self) -> Option<LessSafeKey> {
        let key = UnboundKey::new(&AES_256_GCM, self.key.as_ref()).ok()?;
        Some(LessSafeKey::new(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_boxes_of_whole_blocks() {
        for (len, want) in [
            (0, false),
            (28, false),
            (59, false),
            (60, true),
            (61, false),
            (92, true),
        ] {
            assert_eq!(SealedBox::parse(&vec![0; len]).is_ok(), want, "{len}");
        }
    }
}
