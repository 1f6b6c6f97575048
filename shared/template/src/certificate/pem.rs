//! Reads PEM (RFC 7468) as leniently as Go does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub(super) struct Block {
    pub(super) label: String,
    pub(super) der: Vec<u8>,
}

/// Maximum number of unterminated BEGIN lines that are skipped: each of them causes a search through the
/// whole text.
const MOST_BROKEN: usize = 8;

/// Returns the first block; the text around it is ignored.
pub(super) fn decode(text: &[u8]) -> Option<Block> {
    let text = String::from_utf8_lossy(text);
    let mut rest = &*text;
    for _ in 0..=MOST_BROKEN {
        let start = if rest.starts_with("-----BEGIN ") {
            0
        } else {
            rest.find("\n-----BEGIN ")? + 1
        };
        rest = &rest[start + "-----BEGIN ".len()..];
        if let Some(block) = block(rest) {
            return Some(block);
        }
    }
    None
}

/// Parses label, optional headers, base64 and the END line.
fn block(text: &str) -> Option<Block> {
    let (label, rest) = text.split_once("-----")?;
    if label.contains('\n') {
        return None;
    }
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let headers = body
        .trim_start()
        .lines()
        .take_while(|line| line.contains(':'))
        .count();
    let body: String = body
        .trim_start()
        .lines()
        .skip(headers)
        .flat_map(str::chars)
        .filter(|char| !char.is_whitespace())
        .collect();
    let der = crate::functions::decode64(body.as_bytes()).ok()?;
    Some(Block {
        label: label.to_owned(),
        der,
    })
}

pub(super) fn encode(label: &str, der: &[u8]) -> Vec<u8> {
    let body = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        out.extend(line.iter().copied().map(char::from));
        out.push('\n');
    }
    [out, format!("-----END {label}-----\n")]
        .concat()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_after_many_unterminated_blocks() {
        let after = |broken: usize| {
            let block = String::from_utf8(encode("KEY", b"der")).expect("UTF-8");
            decode(("-----BEGIN OTHER-----\n".repeat(broken) + &block).as_bytes())
        };
        assert_eq!(after(8).map(|block| block.der), Some(b"der".to_vec()));
        assert!(after(9).is_none());
    }
}
