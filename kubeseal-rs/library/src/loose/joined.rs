//! Joins the lines of values that a file wraps.

/// The text of a file, in which the lines of each wrapped value are joined, also across blank lines.
pub(super) struct JoinedText {
    pub(super) text: Vec<u8>,
    /// The position and the number of each line that was not joined to the previous one.
    lines: Vec<(usize, usize)>,
}

impl JoinedText {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let (mut text, mut lines) = (Vec::with_capacity(bytes.len()), Vec::new());
        let mut is_continued = false;
        for (i, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            let line = line.strip_suffix(b"\\").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            if !is_continued || !is_continuation(line) {
                text.push(b'\n');
                lines.push((text.len(), i + 1));
            }
            text.extend_from_slice(line);
            is_continued = can_continue(line);
        }
        Self { text, lines }
    }

    pub(super) fn line_at(&self, position: usize) -> usize {
        let index = self.lines.partition_point(|(start, _)| *start <= position);
        let line = index.checked_sub(1).and_then(|index| self.lines.get(index));
        line.map_or(1, |(_, line)| *line)
    }
}

/// Returns whether the line may be a further line of a value. Separators such as `---` contain no letter or digit.
fn is_continuation(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\"").unwrap_or(line);
    line.iter().copied().all(is_value_byte) && line.iter().any(u8::is_ascii_alphanumeric)
}

/// Returns whether a value may continue on the next line. The end of `a: |2-`, `- -` or `---` is syntax.
fn can_continue(line: &[u8]) -> bool {
    let is_indicator = |byte: &u8| byte.is_ascii_digit() || b"+-".contains(byte);
    let Some(end) = line.iter().rposition(|byte| !is_indicator(byte)) else {
        return line.iter().any(u8::is_ascii_digit);
    };
    let is_item = line.ends_with(b" -");
    let is_block = b"|>".contains(&line[end]);
    !is_item && !is_block && line.last().copied().is_some_and(is_value_byte)
}

fn is_value_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=-_.".contains(&byte)
}
