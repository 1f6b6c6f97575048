//! Finds entries that differ between two trees.
//!
//! A few small tree objects can expand to billions of paths, since a tree may contain the same
//! subtree many times. So the comparison visits only directories that matter to the caller, and limits
//! the number of visited entries.

use std::cmp::Ordering;
use std::iter::Peekable;

use gix::ObjectId;
use gix::bstr::{BStr, BString};
use gix::objs::TreeRefIter;
use gix::objs::tree::{EntryMode, EntryRef, name_order};

use super::{GitError, Repository};

/// The maximum number of entries that one comparison visits, each of which may be kept in memory.
/// Lower in tests, which are not optimized.
pub(super) const MAX_ENTRIES: usize = if cfg!(test) { 10_000 } else { 1_000_000 };

/// The maximum number of entries that all comparisons of a repository visit.
const MAX_ENTRIES_IN_TOTAL: usize = 5 * MAX_ENTRIES;

/// The number of bytes of a path that count as one more entry.
const PATH_BYTES_PER_ENTRY: usize = 256;

/// The number of bytes of a tree object that count as one more entry.
const TREE_BYTES_PER_ENTRY: usize = 64 << 10;

/// A file, symbolic link, submodule or directory in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) mode: EntryMode,
    pub(super) id: ObjectId,
}

/// An entry as it is in two trees; `None` for a tree without it.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryPair {
    pub(super) before: Option<Entry>,
    pub(super) after: Option<Entry>,
}

/// A file, symbolic link or submodule that differs.
#[derive(Debug)]
pub(super) struct Change {
    /// The path from the root.
    pub(super) path: BString,
    pub(super) before: Option<Entry>,
    pub(super) after: Option<Entry>,
}

/// A directory whose content differs.
struct Directory {
    path: BString,
    before: Option<ObjectId>,
    after: Option<ObjectId>,
}

impl Repository {
    /// Returns the files, symbolic links and submodules that differ between two trees. `None` is an empty tree.
    /// `is_wanted` selects files to return and directories to visit.
    pub(super) fn compare_trees(
        &self,
        before: Option<ObjectId>,
        after: Option<ObjectId>,
        is_wanted: &dyn Fn(&BStr, &EntryPair) -> bool,
    ) -> Result<Vec<Change>, GitError> {
        let path = BString::default();
        let mut directories = vec![Directory {
            path,
            before,
            after,
        }];
        let (mut changes, mut visited) = (Vec::new(), 0);
        while let Some(directory) = directories.pop() {
            let (before, after) = (
                self.tree_bytes(directory.before)?,
                self.tree_bytes(directory.after)?,
            );
            self.count(
                &mut visited,
                (before.len() + after.len()) / TREE_BYTES_PER_ENTRY,
                &directory.path,
            )?;
            let kind = self.git.object_hash();
            let mut before = TreeRefIter::from_bytes(&before, kind).peekable();
            let mut after = TreeRefIter::from_bytes(&after, kind).peekable();
            while let Some((name, pair)) = self.next_pair(&mut before, &mut after)? {
                if pair.before == pair.after {
                    continue;
                }
                let path = join(&directory.path, name);
                self.count(
                    &mut visited,
                    1 + path.len() / PATH_BYTES_PER_ENTRY,
                    &directory.path,
                )?;
                if is_wanted(path.as_ref(), &pair) {
                    add_pair(path, pair, &mut directories, &mut changes);
                }
            }
        }
        Ok(changes)
    }

    /// Counts visited entries, and fails above a limit.
    fn count(&self, visited: &mut usize, more: usize, directory: &BString) -> Result<(), GitError> {
        *visited += more;
        self.visited.set(self.visited.get() + more);
        if *visited > MAX_ENTRIES || self.visited.get() > MAX_ENTRIES_IN_TOTAL {
            return Err(self.too_many_entries(directory));
        }
        Ok(())
    }

    pub(super) fn too_many_entries(&self, directory: &BString) -> GitError {
        GitError::TooManyEntries {
            root: self.root.clone(),
            directory: directory.to_string(),
        }
    }

    /// Returns the content of a tree object; empty for no tree.
    fn tree_bytes(&self, tree: Option<ObjectId>) -> Result<Vec<u8>, GitError> {
        let Some(id) = tree.filter(|id| !id.is_empty_tree()) else {
            return Ok(Vec::new());
        };
        if !self.git.has_object(id) && self.is_partial() {
            return Err(self.not_fetched(id));
        }
        let tree = self.git.find_tree(id);
        let mut tree = tree.map_err(|error| self.read_error(&id, error))?;
        Ok(tree.take_data())
    }

    /// Returns the next entry of two trees, which are both sorted.
    fn next_pair<'a>(
        &self,
        before: &mut Peekable<TreeRefIter<'a>>,
        after: &mut Peekable<TreeRefIter<'a>>,
    ) -> Result<Option<(&'a BStr, EntryPair)>, GitError> {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return Ok(None),
            (Some(Ok(old)), Some(Ok(new))) => compare_entries(old, new),
            (Some(Err(_)), _) | (_, None) => Ordering::Less,
            (_, Some(_)) => Ordering::Greater,
        };
        let to_error = |error| self.read_error(&"a tree", error);
        let old = order.is_le().then(|| before.next()).flatten();
        let old = old.transpose().map_err(to_error)?;
        let new = order.is_ge().then(|| after.next()).flatten();
        let new = new.transpose().map_err(to_error)?;
        let name = old.as_ref().or(new.as_ref()).map(|entry| entry.filename);
        let pair = EntryPair {
            before: old.map(entry),
            after: new.map(entry),
        };
        Ok(name.map(|name| (name, pair)))
    }
}

fn compare_entries(old: &EntryRef<'_>, new: &EntryRef<'_>) -> Ordering {
    let (is_old_tree, is_new_tree) = (old.mode.is_tree(), new.mode.is_tree());
    name_order(old.filename, is_old_tree, new.filename, is_new_tree)
}

fn entry(entry: EntryRef<'_>) -> Entry {
    Entry {
        mode: entry.mode,
        id: entry.oid.to_owned(),
    }
}

/// Adds the directories of a pair to the directories to visit, and any other entry to the changes.
fn add_pair(
    path: BString,
    pair: EntryPair,
    directories: &mut Vec<Directory>,
    changes: &mut Vec<Change>,
) {
    let tree = |entry: Option<Entry>| Some(entry.filter(|entry| entry.mode.is_tree())?.id);
    let file = |entry: Option<Entry>| entry.filter(|entry| !entry.mode.is_tree());
    let (before, after) = (file(pair.before), file(pair.after));
    if before.is_some() || after.is_some() {
        changes.push(Change {
            path: path.clone(),
            before,
            after,
        });
    }
    let (before, after) = (tree(pair.before), tree(pair.after));
    if before.is_some() || after.is_some() {
        directories.push(Directory {
            path,
            before,
            after,
        });
    }
}

fn join(directory: &BString, name: &BStr) -> BString {
    let mut path = directory.clone();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
