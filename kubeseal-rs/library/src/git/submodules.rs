//! Finds the submodules of a repository. Git stores only the commit of a submodule, whose files are in another
//! repository.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::bstr::{BString, ByteSlice as _};
use gix::index::entry::{Mode, Stage};

use super::{GitError, Repository, to_path};

/// A submodule in two states of the repository that contains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submodule {
    /// The path from the root of the repository that contains it.
    pub path: PathBuf,
    /// The commit in the older state; `None` if the submodule is new.
    pub before: Option<ObjectId>,
    /// The commit in the newer state; for the work tree, the commit in the index. `None` if the submodule was removed.
    pub after: Option<ObjectId>,
}

impl Repository {
    /// Returns the submodules that differ between two commits or, if `to` is `None`, all submodules of a commit and of
    /// the index. If `from` is `None`, the older state has no submodules.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed, a partial clone has not fetched an object, or a limit is exceeded.
    pub fn submodules(
        &self,
        from: Option<ObjectId>,
        to: Option<ObjectId>,
    ) -> Result<Vec<Submodule>, GitError> {
        let mut before = match from {
            Some(from) => self.submodules_in_commit(from)?,
            None => BTreeMap::new(),
        };
        let after = match to {
            Some(to) => self.submodules_in_commit(to)?,
            None => self.submodules_in_index()?,
        };
        let in_new_state = after.into_iter().map(|(path, after)| Submodule {
            before: before.remove(&path),
            path: to_path(path.as_bstr()),
            after: Some(after),
        });
        let mut submodules: Vec<_> = in_new_state.collect();
        submodules.retain(|submodule| to.is_none() || submodule.before != submodule.after);
        submodules.extend(before.into_iter().map(|(path, before)| Submodule {
            path: to_path(path.as_bstr()),
            before: Some(before),
            after: None,
        }));
        submodules.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(submodules)
    }

    /// Opens the repository of a submodule by its path from the root; `None` if it is not checked out. Never follows a
    /// symbolic link.
    ///
    /// # Errors
    ///
    /// Fails if the repository of the submodule is malformed.
    pub fn submodule(&self, path: &Path) -> Result<Option<Self>, GitError> {
        let root = self.root.join(path);
        let is_checked_out = self.is_without_link(path) && root.join(".git").exists();
        is_checked_out
            .then(|| Self::open(&root.join(".git"), root))
            .transpose()
    }

    /// Returns whether a directory is the root of this repository, a submodule of it, or a nested submodule.
    pub fn contains_submodule(&self, directory: &Path) -> bool {
        let mut directory = directory;
        while directory != self.root {
            let Some(outer) = directory
                .parent()
                .and_then(|above| Self::discover(above).ok())
            else {
                return false;
            };
            let path = outer.git_path(directory);
            let submodules = outer.submodules_in_index().unwrap_or_default();
            let is_submodule = path.is_some_and(|path| submodules.contains_key(&path));
            match directory.ancestors().find(|above| *above == outer.root) {
                Some(above) if is_submodule => directory = above,
                _ => return false,
            }
        }
        true
    }

    /// Returns the submodule of the index or the last commit whose directory contains this absolute path, by its path
    /// from the root.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed, a partial clone has not fetched an object, or a limit is exceeded.
    pub fn submodule_around(&self, path: &Path) -> Result<Option<PathBuf>, GitError> {
        let mut directories = self.submodule_directories()?;
        if let Some(head) = self.commit("HEAD") {
            let committed = self.submodules_in_commit(head)?;
            directories.extend(committed.keys().map(|path| self.absolute_path(path)));
        }
        let submodule = path.ancestors().find(|above| directories.contains(*above));
        let from_root = submodule.and_then(|directory| directory.strip_prefix(&self.root).ok());
        Ok(from_root.map(Path::to_owned))
    }

    /// Returns the absolute paths of the submodules in the index.
    pub(super) fn submodule_directories(&self) -> Result<BTreeSet<PathBuf>, GitError> {
        let modules = self.submodules_in_index()?;
        Ok(modules
            .keys()
            .map(|path| self.absolute_path(path))
            .collect())
    }

    /// Returns the roots of the submodules in the index that are checked out, including nested submodules.
    ///
    /// # Errors
    ///
    /// Fails if a repository is malformed.
    pub fn checked_out_submodules(&self) -> Result<Vec<PathBuf>, GitError> {
        let mut roots = Vec::new();
        for root in self.submodule_directories()? {
            let path = root.strip_prefix(&self.root).unwrap_or(&root);
            if let Some(submodule) = self.submodule(path)? {
                roots.extend(submodule.checked_out_submodules()?);
                roots.push(root);
            }
        }
        Ok(roots)
    }

    fn absolute_path(&self, path: &BString) -> PathBuf {
        self.root.join(to_path(path.as_bstr()))
    }

    /// Returns whether the repository contains this commit. A submodule's commit might not have been fetched.
    pub fn has_commit(&self, id: ObjectId) -> bool {
        self.git.find_commit(id).is_ok()
    }

    fn submodules_in_commit(
        &self,
        commit: ObjectId,
    ) -> Result<BTreeMap<BString, ObjectId>, GitError> {
        let entries = self.changes(None, commit, &|_, _| true)?.into_iter();
        let submodules = entries.filter_map(|entry| Some((entry.path, entry.after?)));
        let submodules = submodules.filter(|(_, entry)| entry.mode.is_commit());
        Ok(submodules.map(|(path, entry)| (path, entry.id)).collect())
    }

    fn submodules_in_index(&self) -> Result<BTreeMap<BString, ObjectId>, GitError> {
        let index = self.index()?;
        let is_module = |entry: &&gix::index::Entry| {
            entry.mode == Mode::COMMIT && entry.stage() == Stage::Unconflicted
        };
        let entries = index.entries().iter().filter(is_module);
        Ok(entries
            .map(|entry| (entry.path(&index).to_owned(), entry.id))
            .collect())
    }
}
