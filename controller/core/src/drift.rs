//! What other clients do to our Secrets, by an edit or by deleting them: how often it may be put right.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use crate::decide::{Plan, Refusal};
use crate::object_id::ObjectId;

/// On a SealedSecret; the value `false` leaves edits of its Secret as they are.
pub const ANNOTATION: &str = "sealedsecrets.bitnami.com/correct-drift";

/// Do the annotations of an object ask for it?
pub fn opts_out(annotations: Option<&BTreeMap<String, String>>) -> bool {
    let value = annotations.and_then(|annotations| annotations.get(ANNOTATION));
    value.is_some_and(|value| value == "false")
}

/// So many corrections within [`WINDOW`] are a fight with another client, which nobody wins.
const CORRECTIONS: usize = 5;
const WINDOW: SignedDuration = SignedDuration::from_mins(10);
/// After so many, a Secret that is deleted again is made this long after the last time. It is not left
/// missing for the whole window, since Pods wait for it.
const PAUSE: SignedDuration = SignedDuration::from_mins(1);

/// What another client did to the Secret of a SealedSecret that had been unsealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interference {
    /// It changed the Secret.
    Edit,
    /// It deleted the Secret.
    Deletion,
}

impl Interference {
    /// Does the plan undo one? Only if the SealedSecret was `settled`; otherwise the plan follows it.
    pub fn undone_by(plan: &Plan, settled: bool) -> Option<Self> {
        match plan {
            Plan::Replace(_) if settled => Some(Self::Edit),
            Plan::Create(_) if settled => Some(Self::Deletion),
            _ => None,
        }
    }
}

/// What was put right lately.
#[derive(Debug, Default)]
pub struct Drift {
    corrections: BTreeMap<(ObjectId, Interference), VecDeque<Timestamp>>,
}

/// A correction has to wait.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fight {
    /// What is not put right before that.
    pub what: Interference,
    /// Until when.
    pub until: Timestamp,
}

impl fmt::Display for Fight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = WINDOW.as_mins();
        match self.what {
            Interference::Edit => write!(
                f,
                "another client keeps changing the Secret: it was put right {CORRECTIONS} times in {minutes} minutes; \
                 find out which client writes it, or annotate the SealedSecret with {ANNOTATION}=false"
            ),
            Interference::Deletion => write!(
                f,
                "another client keeps deleting the Secret: it was recreated {CORRECTIONS} times in {minutes} minutes, \
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
    /// Takes note of a correction that is about to be made.
    ///
    /// # Errors
    ///
    /// [`Fight`] if there were too many lately; then it is not to be made.
    pub fn correct(
        &mut self,
        id: &ObjectId,
        what: Interference,
        now: Timestamp,
    ) -> Result<(), Fight> {
        let made = self.corrections.entry((id.clone(), what)).or_default();
        made.retain(|at| now.duration_since(*at) < WINDOW);
        match next(what, made) {
            Some(until) if now < until => Err(Fight { what, until }),
            _ => {
                made.push_back(now);
                Ok(())
            }
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&mut self, id: &ObjectId) {
        self.corrections.retain(|(known, _), _| known != id);
    }
}

/// When the next correction may be made, if it has to wait at all.
fn next(what: Interference, made: &VecDeque<Timestamp>) -> Option<Timestamp> {
    let (since, wait) = match what {
        Interference::Edit => (made.front(), WINDOW),
        Interference::Deletion => (made.back(), PAUSE),
    };
    let since = since.filter(|_| made.len() >= CORRECTIONS)?;
    Some(since.saturating_add(wait).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object_id::tests::id;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn fight(what: Interference, until: i64) -> Result<(), Fight> {
        let until = at(until);
        Err(Fight { what, until })
    }

    #[test]
    fn the_sixth_correction_in_ten_minutes_waits_until_the_first_is_ten_minutes_old() {
        let (id, edit) = (id("n"), Interference::Edit);
        let mut drift = Drift::default();
        for second in [0, 10, 20, 30, 40] {
            assert_eq!(drift.correct(&id, edit, at(second)), Ok(()));
        }
        assert_eq!(drift.correct(&id, edit, at(50)), fight(edit, 600));
        assert_eq!(drift.correct(&id, edit, at(599)), fight(edit, 600));
        assert_eq!(drift.correct(&id, edit, at(600)), Ok(()));
        assert_eq!(drift.correct(&id, edit, at(601)), fight(edit, 610));
        drift.forget(&id);
        assert_eq!(drift.correct(&id, edit, at(602)), Ok(()));
    }

    /// Attack: has Kubernetes delete a Secret as soon as it is made.
    #[test]
    fn a_secret_that_is_deleted_for_the_sixth_time_is_made_once_a_minute() {
        let (id, deletion) = (id("n"), Interference::Deletion);
        let mut drift = Drift::default();
        for second in [0, 1, 2, 3, 4] {
            assert_eq!(drift.correct(&id, deletion, at(second)), Ok(()));
        }
        for minute in 1..30 {
            let (just_before, due) = (minute * 60 + 3, minute * 60 + 4);
            assert_eq!(
                drift.correct(&id, deletion, at(just_before)),
                fight(deletion, due)
            );
            assert_eq!(drift.correct(&id, deletion, at(due)), Ok(()));
        }
        assert_eq!(
            drift.correct(&id, Interference::Edit, at(1)),
            Ok(()),
            "edits are counted apart"
        );
    }
}
