//! The SealedSecrets in files.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Content;
use crate::git::{self, LastChange};
use crate::object::Object;
use crate::parallel;
use crate::shown::ShowPath as _;
use crate::walk::{self, Candidate, Kind};

/// A SealedSecret in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileObject {
    /// The path of the file.
    pub path: PathBuf,
    /// The line where the object begins.
    pub line: usize,
    /// The namespace of the object, else the one that applies to the file.
    pub namespace: Option<String>,
    /// The name; empty if the object has none.
    pub name: String,
    /// What is visible in the object.
    pub content: Content,
    /// The last change of the file; `None` if it is unknown.
    pub change: Option<LastChange>,
}

/// Returns the SealedSecrets in each file, on all processors; an error for a file that cannot be read. `namespace`
/// returns the namespace that applies to an object without one.
pub fn read(
    candidates: &[Candidate],
    namespace: impl Fn(&Path) -> Result<Option<String>> + Sync,
) -> Vec<Result<Vec<FileObject>>> {
    parallel::map(
        candidates,
        || (),
        |(), _, candidate| read_file(candidate, &namespace),
    )
}

fn read_file(
    candidate: &Candidate,
    namespace: impl Fn(&Path) -> Result<Option<String>>,
) -> Result<Vec<FileObject>> {
    let path = &candidate.path;
    let Some(file) = walk::read(candidate, Kind::SealedSecret)? else {
        return Ok(Vec::new());
    };
    let file_object = |node| {
        let object = Object::read_leniently(node).with_context(|| path.shown())?;
        let own = object.sealed.namespace_or_empty();
        Ok(FileObject {
            path: path.clone(),
            line: object.line,
            namespace: match own {
                "" => namespace(path)?,
                own => Some(own.to_owned()),
            },
            name: object.sealed.name_or_empty().to_owned(),
            content: Content::from(&object),
            change: None,
        })
    };
    file.of_kind(Kind::SealedSecret).map(file_object).collect()
}

/// Sets the last change of each file, in one pass over the history of each repository.
pub fn set_changes(objects: &mut [FileObject]) {
    let paths: Vec<&Path> = objects.iter().map(|object| object.path.as_path()).collect();
    let changes = git::last_changes(&paths);
    for (object, change) in objects.iter_mut().zip(changes) {
        object.change = change;
    }
}
