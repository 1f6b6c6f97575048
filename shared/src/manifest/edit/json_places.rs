//! Finds the positions of the values in a JSON text. The text has already been parsed as JSON; malformed text gives no
//! positions.

use super::place::{Entry, Kind, Place, quoted_end};

/// Returns the root of every object of a stream; `None` if the text is anything else.
pub(super) fn find(text: &str) -> Option<Vec<Place>> {
    let mut roots = Vec::new();
    let mut finder = Finder { text, at: 0 };
    loop {
        finder.skip_space();
        if finder.at == text.len() {
            return Some(roots);
        }
        roots.push(finder.value(0)?);
    }
}

/// The nesting limit of `serde_json`.
const MAX_DEPTH: usize = 128;

struct Finder<'a> {
    text: &'a str,
    at: usize,
}

impl Finder<'_> {
    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Consumes this character after optional space.
    fn take(&mut self, wanted: u8) -> Option<()> {
        self.skip_space();
        (self.peek() == Some(wanted)).then(|| self.at += 1)
    }

    fn value(&mut self, depth: usize) -> Option<Place> {
        if depth == MAX_DEPTH {
            return None;
        }
        self.skip_space();
        let start = self.at;
        let kind = match self.peek()? {
            b'{' => Kind::Map {
                flow: true,
                entries: self.sequence(b'}', |finder| finder.entry(depth))?,
            },
            b'[' => Kind::List(self.sequence(b']', |finder| finder.value(depth + 1))?),
            b'"' => {
                self.at = quoted_end(self.text, start);
                Kind::DoubleQuoted
            }
            _ => self.keyword()?,
        };
        Some(Place {
            kind,
            start,
            end: self.at,
        })
    }

    fn sequence<T>(
        &mut self,
        closing: u8,
        mut one: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut all = Vec::new();
        self.at += 1;
        if self.take(closing).is_some() {
            return Some(all);
        }
        loop {
            all.push(one(self)?);
            if self.take(b',').is_none() {
                self.take(closing)?;
                return Some(all);
            }
        }
    }

    fn entry(&mut self, depth: usize) -> Option<Entry> {
        self.skip_space();
        let start = self.at;
        if self.peek() != Some(b'"') {
            return None;
        }
        let key_end = quoted_end(self.text, start);
        let key: String = serde_json::from_str(&self.text[start..key_end]).ok()?;
        self.at = key_end;
        self.take(b':')?;
        Some(Entry {
            key: Some(key),
            start,
            key_end,
            colon: Some(self.at),
            value: self.value(depth + 1)?,
        })
    }

    fn keyword(&mut self) -> Option<Kind> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
        let len = end.unwrap_or(rest.len());
        self.at += len;
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
