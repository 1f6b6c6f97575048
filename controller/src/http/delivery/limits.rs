//! Limits the rate of requests, and the number and size of the requests that wait or are in progress, for each Pod and
//! namespace.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::caller::Caller;
use super::refused::DeliveryRefusal;
use crate::http::rate::Rate;

/// Maximum request rate of one Pod: requests per second and burst.
const POD_RATE: (u32, u32) = (5, 40);
/// Maximum request rate of all Pods of one namespace: requests per second and burst. A workload can start a thousand
/// Pods at once.
const NAMESPACE_RATE: (u32, u32) = (100, 2_000);

/// Maximum numbers of requests, and of the bytes of their bodies.
#[derive(Debug, Clone, Copy)]
struct Maxima {
    /// The requests of all namespaces, in addition to those of `reserved`.
    all: RequestCount,
    namespace: RequestCount,
    pod: RequestCount,
    /// The requests that each namespace may have, even if other namespaces have reached `all`.
    reserved: RequestCount,
}

/// The limits of requests that wait for a change. A namespace may use half of `all`.
const WAITING: Maxima = Maxima {
    all: RequestCount::new(3_000, 32 << 20),
    namespace: RequestCount::new(1_500, 16 << 20),
    pod: RequestCount::new(32, 1 << 20),
    reserved: RequestCount::new(64, 1 << 20),
};
/// The limits of requests whose response is being created, or that wait until a slot is free. A workload can start a
/// thousand Pods at once.
const IN_PROGRESS: Maxima = Maxima {
    all: RequestCount::new(3_000, 16 << 20),
    namespace: RequestCount::new(1_500, 8 << 20),
    ..WAITING
};
/// Seconds after which a caller may retry if it had too many requests.
const RETRY_AFTER_SECONDS: i64 = 10;

/// The limits of all callers.
#[derive(Debug)]
pub(super) struct Limits {
    rates: Mutex<Rates>,
    waiting: Requests,
    in_progress: Requests,
}

/// The requests of one kind, and their limits.
#[derive(Debug)]
struct Requests {
    counts: Arc<Mutex<HashMap<Key, RequestCount>>>,
    max: Maxima,
}

#[derive(Debug)]
struct Rates {
    pod: Rate,
    namespace: Rate,
}

/// The clients that a limit applies to. Nodes and accounts have no limit: tenants share nodes, and may have any number
/// of accounts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    All,
    Pod(String),
    Namespace(String),
}

/// A number of requests, and the total size of their bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct RequestCount {
    requests: usize,
    bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let rate = |(rate, burst)| Rate::new(rate, burst);
        Self {
            rates: Mutex::new(Rates {
                pod: rate(POD_RATE),
                namespace: rate(NAMESPACE_RATE),
            }),
            waiting: Requests::new(WAITING),
            in_progress: Requests::new(IN_PROGRESS),
        }
    }
}

impl Limits {
    /// Counts a request. A request that the limit of the Pod refuses does not count against that of the namespace.
    pub(super) fn admit(&self, caller: &Caller, now: Timestamp) -> Result<(), DeliveryRefusal> {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let Rates { pod, namespace } = &mut *rates;
        let retry = pod
            .count_request(&caller.uid, now)
            .retry
            .or_else(|| namespace.count_request(&caller.namespace, now).retry);
        retry.map_or(Ok(()), |seconds| Err(DeliveryRefusal::TooOften(seconds)))
    }

    /// Counts a request of this size as waiting until the result is dropped.
    pub(super) fn begin_waiting(
        &self,
        caller: &Caller,
        bytes: usize,
    ) -> Result<Ticket, DeliveryRefusal> {
        self.waiting.begin(caller, bytes)
    }

    /// Counts a request of this size as in progress until the result is dropped.
    pub(super) fn begin_progress(
        &self,
        caller: &Caller,
        bytes: usize,
    ) -> Result<Ticket, DeliveryRefusal> {
        self.in_progress.begin(caller, bytes)
    }
}

impl Requests {
    fn new(max: Maxima) -> Self {
        Self {
            counts: Arc::default(),
            max,
        }
    }

    fn begin(&self, caller: &Caller, bytes: usize) -> Result<Ticket, DeliveryRefusal> {
        let request = RequestCount::new(1, bytes);
        let namespace = Key::Namespace(caller.namespace.clone());
        let mut counts = lock(&self.counts);
        let fits = |key: &Key, max: RequestCount| {
            let known = counts.get(key).copied().unwrap_or_default();
            known.plus(request).is_within(max)
        };
        let pod = Key::Pod(caller.uid.clone());
        let is_admitted = fits(&pod, self.max.pod)
            && fits(&namespace, self.max.namespace)
            && (fits(&Key::All, self.max.all) || fits(&namespace, self.max.reserved));
        if !is_admitted {
            return Err(DeliveryRefusal::TooOften(RETRY_AFTER_SECONDS));
        }
        let keys = [Key::All, pod, namespace];
        for key in &keys {
            let count = counts.entry(key.clone()).or_default();
            *count = count.plus(request);
        }
        Ok(Ticket {
            keys,
            request,
            counts: Arc::clone(&self.counts),
        })
    }
}

impl RequestCount {
    const fn new(requests: usize, bytes: usize) -> Self {
        Self { requests, bytes }
    }

    fn is_within(self, max: Self) -> bool {
        self.requests <= max.requests && self.bytes <= max.bytes
    }

    fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            bytes: self.bytes + other.bytes,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// A request that counts toward the limits until this value is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    keys: [Key; 3],
    request: RequestCount,
    counts: Arc<Mutex<HashMap<Key, RequestCount>>>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        for key in &self.keys {
            if let Some(count) = counts.get_mut(key) {
                *count = count.minus(self.request);
                if count.requests == 0 {
                    counts.remove(key);
                }
            }
        }
    }
}

fn lock(counts: &Mutex<HashMap<Key, RequestCount>>) -> MutexGuard<'_, HashMap<Key, RequestCount>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(namespace: &str, pod: usize) -> Caller {
        Caller {
            user: k8s_openapi::api::authentication::v1::UserInfo::default(),
            account: format!("system:serviceaccount:{namespace}:default"),
            namespace: namespace.into(),
            pod: format!("p-{pod}"),
            uid: format!("{namespace}-{pod}"),
        }
    }

    /// Attack: a Pod sends requests without pause, so that the requests of other Pods are refused.
    #[test]
    fn a_flood_of_one_pod_does_not_use_up_the_rates_of_others() {
        let (limits, now) = (Limits::default(), Timestamp::UNIX_EPOCH);
        let flood = caller("greedy", 0);
        let admitted = (0..10_000).filter(|_| limits.admit(&flood, now).is_ok());
        assert_eq!(admitted.count(), 41);
        for other in [caller("greedy", 1), caller("quiet", 0)] {
            assert_eq!(limits.admit(&other, now), Ok(()), "{other:?}");
        }
    }

    /// Attack: all Pods of a tenant send requests without pause, so that the Pods of another tenant, which may run on
    /// the same nodes, are refused.
    #[test]
    fn a_flood_of_one_namespace_does_not_use_up_the_rates_of_others() {
        let (limits, now) = (Limits::default(), Timestamp::UNIX_EPOCH);
        let pods = (0..10_000).map(|i| caller("greedy", i));
        let admitted = pods.filter(|pod| limits.admit(pod, now).is_ok());
        assert_eq!(admitted.count(), 2_001);
        assert_eq!(limits.admit(&caller("quiet", 0), now), Ok(()));
    }

    #[test]
    fn a_thousand_pods_of_one_namespace_may_start_at_once() {
        let (limits, now) = (Limits::default(), Timestamp::UNIX_EPOCH);
        let pods = (0..1_000).map(|i| caller("web", i));
        assert_eq!(
            pods.filter(|pod| limits.admit(pod, now).is_ok()).count(),
            1_000
        );
    }

    /// Attack: a tenant queues so many requests that no other tenant can queue one, or that memory is exhausted.
    #[test]
    fn waiting_requests_are_bounded_for_each_pod_and_namespace() {
        for (why, callers, want) in [
            ("one Pod", vec![caller("a", 0); 5_000], 32),
            (
                "one namespace",
                (0..5_000).map(|i| caller("a", i)).collect(),
                1_500,
            ),
            (
                "eight namespaces, the last of which use their reserve",
                (0..8_000)
                    .map(|i| caller(&format!("ns{}", i / 1_000), i))
                    .collect(),
                3_000 + 5 * 64,
            ),
        ] {
            let limits = Limits::default();
            let tickets = callers
                .iter()
                .map(|caller| limits.begin_waiting(caller, 100));
            let tickets: Vec<_> = tickets.filter_map(Result::ok).collect();
            assert_eq!(tickets.len(), want, "{why}");
            drop(tickets);
            assert!(lock(&limits.waiting.counts).is_empty(), "{why}");
        }
    }

    /// Attack: Pods send waiting requests of the maximum size, to exhaust the memory.
    #[test]
    fn the_bytes_of_waiting_requests_are_bounded() {
        let large = 256 << 10;
        for (why, callers, want) in [
            ("one Pod", vec![caller("a", 0); 100], 4),
            (
                "one namespace",
                (0..100).map(|i| caller("a", i)).collect(),
                64,
            ),
            (
                "all namespaces, and each of the last ten uses its reserve",
                (0..1_200)
                    .map(|i| caller(&format!("ns{}", i / 100), i))
                    .collect(),
                128 + 10 * 4,
            ),
        ] {
            let limits = Limits::default();
            let tickets = callers
                .iter()
                .map(|caller| limits.begin_waiting(caller, large));
            let tickets: Vec<_> = tickets.filter_map(Result::ok).collect();
            assert_eq!(tickets.len(), want, "{why}");
        }
    }

    /// Attack: Pods send many requests of the maximum size while all slots are occupied, to exhaust the memory.
    #[test]
    fn the_bytes_of_requests_that_wait_for_a_slot_are_bounded() {
        let large = 256 << 10;
        for (why, callers, want) in [
            ("one Pod", vec![caller("a", 0); 100], 4),
            (
                "one namespace",
                (0..100).map(|i| caller("a", i)).collect(),
                32,
            ),
            (
                "all namespaces, and each of the last ten uses its reserve",
                (0..1_200)
                    .map(|i| caller(&format!("ns{}", i / 100), i))
                    .collect(),
                64 + 10 * 4,
            ),
        ] {
            let limits = Limits::default();
            let tickets = callers
                .iter()
                .map(|caller| limits.begin_progress(caller, large));
            let tickets: Vec<_> = tickets.filter_map(Result::ok).collect();
            assert_eq!(tickets.len(), want, "{why}");
            drop(tickets);
            assert!(lock(&limits.in_progress.counts).is_empty(), "{why}");
        }
        let limits = Limits::default();
        let starting = (0..1_000).map(|i| limits.begin_progress(&caller("web", i), 4 << 10));
        let starting: Vec<_> = starting.filter_map(Result::ok).collect();
        assert_eq!(starting.len(), 1_000, "a workload may start at once");
    }
}
