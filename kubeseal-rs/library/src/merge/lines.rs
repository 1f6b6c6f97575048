//! Merges lines as `git merge-file` does.

use std::iter::Peekable;
use std::ops::Range;

use imara_diff::{Algorithm, Diff, Hunk, InternedInput, Token};

/// A part of the merged text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Lines without a conflict.
    Merged(&'a [u8]),
    /// Different lines in place of the same base lines.
    Conflict { ours: &'a [u8], theirs: &'a [u8] },
}

/// Conflicts with at most this many unchanged lines between them become one, as in Git.
const MAX_LINES_BETWEEN: usize = 3;

/// Merges two versions of a text with their common base. As in Git, changes of adjacent lines are a conflict, and a
/// conflict contains only lines that differ.
pub(super) fn merge<'a>(base: &[u8], ours: &'a [u8], theirs: &'a [u8]) -> Vec<Piece<'a>> {
    let (ours, theirs) = (Side::new(base, ours), Side::new(base, theirs));
    let pieces = joined(parts(&ours, &theirs)).into_iter().map(|part| {
        let (ours, theirs) = (ours.text.slice(part.ours), theirs.text.slice(part.theirs));
        match part.kind {
            PartKind::Same | PartKind::Ours => Piece::Merged(ours),
            PartKind::Theirs => Piece::Merged(theirs),
            PartKind::Conflict => Piece::Conflict { ours, theirs },
        }
    });
    let is_filled = |piece: &Piece<'_>| !matches!(piece, Piece::Merged(lines) if lines.is_empty());
    pieces.filter(is_filled).collect()
}

/// The lines of both versions that take the place of the same base lines.
struct Part {
    ours: Range<usize>,
    theirs: Range<usize>,
    kind: PartKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartKind {
    /// Unchanged lines, or the same change in both versions.
    Same,
    /// Only our version is changed, or both have the same lines.
    Ours,
    Theirs,
    Conflict,
}

fn parts(ours: &Side<'_>, theirs: &Side<'_>) -> Vec<Part> {
    let mut cursors = [Cursor::new(ours), Cursor::new(theirs)];
    let mut parts = Vec::new();
    while let Some(start) = cursors.iter_mut().filter_map(Cursor::next_start).min() {
        let [in_ours, in_theirs] = cursors
            .each_ref()
            .map(|cursor| cursor.unchanged_until(start));
        parts.push(Part {
            ours: in_ours,
            theirs: in_theirs,
            kind: PartKind::Same,
        });
        let [in_ours, in_theirs] = take_group(&mut cursors, start);
        let is_equal =
            || ours.text.slice(in_ours.lines.clone()) == theirs.text.slice(in_theirs.lines.clone());
        let kind = match (in_ours.is_changed, in_theirs.is_changed) {
            (_, false) => PartKind::Ours,
            (false, true) => PartKind::Theirs,
            _ if is_equal() => PartKind::Same,
            _ => PartKind::Conflict,
        };
        let part = Part {
            ours: in_ours.lines,
            theirs: in_theirs.lines,
            kind,
        };
        if kind == PartKind::Conflict {
            refine(&part, ours, theirs, &mut parts);
        } else {
            parts.push(part);
        }
    }
    parts.push(Part {
        ours: cursors[0].position..ours.text.len(),
        theirs: cursors[1].position..theirs.text.len(),
        kind: PartKind::Same,
    });
    parts
}

/// Adds the parts of a conflict: lines that both versions have are merged.
fn refine(part: &Part, ours: &Side<'_>, theirs: &Side<'_>, parts: &mut Vec<Part>) {
    let (our_lines, their_lines) = (part.ours.clone(), part.theirs.clone());
    let mut push = |ours: Range<usize>, theirs: Range<usize>, kind| {
        parts.push(Part { ours, theirs, kind });
    };
    if our_lines.is_empty() || their_lines.is_empty() {
        return push(our_lines, their_lines, PartKind::Conflict);
    }
    let hunks = hunks(
        ours.text.slice(our_lines.clone()),
        theirs.text.slice(their_lines.clone()),
    );
    let (mut our_end, mut their_end) = (our_lines.start, their_lines.start);
    for hunk in hunks {
        let in_ours = moved(&hunk.before, our_lines.start);
        let in_theirs = moved(&hunk.after, their_lines.start);
        push(
            our_end..in_ours.start,
            their_end..in_theirs.start,
            PartKind::Same,
        );
        (our_end, their_end) = (in_ours.end, in_theirs.end);
        push(in_ours, in_theirs, PartKind::Conflict);
    }
    push(
        our_end..our_lines.end,
        their_end..their_lines.end,
        PartKind::Same,
    );
}

fn moved(range: &Range<u32>, offset: usize) -> Range<usize> {
    range.start as usize + offset..range.end as usize + offset
}

/// Joins conflicts with few unchanged lines between them.
fn joined(parts: Vec<Part>) -> Vec<Part> {
    let mut joined: Vec<Part> = Vec::new();
    for part in parts {
        let is_same = |part: &Part| part.kind == PartKind::Same;
        if is_same(&part) && joined.last().is_some_and(is_same) {
            if let Some(last) = joined.last_mut() {
                (last.ours.end, last.theirs.end) = (part.ours.end, part.theirs.end);
            }
            continue;
        }
        let before = joined.len().checked_sub(2).map(|index| &joined[index..]);
        let is_close = part.kind == PartKind::Conflict
            && before.is_some_and(|before| {
                before[0].kind == PartKind::Conflict
                    && is_same(&before[1])
                    && before[1].ours.len() <= MAX_LINES_BETWEEN
            });
        if is_close {
            joined.pop();
            if let Some(last) = joined.last_mut() {
                (last.ours.end, last.theirs.end) = (part.ours.end, part.theirs.end);
            }
        } else {
            joined.push(part);
        }
    }
    joined
}

/// A text, and the offset of each of its lines.
struct Lines<'a> {
    text: &'a [u8],
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a [u8]) -> Self {
        let mut starts = vec![0];
        for line in lines(text) {
            starts.push(starts[starts.len() - 1] + line.len());
        }
        Self { text, starts }
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    fn slice(&self, lines: Range<usize>) -> &'a [u8] {
        &self.text[self.starts[lines.start]..self.starts[lines.end]]
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
}

/// One version, and its differences from the base.
struct Side<'a> {
    text: Lines<'a>,
    hunks: Vec<Hunk>,
}

impl<'a> Side<'a> {
    fn new(base: &[u8], text: &'a [u8]) -> Self {
        Self {
            hunks: hunks(base, text),
            text: Lines::new(text),
        }
    }
}

/// The maximum number of lines between the first and the last difference that are compared one by one. More lines count
/// as one difference, because the comparison takes more than linear time if few of the lines are distinct.
const MAX_COMPARED: usize = 50_000;

fn hunks(before: &[u8], after: &[u8]) -> Vec<Hunk> {
    let mut input = InternedInput::default();
    input.update_before(lines(before));
    input.update_after(lines(after));
    let whole = whole_difference(&input.before, &input.after);
    if whole.before.len().max(whole.after.len()) > MAX_COMPARED {
        return vec![whole];
    }
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_no_heuristic(&input);
    diff.hunks().collect()
}

/// Returns the lines between the first and the last difference.
fn whole_difference(before: &[Token], after: &[Token]) -> Hunk {
    let common = |(before, after): &(&Token, &Token)| before == after;
    let start = before.iter().zip(after).take_while(common).count();
    let (before_rest, after_rest) = (before[start..].iter().rev(), after[start..].iter().rev());
    let end = before_rest.zip(after_rest).take_while(common).count();
    let range = |len: usize| line_number(start)..line_number(len - end);
    Hunk {
        before: range(before.len()),
        after: range(after.len()),
    }
}

/// Converts a number of lines, which is far below the limit of the type for files of [`super::MAX_BYTES`].
fn line_number(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

/// The position in one version, while the base is read from start to end.
struct Cursor<'s> {
    hunks: Peekable<std::slice::Iter<'s, Hunk>>,
    /// The next line of the version.
    position: usize,
    /// The line of the base that corresponds to `position`.
    base: usize,
}

/// The lines of one version that take the place of a range of base lines.
struct Replacement {
    lines: Range<usize>,
    is_changed: bool,
}

impl<'s> Cursor<'s> {
    fn new(side: &'s Side<'_>) -> Self {
        Self {
            hunks: side.hunks.iter().peekable(),
            position: 0,
            base: 0,
        }
    }

    fn next_start(&mut self) -> Option<usize> {
        self.hunks.peek().map(|hunk| hunk.before.start as usize)
    }

    /// Returns the line of this version that corresponds to a line of the base. Between `position` and that line,
    /// nothing may have changed.
    fn line_at(&self, base: usize) -> usize {
        self.position + base - self.base
    }

    fn unchanged_until(&self, base: usize) -> Range<usize> {
        self.position..self.line_at(base)
    }

    /// Takes the next hunk if it overlaps or touches the base lines up to `end`. Returns its end.
    fn take(&mut self, end: usize) -> Option<usize> {
        let hunk = self
            .hunks
            .next_if(|hunk| hunk.before.start as usize <= end)?;
        self.position = hunk.after.end as usize;
        self.base = hunk.before.end as usize;
        Some(self.base)
    }
}

/// Takes the hunks of both versions that begin at a line of the base, and those that overlap or touch them.
fn take_group(cursors: &mut [Cursor<'_>; 2], start: usize) -> [Replacement; 2] {
    let from = [cursors[0].line_at(start), cursors[1].line_at(start)];
    let (mut end, mut is_changed) = (start, [false, false]);
    loop {
        let before = end;
        let mut took = false;
        for (cursor, changed) in cursors.iter_mut().zip(&mut is_changed) {
            while let Some(hunk_end) = cursor.take(end) {
                end = end.max(hunk_end);
                (*changed, took) = (true, true);
            }
        }
        if !took && end == before {
            break;
        }
    }
    let replacement = |i: usize, cursors: &mut [Cursor<'_>; 2]| {
        let cursor = &mut cursors[i];
        (cursor.position, cursor.base) = (cursor.line_at(end), end);
        Replacement {
            lines: from[i]..cursor.position,
            is_changed: is_changed[i],
        }
    };
    [replacement(0, cursors), replacement(1, cursors)]
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;
    use crate::merge::{Labels, render};

    fn merged(base: &str, ours: &str, theirs: &str) -> String {
        let pieces = merge(base.as_bytes(), ours.as_bytes(), theirs.as_bytes());
        String::from_utf8(render::lines(&pieces, &Labels::default())).unwrap()
    }

    #[test]
    fn merges_changes_of_separate_lines() {
        for (base, ours, theirs, want) in [
            ("", "", "", ""),
            ("a\nb\nc\n", "a\nb\nc\n", "a\nB\nc\n", "a\nB\nc\n"),
            ("a\nb\nc\n", "A\nb\nc\n", "a\nb\nC\n", "A\nb\nC\n"),
            ("a\nb\nc\n", "a\nB\nc\n", "a\nB\nc\n", "a\nB\nc\n"),
            ("a\nb\nc\n", "x\na\nb\nc\n", "a\nb\n", "x\na\nb\n"),
            ("a\r\nb\r\nc", "a\r\nb\r\nC", "A\r\nb\r\nc", "A\r\nb\r\nC"),
        ] {
            assert_eq!(merged(base, ours, theirs), want, "{base:?}");
        }
    }

    /// Attack: a committer writes many lines of which few are distinct, so that a merge takes minutes.
    #[test]
    fn many_repeated_lines_are_one_difference() {
        let count = 3 * MAX_COMPARED;
        let base = "a\n".repeat(count);
        let changed = |from, to| ["x\n", &base.replace(from, to), "y\n"].concat();
        let (ours, theirs) = (changed("a\na\na\n", "a\nb\n"), changed("a\na\n", "b\na\n"));
        assert_eq!(hunks(base.as_bytes(), ours.as_bytes()).len(), 1);
        assert_eq!(merged(&base, &base, &ours), ours);
        assert!(merged(&base, &ours, &theirs).starts_with("x\n<<<<<<< ours\n"));
        let base = edited(count, &[], "");
        let (ours, theirs) = (base.replacen("10\n", "", 1), format!("{base}z\n"));
        assert_eq!(merged(&base, &ours, &theirs), format!("{ours}z\n"));
    }

    #[test]
    fn marks_conflicts_of_the_same_and_of_adjacent_lines() {
        assert_eq!(
            merged("a\nb\nc\n", "a\nx\nc\n", "a\ny\nc\n"),
            "a\n<<<<<<< ours\nx\n=======\ny\n>>>>>>> theirs\nc\n"
        );
        assert_eq!(
            merged("a\nb\n", "A\nb\n", "a\nB\n"),
            "<<<<<<< ours\nA\nb\n=======\na\nB\n>>>>>>> theirs\n"
        );
        assert_eq!(
            merged("a\r\n", "b", "c\r\n"),
            "<<<<<<< ours\r\nb\r\n=======\r\nc\r\n>>>>>>> theirs\r\n"
        );
    }

    /// Runs `git merge-file`. Returns its output, and whether there was no conflict.
    fn merged_by_git(base: &str, ours: &str, theirs: &str) -> (String, bool) {
        let directory = tempfile::tempdir().unwrap();
        let files = [("ours", ours), ("base", base), ("theirs", theirs)];
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let mut git = Command::new("git");
        git.args([
            "merge-file",
            "-p",
            "-L",
            "ours",
            "-L",
            "base",
            "-L",
            "theirs",
        ]);
        git.args(files.map(|(name, _)| name));
        let git = git.current_dir(directory.path());
        let output = git.env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (text, output.status.success())
    }

    /// Returns numbered lines. Each edit replaces, removes or adds one line. No line is repeated, so every algorithm
    /// finds the same differences.
    fn edited(count: usize, edits: &[(usize, u8)], mark: &str) -> String {
        let line = |number: usize| {
            let edit = edits.iter().find(|(at, _)| at % count == number);
            match edit.map(|(_, kind)| kind % 3) {
                None => format!("{number}\n"),
                Some(0) => String::new(),
                Some(1) => format!("{number}{mark}\n"),
                Some(_) => format!("{number}\n{number}{mark}+\n"),
            }
        };
        (0..count).map(line).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(unix) { 64 } else { 0 }))]

        /// A file without SealedSecrets is merged as if `seal` was not installed.
        #[test]
        fn equals_git(
            count in 1..30usize,
            ours in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
            theirs in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
            is_same in any::<bool>(),
        ) {
            let base = edited(count, &[], "");
            let ours = edited(count, &ours, "o");
            let theirs = edited(count, &theirs, if is_same { "o" } else { "t" });
            let (want, is_clean) = merged_by_git(&base, &ours, &theirs);
            let pieces = merge(base.as_bytes(), ours.as_bytes(), theirs.as_bytes());
            let has_conflict = pieces.iter().any(|piece| matches!(piece, Piece::Conflict { .. }));
            prop_assert_eq!(has_conflict, !is_clean);
            prop_assert_eq!(merged(&base, &ours, &theirs), want);
        }

        #[test]
        fn takes_the_only_changed_side(base in "[ab\n]{0,20}", changed in "[ab\n]{0,20}") {
            prop_assert_eq!(merged(&base, &base, &changed), changed.clone());
            prop_assert_eq!(merged(&base, &changed, &base), changed.clone());
            prop_assert_eq!(merged(&base, &changed, &changed), changed);
        }
    }
}
