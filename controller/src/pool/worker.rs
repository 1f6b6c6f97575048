//! Runs one job on its thread: tracks its budget, and yields to other jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use shared::meter::{Interrupted, Meter};

use fair::{Job, Slot, Slots};

/// Microseconds of work after which a job yields to waiting jobs: long compared to a thread switch, and short compared
/// to the time within which users expect a Secret.
const SLICE: u64 = 10_000;
/// Minimum cost, in microseconds, of an operation that runs in a separate lane, since it cannot be interrupted and
/// short operations must not wait for it. Every private-key operation costs less.
const MIN_LONG_COST: u64 = 20_000;

/// Processor time that is allowed per unit of stated cost. A machine that is slower than stated by up to this factor
/// completes the same work.
const MAX_SLOWDOWN: u64 = 10;

/// The budget of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Work in microseconds at its stated cost, which is the same on every machine.
    work: u64,
    /// A second limit: processor time, regardless of the stated cost. The processor time of other threads does not
    /// count, since otherwise a busy machine would end work that an idle machine completes.
    time: Duration,
}

impl Budget {
    /// Creates a budget for work with a stated cost of this many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self {
            work: seconds * 1_000_000,
            time: Duration::from_secs(seconds * MAX_SLOWDOWN),
        }
    }

    /// Returns the budget with a different limit on processor time.
    pub(crate) const fn with_time_limit(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    /// Returns the remaining budget after work that took `took` and before work that costs `cost`; `None` if the budget
    /// is used up.
    fn after(self, took: Duration, cost: u64) -> Option<Self> {
        Some(Self {
            work: self.work.checked_sub(cost)?,
            time: self.time.checked_sub(took)?,
        })
    }
}

/// The lanes of a pool. Each operation runs in one lane.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    pub(super) short: Slots,
    pub(super) long: Slots,
}

impl Lanes {
    /// Creates lanes in which this many short and long operations run concurrently.
    pub(super) fn new(short: usize, long: usize) -> Self {
        Self {
            short: Slots::new(short),
            long: Slots::new(long),
        }
    }

    fn lane(&self, is_long: bool) -> &Slots {
        if is_long { &self.long } else { &self.short }
    }
}

/// Returns the processor time that this thread has used.
pub(super) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The meter of one job, on the thread on which it was created. It blocks that thread while other jobs have its slot.
pub(super) struct Worker {
    lanes: Lanes,
    job: Job,
    slot: Option<Slot>,
    is_long: bool,
    /// The cost of the operations since the slot was acquired, in microseconds.
    slice: u64,
    remaining: Budget,
    /// The processor time of the thread at the start of the previous operation.
    since: Duration,
    is_over: Arc<AtomicBool>,
}

impl Worker {
    /// Creates a meter with a slot of the short lane. `is_over` ends the work before its next operation.
    pub(super) fn new(
        lanes: Lanes,
        job: Job,
        slot: Slot,
        budget: Budget,
        is_over: Arc<AtomicBool>,
    ) -> Self {
        Self {
            lanes,
            job,
            slot: Some(slot),
            is_long: false,
            slice: 0,
            remaining: budget,
            since: thread_time(),
            is_over,
        }
    }

    fn lane(&self) -> &Slots {
        self.lanes.lane(self.is_long)
    }

    fn switch_lane(&mut self, is_long: bool) -> Result<(), Interrupted> {
        self.slot = None;
        self.is_long = is_long;
        self.slice = 0;
        let waiting = self.lanes.lane(is_long).enqueue(&mut self.job);
        self.slot = Some(waiting.blocking_recv().map_err(|_| Interrupted)?);
        self.check_is_not_over()
    }

    fn check_is_not_over(&self) -> Result<(), Interrupted> {
        if self.is_over.load(Ordering::Relaxed) {
            return Err(Interrupted);
        }
        Ok(())
    }
}

impl Meter for Worker {
    fn spend(&mut self, cost: u64) -> Result<(), Interrupted> {
        self.check_is_not_over()?;
        let now = thread_time();
        let took = now.saturating_sub(self.since);
        self.remaining = self.remaining.after(took, cost).ok_or(Interrupted)?;
        self.since = now;
        let is_long = cost >= MIN_LONG_COST;
        let has_used_its_slice = self.slice >= SLICE && self.lane().have_waiting_jobs();
        if is_long != self.is_long || has_used_its_slice {
            self.switch_lane(is_long)?;
        }
        self.slice = self.slice.saturating_add(cost);
        self.job.charge(cost);
        self.lane().charge(&self.job.tenant, cost);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Budget = Budget::seconds(1);

    fn lanes() -> Lanes {
        Lanes::new(1, 1)
    }

    fn worker(lanes: &Lanes, tenant: &str, budget: Budget) -> Worker {
        let mut job = Job::new(tenant);
        let slot = lanes.short.enqueue(&mut job).try_recv().unwrap();
        Worker::new(lanes.clone(), job, slot, budget, Arc::default())
    }

    /// Attack: an author stores an object whose work never ends, to keep the controller busy.
    #[test]
    fn a_job_ends_when_its_budget_of_work_or_time_is_used_up() {
        let ms = Duration::from_millis;
        for (case_name, took, cost, want) in [
            (
                "both within the budget",
                ms(10_000),
                1_000_000,
                Some((0, ms(0))),
            ),
            ("partly used", ms(400), 1_000, Some((999_000, ms(9_600)))),
            ("work used up", ms(0), 1_000_001, None),
            ("time used up", ms(10_001), 0, None),
        ] {
            let remaining = SECOND.after(took, cost);
            assert_eq!(
                remaining.map(|remaining| (remaining.work, remaining.time)),
                want,
                "{case_name}"
            );
        }
        let mut worker = worker(&lanes(), "a", SECOND);
        let spent = (0..2000).take_while(|_| worker.spend(1_000).is_ok());
        assert_eq!(spent.count(), 1000);
    }

    #[test]
    fn a_job_yields_to_other_jobs_after_a_slice() {
        let lanes = lanes();
        let mut hostile = worker(&lanes, "hostile", SECOND);
        let mut waiting_job = lanes.short.enqueue(&mut Job::new("quiet"));
        for _ in 0..10 {
            assert!(waiting_job.try_recv().is_err());
            hostile.spend(SLICE / 10).unwrap();
        }
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || hostile.spend(1));
            drop(waiting_job.blocking_recv().unwrap());
            assert_eq!(thread.join().unwrap(), Ok(()));
        });
    }

    /// Attack: an author stores many objects with costly work, each of which waits before the object of another tenant.
    #[test]
    fn the_tenant_that_has_used_less_processor_time_is_next() {
        let lanes = lanes();
        let mut hostile = worker(&lanes, "hostile", SECOND);
        hostile.spend(SLICE / 2).unwrap();
        let mut earlier = lanes.short.enqueue(&mut Job::new("hostile"));
        let mut later = lanes.short.enqueue(&mut Job::new("quiet"));
        drop(hostile);
        let slot = later.try_recv();
        assert!(slot.is_ok());
        assert!(earlier.try_recv().is_err());
    }

    /// Attack: an author causes keys to be generated, which cannot be interrupted, to delay the work of other tenants.
    #[test]
    fn short_work_of_other_tenants_does_not_wait_for_long_operations() {
        let lanes = lanes();
        let mut hostile = worker(&lanes, "hostile", SECOND);
        hostile.spend(MIN_LONG_COST).unwrap();
        assert!(lanes.long.enqueue(&mut Job::new("a")).try_recv().is_err());
        assert!(lanes.short.enqueue(&mut Job::new("a")).try_recv().is_ok());
    }

    /// Attack: an author keeps work running after the process was asked to stop, to delay its exit.
    #[test]
    fn a_stopped_job_ends_before_its_next_operation() {
        let mut worker = worker(&lanes(), "a", SECOND);
        worker.spend(1).unwrap();
        worker.is_over.store(true, Ordering::Relaxed);
        assert_eq!(worker.spend(1), Err(Interrupted));
    }
}
