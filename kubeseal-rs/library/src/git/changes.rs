//! Lists files that differ between two commits, or between a commit and the work tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use gix::ObjectId;
use gix::bstr::{BString, ByteSlice as _};
use gix::index::entry::{Stat, stat};
use gix::objs::Kind;
use ignore::{DirEntry, WalkBuilder};
use zeroize::Zeroizing;

use super::{GitError, Repository, folder, index, of_path, to_path};
use crate::files;

/// The size limit, in bytes, for reading a file of the work tree.
const LARGEST_FILE: u64 = 256 << 20;

/// Hashes of files, by path from the root.
type Files = BTreeMap<BString, ObjectId>;

/// The differences between two states of a repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differing {
    /// The paths of the files, from the root.
    pub files: BTreeSet<PathBuf>,
    /// Folders that cannot be listed, by their path from the root, with the reason. Untracked files in
    /// them are unknown.
    pub unlisted: BTreeMap<PathBuf, String>,
}

impl Repository {
    /// Returns the files that differ between two commits, or all files of the second one if there is no first one.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed.
    pub fn differing(&self, from: Option<ObjectId>, to: ObjectId) -> Result<Differing, GitError> {
        let changes = self.changes(from, to, &|_, _| true)?;
        let paths = changes.iter().map(|change| to_path(change.path.as_bstr()));
        let (files, unlisted) = (paths.collect(), BTreeMap::new());
        Ok(Differing { files, unlisted })
    }

    /// Returns the files that differ between a commit and the work tree, or all files if there is no commit. Untracked
    /// files that are not ignored count as added. A file that cannot be read counts as different.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed.
    pub fn differing_from_work_tree(&self, from: Option<ObjectId>) -> Result<Differing, GitError> {
        let committed = from.map(|from| self.committed(from)).transpose()?;
        let committed = committed.unwrap_or_default();
        let unchanged = self.unchanged()?;
        let (in_work_tree, unlisted) = self.files_of_work_tree()?;
        let mut paths: BTreeSet<BString> = committed.keys().cloned().collect();
        paths.extend(in_work_tree);
        paths.retain(|path| match (committed.get(path), unchanged.get(path)) {
            (Some(before), Some(now)) if before == now => false,
            (before, _) => self.hash_in_work_tree(path).as_ref() != Ok(&before.copied()),
        });
        let paths = paths.iter().map(|path| to_path(path.as_bstr()));
        let files = paths.filter(|path| is_inside(path)).collect();
        Ok(Differing { files, unlisted })
    }

    /// Returns the content of a regular file in the work tree by its path from the root, or `None` if it
    /// does not exist. The content may be a plain value. Never follows a symbolic link: its target is not
    /// part of the work tree.
    ///
    /// # Errors
    ///
    /// Fails with the reason if the file cannot be read, or is a pipe, a device or too large.
    pub fn in_work_tree(&self, file: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        if !self.is_without_link(file) {
            return Ok(None);
        }
        match files::read_regular(&self.root.join(file), LARGEST_FILE) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_no_file() => Ok(None),
            Err(error) => Err(error.reason()),
        }
    }

    /// Returns whether a path from the root stays in the work tree, with no symbolic link on the way.
    pub(super) fn is_without_link(&self, path: &Path) -> bool {
        let is_link = |path: &Path| self.root.join(path).is_symlink();
        is_inside(path) && !path.ancestors().any(is_link)
    }

    /// Returns whether HEAD or one of its ancestors contains the file.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed.
    pub fn has_history(&self, file: &Path) -> Result<bool, GitError> {
        let (Some(path), Some(head)) = (self.inside(file), self.commit("HEAD")) else {
            return Ok(false);
        };
        for commit in self.history([head])? {
            let found = self
                .tree_of(commit)?
                .lookup_entry(path.split(|byte| *byte == b'/'));
            if found
                .map_err(|error| self.failed(&commit, error))?
                .is_some()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn committed(&self, commit: ObjectId) -> Result<Files, GitError> {
        Ok(self.blobs(commit, &|_, _| true)?.into_iter().collect())
    }

    /// Returns the tracked files whose size and timestamps are the same as when Git hashed them.
    fn unchanged(&self) -> Result<Files, GitError> {
        let index = self.index()?;
        let exactly = stat::Options::default();
        let is_same = |path: &BString, seen: &Stat| {
            let there = gix::index::fs::Metadata::from_path_no_follow(
                &self.root.join(to_path(path.as_bstr())),
            );
            let there = there.ok().filter(gix::index::fs::Metadata::is_file);
            let there = there.and_then(|there| Stat::from_fs(&there).ok());
            there.is_some_and(|there| {
                there.matches(seen, exactly) && !seen.is_racy(index.timestamp(), exactly)
            })
        };
        let same = index::tracked(&index).filter(|(path, entry)| is_same(path, &entry.stat));
        Ok(same.map(|(path, entry)| (path, entry.id)).collect())
    }

    /// Returns the tracked files and the untracked files that are not ignored, and the folders that cannot be listed.
    fn files_of_work_tree(
        &self,
    ) -> Result<(BTreeSet<BString>, BTreeMap<PathBuf, String>), GitError> {
        let index = self.index()?;
        let mut found: BTreeSet<_> = index::tracked(&index).map(|(path, _)| path).collect();
        let failed = Arc::new(Mutex::new(None));
        folder::check_ignored(&self.root)?;
        let walk = WalkBuilder::new(&self.root)
            .hidden(false)
            .ignore(false)
            .parents(false)
            .filter_entry({
                let failed = Arc::clone(&failed);
                move |entry| is_visited(entry, &failed)
            })
            .build();
        let mut unlisted = BTreeMap::new();
        for entry in walk {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    unlisted.extend(self.unlisted(&error));
                    continue;
                }
            };
            let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
            let path = entry.path().strip_prefix(&self.root);
            found.extend(path.ok().filter(|_| is_file).and_then(of_path));
        }
        let failed = failed.lock().ok().and_then(|mut failed| failed.take());
        failed.map_or(Ok((found, unlisted)), Err)
    }

    /// Returns the folder that cannot be listed, with the reason; `None` for a folder that was removed
    /// meanwhile.
    fn unlisted(&self, error: &ignore::Error) -> Option<(PathBuf, String)> {
        use ignore::Error::{WithDepth, WithPath};
        let path = match error {
            WithDepth { err, .. } => return self.unlisted(err),
            WithPath { path, .. } => path.strip_prefix(&self.root).ok()?,
            _ => return None,
        };
        // The text of the error repeats the path.
        let kind = error.io_error()?.kind();
        let is_gone = kind == std::io::ErrorKind::NotFound;
        (!is_gone).then(|| (path.to_owned(), files::system_text(&kind.into())))
    }

    /// Returns the hash of a file; `None` if it does not exist.
    fn hash_in_work_tree(&self, path: &BString) -> Result<Option<ObjectId>, String> {
        let Some(bytes) = self.in_work_tree(&to_path(path.as_bstr()))? else {
            return Ok(None);
        };
        let hash = gix::objs::compute_hash(self.git.object_hash(), Kind::Blob, &bytes);
        hash.map(Some).map_err(|error| error.to_string())
    }
}

/// Returns whether the walk visits this entry: it belongs to this repository, and its `.gitignore` is
/// safe to read.
fn is_visited(entry: &DirEntry, failed: &Mutex<Option<GitError>>) -> bool {
    if entry.depth() == 0 {
        return true;
    }
    if is_git(entry.path()) {
        return false;
    }
    let checked = folder::check_ignored(entry.path());
    let is_safe = checked.is_ok();
    if let (Err(error), Ok(mut failed)) = (checked, failed.lock()) {
        *failed = Some(error);
    }
    is_safe
}

/// Returns whether a path stays below the root. A tree object can contain any name, such as `..`.
fn is_inside(path: &Path) -> bool {
    let is_plain = |part| match part {
        Component::Normal(name) => !name.eq_ignore_ascii_case(".git"),
        _ => false,
    };
    path.components().all(is_plain)
}

/// Returns whether the path is a `.git` folder or the work tree of another repository.
fn is_git(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == ".git") || path.join(".git").exists()
}
