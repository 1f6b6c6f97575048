//! Replaces an existing value with a new value.

use super::{Kind, Problem, Splices, Text, ValueSpan, refuse, splice};

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
    /// without a line break.
    fn replace_block(
        self,
        span: &ValueSpan,
        header_end: usize,
        content: usize,
        value: &str,
    ) -> Splices {
        let is_supported = !value.is_empty() && !value.starts_with([' ', '\t']);
        if content >= span.end || !is_supported || value.chars().any(char::is_control) {
            return refuse(span.start, Problem::Layout);
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

fn least_indent(lines: &str) -> usize {
    let non_blank = lines.lines().filter(|line| !line.trim().is_empty());
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    non_blank.map(indent).min().unwrap_or(0)
}
