//! The certificates and the private key of a TLS server.

use jiff::{SignedDuration, Timestamp};
use shared::key::{
    CertificateError, ChainCertificate, Validity, chain_from_pem, contains_private_key,
};

use super::{is_encrypted, parse_key, private_key};

/// The remaining validity below which a certificate causes a warning.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Why a server cannot use a private key with its certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text contains no private key.
    #[error(
        "it contains no private key in PEM format\nhint: pass the certificate first, then its private key"
    )]
    Missing,
    /// A passphrase protects the key.
    #[error(
        "the private key is protected by a passphrase, which no server can enter\n\
         hint: decrypt it first, for example with `openssl pkey -in FILE -out key.pem`"
    )]
    Encrypted,
    /// The key cannot be parsed, or its kind is not supported.
    #[error(
        "the private key is malformed, or none of RSA (2048 to 8192 bits), ECDSA (P-256, P-384, P-521) and Ed25519\n\
         hint: to seal it without this check, pass --type kubernetes.io/tls, --from-file tls.crt=FILE and \
         --from-file tls.key=FILE"
    )]
    Unsupported,
    /// The key belongs to none of the certificates.
    #[error(
        "the private key does not match the certificate\n\
         hint: pass the private key for which the certificate was issued"
    )]
    Mismatch,
    /// The key belongs to a certificate that is not the first. Contains its position, counted from one.
    #[error(
        "the private key matches certificate {0} of the chain, not the first\n\
         hint: servers send the chain in this order, so begin it with the certificate of this key"
    )]
    Order(usize),
}

/// The certificates that a server sends: its own, then those of its issuers.
#[derive(Debug)]
pub struct Chain {
    certificates: Vec<ChainCertificate>,
    has_private_key: bool,
}

impl Chain {
    /// Parses the certificates in PEM data. Signatures are not verified.
    ///
    /// # Errors
    ///
    /// Returns an error if the text contains no certificate or a malformed one.
    pub fn parse(text: &[u8]) -> Result<Self, CertificateError> {
        Ok(Self {
            certificates: chain_from_pem(text)?,
            has_private_key: contains_private_key(text),
        })
    }

    /// Checks that the first private key in PEM data belongs to the first certificate.
    ///
    /// # Errors
    ///
    /// Returns a [`KeyError`] if the text contains no usable private key, or if the key does not match.
    pub fn check_key(&self, text: &[u8]) -> Result<(), KeyError> {
        let block = private_key(text).ok_or(KeyError::Missing)?;
        if is_encrypted(&block) {
            return Err(KeyError::Encrypted);
        }
        let key = parse_key(&block).ok_or(KeyError::Unsupported)?;
        let public_key = key.public_key().ok_or(KeyError::Unsupported)?;
        let is_match = |certificate: &ChainCertificate| *certificate.public_key == *public_key;
        match self.certificates.iter().position(is_match) {
            Some(0) => Ok(()),
            Some(index) => Err(KeyError::Order(index + 1)),
            None => Err(KeyError::Mismatch),
        }
    }

    /// Returns warnings about certificates that are not valid now or will not be in 30 days, and about a private key
    /// among the certificates.
    pub fn warnings(&self, now: Timestamp) -> Vec<String> {
        let certificates = self.certificates.iter().enumerate();
        let mut warnings: Vec<String> = certificates
            .filter_map(|(index, certificate)| {
                let state = validity_warning(certificate, now)?;
                Some(format!("{} {state}", self.name(index)))
            })
            .collect();
        if self.has_private_key {
            let message = "it also contains a private key, which becomes part of tls.crt";
            warnings.push(message.to_owned());
        }
        warnings
    }

    fn name(&self, index: usize) -> String {
        match self.certificates.len() {
            1 => "the certificate".to_owned(),
            count => format!("certificate {} of {count}", index + 1),
        }
    }
}

fn validity_warning(certificate: &ChainCertificate, now: Timestamp) -> Option<String> {
    let (not_before, not_after) = (certificate.not_before, certificate.not_after);
    let day = |time: Timestamp| time.strftime("%Y-%m-%d");
    match Validity::at(now, not_before, not_after) {
        Validity::Expired => Some(format!("expired on {}", day(not_after))),
        Validity::NotYet => Some(format!("is not valid before {}", day(not_before))),
        Validity::Valid if not_after.duration_since(now) < SOON => Some(format!(
            "expires on {}, in less than 30 days",
            day(not_after)
        )),
        Validity::Valid => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    const NOW: &str = "2026-06-15T12:00:00Z";

    /// Returns a certificate for a key, valid from 2026-01-01 until the start of a day.
    fn certificate(key: &KeyPair, (year, month, day): (i32, u8, u8)) -> String {
        let mut params = CertificateParams::new(vec!["shop.example.com".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, month, day);
        params.self_signed(key).unwrap().pem()
    }

    fn keys() -> Vec<KeyPair> {
        [
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_RSA_SHA256,
        ]
        .map(|algorithm| KeyPair::generate_for(algorithm).unwrap())
        .into()
    }

    #[test]
    fn accepts_only_the_key_of_the_first_certificate() {
        let keys = keys();
        for (i, key) in keys.iter().enumerate() {
            let other = &keys[(i + 1) % keys.len()];
            let [own, others] = [key, other].map(|key| certificate(key, (2030, 1, 1)));
            let pem = key.serialize_pem();
            for (text, want) in [
                (own.clone(), Ok(())),
                (format!("{own}{others}"), Ok(())),
                (format!("{others}{own}"), Err(KeyError::Order(2))),
                (others.clone(), Err(KeyError::Mismatch)),
            ] {
                let chain = Chain::parse(text.as_bytes()).unwrap();
                assert_eq!(chain.check_key(pem.as_bytes()), want, "{i}");
            }
        }
    }

    #[test]
    fn reports_why_a_key_cannot_be_used_without_quoting_it() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let own = certificate(&key, (2030, 1, 1));
        let chain = Chain::parse(own.as_bytes()).unwrap();
        let block = |label: &str, body: &str| {
            format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
        };
        let headers = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\naHVudGVyMg==";
        for (text, want) in [
            (String::new(), KeyError::Missing),
            (own.clone(), KeyError::Missing),
            (
                block("ENCRYPTED PRIVATE KEY", "aHVudGVyMg=="),
                KeyError::Encrypted,
            ),
            (block("RSA PRIVATE KEY", headers), KeyError::Encrypted),
            (block("PRIVATE KEY", "aHVudGVyMg=="), KeyError::Unsupported),
            (
                block("DSA PRIVATE KEY", "aHVudGVyMg=="),
                KeyError::Unsupported,
            ),
        ] {
            let error = chain.check_key(text.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains("aHVudGVyMg"), "{error}");
            assert_eq!(error, want, "{text}");
        }
    }

    /// `openssl ecparam -genkey` writes the parameters of the curve before the key.
    #[test]
    fn skips_blocks_before_the_private_key() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let chain = Chain::parse(certificate(&key, (2030, 1, 1)).as_bytes()).unwrap();
        let parameters =
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        let text = parameters.to_owned() + &key.serialize_pem();
        assert_eq!(chain.check_key(text.as_bytes()), Ok(()));
    }

    #[test]
    fn warns_about_certificates_that_are_not_valid_for_30_days() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let good = certificate(&key, (2030, 1, 1));
        let now: Timestamp = NOW.parse().unwrap();
        for (day, want) in [
            ((2026, 6, 15), Some("the certificate expired on 2026-06-15")),
            (
                (2026, 7, 15),
                Some("the certificate expires on 2026-07-15, in less than 30 days"),
            ),
            ((2026, 7, 16), None),
            ((9999, 12, 31), None),
        ] {
            let text = certificate(&key, day);
            let warnings = Chain::parse(text.as_bytes()).unwrap().warnings(now);
            assert_eq!(warnings.first().map(String::as_str), want, "{day:?}");
            let chain = Chain::parse((good.clone() + &text).as_bytes()).unwrap();
            let want = want.map(|want| want.replace("the certificate", "certificate 2 of 2"));
            assert_eq!(chain.warnings(now).first(), want.as_ref(), "{day:?}");
        }
        let early = "2025-06-15T12:00:00Z".parse().unwrap();
        let warnings = Chain::parse(good.as_bytes()).unwrap().warnings(early);
        assert_eq!(warnings, ["the certificate is not valid before 2026-01-01"]);
    }

    #[test]
    fn warns_about_a_private_key_among_the_certificates() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let text = certificate(&key, (2030, 1, 1)) + &key.serialize_pem();
        let warnings = Chain::parse(text.as_bytes()).unwrap();
        let warnings = warnings.warnings(NOW.parse().unwrap());
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("part of tls.crt"), "{warnings:?}");
    }
}
