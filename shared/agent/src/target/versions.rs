//! The versions of the files in a target directory.
//!
//! The log of an agent and the runs of its commands are public. A version changes whenever the author of a SealedSecret
//! sets a value, even to the same value. So a change of versions reveals nothing about the values, unlike a comparison
//! of contents: a template could turn the number of different files into a byte of a value, and a value that is sealed
//! as a guess would be reported as unchanged if the guess is right.

use std::collections::{BTreeMap, BTreeSet};

use deliver::{DeliveredFile, Mode};

/// The version and the mode of each file, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Versions(BTreeMap<String, (String, Mode)>);

impl Versions {
    pub(super) fn of(files: &[DeliveredFile]) -> Self {
        let versions = files.iter().map(|file| {
            let version = (file.version.clone(), file.mode);
            (file.path.as_str().to_owned(), version)
        });
        Self(versions.collect())
    }

    /// Returns the paths of all files.
    pub(super) fn paths(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    /// Returns the paths of files that were added or removed, or have another version or mode.
    pub(super) fn changed_since(&self, old: &Self) -> BTreeSet<String> {
        let paths = self.0.keys().chain(old.0.keys());
        let changed = paths.filter(|path| self.0.get(*path) != old.0.get(*path));
        changed.cloned().collect()
    }
}
