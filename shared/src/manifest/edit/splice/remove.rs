//! Removes a key, its value and what belongs to it.

use std::ops::Range;

use super::super::place::{begins_line, line_start, skip_blank, skip_properties};
use super::{Entry, Kind, Place, Problem, Splice, Splices, Text, refuse, splice};

impl Text<'_> {
    pub(super) fn remove_in_flow(
        self,
        map: &Place,
        entries: &[Entry],
        index: usize,
    ) -> Vec<Splice> {
        let entry = &entries[index];
        let end = entry.value.end;
        let blank = |range: Range<usize>| self.text[range].trim().is_empty();
        let comma = skip_blank(self.text, end);
        let behind_comma = if self.text[comma..].starts_with(',') {
            comma + 1
        } else {
            end
        };
        let range = match (index.checked_sub(1), entries.get(index + 1)) {
            (_, Some(next)) if blank(behind_comma..next.start) && blank(end..comma) => {
                entry.start..next.start
            }
            (Some(previous), None)
                if blank_or_comma(&self.text[entries[previous].value.end..entry.start]) =>
            {
                entries[previous].value.end..end
            }
            (None, None)
                if blank(map.start + 1..entry.start) && blank(behind_comma..map.end - 1) =>
            {
                map.start + 1..map.end - 1
            }
            _ => entry.start..behind_comma,
        };
        vec![splice(range, "")]
    }

    pub(super) fn remove_in_block(
        self,
        root: &Place,
        map: &Place,
        entries: &[Entry],
        index: usize,
    ) -> Splices {
        let entry = &entries[index];
        let end = self.end_of_line_with_nothing_else(entry.value.end)?;
        if entries.len() == 1 {
            return self.empty_block(root, map, entry, end);
        }
        if !begins_line(self.text, entry.start) {
            let Some(next) = entries.get(index + 1) else {
                return refuse(entry.start, Problem::Layout);
            };
            if !self.text[end..next.start].trim().is_empty() {
                return refuse(entry.start, Problem::Layout);
            }
            return Ok(vec![splice(entry.start..next.start, "")]);
        }
        Ok(vec![splice(self.whole_lines(entry.start, end), "")])
    }

    /// Returns the lines from `start` to `end` with the last line break, or with the one before if the text
    /// ends there.
    fn whole_lines(self, start: usize, end: usize) -> Range<usize> {
        let start = line_start(self.text, start);
        if let Some(found) = self.text[end..].find('\n') {
            return start..end + found + 1;
        }
        let before = &self.text[..start];
        let before = before.strip_suffix('\n').unwrap_or(before);
        before.strip_suffix('\r').unwrap_or(before).len()..end
    }

    /// Removes the last entry and leaves `{}`.
    fn empty_block(self, root: &Place, map: &Place, entry: &Entry, end: usize) -> Splices {
        let Some(owner) = owner_of(root, map) else {
            return refuse(entry.start, Problem::Last);
        };
        let Some(colon) = owner.colon.filter(|_| begins_line(self.text, entry.start)) else {
            return refuse(entry.start, Problem::Last);
        };
        let at = skip_properties(self.text, skip_spaces(self.text, colon));
        let at = if at == skip_spaces(self.text, colon) {
            colon
        } else {
            at
        };
        Ok(vec![
            splice(at..at, " {}"),
            splice(self.whole_lines(entry.start, end), ""),
        ])
    }
}

fn blank_or_comma(text: &str) -> bool {
    text.trim() == ","
}

fn skip_spaces(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    at + rest.len() - rest.trim_start_matches(' ').len()
}

/// Returns the entry below `root` whose value is `map` itself, not an equal mapping.
fn owner_of<'a>(root: &'a Place, map: &Place) -> Option<&'a Entry> {
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
    fn passes_spaces() {
        for (text, at, want) in [("  x", 0, 2), ("x", 0, 0), ("ab  c", 2, 4), ("a ", 1, 2)] {
            assert_eq!(skip_spaces(text, at), want, "{text:?}");
        }
    }
}
