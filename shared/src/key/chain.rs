use jiff::Timestamp;
use x509_cert::der::Encode;

use super::CertificateError;
use super::certificate::{Parsed, parse_pem, timestamp};

/// A certificate with a key of any algorithm, such as that of a TLS server or of its issuer. Contains no secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainCertificate {
    /// The public key, as the DER of a `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7).
    pub public_key: Vec<u8>,
    /// The first instant of validity.
    pub not_before: Timestamp,
    /// The last instant of validity.
    pub not_after: Timestamp,
}

/// Reads every certificate in PEM data, in order. The result is never empty. Skips other blocks, blocks with headers,
/// and text between blocks. Signatures are not verified.
///
/// # Errors
///
/// Returns an error if the text contains no certificate or a malformed one.
pub fn chain_from_pem(text: &[u8]) -> Result<Vec<ChainCertificate>, CertificateError> {
    let read = |(_, parsed): Parsed| {
        let tbs = parsed.tbs_certificate();
        let public_key = tbs.subject_public_key_info().to_der();
        Ok(ChainCertificate {
            public_key: public_key.map_err(|_| CertificateError::Malformed)?,
            not_before: timestamp(tbs.validity().not_before),
            not_after: timestamp(tbs.validity().not_after),
        })
    };
    parse_pem(text)?.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn self_signed(key: &rcgen::KeyPair) -> String {
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.self_signed(key).unwrap().pem()
    }

    #[test]
    fn reads_certificates_of_all_algorithms_in_order() {
        let keys = [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256]
            .map(|algorithm| rcgen::KeyPair::generate_for(algorithm).unwrap());
        let text = format!(
            "# chain\n{}{}",
            self_signed(&keys[0]),
            self_signed(&keys[1])
        );
        let chain = chain_from_pem(text.as_bytes()).unwrap();
        let public_keys = chain.iter().map(|certificate| &certificate.public_key);
        let want = keys.map(|key| rcgen::PublicKeyData::subject_public_key_info(&key));
        assert_eq!(public_keys.cloned().collect::<Vec<_>>(), want);
    }

    #[test]
    fn refuses_a_chain_with_a_malformed_certificate() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let malformed = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let text = self_signed(&key) + malformed;
        for (text, want) in [
            (text.as_str(), CertificateError::Malformed),
            ("", CertificateError::Missing),
            (&key.serialize_pem(), CertificateError::PrivateKey),
        ] {
            assert_eq!(chain_from_pem(text.as_bytes()), Err(want));
        }
    }
}
