//! Keeps results of the first attempt on a version of an object, for later attempts.
//!
//! An attempt that fails at the API server is repeated, and renders the templates again. At a different time or with
//! different random values, the templates could fail, and the author chooses for which values and at which times.
//! Repetitions would therefore reveal information about values without an edit.

use std::collections::HashMap;

use controller_core::object_id::ObjectId;
use jiff::Timestamp;

use crate::store::Observed;

/// The first attempt on the current version of each object, until the version is unsealed.
#[derive(Debug, Default)]
pub(super) struct FirstAttempts(HashMap<ObjectId, FirstAttempt>);

#[derive(Debug)]
struct FirstAttempt {
    uid: Option<String>,
    generation: Option<i64>,
    now: Timestamp,
    /// The text of the error, and whether a user must act.
    error: Option<(String, bool)>,
}

impl FirstAttempts {
    /// Returns the time for rendering: the time of the first attempt, or now if the version was unsealed before.
    pub(super) fn render_time(
        &mut self,
        id: &ObjectId,
        observed: &Observed,
        now: Timestamp,
    ) -> Timestamp {
        if observed.settled {
            self.forget(id);
            return now;
        }
        let is_same_version = |first: &FirstAttempt| {
            (&first.uid, first.generation) == (&observed.uid, observed.generation)
        };
        if !self.0.get(id).is_some_and(is_same_version) {
            let first = FirstAttempt {
                uid: observed.uid.clone(),
                generation: observed.generation,
                now,
                error: None,
            };
            self.0.insert(id.clone(), first);
        }
        self.0.get(id).map_or(now, |first| first.now)
    }

    /// Records an error that the store returned after the templates were rendered.
    pub(super) fn record_error(&mut self, id: &ObjectId, error: String, is_stalled: bool) {
        if let Some(first) = self.0.get_mut(id) {
            first.error = Some((error, is_stalled));
        }
    }

    /// Returns the store's last error for the current version of the object, and whether a user must act.
    pub(super) fn error(&self, id: &ObjectId) -> Option<(String, bool)> {
        self.0.get(id)?.error.clone()
    }

    pub(super) fn forget(&mut self, id: &ObjectId) {
        self.0.remove(id);
    }
}
