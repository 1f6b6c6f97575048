//! Finds the positions of the values in JSON. Does not detect all malformed input.

use super::value_span::{Entry, Kind, ValueSpan, quoted_end};

/// Returns the root of every document in a JSON stream; `None` for text that is found to be malformed, and for values
/// nested too deeply.
pub(super) fn find(text: &str) -> Option<Vec<ValueSpan>> {
    let mut roots = Vec::new();
    let mut finder = Finder { text, offset: 0 };
    loop {
        finder.skip_space();
        if finder.offset == text.len() {
            return Some(roots);
        }
        roots.push(finder.value(0)?);
    }
}

/// The nesting limit of `serde_json`.
const MAX_DEPTH: usize = 128;

struct Finder<'a> {
    text: &'a str,
    offset: usize,
}

impl Finder<'_> {
    fn skip_space(&mut self) {
        let remaining = &self.text[self.offset..];
        self.offset +=
            remaining.len() - remaining.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.offset).copied()
    }

    /// Consumes the expected character after optional space; returns `None` for any other character.
    fn take(&mut self, expected: u8) -> Option<()> {
        self.skip_space();
        (self.peek() == Some(expected)).then(|| self.offset += 1)
    }

    fn value(&mut self, depth: usize) -> Option<ValueSpan> {
        if depth == MAX_DEPTH {
            return None;
        }
        self.skip_space();
        let start = self.offset;
        let kind = match self.peek()? {
            b'{' => Kind::Map {
                flow: true,
                entries: self.sequence(b'}', |finder| finder.entry(depth))?,
            },
            b'[' => Kind::List(self.sequence(b']', |finder| finder.value(depth + 1))?),
            b'"' => {
                self.offset = quoted_end(self.text, start);
                Kind::DoubleQuoted
            }
            _ => self.keyword()?,
        };
        Some(ValueSpan {
            kind,
            start,
            end: self.offset,
        })
    }

    fn sequence<T>(
        &mut self,
        closing: u8,
        mut parse_item: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut items = Vec::new();
        self.offset += 1;
        if self.take(closing).is_some() {
            return Some(items);
        }
        loop {
            items.push(parse_item(self)?);
            if self.take(b',').is_none() {
                self.take(closing)?;
                return Some(items);
            }
        }
    }

    fn entry(&mut self, depth: usize) -> Option<Entry> {
        self.skip_space();
        let start = self.offset;
        if self.peek() != Some(b'"') {
            return None;
        }
        let key_end = quoted_end(self.text, start);
        let key: String = serde_json::from_str(&self.text[start..key_end]).ok()?;
        self.offset = key_end;
        self.take(b':')?;
        Some(Entry {
            key: Some(key),
            start,
            key_end,
            colon: Some(self.offset),
            value: self.value(depth + 1)?,
        })
    }

    fn keyword(&mut self) -> Option<Kind> {
        let remaining = &self.text[self.offset..];
        let end = remaining.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
        let len = end.unwrap_or(remaining.len());
        self.offset += len;
        (len > 0).then_some(Kind::Plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_at_the_nesting_limit() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let nested = |levels| open.repeat(levels) + "1" + &close.repeat(levels);
            assert!(find(&nested(MAX_DEPTH - 1)).is_some(), "{open}");
            assert!(find(&nested(MAX_DEPTH)).is_none(), "{open}");
        }
    }
}
