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

use super::{GitError, Repository, directory, index, to_git_path, to_path};
use crate::files;

/// The size limit, in bytes, for reading a file in the work tree.
const LARGEST_FILE: u64 = 256 << 20;

/// Hashes of files, by path from the root.
type Files = BTreeMap<BString, ObjectId>;

/// The differences between two states of a repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// The paths of the files that differ, from the root.
    pub files: BTreeSet<PathBuf>,
    /// Directories that cannot be listed, by their path from the root, with the reason. Untracked files in
    /// them are unknown.
    pub unlisted: BTreeMap<PathBuf, String>,
    /// The hashes of files in the index that Git does not check out and that are missing in the work tree, by their
    /// path from the root.
    pub skipped: BTreeMap<PathBuf, ObjectId>,
    /// Other repositories in the work tree that are not submodules, by their path from the root.
    pub nested: BTreeSet<PathBuf>,
}

/// The content of the work tree.
#[derive(Default)]
struct WorkTreeContent {
    files: BTreeSet<BString>,
    unlisted: BTreeMap<PathBuf, String>,
    nested: BTreeSet<PathBuf>,
}

impl Repository {
    /// Returns the files, symbolic links and submodules that differ between two commits, or all of the second commit if
    /// `from` is `None`.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed, a partial clone has not fetched an object, or a limit is exceeded.
    pub fn differences(
        &self,
        from: Option<ObjectId>,
        to: ObjectId,
    ) -> Result<Differences, GitError> {
        let changes = self.changes(from, to, &|_, _| true)?;
        let paths = changes.iter().map(|change| to_path(change.path.as_bstr()));
        Ok(Differences {
            files: paths.collect(),
            ..Differences::default()
        })
    }

    /// Returns the files that differ between a commit and the work tree, or all files if there is no commit. Untracked
    /// files that are not ignored count as added. A file that cannot be read counts as different. For a file outside a
    /// sparse checkout, the version in the index counts.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed, a partial clone has not fetched an object, or a limit is exceeded.
    pub fn differences_from_work_tree(
        &self,
        from: Option<ObjectId>,
    ) -> Result<Differences, GitError> {
        let committed = from.map(|from| self.committed_files(from)).transpose()?;
        let committed = committed.unwrap_or_default();
        let unchanged = self.unchanged_files()?;
        let skipped = self.skipped_files()?;
        let content = self.files_of_work_tree()?;
        let mut paths: BTreeSet<BString> = committed.keys().cloned().collect();
        paths.extend(content.files);
        paths.extend(skipped.keys().cloned());
        paths.retain(|path| {
            let before = committed.get(path);
            match skipped.get(path).or_else(|| unchanged.get(path)) {
                Some(now) if before == Some(now) => false,
                _ if skipped.contains_key(path) => true,
                _ => self.hash_in_work_tree(path).as_ref() != Ok(&before.copied()),
            }
        });
        let paths = paths.iter().map(|path| to_path(path.as_bstr()));
        let by_path = |(path, id): (BString, _)| (to_path(path.as_bstr()), id);
        Ok(Differences {
            files: paths.filter(|path| is_inside(path)).collect(),
            unlisted: content.unlisted,
            skipped: skipped.into_iter().map(by_path).collect(),
            nested: content.nested,
        })
    }

    /// Returns the files that Git does not check out and that are missing in the work tree.
    fn skipped_files(&self) -> Result<Files, GitError> {
        let mut skipped = self.not_checked_out()?;
        let is_missing = |path: &BString| {
            let file = self.root.join(to_path(path.as_bstr()));
            file.symlink_metadata().is_err()
        };
        skipped.retain(|path, _| is_missing(path));
        Ok(skipped)
    }

    /// Returns the content of a regular file in the work tree by its path from the root, or `None` if there is no file
    /// at this path. The content may be a plain value. Never follows a symbolic link: its target is not part of the
    /// work tree.
    ///
    /// # Errors
    ///
    /// Fails with the reason if the file cannot be read, or is a pipe, a device or too large.
    pub fn read_in_work_tree(&self, file: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        if !self.is_without_link(file) {
            return Ok(None);
        }
        match files::read_regular(&self.root.join(file), LARGEST_FILE) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_missing_or_directory() => Ok(None),
            Err(error) => Err(error.reason()),
        }
    }

    /// Returns whether a path from the root stays in the work tree, with no symbolic link on the way.
    pub(super) fn is_without_link(&self, path: &Path) -> bool {
        let is_link = |path: &Path| self.root.join(path).is_symlink();
        is_inside(path) && !path.ancestors().any(is_link)
    }

    /// Returns whether HEAD or one of its ancestors contains the file; `false` for a file outside the repository.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed, a partial clone has not fetched an object, or a limit is exceeded.
    pub fn has_history(&self, file: &Path) -> Result<bool, GitError> {
        let (Some(path), Some(head)) = (self.git_path(file), self.commit("HEAD")) else {
            return Ok(false);
        };
        for commit in self.history([head])? {
            let entry = self.entry_at(commit, &to_path(path.as_bstr()))?;
            if entry.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn committed_files(&self, commit: ObjectId) -> Result<Files, GitError> {
        Ok(self.blobs(commit, &|_, _| true)?.into_iter().collect())
    }

    /// Returns the tracked files whose metadata, such as size and timestamps, is the same as when Git hashed them.
    fn unchanged_files(&self) -> Result<Files, GitError> {
        let index = self.index()?;
        let options = stat::Options::default();
        let is_same = |path: &BString, seen: &Stat| {
            let metadata = gix::index::fs::Metadata::from_path_no_follow(
                &self.root.join(to_path(path.as_bstr())),
            );
            let metadata = metadata.ok().filter(gix::index::fs::Metadata::is_file);
            let metadata = metadata.and_then(|metadata| Stat::from_fs(&metadata).ok());
            metadata.is_some_and(|metadata| {
                metadata.matches(seen, options) && !seen.is_racy(index.timestamp(), options)
            })
        };
        let unchanged =
            index::tracked_files(&index).filter(|(path, entry)| is_same(path, &entry.stat));
        Ok(unchanged.map(|(path, entry)| (path, entry.id)).collect())
    }

    /// Returns the tracked files and the untracked files that are not ignored, the directories that cannot be listed,
    /// and other repositories. The files in the directory of a submodule never belong to this repository.
    fn files_of_work_tree(&self) -> Result<WorkTreeContent, GitError> {
        let index = self.index()?;
        let mut content = WorkTreeContent {
            files: index::tracked_files(&index).map(|(path, _)| path).collect(),
            ..WorkTreeContent::default()
        };
        let modules: BTreeSet<PathBuf> = self.submodule_directories()?;
        let walk_error = Arc::new(Mutex::new(None));
        let nested = Arc::new(Mutex::new(BTreeSet::new()));
        directory::check_gitignore(&self.root)?;
        let walk = WalkBuilder::new(&self.root)
            .hidden(false)
            .ignore(false)
            .parents(false)
            .filter_entry({
                let (walk_error, nested) = (Arc::clone(&walk_error), Arc::clone(&nested));
                move |entry| {
                    let is_module = modules.contains(entry.path());
                    let is_nested = !is_module && is_nested(entry);
                    if let (true, Ok(mut nested)) = (is_nested, nested.lock()) {
                        nested.insert(entry.path().to_owned());
                    }
                    !is_module && !is_nested && is_visited(entry, &walk_error)
                }
            })
            .build();
        for entry in walk {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    content.unlisted.extend(self.unlisted_directory(&error));
                    continue;
                }
            };
            let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
            let path = entry.path().strip_prefix(&self.root);
            let path = path.ok().filter(|_| is_file).and_then(to_git_path);
            content.files.extend(path);
        }
        let nested = nested.lock().map(|mut nested| std::mem::take(&mut *nested));
        let nested = nested.unwrap_or_default().into_iter();
        let from_root = |path: PathBuf| Some(path.strip_prefix(&self.root).ok()?.to_owned());
        content.nested = nested.filter_map(from_root).collect();
        let walk_error = walk_error
            .lock()
            .ok()
            .and_then(|mut walk_error| walk_error.take());
        walk_error.map_or(Ok(content), Err)
    }

    /// Returns the directory that cannot be listed, with the reason; `None` for a directory that was removed
    /// meanwhile, and for an error without a path.
    fn unlisted_directory(&self, error: &ignore::Error) -> Option<(PathBuf, String)> {
        use ignore::Error::{WithDepth, WithPath};
        let path = match error {
            WithDepth { err, .. } => return self.unlisted_directory(err),
            WithPath { path, .. } => path.strip_prefix(&self.root).ok()?,
            _ => return None,
        };
        // The text of the error repeats the path.
        let kind = error.io_error()?.kind();
        let is_missing = kind == std::io::ErrorKind::NotFound;
        (!is_missing).then(|| (path.to_owned(), files::system_text(&kind.into())))
    }

    /// Returns the hash of a file; `None` if it does not exist.
    fn hash_in_work_tree(&self, path: &BString) -> Result<Option<ObjectId>, String> {
        let Some(bytes) = self.read_in_work_tree(&to_path(path.as_bstr()))? else {
            return Ok(None);
        };
        let hash = gix::objs::compute_hash(self.git.object_hash(), Kind::Blob, &bytes);
        hash.map(Some).map_err(|error| error.to_string())
    }
}

/// Returns whether the walk visits this entry: it is not a Git directory, and its `.gitignore` is safe to read. If the
/// `.gitignore` is not safe to read, stores the error in `walk_error`.
fn is_visited(entry: &DirEntry, walk_error: &Mutex<Option<GitError>>) -> bool {
    if entry.depth() == 0 {
        return true;
    }
    if is_git_directory(entry.path()) {
        return false;
    }
    let checked = directory::check_gitignore(entry.path());
    let is_safe = checked.is_ok();
    if let (Err(error), Ok(mut walk_error)) = (checked, walk_error.lock()) {
        *walk_error = Some(error);
    }
    is_safe
}

/// Returns whether a path stays below the root and outside of Git directories. A tree object can contain any name, such
/// as `..`.
fn is_inside(path: &Path) -> bool {
    let is_normal = |part| match part {
        Component::Normal(name) => !name.eq_ignore_ascii_case(".git"),
        _ => false,
    };
    path.components().all(is_normal)
}

/// Returns whether the entry is the work tree of another repository.
fn is_nested(entry: &DirEntry) -> bool {
    let path = entry.path();
    entry.depth() > 0 && !is_git_directory(path) && path.join(".git").exists()
}

fn is_git_directory(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == ".git")
}
