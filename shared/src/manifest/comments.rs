//! Finds comments that begin in the first column. The parser drops comments, and a line that begins with `#` may be
//! part of a scalar. So a marker is inserted into each such line: if the parser returns the marker in a scalar, the
//! line is not a comment.

use saphyr_parser::{Event, Parser};

use super::{split_at_separators, text};

/// A comment that begins in the first column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Line of the comment, counted from one.
    pub line: usize,
    /// The text after the `#`.
    pub text: String,
    /// Whether the parser has read past the comment. After the first error of a malformed document, comments cannot be
    /// distinguished from lines of text.
    pub is_certain: bool,
}

/// Prefix of a marker; the line number and a semicolon follow.
const MARKER: &str = "\u{f8ff}seal-comment-";

/// Returns the comments whose text the filter accepts. Omits lines of scalars. In a file that cannot be decoded,
/// invalid bytes are read as U+FFFD.
pub(super) fn find(bytes: &[u8], is_wanted: impl Fn(&str) -> bool) -> Vec<Comment> {
    let text = text::decode(bytes).map_or_else(
        |_| String::from_utf8_lossy(bytes).into_owned(),
        |text| text.to_string(),
    );
    let lines = text.split('\n').enumerate();
    let candidate = |(i, line): (usize, &str)| {
        let text = line.strip_prefix('#').filter(|text| is_wanted(text))?;
        let (line, text) = (i + 1, text.to_owned());
        let is_certain = false;
        Some(Comment {
            line,
            text,
            is_certain,
        })
    };
    let mut comments: Vec<Comment> = lines.filter_map(candidate).collect();
    if comments.is_empty() {
        return comments;
    }
    let marked_text = insert_markers(&text, &comments);
    let mut lines = ParsedLines::default();
    for (lines_before, piece) in split_at_separators(&marked_text) {
        lines.read(piece, lines_before);
    }
    comments.retain(|comment| lines.scalar_lines.binary_search(&comment.line).is_err());
    for comment in &mut comments {
        comment.is_certain = lines.is_read(comment.line);
    }
    comments
}

fn insert_markers(text: &str, comments: &[Comment]) -> String {
    let mut comment_lines = comments.iter().map(|comment| comment.line).peekable();
    let insert_marker = |(i, line): (usize, &str)| {
        if comment_lines.next_if_eq(&(i + 1)).is_some() {
            format!("#{MARKER}{};{}", i + 1, &line[1..])
        } else {
            line.to_owned()
        }
    };
    text.split_inclusive('\n')
        .enumerate()
        .map(insert_marker)
        .collect()
}

/// The lines that the parser has read.
#[derive(Default)]
struct ParsedLines {
    /// Marked lines inside scalars, sorted.
    scalar_lines: Vec<usize>,
    /// The ranges of lines that the parser has read, each as its first line and the line after its last line.
    read_ranges: Vec<(usize, usize)>,
}

impl ParsedLines {
    /// Reads one document, up to its first error.
    fn read(&mut self, marked_text: &str, lines_before: usize) {
        let first_line = lines_before + 1;
        let mut end_line = first_line + leading_comment_lines(marked_text);
        for event in Parser::new_from_str(marked_text) {
            let Ok((event, span)) = event else {
                return self.add_range(first_line, end_line);
            };
            if let Event::Scalar(text, ..) = &event {
                self.scalar_lines.extend(marker_lines(text));
            }
            if !matches!(event, Event::StreamEnd | Event::DocumentEnd) {
                end_line = end_line.max(lines_before + span.start.line());
            }
        }
        self.add_range(first_line, usize::MAX);
    }

    fn add_range(&mut self, first_line: usize, end_line: usize) {
        self.scalar_lines.sort_unstable();
        self.read_ranges.push((first_line, end_line));
    }

    /// Returns whether the parser has read the line, according to the last range that begins at or before it.
    fn is_read(&self, line: usize) -> bool {
        let range = self
            .read_ranges
            .iter()
            .rev()
            .find(|(first_line, _)| *first_line <= line);
        range.is_some_and(|(_, end_line)| line < *end_line)
    }
}

/// Returns the number of leading lines that are empty, comments, directives or `---`.
fn leading_comment_lines(text: &str) -> usize {
    let is_empty = |line: &&str| {
        line.trim_end().is_empty() || line.starts_with(['#', '%']) || line.trim_end() == "---"
    };
    text.lines().take_while(is_empty).count()
}

fn marker_lines(text: &str) -> impl Iterator<Item = usize> {
    text.split(MARKER).skip(1).filter_map(|rest| {
        let (number, _) = rest.split_once(';')?;
        number.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_marked(text: &str) -> Vec<(usize, bool)> {
        let comments = find(text.as_bytes(), |text| text.starts_with('!'));
        let summary = |comment: &Comment| (comment.line, comment.is_certain);
        comments.iter().map(summary).collect()
    }

    #[test]
    fn distinguishes_comments_from_lines_of_scalars() {
        for (text, want) in [
            ("#!a\na: b\n#!b\n", vec![(1, true), (3, true)]),
            ("a: |\n  b\n#!a\nc: d\n", vec![(3, true)]),
            ("a:\n- b\n#!a\r\n- c\r\n", vec![(3, true)]),
            ("{\n#!a\n}\n", vec![(2, true)]),
            ("# a\n#a\n #!a\na: 1 #!a\n", vec![]),
            ("a: \"b\n#!a\nc\"\n", vec![(2, false)]),
            ("a: \"b\n#!a\"\nc: d\n", vec![(2, false)]),
            ("a: 'b\n#!a\n'\nc: d\n", vec![(2, false)]),
            ("--- |\n#!a\nb\n", vec![]),
            ("--- >\nb\n#!a\n", vec![]),
            ("--- \"\n#!a\n\"\n---\na: b\n", vec![]),
            ("--- |\n#!a\n---\n#!b\na: b\n", vec![(4, true)]),
            ("#!a\na: [\n", vec![(1, true)]),
            (
                "#!a\n{{ if .b }}\na: b\n{{ end }}\n#!b\n",
                vec![(1, true), (5, false)],
            ),
            ("a: b\n#!a\nc: [\n", vec![(2, true)]),
            ("a: \"b\n#!a\nc\n", vec![(2, false)]),
            ("{{ x }}\n---\n#!a\na: b\n", vec![(3, true)]),
            ("a: b\n---\n[ }\n#!a\n", vec![(4, false)]),
        ] {
            assert_eq!(find_marked(text), want, "{text:?}");
        }
    }

    #[test]
    fn finds_comments_between_invalid_bytes() {
        let comments = find(b"#!a\n# \xff\na: b\n", |text| text.starts_with('!'));
        assert_eq!(comments.len(), 1);
    }

    proptest::proptest! {
        /// Attack: an author writes a value with lines that look like comments, to exempt a file from lint.
        #[test]
        fn no_line_of_a_value_is_a_comment(value in "[ab#!'\":|>\\-\n ]{0,40}", style in 0..3_usize) {
            // In quotes, a `---` line still begins a document (YAML 1.2.2, section 9.1.2), so the text is not a value.
            let is_cut = style > 0 && value.lines().skip(1).any(|line| line.starts_with("---"));
            proptest::prop_assume!(!is_cut);
            let value = format!("{value}\n#!a\nb");
            let indented = value.replace('\n', "\n ");
            let quoted = serde_json::to_string(&value).unwrap();
            let text = [
                format!("--- |1\n {indented}\n"),
                format!("--- {}\n", quoted.replace("\\n", "\\n\\\n")),
                format!("--- '{}'\n", value.replace('\'', "''")),
            ];
            let comments = find(text[style].as_bytes(), |text| text.starts_with('!'));
            proptest::prop_assert!(comments.iter().all(|comment| !comment.is_certain), "{}", text[style]);
        }
    }
}
