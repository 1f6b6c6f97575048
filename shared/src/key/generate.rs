use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::PrivateDecryptingKey;
use go::pem;
use jiff::{SignedDuration, Timestamp};
use pkcs8::der::Decode;
use rand::CryptoRng;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose,
    SerialNumber,
};

use super::{Certificate, KeyPair, PrivateKey};
use crate::plain::Plain;

/// Size in bits of a new RSA key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeySize {
    /// 2048 bits.
    Rsa2048,
    /// 3072 bits.
    Rsa3072,
    /// 4096 bits, upstream's default.
    #[default]
    Rsa4096,
    /// 8192 bits: unsealing a value takes about eight times as long as with 4096 bits.
    Rsa8192,
}

/// The number is not a supported key size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unsupported key size {0}: must be 2048, 3072, 4096 or 8192 bits")]
pub struct UnknownKeySize(pub i64);

impl TryFrom<i64> for KeySize {
    type Error = UnknownKeySize;

    fn try_from(bits: i64) -> Result<Self, UnknownKeySize> {
        match bits {
            2048 => Ok(Self::Rsa2048),
            3072 => Ok(Self::Rsa3072),
            4096 => Ok(Self::Rsa4096),
            8192 => Ok(Self::Rsa8192),
            _ => Err(UnknownKeySize(bits)),
        }
    }
}

/// Parameters of a new key.
#[derive(Debug, Clone)]
pub struct KeySpec {
    /// Size of the RSA key.
    pub size: KeySize,
    /// Validity of the certificate, from its creation.
    pub ttl: SignedDuration,
    /// Common name of issuer and subject; empty for an empty distinguished name.
    pub common_name: String,
}

/// A newly generated key.
#[derive(Debug)]
pub struct NewKey {
    /// The key and its self-signed certificate.
    pub pair: KeyPair,
    /// The private key as a PEM block `RSA PRIVATE KEY` (PKCS#1), the format in which upstream stores it.
    pub private_pem: Plain,
}

/// Why a key could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// aws-lc could not generate a key, or the new key or certificate cannot be read.
    #[error("aws-lc could not generate an RSA key")]
    Key,
    /// `now + ttl` is after the last year that a certificate can express.
    #[error("the certificate would expire after the year 9999; choose a shorter validity")]
    Validity,
    /// The certificate could not be issued.
    #[error("cannot issue the certificate")]
    Certificate(#[from] rcgen::Error),
}

impl KeySpec {
    /// Generates a key and its self-signed certificate with the same properties as upstream (X.509 v3, random
    /// serial below 2^128, `encipherOnly`, CA without path length, subject key id), valid from `now`,
    /// truncated to seconds. Takes about a second for 4096 bits.
    ///
    /// `rng` generates the serial number; the key itself draws its randomness from aws-lc-rs.
    ///
    /// # Errors
    ///
    /// Returns [`GenerateError`] if aws-lc fails, or if the certificate would expire after the year 9999.
    pub fn generate(
        &self,
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Result<NewKey, GenerateError> {
        let pkcs8 = new_rsa_key(self.size).ok_or(GenerateError::Key)?;
        let params = self.certificate_params(now, rng)?;
        let der = pkcs8.as_ref().into();
        let signer = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_RSA_SHA256)?;
        let issued = params.self_signed(&signer)?;

        let private = PrivateKey::from_pkcs8(pkcs8.as_ref()).map_err(|_| GenerateError::Key)?;
        let certificate =
            Certificate::from_der(issued.der().to_vec()).map_err(|_| GenerateError::Key)?;
        let private_pem = pkcs1_pem(pkcs8.as_ref()).ok_or(GenerateError::Key)?;
        let pair = KeyPair::new(private, certificate).map_err(|_| GenerateError::Key)?;
        Ok(NewKey { pair, private_pem })
    }

    fn certificate_params(
        &self,
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Result<CertificateParams, GenerateError> {
        let end = now
            .checked_add(self.ttl)
            .map_err(|_| GenerateError::Validity)?;
        let mut params = CertificateParams::default();
        params.not_before = date_time(now).ok_or(GenerateError::Validity)?;
        params.not_after = date_time(end).ok_or(GenerateError::Validity)?;
        params.serial_number = Some(serial_number(rng));
        params.distinguished_name = DistinguishedName::new();
        if !self.common_name.is_empty() {
            params
                .distinguished_name
                .push(DnType::CommonName, self.common_name.as_str());
        }
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::EncipherOnly];
        Ok(params)
    }
}

pub(super) fn new_rsa_key(size: KeySize) -> Option<Pkcs8V1Der<'static>> {
    let size = match size {
        KeySize::Rsa2048 => aws_lc_rs::rsa::KeySize::Rsa2048,
        KeySize::Rsa3072 => aws_lc_rs::rsa::KeySize::Rsa3072,
        KeySize::Rsa4096 => aws_lc_rs::rsa::KeySize::Rsa4096,
        KeySize::Rsa8192 => aws_lc_rs::rsa::KeySize::Rsa8192,
    };
    PrivateDecryptingKey::generate(size).ok()?.as_der().ok()
}

fn serial_number(rng: &mut impl CryptoRng) -> SerialNumber {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    SerialNumber::from_slice(&bytes)
}

fn date_time(timestamp: Timestamp) -> Option<time::OffsetDateTime> {
    time::OffsetDateTime::from_unix_timestamp(timestamp.as_second()).ok()
}

fn pkcs1_pem(pkcs8: &[u8]) -> Option<Plain> {
    let info = pkcs8::PrivateKeyInfoRef::from_der(pkcs8).ok()?;
    let der = info.private_key.as_bytes();
    Some(Plain::from(pem::encode("RSA PRIVATE KEY", der)))
}

#[cfg(test)]
pub(crate) mod tests {
    use rand::{SeedableRng, rngs::StdRng};
    use x509_cert::certificate::{CertificateInner, Raw};
    use x509_cert::der::Decode;

    use super::*;

    pub(crate) fn new_key(now: i64) -> NewKey {
        let spec = KeySpec {
            size: KeySize::Rsa2048,
            ttl: SignedDuration::from_hours(87_600),
            common_name: String::new(),
        };
        let mut rng = StdRng::seed_from_u64(now.cast_unsigned());
        spec.generate(Timestamp::from_second(now).unwrap(), &mut rng)
            .unwrap()
    }

    #[test]
    fn issues_the_same_certificate_as_upstream() {
        let key = new_key(1_700_000_000);
        let pem = key.pair.certificate().to_pem();
        let block = pem::blocks(pem.as_bytes()).next().unwrap();
        let parsed = CertificateInner::<Raw>::from_der(&block.der).unwrap();
        let tbs = parsed.tbs_certificate();
        assert_eq!(tbs.issuer().to_string(), "");
        assert_eq!(tbs.subject().to_string(), "");
        let extensions: Vec<_> = tbs
            .extensions()
            .unwrap()
            .iter()
            .map(|e| {
                (
                    e.extn_id.to_string(),
                    e.critical,
                    e.extn_value.as_bytes().to_vec(),
                )
            })
            .collect();
        let find = |oid: &str| extensions.iter().find(|(id, ..)| id == oid).unwrap();
        assert_eq!(extensions.len(), 3, "{extensions:?}");
        assert_eq!(
            *find("2.5.29.15"),
            ("2.5.29.15".into(), true, vec![3, 2, 0, 1])
        );
        assert_eq!(
            *find("2.5.29.19"),
            ("2.5.29.19".into(), true, vec![0x30, 3, 1, 1, 0xff])
        );
        assert!(!find("2.5.29.14").1, "subject key id is not critical");
    }

    #[test]
    fn accepts_four_key_sizes() {
        use KeySize::{Rsa2048, Rsa3072, Rsa4096, Rsa8192};
        for (bits, size) in [
            (2048, Rsa2048),
            (3072, Rsa3072),
            (4096, Rsa4096),
            (8192, Rsa8192),
        ] {
            assert_eq!(KeySize::try_from(bits), Ok(size));
        }
        for bits in [-2048, 0, 1024, 2047, 16384] {
            assert_eq!(KeySize::try_from(bits), Err(UnknownKeySize(bits)));
        }
    }

    #[test]
    fn the_certificate_is_valid_from_now_for_the_ttl() {
        let certificate = new_key(1_700_000_000).pair.into_halves().1;
        assert_eq!(certificate.not_before().as_second(), 1_700_000_000);
        assert_eq!(
            certificate.not_after().as_second(),
            1_700_000_000 + 87_600 * 3600
        );
    }

    #[test]
    fn the_private_pem_contains_the_same_key_as_pkcs1() {
        let key = new_key(0);
        assert!(
            key.private_pem
                .expose()
                .starts_with(b"-----BEGIN RSA PRIVATE KEY-----\n")
        );
        let parsed = PrivateKey::from_pem(key.private_pem.expose()).unwrap();
        assert_eq!(parsed.fingerprint(), key.pair.fingerprint());
    }
}
