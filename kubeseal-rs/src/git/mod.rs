//! The Git repository around a file, read without running `git`.
//!
//! The author of a repository also writes its configuration and attributes, and `git` runs the programs
//! that they name: `core.fsmonitor`, filter drivers, `textconv`, signature programs, transports of a lazy
//! fetch. So repositories are read here with `gix`, compiled without the features that can start a program;
//! a test keeps them out.
//!
//! Repositories are found by a `.git` alone: a folder that merely looks like a bare repository is none.

mod ages;
mod changes;
mod commits;
mod folder;
mod hooks;
mod index;
#[cfg(test)]
#[cfg(unix)]
pub(crate) mod tests;
mod trees;

use std::cell::Cell;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::bstr::{BStr, BString};
use zeroize::Zeroizing;

use crate::report::ShowPath as _;
pub use ages::{Dated, ages};
pub use commits::{Branch, Version};

/// A Git repository cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no repository.
    #[error("{} is not in a Git repository", .0.shown())]
    NoRepository(PathBuf),
    /// What is read is malformed or missing.
    #[error("cannot read {what} in the Git repository {}", root.shown())]
    Read {
        /// What was read.
        what: String,
        /// The root of the work tree.
        root: PathBuf,
        /// The reason.
        source: Box<gix::Error>,
    },
    /// An object was never fetched. `git` would fetch it now, by programs that the repository names.
    #[error(
        "the Git repository {} is a partial clone without the object {id}, and nothing is fetched here; fetch \
         everything first with `git fetch --refetch --no-filter`",
        root.shown()
    )]
    NotFetched {
        /// The root of the work tree.
        root: PathBuf,
        /// The hash of the object.
        id: String,
    },
    /// A file is a pipe or device, or too large.
    #[error("cannot read {} in a Git repository: {why}", file.shown())]
    Irregular {
        /// The file.
        file: PathBuf,
        /// The reason.
        why: String,
    },
    /// The trees are too large to read.
    #[error(
        "the Git repository {} has too many files in the folder {folder:?} of a commit: reading stops after \
         1,000,000 entries for each commit and 5,000,000 in all, since repeated folders could fill the memory",
        root.shown()
    )]
    TooManyEntries {
        /// The root of the work tree.
        root: PathBuf,
        /// The folder where reading stopped; empty for the root.
        folder: String,
    },
    /// Nothing is staged there.
    #[error("{} is not staged", .0.shown())]
    NotStaged(PathBuf),
    /// The `.git` of the work tree leads to a repository that may be another one.
    #[error(
        "the hooks of this repository lie outside of it, in {}, and nothing there names this work tree; add what \
         `seal hook install --print` prints to the hook yourself, or run `git worktree repair` if you moved the work \
         tree",
        .0.shown()
    )]
    HooksOutside(PathBuf),
    /// The repository's own configuration decides where hooks lie.
    #[error(
        "the configuration of this repository sets core.hooksPath to {0:?}, and a hook is only written where Git or \
         your own configuration says; add what `seal hook install --print` prints to that hook yourself, or run \
         `git config --local --unset core.hooksPath`"
    )]
    HooksElsewhere(String),
}

/// The root of the work tree that a folder lies in: the nearest parent with a `.git`.
pub fn work_tree(folder: &Path) -> Option<PathBuf> {
    let root = folder.ancestors().find(|above| above.join(".git").exists());
    root.map(Path::to_owned)
}

/// Does Git leave this file alone, because a `.gitignore` names it and it is not committed? No if the
/// repository cannot be read.
pub fn ignores(file: &Path) -> bool {
    let ignores = || Repository::around(file.parent()?).ok()?.ignores(file).ok();
    ignores().unwrap_or(false)
}

/// Is the file committed, or about to be?
pub fn tracks(file: &Path) -> bool {
    let tracks = || Repository::around(file.parent()?).ok()?.tracks(file).ok();
    tracks().unwrap_or(false)
}

/// A repository with a work tree.
pub struct Repository {
    git: gix::Repository,
    /// The root of the work tree, without links.
    root: PathBuf,
    /// How many entries of trees were visited.
    visited: Cell<usize>,
}

/// The largest object that is read. Compressed to a thousandth, a larger one would take all memory.
const LARGEST_OBJECT: &str = "gitoxide.objects.allocLimit=256m";

impl Repository {
    /// The repository whose work tree a folder lies in.
    ///
    /// # Errors
    ///
    /// There is none, or it is malformed.
    pub fn around(folder: &Path) -> Result<Self, GitError> {
        let whole = folder.canonicalize().ok();
        let root = whole.as_deref().and_then(work_tree);
        let root = root.ok_or_else(|| GitError::NoRepository(folder.to_owned()))?;
        Self::open(&root.join(".git"), root)
    }

    /// The repository that Git runs a hook for: `GIT_DIR` and `GIT_WORK_TREE` count before what lies
    /// around the current folder. Git sets them, or the user did.
    ///
    /// # Errors
    ///
    /// There is none, or it is malformed.
    pub fn of_hook() -> Result<Self, GitError> {
        let here = Path::new(".");
        let Some(git_dir) = std::env::var_os("GIT_DIR").filter(|path| !path.is_empty()) else {
            return Self::around(here);
        };
        let root = std::env::var_os("GIT_WORK_TREE").map_or_else(|| here.to_owned(), PathBuf::from);
        let none = |_| GitError::NoRepository(root.clone());
        let git_dir = std::path::absolute(git_dir).map_err(none)?;
        Self::open(&git_dir, root.canonicalize().map_err(none)?)
    }

    /// Configuration of the repository itself is not trusted: it says what format the repository has, and
    /// nothing else.
    fn open(git_dir: &Path, root: PathBuf) -> Result<Self, GitError> {
        folder::check(git_dir)?;
        let mut permissions = gix::open::Permissions::all();
        // Both are found by running `git`.
        permissions.config.git_binary = false;
        permissions.config.system = cfg!(unix);
        let options = gix::open::Options::default()
            .permissions(permissions)
            .with(gix::sec::Trust::Reduced)
            .open_path_as_is(true)
            .config_overrides([LARGEST_OBJECT]);
        let opened = options.open(git_dir).and_then(|git| {
            let mut git = git.to_thread_local();
            git.set_workdir(root.clone())?;
            git.object_cache_size_if_unset(16 << 20);
            Ok(git)
        });
        match opened {
            Ok(git) => Ok(Self {
                git,
                root,
                visited: Cell::new(0),
            }),
            Err(source) => Err(GitError::Read {
                what: git_dir.shown(),
                root,
                source: Box::new(source),
            }),
        }
    }

    /// The root of the work tree, without links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The commit that a revision such as `HEAD~1` names.
    pub fn commit(&self, revision: &str) -> Option<ObjectId> {
        let object = self.git.rev_parse_single(revision).ok()?.object().ok()?;
        Some(object.peel_to_commit().ok()?.id)
    }

    /// The bytes of a file in a commit. They may be plain values.
    ///
    /// # Errors
    ///
    /// The repository is malformed, or has not fetched the file.
    pub fn file_at(
        &self,
        commit: ObjectId,
        path: &Path,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, GitError> {
        let found = self
            .tree_of(commit)?
            .lookup_entry_by_path(path)
            .map_err(|error| self.failed(&path.shown(), error))?;
        match found.filter(|entry| entry.mode().is_blob()) {
            Some(entry) => self.blob(entry.object_id()).map(Some),
            None => Ok(None),
        }
    }

    /// The bytes of a blob. They may be plain values.
    ///
    /// # Errors
    ///
    /// It is not there, is malformed or larger than anything that is read.
    pub fn blob(&self, id: ObjectId) -> Result<Zeroizing<Vec<u8>>, GitError> {
        if !self.git.has_object(id) && self.is_partial() {
            return Err(self.not_fetched(id));
        }
        let blob = self.git.find_blob(id);
        let mut blob = blob.map_err(|error| self.failed(&id, error))?;
        Ok(Zeroizing::new(blob.take_data()))
    }

    fn tree_of(&self, commit: ObjectId) -> Result<gix::Tree<'_>, GitError> {
        let tree = self.git.find_commit(commit).and_then(|found| found.tree());
        tree.map_err(|error| {
            if self.is_partial() {
                self.not_fetched(commit)
            } else {
                self.failed(&commit, error)
            }
        })
    }

    fn not_fetched(&self, id: ObjectId) -> GitError {
        GitError::NotFetched {
            root: self.root.clone(),
            id: id.to_string(),
        }
    }

    /// Does the repository leave objects to a server that Git asks when it needs them?
    fn is_partial(&self) -> bool {
        let packs = self.git.objects.store_ref().path().join("pack");
        let files = std::fs::read_dir(packs).into_iter().flatten().flatten();
        files
            .map(|file| file.path())
            .any(|path| path.extension().is_some_and(|end| end == "promisor"))
    }

    /// The path of a file from the root; none for what lies elsewhere. The file need not exist.
    pub fn inside_work_tree(&self, file: &Path) -> Option<PathBuf> {
        Some(to_path(self.inside(file)?.as_ref()))
    }

    /// The path of a file from the root. Links in its folder are followed, and the file need not exist.
    fn inside(&self, file: &Path) -> Option<BString> {
        let file = std::path::absolute(file).ok()?;
        let mut above = file.parent()?.ancestors();
        let (above, whole) = above.find_map(|above| Some((above, above.canonicalize().ok()?)))?;
        let whole = whole.join(file.strip_prefix(above).ok()?);
        of_path(whole.strip_prefix(&self.root).ok()?)
    }

    fn failed(&self, what: &dyn std::fmt::Display, source: impl Into<gix::Error>) -> GitError {
        GitError::Read {
            what: what.to_string(),
            root: self.root.clone(),
            source: Box::new(source.into()),
        }
    }
}

/// A path as Git keeps it; none for a name that Git cannot keep.
fn of_path(path: &Path) -> Option<BString> {
    let path = gix::path::into_bstr(path).ok()?;
    Some(gix::path::to_unix_separators_on_windows(path).into_owned())
}

/// A path that Git keeps, for this system. On Windows one that is no UTF-8 cannot be a file.
fn to_path(path: &BStr) -> PathBuf {
    let native = gix::path::from_bstr(path).map(std::borrow::Cow::into_owned);
    native.unwrap_or_else(|_| PathBuf::from(path.to_string()))
}
