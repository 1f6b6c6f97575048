//! Calculates when the next key is due.

use jiff::{SignedDuration, Timestamp};

use crate::key_ring::{AnyKey, KeyRing};
use crate::v2::Suite;

/// Tolerated difference between the clocks of two machines: a key is from the future if its validity begins more
/// than this after the current time.
const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The policy for generating new keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Age of the newest key at which a new key is generated; `None` for never.
    pub period: Option<SignedDuration>,
    /// If the newest key is older than this instant, a new key is generated once the instant has passed.
    pub cutoff: Option<Timestamp>,
}

/// The result of checking whether a new key is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// A new key is due now.
    Due(Reason),
    /// Check again at this time.
    At(Timestamp),
    /// No new key is due, except on request.
    Never,
}

/// Why a new key is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is no key.
    NoKey,
    /// The newest key is older than the cutoff.
    Cutoff,
    /// The newest key has reached the renewal age.
    Age,
    /// Every key is from the future: the clock was ahead when the keys were generated.
    Future,
}

/// Returns the creation time of the key that decides the next renewal of a suite: the newest key that is not from the
/// future, so that a clock that was once ahead does not delay renewals. If all keys are from the future, returns the
/// time of the newest key; `None` if there are no own keys.
pub fn newest_key_time(ring: &KeyRing, suite: Suite, now: Timestamp) -> Option<Timestamp> {
    let times = || ring.own_keys(suite).map(|key| creation_time(&key, now));
    let newest = times().filter(|time| !is_future(*time, now)).max();
    newest.or_else(|| times().max())
}

/// Returns the creation time of a key: its order time, or the start of its validity if either is in the future. Only
/// the start of its validity shows whether a key is from the future: this controller set it by its own clock, while
/// order times can come from the API server's clock.
fn creation_time(key: &AnyKey, now: Timestamp) -> Timestamp {
    let not_before = key.sealing_half().map(|half| half.not_before);
    match not_before {
        Some(not_before) if is_future(not_before, now) || is_future(key.order_time(), now) => {
            not_before
        }
        _ => key.order_time(),
    }
}

fn is_future(time: Timestamp, now: Timestamp) -> bool {
    time.duration_since(now) > MAX_CLOCK_SKEW
}

/// Decides whether a new key is due. `newest` is the result of [`newest_key_time`]. If the policy has a period, a new
/// key is due immediately when `newest` is more than five minutes in the future.
///
/// A cutoff in the future takes effect only at its instant: before that, each new key would be older than the cutoff
/// too, and would be replaced immediately.
pub fn renewal(newest: Option<Timestamp>, policy: Policy, now: Timestamp) -> Renewal {
    let Some(newest) = newest else {
        return Renewal::Due(Reason::NoKey);
    };
    let cutoff = policy.cutoff.filter(|cutoff| newest < *cutoff);
    let period_end = policy
        .period
        .map(|period| newest.saturating_add(period).unwrap_or(Timestamp::MAX));
    match (cutoff, period_end) {
        (_, Some(_)) if is_future(newest, now) => Renewal::Due(Reason::Future),
        (Some(cutoff), _) if cutoff <= now => Renewal::Due(Reason::Cutoff),
        (_, Some(period_end)) if period_end <= now => Renewal::Due(Reason::Age),
        (cutoff, period_end) => cutoff
            .into_iter()
            .chain(period_end)
            .min()
            .map_or(Renewal::Never, Renewal::At),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::key::new_test_key;
    use crate::key_ring::{RingKey, RingV2Key};
    use crate::v2::SecretKey;
    use crate::v2::key_secret::StoredKey;

    #[test]
    fn the_period_counts_from_the_newest_key_that_is_not_from_the_future() {
        let day = |days: i64| Timestamp::from_second(days * 86_400).unwrap();
        // Order time and start of validity, in days.
        let ring = |keys: &[(i64, i64)]| {
            KeyRing::new(keys.iter().map(|(ordered, begins)| {
                let pair = new_test_key(begins * 86_400).pair;
                Arc::new(RingKey::new(String::new(), day(*ordered), pair))
            }))
        };
        for (why, keys, want) in [
            ("no key", &[][..], None),
            ("the newest key", &[(1, 1), (3, 3)], Some(3)),
            ("a clock was ahead", &[(1, 1), (50, 50)], Some(1)),
            (
                "the clock was always ahead",
                &[(50, 50), (60, 60)],
                Some(60),
            ),
            ("the clock of the API server is ahead", &[(50, 5)], Some(5)),
            (
                "a restored key, by the time of its Secret",
                &[(9, 1)],
                Some(9),
            ),
        ] {
            assert_eq!(
                newest_key_time(&ring(keys), Suite::Rsa, day(10)),
                want.map(day),
                "{why}"
            );
        }
        let removed = KeyRing::default().with_removed(ring(&[(1, 1)]).all_keys());
        assert_eq!(newest_key_time(&removed, Suite::Rsa, day(10)), None);
    }

    #[test]
    fn counts_the_keys_of_each_suite_separately() {
        let day = |days: i64| Timestamp::from_second(days * 86_400).unwrap();
        let key = |suite, created: i64| {
            let key = SecretKey::from_bytes(suite, &[7; 32]).unwrap();
            let (not_before, not_after) = (day(created), day(created + 100));
            let stored = StoredKey {
                key,
                not_before,
                not_after,
            };
            Arc::new(RingV2Key::new(String::new(), day(created), stored))
        };
        let keys = [key(Suite::XWing, 3), key(Suite::P256, 5)];
        let ring = KeyRing::default().with_v2_keys(keys);
        let newest = |suite| newest_key_time(&ring, suite, day(10));
        assert_eq!(newest(Suite::XWing), Some(day(3)));
        assert_eq!(newest(Suite::P256), Some(day(5)));
        assert_eq!(newest(Suite::Rsa), None);
    }

    #[test]
    fn decides_when_the_next_key_is_due() {
        use Reason::{Age, Cutoff, Future, NoKey};
        use Renewal::{At, Due, Never};
        let instant = |second| Timestamp::from_second(second).unwrap();
        let policy = |period: Option<i64>, cutoff: Option<i64>| Policy {
            period: period.map(SignedDuration::from_secs),
            cutoff: cutoff.map(instant),
        };
        for (why, newest, policy, want) in [
            (
                "no key, with renewal off",
                None,
                policy(None, None),
                Due(NoKey),
            ),
            ("no key", None, policy(Some(30), Some(5)), Due(NoKey)),
            ("renewal off", Some(instant(0)), policy(None, None), Never),
            (
                "young",
                Some(instant(90)),
                policy(Some(30), None),
                At(instant(120)),
            ),
            (
                "exactly at the renewal age",
                Some(instant(70)),
                policy(Some(30), None),
                Due(Age),
            ),
            (
                "long overdue",
                Some(instant(0)),
                policy(Some(30), None),
                Due(Age),
            ),
            (
                "a little ahead, by the clock of another machine",
                Some(instant(400)),
                policy(Some(30), None),
                At(instant(430)),
            ),
            (
                "from the future, because the clock was ahead",
                Some(instant(401)),
                policy(Some(30), None),
                Due(Future),
            ),
            (
                "from the future, and renewal off",
                Some(instant(401)),
                policy(None, None),
                Never,
            ),
            (
                "before the cutoff",
                Some(instant(90)),
                policy(None, Some(95)),
                Due(Cutoff),
            ),
            (
                "at the cutoff",
                Some(instant(95)),
                policy(None, Some(95)),
                Never,
            ),
            (
                "a future cutoff",
                Some(instant(90)),
                policy(None, Some(150)),
                At(instant(150)),
            ),
            (
                "the renewal age before a future cutoff",
                Some(instant(90)),
                policy(Some(30), Some(150)),
                At(instant(120)),
            ),
            (
                "an endless period",
                Some(instant(90)),
                policy(Some(i64::MAX), None),
                At(Timestamp::MAX),
            ),
        ] {
            assert_eq!(renewal(newest, policy, instant(100)), want, "{why}");
        }
    }
}
