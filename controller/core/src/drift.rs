//! Limits how often the controller corrects edits and deletions of its Secrets by other clients.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::decide::{Plan, Refusal};
use crate::object_id::ObjectId;

pub use shared::resource::CORRECT_DRIFT_ANNOTATION as ANNOTATION;

/// Returns whether the annotations disable drift correction.
pub fn opts_out(annotations: Option<&BTreeMap<String, String>>) -> bool {
    let value = annotations.and_then(|annotations| annotations.get(ANNOTATION));
    value.is_some_and(|value| value == "false")
}

/// The number of corrections of one Secret within [`WINDOW`] at which the controller assumes a conflict with another
/// client and pauses. Edits and deletions count separately.
const MAX_CORRECTIONS: usize = 5;
const WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// The pause between two recreations of a deleted Secret once the limit is reached. Shorter than [`WINDOW`], since Pods
/// wait for the Secret.
const PAUSE: SignedDuration = SignedDuration::from_mins(1);

/// The change that another client made to the Secret of an unsealed SealedSecret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interference {
    /// The client changed the Secret.
    Edit,
    /// The client deleted the Secret.
    Deletion,
}

impl Interference {
    /// Returns the interference that the plan undoes; `None` if it undoes none. Returns `None` for a SealedSecret that
    /// is not `settled`, since a change to the SealedSecret may be the reason for the plan.
    pub fn undone_by(plan: &Plan, settled: bool) -> Option<Self> {
        match plan {
            Plan::Replace(_) if settled => Some(Self::Edit),
            Plan::Create(_) if settled => Some(Self::Deletion),
            _ => None,
        }
    }
}

/// The recent corrections of each Secret.
#[derive(Debug, Default)]
pub struct Drift {
    corrections: BTreeMap<(ObjectId, Interference), Vec<Timestamp>>,
}

/// A conflict with another client: the next correction has to wait.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fight {
    /// The interference to correct.
    pub interference: Interference,
    /// The time from which the interference may be corrected.
    pub until: Timestamp,
}

impl fmt::Display for Fight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = WINDOW.as_mins();
        match self.interference {
            Interference::Edit => write!(
                f,
                "another client keeps changing the Secret: it was corrected {MAX_CORRECTIONS} times in {minutes} minutes; \
                 find out which client writes it, or annotate the SealedSecret with {ANNOTATION}=false"
            ),
            Interference::Deletion => write!(
                f,
                "another client keeps deleting the Secret: it was recreated {MAX_CORRECTIONS} times in {minutes} minutes, \
                 and now once a minute; find out which client deletes it, or delete the SealedSecret"
            ),
        }
    }
}

impl From<&Fight> for Refusal {
    fn from(fight: &Fight) -> Self {
        Self::DriftFight(fight.clone())
    }
}

impl Drift {
    /// Checks whether a correction may be applied now.
    ///
    /// # Errors
    ///
    /// Returns [`Fight`] if there were too many corrections recently.
    pub fn allow_correction(
        &self,
        id: &ObjectId,
        interference: Interference,
        now: Timestamp,
    ) -> Result<(), Fight> {
        let corrections = self.corrections.get(&(id.clone(), interference));
        let corrections = corrections.into_iter().flatten().copied();
        let recent: Vec<Timestamp> = corrections.filter(|time| is_recent(*time, now)).collect();
        match next_time(interference, &recent) {
            Some(until) if now < until => Err(Fight {
                interference,
                until,
            }),
            _ => Ok(()),
        }
    }

    /// Records a correction that was applied. Failed corrections do not count, since they undid nothing.
    pub fn record_correction(&mut self, id: &ObjectId, interference: Interference, now: Timestamp) {
        let key = (id.clone(), interference);
        let corrections = self.corrections.entry(key).or_default();
        corrections.retain(|time| is_recent(*time, now));
        corrections.push(now);
    }

    /// Forgets a deleted object.
    pub fn forget(&mut self, id: &ObjectId) {
        self.corrections.retain(|(entry, _), _| entry != id);
    }
}

/// Returns whether a correction counts toward [`MAX_CORRECTIONS`]. A time further than [`WINDOW`] in the future does
/// not: it comes from a wrong clock.
fn is_recent(time: Timestamp, now: Timestamp) -> bool {
    now.duration_since(time).abs() < WINDOW
}

/// Returns when the next correction may be applied, or `None` if it need not wait.
fn next_time(interference: Interference, corrections: &[Timestamp]) -> Option<Timestamp> {
    let (since, wait) = match interference {
        Interference::Edit => (corrections.first(), WINDOW),
        Interference::Deletion => (corrections.last(), PAUSE),
    };
    let since = since.filter(|_| corrections.len() >= MAX_CORRECTIONS)?;
    Some(since.saturating_add(wait).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object_id::tests::id;

    fn timestamp(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn fight(interference: Interference, until: i64) -> Result<(), Fight> {
        let until = timestamp(until);
        Err(Fight {
            interference,
            until,
        })
    }

    /// Applies a correction of one object if the limit allows it.
    fn correct(drift: &mut Drift, interference: Interference, now: Timestamp) -> Result<(), Fight> {
        let id = id("n");
        drift.allow_correction(&id, interference, now)?;
        drift.record_correction(&id, interference, now);
        Ok(())
    }

    #[test]
    fn the_sixth_correction_in_ten_minutes_waits_until_the_first_is_ten_minutes_old() {
        let edit = Interference::Edit;
        let mut drift = Drift::default();
        for second in [0, 10, 20, 30, 40] {
            assert_eq!(correct(&mut drift, edit, timestamp(second)), Ok(()));
        }
        assert_eq!(correct(&mut drift, edit, timestamp(50)), fight(edit, 600));
        assert_eq!(correct(&mut drift, edit, timestamp(599)), fight(edit, 600));
        assert_eq!(correct(&mut drift, edit, timestamp(600)), Ok(()));
        assert_eq!(correct(&mut drift, edit, timestamp(601)), fight(edit, 610));
        drift.forget(&id("n"));
        assert_eq!(correct(&mut drift, edit, timestamp(602)), Ok(()));
    }

    /// Fault: the clock is 40 days ahead during five corrections, and is corrected afterwards.
    #[test]
    fn corrections_at_a_time_in_the_future_do_not_count() {
        for interference in [Interference::Edit, Interference::Deletion] {
            let mut drift = Drift::default();
            for second in 0..5 {
                let now = timestamp(40 * 86_400 + second);
                assert_eq!(correct(&mut drift, interference, now), Ok(()));
            }
            assert_eq!(correct(&mut drift, interference, timestamp(50)), Ok(()));
        }
    }

    /// Attack: an author makes Kubernetes delete a Secret immediately after each creation, so that the controller
    /// writes indefinitely.
    #[test]
    fn after_five_deletions_a_secret_is_recreated_once_a_minute() {
        let deletion = Interference::Deletion;
        let mut drift = Drift::default();
        for second in [0, 1, 2, 3, 4] {
            assert_eq!(correct(&mut drift, deletion, timestamp(second)), Ok(()));
        }
        for minute in 1..30 {
            let (just_before, due) = (minute * 60 + 3, minute * 60 + 4);
            assert_eq!(
                correct(&mut drift, deletion, timestamp(just_before)),
                fight(deletion, due)
            );
            assert_eq!(correct(&mut drift, deletion, timestamp(due)), Ok(()));
        }
        assert_eq!(
            correct(&mut drift, Interference::Edit, timestamp(1)),
            Ok(()),
            "edits are counted separately"
        );
    }
}
