//! Where the values of a text stand: offsets in bytes, found anew in the text, because a parser's
//! spans include anchors and trailing space here and leave headers out there.

/// A value and its place.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) kind: Kind,
    /// Behind anchor and tag; of a block scalar, its header.
    pub(super) start: usize,
    /// Behind the last character that belongs to it. Of a block scalar, before its last line break.
    pub(super) end: usize,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// Nothing is written there, which means `null`.
    Empty,
    Plain,
    SingleQuoted,
    DoubleQuoted,
    /// `|` or `>`: where the header ends, and where the first line of content begins.
    Block {
        header_end: usize,
        content: usize,
    },
    Alias,
    List(Vec<Place>),
    Map {
        flow: bool,
        entries: Vec<Entry>,
    },
    /// A mapping without braces in a flow sequence.
    Pair,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// As the reader calls it; none for a merge.
    pub(super) key: Option<String>,
    /// Of the key, or of the `?` before it.
    pub(super) start: usize,
    /// Behind the key.
    pub(super) key_end: usize,
    /// Behind the colon; none if there is no colon.
    pub(super) colon: Option<usize>,
    pub(super) value: Place,
}

impl Place {
    pub(super) fn is_hollow(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Map { entries, .. } => entries.is_empty(),
            Kind::Plain => matches!(&text[self.start..self.end], "~" | "null" | "Null" | "NULL"),
            _ => false,
        }
    }
}

/// Passes spaces, line breaks and comments.
pub(super) fn skip_blank(text: &str, mut at: usize) -> usize {
    let bytes = text.as_bytes();
    loop {
        match bytes.get(at) {
            Some(b' ' | b'\t' | b'\r' | b'\n') => at += 1,
            Some(b'#') if at == 0 || bytes[at - 1].is_ascii_whitespace() => {
                at = line_end(text, at);
            }
            _ => return at,
        }
    }
}

/// Passes anchor and tag, and what separates them; the place behind the last of them.
pub(super) fn skip_properties(text: &str, start: usize) -> usize {
    let mut end = start;
    loop {
        let at = if end == start {
            start
        } else {
            skip_blank(text, end)
        };
        if !text[at..].starts_with(['&', '!']) {
            return end;
        }
        let len = text[at..].find(|c: char| c.is_ascii_whitespace() || ",[]{}".contains(c));
        end = at + len.unwrap_or(text.len() - at);
    }
}

/// Behind the quote that closes the one here.
pub(super) fn quoted_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let quote = bytes.get(start).copied();
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' if quote == Some(b'"') => at += 1,
            b'\'' if quote == Some(b'\'') && bytes.get(at + 1) == Some(&b'\'') => at += 1,
            _ if Some(*byte) == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// Of the line that this place is in.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |found| found + 1)
}

/// Before the line break, CR included.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    let end = text[at..].find('\n').map_or(text.len(), |found| at + found);
    if end > at && text.as_bytes()[end - 1] == b'\r' {
        end - 1
    } else {
        end
    }
}

/// Counted in characters.
pub(super) fn column(text: &str, at: usize) -> usize {
    text[line_start(text, at)..at].chars().count()
}

/// Is there nothing but space before this place in its line?
pub(super) fn begins_line(text: &str, at: usize) -> bool {
    text[line_start(text, at)..at]
        .trim_start_matches(' ')
        .is_empty()
}

/// The line break in use around here.
pub(super) fn line_break(text: &str, at: usize) -> &'static str {
    let found = text[..at].rfind('\n').or_else(|| text.find('\n'));
    match found {
        Some(found) if text[..found].ends_with('\r') => "\r\n",
        _ => "\n",
    }
}
