//! The ciphertext of one value.
//!
//! ```text
//! length (2 bytes, big-endian) ‖ RSA-OAEP(session key) ‖ AES-256-GCM(plain) ‖ tag (16 bytes)
//! ```
//!
//! RSA-OAEP uses SHA-256 for the label hash and MGF1 (RFC 8017 §7.1), and the scope's [`Label`]. AES-GCM uses
//! an all-zero nonce and no associated data, which is secure only because no session key encrypts two different values.

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::key::{PrivateKey, PublicKey};
use crate::plain::Plain;
use crate::scope::Label;
use crate::v2::{Value, ValueId};

/// Length of a new session key in bytes. [`open`] accepts any AES key size, as upstream does.
const SESSION_KEY_LEN: usize = 32;
/// Substitute for a session key that could not be decrypted, or does not have the length of an AES key.
const SUBSTITUTE_KEY: [u8; SESSION_KEY_LEN] = [0; SESSION_KEY_LEN];
/// The message that the session key authenticates to derive the identifier of a value.
const VALUE_ID_INFO: &[u8] = b"seal/v1/vid\0";
/// Size in bytes of the length field at the start of an envelope.
const LENGTH_LEN: usize = 2;

/// OAEP or AES rejected the key. This does not depend on the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the certificate's key cannot encrypt")]
pub struct SealError;

/// The value cannot be decrypted with this key. Hides the reason intentionally: failures of structure, OAEP and tag
/// look the same to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot decrypt the value")]
pub struct OpenError;

/// Seals one value: `len ‖ OAEP(key, session, label) ‖ GCM(session, 0, plain)`.
///
/// `rng` generates the session key; OAEP's own seed comes from aws-lc-rs.
///
/// # Errors
///
/// Returns [`SealError`] if the public key cannot be used.
pub fn seal(
    key: &PublicKey,
    label: &Label,
    plain: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, SealError> {
    let mut session = Zeroizing::new([0; SESSION_KEY_LEN]);
    rng.fill_bytes(session.as_mut());
    seal_with(key, label, plain, session.as_ref())
}

/// Seals a value with a session key, which must never encrypt a different value: the nonce is always the same.
fn seal_with(
    key: &PublicKey,
    label: &Label,
    plain: &[u8],
    session: &[u8],
) -> Result<Vec<u8>, SealError> {
    let encrypted_key = key.encrypt(label, session).ok_or(SealError)?;
    let encrypted_key_len = u16::try_from(encrypted_key.len()).map_err(|_| SealError)?;

    let mut value = Zeroizing::new(plain.to_vec());
    let tag = session_key(session)
        .ok_or(SealError)?
        .seal_in_place_separate_tag(zero_nonce(), Aad::empty(), &mut value)
        .map_err(|_| SealError)?;

    let mut sealed =
        Vec::with_capacity(LENGTH_LEN + encrypted_key.len() + value.len() + tag.as_ref().len());
    sealed.extend_from_slice(&encrypted_key_len.to_be_bytes());
    sealed.extend_from_slice(&encrypted_key);
    sealed.extend_from_slice(&value);
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// Decrypts one value with one key.
///
/// For a well-formed value, every failure takes the same steps: if OAEP yields no session key, the value is decrypted
/// with a substitute key. So timing does not reveal whether the RSA block contained a valid session key.
///
/// # Errors
///
/// Returns [`OpenError`] for every failure.
pub fn open(key: &PrivateKey, label: &Label, sealed: &[u8]) -> Result<Plain, OpenError> {
    open_value(key, label, sealed).map(|opened| opened.plain)
}

/// Like [`open`], but also returns the session key, to identify the value and to re-encrypt it.
///
/// # Errors
///
/// Returns [`OpenError`] for every failure.
pub fn open_value(
    key: &PrivateKey,
    label: &Label,
    sealed: &[u8],
) -> Result<OpenedValue, OpenError> {
    let (encrypted_key, encrypted) = split(sealed).ok_or(OpenError)?;
    let session = key.decrypt(label, encrypted_key);
    let session_bytes = session.as_ref().map_or(&SUBSTITUTE_KEY[..], Plain::expose);
    let aead = session_key(session_bytes).filter(|_| session.is_some());
    let is_decrypted = aead.is_some();
    let aead = aead
        .or_else(|| session_key(&SUBSTITUTE_KEY))
        .ok_or(OpenError)?;
    let mut value = Zeroizing::new(encrypted.to_vec());
    let len = aead
        .open_in_place(zero_nonce(), Aad::empty(), &mut value)
        .map_err(|_| OpenError)?
        .len();
    let session = session.filter(|_| is_decrypted).ok_or(OpenError)?;
    value.truncate(len);
    let plain = Plain::from(std::mem::take(&mut *value));
    Ok(OpenedValue { plain, session })
}

/// A decrypted value with its session key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedValue {
    /// The value in plaintext.
    pub plain: Plain,
    session: Plain,
}

impl OpenedValue {
    /// Returns the identifier of the value, for content versions. It depends on the session key and not on the value: a
    /// value that is set again gets a new identifier, even if the value is equal.
    pub fn id(&self) -> ValueId {
        value_id(self.session.expose())
    }

    /// Seals the value for another key or label, with its session key and therefore its identifier. The encrypted value
    /// does not change, which shows that the value is unchanged.
    ///
    /// # Errors
    ///
    /// Returns [`SealError`] as [`seal`] does.
    pub fn seal_again(&self, key: &PublicKey, label: &Label) -> Result<Vec<u8>, SealError> {
        seal_with(key, label, self.plain.expose(), self.session.expose())
    }
}

impl From<OpenedValue> for Value {
    fn from(opened: OpenedValue) -> Self {
        Self {
            id: opened.id(),
            plain: opened.plain,
        }
    }
}

/// Returns the identifier of a value with this session key.
pub(crate) fn value_id(session: &[u8]) -> ValueId {
    let key = hmac::Key::new(hmac::HMAC_SHA256, session);
    let mut id = [0; 16];
    id.copy_from_slice(&hmac::sign(&key, VALUE_ID_INFO).as_ref()[..16]);
    ValueId::from_bytes(id)
}

/// The result of trying one key on a value, for holders of the private key. Never report it to anyone else: the
/// difference between the last two variants is a padding oracle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The key decrypts the value.
    Opens,
    /// The value was sealed for this key and label, but the part after the RSA block was changed or truncated.
    Damaged,
    /// The value was sealed for another key or label, its beginning was changed, or it is too short.
    Closed,
}

/// Diagnoses one value with one key, in more detail than [`open`].
pub fn examine(key: &PrivateKey, label: &Label, sealed: &[u8]) -> Finding {
    if open(key, label, sealed).is_ok() {
        return Finding::Opens;
    }
    let session = split(sealed).and_then(|(encrypted_key, _)| key.decrypt(label, encrypted_key));
    match session.and_then(|session| session_key(session.expose())) {
        Some(_) => Finding::Damaged,
        None => Finding::Closed,
    }
}

/// Returns the length of the RSA block in bytes, which is the modulus length of the key that the value was
/// sealed for; `None` if the value is too short.
pub fn modulus_len(sealed: &[u8]) -> Option<usize> {
    split(sealed).map(|(encrypted_key, _)| encrypted_key.len())
}

/// Returns the length of the RSA block according to the length field, even if the value is shorter than the block;
/// `None` if the value is too short for the field.
pub(crate) fn announced_len(sealed: &[u8]) -> Option<usize> {
    let (length, _) = sealed.split_first_chunk::<LENGTH_LEN>()?;
    Some(usize::from(u16::from_be_bytes(*length)))
}

/// Returns the length of the plaintext in bytes; `None` if the value is too short to be an envelope.
pub fn plain_len(sealed: &[u8]) -> Option<usize> {
    let (_, encrypted) = split(sealed)?;
    encrypted.len().checked_sub(AES_256_GCM.tag_len())
}

fn split(sealed: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = sealed.split_first_chunk::<LENGTH_LEN>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn session_key(key: &[u8]) -> Option<LessSafeKey> {
    let algorithm = match key.len() {
        16 => &AES_128_GCM,
        24 => &AES_192_GCM,
        32 => &AES_256_GCM,
        _ => return None,
    };
    UnboundKey::new(algorithm, key).ok().map(LessSafeKey::new)
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::key::test_key;
    use crate::scope::Scope;

    fn seal_value(plain: &[u8], label: &Label) -> Vec<u8> {
        let mut rng = StdRng::seed_from_u64(1);
        seal(
            test_key().certificate().public_key(),
            label,
            plain,
            &mut rng,
        )
        .unwrap()
    }

    #[test]
    fn has_the_layout_of_upstream() {
        let label = Scope::Strict.label("ns", "n");
        let bytes = seal_value(b"hi", &label);
        assert_eq!(modulus_len(&bytes), Some(256));
        assert_eq!(bytes.len(), 2 + 256 + 2 + 16);
    }

    /// Attack: an author seals a guess, and compares published data for equal identifiers.
    #[test]
    fn the_identifier_of_a_value_depends_only_on_its_session_key() {
        let label = Scope::Strict.label("ns", "n");
        let public = test_key().certificate().public_key();
        let id = |plain: &[u8], seed| {
            let mut rng = StdRng::seed_from_u64(seed);
            let sealed = seal(public, &label, plain, &mut rng).unwrap();
            let opened = open_value(test_key().private(), &label, &sealed);
            opened.unwrap().id()
        };
        assert_eq!(id(b"a", 1), id(b"b", 1));
        assert_ne!(id(b"a", 1), id(b"a", 2));
    }

    #[test]
    fn a_value_that_is_sealed_again_keeps_its_identifier_and_has_another_block() {
        let (label, other) = (
            Scope::Strict.label("ns", "n"),
            Scope::ClusterWide.label("", ""),
        );
        let sealed = seal_value(b"value", &label);
        let opened = open_value(test_key().private(), &label, &sealed).unwrap();
        let public = test_key().certificate().public_key();
        let again = opened.seal_again(public, &other).unwrap();
        assert_eq!(open_value(test_key().private(), &other, &again), Ok(opened));
        assert!(open(test_key().private(), &label, &again).is_err());
        let block = 2..2 + 256;
        assert_ne!(again[block.clone()], sealed[block]);
    }

    #[test]
    fn refuses_a_value_that_is_too_short() {
        let label = Scope::ClusterWide.label("", "");
        let bytes = seal_value(b"", &label);
        for len in [0, 1, 2, 257, 258, bytes.len() - 1] {
            let result = open(test_key().private(), &label, &bytes[..len]);
            assert_eq!(result, Err(OpenError), "{len} bytes");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn opens_what_it_sealed(plain: Vec<u8>, scope in prop::sample::select(&Scope::ALL[..])) {
            let label = scope.label("ns", "n");
            let plaintext = open(test_key().private(), &label, &seal_value(&plain, &label)).unwrap();
            prop_assert_eq!(plaintext.expose(), &plain[..]);
        }

        #[test]
        fn refuses_a_value_with_any_bit_changed(plain: Vec<u8>, index: prop::sample::Index, bit in 0_u8..8) {
            let label = Scope::Strict.label("ns", "n");
            let mut bytes = seal_value(&plain, &label);
            let changed = index.index(bytes.len());
            bytes[changed] ^= 1 << bit;
            prop_assert_eq!(open(test_key().private(), &label, &bytes), Err(OpenError));
        }

        #[test]
        fn never_panics_on_arbitrary_bytes(bytes: Vec<u8>) {
            let label = Scope::Strict.label("ns", "n");
            prop_assert_eq!(open(test_key().private(), &label, &bytes), Err(OpenError));
        }
    }

    #[test]
    fn opens_session_keys_of_every_aes_length() {
        let label = Scope::Strict.label("ns", "n");
        let key = test_key().certificate().public_key();
        for len in [16, 24, 32] {
            let session = vec![7; len];
            let block = key.encrypt(&label, &session).unwrap();
            let mut value = b"value".to_vec();
            let tag = session_key(&session)
                .unwrap()
                .seal_in_place_separate_tag(zero_nonce(), Aad::empty(), &mut value)
                .unwrap();
            let sealed = [&[1, 0][..], &block, &value, tag.as_ref()].concat();
            let result = open(test_key().private(), &label, &sealed);
            assert_eq!(result.unwrap().expose(), b"value", "{len}");
        }
    }

    /// The substitute key is public, so no value encrypted with it may be accepted.
    #[test]
    fn refuses_a_value_without_a_session_key() {
        let label = Scope::Strict.label("ns", "n");
        let mut value = b"forged".to_vec();
        let tag = session_key(&SUBSTITUTE_KEY)
            .unwrap()
            .seal_in_place_separate_tag(zero_nonce(), Aad::empty(), &mut value)
            .unwrap();
        let forged = [&[1, 0][..], &[7; 256], &value, tag.as_ref()].concat();
        let result = open(test_key().private(), &label, &forged);
        assert_eq!(result, Err(OpenError));
    }

    #[test]
    fn refuses_a_value_under_the_label_of_another_scope_name_or_namespace() {
        let labels: Vec<Label> = Scope::ALL
            .iter()
            .flat_map(|s| {
                [
                    s.label("ns", "n"),
                    s.label("ns", "other"),
                    s.label("other", "n"),
                ]
            })
            .collect();
        for sealing_label in &labels {
            let bytes = seal_value(b"value", sealing_label);
            for label in &labels {
                let is_opened = open(test_key().private(), label, &bytes).is_ok();
                assert_eq!(
                    is_opened,
                    sealing_label == label,
                    "{sealing_label:?} under {label:?}"
                );
            }
        }
    }
}
