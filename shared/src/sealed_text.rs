//! The string form of one sealed value: an envelope in base64. Detects strings that cannot contain an envelope.

use std::fmt;
use std::ops::RangeInclusive;

use crate::base64::{self, Base64Error};
use crate::envelope;
use crate::key_ring::NoKey;

/// Lengths of RSA blocks in bytes, for keys of 1,024 to 16,384 bits. The first two bytes of readable text and of most
/// other formats represent a longer block.
const BLOCK_LENGTHS: RangeInclusive<usize> = 128..=2048;
/// Number of bytes in an envelope in addition to the RSA block and the encrypted value: the length field and the GCM
/// tag.
const OVERHEAD: usize = 2 + 16;

/// The string is not a sealed value. This is determined from the string alone; no key is tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a sealed value: {}", self.finding())]
pub struct NotSealed {
    actual: Actual,
    /// Length in bytes of the decoded value, or of the string if it was not decoded; 0 for a value that is not a
    /// string.
    len: usize,
}

/// The actual content of the string.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Actual {
    Empty,
    /// The type of a value that is not a string, with an article.
    Type(&'static str),
    Format(&'static str),
    Text,
    NotBase64(Base64Error),
    CutBase64(Base64Error),
    /// The value is truncated: the length field, the announced RSA block and the tag need this many bytes.
    Short(usize),
    Unknown,
}

impl NotSealed {
    /// Returns the error for a value that is not a string. `kind` is its type, with an article.
    pub(crate) fn wrong_type(kind: &'static str) -> Self {
        let actual = Actual::Type(kind);
        Self { actual, len: 0 }
    }

    /// Returns the error that Bitnami's controller reports, for scripts that search for it.
    pub fn upstream_message(&self) -> String {
        match &self.actual {
            Actual::NotBase64(error) | Actual::CutBase64(error) => error.to_string(),
            _ => NoKey.to_string(),
        }
    }

    /// Describes the actual content, and the length of a string.
    pub fn finding(&self) -> String {
        match self.actual {
            Actual::Type(_) => self.actual.to_string(),
            _ => format!("{}, {}", self.actual, Bytes(self.len)),
        }
    }
}

impl fmt::Display for Actual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::Type(kind) => write!(f, "it is {kind}, not a string in base64"),
            Self::Format(name) => write!(f, "it is {name}"),
            Self::Text => f.write_str(
                "it is readable text, visible to everyone who can read the object (if it is a secret, replace it)",
            ),
            Self::NotBase64(error) => {
                write!(f, "it is not base64 (invalid byte at offset {})", error.position)
            }
            Self::CutBase64(_) => f.write_str("it is truncated base64"),
            Self::Short(needed) => write!(f, "it is truncated (at least {needed} bytes are required)"),
            Self::Unknown => f.write_str("its format is unknown"),
        }
    }
}

struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} byte{s}", self.0)
    }
}

/// Decodes the text of a sealed value. The result has the form of an envelope; only decryption can confirm that it is
/// an envelope.
///
/// # Errors
///
/// Returns [`NotSealed`] if the string cannot be a sealed value.
pub fn decode(text: &str) -> Result<Vec<u8>, NotSealed> {
    let not_sealed = |actual, len| NotSealed { actual, len };
    if let Some(format) = format_of(text.trim_start().as_bytes()) {
        return Err(not_sealed(Actual::Format(format), text.len()));
    }
    match base64::decode(text.as_bytes()) {
        Err(error) => Err(not_sealed(not_base64(text, error), text.len())),
        Ok(bytes) => match why_no_envelope(&bytes) {
            Some(actual) => Err(not_sealed(actual, bytes.len())),
            None => Ok(bytes),
        },
    }
}

/// Returns the error for a string that is not base64. If the string is long and contains only valid characters, the
/// error says that the string is truncated.
fn not_base64(text: &str, error: Base64Error) -> Actual {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/\r\n".contains(&byte);
    let is_long = text.len() > *BLOCK_LENGTHS.start();
    if is_long && text.bytes().all(is_base64) {
        Actual::CutBase64(error)
    } else {
        Actual::NotBase64(error)
    }
}

fn why_no_envelope(bytes: &[u8]) -> Option<Actual> {
    if bytes.is_empty() {
        return Some(Actual::Empty);
    }
    if let Some(format) = format_of(bytes) {
        return Some(Actual::Format(format));
    }
    if is_readable(bytes) {
        return Some(Actual::Text);
    }
    let Some(block) = envelope::announced_len(bytes) else {
        return Some(Actual::Unknown);
    };
    let needed = block + OVERHEAD;
    if !BLOCK_LENGTHS.contains(&block) {
        Some(Actual::Unknown)
    } else if bytes.len() < needed {
        Some(Actual::Short(needed))
    } else {
        None
    }
}

fn is_readable(bytes: &[u8]) -> bool {
    let is_unreadable = |c: char| c.is_control() && !c.is_whitespace();
    std::str::from_utf8(bytes).is_ok_and(|text| !text.contains(is_unreadable))
}

/// Returns the name of the format if the bytes begin like encrypted or stored values of another tool.
fn format_of(bytes: &[u8]) -> Option<&'static str> {
    const FORMATS: [(&[u8], &str); 8] = [
        (b"-----BEGIN PGP ", "a PGP message"),
        (b"-----BEGIN AGE ", "an age file"),
        (b"age-encryption.org/", "an age file"),
        (b"-----BEGIN ", "a PEM file"),
        (b"ENC[AES256_GCM,", "a sops value"),
        (b"$ANSIBLE_VAULT;", "an Ansible Vault file"),
        (b"vault:v", "a HashiCorp Vault value"),
        (b"{{", "an unrendered template"),
    ];
    let format = FORMATS.iter().find(|(start, _)| bytes.starts_with(start));
    format.map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::key::test_key;
    use crate::scope::Scope;

    fn seal_value(plain: &[u8]) -> Vec<u8> {
        let key = test_key().certificate().public_key();
        let label = Scope::Strict.label("ns", "n");
        envelope::seal(key, &label, plain, &mut StdRng::seed_from_u64(1)).unwrap()
    }

    #[test]
    fn reports_the_actual_format_of_a_text_that_is_not_sealed() {
        let sealed_value = base64::encode(&seal_value(b"value"));
        let packet = [&[0x85, 0x01, 0x0c, 0x03][..], &[7; 300]].concat();
        for (text, want) in [
            (String::new(), "it is empty, 0 bytes"),
            (
                "*".into(),
                "it is not base64 (invalid byte at offset 0), 1 byte",
            ),
            (
                "hunter2!".into(),
                "it is not base64 (invalid byte at offset 7), 8 bytes",
            ),
            (
                base64::encode(b"hunter2"),
                "it is readable text, visible to everyone who can read the object (if it is a secret, replace it), 7 bytes",
            ),
            ("AAAA".into(), "its format is unknown, 3 bytes"),
            (base64::encode(&packet), "its format is unknown, 304 bytes"),
            (
                "-----BEGIN PGP MESSAGE-----\n\nhQEMA".into(),
                "it is a PGP message, 34 bytes",
            ),
            (
                base64::encode(b"-----BEGIN AGE ENCRYPTED FILE-----\n"),
                "it is an age file, 35 bytes",
            ),
            (
                base64::encode(b"age-encryption.org/v1\n\xff"),
                "it is an age file, 23 bytes",
            ),
            (
                "ENC[AES256_GCM,data:x]".into(),
                "it is a sops value, 22 bytes",
            ),
            (
                sealed_value[..sealed_value.len() - 3].into(),
                "it is truncated base64, 369 bytes",
            ),
            (
                sealed_value[..100].into(),
                "it is truncated (at least 274 bytes are required), 75 bytes",
            ),
        ] {
            let error = decode(&text).unwrap_err();
            assert_eq!(error.finding(), want, "{text:?}");
            assert_eq!(error.to_string(), format!("not a sealed value: {want}"));
        }
    }

    /// Bitnami's controller tries its keys with every string that is valid base64.
    #[test]
    fn returns_the_error_of_bitnamis_controller() {
        for (text, want) in [
            ("*", "illegal base64 data at input byte 0"),
            ("", "no key could decrypt secret"),
            ("AAAA", "no key could decrypt secret"),
        ] {
            assert_eq!(decode(text).unwrap_err().upstream_message(), want);
        }
    }

    /// Attack: a reader of errors learns the string that is stored instead of a sealed value.
    #[test]
    fn no_error_quotes_the_text() {
        for text in ["hunter2", "hunter2!", "aHVudGVyMg==", "aHVudGVyMg"] {
            let message = decode(text).unwrap_err().to_string();
            assert!(
                !message.contains("hunter2") && !message.contains("aHVu"),
                "{message}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn accepts_every_sealed_value_and_no_truncated_one(plain: Vec<u8>, cut_index: prop::sample::Index) {
            let sealed_value = seal_value(&plain);
            prop_assert_eq!(decode(&base64::encode(&sealed_value)), Ok(sealed_value.clone()));
            let min_len = sealed_value.len() - plain.len();
            let truncated = base64::encode(&sealed_value[..cut_index.index(min_len)]);
            prop_assert!(decode(&truncated).is_err());
        }

        #[test]
        fn rejects_readable_text(text: String) {
            prop_assume!(!text.contains(|c: char| c.is_control()));
            prop_assert!(decode(&text).is_err());
            prop_assert!(decode(&base64::encode(text.as_bytes())).is_err());
        }
    }
}
