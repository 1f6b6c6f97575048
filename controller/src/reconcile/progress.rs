//! Stores the progress of attempts that ended early.

use std::collections::HashMap;

use shared::hints::Hints;
use shared::v2::OpenedLocks;

use controller_core::object_id::ObjectId;

/// Maximum number of stored items and locks of all objects together, about twenty megabytes in memory. If an object
/// does not fit, its next attempt knows only the keys that its status names.
const MAX_ITEMS: usize = 100_000;

/// The progress of each object whose attempt ended early. Contains no values.
#[derive(Debug, Default)]
pub(super) struct Progress {
    objects: HashMap<ObjectId, StoredProgress>,
    items: usize,
}

#[derive(Debug)]
struct StoredProgress {
    /// The key that unsealed each v1 item.
    hints: Hints,
    /// The v2 locks that were tried, with their data keys, which are wiped when they are dropped.
    locks: OpenedLocks,
}

impl StoredProgress {
    fn len(&self) -> usize {
        self.hints.len() + self.locks.len()
    }
}

impl Progress {
    /// Adds the stored hints of an object.
    pub(super) fn add_to(&self, id: &ObjectId, hints: &mut Hints) {
        if let Some(stored) = self.objects.get(id) {
            let stored = stored.hints.iter();
            hints.extend(stored.map(|(item, key)| (item.clone(), key.clone())));
        }
    }

    /// Removes and returns the stored locks of an object.
    pub(super) fn take_locks(&mut self, id: &ObjectId) -> OpenedLocks {
        let Some(stored) = self.objects.get_mut(id) else {
            return OpenedLocks::default();
        };
        let locks = std::mem::take(&mut stored.locks);
        self.items -= locks.len();
        locks
    }

    /// Stores hints and locks for the next attempt; drops them if they exceed the limit.
    pub(super) fn keep(&mut self, id: &ObjectId, hints: Hints, locks: OpenedLocks) {
        self.forget(id);
        let stored = StoredProgress { hints, locks };
        if self.items + stored.len() <= MAX_ITEMS {
            self.items += stored.len();
            self.objects.insert(id.clone(), stored);
        }
    }

    pub(super) fn forget(&mut self, id: &ObjectId) {
        if let Some(stored) = self.objects.remove(id) {
            self.items -= stored.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::id;

    fn hints(items: usize) -> Hints {
        let key = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
        let hint = |i: usize| (format!("k{i}"), key.parse().unwrap());
        (0..items).map(hint).collect()
    }

    #[test]
    fn stores_unsealed_items_within_bounds() {
        let mut progress = Progress::default();
        let keep = |progress: &mut Progress, name, count| {
            progress.keep(&id(name), hints(count), OpenedLocks::default());
        };
        keep(&mut progress, "a", MAX_ITEMS - 5);
        keep(&mut progress, "too-many", 6);
        keep(&mut progress, "b", 5);
        let stored = |progress: &Progress, name| {
            let mut hints = Hints::new();
            progress.add_to(&id(name), &mut hints);
            hints.len()
        };
        let counts = ["a", "too-many", "b"].map(|name| stored(&progress, name));
        assert_eq!(counts, [MAX_ITEMS - 5, 0, 5]);
        keep(&mut progress, "a", 3);
        progress.forget(&id("b"));
        assert_eq!((stored(&progress, "a"), progress.items), (3, 3));
    }
}
