//! Builds the status to record from the outcome of an attempt and the recorded status.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use shared::key::Fingerprint;
use shared::resource::{
    Condition, ItemStatus, PreviousValues, SealedSecretStatus, SecretRecord, SecretVersion, time,
};
use shared::unseal::{ItemErrors, TemplateErrors, UnsealError, UsedKey};
use shared::v2;
use shared::{error_chain, visible};

use crate::decide::Refusal;
use crate::fault::Fault;
use crate::reason::{Reason, classify};
use crate::versions::{self, CurrentVersion};

/// The condition that Argo CD and the printer columns show. It comes first in the list.
const SYNCED: &str = "Synced";
/// The condition that Flux and kstatus read.
const READY: &str = "Ready";
/// The condition that reports to Flux and kstatus that a user must act. Present only while its status is `True`.
const STALLED: &str = "Stalled";

/// The line at the end of a failure message if the Secret has the values of the last good version.
const KEEPS_GOOD_VALUES: &str = "the values of the last good version stay in place";
/// The line at the end of a failure message if the Secret may have other values.
const MAY_KEEP_OTHER_VALUES: &str = "another client may have changed the values of the Secret";

/// The message of an object for which the controller intentionally creates no Secret.
const NO_SECRET: &str = "no Secret is created: the values are only delivered to Pods";
/// The message if no Secret is created, but a Secret of the same name is kept.
const SECRET_STAYS: &str = "no Secret is created: the values are only delivered to Pods; the existing Secret of this \
                            name is kept, since it has another owner or also has other values; if that Secret has \
                            values of this SealedSecret, remove them from the Secret";
/// The message if no Secret is created, but the earlier Secret still exists although its deletion was requested.
const SECRET_IS_BEING_DELETED: &str = "no Secret is created: the values are only delivered to Pods; the existing Secret \
                                       of this name still exists and can be read, although its deletion was requested: \
                                       clients must first remove their finalizers from its field metadata.finalizers";

/// Maximum number of items in a status, so that a large object fits into etcd together with its status.
const MAX_ITEMS: usize = 500;
/// Length in bytes at which a message is truncated. A message is repeated in up to three conditions.
const MAX_MESSAGE: usize = 32 << 10;

/// Which values the Secret keeps after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptValues {
    /// None: the Secret does not exist, has no values, or is not owned.
    None,
    /// The values of the last version that was unsealed.
    Good,
    /// Values that another client may have changed.
    Unknown,
}

/// Why a Secret exists although the values of its SealedSecret are only delivered to Pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemainingSecret {
    /// The controller keeps it, because the SealedSecret does not control it alone.
    Kept,
    /// Its deletion was requested, and finalizers of other clients delay the deletion.
    BeingDeleted,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// The Secret matches the SealedSecret.
    Unsealed {
        /// The key that unsealed each item.
        sealed_by: &'a BTreeMap<String, UsedKey>,
        /// The record that identifies the Secret after a restart; `None` if it could not be created.
        record: Option<SecretRecord>,
        /// The version of the content of the Secret; `None` if versions are not recorded.
        version: Option<CurrentVersion>,
        /// The former values that the Secret has.
        previous: Option<&'a PreviousValues>,
    },
    /// The SealedSecret was unsealed, and gets no Secret, because its values are only delivered to Pods.
    Delivered {
        /// The key that unsealed each item.
        sealed_by: &'a BTreeMap<String, UsedKey>,
        /// The version of the content; `None` if versions are not recorded.
        version: Option<CurrentVersion>,
        /// Why a Secret of the same name exists nevertheless; `None` if it does not.
        remaining: Option<RemainingSecret>,
    },
    /// The SealedSecret cannot be read or unsealed, or the controller refuses to write its Secret.
    Refused {
        /// Why the SealedSecret was refused.
        refusal: &'a Refusal,
        /// Which values the Secret keeps.
        kept: KeptValues,
        /// The former values that the Secret has.
        previous: Option<&'a PreviousValues>,
    },
    /// The store failed.
    Failed {
        /// The store's error message.
        message: String,
        /// Whether a user must act.
        is_stalled: bool,
        /// Which values the Secret keeps.
        kept: KeptValues,
        /// The former values that the Secret has.
        previous: Option<&'a PreviousValues>,
    },
}

impl Outcome<'_> {
    /// Returns the reason for conditions and events.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unsealed { .. } => Reason::Unsealed,
            Self::Delivered { .. } => Reason::Refused(v2::Reason::NotMade),
            Self::Refused { refusal, .. } => classify(refusal).reason,
            Self::Failed { .. } => Reason::ErrUpdateFailed,
        }
    }

    /// Returns the kind of failure for metrics; `None` for a success.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Unsealed { .. } | Self::Delivered { .. } => None,
            Self::Refused { refusal, .. } => Some(classify(refusal).fault),
            Self::Failed { .. } => Some(Fault::Update),
        }
    }

    /// Returns the failure message, beginning with upstream's text for failures that upstream has; `None` for a
    /// success.
    pub fn message(&self) -> Option<String> {
        self.failure_message(|refusal| error_chain(refusal))
    }

    /// Returns the failure message, beginning with the likely cause if items cannot be unsealed; `None` for a success.
    pub fn diagnosis(&self) -> Option<String> {
        self.failure_message(|refusal| match refusal {
            Refusal::Unseal(error @ UnsealError::Items(_)) => error.diagnosis(),
            refusal => error_chain(refusal),
        })
    }

    fn failure_message(&self, text: impl Fn(&Refusal) -> String) -> Option<String> {
        let message = match self {
            Self::Unsealed { .. } | Self::Delivered { .. } => return None,
            Self::Refused { refusal, .. } => text(refusal),
            Self::Failed { message, .. } => message.clone(),
        };
        Some(truncate(visible(&message).into_owned()))
    }

    fn is_success(&self) -> bool {
        matches!(self, Self::Unsealed { .. } | Self::Delivered { .. })
    }

    /// Returns whether a user must act.
    fn is_stalled(&self) -> bool {
        match self {
            Self::Unsealed { .. } | Self::Delivered { .. } => false,
            Self::Refused { refusal, .. } => classify(refusal).is_stalled,
            Self::Failed { is_stalled, .. } => *is_stalled,
        }
    }

    /// Returns the message of a success for which no Secret is created.
    fn no_secret_message(&self) -> Option<&'static str> {
        let Self::Delivered { remaining, .. } = self else {
            return None;
        };
        Some(match remaining {
            None => NO_SECRET,
            Some(RemainingSecret::Kept) => SECRET_STAYS,
            Some(RemainingSecret::BeingDeleted) => SECRET_IS_BEING_DELETED,
        })
    }

    /// Returns the line about the values that the Secret keeps after a failure.
    fn kept_values_line(&self) -> Option<&'static str> {
        let (Self::Refused { kept, .. } | Self::Failed { kept, .. }) = self else {
            return None;
        };
        match kept {
            KeptValues::None => None,
            KeptValues::Good => Some(KEEPS_GOOD_VALUES),
            KeptValues::Unknown => Some(MAY_KEEP_OTHER_VALUES),
        }
    }

    /// Returns the record for the status. A failure keeps the previous record, which shows whether this generation was
    /// unsealed before, and where the content of the Secret comes from.
    fn record(&self, previous: Option<&SealedSecretStatus>) -> Option<SecretRecord> {
        match self {
            Self::Unsealed { record, .. } => record.clone(),
            // Without a Secret there is nothing to recognize.
            Self::Delivered { .. } => None,
            Self::Refused { .. } | Self::Failed { .. } => previous?.record.clone(),
        }
    }

    /// Returns the versions of the content for the status. A failure, and a success whose version is unknown, keep the
    /// previous versions.
    fn versions(
        &self,
        previous: Option<&SealedSecretStatus>,
        generation: Option<i64>,
    ) -> Vec<SecretVersion> {
        match self {
            Self::Unsealed {
                version: Some(version),
                ..
            }
            | Self::Delivered {
                version: Some(version),
                ..
            } => versions::next(previous, version, generation),
            Self::Unsealed { version: None, .. }
            | Self::Delivered { version: None, .. }
            | Self::Refused { .. }
            | Self::Failed { .. } => {
                previous.map_or_else(Vec::new, |status| status.versions.clone())
            }
        }
    }

    /// Returns the former values that the Secret has.
    fn previous(&self) -> Option<PreviousValues> {
        match self {
            Self::Unsealed { previous, .. }
            | Self::Refused { previous, .. }
            | Self::Failed { previous, .. } => previous.cloned(),
            Self::Delivered { .. } => None,
        }
    }

    /// Returns this generation if it was unsealed, otherwise the last unsealed generation in the previous status. If an
    /// earlier release wrote the previous status without this field, its conditions or record show whether its observed
    /// generation was unsealed. For display only, since other clients may write the status.
    fn last_unsealed(
        &self,
        previous: Option<&SealedSecretStatus>,
        generation: Option<i64>,
    ) -> Option<i64> {
        if self.is_success() {
            return generation;
        }
        let previous = previous?;
        let was_unsealed = is_synced(previous) || previous.record.is_some();
        let observed = previous.observed_generation.filter(|_| was_unsealed);
        previous.last_unsealed_generation.or(observed)
    }

    fn items(&self) -> Vec<ItemStatus> {
        match self {
            Self::Unsealed { sealed_by, .. } | Self::Delivered { sealed_by, .. } => sealed_by
                .iter()
                .map(|(item, key)| ItemStatus {
                    key: item.clone(),
                    sealed_by: Some(key.to_string()),
                    error: None,
                })
                .collect(),
            Self::Refused {
                refusal: Refusal::Unseal(UnsealError::Items(ItemErrors { items: errors, .. })),
                ..
            } => errors
                .iter()
                .map(|error| failed_item(&error.key, &error.problem))
                .collect(),
            Self::Refused {
                refusal: Refusal::Unseal(UnsealError::Refused(v2::Refusal::Tampered { items })),
                ..
            } => items
                .iter()
                .map(|item| failed_item(item, &TamperedItem))
                .collect(),
            Self::Refused {
                refusal: Refusal::Unseal(UnsealError::Template(TemplateErrors(errors))),
                ..
            } => errors
                .iter()
                .map(|error| failed_item(error.key(), error))
                .collect(),
            Self::Refused {
                refusal: Refusal::Values(none),
                ..
            } => none
                .failures()
                .iter()
                .map(|error| failed_item(&error.template, error))
                .collect(),
            Self::Refused { .. } | Self::Failed { .. } => Vec::new(),
        }
    }
}

/// The error of an item that [`v2::Refusal::Tampered`] names.
#[derive(Debug, thiserror::Error)]
#[error("changed after it was sealed")]
struct TamperedItem;

fn failed_item(key: &str, error: &dyn std::error::Error) -> ItemStatus {
    ItemStatus {
        key: key.to_owned(),
        sealed_by: None,
        error: Some(visible(&error_chain(error)).into_owned()),
    }
}

/// Returns the status to record, or `None` if it equals the recorded status, since every write triggers all watchers.
///
/// The order is `Synced`, `Ready`, then `Stalled` if a user must act, then conditions of other clients unchanged.
/// `lastTransitionTime` changes only with the condition's `status`; `lastUpdateTime` also changes with its reason or
/// message, and with each generation, since users read it as the time of the last sync. For a failure, the message of
/// `Synced` is [`Outcome::message`]; the other messages are [`Outcome::diagnosis`], followed by a line about the values
/// that the Secret keeps, if any.
pub fn next(
    previous: Option<&SealedSecretStatus>,
    outcome: &Outcome<'_>,
    generation: Option<i64>,
    now: Timestamp,
) -> Option<SealedSecretStatus> {
    let before = previous.map_or(&[][..], |status| &status.conditions);
    let no_secret_message = || outcome.no_secret_message().map(str::to_owned);
    let message = outcome.message().or_else(no_secret_message);
    let diagnosis = outcome
        .diagnosis()
        .map(|text| match outcome.kept_values_line() {
            Some(line) => format!("{text}\n{line}"),
            None => text,
        });
    let diagnosis = diagnosis.or_else(no_secret_message);
    let is_unsealed = outcome.is_success();
    let is_same_generation =
        previous.is_some_and(|status| status.observed_generation == generation);
    let condition =
        |state, message| condition(state, before, outcome, message, now, is_same_generation);
    let mut conditions = vec![
        condition((SYNCED, is_unsealed), message),
        condition((READY, is_unsealed), diagnosis.clone()),
    ];
    if outcome.is_stalled() {
        conditions.push(condition((STALLED, true), diagnosis));
    }
    let own_types = [SYNCED, READY, STALLED];
    let other_conditions = before
        .iter()
        .filter(|condition| !own_types.contains(&condition.type_.as_str()));
    conditions.extend(other_conditions.cloned());
    let mut items = outcome.items();
    items.truncate(MAX_ITEMS);
    let status = SealedSecretStatus {
        observed_generation: generation,
        last_unsealed_generation: outcome.last_unsealed(previous, generation),
        conditions,
        items,
        record: outcome.record(previous),
        versions: outcome.versions(previous, generation),
        previous: outcome.previous(),
    };
    (!previous.is_some_and(|previous| is_equivalent(previous, &status))).then_some(status)
}

/// Returns whether both statuses are equal, or differ only because an earlier release did not write
/// `lastUnsealedGeneration`: an upgrade must not rewrite every status.
fn is_equivalent(previous: &SealedSecretStatus, status: &SealedSecretStatus) -> bool {
    let mut previous = previous.clone();
    let last_unsealed = &mut previous.last_unsealed_generation;
    *last_unsealed = last_unsealed.or(status.last_unsealed_generation);
    previous == *status
}

/// Returns the RSA key that unsealed each item, for the items whose status names an RSA key.
pub fn sealed_by(status: Option<&SealedSecretStatus>) -> BTreeMap<String, Fingerprint> {
    let items = status.map_or(&[][..], |status| &status.items);
    let key = |item: &ItemStatus| Some((item.key.clone(), item.sealed_by.as_ref()?.parse().ok()?));
    items.iter().filter_map(key).collect()
}

/// Returns a condition `Synced` that is true.
pub fn synced() -> Condition {
    Condition {
        type_: SYNCED.into(),
        status: "True".into(),
        last_update_time: None,
        last_transition_time: None,
        reason: None,
        message: None,
    }
}

/// Returns whether the condition `Synced` is true.
pub fn is_synced(status: &SealedSecretStatus) -> bool {
    synced_condition(status).is_some_and(|condition| condition.status == "True")
}

/// Returns `lastUpdateTime` of the condition `Synced`.
pub(crate) fn sync_time(status: &SealedSecretStatus) -> Option<Time> {
    synced_condition(status)?.last_update_time.clone()
}

fn synced_condition(status: &SealedSecretStatus) -> Option<&Condition> {
    let mut conditions = status.conditions.iter();
    conditions.find(|condition| condition.type_ == SYNCED)
}

fn truncate(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.push_str(" … (truncated)");
    }
    message
}

/// Returns a condition. Its times are kept as described for [`next`].
fn condition(
    (type_, is_true): (&str, bool),
    before: &[Condition],
    outcome: &Outcome<'_>,
    message: Option<String>,
    now: Timestamp,
    is_same_generation: bool,
) -> Condition {
    let previous = before.iter().find(|condition| condition.type_ == type_);
    let mut condition = Condition {
        type_: type_.into(),
        status: if is_true { "True" } else { "False" }.into(),
        last_update_time: Some(time(now)),
        last_transition_time: Some(time(now)),
        reason: Some(outcome.reason().to_string()),
        message,
    };
    if let Some(previous) = previous {
        if previous.status == condition.status {
            condition
                .last_transition_time
                .clone_from(&previous.last_transition_time);
        }
        if is_same_generation && has_same_content(previous, &condition) {
            condition
                .last_update_time
                .clone_from(&previous.last_update_time);
        }
    }
    condition
}

fn has_same_content(a: &Condition, b: &Condition) -> bool {
    (&a.status, &a.reason, &a.message) == (&b.status, &b.reason, &b.message)
}

#[cfg(test)]
mod tests {
    use shared::key_ring::NoKey;
    use shared::sealed_text;
    use shared::unseal::ItemError;

    use super::*;

    fn timestamp(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn names_every_item_that_was_changed_after_it_was_sealed() {
        let items = vec!["a".to_owned(), "b".to_owned()];
        let refusal = Refusal::Unseal(v2::Refusal::Tampered { items }.into());
        let status = next(None, &refused_outcome(&refusal), None, timestamp(1)).unwrap();
        let reasons = status.conditions.iter().map(|c| c.reason.as_deref());
        assert_eq!(reasons.collect::<Vec<_>>(), [Some("Tampered"); 3]);
        let error = || Some("changed after it was sealed".to_owned());
        let errors = status.items.into_iter().map(|item| (item.key, item.error));
        let want = [("a".to_owned(), error()), ("b".to_owned(), error())];
        assert_eq!(errors.collect::<Vec<_>>(), want);
    }

    fn unsealed_outcome(sealed_by: &BTreeMap<String, UsedKey>) -> Outcome<'_> {
        Outcome::Unsealed {
            sealed_by,
            record: None,
            version: None,
            previous: None,
        }
    }

    #[test]
    fn an_object_whose_values_are_only_delivered_is_ready_with_a_reason_and_versions() {
        let (sealed_by, version) = (BTreeMap::new(), |version: &str| CurrentVersion {
            version: version.into(),
            key_id: "k".into(),
            written_at: timestamp(1),
        });
        let unsealed = Outcome::Unsealed {
            sealed_by: &sealed_by,
            record: None,
            version: Some(version("v")),
            previous: None,
        };
        let before = next(None, &unsealed, Some(1), timestamp(1)).unwrap();
        let delivered = Outcome::Delivered {
            sealed_by: &sealed_by,
            version: Some(version("v")),
            remaining: None,
        };
        let status = next(Some(&before), &delivered, Some(1), timestamp(2)).unwrap();
        let conditions = status.conditions.iter().map(|condition| {
            let reason = condition.reason.as_deref().unwrap();
            (&*condition.type_, &*condition.status, reason)
        });
        let want = [("Synced", "True", "NotMade"), ("Ready", "True", "NotMade")];
        assert_eq!(conditions.collect::<Vec<_>>(), want);
        assert_eq!(status.versions, before.versions);
        assert_eq!(status.last_unsealed_generation, Some(1));
        assert_eq!(next(Some(&status), &delivered, Some(1), timestamp(3)), None);
    }

    /// Fault: the status of an object whose Secret can still be read reports that no Secret exists.
    #[test]
    fn the_status_of_a_delivered_object_says_why_a_secret_still_exists() {
        let sealed_by = BTreeMap::new();
        let outcome = |remaining| Outcome::Delivered {
            sealed_by: &sealed_by,
            version: None,
            remaining,
        };
        let mut status = None;
        for (second, remaining, want) in [
            (1, Some(RemainingSecret::BeingDeleted), "finalizers"),
            (2, Some(RemainingSecret::Kept), "is kept, since"),
            (3, None, "only delivered to Pods"),
        ] {
            let next = next(
                status.as_ref(),
                &outcome(remaining),
                Some(1),
                timestamp(second),
            );
            let next = next.unwrap();
            assert!(is_synced(&next));
            for condition in &next.conditions {
                assert_eq!(condition.reason.as_deref(), Some("NotMade"));
                let message = condition.message.as_deref().unwrap();
                assert!(message.contains(want), "{message}");
                assert_eq!(message == NO_SECRET, remaining.is_none(), "{message}");
            }
            status = Some(next);
        }
    }

    fn refused_outcome(refusal: &Refusal) -> Outcome<'_> {
        Outcome::Refused {
            refusal,
            kept: KeptValues::Good,
            previous: None,
        }
    }

    fn times(status: &SealedSecretStatus, i: usize) -> (i64, i64) {
        let condition = &status.conditions[i];
        let seconds = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| {
            time.as_ref().unwrap().0.as_second()
        };
        (
            seconds(&condition.last_transition_time),
            seconds(&condition.last_update_time),
        )
    }

    #[test]
    fn conditions_are_in_the_order_synced_ready_others() {
        let no_items = BTreeMap::new();
        let unknown_condition = Condition {
            type_: "Other".into(),
            status: "Unknown".into(),
            last_update_time: None,
            last_transition_time: None,
            reason: None,
            message: None,
        };
        let previous = SealedSecretStatus {
            conditions: vec![unknown_condition],
            ..SealedSecretStatus::default()
        };
        let status = next(
            Some(&previous),
            &unsealed_outcome(&no_items),
            Some(3),
            timestamp(1),
        )
        .unwrap();
        let types: Vec<_> = status.conditions.iter().map(|c| c.type_.as_str()).collect();
        assert_eq!(types, ["Synced", "Ready", "Other"]);
        assert_eq!(status.observed_generation, Some(3));
        assert_eq!(status.conditions[0].message, None);
    }

    #[test]
    fn transition_time_changes_only_with_the_status_and_equal_statuses_are_not_written() {
        let no_items = BTreeMap::new();
        let success = unsealed_outcome(&no_items);
        let (first_refusal, second_refusal) = (
            Refusal::Malformed("one".into()),
            Refusal::Malformed("two".into()),
        );
        let first = next(None, &success, None, timestamp(1)).unwrap();
        assert_eq!(times(&first, 0), (1, 1));
        assert_eq!(next(Some(&first), &success, None, timestamp(2)), None);
        let failed = next(
            Some(&first),
            &refused_outcome(&first_refusal),
            None,
            timestamp(3),
        )
        .unwrap();
        assert_eq!(times(&failed, 0), (3, 3));
        let unchanged = next(
            Some(&failed),
            &refused_outcome(&first_refusal),
            None,
            timestamp(4),
        );
        assert_eq!(unchanged, None);
        let failed = next(
            Some(&failed),
            &refused_outcome(&second_refusal),
            None,
            timestamp(5),
        )
        .unwrap();
        assert_eq!((times(&failed, 0), times(&failed, 1)), ((3, 5), (3, 5)));
        let resolved = next(Some(&failed), &success, None, timestamp(6)).unwrap();
        assert_eq!(times(&resolved, 0), (6, 6));
        let updated = next(Some(&resolved), &success, Some(2), timestamp(7)).unwrap();
        assert_eq!((times(&updated, 0), times(&updated, 1)), ((6, 7), (6, 7)));
        assert_eq!(next(Some(&updated), &success, Some(2), timestamp(8)), None);
    }

    #[test]
    fn update_time_changes_with_each_generation() {
        let (no_items, refusal) = (BTreeMap::new(), Refusal::Malformed("why".into()));
        for outcome in [unsealed_outcome(&no_items), refused_outcome(&refusal)] {
            let mut status = next(None, &outcome, Some(1), timestamp(1)).unwrap();
            for generation in 2..5 {
                status = next(
                    Some(&status),
                    &outcome,
                    Some(generation),
                    timestamp(generation),
                )
                .unwrap();
                for i in 0..status.conditions.len() {
                    assert_eq!(times(&status, i), (1, generation), "{outcome:?}");
                }
                assert_eq!(
                    next(Some(&status), &outcome, Some(generation), timestamp(99)),
                    None
                );
            }
        }
    }

    #[test]
    fn a_status_names_the_last_generation_that_was_unsealed() {
        let (no_items, refusal) = (BTreeMap::new(), Refusal::Malformed("why".into()));
        let (success, failure) = (unsealed_outcome(&no_items), refused_outcome(&refusal));
        let mut status = next(None, &failure, Some(1), timestamp(1)).unwrap();
        assert_eq!(status.last_unsealed_generation, None);
        for (outcome, generation, want) in [
            (&success, 2, 2),
            (&failure, 3, 2),
            (&failure, 4, 2),
            (&success, 5, 5),
            (&failure, 6, 5),
        ] {
            status = next(
                Some(&status),
                outcome,
                Some(generation),
                timestamp(generation),
            )
            .unwrap();
            assert_eq!(status.last_unsealed_generation, Some(want), "{generation}");
        }
    }

    #[test]
    fn an_upgrade_does_not_rewrite_statuses_and_keeps_the_unsealed_generation() {
        let (no_items, refusal) = (BTreeMap::new(), Refusal::Malformed("why".into()));
        let (success, failure) = (unsealed_outcome(&no_items), refused_outcome(&refusal));
        let mut earlier = next(None, &success, Some(3), timestamp(1)).unwrap();
        earlier.last_unsealed_generation = None;
        assert_eq!(next(Some(&earlier), &success, Some(3), timestamp(2)), None);
        let failed = next(Some(&earlier), &failure, Some(4), timestamp(2)).unwrap();
        assert_eq!(failed.last_unsealed_generation, Some(3));
    }

    #[test]
    fn a_failure_keeps_the_last_record() {
        let no_items = BTreeMap::new();
        let record = SecretRecord {
            secret_uid: "u".into(),
            secret_version: "1".into(),
            key: String::new(),
            content: String::new(),
            proof: String::new(),
        };
        let success = Outcome::Unsealed {
            sealed_by: &no_items,
            record: Some(record.clone()),
            version: None,
            previous: None,
        };
        let refusal = Refusal::Malformed("why".into());
        let first = next(None, &success, Some(1), timestamp(1)).unwrap();
        let failed = next(
            Some(&first),
            &refused_outcome(&refusal),
            Some(1),
            timestamp(2),
        )
        .unwrap();
        assert_eq!(failed.record, Some(record.clone()));
        assert!(!is_synced(&failed));
        let next_version = next(
            Some(&failed),
            &refused_outcome(&refusal),
            Some(2),
            timestamp(3),
        )
        .unwrap();
        assert_eq!(next_version.record, Some(record));
    }

    #[test]
    fn lists_the_key_or_the_error_of_each_item() {
        let fingerprint: Fingerprint = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"
            .parse()
            .unwrap();
        let key = UsedKey::Rsa(fingerprint.clone());
        let sealed_by = BTreeMap::from([("a".to_owned(), key)]);
        let status = next(None, &unsealed_outcome(&sealed_by), None, timestamp(1)).unwrap();
        assert_eq!(status.items[0].sealed_by, Some(fingerprint.to_string()));

        let items = vec![
            ItemError {
                key: "a".into(),
                problem: NoKey.into(),
            },
            ItemError {
                key: "b".into(),
                problem: sealed_text::decode("*").unwrap_err().into(),
            },
        ];
        let errors = ItemErrors {
            items,
            ..ItemErrors::default()
        };
        let refusal = Refusal::Unseal(errors.into());
        let status = next(None, &refused_outcome(&refusal), None, timestamp(1)).unwrap();
        let upstream = "no key could decrypt secret (a)\nillegal base64 data at input byte 0 (b)";
        let finding = "it is not base64 (invalid byte at offset 0), 1 byte";
        let synced =
            format!("{upstream}\nhint: item b is not a sealed value: {finding}; seal it again");
        assert_eq!(status.conditions[0].message.as_ref(), Some(&synced));
        assert_eq!(
            status.conditions[0].reason.as_deref(),
            Some("ErrUnsealFailed")
        );
        let ready = status.conditions[1].message.as_deref().unwrap();
        assert_eq!(
            ready,
            format!(
                "item b is not a sealed value: {finding}; seal it again\nno key could decrypt secret (a)\n\
                 the values of the last good version stay in place"
            )
        );
        let items: Vec<_> = status
            .items
            .iter()
            .map(|item| (item.key.as_str(), item.error.as_deref().unwrap()))
            .collect();
        let not_sealed = format!("not a sealed value: {finding}");
        let want = [
            ("a", "no key could decrypt secret"),
            ("b", not_sealed.as_str()),
        ];
        assert_eq!(items, want);
    }
}
