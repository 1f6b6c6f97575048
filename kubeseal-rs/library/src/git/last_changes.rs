//! Finds the last commit that changed each file, for all files in one pass over the history.

use std::path::Path;

use gix::ObjectId;
use gix::bstr::ByteSlice as _;
use jiff::Timestamp;

use super::pending::{CommitQueue, PendingFiles, by_work_tree, leads_to_pending};
use super::{GitError, Repository};

/// The maximum number of commits that are visited in a repository. Lower in tests.
const MAX_COMMITS: usize = if cfg!(test) { 20 } else { 5_000 };

/// The number of hexadecimal digits of [`FileCommit::hash`].
const HASH_DIGITS: usize = 10;

/// The last change of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastChange {
    /// The commit that changed the file last.
    Commit(FileCommit),
    /// The commit is older than the last 5,000 commits, or than the oldest commit of a shallow clone.
    Older,
}

/// The commit that changed a file last. Its author chooses every field but the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCommit {
    /// The first ten digits of the hash.
    pub hash: String,
    /// The name of the author. Bytes that are not UTF-8 are replaced.
    pub author: String,
    /// The time of the commit; `None` if it cannot be represented.
    pub at: Option<Timestamp>,
}

/// Returns the last change of each file; `None` if the file is not committed or not in a work tree, or its repository
/// cannot be read. A commit that renames a file changes it. Follows the first parent that has the same file, as `git
/// log` does.
pub fn last_changes(files: &[&Path]) -> Vec<Option<LastChange>> {
    let mut changes = vec![None; files.len()];
    for (root, indices) in by_work_tree(files.iter().copied()) {
        let Ok(repository) = Repository::discover(&root) else {
            continue;
        };
        let mut search = Search {
            repository: &repository,
            queue: CommitQueue::default(),
            changes: &mut changes,
        };
        // After an error, the remaining files keep `None`.
        let _ = search.run(files, &indices);
    }
    changes
}

struct Search<'a> {
    repository: &'a Repository,
    /// The commits to visit, with the files whose last change is in the commit or an ancestor.
    queue: CommitQueue,
    changes: &'a mut [Option<LastChange>],
}

impl Search<'_> {
    fn run(&mut self, files: &[&Path], indices: &[usize]) -> Result<(), GitError> {
        let Some(head) = self.repository.commit("HEAD") else {
            return Ok(());
        };
        let committed = self.committed_files(head, files, indices)?;
        self.queue.add(self.repository, head, committed)?;
        for _ in 0..MAX_COMMITS {
            let Some((seconds, commit, files)) = self.queue.pop() else {
                return Ok(());
            };
            self.visit(seconds, commit, files)?;
        }
        while let Some((_, _, files)) = self.queue.pop() {
            self.set(files, &LastChange::Older);
        }
        Ok(())
    }

    /// Returns the files that the commit contains.
    fn committed_files(
        &self,
        head: ObjectId,
        files: &[&Path],
        indices: &[usize],
    ) -> Result<PendingFiles, GitError> {
        let mut wanted = PendingFiles::new();
        for i in indices {
            if let Some(path) = self.repository.git_path(files[*i]) {
                wanted.entry(path).or_default().push(*i);
            }
        }
        let is_wanted = |path: &_, _: &_| leads_to_pending(&wanted, path);
        let blobs = self.repository.blobs(head, &is_wanted)?;
        let mut committed = PendingFiles::new();
        for (path, _) in blobs {
            if let Some(indices) = wanted.remove(&path) {
                committed.insert(path, indices);
            }
        }
        Ok(committed)
    }

    /// Passes each file to the first parent that has the same file. The commit changed the others.
    fn visit(
        &mut self,
        seconds: i64,
        commit: ObjectId,
        mut files: PendingFiles,
    ) -> Result<(), GitError> {
        for parent in self.repository.parents(commit)? {
            if files.is_empty() {
                return Ok(());
            }
            let changed = self.changed_files(parent, commit, &mut files)?;
            self.queue.add(self.repository, parent, files)?;
            files = changed;
        }
        if files.is_empty() {
            return Ok(());
        }
        let change = if self.repository.lacks_parents(commit) {
            LastChange::Older
        } else {
            LastChange::Commit(self.file_commit(seconds, commit)?)
        };
        self.set(files, &change);
        Ok(())
    }

    /// Removes the files that differ between the commits from `files`, and returns them.
    fn changed_files(
        &self,
        parent: ObjectId,
        commit: ObjectId,
        files: &mut PendingFiles,
    ) -> Result<PendingFiles, GitError> {
        let is_wanted = |path: &_, _: &_| leads_to_pending(files, path);
        let changes = self.repository.changes(Some(parent), commit, &is_wanted)?;
        let mut differing = PendingFiles::new();
        for change in changes {
            if let Some(indices) = files.remove(&change.path) {
                differing.insert(change.path, indices);
            }
        }
        Ok(differing)
    }

    fn file_commit(&self, seconds: i64, id: ObjectId) -> Result<FileCommit, GitError> {
        let to_error = |error| self.repository.read_error(&id, error);
        let commit = self.repository.git.find_commit(id).map_err(to_error)?;
        let author = commit
            .author()
            .map_err(|error| self.repository.read_error(&id, error))?;
        Ok(FileCommit {
            hash: id.to_hex_with_len(HASH_DIGITS).to_string(),
            author: author.name.trim().as_bstr().to_string(),
            at: Timestamp::from_second(seconds).ok(),
        })
    }

    fn set(&mut self, files: PendingFiles, change: &LastChange) {
        for i in files.into_values().flatten() {
            self.changes[i] = Some(change.clone());
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::super::tests::TestRepository;
    use super::*;

    fn hash(fixture: &TestRepository, revision: &str) -> String {
        let length = format!("--short={HASH_DIGITS}");
        let hash = fixture.git(&["rev-parse", &length, revision]);
        hash.trim().to_owned()
    }

    fn hashes(fixture: &TestRepository, names: &[&str]) -> Vec<Option<String>> {
        let paths: Vec<_> = names.iter().map(|name| fixture.root().join(name)).collect();
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let hash = |change| match change {
            LastChange::Commit(commit) => commit.hash,
            LastChange::Older => "older".to_owned(),
        };
        let changes = last_changes(&paths).into_iter();
        changes.map(|change| change.map(hash)).collect()
    }

    #[test]
    fn finds_the_last_commit_of_each_file() {
        let fixture = TestRepository::new();
        let write = |name: &str, text: &str| fs::write(fixture.root().join(name), text).unwrap();
        write("a.yaml", "1");
        write("b.yaml", "1");
        fixture.commit("one");
        write("a.yaml", "2");
        fixture.commit("two");
        fixture.commit("three");
        write("b.yaml", "not committed");
        write("new.yaml", "not committed");
        let want = [
            Some(hash(&fixture, "HEAD~1")),
            Some(hash(&fixture, "HEAD~2")),
            None,
        ];
        assert_eq!(hashes(&fixture, &["a.yaml", "b.yaml", "new.yaml"]), want);
        fixture.git(&["mv", "a.yaml", "moved.yaml"]);
        fixture.commit("four");
        let want = [Some(hash(&fixture, "HEAD"))];
        assert_eq!(hashes(&fixture, &["moved.yaml"]), want);
    }

    #[test]
    fn a_merge_changes_only_files_that_no_parent_has() {
        let fixture = TestRepository::new();
        let write = |name: &str| fs::write(fixture.root().join(name), name).unwrap();
        write("a.yaml");
        fixture.commit("one");
        fixture.git(&["checkout", "-q", "-b", "side"]);
        write("side.yaml");
        fixture.commit("side");
        let side = hash(&fixture, "HEAD");
        fixture.git(&["checkout", "-q", "main"]);
        write("main.yaml");
        fixture.commit("two");
        fixture.git(&["merge", "-q", "--no-ff", "-m", "merge", "side"]);
        let want = [Some(side), Some(hash(&fixture, "HEAD~1"))];
        assert_eq!(hashes(&fixture, &["side.yaml", "main.yaml"]), want);
    }

    #[test]
    fn a_change_before_the_limit_of_commits_is_older() {
        let fixture = TestRepository::new();
        fs::write(fixture.root().join("a.yaml"), "1").unwrap();
        fixture.commit("one");
        for _ in 1..MAX_COMMITS {
            fixture.commit("x");
        }
        assert_ne!(hashes(&fixture, &["a.yaml"]), [Some("older".to_owned())]);
        fixture.commit("x");
        assert_eq!(hashes(&fixture, &["a.yaml"]), [Some("older".to_owned())]);
    }
}
