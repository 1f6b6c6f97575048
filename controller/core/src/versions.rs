//! The content versions of a Secret, which the status of its SealedSecret lists.

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use shared::resource::{SealedSecretStatus, SecretVersion, time};

use crate::status::{is_synced, sync_time};

/// Maximum number of versions in a status.
const MAX_VERSIONS: usize = 5;

/// The current version of the content of a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentVersion {
    /// The content version: an HMAC of the content.
    pub version: String,
    /// The identifier of the content-version key, with which `version` was calculated.
    pub key_id: String,
    /// A time at which the Secret had this content. Must not depend on the values, as the exact time of the write does:
    /// rendering takes longer for some values.
    pub written_at: Timestamp,
}

/// Returns the versions to record, newest first.
///
/// Consumers compare the time of a version with the start times of their containers, which Kubernetes rounds down to
/// seconds. The time of a version is therefore rounded up: a container that started in the second of the write may have
/// read the earlier content.
pub fn next(
    previous: Option<&SealedSecretStatus>,
    current: &CurrentVersion,
    generation: Option<i64>,
) -> Vec<SecretVersion> {
    let before = previous.map_or(&[][..], |status| &status.versions);
    let newest = before.first();
    if newest.is_some_and(|newest| is_same(newest, current)) {
        return before.to_vec();
    }
    let known_time = previous.and_then(|status| time_of_same_content(status, current, generation));
    let entry = SecretVersion {
        version: current.version.clone(),
        key_id: current.key_id.clone(),
        generation,
        time: known_time.or_else(|| Some(time(round_up(current.written_at)))),
    };
    let mut versions = vec![entry];
    versions.extend_from_slice(before);
    versions.truncate(MAX_VERSIONS);
    versions
}

fn is_same(recorded: &SecretVersion, current: &CurrentVersion) -> bool {
    (&recorded.version, &recorded.key_id) == (&current.version, &current.key_id)
}

/// Returns the recorded time of the content of this generation, if only the identification of the content is new: the
/// content-version key was replaced, or the generation was unsealed without recording a version.
fn time_of_same_content(
    previous: &SealedSecretStatus,
    current: &CurrentVersion,
    generation: Option<i64>,
) -> Option<Time> {
    if let Some(newest) = previous.versions.first() {
        let has_new_key = newest.key_id != current.key_id && newest.generation == generation;
        newest.time.clone().filter(|_| has_new_key)
    } else {
        let is_unsealed = is_synced(previous) && previous.observed_generation == generation;
        sync_time(previous).filter(|_| is_unsealed)
    }
}

fn round_up(time: Timestamp) -> Timestamp {
    let to_second = TimestampRound::new()
        .smallest(Unit::Second)
        .mode(RoundMode::Ceil);
    time.round(to_second).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use shared::resource::Condition;

    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    fn current(version: &str, key_id: &str, written_at: Timestamp) -> CurrentVersion {
        CurrentVersion {
            version: version.into(),
            key_id: key_id.into(),
            written_at,
        }
    }

    fn with_versions(versions: Vec<SecretVersion>) -> SealedSecretStatus {
        SealedSecretStatus {
            versions,
            ..SealedSecretStatus::default()
        }
    }

    /// Returns the version, generation and second of each entry.
    fn summary(versions: &[SecretVersion]) -> Vec<(&str, i64, i64)> {
        let second = |v: &SecretVersion| v.time.as_ref().unwrap().0.as_second();
        let entries = versions.iter();
        let entries = entries.map(|v| (v.version.as_str(), v.generation.unwrap(), second(v)));
        entries.collect()
    }

    #[test]
    fn records_each_new_content_with_its_generation_and_the_next_full_second() {
        let mut status = SealedSecretStatus::default();
        for (generation, version, millisecond) in
            [(1, "a", 1_001), (2, "b", 2_000), (3, "a", 3_500)]
        {
            let current = current(version, "k", at(millisecond));
            status.versions = next(Some(&status), &current, Some(generation));
        }
        assert_eq!(
            summary(&status.versions),
            [("a", 3, 4), ("b", 2, 2), ("a", 1, 2)]
        );
    }

    #[test]
    fn a_generation_with_the_same_content_adds_nothing() {
        let first = next(None, &current("a", "k", at(1_000)), Some(1));
        let status = with_versions(first.clone());
        assert_eq!(
            next(Some(&status), &current("a", "k", at(9_000)), Some(2)),
            first
        );
    }

    #[test]
    fn keeps_the_five_newest_versions() {
        let mut status = SealedSecretStatus::default();
        for generation in 1..=7 {
            let current = current(&generation.to_string(), "k", at(generation * 1_000));
            status.versions = next(Some(&status), &current, Some(generation));
        }
        let generations = status.versions.iter().map(|v| v.generation.unwrap());
        assert_eq!(generations.collect::<Vec<_>>(), [7, 6, 5, 4, 3]);
    }

    #[test]
    fn a_replaced_key_keeps_the_time_of_the_same_generation() {
        let status = with_versions(next(None, &current("a", "k", at(1_000)), Some(1)));
        let same = next(Some(&status), &current("x", "l", at(9_000)), Some(1));
        assert_eq!(summary(&same), [("x", 1, 1), ("a", 1, 1)]);
        let newer = next(Some(&status), &current("x", "l", at(9_000)), Some(2));
        assert_eq!(summary(&newer), [("x", 2, 9), ("a", 1, 1)]);
    }

    #[test]
    fn values_that_were_generated_again_have_a_new_time() {
        let status = with_versions(next(None, &current("a", "k", at(1_000)), Some(1)));
        let again = next(Some(&status), &current("b", "k", at(9_000)), Some(1));
        assert_eq!(summary(&again), [("b", 1, 9), ("a", 1, 1)]);
    }

    /// Fault: an upgrade records a version for the first time, and every consumer counts as outdated.
    #[test]
    fn the_first_version_of_an_unsealed_generation_has_the_time_of_its_last_sync() {
        let synced = Condition {
            last_update_time: Some(time(at(3_000))),
            ..crate::status::synced()
        };
        let status = SealedSecretStatus {
            observed_generation: Some(4),
            conditions: vec![synced],
            ..SealedSecretStatus::default()
        };
        let current = current("a", "k", at(9_000));
        assert_eq!(
            summary(&next(Some(&status), &current, Some(4))),
            [("a", 4, 3)]
        );
        assert_eq!(
            summary(&next(Some(&status), &current, Some(5))),
            [("a", 5, 9)]
        );
    }
}
