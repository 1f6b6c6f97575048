//! The rate limit of each caller: the generic cell rate algorithm, with upstream's headers.
//!
//! Not taken from a crate, because of the two crates for it one keeps every caller forever, although callers
//! choose their names in a header, and the other does not report when the limit is full again.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use jiff::{SignedDuration, Timestamp};

/// Maximum number of callers that are tracked, as in upstream.
const CALLERS: usize = 65_536;

/// For each caller, the time at which the requests so far are worked off.
///
/// Names can be long, so only a digest is kept. It is keyed, so that a caller cannot find a name that shares
/// a limit with another caller's name.
#[derive(Debug)]
pub(super) struct Rate {
    interval: SignedDuration,
    limit: i32,
    worked_off: BTreeMap<u64, Timestamp>,
    names: RandomState,
}

/// The state of a caller's limit, reported in response headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Maximum number of requests in a burst.
    pub(super) limit: i32,
    /// How many of these are left.
    pub(super) remaining: i32,
    /// Seconds until all are available again, rounded up.
    pub(super) reset: i64,
    /// Seconds until the next request is allowed, rounded up; `None` if this one was allowed.
    pub(super) retry: Option<i64>,
}

impl Rate {
    /// Creates a limit of one request per `1 / rate` seconds, and `burst` more.
    pub(super) fn new(rate: u32, burst: u32) -> Self {
        Self {
            interval: SignedDuration::from_secs(1) / i32::try_from(rate.max(1)).unwrap_or(i32::MAX),
            limit: i32::try_from(burst).unwrap_or(i32::MAX).saturating_add(1),
            worked_off: BTreeMap::new(),
            names: RandomState::new(),
        }
    }

    /// Counts a request and returns the state of the caller's limit.
    pub(super) fn ask(&mut self, caller: &str, now: Timestamp) -> Standing {
        let caller = self.names.hash_one(caller);
        let before = self
            .worked_off
            .get(&caller)
            .map_or(now, |time| now.max(*time));
        let after = before
            .saturating_add(self.interval)
            .unwrap_or(Timestamp::MAX);
        let whole = self.interval.saturating_mul(self.limit);
        let over = after.duration_since(now) - whole;
        if over > SignedDuration::ZERO {
            return self.standing(before, now, Some(seconds(over)));
        }
        self.make_room(now);
        self.worked_off.insert(caller, after);
        self.standing(after, now, None)
    }

    fn standing(&self, worked_off: Timestamp, now: Timestamp, retry: Option<i64>) -> Standing {
        let owed = worked_off.duration_since(now);
        let owed_requests = owed.as_nanos().div_euclid(self.interval.as_nanos().max(1))
            + i128::from(owed.as_nanos().rem_euclid(self.interval.as_nanos().max(1)) > 0);
        let owed_requests = i32::try_from(owed_requests).unwrap_or(i32::MAX);
        Standing {
            limit: self.limit,
            remaining: self.limit.saturating_sub(owed_requests).max(0),
            reset: seconds(owed),
            retry,
        }
    }

    /// Removes callers whose requests are worked off, which makes no difference to them. If that frees
    /// nothing, removes all: a flood of invented names must not use unbounded memory, and private-key work
    /// has its own limits.
    fn make_room(&mut self, now: Timestamp) {
        if self.worked_off.len() < CALLERS {
            return;
        }
        self.worked_off.retain(|_, time| *time > now);
        if self.worked_off.len() >= CALLERS {
            self.worked_off.clear();
        }
    }
}

fn seconds(time: SignedDuration) -> i64 {
    time.as_secs() + i64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    #[test]
    fn gives_a_burst_then_the_rate_and_says_when_to_come_again() {
        let mut rate = Rate::new(2, 2);
        let standing = |remaining, reset, retry| Standing {
            limit: 3,
            remaining,
            reset,
            retry,
        };
        for (now, want) in [
            (0, standing(2, 1, None)),
            (0, standing(1, 1, None)),
            (0, standing(0, 2, None)),
            (0, standing(0, 2, Some(1))),
            (499, standing(0, 2, Some(1))),
            (500, standing(0, 2, None)),
            (9000, standing(2, 1, None)),
        ] {
            assert_eq!(rate.ask("a", at(now)), want, "at {now} ms");
        }
        assert_eq!(rate.ask("b", at(9000)).remaining, 2);
    }

    /// Compiles only if the key type is `Copy`, which owns no heap memory, however long the name was.
    fn is_all_there_is<T: Copy>(_: &BTreeMap<T, Timestamp>) {}

    /// Attack: a caller uses another name with each request.
    #[test]
    fn a_flood_of_names_costs_no_more_than_a_fixed_room() {
        let mut rate = Rate::new(1, 0);
        let long = "x".repeat(1000);
        for i in 0..CALLERS + 10 {
            rate.ask(&format!("{long}{i}"), at(0));
        }
        assert!(rate.worked_off.len() <= CALLERS);
        is_all_there_is(&rate.worked_off);
    }
}
