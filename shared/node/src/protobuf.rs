//! The part of Protocol Buffers that the provider's messages need: fields of bytes and of numbers.

use zeroize::Zeroizing;

/// The bytes are not a valid message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request is not a valid Protocol Buffers message")]
pub(crate) struct MalformedMessage;

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// Returns the content of the last bytes field with this number in a message.
pub(crate) fn bytes_field(
    mut message: &[u8],
    number: u64,
) -> Result<Option<&[u8]>, MalformedMessage> {
    let mut found = None;
    while !message.is_empty() {
        let key = read_varint(&mut message)?;
        let len = match key & 7 {
            VARINT => {
                read_varint(&mut message)?;
                0
            }
            FIXED64 => 8,
            BYTES => read_varint(&mut message)?,
            FIXED32 => 4,
            _ => return Err(MalformedMessage),
        };
        let len = usize::try_from(len).map_err(|_| MalformedMessage)?;
        let (content, rest) = message.split_at_checked(len).ok_or(MalformedMessage)?;
        if key == number << 3 | BYTES {
            found = Some(content);
        }
        message = rest;
    }
    Ok(found)
}

fn read_varint(message: &mut &[u8]) -> Result<u64, MalformedMessage> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first().ok_or(MalformedMessage)?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(MalformedMessage)
}

/// Writes a message. The buffer has a fixed capacity, so that no copy of a value stays in freed memory, and is wiped on
/// drop.
pub(crate) struct Writer(Zeroizing<Vec<u8>>);

impl Writer {
    /// Starts a message after `prefix`, with capacity for `len` more bytes.
    pub(crate) fn new(prefix: &[u8], len: usize) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(prefix.len() + len));
        bytes.extend_from_slice(prefix);
        Self(bytes)
    }

    /// Adds a bytes field.
    pub(crate) fn bytes(&mut self, number: u64, content: &[u8]) {
        self.begin(number, content.len());
        self.0.extend_from_slice(content);
    }

    /// Starts a field that contains a message of `len` bytes; the caller then adds the fields of that message.
    pub(crate) fn begin(&mut self, number: u64, len: usize) {
        self.varint(number << 3 | BYTES);
        self.varint(len as u64);
    }

    /// Adds a field that contains a number.
    pub(crate) fn number(&mut self, number: u64, content: u64) {
        self.varint(number << 3 | VARINT);
        self.varint(content);
    }

    /// Returns the message.
    pub(crate) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "only the lowest bits of the number are written"
    )]
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

/// Returns the size of a bytes field whose field number is below 16.
pub(crate) fn bytes_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Returns the size of a number field whose field number is below 16.
pub(crate) fn number_len(content: u64) -> usize {
    1 + varint_len(content)
}

fn varint_len(number: u64) -> usize {
    let bits = u64::BITS - number.leading_zeros();
    bits.max(1).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_have_the_documented_bytes() {
        let mut writer = Writer::new(b">", 16);
        writer.bytes(1, b"testing");
        writer.number(2, 150);
        // The examples of the documentation of Protocol Buffers.
        assert_eq!(*writer.finish(), b">\x0a\x07testing\x10\x96\x01");
    }

    #[test]
    fn the_last_field_with_a_number_counts() {
        let message = b"\x0a\x01a\x10\x96\x01\x0a\x01b\x19ABCDEFGH\x25ABCD\x1a\x01c";
        assert_eq!(bytes_field(message, 1), Ok(Some(&b"b"[..])));
        assert_eq!(bytes_field(message, 3), Ok(Some(&b"c"[..])));
        assert_eq!(bytes_field(message, 2), Ok(None), "it has another type");
        assert_eq!(bytes_field(b"", 1), Ok(None));
    }

    #[test]
    fn refuses_truncated_messages_and_unknown_wire_types() {
        for message in [
            &b"\x0a"[..],
            b"\x0a\x02a",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"\x0b",
            b"\x80",
        ] {
            assert_eq!(
                bytes_field(message, 1),
                Err(MalformedMessage),
                "{message:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn computed_sizes_equal_written_sizes(len in 0_usize..70_000, number in any::<u64>()) {
            let content = vec![7; len];
            let expected = bytes_len(len) + number_len(number);
            let mut writer = Writer::new(b"", expected);
            writer.bytes(3, &content);
            writer.number(2, number);
            let message = writer.finish();
            prop_assert_eq!(message.len(), expected);
            prop_assert_eq!(bytes_field(&message, 3), Ok(Some(&content[..])));
        }

        #[test]
        fn no_input_panics(message in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = bytes_field(&message, 1);
        }
    }
}
