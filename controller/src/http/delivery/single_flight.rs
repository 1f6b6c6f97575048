//! A cache of results that several requests share. Each result is computed once, and kept for a short time.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::refused::DeliveryRefusal;

/// How long a result is kept. After this time it is dropped, which wipes its values.
const MAX_AGE: Duration = Duration::from_secs(30);
/// How long a failure is kept, unless it is transient: shorter, because a missing key can arrive at any time.
const MAX_AGE_OF_FAILURE: Duration = Duration::from_secs(5);
/// Maximum number of cached results.
const MAX_RESULTS: usize = 4_096;

type Outcome<V> = Result<Arc<V>, DeliveryRefusal>;

/// Results by key. While a result is being computed, other requests for it wait.
pub(super) struct SingleFlight<K, V> {
    state: Arc<Mutex<State<K, V>>>,
    /// Returns the size of a result in bytes.
    size: fn(&V) -> usize,
    max_bytes: usize,
}

struct State<K, V> {
    cells: HashMap<K, CacheEntry<V>>,
    /// The keys of finished results, oldest first.
    finished: BTreeMap<u64, K>,
    count: u64,
    bytes: usize,
}

struct CacheEntry<V> {
    cell: Arc<OnceCell<Outcome<V>>>,
    /// The size of a finished result.
    size: usize,
}

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
{
    /// Creates a cache for results of at most this total size.
    pub(super) fn new(max_bytes: usize, size: fn(&V) -> usize) -> Self {
        let state = State {
            cells: HashMap::new(),
            finished: BTreeMap::new(),
            count: 0,
            bytes: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            size,
            max_bytes,
        }
    }

    /// Returns the cached result for the key, waits for a request that is computing it, or computes it. If the
    /// computing request is canceled, one of the waiting requests computes the result.
    pub(super) async fn get(
        &self,
        key: K,
        make: impl Future<Output = Result<V, DeliveryRefusal>>,
    ) -> Outcome<V> {
        let entered = self.enter(key);
        let make = async {
            match make.await {
                Err(why) if why.is_transient() => Err(why),
                result => {
                    let outcome = result.map(Arc::new);
                    self.keep(&entered, &outcome);
                    Ok(outcome)
                }
            }
        };
        match entered.cell.get_or_try_init(|| make).await {
            Ok(outcome) => outcome.clone(),
            Err(why) => Err(why),
        }
    }

    /// Drops all finished results to which the condition applies. Cached failures are kept.
    pub(super) fn remove_if(&self, condition: impl Fn(&V) -> bool) {
        let mut state = lock(&self.state);
        let is_removed = |key: &K| {
            let outcome = state.cells.get(key).and_then(|entry| entry.cell.get());
            outcome.is_some_and(|outcome| outcome.as_ref().is_ok_and(|value| condition(value)))
        };
        let finished = state.finished.iter();
        let removed = finished.filter_map(|(number, key)| is_removed(key).then_some(*number));
        for number in removed.collect::<Vec<_>>() {
            state.remove(number);
        }
    }

    fn enter(&self, key: K) -> RequestGuard<K, V> {
        let mut state = lock(&self.state);
        let cached = state
            .cells
            .entry(key.clone())
            .or_insert_with(|| CacheEntry {
                cell: Arc::default(),
                size: 0,
            });
        RequestGuard {
            cell: Arc::clone(&cached.cell),
            key,
            state: Arc::clone(&self.state),
        }
    }

    fn keep(&self, entered: &RequestGuard<K, V>, outcome: &Outcome<V>) {
        let size = outcome.as_ref().map_or(0, |value| (self.size)(value));
        let number = lock(&self.state).finish(entered, size, self.max_bytes);
        let age = if outcome.is_ok() {
            MAX_AGE
        } else {
            MAX_AGE_OF_FAILURE
        };
        let state = Arc::clone(&self.state);
        tokio::spawn(async move {
            tokio::time::sleep(age).await;
            lock(&state).remove(number);
        });
    }
}

impl<K: Clone + Eq + Hash, V> State<K, V> {
    /// Records a finished result, and drops the oldest ones beyond the limits. Returns the number of the result.
    fn finish(&mut self, entered: &RequestGuard<K, V>, size: usize, max_bytes: usize) -> u64 {
        self.count += 1;
        if let Some(cached) = self.cells.get_mut(&entered.key) {
            cached.size = size;
            self.bytes += size;
            self.finished.insert(self.count, entered.key.clone());
        }
        while (self.bytes > max_bytes || self.finished.len() > MAX_RESULTS) && self.remove_oldest()
        {
        }
        self.count
    }

    fn remove_oldest(&mut self) -> bool {
        let oldest = self.finished.keys().next().copied();
        oldest.is_some_and(|number| self.remove(number))
    }

    fn remove(&mut self, number: u64) -> bool {
        let Some(key) = self.finished.remove(&number) else {
            return false;
        };
        if let Some(cached) = self.cells.remove(&key) {
            self.bytes -= cached.size;
        }
        true
    }
}

/// A request that computes a result or waits for it.
struct RequestGuard<K: Eq + Hash, V> {
    cell: Arc<OnceCell<Outcome<V>>>,
    key: K,
    state: Arc<Mutex<State<K, V>>>,
}

impl<K: Eq + Hash, V> Drop for RequestGuard<K, V> {
    /// Removes the cell of a result that is not computed yet, if no other request computes it or waits for it.
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        let is_own = |cached: &CacheEntry<V>| Arc::ptr_eq(&cached.cell, &self.cell);
        // The map and this request have the only references.
        let is_last = Arc::strong_count(&self.cell) <= 2;
        if is_last && !self.cell.initialized() && state.cells.get(&self.key).is_some_and(is_own) {
            state.cells.remove(&self.key);
        }
    }
}

impl<K, V> fmt::Debug for SingleFlight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight").finish_non_exhaustive()
    }
}

fn lock<K, V>(state: &Mutex<State<K, V>>) -> MutexGuard<'_, State<K, V>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;

    use super::*;

    fn text_flight(max_bytes: usize) -> SingleFlight<u32, String> {
        SingleFlight::new(max_bytes, String::len)
    }

    fn count_and_size(flight: &SingleFlight<u32, String>) -> (usize, usize) {
        let state = lock(&flight.state);
        assert_eq!(state.cells.len(), state.finished.len());
        (state.cells.len(), state.bytes)
    }

    /// Attack: a thousand Pods start at the same time, so that the controller unseals the same values for each.
    #[tokio::test(start_paused = true)]
    async fn a_thousand_concurrent_requests_compute_one_result() {
        let (flight, computed) = (text_flight(100), AtomicUsize::new(0));
        let request = || {
            flight.get(1, async {
                computed.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok("v".to_owned())
            })
        };
        let results = join_all((0..1_000).map(|_| request())).await;
        assert!(
            results
                .iter()
                .all(|result| **result.as_ref().unwrap() == *"v")
        );
        assert_eq!(computed.load(Ordering::Relaxed), 1);
        tokio::time::sleep(Duration::from_secs(29)).await;
        request().await.unwrap();
        assert_eq!(computed.load(Ordering::Relaxed), 1);
    }

    /// Fault: a process keeps values in memory for as long as it is running.
    #[tokio::test(start_paused = true)]
    async fn results_are_dropped_after_thirty_seconds_and_failures_after_five() {
        let flight = text_flight(100);
        flight
            .get(1, async { Ok("value".to_owned()) })
            .await
            .unwrap();
        let failure = flight
            .get(2, async { Err(DeliveryRefusal::Rendering) })
            .await;
        assert_eq!(failure, Err(DeliveryRefusal::Rendering));
        assert_eq!(count_and_size(&flight), (2, 5));
        tokio::time::sleep(Duration::from_millis(5_100)).await;
        assert_eq!(count_and_size(&flight), (1, 5));
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert_eq!(count_and_size(&flight), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_request_repeats_work_that_was_canceled_or_may_succeed() {
        let flight = text_flight(100);
        let endless = flight.get(1, std::future::pending());
        let waiting = async {
            tokio::task::yield_now().await;
            flight.get(1, async { Ok("second".to_owned()) }).await
        };
        let endless = tokio::time::timeout(Duration::from_millis(1), endless);
        let (first, second) = tokio::join!(endless, waiting);
        assert!(first.is_err());
        assert_eq!(*second.unwrap(), "second");
        assert_eq!(
            flight.get(2, async { Err(DeliveryRefusal::Busy) }).await,
            Err(DeliveryRefusal::Busy)
        );
        assert_eq!(count_and_size(&flight), (1, 6));
        assert!(flight.get(2, async { Ok(String::new()) }).await.is_ok());
    }

    /// Attack: an account requests many large objects, to exhaust the memory.
    #[tokio::test(start_paused = true)]
    async fn the_oldest_results_are_dropped_beyond_the_limit() {
        let flight = text_flight(100);
        for i in 0..50 {
            flight.get(i, async { Ok("x".repeat(40)) }).await.unwrap();
        }
        assert_eq!(count_and_size(&flight), (2, 80));
        let repeated = flight
            .get(49, async { Err(DeliveryRefusal::Rendering) })
            .await;
        assert!(repeated.is_ok(), "the newest is kept");
        flight.remove_if(String::is_empty);
        assert_eq!(count_and_size(&flight), (2, 80));
        flight.remove_if(|text| !text.is_empty());
        assert_eq!(count_and_size(&flight), (0, 0));
    }
}
