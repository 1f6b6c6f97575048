//! One RSA key and its certificate: generation, parsing, PEM, fingerprint, validity. Also certificates of other
//! algorithms, only to check them.
//!
//! Private-key operations run in aws-lc-rs (constant time, blinded). Key generation and OAEP draw their
//! randomness there.

mod certificate;
mod chain;
mod fingerprint;
mod generate;
mod private;
mod public;

pub use certificate::{Certificate, CertificateError, Validity, contains_private_key};
pub use chain::{ChainCertificate, chain_from_pem};
pub use fingerprint::{Fingerprint, MalformedFingerprint};
pub use generate::{GenerateError, KeySize, KeySpec, NewKey, UnknownKeySize};
pub(crate) use private::count_private_key_operation;
pub use private::{PrivateKey, PrivateKeyError, private_key_operations};
pub use public::{PublicKey, PublicKeyError};

/// A private key and its matching certificate.
#[derive(Debug)]
pub struct KeyPair {
    private: PrivateKey,
    certificate: Certificate,
}

/// The certificate does not match the private key: values sealed with it could never be unsealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the certificate ({certificate}) does not belong to the private key ({private}); \
     use a private key and a certificate that were generated together"
)]
pub struct MismatchedPair {
    /// Fingerprint of the certificate's key.
    pub certificate: Fingerprint,
    /// Fingerprint of the private key.
    pub private: Fingerprint,
}

impl KeyPair {
    /// Combines a private key and its certificate.
    ///
    /// # Errors
    ///
    /// Returns [`MismatchedPair`] if they do not match.
    pub fn new(private: PrivateKey, certificate: Certificate) -> Result<Self, MismatchedPair> {
        let fingerprints = (certificate.fingerprint(), private.fingerprint());
        if fingerprints.0 != fingerprints.1 {
            let (certificate, private) = (fingerprints.0.clone(), fingerprints.1.clone());
            return Err(MismatchedPair {
                certificate,
                private,
            });
        }
        Ok(Self {
            private,
            certificate,
        })
    }

    /// Returns the private key, which unseals.
    pub fn private(&self) -> &PrivateKey {
        &self.private
    }

    /// Returns the certificate, which seals.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Returns the fingerprint, which the private key and the certificate share.
    pub fn fingerprint(&self) -> &Fingerprint {
        self.private.fingerprint()
    }

    /// Splits the pair into private key and certificate.
    pub fn into_halves(self) -> (PrivateKey, Certificate) {
        (self.private, self.certificate)
    }
}

/// Returns a small key for the unit tests of this crate, generated once.
#[cfg(test)]
pub(crate) fn test_key() -> &'static KeyPair {
    static KEY: std::sync::LazyLock<KeyPair> =
        std::sync::LazyLock::new(|| new_test_key(1_700_000_000).pair);
    &KEY
}

/// Returns a small key for the unit tests of this crate, created at this Unix time. Returns the same key for the
/// same second, because generating keys would take most of the time of the tests.
#[cfg(test)]
pub(crate) fn new_test_key(second: i64) -> NewKey {
    static GENERATED: std::sync::Mutex<std::collections::BTreeMap<i64, NewKey>> =
        std::sync::Mutex::new(std::collections::BTreeMap::new());
    let mut keys = GENERATED.lock().unwrap();
    let new = keys
        .entry(second)
        .or_insert_with(|| generate::tests::new_key(second));
    let private = PrivateKey::from_pem(new.private_pem.expose()).unwrap();
    let certificate = Certificate::from_pem(new.pair.certificate().to_pem().as_bytes()).unwrap();
    NewKey {
        pair: KeyPair::new(private, certificate).unwrap(),
        private_pem: new.private_pem.clone(),
    }
}
