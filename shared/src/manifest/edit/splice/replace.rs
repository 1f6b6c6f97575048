//! Replaces an existing value with a new value.

use super::super::scalar_style::is_lines;
use super::super::value_span::line_break;
use super::{Kind, Problem, Splice, Splices, Text, ValueSpan, refuse, splice};

impl Text<'_> {
    pub(super) fn replace(self, span: &ValueSpan, value: &str) -> Splices {
        let range = span.start..span.end;
        match span.kind {
            Kind::List(_) | Kind::Map { .. } | Kind::Pair => refuse(span.start, Problem::NotScalar),
            // Add a space: the position is directly after a colon, an anchor or a tag.
            Kind::Empty => {
                let value_text = self.style(None).write(value, true);
                Ok(vec![splice(range, format!(" {value_text}"))])
            }
            Kind::Block {
                header_end,
                content,
            } => self.replace_block(span, header_end, content, value),
            _ => {
                let value_text = self.style(Some(span)).write(value, true);
                let value_text = match span.kind {
                    // The old unquoted value contained a colon, so the new value needs no quotes for a colon either.
                    Kind::Plain if self.text[range.clone()].contains(':') => {
                        self.style(Some(span)).write(value, false)
                    }
                    _ => value_text,
                };
                Ok(vec![splice(range, value_text)])
            }
        }
    }

    /// Replaces a block scalar. Keeps the header, but sets its chomping indicator to `-`, so that the value ends
    /// without a line break. A text of several lines makes the block literal, and ends with a line break.
    fn replace_block(
        self,
        span: &ValueSpan,
        header_end: usize,
        content: usize,
        value: &str,
    ) -> Splices {
        let is_supported = !value.is_empty() && !value.starts_with([' ', '\t']);
        let is_line = is_supported && !value.chars().any(char::is_control);
        if content >= span.end || !is_line && !is_lines(value) {
            return refuse(span.start, Problem::Layout);
        }
        if is_lines(value) {
            return Ok(self.replace_lines(span, header_end, content, value));
        }
        let header: String = self.text[span.start..header_end]
            .chars()
            .filter(|c| !"+-".contains(*c))
            .collect();
        // Use the least indentation: a line can be indented further, as part of the value.
        let indent = least_indent(&self.text[content..span.end]);
        let line = format!("{}{value}", " ".repeat(indent));
        Ok(vec![
            splice(span.start..header_end, format!("{header}-")),
            splice(content..span.end, line),
        ])
    }
}

impl Text<'_> {
    fn replace_lines(
        self,
        span: &ValueSpan,
        header_end: usize,
        content: usize,
        value: &str,
    ) -> Vec<Splice> {
        let header = self.text[span.start..header_end].chars();
        let indent_indicator = header.filter(char::is_ascii_digit);
        let header: String = std::iter::once('|').chain(indent_indicator).collect();
        let indent = " ".repeat(least_indent(&self.text[content..span.end]));
        let lines: Vec<String> = value
            .lines()
            .map(|line| format!("{indent}{line}"))
            .collect();
        let line_break = line_break(self.text, content);
        let mut text = lines.join(line_break);
        if span.end == self.text.len() {
            // Parsers disagree on whether a block without a last line break ends with one.
            text.push_str(line_break);
        }
        vec![
            splice(span.start..header_end, header),
            splice(content..span.end, text),
        ]
    }
}

fn least_indent(lines: &str) -> usize {
    let non_blank = lines.lines().filter(|line| !line.trim().is_empty());
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    non_blank.map(indent).min().unwrap_or(0)
}
