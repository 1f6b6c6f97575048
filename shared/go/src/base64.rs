//! Standard base64, as tolerant as Go's decoder, because existing manifests rely on it.
//!
//! CR and LF are ignored anywhere, and trailing bits need not be zero. Missing padding, spaces and the URL
//! alphabet are errors, at the position that Go reports.

use ::base64::Engine as _;
use ::base64::alphabet::STANDARD;
use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// The error for a string that is not base64.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("illegal base64 data at input byte {position}")]
pub struct Base64Error {
    /// The offset that Go's decoder reports, counted from zero in the original text, line breaks included.
    pub position: usize,
}

/// Encodes as base64 with padding and without line breaks.
pub fn encode(bytes: &[u8]) -> String {
    ENGINE.encode(bytes)
}

/// Decodes a string. Ignores CR and LF.
///
/// # Errors
///
/// Returns [`Base64Error`] if the text is not base64.
pub fn decode(text: &[u8]) -> Result<Vec<u8>, Base64Error> {
    let result = if text.iter().any(|byte| is_line_break(*byte)) {
        let significant = text.iter().copied().filter(|byte| !is_line_break(*byte));
        ENGINE.decode(Zeroizing::new(significant.collect::<Vec<u8>>()))
    } else {
        ENGINE.decode(text)
    };
    result.map_err(|_| Base64Error {
        position: error_position(text),
    })
}

fn is_line_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// Returns the position at which Go's decoder reports an error.
fn error_position(text: &[u8]) -> usize {
    let bytes = text.iter().enumerate();
    let mut significant = bytes.filter(|(_, byte)| !is_line_break(**byte));
    let mut group_len = 0;
    while let Some((offset, &byte)) = significant.next() {
        match byte {
            b'=' if group_len == 2 => {
                return match significant.next() {
                    None => text.len(),
                    Some((next, b'=')) => significant.next().map_or(next, |(extra, _)| extra),
                    Some((next, _)) => next - 1,
                };
            }
            b'=' if group_len == 3 => return significant.next().map_or(offset, |(extra, _)| extra),
            byte if byte.is_ascii_alphanumeric() || b"+/".contains(&byte) => {
                group_len = (group_len + 1) % 4;
            }
            _ => return offset,
        }
    }
    text.len() - group_len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_gos_decoder_accepts() {
        for (why, text, want) in [
            ("empty", "", Ok(b"".to_vec())),
            ("plain", "aGk=", Ok(b"hi".to_vec())),
            ("wrapped lines", "aG\r\nk=\n", Ok(b"hi".to_vec())),
            ("trailing bits set", "aGl=", Ok(b"hi".to_vec())),
            ("missing padding", "aGk", Err(0)),
            ("missing padding in the second group", "aGlhaGk", Err(4)),
            ("space", "aG k", Err(2)),
            ("url alphabet", "_-__", Err(0)),
            ("wrong byte after a line break", "aG\nk*", Err(4)),
            ("five bytes of text on several lines", "{\n  x\n}\n", Err(0)),
            (
                "wrong byte in a string of a wrong length",
                "aGlh\r\na-k",
                Err(7),
            ),
            (
                "wrong byte at the end of a string of a wrong length",
                "aGlha\n*",
                Err(6),
            ),
            ("a wrong length and no wrong byte", "aGlh\na", Err(5)),
        ] {
            let result = decode(text.as_bytes()).map_err(|e| e.position);
            assert_eq!(result, want, "{why}");
        }
    }

    proptest::proptest! {
        #[test]
        fn decodes_what_it_encodes(bytes: Vec<u8>) {
            proptest::prop_assert_eq!(decode(encode(&bytes).as_bytes()), Ok(bytes));
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
