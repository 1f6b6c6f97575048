//! The result of an attempt, and the report of that result.

use controller_core::previous::NotKept;
use controller_core::reason::{Reason, Remedy, classify};
use controller_core::status::Outcome;
use jiff::Timestamp;

use super::applying::Correction;
use crate::store::{EventRecord, StoreError};

/// The result of an attempt, and the condition under which another attempt can have a different result.
#[derive(Debug)]
pub(super) enum AttemptResult {
    /// The Secret is up to date. `changed` is whether something was written, or the Secret already matched a new
    /// version of the SealedSecret.
    UpToDate { changed: bool },
    /// The SealedSecret is deleted, and nothing is left for the controller to delete. `removed` is whether this attempt
    /// deleted a Secret.
    Gone { removed: bool },
    /// Failed; only another key can help.
    PendingOnKeys(Report),
    /// Failed; only a change to the SealedSecret can help.
    PendingOnChange(Report),
    /// Failed; the attempt is repeated later.
    Retry(Report),
    /// Failed; attempts before this time are useless.
    NotBefore(Timestamp, Report),
}

#[derive(Debug)]
pub(super) struct Report {
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl AttemptResult {
    /// Returns the result for an outcome. `error` is the store's error, if applying the plan failed.
    pub(super) fn from_outcome(
        outcome: &Outcome<'_>,
        error: Option<&StoreError>,
        changed: bool,
    ) -> Self {
        let Some(message) = outcome.diagnosis() else {
            return Self::UpToDate { changed };
        };
        let report = Report {
            reason: outcome.reason(),
            message,
        };
        match (outcome, error) {
            (_, Some(error)) if error.is_final() => Self::PendingOnChange(report),
            (_, Some(_)) => Self::Retry(report),
            (Outcome::Refused { refusal, .. }, None) => match classify(refusal).remedy {
                Remedy::Key => Self::PendingOnKeys(report),
                Remedy::Change => Self::PendingOnChange(report),
                Remedy::Retry => Self::Retry(report),
                Remedy::Time(time) => Self::NotBefore(time, report),
            },
            (_, None) => Self::UpToDate { changed },
        }
    }

    pub(super) fn retry_not_before(until: Timestamp, outcome: &Outcome<'_>) -> Self {
        let report = Report {
            reason: outcome.reason(),
            message: outcome.diagnosis().unwrap_or_default(),
        };
        Self::NotBefore(until, report)
    }

    /// Returns the event to report. A success is reported if something changed or the object was failing. A failure is
    /// reported each time, and repetitions are counted.
    pub(super) fn event(&self, was_failing: bool) -> Option<EventRecord> {
        match self {
            Self::UpToDate { changed } if *changed || was_failing => Some(EventRecord {
                is_warning: false,
                reason: Reason::Unsealed,
                message: "SealedSecret unsealed successfully".into(),
            }),
            Self::UpToDate { .. } | Self::Gone { .. } => None,
            Self::PendingOnKeys(report)
            | Self::PendingOnChange(report)
            | Self::Retry(report)
            | Self::NotBefore(_, report) => Some(EventRecord {
                is_warning: true,
                reason: report.reason,
                message: warning_text(report),
            }),
        }
    }
}

/// Returns the message of a report, with upstream's prefix if unsealing failed.
fn warning_text(report: &Report) -> String {
    match report.reason {
        Reason::ErrUnsealFailed => format!("Failed to unseal: {}", report.message),
        _ => report.message.clone(),
    }
}

pub(super) fn risky_type_event(risky_type: &str) -> EventRecord {
    EventRecord {
        is_warning: true,
        reason: Reason::RiskyType,
        message: format!(
            "the Secret has the type {risky_type}, which grants the author of the SealedSecret access beyond the sealed values; \
             if this is not intended, remove the type from --allow-secret-types"
        ),
    }
}

/// Returns the event about a risky type that is sealed too. The event does not name the type.
pub(super) fn sealed_risky_type_event() -> EventRecord {
    EventRecord {
        is_warning: true,
        reason: Reason::RiskyType,
        message: "the Secret sealed in the deprecated field 'data' has a type that grants the author of the SealedSecret \
                  access beyond the sealed values; if this is not intended, remove the risky types from \
                  --allow-secret-types"
            .into(),
    }
}

pub(super) fn former_value_not_kept_event(not_kept: &NotKept) -> EventRecord {
    EventRecord {
        is_warning: true,
        reason: Reason::FormerValueNotKept,
        message: not_kept.to_string(),
    }
}

pub(super) fn drift_corrected_event(correction: Correction) -> EventRecord {
    let message = match correction {
        Correction::Restored => {
            "another client changed the Secret; the state that the SealedSecret defines was restored"
        }
        Correction::Regenerated => {
            "another client changed the Secret, and also random values, which were generated again: restart the programs \
             that use them; everything else that the SealedSecret defines was restored"
        }
    };
    EventRecord {
        is_warning: true,
        reason: Reason::DriftCorrected,
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use shared::hints::Hints;

    use controller_core::decide::Refusal;
    use controller_core::status::KeptValues;
    use shared::unseal::UnsealError;

    use super::*;
    use crate::testing::id;

    fn result_of_refusal(refusal: &Refusal) -> AttemptResult {
        let outcome = Outcome::Refused {
            refusal,
            kept: KeptValues::Good,
            previous: None,
        };
        AttemptResult::from_outcome(&outcome, None, false)
    }

    #[test]
    fn an_object_whose_budget_is_used_up_is_retried_without_a_change() {
        let error = UnsealError::BudgetUsedUp {
            opened: Hints::new(),
        };
        let refusal = Refusal::Unseal(error);
        let AttemptResult::Retry(Report { reason, message }) = result_of_refusal(&refusal) else {
            panic!("expected a retry");
        };
        assert_eq!(reason, Reason::BudgetUsedUp);
        assert!(message.contains("split the object"), "{message}");
    }

    #[test]
    fn retries_after_a_conflict_but_not_after_a_malformed_object() {
        for refusal in [
            Refusal::NotManaged(id("n")),
            Refusal::Immutable(id("n")),
            Refusal::TypeChange {
                id: id("n"),
                from: "Opaque".into(),
                to: "other".into(),
            },
        ] {
            assert!(
                matches!(result_of_refusal(&refusal), AttemptResult::Retry(_)),
                "{refusal}"
            );
        }
        let malformed = Refusal::Malformed("no base64".into());
        assert!(matches!(
            result_of_refusal(&malformed),
            AttemptResult::PendingOnChange(_)
        ));
    }
}
