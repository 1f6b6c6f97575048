//! Translates one edit to text replacements.

mod add;
mod remove;
mod replace;

use std::ops::Range;

use super::scalar_style::ScalarStyle;
use super::value_span::{Entry, Kind, ValueSpan, line_end};
use super::{Problem, Step};
use crate::manifest::is_same_name;

/// Text that replaces a range, or is inserted at its start if the range is empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Splice {
    pub(super) range: Range<usize>,
    pub(super) text: String,
}

/// The reason and the offset of an edit that is not possible.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) offset: usize,
    pub(super) problem: Problem,
}

type Splices = Result<Vec<Splice>, Refusal>;

fn splice(range: Range<usize>, text: impl Into<String>) -> Splice {
    let text = text.into();
    Splice { range, text }
}

fn refuse<T>(offset: usize, problem: Problem) -> Result<T, Refusal> {
    Err(Refusal { offset, problem })
}

/// The text of a file, and whether it is a JSON stream.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) json: bool,
}

/// The target of a path.
enum Target<'a> {
    /// The value at the path.
    Value(&'a ValueSpan),
    /// No value at the path. Contains the existing mappings on the path, outermost first (the last may be null
    /// instead), the entry that contains the last of them, if any, and the missing rest of the path.
    Missing(Vec<&'a ValueSpan>, Option<&'a Entry>, &'a [Step]),
}

/// Returns whether the path leads to an alias, or to a scalar other than an omitted value: [`set`] would only replace
/// its text.
pub(super) fn has_scalar(text: Text<'_>, root: &ValueSpan, path: &[Step]) -> bool {
    match follow(text, root, path) {
        Ok(Target::Value(span)) => !matches!(
            span.kind,
            Kind::List(_) | Kind::Map { .. } | Kind::Pair | Kind::Empty
        ),
        _ => false,
    }
}

/// Returns the value at a path; `None` if it is missing or null.
pub(super) fn value_at<'a>(
    text: &str,
    root: &'a ValueSpan,
    path: &[Step],
) -> Option<&'a ValueSpan> {
    let mut current = root;
    for step in path {
        current = match (&current.kind, step) {
            (Kind::List(items), Step::Item(index)) => items.get(*index)?,
            (Kind::Map { entries, .. }, _) => &entries[position(entries, step)?].value,
            _ => return None,
        };
    }
    (!current.is_null(text)).then_some(current)
}

/// Sets the value at a path. Adds the mappings of the path that do not exist.
pub(super) fn set(text: Text<'_>, root: &ValueSpan, path: &[Step], value: &str) -> Splices {
    match follow(text, root, path)? {
        Target::Value(span) => text.replace(span, value),
        Target::Missing(ancestors, entry, missing) => text.add(&ancestors, entry, missing, value),
    }
}

/// Removes a key and its value.
pub(super) fn remove(text: Text<'_>, root: &ValueSpan, path: &[Step]) -> Splices {
    let Some((last, parents)) = path.split_last() else {
        return refuse(root.start, Problem::Missing);
    };
    let Target::Value(map) = follow(text, root, parents)? else {
        return refuse(root.start, Problem::Missing);
    };
    let Kind::Map { entries, flow } = &map.kind else {
        return refuse(map.start, Problem::Missing);
    };
    let Some(index) = position(entries, last) else {
        return refuse(map.start, Problem::Missing);
    };
    if *flow {
        Ok(text.remove_in_flow(map, entries, index))
    } else {
        text.remove_in_block(root, map, entries, index)
    }
}

/// Returns the index of the entry that a step selects: the exact key or, for a field, a key that [`is_same_name`]
/// accepts. Of equal keys, the last one counts.
fn position(entries: &[Entry], step: &Step) -> Option<usize> {
    let last_match = |is_match: &dyn Fn(&str) -> bool| {
        entries
            .iter()
            .rposition(|entry| entry.key.as_deref().is_some_and(is_match))
    };
    match step {
        Step::Item(_) => None,
        Step::Key(key) => last_match(&|name| name == key),
        Step::Field(name) => {
            last_match(&|key| key == *name).or_else(|| last_match(&|key| is_same_name(key, name)))
        }
    }
}

fn follow<'a>(
    text: Text<'_>,
    root: &'a ValueSpan,
    path: &'a [Step],
) -> Result<Target<'a>, Refusal> {
    let (mut current, mut ancestors, mut entry) = (root, Vec::new(), None);
    for (depth, step) in path.iter().enumerate() {
        if matches!(current.kind, Kind::Alias) {
            return refuse(current.start, Problem::Alias);
        }
        match (&current.kind, step) {
            (Kind::List(items), Step::Item(index)) => match items.get(*index) {
                Some(item) => (current, entry) = (item, None),
                None => return refuse(current.start, Problem::Missing),
            },
            (Kind::Map { entries, .. }, _) if position(entries, step).is_some() => {
                let child = position(entries, step).map_or(&entries[0], |index| &entries[index]);
                ancestors.push(current);
                (current, entry) = (&child.value, Some(child));
            }
            (Kind::Map { .. }, _) => {
                ancestors.push(current);
                return Ok(Target::Missing(ancestors, entry, &path[depth..]));
            }
            _ if current.is_null(text.text) => {
                ancestors.push(current);
                return Ok(Target::Missing(ancestors, entry, &path[depth..]));
            }
            _ => return refuse(current.start, Problem::NotMapping),
        }
    }
    Ok(Target::Value(current))
}

impl Text<'_> {
    fn style(self, like: Option<&ValueSpan>) -> ScalarStyle {
        match like {
            _ if self.json => ScalarStyle::Json,
            Some(span) => match span.kind {
                Kind::SingleQuoted => ScalarStyle::Single,
                Kind::DoubleQuoted => ScalarStyle::Double,
                _ => ScalarStyle::Plain,
            },
            None => ScalarStyle::Plain,
        }
    }

    /// Returns the end of the line on which a value ends. A comment may follow the value; anything else is refused.
    fn end_of_line_after_value(self, offset: usize) -> Result<usize, Refusal> {
        let end = line_end(self.text, offset);
        let suffix = self.text[offset..end].trim_start_matches([' ', '\t']);
        let has_space = suffix.len() < end - offset;
        if suffix.is_empty() || suffix.starts_with('#') && has_space {
            Ok(end)
        } else {
            refuse(offset, Problem::Layout)
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
            assert_eq!(text.end_of_line_after_value(4).ok(), want);
        }
    }
}
