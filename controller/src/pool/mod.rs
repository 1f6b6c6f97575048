//! Bounded thread pools for blocking work: private-key operations take milliseconds and file operations can
//! take seconds, so neither may block the async executor.
//!
//! Work for tenants is scheduled fairly, in turns of a few milliseconds. It stops soon after its result is no
//! longer needed: the process is shutting down, another replica leads, or the caller has disconnected.

pub(crate) mod turns;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shared::meter::Meter;
use tokio::sync::Semaphore;

use turns::{Job, Turns};
pub use worker::Budget;
use worker::{Lanes, Worker};

/// Runs blocking work on a limited number of threads.
#[derive(Debug, Clone)]
pub struct Pool {
    own: Arc<Semaphore>,
    lanes: Lanes,
    renderings: Renderings,
}

/// Places for renderings. Slow ones have their own, so that others do not wait for them.
#[derive(Debug, Clone)]
struct Renderings {
    quick: Turns,
    slow: Turns,
}

/// Renderings of each kind that may have begun at once, over all tenants: each may hold as much memory as the budget of
/// templates allows, 64 MiB, while it waits for its turns.
const RENDERINGS: usize = 4;
/// Of these, so many are kept for tenants that have none.
const RESERVED_RENDERINGS: usize = 1;

/// What a rendering may use.
#[derive(Debug, Clone, Copy)]
pub struct Rendering {
    /// What ends it.
    pub budget: Budget,
    /// Does the budget allow more than a second?
    pub is_slow: bool,
}

/// The work was interrupted: the process is shutting down, or the work panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work was cut short; it will be taken up again")]
pub struct Stopped;

impl Pool {
    /// Creates the reconciler's pool, with one slot per processor, since more would only make each piece of
    /// work take longer. Long operations that cannot be interrupted, such as generating an RSA key, have
    /// separate slots, for half of the processors.
    pub fn new() -> Self {
        let processors = processors();
        Self::with(processors, (processors / 2).max(1))
    }

    /// Creates the pool for HTTP callers, with half of the processors, so that they do not delay Secrets.
    pub(crate) fn for_callers() -> Self {
        Self::with((processors() / 2).max(1), 1)
    }

    fn with(short: usize, long: usize) -> Self {
        Self {
            own: Arc::new(Semaphore::new(short)),
            lanes: Lanes {
                short: Turns::new(short),
                long: Turns::new(long),
            },
            renderings: Renderings {
                quick: Turns::reserving(RENDERINGS, RESERVED_RENDERINGS),
                slow: Turns::reserving(RENDERINGS, RESERVED_RENDERINGS),
            },
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
        let place = Arc::clone(&self.own)
            .acquire_owned()
            .await
            .map_err(|_| Stopped)?;
        tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        })
        .await
        .map_err(|_| Stopped)
    }

    /// Like [`Self::work_for`], for work that can hold much memory: it starts when few others hold theirs.
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
        let places = if rendering.is_slow {
            &self.renderings.slow
        } else {
            &self.renderings.quick
        };
        let place = places.wait(&mut Job::of(tenant));
        let _place = place.await.map_err(|_| Stopped)?;
        places.charge(tenant, 1);
        self.work_for(tenant, rendering.budget, work).await
    }

    /// Runs work for a tenant when it is its turn. The work asks the meter before each operation. The meter
    /// may make it wait while others have their turn, and ends it when the budget is used up or when this
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
        let mut job = Job::of(tenant);
        let turn = self.lanes.short.wait(&mut job);
        let turn = turn.await.map_err(|_| Stopped)?;
        let over = OverWhenDropped::default();
        let (lanes, is_over) = (self.lanes.clone(), Arc::clone(&over.0));
        tokio::task::spawn_blocking(move || {
            work(&mut Worker::new(lanes, job, turn, budget, is_over))
        })
        .await
        .map_err(|_| Stopped)
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Ends work whose future is dropped.
#[derive(Default)]
struct OverWhenDropped(Arc<AtomicBool>);

impl Drop for OverWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    const BUDGET: Budget = Budget::seconds(1_000_000);

    #[tokio::test]
    async fn gives_back_its_place_even_after_a_panic() {
        let pool = Pool::with(1, 1);
        assert_eq!(
            pool.run(|| panic!("on purpose")).await,
            Err::<(), _>(Stopped)
        );
        assert_eq!(pool.run(|| 5).await, Ok(5));
        let panics = pool.work_for("a", BUDGET, |_| panic!("on purpose"));
        assert_eq!(panics.await, Err::<(), _>(Stopped));
        assert_eq!(pool.work_for("a", BUDGET, |_| 5).await, Ok(5));
    }

    /// Attack: a caller disconnects while the controller works for it.
    #[tokio::test]
    async fn work_that_nobody_waits_for_ends_and_gives_back_its_place() {
        let pool = Pool::with(1, 1);
        let operations = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&operations);
        let endless = pool.work_for("a", BUDGET, move |meter| {
            while meter.spend(1).is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let endless = tokio::time::timeout(Duration::from_millis(50), endless);
        assert!(endless.await.is_err());
        assert_eq!(pool.work_for("b", BUDGET, |_| 5).await, Ok(5));
        let done = operations.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(operations.load(Ordering::Relaxed), done);
    }

    /// Attack: forty objects of one namespace each hold as much memory as templates may, all at the same
    /// time.
    #[tokio::test]
    async fn few_renderings_begin_at_once_and_another_tenant_finds_a_place() {
        let pool = Pool::with(1, 1);
        let (begun, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut hostile = tokio::task::JoinSet::new();
        for _ in 0..40 {
            let (pool, begun, most) = (pool.clone(), Arc::clone(&begun), Arc::clone(&most));
            hostile.spawn(async move {
                let work = move |meter: &mut dyn Meter| {
                    most.fetch_max(begun.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    while meter.spend(2_000).is_ok() {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                };
                pool.render_for("hostile", rendering(false), work).await
            });
        }
        while begun.load(Ordering::SeqCst) < RENDERINGS - RESERVED_RENDERINGS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let quiet = pool.render_for("quiet", rendering(false), |meter| meter.spend(2_000));
        assert_eq!(quiet.await, Ok(Ok(())));
        assert_eq!(
            most.load(Ordering::SeqCst),
            RENDERINGS - RESERVED_RENDERINGS
        );
        hostile.abort_all();
    }

    fn rendering(is_slow: bool) -> Rendering {
        Rendering {
            budget: BUDGET,
            is_slow,
        }
    }

    /// Attack: many namespaces have slow templates rendered, so that they hold every place for renderings for long.
    #[tokio::test]
    async fn no_quick_rendering_waits_for_a_slow_one_however_many_tenants_have_them() {
        let pool = Pool::with(1, 1);
        let begun = Arc::new(AtomicUsize::new(0));
        let mut hostile = tokio::task::JoinSet::new();
        for i in 0..20 {
            let (pool, begun) = (pool.clone(), Arc::clone(&begun));
            hostile.spawn(async move {
                let work = move |meter: &mut dyn Meter| {
                    begun.fetch_add(1, Ordering::SeqCst);
                    while meter.spend(2_000).is_ok() {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                };
                let tenant = format!("hostile-{i}");
                pool.render_for(&tenant, rendering(true), work).await
            });
        }
        while begun.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let quiet = pool.render_for("quiet", rendering(false), |meter| meter.spend(2_000));
        assert_eq!(quiet.await, Ok(Ok(())));
        assert!(
            begun.load(Ordering::SeqCst) <= RENDERINGS,
            "the slow ones still hold their places"
        );
        hostile.abort_all();
    }

    /// Attack: forty objects of one namespace, each with seconds of work, stand in line before an object
    /// of another namespace that needs one operation.
    #[tokio::test]
    async fn a_backlog_of_costly_work_is_passed_by_another_tenant_after_one_turn() {
        let pool = Pool::with(1, 1);
        let (order, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut hostile = tokio::task::JoinSet::new();
        for _ in 0..40 {
            let (pool, order, done) = (pool.clone(), Arc::clone(&order), Arc::clone(&done));
            hostile.spawn(async move {
                let work = move |meter: &mut dyn Meter| {
                    for _ in 0..1000 {
                        meter.spend(2_000).unwrap();
                        order.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_micros(100));
                    }
                };
                pool.work_for("hostile", BUDGET, work).await.unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        while order.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let before = order.load(Ordering::Relaxed);
        let quiet = pool.work_for("quiet", BUDGET, |meter| meter.spend(2_000));
        assert_eq!(quiet.await, Ok(Ok(())));
        let waited = order.load(Ordering::Relaxed) - before;
        assert_eq!(done.load(Ordering::Relaxed), 0);
        assert!(waited < 1000, "{waited} operations of others went first");
        hostile.abort_all();
    }
}
