//! Replaces the entries and the item annotations of each object by tokens, merges the lines, and puts the merged text in
//! place of the tokens. A token is the same in all versions, so it is merged as an unchanged line or part of a line.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use shared::manifest::edit::{self, Layout, Step};
use shared::sealed_file::{self, Found};

use super::entries::{self, Entries};
use super::items::{self, ItemAnnotation, MergedItems};
use super::lines::{self, Piece};
use super::render;
use super::side::{SameObject, Side, Sides};
use super::{Conflict, Labels, MarkedLines, Merge, Versions};

/// How an object is merged.
pub(super) struct Plan<'s> {
    pub(super) same: SameObject<'s>,
    pub(super) items: MergedItems,
    object: String,
    entries: Option<Token>,
    annotations: Vec<Token>,
}

/// A text in the three versions, and the merged text.
struct Token {
    /// The ranges in the base, our and their version; `None` in a version without the text.
    ranges: [Option<Range<usize>>; 3],
    /// The text in our and in their version, for a conflict of the lines around it.
    originals: [String; 2],
    merged: String,
    conflicts: Vec<Conflict>,
    /// Whether the token takes the place of whole lines.
    is_lines: bool,
}

impl Plan<'_> {
    /// Returns the namespace and name of the object.
    pub(super) fn object(&self) -> &str {
        &self.object
    }

    /// Marks all entries of the object as a conflict, if their layout allows that.
    pub(super) fn refuse(&mut self, sides: &Sides<'_>, reason: &str, labels: &Labels) {
        if let Some([_, ours, theirs]) = entries_of(sides, &self.same)
            && let (Some(ours), Some(theirs)) = (ours, theirs)
        {
            self.entries = marked_token(None, &ours, &theirs, &self.object, reason, labels);
        }
    }
}

/// Plans the merge of every object that is in both versions.
pub(super) fn plan<'s>(sides: &'s Sides<'_>, labels: &Labels) -> Vec<Plan<'s>> {
    let objects = sides.same_objects().into_iter();
    let mut plans: Vec<Plan<'_>> = objects
        .map(|same| {
            let items = items::merge(&same);
            let object = same.ours.sealed.qualified_name();
            Plan {
                entries: entries_token(sides, &same, &items, &object, labels),
                annotations: Vec::new(),
                same,
                items,
                object,
            }
        })
        .collect();
    for annotation in ItemAnnotation::ALL {
        let tokens = annotation_tokens(annotation, sides, &plans);
        for (plan, token) in plans.iter_mut().zip(tokens) {
            plan.annotations.extend(token);
        }
    }
    plans
}

/// Returns the entries of an object in the three versions; `None` for a version without entries. Returns `None` if the
/// layout of an existing version is not supported.
fn entries_of<'s>(sides: &'s Sides<'_>, same: &SameObject<'_>) -> Option<[Option<Entries<'s>>; 3]> {
    let path = [Step::Field("spec"), Step::Field("encryptedData")];
    let of = |side: &'s Side<'_>, found: &Found| {
        if found.sealed.spec.encrypted_data.is_empty() {
            return Some(None);
        }
        let layout = side.layout.as_ref()?;
        let mapping = layout.mapping(found.document(), &found.path_of(&path))?;
        (mapping.parts.len() == found.sealed.spec.encrypted_data.len())
            .then(|| Some(Entries::new(layout, mapping)))
    };
    let base = match (&sides.base, same.base) {
        (Some(side), Some(found)) => of(side, found)?,
        _ => None,
    };
    Some([
        base,
        of(&sides.ours, same.ours)?,
        of(&sides.theirs, same.theirs)?,
    ])
}

fn entries_token(
    sides: &Sides<'_>,
    same: &SameObject<'_>,
    items: &MergedItems,
    object: &str,
    labels: &Labels,
) -> Option<Token> {
    let [base, ours, theirs] = entries_of(sides, same)?;
    let (ours, theirs) = (ours?, theirs?);
    if let Some(reason) = &items.refusal {
        return marked_token(base.as_ref(), &ours, &theirs, object, reason, labels);
    }
    let merged = entries::merge(base.as_ref(), &ours, &theirs, &items.texts, labels)?;
    let conflicts = merged.conflicts.into_iter();
    let conflicts = conflicts.map(|(item, changes)| Conflict::Item {
        object: object.to_owned(),
        item,
        ours: changes.0,
        theirs: changes.1,
    });
    let conflicts = conflicts.collect();
    Some(token(base.as_ref(), &ours, &theirs, merged.text, conflicts))
}

/// Returns a token whose text is the entries of both versions, as a conflict.
fn marked_token(
    base: Option<&Entries<'_>>,
    ours: &Entries<'_>,
    theirs: &Entries<'_>,
    object: &str,
    reason: &str,
    labels: &Labels,
) -> Option<Token> {
    if ours.mapping.has_braces != theirs.mapping.has_braces {
        return None;
    }
    let merged = entries::marked(ours, theirs, labels)?;
    let conflict = Conflict::Object {
        object: object.to_owned(),
        reason: reason.to_owned(),
    };
    Some(token(base, ours, theirs, merged, vec![conflict]))
}

fn token(
    base: Option<&Entries<'_>>,
    ours: &Entries<'_>,
    theirs: &Entries<'_>,
    merged: String,
    conflicts: Vec<Conflict>,
) -> Token {
    let range = |entries: &Entries<'_>| entries.mapping.range.clone();
    let has_braces = ours.mapping.has_braces;
    let base = base.filter(|base| base.mapping.has_braces == has_braces);
    Token {
        ranges: [base.map(range), Some(range(ours)), Some(range(theirs))],
        originals: [ours, theirs].map(|side| side.original().to_owned()),
        merged,
        conflicts,
        is_lines: !has_braces,
    }
}

fn annotation_path(annotation: ItemAnnotation, found: &Found) -> Vec<Step> {
    found.path_of(&[
        Step::Field("metadata"),
        Step::Field("annotations"),
        Step::Key(annotation.name().to_owned()),
    ])
}

/// Returns the token of an annotation of each object, in every version that has the annotation. An annotation that
/// `seal` did not write is merged like any other line.
fn annotation_tokens(
    annotation: ItemAnnotation,
    sides: &Sides<'_>,
    plans: &[Plan<'_>],
) -> Vec<Option<Token>> {
    let ours = plans.iter().map(|plan| (plan.same.ours, &plan.items));
    let theirs = plans.iter().map(|plan| (plan.same.theirs, &plan.items));
    let ours = annotation_texts(annotation, &sides.ours, &ours.collect::<Vec<_>>());
    let theirs = annotation_texts(annotation, &sides.theirs, &theirs.collect::<Vec<_>>());
    let texts = ours.into_iter().zip(theirs);
    let token = |(plan, (ours, theirs)): (&Plan<'_>, (Option<String>, Option<String>))| {
        annotation_token(annotation, sides, &plan.same, ours.or(theirs)?)
    };
    plans.iter().zip(texts).map(token).collect()
}

/// Returns the token of an annotation of an object; `merged` is the text of the merged annotation.
fn annotation_token(
    annotation: ItemAnnotation,
    sides: &Sides<'_>,
    same: &SameObject<'_>,
    merged: String,
) -> Option<Token> {
    let ours = annotation_range(annotation, &sides.ours, same.ours)?;
    let theirs = annotation_range(annotation, &sides.theirs, same.theirs)?;
    let base = match (&sides.base, same.base) {
        (Some(side), Some(found)) => annotation_range(annotation, side, found)?,
        _ => None,
    };
    let original = |side: &Side<'_>, range: Option<&Range<usize>>| {
        let text = range.map_or(&[][..], |range| &side.bytes[range.clone()]);
        String::from_utf8_lossy(text).into_owned()
    };
    Some(Token {
        originals: [
            original(&sides.ours, ours.as_ref()),
            original(&sides.theirs, theirs.as_ref()),
        ],
        ranges: [base, ours, theirs],
        merged,
        conflicts: Vec::new(),
        is_lines: false,
    })
}

/// Returns the range of an annotation of an object, if it has the annotation; `None` if it is not as `seal` writes it.
#[expect(
    clippy::option_option,
    reason = "a version without the annotation differs from one with an unsupported annotation"
)]
fn annotation_range(
    annotation: ItemAnnotation,
    side: &Side<'_>,
    found: &Found,
) -> Option<Option<Range<usize>>> {
    let annotations = found.sealed.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|all| all.get(annotation.name())) else {
        return Some(None);
    };
    let is_canonical = annotation.is_canonical(text);
    let layout = side.layout.as_ref().filter(|_| is_canonical)?;
    range_in(annotation, layout, found).map(Some)
}

fn range_in(
    annotation: ItemAnnotation,
    layout: &Layout<'_>,
    found: &Found,
) -> Option<Range<usize>> {
    let path = annotation_path(annotation, found);
    let scalar = layout.scalar(found.document(), &path);
    match annotation {
        ItemAnnotation::Hints => scalar,
        ItemAnnotation::Dates => scalar.or_else(|| layout.block(found.document(), &path)),
    }
}

/// Returns the merged annotation of each object as it is written in a version, with quotes or as a block; `None` for an
/// object without this annotation in this version. Changes all objects at once, since each change parses the file.
fn annotation_texts(
    annotation: ItemAnnotation,
    side: &Side<'_>,
    objects: &[(&Found, &MergedItems)],
) -> Vec<Option<String>> {
    let edits = objects.iter().filter_map(|(found, items)| {
        let is_replaced = !annotation.is_empty(items)
            && annotation_range(annotation, side, found)
                .flatten()
                .is_some();
        is_replaced.then(|| annotation.edit(found, items)).flatten()
    });
    let edits: Vec<_> = edits.collect();
    let edited = if edits.is_empty() {
        Ok(side.bytes.to_vec())
    } else {
        edit::apply(side.bytes, &edits)
    };
    let edited = edited.unwrap_or_default();
    let layout = Layout::of(&edited);
    let text = |found: &Found| {
        let layout = layout.as_ref()?;
        let range = range_in(annotation, layout, found)?;
        Some(layout.text()[range].to_owned())
    };
    objects.iter().map(|(found, _)| text(found)).collect()
}

/// Merges the lines of a file, and the objects as planned.
pub(super) fn assemble(versions: &Versions<'_>, plans: &[Plan<'_>], labels: &Labels) -> Merge {
    let tokens: Vec<&Token> = plans
        .iter()
        .flat_map(|plan| plan.entries.iter().chain(&plan.annotations))
        .collect();
    let [base, ours, theirs] = [versions.base, versions.ours, versions.theirs];
    let masked = [(base, 0), (ours, 1), (theirs, 2)].map(|(bytes, i)| mask(bytes, &tokens, i));
    let pieces = lines::merge(&masked[0], &masked[1], &masked[2]);
    let line_break = render::line_break_of(&pieces);
    let (mut out, mut used) = (Vec::new(), BTreeSet::new());
    let (mut counter, mut lines) = (LineCounter::default(), Vec::new());
    for piece in &pieces {
        // The entries of a version may end without a line break.
        render::end_line(&mut out, line_break);
        match piece {
            Piece::Merged(text) => {
                let text = unmask(text, |i| {
                    used.insert(i);
                    Some(&tokens.get(i)?.merged)
                });
                out.extend_from_slice(&text);
            }
            Piece::Conflict { ours, theirs } => {
                let first = counter.complete_lines(&out) + 1;
                let side =
                    |text, i: usize| unmask(text, |token| Some(&tokens.get(token)?.originals[i]));
                render::conflict(
                    &mut out,
                    &side(ours, 0),
                    &side(theirs, 1),
                    labels,
                    line_break,
                );
                let last = counter.complete_lines(&out);
                lines.push(MarkedLines { first, last });
            }
        }
    }
    let tokens = tokens.iter().enumerate().filter(|(i, _)| used.contains(i));
    let mut conflicts: Vec<Conflict> = tokens
        .flat_map(|(_, token)| token.conflicts.clone())
        .collect();
    conflicts.extend((!lines.is_empty()).then_some(Conflict::Lines(lines)));
    Merge {
        bytes: out,
        conflicts,
    }
}

/// Counts the lines of a growing text, each of them once.
#[derive(Default)]
struct LineCounter {
    counted_bytes: usize,
    lines: usize,
}

impl LineCounter {
    fn complete_lines(&mut self, text: &[u8]) -> usize {
        self.lines += memchr::memchr_iter(b'\n', &text[self.counted_bytes..]).count();
        self.counted_bytes = text.len();
        self.lines
    }
}

/// Encloses the number of a token. A version with this character has no layout, and so no token.
const MARK: u8 = 0;

/// Replaces the ranges of all tokens in one version.
fn mask<'a>(bytes: &'a [u8], tokens: &[&Token], version: usize) -> Cow<'a, [u8]> {
    let ranges = tokens.iter().enumerate();
    let ranges =
        ranges.filter_map(|(i, token)| Some((token.ranges[version].clone()?, i, token.is_lines)));
    let mut ranges: Vec<_> = ranges.collect();
    if ranges.is_empty() {
        return Cow::Borrowed(bytes);
    }
    ranges.sort_by_key(|(range, ..)| range.start);
    let (mut out, mut end) = (Vec::new(), 0);
    for (range, i, is_lines) in ranges {
        out.extend_from_slice(&bytes[end..range.start]);
        out.push(MARK);
        out.extend_from_slice(i.to_string().as_bytes());
        out.push(MARK);
        out.extend(is_lines.then_some(b'\n'));
        end = range.end;
    }
    out.extend_from_slice(&bytes[end..]);
    Cow::Owned(out)
}

/// Replaces the tokens in merged lines. A token of whole lines includes its line break.
fn unmask<'t>(text: &[u8], mut token_text: impl FnMut(usize) -> Option<&'t String>) -> Vec<u8> {
    let mut parts = text.split(|byte| *byte == MARK);
    let mut out = parts.next().unwrap_or_default().to_vec();
    while let (Some(number), Some(following)) = (parts.next(), parts.next()) {
        let number = std::str::from_utf8(number)
            .ok()
            .and_then(|text| text.parse().ok());
        let replaced = number.and_then(&mut token_text);
        let is_lines = out.last().is_none_or(|byte| *byte == b'\n') && following.starts_with(b"\n");
        out.extend_from_slice(replaced.map_or("", String::as_str).as_bytes());
        let following = if is_lines { &following[1..] } else { following };
        if is_lines && !following.is_empty() {
            render::end_line(&mut out, "\n");
        }
        out.extend_from_slice(following);
    }
    out
}

/// Returns the SealedSecrets of a merged file.
pub(super) fn objects(bytes: &[u8]) -> Option<Vec<Found>> {
    let documents = shared::manifest::read(bytes).ok()?;
    sealed_file::find(&documents).ok()
}
