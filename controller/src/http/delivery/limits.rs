//! Limits the rate of requests and the number of waiting requests, for each Pod, account and node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::caller::Caller;
use super::refused::Refused;
use crate::http::rate::Rate;

/// Limit for the requests of one Pod: rate per second and burst.
const POD_RATE: (u32, u32) = (5, 40);
/// Limit for the requests of all Pods of one account. A workload can start a thousand Pods at the same time.
const ACCOUNT_RATE: (u32, u32) = (50, 1_000);
/// Limit for the requests of all Pods of one node.
const NODE_RATE: (u32, u32) = (100, 1_000);

/// Maximum number of waiting requests.
const MAX_WAITING: Waiting = Waiting {
    requests: 3_000,
    bytes: 32 << 20,
};
/// Maximum number of waiting requests of one Pod.
const MAX_WAITING_OF_POD: Waiting = Waiting {
    requests: 32,
    bytes: 1 << 20,
};
/// Maximum number of waiting requests of one account: half of all.
const MAX_WAITING_OF_ACCOUNT: Waiting = Waiting {
    requests: 1_500,
    bytes: 16 << 20,
};
/// Maximum number of waiting requests of one node.
const MAX_WAITING_OF_NODE: Waiting = Waiting {
    requests: 1_000,
    bytes: 16 << 20,
};
/// Seconds after which a caller may try again to wait.
const RETRY_WAITING: i64 = 10;

/// The limits of all callers.
#[derive(Debug)]
pub(super) struct Limits {
    rates: Mutex<Rates>,
    waiting: Arc<Mutex<HashMap<Key, Waiting>>>,
}

#[derive(Debug)]
struct Rates {
    pod: Rate,
    account: Rate,
    node: Rate,
}

/// What a limit applies to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    All,
    Pod(String),
    Account(String),
    Node(String),
}

/// A number of waiting requests, and the total size of their bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Waiting {
    requests: usize,
    bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let rate = |(rate, burst)| Rate::new(rate, burst);
        Self {
            rates: Mutex::new(Rates {
                pod: rate(POD_RATE),
                account: rate(ACCOUNT_RATE),
                node: rate(NODE_RATE),
            }),
            waiting: Arc::default(),
        }
    }
}

impl Limits {
    /// Counts a request. A request that one limit refuses does not count toward the wider limits.
    pub(super) fn admit(&self, caller: &Caller, now: Timestamp) -> Result<(), Refused> {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let Rates { pod, account, node } = &mut *rates;
        let retry = pod
            .count_request(&caller.uid, now)
            .retry
            .or_else(|| account.count_request(&caller.account, now).retry)
            .or_else(|| node.count_request(caller.node.as_deref()?, now).retry);
        retry.map_or(Ok(()), |seconds| Err(Refused::TooOften(seconds)))
    }

    /// Counts a request of this size as waiting until the result is dropped. Without a node, the limit of the account
    /// applies.
    pub(super) fn begin_waiting(&self, caller: &Caller, bytes: usize) -> Result<Ticket, Refused> {
        let request = Waiting { requests: 1, bytes };
        let node = caller.node.clone().map(Key::Node);
        let limits = [
            (Some(Key::All), MAX_WAITING),
            (Some(Key::Pod(caller.uid.clone())), MAX_WAITING_OF_POD),
            (
                Some(Key::Account(caller.account.clone())),
                MAX_WAITING_OF_ACCOUNT,
            ),
            (node, MAX_WAITING_OF_NODE),
        ];
        let limits = limits
            .into_iter()
            .filter_map(|(key, max)| Some((key?, max)));
        let limits: Vec<(Key, Waiting)> = limits.collect();
        let mut waiting = lock(&self.waiting);
        let fits = |(key, max): &(Key, Waiting)| {
            let sum = waiting.get(key).copied().unwrap_or_default().plus(request);
            sum.requests <= max.requests && sum.bytes <= max.bytes
        };
        if !limits.iter().all(fits) {
            return Err(Refused::TooOften(RETRY_WAITING));
        }
        let keys = limits.into_iter().map(|(key, _)| {
            let count = waiting.entry(key.clone()).or_default();
            *count = count.plus(request);
            key
        });
        Ok(Ticket {
            keys: keys.collect(),
            request,
            waiting: Arc::clone(&self.waiting),
        })
    }
}

impl Waiting {
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

/// A waiting request.
#[derive(Debug)]
pub(super) struct Ticket {
    keys: Vec<Key>,
    request: Waiting,
    waiting: Arc<Mutex<HashMap<Key, Waiting>>>,
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

fn lock(waiting: &Mutex<HashMap<Key, Waiting>>) -> MutexGuard<'_, HashMap<Key, Waiting>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(account: &str, pod: usize, node: Option<usize>) -> Caller {
        Caller {
            user: k8s_openapi::api::authentication::v1::UserInfo::default(),
            account: format!("system:serviceaccount:ns:{account}"),
            namespace: "ns".into(),
            pod: format!("{account}-{pod}"),
            uid: format!("{account}-{pod}"),
            node: node.map(|node| node.to_string()),
        }
    }

    /// Attack: a Pod sends requests without pause, so that the requests of other accounts, or of other Pods of its
    /// node, are refused.
    #[test]
    fn a_flood_of_one_pod_does_not_use_up_the_rates_of_others() {
        let (limits, now) = (Limits::default(), Timestamp::UNIX_EPOCH);
        let flood = caller("greedy", 0, Some(1));
        let admitted = (0..10_000).filter(|_| limits.admit(&flood, now).is_ok());
        assert_eq!(admitted.count(), 41);
        for other in [
            caller("greedy", 1, Some(1)),
            caller("quiet", 0, Some(1)),
            caller("quiet", 1, None),
        ] {
            assert_eq!(limits.admit(&other, now), Ok(()), "{other:?}");
        }
    }

    #[test]
    fn a_thousand_pods_of_one_account_may_start_at_once_on_ten_nodes() {
        let (limits, now) = (Limits::default(), Timestamp::UNIX_EPOCH);
        let pods = (0..1_000).map(|i| caller("web", i, Some(i % 10)));
        assert_eq!(
            pods.filter(|pod| limits.admit(pod, now).is_ok()).count(),
            1_000
        );
    }

    /// Attack: an account sends so many waiting requests that other accounts cannot wait, or that the memory is
    /// exhausted.
    #[test]
    fn waiting_requests_are_bounded_for_each_pod_account_and_node() {
        for (why, callers, want) in [
            ("one Pod", vec![caller("a", 0, Some(0)); 5_000], 32),
            (
                "one account",
                (0..5_000).map(|i| caller("a", i, Some(i))).collect(),
                1_500,
            ),
            (
                "one node",
                (0..5_000)
                    .map(|i| caller(&format!("a{i}"), i, Some(0)))
                    .collect(),
                1_000,
            ),
            (
                "all",
                (0..5_000)
                    .map(|i| caller(&format!("a{i}"), i, Some(i)))
                    .collect(),
                3_000,
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
        let limits = Limits::default();
        let large = 256 << 10;
        let tickets =
            (0..1_000).map(|i| limits.begin_waiting(&caller(&format!("a{i}"), i, Some(i)), large));
        let tickets: Vec<_> = tickets.filter_map(Result::ok).collect();
        assert_eq!(tickets.len(), (32 << 20) / large);
        let one_pod = Limits::default();
        let pod = caller("a", 0, None);
        let tickets: Vec<_> = (0..10)
            .filter_map(|_| one_pod.begin_waiting(&pod, large).ok())
            .collect();
        assert_eq!(tickets.len(), 4);
    }
}
