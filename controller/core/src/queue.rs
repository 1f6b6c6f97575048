//! The queue of objects to reconcile: determines the next object and its time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use shared::clock::LatestTime;

use crate::object_id::ObjectId;
use fair::Shares;

/// The longest wait after the first failure. Each further failure doubles it, up to [`LONGEST_WAIT`].
const FIRST_WAIT: SignedDuration = SignedDuration::from_millis(500);
/// The maximum wait. Retries never end.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_mins(5);
/// An object in the queue is due after this time at the latest, even if its time is later: the time may come from a
/// clock that was wrong. An attempt that is too early does no harm.
const LONGEST_DELAY: SignedDuration = SignedDuration::from_hours(1);
/// The backlog gets one of this many turns, regardless of the number of fresh objects.
const TURNS_PER_BACKLOG_TURN: u32 = 4;

/// Returns how long to wait after `failures` consecutive failures. `jitter` is between 0 and 1 and shortens the wait by
/// up to half, so that objects that failed at the same time are not retried at the same time.
pub fn backoff(failures: u32, jitter: f64) -> SignedDuration {
    let doublings = failures.saturating_sub(1).min(16);
    let max_wait = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
    max_wait.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

/// Returns whether `retry_at` is in the future. No retry is scheduled more than five minutes ahead, so a later
/// `retry_at` was computed with a wrong clock, and counts as past.
pub fn is_waiting(retry_at: Timestamp, now: Timestamp) -> bool {
    now < retry_at && retry_at.duration_since(now) <= LONGEST_WAIT
}

/// The urgency of an object. A higher urgency goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// The object comes from a list, is retried, or is processed again for another reason, such as a new key. There can
    /// be thousands of such objects.
    Backlog,
    /// A client may just have changed the object or its Secret, and a user may be waiting.
    Fresh,
}

/// The objects to reconcile, with their times. Namespaces take turns, so that a namespace's backlog delays only its own
/// objects; among the objects of a namespace with the same urgency, the object that has been due longest goes first.
#[derive(Debug, Default)]
pub struct Queue {
    entries: HashMap<ObjectId, (Timestamp, Urgency)>,
    fresh: Lane,
    backlog: Lane,
    /// The number of turns of each namespace.
    shares: Shares,
    turn: u32,
    latest_time: LatestTime,
}

/// Objects of one urgency.
#[derive(Debug, Default)]
struct Lane {
    /// Objects that are not marked as due yet.
    later: BTreeSet<(Timestamp, ObjectId)>,
    /// Objects that are due, by namespace.
    due: BTreeMap<String, BTreeSet<(Timestamp, ObjectId)>>,
}

impl Queue {
    /// Adds an object. If it is already in the queue, the earlier time and the higher urgency apply.
    pub fn add(&mut self, id: ObjectId, at: Timestamp, urgency: Urgency) {
        let previous = self.remove(&id);
        let (at, urgency) =
            previous.map_or((at, urgency), |(time, u)| (at.min(time), urgency.max(u)));
        self.lane(urgency).later.insert((at, id.clone()));
        self.entries.insert(id, (at, urgency));
    }

    /// Records the current time. If the clock was set back, the objects that are not due keep the rest of their waits.
    /// Every wait is limited to an hour.
    pub fn observe(&mut self, now: Timestamp) {
        let step = self.latest_time.record(now);
        if let Some(step) = step {
            self.reschedule(Timestamp::MIN, |at| at.saturating_sub(step).unwrap_or(now));
        }
        if let Ok(latest) = now.checked_add(LONGEST_DELAY) {
            self.reschedule(latest, |_| latest);
        }
    }

    /// Marks the objects whose time has come as due.
    pub fn mark_due(&mut self, now: Timestamp) {
        self.observe(now);
        self.fresh.mark_due(now);
        self.backlog.mark_due(now);
    }

    /// Removes and returns a due object, with its urgency: a fresh object, or an object of the backlog if it is the
    /// backlog's turn or no fresh object may begin. Among the namespaces for which `may_begin` is true, the namespace
    /// with the fewest turns goes first.
    pub fn take(&mut self, may_begin: impl Fn(&str) -> bool) -> Option<(ObjectId, Urgency)> {
        let fresh = self.fresh.next_namespace(&self.shares, &may_begin);
        let backlog = self.backlog.next_namespace(&self.shares, &may_begin);
        let (urgency, namespace) = match (fresh, backlog) {
            (None, None) => return None,
            (Some(fresh), Some(backlog)) => {
                self.turn = (self.turn + 1) % TURNS_PER_BACKLOG_TURN;
                if self.turn == 0 {
                    (Urgency::Backlog, backlog)
                } else {
                    (Urgency::Fresh, fresh)
                }
            }
            (Some(fresh), None) => (Urgency::Fresh, fresh),
            (None, Some(backlog)) => (Urgency::Backlog, backlog),
        };
        self.shares.serve(&namespace);
        self.shares.charge(&namespace, 1);
        let id = self.lane(urgency).take(&namespace)?;
        self.entries.remove(&id);
        Some((id, urgency))
    }

    /// Returns how many namespaces have due objects or are in `running`. Counts at most `limit` namespaces with due
    /// objects of each urgency.
    pub fn count_active_namespaces(&self, running: &HashMap<String, usize>, limit: usize) -> usize {
        let due = [&self.fresh, &self.backlog].map(|lane| lane.due.keys().take(limit));
        let namespaces = due.into_iter().flatten().chain(running.keys());
        namespaces.collect::<HashSet<_>>().len()
    }

    /// Removes and returns all objects, whether or not they are due.
    pub fn drain(&mut self) -> Vec<ObjectId> {
        self.fresh = Lane::default();
        self.backlog = Lane::default();
        self.entries.drain().map(|(id, _)| id).collect()
    }

    /// Returns the number of objects in the queue.
    pub fn count_objects(&self) -> usize {
        self.entries.len()
    }

    /// Returns when the next object becomes due; `None` if no object waits for its time.
    pub fn next_due_time(&self) -> Option<Timestamp> {
        let next_times = [self.fresh.later.first(), self.backlog.later.first()];
        next_times.into_iter().flatten().map(|(at, _)| *at).min()
    }

    /// Applies `to_time` to the times of the objects that become due later than `after`.
    fn reschedule(&mut self, after: Timestamp, to_time: impl Fn(Timestamp) -> Timestamp) {
        for urgency in [Urgency::Backlog, Urgency::Fresh] {
            for (at, id) in self.lane(urgency).take_later_than(after) {
                let at = to_time(at);
                self.lane(urgency).later.insert((at, id.clone()));
                self.entries.insert(id, (at, urgency));
            }
        }
    }

    fn remove(&mut self, id: &ObjectId) -> Option<(Timestamp, Urgency)> {
        let (at, urgency) = self.entries.remove(id)?;
        self.lane(urgency).remove(&(at, id.clone()));
        Some((at, urgency))
    }

    fn lane(&mut self, urgency: Urgency) -> &mut Lane {
        match urgency {
            Urgency::Fresh => &mut self.fresh,
            Urgency::Backlog => &mut self.backlog,
        }
    }
}

impl Lane {
    fn mark_due(&mut self, now: Timestamp) {
        while let Some(first) = self.later.first()
            && first.0 <= now
            && let Some(first) = self.later.pop_first()
        {
            let namespace = first.1.namespace.clone();
            self.due.entry(namespace).or_default().insert(first);
        }
    }

    /// Removes and returns the objects that become due later than `after`.
    fn take_later_than(&mut self, after: Timestamp) -> Vec<(Timestamp, ObjectId)> {
        let mut taken = Vec::new();
        while let Some(last) = self.later.last()
            && last.0 > after
            && let Some(last) = self.later.pop_last()
        {
            taken.push(last);
        }
        taken
    }

    fn next_namespace(&self, shares: &Shares, may_begin: &impl Fn(&str) -> bool) -> Option<String> {
        let due = self.due.iter().filter_map(|(namespace, objects)| {
            let first = objects.first()?.0;
            may_begin(namespace).then(|| ((shares.sort_key(namespace), first), namespace))
        });
        let (_, namespace) = due.min_by_key(|(order, _)| *order)?;
        Some(namespace.clone())
    }

    fn take(&mut self, namespace: &str) -> Option<ObjectId> {
        let objects = self.due.get_mut(namespace)?;
        let (_, id) = objects.pop_first()?;
        if objects.is_empty() {
            self.due.remove(namespace);
        }
        Some(id)
    }

    fn remove(&mut self, entry: &(Timestamp, ObjectId)) {
        self.later.remove(entry);
        let namespace = &entry.1.namespace;
        if let Some(objects) = self.due.get_mut(namespace) {
            objects.remove(entry);
            if objects.is_empty() {
                self.due.remove(namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Urgency::{Backlog, Fresh};
    use super::*;
    use crate::object_id::tests::id;

    fn timestamp(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn take(queue: &mut Queue, now: i64) -> Option<(ObjectId, Urgency)> {
        queue.mark_due(timestamp(now));
        queue.take(|_| true)
    }

    fn names(queue: &mut Queue, now: i64) -> Vec<String> {
        std::iter::from_fn(|| take(queue, now).map(|(id, _)| id.name)).collect()
    }

    fn id_in(namespace: &str, name: &str) -> ObjectId {
        ObjectId {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Attack: an author makes an object fail indefinitely so that it is retried as often as possible.
    #[test]
    fn retries_back_off_up_to_a_maximum_and_never_stop() {
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
                backoff(failures, jitter),
                want,
                "{failures} failures, {jitter}"
            );
        }
    }

    /// Fault: the clock is 40 days ahead while objects fail, and is corrected afterwards.
    #[test]
    fn a_corrected_clock_delays_no_retry() {
        let (wrong, right) = (timestamp(40 * 86_400), timestamp(100));
        let mut queue = Queue::default();
        queue.add(id("before"), timestamp(130), Backlog);
        queue.mark_due(wrong);
        assert_eq!(take(&mut queue, 40 * 86_400), Some((id("before"), Backlog)));
        for (name, wait) in [("a", 30), ("b", 60)] {
            let at = wrong.saturating_add(SignedDuration::from_secs(wait));
            queue.add(id(name), at.unwrap(), Backlog);
        }
        queue.mark_due(right);
        assert_eq!(queue.next_due_time(), Some(timestamp(130)));
        assert_eq!(take(&mut queue, 129), None);
        assert_eq!(names(&mut queue, 130), ["a"]);
        assert_eq!(names(&mut queue, 160), ["b"]);
        assert_eq!(queue.count_objects(), 0);
    }

    /// Fault: an attempt began when the clock was 40 days ahead, and its outcome names a time of that clock.
    #[test]
    fn a_time_that_is_too_far_away_is_brought_forward() {
        let mut queue = Queue::default();
        queue.mark_due(timestamp(100));
        queue.add(id("a"), timestamp(40 * 86_400), Backlog);
        queue.mark_due(timestamp(100));
        assert_eq!(queue.next_due_time(), Some(timestamp(3_700)));
        queue.mark_due(timestamp(2_000));
        assert_eq!(queue.next_due_time(), Some(timestamp(3_700)));
        assert_eq!(names(&mut queue, 3_700), ["a"]);
    }

    #[test]
    fn a_wait_from_a_wrong_clock_is_over() {
        for (retry_at, waits) in [
            (99, false),
            (100, false),
            (101, true),
            (400, true),
            (401, false),
        ] {
            let got = is_waiting(timestamp(retry_at), timestamp(100));
            assert_eq!(got, waits, "{retry_at}");
        }
    }

    #[test]
    fn takes_due_objects_in_order_of_waiting_time() {
        let mut queue = Queue::default();
        queue.add(id("a"), timestamp(3), Fresh);
        queue.add(id("b"), timestamp(2), Fresh);
        queue.add(id("c"), timestamp(9), Fresh);
        queue.add(id("c"), timestamp(1), Fresh);
        queue.add(id("d"), timestamp(50), Fresh);
        queue.add(id("a"), timestamp(60), Fresh);
        assert_eq!(queue.next_due_time(), Some(timestamp(1)));
        assert_eq!(names(&mut queue, 10), ["c", "b", "a"]);
        assert_eq!(queue.next_due_time(), Some(timestamp(50)));
        assert_eq!(queue.count_objects(), 1);
    }

    /// Attack: an author queues a long backlog, to delay an object that changes later.
    #[test]
    fn fresh_objects_overtake_the_backlog_without_stopping_it() {
        let mut queue = Queue::default();
        for i in 0..1000 {
            queue.add(id(&format!("old-{i:04}")), timestamp(1), Backlog);
        }
        queue.add(id("new"), timestamp(9), Fresh);
        assert_eq!(take(&mut queue, 9), Some((id("new"), Fresh)));
        for i in 0..8 {
            queue.add(id(&format!("new-{i}")), timestamp(9), Fresh);
        }
        let urgencies: Vec<_> = (0..8).filter_map(|_| take(&mut queue, 9)).collect();
        let backlog = urgencies.iter().filter(|(_, u)| *u == Backlog).count();
        assert_eq!(backlog, 2, "{urgencies:?}");
    }

    #[test]
    fn a_changed_backlog_object_becomes_fresh_and_keeps_its_time() {
        let mut queue = Queue::default();
        queue.add(id("a"), timestamp(5), Backlog);
        queue.add(id("b"), timestamp(6), Backlog);
        queue.add(id("b"), timestamp(9), Fresh);
        queue.add(id("b"), timestamp(9), Backlog);
        assert_eq!(queue.count_objects(), 2);
        assert_eq!(take(&mut queue, 6), Some((id("b"), Fresh)));
        assert_eq!(take(&mut queue, 6), Some((id("a"), Backlog)));
    }

    /// Attack: a tenant creates a thousand objects, to delay the single object of another tenant.
    #[test]
    fn another_namespace_overtakes_a_backlog_of_any_urgency() {
        for urgency in [Fresh, Backlog] {
            let mut queue = Queue::default();
            for i in 0..1000 {
                queue.add(
                    id_in("hostile", &format!("h-{i:04}")),
                    timestamp(1),
                    urgency,
                );
            }
            assert_eq!(take(&mut queue, 9).unwrap().0.namespace, "hostile");
            queue.add(id_in("quiet", "q"), timestamp(9), urgency);
            assert_eq!(take(&mut queue, 9), Some((id_in("quiet", "q"), urgency)));
        }
    }

    #[test]
    fn namespaces_take_turns_however_many_objects_each_has() {
        let mut queue = Queue::default();
        for (namespace, objects) in [("a", 100), ("b", 10), ("c", 2)] {
            for i in 0..objects {
                queue.add(id_in(namespace, &format!("{i:03}")), timestamp(1), Backlog);
            }
        }
        let order: String = std::iter::from_fn(|| take(&mut queue, 1))
            .take(9)
            .map(|(id, _)| id.namespace)
            .collect();
        assert_eq!(order, "abcabcaba");
    }

    #[test]
    fn a_blocked_namespace_is_skipped_and_keeps_its_objects() {
        let mut queue = Queue::default();
        queue.add(id_in("full", "f"), timestamp(1), Fresh);
        queue.add(id_in("other", "o"), timestamp(2), Fresh);
        queue.mark_due(timestamp(9));
        let may_begin = |namespace: &str| namespace != "full";
        assert_eq!(queue.take(may_begin), Some((id_in("other", "o"), Fresh)));
        assert_eq!(queue.take(may_begin), None);
        assert_eq!(take(&mut queue, 9), Some((id_in("full", "f"), Fresh)));
    }
}
