//! Reads the lines of private keys for v2 in a file, alone or together with PEM blocks.

use jiff::Timestamp;
use shared::v2::key_secret::StoredKey;
use shared::v2::{KeyTextError, SecretKey};

/// A line is not a usable private key.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {source}")]
pub struct KeyLineError {
    /// The line number, counted from one.
    pub line: usize,
    /// Why the key cannot be used.
    pub source: KeyTextError,
}

/// Returns the keys in the lines of a file (`seal2-key …` and age identities), with unlimited validity. Empty if the
/// first line that is neither empty nor a comment is neither a key nor the beginning of a PEM block.
///
/// # Errors
///
/// Fails if a line that begins like a key is malformed or, in a file without PEM blocks, if any other line is neither
/// empty nor a comment.
pub fn read(bytes: &[u8]) -> Result<Vec<StoredKey>, KeyLineError> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let content = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let first = text.lines().map(str::trim_ascii_end).find(content);
    let first = first.unwrap_or_default();
    if !is_key(first) && !first.starts_with("-----BEGIN ") {
        return Ok(Vec::new());
    }
    let has_pem = text.contains("-----BEGIN ");
    let lines = lines_outside_pem(text).into_iter();
    let lines = lines.filter(|(_, line)| !has_pem || is_key(line));
    lines.map(key).collect()
}

fn is_key(line: &str) -> bool {
    line.starts_with("seal2-key ") || line.starts_with("AGE-SECRET-KEY-")
}

/// Returns the lines outside of PEM blocks that are neither empty nor comments, with their numbers.
fn lines_outside_pem(text: &str) -> Vec<(usize, &str)> {
    let mut is_inside = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().map(str::trim_ascii).enumerate() {
        if line.starts_with("-----") {
            is_inside = line.starts_with("-----BEGIN ");
        } else if !is_inside && !line.is_empty() && !line.starts_with('#') {
            lines.push((index + 1, line));
        }
    }
    lines
}

fn key((line, text): (usize, &str)) -> Result<StoredKey, KeyLineError> {
    let key = SecretKey::parse(text).map_err(|source| KeyLineError { line, source })?;
    Ok(StoredKey {
        key,
        not_before: Timestamp::MIN,
        not_after: Timestamp::MAX,
    })
}

#[cfg(test)]
mod tests {
    use shared::v2::Suite;

    use super::*;

    /// Fault: a file has an RSA key and a v2 key, and only one of them is used.
    #[test]
    fn reads_keys_before_between_and_after_pem_blocks() {
        let key = |byte| SecretKey::from_bytes(Suite::XWing, &[byte; 32]).unwrap();
        let text = |byte| String::from_utf8(key(byte).to_text().expose().to_vec()).unwrap();
        let [a, b] = [1, 2].map(text);
        let pem = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (file, want) in [
            (format!("# c\n{a}\n\n{b}\n"), 2),
            (format!("{a}\n{pem}{b}\n"), 2),
            (format!("{pem}text\n{pem}{b}\n"), 1),
            (pem.to_owned(), 0),
            (format!("data: |\n  {a}\n"), 0),
            (String::new(), 0),
        ] {
            assert_eq!(read(file.as_bytes()).unwrap().len(), want, "{file}");
        }
        let error = read(format!("{a}\n\nx\n").as_bytes()).unwrap_err();
        assert_eq!(error.line, 3);
        let error = read(format!("{pem}seal2-key xw x\n").as_bytes()).unwrap_err();
        assert_eq!(error.line, 4);
    }
}
