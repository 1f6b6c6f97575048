//! Removes a key with its value: in a block usually whole lines, between braces the entry and its comma.

use std::ops::Range;

use super::super::value_span::{is_first_on_line, line_start, skip_blank, skip_properties};
use super::{Entry, Kind, Problem, Splice, Splices, Text, ValueSpan, refuse, splice};

impl Text<'_> {
    pub(super) fn remove_in_flow(
        self,
        map: &ValueSpan,
        entries: &[Entry],
        index: usize,
    ) -> Vec<Splice> {
        let entry = &entries[index];
        let end = entry.value.end;
        let is_blank = |range: Range<usize>| self.text[range].trim().is_empty();
        let comma = skip_blank(self.text, end);
        let after_comma = if self.text[comma..].starts_with(',') {
            comma + 1
        } else {
            end
        };
        let range = match (index.checked_sub(1), entries.get(index + 1)) {
            (_, Some(next)) if is_blank(after_comma..next.start) && is_blank(end..comma) => {
                entry.start..next.start
            }
            (Some(previous), None)
                if is_comma(&self.text[entries[previous].value.end..entry.start]) =>
            {
                entries[previous].value.end..end
            }
            (None, None)
                if is_blank(map.start + 1..entry.start) && is_blank(after_comma..map.end - 1) =>
            {
                map.start + 1..map.end - 1
            }
            _ => entry.start..after_comma,
        };
        vec![splice(range, "")]
    }

    pub(super) fn remove_in_block(
        self,
        root: &ValueSpan,
        map: &ValueSpan,
        entries: &[Entry],
        index: usize,
    ) -> Splices {
        let entry = &entries[index];
        let end = self.end_of_line_after_value(entry.value.end)?;
        if entries.len() == 1 {
            return self.replace_last_with_braces(root, map, entry, end);
        }
        if !is_first_on_line(self.text, entry.start) {
            let Some(next) = entries.get(index + 1) else {
                return refuse(entry.start, Problem::Layout);
            };
            if !self.text[end..next.start].trim().is_empty() {
                return refuse(entry.start, Problem::Layout);
            }
            return Ok(vec![splice(entry.start..next.start, "")]);
        }
        Ok(vec![splice(self.line_range(entry.start, end), "")])
    }

    /// Returns the range of the lines from `start` to `end`, with the line break after them, or before them if the text
    /// ends there.
    fn line_range(self, start: usize, end: usize) -> Range<usize> {
        let start = line_start(self.text, start);
        if let Some(line_len) = self.text[end..].find('\n') {
            return start..end + line_len + 1;
        }
        let before = &self.text[..start];
        let before = before.strip_suffix('\n').unwrap_or(before);
        before.strip_suffix('\r').unwrap_or(before).len()..end
    }

    /// Removes the only entry of a mapping, and writes `{}` in place of the mapping.
    fn replace_last_with_braces(
        self,
        root: &ValueSpan,
        map: &ValueSpan,
        entry: &Entry,
        end: usize,
    ) -> Splices {
        let Some(owner) = owner_of(root, map) else {
            return refuse(entry.start, Problem::Last);
        };
        let Some(colon) = owner
            .colon
            .filter(|_| is_first_on_line(self.text, entry.start))
        else {
            return refuse(entry.start, Problem::Last);
        };
        let offset = skip_properties(self.text, skip_spaces(self.text, colon));
        let offset = if offset == skip_spaces(self.text, colon) {
            colon
        } else {
            offset
        };
        Ok(vec![
            splice(offset..offset, " {}"),
            splice(self.line_range(entry.start, end), ""),
        ])
    }
}

fn is_comma(text: &str) -> bool {
    text.trim() == ","
}

fn skip_spaces(text: &str, offset: usize) -> usize {
    let remaining = &text[offset..];
    offset + remaining.len() - remaining.trim_start_matches(' ').len()
}

/// Returns the entry below `root` whose value is `map` itself, not an equal mapping.
fn owner_of<'a>(root: &'a ValueSpan, map: &ValueSpan) -> Option<&'a Entry> {
    match &root.kind {
        Kind::List(items) => items.iter().find_map(|item| owner_of(item, map)),
        Kind::Map { entries, .. } => entries.iter().find_map(|entry| {
            if std::ptr::eq(&raw const entry.value, map) {
                Some(entry)
            } else {
                owner_of(&entry.value, map)
            }
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_spaces() {
        for (text, offset, want) in [("  x", 0, 2), ("x", 0, 0), ("ab  c", 2, 4), ("a ", 1, 2)] {
            assert_eq!(skip_spaces(text, offset), want, "{text:?}");
        }
    }
}
