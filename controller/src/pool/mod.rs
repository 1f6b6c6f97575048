//! Bounded thread pools for blocking work. Private-key operations take milliseconds and file operations can take
//! seconds, so neither may block the async executor.
//!
//! Work for tenants is scheduled fairly, in time slices of a few milliseconds. Work stops soon after its result is no
//! longer needed: the process is shutting down, another replica is the leader, or the caller has disconnected.

mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shared::meter::Meter;
use tokio::sync::Semaphore;

use fair::{Job, Slots};
pub use worker::Budget;
use worker::{Lanes, Worker, thread_time};

/// Runs blocking work on a limited number of threads.
#[derive(Debug, Clone)]
pub struct Pool {
    internal_slots: Arc<Semaphore>,
    lanes: Lanes,
    renderings: Renderings,
}

/// Where renderings run. Slow renderings have separate slots, so that quick renderings do not wait for them.
#[derive(Debug, Clone)]
struct Renderings {
    quick: RenderingSlots,
    slow: RenderingSlots,
}

/// Slots for renderings of one kind, and the lanes in which they run.
#[derive(Debug, Clone)]
struct RenderingSlots {
    slots: Slots,
    lanes: Lanes,
}

/// Maximum number of concurrent renderings of each kind in the reconciler, over all tenants. Each rendering may use as
/// much memory as the budget of templates allows, 64 MiB, while it waits for its turn.
const MAX_RENDERINGS: usize = 4;
/// Number of slots of each kind that are reserved for tenants without a slot.
const RESERVED_RENDERINGS: usize = 1;

/// Number of lanes for the quick and the slow renderings of callers. They may share a processor: the processor time of a
/// rendering is limited to a quarter of the time for which it occupies its lane.
const QUICK_LANES: usize = 4;
const SLOW_LANES: usize = 2;

/// The budget of a rendering, and whether it is slow.
#[derive(Debug, Clone, Copy)]
pub struct Rendering {
    /// The budget that limits the rendering.
    pub budget: Budget,
    /// Whether the rendering may take seconds, because of slow functions.
    pub is_slow: bool,
    /// How long the rendering occupies its lane, if it is shorter. The next rendering of another caller starts when the
    /// lane is free, which must not reveal how long this one took.
    pub hold: Option<Duration>,
}

/// The work was interrupted: the process is shutting down, or the work panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted: the controller is shutting down, or a worker thread panicked")]
pub struct Stopped;

impl Pool {
    /// Creates the reconciler's pool, with one slot per processor: more slots would only slow each job down. Long
    /// operations that cannot be interrupted, such as generating an RSA key, have separate slots, for half of the
    /// processors.
    pub fn new() -> Self {
        let processors = processor_count();
        Self::with_slots(processors, (processors / 2).max(1))
    }

    /// Creates the pool for HTTP callers, with half of the processors, so that they do not delay Secrets. Renderings
    /// have further lanes, and wait for a lane before they start: when they end is observable, so no other work of
    /// callers may delay them.
    pub(crate) fn for_callers() -> Self {
        let short = (processor_count() / 2).max(1);
        Self::with_lanes_for_renderings(short, QUICK_LANES, SLOW_LANES)
    }

    fn with_lanes_for_renderings(short: usize, quick: usize, slow: usize) -> Self {
        let own_lanes = |count: usize| RenderingSlots {
            slots: Slots::new(count),
            lanes: Lanes::new(count, count),
        };
        Self {
            renderings: Renderings {
                quick: own_lanes(quick),
                slow: own_lanes(slow),
            },
            ..Self::with_slots(short, 1)
        }
    }

    fn with_slots(short: usize, long: usize) -> Self {
        let lanes = Lanes::new(short, long);
        let shared_lanes = || RenderingSlots {
            slots: Slots::reserving(MAX_RENDERINGS, RESERVED_RENDERINGS),
            lanes: lanes.clone(),
        };
        Self {
            internal_slots: Arc::new(Semaphore::new(short)),
            renderings: Renderings {
                quick: shared_lanes(),
                slow: shared_lanes(),
            },
            lanes,
        }
    }

    /// Runs the controller's own work as soon as a slot is free, without waiting for tenants.
    ///
    /// # Errors
    ///
    /// Returns [`Stopped`] if the work did not complete.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let slot = Arc::clone(&self.internal_slots)
            .acquire_owned()
            .await
            .map_err(|_| Stopped)?;
        tokio::task::spawn_blocking(move || {
            let _slot = slot;
            work()
        })
        .await
        .map_err(|_| Stopped)
    }

    /// Like [`Self::work_for`], for work that can use much memory: only a few such jobs run concurrently. The tenant
    /// that has used less time is next: processor time, or the time for which it occupied lanes if that is longer.
    ///
    /// # Errors
    ///
    /// Returns [`Stopped`] if the work did not complete.
    pub async fn render_for<T: Send + 'static>(
        &self,
        tenant: &str,
        rendering: Rendering,
        work: impl FnOnce(&mut dyn Meter) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let RenderingSlots { slots, lanes } = if rendering.is_slow {
            &self.renderings.slow
        } else {
            &self.renderings.quick
        };
        let slot = slots.enqueue(&mut Job::new(tenant));
        let slot = slot.await.map_err(|_| Stopped)?;
        let (slots, name) = (slots.clone(), tenant.to_owned());
        let charged = move |meter: &mut dyn Meter| {
            let (start, before) = (Instant::now(), thread_time());
            let result = work(meter);
            let hold = rendering.hold.unwrap_or_default();
            let used = thread_time().saturating_sub(before).max(hold).as_micros();
            // Also if the caller has disconnected meanwhile: the slot is released afterwards.
            slots.charge(&name, u64::try_from(used).unwrap_or(u64::MAX).max(1));
            std::thread::sleep(hold.saturating_sub(start.elapsed()));
            drop(slot);
            result
        };
        work_in(lanes, tenant, rendering.budget, charged).await
    }

    /// Runs work for a tenant when it is the tenant's turn. The work calls the meter before each operation. The meter
    /// makes the work wait while other tenants have their turn, and ends the work when the budget is used up or this
    /// future is dropped.
    ///
    /// # Errors
    ///
    /// Returns [`Stopped`] if the work did not complete.
    pub async fn work_for<T: Send + 'static>(
        &self,
        tenant: &str,
        budget: Budget,
        work: impl FnOnce(&mut dyn Meter) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        work_in(&self.lanes, tenant, budget, work).await
    }
}

async fn work_in<T: Send + 'static>(
    lanes: &Lanes,
    tenant: &str,
    budget: Budget,
    work: impl FnOnce(&mut dyn Meter) -> T + Send + 'static,
) -> Result<T, Stopped> {
    let mut job = Job::new(tenant);
    let slot = lanes.short.enqueue(&mut job);
    let slot = slot.await.map_err(|_| Stopped)?;
    let end_on_drop = EndOnDrop::default();
    let (lanes, is_over) = (lanes.clone(), Arc::clone(&end_on_drop.0));
    tokio::task::spawn_blocking(move || work(&mut Worker::new(lanes, job, slot, budget, is_over)))
        .await
        .map_err(|_| Stopped)
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

fn processor_count() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Ends the work when its future is dropped.
#[derive(Default)]
struct EndOnDrop(Arc<AtomicBool>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const BUDGET: Budget = Budget::seconds(1_000_000);

    #[tokio::test]
    async fn releases_its_slot_even_after_a_panic() {
        let pool = Pool::with_slots(1, 1);
        assert_eq!(
            pool.run(|| panic!("on purpose")).await,
            Err::<(), _>(Stopped)
        );
        assert_eq!(pool.run(|| 5).await, Ok(5));
        let panics = pool.work_for("a", BUDGET, |_| panic!("on purpose"));
        assert_eq!(panics.await, Err::<(), _>(Stopped));
        assert_eq!(pool.work_for("a", BUDGET, |_| 5).await, Ok(5));
    }

    /// Attack: a caller disconnects while the controller works on its request, so that the work occupies a slot.
    #[tokio::test]
    async fn work_of_a_disconnected_caller_ends_and_releases_its_slot() {
        let pool = Pool::with_slots(1, 1);
        let operations = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&operations);
        let endless = pool.work_for("a", BUDGET, move |meter| {
            while meter.spend(1).is_ok() {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        let endless = tokio::time::timeout(Duration::from_millis(50), endless);
        assert!(endless.await.is_err());
        assert_eq!(pool.work_for("b", BUDGET, |_| 5).await, Ok(5));
        let count = operations.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(operations.load(Ordering::Relaxed), count);
    }

    /// Attack: a tenant queues renderings of forty objects at the same time, each with as much memory as templates may
    /// use, to exhaust the memory.
    #[tokio::test]
    async fn concurrent_renderings_of_one_tenant_are_limited_and_leave_a_slot_for_another_tenant() {
        let pool = Pool::with_slots(1, 1);
        let (started, max) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut hostile = tokio::task::JoinSet::new();
        for _ in 0..40 {
            let (pool, started, max) = (pool.clone(), Arc::clone(&started), Arc::clone(&max));
            hostile.spawn(async move {
                let work = move |meter: &mut dyn Meter| {
                    max.fetch_max(started.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    while meter.spend(2_000).is_ok() {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                };
                pool.render_for("hostile", rendering(false), work).await
            });
        }
        while started.load(Ordering::SeqCst) < MAX_RENDERINGS - RESERVED_RENDERINGS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let quiet = pool.render_for("quiet", rendering(false), |meter| meter.spend(2_000));
        assert_eq!(quiet.await, Ok(Ok(())));
        assert_eq!(
            max.load(Ordering::SeqCst),
            MAX_RENDERINGS - RESERVED_RENDERINGS
        );
        hostile.abort_all();
    }

    fn rendering(is_slow: bool) -> Rendering {
        Rendering {
            budget: BUDGET,
            is_slow,
            hold: None,
        }
    }

    /// Attack: the slow templates of many namespaces occupy every slot for renderings for a long time.
    #[tokio::test]
    async fn quick_renderings_do_not_wait_for_slow_renderings_of_many_tenants() {
        let pool = Pool::with_slots(1, 1);
        let started = Arc::new(AtomicUsize::new(0));
        let mut hostile = tokio::task::JoinSet::new();
        for i in 0..20 {
            let (pool, started) = (pool.clone(), Arc::clone(&started));
            hostile.spawn(async move {
                let work = move |meter: &mut dyn Meter| {
                    started.fetch_add(1, Ordering::SeqCst);
                    while meter.spend(2_000).is_ok() {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                };
                let tenant = format!("hostile-{i}");
                pool.render_for(&tenant, rendering(true), work).await
            });
        }
        while started.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let quiet = pool.render_for("quiet", rendering(false), |meter| meter.spend(2_000));
        assert_eq!(quiet.await, Ok(Ok(())));
        assert!(
            started.load(Ordering::SeqCst) <= MAX_RENDERINGS,
            "the slow renderings still occupy their slots"
        );
        hostile.abort_all();
    }

    /// Attack: a caller requests a rendering at the same time as another one, and infers from its start how long the other
    /// one took with a value.
    #[tokio::test]
    async fn the_start_of_a_rendering_does_not_reveal_how_long_the_previous_one_took() {
        let hold = Duration::from_millis(300);
        let fixed_time = Rendering {
            hold: Some(hold),
            ..rendering(false)
        };
        for took in [0, 150] {
            let pool = Pool::with_lanes_for_renderings(1, 1, 1);
            let first_start = Arc::new(std::sync::Mutex::new(None));
            let (victim, started) = (pool.clone(), Arc::clone(&first_start));
            let first = tokio::spawn(async move {
                let work = move |_: &mut dyn Meter| {
                    *started.lock().unwrap() = Some(Instant::now());
                    std::thread::sleep(Duration::from_millis(took));
                };
                victim.render_for("victim", fixed_time, work).await
            });
            while first_start.lock().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let next = pool.render_for("caller", fixed_time, |_| Instant::now());
            let next_start = next.await.unwrap();
            let first_start = first_start.lock().unwrap().unwrap();
            assert!(next_start.duration_since(first_start) >= hold, "{took}");
            first.await.unwrap().unwrap();
        }
    }

    /// Attack: seven namespaces request responses whose rendering takes long, one after another, so that the renderings
    /// of another namespace wait for one of each.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_tenant_with_quick_renderings_waits_for_no_turn_of_each_slow_tenant() {
        let pool = Pool::with_lanes_for_renderings(1, 1, 1);
        let completed = Arc::new(AtomicUsize::new(0));
        let mut hostile = tokio::task::JoinSet::new();
        for i in 0..7 {
            let (pool, completed) = (pool.clone(), Arc::clone(&completed));
            hostile.spawn(async move {
                let tenant = format!("hostile-{i}");
                loop {
                    let work = |_: &mut dyn Meter| {
                        let start = thread_time();
                        while thread_time().saturating_sub(start) < Duration::from_millis(20) {}
                    };
                    let rendered = pool.render_for(&tenant, rendering(true), work);
                    rendered.await.unwrap();
                    completed.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        while completed.load(Ordering::SeqCst) < 14 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let before = completed.load(Ordering::SeqCst);
        for _ in 0..5 {
            let quiet = pool.render_for("quiet", rendering(true), |meter| meter.spend(1));
            assert_eq!(quiet.await, Ok(Ok(())));
        }
        let meanwhile = completed.load(Ordering::SeqCst) - before;
        hostile.abort_all();
        assert!(
            meanwhile <= 15,
            "{meanwhile} renderings of other tenants, 35 if tenants took turns"
        );
    }

    /// Attack: an author has several Pods request different responses at the same time, so that their renderings delay
    /// each other, and the time of a response reveals how long rendering takes.
    #[tokio::test]
    async fn renderings_of_callers_run_one_after_another_and_wait_for_no_other_work() {
        let pool = Pool::with_lanes_for_renderings(1, 1, 1);
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let blocker = pool.clone();
        let other_work = tokio::spawn(async move {
            let work = move |meter: &mut dyn Meter| {
                meter.spend(2_000).unwrap();
                wait.recv().unwrap();
            };
            blocker.work_for("other", BUDGET, work).await
        });
        let running = Arc::new(AtomicUsize::new(0));
        let mut renderings = tokio::task::JoinSet::new();
        for i in 0..9 {
            let (pool, running) = (pool.clone(), Arc::clone(&running));
            renderings.spawn(async move {
                let work = move |meter: &mut dyn Meter| {
                    let others = running.fetch_add(1, Ordering::SeqCst);
                    // Beyond one slice, so that the work would yield its lane to waiting work.
                    for _ in 0..20 {
                        meter.spend(2_000).unwrap();
                        std::thread::sleep(Duration::from_micros(100));
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                    others
                };
                let tenant = format!("tenant-{}", i % 3);
                pool.render_for(&tenant, rendering(false), work).await
            });
        }
        assert_eq!(renderings.join_all().await, [Ok(0); 9]);
        release.send(()).unwrap();
        assert_eq!(other_work.await.unwrap(), Ok(()));
    }

    /// Attack: a tenant queues forty objects with seconds of work each, to delay an object of another tenant that needs
    /// one operation.
    #[tokio::test]
    async fn another_tenant_overtakes_a_backlog_of_costly_work_after_one_turn() {
        let pool = Pool::with_slots(1, 1);
        let (operations, completed) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut hostile = tokio::task::JoinSet::new();
        for _ in 0..40 {
            let (pool, operations, completed) = (
                pool.clone(),
                Arc::clone(&operations),
                Arc::clone(&completed),
            );
            hostile.spawn(async move {
                let work = move |meter: &mut dyn Meter| {
                    for _ in 0..1000 {
                        meter.spend(2_000).unwrap();
                        operations.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(1));
                    }
                };
                pool.work_for("hostile", BUDGET, work).await.unwrap();
                completed.fetch_add(1, Ordering::Relaxed);
            });
        }
        while operations.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let before = operations.load(Ordering::Relaxed);
        let quiet = pool.work_for("quiet", BUDGET, move |meter| {
            meter.spend(2_000).unwrap();
            operations.load(Ordering::Relaxed)
        });
        let overtaking = quiet.await.unwrap() - before;
        assert_eq!(completed.load(Ordering::Relaxed), 0);
        // A turn is the five operations of a slice and the operation that exceeds it; a whole job is 1000.
        assert!(
            overtaking < 20,
            "{overtaking} operations of other jobs ran first"
        );
        hostile.abort_all();
    }
}
