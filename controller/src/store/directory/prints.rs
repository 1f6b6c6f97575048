//! By what edits of values show: stamps of what stands in an object's folder. No value is read and no
//! key is used for it, so looking at every object each second costs a few system calls an object.

use std::collections::BTreeMap;
use std::ffi::OsString;

use controller_core::object_id::ObjectId;
use jiff::{SignedDuration, Timestamp};

use super::values::{Owner, Values};
use crate::folder::{FileError, Stamp};

/// Between two checks of all folders. An edit is put right within this and one interval of the scan.
const EVERY: SignedDuration = SignedDuration::from_secs(1);

/// What stood in an object's folder at one time. Files that others put beside ours are left out.
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
    /// Of a folder that is not there.
    pub(super) fn absent() -> Self {
        Self {
            owner: Owner::Nobody,
            version: None,
            links: Vec::new(),
            files: BTreeMap::new(),
        }
    }

    /// Takes it of a folder; one that is missing or no folder has none of our values.
    ///
    /// # Errors
    ///
    /// The folder is there and cannot be listed.
    pub(super) fn of(values: &Result<Values, FileError>) -> Option<Self> {
        match values {
            Ok(values) => values.print().ok(),
            Err(error) if error.is_missing() => Some(Self::absent()),
            Err(_) => None,
        }
    }

    /// Are all values gone, rather than some edited?
    fn is_empty(&self) -> bool {
        self.owner == Owner::Nobody
    }
}

/// The prints of all objects as the controller left or found them.
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
    /// Notes what stands there now; `None` if that cannot be told, and then it is not compared.
    pub(super) fn note(&mut self, id: &ObjectId, print: Option<Print>) {
        match print {
            Some(print) => drop(self.known.insert(id.clone(), print)),
            None => self.forget(id),
        }
    }

    /// The object is gone.
    pub(super) fn forget(&mut self, id: &ObjectId) {
        self.known.remove(id);
    }

    /// Is it time to check all folders?
    pub(super) fn are_due(&mut self, now: Timestamp) -> bool {
        let since = now.duration_since(self.checked);
        // A clock that was set back must not stop us.
        let is_due = since >= EVERY || since.is_negative();
        if is_due {
            self.checked = now;
        }
        is_due
    }

    /// The objects to reconcile, because their folder is not as it was noted. `now` takes the print of
    /// an object, `keeps_edits` says whether edits of its values stay; values that are gone altogether
    /// come back all the same, as in a cluster.
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
        // The attempt notes what it finds: whatever keeps it from that is tried again by the queue, not here.
        for id in &edited {
            self.known.remove(id);
        }
        edited
    }
}
