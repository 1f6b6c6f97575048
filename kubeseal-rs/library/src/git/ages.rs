//! Finds when sealed values were committed.
//!
//! One pass over the history dates all values in a repository. As in `git blame`, a value is passed
//! from a commit to a parent that also contains it, until no parent does. Encryption never produces
//! the same ciphertext twice, so a value is identified by its ciphertext alone: on any line, and under a
//! new name if a commit renamed the file.

use std::collections::{BTreeMap, BinaryHeap};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice as _};
use jiff::Timestamp;
use memchr::memmem;

use super::trees::{Change, EntryPair};
use super::{GitError, Repository, work_tree};

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
    for (root, indices) in by_work_tree(values) {
        let Ok(repository) = Repository::discover(&root) else {
            continue;
        };
        let mut search = Search {
            repository: &repository,
            values,
            queue: BinaryHeap::new(),
            undated: BTreeMap::new(),
            times: &mut times,
        };
        // After an error, values without a date keep `None`.
        let _ = search.run(&indices);
    }
    times
}

fn by_work_tree(values: &[SealedValue<'_>]) -> BTreeMap<PathBuf, Vec<usize>> {
    let mut roots = BTreeMap::new();
    let mut by_root: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
    for (i, value) in values.iter().enumerate() {
        let directory = value.file.parent().unwrap_or(Path::new(""));
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

/// Values whose commit has not been found yet, by the path of their file.
type UndatedValues = BTreeMap<BString, Vec<usize>>;

struct Search<'a> {
    repository: &'a Repository,
    values: &'a [SealedValue<'a>],
    /// The commits to visit, newest first.
    queue: BinaryHeap<(i64, ObjectId)>,
    /// The values that each commit in the queue contains.
    undated: BTreeMap<ObjectId, UndatedValues>,
    times: &'a mut [Option<Timestamp>],
}

impl Search<'_> {
    fn run(&mut self, indices: &[usize]) -> Result<(), GitError> {
        let Some(head) = self.repository.commit("HEAD") else {
            return Ok(());
        };
        let undated = self.committed_values(head, indices)?;
        self.pass_to_commit(undated, head)?;
        while let Some((seconds, commit)) = self.queue.pop() {
            // A commit with a wrong date can be queued twice.
            let Some(mut undated) = self.undated.remove(&commit) else {
                continue;
            };
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
    ) -> Result<UndatedValues, GitError> {
        let mut undated = UndatedValues::new();
        for i in indices {
            if let Some(path) = self.repository.git_path(self.values[*i].file) {
                undated.entry(path).or_default().push(*i);
            }
        }
        let files = self
            .repository
            .blobs(head, &|path, _| leads_to_values(&undated, path))?;
        let mut committed = UndatedValues::new();
        for (path, blob) in files {
            if let Some(values) = undated.remove(&path) {
                let (contained, _) = self.split(values, blob)?;
                add_undated(&mut committed, [(path, contained)]);
            }
        }
        Ok(committed)
    }

    /// Passes values that the parent contains to the parent, and returns the others.
    fn pass_to_parent(
        &mut self,
        mut undated: UndatedValues,
        parent: ObjectId,
        commit: ObjectId,
    ) -> Result<UndatedValues, GitError> {
        let is_wanted = |path: &BStr, _: &_| leads_to_values(&undated, path);
        let changes = self.repository.changes(Some(parent), commit, &is_wanted)?;
        let removed_changes = self.removed_files(&changes, parent, commit)?;
        let removed = RemovedFiles::from_changes(&removed_changes);
        let (mut for_parent, mut remaining) = (Vec::new(), UndatedValues::new());
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
        add_undated(&mut undated, for_parent);
        self.pass_to_commit(undated, parent)?;
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

    fn pass_to_commit(&mut self, values: UndatedValues, to: ObjectId) -> Result<(), GitError> {
        if values.is_empty() {
            return Ok(());
        }
        if let Some(undated) = self.undated.get_mut(&to) {
            add_undated(undated, values);
            return Ok(());
        }
        let to_error = |error| self.repository.read_error(&to, error);
        let commit = self.repository.git.find_commit(to).map_err(to_error)?;
        let seconds = commit.time().map_err(to_error)?.seconds;
        self.queue.push((seconds, to));
        self.undated.insert(to, values);
        Ok(())
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

fn add_undated(undated: &mut UndatedValues, more: impl IntoIterator<Item = (BString, Vec<usize>)>) {
    for (path, values) in more {
        if !values.is_empty() {
            undated.entry(path).or_default().extend(values);
        }
    }
}

/// Returns whether the path is a file with undated values, or a directory above one.
fn leads_to_values(undated: &UndatedValues, path: &BStr) -> bool {
    let is_above = || {
        let prefix = [path, "/".as_bytes()].concat();
        let mut next = undated.range(BString::from(prefix.clone())..);
        next.next()
            .is_some_and(|(file, _)| file.starts_with(&prefix))
    };
    undated.contains_key(path) || is_above()
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
                queue: BinaryHeap::new(),
                undated: BTreeMap::new(),
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
