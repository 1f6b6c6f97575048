//! What the status of a SealedSecret says about its newest generation.

use serde_json::Value as Json;

/// What the controller has done with the newest generation of a SealedSecret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Newest {
    /// The generation was unsealed and its version recorded, or the controller records no versions.
    Recorded,
    /// No controller has reported on this generation or an earlier one: the object is new, no controller is running, or
    /// the controller writes no status.
    NotReported,
    /// The controller has not observed the generation yet.
    NotRecorded,
    /// The generation could not be unsealed.
    Failed,
}

impl Newest {
    /// Returns the outcome for an object as the API server returns it.
    ///
    /// Other controllers and earlier releases write no `lastUnsealedGeneration`, so the condition `Synced` counts too.
    pub fn of(object: &Json) -> Self {
        let (newest, status) = (&object["metadata"]["generation"], &object["status"]);
        let observed = &status["observedGeneration"];
        if observed.is_null() {
            return Self::NotReported;
        }
        if newest.is_null() {
            return Self::Recorded;
        }
        if newest != observed {
            return Self::NotRecorded;
        }
        if *newest == status["lastUnsealedGeneration"] || is_synced(status) {
            return Self::Recorded;
        }
        Self::Failed
    }
}

fn is_synced(status: &Json) -> bool {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Synced" && condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_version_is_recorded_once_the_controller_has_observed_the_generation() {
        for (newest, observed, want) in [
            (json!(2), json!(2), Newest::Recorded),
            (json!(2), json!(1), Newest::NotRecorded),
            (json!(2), json!(-1), Newest::NotRecorded),
            (json!(2), json!(null), Newest::NotReported),
            (json!(null), json!(null), Newest::NotReported),
            (json!(null), json!(2), Newest::Recorded),
        ] {
            let status = json!({ "observedGeneration": observed, "lastUnsealedGeneration": 2 });
            let object = json!({ "metadata": { "generation": newest }, "status": status });
            assert_eq!(Newest::of(&object), want, "{object}");
        }
        let object = json!({ "metadata": { "generation": 1 } });
        assert_eq!(Newest::of(&object), Newest::NotReported);
    }

    /// Attack: a SealedSecret gets a value that no key unseals, so that a pipeline revokes the former password although
    /// Pods still use it.
    #[test]
    fn a_newest_version_that_failed_is_not_recorded() {
        for (unsealed, synced, want) in [
            (json!(2), json!("True"), Newest::Recorded),
            (json!(2), json!("False"), Newest::Recorded),
            (json!(null), json!("True"), Newest::Recorded),
            (json!(1), json!("False"), Newest::Failed),
            (json!(null), json!("False"), Newest::Failed),
            (json!(1), json!("Unknown"), Newest::Failed),
        ] {
            let conditions = json!([
                { "type": "Ready", "status": "True" },
                { "type": "Synced", "status": synced },
            ]);
            let object = json!({ "metadata": { "generation": 2 }, "status": {
                "observedGeneration": 2, "lastUnsealedGeneration": unsealed, "conditions": conditions,
            } });
            assert_eq!(Newest::of(&object), want, "{object}");
        }
    }
}
