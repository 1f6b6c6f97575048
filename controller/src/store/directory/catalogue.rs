//! Which SealedSecrets there are, according to the files, and which are certainly gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::claims::Claims;
use crate::poll::Known;
use crate::store::{ObjectId, Source};

/// Two scans this far apart have to agree that an object is gone: editors and `git checkout` remove
/// files and make them anew.
const AGREEMENT: SignedDuration = SignedDuration::from_secs(2);

/// An object and the file that speaks for it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The SealedSecret.
    pub(super) source: Source,
    /// Path below the root.
    pub(super) file: PathBuf,
}

/// Everything the files say, and what they said before.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    entries: BTreeMap<ObjectId, Entry>,
    /// Whom each file named when it was last wholly understood.
    named: BTreeMap<PathBuf, BTreeSet<ObjectId>>,
    /// Objects that have left something behind, and may have to be removed.
    known: BTreeSet<ObjectId>,
    /// Since when an object has been missing in every scan.
    missing: BTreeMap<ObjectId, Timestamp>,
}

impl Catalogue {
    /// Takes note of an object that an earlier process left something of, with the file that it was
    /// in, if that is known.
    pub(super) fn remember(&mut self, id: ObjectId, file: Option<PathBuf>) {
        if let Some(file) = file {
            self.named.entry(file).or_default().insert(id.clone());
        }
        self.known.insert(id);
    }

    /// Is there any object that could be found to be gone?
    pub(super) fn knows_any(&self) -> bool {
        !self.known.is_empty()
    }

    /// What the files say of an object; `None` if it is not there any more.
    pub(super) fn entry(&self, id: &ObjectId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// Takes in a scan and gives the objects to look at: those that changed, and those that are
    /// certainly gone. `clean` says that the scan saw every file whole.
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

    /// Objects that this scan and one long enough ago agree on being gone. A scan that is not clean
    /// agrees with none.
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

    /// No scan has been possible: what was about to be agreed on is void.
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

    /// Remembers whom a file names while all of it can be understood.
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

    /// Objects that a file named once and may still mean, now that it cannot be understood.
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

/// Everything that is wrong with a file, in one text.
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

/// What is left alone in a file that can be read.
pub(super) fn others(known: &Known<Claims>) -> &[String] {
    match &known.value {
        Some(claims) if known.problem.is_none() => &claims.others,
        _ => &[],
    }
}

/// Which of two is meant nobody can tell, and the order of files must not decide.
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
