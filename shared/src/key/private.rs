use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use go::pem::{self, Block};
use pkcs8::der::asn1::{AnyRef, OctetStringRef};
use pkcs8::der::{Decode, Encode};
use pkcs8::spki::AlgorithmIdentifierRef;
use zeroize::Zeroizing;

use super::{Fingerprint, PublicKey};
use crate::plain::Plain;
use crate::scope::Label;
use crate::v2::KeyId;

/// The HKDF info of record keys. Separates them from other keys that may be derived from the private key in the future.
const RECORD_KEY_INFO: &[&[u8]] = &[b"sealed-secrets: key of records in statuses, version 1"];

static OPERATIONS: AtomicU64 = AtomicU64::new(0);

/// Counts a private-key operation, whether it succeeds or fails.
pub(crate) fn count_private_key_operation() {
    OPERATIONS.fetch_add(1, Ordering::Relaxed);
}

/// Returns the number of private-key operations in this process so far: the main cost of unsealing.
pub fn private_key_operations() -> u64 {
    OPERATIONS.load(Ordering::Relaxed)
}

/// An RSA private key that can decrypt values. aws-lc wipes it on drop.
pub struct PrivateKey {
    oaep: OaepPrivateDecryptingKey,
    public: PublicKey,
    record_key: hmac::Key,
}

/// Why the input contains no usable private key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyError {
    /// No block is a private key.
    #[error(
        "no PEM block `RSA PRIVATE KEY` (PKCS#1) or `PRIVATE KEY` (PKCS#8) found; \
         a private key is required, not a certificate"
    )]
    Missing,
    /// The key is not an RSA key.
    #[error("the private key is not an RSA key; only RSA keys can unseal")]
    NotRsa,
    /// The key is protected by a passphrase. A PEM block with headers counts as protected.
    #[error("the private key is encrypted; decrypt it first, for example with `openssl pkey`")]
    Encrypted,
    /// The DER is not a key, its numbers are inconsistent, or its size or public exponent is out of range.
    #[error(
        "the RSA private key is malformed or inconsistent, its size is not between 2048 and 8192 bits, or its public exponent \
         is not supported"
    )]
    Malformed,
}

impl PrivateKey {
    /// Reads the first usable key in PEM data, as upstream reads `tls.key`.
    ///
    /// # Errors
    ///
    /// If no key is usable, returns the error for the first private-key block, or [`PrivateKeyError::Missing`] if there
    /// is no such block.
    pub fn from_pem(text: &[u8]) -> Result<Self, PrivateKeyError> {
        let mut keys = Self::all_from_pem(text)?;
        Ok(keys.swap_remove(0))
    }

    /// Reads every usable key in PEM data; skips all other blocks. The result is never empty.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::from_pem`] if no key is usable.
    pub fn all_from_pem(text: &[u8]) -> Result<Vec<Self>, PrivateKeyError> {
        let mut keys = Vec::new();
        let mut first_error = None;
        for block in pem::blocks(text) {
            match read_block(&block) {
                Some(Ok(key)) => keys.push(key),
                Some(Err(error)) => first_error = first_error.or(Some(error)),
                None => {}
            }
        }
        if keys.is_empty() {
            Err(first_error.unwrap_or(PrivateKeyError::Missing))
        } else {
            Ok(keys)
        }
    }

    pub(super) fn from_pkcs8(der: &[u8]) -> Result<Self, PrivateKeyError> {
        let key = PrivateDecryptingKey::from_pkcs8(der).map_err(|_| PrivateKeyError::Malformed)?;
        Self::from_aws(key).ok_or(PrivateKeyError::Malformed)
    }

    fn from_aws(key: PrivateDecryptingKey) -> Option<Self> {
        let spki = key.public_key().as_der().ok()?;
        let public = PublicKey::from_spki_der(spki.as_ref()).ok()?;
        let record_key = record_key(&key)?;
        let oaep = OaepPrivateDecryptingKey::new(key).ok()?;
        Some(Self {
            oaep,
            public,
            record_key,
        })
    }

    /// Returns the public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Returns the fingerprint of the key.
    pub fn fingerprint(&self) -> &Fingerprint {
        self.public.fingerprint()
    }

    /// Returns the identifier of the public key in v2 values.
    pub(crate) fn v2_id(&self) -> &KeyId {
        self.public.v2_id()
    }

    /// Returns the length of the modulus in bytes.
    pub fn modulus_len(&self) -> usize {
        self.oaep.key_size_bytes()
    }

    /// Returns the HMAC key of records: only a holder of the private key can compute and verify a record.
    pub(crate) fn record_key(&self) -> &hmac::Key {
        &self.record_key
    }

    /// Decrypts with RSAES-OAEP, SHA-256 for label and MGF1 (RFC 8017 §7.1). Returns `None` for every
    /// failure.
    pub(crate) fn decrypt(&self, label: &Label, ciphertext: &[u8]) -> Option<Plain> {
        count_private_key_operation();
        let mut out = Zeroizing::new(vec![0; self.oaep.min_output_size()]);
        let label = Some(label.as_bytes());
        let len = self
            .oaep
            .decrypt(&OAEP_SHA256_MGF1SHA256, ciphertext, &mut out, label)
            .ok()?
            .len();
        out.truncate(len);
        Some(Plain::from(std::mem::take(&mut *out)))
    }
}

/// Derives the record key with HKDF-SHA256 (RFC 5869) from the key as PKCS#8, which does not depend on the
/// format in which the key is stored.
fn record_key(key: &PrivateDecryptingKey) -> Option<hmac::Key> {
    let der = key.as_der().ok()?;
    let pseudorandom_key = Salt::new(HKDF_SHA256, &[]).extract(der.as_ref());
    let derived_key = pseudorandom_key
        .expand(RECORD_KEY_INFO, hmac::HMAC_SHA256)
        .ok()?;
    Some(hmac::Key::from(derived_key))
}

/// Reads a block. Returns `None` if the block is not a private key of any kind.
fn read_block(block: &Block) -> Option<Result<PrivateKey, PrivateKeyError>> {
    match block.label.as_str() {
        "RSA PRIVATE KEY" | "PRIVATE KEY" if block.has_headers => {
            Some(Err(PrivateKeyError::Encrypted))
        }
        "RSA PRIVATE KEY" => Some(read_pkcs1(&block.der)),
        "PRIVATE KEY" => Some(read_pkcs8(&block.der)),
        "ENCRYPTED PRIVATE KEY" => Some(Err(PrivateKeyError::Encrypted)),
        "EC PRIVATE KEY" | "DSA PRIVATE KEY" => Some(Err(PrivateKeyError::NotRsa)),
        _ => None,
    }
}

/// Reads a PKCS#1 key. Wraps it in PKCS#8 (RFC 5208 §5), the only format of decryption keys that aws-lc-rs accepts.
fn read_pkcs1(der: &[u8]) -> Result<PrivateKey, PrivateKeyError> {
    let algorithm = AlgorithmIdentifierRef {
        oid: pkcs1::ALGORITHM_OID,
        parameters: Some(AnyRef::NULL),
    };
    let key = OctetStringRef::new(der).map_err(|_| PrivateKeyError::Malformed)?;
    let info = pkcs8::PrivateKeyInfoRef::new(algorithm, key);
    let pkcs8_der = Zeroizing::new(info.to_der().map_err(|_| PrivateKeyError::Malformed)?);
    PrivateKey::from_pkcs8(&pkcs8_der)
}

fn read_pkcs8(der: &[u8]) -> Result<PrivateKey, PrivateKeyError> {
    let info = pkcs8::PrivateKeyInfoRef::from_der(der).map_err(|_| PrivateKeyError::Malformed)?;
    if info.algorithm.oid != pkcs1::ALGORITHM_OID {
        return Err(PrivateKeyError::NotRsa);
    }
    PrivateKey::from_pkcs8(der)
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::new_test_key;

    const EC_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgVcB/UNPxalR9zDYA
jQIfjojUDiQuGnSJrFEEzZPT/92hRANCAASc7UJtgnF/abqWM60T3XNJEzBv5ez9
TdwKH0M6xpM2q+53wmsN/eYLdgtjgBd3DBmHtPilCkiFICXyaA8z9LkJ
-----END PRIVATE KEY-----
";

    #[test]
    fn reports_why_a_private_key_is_unusable() {
        for (why, text, want) in [
            ("nothing", String::new(), PrivateKeyError::Missing),
            (
                "a certificate",
                "-----BEGIN CERTIFICATE-----\naGk=\n-----END CERTIFICATE-----".into(),
                PrivateKeyError::Missing,
            ),
            ("an EC key", EC_KEY.into(), PrivateKeyError::NotRsa),
            (
                "an EC key in SEC1 format",
                EC_KEY.replace("PRIVATE", "EC PRIVATE"),
                PrivateKeyError::NotRsa,
            ),
            (
                "a passphrase",
                EC_KEY.replace("PRIVATE", "ENCRYPTED PRIVATE"),
                PrivateKeyError::Encrypted,
            ),
            (
                "a passphrase in the traditional format",
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\naGk=\n-----END RSA PRIVATE KEY-----".into(),
                PrivateKeyError::Encrypted,
            ),
            (
                "not DER",
                "-----BEGIN RSA PRIVATE KEY-----\naGk=\n-----END RSA PRIVATE KEY-----".into(),
                PrivateKeyError::Malformed,
            ),
        ] {
            assert_eq!(
                PrivateKey::from_pem(text.as_bytes()).unwrap_err(),
                want,
                "{why}"
            );
        }
    }

    #[test]
    fn counts_private_key_operations_including_failed_ones() {
        let key = new_test_key(0).pair.into_halves().0;
        let before = private_key_operations();
        for _ in 0..2 {
            let plain = key.decrypt(&crate::scope::Scope::Strict.label("ns", "n"), &[1; 256]);
            assert!(plain.is_none());
        }
        // Other tests in this process also increment the counter.
        assert!(private_key_operations() >= before + 2);
    }

    #[test]
    fn finds_every_key_among_other_blocks() {
        let key = new_test_key(0);
        let pem = String::from_utf8(key.private_pem.expose().to_vec()).unwrap();
        let text = format!("{EC_KEY}{pem}{}{pem}", key.pair.certificate().to_pem());
        let keys = PrivateKey::all_from_pem(text.as_bytes()).unwrap();
        assert_eq!(keys.len(), 2);
        assert_eq!(keys[0].fingerprint(), key.pair.fingerprint());
    }

    #[test]
    fn debug_shows_only_the_fingerprint() {
        let key = new_test_key(0).pair;
        assert_eq!(
            format!("{:?}", key.private()),
            format!("PrivateKey({})", key.fingerprint())
        );
    }

    proptest::proptest! {
        #[test]
        fn never_panics_on_arbitrary_der(der: Vec<u8>) {
            let _ = read_pkcs1(&der);
            let _ = read_pkcs8(&der);
        }
    }
}
