//! Checks files that a `secretGenerator` of kustomize reads. They are not manifests, so the search for manifests does
//! not find them.

use std::path::{Path, PathBuf};

use kubeseal_library::bounded::Kind;
use kubeseal_library::files;
use kubeseal_library::git::{self, Repository};
use shared::manifest::Node;
use zeroize::Zeroizing;

use super::object::Found;
use super::plain;
use crate::report::ShowPath as _;

/// Checks the files that the generators of a document name. The author of the document chooses the names, so only
/// regular files of the same tree are read. Files that Git ignores are skipped, because they are not committed.
pub(super) fn files(root: &Node, manifest: &Path, staged: Option<&Repository>) -> Vec<Found> {
    let folder = manifest.parent().unwrap_or(Path::new(""));
    let look = |file: plain::GeneratorFile<'_>| {
        let path = folder.join(file.path);
        let bytes = match staged {
            Some(staged) => staged.staged_content(&path).ok()?,
            None => in_tree(&path, folder)?,
        };
        plain::generator_file(&file, &files::from_here(&path).shown(), &bytes)
    };
    let named = plain::generator_files(root).into_iter();
    named.filter_map(look).collect()
}

fn in_tree(path: &Path, folder: &Path) -> Option<Zeroizing<Vec<u8>>> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let folder = folder.canonicalize().ok()?;
    let path: PathBuf = path.canonicalize().ok()?;
    let tree = git::work_tree(&folder).unwrap_or(folder);
    if !path.starts_with(&tree) || git::is_ignored(&path) {
        return None;
    }
    files::read_regular(&path, Kind::Value.limit()).ok()
}
