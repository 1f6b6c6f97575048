//! Finds when sealed values were committed.
//!
//! One pass over the history dates all values in a repository. As in `git blame`, a value is passed
//! from a commit to a parent that also contains it, until no parent does. Encryption never produces
//! the same ciphertext twice, so a value is identified by its ciphertext alone: on any line, and under a
//! new name if a commit renamed the file.

use std::collections::BTreeMap;
use std::path::Path;

use gix::ObjectId;
use gix::bstr::{BStr, ByteSlice as _};
use jiff::Timestamp;
use memchr::memmem;

use super::pending::{CommitQueue, PendingFiles, add_pending, by_work_tree, leads_to_pending};
use super::trees::{Change, EntryPair};
use super::{GitError, Repository};

/// A sealed value and the file that contains it.
#[derive(Debug, Clone, Copy)]
pub struct SealedValue<'a> {
    /// The file that contains the value.
    pub file: &'a Path,
    /// The ciphertext of the value.
    pub text: &'a str,
}

/// Returns when each value was committed; `None` if a value is not committed, or its commit cannot be found, for
/// example in a shallow clone.
pub fn commit_times(values: &[SealedValue<'_>]) -> Vec<Option<Timestamp>> {
    let mut times = vec![None; values.len()];
    for (root, indices) in by_work_tree(values.iter().map(|value| value.file)) {
        let Ok(repository) = Repository::discover(&root) else {
            continue;
        };
        let mut search = Search {
            repository: &repository,
            values,
            queue: CommitQueue::default(),
            times: &mut times,
        };
        // After an error, values without a date keep `None`.
        let _ = search.run(&indices);
    }
    times
}

struct Search<'a> {
    repository: &'a Repository,
    values: &'a [SealedValue<'a>],
    /// The commits to visit, with the values that each contains.
    queue: CommitQueue,
    times: &'a mut [Option<Timestamp>],
}

impl Search<'_> {
    fn run(&mut self, indices: &[usize]) -> Result<(), GitError> {
        let Some(head) = self.repository.commit("HEAD") else {
            return Ok(());
        };
        let undated = self.committed_values(head, indices)?;
        self.queue.add(self.repository, head, undated)?;
        while let Some((seconds, commit, mut undated)) = self.queue.pop() {
            for parent in self.repository.parents(commit)? {
                if !undated.is_empty() {
                    undated = self.pass_to_parent(undated, parent, commit)?;
                }
            }
            if self.repository.lacks_parents(commit) {
                // An older commit, which a shallow clone lacks, may have introduced the values.
                continue;
            }
            let time = Timestamp::from_second(seconds).ok();
            for i in undated.into_values().flatten() {
                self.times[i] = time;
            }
        }
        Ok(())
    }

    /// Returns the values that the commit contains.
    fn committed_values(
        &self,
        head: ObjectId,
        indices: &[usize],
    ) -> Result<PendingFiles, GitError> {
        let mut undated = PendingFiles::new();
        for i in indices {
            if let Some(path) = self.repository.git_path(self.values[*i].file) {
                undated.entry(path).or_default().push(*i);
            }
        }
        let files = self
            .repository
            .blobs(head, &|path, _| leads_to_pending(&undated, path))?;
        let mut committed = PendingFiles::new();
        for (path, blob) in files {
            if let Some(values) = undated.remove(&path) {
                let (contained, _) = self.split(values, blob)?;
                add_pending(&mut committed, [(path, contained)]);
            }
        }
        Ok(committed)
    }

    /// Passes values that the parent contains to the parent, and returns the others.
    fn pass_to_parent(
        &mut self,
        mut undated: PendingFiles,
        parent: ObjectId,
        commit: ObjectId,
    ) -> Result<PendingFiles, GitError> {
        let is_wanted = |path: &BStr, _: &_| leads_to_pending(&undated, path);
        let changes = self.repository.changes(Some(parent), commit, &is_wanted)?;
        let removed_changes = self.removed_files(&changes, parent, commit)?;
        let removed = RemovedFiles::from_changes(&removed_changes);
        let (mut for_parent, mut remaining) = (Vec::new(), PendingFiles::new());
        for Change {
            path,
            before,
            after,
        } in &changes
        {
            let before: Vec<_> = match (before, after) {
                (_, None) => continue,
                (None, Some(after)) => removed.sources_of_rename(path.as_bstr(), after.id),
                (Some(before), Some(_)) if before.mode.is_blob() => {
                    vec![(path.as_bstr(), before.id)]
                }
                (Some(_), Some(_)) => Vec::new(),
            };
            let Some(mut values) = undated.remove(path) else {
                continue;
            };
            for (path, blob) in before {
                let (contained, missing) = self.split(values, blob)?;
                for_parent.push((path.to_owned(), contained));
                values = missing;
            }
            remaining.insert(path.clone(), values);
        }
        // The remaining values are in unchanged files. These are the majority of the values, and are passed to the
        // parent together.
        add_pending(&mut undated, for_parent);
        self.queue.add(self.repository, parent, undated)?;
        remaining.retain(|_, values| !values.is_empty());
        Ok(remaining)
    }

    /// Returns the files that a commit changed or removed, if the commit also added a file with undated values, which
    /// may be a removed file under a new name.
    fn removed_files(
        &self,
        changes: &[Change],
        parent: ObjectId,
        commit: ObjectId,
    ) -> Result<Vec<Change>, GitError> {
        if changes.iter().all(|change| change.before.is_some()) {
            return Ok(Vec::new());
        }
        let is_removed = |_: &BStr, pair: &EntryPair| pair.before.is_some();
        self.repository.changes(Some(parent), commit, &is_removed)
    }

    /// Splits values into those that a blob contains and the others.
    fn split(
        &self,
        values: Vec<usize>,
        blob: ObjectId,
    ) -> Result<(Vec<usize>, Vec<usize>), GitError> {
        let bytes = self.repository.blob(blob)?;
        let is_contained = |i: &usize| {
            let text = longest_line(self.values[*i].text);
            !text.is_empty() && memmem::find(&bytes, text.as_bytes()).is_some()
        };
        Ok(values.into_iter().partition(is_contained))
    }
}

/// Returns the longest line of a value, to search for: a file may wrap a value over several lines.
fn longest_line(text: &str) -> &str {
    let lines = text.split_ascii_whitespace();
    lines.max_by_key(|line| line.len()).unwrap_or_default()
}

/// The files that a commit removed. An added file may be one of these under a new name.
struct RemovedFiles<'a> {
    by_blob: BTreeMap<ObjectId, Vec<&'a BStr>>,
    by_name: BTreeMap<&'a [u8], Vec<(&'a BStr, ObjectId)>>,
}

impl<'a> RemovedFiles<'a> {
    fn from_changes(changes: &'a [Change]) -> Self {
        let (mut by_blob, mut by_name) = (BTreeMap::new(), BTreeMap::new());
        for change in changes {
            if let Change {
                path,
                before: Some(before),
                after: None,
            } = change
                && before.mode.is_blob()
            {
                let path = path.as_bstr();
                by_blob.entry(before.id).or_insert_with(Vec::new).push(path);
                let same_name = by_name.entry(file_name(path)).or_insert_with(Vec::new);
                same_name.push((path, before.id));
            }
        }
        Self { by_blob, by_name }
    }

    /// Returns removed files with the same bytes or, if there are none, with the same name in
    /// another directory.
    fn sources_of_rename(&self, path: &BStr, blob: ObjectId) -> Vec<(&'a BStr, ObjectId)> {
        if let Some(paths) = self.by_blob.get(&blob) {
            return paths.iter().map(|path| (*path, blob)).collect();
        }
        self.by_name
            .get(file_name(path))
            .cloned()
            .unwrap_or_default()
    }
}

fn file_name(path: &BStr) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::TestRepository;
    use super::*;

    /// The test fails if each value takes a separate pass: the time would be proportional to the product of values and
    /// commits.
    #[test]
    fn dates_all_values_of_a_tree_in_one_pass() {
        let fixture = TestRepository::new();
        let directory = fixture.root().join("directory");
        fs::create_dir(&directory).unwrap();
        let (files, texts): (Vec<_>, Vec<_>) = (0..50)
            .map(|i| (directory.join(format!("{i}.yaml")), format!("sealed-{i}")))
            .unzip();
        for commit in 0..3 {
            for (file, text) in files.iter().zip(&texts) {
                fs::write(file, format!("a: {text}\ncommit: {commit}\n")).unwrap();
            }
            fixture.commit("x");
        }
        let values = files.iter().zip(&texts);
        let values: Vec<_> = values
            .map(|(file, text)| SealedValue { file, text })
            .collect();
        let visited = |count: usize| {
            let repository = Repository::discover(fixture.root()).unwrap();
            let mut times = vec![None; count];
            let mut search = Search {
                repository: &repository,
                values: &values,
                queue: CommitQueue::default(),
                times: &mut times,
            };
            search.run(&(0..count).collect::<Vec<_>>()).unwrap();
            assert!(times.iter().all(Option::is_some), "{count}");
            repository.visited.get()
        };
        let visited_for_one = visited(1);
        assert!(visited_for_one > 0);
        for count in [10, 50] {
            assert_eq!(visited(count), visited_for_one, "{count}");
        }
    }
}
