//! How often each caller may ask: the generic cell rate algorithm, with the peer's headers.
//!
//! Of our own because the two crates for it either keep every caller for ever, whose name is in a
//! header of his own choice, or do not tell when the limit is full again.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use jiff::{SignedDuration, Timestamp};

/// So many callers are told apart, as in the peer.
const CALLERS: usize = 65_536;

/// For each caller the time at which his requests so far are worked off.
///
/// Of his name, which is as long as he likes, a digest is kept. It is keyed, so that nobody finds a name
/// that shares a limit with another one's.
#[derive(Debug)]
pub(super) struct Rate {
    interval: SignedDuration,
    limit: i32,
    worked_off: BTreeMap<u64, Timestamp>,
    names: RandomState,
}

/// What a caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Requests at once.
    pub(super) limit: i32,
    /// Of these, so many are left.
    pub(super) remaining: i32,
    /// Seconds until all are left, rounded up.
    pub(super) reset: i64,
    /// Seconds until the next one is, rounded up; none if this one was.
    pub(super) retry: Option<i64>,
}

impl Rate {
    /// One request in `1 / rate` seconds, and `burst` more.
    pub(super) fn new(rate: u32, burst: u32) -> Self {
        Self {
            interval: SignedDuration::from_secs(1) / i32::try_from(rate.max(1)).unwrap_or(i32::MAX),
            limit: i32::try_from(burst).unwrap_or(i32::MAX).saturating_add(1),
            worked_off: BTreeMap::new(),
            names: RandomState::new(),
        }
    }

    /// Counts a request.
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

    /// Whose requests are worked off is as good as unknown. If that makes no room, all are: a flood
    /// under made-up names must not cost memory, and private-key work has a bound of its own.
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

    /// What is `Copy` has nothing anywhere else, however long the name was.
    fn is_all_there_is<T: Copy>(_: &BTreeMap<T, Timestamp>) {}

    /// Attack: names itself differently with each request.
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
