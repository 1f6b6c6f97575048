//! Tracks which SealedSecrets the manifest files contain, and which are known to be deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use controller_core::object_id::ObjectId;
use jiff::{SignedDuration, Timestamp};

use super::manifest_file::ManifestFile;
use crate::poll::PolledFile;
use crate::store::Source;

/// The minimum time between two scans without an object before the object counts as deleted. Editors and `git checkout`
/// remove and recreate files.
const DELETION_DELAY: SignedDuration = SignedDuration::from_secs(2);

/// An object and the file that describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The parsed SealedSecret, or the reason why it is malformed.
    pub(super) source: Source,
    /// The path of the file, relative to DIR.
    pub(super) file: PathBuf,
}

/// The objects in the files, now and in earlier scans.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    entries: BTreeMap<ObjectId, Entry>,
    /// The objects that each file contained when it was last parsed without problems.
    last_parsed: BTreeMap<PathBuf, BTreeSet<ObjectId>>,
    /// Objects that may have values or a status file to remove after the object is deleted.
    tracked: BTreeSet<ObjectId>,
    /// When each missing object was first missing; it has been missing in every scan since.
    missing: BTreeMap<ObjectId, Timestamp>,
}

impl Catalog {
    /// Records an object for which an earlier process left files, and the path of its manifest, if known.
    pub(super) fn remember(&mut self, id: ObjectId, file: Option<PathBuf>) {
        if let Some(file) = file {
            self.last_parsed.entry(file).or_default().insert(id.clone());
        }
        self.tracked.insert(id);
    }

    /// Returns whether any object is tracked and can therefore count as deleted later.
    pub(super) fn tracks_any(&self) -> bool {
        !self.tracked.is_empty()
    }

    /// Returns the entry of an object; `None` if no file contains it.
    pub(super) fn entry(&self, id: &ObjectId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// Processes a scan. Returns the objects to reconcile: objects that are new or changed, and objects that are
    /// known to be deleted. `is_clean` is whether every file was complete and no problem was found.
    pub(super) fn process_scan(
        &mut self,
        files: &BTreeMap<PathBuf, PolledFile<ManifestFile>>,
        is_clean: bool,
        now: Timestamp,
    ) -> Vec<ObjectId> {
        let current = self.merge(files);
        let mut changed: Vec<ObjectId> = current
            .iter()
            .filter(|(id, entry)| self.entries.get(*id) != Some(*entry))
            .map(|(id, _)| id.clone())
            .collect();
        self.tracked.extend(current.keys().cloned());
        if is_clean {
            self.last_parsed.retain(|path, _| files.contains_key(path));
        }
        let deleted = self.confirm_deletions(&current, is_clean, now);
        for id in &deleted {
            self.entries.remove(id);
            self.tracked.remove(id);
        }
        self.entries.extend(current);
        changed.extend(deleted);
        changed
    }

    /// Returns the tracked objects that have been missing in every scan for at least [`DELETION_DELAY`]. A scan that is
    /// not clean restarts this delay.
    fn confirm_deletions(
        &mut self,
        current: &BTreeMap<ObjectId, Entry>,
        is_clean: bool,
        now: Timestamp,
    ) -> Vec<ObjectId> {
        if !is_clean {
            self.missing.clear();
            return Vec::new();
        }
        self.missing.retain(|id, _| !current.contains_key(id));
        let mut deleted = Vec::new();
        for id in self.tracked.iter().filter(|id| !current.contains_key(*id)) {
            let since = *self.missing.entry(id.clone()).or_insert(now);
            if now.duration_since(since) >= DELETION_DELAY {
                deleted.push(id.clone());
            }
        }
        self.missing.retain(|id, _| !deleted.contains(id));
        deleted
    }

    /// Records a failed scan: [`DELETION_DELAY`] starts again for all missing objects.
    pub(super) fn record_failed_scan(&mut self) {
        self.missing.clear();
    }

    /// Returns the objects in all files. If a file can no longer be parsed completely, its previous objects are
    /// malformed, unless a file still contains them.
    fn merge(
        &mut self,
        files: &BTreeMap<PathBuf, PolledFile<ManifestFile>>,
    ) -> BTreeMap<ObjectId, Entry> {
        let mut merged: BTreeMap<ObjectId, Entry> = BTreeMap::new();
        for (path, file) in files.iter().filter(|(_, file)| file.problem.is_none()) {
            for object in file.value.iter().flat_map(|content| &content.objects) {
                let source = match &object.sealed {
                    Ok(sealed) => Source::Sealed(sealed.clone()),
                    Err(problem) => Source::Malformed(format!("{}: {problem}", path.display())),
                };
                let entry = match merged.get(&object.id) {
                    None => Entry {
                        source,
                        file: path.clone(),
                    },
                    // Objects without a namespace are not duplicates: each may get a different namespace.
                    Some(_) if object.id.namespace.is_empty() => continue,
                    Some(other) => duplicate_entry(&object.id, &other.file, path),
                };
                merged.insert(object.id.clone(), entry);
            }
        }
        for (path, file) in files {
            self.record_contents(path, file);
            for (id, entry) in self.unparsable_entries(path, file) {
                merged.entry(id).or_insert(entry);
            }
        }
        merged
    }

    /// Records the objects that a file contains, if the complete file can be parsed.
    fn record_contents(&mut self, path: &Path, file: &PolledFile<ManifestFile>) {
        let content = file
            .value
            .as_ref()
            .filter(|content| file.problem.is_none() && content.problems.is_empty());
        if let Some(content) = content {
            let ids = content.objects.iter().map(|object| object.id.clone());
            self.last_parsed.insert(path.to_owned(), ids.collect());
        }
    }

    /// Returns entries with the problem for the objects that a file contained earlier, if the file can no longer be
    /// parsed completely.
    fn unparsable_entries(
        &self,
        path: &Path,
        file: &PolledFile<ManifestFile>,
    ) -> Vec<(ObjectId, Entry)> {
        let Some(problem) = problems(file) else {
            return Vec::new();
        };
        let entry = Entry {
            source: Source::Malformed(format!("{}: {problem}", path.display())),
            file: path.to_owned(),
        };
        let last_parsed = self.last_parsed.get(path).into_iter().flatten();
        last_parsed.map(|id| (id.clone(), entry.clone())).collect()
    }
}

/// Returns the problem of a file, or else the problems of its documents in one string; `None` if there are none.
pub(super) fn problems(file: &PolledFile<ManifestFile>) -> Option<String> {
    let document_problems = file
        .value
        .as_ref()
        .map(|content| content.problems.join("; "));
    file.problem
        .clone()
        .or(document_problems)
        .filter(|text| !text.is_empty())
}

/// Returns the messages about ignored documents of a readable file.
pub(super) fn ignored_messages(file: &PolledFile<ManifestFile>) -> &[String] {
    match &file.value {
        Some(content) if file.problem.is_none() => &content.ignored,
        _ => &[],
    }
}

/// Returns the entry of an object that is defined twice: a malformed object, since the order of files must not decide
/// which definition applies.
fn duplicate_entry(id: &ObjectId, first: &Path, other: &Path) -> Entry {
    let problem = if first == other {
        format!(
            "{} contains {id} twice; remove one of the two",
            first.display()
        )
    } else {
        format!(
            "both {} and {} contain {id}; remove one of the two",
            first.display(),
            other.display()
        )
    };
    Entry {
        source: Source::Malformed(problem),
        file: first.to_owned(),
    }
}

#[cfg(test)]
mod tests;
