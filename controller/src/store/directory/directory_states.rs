//! Detects edits of values by the file metadata of an object's directory. The check reads no value and uses no key, so
//! checking every object each second costs only a few system calls per object.

use std::collections::BTreeMap;
use std::ffi::OsString;

use controller_core::object_id::ObjectId;
use jiff::{SignedDuration, Timestamp};

use super::values::{Owner, Values};
use crate::files::{FileError, Stamp};

/// The pause between two checks of all directories. An edit is detected within this pause plus one scan interval.
const CHECK_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

/// The state of an object's directory at one time, without entries that other programs added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DirectoryState {
    pub(super) owner: Owner,
    /// The current version of the values.
    pub(super) version: Option<String>,
    /// The items with a link that the controller created.
    pub(super) links: Vec<String>,
    /// The files of the current version.
    pub(super) files: BTreeMap<OsString, Stamp>,
}

impl DirectoryState {
    /// Returns the state of a directory that does not exist.
    pub(super) fn absent() -> Self {
        Self {
            owner: Owner::None,
            version: None,
            links: Vec::new(),
            files: BTreeMap::new(),
        }
    }

    /// Returns the state of the listed directory; `None` if it exists and cannot be listed, or is not a directory.
    pub(super) fn from_values(values: &Result<Values, FileError>) -> Option<Self> {
        match values {
            Ok(values) => values.directory_state().ok(),
            Err(error) if error.is_missing() => Some(Self::absent()),
            Err(_) => None,
        }
    }

    /// Returns whether the directory is missing or empty.
    fn is_empty(&self) -> bool {
        self.owner == Owner::None
    }
}

/// The state of a directory after the controller last wrote or read it.
#[derive(Debug)]
struct RecordedState {
    state: DirectoryState,
    /// Whether the directory is known to have the values of the last version that was unsealed.
    has_unsealed_values: bool,
}

/// The recorded state of each object's directory.
#[derive(Debug)]
pub(super) struct DirectoryStates {
    recorded: BTreeMap<ObjectId, RecordedState>,
    checked: Timestamp,
}

impl Default for DirectoryStates {
    fn default() -> Self {
        Self {
            recorded: BTreeMap::new(),
            checked: Timestamp::MIN,
        }
    }
}

impl DirectoryStates {
    /// Records the current state of an object's directory, and returns whether the directory is known to have the
    /// values of the last version that was unsealed: no other program has changed the directory since. `None` means
    /// that the state is unknown; such a directory is not checked.
    pub(super) fn record_read(&mut self, id: &ObjectId, state: Option<DirectoryState>) -> bool {
        let before = self
            .recorded
            .get(id)
            .filter(|before| before.has_unsealed_values);
        let has_unsealed_values =
            before.is_some_and(|before| Some(&before.state) == state.as_ref());
        self.record(id, state, has_unsealed_values);
        has_unsealed_values
    }

    /// Records the state of an object's directory after the values of a version were written to it.
    pub(super) fn record_written(&mut self, id: &ObjectId, state: Option<DirectoryState>) {
        self.record(id, state, true);
    }

    /// Records that the recorded state has the values of the last version that was unsealed.
    pub(super) fn mark_unsealed(&mut self, id: &ObjectId) {
        if let Some(recorded) = self.recorded.get_mut(id) {
            recorded.has_unsealed_values = true;
        }
    }

    fn record(&mut self, id: &ObjectId, state: Option<DirectoryState>, has_unsealed_values: bool) {
        match state {
            Some(state) => drop(self.recorded.insert(
                id.clone(),
                RecordedState {
                    state,
                    has_unsealed_values,
                },
            )),
            None => self.forget(id),
        }
    }

    /// Forgets a deleted object.
    pub(super) fn forget(&mut self, id: &ObjectId) {
        self.recorded.remove(id);
    }

    /// Returns whether it is time to check all directories. If so, the next check is due after [`CHECK_INTERVAL`].
    pub(super) fn are_due(&mut self, now: Timestamp) -> bool {
        let elapsed = now.duration_since(self.checked);
        // A negative time means that the clock was set back.
        let is_due = elapsed >= CHECK_INTERVAL || elapsed.is_negative();
        if is_due {
            self.checked = now;
        }
        is_due
    }

    /// Returns the objects to reconcile because their directory changed. `current` returns the current state of an
    /// object's directory; `keeps_edits` returns whether edits of its values are kept. If all values of an object are
    /// deleted, they are always restored, as in a cluster. `is_failing` returns whether the current version of an
    /// object was not unsealed: the status of such an object describes the values that stay in place, so the object is
    /// reconciled even if edits are kept.
    pub(super) fn take_edited(
        &mut self,
        current: impl Fn(&ObjectId) -> Option<DirectoryState>,
        keeps_edits: impl Fn(&ObjectId) -> bool,
        is_failing: impl Fn(&ObjectId) -> bool,
    ) -> Vec<ObjectId> {
        let mut edited = Vec::new();
        for (id, recorded) in &mut self.recorded {
            match current(id) {
                Some(state) if state == recorded.state => {}
                Some(state)
                    if !state.is_empty()
                        && keeps_edits(id)
                        && !(recorded.has_unsealed_values && is_failing(id)) =>
                {
                    let has_unsealed_values = false;
                    *recorded = RecordedState {
                        state,
                        has_unsealed_values,
                    };
                }
                _ => edited.push(id.clone()),
            }
        }
        // Reconciliation records the new state. If it fails, the queue retries it, so no further check is needed.
        for id in &edited {
            self.recorded.remove(id);
        }
        edited
    }
}
