//! Edits of single values in a user's file. Every other byte stays as it is: comments, order, quotes,
//! indentation, line breaks, byte order marks.
//!
//! ```
//! use shared::manifest::edit::{Change, Edit, Step, apply};
//!
//! let file = b"spec:   # sealed\n    encryptedData: { a: 'AgB', b: AgC }  # two\n";
//! let edit = Edit {
//!     document: 1,
//!     path: vec![Step::Field("spec"), Step::Field("encryptedData"), Step::Key("a".into())],
//!     change: Change::Set("AgX=".into()),
//! };
//! assert_eq!(
//!     apply(file, &[edit]).unwrap(),
//!     b"spec:   # sealed\n    encryptedData: { a: 'AgX=', b: AgC }  # two\n"
//! );
//! ```
//!
//! A parser finds the positions of values, the edits replace bytes there, and a **guard** parses the text
//! before and after: unless the trees differ exactly as requested, the edit is refused. So a shared
//! anchor, a merge, a value that would run into its neighbor, or a bug in this module can prevent an edit,
//! but never damage a file.
//!
//! If possible, a new value keeps the quotes of the old one, and a new key copies the style of its last
//! neighbor. The removal of a key also removes the comments inside its value and, outside braces, at the end
//! of its last line; other comments stay.

mod guard;
mod json_spans;
mod layout;
mod scalar_style;
mod splice;
mod value_span;
mod yaml_spans;

#[cfg(test)]
mod tests;

use super::error::ReadError;
use super::{MAX_VALUES, Node, is_filled, roots, text, text_begins_like_json};
pub use layout::{Layout, MappingLayout, Part};
use splice::{Refusal, Splice, Text};
use value_span::{Entry, Kind, ValueSpan};

/// One edit of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Number of the document, as in [`super::Document::number`].
    pub document: usize,
    /// Path from the root of the document.
    pub path: Vec<Step>,
    /// The change at that path.
    pub change: Change,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A field, found as [`super::Node::field`] finds it.
    Field(&'static str),
    /// Exactly this key, case-sensitive.
    Key(String),
    /// An item of a list, counted from zero.
    Item(usize),
}

impl Step {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Field(name) => Some(name),
            Self::Key(key) => Some(key),
            Self::Item(_) => None,
        }
    }
}

/// A change to one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Replaces the scalar with this string. Adds a missing key, and the mappings around it.
    Set(String),
    /// Removes the key and its value.
    Remove,
}

/// Why a file cannot be edited. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The document does not exist.
    #[error("document {0} does not exist")]
    NoDocument(usize),
    /// One of the edits is not possible.
    #[error("line {line}: {path} cannot be edited: {problem}")]
    Refused {
        /// Line of a value on the path, or of the layout that prevents the edit, counted from one; 1 if the layout of
        /// the file is not supported.
        line: usize,
        /// Keys and list indexes from the root, joined by dots; `the file` if its layout is not supported.
        path: String,
        /// Why the value cannot be edited.
        problem: Problem,
    },
    /// The guard refused the edit.
    #[error(
        "cannot edit document {document} safely: {path} would not have the requested value afterwards, for example because \
         of an anchor, an alias, a merge, a tag or a duplicate key; edit the file manually"
    )]
    Guard {
        /// Number of the document, counted from one.
        document: usize,
        /// The path that differs from the request, as keys and list indexes joined by dots; `the structure` if the
        /// edited text is malformed or has another number of documents.
        path: String,
    },
}

/// Why a value cannot be edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The value is an alias, `*name`.
    #[error(
        "it is an alias, and other values may share its anchor; replace the alias with a copy of the value"
    )]
    Alias,
    /// The value is a list or a mapping.
    #[error("it is a list or a mapping, not a single value")]
    NotScalar,
    /// The path continues into a value that is not a mapping.
    #[error("its parent is not a mapping")]
    NotMapping,
    /// The value to remove, or a list item on the path, does not exist.
    #[error("it does not exist, or comes from a merge (`<<`)")]
    Missing,
    /// The value is the only entry of its mapping, and the mapping cannot be replaced with `{}`.
    #[error("it is the only entry of its mapping; remove it manually")]
    Last,
    /// The layout is valid, but this module cannot edit it, or cannot write the new value in it.
    #[error("its layout is not supported; edit it manually")]
    Layout,
}

/// Applies all edits: first those that only replace a scalar, then the others in the order of the list.
///
/// # Errors
///
/// Returns [`EditError`] if any of the edits is not possible. In this case, no edit is applied.
pub fn apply(bytes: &[u8], edits: &[Edit]) -> Result<Vec<u8>, EditError> {
    let (encoding, marked_text) = text::decode_with_marks(bytes)?;
    let before = roots(&text::decode(bytes)?, MAX_VALUES)?;
    let mut source = Source::new(marked_text);
    let (simple, structural) = source.partition(edits)?;
    source.replace_all(&simple)?;
    for edit in structural {
        source.replace_all(&[edit])?;
    }
    check_result(before, &source.text_without_marks, edits)?;
    Ok(encoding.encode(&source.marked_text))
}

/// The text of a file, and the same text without the byte order marks after its line breaks.
struct Source {
    marked_text: String,
    text_without_marks: String,
}

const INNER_MARK: &str = "\n\u{feff}";

impl Source {
    fn new(marked_text: String) -> Self {
        let text_without_marks = marked_text.replace(INNER_MARK, "\n");
        Self {
            marked_text,
            text_without_marks,
        }
    }

    fn spans(&self) -> Result<Vec<ValueSpan>, EditError> {
        let is_json_text = text_begins_like_json(&self.text_without_marks);
        let roots = if is_json_text {
            json_spans::find(&self.text_without_marks)
        } else {
            None
        };
        let roots = roots.or_else(|| yaml_spans::find(&self.text_without_marks));
        let spans = roots.ok_or_else(|| self.refusal_error(&[], layout_refusal()))?;
        let is_not_null = |value_span: &ValueSpan| !value_span.is_null(&self.text_without_marks);
        Ok(spans.into_iter().filter(is_not_null).collect())
    }

    fn text(&self) -> Text<'_> {
        Text {
            text: &self.text_without_marks,
            json: text_begins_like_json(&self.text_without_marks)
                && json_spans::find(&self.text_without_marks).is_some(),
        }
    }

    /// Separates the edits that only replace a scalar; of several edits of one path, only the first can be among them.
    /// They can be applied together, because none moves a value that another edit has to find.
    fn partition<'a>(
        &self,
        edits: &'a [Edit],
    ) -> Result<(Vec<&'a Edit>, Vec<&'a Edit>), EditError> {
        let (spans, text) = (self.spans()?, self.text());
        let mut paths = std::collections::HashSet::new();
        Ok(edits.iter().partition(|edit| {
            let root = edit.document.checked_sub(1).and_then(|i| spans.get(i));
            let is_first = paths.insert((edit.document, format!("{:?}", edit.path)));
            is_first
                && matches!(edit.change, Change::Set(_))
                && root.is_some_and(|root| splice::has_scalar(text, root, &edit.path))
        }))
    }

    fn replace_all(&mut self, edits: &[&Edit]) -> Result<(), EditError> {
        let mut splices = Vec::new();
        {
            let (spans, text) = (self.spans()?, self.text());
            for edit in edits {
                let root = edit.document.checked_sub(1).and_then(|i| spans.get(i));
                let root = root.ok_or(EditError::NoDocument(edit.document))?;
                let result = match &edit.change {
                    Change::Set(value) => splice::set(text, root, &edit.path, value),
                    Change::Remove => splice::remove(text, root, &edit.path),
                };
                splices.extend(result.map_err(|refusal| self.refusal_error(&edit.path, refusal))?);
            }
        }
        splices.sort_by_key(|splice| (splice.range.start, splice.range.end));
        let is_disjoint = splices
            .windows(2)
            .all(|w| w[0].range.end <= w[1].range.start);
        if !is_disjoint {
            return Err(self.refusal_error(&[], layout_refusal()));
        }
        self.splice(&splices);
        Ok(())
    }

    fn splice(&mut self, splices: &[Splice]) {
        let marks: Vec<usize> = self
            .marked_text
            .match_indices(INNER_MARK)
            .enumerate()
            .map(|(i, (offset, _))| offset + 1 - i * INNER_MARK.len() + i)
            .collect();
        let mark_len = INNER_MARK.len() - 1;
        for splice in splices.iter().rev() {
            let range = &splice.range;
            let start = range.start
                + mark_len
                    * marks
                        .iter()
                        .filter(|offset| **offset <= range.start)
                        .count();
            let end =
                range.end + mark_len * marks.iter().filter(|offset| **offset < range.end).count();
            self.marked_text
                .replace_range(start..end.max(start), &splice.text);
        }
        self.text_without_marks = self.marked_text.replace(INNER_MARK, "\n");
    }

    fn refusal_error(&self, path: &[Step], Refusal { offset, problem }: Refusal) -> EditError {
        let name = |step: &Step| match step {
            Step::Item(index) => index.to_string(),
            step => step.name().unwrap_or_default().to_owned(),
        };
        let path: Vec<String> = path.iter().map(name).collect();
        EditError::Refused {
            line: 1 + self.text_without_marks[..offset].matches('\n').count(),
            path: if path.is_empty() {
                "the file".to_owned()
            } else {
                path.join(".")
            },
            problem,
        }
    }
}

fn layout_refusal() -> Refusal {
    Refusal {
        offset: 0,
        problem: Problem::Layout,
    }
}

/// Checks with the guard that exactly the requested values changed.
fn check_result(before: Vec<Node>, after: &str, edits: &[Edit]) -> Result<(), EditError> {
    let mut expected: Vec<_> = before.into_iter().filter(is_filled).collect();
    for edit in edits {
        if let Some(root) = edit
            .document
            .checked_sub(1)
            .and_then(|i| expected.get_mut(i))
        {
            guard::apply(root, edit);
        }
    }
    let structure_error = |document| EditError::Guard {
        document,
        path: "the structure".to_owned(),
    };
    let actual = roots(after, MAX_VALUES).map_err(|_| structure_error(1))?;
    let actual: Vec<_> = actual.into_iter().filter(is_filled).collect();
    if expected.len() != actual.len() {
        return Err(structure_error(expected.len().min(actual.len()) + 1));
    }
    for (i, (expected, actual)) in expected.iter().zip(&actual).enumerate() {
        if let Some(path) = guard::difference(expected, actual) {
            let document = i + 1;
            return Err(EditError::Guard { document, path });
        }
    }
    Ok(())
}
