//! A parser for the subset of `HashiCorp`'s configuration language (HCL 1) that Vault Agent's files use.
//!
//! Vault Agent reads HCL 1, in which `${` and `%{` have no meaning. A parser of HCL 2 would treat them as
//! expressions, but they occur in files that agents write, such as shell scripts.

use std::iter::Peekable;
use std::str::Chars;

/// The maximum nesting of blocks and lists.
const MAX_DEPTH: usize = 16;

/// An attribute or block, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) value: Value,
    /// The line, counted from one.
    pub(super) line: usize,
}

/// The value of an attribute, or a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    /// A number or a boolean, as written.
    Word(String),
    List(Vec<Value>),
    Block(Vec<Entry>),
}

/// A syntax error, or a construct outside this subset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(super) struct HclError {
    pub(super) line: usize,
    pub(super) problem: &'static str,
}

/// Parses a configuration of Vault Agent into its attributes and blocks.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, HclError> {
    let mut parser = Parser {
        chars: text.chars().peekable(),
        line: 1,
    };
    parser.body(None, 0)
}

struct Parser<'a> {
    chars: Peekable<Chars<'a>>,
    line: usize,
}

impl Parser<'_> {
    /// Reads entries up to `end`, or to the end of the file if `end` is `None`.
    fn body(&mut self, end: Option<char>, depth: usize) -> Result<Vec<Entry>, HclError> {
        if depth > MAX_DEPTH {
            return self.fail("blocks are nested too deeply");
        }
        let mut entries = Vec::new();
        loop {
            self.skip_ignored()?;
            match self.chars.peek().copied() {
                None if end.is_none() => return Ok(entries),
                None => return self.fail("a block is not closed"),
                Some(next) if Some(next) == end => {
                    self.next();
                    return Ok(entries);
                }
                Some(_) => entries.push(self.entry(depth)?),
            }
        }
    }

    fn entry(&mut self, depth: usize) -> Result<Entry, HclError> {
        let line = self.line;
        let name = self.name()?;
        loop {
            self.skip_ignored()?;
            match self.chars.peek() {
                Some('=') => {
                    self.next();
                    self.skip_ignored()?;
                    let value = self.value(depth)?;
                    return Ok(Entry { name, value, line });
                }
                Some('{') => {
                    self.next();
                    let value = Value::Block(self.body(Some('}'), depth + 1)?);
                    return Ok(Entry { name, value, line });
                }
                // The label of a block, as in `listener "tcp" {`.
                Some('"') => {
                    self.string()?;
                }
                _ => return self.fail("expected `=` or a block after a name"),
            }
        }
    }

    fn name(&mut self) -> Result<String, HclError> {
        if self.chars.peek() == Some(&'"') {
            return self.string();
        }
        let name = self.word();
        if name.is_empty() {
            return self.fail("expected the name of an attribute or block");
        }
        Ok(name)
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(c) = self.chars.peek().copied() {
            if !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+')) {
                break;
            }
            word.push(c);
            self.next();
        }
        word
    }

    fn value(&mut self, depth: usize) -> Result<Value, HclError> {
        match self.chars.peek() {
            Some('"') => self.string().map(Value::Text),
            Some('<') => self.heredoc().map(Value::Text),
            Some('[') => {
                self.next();
                self.list(depth + 1).map(Value::List)
            }
            Some('{') => {
                self.next();
                self.body(Some('}'), depth + 1).map(Value::Block)
            }
            _ => match self.word() {
                word if word.is_empty() => self.fail("expected a value"),
                word => Ok(Value::Word(word)),
            },
        }
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Value>, HclError> {
        if depth > MAX_DEPTH {
            return self.fail("lists are nested too deeply");
        }
        let mut values = Vec::new();
        loop {
            self.skip_ignored()?;
            match self.chars.peek() {
                None => return self.fail("a list is not closed"),
                Some(']') => {
                    self.next();
                    return Ok(values);
                }
                Some(',') => {
                    self.next();
                }
                Some(_) => values.push(self.value(depth)?),
            }
        }
    }

    /// Reads a string in double quotes.
    fn string(&mut self) -> Result<String, HclError> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None | Some('\n') => return self.fail("a string is not closed"),
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape()?),
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, HclError> {
        match self.next() {
            Some('n') => Ok('\n'),
            Some('t') => Ok('\t'),
            Some('r') => Ok('\r'),
            Some(c @ ('"' | '\\')) => Ok(c),
            _ => self.fail("unknown escape in a string: use \\n, \\t, \\r, \\\" or \\\\"),
        }
    }

    /// Reads the lines between `<<NAME` and `NAME`. With `<<-NAME`, the indentation of the line with `NAME` is removed
    /// from each line if all lines have it.
    fn heredoc(&mut self) -> Result<String, HclError> {
        self.next();
        if self.next() != Some('<') {
            return self.fail("expected a value");
        }
        let is_indented = self.chars.next_if_eq(&'-').is_some();
        let marker = self.rest_of_line().unwrap_or_default();
        let marker = marker.trim();
        if marker.is_empty() {
            return self.fail("expected a name after `<<`");
        }
        let mut lines = Vec::new();
        loop {
            let Some(line) = self.rest_of_line() else {
                return self.fail("a heredoc is not closed");
            };
            if line.trim() == marker {
                let indentation = line.len() - line.trim_start().len();
                return Ok(join_lines(
                    &lines,
                    if is_indented { indentation } else { 0 },
                ));
            }
            lines.push(line);
        }
    }

    /// Reads to the end of the line; `None` at the end of the file.
    fn rest_of_line(&mut self) -> Option<String> {
        self.chars.peek()?;
        let mut line = String::new();
        while let Some(c) = self.next().filter(|c| *c != '\n') {
            line.push(c);
        }
        if line.ends_with('\r') {
            line.pop();
        }
        Some(line)
    }

    /// Skips white space, `,`, `;`, and comments after `#`, `//` and between `/*` and `*/`.
    fn skip_ignored(&mut self) -> Result<(), HclError> {
        while let Some(c) = self.chars.peek().copied() {
            match c {
                ' ' | '\t' | '\n' | '\r' | ',' | ';' => {
                    self.next();
                }
                '#' => {
                    self.rest_of_line();
                }
                '/' => self.comment()?,
                _ => break,
            }
        }
        Ok(())
    }

    fn comment(&mut self) -> Result<(), HclError> {
        self.next();
        match self.next() {
            Some('/') => {
                self.rest_of_line();
                Ok(())
            }
            Some('*') => {
                let mut last = ' ';
                while let Some(c) = self.next() {
                    if (last, c) == ('*', '/') {
                        return Ok(());
                    }
                    last = c;
                }
                self.fail("a comment is not closed")
            }
            _ => self.fail("expected a comment after `/`"),
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.chars.next();
        if c == Some('\n') {
            self.line += 1;
        }
        c
    }

    fn fail<T>(&self, problem: &'static str) -> Result<T, HclError> {
        let line = self.line;
        Err(HclError { line, problem })
    }
}

/// Removes `indentation` bytes from the start of each line if every line is indented at least that far, and joins the
/// lines.
fn join_lines(lines: &[String], indentation: usize) -> String {
    let indentation_of = |line: &str| line.chars().take_while(|c| matches!(c, ' ' | '\t')).count();
    let is_common = lines.iter().all(|line| indentation_of(line) >= indentation);
    let start = if is_common { indentation } else { 0 };
    lines
        .iter()
        .flat_map(|line| [&line[start..], "\n"])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.into())
    }

    fn values(source: &str) -> Vec<(String, Value)> {
        let entries = parse(source).unwrap_or_else(|error| panic!("{error}: {source}"));
        entries
            .into_iter()
            .map(|entry| (entry.name, entry.value))
            .collect()
    }

    #[test]
    fn reads_attributes_blocks_lists_and_comments() {
        let source = "# one\nvault { address = \"https://v\" } // two\nlistener \"tcp\" {\n /* three\n */ tls = true\n}\n\
                      list = [\"a\", 1,]\nauto_auth = { method = \"x\" }\n";
        let tls = Entry {
            name: "tls".into(),
            value: Value::Word("true".into()),
            line: 5,
        };
        let entries = values(source);
        assert_eq!(entries[1], ("listener".into(), Value::Block(vec![tls])));
        assert_eq!(
            entries[2].1,
            Value::List(vec![text("a"), Value::Word("1".into())])
        );
        assert!(matches!(&entries[3].1, Value::Block(block) if block.len() == 1));
    }

    #[test]
    fn reads_strings_with_escapes_and_without_interpolation() {
        for (source, want) in [
            (r#"a = "x\n\t\"\\""#, "x\n\t\"\\"),
            (r#"a = "${HOME} %{x}""#, "${HOME} %{x}"),
            ("a = <<EOT\n  {{ .x }}\n\nEOT\n", "  {{ .x }}\n\n"),
            ("a = <<-EOT\n    x\n      y\n    EOT", "x\n  y\n"),
            ("a = <<-EOT\n  x\n    EOT", "  x\n"),
            ("a = <<EOT\r\nx\r\nEOT\r\n", "x\n"),
        ] {
            assert_eq!(values(source), [("a".to_owned(), text(want))], "{source}");
        }
    }

    #[test]
    fn names_the_line_of_a_syntax_error() {
        let deep = "a {".repeat(20);
        for (source, line, problem) in [
            ("\na", 2, "expected `=` or a block after a name"),
            ("a = \"x\n", 2, "a string is not closed"),
            ("a {\n b = 1\n", 3, "a block is not closed"),
            ("a = <<EOT\nx\n", 3, "a heredoc is not closed"),
            ("a = [1", 1, "a list is not closed"),
            ("a = ", 1, "expected a value"),
            (
                "a = \"\\q\"",
                1,
                "unknown escape in a string: use \\n, \\t, \\r, \\\" or \\\\",
            ),
            ("/* x", 1, "a comment is not closed"),
            ("}", 1, "expected the name of an attribute or block"),
            (deep.as_str(), 1, "blocks are nested too deeply"),
        ] {
            assert_eq!(parse(source), Err(HclError { line, problem }), "{source:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(source in "[a-z={}\\[\\]\"<>\\-#/* \n\\\\]{0,60}") {
            let _ = parse(&source);
        }
    }
}
