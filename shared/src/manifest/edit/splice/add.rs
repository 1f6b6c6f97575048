//! Adds a key with its value and the missing mappings around it.

use super::super::place::{begins_line, column, line_break, line_end, line_start, skip_blank};
use super::{
    Entry, Kind, Place, Problem, ScalarStyle, Splice, Splices, Step, Text, refuse, splice,
};

impl<'t> Text<'t> {
    pub(super) fn add(
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
        let key = ScalarStyle::of(&self.text[last.start..last.key_end]);
        let styles = (key, self.style(like));
        let step = self.step(outer, map);
        let lines = block_lines(names, value, indent, step, styles);
        let text = self.lines(&lines, at);
        Ok(vec![splice(at..at, text)])
    }

    /// Returns whether the text ends in a block scalar without a last line break. Parsers disagree on whether the value
    /// then has one, and an added line would decide it.
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

    /// Returns the number of spaces by which a mapping inside this one is indented.
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
        let entries = match &map.kind {
            Kind::Map { entries, .. } => entries.as_slice(),
            _ => &[],
        };
        let here = around.last().copied().unwrap_or(0);
        let inside = entries.iter().filter_map(|entry| columns(&&entry.value));
        let inside = inside.filter_map(|column| column.checked_sub(here));
        // For mappings in braces, the indentation of their first line.
        let first = entries.first().map(|entry| entry.start);
        let first = first.filter(|at| begins_line(self.text, *at));
        let own = first.and_then(|at| {
            let around = column_of_line(self.text, map.start);
            column(self.text, at).checked_sub(around)
        });
        inside
            .chain(from_outside)
            .chain(own)
            .find(|step| *step > 0)
            .unwrap_or(2)
    }

    /// Adds the first entries to a value that has none: `{}`, `null` or nothing.
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
            let plain = (ScalarStyle::Plain, ScalarStyle::Plain);
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

    /// Formats `{key: value}`, or one entry per line if the indentation of the surrounding line is passed.
    fn flow(self, names: &[&str], value: &str, on_lines: Option<(usize, usize)>) -> String {
        let style = if self.json {
            ScalarStyle::Json
        } else {
            ScalarStyle::Plain
        };
        let line_break = line_break(self.text, 0);
        let Some((name, rest)) = names.split_first() else {
            return style.write(value, true);
        };
        let key = style.write(name, true);
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
            self.style(Some(&last.value)).write(value, true)
        } else {
            let step = indent
                .saturating_sub(column_of_line(self.text, map.start))
                .max(1);
            self.flow(rest, value, on_line.then_some((indent, step)))
        };
        let key = ScalarStyle::of(&self.text[last.start..last.key_end]);
        let key = if self.json { ScalarStyle::Json } else { key };
        let colon = self.colon_like(last);
        let entry = format!("{}{colon}{written}", key.write(name, true));
        let end = last.value.end;
        let comma = skip_blank(self.text, end);
        let has_comma = self.text[comma..].starts_with(',');
        let behind = if has_comma { comma + 1 } else { end };
        if on_line {
            // After a comment that follows, unless the brace is on the same line.
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

    /// Returns the text between a key and its value, if it is ordinary.
    fn colon_like(self, entry: &Entry) -> &'t str {
        let between = &self.text[entry.key_end..entry.value.start];
        let ordinary = between.trim_matches(' ') == ":" && (self.json || between.ends_with(' '));
        if ordinary { between } else { ": " }
    }
}

/// Returns the column of the first character of the line.
fn column_of_line(text: &str, at: usize) -> usize {
    let line = &text[line_start(text, at)..at];
    line.len() - line.trim_start_matches(' ').len()
}

fn block_lines(
    names: &[&str],
    value: &str,
    indent: usize,
    step: usize,
    (key, style): (ScalarStyle, ScalarStyle),
) -> Vec<String> {
    let last = names.len().saturating_sub(1);
    let line = |(depth, name): (usize, &&str)| {
        let spaces = " ".repeat(indent + depth * step);
        let key = key.write(name, false);
        if depth == last {
            format!("{spaces}{key}: {}", style.write(value, false))
        } else {
            format!("{spaces}{key}:")
        }
    };
    names.iter().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_indentation_of_a_line() {
        for (text, at, want) in [("a: {", 3, 0), ("   a: {", 6, 3), ("x\n  a: {", 7, 2)] {
            assert_eq!(column_of_line(text, at), want, "{text:?}");
        }
    }
}
