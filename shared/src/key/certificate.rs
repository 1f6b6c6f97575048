use go::pem;
use jiff::Timestamp;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::Decode;

use super::{Fingerprint, PublicKey, PublicKeyError};
use crate::manifest::{self, ReadProblem};

/// A certificate with an RSA key: all that sealing needs. Contains no secrets.
#[derive(Debug)]
pub struct Certificate {
    der: Vec<u8>,
    key: PublicKey,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// The input contains no certificate that can seal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No well-formed `CERTIFICATE` block. Also for DER, a bare public key and `TRUSTED CERTIFICATE`.
    #[error("data does not contain any valid RSA or ECDSA certificates")]
    Missing,
    /// No certificate, but a private key. The message begins as upstream's.
    #[error(
        "data does not contain any valid RSA or ECDSA certificates: it contains a private key, which must not be given \
         away; name the certificate, its public half"
    )]
    PrivateKey,
    /// No certificate, in an encoding that is not decoded. The message begins as upstream's.
    #[error("data does not contain any valid RSA or ECDSA certificates: {0}")]
    Encoding(ReadProblem),
    /// No certificate, but a part of one, or one in another form. The message begins as upstream's.
    #[error("data does not contain any valid RSA or ECDSA certificates: {0}")]
    Damaged(&'static str),
    /// The block is not X.509.
    #[error(
        "the certificate is malformed: the PEM block contains no X.509 certificate, or was truncated or changed; copy or \
         fetch the whole file again"
    )]
    Malformed,
    /// The key of the certificate cannot seal.
    #[error(transparent)]
    Key(#[from] PublicKeyError),
}

/// Relation of an instant to a certificate's validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Within the validity.
    Valid,
    /// Before the first instant.
    NotYet,
    /// After the last instant.
    Expired,
}

impl Certificate {
    /// Reads the first certificate of a PEM text, as upstream reads `--cert` and `tls.crt`. Skips other
    /// blocks, blocks with headers, and text between blocks.
    ///
    /// # Errors
    ///
    /// Returns an error if the text contains no certificate or a malformed one, or the first one cannot seal.
    pub fn from_pem(text: &[u8]) -> Result<Self, CertificateError> {
        Self::first_of_pem(text).map(|(certificate, _)| certificate)
    }

    /// Like [`Self::from_pem`], and also returns the number of certificates in the text.
    ///
    /// # Errors
    ///
    /// Those of [`Self::from_pem`].
    pub fn first_of_pem(text: &[u8]) -> Result<(Self, usize), CertificateError> {
        let is_certificate = |b: &pem::Block| b.label == "CERTIFICATE" && !b.has_headers;
        let found: Vec<pem::Block> = pem::blocks(text).filter(is_certificate).collect();
        let parsed = found
            .iter()
            .map(|block| parse(&block.der))
            .collect::<Result<Vec<_>, _>>()?;
        let (Some(block), Some(first)) = (found.first(), parsed.first()) else {
            return Err(missing(text));
        };
        Ok((Self::from_parsed(block.der.to_vec(), first)?, found.len()))
    }

    /// Reads X.509 DER.
    pub(super) fn from_der(der: Vec<u8>) -> Result<Self, CertificateError> {
        let parsed = parse(&der)?;
        Self::from_parsed(der, &parsed)
    }

    fn from_parsed(der: Vec<u8>, parsed: &CertificateInner<Raw>) -> Result<Self, CertificateError> {
        let tbs = parsed.tbs_certificate();
        let key = PublicKey::from_spki(tbs.subject_public_key_info())?;
        let not_before = timestamp(tbs.validity().not_before);
        let not_after = timestamp(tbs.validity().not_after);
        Ok(Self {
            der,
            key,
            not_before,
            not_after,
        })
    }

    /// Returns the public key, which encrypts.
    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }

    /// Returns the fingerprint of the key.
    pub fn fingerprint(&self) -> &Fingerprint {
        self.key.fingerprint()
    }

    /// Returns the first instant of validity.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// Returns the last instant of validity. An expired certificate must not seal; its key still unseals.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Compares an instant with the validity; both ends count as valid.
    pub fn validity(&self, now: Timestamp) -> Validity {
        if now < self.not_before {
            Validity::NotYet
        } else if now > self.not_after {
            Validity::Expired
        } else {
            Validity::Valid
        }
    }

    /// Returns one `CERTIFICATE` block with lines of 64 characters and a final line break.
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der)
    }
}

/// Returns whether a PEM text contains a private key of any kind.
pub fn contains_private_key(text: &[u8]) -> bool {
    let mark = b"PRIVATE KEY-----";
    text.windows(mark.len()).any(|part| part == mark)
}

/// Returns the most helpful error for a text without a certificate.
fn missing(text: &[u8]) -> CertificateError {
    // The PEM label of every kind of key, the item of a key Secret, and an age identity.
    let marks: [&[u8]; 3] = [b"PRIVATE KEY-----", b"tls.key", b"AGE-SECRET-KEY-"];
    let has = |mark: &&[u8]| text.windows(mark.len()).any(|part| part == *mark);
    if marks.iter().any(has) {
        return CertificateError::PrivateKey;
    }
    match manifest::wrong_encoding(text) {
        Some(problem) => CertificateError::Encoding(problem),
        None => damage(text).map_or(CertificateError::Missing, CertificateError::Damaged),
    }
}

/// Returns why a text that begins or ends a certificate contains none.
fn damage(text: &[u8]) -> Option<&'static str> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let lines = || {
        text.split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii_end)
    };
    if parse(text).is_ok() {
        return Some(
            "it is in DER form; convert it with `openssl x509 -inform der -in FILE -out cert.pem`",
        );
    }
    if !lines().any(|line| line == BEGIN) {
        let has = |mark: &[u8]| text.windows(mark.len()).any(|part| part == mark);
        return (has(BEGIN) || has(b"-----BEGIN CERTIF") || has(END)).then_some(
            "the BEGIN line of the certificate is incomplete, indented or missing; copy or fetch the whole file again",
        );
    }
    let after = || lines().skip_while(|line| *line != BEGIN).skip(1);
    let is_mark = |line: &[u8]| line.starts_with(b"-----");
    let mut body = after().take_while(|line| !is_mark(line));
    let is_ended = after().find(|line| is_mark(line)) == Some(END);
    Some(if is_ended && body.any(|line| line.contains(&b':')) {
        "the PEM block of the certificate has headers; remove them"
    } else if is_ended {
        "the base64 of the certificate is invalid, so it was truncated or changed; copy or fetch the whole file again"
    } else {
        "the certificate has no END line, so it was truncated; copy or fetch the whole file again"
    })
}

/// Parses with a lenient profile, to accept certificates that other tools issued.
fn parse(der: &[u8]) -> Result<CertificateInner<Raw>, CertificateError> {
    CertificateInner::from_der(der).map_err(|_| CertificateError::Malformed)
}

/// Returns the time of a certificate. The last days of the year 9999, which mean "no expiration" (RFC 5280,
/// section 4.1.2.5), are beyond [`Timestamp::MAX`] and become that.
fn timestamp(time: x509_cert::time::Time) -> Timestamp {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).ok();
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::test_key;

    #[test]
    fn compares_an_instant_with_the_validity() {
        let certificate = test_key().certificate();
        let second = jiff::SignedDuration::from_secs(1);
        for (now, want) in [
            (certificate.not_before() - second, Validity::NotYet),
            (certificate.not_before(), Validity::Valid),
            (certificate.not_after(), Validity::Valid),
            (certificate.not_after() + second, Validity::Expired),
        ] {
            assert_eq!(certificate.validity(now), want, "{now}");
        }
    }

    /// RFC 5280, section 4.1.2.5: the last second of the year 9999 means that the certificate does not
    /// expire.
    #[test]
    fn a_certificate_without_expiration_is_valid() {
        let pkcs8 = crate::key::generate::new_rsa_key(crate::key::KeySize::Rsa2048).unwrap();
        let der = pkcs8.as_ref().into();
        let signer = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_RSA_SHA256);
        for (year, month, day) in [(9999, 12, 31), (9999, 12, 30), (9999, 1, 1)] {
            let mut params = rcgen::CertificateParams::default();
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, month, day);
            let issued = params.self_signed(signer.as_ref().unwrap()).unwrap();
            let read = Certificate::from_der(issued.der().to_vec()).unwrap();
            let now = "2026-11-29T00:00:00Z".parse().unwrap();
            assert_eq!(read.validity(now), Validity::Valid, "{year}-{month}-{day}");
            assert_eq!(
                read.validity(Timestamp::MAX),
                if day == 31 {
                    Validity::Valid
                } else {
                    Validity::Expired
                }
            );
        }
    }

    #[test]
    fn reads_what_it_writes() {
        let certificate = test_key().certificate();
        let read = Certificate::from_pem(certificate.to_pem().as_bytes()).unwrap();
        assert_eq!(read.to_pem(), certificate.to_pem());
        assert_eq!(read.fingerprint(), certificate.fingerprint());
    }

    #[test]
    fn reads_the_first_of_a_bundle_and_refuses_other_blocks() {
        let pem = test_key().certificate().to_pem();
        let public_key = pem.replace("CERTIFICATE", "PUBLIC KEY");
        assert!(
            Certificate::from_pem(format!("# bundle\n{public_key}{pem}{pem}").as_bytes()).is_ok()
        );
        assert_eq!(
            Certificate::first_of_pem(format!("{pem}{pem}").as_bytes())
                .unwrap()
                .1,
            2
        );
        for text in [
            "",
            &public_key,
            &pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
        ] {
            let got = Certificate::from_pem(text.as_bytes()).unwrap_err();
            assert_eq!(got, CertificateError::Missing);
        }
    }

    /// Attack: asks a user for the certificate, who sends or names the private key.
    #[test]
    fn a_private_key_is_called_one_and_not_shown() {
        let body = "aHVudGVyMg==";
        let pem = |label: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        for text in [
            pem("PRIVATE KEY"),
            pem("RSA PRIVATE KEY"),
            pem("ENCRYPTED PRIVATE KEY"),
            pem("PRIVATE KEY").replace("-----END", "----END"),
            format!("kind: Secret\ndata: {{tls.key: {body}}}\n"),
            "AGE-SECRET-KEY-1X\n".to_owned(),
        ] {
            let error = Certificate::from_pem(text.as_bytes()).unwrap_err();
            assert_eq!(error, CertificateError::PrivateKey, "{text}");
            assert!(!error.to_string().contains(body));
        }
    }

    #[test]
    fn an_encoding_that_is_not_decoded_is_named() {
        let pem = test_key().certificate().to_pem();
        let little: Vec<u8> = pem.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let cut = &little[..little.len() - 1];
        let marked = [b"\xff\xfe", cut].concat();
        let wide: Vec<u8> = pem
            .chars()
            .flat_map(|c| u32::from(c).to_le_bytes())
            .collect();
        let wide_marked = [b"\xff\xfe\0\0", &wide[..]].concat();
        for (bytes, want) in [
            (cut, "UTF-16"),
            (&marked, "UTF-16"),
            (&wide, "UTF-32"),
            (&wide_marked, "UTF-32"),
        ] {
            let error = Certificate::from_pem(bytes).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
            assert!(error.starts_with(&CertificateError::Missing.to_string()));
        }
    }

    #[test]
    fn a_part_of_a_certificate_is_named() {
        let pem = test_key().certificate().to_pem();
        let end = "-----END CERTIFICATE-----\n";
        let body = pem.strip_suffix(end).unwrap();
        let half = |text: &str| text[..text.len() / 2].to_owned();
        for (text, want) in [
            (half(&pem), "no END line"),
            (body.to_owned(), "no END line"),
            (pem.replace("END CERTIFICATE", "END CERT"), "no END line"),
            (half(&pem) + "*\n" + end, "base64"),
            (pem.replace("MII", "Proc-Type: 4\n\nMII"), "headers"),
            (pem.replacen("MII", "M*I", 1), "base64"),
            (pem[1..].to_owned(), "BEGIN line"),
            (pem[80..].to_owned(), "BEGIN line"),
            ("-----BEGIN CERTIFI".to_owned(), "BEGIN line"),
            (pem.replace("-----B", "  -----B"), "BEGIN line"),
            (half(&pem).replace('\n', "\r\n"), "no END line"),
        ] {
            let error = Certificate::from_pem(text.as_bytes()).unwrap_err();
            let shown = error.to_string();
            assert!(shown.contains(want), "{want}: {shown}\n{text}");
            assert!(shown.starts_with(&CertificateError::Missing.to_string()));
        }
        for at in "-----BEGIN CERTIF".len()..body.len() - 1 {
            for text in [pem[..at].to_owned(), format!("{}\n{end}", &pem[..at])] {
                let error = Certificate::from_pem(text.as_bytes()).unwrap_err();
                assert_ne!(error, CertificateError::Missing, "{text}");
            }
        }
        let der = &test_key().certificate().der;
        let error = Certificate::from_pem(der).unwrap_err();
        assert!(error.to_string().contains("DER"), "{error}");
        let cut = pem::encode("CERTIFICATE", &der[..der.len() / 2]);
        let error = Certificate::from_pem(cut.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("truncated"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn never_panics_on_arbitrary_der(der: Vec<u8>) {
            let _ = Certificate::from_der(der);
        }
    }
}
