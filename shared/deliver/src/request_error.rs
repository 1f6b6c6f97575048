//! Why a request is refused.

use crate::layout::LayoutError;
use crate::mode::ModeError;
use crate::path::PathError;
use crate::{
    MAX_ENTRIES, MAX_FILES, MAX_OBJECTS, MAX_REQUEST, MAX_REVISION, MAX_TEMPLATE, MAX_WAIT,
};

/// Why a request is refused. The message can contain parts of the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request is too long.
    #[error("the request has more than {MAX_REQUEST} bytes")]
    TooLong,
    /// The request is not JSON of the expected form.
    #[error("the request is malformed: {0}")]
    Malformed(String),
    /// The request has no entry.
    #[error("the request names no object")]
    NoEntry,
    /// The request has too many entries.
    #[error("the request has more than {MAX_ENTRIES} entries")]
    TooManyEntries,
    /// The request names too many SealedSecrets.
    #[error("the request names more than {MAX_OBJECTS} SealedSecrets")]
    TooManyObjects,
    /// The request names too many files.
    #[error("the request names more than {MAX_FILES} files")]
    TooManyFiles,
    /// `have` is too long.
    #[error("`have` has more than {MAX_REVISION} bytes")]
    Revision,
    /// `wait` is too long.
    #[error("`wait` is more than {MAX_WAIT} seconds")]
    Wait,
    /// An entry is invalid.
    #[error("objects[{index}]: {problem}")]
    Entry {
        /// The index of the entry, counted from zero.
        index: usize,
        /// Why the entry is invalid.
        problem: EntryProblem,
    },
    /// The paths of files conflict.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// Why an entry is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// The entry has neither `sealedSecret` nor `template`, or both.
    #[error("an entry must have either `sealedSecret` or `template`")]
    Kind,
    /// The field belongs to the other kind of entry.
    #[error("`{field}` cannot be combined with `{with}`")]
    Field {
        /// The field that is refused.
        field: &'static str,
        /// The field that determines the kind of the entry.
        with: &'static str,
    },
    /// The name is not valid for a Kubernetes object.
    #[error("{0:?} is not a valid name for a SealedSecret")]
    Name(String),
    /// The name is not a valid item key.
    #[error("{0:?} is not a valid item key")]
    Item(String),
    /// The list of items is empty.
    #[error("`items` is empty")]
    NoItems,
    /// The path names a single file, but the entry does not name exactly one item.
    #[error("the path {0:?} names a single file, but the entry does not name exactly one item")]
    OneFile(String),
    /// A template has no path.
    #[error("a template needs the `path` of its file")]
    NoPath,
    /// A template names no SealedSecrets.
    #[error("a template needs `from`, the SealedSecrets whose items it uses")]
    NoFrom,
    /// The template is too long.
    #[error("the template has more than {MAX_TEMPLATE} bytes")]
    Template,
    /// The path is invalid.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The mode is invalid.
    #[error(transparent)]
    Mode(#[from] ModeError),
}

impl RequestError {
    /// Returns the hint: what the caller can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::TooLong | Self::TooManyEntries | Self::TooManyObjects | Self::TooManyFiles => {
                "split the selection into several requests"
            }
            Self::Malformed(_) => {
                "fields can differ between releases: use an agent and a controller of the same release"
            }
            Self::NoEntry => "name a SealedSecret in `objects`",
            Self::Revision => "send the revision of an earlier response, or none",
            Self::Wait => "use a shorter `wait`, and repeat the request",
            Self::Layout(_) => "give one of the entries a different path",
            Self::Entry { problem, .. } => problem.hint(),
        }
    }
}

impl EntryProblem {
    fn hint(&self) -> &'static str {
        match self {
            Self::Kind | Self::Field { .. } => {
                "use `sealedSecret`, `items`, `path` and `mode` for items, and `template`, `from`, `path` and `mode` for a \
                 template"
            }
            Self::Name(_) => {
                "use the `metadata.name` of a SealedSecret in the namespace of the Pod"
            }
            Self::Item(_) => "use a key of `spec.encryptedData` or `spec.template.data`",
            Self::NoItems => "omit `items` to select all items",
            Self::OneFile(_) => "end the path with `/` for a directory, or name one item",
            Self::NoPath => "add `path`",
            Self::NoFrom => "add `from`",
            Self::Template => "split the template into several files",
            Self::Path(_) => {
                "use a relative path below the target directory, such as \"db/password\""
            }
            Self::Mode(_) => "use the read, write and execute bits only, such as \"0440\"",
        }
    }
}
