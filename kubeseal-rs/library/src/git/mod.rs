//! Reads the Git repository around a file without running `git`.
//!
//! The author of a repository also writes its configuration and attributes, and `git` runs the programs that they name:
//! `core.fsmonitor`, filter drivers, `textconv`, signature programs, transports of a lazy fetch. So this module reads
//! repositories with `gix`, compiled without the features that can start a program; a test ensures that these features
//! stay off.
//!
//! A repository is recognized by its `.git` alone. A directory that only looks like a bare repository
//! does not count.

mod ages;
mod attributes;
mod changes;
mod clones;
mod commits;
mod directory;
mod hooks;
mod index;
mod last_changes;
mod links;
mod pending;
mod settings;
mod submodules;
#[cfg(test)]
#[cfg(unix)]
pub(crate) mod tests;
mod trees;

use std::cell::Cell;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::bstr::{BStr, BString};
use gix::objs::tree::EntryMode;
use zeroize::Zeroizing;

use crate::shown::ShowPath as _;
pub use ages::{SealedValue, commit_times};
pub use attributes::{ATTRIBUTES_FILE, ConvertedFiles};
pub use changes::Differences;
pub use clones::missing_submodules;
pub use commits::{Branch, CommitTree, Version};
pub use index::Contents;
pub use last_changes::{FileCommit, LastChange, last_changes};
pub use links::{Route, StagedLinks};
pub use settings::Section;
pub use submodules::Submodule;

/// Why a Git repository, or a part of it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The path is not in a Git repository.
    #[error("{} is not in a Git repository", .0.shown())]
    NoRepository(PathBuf),
    /// A part of the repository is malformed or missing.
    #[error("cannot read {part} in the Git repository {}", root.shown())]
    Read {
        /// The part of the repository that cannot be read.
        part: String,
        /// The root of the work tree.
        root: PathBuf,
        /// The error from `gix`.
        source: Box<gix::Error>,
    },
    /// The object was never fetched. `git` would fetch it on demand, with programs that the repository
    /// names.
    #[error(
        "the Git repository {} is a partial clone without the object {id}\n\
         hint: fetch all objects with `git fetch --refetch --no-filter`",
        root.shown()
    )]
    NotFetched {
        /// The root of the work tree.
        root: PathBuf,
        /// The hash of the object.
        id: String,
    },
    /// A file is a pipe or device or too large, or a directory has too many files.
    #[error("cannot read {} in a Git repository: {why}", file.shown())]
    Irregular {
        /// The file or directory that is not read.
        file: PathBuf,
        /// Why it is not read.
        why: String,
    },
    /// The tree objects contain more entries than the limit.
    #[error(
        "the Git repository {} has too many files in the directory {directory:?} of a commit: reading stops after \
         1,000,000 entries for each commit and 5,000,000 in all, since repeated directories could fill the memory",
        root.shown()
    )]
    TooManyEntries {
        /// The root of the work tree.
        root: PathBuf,
        /// The directory where reading stopped; empty for the root.
        directory: String,
    },
    /// The file is not staged.
    #[error("{} is not staged\nhint: stage it with `git add`", .0.shown())]
    NotStaged(PathBuf),
    /// The `.git` of the work tree points to a repository that does not name this work tree.
    #[error(
        "the hooks of this repository are outside it, in {}, and nothing there names this work tree\n\
         hint: add the output of `seal hook install --print` to the hook yourself, or run `git worktree repair` if you moved the work \
         tree",
        .0.shown()
    )]
    HooksOutside(PathBuf),
    /// The `.git` of the work tree points to a repository that does not name this work tree.
    #[error(
        "the configuration of this repository is outside it, in {}, and nothing there names this work tree\n\
         hint: run `git worktree repair` if you moved the work tree",
        .0.shown()
    )]
    ConfigOutside(PathBuf),
    /// The configuration cannot be changed.
    #[error("cannot change {}: {why}", file.shown())]
    Config {
        /// The path of the configuration.
        file: PathBuf,
        /// Why it cannot be changed.
        why: String,
    },
    /// The repository's own configuration sets the hooks directory.
    #[error(
        "the configuration of this repository sets core.hooksPath to {0:?}; hooks are only written to the default \
         directory or to the directory that your own configuration sets\n\
         hint: add the output of `seal hook install --print` to that hook yourself, or run \
         `git config --local --unset core.hooksPath`"
    )]
    HooksElsewhere(String),
}

/// Returns the root of the work tree that contains the directory: the directory itself or its nearest parent with a
/// `.git`.
pub fn work_tree(directory: &Path) -> Option<PathBuf> {
    let root = directory
        .ancestors()
        .find(|above| above.join(".git").exists());
    root.map(Path::to_owned)
}

/// Returns whether Git ignores this file: an ignore rule matches it and Git does not track it. `false`
/// if the repository cannot be read.
pub fn is_ignored(file: &Path) -> bool {
    let is_ignored = || {
        Repository::discover(file.parent()?)
            .ok()?
            .is_ignored(file)
            .ok()
    };
    is_ignored().unwrap_or(false)
}

/// Returns the work tree of which Git could commit the file; `None` if Git ignores the file, or there is no work tree.
pub fn committing_tree(file: &Path) -> Option<PathBuf> {
    let canonical = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let tree = canonical.parent().and_then(work_tree);
    tree.filter(|_| !is_ignored(&canonical))
}

/// Returns whether the file is in Git's index. `false` if the repository cannot be read.
pub fn is_tracked(file: &Path) -> bool {
    let is_tracked = || {
        Repository::discover(file.parent()?)
            .ok()?
            .is_tracked(file)
            .ok()
    };
    is_tracked().unwrap_or(false)
}

/// A repository with a work tree.
pub struct Repository {
    git: gix::Repository,
    /// The root of the work tree, with symbolic links resolved.
    root: PathBuf,
    /// The number of tree entries visited so far.
    visited: Cell<usize>,
}

/// The size limit for an object. Objects compress up to a thousandfold, so without the limit a small
/// object could exhaust the memory.
const LARGEST_OBJECT: &str = "gitoxide.objects.allocLimit=256m";

/// A reference below `refs/replace` substitutes another commit for a commit. In a clone that fetches the reference, the
/// values in the replaced commit are hidden, although other clones can still read them.
const NO_REPLACEMENT: &str = "core.useReplaceRefs=false";

impl Repository {
    /// Opens the repository whose work tree contains the directory.
    ///
    /// # Errors
    ///
    /// Fails if there is no repository, or it is malformed.
    pub fn discover(directory: &Path) -> Result<Self, GitError> {
        let resolved = directory.canonicalize().ok();
        let root = resolved.as_deref().and_then(work_tree);
        let root = root.ok_or_else(|| GitError::NoRepository(directory.to_owned()))?;
        Self::open(&root.join(".git"), root)
    }

    /// Opens the repository that Git runs a hook for. `GIT_DIR` and, if it is set, `GIT_WORK_TREE` take precedence over
    /// the current directory; Git or the user sets them.
    ///
    /// # Errors
    ///
    /// Fails if there is no repository, or it is malformed.
    #[expect(
        clippy::disallowed_methods,
        reason = "Git passes its arguments to a hook in variables"
    )]
    pub fn open_for_hook() -> Result<Self, GitError> {
        let current = Path::new(".");
        let Some(git_dir) = std::env::var_os("GIT_DIR").filter(|path| !path.is_empty()) else {
            return Self::discover(current);
        };
        let root =
            std::env::var_os("GIT_WORK_TREE").map_or_else(|| current.to_owned(), PathBuf::from);
        let no_repository = |_| GitError::NoRepository(root.clone());
        let git_dir = std::path::absolute(git_dir).map_err(no_repository)?;
        Self::open(&git_dir, root.canonicalize().map_err(no_repository)?)
    }

    /// Opens a repository. Its own configuration is untrusted (`gix::sec::Trust::Reduced`).
    fn open(git_dir: &Path, root: PathBuf) -> Result<Self, GitError> {
        directory::check(git_dir)?;
        let mut permissions = gix::open::Permissions::all();
        // `gix` would run `git` to find the configuration of the Git installation and, on Windows, that of the system.
        permissions.config.git_binary = false;
        permissions.config.system = cfg!(unix);
        let options = gix::open::Options::default()
            .permissions(permissions)
            .with(gix::sec::Trust::Reduced)
            .open_path_as_is(true)
            .config_overrides([LARGEST_OBJECT, NO_REPLACEMENT]);
        let repository = options.open(git_dir).and_then(|git| {
            let mut git = git.to_thread_local();
            git.set_workdir(root.clone())?;
            git.object_cache_size_if_unset(16 << 20);
            Ok(git)
        });
        match repository {
            Ok(git) => Ok(Self {
                git,
                root,
                visited: Cell::new(0),
            }),
            Err(source) => Err(GitError::Read {
                part: git_dir.shown(),
                root,
                source: Box::new(source),
            }),
        }
    }

    /// Returns the root of the work tree, with symbolic links resolved.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the commit that a revision such as `HEAD~1` names; `None` if there is no such commit.
    pub fn commit(&self, revision: &str) -> Option<ObjectId> {
        let object = self.git.rev_parse_single(revision).ok()?.object().ok()?;
        Some(object.peel_to_commit().ok()?.id)
    }

    /// Returns the full names of the references that a revision such as `main~1` may mean, if they are different
    /// commits; otherwise returns none. A full name, such as `refs/heads/main`, means only itself.
    pub fn ambiguous_references(&self, revision: &str) -> Vec<String> {
        const PREFIXES: [&str; 4] = ["refs/", "refs/tags/", "refs/heads/", "refs/remotes/"];
        let end = revision.find(['~', '^', ':']).unwrap_or(revision.len());
        let name = revision[..end].split("@{").next().unwrap_or_default();
        if name == "HEAD" || name.is_empty() || self.reference(name).is_some() {
            return Vec::new();
        }
        let names = PREFIXES.map(|prefix| format!("{prefix}{name}")).into_iter();
        let names = names.chain([format!("refs/remotes/{name}/HEAD")]);
        let found = names.filter_map(|name| Some((self.reference(&name)?, name)));
        let found: Vec<_> = found.collect();
        if found.iter().all(|(id, _)| *id == found[0].0) {
            return Vec::new();
        }
        found.into_iter().map(|(_, name)| name).collect()
    }

    /// Returns the commit, or other object, of a reference by its full name.
    fn reference(&self, name: &str) -> Option<ObjectId> {
        if !name.starts_with("refs/") {
            return None;
        }
        let mut reference = self.git.try_find_reference(name).ok()??;
        (reference.name().as_bstr() == name)
            .then(|| reference.peel_to_id().ok())
            .flatten()
            .map(gix::Id::detach)
    }

    /// Returns whether a revision such as `717db92` names both a reference, which takes precedence, and another commit
    /// by the beginning of its hash.
    pub fn is_ambiguous(&self, revision: &str) -> bool {
        let name = revision.split(['~', '^', '@', ':']).next();
        let name = name.unwrap_or_default();
        let by_hash = || {
            let prefix = gix::hash::Prefix::from_hex(name).ok()?;
            self.git.objects.lookup_prefix(prefix, None).ok()??.ok()
        };
        let by_hash = by_hash().filter(|id| self.has_commit(*id));
        by_hash.is_some_and(|id| self.commit(name) != Some(id))
    }

    /// Returns the content of a file in a commit, which may be a plain value; `None` if the commit has no
    /// regular file at this path.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed, or the file was never fetched.
    pub fn file_at(
        &self,
        commit: ObjectId,
        path: &Path,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, GitError> {
        let entry = self.entry_at(commit, path)?;
        match entry.filter(|(mode, _)| mode.is_blob()) {
            Some((_, id)) => self.blob(id).map(Some),
            None => Ok(None),
        }
    }

    /// Returns mode and hash of a path in a commit; `None` if the commit has no such path, for example because it is in
    /// a submodule.
    fn entry_at(
        &self,
        commit: ObjectId,
        path: &Path,
    ) -> Result<Option<(EntryMode, ObjectId)>, GitError> {
        let tree = self.tree_of(commit)?;
        let is_submodule = |above: &Path| {
            let entry = tree.lookup_entry_by_path(above).ok().flatten();
            entry.is_some_and(|entry| entry.mode().is_commit())
        };
        match tree.lookup_entry_by_path(path) {
            Ok(entry) => Ok(entry.map(|entry| (entry.mode(), entry.object_id()))),
            Err(_) if path.ancestors().skip(1).any(is_submodule) => Ok(None),
            Err(error) => Err(self.read_error(&path.shown(), error)),
        }
    }

    /// Returns whether the references are in the format `reftable`, which cannot be read.
    pub fn has_reftable(&self) -> bool {
        let format = self.git.config_snapshot().string("extensions.refStorage");
        format.is_some_and(|format| format.starts_with(b"reftable"))
    }

    /// Returns whether this is a shallow clone, which lacks older commits.
    pub fn is_shallow(&self) -> bool {
        let shallow = self.git.shallow_commits().ok().flatten();
        shallow.is_some_and(|ends| !ends.is_empty())
    }

    /// Returns the content of a blob, which may be a plain value.
    ///
    /// # Errors
    ///
    /// Fails if the blob is missing or was not fetched, is malformed, or is above the size limit.
    pub fn blob(&self, id: ObjectId) -> Result<Zeroizing<Vec<u8>>, GitError> {
        if !self.git.has_object(id) && self.is_partial() {
            return Err(self.not_fetched(id));
        }
        let blob = self.git.find_blob(id);
        let mut blob = blob.map_err(|error| self.read_error(&id, error))?;
        Ok(Zeroizing::new(blob.take_data()))
    }

    fn tree_of(&self, commit: ObjectId) -> Result<gix::Tree<'_>, GitError> {
        let tree = self.git.find_commit(commit).and_then(|found| found.tree());
        tree.map_err(|error| {
            if self.is_partial() {
                self.not_fetched(commit)
            } else {
                self.read_error(&commit, error)
            }
        })
    }

    fn not_fetched(&self, id: ObjectId) -> GitError {
        GitError::NotFetched {
            root: self.root.clone(),
            id: id.to_string(),
        }
    }

    /// Returns whether this is a partial clone, which lacks objects that Git fetches when needed.
    fn is_partial(&self) -> bool {
        let packs = self.git.objects.store_ref().path().join("pack");
        let files = std::fs::read_dir(packs).into_iter().flatten().flatten();
        files
            .map(|file| file.path())
            .any(|path| path.extension().is_some_and(|end| end == "promisor"))
    }

    /// Returns the path of a file from the root, or `None` if it is outside the work tree. The file
    /// need not exist.
    pub fn path_in_work_tree(&self, file: &Path) -> Option<PathBuf> {
        Some(to_path(self.git_path(file)?.as_ref()))
    }

    /// Returns the path of a file from the root as Git stores it. Resolves symbolic links in its
    /// directory; the file need not exist.
    fn git_path(&self, file: &Path) -> Option<BString> {
        let file = std::path::absolute(file).ok()?;
        let mut above = file.parent()?.ancestors();
        let (above, resolved) =
            above.find_map(|above| Some((above, above.canonicalize().ok()?)))?;
        let resolved = resolved.join(file.strip_prefix(above).ok()?);
        to_git_path(resolved.strip_prefix(&self.root).ok()?)
    }

    fn read_error(&self, part: &dyn std::fmt::Display, source: impl Into<gix::Error>) -> GitError {
        GitError::Read {
            part: part.to_string(),
            root: self.root.clone(),
            source: Box::new(source.into()),
        }
    }
}

/// Converts a path to the form that Git stores; `None` for a name that Git cannot store.
fn to_git_path(path: &Path) -> Option<BString> {
    let path = gix::path::into_bstr(path).ok()?;
    Some(gix::path::to_unix_separators_on_windows(path).into_owned())
}

/// Converts a path from the form that Git stores to the form of this system. On Windows, no file can have a path that
/// is not UTF-8.
fn to_path(path: &BStr) -> PathBuf {
    let native = gix::path::from_bstr(path).map(std::borrow::Cow::into_owned);
    native.unwrap_or_else(|_| PathBuf::from(path.to_string()))
}
