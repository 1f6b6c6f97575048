use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

use crate::store::ObjectId;

/// The wait after the first failure; each further one doubles it.
const FIRST_WAIT: SignedDuration = SignedDuration::from_millis(500);
/// No wait is longer: what failed is tried again at least this often, for ever.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(5);
/// Of so many turns one goes to the backlog, however much there is that is fresh.
const TURNS: u32 = 4;

/// How long to wait after that many failures in a row. `jitter` lies between 0 and 1 and takes away
/// up to half, so that what failed together does not come back together.
pub fn wait(failures: u32, jitter: f64) -> SignedDuration {
    let doublings = failures.saturating_sub(1).min(16);
    let full = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
    full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It was there before, or is tried again: one of maybe many thousands.
    Backlog,
    /// Somebody just changed it, and may be waiting.
    Fresh,
}

/// Which objects are to be looked at, and when.
#[derive(Debug, Default)]
pub(super) struct Queue {
    due: HashMap<ObjectId, (Timestamp, Urgency)>,
    fresh: BTreeSet<(Timestamp, ObjectId)>,
    backlog: BTreeSet<(Timestamp, ObjectId)>,
    turn: u32,
}

impl Queue {
    /// Adds an object; of two times the earlier one counts, and of two urgencies the higher.
    pub(super) fn add(&mut self, id: ObjectId, at: Timestamp, urgency: Urgency) {
        let before = self.remove(&id);
        let (at, urgency) =
            before.map_or((at, urgency), |(time, u)| (at.min(time), urgency.max(u)));
        self.of(urgency).insert((at, id.clone()));
        self.due.insert(id, (at, urgency));
    }

    /// Takes out an object whose time has come: a fresh one, or when it is its turn, one of the
    /// backlog; of these the one that waited longest.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<(ObjectId, Urgency)> {
        let is_ripe =
            |set: &BTreeSet<(Timestamp, ObjectId)>| set.first().is_some_and(|(at, _)| *at <= now);
        let urgency = match (is_ripe(&self.fresh), is_ripe(&self.backlog)) {
            (false, false) => return None,
            (true, true) => {
                self.turn = (self.turn + 1) % TURNS;
                if self.turn == 0 {
                    Urgency::Backlog
                } else {
                    Urgency::Fresh
                }
            }
            (true, false) => Urgency::Fresh,
            (false, true) => Urgency::Backlog,
        };
        let (_, id) = self.of(urgency).pop_first()?;
        self.due.remove(&id);
        Some((id, urgency))
    }

    /// Takes out everything, whenever it is due.
    pub(super) fn drain(&mut self) -> Vec<ObjectId> {
        self.fresh.clear();
        self.backlog.clear();
        self.due.drain().map(|(id, _)| id).collect()
    }

    /// How many objects wait.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// When the next object is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let firsts = [self.fresh.first(), self.backlog.first()];
        firsts.into_iter().flatten().map(|(at, _)| *at).min()
    }

    fn remove(&mut self, id: &ObjectId) -> Option<(Timestamp, Urgency)> {
        let (at, urgency) = self.due.remove(id)?;
        self.of(urgency).remove(&(at, id.clone()));
        Some((at, urgency))
    }

    fn of(&mut self, urgency: Urgency) -> &mut BTreeSet<(Timestamp, ObjectId)> {
        match urgency {
            Urgency::Fresh => &mut self.fresh,
            Urgency::Backlog => &mut self.backlog,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Urgency::{Backlog, Fresh};
    use super::*;
    use crate::testing::id;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn names(queue: &mut Queue, now: i64) -> Vec<String> {
        std::iter::from_fn(|| queue.take(at(now)).map(|(id, _)| id.name)).collect()
    }

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
        let mut queue = Queue::default();
        queue.add(id("a"), at(3), Fresh);
        queue.add(id("b"), at(2), Fresh);
        queue.add(id("c"), at(9), Fresh);
        queue.add(id("c"), at(1), Fresh);
        queue.add(id("d"), at(50), Fresh);
        queue.add(id("a"), at(60), Fresh);
        assert_eq!(queue.next(), Some(at(1)));
        assert_eq!(names(&mut queue, 10), ["c", "b", "a"]);
        assert_eq!(queue.next(), Some(at(50)));
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn what_is_fresh_passes_a_long_backlog_and_never_stops_it() {
        let mut queue = Queue::default();
        for i in 0..1000 {
            queue.add(id(&format!("old-{i:04}")), at(1), Backlog);
        }
        queue.add(id("new"), at(9), Fresh);
        assert_eq!(queue.take(at(9)), Some((id("new"), Fresh)));
        for i in 0..8 {
            queue.add(id(&format!("new-{i}")), at(9), Fresh);
        }
        let urgencies: Vec<_> = (0..8).filter_map(|_| queue.take(at(9))).collect();
        let old = urgencies.iter().filter(|(_, u)| *u == Backlog).count();
        assert_eq!(old, 2, "{urgencies:?}");
    }

    #[test]
    fn one_of_the_backlog_that_changes_is_fresh_and_keeps_its_time() {
        let mut queue = Queue::default();
        queue.add(id("a"), at(5), Backlog);
        queue.add(id("b"), at(6), Backlog);
        queue.add(id("b"), at(9), Fresh);
        queue.add(id("b"), at(9), Backlog);
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.take(at(6)), Some((id("b"), Fresh)));
        assert_eq!(queue.take(at(6)), Some((id("a"), Backlog)));
    }
}
