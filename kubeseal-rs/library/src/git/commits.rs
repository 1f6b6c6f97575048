//! Reads branches, commits, and the files that commits add or change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice as _};
use gix::refs::TargetRef;
use gix::revision::walk::Sorting;
use gix::traverse::commit::simple::CommitTimeOrder;

use super::trees::{Change, Entry, EntryPair, MAX_ENTRIES};
use super::{GitError, Repository, to_path};

/// A local or remote branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// The name, without `refs/heads/` or `refs/remotes/`.
    pub name: String,
    /// The newest commit.
    pub commit: ObjectId,
}

/// The files, symbolic links and submodules in a commit, by their path from the root.
#[derive(Debug, Default)]
pub struct CommitTree {
    /// The regular files, with the hash of their content.
    pub files: Vec<(String, ObjectId)>,
    /// The symbolic links, with the hash of their target.
    pub links: BTreeMap<PathBuf, ObjectId>,
    /// The submodules, with their commit.
    pub submodules: Vec<(PathBuf, ObjectId)>,
}

/// A version of a file, and the commit that introduced it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The hash of the commit.
    pub commit: String,
    /// The author, with the e-mail address in angle brackets.
    pub author: String,
    /// The author date, in RFC 3339 format if possible.
    pub at: String,
    /// The path of the file, from the root.
    pub path: String,
    /// The hash of the file's content.
    pub blob: ObjectId,
}

impl Repository {
    /// Returns all branches. Symbolic references are left out, since their target is listed under
    /// its own name.
    ///
    /// # Errors
    ///
    /// Fails if a reference is malformed, or its object cannot be read.
    pub fn branches(&self) -> Result<Vec<Branch>, GitError> {
        let mut branches = Vec::new();
        for prefix in ["refs/heads/", "refs/remotes/"] {
            for (name, commit) in self.references(prefix)? {
                let name = name.strip_prefix(prefix).unwrap_or(&name).to_owned();
                branches.push(Branch { name, commit });
            }
        }
        Ok(branches)
    }

    /// Returns names and commits of the references with this prefix. Symbolic references, and
    /// references to anything but a commit, are left out.
    fn references(&self, prefix: &str) -> Result<Vec<(String, ObjectId)>, GitError> {
        let to_error = |error| self.read_error(&"references", error);
        let references = self.git.references().map_err(to_error)?;
        let mut commits = Vec::new();
        for reference in references.all().map_err(to_error)? {
            let mut reference = reference.map_err(to_error)?;
            let name = reference.name().as_bstr().to_string();
            let is_symbolic = matches!(reference.target(), TargetRef::Symbolic(_));
            if name.starts_with(prefix) && !is_symbolic {
                let to_error = |error| self.read_error(&name, error);
                let id = reference.peel_to_id().map_err(to_error)?.detach();
                let object = self.git.find_header(id).map_err(to_error)?;
                if object.kind().is_commit() {
                    commits.push((name, id));
                }
            }
        }
        Ok(commits)
    }

    /// Returns paths and hashes of the files in a commit, without symbolic links, sorted by path.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed, a partial clone has not fetched an object, or a limit is exceeded.
    pub fn files(&self, commit: ObjectId) -> Result<Vec<(String, ObjectId)>, GitError> {
        Ok(self.tree(commit)?.files)
    }

    /// Returns the files in a commit, sorted by path, its symbolic links and its submodules.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed, a partial clone has not fetched an object, or a limit is exceeded.
    pub fn tree(&self, commit: ObjectId) -> Result<CommitTree, GitError> {
        let mut tree = CommitTree::default();
        for change in self.changes(None, commit, &|_, _| true)? {
            let path = change.path;
            match change.after {
                Some(Entry { mode, id }) if mode.is_commit() => {
                    tree.submodules.push((to_path(path.as_ref()), id));
                }
                Some(Entry { mode, id }) if mode.is_link() => {
                    tree.links.insert(to_path(path.as_ref()), id);
                }
                Some(Entry { mode, id }) if mode.is_blob() => {
                    tree.files.push((path.to_string(), id));
                }
                _ => {}
            }
        }
        tree.files.sort();
        Ok(tree)
    }

    /// Returns paths and hashes of the files in a commit that `is_wanted` selects, without symbolic links.
    pub(super) fn blobs(
        &self,
        commit: ObjectId,
        is_wanted: &dyn Fn(&BStr, &EntryPair) -> bool,
    ) -> Result<Vec<(BString, ObjectId)>, GitError> {
        let files = self.changes(None, commit, is_wanted)?.into_iter();
        let blob = |entry: Entry| entry.mode.is_blob().then_some(entry.id);
        let blobs = files.filter_map(|file| Some((file.path, file.after.and_then(blob)?)));
        Ok(blobs.collect())
    }

    /// Returns every version of every file and symbolic link that is reachable from HEAD or any reference, with the
    /// commit that introduced it, newest first. `is_wanted` selects files by path.
    ///
    /// # Errors
    ///
    /// Fails if the repository is malformed, a partial clone has not fetched an object, or a limit is exceeded.
    pub fn versions(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<Version>, GitError> {
        let head = self.git.head().and_then(|mut head| {
            let commit = head.try_peel_to_id()?;
            Ok(commit.map(gix::Id::detach))
        });
        let head = head.map_err(|error| self.read_error(&"HEAD", error))?;
        let mut tips: BTreeSet<ObjectId> = head.into_iter().collect();
        tips.extend(self.references("refs/")?.into_iter().map(|(_, id)| id));
        let mut versions = Vec::new();
        for id in self.history(tips)? {
            let mut introduced = BTreeSet::new();
            for change in self.changes_of(id)? {
                if let Some((path, blob)) = introduced_by(&change)
                    && is_wanted(&path)
                {
                    introduced.insert((path, blob));
                }
            }
            if !introduced.is_empty() {
                self.add_versions(id, introduced, &mut versions)?;
            }
            if versions.len() > MAX_ENTRIES {
                return Err(self.too_many_entries(&BString::default()));
            }
        }
        Ok(versions)
    }

    /// Returns these commits and all their ancestors, newest first.
    pub(super) fn history(
        &self,
        tips: impl IntoIterator<Item = ObjectId>,
    ) -> Result<Vec<ObjectId>, GitError> {
        let newest_first = Sorting::ByCommitTime(CommitTimeOrder::NewestFirst);
        let walk = self.git.rev_walk(tips).sorting(newest_first).all();
        let commits = walk.and_then(|commits| {
            let ids = commits.map(|commit| Ok(commit?.id));
            ids.collect::<Result<Vec<_>, gix::Error>>()
        });
        commits.map_err(|error| self.read_error(&"history", error))
    }

    /// Returns the parents of a commit that the repository contains. A shallow clone lacks older
    /// commits.
    pub(super) fn parents(&self, commit: ObjectId) -> Result<Vec<ObjectId>, GitError> {
        let found_commit = self.git.find_commit(commit);
        let found_commit = found_commit.map_err(|error| self.read_error(&commit, error))?;
        if self.lacks_parents(commit) {
            return Ok(Vec::new());
        }
        Ok(found_commit.parent_ids().map(gix::Id::detach).collect())
    }

    /// Returns whether a shallow clone lacks the parents of a commit.
    pub(super) fn lacks_parents(&self, commit: ObjectId) -> bool {
        let shallow = self.git.shallow_commits().ok().flatten();
        shallow.is_some_and(|ends| ends.contains(&commit))
    }

    /// Returns the differences between a commit and each of its parents; for a commit without parents, all of its
    /// entries.
    fn changes_of(&self, commit: ObjectId) -> Result<Vec<Change>, GitError> {
        let parents = self.parents(commit)?;
        if parents.is_empty() {
            return self.changes(None, commit, &|_, _| true);
        }
        let mut changes = Vec::new();
        for parent in parents {
            changes.extend(self.changes(Some(parent), commit, &|_, _| true)?);
        }
        Ok(changes)
    }

    /// Returns the files, symbolic links and submodules that differ between two commits, or all of the second commit if
    /// `from` is `None`. `is_wanted` selects entries to return and directories to visit.
    pub(super) fn changes(
        &self,
        from: Option<ObjectId>,
        to: ObjectId,
        is_wanted: &dyn Fn(&BStr, &EntryPair) -> bool,
    ) -> Result<Vec<Change>, GitError> {
        let from = from.map(|from| self.tree_of(from)).transpose()?;
        let to = self.tree_of(to)?;
        self.compare_trees(from.map(|tree| tree.id), Some(to.id), is_wanted)
    }

    fn add_versions(
        &self,
        id: ObjectId,
        introduced: BTreeSet<(String, ObjectId)>,
        versions: &mut Vec<Version>,
    ) -> Result<(), GitError> {
        let commit = self.git.find_commit(id);
        let commit = commit.map_err(|error| self.read_error(&id, error))?;
        let author = commit
            .author()
            .map_err(|error| self.read_error(&id, error))?;
        let time = author.time().unwrap_or_default();
        for (path, blob) in introduced {
            versions.push(Version {
                commit: id.to_string(),
                author: format!(
                    "{} <{}>",
                    author.name.trim().as_bstr(),
                    author.email.trim().as_bstr()
                ),
                at: time.format_or_unix(gix::date::time::format::ISO8601_STRICT),
                path,
                blob,
            });
        }
        Ok(())
    }
}

/// Returns the path and hash of a file or symbolic link that a change adds or modifies.
fn introduced_by(change: &Change) -> Option<(String, ObjectId)> {
    let after = change.after?;
    let is_file = after.mode.is_blob_or_symlink();
    is_file.then(|| (change.path.to_string(), after.id))
}
