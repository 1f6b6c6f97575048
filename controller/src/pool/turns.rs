//! Slots for work, allocated by fair shares.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use controller_core::fair::{Shares, max_each};

/// A fixed number of slots. The next slot goes to the waiting tenant that has used the least, and among the jobs of one
/// tenant to the job that has used the least.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    total: usize,
    /// Number of slots that are reserved for tenants without a slot; `None` if slots are held only briefly.
    reserved: Option<usize>,
    shares: Shares,
    tenants: HashMap<String, Tenant>,
    arrivals: u64,
}

/// A tenant that holds a slot or waits for one.
#[derive(Debug, Default)]
struct Tenant {
    slots: usize,
    /// The use of the job that was served last.
    clock: u64,
    /// Waiting jobs, sorted by their use, then by arrival.
    waiting: BTreeMap<(u64, u64), oneshot::Sender<Turn>>,
}

/// One job of a tenant, over all its turns.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) tenant: Arc<str>,
    /// The use of the job; `None` before the first turn.
    used: Option<u64>,
}

impl Job {
    pub(crate) fn new(tenant: &str) -> Self {
        Self {
            tenant: tenant.into(),
            used: None,
        }
    }

    pub(super) fn charge(&mut self, units: u64) {
        self.used = Some(self.used.unwrap_or_default().saturating_add(units));
    }
}

/// A slot, released when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    tenant: Arc<str>,
    turns: Option<Turns>,
}

impl Turns {
    /// Creates slots that are held briefly. None is reserved.
    pub(crate) fn new(slots: usize) -> Self {
        Self::with_reserved(slots, None)
    }

    /// Creates slots that are held for a long time. Some are reserved for tenants without a slot.
    pub(crate) fn reserving(slots: usize, reserved: usize) -> Self {
        Self::with_reserved(slots, Some(reserved))
    }

    fn with_reserved(slots: usize, reserved: Option<usize>) -> Self {
        Self(Arc::new(Mutex::new(State {
            free: slots,
            total: slots,
            reserved,
            shares: Shares::default(),
            tenants: HashMap::new(),
            arrivals: 0,
        })))
    }

    /// Queues a job. The turn is sent through the channel; dropping the receiver gives the turn up.
    pub(crate) fn enqueue(&self, job: &mut Job) -> oneshot::Receiver<Turn> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        state.arrivals += 1;
        let arrival = state.arrivals;
        let tenant = state.tenants.entry(job.tenant.to_string()).or_default();
        let used = *job.used.get_or_insert(tenant.clock);
        tenant.waiting.insert((used, arrival), sender);
        self.allocate(&mut state);
        receiver
    }

    /// Returns whether any job waits for a slot.
    pub(crate) fn have_waiting_jobs(&self) -> bool {
        let state = self.state();
        state.tenants.values().any(|t| !t.waiting.is_empty())
    }

    /// Adds units to the use of a tenant.
    pub(crate) fn charge(&self, tenant: &str, units: u64) {
        self.state().shares.charge(tenant, units);
    }

    /// Allocates free slots as long as a waiting tenant may get one.
    fn allocate(&self, state: &mut State) {
        while state.free > 0
            && let Some(tenant) = state.next_tenant()
        {
            state.shares.serve(&tenant);
            let Some(sender) = state.take_first_job(&tenant) else {
                return;
            };
            let turn = Turn {
                tenant: tenant.as_str().into(),
                turns: Some(self.clone()),
            };
            match sender.send(turn) {
                Ok(()) => {
                    state.free -= 1;
                    state.tenants.entry(tenant).or_default().slots += 1;
                }
                // The receiver was dropped. Detach the turn, since dropping it would lock the state again.
                Err(mut turn) => drop(mem::take(&mut turn.turns)),
            }
        }
        state.tenants.retain(|_, tenant| tenant.is_active());
    }

    fn release(&self, tenant: &str) {
        let mut state = self.state();
        state.free += 1;
        if let Some(tenant) = state.tenants.get_mut(tenant) {
            tenant.slots -= 1;
        }
        self.allocate(&mut state);
    }

    /// Locks the state. Ignores poisoning: no code panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_tenant(&self) -> Option<String> {
        let max = self.reserved.map_or(usize::MAX, |reserved| {
            max_each(self.total, reserved, self.tenants.len())
        });
        let waiting = self.tenants.iter().filter_map(|(name, tenant)| {
            let ((_, arrival), _) = tenant.waiting.first_key_value()?;
            (tenant.slots < max).then(|| ((self.shares.sort_key(name), *arrival), name))
        });
        let (_, name) = waiting.min_by_key(|(order, _)| *order)?;
        Some(name.clone())
    }

    fn take_first_job(&mut self, tenant: &str) -> Option<oneshot::Sender<Turn>> {
        let tenant = self.tenants.get_mut(tenant)?;
        let ((used, _), sender) = tenant.waiting.pop_first()?;
        tenant.clock = tenant.clock.max(used);
        Some(sender)
    }
}

impl Tenant {
    fn is_active(&self) -> bool {
        self.slots > 0 || !self.waiting.is_empty()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.release(&self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_turn(receiver: &mut oneshot::Receiver<Turn>) -> Option<Turn> {
        receiver.try_recv().ok()
    }

    #[test]
    fn another_tenant_overtakes_a_backlog() {
        let turns = Turns::new(1);
        let mut first = turns.enqueue(&mut Job::new("busy"));
        let turn = take_turn(&mut first).unwrap();
        let mut backlog: Vec<_> = (0..100)
            .map(|_| turns.enqueue(&mut Job::new("busy")))
            .collect();
        let mut quiet = turns.enqueue(&mut Job::new("quiet"));
        turns.charge("busy", 10);
        drop(turn);
        assert!(take_turn(&mut quiet).is_some());
        assert!(take_turn(&mut backlog[0]).is_some());
    }

    /// Attack: a caller sends a large request, to delay a small one of the same tenant.
    #[test]
    fn a_small_job_overtakes_a_large_one_of_its_tenant() {
        let turns = Turns::new(1);
        let mut large = Job::new("a");
        let mut first = turns.enqueue(&mut large);
        let turn = take_turn(&mut first).unwrap();
        large.charge(1000);
        let mut large = turns.enqueue(&mut large);
        let mut small = turns.enqueue(&mut Job::new("a"));
        drop(turn);
        let turn = take_turn(&mut small).expect("the small job has used nothing yet");
        assert!(take_turn(&mut large).is_none());
        drop(turn);
        assert!(take_turn(&mut large).is_some());
    }

    #[test]
    fn endless_small_jobs_do_not_starve_a_large_one_of_their_tenant() {
        let turns = Turns::new(1);
        let mut job = Job::new("a");
        let mut turn = take_turn(&mut turns.enqueue(&mut job)).unwrap();
        job.charge(1000);
        let mut large = turns.enqueue(&mut job);
        for round in 0..1000 {
            let mut small = Job::new("a");
            let mut small_turn = turns.enqueue(&mut small);
            drop(turn);
            if take_turn(&mut large).is_some() {
                assert!(round > 0);
                return;
            }
            turn = take_turn(&mut small_turn).unwrap();
            small.charge(10);
            // The small job waits for a second turn, which advances the tenant's clock.
            let mut second_turn = turns.enqueue(&mut small);
            drop(turn);
            if take_turn(&mut large).is_some() {
                return;
            }
            turn = take_turn(&mut second_turn).unwrap();
        }
        panic!("the large job never got a turn");
    }

    /// Attack: a tenant takes every slot, to lock out other tenants.
    #[test]
    fn one_tenant_never_gets_all_long_term_slots() {
        let turns = Turns::reserving(8, 2);
        let mut greedy: Vec<_> = (0..20)
            .map(|_| turns.enqueue(&mut Job::new("greedy")))
            .collect();
        let turns_taken: Vec<Turn> = greedy.iter_mut().filter_map(take_turn).collect();
        assert_eq!(turns_taken.len(), 6);
        assert!(take_turn(&mut turns.enqueue(&mut Job::new("quiet"))).is_some());
    }

    #[test]
    fn a_turn_whose_receiver_is_dropped_goes_to_the_next_job() {
        let turns = Turns::new(1);
        let turn = take_turn(&mut turns.enqueue(&mut Job::new("a"))).unwrap();
        drop(turns.enqueue(&mut Job::new("dropped before its turn")));
        let unread_turn = turns.enqueue(&mut Job::new("b"));
        let mut last = turns.enqueue(&mut Job::new("c"));
        drop(turn);
        assert!(take_turn(&mut last).is_none());
        drop(unread_turn);
        assert!(take_turn(&mut last).is_some());
        assert!(!turns.have_waiting_jobs());
        assert!(turns.state().tenants.is_empty());
    }
}
