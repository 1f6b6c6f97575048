//! Which SealedSecrets exist according to the files, and which are certainly deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use controller_core::object_id::ObjectId;
use jiff::{SignedDuration, Timestamp};

use super::claims::Claims;
use crate::poll::Known;
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
    named: BTreeMap<PathBuf, BTreeSet<ObjectId>>,
    /// Objects that may have values or a status file, which must be removed with them.
    known: BTreeSet<ObjectId>,
    /// Since when an object has been missing in every scan.
    missing: BTreeMap<ObjectId, Timestamp>,
}

impl Catalogue {
    /// Records an object for which an earlier process left files, with the manifest it was in, if known.
    pub(super) fn remember(&mut self, id: ObjectId, file: Option<PathBuf>) {
        if let Some(file) = file {
            self.named.entry(file).or_default().insert(id.clone());
        }
        self.known.insert(id);
    }

    /// Returns whether there is any object that could be found to be deleted.
    pub(super) fn knows_any(&self) -> bool {
        !self.known.is_empty()
    }

    /// Returns the object's entry; `None` if it does not exist in the files.
    pub(super) fn entry(&self, id: &ObjectId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// Processes a scan. Returns the objects to reconcile: changed ones, and those that are certainly
    /// deleted. `clean` says whether every file was complete and readable.
    pub(super) fn take(
        &mut self,
        files: &BTreeMap<PathBuf, Known<Claims>>,
        clean: bool,
        now: Timestamp,
    ) -> Vec<ObjectId> {
        let fresh = self.merge(files);
        let mut changed: Vec<ObjectId> = fresh
            .iter()
            .filter(|(id, entry)| self.entries.get(*id) != Some(*entry))
            .map(|(id, _)| id.clone())
            .collect();
        self.known.extend(fresh.keys().cloned());
        if clean {
            self.named.retain(|path, _| files.contains_key(path));
        }
        let gone = self.agree(&fresh, clean, now);
        for id in &gone {
            self.entries.remove(id);
            self.known.remove(id);
        }
        self.entries.extend(fresh);
        changed.extend(gone);
        changed
    }

    /// Returns objects that are missing in this scan and in one at least [`AGREEMENT`] earlier. A scan that
    /// is not clean resets the count.
    fn agree(
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
        for id in self.known.iter().filter(|id| !fresh.contains_key(*id)) {
            let since = *self.missing.entry(id.clone()).or_insert(now);
            if now.duration_since(since) >= AGREEMENT {
                gone.push(id.clone());
            }
        }
        self.missing.retain(|id, _| !gone.contains(id));
        gone
    }

    /// Records that a scan was not possible, which resets the count of missing objects.
    pub(super) fn take_nothing(&mut self) {
        self.missing.clear();
    }

    fn merge(&mut self, files: &BTreeMap<PathBuf, Known<Claims>>) -> BTreeMap<ObjectId, Entry> {
        let mut merged: BTreeMap<ObjectId, Entry> = BTreeMap::new();
        for (path, known) in files.iter().filter(|(_, known)| known.problem.is_none()) {
            for claim in known.value.iter().flat_map(|claims| &claims.objects) {
                let source = match &claim.sealed {
                    Ok(sealed) => Source::Sealed(sealed.clone()),
                    Err(why) => Source::Malformed(format!("{}: {why}", path.display())),
                };
                let entry = match merged.get(&claim.id) {
                    None => Entry {
                        source,
                        file: path.clone(),
                    },
                    // Each needs its own namespace first.
                    Some(_) if claim.id.namespace.is_empty() => continue,
                    Some(other) => twice(&claim.id, &other.file, path),
                };
                merged.insert(claim.id.clone(), entry);
            }
        }
        for (path, known) in files {
            self.take_whole(path, known);
            for (id, entry) in self.lost(path, known) {
                merged.entry(id).or_insert(entry);
            }
        }
        merged
    }

    /// Remembers which objects a file contains, if all of it can be parsed.
    fn take_whole(&mut self, path: &Path, known: &Known<Claims>) {
        let whole = known
            .value
            .as_ref()
            .filter(|claims| known.problem.is_none() && claims.problems.is_empty());
        if let Some(claims) = whole {
            let ids = claims.objects.iter().map(|claim| claim.id.clone());
            self.named.insert(path.to_owned(), ids.collect());
        }
    }

    /// Returns the objects that a file contained earlier and may still contain, now that it cannot be parsed.
    fn lost(&self, path: &Path, known: &Known<Claims>) -> Vec<(ObjectId, Entry)> {
        let Some(problem) = problems(known) else {
            return Vec::new();
        };
        let entry = Entry {
            source: Source::Malformed(format!("{}: {problem}", path.display())),
            file: path.to_owned(),
        };
        let named = self.named.get(path).into_iter().flatten();
        named.map(|id| (id.clone(), entry.clone())).collect()
    }
}

/// Returns all problems of a file in one text.
pub(super) fn problems(known: &Known<Claims>) -> Option<String> {
    let of_documents = known
        .value
        .as_ref()
        .map(|claims| claims.problems.join("; "));
    known
        .problem
        .clone()
        .or(of_documents)
        .filter(|text| !text.is_empty())
}

/// Returns the documents that are ignored in a readable file.
pub(super) fn others(known: &Known<Claims>) -> &[String] {
    match &known.value {
        Some(claims) if known.problem.is_none() => &claims.others,
        _ => &[],
    }
}

/// Returns the entry of an object that is defined twice. It is an error, since the order of files must not
/// decide which definition counts.
fn twice(id: &ObjectId, one: &Path, other: &Path) -> Entry {
    let why = if one == other {
        format!("{} holds {id} twice; keep one of the two", one.display())
    } else {
        format!(
            "both {} and {} hold {id}; keep one of the two",
            one.display(),
            other.display()
        )
    };
    Entry {
        source: Source::Malformed(why),
        file: one.to_owned(),
    }
}

#[cfg(test)]
mod tests;
