//! The file that the kubelet reads for `env.valueFrom.fileKeyRef`: `NAME='value'` lines.
//!
//! The kubelet supports no escapes in this file, so not every value can be written. A value that the kubelet would
//! misread is refused.

use zeroize::Zeroizing;

/// The maximum length of a line in bytes. The kubelet reads lines of at most 64 KiB, including the line ending.
const MAX_LINE: usize = 65_000;

/// Why the items cannot be written. The message does not depend on the values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvFileError {
    /// The name of the item is not a valid name for a variable.
    #[error(
        "the item {0} cannot become a variable: a name consists of letters, digits, `_`, `-` and `.`, and does not begin with a digit\n\
         hint: select items with --objects=NAME:ITEM"
    )]
    Name(String),
    /// Several objects have an item of this name.
    #[error(
        "several SealedSecrets contain an item {0}\nhint: select items with --objects=NAME:ITEM, or write one file for each object"
    )]
    Repeated(String),
    /// A value cannot be written. With the item in the message, an author of templates could spell out a value in the
    /// log.
    #[error(
        "a value cannot become a variable: the kubelet reads only non-empty UTF-8 text without `'` or NUL, \
         without carriage returns before line feeds, and with lines shorter than 64 KiB\n\
         hint: select items with --objects=NAME:ITEM, and deliver other items as files; \
         the item is not reported, because it depends on the values"
    )]
    Value,
}

/// Returns the content of the file, with one variable for each item.
///
/// # Errors
///
/// Fails if an item cannot become a variable. A failure because of a name takes precedence, so that the names in it do
/// not depend on the values.
pub fn content<'a>(
    items: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<Zeroizing<Vec<u8>>, EnvFileError> {
    let items: Vec<_> = items.into_iter().collect();
    check_names(items.iter().map(|(name, _)| *name))?;
    // All values are checked, so that the time does not depend on which value is unsuitable.
    let is_unsuitable = |(name, value): &&(&str, &[u8])| !is_suitable(name, value);
    if items.iter().filter(is_unsuitable).count() > 0 {
        return Err(EnvFileError::Value);
    }
    Ok(write(&items))
}

fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), EnvFileError> {
    let mut known = std::collections::BTreeSet::new();
    for name in names {
        if !is_name(name) {
            return Err(EnvFileError::Name(name.to_owned()));
        }
        if !known.insert(name) {
            return Err(EnvFileError::Repeated(name.to_owned()));
        }
    }
    Ok(())
}

fn write(items: &[(&str, &[u8])]) -> Zeroizing<Vec<u8>> {
    // With its final size, the buffer leaves no copies of values in freed memory.
    let sizes = items
        .iter()
        .map(|(name, value)| name.len() + value.len() + 4);
    let mut content = Zeroizing::new(Vec::with_capacity(sizes.sum()));
    for (name, value) in items {
        content.extend_from_slice(name.as_bytes());
        content.extend_from_slice(b"='");
        content.extend_from_slice(value);
        content.extend_from_slice(b"'\n");
    }
    content
}

/// Returns whether the kubelet reads the value as it is.
fn is_suitable(name: &str, value: &[u8]) -> bool {
    let is_text = std::str::from_utf8(value).is_ok();
    let has_forbidden = value.contains(&b'\'') || value.contains(&0);
    // The kubelet removes a carriage return before the end of a line.
    let has_carriage_return = value.windows(2).any(|pair| pair == b"\r\n");
    let has_long_line = value
        .split(|byte| *byte == b'\n')
        .any(|line| line.len() + name.len() + 4 > MAX_LINE);
    !value.is_empty() && is_text && !has_forbidden && !has_carriage_return && !has_long_line
}

/// Returns whether an API server accepts the name as `key` of a `fileKeyRef`.
fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let begins_well = name
        .bytes()
        .next()
        .is_some_and(|byte| !byte.is_ascii_digit());
    begins_well && name.bytes().all(is_allowed) && name != "." && !name.starts_with("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a file as kubelet 1.36 does (`pkg/kubelet/util/env`), for files without comments and blank lines.
    fn read_as_kubelet(content: &str, key: &str) -> Option<String> {
        let mut lines = content.split_inclusive('\n').map(|line| {
            let line = line.strip_suffix('\n').unwrap_or(line);
            line.strip_suffix('\r').unwrap_or(line)
        });
        while let Some(line) = lines.next() {
            let (name, rest) = line.split_once('=')?;
            let mut rest = rest.strip_prefix('\'')?;
            let mut value = String::new();
            let end = loop {
                if let Some((last, end)) = rest.split_once('\'') {
                    value.push_str(last);
                    break end;
                }
                value.push_str(rest);
                value.push('\n');
                rest = lines.next()?;
            };
            if !end.is_empty() {
                return None;
            }
            if name == key {
                return Some(value).filter(|value| !value.is_empty());
            }
        }
        None
    }

    #[test]
    fn kubelet_reads_what_was_written() {
        let values = [
            "hunter2",
            " x ",
            "a\nb\n",
            "\n",
            "#",
            "a=b",
            "\"",
            "\\n",
            "$HOME `id`",
            "a\rb",
            "end\r",
            "ü\t",
            "a\n\nKEY=1",
        ];
        for value in values {
            let items = [
                ("before", &b"1"[..]),
                ("KEY", value.as_bytes()),
                ("tls.key", b"2"),
            ];
            let content = content(items).unwrap();
            let content = std::str::from_utf8(&content).unwrap();
            assert_eq!(
                read_as_kubelet(content, "KEY").as_deref(),
                Some(value),
                "{value:?}"
            );
            assert_eq!(
                read_as_kubelet(content, "tls.key").as_deref(),
                Some("2"),
                "{value:?}"
            );
        }
    }

    /// Attack: an author seals a value that closes the quotes, to set a variable that the Pod takes from another item.
    #[test]
    fn values_that_kubelet_would_misread_are_refused_with_one_message() {
        let long = vec![b'x'; 65_001];
        let values = [
            &b"a'\nOTHER='b"[..],
            b"'",
            b"",
            b"a\0b",
            b"a\r\nb",
            b"\xff",
            &long,
        ];
        for value in values {
            let error = content([("KEY", value)]).unwrap_err();
            assert_eq!(error, EnvFileError::Value, "{value:?}");
        }
        let line = "x".repeat(60_000);
        let lines = [line.as_str(), &line].join("\n").into_bytes();
        assert!(content([("KEY", lines.as_slice())]).is_ok());
    }

    /// Attack: an author lets one of 256 templates render a quote, the one whose number is a byte of a value, and reads
    /// the log.
    #[test]
    fn an_error_does_not_name_the_item_whose_value_cannot_be_written() {
        for values in [["'", "0"], ["0", "'"], ["'", "'"]] {
            let items = [
                ("t000", values[0].as_bytes()),
                ("t001", values[1].as_bytes()),
            ];
            let error = content(items).unwrap_err();
            assert_eq!(error, EnvFileError::Value);
            assert!(!error.to_string().contains("t00"), "{error}");
            // A failure because of a name is the same for all values.
            let error = content([items[0], items[1], ("1a", b"x")]).unwrap_err();
            assert_eq!(error, EnvFileError::Name("1a".into()));
        }
    }

    #[test]
    fn refuses_invalid_variable_names() {
        for name in ["", "1a", ".", "..a", "a b", "a=b", "#a", "ä"] {
            let error = content([(name, &b"x"[..])]).unwrap_err();
            assert_eq!(error, EnvFileError::Name(name.into()));
        }
        let twice = content([("a", &b"1"[..]), ("a", b"2")]).unwrap_err();
        assert_eq!(twice, EnvFileError::Repeated("a".into()));
    }
}
