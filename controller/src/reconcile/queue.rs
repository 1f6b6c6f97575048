use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::store::ObjectId;

/// The wait after the first failure; each further one doubles it.
const FIRST_WAIT: SignedDuration = SignedDuration::from_millis(500);
/// No wait is longer: what failed is tried again at least this often, for ever.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(5);

/// How long to wait after that many failures in a row. `jitter` lies between 0 and 1 and takes away
/// up to half, so that what failed together does not come back together.
pub fn wait(failures: u32, jitter: f64) -> SignedDuration {
    let doublings = failures.saturating_sub(1).min(16);
    let full = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
    full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

/// Which objects are to be looked at, and when.
#[derive(Debug, Default)]
pub(super) struct Queue {
    due: BTreeMap<ObjectId, Timestamp>,
}

impl Queue {
    /// Adds an object; of two times the earlier one counts.
    pub(super) fn add(&mut self, id: ObjectId, at: Timestamp) {
        let due = self.due.entry(id).or_insert(at);
        *due = at.min(*due);
    }

    /// Takes out up to `limit` objects whose time has come, those that waited longest first.
    pub(super) fn take(&mut self, now: Timestamp, limit: usize) -> Vec<ObjectId> {
        let ripe = self.due.iter().filter(|(_, at)| **at <= now);
        let mut ripe: Vec<(Timestamp, ObjectId)> = ripe.map(|(id, at)| (*at, id.clone())).collect();
        ripe.sort();
        ripe.truncate(limit);
        for (_, id) in &ripe {
            self.due.remove(id);
        }
        ripe.into_iter().map(|(_, id)| id).collect()
    }

    /// How many objects wait.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// When the next object is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_cap_and_never_end() {
        for (failures, jitter, milliseconds) in [
            (1, 0.0, 500),
            (1, 1.0, 250),
            (2, 0.0, 1_000),
            (5, 0.5, 6_000),
            (10, 0.0, 256_000),
            (11, 0.0, 300_000),
            (u32::MAX, 0.0, 300_000),
            (u32::MAX, 7.0, 150_000),
        ] {
            let want = SignedDuration::from_millis(milliseconds);
            assert_eq!(
                wait(failures, jitter),
                want,
                "{failures} failures, {jitter}"
            );
        }
    }

    #[test]
    fn gives_out_what_is_due_the_longest_waiting_first() {
        let id = |name: &str| ObjectId {
            namespace: "ns".into(),
            name: name.into(),
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut queue = Queue::default();
        queue.add(id("a"), at(3));
        queue.add(id("b"), at(2));
        queue.add(id("c"), at(9));
        queue.add(id("c"), at(1));
        queue.add(id("d"), at(50));
        queue.add(id("a"), at(60));
        assert_eq!(queue.next(), Some(at(1)));
        assert_eq!(queue.take(at(10), 2), [id("c"), id("b")]);
        assert_eq!(queue.take(at(10), 2), [id("a")]);
        assert_eq!(queue.take(at(10), 2), []);
        assert_eq!(queue.next(), Some(at(50)));
    }
}
