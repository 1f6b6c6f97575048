//! The text of merged entries of `spec.encryptedData`: comments, order and quotes stay as they are.

use std::collections::{BTreeMap, BTreeSet};

use shared::manifest::edit::{Layout, MappingLayout, Part};

use super::items::pick;
use super::{Change, Labels, render};

/// The entries of one version.
pub(super) struct Entries<'s> {
    text: &'s str,
    pub(super) mapping: MappingLayout,
}

/// An entry of the merged object.
struct Element {
    key: String,
    /// Comments and white space before the entry.
    before: String,
    content: Content,
}

enum Content {
    Merged(String),
    Conflict {
        /// Key, value and the rest of the line; `None` if the version has no such entry.
        ours: Option<String>,
        theirs: Option<String>,
        changes: (Change, Change),
    },
}

/// Merged entries, which take the place of the entries of both versions.
pub(super) struct MergedText {
    pub(super) text: String,
    /// The entries in conflict, each with the changes of our and their version.
    pub(super) conflicts: Vec<(String, (Change, Change))>,
}

impl<'s> Entries<'s> {
    pub(super) fn new(layout: &Layout<'s>, mapping: MappingLayout) -> Self {
        let text = layout.text();
        Self { text, mapping }
    }

    pub(super) fn original(&self) -> &'s str {
        &self.text[self.mapping.range.clone()]
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.mapping.parts.iter().map(|part| part.key.as_str())
    }

    /// Returns the texts of each entry, by key; `None` if a key is repeated.
    fn by_key(&self) -> Option<BTreeMap<&str, EntryText<'s>>> {
        let parts = self.mapping.parts.iter();
        let texts: BTreeMap<_, _> = parts
            .map(|part| (part.key.as_str(), EntryText::of(part, self.text)))
            .collect();
        (texts.len() == self.mapping.parts.len()).then_some(texts)
    }

    /// Returns the text between the last entry and the closing brace, and whether a comma follows the last entry.
    fn tail(&self) -> (&'s str, bool) {
        let end = self.mapping.parts.last().map_or(0, |part| part.after.end);
        let tail = &self.text[end..self.mapping.range.end];
        tail.strip_prefix(',')
            .map_or((tail, false), |tail| (tail, true))
    }

    /// Returns the line break of the entries, or else of the file.
    fn line_break(&self) -> &'static str {
        let text = Some(self.original()).filter(|text| text.contains('\n'));
        let text = text.unwrap_or(self.text);
        let end = text.find('\n').unwrap_or_default();
        if text[..end].ends_with('\r') {
            "\r\n"
        } else {
            "\n"
        }
    }
}

/// The lines of an entry: its comments, its key and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EntryText<'s> {
    before: &'s str,
    entry: &'s str,
    after: &'s str,
}

impl<'s> EntryText<'s> {
    fn of(part: &Part, text: &'s str) -> Self {
        Self {
            before: &text[part.before.clone()],
            entry: &text[part.entry.clone()],
            after: &text[part.after.clone()],
        }
    }

    fn content(&self) -> String {
        [self.entry, self.after].concat()
    }
}

/// Merges the entries of two versions. Keeps only entries whose key is in `wanted`, and those in conflict. Returns
/// `None` if they can only be merged by lines: one version changed the order or the indentation, or a conflict would be
/// inside a line.
pub(super) fn merge(
    base: Option<&Entries<'_>>,
    ours: &Entries<'_>,
    theirs: &Entries<'_>,
    wanted: &BTreeMap<String, String>,
    labels: &Labels,
) -> Option<MergedText> {
    let is_same_style = ours.mapping.has_braces == theirs.mapping.has_braces
        && (ours.mapping.has_braces || ours.mapping.column == theirs.mapping.column);
    let keeps_order =
        base.is_none_or(|base| is_same_order(base, ours) && is_same_order(base, theirs));
    if !(is_same_style && keeps_order && is_same_order(ours, theirs)) {
        return None;
    }
    let base_texts = base.map_or_else(|| Some(BTreeMap::new()), Entries::by_key)?;
    let (our_texts, their_texts) = (ours.by_key()?, theirs.by_key()?);
    let element = |key: &str| {
        element(
            key,
            base_texts.get(key),
            our_texts.get(key),
            their_texts.get(key),
        )
    };
    let mut elements: Vec<Element> = order(&base_texts, ours, theirs)
        .into_iter()
        .filter_map(element)
        .collect();
    elements.retain(|element| match element.content {
        Content::Merged(_) => wanted.contains_key(&element.key),
        Content::Conflict { .. } => true,
    });
    let text = if ours.mapping.has_braces {
        let tail = pick(
            &base.map(Entries::tail),
            Some(ours.tail()),
            Some(theirs.tail()),
        )??;
        with_braces(&elements, tail, ours.line_break(), labels)?
    } else {
        without_braces(&elements, ours, labels)
    };
    let conflicts = elements
        .into_iter()
        .filter_map(|element| match element.content {
            Content::Conflict { changes, .. } => Some((element.key, changes)),
            Content::Merged(_) => None,
        });
    Some(MergedText {
        text,
        conflicts: conflicts.collect(),
    })
}

/// Returns whether the keys that both have are in the same order.
fn is_same_order(one: &Entries<'_>, other: &Entries<'_>) -> bool {
    let common = |a: &Entries<'_>, b: &Entries<'_>| -> Vec<String> {
        let keys: BTreeSet<&str> = b.keys().collect();
        a.keys()
            .filter(|key| keys.contains(key))
            .map(str::to_owned)
            .collect()
    };
    common(one, other) == common(other, one)
}

/// Returns the keys in the order of our version. A key that only their version has is inserted after the key that
/// precedes it in their version, and after the keys that our version added at that position.
fn order<'k>(
    base: &BTreeMap<&str, EntryText<'_>>,
    ours: &'k Entries<'_>,
    theirs: &'k Entries<'_>,
) -> Vec<&'k str> {
    let our_keys: BTreeSet<&str> = ours.keys().collect();
    let their_keys: BTreeSet<&str> = theirs.keys().collect();
    let mut following: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
    let mut previous = None;
    for key in theirs.keys() {
        if our_keys.contains(key) {
            previous = Some(key);
        } else {
            following.entry(previous).or_default().push(key);
        }
    }
    let mut keys = Vec::new();
    let mut pending = following.remove(&None).unwrap_or_default();
    for key in ours.keys() {
        let is_added = !base.contains_key(key) && !their_keys.contains(key);
        if !is_added {
            keys.append(&mut pending);
            pending = following.remove(&Some(key)).unwrap_or_default();
        }
        keys.push(key);
    }
    keys.append(&mut pending);
    keys
}

/// Merges an entry; `None` if it is removed.
fn element(
    key: &str,
    base: Option<&EntryText<'_>>,
    ours: Option<&EntryText<'_>>,
    theirs: Option<&EntryText<'_>>,
) -> Option<Element> {
    let element = |before: &str, content| {
        Some(Element {
            key: key.to_owned(),
            before: before.to_owned(),
            content,
        })
    };
    let change = |side: Option<&EntryText<'_>>| match (base, side) {
        (_, None) => Change::Removed,
        (None, Some(_)) => Change::Added,
        (Some(_), Some(_)) => Change::Changed,
    };
    let conflict = |ours: Option<String>, theirs: Option<String>, changes| Content::Conflict {
        ours,
        theirs,
        changes,
    };
    let changes = (change(ours), change(theirs));
    let (Some(our_text), Some(their_text)) = (ours, theirs) else {
        let only = ours.or(theirs)?;
        return match base {
            // Removed in one version and unchanged in the other.
            Some(base) if base.content() == only.content() => None,
            Some(_) => {
                let content = |side: Option<&EntryText<'_>>| side.map(EntryText::content);
                element(
                    only.before,
                    conflict(content(ours), content(theirs), changes),
                )
            }
            None => element(only.before, Content::Merged(only.content())),
        };
    };
    let part = |of: for<'t> fn(&EntryText<'t>) -> &'t str| {
        pick(&base.map(of), Some(of(our_text)), Some(of(their_text)))
    };
    let before = part(|text| text.before).flatten();
    let merged = [
        part(|text| text.entry).flatten(),
        part(|text| text.after).flatten(),
    ];
    match (before, merged) {
        (Some(before), [Some(entry), Some(after)]) => {
            element(before, Content::Merged([entry, after].concat()))
        }
        (Some(before), _) => {
            let contents = (Some(our_text.content()), Some(their_text.content()));
            element(before, conflict(contents.0, contents.1, changes))
        }
        (None, _) => {
            let whole = |text: &EntryText<'_>| Some([text.before, &text.content()].concat());
            element("", conflict(whole(our_text), whole(their_text), changes))
        }
    }
}

fn without_braces(elements: &[Element], ours: &Entries<'_>, labels: &Labels) -> String {
    let line_break = ours.line_break();
    let mut out = Vec::new();
    for element in elements {
        render::end_line(&mut out, line_break);
        out.extend_from_slice(element.before.as_bytes());
        match &element.content {
            Content::Merged(text) => out.extend_from_slice(text.as_bytes()),
            Content::Conflict { ours, theirs, .. } => {
                let [ours, theirs] = [ours, theirs].map(|side| side.as_deref().unwrap_or_default());
                render::conflict(
                    &mut out,
                    ours.as_bytes(),
                    theirs.as_bytes(),
                    labels,
                    line_break,
                );
            }
        }
    }
    into_text(out)
}

/// Writes entries between braces; `tail` is what follows them, and whether a comma precedes it. Returns `None` if a
/// marker would not have a line of its own.
fn with_braces(
    elements: &[Element],
    (tail, has_last_comma): (&str, bool),
    line_break: &str,
    labels: &Labels,
) -> Option<String> {
    let mut out = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let is_last = index + 1 == elements.len();
        let comma = if is_last && !has_last_comma { "" } else { "," };
        match &element.content {
            Content::Merged(text) => {
                out.extend_from_slice([&element.before, text, comma].concat().as_bytes());
            }
            Content::Conflict { ours, theirs, .. } => {
                let following = elements.get(index + 1).map_or(tail, |next| &next.before);
                let start = element
                    .before
                    .rfind('\n')
                    .filter(|_| begins_line(following))?
                    + 1;
                let (lines, indent) = element.before.split_at(start);
                let side = |text: &Option<String>| {
                    let text = text.as_ref();
                    text.map_or_else(String::new, |text| [indent, text, comma].concat())
                };
                out.extend_from_slice(lines.as_bytes());
                render::conflict(
                    &mut out,
                    side(ours).as_bytes(),
                    side(theirs).as_bytes(),
                    labels,
                    line_break,
                );
                // What follows begins with a line break.
                out.truncate(out.len() - line_break.len());
            }
        }
    }
    out.extend_from_slice(tail.as_bytes());
    Some(into_text(out))
}

fn begins_line(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\r']).starts_with('\n')
}

/// Returns all entries of both versions, with markers around them. Returns `None` if a marker would not have a line of
/// its own.
pub(super) fn marked(ours: &Entries<'_>, theirs: &Entries<'_>, labels: &Labels) -> Option<String> {
    let line_break = ours.line_break();
    let mut out = Vec::new();
    if !ours.mapping.has_braces {
        let sides = [ours, theirs].map(|side| side.original().as_bytes());
        render::conflict(&mut out, sides[0], sides[1], labels, line_break);
        return Some(into_text(out));
    }
    let lines = |side: &Entries<'_>| {
        let text = side.original();
        let (first, last) = (text.find('\n')? + 1, text.rfind('\n')? + 1);
        let has_own_lines = text[..first].trim().is_empty() && text[last..].trim().is_empty();
        (has_own_lines && first < last)
            .then(|| (text[first..last].to_owned(), text[last..].to_owned()))
    };
    let ((our_lines, end), (their_lines, _)) = (lines(ours)?, lines(theirs)?);
    out.extend_from_slice(line_break.as_bytes());
    render::conflict(
        &mut out,
        our_lines.as_bytes(),
        their_lines.as_bytes(),
        labels,
        line_break,
    );
    out.extend_from_slice(end.as_bytes());
    Some(into_text(out))
}

/// Converts bytes that consist of whole strings.
fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}
