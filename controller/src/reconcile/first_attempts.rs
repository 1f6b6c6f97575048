//! What the first attempt on a version of an object fixed for those after it.
//!
//! An attempt that failed at the API server is repeated, and renders the templates again. With another time, or with
//! other random values, they could fail this time, and an author chooses by which value and when: repetitions would
//! answer questions that nobody paid an edit for.

use std::collections::HashMap;

use controller_core::object_id::ObjectId;
use jiff::Timestamp;

use crate::store::Observed;

/// By object, until that version of it is unsealed.
#[derive(Debug, Default)]
pub(super) struct FirstAttempts(HashMap<ObjectId, First>);

#[derive(Debug)]
struct First {
    uid: Option<String>,
    generation: Option<i64>,
    now: Timestamp,
    /// Its text, and whether it takes a person to get on.
    error: Option<(String, bool)>,
}

impl FirstAttempts {
    /// The time by which to render: that of the first attempt, or if the version was unsealed once, now.
    pub(super) fn time(&mut self, id: &ObjectId, observed: &Observed, now: Timestamp) -> Timestamp {
        if observed.settled {
            self.forget(id);
            return now;
        }
        let is_same =
            |first: &First| (&first.uid, first.generation) == (&observed.uid, observed.generation);
        if !self.0.get(id).is_some_and(is_same) {
            let first = First {
                uid: observed.uid.clone(),
                generation: observed.generation,
                now,
                error: None,
            };
            self.0.insert(id.clone(), first);
        }
        self.0.get(id).map_or(now, |first| first.now)
    }

    /// Notes how the store failed after the templates were rendered.
    pub(super) fn failed(&mut self, id: &ObjectId, error: String, is_stalled: bool) {
        if let Some(first) = self.0.get_mut(id) {
            first.error = Some((error, is_stalled));
        }
    }

    /// How the store failed the last time, in this version.
    pub(super) fn error(&self, id: &ObjectId) -> Option<(String, bool)> {
        self.0.get(id)?.error.clone()
    }

    pub(super) fn forget(&mut self, id: &ObjectId) {
        self.0.remove(id);
    }
}
