//! Suite `xw`: HPKE with X-Wing, the hybrid of ML-KEM-768 and X25519 (draft-connolly-cfrg-xwing-kem, KEM number
//! 0x647a).
//!
//! aws-lc performs all private-key operations. It cannot create a key from a seed, so the crate `ml-kem` expands the
//! seed once, when a key is read. `ml-kem` also encapsulates, with randomness that is passed in.

use std::fmt;

use aws_lc_rs::agreement::{PrivateKey, X25519};
use aws_lc_rs::digest::{Context, SHA3_256};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, ML_KEM_768};
use ml_kem::kem::{Encapsulate as _, KeyExport as _};
use ml_kem::ml_kem_768;
use rand::CryptoRng;
use shake::{ExtendableOutput as _, Shake256, Update as _, XofReader as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::hpke::Kem;
use super::{Binding, Opener, Recipient, Suite, Unavailable, agree};
use crate::key::count_private_key_operation;
use crate::v2::data_key::DataKey;
use crate::v2::id::KeyId;

/// Length in bytes of a private key, which is a seed.
pub(crate) const SEED_LEN: usize = 32;
/// Length in bytes of the ML-KEM part of a public key.
const ML_KEM_PUBLIC_LEN: usize = 1184;
/// Length in bytes of the ML-KEM part of an encapsulation.
const ML_KEM_CIPHERTEXT_LEN: usize = 1088;
/// Length in bytes of an encapsulation.
pub(super) const ENCAPSULATED_LEN: usize = ML_KEM_CIPHERTEXT_LEN + 32;
const KEM: Kem = Kem {
    suite: Suite::XWing,
    code: 0x647a,
};
/// The label at the end of the combiner's input, as specified in the draft.
const LABEL: &[u8] = br"\.//^\";
/// Cost of a decapsulation in microseconds on one core.
const COST: u64 = 100;

type SharedSecret = Zeroizing<[u8; 32]>;

/// A public key of the suite `xw`.
#[derive(Clone)]
pub struct XWingPublicKey {
    ml_kem: ml_kem_768::EncapsulationKey,
    x25519: [u8; 32],
    id: KeyId,
}

/// A private key of the suite `xw`. Both its parts are in the memory of aws-lc, which wipes them.
pub struct XWingPrivateKey {
    ml_kem: DecapsulationKey,
    x25519: PrivateKey,
    public: XWingPublicKey,
}

impl XWingPublicKey {
    /// Reads a public key of 1216 bytes. Returns `None` for another length, for an ML-KEM key with a number out of
    /// range (FIPS 203 §7.2), for an X25519 key of low order, with which every agreement results in zeros, and for an
    /// X25519 key that is not in its canonical encoding, because its owner could not open the result.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (ml_kem, x25519) = bytes.split_at_checked(ML_KEM_PUBLIC_LEN)?;
        let x25519: [u8; 32] = x25519.try_into().ok()?;
        let probe = PrivateKey::from_private_key(&X25519, &[1; 32]).ok()?;
        agree(&probe, &x25519)?;
        is_canonical(&x25519).then_some(())?;
        let ml_kem = ml_kem_768::EncapsulationKey::new(ml_kem.try_into().ok()?).ok()?;
        let id = KeyId::of(Suite::XWing.code(), bytes);
        Some(Self { ml_kem, x25519, id })
    }

    /// Returns the 1216 bytes of the key.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.ml_kem.to_bytes()[..], &self.x25519].concat()
    }

    /// Encrypts a message as age does. Returns the encapsulation, and the encrypted message.
    pub(in crate::v2) fn seal_for_age(
        &self,
        info: &[u8],
        message: &[u8],
        rng: &mut dyn CryptoRng,
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        let (encapsulated, secret) = self.encapsulate(rng)?;
        let encrypted = KEM.seal_for_age(&secret, info, message)?;
        Some((encapsulated, encrypted))
    }

    /// Returns the encapsulation of a new shared secret, and the secret. ML-KEM takes the first 32 random bytes, X25519
    /// the next 32.
    fn encapsulate(&self, rng: &mut dyn CryptoRng) -> Option<(Vec<u8>, SharedSecret)> {
        let (ciphertext, mut shared) = self.ml_kem.encapsulate_with_rng(&mut *rng);
        let ml_kem_secret = Zeroizing::new(shared.0);
        shared.0.zeroize();
        let mut scalar = Zeroizing::new([0; 32]);
        rng.fill_bytes(scalar.as_mut());
        let ephemeral = PrivateKey::from_private_key(&X25519, scalar.as_ref()).ok()?;
        let share = ephemeral.compute_public_key().ok()?;
        let x25519_secret = agree(&ephemeral, &self.x25519)?;
        let share: [u8; 32] = share.as_ref().try_into().ok()?;
        let secret = combine(&ml_kem_secret, &x25519_secret, &share, &self.x25519);
        Some(([&ciphertext[..], &share].concat(), secret))
    }
}

impl XWingPrivateKey {
    /// Expands a seed. Returns `None` if aws-lc fails.
    pub(crate) fn from_seed(seed: &[u8; SEED_LEN]) -> Option<Self> {
        let mut expanded = Zeroizing::new([0; 96]);
        let mut hash = Shake256::default();
        hash.update(seed);
        hash.finalize_xof().read(expanded.as_mut());
        let (ml_kem_seed, scalar) = expanded.split_at(64);
        let ml_kem = ml_kem_768::DecapsulationKey::from_seed(ml_kem_seed.try_into().ok()?);
        let x25519 = PrivateKey::from_private_key(&X25519, scalar).ok()?;
        let share = x25519.compute_public_key().ok()?;
        let public = [&ml_kem.encapsulation_key().to_bytes()[..], share.as_ref()].concat();
        Some(Self {
            ml_kem: import(&ml_kem)?,
            x25519,
            public: XWingPublicKey::from_bytes(&public)?,
        })
    }

    /// Returns the public key.
    pub fn public_key(&self) -> &XWingPublicKey {
        &self.public
    }

    /// Decrypts a message that [`XWingPublicKey::seal_for_age`] encrypted.
    pub(in crate::v2) fn open_for_age(
        &self,
        info: &[u8],
        encapsulated: &[u8],
        encrypted: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let secret = self.decapsulate(encapsulated)?;
        KEM.open_for_age(&secret, info, encrypted)
    }

    fn unwrap(&self, wrapped: &[u8], binding: &Binding<'_>) -> Option<DataKey> {
        let (encapsulated, encrypted) = wrapped.split_at_checked(ENCAPSULATED_LEN)?;
        let secret = self.decapsulate(encapsulated);
        // After a failed decapsulation, the same steps follow with a constant secret, and the result is discarded.
        let substitute = Zeroizing::new([0; 32]);
        let secret_or_zeros = secret.as_ref().unwrap_or(&substitute);
        let key = KEM.open(secret_or_zeros, &self.public.id, binding, encrypted);
        secret.and(key)
    }

    fn decapsulate(&self, encapsulated: &[u8]) -> Option<SharedSecret> {
        count_private_key_operation();
        let (ciphertext, share) = encapsulated.split_at_checked(ML_KEM_CIPHERTEXT_LEN)?;
        let share: [u8; 32] = share.try_into().ok()?;
        // Compute both parts before checking either result.
        let ml_kem_secret = self.ml_kem.decapsulate(Ciphertext::from(ciphertext));
        let x25519_secret = agree(&self.x25519, &share);
        let mut copy = Zeroizing::new([0; 32]);
        copy.copy_from_slice(ml_kem_secret.ok()?.as_ref());
        let x25519_secret = x25519_secret?;
        let public = &self.public.x25519;
        Some(combine(&copy, &x25519_secret, &share, public))
    }
}

/// Returns whether a little-endian coordinate is below the prime 2^255 − 19, and so is canonically encoded.
fn is_canonical(x25519: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = x25519;
    let is_high = *last == 0x7f && middle.iter().all(|byte| *byte == 0xff);
    *last <= 0x7f && !(is_high && *first >= 0xed)
}

/// Imports an expanded ML-KEM key into aws-lc, which accepts no other form.
#[expect(deprecated, reason = "aws-lc-rs reads only the expanded form")]
fn import(key: &ml_kem_768::DecapsulationKey) -> Option<DecapsulationKey> {
    use ml_kem::ExpandedKeyEncoding as _;
    let expanded = Zeroizing::new(key.to_expanded_bytes().0);
    DecapsulationKey::new(&ML_KEM_768, expanded.as_ref()).ok()
}

/// Combines both shared secrets as specified by X-Wing.
fn combine(
    ml_kem_secret: &[u8; 32],
    x25519_secret: &[u8; 32],
    share: &[u8; 32],
    public: &[u8; 32],
) -> SharedSecret {
    let mut hash = Context::new(&SHA3_256);
    for part in [ml_kem_secret, x25519_secret, share, public] {
        hash.update(part);
    }
    hash.update(LABEL);
    let mut secret = Zeroizing::new([0; 32]);
    secret.copy_from_slice(hash.finish().as_ref());
    secret
}

impl Recipient for XWingPublicKey {
    fn suite(&self) -> Suite {
        Suite::XWing
    }

    fn key_id(&self) -> KeyId {
        self.id
    }

    fn wrap_key(
        &self,
        key: &DataKey,
        binding: &Binding<'_>,
        rng: &mut dyn CryptoRng,
    ) -> Option<Vec<u8>> {
        let (encapsulated, secret) = self.encapsulate(rng)?;
        let encrypted = KEM.seal(&secret, &self.id, binding, key)?;
        Some([encapsulated, encrypted].concat())
    }
}

impl Opener for XWingPrivateKey {
    fn suite(&self) -> Suite {
        Suite::XWing
    }

    fn key_id(&self) -> KeyId {
        self.public.id
    }

    fn cost(&self) -> u64 {
        COST
    }

    fn unwrap_key(
        &self,
        wrapped: &[u8],
        binding: &Binding<'_>,
    ) -> Result<Option<DataKey>, Unavailable> {
        Ok(self.unwrap(wrapped, binding))
    }
}

impl fmt::Debug for XWingPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XWingPublicKey({})", self.id)
    }
}

impl fmt::Debug for XWingPrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XWingPrivateKey({})", self.public.id)
    }
}

#[cfg(test)]
impl XWingPublicKey {
    /// Wraps a data key like a writer that accepts an all-zero X25519 secret.
    pub(in crate::v2) fn wrap_with_zero_share(
        &self,
        key: &DataKey,
        binding: &Binding<'_>,
        rng: &mut dyn CryptoRng,
    ) -> Vec<u8> {
        let (ciphertext, ml_kem_secret) = self.ml_kem.encapsulate_with_rng(rng);
        let secret = combine(&ml_kem_secret.0, &[0; 32], &[0; 32], &self.x25519);
        let encrypted = KEM.seal(&secret, &self.id, binding, key).unwrap();
        [&ciphertext[..], &[0; 32], &encrypted].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v2::tests::{FixedBytes, bytes, read_vectors};

    fn key() -> XWingPrivateKey {
        XWingPrivateKey::from_seed(&[7; SEED_LEN]).unwrap()
    }

    #[test]
    fn equals_the_vectors_of_the_xwing_draft() {
        let vectors = read_vectors("x-wing.json");
        for vector in vectors["vectors"].as_array().unwrap() {
            let seed = bytes(&vector["sk"]).try_into().unwrap();
            let key = XWingPrivateKey::from_seed(&seed).unwrap();
            assert_eq!(key.public.to_bytes(), bytes(&vector["pk"]));
            let mut random = FixedBytes::new(bytes(&vector["eseed"]));
            let (encapsulated, secret) = key.public.encapsulate(&mut random).unwrap();
            assert_eq!(encapsulated, bytes(&vector["ct"]));
            assert_eq!(secret.to_vec(), bytes(&vector["ss"]));
            let secret = key.decapsulate(&encapsulated).unwrap();
            assert_eq!(secret.to_vec(), bytes(&vector["ss"]));
        }
        assert_eq!(vectors["vectors"].as_array().unwrap().len(), 3);
    }

    /// A vector of the HPKE draft, which another implementation generated.
    #[test]
    fn decapsulates_the_vector_of_the_hpke_draft() {
        let vector = &read_vectors("hpke.json")["vectors"][1];
        let seed = bytes(&vector["skRm"]).try_into().unwrap();
        let key = XWingPrivateKey::from_seed(&seed).unwrap();
        assert_eq!(key.public.to_bytes(), bytes(&vector["pkRm"]));
        let secret = key.decapsulate(&bytes(&vector["enc"])).unwrap();
        assert_eq!(secret.to_vec(), bytes(&vector["shared_secret"]));
    }

    /// Returns the encodings of points whose order divides 8, from RFC 7748 and the section "contributory behavior" of
    /// the Curve25519 page.
    fn low_order_points() -> Vec<Vec<u8>> {
        let point = |text: &str| bytes(&text.into());
        vec![
            vec![0; 32],
            [vec![1], vec![0; 31]].concat(),
            point("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
            point("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
            point("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
            point("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
            point("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        ]
    }

    /// A second encoding of a key has another identifier, and the owner could not open values that are sealed for it.
    #[test]
    fn refuses_encodings_of_x25519_keys_that_are_not_canonical() {
        let bytes = key().public_key().to_bytes();
        let parses_with = |x25519: [u8; 32]| {
            let bytes = [&bytes[..ML_KEM_PUBLIC_LEN], &x25519].concat();
            XWingPublicKey::from_bytes(&bytes).is_some()
        };
        let near_prime = |first: u8| {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (first, 0x7f);
            bytes
        };
        let mut high_bit = key().public_key().x25519;
        assert!(parses_with(high_bit));
        high_bit[31] |= 0x80;
        assert!(!parses_with(high_bit));
        assert!(parses_with(near_prime(0xeb)), "p − 2");
        assert!(!parses_with(near_prime(0xf0)), "p + 3");
    }

    /// Attack: an author sends a share of low order. Every agreement with it results in zeros, so only ML-KEM protects
    /// the value.
    #[test]
    fn refuses_shares_and_public_keys_of_low_order() {
        let (valid, _) = key()
            .public
            .encapsulate(&mut crate::random::system())
            .unwrap();
        let public = key().public.to_bytes();
        for point in low_order_points() {
            let share = [&valid[..ML_KEM_CIPHERTEXT_LEN], &point].concat();
            assert!(key().decapsulate(&share).is_none(), "{point:?}");
            let public = [&public[..ML_KEM_PUBLIC_LEN], &point].concat();
            assert!(XWingPublicKey::from_bytes(&public).is_none(), "{point:?}");
        }
    }

    /// The negative vector with an all-zero share opens for a reader that accepts the share, and only for such a
    /// reader.
    #[test]
    fn a_zero_share_opens_only_if_all_zero_secrets_are_accepted() {
        let binding = Binding {
            header: b"header",
            context: b"context",
        };
        let data_key = DataKey::from_slice(&[3; 32]).unwrap();
        let rng = &mut crate::random::system();
        let wrapped = key().public.wrap_with_zero_share(&data_key, &binding, rng);
        assert!(key().unwrap(&wrapped, &binding).is_none());

        let ciphertext = Ciphertext::from(&wrapped[..ML_KEM_CIPHERTEXT_LEN]);
        let ml_kem_secret = key().ml_kem.decapsulate(ciphertext).unwrap();
        let ml_kem_secret = ml_kem_secret.as_ref().try_into().unwrap();
        let secret = combine(ml_kem_secret, &[0; 32], &[0; 32], &key().public.x25519);
        let encrypted = &wrapped[ENCAPSULATED_LEN..];
        let opened = KEM.open(&secret, &key().public.id, &binding, encrypted);
        let opened = opened.unwrap();
        assert_eq!(opened.expose(), data_key.expose());
    }

    #[test]
    fn refuses_public_keys_with_numbers_out_of_range() {
        let public = key().public.to_bytes();
        assert!(XWingPublicKey::from_bytes(&public).is_some());
        let numbers = [
            &[0xff; ML_KEM_PUBLIC_LEN - 32][..],
            &public[ML_KEM_PUBLIC_LEN - 32..],
        ];
        assert!(XWingPublicKey::from_bytes(&numbers.concat()).is_none());
        assert!(XWingPublicKey::from_bytes(&public[1..]).is_none());
    }
}
