//! Failures of a call.

use std::fmt::Write as _;

use http::HeaderValue;

/// The maximum length of a message in bytes, before it is encoded. The kubelet shortens events to 1 KiB.
const MAX_MESSAGE: usize = 800;

/// The status codes that a call can fail with.
///
/// The kubelet treats each of these codes as the final result of a mount: it removes the directory of the volume, and
/// retries later. After `CANCELLED`, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`, `ABORTED` or `UNAVAILABLE` it keeps the
/// directory. The driver can then mistake the volume for one that it has already mounted, and the Pod starts with an
/// empty volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FinalCode {
    InvalidArgument = 3,
    NotFound = 5,
    PermissionDenied = 7,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Internal = 13,
    Unauthenticated = 16,
}

/// Why a call failed. The message becomes an event of the Pod, so it contains no value and nothing that depends on a
/// value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) code: FinalCode,
    message: String,
}

impl Failure {
    /// Creates a failure. The message is put on one line and truncated.
    pub(crate) fn new(code: FinalCode, message: &str) -> Self {
        let line = message.replace("\nhint: ", "; hint: ");
        let is_shown = |character: &char| !character.is_control();
        Self {
            code,
            message: truncate(line.chars().filter(is_shown)),
        }
    }

    /// Creates a failure that the author of the class or the Pod can correct.
    pub(crate) fn invalid(message: &str) -> Self {
        Self::new(FinalCode::InvalidArgument, message)
    }

    /// Returns the value of the header `grpc-message`: the message as percent-encoded UTF-8.
    pub(crate) fn header(&self) -> HeaderValue {
        let mut text = String::new();
        for byte in self.message.bytes() {
            match byte {
                b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
                _ => {
                    // Writing to a string cannot fail.
                    let _ = write!(text, "%{byte:02X}");
                }
            }
        }
        // Printable ASCII is always a valid header value.
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
    }
}

fn truncate(characters: impl Iterator<Item = char>) -> String {
    let mut text = String::new();
    for character in characters {
        if text.len() + character.len_utf8() > MAX_MESSAGE {
            text.push('…');
            break;
        }
        text.push(character);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: the author of a class, or a server, puts line breaks into a message to forge lines of events and logs.
    #[test]
    fn a_message_is_one_line_of_limited_length() {
        let failure = Failure::invalid("first\nhint: second\u{7}\r\nthird");
        assert_eq!(failure.to_string(), "first; hint: secondthird");
        let failure = Failure::invalid(&"ä".repeat(10_000));
        assert!(failure.to_string().len() <= MAX_MESSAGE + '…'.len_utf8());
    }

    #[test]
    fn a_header_is_percent_encoded() {
        let failure = Failure::invalid("100% of \"ä\"");
        assert_eq!(failure.header(), "100%25 of \"%C3%A4\"");
    }

    /// Fault: the kubelet keeps the directory of a volume after other codes, and the Pod starts with an empty volume.
    #[test]
    fn every_code_is_final_for_kubelet() {
        const NOT_FINAL: [u8; 5] = [1, 4, 8, 10, 14];
        let codes = [
            FinalCode::InvalidArgument,
            FinalCode::NotFound,
            FinalCode::PermissionDenied,
            FinalCode::FailedPrecondition,
            FinalCode::Unimplemented,
            FinalCode::Internal,
            FinalCode::Unauthenticated,
        ];
        for code in codes {
            assert!(!NOT_FINAL.contains(&(code as u8)), "{code:?}");
        }
    }
}
