//! Replaces an existing value with another one.

use super::{Kind, Place, Problem, Splices, Text, refuse, splice};

impl Text<'_> {
    pub(super) fn replace(self, place: &Place, value: &str) -> Splices {
        let range = place.start..place.end;
        match place.kind {
            Kind::List(_) | Kind::Map { .. } | Kind::Pair => refuse(place.start, Problem::NoScalar),
            // Add a space: the position is directly after a colon, an anchor or a tag.
            Kind::Empty => {
                let written = self.style(None).write(value, true);
                Ok(vec![splice(range, format!(" {written}"))])
            }
            Kind::Block {
                header_end,
                content,
            } => self.replace_block(place, header_end, content, value),
            _ => {
                let written = self.style(Some(place)).write(value, true);
                let written = match place.kind {
                    // A text that needs quotes only between braces needs none in a block.
                    Kind::Plain if self.text[range.clone()].contains(':') => {
                        self.style(Some(place)).write(value, false)
                    }
                    _ => written,
                };
                Ok(vec![splice(range, written)])
            }
        }
    }

    /// Replaces a block scalar. Keeps the header except for its chomping indicator, so that the value ends without a
    /// line break.
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
}

fn least_indent(lines: &str) -> usize {
    let filled = lines.lines().filter(|line| !line.trim().is_empty());
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    filled.map(indent).min().unwrap_or(0)
}
