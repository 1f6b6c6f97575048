use std::fmt;
use std::str::FromStr;

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD_NO_PAD;
use aws_lc_rs::digest::{SHA256, digest};

/// Identifies an RSA key: SHA-256 over its SSH wire encoding (RFC 4253 §6.6), formatted as by
/// `ssh-keygen -l`: `SHA256:` and unpadded base64. Not secret; equal for a private key and its
/// certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

/// The string is not a fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid fingerprint: expected `SHA256:` and 43 characters of base64, as `ssh-keygen -l` prints it"
)]
pub struct MalformedFingerprint;

impl Fingerprint {
    /// Calculates a fingerprint. `exponent` and `modulus` are big-endian without leading zeros.
    pub(super) fn from_rsa(exponent: &[u8], modulus: &[u8]) -> Self {
        let mut wire = Vec::with_capacity(modulus.len() + 32);
        push_string(&mut wire, b"ssh-rsa");
        push_mpint(&mut wire, exponent);
        push_mpint(&mut wire, modulus);
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &wire).as_ref());
        Self(hash)
    }
}

fn push_string(wire: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    wire.extend_from_slice(&len.to_be_bytes());
    wire.extend_from_slice(bytes);
}

/// Appends a positive number, with a leading zero byte if its highest bit is set: otherwise it would be negative.
fn push_mpint(wire: &mut Vec<u8>, number: &[u8]) {
    if number.first().is_some_and(|byte| byte & 0x80 != 0) {
        push_string(wire, &[&[0], number].concat());
    } else {
        push_string(wire, number);
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SHA256:{}", STANDARD_NO_PAD.encode(self.0))
    }
}

impl FromStr for Fingerprint {
    type Err = MalformedFingerprint;

    fn from_str(text: &str) -> Result<Self, MalformedFingerprint> {
        let encoded = text.strip_prefix("SHA256:").ok_or(MalformedFingerprint)?;
        let hash = STANDARD_NO_PAD
            .decode(encoded)
            .map_err(|_| MalformedFingerprint)?;
        hash.try_into().map(Self).map_err(|_| MalformedFingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The second modulus has an unset highest bit, so no zero byte precedes it.
    #[test]
    fn equals_the_fingerprint_of_ssh_keygen() {
        for (first, want) in [
            (0xff, "SHA256:jCksjk3E9ggMRNa2DsRvQUA4V/lh6mbjDxN3zo0ukHY"),
            (0x7f, "SHA256:qq3Gh6DpvkBI/m/sSQYDFRIi/j9bLLuW6zM9PGJQ5hE"),
        ] {
            let modulus = [&[first][..], &[0xff; 255]].concat();
            let fingerprint = Fingerprint::from_rsa(&[1, 0, 1], &modulus);
            assert_eq!(fingerprint.to_string(), want);
        }
    }

    #[test]
    fn parses_what_it_displays() {
        let fingerprint = Fingerprint::from_rsa(&[1, 0, 1], &[0xff; 256]);
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    }

    #[test]
    fn refuses_texts_that_are_not_fingerprints() {
        for text in ["", "SHA256:", "MD5:abc", "SHA256:AAAA", "SHA256:*"] {
            assert_eq!(
                text.parse::<Fingerprint>(),
                Err(MalformedFingerprint),
                "{text}"
            );
        }
    }
}
