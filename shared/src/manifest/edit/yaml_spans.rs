//! Finds the positions of the values in YAML.

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::value_span::{
    Entry, Kind, ValueSpan, line_end, quoted_end, skip_blank, skip_properties,
};
use crate::manifest::yaml_in;

/// Returns the root of every document. Returns `None` if the text is malformed, has a directive with non-ASCII
/// characters, contains a CR without LF, which is a line break only for the parser, or if a position is not found.
pub(super) fn find(text: &str) -> Option<Vec<ValueSpan>> {
    if text.split('\r').skip(1).any(|rest| !rest.starts_with('\n')) || has_non_ascii_directive(text)
    {
        return None;
    }
    let mut finder = Finder {
        text,
        bytes: Offsets::of(text),
        roots: Vec::new(),
        open: Vec::new(),
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        finder.process_event(&event, span)?;
    }
    Some(finder.roots)
}

/// Returns whether a line that begins like a directive contains a character outside ASCII. In an unknown directive, the
/// parser counts bytes instead of characters, so all later offsets are wrong.
fn has_non_ascii_directive(text: &str) -> bool {
    let mut lines = text.lines();
    lines.any(|line| line.starts_with('%') && !line.is_ascii())
}

/// Converts the parser's character offsets to byte offsets.
struct Offsets(Option<Vec<usize>>);

impl Offsets {
    fn of(text: &str) -> Self {
        let offsets = || text.char_indices().map(|(offset, _)| offset);
        Self((!text.is_ascii()).then(|| offsets().chain([text.len()]).collect()))
    }

    fn byte(&self, character: usize) -> usize {
        match &self.0 {
            None => character,
            Some(offsets) => offsets
                .get(character)
                .or(offsets.last())
                .copied()
                .unwrap_or(0),
        }
    }
}

struct Finder<'a> {
    text: &'a str,
    bytes: Offsets,
    roots: Vec<ValueSpan>,
    open: Vec<Open>,
}

/// A collection that has not ended yet.
struct Open {
    value: ValueSpan,
    /// A key whose value has not been read yet.
    key: Option<Key>,
}

struct Key {
    name: Option<String>,
    start: usize,
    end: usize,
    colon: Option<usize>,
}

impl Finder<'_> {
    fn process_event(&mut self, event: &Event<'_>, span: Span) -> Option<()> {
        let (from, to) = (
            self.bytes.byte(span.start.index()),
            self.bytes.byte(span.end.index()),
        );
        match event {
            Event::Scalar(text, style, _, tag) if self.is_key_next() => {
                let name = yaml_in::key_name(text, *style, tag.as_deref());
                let end = match style {
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => {
                        quoted_end(self.text, self.after_properties(from))
                    }
                    _ => to,
                };
                self.begin_entry(name, from, end)
            }
            Event::Alias(_) if self.is_key_next() => self.begin_entry(None, from, to),
            Event::Scalar(text, style, anchor, tag) => {
                let is_empty = *style == ScalarStyle::Plain && text.is_empty();
                let value = if is_empty {
                    self.empty_value(from, *anchor != 0, tag.as_deref())
                } else {
                    self.scalar(*style, from, to)
                };
                self.add(value)
            }
            Event::Alias(_) => self.add(ValueSpan {
                kind: Kind::Alias,
                start: from,
                end: to,
            }),
            Event::SequenceStart(..) => {
                self.begin(Kind::List(Vec::new()), from);
                Some(())
            }
            Event::MappingStart(..) => {
                let flow = self.text[self.value_start(from)..].starts_with('{');
                let entries = Vec::new();
                self.begin(Kind::Map { flow, entries }, from);
                Some(())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let mut collection = self.open.pop()?.value;
                self.close(&mut collection)?;
                self.add(collection)
            }
            _ => Some(()),
        }
    }

    fn is_key_next(&self) -> bool {
        self.open
            .last()
            .is_some_and(|open| open.key.is_none() && matches!(open.value.kind, Kind::Map { .. }))
    }

    fn after_properties(&self, offset: usize) -> usize {
        match skip_properties(self.text, offset) {
            end if end == offset => offset,
            end => skip_blank(self.text, end),
        }
    }

    /// Returns the start of a value from the start of its span. After a key, the search begins at the colon,
    /// because the span of a block scalar omits its header.
    fn value_start(&self, from: usize) -> usize {
        let key = self.open.last().and_then(|open| open.key.as_ref());
        match key.and_then(|key| key.colon) {
            Some(colon) => self.after_properties(skip_blank(self.text, colon)),
            None => self.after_properties(from),
        }
    }

    fn begin_entry(&mut self, name: Option<String>, start: usize, end: usize) -> Option<()> {
        let colon = skip_blank(self.text, end);
        let colon = self.text[colon..].starts_with(':').then_some(colon + 1);
        let before = self.text[..start].trim_end_matches([' ', '\t']);
        let start = if before.ends_with('?') && before.len() < start {
            before.len() - 1
        } else {
            start
        };
        self.open.last_mut()?.key = Some(Key {
            name,
            start,
            end,
            colon,
        });
        Some(())
    }

    fn empty_value(&self, from: usize, has_anchor: bool, tag: Option<&Tag>) -> ValueSpan {
        let key = self.open.last().and_then(|open| open.key.as_ref());
        let colon = key.and_then(|key| key.colon).unwrap_or(from);
        let offset = if has_anchor || tag.is_some() {
            skip_properties(self.text, skip_blank(self.text, colon))
        } else {
            colon
        };
        ValueSpan {
            kind: Kind::Empty,
            start: offset,
            end: offset,
        }
    }

    fn scalar(&self, style: ScalarStyle, from: usize, to: usize) -> ValueSpan {
        let start = self.value_start(from);
        let (kind, end) = match style {
            ScalarStyle::Plain => (Kind::Plain, to),
            ScalarStyle::SingleQuoted => (Kind::SingleQuoted, quoted_end(self.text, start)),
            ScalarStyle::DoubleQuoted => (Kind::DoubleQuoted, quoted_end(self.text, start)),
            ScalarStyle::Literal | ScalarStyle::Folded => self.block(start, to),
        };
        ValueSpan { kind, start, end }
    }

    /// Finds the end of a block scalar. Blank lines at its end belong to the value only if the header has a `+`.
    fn block(&self, start: usize, to: usize) -> (Kind, usize) {
        let text = self.text;
        let len = text[start..].find(|c: char| !"|>+-0123456789".contains(c));
        let header_end = start + len.unwrap_or(text.len() - start);
        let content = (line_end(text, header_end) + 1).min(text.len());
        let content = if text[..content].ends_with('\r') {
            (content + 1).min(text.len())
        } else {
            content
        };
        let keeps_line_breaks = text[start..header_end].contains('+');
        let body = &text[content.min(to)..to];
        let body = if keeps_line_breaks {
            body.strip_suffix('\n').unwrap_or(body)
        } else {
            body.trim_end()
        };
        let body = body.strip_suffix('\r').unwrap_or(body);
        let end = content.min(to) + body.len();
        (
            Kind::Block {
                header_end,
                content,
            },
            end.max(header_end),
        )
    }

    fn begin(&mut self, kind: Kind, from: usize) {
        let start = self.value_start(from);
        let value = ValueSpan {
            kind,
            start,
            end: start,
        };
        self.open.push(Open { value, key: None });
    }

    fn close(&self, value: &mut ValueSpan) -> Option<()> {
        let text = self.text;
        let last = match &value.kind {
            Kind::List(items) => items.last(),
            Kind::Map { entries, .. } => entries.last().map(|entry| &entry.value),
            _ => None,
        };
        let last_end = last.map(|last| last.end);
        let closing = match text.as_bytes().get(value.start) {
            Some(b'{') => b'}',
            Some(b'[') => b']',
            _ => {
                let in_flow = self.open.last().is_some_and(|parent| {
                    matches!(parent.value.kind, Kind::List(_))
                        && text[parent.value.start..].starts_with('[')
                });
                value.end = last_end?;
                if in_flow {
                    value.kind = Kind::Pair;
                }
                return Some(());
            }
        };
        let mut offset = skip_blank(text, last_end.unwrap_or(value.start + 1));
        if last_end.is_some() && text[offset..].starts_with(',') {
            offset = skip_blank(text, offset + 1);
        }
        value.end = offset + 1;
        (text.as_bytes().get(offset) == Some(&closing)).then_some(())
    }

    /// Adds a value to the innermost collection, or to the roots. Returns `None` for an invalid position, so that
    /// slicing the text there never panics.
    fn add(&mut self, value: ValueSpan) -> Option<()> {
        self.text.get(value.start..value.end)?;
        let Some(parent) = self.open.last_mut() else {
            self.roots.push(value);
            return Some(());
        };
        match &mut parent.value.kind {
            Kind::List(items) => items.push(value),
            Kind::Map { entries, .. } => {
                // `None` for a key that is a collection, which the parser of manifests refuses.
                let key = parent.key.take()?;
                entries.push(Entry {
                    key: key.name,
                    start: key.start,
                    key_end: key.end,
                    colon: key.colon,
                    value,
                });
            }
            _ => return None,
        }
        Some(())
    }
}
