//! Finds PEM blocks in a file as Go's `encoding/pem` does.
//!
//! Strict PEM crates refuse a whole file for one malformed block. Users keep keys and certificates in files
//! with comments, bundles, CRLF and other blocks, and upstream reads those.

use zeroize::Zeroizing;

use crate::base64;

/// One well-formed block. `der` may be a private key, and is wiped on drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The text after `BEGIN`.
    pub label: String,
    /// Whether the block has headers, as an encrypted key has.
    pub has_headers: bool,
    /// The decoded body.
    pub der: Zeroizing<Vec<u8>>,
}

/// Returns every well-formed block, in order. Skips text between blocks and malformed blocks.
pub fn blocks(text: &[u8]) -> impl Iterator<Item = Block> {
    let lines = text.split(|byte| *byte == b'\n');
    let mut lines = lines.map(<[u8]>::trim_ascii_end);
    std::iter::from_fn(move || {
        loop {
            let line = lines.next()?;
            let mut next_label = label_of(line, b"-----BEGIN ");
            while let Some(label) = next_label.take() {
                match read_block(label, &mut lines) {
                    Ok(block) => return Some(block),
                    Err(label) => next_label = label,
                }
            }
        }
    })
}

/// Encodes DER as a PEM block with lines of 64 characters. Allocates the full length up front: a growing buffer would
/// leave copies of a private key in freed memory.
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(base64::encode(der));
    let mut text = String::with_capacity(body.len() + body.len() / 32 + 2 * label.len() + 64);
    text.extend(["-----BEGIN ", label, "-----\n"]);
    let mut remaining = body.as_str();
    while !remaining.is_empty() {
        let (line, tail) = remaining.split_at(remaining.len().min(64));
        text.extend([line, "\n"]);
        remaining = tail;
    }
    text.extend(["-----END ", label, "-----\n"]);
    text
}

/// Reads a block up to its END line. Returns `Err(None)` for a malformed block, and at the end of the text. A BEGIN
/// line inside means that the block was never terminated: the label of that line is returned as the error, so that the
/// caller can continue there.
fn read_block<'a>(
    label: &'a [u8],
    lines: &mut impl Iterator<Item = &'a [u8]>,
) -> Result<Block, Option<&'a [u8]>> {
    let mut body = Zeroizing::new(Vec::new());
    let mut has_headers = false;
    for line in lines {
        if let Some(end_label) = label_of(line, b"-----END ") {
            let der = base64::decode(&body).map_err(|_| None)?;
            let label = String::from_utf8(label.to_vec()).map_err(|_| None)?;
            let is_match = end_label == label.as_bytes();
            let block = Block {
                label,
                has_headers,
                der: Zeroizing::new(der),
            };
            return if is_match { Ok(block) } else { Err(None) };
        }
        if let Some(next) = label_of(line, b"-----BEGIN ") {
            return Err(Some(next));
        }
        if line.contains(&b':') {
            has_headers = true;
        } else {
            body.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
        }
    }
    Err(None)
}

fn label_of<'a>(line: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(prefix)?.strip_suffix(b"-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Vec<String> {
        blocks(text.as_bytes()).map(|b| b.label).collect()
    }

    #[test]
    fn finds_blocks_as_go_does() {
        let block = "-----BEGIN A-----\naGk=\n-----END A-----\n";
        for (why, text, want) in [
            ("nothing", String::new(), vec![]),
            ("one", block.to_owned(), vec!["A"]),
            (
                "no line break at the end",
                block.trim_end().to_owned(),
                vec!["A"],
            ),
            ("CRLF", block.replace('\n', "\r\n"), vec!["A"]),
            (
                "text before and between",
                format!("# mine\n{block}junk\n{block}"),
                vec!["A", "A"],
            ),
            ("labels differ", block.replace("END A", "END B"), vec![]),
            (
                "a block that is not base64, then a valid one",
                format!("{}{block}", block.replace("aGk=", "*")),
                vec!["A"],
            ),
            (
                "a block without an end, then a valid one",
                format!("-----BEGIN Z-----\naGk=\n{block}"),
                vec!["A"],
            ),
        ] {
            assert_eq!(labels(&text), want, "{why}");
        }
    }

    /// Attack: an author puts many unterminated blocks before a good one, so that each of them causes a search through
    /// the whole text.
    #[test]
    fn reads_each_line_once_however_many_blocks_do_not_end() {
        let text = "-----BEGIN OTHER-----\n".repeat(100_000) + &encode("A", b"hi");
        assert_eq!(labels(&text), ["A"]);
    }

    #[test]
    fn detects_headers() {
        let text = b"-----BEGIN A-----\nProc-Type: 4,ENCRYPTED\n\naGk=\n-----END A-----\n";
        let parsed: Vec<Block> = blocks(text).collect();
        assert!(parsed[0].has_headers);
        assert_eq!(parsed[0].der.as_slice(), b"hi");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text: Vec<u8>) {
            let _ = blocks(&text).count();
        }

        #[test]
        fn finds_the_block_that_it_wrote(der: Vec<u8>) {
            let text = encode("A", &der);
            let block = blocks(text.as_bytes()).next().unwrap();
            proptest::prop_assert_eq!(block.der.as_slice(), &der[..]);
        }
    }
}
