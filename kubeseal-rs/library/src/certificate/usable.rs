//! Parses PEM into a certificate to seal with.

use jiff::Timestamp;
use shared::key::{Certificate, CertificateError, Validity, contains_private_key};

/// The source of the certificate. It determines the hint for an expired certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A file, a URL or the cache.
    Local,
    /// The controller, or the `ConfigMap` in which it publishes its certificate.
    Controller,
}

/// Why a certificate cannot be used for sealing.
#[derive(Debug, thiserror::Error)]
pub enum UseError {
    /// The certificate cannot be parsed.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The input is a recipient of v2 values.
    #[error(
        "it is a recipient of v2 values, not a certificate\n\
         hint: pass it with --recipient and --sealed-format v2, or list it under `recipients` of a rule with `format: v2`"
    )]
    Recipient,
    /// The input is a private key for v2 values, or any age identity. The message does not quote the key.
    #[error(
        "it is a private key, which must be kept secret, not a certificate\nhint: remove it, and pass the public key"
    )]
    PrivateKey,
    /// The certificate has expired.
    #[error("failed to encrypt using an expired certificate on {date}\nhint: {}", hint(*origin))]
    Expired {
        /// The last day of validity, such as `January 2, 2006` (UTC).
        date: String,
        /// The source of the certificate.
        origin: Origin,
    },
}

fn hint(origin: Origin) -> &'static str {
    match origin {
        Origin::Local => "fetch the current one, for example with `kubeseal --fetch-cert`",
        Origin::Controller => {
            "the newest key of the controller has expired: request a new one with the annotation \
             sealedsecrets.bitnami.com/renew=true on the newest key Secret, or let the controller renew keys \
             automatically (--key-renew-period)"
        }
    }
}

/// Parses the certificate to seal with, and returns it with warnings about it.
///
/// # Errors
///
/// Fails if the input contains no usable certificate, or the certificate has expired.
pub fn parse(pem: &[u8], now: Timestamp) -> Result<(Certificate, Vec<String>), UseError> {
    parse_from(Origin::Local, pem, now)
}

/// Like [`parse`], for a certificate from any origin.
///
/// # Errors
///
/// Fails like [`parse`].
pub fn parse_from(
    origin: Origin,
    pem: &[u8],
    now: Timestamp,
) -> Result<(Certificate, Vec<String>), UseError> {
    let parsed = Certificate::first_of_pem(pem);
    let (certificate, count) = parsed.map_err(|error| v2_key_error(pem).unwrap_or(error.into()))?;
    let mut remarks = Vec::new();
    match certificate.validity(now) {
        Validity::Expired => {
            return Err(UseError::Expired {
                date: format_date(certificate.not_after()),
                origin,
            });
        }
        Validity::NotYet => remarks.push(format!(
            "the certificate is not valid before {}; check the clock of this machine",
            format_date(certificate.not_before())
        )),
        Validity::Valid => {}
    }
    if contains_private_key(pem) {
        remarks.push(
            "the certificate file also contains a private key, which must be kept secret; pass a file that contains only \
             the certificate"
                .to_owned(),
        );
    }
    if count > 1 {
        remarks.push(format!(
            "using the first of {count} certificates ({})",
            certificate.fingerprint()
        ));
    }
    Ok((certificate, remarks))
}

/// Returns the error for input that begins with a recipient or private key for v2 values, or with an age identity;
/// `None` for other input.
fn v2_key_error(text: &[u8]) -> Option<UseError> {
    let text = std::str::from_utf8(text).ok()?;
    let mut lines = text.lines().map(str::trim_ascii);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let begins_with = |prefixes: [&str; 2]| prefixes.iter().any(|prefix| first.starts_with(prefix));
    if begins_with(["seal2-recipient ", "age1pq1"]) {
        Some(UseError::Recipient)
    } else if begins_with(["seal2-key ", "AGE-SECRET-KEY-"]) {
        Some(UseError::PrivateKey)
    } else {
        None
    }
}

/// Formats a date as `January 2, 2006`, in UTC.
fn format_date(time: Timestamp) -> String {
    time.strftime("%B %-d, %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault: a recipient or a private key for v2 is passed as the certificate, and the message names only certificates.
    #[test]
    fn names_other_kinds_of_keys() {
        for (text, want) in [
            ("# c\nseal2-recipient xw a b\n", "a recipient of v2 values"),
            ("age1pq1abc", "a recipient of v2 values"),
            ("seal2-key xw abc", "a private key"),
            ("AGE-SECRET-KEY-PQ-1ABC", "a private key"),
            ("abc", "data does not contain"),
        ] {
            let error = parse(text.as_bytes(), Timestamp::UNIX_EPOCH).unwrap_err();
            assert!(error.to_string().contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn formats_dates_like_upstream() {
        let time: Timestamp = "2006-01-02T15:04:05Z".parse().unwrap();
        assert_eq!(format_date(time), "January 2, 2006");
    }
}
