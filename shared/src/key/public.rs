use std::fmt;

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use pkcs1::RsaPublicKeyRef;
use x509_cert::der::asn1::{AnyRef, BitStringRef};
use x509_cert::der::{Decode, Encode};
use x509_cert::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};

use super::Fingerprint;
use crate::scope::Label;
use crate::v2::{KeyId, Suite};

/// An RSA public key that can encrypt.
pub struct PublicKey {
    oaep: OaepPublicEncryptingKey,
    fingerprint: Fingerprint,
    v2_id: KeyId,
}

/// Why a key cannot seal values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// The key is not an RSA key.
    #[error("expected RSA public key but found {0}")]
    NotRsa(&'static str),
    /// The bytes are not a valid RSA key.
    #[error("the RSA public key is malformed")]
    Malformed,
    /// aws-lc refuses keys below 2048 and above 8192 bits.
    #[error("unsupported RSA key size {bits}: must be between 2048 and 8192 bits")]
    Size {
        /// Length of the modulus in bits.
        bits: usize,
    },
    /// aws-lc refuses public exponents that are even, 1, or longer than 33 bits.
    #[error(
        "unsupported public exponent of the RSA key: must be an odd number greater than 1 with at most 33 bits; 65537 is \
         usual"
    )]
    Exponent,
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7).
    ///
    /// # Errors
    ///
    /// Returns an error if the algorithm is not RSA, the bytes are malformed, or the key size or
    /// the public exponent is not supported.
    pub(super) fn from_spki(spki: &SubjectPublicKeyInfoOwned) -> Result<Self, PublicKeyError> {
        if spki.algorithm.oid != pkcs1::ALGORITHM_OID {
            return Err(PublicKeyError::NotRsa(algorithm_name(spki)));
        }
        let Description {
            bits,
            fingerprint,
            v2_id,
            has_usable_exponent,
        } = describe(spki).ok_or(PublicKeyError::Malformed)?;
        let der = spki.to_der().map_err(|_| PublicKeyError::Malformed)?;
        let oaep = PublicEncryptingKey::from_der(&der)
            .ok()
            .and_then(|key| OaepPublicEncryptingKey::new(key).ok())
            .ok_or(match bits {
                2048..=8192 if !has_usable_exponent => PublicKeyError::Exponent,
                2048..=8192 => PublicKeyError::Malformed,
                _ => PublicKeyError::Size { bits },
            })?;
        Ok(Self {
            oaep,
            fingerprint,
            v2_id,
        })
    }

    pub(super) fn from_spki_der(der: &[u8]) -> Result<Self, PublicKeyError> {
        let spki =
            SubjectPublicKeyInfoOwned::from_der(der).map_err(|_| PublicKeyError::Malformed)?;
        Self::from_spki(&spki)
    }

    /// Returns the fingerprint of the key.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Returns the identifier of the key in v2 values.
    pub(crate) fn v2_id(&self) -> &KeyId {
        &self.v2_id
    }

    /// Returns the length of the modulus in bytes, which is the length of the RSA block of each value sealed
    /// with this key.
    pub fn modulus_len(&self) -> usize {
        self.oaep.key_size_bytes()
    }

    /// Encrypts with RSAES-OAEP, SHA-256 for label and MGF1 (RFC 8017 §7.1). Returns `None` if the
    /// message is too long for the key.
    pub(crate) fn encrypt(&self, label: &Label, message: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0; self.oaep.ciphertext_size()];
        let label = Some(label.as_bytes());
        let len = self
            .oaep
            .encrypt(&OAEP_SHA256_MGF1SHA256, message, &mut out, label)
            .ok()?
            .len();
        out.truncate(len);
        Some(out)
    }
}

/// Properties of an RSA key, read before aws-lc accepts or rejects it.
struct Description {
    bits: usize,
    fingerprint: Fingerprint,
    v2_id: KeyId,
    has_usable_exponent: bool,
}

fn describe(spki: &SubjectPublicKeyInfoOwned) -> Option<Description> {
    let key = RsaPublicKeyRef::try_from(spki.subject_public_key.as_bytes()?).ok()?;
    let (modulus, exponent) = (key.modulus.as_bytes(), key.public_exponent.as_bytes());
    let is_odd = exponent.last().is_some_and(|byte| byte % 2 == 1);
    Some(Description {
        bits: bit_len(modulus),
        fingerprint: Fingerprint::from_rsa(exponent, modulus),
        v2_id: v2_id(&key)?,
        has_usable_exponent: is_odd && (2..=33).contains(&bit_len(exponent)),
    })
}

/// Returns the identifier in v2 values. It covers the canonical `SubjectPublicKeyInfo` of the key, with the algorithm
/// `rsaEncryption` and `NULL`, however the certificate encodes the key.
fn v2_id(key: &RsaPublicKeyRef<'_>) -> Option<KeyId> {
    let bytes = key.to_der().ok()?;
    let spki = SubjectPublicKeyInfoRef {
        algorithm: AlgorithmIdentifierRef {
            oid: pkcs1::ALGORITHM_OID,
            parameters: Some(AnyRef::NULL),
        },
        subject_public_key: BitStringRef::from_bytes(&bytes).ok()?,
    };
    Some(KeyId::of(Suite::Rsa.code(), &spki.to_der().ok()?))
}

/// Returns the length in bits of a big-endian number that has no leading zero bytes.
fn bit_len(number: &[u8]) -> usize {
    let leading = number.first().map_or(0, |byte| byte.leading_zeros());
    number.len() * 8 - leading as usize
}

fn algorithm_name(spki: &SubjectPublicKeyInfoOwned) -> &'static str {
    match spki.algorithm.oid.to_string().as_str() {
        "1.2.840.10045.2.1" => "an ECDSA key",
        "1.3.101.112" => "an Ed25519 key",
        "1.2.840.113549.1.1.10" => "an RSA-PSS key, which can only sign",
        _ => "a key of another algorithm",
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use x509_cert::der::asn1::BitString;
    use x509_cert::der::asn1::UintRef;
    use x509_cert::spki::AlgorithmIdentifierOwned;

    use super::*;
    use crate::key::test_key;

    fn spki(oid: &str, key: &[u8]) -> SubjectPublicKeyInfoOwned {
        SubjectPublicKeyInfoOwned {
            algorithm: AlgorithmIdentifierOwned {
                oid: oid.parse().unwrap(),
                parameters: None,
            },
            subject_public_key: BitString::from_bytes(key).unwrap(),
        }
    }

    fn rsa_spki(modulus: &[u8]) -> SubjectPublicKeyInfoOwned {
        rsa_spki_with_exponent(modulus, &[1, 0, 1])
    }

    fn rsa_spki_with_exponent(modulus: &[u8], exponent: &[u8]) -> SubjectPublicKeyInfoOwned {
        let key = RsaPublicKeyRef {
            modulus: UintRef::new(modulus).unwrap(),
            public_exponent: UintRef::new(exponent).unwrap(),
        };
        spki("1.2.840.113549.1.1.1", &key.to_der().unwrap())
    }

    #[test]
    fn reports_why_a_key_cannot_seal() {
        for (spki, want) in [
            (spki("1.2.840.10045.2.1", &[4]), "found an ECDSA key"),
            (spki("1.3.101.112", &[4]), "found an Ed25519 key"),
            (
                spki("1.2.840.113549.1.1.10", &[4]),
                "found an RSA-PSS key, which can only sign",
            ),
            (spki("1.2.3", &[4]), "found a key of another algorithm"),
            (spki("1.2.840.113549.1.1.1", &[4]), "is malformed"),
            (rsa_spki(&[0xff; 128]), "unsupported RSA key size 1024"),
            (
                rsa_spki(&[&[1], &[0xff; 127][..]].concat()),
                "unsupported RSA key size 1017",
            ),
            (
                rsa_spki(&[&[1], &[0xff; 1024][..]].concat()),
                "unsupported RSA key size 8193",
            ),
        ] {
            let error = PublicKey::from_spki(&spki).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn names_an_unsupported_exponent_if_the_size_is_supported() {
        for (exponent, want) in [
            (&[1][..], Some(PublicKeyError::Exponent)),
            (&[2], Some(PublicKeyError::Exponent)),
            (&[1, 0, 0], Some(PublicKeyError::Exponent)),
            (&[2, 0, 0, 0, 1], Some(PublicKeyError::Exponent)),
            (&[1, 0, 0, 0, 0, 0, 0, 0, 1], Some(PublicKeyError::Exponent)),
            (&[3], None),
            (&[1, 0, 1], None),
            (&[1, 0, 0, 0, 1], None),
        ] {
            for len in [256, 512, 1024] {
                let result =
                    PublicKey::from_spki(&rsa_spki_with_exponent(&vec![0xff; len], exponent));
                assert_eq!(result.err(), want, "{exponent:?}, {len}");
            }
            let small = PublicKey::from_spki(&rsa_spki_with_exponent(&[0xff; 128], exponent));
            assert_eq!(small.unwrap_err(), PublicKeyError::Size { bits: 1024 });
        }
        let even = [&[0xff; 255][..], &[0xfe]].concat();
        let error = PublicKey::from_spki(&rsa_spki(&even)).unwrap_err();
        assert_eq!(error, PublicKeyError::Malformed);
    }

    #[test]
    fn debug_shows_only_the_fingerprint() {
        let key = test_key().certificate().public_key();
        assert_eq!(key.modulus_len(), 256);
        assert_eq!(
            format!("{key:?}"),
            format!("PublicKey({})", key.fingerprint())
        );
    }
}
