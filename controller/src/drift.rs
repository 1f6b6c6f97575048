//! Edits of others on our Secrets: how often they may be put right.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::decide::Refusal;
use crate::store::ObjectId;

/// On a SealedSecret; the value `false` leaves edits of its Secret as they are.
pub const ANNOTATION: &str = "sealedsecrets.bitnami.com/correct-drift";

/// Do the annotations of an object ask for it?
pub fn opts_out(annotations: Option<&BTreeMap<String, String>>) -> bool {
    let value = annotations.and_then(|annotations| annotations.get(ANNOTATION));
    value.is_some_and(|value| value == "false")
}

/// So many corrections within [`WINDOW`] are a fight with another controller, which nobody wins.
const CORRECTIONS: usize = 5;
const WINDOW: SignedDuration = SignedDuration::from_mins(10);

/// What was put right lately.
#[derive(Debug, Default)]
pub struct Drift {
    corrections: BTreeMap<ObjectId, VecDeque<Timestamp>>,
}

/// A correction has to wait.
#[derive(Debug, PartialEq)]
pub struct Fight {
    /// Until when.
    pub until: Timestamp,
}

impl From<&Fight> for Refusal {
    fn from(_: &Fight) -> Self {
        Self::DriftFight {
            corrections: CORRECTIONS,
            minutes: WINDOW.as_mins(),
        }
    }
}

impl Drift {
    /// Takes note of a correction that is about to be made.
    ///
    /// # Errors
    ///
    /// [`Fight`] if there were too many lately; then it is not to be made.
    pub fn correct(&mut self, id: &ObjectId, now: Timestamp) -> Result<(), Fight> {
        let made = self.corrections.entry(id.clone()).or_default();
        made.retain(|at| now.duration_since(*at) < WINDOW);
        match made.front() {
            Some(first) if made.len() >= CORRECTIONS => Err(Fight {
                until: first.saturating_add(WINDOW).unwrap_or(Timestamp::MAX),
            }),
            _ => {
                made.push_back(now);
                Ok(())
            }
        }
    }

    /// Forgets an object that is gone.
    pub fn forget(&mut self, id: &ObjectId) {
        self.corrections.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::id;

    #[test]
    fn the_sixth_correction_in_ten_minutes_waits_until_the_first_is_ten_minutes_old() {
        let id = id("n");
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut drift = Drift::default();
        for second in [0, 10, 20, 30, 40] {
            assert_eq!(drift.correct(&id, at(second)), Ok(()));
        }
        let fight = Err(Fight { until: at(600) });
        assert_eq!(drift.correct(&id, at(50)), fight);
        assert_eq!(drift.correct(&id, at(599)), fight);
        assert_eq!(drift.correct(&id, at(600)), Ok(()));
        assert_eq!(drift.correct(&id, at(601)), Err(Fight { until: at(610) }));
        drift.forget(&id);
        assert_eq!(drift.correct(&id, at(602)), Ok(()));
    }
}
