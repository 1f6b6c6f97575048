//! Limits the request rate of each caller: the generic cell rate algorithm, with upstream's headers.
//!
//! No crate is used, since callers with invented names must not use unbounded memory, and the headers report when the
//! whole burst is available again.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use jiff::{SignedDuration, Timestamp};

/// Maximum number of tracked callers, as in upstream.
const MAX_CALLERS: usize = 65_536;

/// For each caller, the time at which its previous requests no longer count.
///
/// Names can be long, so only a digest is stored. The digest is keyed, so that no caller can find a name that shares a
/// limit with the name of another caller.
#[derive(Debug)]
pub(super) struct Rate {
    interval: SignedDuration,
    limit: i32,
    counted_until: BTreeMap<u64, Timestamp>,
    hasher: RandomState,
}

/// The state of a caller's rate limit, for response headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LimitState {
    /// Maximum number of requests in a burst.
    pub(super) limit: i32,
    /// The number of requests of the burst that are left.
    pub(super) remaining: i32,
    /// Seconds until the whole burst is available again, rounded up.
    pub(super) reset: i64,
    /// Seconds until the next request is allowed, rounded up; `None` if the current request was allowed.
    pub(super) retry: Option<i64>,
}

impl Rate {
    /// Creates a limit of one request per `1 / rate` seconds, and `burst` more.
    pub(super) fn new(rate: u32, burst: u32) -> Self {
        Self {
            interval: SignedDuration::from_secs(1) / i32::try_from(rate.max(1)).unwrap_or(i32::MAX),
            limit: i32::try_from(burst).unwrap_or(i32::MAX).saturating_add(1),
            counted_until: BTreeMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// Counts a request and returns the state of the caller's limit.
    pub(super) fn count_request(&mut self, caller: &str, now: Timestamp) -> LimitState {
        let caller = self.hasher.hash_one(caller);
        let before = self
            .counted_until
            .get(&caller)
            .map_or(now, |time| now.max(*time));
        let after = before
            .saturating_add(self.interval)
            .unwrap_or(Timestamp::MAX);
        let burst = self.interval.saturating_mul(self.limit);
        let excess = after.duration_since(now) - burst;
        if excess > SignedDuration::ZERO {
            return self.limit_state(before, now, Some(seconds(excess)));
        }
        self.evict(now);
        self.counted_until.insert(caller, after);
        self.limit_state(after, now, None)
    }

    fn limit_state(
        &self,
        counted_until: Timestamp,
        now: Timestamp,
        retry: Option<i64>,
    ) -> LimitState {
        let used = counted_until.duration_since(now);
        let used_requests = used.as_nanos().div_euclid(self.interval.as_nanos().max(1))
            + i128::from(used.as_nanos().rem_euclid(self.interval.as_nanos().max(1)) > 0);
        let used_requests = i32::try_from(used_requests).unwrap_or(i32::MAX);
        LimitState {
            limit: self.limit,
            remaining: self.limit.saturating_sub(used_requests).max(0),
            reset: seconds(used),
            retry,
        }
    }

    /// Removes callers whose requests no longer count, which changes no limit. If all requests still count, removes all
    /// callers: a flood of invented names must not use unbounded memory, and private-key work has its own limits.
    fn evict(&mut self, now: Timestamp) {
        if self.counted_until.len() < MAX_CALLERS {
            return;
        }
        self.counted_until.retain(|_, time| *time > now);
        if self.counted_until.len() >= MAX_CALLERS {
            self.counted_until.clear();
        }
    }
}

fn seconds(time: SignedDuration) -> i64 {
    time.as_secs() + i64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    #[test]
    fn allows_a_burst_then_the_rate_and_returns_the_retry_time() {
        let mut rate = Rate::new(2, 2);
        let limit_state = |remaining, reset, retry| LimitState {
            limit: 3,
            remaining,
            reset,
            retry,
        };
        for (now, want) in [
            (0, limit_state(2, 1, None)),
            (0, limit_state(1, 1, None)),
            (0, limit_state(0, 2, None)),
            (0, limit_state(0, 2, Some(1))),
            (499, limit_state(0, 2, Some(1))),
            (500, limit_state(0, 2, None)),
            (9000, limit_state(2, 1, None)),
        ] {
            assert_eq!(rate.count_request("a", timestamp(now)), want, "at {now} ms");
        }
        assert_eq!(rate.count_request("b", timestamp(9000)).remaining, 2);
    }

    /// Compiles only if the map's keys are `Copy`: a key then owns no heap memory, regardless of the length of the
    /// caller's name.
    fn assert_copy_keys<T: Copy>(_: &BTreeMap<T, Timestamp>) {}

    /// Attack: a caller uses a different name with each request, to exhaust the memory.
    #[test]
    fn memory_is_bounded_for_any_number_of_names() {
        let mut rate = Rate::new(1, 0);
        let long_name = "x".repeat(1000);
        for i in 0..MAX_CALLERS + 10 {
            rate.count_request(&format!("{long_name}{i}"), timestamp(0));
        }
        assert!(rate.counted_until.len() <= MAX_CALLERS);
        assert_copy_keys(&rate.counted_until);
    }
}
