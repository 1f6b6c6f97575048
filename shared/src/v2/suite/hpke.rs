//! HPKE (RFC 9180) in base mode for one message, with HKDF-SHA256 and AES-256-GCM, over the shared secret of a KEM.
//!
//! aws-lc performs all operations on secrets; this module only implements their order and labels (RFC 9180 §5.1).

use aws_lc_rs::aead::{
    AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::{Binding, Suite};
use crate::v2::data_key::DataKey;
use crate::v2::id::KeyId;

/// Length in bytes of an encrypted data key: the key and the tag.
pub(super) const WRAPPED_LEN: usize = 32 + 16;
const VERSION_LABEL: &[u8] = b"HPKE-v1";
const KDF_HKDF_SHA256: u16 = 1;
const AEAD_AES_256_GCM: u16 = 2;
const AEAD_CHACHA20_POLY1305: u16 = 3;
const MODE_BASE: u8 = 0;

/// The `suite_id` of RFC 9180, which provides domain separation between KEMs and their uses.
#[derive(Clone)]
pub(super) struct SuiteId(Vec<u8>);

impl SuiteId {
    /// Returns the `suite_id` inside a KEM (§4.1).
    pub(super) fn for_kem(kem: u16) -> Self {
        Self([&b"KEM"[..], &kem.to_be_bytes()].concat())
    }

    /// Returns the `suite_id` of a combination of KEM, KDF and AEAD (§5.1).
    fn of(kem: u16, aead: u16) -> Self {
        let codes = [kem, KDF_HKDF_SHA256, aead].map(u16::to_be_bytes);
        Self([&b"HPKE"[..], &codes.concat()].concat())
    }

    fn labeled(&self, label: &[u8], bytes: &[u8]) -> Vec<u8> {
        [VERSION_LABEL, &self.0, label, bytes].concat()
    }

    /// `LabeledExtract` with a secret input, which is wiped.
    pub(super) fn extract(&self, salt: &[u8], label: &[u8], secret: &[u8]) -> Prk {
        let input = Zeroizing::new(self.labeled(label, secret));
        Salt::new(HKDF_SHA256, salt).extract(&input)
    }

    /// `LabeledExtract` of public input without a salt.
    fn extract_public(&self, label: &[u8], input: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]);
        let mut output = [0; 32];
        output.copy_from_slice(hmac::sign(&key, &self.labeled(label, input)).as_ref());
        output
    }

    /// `LabeledExpand`.
    pub(super) fn expand<const N: usize>(
        &self,
        key: &Prk,
        label: &[u8],
        info: &[u8],
    ) -> Option<Zeroizing<[u8; N]>> {
        let len = u16::try_from(N).ok()?.to_be_bytes();
        let info = [&len[..], &self.labeled(label, info)].concat();
        let mut output = Zeroizing::new([0; N]);
        let info = [&info[..]];
        let expanded = key.expand(&info, Length(N)).ok()?;
        expanded.fill(output.as_mut()).ok()?;
        Some(output)
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// The key and the nonce of the single message.
struct Context {
    key: Zeroizing<[u8; 32]>,
    nonce: Zeroizing<[u8; 12]>,
}

impl Context {
    /// `KeySchedule` without a pre-shared key (§5.1).
    fn new(suite: &SuiteId, shared_secret: &[u8; 32], info: &[u8]) -> Option<Self> {
        let context = [
            &[MODE_BASE][..],
            &suite.extract_public(b"psk_id_hash", &[]),
            &suite.extract_public(b"info_hash", info),
        ]
        .concat();
        let secret = suite.extract(shared_secret, b"secret", &[]);
        Some(Self {
            key: suite.expand(&secret, b"key", &context)?,
            nonce: suite.expand(&secret, b"base_nonce", &context)?,
        })
    }

    fn aead(&self, algorithm: &'static Algorithm) -> Option<(LessSafeKey, Nonce)> {
        let key = UnboundKey::new(algorithm, self.key.as_ref()).ok()?;
        let nonce = Nonce::assume_unique_for_key(*self.nonce);
        Some((LessSafeKey::new(key), nonce))
    }
}

/// The KEM of a suite.
#[derive(Clone, Copy)]
pub(super) struct Kem {
    /// The suite whose number the HPKE info contains.
    pub(super) suite: Suite,
    /// The number of the KEM in the HPKE registry.
    pub(super) code: u16,
}

impl Kem {
    /// Returns the `suite_id` inside the KEM.
    pub(super) fn id(self) -> SuiteId {
        SuiteId::for_kem(self.code)
    }

    /// Encrypts a data key with the shared secret of the KEM.
    pub(super) fn seal(
        self,
        shared_secret: &[u8; 32],
        recipient: &KeyId,
        binding: &Binding<'_>,
        key: &DataKey,
    ) -> Option<Vec<u8>> {
        let (cipher, nonce) = self.aead(shared_secret, binding)?;
        let aad = Aad::from(binding.associated_data(recipient));
        let mut bytes = Zeroizing::new(key.expose().to_vec());
        let tag = cipher
            .seal_in_place_separate_tag(nonce, aad, &mut bytes)
            .ok()?;
        Some([&bytes[..], tag.as_ref()].concat())
    }

    /// Decrypts a data key with the shared secret of the KEM.
    pub(super) fn open(
        self,
        shared_secret: &[u8; 32],
        recipient: &KeyId,
        binding: &Binding<'_>,
        encrypted: &[u8],
    ) -> Option<DataKey> {
        let (cipher, nonce) = self.aead(shared_secret, binding)?;
        let aad = Aad::from(binding.associated_data(recipient));
        let mut bytes = Zeroizing::new(encrypted.to_vec());
        let plain = cipher.open_in_place(nonce, aad, &mut bytes).ok()?;
        DataKey::from_slice(plain)
    }

    fn aead(self, shared_secret: &[u8; 32], binding: &Binding<'_>) -> Option<(LessSafeKey, Nonce)> {
        let suite = SuiteId::of(self.code, AEAD_AES_256_GCM);
        Context::new(&suite, shared_secret, &binding.info(self.suite))?.aead(&AES_256_GCM)
    }

    /// Encrypts a message as age does: with ChaCha20-Poly1305 and without associated data.
    pub(super) fn seal_for_age(
        self,
        shared_secret: &[u8; 32],
        info: &[u8],
        message: &[u8],
    ) -> Option<Vec<u8>> {
        let (cipher, nonce) = self.age_aead(shared_secret, info)?;
        let mut bytes = Zeroizing::new(message.to_vec());
        let tag = cipher
            .seal_in_place_separate_tag(nonce, Aad::empty(), &mut bytes)
            .ok()?;
        Some([&bytes[..], tag.as_ref()].concat())
    }

    /// Decrypts a message that [`Self::seal_for_age`] encrypted.
    pub(super) fn open_for_age(
        self,
        shared_secret: &[u8; 32],
        info: &[u8],
        encrypted: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let (cipher, nonce) = self.age_aead(shared_secret, info)?;
        let mut bytes = Zeroizing::new(encrypted.to_vec());
        let len = cipher
            .open_in_place(nonce, Aad::empty(), &mut bytes)
            .ok()?
            .len();
        bytes.truncate(len);
        Some(bytes)
    }

    fn age_aead(self, shared_secret: &[u8; 32], info: &[u8]) -> Option<(LessSafeKey, Nonce)> {
        let suite = SuiteId::of(self.code, AEAD_CHACHA20_POLY1305);
        Context::new(&suite, shared_secret, info)?.aead(&CHACHA20_POLY1305)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v2::tests::{bytes, read_vectors};

    /// One published vector for each KEM.
    #[test]
    fn the_key_schedule_equals_published_vectors() {
        let vectors = read_vectors("hpke.json");
        for vector in vectors["vectors"].as_array().unwrap() {
            let code = |name: &str| u16::try_from(vector[name].as_u64().unwrap()).unwrap();
            let suite = SuiteId::of(code("kem_id"), code("aead_id"));
            let secret: [u8; 32] = bytes(&vector["shared_secret"]).try_into().unwrap();
            let context = Context::new(&suite, &secret, &bytes(&vector["info"])).unwrap();
            assert_eq!(context.key.to_vec(), bytes(&vector["key"]));
            assert_eq!(context.nonce.to_vec(), bytes(&vector["base_nonce"]));
        }
        assert_eq!(vectors["vectors"].as_array().unwrap().len(), 2);
    }

    /// The vector of RFC 9180 for the suite `p256` with the AEAD of this module.
    #[test]
    fn the_first_message_equals_the_published_vector() {
        let vector = &read_vectors("hpke.json")["vectors"][0];
        let suite = SuiteId::of(0x0010, AEAD_AES_256_GCM);
        let secret: [u8; 32] = bytes(&vector["shared_secret"]).try_into().unwrap();
        let context = Context::new(&suite, &secret, &bytes(&vector["info"])).unwrap();
        let (cipher, nonce) = context.aead(&AES_256_GCM).unwrap();
        let mut message = bytes(&vector["first"]["pt"]);
        let aad = Aad::from(bytes(&vector["first"]["aad"]));
        cipher
            .seal_in_place_append_tag(nonce, aad, &mut message)
            .unwrap();
        assert_eq!(message, bytes(&vector["first"]["ct"]));
    }
}
