//! Adds a key with its value and the missing mappings around it.

use super::super::scalar_style::is_lines;
use super::super::value_span::{
    column, is_first_on_line, line_break, line_end, line_start, skip_blank,
};
use super::{
    Entry, Kind, Problem, ScalarStyle, Splice, Splices, Step, Text, ValueSpan, refuse, splice,
};

impl<'t> Text<'t> {
    pub(super) fn add(
        self,
        ancestors: &[&ValueSpan],
        entry: Option<&Entry>,
        missing: &[Step],
        value: &str,
    ) -> Splices {
        let Some((map, outer)) = ancestors.split_last() else {
            return refuse(0, Problem::NotMapping);
        };
        let names: Vec<&str> = missing.iter().filter_map(Step::name).collect();
        if names.len() != missing.len() || names.is_empty() {
            return refuse(map.start, Problem::Missing);
        }
        match (&map.kind, entry) {
            (Kind::Map { entries, flow }, _) if !entries.is_empty() => {
                if *flow {
                    Ok(self.add_in_flow(map, entries, &names, value))
                } else {
                    self.add_in_block(outer, map, entries, &names, value)
                }
            }
            (_, Some(entry)) => self.fill_null(outer, entry, map, &names, value),
            (_, None) => {
                let range = map.start..map.end;
                let text = self.format_flow(&names, value, None);
                Ok(vec![splice(range, text)])
            }
        }
    }

    fn add_in_block(
        self,
        outer: &[&ValueSpan],
        map: &ValueSpan,
        entries: &[Entry],
        names: &[&str],
        value: &str,
    ) -> Splices {
        let Some((first, last)) = entries.first().zip(entries.last()) else {
            return refuse(map.start, Problem::Layout);
        };
        let offset = self.end_of_line_after_value(last.value.end)?;
        if offset == self.text.len() && self.has_open_block_at_end(&last.value) {
            return refuse(last.start, Problem::Layout);
        }
        let indent = column(self.text, first.start);
        let sibling = Some(&last.value).filter(|_| names.len() == 1);
        let key = ScalarStyle::of(&self.text[last.start..last.key_end]);
        let styles = (key, self.style(sibling));
        let step = self.indent_step(outer, map);
        let lines = block_lines(names, value, indent, step, styles);
        let text = self.format_lines(&lines, value, offset);
        Ok(vec![splice(offset..offset, text)])
    }

    /// Returns whether the last value in `span` is a block scalar whose header has no `-`. If the text ends with such a
    /// scalar and without a line break, parsers disagree on whether the value ends with a line break, and adding a line
    /// would add this line break to the value.
    fn has_open_block_at_end(self, span: &ValueSpan) -> bool {
        match &span.kind {
            Kind::List(items) => items
                .last()
                .is_some_and(|item| self.has_open_block_at_end(item)),
            Kind::Map { entries, .. } => {
                let last = entries.last();
                last.is_some_and(|entry| self.has_open_block_at_end(&entry.value))
            }
            Kind::Block { header_end, .. } => !self.text[span.start..*header_end].contains('-'),
            _ => false,
        }
    }

    /// Returns the number of spaces by which a mapping inside `map` is indented relative to `map`.
    fn indent_step(self, outer: &[&ValueSpan], map: &ValueSpan) -> usize {
        let entry_column = |span: &&ValueSpan| match &span.kind {
            Kind::Map { entries, .. } => entries.first().map(|e| column(self.text, e.start)),
            _ => None,
        };
        let mut columns: Vec<usize> = outer.iter().filter_map(entry_column).collect();
        columns.extend(entry_column(&map));
        let outer_step = columns
            .windows(2)
            .last()
            .and_then(|w| w[1].checked_sub(w[0]));
        let entries = match &map.kind {
            Kind::Map { entries, .. } => entries.as_slice(),
            _ => &[],
        };
        let map_column = columns.last().copied().unwrap_or(0);
        let inner_columns = entries
            .iter()
            .filter_map(|entry| entry_column(&&entry.value));
        let inner_steps = inner_columns.filter_map(|column| column.checked_sub(map_column));
        // In a mapping with braces, use the indentation of its first entry relative to the line of the opening brace.
        let first = entries.first().map(|entry| entry.start);
        let first = first.filter(|offset| is_first_on_line(self.text, *offset));
        let flow_step = first.and_then(|offset| {
            let line_column = indentation_of_line(self.text, map.start);
            column(self.text, offset).checked_sub(line_column)
        });
        inner_steps
            .chain(outer_step)
            .chain(flow_step)
            .find(|step| *step > 0)
            .unwrap_or(2)
    }

    /// Adds the first entries to an empty value: `{}`, `null` or an absent value.
    fn fill_null(
        self,
        outer: &[&ValueSpan],
        entry: &Entry,
        null: &ValueSpan,
        names: &[&str],
        value: &str,
    ) -> Splices {
        let Some((parent, ancestors)) = outer.split_last() else {
            return refuse(null.start, Problem::Layout);
        };
        let Some(colon) = entry.colon else {
            return refuse(entry.start, Problem::Layout);
        };
        let between = &self.text[colon..null.start];
        let is_block = matches!(parent.kind, Kind::Map { flow: false, .. });
        let (step, indent) = (
            self.indent_step(ancestors, parent),
            column(self.text, entry.start),
        );
        if is_block && !between.contains('\n') && self.text[entry.start..].starts_with('?') {
            return refuse(entry.start, Problem::Layout);
        }
        if is_block && !between.contains('\n') {
            let offset = self.end_of_line_after_value(null.end)?;
            let spaces = between.len() - between.trim_end_matches(' ').len();
            let removed_spaces = if null.start == null.end { 0 } else { spaces };
            let styles = (ScalarStyle::Plain, ScalarStyle::Plain);
            let lines = block_lines(names, value, indent + step, step, styles);
            return Ok(vec![
                splice(null.start - removed_spaces..null.end, ""),
                splice(offset..offset, self.format_lines(&lines, value, offset)),
            ]);
        }
        let indentation = is_first_on_line(self.text, entry.start).then_some((indent, step));
        let space = if null.start == colon && !self.json {
            " "
        } else {
            ""
        };
        let text = format!("{space}{}", self.format_flow(names, value, indentation));
        Ok(vec![splice(null.start..null.end, text)])
    }

    fn format_lines(self, lines: &[String], value: &str, offset: usize) -> String {
        let line_break = line_break(self.text, offset);
        let mut text: String = lines.iter().flat_map(|line| [line_break, line]).collect();
        if offset == self.text.len() && is_lines(value) {
            // Parsers disagree on whether a block without a last line break ends with one.
            text.push_str(line_break);
        }
        text
    }

    /// Formats nested mappings such as `{key: value}`. If `indentation` is set, writes one entry per line; it contains
    /// the indentation of the surrounding line and of one level.
    fn format_flow(
        self,
        names: &[&str],
        value: &str,
        indentation: Option<(usize, usize)>,
    ) -> String {
        let style = if self.json {
            ScalarStyle::Json
        } else {
            ScalarStyle::Plain
        };
        let line_break = line_break(self.text, 0);
        let Some((name, inner_names)) = names.split_first() else {
            return style.write(value, true);
        };
        let key = style.write(name, true);
        match indentation {
            Some((indent, step)) => {
                let inner = self.format_flow(inner_names, value, Some((indent + step, step)));
                let (open, close) = (" ".repeat(indent + step), " ".repeat(indent));
                format!("{{{line_break}{open}{key}: {inner}{line_break}{close}}}")
            }
            None => format!("{{{key}: {}}}", self.format_flow(inner_names, value, None)),
        }
    }

    fn add_in_flow(
        self,
        map: &ValueSpan,
        entries: &[Entry],
        names: &[&str],
        value: &str,
    ) -> Vec<Splice> {
        let Some((last, (name, inner_names))) = entries.last().zip(names.split_first()) else {
            return Vec::new();
        };
        let is_on_own_line = is_first_on_line(self.text, last.start);
        let indent = column(self.text, last.start);
        let value_text = if inner_names.is_empty() {
            self.style(Some(&last.value)).write(value, true)
        } else {
            let step = indent
                .saturating_sub(indentation_of_line(self.text, map.start))
                .max(1);
            self.format_flow(inner_names, value, is_on_own_line.then_some((indent, step)))
        };
        let key = ScalarStyle::of(&self.text[last.start..last.key_end]);
        let key = if self.json { ScalarStyle::Json } else { key };
        let colon = self.colon_like(last);
        let entry = format!("{}{colon}{value_text}", key.write(name, true));
        let end = last.value.end;
        let comma = skip_blank(self.text, end);
        let has_comma = self.text[comma..].starts_with(',');
        let after_comma = if has_comma { comma + 1 } else { end };
        if is_on_own_line {
            // Insert after the comment on the line, unless the closing brace is on the same line.
            let line = line_end(self.text, after_comma);
            let offset = if line < map.end { line } else { after_comma };
            let trailing_comma = if has_comma { "," } else { "" };
            let line_break = line_break(self.text, last.start);
            let entry = format!("{line_break}{}{entry}{trailing_comma}", " ".repeat(indent));
            let comma = splice(end..end, if has_comma { "" } else { "," });
            return vec![comma, splice(offset..offset, entry)];
        }
        let space = if colon.ends_with(' ') { " " } else { "" };
        let text = if has_comma {
            format!("{space}{entry},")
        } else {
            format!(",{space}{entry}")
        };
        vec![splice(after_comma..after_comma, text)]
    }

    /// Returns the text between a key and its value if it is a colon with optional spaces, in YAML with at least one
    /// after it; otherwise `: `.
    fn colon_like(self, entry: &Entry) -> &'t str {
        let between = &self.text[entry.key_end..entry.value.start];
        let is_ordinary = between.trim_matches(' ') == ":" && (self.json || between.ends_with(' '));
        if is_ordinary { between } else { ": " }
    }
}

/// Returns the number of spaces at the start of the line, at most up to `offset`.
fn indentation_of_line(text: &str, offset: usize) -> usize {
    let line = &text[line_start(text, offset)..offset];
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
    let is_block = is_lines(value);
    let line = |(depth, name): (usize, &&str)| {
        let spaces = " ".repeat(indent + depth * step);
        let key = key.write(name, false);
        if depth < last {
            format!("{spaces}{key}:")
        } else if is_block {
            format!("{spaces}{key}: |")
        } else {
            format!("{spaces}{key}: {}", style.write(value, false))
        }
    };
    let content = if is_block { value } else { "" };
    let content_indent = " ".repeat(indent + names.len() * step);
    let content = content
        .lines()
        .map(|line| format!("{content_indent}{line}"));
    let lines = names.iter().enumerate().map(line);
    lines.chain(content).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_indentation_of_a_line() {
        for (text, offset, want) in [("a: {", 3, 0), ("   a: {", 6, 3), ("x\n  a: {", 7, 2)] {
            assert_eq!(indentation_of_line(text, offset), want, "{text:?}");
        }
    }
}
