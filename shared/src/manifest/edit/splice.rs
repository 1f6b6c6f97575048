//! One edit → the pieces of text that it replaces.

use std::ops::Range;

use super::place::{
    Entry, Kind, Place, begins_line, column, line_break, line_end, line_start, skip_blank,
};
use super::words::Manner;
use super::{Problem, Step};

/// Text that takes the place of other text, or stands before it if the range is empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Splice {
    pub(super) range: Range<usize>,
    pub(super) text: String,
}

/// Why an edit cannot be done, and where.
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

/// A text and how it is written.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) json: bool,
}

/// As far as a path leads.
enum Found<'a> {
    /// To this value.
    Value(&'a Place),
    /// To this mapping, where the rest of the path is missing. With the mappings around it, outermost
    /// first.
    Missing(Vec<&'a Place>, Option<&'a Entry>, &'a [Step]),
}

/// Is there a scalar that [`set`] would only replace?
pub(super) fn has_scalar(text: Text<'_>, root: &Place, path: &[Step]) -> bool {
    match follow(text, root, path) {
        Ok(Found::Value(place)) => !matches!(
            place.kind,
            Kind::List(_) | Kind::Map { .. } | Kind::Pair | Kind::Empty
        ),
        _ => false,
    }
}

/// Gives the place that a path leads to this value; what is missing of it is added.
pub(super) fn set(text: Text<'_>, root: &Place, path: &[Step], value: &str) -> Splices {
    match follow(text, root, path)? {
        Found::Value(place) => text.replace(place, value),
        Found::Missing(around, entry, missing) => text.add(&around, entry, missing, value),
    }
}

/// Removes a key with its value.
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

/// The exact key, else one that differs in case only where the reader finds it, too. Of equal keys
/// the last one counts.
fn position(entries: &[Entry], step: &Step) -> Option<usize> {
    let last = |same: &dyn Fn(&str) -> bool| {
        entries
            .iter()
            .rposition(|entry| entry.key.as_deref().is_some_and(same))
    };
    match step {
        Step::Item(_) => None,
        Step::Key(key) => last(&|known| known == key),
        Step::Field(name) => {
            last(&|known| known == *name).or_else(|| last(&|k| k.eq_ignore_ascii_case(name)))
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

impl<'t> Text<'t> {
    fn manner(self, like: Option<&Place>) -> Manner {
        match like {
            _ if self.json => Manner::Json,
            Some(place) => match place.kind {
                Kind::SingleQuoted => Manner::Single,
                Kind::DoubleQuoted => Manner::Double,
                _ => Manner::Plain,
            },
            None => Manner::Plain,
        }
    }

    fn replace(self, place: &Place, value: &str) -> Splices {
        let range = place.start..place.end;
        match place.kind {
            Kind::List(_) | Kind::Map { .. } | Kind::Pair => refuse(place.start, Problem::NoScalar),
            // A space of its own: the place is directly behind a colon, an anchor or a tag.
            Kind::Empty => {
                let written = self.manner(None).write(value, true);
                Ok(vec![splice(range, format!(" {written}"))])
            }
            Kind::Block {
                header_end,
                content,
            } => self.replace_block(place, header_end, content, value),
            _ => {
                let written = self.manner(Some(place)).write(value, true);
                let written = match place.kind {
                    // In a block, what needs quotes between braces only goes without.
                    Kind::Plain if self.text[range.clone()].contains(':') => {
                        self.manner(Some(place)).write(value, false)
                    }
                    _ => written,
                };
                Ok(vec![splice(range, written)])
            }
        }
    }

    /// The header stays, but says that the value ends without a line break.
    fn replace_block(
        self,
        place: &Place,
        header_end: usize,
        content: usize,
        value: &str,
    ) -> Splices {
        let fits = !value.is_empty() && !value.starts_with([' ', '\t']);
        if content >= place.end || !fits || value.chars().any(char::is_control) {
            return refuse(place.start, Problem::Layout);
        }
        let header: String = self.text[place.start..header_end]
            .chars()
            .filter(|c| !"+-".contains(*c))
            .collect();
        // Lines may be indented more than the value is.
        let indent = least_indent(&self.text[content..place.end]);
        let line = format!("{}{value}", " ".repeat(indent));
        Ok(vec![
            splice(place.start..header_end, format!("{header}-")),
            splice(content..place.end, line),
        ])
    }

    fn add(
        self,
        around: &[&Place],
        entry: Option<&Entry>,
        missing: &[Step],
        value: &str,
    ) -> Splices {
        let Some((map, outer)) = around.split_last() else {
            return refuse(0, Problem::NoMapping);
        };
        let names: Vec<&str> = missing.iter().filter_map(Step::name).collect();
        if names.len() != missing.len() || names.is_empty() {
            return refuse(map.start, Problem::NotThere);
        }
        match (&map.kind, entry) {
            (Kind::Map { entries, flow }, _) if !entries.is_empty() => {
                if *flow {
                    Ok(self.add_in_flow(map, entries, &names, value))
                } else {
                    self.add_in_block(outer, map, entries, &names, value)
                }
            }
            (_, Some(entry)) => self.fill(outer, entry, map, &names, value),
            (_, None) => {
                let range = map.start..map.end;
                let text = self.flow(&names, value, None);
                Ok(vec![splice(range, text)])
            }
        }
    }

    fn add_in_block(
        self,
        outer: &[&Place],
        map: &Place,
        entries: &[Entry],
        names: &[&str],
        value: &str,
    ) -> Splices {
        let Some((first, last)) = entries.first().zip(entries.last()) else {
            return refuse(map.start, Problem::Layout);
        };
        let at = self.end_of_line_with_nothing_else(last.value.end)?;
        if at == self.text.len() && self.ends_in_open_block(&last.value) {
            return refuse(last.start, Problem::Layout);
        }
        let indent = column(self.text, first.start);
        let like = Some(&last.value).filter(|_| names.len() == 1);
        let key = Manner::of(&self.text[last.start..last.key_end]);
        let manners = (key, self.manner(like));
        let step = self.step(outer, map);
        let lines = block_lines(names, value, indent, step, manners);
        let text = self.lines(&lines, at);
        Ok(vec![splice(at..at, text)])
    }

    /// At the end of a text without a last line break, readers disagree on whether such a value has
    /// one; a line after it would settle that.
    fn ends_in_open_block(self, place: &Place) -> bool {
        match &place.kind {
            Kind::List(items) => items
                .last()
                .is_some_and(|item| self.ends_in_open_block(item)),
            Kind::Map { entries, .. } => {
                let last = entries.last();
                last.is_some_and(|entry| self.ends_in_open_block(&entry.value))
            }
            Kind::Block { header_end, .. } => !self.text[place.start..*header_end].contains('-'),
            _ => false,
        }
    }

    /// Spaces by which a mapping in this one is indented.
    fn step(self, outer: &[&Place], map: &Place) -> usize {
        let columns = |place: &&Place| match &place.kind {
            Kind::Map { entries, .. } => entries.first().map(|e| column(self.text, e.start)),
            _ => None,
        };
        let mut around: Vec<usize> = outer.iter().filter_map(columns).collect();
        around.extend(columns(&map));
        let from_outside = around
            .windows(2)
            .last()
            .and_then(|w| w[1].checked_sub(w[0]));
        let Kind::Map { entries, .. } = &map.kind else {
            return from_outside.filter(|step| *step > 0).unwrap_or(2);
        };
        let here = around.last().copied().unwrap_or(0);
        let inside = entries.iter().filter_map(|entry| columns(&&entry.value));
        let inside = inside.filter_map(|column| column.checked_sub(here));
        inside
            .chain(from_outside)
            .find(|step| *step > 0)
            .unwrap_or(2)
    }

    /// Puts the first entries into something that has none: `{}`, `null` or nothing.
    fn fill(
        self,
        outer: &[&Place],
        entry: &Entry,
        hollow: &Place,
        names: &[&str],
        value: &str,
    ) -> Splices {
        let Some((parent, further)) = outer.split_last() else {
            return refuse(hollow.start, Problem::Layout);
        };
        let Some(colon) = entry.colon else {
            return refuse(entry.start, Problem::Layout);
        };
        let between = &self.text[colon..hollow.start];
        let is_block = matches!(parent.kind, Kind::Map { flow: false, .. });
        let (step, indent) = (self.step(further, parent), column(self.text, entry.start));
        if is_block && !between.contains('\n') && self.text[entry.start..].starts_with('?') {
            return refuse(entry.start, Problem::Layout);
        }
        if is_block && !between.contains('\n') {
            let at = self.end_of_line_with_nothing_else(hollow.end)?;
            let spaces = between.len() - between.trim_end_matches(' ').len();
            let gone = if hollow.start == hollow.end {
                0
            } else {
                spaces
            };
            let plain = (Manner::Plain, Manner::Plain);
            let lines = block_lines(names, value, indent + step, step, plain);
            return Ok(vec![
                splice(hollow.start - gone..hollow.end, ""),
                splice(at..at, self.lines(&lines, at)),
            ]);
        }
        let on_lines = begins_line(self.text, entry.start).then_some((indent, step));
        let space = if hollow.start == colon && !self.json {
            " "
        } else {
            ""
        };
        let text = format!("{space}{}", self.flow(names, value, on_lines));
        Ok(vec![splice(hollow.start..hollow.end, text)])
    }

    fn lines(self, lines: &[String], at: usize) -> String {
        let line_break = line_break(self.text, at);
        lines.iter().flat_map(|line| [line_break, line]).collect()
    }

    /// `{key: value}`; on lines of its own if the indentation of the line around is given.
    fn flow(self, names: &[&str], value: &str, on_lines: Option<(usize, usize)>) -> String {
        let manner = if self.json {
            Manner::Json
        } else {
            Manner::Plain
        };
        let line_break = line_break(self.text, 0);
        let Some((name, rest)) = names.split_first() else {
            return manner.write(value, true);
        };
        let key = manner.write(name, true);
        match on_lines {
            Some((indent, step)) => {
                let inner = self.flow(rest, value, Some((indent + step, step)));
                let (open, close) = (" ".repeat(indent + step), " ".repeat(indent));
                format!("{{{line_break}{open}{key}: {inner}{line_break}{close}}}")
            }
            None => format!("{{{key}: {}}}", self.flow(rest, value, None)),
        }
    }

    fn add_in_flow(
        self,
        map: &Place,
        entries: &[Entry],
        names: &[&str],
        value: &str,
    ) -> Vec<Splice> {
        let Some((last, (name, rest))) = entries.last().zip(names.split_first()) else {
            return Vec::new();
        };
        let on_line = begins_line(self.text, last.start);
        let indent = column(self.text, last.start);
        let written = if rest.is_empty() {
            self.manner(Some(&last.value)).write(value, true)
        } else {
            let step = indent
                .saturating_sub(column_of_line(self.text, map.start))
                .max(1);
            self.flow(rest, value, on_line.then_some((indent, step)))
        };
        let key = Manner::of(&self.text[last.start..last.key_end]);
        let key = if self.json { Manner::Json } else { key };
        let colon = self.colon_like(last);
        let entry = format!("{}{colon}{written}", key.write(name, true));
        let end = last.value.end;
        let comma = skip_blank(self.text, end);
        let has_comma = self.text[comma..].starts_with(',');
        let behind = if has_comma { comma + 1 } else { end };
        if on_line {
            // Behind a comment that follows, unless the brace stands in the same line.
            let line = line_end(self.text, behind);
            let at = if line < map.end { line } else { behind };
            let after = if has_comma { "," } else { "" };
            let line_break = line_break(self.text, last.start);
            let entry = format!("{line_break}{}{entry}{after}", " ".repeat(indent));
            let comma = splice(end..end, if has_comma { "" } else { "," });
            return vec![comma, splice(at..at, entry)];
        }
        let space = if colon.ends_with(' ') { " " } else { "" };
        let text = if has_comma {
            format!("{space}{entry},")
        } else {
            format!(",{space}{entry}")
        };
        vec![splice(behind..behind, text)]
    }

    /// What stands between a key and its value, if it is ordinary.
    fn colon_like(self, entry: &Entry) -> &'t str {
        let between = &self.text[entry.key_end..entry.value.start];
        let ordinary = between.trim_matches(' ') == ":" && (self.json || between.ends_with(' '));
        if ordinary { between } else { ": " }
    }

    fn remove_in_flow(self, map: &Place, entries: &[Entry], index: usize) -> Vec<Splice> {
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

    fn remove_in_block(
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

    /// The lines from here to there with the last line break, or the one before where the text ends.
    fn whole_lines(self, start: usize, end: usize) -> Range<usize> {
        let start = line_start(self.text, start);
        if let Some(found) = self.text[end..].find('\n') {
            return start..end + found + 1;
        }
        let before = &self.text[..start];
        let before = before.strip_suffix('\n').unwrap_or(before);
        before.strip_suffix('\r').unwrap_or(before).len()..end
    }

    /// The last entry goes, and `{}` says that nothing is left.
    fn empty_block(self, root: &Place, map: &Place, entry: &Entry, end: usize) -> Splices {
        let Some(owner) = owner_of(root, map) else {
            return refuse(entry.start, Problem::Last);
        };
        let Some(colon) = owner.colon.filter(|_| begins_line(self.text, entry.start)) else {
            return refuse(entry.start, Problem::Last);
        };
        let at = super::place::skip_properties(self.text, skip_spaces(self.text, colon));
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

    /// Behind a value there may be a comment, but nothing of another value.
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

fn blank_or_comma(text: &str) -> bool {
    text.trim() == ","
}

fn skip_spaces(text: &str, at: usize) -> usize {
    let rest = &text[at..];
    at + rest.len() - rest.trim_start_matches(' ').len()
}

fn least_indent(lines: &str) -> usize {
    let filled = lines.lines().filter(|line| !line.trim().is_empty());
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    filled.map(indent).min().unwrap_or(0)
}

/// Of the first character of the line.
fn column_of_line(text: &str, at: usize) -> usize {
    let line = &text[line_start(text, at)..at];
    line.len() - line.trim_start_matches(' ').len()
}

/// The entry whose value this is.
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

fn block_lines(
    names: &[&str],
    value: &str,
    indent: usize,
    step: usize,
    (key, manner): (Manner, Manner),
) -> Vec<String> {
    let last = names.len().saturating_sub(1);
    let line = |(depth, name): (usize, &&str)| {
        let spaces = " ".repeat(indent + depth * step);
        let key = key.write(name, false);
        if depth == last {
            format!("{spaces}{key}: {}", manner.write(value, false))
        } else {
            format!("{spaces}{key}:")
        }
    };
    names.iter().enumerate().map(line).collect()
}
