//! Decodes values that are stored as text: the key `encoding` of entries for Vault's provider.

use std::str::FromStr;

use zeroize::Zeroizing;

/// How the value of an item is encoded. The file contains the decoded value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Base64 with the standard alphabet, as Go's decoder accepts it.
    Base64,
    /// Hexadecimal digits.
    Hex,
}

/// The string is not the name of an encoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown encoding {0:?}; use base64, hex or utf-8")]
pub struct UnknownEncoding(String);

impl Encoding {
    /// Returns the encoding with this name; `None` if values are not encoded (`utf-8`, or an empty name).
    ///
    /// # Errors
    ///
    /// Returns an error for an unknown name.
    pub fn from_name(name: &str) -> Result<Option<Self>, UnknownEncoding> {
        match name {
            "" | "utf-8" => Ok(None),
            name => name.parse().map(Some),
        }
    }

    /// Decodes a value; `None` if it is not in this encoding.
    pub fn decode(self, value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::Base64 => go::base64::decode(value).ok(),
            Self::Hex => hex(value),
        }
        .map(Zeroizing::new)
    }
}

impl FromStr for Encoding {
    type Err = UnknownEncoding;

    fn from_str(name: &str) -> Result<Self, UnknownEncoding> {
        match name {
            "base64" => Ok(Self::Base64),
            "hex" => Ok(Self::Hex),
            other => Err(UnknownEncoding(other.chars().take(40).collect())),
        }
    }
}

fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let (pairs, []) = text.as_chunks::<2>() else {
        return None;
    };
    // With the exact capacity, the vector is never reallocated.
    let mut bytes = Vec::with_capacity(pairs.len());
    for [high, low] in pairs {
        bytes.push(digit(*high)? << 4 | digit(*low)?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(encoding: &str, value: &[u8]) -> Option<Vec<u8>> {
        let encoding = Encoding::from_name(encoding).unwrap().unwrap();
        encoding.decode(value).map(|bytes| bytes.to_vec())
    }

    #[test]
    fn decodes_base64_and_hex() {
        assert_eq!(
            decoded("base64", b"aHVudGVyMg=="),
            Some(b"hunter2".to_vec())
        );
        assert_eq!(decoded("hex", b"00fFa9"), Some(vec![0, 0xff, 0xa9]));
        assert_eq!(decoded("hex", b""), Some(Vec::new()));
        for (encoding, value) in [
            ("base64", &b"hunter2!"[..]),
            ("hex", b"0"),
            ("hex", b"0g"),
            ("hex", b"+1"),
        ] {
            assert_eq!(decoded(encoding, value), None, "{value:?}");
        }
    }

    #[test]
    fn refuses_unknown_names() {
        assert_eq!(Encoding::from_name("utf-8"), Ok(None));
        assert_eq!(Encoding::from_name(""), Ok(None));
        assert!(Encoding::from_name("BASE64").is_err());
    }
}
