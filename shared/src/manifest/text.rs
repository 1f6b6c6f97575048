//! Bytes → text: UTF-8 with or without byte order mark, UTF-16 with one.

use zeroize::Zeroizing;

use super::error::{ReadError, ReadProblem};

pub(super) fn decode(bytes: &[u8]) -> Result<Zeroizing<String>, ReadError> {
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest),
        _ => utf8(bytes),
    };
    text.map(without_inner_marks)
        .map(Zeroizing::new)
        .ok_or(ReadError {
            document: None,
            line: None,
            problem: ReadProblem::Encoding,
        })
}

/// A file that several were joined into has a byte order mark before each part. No value can begin
/// a line, so such a mark belongs to none.
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
    fn decodes_what_editors_write() {
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
        }
    }

    #[test]
    fn a_mark_before_a_later_document_counts_for_nothing() {
        assert_eq!(
            *decode("a: b\n---\n\u{feff}c: \u{feff}d".as_bytes()).unwrap(),
            "a: b\n---\nc: \u{feff}d"
        );
    }

    #[test]
    fn refuses_other_bytes() {
        for bytes in [&[0xc3][..], &[0xff, 0xfe, 0x61], &[0xff, 0xfe, 0x00, 0xd8]] {
            assert_eq!(decode(bytes).unwrap_err().problem, ReadProblem::Encoding);
        }
    }
}
