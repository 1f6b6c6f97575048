use std::fmt;

/// The input is not a series of documents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ReadError {
    /// Document, and line of the input, both counted from one; `None` if the bytes are no text at all.
    pub place: Option<(usize, usize)>,
    /// What is wrong.
    pub problem: ReadProblem,
}

/// What is wrong with an input. Never quotes it: it may hold plain values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadProblem {
    /// Neither UTF-8 nor UTF-16 with a byte order mark.
    #[error("the text is not UTF-8 (nor UTF-16 with a byte order mark); save it as UTF-8")]
    Encoding,
    /// The parser's words; they name tokens, never values.
    #[error("malformed YAML: {0}")]
    Yaml(String),
    /// Malformed JSON.
    #[error("malformed JSON: {0}")]
    Json(&'static str),
    /// A map key that is a list, a map, or null.
    #[error("a mapping key is neither text, number nor boolean")]
    Key,
    /// Tagged with a type that it has not.
    #[error("a value is tagged {0} but is none")]
    Tag(&'static str),
    /// `<<` with something else than maps.
    #[error("the merge key `<<` takes a mapping or a list of mappings")]
    Merge,
    /// More levels than any manifest has.
    #[error("nested deeper than {0} levels")]
    Depth(usize),
    /// Aliases that multiply.
    #[error("aliases expand to more than {0} values")]
    Aliases(usize),
    /// A merge that was not finished.
    #[error("conflict markers of Git: resolve the conflict first")]
    Conflict,
    /// Most likely no manifest yet, and why it cannot be read as one.
    #[error("this looks like a template, which has to be rendered first ({0})")]
    Template(Box<ReadProblem>),
    /// More than the reader has room for, by itself or by anchors around anchors.
    #[error("it holds more than {0} values; split it, or write values out instead of anchors")]
    Size(usize),
}

impl ReadError {
    pub(super) fn at(document: usize, line: usize, problem: ReadProblem) -> Self {
        let place = Some((document, line));
        Self { place, problem }
    }

    /// Line of the input, counted from one; none if the bytes are no text at all.
    pub fn line(&self) -> Option<usize> {
        self.place.map(|(_, line)| line)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((document, line)) = self.place {
            write!(f, "document {document}, line {line}: ")?;
        }
        self.problem.fmt(f)
    }
}

/// A document has a value of the wrong kind somewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {path} must be {wanted}, not {found}")]
pub struct ShapeError {
    /// Line of the value.
    pub line: usize,
    /// Field names from the root, joined by dots.
    pub path: String,
    /// What belongs there, with its article.
    pub wanted: &'static str,
    /// What is there, with its article. The kind, never the value.
    pub found: &'static str,
}
