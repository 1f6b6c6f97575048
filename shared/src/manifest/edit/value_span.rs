//! The positions of the values in a document, as byte offsets. They are determined from the text, because a parser's
//! spans sometimes include anchors and trailing space, and sometimes omit headers.

/// A value and its position.
#[derive(Debug)]
pub(super) struct ValueSpan {
    pub(super) kind: Kind,
    /// Start of the value, after anchor and tag; for a block scalar, start of its header.
    pub(super) start: usize,
    /// End of the value; for a block scalar, without its last line break.
    pub(super) end: usize,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// A value without text, which may have an anchor or a tag.
    Empty,
    Plain,
    SingleQuoted,
    DoubleQuoted,
    /// A literal (`|`) or folded (`>`) scalar: the end of its header, and the start of its first content line.
    Block {
        header_end: usize,
        content: usize,
    },
    Alias,
    List(Vec<ValueSpan>),
    Map {
        flow: bool,
        entries: Vec<Entry>,
    },
    /// A mapping without braces in a flow sequence.
    Pair,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// The parsed key; `None` for a merge key (`<<`), an alias, and a key that cannot be parsed.
    pub(super) key: Option<String>,
    /// Start of the key, or of the `?` before it.
    pub(super) start: usize,
    /// Byte offset after the key.
    pub(super) key_end: usize,
    /// Offset after the colon; `None` if there is no colon.
    pub(super) colon: Option<usize>,
    pub(super) value: ValueSpan,
}

impl ValueSpan {
    /// Returns whether the value is absent, or an unquoted `~`, `null`, `Null` or `NULL`.
    pub(super) fn is_null(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Plain => matches!(&text[self.start..self.end], "~" | "null" | "Null" | "NULL"),
            _ => false,
        }
    }
}

/// Skips spaces, line breaks and comments.
pub(super) fn skip_blank(text: &str, mut offset: usize) -> usize {
    let bytes = text.as_bytes();
    loop {
        match bytes.get(offset) {
            Some(b' ' | b'\t' | b'\r' | b'\n') => offset += 1,
            Some(b'#') if offset == 0 || bytes[offset - 1].is_ascii_whitespace() => {
                offset = line_end(text, offset);
            }
            _ => return offset,
        }
    }
}

/// Skips an anchor, a tag and the space between them; returns the offset after the last of them.
pub(super) fn skip_properties(text: &str, start: usize) -> usize {
    let mut end = start;
    loop {
        let offset = if end == start {
            start
        } else {
            skip_blank(text, end)
        };
        if !text[offset..].starts_with(['&', '!']) {
            return end;
        }
        let len = text[offset..].find(|c: char| c.is_ascii_whitespace() || ",[]{}".contains(c));
        end = offset + len.unwrap_or(text.len() - offset);
    }
}

/// Returns the offset after the closing quote, or the length of the text if there is none.
pub(super) fn quoted_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let quote = bytes.get(start).copied();
    let mut offset = start + 1;
    while let Some(byte) = bytes.get(offset) {
        match byte {
            b'\\' if quote == Some(b'"') => offset += 1,
            b'\'' if quote == Some(b'\'') && bytes.get(offset + 1) == Some(&b'\'') => offset += 1,
            _ if Some(*byte) == quote => return offset + 1,
            _ => {}
        }
        offset += 1;
    }
    text.len()
}

/// Returns the start of the line that contains `offset`.
pub(super) fn line_start(text: &str, offset: usize) -> usize {
    text[..offset].rfind('\n').map_or(0, |index| index + 1)
}

/// Returns the end of the line that contains `offset`, before its LF or CRLF.
pub(super) fn line_end(text: &str, offset: usize) -> usize {
    let end = text[offset..]
        .find('\n')
        .map_or(text.len(), |index| offset + index);
    if end > offset && text.as_bytes()[end - 1] == b'\r' {
        end - 1
    } else {
        end
    }
}

/// Returns the column of `offset`, counted in characters.
pub(super) fn column(text: &str, offset: usize) -> usize {
    text[line_start(text, offset)..offset].chars().count()
}

/// Returns whether only spaces precede `offset` on its line.
pub(super) fn is_first_on_line(text: &str, offset: usize) -> bool {
    text[line_start(text, offset)..offset]
        .trim_start_matches(' ')
        .is_empty()
}

/// Returns the last line break before `offset`, or else the first of the text; LF if the text has none.
pub(super) fn line_break(text: &str, offset: usize) -> &'static str {
    let index = text[..offset].rfind('\n').or_else(|| text.find('\n'));
    match index {
        Some(index) if text[..index].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_counts_as_blank_only_after_white_space() {
        for (text, offset, want) in [
            ("", 0, 0),
            (" \t\r\n x", 0, 5),
            ("# c\n x", 0, 5),
            ("a # c\n# d\n\nx", 1, 11),
            ("a#b", 1, 1),
            ("a# b", 1, 1),
            ("a # to the end", 1, 14),
        ] {
            assert_eq!(skip_blank(text, offset), want, "{text:?}");
        }
    }

    #[test]
    fn skips_anchors_and_tags_but_not_the_space_after_them() {
        for (text, want) in [
            ("x", 0),
            ("&a x", 2),
            ("!!str x", 5),
            ("&a !t x", 5),
            ("!t # c\n  &a x", 11),
            ("&a", 2),
            ("&a !t", 5),
            ("&a,x", 2),
            ("&a]x", 2),
        ] {
            assert_eq!(skip_properties(text, 0), want, "{text:?}");
        }
    }

    #[test]
    fn finds_the_closing_quote() {
        for (text, want) in [
            (r#""a" b"#, 3),
            (r#""a\"b" c"#, 6),
            (r#""a\\" b"#, 5),
            (r#""it's" b"#, 6),
            ("'a' b", 3),
            ("'it''s' b", 7),
            (r"'a\' b", 4),
            (r#"'a"b' c"#, 5),
            ("'open", 5),
        ] {
            assert_eq!(quoted_end(text, 0), want, "{text}");
        }
    }

    #[test]
    fn finds_lines_and_columns() {
        let text = "ü: a\r\n  b\nc";
        let lines = |find: fn(&str, usize) -> usize| [0, 3, 9, 11].map(|offset| find(text, offset));
        assert_eq!(lines(line_start), [0, 0, 7, 11]);
        assert_eq!(lines(line_end), [5, 5, 10, 12]);
        assert_eq!(lines(column), [0, 2, 2, 0]);
        assert_eq!(
            [0, 3, 9, 10, 11].map(|offset| is_first_on_line(text, offset)),
            [true, false, true, false, true]
        );
        assert_eq!(
            [0, 9, 11].map(|offset| line_break(text, offset)),
            ["\r\n", "\r\n", "\n"]
        );
        assert_eq!(line_end("\r\n", 0), 0);
        assert_eq!(line_end("a\r\n", 2), 2);
    }
}
