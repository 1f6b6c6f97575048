use go::pem;
use jiff::Timestamp;
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::Decode;

use super::{Fingerprint, PublicKey, PublicKeyError};
use crate::manifest::{self, ReadProblem};

/// A certificate with an RSA key. Sealing needs no other data. Contains no secrets.
#[derive(Debug)]
pub struct Certificate {
    der: Vec<u8>,
    key: PublicKey,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Why the input contains no certificate that can seal values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The text contains no `CERTIFICATE` block, and nothing that explains why. A block with the label `TRUSTED
    /// CERTIFICATE` does not count.
    #[error("data does not contain any valid RSA or ECDSA certificates")]
    Missing,
    /// The text contains no certificate, but a private key, the string `tls.key` or an age identity. The message begins
    /// like upstream's.
    #[error(
        "data does not contain any valid RSA or ECDSA certificates: it contains a private key, which must be kept \
         secret; pass the certificate instead"
    )]
    PrivateKey,
    /// The text is in an encoding that is not supported. The message begins like upstream's.
    #[error("data does not contain any valid RSA or ECDSA certificates: {0}")]
    Encoding(ReadProblem),
    /// The text contains a damaged certificate, a certificate in an unsupported format, or a certificate signing
    /// request or public key instead. The message begins like upstream's.
    #[error("data does not contain any valid RSA or ECDSA certificates: {0}")]
    Damaged(&'static str),
    /// A `CERTIFICATE` block contains no X.509 certificate.
    #[error(
        "the certificate is malformed: the PEM block contains no X.509 certificate, or was truncated or changed; copy or \
         fetch the whole file again"
    )]
    Malformed,
    /// The key of the certificate cannot seal.
    #[error(transparent)]
    Key(#[from] PublicKeyError),
}

/// Whether an instant is before, within or after the validity of a certificate or of a v2 key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Within the validity.
    Valid,
    /// Before the first instant.
    NotYet,
    /// After the last instant.
    Expired,
}

impl Validity {
    /// Returns whether an instant is before, within or after a validity.
    pub fn at(now: Timestamp, not_before: Timestamp, not_after: Timestamp) -> Self {
        if now < not_before {
            Self::NotYet
        } else if now > not_after {
            Self::Expired
        } else {
            Self::Valid
        }
    }
}

impl Certificate {
    /// Reads the first certificate in PEM data, as upstream reads `--cert` and `tls.crt`. Skips other blocks, blocks
    /// with headers, and text between blocks.
    ///
    /// # Errors
    ///
    /// Returns an error if the text contains no certificate or a malformed one, or if the first certificate cannot
    /// seal.
    pub fn from_pem(text: &[u8]) -> Result<Self, CertificateError> {
        Self::first_of_pem(text).map(|(certificate, _)| certificate)
    }

    /// Like [`Self::from_pem`], and also returns the number of certificates in the text.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::from_pem`].
    pub fn first_of_pem(text: &[u8]) -> Result<(Self, usize), CertificateError> {
        let mut certificates = parse_pem(text)?;
        let count = certificates.len();
        let (der, first) = certificates.swap_remove(0);
        Ok((Self::from_parsed(der, &first)?, count))
    }

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

    /// Returns the public key, which encrypts values.
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
        Validity::at(now, self.not_before, self.not_after)
    }

    /// Returns one `CERTIFICATE` block with lines of 64 characters and a final line break.
    pub fn to_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.der)
    }
}

/// The DER of a certificate, and the parsed certificate.
pub(super) type Parsed = (Vec<u8>, CertificateInner<Raw>);

/// Parses every certificate in PEM data. The result is never empty. Skips other blocks, blocks with headers, and text
/// between blocks.
pub(super) fn parse_pem(text: &[u8]) -> Result<Vec<Parsed>, CertificateError> {
    let is_certificate = |b: &pem::Block| b.label == "CERTIFICATE" && !b.has_headers;
    let blocks = pem::blocks(text).filter(is_certificate);
    let certificates = blocks
        .map(|block| parse(&block.der).map(|parsed| (block.der.to_vec(), parsed)))
        .collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() {
        return Err(explain_missing(text));
    }
    Ok(certificates)
}

/// Returns whether PEM data contains a private key of any kind.
pub fn contains_private_key(text: &[u8]) -> bool {
    let marker = b"PRIVATE KEY-----";
    text.windows(marker.len()).any(|part| part == marker)
}

/// Returns the most specific error for input without a certificate.
fn explain_missing(text: &[u8]) -> CertificateError {
    // The PEM label of every kind of private key, the item of a key Secret, and an age identity.
    let markers: [&[u8]; 3] = [b"PRIVATE KEY-----", b"tls.key", b"AGE-SECRET-KEY-"];
    let has = |marker: &&[u8]| text.windows(marker.len()).any(|part| part == *marker);
    if markers.iter().any(has) {
        return CertificateError::PrivateKey;
    }
    match manifest::wrong_encoding(text) {
        Some(problem) => CertificateError::Encoding(problem),
        None => explain_damage(text).map_or(CertificateError::Missing, CertificateError::Damaged),
    }
}

/// Returns why the input contains no readable certificate, although it is DER or contains a part of a PEM marker;
/// `None` for other input.
fn explain_damage(text: &[u8]) -> Option<&'static str> {
    const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let has = |marker: &[u8]| text.windows(marker.len()).any(|part| part == marker);
    if has(b"CERTIFICATE REQUEST-----") {
        return Some(
            "it is a certificate signing request; pass the certificate that was issued for it",
        );
    }
    if has(b"-----BEGIN PUBLIC KEY-----") {
        return Some("it is a public key; pass the certificate, which contains the public key");
    }
    if has(BEGIN) && text.contains(&b'\r') && !text.contains(&b'\n') {
        return Some(
            "its lines end with carriage returns alone; convert them with `tr '\\r' '\\n' < FILE > cert.pem`",
        );
    }
    let lines = || {
        text.split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii_end)
    };
    if parse(text).is_ok() {
        return Some(
            "it is in DER format; convert it with `openssl x509 -inform der -in FILE -out cert.pem`",
        );
    }
    if !lines().any(|line| line == BEGIN) {
        return (has(BEGIN) || has(b"-----BEGIN CERTIF") || has(END)).then_some(
            "the BEGIN line of the certificate is incomplete, indented or missing; copy or fetch the whole file again",
        );
    }
    let lines_after_begin = || lines().skip_while(|line| *line != BEGIN).skip(1);
    let is_marker = |line: &[u8]| line.starts_with(b"-----");
    let mut body = lines_after_begin().take_while(|line| !is_marker(line));
    let has_end = lines_after_begin().find(|line| is_marker(line)) == Some(END);
    Some(if has_end && body.any(|line| line.contains(&b':')) {
        "the PEM block of the certificate has headers; remove them"
    } else if has_end {
        "the base64 of the certificate is invalid, so it was truncated or changed; copy or fetch the whole file again"
    } else {
        "the certificate has no END line, so it was truncated; copy or fetch the whole file again"
    })
}

/// Parses with a lenient profile, to accept certificates that were issued by other tools.
fn parse(der: &[u8]) -> Result<CertificateInner<Raw>, CertificateError> {
    CertificateInner::from_der(der).map_err(|_| CertificateError::Malformed)
}

/// Returns the time of a certificate, at most [`Timestamp::MAX`]. The last second of the year 9999, which means "no
/// expiration" (RFC 5280, section 4.1.2.5), is later.
pub(super) fn timestamp(time: x509_cert::time::Time) -> Timestamp {
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
            let parsed = Certificate::from_der(issued.der().to_vec()).unwrap();
            let now = "2026-11-29T00:00:00Z".parse().unwrap();
            assert_eq!(
                parsed.validity(now),
                Validity::Valid,
                "{year}-{month}-{day}"
            );
            assert_eq!(
                parsed.validity(Timestamp::MAX),
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
        let parsed = Certificate::from_pem(certificate.to_pem().as_bytes()).unwrap();
        assert_eq!(parsed.to_pem(), certificate.to_pem());
        assert_eq!(parsed.fingerprint(), certificate.fingerprint());
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
        for text in ["", &pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE")] {
            let error = Certificate::from_pem(text.as_bytes()).unwrap_err();
            assert_eq!(error, CertificateError::Missing);
        }
        for (text, want) in [
            (public_key, "a public key"),
            (
                pem.replace("CERTIFICATE", "CERTIFICATE REQUEST"),
                "a certificate signing request",
            ),
            (
                pem.replace('\n', "\r"),
                "lines end with carriage returns alone",
            ),
        ] {
            let error = Certificate::from_pem(text.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    /// Attack: an attacker asks a user for the certificate, hoping that the user passes the file of the private key by
    /// mistake and sends the error message.
    #[test]
    fn reports_a_private_key_without_quoting_it() {
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
    fn names_an_unsupported_encoding() {
        let pem = test_key().certificate().to_pem();
        let utf16: Vec<u8> = pem.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let truncated = &utf16[..utf16.len() - 1];
        let truncated_with_mark = [b"\xff\xfe", truncated].concat();
        let utf32: Vec<u8> = pem
            .chars()
            .flat_map(|c| u32::from(c).to_le_bytes())
            .collect();
        let utf32_with_mark = [b"\xff\xfe\0\0", &utf32[..]].concat();
        for (bytes, want) in [
            (truncated, "UTF-16"),
            (&truncated_with_mark, "UTF-16"),
            (&utf32, "UTF-32"),
            (&utf32_with_mark, "UTF-32"),
        ] {
            let error = Certificate::from_pem(bytes).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
            assert!(error.starts_with(&CertificateError::Missing.to_string()));
        }
    }

    #[test]
    fn reports_what_is_wrong_with_an_incomplete_certificate() {
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
            let message = error.to_string();
            assert!(message.contains(want), "{want}: {message}\n{text}");
            assert!(message.starts_with(&CertificateError::Missing.to_string()));
        }
        for len in "-----BEGIN CERTIF".len()..body.len() - 1 {
            for text in [pem[..len].to_owned(), format!("{}\n{end}", &pem[..len])] {
                let error = Certificate::from_pem(text.as_bytes()).unwrap_err();
                assert_ne!(error, CertificateError::Missing, "{text}");
            }
        }
        let der = &test_key().certificate().der;
        let error = Certificate::from_pem(der).unwrap_err();
        assert!(error.to_string().contains("DER"), "{error}");
        let truncated = pem::encode("CERTIFICATE", &der[..der.len() / 2]);
        let error = Certificate::from_pem(truncated.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("truncated"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn never_panics_on_arbitrary_der(der: Vec<u8>) {
            let _ = Certificate::from_der(der);
        }
    }
}
