//! Attempts that pause, so that the time of what they publish tells nothing. They hold no place at which another
//! object could be worked on, as long as there is room for what they keep in memory.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Bytes that all attempts that pause may keep, and the most of them that one namespace may.
const ROOM: usize = 64 << 20;
const ROOM_EACH: usize = ROOM / 4;
/// What an attempt keeps beside values.
const BESIDE_VALUES: usize = 8 << 10;

/// Who pauses.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    away: Mutex<HashMap<String, Away>>,
    begun: Notify,
}

#[derive(Debug, Default, Clone, Copy)]
struct Away {
    attempts: usize,
    bytes: usize,
}

/// An attempt that holds no place, until this is dropped.
#[derive(Debug)]
pub(super) struct Pause<'a> {
    of: &'a Pauses,
    namespace: &'a str,
    bytes: usize,
}

impl Pauses {
    /// Gives up the place of an attempt that keeps values of so many bytes. `None` if it has to hold its place.
    pub(super) fn begin<'a>(&'a self, namespace: &'a str, values: usize) -> Option<Pause<'a>> {
        let bytes = values + BESIDE_VALUES;
        let mut away = self.away();
        let all: usize = away.values().map(|away| away.bytes).sum();
        let own = away.get(namespace).map_or(0, |away| away.bytes);
        if all + bytes > ROOM || own + bytes > ROOM_EACH {
            return None;
        }
        Some(self.count(&mut away, namespace, bytes))
    }

    /// Gives up the place of an attempt for good. Its values are bounded by its hold.
    pub(super) fn leave<'a>(&'a self, namespace: &'a str) -> Pause<'a> {
        self.count(&mut self.away(), namespace, 0)
    }

    fn count<'a>(
        &'a self,
        away: &mut HashMap<String, Away>,
        namespace: &'a str,
        bytes: usize,
    ) -> Pause<'a> {
        let own = away.entry(namespace.to_owned()).or_default();
        own.attempts += 1;
        own.bytes += bytes;
        self.begun.notify_one();
        Pause {
            of: self,
            namespace,
            bytes,
        }
    }

    /// Waits until a place was given up. May be dropped at any time.
    pub(super) async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Attempts of each namespace that hold no place.
    pub(super) fn attempts(&self) -> HashMap<String, usize> {
        let away = self.away();
        let attempts = away.iter();
        let attempts = attempts.map(|(namespace, away)| (namespace.clone(), away.attempts));
        attempts.collect()
    }

    fn end(&self, namespace: &str, bytes: usize) {
        let mut away = self.away();
        if let Some(own) = away.get_mut(namespace) {
            own.attempts -= 1;
            own.bytes -= bytes;
            if own.attempts == 0 {
                away.remove(namespace);
            }
        }
    }

    fn away(&self) -> MutexGuard<'_, HashMap<String, Away>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.of.end(self.namespace, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: objects with large results and slow templates fill the memory while they pause.
    #[test]
    fn those_that_pause_keep_a_bounded_amount_and_a_namespace_a_part_of_it() {
        const LARGE: usize = 1 << 20;
        let pauses = Pauses::default();
        let fill = |namespace: &'static str| {
            std::iter::from_fn(|| pauses.begin(namespace, LARGE)).collect::<Vec<_>>()
        };
        let hostile = fill("hostile");
        assert_eq!(hostile.len(), 15);
        let quiet = pauses.begin("quiet", 1);
        assert!(quiet.is_some());
        let others: Vec<_> = ["b", "c", "d", "e"].into_iter().flat_map(fill).collect();
        assert!(hostile.len() + others.len() < 64, "{}", others.len());
        assert_eq!(pauses.attempts()["hostile"], 15);
        drop(hostile);
        assert!(!pauses.attempts().contains_key("hostile"));
        assert!(pauses.begin("hostile", LARGE).is_some());
    }
}
