//! PEM → a certificate to seal with.

use jiff::Timestamp;
use shared::key::{Certificate, CertificateError, Validity};

/// Who gave the certificate, which decides what helps when it cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `--cert`, or what was kept for later.
    Given,
    /// The controller.
    Controller,
}

/// The certificate cannot seal.
#[derive(Debug, thiserror::Error)]
pub enum UseError {
    /// It cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Its time is over.
    #[error("failed to encrypt using an expired certificate on {date}; {}", advice(*origin))]
    Expired {
        /// Last day of validity.
        date: String,
        /// Whose it is.
        origin: Origin,
    },
}

fn advice(origin: Origin) -> &'static str {
    match origin {
        Origin::Given => "fetch the current one, for example with `kubeseal --fetch-cert`",
        Origin::Controller => {
            "the newest key of the controller has run out: make it a new one with the annotation \
             sealedsecrets.bitnami.com/renew=true on its newest key Secret, or let it renew keys by itself \
             (--key-renew-period)"
        }
    }
}

/// Reads the certificate to seal with, and says what is odd about it.
///
/// # Errors
///
/// It is unusable or expired.
pub fn parse(pem: &[u8], now: Timestamp) -> Result<(Certificate, Vec<String>), UseError> {
    parse_of(Origin::Given, pem, now)
}

/// As [`parse`], for whoever gave it.
///
/// # Errors
///
/// The same.
pub fn parse_of(
    origin: Origin,
    pem: &[u8],
    now: Timestamp,
) -> Result<(Certificate, Vec<String>), UseError> {
    let (certificate, count) = Certificate::first_of_pem(pem)?;
    let mut remarks = Vec::new();
    match certificate.validity(now) {
        Validity::Expired => {
            return Err(UseError::Expired {
                date: day(certificate.not_after()),
                origin,
            });
        }
        Validity::NotYet => remarks.push(format!(
            "the certificate is not valid before {}; is the clock of this machine right?",
            day(certificate.not_before())
        )),
        Validity::Valid => {}
    }
    if count > 1 {
        remarks.push(format!(
            "of {count} certificates the first one is used ({})",
            certificate.fingerprint()
        ));
    }
    Ok((certificate, remarks))
}

/// `January 2, 2006`, in UTC.
fn day(at: Timestamp) -> String {
    at.strftime("%B %-d, %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_read_as_the_peers() {
        let at: Timestamp = "2006-01-02T15:04:05Z".parse().unwrap();
        assert_eq!(day(at), "January 2, 2006");
    }
}
