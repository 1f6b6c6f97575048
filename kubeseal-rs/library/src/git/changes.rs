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

impl Repository {
    /// Returns the paths, from the root, of files that differ between two commits.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed.
    pub fn differing(&self, from: ObjectId, to: ObjectId) -> Result<BTreeSet<PathBuf>, GitError> {
        let changes = self.changes(Some(from), to, &|_, _| true)?;
        let paths = changes.iter().map(|change| to_path(change.path.as_bstr()));
        Ok(paths.collect())
    }

    /// Returns the paths, from the root, of files that differ between a commit and the work tree.
    /// Untracked files that are not ignored count as added.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed, or a folder cannot be read.
    pub fn differing_from_work_tree(&self, from: ObjectId) -> Result<BTreeSet<PathBuf>, GitError> {
        let committed = self.committed(from)?;
        let unchanged = self.unchanged()?;
        let mut paths: BTreeSet<BString> = committed.keys().cloned().collect();
        paths.extend(self.files_of_work_tree()?);
        paths.retain(|path| match (committed.get(path), unchanged.get(path)) {
            (Some(before), Some(now)) if before == now => false,
            (before, _) => self.hash_in_work_tree(path) != before.copied(),
        });
        let paths = paths.iter().map(|path| to_path(path.as_bstr()));
        Ok(paths.filter(|path| is_inside(path)).collect())
    }

    /// Returns the content of a regular file in the work tree by its path from the root. The
    /// content may be a plain value. Never follows a symbolic link: its target is not part of the
    /// work tree.
    pub fn in_work_tree(&self, file: &Path) -> Option<Zeroizing<Vec<u8>>> {
        let is_link = |path: &Path| self.root.join(path).is_symlink();
        if !is_inside(file) || file.ancestors().any(is_link) {
            return None;
        }
        files::read_regular(&self.root.join(file), LARGEST_FILE).ok()
    }

    /// Returns whether HEAD or one of its ancestors contains the file.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed.
    pub fn knew(&self, file: &Path) -> Result<bool, GitError> {
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

    /// Returns the tracked files, and the untracked files that are not ignored.
    fn files_of_work_tree(&self) -> Result<BTreeSet<BString>, GitError> {
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
        for entry in walk.flatten() {
            let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
            let path = entry.path().strip_prefix(&self.root);
            found.extend(path.ok().filter(|_| is_file).and_then(of_path));
        }
        let failed = failed.lock().ok().and_then(|mut failed| failed.take());
        failed.map_or(Ok(found), Err)
    }

    /// Returns the hash of a file, if it exists.
    fn hash_in_work_tree(&self, path: &BString) -> Option<ObjectId> {
        let bytes = self.in_work_tree(&to_path(path.as_bstr()))?;
        gix::objs::compute_hash(self.git.object_hash(), Kind::Blob, &bytes).ok()
    }
}

/// Returns whether the walk enters this entry: it belongs to this repository, and its `.gitignore`
/// is safe to read.
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

/// Returns whether the path is a repository's folder or the work tree of another repository.
fn is_git(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == ".git") || path.join(".git").exists()
}
