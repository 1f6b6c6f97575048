//! Tracks which SealedSecrets exist in the files, and which are certainly deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use controller_core::object_id::ObjectId;
use jiff::{SignedDuration, Timestamp};

use super::claims::Claims;
use crate::poll::PolledFile;
use crate::store::Source;

/// An object counts as deleted only if two scans this far apart agree, since editors and `git checkout`
/// remove and recreate files.
const AGREEMENT: SignedDuration = SignedDuration::from_secs(2);

/// An object and the file that describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The SealedSecret.
    pub(super) source: Source,
    /// Path below the root.
    pub(super) file: PathBuf,
}

/// The objects in the files, now and in earlier scans.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    entries: BTreeMap<ObjectId, Entry>,
    /// The objects that each file contained when it was last parsed without problems.
    last_parsed: BTreeMap<PathBuf, BTreeSet<ObjectId>>,
    /// Objects that may have values or a status file, which must be removed together with the object.
    tracked: BTreeSet<ObjectId>,
    /// The time since which an object has been missing in every scan.
    missing: BTreeMap<ObjectId, Timestamp>,
}

impl Catalogue {
    /// Records an object for which an earlier process left files, with the path of its manifest, if known.
    pub(super) fn remember(&mut self, id: ObjectId, file: Option<PathBuf>) {
        if let Some(file) = file {
            self.last_parsed.entry(file).or_default().insert(id.clone());
        }
        self.tracked.insert(id);
    }

    /// Returns whether any object could be found to be deleted.
    pub(super) fn tracks_any(&self) -> bool {
        !self.tracked.is_empty()
    }

    /// Returns the entry of an object; `None` if no file contains it.
    pub(super) fn entry(&self, id: &ObjectId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// Processes a scan. Returns the objects to reconcile: changed ones, and those that are certainly deleted. `clean`
    /// is whether every file was complete and readable.
    pub(super) fn take(
        &mut self,
        files: &BTreeMap<PathBuf, PolledFile<Claims>>,
        clean: bool,
        now: Timestamp,
    ) -> Vec<ObjectId> {
        let fresh = self.merge(files);
        let mut changed: Vec<ObjectId> = fresh
            .iter()
            .filter(|(id, entry)| self.entries.get(*id) != Some(*entry))
            .map(|(id, _)| id.clone())
            .collect();
        self.tracked.extend(fresh.keys().cloned());
        if clean {
            self.last_parsed.retain(|path, _| files.contains_key(path));
        }
        let gone = self.confirm_deletions(&fresh, clean, now);
        for id in &gone {
            self.entries.remove(id);
            self.tracked.remove(id);
        }
        self.entries.extend(fresh);
        changed.extend(gone);
        changed
    }

    /// Returns the objects that are missing in this scan and in one at least [`AGREEMENT`] earlier. A scan that is not
    /// clean resets the time.
    fn confirm_deletions(
        &mut self,
        fresh: &BTreeMap<ObjectId, Entry>,
        clean: bool,
        now: Timestamp,
    ) -> Vec<ObjectId> {
        if !clean {
            self.missing.clear();
            return Vec::new();
        }
        self.missing.retain(|id, _| !fresh.contains_key(id));
        let mut gone = Vec::new();
        for id in self.tracked.iter().filter(|id| !fresh.contains_key(*id)) {
            let since = *self.missing.entry(id.clone()).or_insert(now);
            if now.duration_since(since) >= AGREEMENT {
                gone.push(id.clone());
            }
        }
        self.missing.retain(|id, _| !gone.contains(id));
        gone
    }

    /// Records that a scan was not possible, which resets the time of missing objects.
    pub(super) fn scan_failed(&mut self) {
        self.missing.clear();
    }

    fn merge(
        &mut self,
        files: &BTreeMap<PathBuf, PolledFile<Claims>>,
    ) -> BTreeMap<ObjectId, Entry> {
        let mut merged: BTreeMap<ObjectId, Entry> = BTreeMap::new();
        for (path, file) in files.iter().filter(|(_, file)| file.problem.is_none()) {
            for claim in file.value.iter().flat_map(|claims| &claims.objects) {
                let source = match &claim.sealed {
                    Ok(sealed) => Source::Sealed(sealed.clone()),
                    Err(why) => Source::Malformed(format!("{}: {why}", path.display())),
                };
                let entry = match merged.get(&claim.id) {
                    None => Entry {
                        source,
                        file: path.clone(),
                    },
                    // Each object needs its own namespace first.
                    Some(_) if claim.id.namespace.is_empty() => continue,
                    Some(other) => duplicate(&claim.id, &other.file, path),
                };
                merged.insert(claim.id.clone(), entry);
            }
        }
        for (path, file) in files {
            self.record_contents(path, file);
            for (id, entry) in self.unparsable(path, file) {
                merged.entry(id).or_insert(entry);
            }
        }
        merged
    }

    /// Records which objects a file contains, if all of it can be parsed.
    fn record_contents(&mut self, path: &Path, file: &PolledFile<Claims>) {
        let claims = file
            .value
            .as_ref()
            .filter(|claims| file.problem.is_none() && claims.problems.is_empty());
        if let Some(claims) = claims {
            let ids = claims.objects.iter().map(|claim| claim.id.clone());
            self.last_parsed.insert(path.to_owned(), ids.collect());
        }
    }

    /// Returns the objects that a file contained earlier and may still contain, if it can no longer be parsed.
    fn unparsable(&self, path: &Path, file: &PolledFile<Claims>) -> Vec<(ObjectId, Entry)> {
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

/// Returns all problems of a file in one text.
pub(super) fn problems(file: &PolledFile<Claims>) -> Option<String> {
    let of_documents = file.value.as_ref().map(|claims| claims.problems.join("; "));
    file.problem
        .clone()
        .or(of_documents)
        .filter(|text| !text.is_empty())
}

/// Returns the documents that are ignored in a readable file.
pub(super) fn others(file: &PolledFile<Claims>) -> &[String] {
    match &file.value {
        Some(claims) if file.problem.is_none() => &claims.others,
        _ => &[],
    }
}

/// Returns the entry of an object that is defined twice. This is an error, since the order of files must not decide
/// which definition applies.
fn duplicate(id: &ObjectId, first: &Path, other: &Path) -> Entry {
    let why = if first == other {
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
        source: Source::Malformed(why),
        file: first.to_owned(),
    }
}

#[cfg(test)]
mod tests;
