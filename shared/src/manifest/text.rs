//! Decodes text: UTF-8 with or without a byte order mark, and UTF-16 with a byte order mark.

use std::borrow::Cow;

use zeroize::Zeroizing;

use super::error::{ReadError, ReadProblem};

/// The encoding of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    Utf8WithMark,
    Utf16Little,
    Utf16Big,
}

impl Encoding {
    fn of(bytes: &[u8]) -> (Self, &[u8]) {
        match bytes {
            [0xff, 0xfe, rest @ ..] => (Self::Utf16Little, rest),
            [0xfe, 0xff, rest @ ..] => (Self::Utf16Big, rest),
            [0xef, 0xbb, 0xbf, rest @ ..] => (Self::Utf8WithMark, rest),
            _ => (Self::Utf8, bytes),
        }
    }

    /// Encodes a string, with a byte order mark unless the encoding is [`Self::Utf8`].
    pub(super) fn encode(self, text: &str) -> Vec<u8> {
        let utf16 = |unit: fn(u16) -> [u8; 2]| {
            let units = std::iter::once(0xfeff).chain(text.encode_utf16());
            units.flat_map(unit).collect()
        };
        match self {
            Self::Utf8 => text.as_bytes().to_vec(),
            Self::Utf8WithMark => ["\u{feff}", text].concat().into_bytes(),
            Self::Utf16Little => utf16(u16::to_le_bytes),
            Self::Utf16Big => utf16(u16::to_be_bytes),
        }
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Zeroizing<String>, ReadError> {
    decode_with_marks(bytes).map(|(_, text)| Zeroizing::new(without_inner_marks(text)))
}

/// Removes the byte order mark from UTF-8, and converts UTF-16 to UTF-8 if it has a mark or begins with two ASCII
/// characters: Windows shells write redirected output as UTF-16. Returns other bytes unchanged, such as UTF-8 without a
/// mark, malformed UTF-16, and UTF-32 (whose mark begins with the mark of UTF-16).
pub fn as_utf8(bytes: &[u8]) -> Cow<'_, [u8]> {
    let (encoding, rest) = Encoding::of(bytes);
    let decoded = match (encoding, bytes) {
        _ if is_utf32(bytes, &ZeroBytes::of(bytes)) => None,
        (Encoding::Utf8WithMark, _) => return Cow::Borrowed(rest),
        (Encoding::Utf16Little, _) | (_, [1..0x80, 0, 1..0x80, 0, ..]) => {
            utf16(rest, u16::from_le_bytes)
        }
        (Encoding::Utf16Big, _) | (_, [0, 1..0x80, 0, 1..0x80, ..]) => {
            utf16(rest, u16::from_be_bytes)
        }
        _ => None,
    };
    decoded.map_or(Cow::Borrowed(bytes), |text| Cow::Owned(text.into_bytes()))
}

/// Returns the problem if bytes are in an encoding that [`read`](super::read) and [`as_utf8`] do not decode: UTF-16
/// that is truncated, malformed or, for a manifest, without a byte order mark; and UTF-32. Returns `None` otherwise,
/// for example for UTF-8.
pub fn wrong_encoding(bytes: &[u8]) -> Option<ReadProblem> {
    const TRUNCATED: &str = "that ends in the middle of a character, or contains a malformed one";
    let zeros = ZeroBytes::of(bytes);
    let (encoding, rest) = Encoding::of(bytes);
    match encoding {
        _ if is_utf32(bytes, &zeros) => Some(ReadProblem::Utf32),
        Encoding::Utf16Little => utf16(rest, u16::from_le_bytes)
            .is_none()
            .then_some(ReadProblem::Utf16(TRUNCATED)),
        Encoding::Utf16Big => utf16(rest, u16::from_be_bytes)
            .is_none()
            .then_some(ReadProblem::Utf16(TRUNCATED)),
        _ if !zeros.has_utf16_share() => None,
        _ if !bytes.len().is_multiple_of(2) => Some(ReadProblem::Utf16(TRUNCATED)),
        _ => Some(ReadProblem::Utf16("without a byte order mark")),
    }
}

fn is_utf32(bytes: &[u8], zeros: &ZeroBytes) -> bool {
    let has_mark = matches!(bytes, [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..]);
    has_mark || zeros.count * 8 >= zeros.sample_len * 5 && zeros.sample_len >= 4
}

/// The share of zero bytes at the beginning of an input. UTF-8 manifests, certificates and keys contain no zero bytes.
/// For ASCII text, half of the bytes are zero in UTF-16, and three quarters in UTF-32.
struct ZeroBytes {
    count: usize,
    sample_len: usize,
}

impl ZeroBytes {
    fn of(bytes: &[u8]) -> Self {
        let sample = &bytes[..bytes.len().min(4096)];
        let count = sample.split(|byte| *byte == 0).count() - 1;
        Self {
            // An input of zeros only, as after a crash, is not text in any encoding.
            count: if count == sample.len() { 0 } else { count },
            sample_len: sample.len(),
        }
    }

    fn has_utf16_share(&self) -> bool {
        self.count * 4 >= self.sample_len && self.count > 1
    }
}

/// Decodes bytes, and returns the text and its encoding. Keeps byte order marks inside the text, but removes a mark at
/// the beginning.
pub(super) fn decode_with_marks(bytes: &[u8]) -> Result<(Encoding, String), ReadError> {
    let position = None;
    if let Some(problem) = wrong_encoding(bytes) {
        return Err(ReadError { position, problem });
    }
    let (encoding, rest) = Encoding::of(bytes);
    let text = match encoding {
        Encoding::Utf8 | Encoding::Utf8WithMark => utf8(rest),
        Encoding::Utf16Little => utf16(rest, u16::from_le_bytes),
        Encoding::Utf16Big => utf16(rest, u16::from_be_bytes),
    };
    let problem = ReadProblem::Encoding;
    text.map(|text| (encoding, text))
        .ok_or(ReadError { position, problem })
}

/// Removes byte order marks after line breaks: a concatenation of several files has one before each file.
fn without_inner_marks(text: String) -> String {
    if text.contains("\n\u{feff}") {
        text.replace("\n\u{feff}", "\n")
    } else {
        text
    }
}

fn utf8(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (units, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    char::decode_utf16(units.iter().map(|pair| unit(*pair)))
        .collect::<Result<_, _>>()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_utf16_to_utf8_and_keeps_other_bytes() {
        let utf16 = |text: &str, unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(unit).collect()
        };
        for bytes in [
            b"-----a\r\n\xc3\xbc".to_vec(),
            "\u{feff}-----a\r\nü".as_bytes().to_vec(),
            utf16("\u{feff}-----a\r\nü", u16::to_le_bytes),
            utf16("\u{feff}-----a\r\nü", u16::to_be_bytes),
            utf16("-----a\r\nü", u16::to_le_bytes),
            utf16("-----a\r\nü", u16::to_be_bytes),
        ] {
            assert_eq!(*as_utf8(&bytes), *"-----a\r\nü".as_bytes(), "{bytes:?}");
        }
        for bytes in [
            &b""[..],
            b"a",
            b"\xff\xfe\x00\xd8",
            b"a\0b",
            b"\x30\x82\x01\0",
            b"a\0b\0c",
            b"\xff\xfe\0\0a\0\0\0",
            b"\xff\xfe\0\0\x3d\xd8\0\0",
            b"\0\0\xfe\xff\0\0\0a",
        ] {
            assert_eq!(*as_utf8(bytes), *bytes);
        }
    }

    #[test]
    fn decodes_the_encodings_of_editors() {
        let utf16 = |unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
            "\u{feff}a: ü".encode_utf16().flat_map(unit).collect()
        };
        for (why, bytes) in [
            ("UTF-8", "a: ü".as_bytes().to_vec()),
            ("UTF-8 with mark", "\u{feff}a: ü".as_bytes().to_vec()),
            ("UTF-16 little-endian", utf16(u16::to_le_bytes)),
            ("UTF-16 big-endian", utf16(u16::to_be_bytes)),
        ] {
            assert_eq!(*decode(&bytes).unwrap(), "a: ü", "{why}");
            let (encoding, text) = decode_with_marks(&bytes).unwrap();
            assert_eq!(encoding.encode(&text), bytes, "{why}");
        }
    }

    #[test]
    fn ignores_a_byte_order_mark_before_a_later_document() {
        assert_eq!(
            *decode("a: b\n---\n\u{feff}c: \u{feff}d".as_bytes()).unwrap(),
            "a: b\n---\nc: \u{feff}d"
        );
    }

    /// Attack: an author writes a file in encodings that hung other decoders (CVE-2020-14040).
    #[test]
    fn refuses_encodings_other_than_utf8_and_utf16() {
        assert_eq!(decode(&[0xc3]).unwrap_err().problem, ReadProblem::Encoding);
        for bytes in [&[0xff, 0xfe, 0x61][..], &[0xff, 0xfe, 0x00, 0xd8]] {
            let error = decode(bytes).unwrap_err();
            assert!(matches!(error.problem, ReadProblem::Utf16(_)), "{error}");
        }
    }

    #[test]
    fn names_an_unsupported_encoding() {
        let text = "kind: Secret\n# \u{fc}\n";
        let utf16 =
            |unit: fn(u16) -> [u8; 2]| -> Vec<u8> { text.encode_utf16().flat_map(unit).collect() };
        let utf32 = |mark: &str, unit: fn(u32) -> [u8; 4]| -> Vec<u8> {
            let text = [mark, text].concat();
            text.chars().flat_map(|c| unit(u32::from(c))).collect()
        };
        for (why, bytes, want) in [
            ("little-endian", utf16(u16::to_le_bytes), "UTF-16 without"),
            ("big-endian", utf16(u16::to_be_bytes), "UTF-16 without"),
            (
                "truncated",
                utf16(u16::to_le_bytes)[1..].to_vec(),
                "UTF-16 that ends",
            ),
            (
                "a byte order mark, truncated",
                b"\xff\xfea\0b".to_vec(),
                "UTF-16 that ends",
            ),
            ("UTF-32", utf32("", u32::to_le_bytes), "UTF-32"),
            ("UTF-32, big-endian", utf32("", u32::to_be_bytes), "UTF-32"),
            (
                "UTF-32 with a mark",
                utf32("\u{feff}", u32::to_le_bytes),
                "UTF-32",
            ),
            (
                "UTF-32 with a mark, big-endian",
                utf32("\u{feff}", u32::to_be_bytes),
                "UTF-32",
            ),
        ] {
            let error = decode(&bytes).unwrap_err().to_string();
            assert!(error.contains(want), "{why}: {error}");
        }
        for text in ["", "a", "kind: Secret", "\u{feff}a", "a\0b: c", "\0\0\0\0"] {
            assert_eq!(wrong_encoding(text.as_bytes()), None, "{text:?}");
        }
    }
}
