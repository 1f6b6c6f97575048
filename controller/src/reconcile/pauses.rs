//! Attempts that pause, so that the time of their reports and writes reveals nothing. A paused attempt occupies no
//! slot, as long as the memory limits allow keeping its values. It gets no slot after the pause either: otherwise all
//! paused attempts of a namespace could return together, and occupy every slot until the API server has responded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Maximum size of the values of all paused attempts, in bytes.
const MAX_BYTES: usize = 64 << 20;
/// Maximum size of the values of the paused attempts of one namespace, in bytes.
const MAX_BYTES_PER_NAMESPACE: usize = MAX_BYTES / 4;
/// Size of an attempt without its values, in bytes.
const OVERHEAD: usize = 8 << 10;

/// The paused attempts of all namespaces.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    paused: Mutex<HashMap<String, PausedAttempts>>,
    started: Notify,
}

#[derive(Debug, Default, Clone, Copy)]
struct PausedAttempts {
    attempts: usize,
    bytes: usize,
}

/// An attempt without a slot, until this value is dropped.
#[derive(Debug)]
pub(super) struct Pause {
    pauses: Arc<Pauses>,
    namespace: String,
    bytes: usize,
}

impl Pauses {
    /// Gives up the slot of an attempt that keeps values of this size. Returns `None` if the memory limits require the
    /// attempt to keep its slot.
    pub(super) fn begin(self: &Arc<Self>, namespace: &str, values: usize) -> Option<Pause> {
        let bytes = values + OVERHEAD;
        let mut paused = self.paused();
        let total: usize = paused.values().map(|paused| paused.bytes).sum();
        let own = paused.get(namespace).map_or(0, |paused| paused.bytes);
        if total + bytes > MAX_BYTES || own + bytes > MAX_BYTES_PER_NAMESPACE {
            return None;
        }
        Some(self.count(&mut paused, namespace, bytes))
    }

    /// Gives up the slot of an attempt until the returned pause is dropped. The number of permits bounds the memory of
    /// such attempts.
    pub(super) fn begin_without_values(self: &Arc<Self>, namespace: &str) -> Pause {
        self.count(&mut self.paused(), namespace, 0)
    }

    fn count(
        self: &Arc<Self>,
        paused: &mut HashMap<String, PausedAttempts>,
        namespace: &str,
        bytes: usize,
    ) -> Pause {
        let own = paused.entry(namespace.to_owned()).or_default();
        own.attempts += 1;
        own.bytes += bytes;
        self.started.notify_one();
        Pause {
            pauses: Arc::clone(self),
            namespace: namespace.to_owned(),
            bytes,
        }
    }

    /// Waits until an attempt gives up its slot. Cancel safe.
    pub(super) async fn wait_for_pause(&self) {
        self.started.notified().await;
    }

    /// Returns, per namespace, the number of attempts without a slot.
    pub(super) fn count_attempts(&self) -> HashMap<String, usize> {
        let paused = self.paused();
        let attempts = paused.iter();
        let attempts = attempts.map(|(namespace, paused)| (namespace.clone(), paused.attempts));
        attempts.collect()
    }

    fn remove(&self, namespace: &str, bytes: usize) {
        let mut paused = self.paused();
        if let Some(own) = paused.get_mut(namespace) {
            own.attempts -= 1;
            own.bytes -= bytes;
            if own.attempts == 0 {
                paused.remove(namespace);
            }
        }
    }

    fn paused(&self) -> MutexGuard<'_, HashMap<String, PausedAttempts>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.pauses.remove(&self.namespace, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: an author stores objects with large results and slow templates, to fill the memory with paused attempts.
    #[test]
    fn paused_attempts_keep_a_bounded_amount_of_memory_in_total_and_per_namespace() {
        const LARGE: usize = 1 << 20;
        let pauses = Arc::<Pauses>::default();
        let fill = |namespace: &'static str| {
            std::iter::from_fn(|| pauses.begin(namespace, LARGE)).collect::<Vec<_>>()
        };
        let hostile = fill("hostile");
        assert_eq!(hostile.len(), 15);
        let quiet = pauses.begin("quiet", 1);
        assert!(quiet.is_some());
        let others: Vec<_> = ["b", "c", "d", "e"].into_iter().flat_map(fill).collect();
        assert!(hostile.len() + others.len() < 64, "{}", others.len());
        assert_eq!(pauses.count_attempts()["hostile"], 15);
        drop(hostile);
        assert!(!pauses.count_attempts().contains_key("hostile"));
        assert!(pauses.begin("hostile", LARGE).is_some());
    }
}
