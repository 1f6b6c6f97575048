//! Limits the rate of requests and the number of waiting requests, for each Pod and namespace.

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

/// Maximum number of waiting requests, in addition to those of [`RESERVED`].
const MAX_WAITING: WaitingRequests = WaitingRequests {
    requests: 3_000,
    bytes: 32 << 20,
};
/// Maximum number of waiting requests of one Pod.
const MAX_WAITING_OF_POD: WaitingRequests = WaitingRequests {
    requests: 32,
    bytes: 1 << 20,
};
/// Maximum number of waiting requests of one namespace: half of all.
const MAX_WAITING_OF_NAMESPACE: WaitingRequests = WaitingRequests {
    requests: 1_500,
    bytes: 16 << 20,
};
/// The waiting requests that each namespace may have, even if other namespaces have reached [`MAX_WAITING`].
const RESERVED: WaitingRequests = WaitingRequests {
    requests: 64,
    bytes: 1 << 20,
};
/// Seconds after which a caller whose request could not wait may retry.
const RETRY_AFTER_SECONDS: i64 = 10;

/// The limits of all callers.
#[derive(Debug)]
pub(super) struct Limits {
    rates: Mutex<Rates>,
    waiting: Arc<Mutex<HashMap<Key, WaitingRequests>>>,
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

/// A number of waiting requests, and the total size of their bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct WaitingRequests {
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
            waiting: Arc::default(),
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
        let request = WaitingRequests { requests: 1, bytes };
        let namespace = Key::Namespace(caller.namespace.clone());
        let mut waiting = lock(&self.waiting);
        let fits = |key: &Key, max: WaitingRequests| {
            let known = waiting.get(key).copied().unwrap_or_default();
            known.plus(request).is_within(max)
        };
        let pod = Key::Pod(caller.uid.clone());
        let is_admitted = fits(&pod, MAX_WAITING_OF_POD)
            && fits(&namespace, MAX_WAITING_OF_NAMESPACE)
            && (fits(&Key::All, MAX_WAITING) || fits(&namespace, RESERVED));
        if !is_admitted {
            return Err(DeliveryRefusal::TooOften(RETRY_AFTER_SECONDS));
        }
        let keys = [Key::All, pod, namespace];
        for key in &keys {
            let count = waiting.entry(key.clone()).or_default();
            *count = count.plus(request);
        }
        Ok(Ticket {
            keys,
            request,
            waiting: Arc::clone(&self.waiting),
        })
    }
}

impl WaitingRequests {
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

/// A request that waits and counts toward the limits until this value is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    keys: [Key; 3],
    request: WaitingRequests,
    waiting: Arc<Mutex<HashMap<Key, WaitingRequests>>>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut waiting = lock(&self.waiting);
        for key in &self.keys {
            if let Some(count) = waiting.get_mut(key) {
                *count = count.minus(self.request);
                if count.requests == 0 {
                    waiting.remove(key);
                }
            }
        }
    }
}

fn lock(
    waiting: &Mutex<HashMap<Key, WaitingRequests>>,
) -> MutexGuard<'_, HashMap<Key, WaitingRequests>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
            assert!(lock(&limits.waiting).is_empty(), "{why}");
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
}
