//! Joins the lines of values that a file wraps.

/// The text of a file, in which the lines of each wrapped value are joined, also across blank lines.
pub(super) struct JoinedText {
    pub(super) text: Vec<u8>,
    /// The position and the number of each line that was not joined to the previous one.
    lines: Vec<(usize, usize)>,
}

/// Which lines are joined.
#[derive(Clone, Copy, PartialEq)]
enum Lines {
    /// The lines with a letter or digit. A line such as `---` or `-` is syntax.
    WithWords,
    /// All lines that consist of characters of values. If the lines of a value are short, some contain no letter.
    All,
}

impl JoinedText {
    /// Returns the text with lines joined that have a letter or digit.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self::joining(bytes, Lines::WithWords)
    }

    /// Returns the text with all lines joined that may be a part of a value, if this differs from [`Self::of`].
    pub(super) fn of_short_lines(bytes: &[u8]) -> Option<Self> {
        let has_symbols = |line: &[u8]| {
            let symbols = without_backslash(line.trim_ascii());
            let is_joined = |lines| is_continuation(symbols, lines);
            !symbols.is_empty()
                && !is_marker(line)
                && is_joined(Lines::All)
                && !is_joined(Lines::WithWords)
        };
        let mut lines = bytes.split(|byte| *byte == b'\n');
        lines
            .any(has_symbols)
            .then(|| Self::joining(bytes, Lines::All))
    }

    fn joining(bytes: &[u8], lines_to_join: Lines) -> Self {
        let (mut text, mut lines) = (Vec::with_capacity(bytes.len()), Vec::new());
        let mut is_continued = false;
        for (i, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let is_marker = is_marker(line);
            let line = without_backslash(line.trim_ascii());
            if line.is_empty() {
                continue;
            }
            if !is_continued || is_marker || !is_continuation(line, lines_to_join) {
                text.push(b'\n');
                lines.push((text.len(), i + 1));
            }
            text.extend_from_slice(line);
            is_continued = !is_marker && can_continue(line, lines_to_join);
        }
        Self { text, lines }
    }

    pub(super) fn line_at(&self, position: usize) -> usize {
        let index = self.lines.partition_point(|(start, _)| *start <= position);
        let line = index.checked_sub(1).and_then(|index| self.lines.get(index));
        line.map_or(1, |(_, line)| *line)
    }
}

/// Returns whether the line separates documents.
fn is_marker(line: &[u8]) -> bool {
    [&b"---"[..], b"..."].contains(&line.trim_ascii_end())
}

/// Returns a line without the backslash that joins it to the next line.
fn without_backslash(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\\").unwrap_or(line)
}

/// Returns whether the line may be a further line of a value.
fn is_continuation(line: &[u8], lines: Lines) -> bool {
    let line = line.strip_suffix(b"\"").unwrap_or(line);
    let has_word = || lines == Lines::All || line.iter().any(u8::is_ascii_alphanumeric);
    line.iter().copied().all(is_value_byte) && has_word()
}

/// Returns whether a value may continue on the next line. The end of `a: |2-` or `- -` is syntax, and so is a line
/// `---` if only lines with words are joined.
fn can_continue(line: &[u8], lines: Lines) -> bool {
    let is_indicator = |byte: &u8| byte.is_ascii_digit() || b"+-".contains(byte);
    let Some(end) = line.iter().rposition(|byte| !is_indicator(byte)) else {
        return lines == Lines::All || line.iter().any(u8::is_ascii_digit);
    };
    let is_item = line.ends_with(b" -");
    let is_block = b"|>".contains(&line[end]);
    !is_item && !is_block && line.last().copied().is_some_and(is_value_byte)
}

fn is_value_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/=-_.".contains(&byte)
}
