//! Stores the progress of attempts that used up their budget.

use std::collections::HashMap;

use shared::hints::Hints;

use controller_core::object_id::ObjectId;

/// Maximum number of stored items, of all objects together: about twenty megabytes. The next attempt on an object that
/// does not fit continues from the status of the object.
const MAX_ITEMS: usize = 100_000;

/// The key that unsealed each item, by object. Contains no values.
#[derive(Debug, Default)]
pub(super) struct Progress {
    objects: HashMap<ObjectId, Hints>,
    items: usize,
}

impl Progress {
    /// Adds the stored hints of an object.
    pub(super) fn add_to(&self, id: &ObjectId, hints: &mut Hints) {
        if let Some(stored) = self.objects.get(id) {
            hints.extend(stored.iter().map(|(item, key)| (item.clone(), key.clone())));
        }
    }

    /// Stores the hints for the next attempt; drops them if they exceed the limit.
    pub(super) fn keep(&mut self, id: &ObjectId, hints: &Hints) {
        self.forget(id);
        if self.items + hints.len() <= MAX_ITEMS {
            self.items += hints.len();
            self.objects.insert(id.clone(), hints.clone());
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
        progress.keep(&id("a"), &hints(MAX_ITEMS - 5));
        progress.keep(&id("too-many"), &hints(6));
        progress.keep(&id("b"), &hints(5));
        let stored = |progress: &Progress, name| {
            let mut hints = Hints::new();
            progress.add_to(&id(name), &mut hints);
            hints.len()
        };
        let counts = ["a", "too-many", "b"].map(|name| stored(&progress, name));
        assert_eq!(counts, [MAX_ITEMS - 5, 0, 5]);
        progress.keep(&id("a"), &hints(3));
        progress.forget(&id("b"));
        assert_eq!((stored(&progress, "a"), progress.items), (3, 3));
    }
}
