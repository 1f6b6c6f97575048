//! How an attempt ended, and what is reported about it.

use controller_core::reason::{Reason, Remedy, classify};
use controller_core::status::Outcome;
use jiff::Timestamp;

use crate::store::{News, StoreError};

/// How an attempt ended, and what must happen before another one can end differently.
#[derive(Debug)]
pub(super) enum Ended {
    /// The Secret is up to date. `changed`: something was written, or another version of the SealedSecret is
    /// in place.
    Well { changed: bool },
    /// The SealedSecret and everything made from it are deleted.
    Gone { removed: bool },
    /// Only another key helps.
    WaitsForKeys(Report),
    /// Only a change of the SealedSecret helps.
    WaitsForChange(Report),
    /// Retry later.
    Retry(Report),
    /// Nothing to do before that time.
    NotBefore(Timestamp, Report),
}

#[derive(Debug)]
pub(super) struct Report {
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl Ended {
    /// Classifies the outcome. `error` is the store's error when the plan was applied.
    pub(super) fn of(outcome: &Outcome<'_>, error: Option<&StoreError>, changed: bool) -> Self {
        let Some(message) = outcome.diagnosis() else {
            return Self::Well { changed };
        };
        let report = Report {
            reason: outcome.reason(),
            message,
        };
        match (outcome, error) {
            (_, Some(error)) if error.is_final() => Self::WaitsForChange(report),
            (_, Some(_)) => Self::Retry(report),
            (Outcome::Refused { why, .. }, None) => match classify(why).remedy {
                Remedy::Key => Self::WaitsForKeys(report),
                Remedy::Change => Self::WaitsForChange(report),
                Remedy::Retry => Self::Retry(report),
            },
            (_, None) => Self::Well { changed },
        }
    }

    pub(super) fn not_before(until: Timestamp, outcome: &Outcome<'_>) -> Self {
        let report = Report {
            reason: outcome.reason(),
            message: outcome.diagnosis().unwrap_or_default(),
        };
        Self::NotBefore(until, report)
    }

    /// Returns the event to report. A success is reported when something changed; a failure each time, and
    /// the recorder of events counts repetitions.
    pub(super) fn news(&self, was_failing: bool) -> Option<News> {
        match self {
            Self::Well { changed } if *changed || was_failing => Some(News {
                is_warning: false,
                reason: Reason::Unsealed,
                message: "SealedSecret unsealed successfully".into(),
            }),
            Self::Well { .. } | Self::Gone { .. } => None,
            Self::WaitsForKeys(report)
            | Self::WaitsForChange(report)
            | Self::Retry(report)
            | Self::NotBefore(_, report) => Some(News {
                is_warning: true,
                reason: report.reason,
                message: warning(report),
            }),
        }
    }
}

/// Returns the message with upstream's prefix.
fn warning(report: &Report) -> String {
    match report.reason {
        Reason::ErrUnsealFailed => format!("Failed to unseal: {}", report.message),
        _ => report.message.clone(),
    }
}

pub(super) fn risky(risky_type: &str) -> News {
    News {
        is_warning: true,
        reason: Reason::RiskyType,
        message: format!(
            "the Secret has the type {risky_type}, which gives its author more than the values that were sealed; \
             if that is not meant, take the type out of --allow-secret-types"
        ),
    }
}

/// Returns the event about a risky type that is sealed itself, and so not named.
pub(super) fn risky_unnamed() -> News {
    News {
        is_warning: true,
        reason: Reason::RiskyType,
        message: "the Secret sealed in the deprecated field 'data' has a type which gives its author more than the \
                  values that were sealed; if that is not meant, run the controller with --forbid-secret-types"
            .into(),
    }
}

pub(super) fn drift_corrected() -> News {
    News {
        is_warning: true,
        reason: Reason::DriftCorrected,
        message:
            "another client had changed the Secret; the values of the SealedSecret are restored"
                .into(),
    }
}

#[cfg(test)]
mod tests {
    use shared::hints::Hints;

    use controller_core::decide::Refusal;
    use shared::unseal::UnsealError;

    use super::*;
    use crate::testing::id;

    fn ended(why: &Refusal) -> Ended {
        let outcome = Outcome::Refused {
            why,
            keeps_values: true,
        };
        Ended::of(&outcome, None, false)
    }

    #[test]
    fn an_object_whose_budget_is_used_up_is_tried_again_without_any_change() {
        let used_up = UnsealError::BudgetUsedUp {
            opened: Hints::new(),
        };
        let why = Refusal::Unseal(used_up);
        let Ended::Retry(Report { reason, message }) = ended(&why) else {
            panic!("it waits for something");
        };
        assert_eq!(reason, Reason::BudgetUsedUp);
        assert!(message.contains("split the object"), "{message}");
    }

    #[test]
    fn a_conflicting_secret_is_reconciled_again_without_a_new_report() {
        for why in [
            Refusal::NotManaged(id("n")),
            Refusal::Immutable(id("n")),
            Refusal::TypeChange {
                id: id("n"),
                from: "Opaque".into(),
                to: "other".into(),
            },
        ] {
            assert!(matches!(ended(&why), Ended::Retry(_)), "{why}");
        }
        let malformed = Refusal::Malformed("no base64".into());
        assert!(matches!(ended(&malformed), Ended::WaitsForChange(_)));
    }
}
