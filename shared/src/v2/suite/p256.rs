//! Suite `p256`: HPKE with DHKEM(P-256, HKDF-SHA256), KEM number 0x0010, for hardware modules that support key
//! agreement on P-256.

use std::fmt;

use aws_lc_rs::agreement::{ECDH_P256, PrivateKey};
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::hpke::Kem;
use super::{Binding, Opener, Recipient, Suite, Unavailable, agree};
use crate::key::count_private_key_operation;
use crate::v2::data_key::DataKey;
use crate::v2::id::KeyId;

/// Length in bytes of a private key, a big-endian number.
pub(crate) const SCALAR_LEN: usize = 32;
/// Length in bytes of an uncompressed point.
pub(crate) const POINT_LEN: usize = 65;
/// The first byte of an uncompressed point. A hybrid point has the same length and is refused.
const UNCOMPRESSED: u8 = 4;
const KEM: Kem = Kem {
    suite: Suite::P256,
    code: 0x0010,
};
/// Cost of unwrapping a data key, in microseconds on one core.
const COST: u64 = 100;
/// Maximum number of attempts to draw a scalar. One attempt in 2^32 is out of range.
const ATTEMPTS: usize = 4;

/// A public key of the suite `p256`.
#[derive(Clone)]
pub struct P256PublicKey {
    point: [u8; POINT_LEN],
    id: KeyId,
}

/// A private key of the suite `p256`, in the memory of aws-lc, which wipes it.
pub struct P256PrivateKey {
    key: PrivateKey,
    public: P256PublicKey,
}

impl P256PublicKey {
    /// Reads a public key. Returns `None` if the bytes are not an uncompressed point of the curve.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let point: [u8; POINT_LEN] = bytes.try_into().ok()?;
        let mut one = [0; SCALAR_LEN];
        one[SCALAR_LEN - 1] = 1;
        let probe = PrivateKey::from_private_key(&ECDH_P256, &one).ok()?;
        agree_with_point(&probe, &point)?;
        let id = KeyId::of(Suite::P256.code(), bytes);
        Some(Self { point, id })
    }

    /// Returns the 65 bytes of the uncompressed point.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.point.to_vec()
    }
}

impl P256PrivateKey {
    /// Reads a scalar. Returns `None` if it is zero or not below the order of the curve.
    pub(crate) fn from_scalar(scalar: &[u8; SCALAR_LEN]) -> Option<Self> {
        let key = PrivateKey::from_private_key(&ECDH_P256, scalar).ok()?;
        let public = key.compute_public_key().ok()?;
        let public = P256PublicKey::from_bytes(public.as_ref())?;
        Some(Self { key, public })
    }

    fn unwrap(&self, wrapped: &[u8], binding: &Binding<'_>) -> Option<DataKey> {
        count_private_key_operation();
        let (share, encrypted) = wrapped.split_at_checked(POINT_LEN)?;
        // Whether the share is a valid point is public. For an invalid share, the same steps follow nevertheless.
        let dh = agree_with_point(&self.key, share);
        let substitute = Zeroizing::new([0; 32]);
        let dh_or_zeros = dh.as_ref().unwrap_or(&substitute);
        let secret = shared_secret(dh_or_zeros, share, &self.public.point)?;
        let key = KEM.open(&secret, &self.public.id, binding, encrypted);
        dh.and(key)
    }

    /// Returns the public key.
    pub fn public_key(&self) -> &P256PublicKey {
        &self.public
    }
}

/// Returns a random scalar from one to the order of the curve, exclusive; `None` if all attempts fail.
pub(crate) fn random_scalar(rng: &mut dyn CryptoRng) -> Option<Zeroizing<[u8; SCALAR_LEN]>> {
    let mut scalar = Zeroizing::new([0; SCALAR_LEN]);
    (0..ATTEMPTS).find(|_| {
        rng.fill_bytes(scalar.as_mut());
        PrivateKey::from_private_key(&ECDH_P256, scalar.as_ref()).is_ok()
    })?;
    Some(scalar)
}

fn agree_with_point(key: &PrivateKey, point: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let is_uncompressed = point.first() == Some(&UNCOMPRESSED);
    is_uncompressed.then(|| agree(key, point)).flatten()
}

/// `ExtractAndExpand` of RFC 9180 §4.1.
fn shared_secret(dh: &[u8; 32], share: &[u8], recipient: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let suite = KEM.id();
    let key = suite.extract(&[], b"eae_prk", dh);
    suite.expand(&key, b"shared_secret", &[share, recipient].concat())
}

impl Recipient for P256PublicKey {
    fn suite(&self) -> Suite {
        Suite::P256
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
        let scalar = random_scalar(rng)?;
        let ephemeral = PrivateKey::from_private_key(&ECDH_P256, scalar.as_ref()).ok()?;
        let share = ephemeral.compute_public_key().ok()?;
        let dh = agree_with_point(&ephemeral, &self.point)?;
        let secret = shared_secret(&dh, share.as_ref(), &self.point)?;
        let encrypted = KEM.seal(&secret, &self.id, binding, key)?;
        Some([share.as_ref(), &encrypted].concat())
    }
}

impl Opener for P256PrivateKey {
    fn suite(&self) -> Suite {
        Suite::P256
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

impl fmt::Debug for P256PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P256PublicKey({})", self.id)
    }
}

impl fmt::Debug for P256PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P256PrivateKey({})", self.public.id)
    }
}

#[cfg(test)]
impl P256PublicKey {
    /// Wraps a data key like a writer that encodes points in the hybrid form.
    pub(in crate::v2) fn wrap_with_hybrid_share(
        &self,
        key: &DataKey,
        binding: &Binding<'_>,
    ) -> Vec<u8> {
        let ephemeral = PrivateKey::from_private_key(&ECDH_P256, &[5; SCALAR_LEN]).unwrap();
        let mut share = ephemeral.compute_public_key().unwrap().as_ref().to_vec();
        let dh = agree_with_point(&ephemeral, &self.point).unwrap();
        share[0] = 6 + (share[POINT_LEN - 1] & 1);
        let secret = shared_secret(&dh, &share, &self.point).unwrap();
        let encrypted = KEM.seal(&secret, &self.id, binding, key).unwrap();
        [share, encrypted].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v2::tests::{bytes, read_vectors};

    fn key() -> P256PrivateKey {
        P256PrivateKey::from_scalar(&[7; SCALAR_LEN]).unwrap()
    }

    #[test]
    fn the_kem_equals_the_vector_of_rfc_9180() {
        let vector = &read_vectors("hpke.json")["vectors"][0];
        let scalar = bytes(&vector["skRm"]).try_into().unwrap();
        let key = P256PrivateKey::from_scalar(&scalar).unwrap();
        assert_eq!(key.public.to_bytes(), bytes(&vector["pkRm"]));
        let share = bytes(&vector["enc"]);
        let dh = agree_with_point(&key.key, &share).unwrap();
        let secret = shared_secret(&dh, &share, &key.public.point).unwrap();
        assert_eq!(secret.to_vec(), bytes(&vector["shared_secret"]));
    }

    #[test]
    fn refuses_scalars_out_of_range() {
        let order =
            bytes(&"ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551".into());
        for (why, scalar) in [
            ("zero", vec![0; 32]),
            ("the order", order),
            ("more than the order", vec![0xff; 32]),
        ] {
            let scalar = scalar.try_into().unwrap();
            assert!(P256PrivateKey::from_scalar(&scalar).is_none(), "{why}");
        }
    }

    /// Attack: an author sends a share that is not an uncompressed point of the curve, which could reveal parts of the
    /// private key.
    #[test]
    fn refuses_points_that_are_invalid_or_not_uncompressed() {
        let valid = key().public.to_bytes();
        let hybrid = [&[6 + (valid[64] & 1)], &valid[1..]].concat();
        let mut off_curve = valid.clone();
        off_curve[64] ^= 1;
        for (why, point) in [
            ("a hybrid point", hybrid),
            ("off the curve", off_curve),
            ("infinity", vec![0; 65]),
            ("a compressed point", valid[..33].to_vec()),
            ("coordinates out of range", [&[4][..], &[0xff; 64]].concat()),
        ] {
            assert!(P256PublicKey::from_bytes(&point).is_none(), "{why}");
            assert!(agree_with_point(&key().key, &point).is_none(), "{why}");
        }
        assert!(P256PublicKey::from_bytes(&valid).is_some());
    }
}
