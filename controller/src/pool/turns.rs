//! Slots for work, allocated by fair shares.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use controller_core::fair::{Shares, max_each};

/// A fixed number of slots. Among waiting tenants, the one that has used least gets the next slot; among the
/// jobs of one tenant, the job that has used least.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    total: usize,
    /// Slots that stay free for tenants that hold none, if slots are held for a long time.
    reserved: Option<usize>,
    shares: Shares,
    tenants: HashMap<String, Tenant>,
    arrivals: u64,
}

/// A tenant that holds a slot or waits for one.
#[derive(Debug, Default)]
struct Tenant {
    held: usize,
    /// What the job served last had used.
    clock: u64,
    /// Waiting jobs, sorted by what the job has used, then by arrival.
    waiting: BTreeMap<(u64, u64), oneshot::Sender<Turn>>,
}

/// One piece of work of a tenant, over all its turns.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) tenant: Arc<str>,
    /// `None` before the first turn.
    used: Option<u64>,
}

impl Job {
    pub(crate) fn of(tenant: &str) -> Self {
        Self {
            tenant: tenant.into(),
            used: None,
        }
    }

    pub(super) fn charge(&mut self, units: u64) {
        self.used = Some(self.used.unwrap_or_default().saturating_add(units));
    }
}

/// A slot, released on drop.
#[derive(Debug)]
pub(crate) struct Turn {
    tenant: Arc<str>,
    of: Option<Turns>,
}

impl Turns {
    /// Creates slots that are held briefly; none is reserved.
    pub(crate) fn new(places: usize) -> Self {
        Self::with(places, None)
    }

    /// Creates slots that are held for a long time. Some are reserved for tenants that hold none.
    pub(crate) fn reserving(places: usize, reserved: usize) -> Self {
        Self::with(places, Some(reserved))
    }

    fn with(places: usize, reserved: Option<usize>) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: places,
            total: places,
            reserved,
            shares: Shares::default(),
            tenants: HashMap::new(),
            arrivals: 0,
        })))
    }

    /// Queues a job. The turn arrives through the channel; dropping the receiver gives it up.
    pub(crate) fn wait(&self, job: &mut Job) -> oneshot::Receiver<Turn> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        state.arrivals += 1;
        let arrival = state.arrivals;
        let tenant = state.tenants.entry(job.tenant.to_string()).or_default();
        let used = *job.used.get_or_insert(tenant.clock);
        tenant.waiting.insert((used, arrival), sender);
        self.give(&mut state);
        receiver
    }

    /// Returns whether any job waits for a slot.
    pub(crate) fn are_wanted(&self) -> bool {
        let state = self.state();
        state.tenants.values().any(|t| !t.waiting.is_empty())
    }

    /// Records what a tenant uses.
    pub(crate) fn charge(&self, tenant: &str, units: u64) {
        self.state().shares.charge(tenant, units);
    }

    /// Allocates free slots as long as a waiting tenant may have one.
    fn give(&self, state: &mut State) {
        while state.free > 0
            && let Some(tenant) = state.next()
        {
            state.shares.serve(&tenant);
            let Some(sender) = state.first_of(&tenant) else {
                return;
            };
            let turn = Turn {
                tenant: tenant.as_str().into(),
                of: Some(self.clone()),
            };
            match sender.send(turn) {
                Ok(()) => {
                    state.free -= 1;
                    state.tenants.entry(tenant).or_default().held += 1;
                }
                // The receiver was dropped. Detach the turn, since its drop would lock the state again.
                Err(mut turn) => drop(mem::take(&mut turn.of)),
            }
        }
        state.tenants.retain(|_, tenant| tenant.is_active());
    }

    fn take_back(&self, tenant: &str) {
        let mut state = self.state();
        state.free += 1;
        if let Some(tenant) = state.tenants.get_mut(tenant) {
            tenant.held -= 1;
        }
        self.give(&mut state);
    }

    /// Ignores poisoning: no code that holds the lock panics half-way.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&self) -> Option<String> {
        let most = self.reserved.map_or(usize::MAX, |reserved| {
            max_each(self.total, reserved, self.tenants.len())
        });
        let waiting = self.tenants.iter().filter_map(|(name, tenant)| {
            let ((_, arrival), _) = tenant.waiting.first_key_value()?;
            (tenant.held < most).then(|| ((self.shares.used(name), *arrival), name))
        });
        let (_, name) = waiting.min_by_key(|(order, _)| *order)?;
        Some(name.clone())
    }

    fn first_of(&mut self, tenant: &str) -> Option<oneshot::Sender<Turn>> {
        let tenant = self.tenants.get_mut(tenant)?;
        let ((used, _), sender) = tenant.waiting.pop_first()?;
        tenant.clock = tenant.clock.max(used);
        Some(sender)
    }
}

impl Tenant {
    fn is_active(&self) -> bool {
        self.held > 0 || !self.waiting.is_empty()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.of.take() {
            turns.take_back(&self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn got(receiver: &mut oneshot::Receiver<Turn>) -> Option<Turn> {
        receiver.try_recv().ok()
    }

    #[test]
    fn a_backlog_of_one_tenant_is_passed_by_another() {
        let turns = Turns::new(1);
        let mut first = turns.wait(&mut Job::of("busy"));
        let held = got(&mut first).unwrap();
        let mut backlog: Vec<_> = (0..100).map(|_| turns.wait(&mut Job::of("busy"))).collect();
        let mut quiet = turns.wait(&mut Job::of("quiet"));
        turns.charge("busy", 10);
        drop(held);
        assert!(got(&mut quiet).is_some());
        assert!(got(&mut backlog[0]).is_some());
    }

    /// Attack: a caller sends a large request before a small one.
    #[test]
    fn of_one_tenant_a_small_job_passes_a_large_one() {
        let turns = Turns::new(1);
        let mut large = Job::of("a");
        let mut first = turns.wait(&mut large);
        let held = got(&mut first).unwrap();
        large.charge(1000);
        let mut large = turns.wait(&mut large);
        let mut small = turns.wait(&mut Job::of("a"));
        drop(held);
        let held = got(&mut small).expect("it has used nothing yet");
        assert!(got(&mut large).is_none());
        drop(held);
        assert!(got(&mut large).is_some());
    }

    #[test]
    fn endless_small_jobs_do_not_starve_a_large_one_of_their_tenant() {
        let turns = Turns::new(1);
        let mut job = Job::of("a");
        let mut held = got(&mut turns.wait(&mut job)).unwrap();
        job.charge(1000);
        let mut large = turns.wait(&mut job);
        for turn in 0..1000 {
            let mut small = Job::of("a");
            let mut waits = turns.wait(&mut small);
            drop(held);
            if got(&mut large).is_some() {
                assert!(turn > 0);
                return;
            }
            held = got(&mut waits).unwrap();
            small.charge(10);
            // The small job waits for a second turn, which advances the tenant's clock.
            let mut again = turns.wait(&mut small);
            drop(held);
            if got(&mut large).is_some() {
                return;
            }
            held = got(&mut again).unwrap();
        }
        panic!("the large job never got a turn");
    }

    /// Attack: a tenant takes every slot.
    #[test]
    fn one_tenant_never_holds_all_places_that_are_held_for_long() {
        let turns = Turns::reserving(8, 2);
        let mut greedy: Vec<_> = (0..20)
            .map(|_| turns.wait(&mut Job::of("greedy")))
            .collect();
        let held: Vec<Turn> = greedy.iter_mut().filter_map(got).collect();
        assert_eq!(held.len(), 6);
        assert!(got(&mut turns.wait(&mut Job::of("quiet"))).is_some());
    }

    #[test]
    fn a_turn_that_nobody_takes_goes_to_the_next() {
        let turns = Turns::new(1);
        let held = got(&mut turns.wait(&mut Job::of("a"))).unwrap();
        drop(turns.wait(&mut Job::of("gone before its turn")));
        let unread = turns.wait(&mut Job::of("b"));
        let mut last = turns.wait(&mut Job::of("c"));
        drop(held);
        assert!(got(&mut last).is_none());
        drop(unread);
        assert!(got(&mut last).is_some());
        assert!(!turns.are_wanted());
        assert!(turns.state().tenants.is_empty());
    }
}
