//! Translates one edit to text replacements.

mod add;
mod remove;
mod replace;

use std::ops::Range;

use super::place::{Entry, Kind, Place, line_end};
use super::scalar_style::ScalarStyle;
use super::{Problem, Step};

/// Text that replaces a range, or is inserted before it if the range is empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Splice {
    pub(super) range: Range<usize>,
    pub(super) text: String,
}

/// Why and where an edit is not possible.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) at: usize,
    pub(super) problem: Problem,
}

type Splices = Result<Vec<Splice>, Refusal>;

fn splice(range: Range<usize>, text: impl Into<String>) -> Splice {
    let text = text.into();
    Splice { range, text }
}

fn refuse<T>(at: usize, problem: Problem) -> Result<T, Refusal> {
    Err(Refusal { at, problem })
}

/// A text and its style.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) json: bool,
}

/// The result of following a path.
enum Found<'a> {
    /// The value at the path.
    Value(&'a Place),
    /// The mappings on the path that exist, outermost first; the rest of the path is missing in the last one.
    Missing(Vec<&'a Place>, Option<&'a Entry>, &'a [Step]),
}

/// Returns whether the path leads to a scalar, which [`set`] would only replace.
pub(super) fn has_scalar(text: Text<'_>, root: &Place, path: &[Step]) -> bool {
    match follow(text, root, path) {
        Ok(Found::Value(place)) => !matches!(
            place.kind,
            Kind::List(_) | Kind::Map { .. } | Kind::Pair | Kind::Empty
        ),
        _ => false,
    }
}

/// Sets the value at a path; adds the missing parts of the path.
pub(super) fn set(text: Text<'_>, root: &Place, path: &[Step], value: &str) -> Splices {
    match follow(text, root, path)? {
        Found::Value(place) => text.replace(place, value),
        Found::Missing(around, entry, missing) => text.add(&around, entry, missing, value),
    }
}

/// Removes a key and its value.
pub(super) fn remove(text: Text<'_>, root: &Place, path: &[Step]) -> Splices {
    let Some((last, parents)) = path.split_last() else {
        return refuse(root.start, Problem::NotThere);
    };
    let Found::Value(map) = follow(text, root, parents)? else {
        return refuse(root.start, Problem::NotThere);
    };
    let Kind::Map { entries, flow } = &map.kind else {
        return refuse(map.start, Problem::NotThere);
    };
    let Some(index) = position(entries, last) else {
        return refuse(map.start, Problem::NotThere);
    };
    if *flow {
        Ok(text.remove_in_flow(map, entries, index))
    } else {
        text.remove_in_block(root, map, entries, index)
    }
}

/// Returns the position of the exact key; for a field, otherwise of a key that differs only in case. Of equal keys the
/// last one counts.
fn position(entries: &[Entry], step: &Step) -> Option<usize> {
    let last = |same: &dyn Fn(&str) -> bool| {
        entries
            .iter()
            .rposition(|entry| entry.key.as_deref().is_some_and(same))
    };
    match step {
        Step::Item(_) => None,
        Step::Key(key) => last(&|name| name == key),
        Step::Field(name) => {
            last(&|key| key == *name).or_else(|| last(&|k| k.eq_ignore_ascii_case(name)))
        }
    }
}

fn follow<'a>(text: Text<'_>, root: &'a Place, path: &'a [Step]) -> Result<Found<'a>, Refusal> {
    let (mut here, mut around, mut entry) = (root, Vec::new(), None);
    for (depth, step) in path.iter().enumerate() {
        if matches!(here.kind, Kind::Alias) {
            return refuse(here.start, Problem::Alias);
        }
        match (&here.kind, step) {
            (Kind::List(items), Step::Item(index)) => match items.get(*index) {
                Some(item) => (here, entry) = (item, None),
                None => return refuse(here.start, Problem::NotThere),
            },
            (Kind::Map { entries, .. }, _) if position(entries, step).is_some() => {
                let found = position(entries, step).map_or(&entries[0], |at| &entries[at]);
                around.push(here);
                (here, entry) = (&found.value, Some(found));
            }
            (Kind::Map { .. }, _) => {
                around.push(here);
                return Ok(Found::Missing(around, entry, &path[depth..]));
            }
            _ if here.is_hollow(text.text) => {
                around.push(here);
                return Ok(Found::Missing(around, entry, &path[depth..]));
            }
            _ => return refuse(here.start, Problem::NoMapping),
        }
    }
    Ok(Found::Value(here))
}

impl Text<'_> {
    fn style(self, like: Option<&Place>) -> ScalarStyle {
        match like {
            _ if self.json => ScalarStyle::Json,
            Some(place) => match place.kind {
                Kind::SingleQuoted => ScalarStyle::Single,
                Kind::DoubleQuoted => ScalarStyle::Double,
                _ => ScalarStyle::Plain,
            },
            None => ScalarStyle::Plain,
        }
    }

    /// Returns the end of the line. A comment may follow the value, but no part of another value.
    fn end_of_line_with_nothing_else(self, at: usize) -> Result<usize, Refusal> {
        let end = line_end(self.text, at);
        let rest = self.text[at..end].trim_start_matches([' ', '\t']);
        let separated = rest.len() < end - at;
        if rest.is_empty() || rest.starts_with('#') && separated {
            Ok(end)
        } else {
            refuse(at, Problem::Layout)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_comment_after_white_space_may_follow_a_value() {
        for (text, want) in [
            ("a: b", Some(4)),
            ("a: b \nc", Some(5)),
            ("a: b # c\r\n", Some(8)),
            ("a: b#c", None),
            ("a: b c", None),
        ] {
            let text = Text { text, json: false };
            assert_eq!(text.end_of_line_with_nothing_else(4).ok(), want);
        }
    }
}
