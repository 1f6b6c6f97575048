//! Standard base64, as tolerant as Go's decoder, because existing manifests rely on it.
//!
//! CR and LF are ignored anywhere, and trailing bits need not be zero. Missing padding, spaces and the URL
//! alphabet are errors.

use ::base64::alphabet::STANDARD;
use ::base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ::base64::{DecodeError, Engine as _};

const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// The text is not base64.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("illegal base64 data at input byte {position}")]
pub struct Base64Error {
    /// Offset of the first invalid byte, counted from zero in the original text, line breaks included.
    pub position: usize,
}

/// Encodes as base64 with padding and without line breaks.
pub fn encode(bytes: &[u8]) -> String {
    ENGINE.encode(bytes)
}

/// Decodes, ignoring CR and LF.
///
/// # Errors
///
/// Returns [`Base64Error`] with the position of the first wrong byte.
pub fn decode(text: &[u8]) -> Result<Vec<u8>, Base64Error> {
    if !text.iter().any(|b| is_line_break(*b)) {
        return ENGINE.decode(text).map_err(|e| at(position_in(&e, text)));
    }
    let kept: Vec<u8> = text
        .iter()
        .copied()
        .filter(|b| !is_line_break(*b))
        .collect();
    ENGINE
        .decode(&kept)
        .map_err(|e| at(original_position(text, position_in(&e, &kept))))
}

fn is_line_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

fn at(position: usize) -> Base64Error {
    Base64Error { position }
}

/// Returns the position to report: the first byte that is not base64, or as in Go the start of an incomplete last
/// group.
fn position_in(error: &DecodeError, text: &[u8]) -> usize {
    let is_known = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    let first_unknown = text.iter().position(|byte| !is_known(byte));
    let position = match error {
        DecodeError::InvalidByte(position, _) => *position,
        DecodeError::InvalidLastSymbol { offset, .. } => *offset,
        DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => text.len() / 4 * 4,
    };
    first_unknown.map_or(position, |first| first.min(position))
}

/// Returns the position in `text` of the `kept`-th byte that is not a line break.
fn original_position(text: &[u8], kept: usize) -> usize {
    let mut positions = text.iter().enumerate().filter(|(_, b)| !is_line_break(**b));
    positions
        .nth(kept)
        .map_or(text.len(), |(position, _)| position)
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
            ("text of five bytes over lines", "{\n  x\n}\n", Err(0)),
            (
                "wrong byte in a text of a wrong length",
                "aGlh\r\na-k",
                Err(7),
            ),
            ("the same at its end", "aGlha\n*", Err(6)),
            ("a wrong length alone", "aGlh\na", Err(5)),
        ] {
            let got = decode(text.as_bytes()).map_err(|e| e.position);
            assert_eq!(got, want, "{why}");
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
