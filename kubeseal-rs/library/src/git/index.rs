//! Reads Git's index: which files are tracked, ignored or staged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice as _};
use gix::index::entry::{Flags, Mode, Stage};
use gix::index::{Entry, State};
use gix::objs::tree::EntryKind;
use gix::worktree::stack::state::ignore::Source;
use zeroize::Zeroizing;

use super::{GitError, Repository, directory, to_path};

/// Absolute paths and contents of files.
pub type Contents = Vec<(PathBuf, Zeroizing<Vec<u8>>)>;

/// The path of a file, and its content; `None` if a partial clone has not fetched it.
pub(super) type IndexedFile = (PathBuf, Option<Zeroizing<Vec<u8>>>);

impl Repository {
    /// Returns whether the file is in the index.
    ///
    /// # Errors
    ///
    /// Fails if the index is malformed.
    pub fn is_tracked(&self, file: &Path) -> Result<bool, GitError> {
        let Some(path) = self.git_path(file) else {
            return Ok(false);
        };
        let index = self.index()?;
        Ok(index.entry_by_path(path.as_bstr()).is_some())
    }

    /// Returns whether the file is untracked and matches the ignore rules of the repository or of the user.
    ///
    /// # Errors
    ///
    /// Fails if the index or a file of ignore rules is malformed.
    pub fn is_ignored(&self, file: &Path) -> Result<bool, GitError> {
        let Some(path) = self.git_path(file) else {
            return Ok(false);
        };
        let index = self.index()?;
        if index.entry_by_path(path.as_bstr()).is_some() {
            return Ok(false);
        }
        let file = to_path(path.as_bstr());
        for directory in file.ancestors().skip(1) {
            directory::check_gitignore(&self.root.join(directory))?;
        }
        let source = Source::WorktreeThenIdMappingIfNotSkipped;
        let ignored = self.git.excludes(&index, None, source);
        let ignored = ignored.and_then(|mut lists| {
            let platform = lists.at_entry(path.as_bstr(), Some(Mode::FILE))?;
            Ok(platform.is_excluded())
        });
        ignored.map_err(|error| {
            self.read_error(
                &"ignore rules (.gitignore, info/exclude or core.excludesFile)",
                error,
            )
        })
    }

    /// Returns the staged content of a file, which may differ from the work tree. The content may be a plain value.
    ///
    /// # Errors
    ///
    /// Fails if the file is not staged, or its content cannot be read.
    pub fn staged_content(&self, file: &Path) -> Result<Zeroizing<Vec<u8>>, GitError> {
        let index = self.index()?;
        let path = self.git_path(file);
        let entry = path.and_then(|path| {
            let stage = Stage::Unconflicted;
            let entry = index.entry_by_path_and_stage(path.as_bstr(), stage)?;
            Some(entry).filter(|entry| is_file(entry)).map(|e| e.id)
        });
        self.blob(entry.ok_or_else(|| GitError::NotStaged(file.to_owned()))?)
    }

    /// Returns the absolute paths of files whose staged version differs from the last commit.
    /// Submodules and removed files are left out.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed, a partial clone has not fetched an object, or a limit is exceeded.
    pub fn staged_files(&self) -> Result<Vec<PathBuf>, GitError> {
        let index = self.index()?;
        let committed = self.committed_index()?;
        let mut files = Vec::new();
        for entry in index.entries() {
            let path = entry.path(&index);
            if entry.mode == Mode::DIR {
                // A sparse index has one entry for a whole directory that is not checked out.
                self.add_sparse_directory(entry, path, &committed, &mut files)?;
            } else if is_file(entry) && !is_same(&committed, path, entry) {
                files.push(self.root.join(to_path(path)));
            }
        }
        Ok(files)
    }

    /// Returns the absolute paths and contents of the files in the index that `is_wanted` selects. The
    /// contents may be plain values. Skips files that a partial clone has not fetched.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed.
    pub fn indexed_files(&self, is_wanted: impl Fn(&Path) -> bool) -> Result<Contents, GitError> {
        let mut entries = Vec::new();
        self.visit_index(&mut |path, entry, _| {
            let path = self.root.join(to_path(path));
            if is_file(entry) && is_wanted(&path) && self.git.has_object(entry.id) {
                entries.push((path, entry.id));
            }
        })?;
        let read = |(path, id)| Ok((path, self.blob(id)?));
        entries.into_iter().map(read).collect()
    }

    /// Returns the files below an absolute directory that `is_wanted` selects and that are missing in the work tree but
    /// not merely deleted there: staged files, and files outside a sparse checkout. The contents may be plain values;
    /// `None` for a file that a partial clone has not fetched.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed.
    pub fn files_only_in_index(
        &self,
        directory: &Path,
        is_wanted: impl Fn(&Path) -> bool,
    ) -> Result<Vec<IndexedFile>, GitError> {
        let staged: BTreeSet<PathBuf> = self.staged_files()?.into_iter().collect();
        let mut entries = Vec::new();
        self.visit_index(&mut |path, entry, is_skipped| {
            let path = self.root.join(to_path(path));
            let is_below = path.starts_with(directory) && is_wanted(&path);
            if is_below
                && is_file(entry)
                && (is_skipped || staged.contains(&path))
                && path.symlink_metadata().is_err()
            {
                entries.push((path, entry.id));
            }
        })?;
        let read = |(path, id)| {
            let is_fetched = self.git.has_object(id);
            let content = is_fetched.then(|| self.blob(id)).transpose()?;
            Ok((path, content))
        };
        entries.into_iter().map(read).collect()
    }

    /// Returns paths and hashes of the regular files that Git does not check out, such as those outside a sparse
    /// checkout.
    pub(super) fn not_checked_out(&self) -> Result<BTreeMap<BString, ObjectId>, GitError> {
        let mut files = BTreeMap::new();
        self.visit_index(&mut |path, entry, is_skipped| {
            if is_skipped && is_file(entry) && entry.mode != Mode::SYMLINK {
                files.insert(path.to_owned(), entry.id);
            }
        })?;
        Ok(files)
    }

    /// Visits all entries of the index with their path, and whether Git does not check them out. A sparse index has one
    /// entry for a whole directory that is not checked out; its files are visited too.
    pub(super) fn visit_index(
        &self,
        visit: &mut dyn FnMut(&BStr, &Entry, bool),
    ) -> Result<(), GitError> {
        let index = self.index()?;
        for entry in index.entries() {
            if entry.mode != Mode::DIR {
                let is_skipped = entry.flags.contains(Flags::SKIP_WORKTREE);
                visit(entry.path(&index), entry, is_skipped);
                continue;
            }
            let directory_index = self.index_from_tree(entry.id)?;
            for inner_entry in directory_index.entries() {
                let mut path = entry.path(&index).to_owned();
                path.extend_from_slice(inner_entry.path(&directory_index));
                visit(path.as_bstr(), inner_entry, true);
            }
        }
        Ok(())
    }

    fn add_sparse_directory(
        &self,
        entry: &Entry,
        path: &BStr,
        committed: &State,
        files: &mut Vec<PathBuf>,
    ) -> Result<(), GitError> {
        let staged = self.index_from_tree(entry.id)?;
        for entry in staged.entries() {
            let mut full_path = path.to_owned();
            full_path.extend_from_slice(entry.path(&staged));
            if is_file(entry) && !is_same(committed, full_path.as_bstr(), entry) {
                files.push(self.root.join(to_path(full_path.as_bstr())));
            }
        }
        Ok(())
    }

    /// Returns the last commit as an index; empty if there is no commit.
    fn committed_index(&self) -> Result<gix::index::File, GitError> {
        let tree = self.git.head_tree_id_or_empty();
        let tree = tree.map_err(|error| self.read_error(&"the last commit", error))?;
        self.index_from_tree(tree.detach())
    }

    /// Returns a tree as an index. Fails if the tree exceeds the limits.
    fn index_from_tree(&self, tree: ObjectId) -> Result<gix::index::File, GitError> {
        self.compare_trees(None, Some(tree), &|_, pair| {
            pair.after.is_some_and(|entry| entry.mode.is_tree())
        })?;
        let index = self.git.index_from_tree(&tree);
        index.map_err(|error| self.read_error(&tree, error))
    }

    /// Returns the index, or the last commit as an index if there is no index. In a hook, `GIT_INDEX_FILE` names the
    /// index.
    pub(super) fn index(&self) -> Result<gix::index::File, GitError> {
        let index = self.git.try_index();
        match index.map_err(|error| self.read_error(&"the index", error))? {
            Some(shared) => Ok(gix::index::File::clone(&shared)),
            None => self.committed_index(),
        }
    }
}

/// Returns whether the entry is a file or symbolic link that would be committed: not a submodule, not in a merge
/// conflict, and not an entry of `git add --intent-to-add`.
fn is_file(entry: &Entry) -> bool {
    let is_intent_to_add = entry.flags.contains(Flags::INTENT_TO_ADD);
    let kind = entry.mode.to_tree_entry_mode().map(|mode| mode.kind());
    let is_file = matches!(
        kind,
        Some(EntryKind::Blob | EntryKind::BlobExecutable | EntryKind::Link)
    );
    is_file && !is_intent_to_add && entry.stage() == Stage::Unconflicted
}

fn is_same(committed: &State, path: &BStr, entry: &Entry) -> bool {
    committed
        .entry_by_path(path)
        .is_some_and(|before| before.id == entry.id && before.mode == entry.mode)
}

/// Returns paths and entries of the tracked files.
pub(super) fn tracked_files(index: &State) -> impl Iterator<Item = (BString, &Entry)> {
    let entries = index.entries().iter().filter(|entry| is_file(entry));
    entries.map(|entry| (entry.path(index).to_owned(), entry))
}
