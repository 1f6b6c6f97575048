//! Detects edits of values by file metadata of an object's folder. No value is read and no key is used, so
//! checking every object each second costs only a few system calls per object.

use std::collections::BTreeMap;
use std::ffi::OsString;

use controller_core::object_id::ObjectId;
use jiff::{SignedDuration, Timestamp};

use super::values::{Owner, Values};
use crate::folder::{FileError, Stamp};

/// Pause between two checks of all folders. An edit is corrected within this pause plus one scan interval.
const EVERY: SignedDuration = SignedDuration::from_secs(1);

/// The state of an object's folder at one time. Files that other programs added are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Print {
    pub(super) owner: Owner,
    /// The version that readers reach.
    pub(super) version: Option<String>,
    /// Items that can be opened by their names.
    pub(super) links: Vec<String>,
    /// The files of that version.
    pub(super) files: BTreeMap<OsString, Stamp>,
}

impl Print {
    /// Returns the state of a folder that does not exist.
    pub(super) fn absent() -> Self {
        Self {
            owner: Owner::Nobody,
            version: None,
            links: Vec::new(),
            files: BTreeMap::new(),
        }
    }

    /// Returns the state of a folder; `None` if it exists and cannot be listed, or is not a folder.
    pub(super) fn of(values: &Result<Values, FileError>) -> Option<Self> {
        match values {
            Ok(values) => values.print().ok(),
            Err(error) if error.is_missing() => Some(Self::absent()),
            Err(_) => None,
        }
    }

    /// Returns whether all values are deleted, rather than some edited.
    fn is_empty(&self) -> bool {
        self.owner == Owner::Nobody
    }
}

/// The state of all objects' folders as the controller left or found them.
#[derive(Debug)]
pub(super) struct Prints {
    known: BTreeMap<ObjectId, Print>,
    checked: Timestamp,
}

impl Default for Prints {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            checked: Timestamp::MIN,
        }
    }
}

impl Prints {
    /// Records the current state; `None` if it cannot be determined, and then it is not compared.
    pub(super) fn note(&mut self, id: &ObjectId, print: Option<Print>) {
        match print {
            Some(print) => drop(self.known.insert(id.clone(), print)),
            None => self.forget(id),
        }
    }

    /// Removes a deleted object.
    pub(super) fn forget(&mut self, id: &ObjectId) {
        self.known.remove(id);
    }

    /// Returns whether it is time to check all folders.
    pub(super) fn are_due(&mut self, now: Timestamp) -> bool {
        let since = now.duration_since(self.checked);
        // Also check if the clock was set back.
        let is_due = since >= EVERY || since.is_negative();
        if is_due {
            self.checked = now;
        }
        is_due
    }

    /// Returns the objects to reconcile because their folder changed. `now` returns the current state of an
    /// object's folder; `keeps_edits` says whether edits of its values stay. Values that are deleted
    /// altogether are restored in any case, as in a cluster.
    pub(super) fn edited(
        &mut self,
        now: impl Fn(&ObjectId) -> Option<Print>,
        keeps_edits: impl Fn(&ObjectId) -> bool,
    ) -> Vec<ObjectId> {
        let mut edited = Vec::new();
        for (id, known) in &mut self.known {
            match now(id) {
                Some(print) if print == *known => {}
                Some(print) if !print.is_empty() && keeps_edits(id) => *known = print,
                _ => edited.push(id.clone()),
            }
        }
        // Reconciliation records the new state. If it fails, the queue retries it, so no further check is
        // needed here.
        for id in &edited {
            self.known.remove(id);
        }
        edited
    }
}
