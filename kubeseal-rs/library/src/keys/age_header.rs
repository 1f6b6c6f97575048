//! Determines the length of an age file's header before it is parsed.
//!
//! The crate `age` parses a header from its start again each time it needs more bytes. The cost is quadratic in the
//! header's length, so a small file with many stanzas would stall the program before any recipient is tried. This
//! module finds the end of the header in one pass, refuses a long header, and passes any other header to the crate in
//! one piece.

use std::io::{self, BufRead, Read};

/// The size limit for a header, in bytes.
pub const MAX_LEN: usize = 64 * 1024;

/// The maximum number of stanzas. Every identity is tried with each stanza.
pub const MAX_STANZAS: usize = 256;

/// Why a header is not parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// The file ends inside the header.
    Truncated,
    /// The header is longer than [`MAX_LEN`], or has more stanzas than [`MAX_STANZAS`].
    TooLong,
}

/// Returns the length of a header, including the line of its MAC. Does not check whether the header
/// is well formed.
pub(super) fn len(file: &[u8]) -> Result<usize, HeaderError> {
    let (mut len, mut stanzas) = (0, 0);
    for line in file[..file.len().min(MAX_LEN)].split_inclusive(|byte| *byte == b'\n') {
        len += line.len();
        stanzas += usize::from(line.starts_with(b"-> "));
        if stanzas > MAX_STANZAS {
            return Err(HeaderError::TooLong);
        }
        if line.starts_with(b"---") && line.ends_with(b"\n") {
            return Ok(len);
        }
    }
    Err(if file.len() > MAX_LEN {
        HeaderError::TooLong
    } else {
        HeaderError::Truncated
    })
}

/// A reader that returns the whole header in one piece.
///
/// `age` reads from a buffered reader until it can parse the header, and parses all of it again
/// after each read. It treats everything it reads as header, so more than the header would break
/// its MAC, and `age` would refuse the file.
pub(super) struct WholeHeaderReader<'a> {
    file: &'a [u8],
    header: usize,
}

impl<'a> WholeHeaderReader<'a> {
    pub(super) fn new(file: &'a [u8], header: usize) -> Self {
        Self { file, header }
    }
}

impl Read for WholeHeaderReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read(buf)
    }
}

impl BufRead for WholeHeaderReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.file)
    }

    fn consume(&mut self, amount: usize) {
        self.file.consume(amount);
    }

    fn read_until(&mut self, byte: u8, buf: &mut Vec<u8>) -> io::Result<usize> {
        let header = std::mem::take(&mut self.header);
        if header == 0 {
            return self.file.read_until(byte, buf);
        }
        buf.extend_from_slice(&self.file[..header]);
        self.consume(header);
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(stanzas: usize, body: &str) -> Vec<u8> {
        let stanza = format!("-> X25519 abc\n{body}\n");
        let text = format!("age-encryption.org/v1\n{}", stanza.repeat(stanzas));
        [text.as_bytes(), b"--- mac\n"].concat()
    }

    #[test]
    fn finds_the_end_of_a_header_and_refuses_a_long_one() {
        let ordinary = header(3, "AAAA");
        let longest = header(MAX_STANZAS, "AAAA");
        let with_payload = |header: &[u8]| [header, b"nonce and payload\n--- not a mac\n"].concat();
        let lines = format!("{}\n", "A".repeat(64)).repeat(MAX_LEN / 65 + 1);
        for (why, file, want) in [
            ("an empty file", Vec::new(), Err(HeaderError::Truncated)),
            ("a header alone", ordinary.clone(), Ok(ordinary.len())),
            (
                "a header and a payload",
                with_payload(&ordinary),
                Ok(ordinary.len()),
            ),
            (
                "as many stanzas as allowed",
                longest.clone(),
                Ok(longest.len()),
            ),
            (
                "one stanza too many",
                header(MAX_STANZAS + 1, "AAAA"),
                Err(HeaderError::TooLong),
            ),
            ("a long body", header(1, &lines), Err(HeaderError::TooLong)),
            (
                "one long line",
                [b"-> ", &vec![b'A'; MAX_LEN][..]].concat(),
                Err(HeaderError::TooLong),
            ),
            (
                "truncated",
                ordinary[..ordinary.len() - 1].to_vec(),
                Err(HeaderError::Truncated),
            ),
        ] {
            assert_eq!(len(&file), want, "{why}");
        }
    }

    #[test]
    fn returns_the_header_in_one_piece_and_then_the_rest() {
        let file = b"age\n---\nrest";
        let mut reader = WholeHeaderReader::new(file, 8);
        let mut first = Vec::new();
        assert_eq!(reader.read_until(b'\n', &mut first).unwrap(), 8);
        let mut payload = Vec::new();
        reader.read_to_end(&mut payload).unwrap();
        assert_eq!(
            (&first[..], &payload[..]),
            (&b"age\n---\n"[..], &b"rest"[..])
        );
    }
}
