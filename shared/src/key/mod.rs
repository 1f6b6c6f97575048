//! One RSA key and its certificate: make, parse, PEM, fingerprint, validity.
//!
//! Private-key operations run in aws-lc-rs (constant time, blinded); making a key and OAEP draw
//! their randomness there.

mod certificate;
mod fingerprint;
mod generate;
mod pem;
mod private;
mod public;

pub use certificate::{Certificate, CertificateError, Validity};
pub use fingerprint::{Fingerprint, MalformedFingerprint};
pub use generate::{GenerateError, KeySize, KeySpec, NewKey, UnknownKeySize};
pub use private::{PrivateKey, PrivateKeyError, private_key_operations};
pub use public::{PublicKey, PublicKeyError};

/// A private key with the certificate whose public key it matches.
#[derive(Debug)]
pub struct KeyPair {
    private: PrivateKey,
    certificate: Certificate,
}

/// The certificate is not that of the private key: what is sealed with it could never be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the certificate ({certificate}) does not belong to the private key ({private}); \
     put the two that were made together into one Secret"
)]
pub struct MismatchedPair {
    /// Fingerprint of the certificate's key.
    pub certificate: Fingerprint,
    /// Fingerprint of the private key.
    pub private: Fingerprint,
}

impl KeyPair {
    /// Joins the two halves.
    ///
    /// # Errors
    ///
    /// [`MismatchedPair`] if they do not belong together.
    pub fn new(private: PrivateKey, certificate: Certificate) -> Result<Self, MismatchedPair> {
        let pair = (certificate.fingerprint(), private.fingerprint());
        if pair.0 != pair.1 {
            let (certificate, private) = (pair.0.clone(), pair.1.clone());
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

    /// The half that opens.
    pub fn private(&self) -> &PrivateKey {
        &self.private
    }

    /// The half that seals.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Equal for both halves.
    pub fn fingerprint(&self) -> &Fingerprint {
        self.private.fingerprint()
    }

    /// Takes the pair apart.
    pub fn into_halves(self) -> (PrivateKey, Certificate) {
        (self.private, self.certificate)
    }
}

/// One small key for the unit tests of this crate, made once.
#[cfg(test)]
pub(crate) fn test_key() -> &'static KeyPair {
    static KEY: std::sync::LazyLock<KeyPair> =
        std::sync::LazyLock::new(|| new_test_key(1_700_000_000).pair);
    &KEY
}

/// A small key for the unit tests of this crate, as old as the second says: the same for the same
/// second, since most of the time of these tests would go into making keys.
#[cfg(test)]
pub(crate) fn new_test_key(second: i64) -> NewKey {
    static MADE: std::sync::Mutex<std::collections::BTreeMap<i64, NewKey>> =
        std::sync::Mutex::new(std::collections::BTreeMap::new());
    let mut made = MADE.lock().unwrap();
    let made = made
        .entry(second)
        .or_insert_with(|| generate::tests::new_key(second));
    let private = PrivateKey::from_pem(made.private_pem.expose()).unwrap();
    let certificate = Certificate::from_pem(made.pair.certificate().to_pem().as_bytes()).unwrap();
    NewKey {
        pair: KeyPair::new(private, certificate).unwrap(),
        private_pem: made.private_pem.clone(),
    }
}
