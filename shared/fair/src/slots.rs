//! Slots for work, allocated by fair shares.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::shares::{Shares, max_each};

/// A fixed number of slots. The next slot goes to the waiting tenant with the lowest usage, and among the jobs of that
/// tenant to the job with the lowest usage.
#[derive(Debug, Clone)]
pub struct Slots(Arc<Mutex<State>>);

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
    /// The highest usage of a served job at the time of its turn. New jobs begin with this usage.
    clock: u64,
    /// Waiting jobs, sorted by usage, then by arrival.
    waiting: BTreeMap<(u64, u64), oneshot::Sender<Slot>>,
}

/// One job of a tenant, which may acquire a slot several times.
#[derive(Debug, Clone)]
pub struct Job {
    /// The tenant that the job counts toward.
    pub tenant: Arc<str>,
    /// The usage of the job; `None` before it is first queued.
    used: Option<u64>,
}

impl Job {
    /// Creates a job of a tenant.
    pub fn new(tenant: &str) -> Self {
        Self {
            tenant: tenant.into(),
            used: None,
        }
    }

    /// Adds units to the usage of the job.
    pub fn charge(&mut self, units: u64) {
        self.used = Some(self.used.unwrap_or_default().saturating_add(units));
    }
}

/// A slot, released when dropped.
#[derive(Debug)]
pub struct Slot {
    tenant: Arc<str>,
    slots: Option<Slots>,
}

impl Slots {
    /// Creates slots that are held briefly, without reservation.
    pub fn new(slots: usize) -> Self {
        Self::with_reserved(slots, None)
    }

    /// Creates slots that are held for a long time. `reserved` of them are for tenants without a slot.
    pub fn reserving(slots: usize, reserved: usize) -> Self {
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

    /// Queues a job. The slot is sent through the channel; dropping the receiver gives up the slot.
    pub fn enqueue(&self, job: &mut Job) -> oneshot::Receiver<Slot> {
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
    pub fn have_waiting_jobs(&self) -> bool {
        let state = self.state();
        state.tenants.values().any(|t| !t.waiting.is_empty())
    }

    /// Adds units to the usage of a tenant.
    pub fn charge(&self, tenant: &str, units: u64) {
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
            let slot = Slot {
                tenant: tenant.as_str().into(),
                slots: Some(self.clone()),
            };
            match sender.send(slot) {
                Ok(()) => {
                    state.free -= 1;
                    state.tenants.entry(tenant).or_default().slots += 1;
                }
                // The receiver was dropped. Detach the slot, since dropping it would lock the state again.
                Err(mut slot) => drop(mem::take(&mut slot.slots)),
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

    fn take_first_job(&mut self, tenant: &str) -> Option<oneshot::Sender<Slot>> {
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

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(slots) = self.slots.take() {
            slots.release(&self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_slot(receiver: &mut oneshot::Receiver<Slot>) -> Option<Slot> {
        receiver.try_recv().ok()
    }

    #[test]
    fn another_tenant_overtakes_a_backlog() {
        let slots = Slots::new(1);
        let mut first = slots.enqueue(&mut Job::new("busy"));
        let slot = take_slot(&mut first).unwrap();
        let mut backlog: Vec<_> = (0..100)
            .map(|_| slots.enqueue(&mut Job::new("busy")))
            .collect();
        let mut quiet = slots.enqueue(&mut Job::new("quiet"));
        slots.charge("busy", 10);
        drop(slot);
        assert!(take_slot(&mut quiet).is_some());
        assert!(take_slot(&mut backlog[0]).is_some());
    }

    /// Attack: a caller sends a large request, to delay a small request of the same tenant.
    #[test]
    fn a_small_job_overtakes_a_large_job_of_the_same_tenant() {
        let slots = Slots::new(1);
        let mut large = Job::new("a");
        let mut first = slots.enqueue(&mut large);
        let slot = take_slot(&mut first).unwrap();
        large.charge(1000);
        let mut large = slots.enqueue(&mut large);
        let mut small = slots.enqueue(&mut Job::new("a"));
        drop(slot);
        let slot = take_slot(&mut small).expect("the small job has used nothing yet");
        assert!(take_slot(&mut large).is_none());
        drop(slot);
        assert!(take_slot(&mut large).is_some());
    }

    #[test]
    fn endless_small_jobs_do_not_starve_a_large_job_of_the_same_tenant() {
        let slots = Slots::new(1);
        let mut job = Job::new("a");
        let mut slot = take_slot(&mut slots.enqueue(&mut job)).unwrap();
        job.charge(1000);
        let mut large = slots.enqueue(&mut job);
        for round in 0..1000 {
            let mut small = Job::new("a");
            let mut small_slot = slots.enqueue(&mut small);
            drop(slot);
            if take_slot(&mut large).is_some() {
                assert!(round > 0);
                return;
            }
            slot = take_slot(&mut small_slot).unwrap();
            small.charge(10);
            // The small job waits for a second slot, which advances the tenant's clock.
            let mut second_slot = slots.enqueue(&mut small);
            drop(slot);
            if take_slot(&mut large).is_some() {
                return;
            }
            slot = take_slot(&mut second_slot).unwrap();
        }
        panic!("the large job never got a slot");
    }

    /// Attack: a tenant takes every slot, to lock out other tenants.
    #[test]
    fn one_tenant_never_gets_all_long_term_slots() {
        let slots = Slots::reserving(8, 2);
        let mut greedy: Vec<_> = (0..20)
            .map(|_| slots.enqueue(&mut Job::new("greedy")))
            .collect();
        let taken_slots: Vec<Slot> = greedy.iter_mut().filter_map(take_slot).collect();
        assert_eq!(taken_slots.len(), 6);
        assert!(take_slot(&mut slots.enqueue(&mut Job::new("quiet"))).is_some());
    }

    #[test]
    fn a_slot_whose_receiver_is_dropped_goes_to_the_next_job() {
        let slots = Slots::new(1);
        let slot = take_slot(&mut slots.enqueue(&mut Job::new("a"))).unwrap();
        drop(slots.enqueue(&mut Job::new("dropped before its slot")));
        let unread_slot = slots.enqueue(&mut Job::new("b"));
        let mut last = slots.enqueue(&mut Job::new("c"));
        drop(slot);
        assert!(take_slot(&mut last).is_none());
        drop(unread_slot);
        assert!(take_slot(&mut last).is_some());
        assert!(!slots.have_waiting_jobs());
        assert!(slots.state().tenants.is_empty());
    }
}
