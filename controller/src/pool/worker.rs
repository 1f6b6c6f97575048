//! One job on its thread: what it may still use, and when it lets others go first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use shared::meter::{Interrupted, Meter};

use super::turns::{Job, Turn, Turns};

/// Microseconds of work after which a job lets others go first, if any wait. Long beside the change of a
/// thread, and short beside the time in which people expect a Secret.
const SLICE: u64 = 10_000;
/// An operation of so many microseconds, which cannot be interrupted, is done in a lane of its own, so that
/// short ones never wait for it. No private-key operation is one.
const LONG: u64 = 20_000;

/// A machine that is so many times slower than stated costs assume does the same work as others.
const SLOWEST: u64 = 10;

/// What one job may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Microseconds of work at its stated cost: the same on every machine.
    work: u64,
    /// Processor time, whatever the work was said to cost: a second guard. What passes while others use the
    /// processor does not count, or a busy machine would end work that a quiet one does.
    time: Duration,
}

impl Budget {
    /// Seconds of work at its stated cost.
    pub const fn seconds(seconds: u64) -> Self {
        Self {
            work: seconds * 1_000_000,
            time: Duration::from_secs(seconds * SLOWEST),
        }
    }

    /// The same with another limit on processor time.
    pub(crate) const fn within(self, time: Duration) -> Self {
        Self { time, ..self }
    }

    /// What is left after the work before, which took so long, and before work of that cost.
    fn after(self, took: Duration, cost: u64) -> Option<Self> {
        Some(Self {
            work: self.work.checked_sub(cost)?,
            time: self.time.checked_sub(took)?,
        })
    }
}

/// Lanes of a pool: each operation is done in one of them.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    pub(super) short: Turns,
    pub(super) long: Turns,
}

impl Lanes {
    fn of(&self, is_long: bool) -> &Turns {
        if is_long { &self.long } else { &self.short }
    }
}

/// Processor time of this thread so far.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The meter of one job, on the thread that it is made on. It blocks that while others have their turn.
pub(super) struct Worker {
    lanes: Lanes,
    job: Job,
    turn: Option<Turn>,
    is_long: bool,
    /// Used in this turn.
    slice: u64,
    left: Budget,
    /// Of this thread, when the operation before began.
    since: Duration,
    is_over: Arc<AtomicBool>,
}

impl Worker {
    /// Begins with a turn in the short lane. `is_over` ends the work before its next operation.
    pub(super) fn new(
        lanes: Lanes,
        job: Job,
        turn: Turn,
        budget: Budget,
        is_over: Arc<AtomicBool>,
    ) -> Self {
        Self {
            lanes,
            job,
            turn: Some(turn),
            is_long: false,
            slice: 0,
            left: budget,
            since: thread_time(),
            is_over,
        }
    }

    fn lane(&self) -> &Turns {
        self.lanes.of(self.is_long)
    }

    fn wait_for(&mut self, is_long: bool) -> Result<(), Interrupted> {
        self.turn = None;
        self.is_long = is_long;
        self.slice = 0;
        let waiting = self.lanes.of(is_long).wait(&mut self.job);
        self.turn = Some(waiting.blocking_recv().map_err(|_| Interrupted)?);
        self.go_on()
    }

    fn go_on(&self) -> Result<(), Interrupted> {
        if self.is_over.load(Ordering::Relaxed) {
            return Err(Interrupted);
        }
        Ok(())
    }
}

impl Meter for Worker {
    fn spend(&mut self, cost: u64) -> Result<(), Interrupted> {
        self.go_on()?;
        let now = thread_time();
        let took = now.saturating_sub(self.since);
        self.left = self.left.after(took, cost).ok_or(Interrupted)?;
        self.since = now;
        let is_long = cost >= LONG;
        let has_had_its_turn = self.slice >= SLICE && self.lane().are_wanted();
        if is_long != self.is_long || has_had_its_turn {
            self.wait_for(is_long)?;
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
        Lanes {
            short: Turns::new(1),
            long: Turns::new(1),
        }
    }

    fn worker(lanes: &Lanes, tenant: &str, budget: Budget) -> Worker {
        let mut job = Job::of(tenant);
        let turn = lanes.short.wait(&mut job).try_recv().unwrap();
        Worker::new(lanes.clone(), job, turn, budget, Arc::default())
    }

    /// Attack: stores an object whose work never ends.
    #[test]
    fn ends_when_its_work_or_its_time_is_used_up() {
        let ms = Duration::from_millis;
        for (why, took, cost, want) in [
            ("neither", ms(10_000), 1_000_000, Some((0, ms(0)))),
            ("some", ms(400), 1_000, Some((999_000, ms(9_600)))),
            ("its work", ms(0), 1_000_001, None),
            ("its time", ms(10_001), 0, None),
        ] {
            let left = SECOND.after(took, cost);
            assert_eq!(left.map(|left| (left.work, left.time)), want, "{why}");
        }
        let mut worker = worker(&lanes(), "a", SECOND);
        let spent = (0..2000).take_while(|_| worker.spend(1_000).is_ok());
        assert_eq!(spent.count(), 1000);
    }

    #[test]
    fn lets_others_go_first_after_a_slice_and_goes_on_after_them() {
        let lanes = lanes();
        let mut hostile = worker(&lanes, "hostile", SECOND);
        let mut waiting = lanes.short.wait(&mut Job::of("quiet"));
        for _ in 0..10 {
            assert!(waiting.try_recv().is_err());
            hostile.spend(SLICE / 10).unwrap();
        }
        std::thread::scope(|scope| {
            let goes_on = scope.spawn(move || hostile.spend(1));
            drop(waiting.blocking_recv().unwrap());
            assert_eq!(goes_on.join().unwrap(), Ok(()));
        });
    }

    /// Attack: has keys generated, which cannot be interrupted.
    #[test]
    fn short_work_of_others_does_not_wait_for_long_operations() {
        let lanes = lanes();
        let mut hostile = worker(&lanes, "hostile", SECOND);
        hostile.spend(LONG).unwrap();
        assert!(lanes.long.wait(&mut Job::of("a")).try_recv().is_err());
        assert!(lanes.short.wait(&mut Job::of("a")).try_recv().is_ok());
    }

    /// Attack: keeps work going after the process was told to end.
    #[test]
    fn ends_before_its_next_operation_when_it_is_over() {
        let mut worker = worker(&lanes(), "a", SECOND);
        worker.spend(1).unwrap();
        worker.is_over.store(true, Ordering::Relaxed);
        assert_eq!(worker.spend(1), Err(Interrupted));
    }
}
