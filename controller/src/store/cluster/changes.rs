//! Wakes requests that wait for changes to SealedSecrets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use controller_core::object_id::ObjectId;
use tokio::sync::Notify;

/// The requests that wait, by object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    count: u64,
    listeners: HashMap<ObjectId, HashMap<u64, Arc<Notify>>>,
}

/// A request that waits for changes to some objects.
#[derive(Debug)]
pub(crate) struct Listener {
    changes: Changes,
    number: u64,
    ids: Vec<ObjectId>,
    changed: Arc<Notify>,
}

impl Changes {
    /// Listens to later changes to these objects.
    pub(crate) fn listen(&self, ids: Vec<ObjectId>) -> Listener {
        let changed = Arc::new(Notify::new());
        let mut state = self.state();
        state.count += 1;
        let number = state.count;
        for id in &ids {
            let listeners = state.listeners.entry(id.clone()).or_default();
            listeners.insert(number, Arc::clone(&changed));
        }
        Listener {
            changes: self.clone(),
            number,
            ids,
            changed,
        }
    }

    /// Wakes the requests that wait for a change to the object.
    pub(super) fn report(&self, id: &ObjectId) {
        let state = self.state();
        let listeners = state.listeners.get(id).into_iter();
        for changed in listeners.flat_map(HashMap::values) {
            changed.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// Waits until an object has changed since the last call, or since the listener was created.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut state = self.changes.state();
        for id in &self.ids {
            if let Some(listeners) = state.listeners.get_mut(id) {
                listeners.remove(&self.number);
                if listeners.is_empty() {
                    state.listeners.remove(id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::id;

    async fn is_woken(listener: &Listener) -> bool {
        let changed = tokio::time::timeout(Duration::from_secs(1), listener.changed());
        changed.await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn wakes_the_listeners_of_the_object_and_no_others() {
        let changes = Changes::default();
        let both = changes.listen(vec![id("a"), id("b")]);
        let other = changes.listen(vec![id("c")]);
        for changed in ["a", "b"] {
            changes.report(&id(changed));
            assert!(is_woken(&both).await, "{changed}, before the call");
            assert!(!is_woken(&both).await, "{changed}, once");
        }
        assert!(!is_woken(&other).await);
        drop((both, other));
        changes.report(&id("a"));
        assert!(changes.state().listeners.is_empty());
    }
}
