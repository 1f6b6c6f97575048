//! When the next key is due, as arithmetic.

use jiff::{SignedDuration, Timestamp};

/// When keys are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Age at which the newest key is followed by another; `None` for never.
    pub period: Option<SignedDuration>,
    /// A newest key from before this instant is followed by another, once the instant has come.
    pub cutoff: Option<Timestamp>,
}

/// What to do about keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// Make one now.
    Due(Reason),
    /// Look again then.
    At(Timestamp),
    /// Never, unless asked.
    Never,
}

/// Why a key is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is none.
    NoKey,
    /// The newest is from before the cutoff.
    Cutoff,
    /// The newest has reached its age.
    Age,
}

/// Decides from the order time of the newest key.
///
/// A cutoff in the future waits for its instant: were it due at once, the new key would again be
/// from before it, and so on without end.
pub fn renewal(newest: Option<Timestamp>, policy: Policy, now: Timestamp) -> Renewal {
    let Some(newest) = newest else {
        return Renewal::Due(Reason::NoKey);
    };
    let cutoff = policy.cutoff.filter(|cutoff| newest < *cutoff);
    let aged = policy
        .period
        .map(|period| newest.saturating_add(period).unwrap_or(Timestamp::MAX));
    match (cutoff, aged) {
        (Some(cutoff), _) if cutoff <= now => Renewal::Due(Reason::Cutoff),
        (_, Some(aged)) if aged <= now => Renewal::Due(Reason::Age),
        (cutoff, aged) => cutoff
            .into_iter()
            .chain(aged)
            .min()
            .map_or(Renewal::Never, Renewal::At),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decides_when_the_next_key_is_due() {
        use Reason::{Age, Cutoff, NoKey};
        use Renewal::{At, Due, Never};
        let at = |second| Timestamp::from_second(second).unwrap();
        let policy = |period: Option<i64>, cutoff: Option<i64>| Policy {
            period: period.map(SignedDuration::from_secs),
            cutoff: cutoff.map(at),
        };
        for (why, newest, policy, want) in [
            ("no key", None, policy(None, None), Due(NoKey)),
            (
                "no key, whatever the policy",
                None,
                policy(Some(30), Some(5)),
                Due(NoKey),
            ),
            ("renewal off", Some(at(0)), policy(None, None), Never),
            ("young", Some(at(90)), policy(Some(30), None), At(at(120))),
            (
                "exactly of age",
                Some(at(70)),
                policy(Some(30), None),
                Due(Age),
            ),
            (
                "long overdue",
                Some(at(0)),
                policy(Some(30), None),
                Due(Age),
            ),
            (
                "from the future, by a moved clock",
                Some(at(200)),
                policy(Some(30), None),
                At(at(230)),
            ),
            (
                "before the cutoff",
                Some(at(90)),
                policy(None, Some(95)),
                Due(Cutoff),
            ),
            ("at the cutoff", Some(at(95)), policy(None, Some(95)), Never),
            (
                "a cutoff to come",
                Some(at(90)),
                policy(None, Some(150)),
                At(at(150)),
            ),
            (
                "age before a cutoff to come",
                Some(at(90)),
                policy(Some(30), Some(150)),
                At(at(120)),
            ),
            (
                "an endless period",
                Some(at(90)),
                policy(Some(i64::MAX), None),
                At(Timestamp::MAX),
            ),
        ] {
            assert_eq!(renewal(newest, policy, at(100)), want, "{why}");
        }
    }
}
