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
//! before and after: unless the trees differ exactly in what was requested, the edit is refused. So a shared
//! anchor, a merge, a value that would run into its neighbor, or a bug in this module can refuse an edit,
//! but never damage a file.
//!
//! A new value keeps the quotes of the old one; a new key copies the style of its last neighbor. A comment
//! at the end of a removed line is removed with it; comments on lines of their own stay.

mod guard;
mod json_places;
mod place;
mod scalar_style;
mod splice;
mod yaml_places;

#[cfg(test)]
mod tests;

use super::error::ReadError;
use super::{MAX_VALUES, Node, is_filled, is_json, roots, text};
use place::Place;
use splice::{Refusal, Splice, Text};

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

/// A change of one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Replaces the scalar with this text. Adds a missing key, and the mappings around it.
    Set(String),
    /// Removes the key and its value.
    Remove,
}

/// The file cannot be edited. Nothing was changed.
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
        /// Line of the value.
        line: usize,
        /// Keys from the root, joined by dots.
        path: String,
        /// The reason.
        problem: Problem,
    },
    /// The guard refused the edit.
    #[error(
        "cannot edit document {document} safely: {path} would not have the requested value afterwards, for example because \
         of an anchor, an alias, a merge, a tag or a duplicate key; edit the file by hand"
    )]
    Guard {
        /// Number of the document, counted from one.
        document: usize,
        /// The path that differs from the request, as keys joined by dots.
        path: String,
    },
}

/// Why a value cannot be edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The value is an alias, `*name`.
    #[error("it is an alias, and other values may share its anchor")]
    Alias,
    /// The value is a list or a mapping.
    #[error("it is a list or a mapping, not a single value")]
    NoScalar,
    /// The path continues into a value that is not a mapping.
    #[error("its parent is not a mapping")]
    NoMapping,
    /// The value to remove, or the mapping to add to, does not exist.
    #[error("it does not exist, or comes from a merge (`<<`)")]
    NotThere,
    /// The value is the only one; removing it would leave nothing.
    #[error("it is the only entry, and removing it would leave nothing")]
    Last,
    /// A legal layout that this module cannot change.
    #[error("its layout is not supported; edit it by hand")]
    Layout,
}

/// Applies all edits, in the order of the list.
///
/// # Errors
///
/// Returns [`EditError`]; nothing is changed then.
pub fn apply(bytes: &[u8], edits: &[Edit]) -> Result<Vec<u8>, EditError> {
    let (encoding, whole) = text::decode_with_marks(bytes)?;
    let before = roots(&text::decode(bytes)?, MAX_VALUES)?;
    let mut source = Source::new(whole);
    let (simple, structural) = source.partition(edits)?;
    source.replace_all(&simple)?;
    for edit in structural {
        source.replace_all(&[edit])?;
    }
    check(before, &source.clean, edits)?;
    Ok(encoding.encode(&source.whole))
}

/// The text with and without the byte order marks inside it.
struct Source {
    whole: String,
    clean: String,
}

const INNER_MARK: &str = "\n\u{feff}";

impl Source {
    fn new(whole: String) -> Self {
        let clean = whole.replace(INNER_MARK, "\n");
        Self { whole, clean }
    }

    fn places(&self) -> Result<Vec<Place>, EditError> {
        let json = is_json(&self.clean);
        let found = if json {
            json_places::find(&self.clean)
        } else {
            None
        };
        let found = found.or_else(|| yaml_places::find(&self.clean));
        let places = found.ok_or_else(|| self.refused(&[], place_zero()))?;
        let is_filled = |place: &Place| !place.is_hollow(&self.clean);
        Ok(places.into_iter().filter(is_filled).collect())
    }

    fn text(&self) -> Text<'_> {
        Text {
            text: &self.clean,
            json: is_json(&self.clean) && json_places::find(&self.clean).is_some(),
        }
    }

    /// Separates the edits that only replace a scalar. They can be applied together, because none moves a
    /// value that another one has to find.
    fn partition<'a>(
        &self,
        edits: &'a [Edit],
    ) -> Result<(Vec<&'a Edit>, Vec<&'a Edit>), EditError> {
        let (places, text) = (self.places()?, self.text());
        let mut seen = std::collections::HashSet::new();
        Ok(edits.iter().partition(|edit| {
            let root = edit.document.checked_sub(1).and_then(|i| places.get(i));
            let first = seen.insert((edit.document, format!("{:?}", edit.path)));
            first
                && matches!(edit.change, Change::Set(_))
                && root.is_some_and(|root| splice::has_scalar(text, root, &edit.path))
        }))
    }

    fn replace_all(&mut self, edits: &[&Edit]) -> Result<(), EditError> {
        let mut splices = Vec::new();
        {
            let (places, text) = (self.places()?, self.text());
            for edit in edits {
                let root = edit.document.checked_sub(1).and_then(|i| places.get(i));
                let root = root.ok_or(EditError::NoDocument(edit.document))?;
                let done = match &edit.change {
                    Change::Set(value) => splice::set(text, root, &edit.path, value),
                    Change::Remove => splice::remove(text, root, &edit.path),
                };
                splices.extend(done.map_err(|refusal| self.refused(&edit.path, refusal))?);
            }
        }
        splices.sort_by_key(|splice| (splice.range.start, splice.range.end));
        let apart = splices
            .windows(2)
            .all(|w| w[0].range.end <= w[1].range.start);
        if !apart {
            return Err(self.refused(&[], place_zero()));
        }
        self.splice(&splices);
        Ok(())
    }

    fn splice(&mut self, splices: &[Splice]) {
        let marks: Vec<usize> = self
            .whole
            .match_indices(INNER_MARK)
            .enumerate()
            .map(|(i, (at, _))| at + 1 - i * INNER_MARK.len() + i)
            .collect();
        let width = INNER_MARK.len() - 1;
        for splice in splices.iter().rev() {
            let range = &splice.range;
            let start = range.start + width * marks.iter().filter(|at| **at <= range.start).count();
            let end = range.end + width * marks.iter().filter(|at| **at < range.end).count();
            self.whole
                .replace_range(start..end.max(start), &splice.text);
        }
        self.clean = self.whole.replace(INNER_MARK, "\n");
    }

    fn refused(&self, path: &[Step], Refusal { at, problem }: Refusal) -> EditError {
        let name = |step: &Step| match step {
            Step::Item(index) => index.to_string(),
            step => step.name().unwrap_or_default().to_owned(),
        };
        let path: Vec<String> = path.iter().map(name).collect();
        EditError::Refused {
            line: 1 + self.clean[..at].matches('\n').count(),
            path: if path.is_empty() {
                "the file".to_owned()
            } else {
                path.join(".")
            },
            problem,
        }
    }
}

fn place_zero() -> Refusal {
    Refusal {
        at: 0,
        problem: Problem::Layout,
    }
}

/// Runs the guard.
fn check(before: Vec<Node>, after: &str, edits: &[Edit]) -> Result<(), EditError> {
    let mut wanted: Vec<_> = before.into_iter().filter(is_filled).collect();
    for edit in edits {
        if let Some(root) = edit.document.checked_sub(1).and_then(|i| wanted.get_mut(i)) {
            guard::apply(root, edit);
        }
    }
    let broken = |document| EditError::Guard {
        document,
        path: "the structure".to_owned(),
    };
    let found = roots(after, MAX_VALUES).map_err(|_| broken(1))?;
    let found: Vec<_> = found.into_iter().filter(is_filled).collect();
    if wanted.len() != found.len() {
        return Err(broken(wanted.len().min(found.len()) + 1));
    }
    for (i, (wanted, found)) in wanted.iter().zip(&found).enumerate() {
        if let Some(path) = guard::difference(wanted, found) {
            let document = i + 1;
            return Err(EditError::Guard { document, path });
        }
    }
    Ok(())
}
