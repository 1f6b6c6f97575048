//! The positions of mappings and scalars in a file, for programs that combine or show parts of several versions of it.
//!
//! The ranges are byte offsets of the text. The parts of a mapping do not overlap, and together they are the mapping:
//! text that is joined from parts of several files has to be parsed again before it is trusted.

use std::ops::Range;

use super::splice::value_at;
use super::value_span::{column, is_first_on_line, line_end, line_start, skip_blank};
use super::{Entry, Kind, Source, Step, ValueSpan};

/// The positions of all values of a file.
#[derive(Debug)]
pub struct Layout<'a> {
    text: &'a str,
    roots: Vec<ValueSpan>,
}

/// The parts of a mapping with at least one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingLayout {
    /// Whether the mapping has braces.
    pub has_braces: bool,
    /// The column of the first key.
    pub column: usize,
    /// All parts: whole lines, or the text between the braces.
    pub range: Range<usize>,
    /// One part for each entry, in the order of the file.
    pub parts: Vec<Part>,
}

/// An entry of a mapping, with the text around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The parsed key.
    pub key: String,
    /// Comments and white space before the entry. Without braces, whole lines.
    pub before: Range<usize>,
    /// White space before the key on its line, key and value. With braces, only key and value.
    pub entry: Range<usize>,
    /// The value with its quotes.
    pub value: Range<usize>,
    /// Without braces, the rest of the last line. With braces, the text up to the comma, if there is one.
    pub after: Range<usize>,
}

impl<'a> Layout<'a> {
    /// Finds the positions in a file. Returns `None` if the file is not UTF-8 without byte order marks, if it is
    /// malformed, or if its layout is not supported.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        if text.contains(['\u{feff}', '\0']) {
            return None;
        }
        let source = Source::new(text.to_owned());
        let roots = source.spans().ok()?;
        Some(Self { text, roots })
    }

    /// Returns the text of the file.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Returns the parts of the mapping at a path. Returns `None` for an empty mapping, any other value, and a layout
    /// in which the parts cannot be separated, such as several entries on a line without braces.
    pub fn mapping(&self, document: usize, path: &[Step]) -> Option<MappingLayout> {
        let map = self.value(document, path)?;
        let Kind::Map { flow, entries } = &map.kind else {
            return None;
        };
        if *flow {
            self.with_braces(map, entries)
        } else {
            self.without_braces(entries)
        }
    }

    /// Returns the range of a scalar on one line, with its quotes.
    pub fn scalar(&self, document: usize, path: &[Step]) -> Option<Range<usize>> {
        let span = self.value(document, path)?;
        let is_scalar = matches!(
            span.kind,
            Kind::Plain | Kind::SingleQuoted | Kind::DoubleQuoted
        );
        let range = span.start..span.end;
        (is_scalar && !self.text[range.clone()].contains('\n')).then_some(range)
    }

    /// Returns the range of a block scalar, from its header to the end of its last line.
    pub fn block(&self, document: usize, path: &[Step]) -> Option<Range<usize>> {
        let span = self.value(document, path)?;
        matches!(span.kind, Kind::Block { .. }).then(|| span.start..span.end)
    }

    fn value(&self, document: usize, path: &[Step]) -> Option<&ValueSpan> {
        let root = self.roots.get(document.checked_sub(1)?)?;
        value_at(self.text, root, path)
    }

    fn with_braces(&self, map: &ValueSpan, entries: &[Entry]) -> Option<MappingLayout> {
        let inside = map.start + 1..map.end.checked_sub(1)?;
        let (mut parts, mut start) = (Vec::new(), inside.start);
        for entry in entries {
            let after_value = skip_blank(self.text, entry.value.end);
            let has_comma = self.text[after_value..].starts_with(',');
            let end = if has_comma {
                after_value
            } else {
                entry.value.end
            };
            parts.push(part(entry, start, entry.start, end)?);
            start = end + usize::from(has_comma);
        }
        Some(MappingLayout {
            has_braces: true,
            column: column(self.text, entries.first()?.start),
            range: inside,
            parts,
        })
    }

    fn without_braces(&self, entries: &[Entry]) -> Option<MappingLayout> {
        let first = entries.first()?;
        let range_start = self.start_of_comments_above(line_start(self.text, first.start));
        let (mut parts, mut start) = (Vec::new(), range_start);
        for entry in entries {
            let rest = line_end(self.text, entry.value.end);
            let comment = self.text[entry.value.end..rest].trim();
            let has_own_lines = is_first_on_line(self.text, entry.start)
                && (comment.is_empty() || comment.starts_with('#'));
            if !has_own_lines {
                return None;
            }
            let end = self.text[rest..]
                .find('\n')
                .map_or(self.text.len(), |index| rest + index + 1);
            parts.push(part(entry, start, line_start(self.text, entry.start), end)?);
            start = end;
        }
        Some(MappingLayout {
            has_braces: false,
            column: column(self.text, first.start),
            range: range_start..start,
            parts,
        })
    }

    /// Returns the start of the comments and blank lines above a line.
    fn start_of_comments_above(&self, mut line: usize) -> usize {
        while let Some(above) = line.checked_sub(1).map(|end| line_start(self.text, end)) {
            let text = self.text[above..line].trim();
            if !(text.is_empty() || text.starts_with('#')) {
                break;
            }
            line = above;
        }
        line
    }
}

/// Returns the part of an entry between two offsets; `None` for a merge key, an alias and a key without a colon.
fn part(entry: &Entry, start: usize, entry_start: usize, end: usize) -> Option<Part> {
    entry.colon?;
    let is_ordered =
        start <= entry_start && entry_start <= entry.value.end && entry.value.end <= end;
    is_ordered.then_some(())?;
    Some(Part {
        key: entry.key.clone()?,
        before: start..entry_start,
        entry: entry_start..entry.value.end,
        value: entry.value.start..entry.value.end,
        after: entry.value.end..end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(names: &[&'static str]) -> Vec<Step> {
        names.iter().map(|name| Step::Field(name)).collect()
    }

    fn parts(text: &str) -> Option<Vec<[&str; 5]>> {
        let layout = Layout::of(text.as_bytes())?.mapping(1, &path(&["m"]))?;
        let show = |part: &Part| {
            let ranges = [&part.before, &part.entry, &part.value, &part.after];
            let [before, entry, value, after] = ranges.map(|range| &text[range.clone()]);
            let key = text
                .find(&part.key)
                .map_or("", |i| &text[i..i + part.key.len()]);
            [key, before, entry, value, after]
        };
        Some(layout.parts.iter().map(show).collect())
    }

    #[test]
    fn separates_entries_with_their_comments() {
        let text = "k: 1\nm:  # one\n  # two\n\n  a: x  # three\r\n  b: |\n    y\n  # four\nn: 2\n";
        assert_eq!(
            parts(text).unwrap(),
            [
                ["a", "  # two\n\n", "  a: x", "x", "  # three\r\n"],
                ["b", "", "  b: |\n    y", "|\n    y", "\n"],
            ]
        );
        let text = "m: { a: 'x' , # one\n b: y, }\n";
        assert_eq!(
            parts(text).unwrap(),
            [
                ["a", " ", "a: 'x'", "'x'", " "],
                ["b", " # one\n ", "b: y", "y", ""],
            ]
        );
        let json = "{\n \"m\": {\n  \"a\": \"x\",\n  \"b\": \"y\"\n }\n}\n";
        assert_eq!(
            parts(json).unwrap(),
            [
                ["a", "\n  ", "\"a\": \"x\"", "\"x\"", ""],
                ["b", "\n  ", "\"b\": \"y\"", "\"y\"", ""],
            ]
        );
    }

    #[test]
    fn parts_and_separators_are_the_whole_range() {
        for (text, separator) in [("m:\n  a: x\n  b: y", ""), ("m: {a: x, b: y}", ",")] {
            let layout = Layout::of(text.as_bytes()).unwrap();
            let mapping = layout.mapping(1, &path(&["m"])).unwrap();
            let joined = mapping.parts.iter().map(|part| {
                let ranges = [&part.before, &part.entry, &part.after];
                ranges.map(|range| &text[range.clone()]).concat()
            });
            let joined: Vec<String> = joined.collect();
            assert_eq!(joined.join(separator), text[mapping.range]);
        }
    }

    #[test]
    fn returns_nothing_for_layouts_that_it_cannot_separate() {
        for text in [
            "m: {}\n",
            "m: [a]\n",
            "m: x\n",
            "n: {a: x}\n",
            "m:\n  <<: {a: x}\n",
            "m:\n  a: x\r  b: y\n",
            "\u{feff}m:\n  a: x\n",
            "m:\n  a: [\n",
        ] {
            assert_eq!(parts(text), None, "{text:?}");
        }
        let quoted = Layout::of(b"m: 'a'\nn: |\n  b\no: 'c\n  d'\n").unwrap();
        assert_eq!(quoted.scalar(1, &path(&["m"])), Some(3..6));
        for name in ["n", "o", "p"] {
            assert_eq!(quoted.scalar(1, &path(&[name])), None, "{name}");
        }
    }

    proptest::proptest! {
        /// Attack: a committer writes arbitrary YAML, to crash the merge driver.
        #[test]
        fn never_panics(text in "[ \\n\\r:{}\\[\\]\"'&*a0,|>#?!-]{0,60}") {
            let _ = parts(&format!("m:{text}"));
        }
    }
}
