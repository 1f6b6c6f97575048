//! Commits to visit, newest first, each with the files in it that a search still follows.
//!
//! As in `git blame`, a search passes a file from a commit to a parent until it finds the commit that it searches for.

use std::collections::{BTreeMap, BinaryHeap};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::bstr::{BStr, BString};

use super::{GitError, Repository, work_tree};

/// The indices of what a search follows, by the path of its file.
pub(super) type PendingFiles = BTreeMap<BString, Vec<usize>>;

/// The commits to visit.
#[derive(Default)]
pub(super) struct CommitQueue {
    commits: BinaryHeap<(i64, ObjectId)>,
    pending: BTreeMap<ObjectId, PendingFiles>,
}

impl CommitQueue {
    /// Adds files to those of a commit.
    pub(super) fn add(
        &mut self,
        repository: &Repository,
        to: ObjectId,
        files: PendingFiles,
    ) -> Result<(), GitError> {
        if files.is_empty() {
            return Ok(());
        }
        if let Some(pending) = self.pending.get_mut(&to) {
            add_pending(pending, files);
            return Ok(());
        }
        let to_error = |error| repository.read_error(&to, error);
        let commit = repository.git.find_commit(to).map_err(to_error)?;
        let seconds = commit.time().map_err(to_error)?.seconds;
        self.commits.push((seconds, to));
        self.pending.insert(to, files);
        Ok(())
    }

    /// Removes the newest commit, and returns its time in seconds since 1970, its hash and its files.
    pub(super) fn pop(&mut self) -> Option<(i64, ObjectId, PendingFiles)> {
        loop {
            let (seconds, commit) = self.commits.pop()?;
            // A commit with a wrong date can be queued twice.
            if let Some(files) = self.pending.remove(&commit) {
                return Some((seconds, commit, files));
            }
        }
    }
}

pub(super) fn add_pending(
    pending: &mut PendingFiles,
    more: impl IntoIterator<Item = (BString, Vec<usize>)>,
) {
    for (path, indices) in more {
        if !indices.is_empty() {
            pending.entry(path).or_default().extend(indices);
        }
    }
}

/// Returns whether the path is a pending file, or a directory above one.
pub(super) fn leads_to_pending(pending: &PendingFiles, path: &BStr) -> bool {
    let is_above = || {
        let prefix = [path, "/".as_bytes()].concat();
        let mut next = pending.range(BString::from(prefix.clone())..);
        next.next()
            .is_some_and(|(file, _)| file.starts_with(&prefix))
    };
    pending.contains_key(path) || is_above()
}

/// Returns the indices of the files in each work tree. Files outside a work tree are left out.
pub(super) fn by_work_tree<'a>(
    files: impl Iterator<Item = &'a Path>,
) -> BTreeMap<PathBuf, Vec<usize>> {
    let mut roots = BTreeMap::new();
    let mut by_root: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
    for (i, file) in files.enumerate() {
        let directory = file.parent().unwrap_or(Path::new(""));
        let root = roots.entry(directory).or_insert_with(|| {
            let resolved = Path::new(".").join(directory).canonicalize().ok()?;
            work_tree(&resolved)
        });
        if let Some(root) = root {
            by_root.entry(root.clone()).or_default().push(i);
        }
    }
    by_root
}
