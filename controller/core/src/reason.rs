//! The reasons of conditions and events, and the classification of refusals.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use shared::unseal::UnsealError;
use shared::v2;

use crate::decide::Refusal;
use crate::fault::Fault;

/// The machine-readable reason of a condition or an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The Secret matches the SealedSecret. Upstream's reason.
    Unsealed,
    /// The SealedSecret cannot be unsealed, or no valid and allowed Secret results from it. Upstream's reason.
    ErrUnsealFailed,
    /// The Secret cannot be written, or the existing Secret cannot be read. Upstream's reason.
    ErrUpdateFailed,
    /// A reason of v2: the object is refused as a whole, or its values are only delivered to Pods.
    Refused(v2::Reason),
    /// The object needs more work than one attempt may take.
    BudgetUsedUp,
    /// Another client keeps reverting the controller's corrections.
    DriftFight,
    /// Another client changed the Secret, and the controller reverted the change.
    DriftCorrected,
    /// A former value is not kept although the SealedSecret requests it.
    FormerValueNotKept,
    /// The type of the Secret grants the author of the SealedSecret access beyond the values.
    RiskyType,
    /// A key Secret cannot be used.
    UnusableKey,
    /// The newest key does not seal until it is marked as backed up.
    WaitsForBackup,
    /// The key in a Secret was replaced with another key.
    KeyReplaced,
    /// A key was removed.
    KeyRemoved,
    /// The last key of a suite was removed.
    LastKeyRemoved,
}

impl Reason {
    /// Returns the reason as it appears in statuses and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsealed => "Unsealed",
            Self::ErrUnsealFailed => "ErrUnsealFailed",
            Self::ErrUpdateFailed => "ErrUpdateFailed",
            Self::Refused(reason) => reason.as_str(),
            Self::BudgetUsedUp => "BudgetUsedUp",
            Self::DriftFight => "DriftFight",
            Self::DriftCorrected => "DriftCorrected",
            Self::FormerValueNotKept => "FormerValueNotKept",
            Self::RiskyType => "RiskyType",
            Self::UnusableKey => "UnusableKey",
            Self::WaitsForBackup => "WaitsForBackup",
            Self::KeyReplaced => "KeyReplaced",
            Self::KeyRemoved => "KeyRemoved",
            Self::LastKeyRemoved => "LastKeyRemoved",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The kind of change that can resolve a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Another key.
    Key,
    /// A change to the SealedSecret.
    Change,
    /// Another attempt.
    Retry,
    /// An attempt at this time or later.
    Time(Timestamp),
}

/// How a refusal is reported and what can resolve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// The reason in the status and the event.
    pub reason: Reason,
    /// The kind of failure that metrics count.
    pub fault: Fault,
    /// Whether a user must act.
    pub is_stalled: bool,
    /// The kind of change that can resolve the refusal.
    pub remedy: Remedy,
}

/// How far a revision may lie in the future, since clocks differ.
pub const MAX_REVISION_AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// Returns the class of a refusal. The match is exhaustive, so that a new refusal does not compile without a class.
pub fn classify(refusal: &Refusal) -> Class {
    let class = |reason, fault, remedy| Class {
        reason,
        fault,
        is_stalled: true,
        remedy,
    };
    let unseal = |remedy| class(Reason::ErrUnsealFailed, Fault::Unseal, remedy);
    let update = |remedy| class(Reason::ErrUpdateFailed, Fault::Update, remedy);
    match refusal {
        Refusal::Malformed(_) | Refusal::Values(_) | Refusal::Violation(_) => {
            unseal(Remedy::Change)
        }
        Refusal::Unseal(error) => match error {
            UnsealError::Refused(refusal) => classify_v2(refusal),
            UnsealError::KeyUnavailable { .. } => Class {
                is_stalled: false,
                ..unseal(Remedy::Retry)
            },
            UnsealError::Items(_) | UnsealError::LegacyNoKey(_) => unseal(Remedy::Key),
            UnsealError::Template(_)
            | UnsealError::Render(_)
            | UnsealError::BothForms
            | UnsealError::LegacyRefused
            | UnsealError::LegacyNotSealed(_)
            | UnsealError::LegacyContent => unseal(Remedy::Change),
            // The next attempt continues where this one stopped, after the other objects in its namespace.
            UnsealError::BudgetUsedUp { .. } => Class {
                is_stalled: false,
                ..class(Reason::BudgetUsedUp, Fault::Unseal, Remedy::Retry)
            },
        },
        Refusal::Missing(_) | Refusal::TooLarge(_) => update(Remedy::Change),
        // A change to the Secret, or its deletion, can also resolve this. The controller might not observe it, since
        // watching Secrets is optional.
        Refusal::TypeChange { .. } | Refusal::Immutable(_) => update(Remedy::Retry),
        Refusal::Unreadable(_) => class(Reason::ErrUpdateFailed, Fault::Fetch, Remedy::Retry),
        Refusal::NotManaged(_) => class(Reason::ErrUpdateFailed, Fault::Unmanaged, Remedy::Retry),
        Refusal::DriftFight(_) => Class {
            is_stalled: false,
            ..class(Reason::DriftFight, Fault::Update, Remedy::Retry)
        },
    }
}

fn classify_v2(refusal: &v2::Refusal) -> Class {
    let remedy = match refusal {
        v2::Refusal::UnknownKey { .. } => Remedy::Key,
        v2::Refusal::RevisionInFuture { revision, .. } => {
            time_of_acceptance(*revision).map_or(Remedy::Change, Remedy::Time)
        }
        _ => Remedy::Change,
    };
    Class {
        reason: Reason::Refused(refusal.reason()),
        fault: Fault::Unseal,
        is_stalled: !matches!(remedy, Remedy::Time(_)),
        remedy,
    }
}

/// Returns when a revision is no longer too far in the future; `None` if never.
fn time_of_acceptance(revision: u64) -> Option<Timestamp> {
    let time = Timestamp::from_millisecond(revision.try_into().ok()?).ok()?;
    time.checked_sub(MAX_REVISION_AHEAD).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class_of(refusal: v2::Refusal) -> Class {
        classify(&Refusal::Unseal(refusal.into()))
    }

    #[test]
    fn a_revision_in_the_future_is_tried_again_when_it_is_accepted() {
        let class = |revision| {
            let item = "a".to_owned();
            class_of(v2::Refusal::RevisionInFuture { item, revision })
        };
        let hours_25 = class(25 * 3600 * 1000);
        let hour = Timestamp::from_second(3600).unwrap();
        assert_eq!(hours_25.remedy, Remedy::Time(hour));
        assert!(!hours_25.is_stalled, "waiting helps");
        assert_eq!(hours_25.reason.as_str(), "RevisionInFuture");
        let never = class(u64::MAX);
        assert_eq!((never.remedy, never.is_stalled), (Remedy::Change, true));
    }

    #[test]
    fn only_another_key_resolves_a_missing_key() {
        let item = || "a".to_owned();
        let unknown = v2::Refusal::UnknownKey {
            item: item(),
            keys: Vec::new(),
        };
        assert_eq!(class_of(unknown).remedy, Remedy::Key);
        let tampered = v2::Refusal::Tampered {
            items: vec![item()],
        };
        for refusal in [tampered, v2::Refusal::NeverSecret { item: item() }] {
            let class = class_of(refusal);
            assert_eq!((class.remedy, class.is_stalled), (Remedy::Change, true));
        }
    }
}
