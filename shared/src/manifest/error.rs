use std::fmt;

/// Why the input cannot be parsed as a series of documents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ReadError {
    /// Number of the document and line of the input, both counted from one; `None` if the bytes are not text.
    pub position: Option<(usize, usize)>,
    /// The problem with the input.
    pub problem: ReadProblem,
}

/// The problem with an input. Never quotes the input, because it may contain plaintext values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadProblem {
    /// The text is neither UTF-8 nor UTF-16 with a byte order mark.
    #[error("the text is not UTF-8 (nor UTF-16 with a byte order mark); save it as UTF-8")]
    Encoding,
    /// The text is UTF-16 that cannot be decoded with certainty.
    #[error("the text is UTF-16 {0}; save it as UTF-8")]
    Utf16(&'static str),
    /// The text is UTF-32, which is not decoded.
    #[error("the text is UTF-32; save it as UTF-8")]
    Utf32,
    /// The text is malformed YAML. The parser's message names tokens and never values.
    #[error("malformed YAML: {0}")]
    Yaml(String),
    /// The text contains this character, which some parsers read as a line break and others as a letter.
    #[error(
        "the character U+{0:04X} is a line break for some YAML parsers, which then read different values; remove it, or \
         write it as \"\\u{0:04x}\" in double quotes"
    )]
    LineBreak(u32),
    /// The text is malformed JSON.
    #[error("malformed JSON: {0}")]
    Json(&'static str),
    /// A mapping key is a list, a mapping, or null.
    #[error("a mapping key must be a string, a number or a boolean")]
    Key,
    /// The value does not have the type of its tag.
    #[error("a value tagged {0} is not valid for that tag")]
    Tag(&'static str),
    /// The value of `<<` is neither a mapping nor a list of mappings.
    #[error("the merge key `<<` requires a mapping or a list of mappings")]
    Merge,
    /// Values are nested more deeply than this limit.
    #[error("values are nested deeper than the limit of {0} levels")]
    Depth(usize),
    /// Aliases expand to more values than this limit.
    #[error("aliases expand to more than the limit of {0} values; use fewer aliases")]
    Aliases(usize),
    /// The text contains Git's conflict markers.
    #[error("unresolved Git conflict markers; resolve the conflict first")]
    Conflict,
    /// The text is probably an unrendered template. Contains the problem that the parser reports.
    #[error("this looks like a template; render it first ({0})")]
    Template(Box<ReadProblem>),
    /// The input contains more values than this limit, directly or through nested anchors.
    #[error(
        "the input contains more than the limit of {0} values; split the file, or replace anchors with copies"
    )]
    Size(usize),
}

impl ReadError {
    pub(super) fn at(document: usize, line: usize, problem: ReadProblem) -> Self {
        let position = Some((document, line));
        Self { position, problem }
    }

    /// Returns the line of the input, counted from one; `None` if the bytes are not text.
    pub fn line(&self) -> Option<usize> {
        self.position.map(|(_, line)| line)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((document, line)) = self.position {
            write!(f, "document {document}, line {line}: ")?;
        }
        self.problem.fmt(f)
    }
}

/// A value in the document has the wrong type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {path} must be {wanted}, not {found}")]
pub struct ShapeError {
    /// The line of the value, counted from one.
    pub line: usize,
    /// Field names from the root, joined by dots; `the document` for the root.
    pub path: String,
    /// The expected type, with its article.
    pub wanted: &'static str,
    /// The actual type, with its article. Never contains the value.
    pub found: &'static str,
}
