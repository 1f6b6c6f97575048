//! Compact forms of workloads: the fields that decide whether and when to restart them.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde_json::Value as Json;
use shared::resource::RESTARTED_FOR_ANNOTATION;

use crate::annotations::OptIn;
use crate::consumption::Consumption;
use crate::selector::Selector;

/// The kind of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `apps/v1`.
    Deployment,
    /// `apps/v1`.
    StatefulSet,
    /// `apps/v1`.
    DaemonSet,
    /// `argoproj.io/v1alpha1`.
    Rollout,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Rollout,
    ];

    /// Returns the kind as in `kind` of an object.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Rollout => "Rollout",
        }
    }

    /// Returns the API group and version.
    pub fn group_version(self) -> (&'static str, &'static str) {
        match self {
            Self::Deployment | Self::StatefulSet | Self::DaemonSet => ("apps", "v1"),
            Self::Rollout => ("argoproj.io", "v1alpha1"),
        }
    }

    /// Returns the plural name of the resource, as in API paths.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
            Self::Rollout => "rollouts",
        }
    }
}

/// Identifies a workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// `metadata.namespace` of the workload.
    pub namespace: String,
    /// The kind, which determines the API group and the resource.
    pub kind: Kind,
    /// `metadata.name` of the workload.
    pub name: String,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.name(), self.namespace, self.name)
    }
}

/// The progress of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// No Pod of an earlier template is left to replace, but not all Pods are available.
    Unavailable,
    /// Pods of an earlier template are being replaced, the newest spec has not been observed yet, or a Rollout has not
    /// completed the restart of `spec.restartAt`.
    InProgress,
    /// No Pod of an earlier template is left to replace, and all Pods are available; or a Deployment's rollout exceeded
    /// its progress deadline.
    Done,
    /// The workload is paused, so a change to its template has no effect until it is resumed.
    Paused,
    /// A change to the template replaces no Pod: the update strategy is `OnDelete`.
    Manual,
}

/// How a restart of the workload is triggered, and the current value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// By the annotation of the Pod template, which has this value.
    Annotation(Option<String>),
    /// By the field `spec.restartAt`, which has this value.
    RestartAt(Option<Timestamp>),
}

/// The fields of a workload that decisions depend on.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The `uid` of the object.
    pub uid: String,
    /// The `resourceVersion` of the object.
    pub version: String,
    /// The Secrets and classes whose changes restart the workload.
    pub opt_in: OptIn,
    /// How its containers consume Secrets; empty unless an annotation opts in.
    pub uses: Consumption,
    /// The selector of its Pods.
    pub selector: Selector,
    /// The progress of its rollout.
    pub progress: Progress,
    /// How a restart is triggered.
    pub trigger: Trigger,
}

impl Workload {
    /// Reads a workload as the API server returns it. Malformed fields count as missing.
    pub fn read(kind: Kind, object: &Json) -> Self {
        let template = &object["spec"]["template"];
        let own = &object["metadata"]["annotations"];
        let opt_in = OptIn::read(own, &template["metadata"]["annotations"]);
        // Nothing restarts a workload that does not opt in, so the Secrets that it consumes do not matter.
        let is_enabled = opt_in.is_enabled();
        let uses = is_enabled.then(|| Consumption::read(&template["spec"]));
        Self {
            uid: text(&object["metadata"]["uid"]),
            version: text(&object["metadata"]["resourceVersion"]),
            opt_in,
            uses: uses.unwrap_or_default(),
            selector: Selector::read(&object["spec"]["selector"]),
            progress: progress(kind, object),
            trigger: trigger(kind, object),
        }
    }

    /// Returns whether decisions about this version of the workload and about `other` are always the same.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        let Self {
            uid,
            version: _,
            opt_in,
            uses,
            selector,
            progress,
            trigger,
        } = self;
        *uid == other.uid
            && *opt_in == other.opt_in
            && *uses == other.uses
            && *selector == other.selector
            && *progress == other.progress
            && *trigger == other.trigger
    }
}

fn text(value: &Json) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn trigger(kind: Kind, object: &Json) -> Trigger {
    match kind {
        Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet => {
            let annotations = &object["spec"]["template"]["metadata"]["annotations"];
            let value = annotations[RESTARTED_FOR_ANNOTATION].as_str();
            Trigger::Annotation(value.map(str::to_owned))
        }
        Kind::Rollout => {
            let time = object["spec"]["restartAt"].as_str();
            Trigger::RestartAt(time.and_then(|time| time.parse().ok()))
        }
    }
}

/// Reads counts and generations of a workload.
struct Status<'a>(&'a Json);

impl Status<'_> {
    fn count(&self, name: &str) -> i64 {
        self.0["status"][name].as_i64().unwrap_or(0)
    }

    fn has_observed_the_spec(&self) -> bool {
        let generation = self.0["metadata"]["generation"].as_i64().unwrap_or(0);
        // Argo writes the generation as a string.
        let observed = match &self.0["status"]["observedGeneration"] {
            Json::String(text) => text.parse().unwrap_or(0),
            value => value.as_i64().unwrap_or(0),
        };
        observed >= generation
    }

    fn desired_replicas(&self) -> i64 {
        self.0["spec"]["replicas"].as_i64().unwrap_or(1)
    }
}

/// Returns the progress of the rollout. An unavailable Pod does not count as a rollout in progress, since an old value
/// may be the reason why it is unavailable.
fn progress(kind: Kind, object: &Json) -> Progress {
    let spec = &object["spec"];
    let strategy = spec["updateStrategy"]["type"].as_str();
    if spec["paused"] == true {
        return Progress::Paused;
    }
    if matches!(kind, Kind::StatefulSet | Kind::DaemonSet) && strategy == Some("OnDelete") {
        return Progress::Manual;
    }
    let status = Status(object);
    if !status.has_observed_the_spec() {
        return Progress::InProgress;
    }
    let desired = status.desired_replicas();
    let (is_updated, is_available) = match kind {
        Kind::Deployment if has_given_up(object) => return Progress::Done,
        Kind::Deployment => {
            let updated = status.count("updatedReplicas");
            let is_updated = updated >= desired && status.count("replicas") <= updated;
            (is_updated, status.count("availableReplicas") >= desired)
        }
        Kind::StatefulSet => {
            let partition = spec["updateStrategy"]["rollingUpdate"]["partition"].as_i64();
            let updated = desired - partition.unwrap_or(0);
            let is_updated = is_equal(object, "currentRevision", "updateRevision")
                || status.count("updatedReplicas") >= updated;
            (is_updated, status.count("availableReplicas") >= desired)
        }
        Kind::DaemonSet => {
            let desired = status.count("desiredNumberScheduled");
            let is_updated = status.count("updatedNumberScheduled") >= desired;
            (is_updated, status.count("numberAvailable") >= desired)
        }
        Kind::Rollout => {
            let is_restarted =
                spec["restartAt"].is_null() || spec["restartAt"] == object["status"]["restartedAt"];
            let updated = status.count("updatedReplicas");
            (
                is_restarted && updated >= desired,
                status.count("availableReplicas") >= desired,
            )
        }
    };
    match (is_updated, is_available) {
        (false, _) => Progress::InProgress,
        (true, false) => Progress::Unavailable,
        (true, true) => Progress::Done,
    }
}

fn is_equal(object: &Json, one: &str, other: &str) -> bool {
    let status = &object["status"];
    !status[one].is_null() && status[one] == status[other]
}

fn has_given_up(object: &Json) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| {
        condition["type"] == "Progressing" && condition["reason"] == "ProgressDeadlineExceeded"
    })
}

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn progress_of(kind: Kind, spec: &Json, status: &Json) -> Progress {
        let mut object = json!({ "metadata": { "generation": 2 }, "spec": spec, "status": status });
        let status = object["status"].as_object_mut().unwrap();
        status.entry("observedGeneration").or_insert(json!(2));
        progress(kind, &object)
    }

    #[test]
    fn follows_the_rollout_of_a_deployment() {
        let spec = json!({ "replicas": 3 });
        for (status, want) in [
            (
                json!({ "observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3 }),
                Progress::InProgress,
            ),
            (
                json!({ "replicas": 3, "updatedReplicas": 1, "availableReplicas": 3 }),
                Progress::InProgress,
            ),
            (
                json!({ "replicas": 4, "updatedReplicas": 3, "availableReplicas": 3 }),
                Progress::InProgress,
            ),
            (
                json!({ "replicas": 3, "updatedReplicas": 3, "availableReplicas": 2 }),
                Progress::Unavailable,
            ),
            (
                json!({ "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3 }),
                Progress::Done,
            ),
            (
                json!({ "replicas": 4, "updatedReplicas": 1, "conditions": [
                    { "type": "Progressing", "reason": "ProgressDeadlineExceeded" },
                ] }),
                Progress::Done,
            ),
        ] {
            assert_eq!(
                progress_of(Kind::Deployment, &spec, &status),
                want,
                "{status}"
            );
        }
        let paused = json!({ "replicas": 3, "paused": true });
        assert_eq!(
            progress_of(Kind::Deployment, &paused, &json!({})),
            Progress::Paused
        );
    }

    #[test]
    fn follows_the_rollout_of_other_kinds() {
        let on_delete = json!({ "replicas": 1, "updateStrategy": { "type": "OnDelete" } });
        let partition =
            json!({ "replicas": 3, "updateStrategy": { "rollingUpdate": { "partition": 2 } } });
        for (kind, spec, status, want) in [
            (
                Kind::StatefulSet,
                on_delete.clone(),
                json!({}),
                Progress::Manual,
            ),
            (Kind::DaemonSet, on_delete, json!({}), Progress::Manual),
            (
                Kind::StatefulSet,
                json!({ "replicas": 2 }),
                json!({ "updatedReplicas": 1, "availableReplicas": 2 }),
                Progress::InProgress,
            ),
            (
                Kind::StatefulSet,
                json!({ "replicas": 2 }),
                json!({ "currentRevision": "a", "updateRevision": "a", "availableReplicas": 2 }),
                Progress::Done,
            ),
            (
                Kind::StatefulSet,
                partition,
                json!({ "updatedReplicas": 1, "availableReplicas": 3 }),
                Progress::Done,
            ),
            (
                Kind::DaemonSet,
                json!({}),
                json!({ "desiredNumberScheduled": 2, "updatedNumberScheduled": 1, "numberAvailable": 2 }),
                Progress::InProgress,
            ),
            (
                Kind::DaemonSet,
                json!({}),
                json!({ "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2 }),
                Progress::Done,
            ),
            (
                Kind::Rollout,
                json!({ "replicas": 1, "restartAt": "2026-01-01T00:00:00Z" }),
                json!({ "observedGeneration": "2", "updatedReplicas": 1, "availableReplicas": 1 }),
                Progress::InProgress,
            ),
            (
                Kind::Rollout,
                json!({ "replicas": 1, "restartAt": "2026-01-01T00:00:00Z" }),
                json!({ "observedGeneration": "2", "restartedAt": "2026-01-01T00:00:00Z", "updatedReplicas": 1, "availableReplicas": 1 }),
                Progress::Done,
            ),
        ] {
            assert_eq!(
                progress_of(kind, &spec, &status),
                want,
                "{kind:?} {spec} {status}"
            );
        }
    }

    #[test]
    fn reads_the_trigger_of_the_last_restart() {
        let deployment = json!({ "spec": { "template": { "metadata": { "annotations": { RESTARTED_FOR_ANNOTATION: "abc" } } } } });
        let read = |kind, object: &Json| Workload::read(kind, object).trigger;
        assert_eq!(
            read(Kind::DaemonSet, &deployment),
            Trigger::Annotation(Some("abc".into()))
        );
        assert_eq!(read(Kind::DaemonSet, &json!({})), Trigger::Annotation(None));
        let rollout = json!({ "spec": { "restartAt": "1970-01-01T00:00:09Z" } });
        let time = Timestamp::from_second(9).unwrap();
        assert_eq!(
            read(Kind::Rollout, &rollout),
            Trigger::RestartAt(Some(time))
        );
        assert_eq!(
            read(Kind::Rollout, &json!({ "spec": { "restartAt": "x" } })),
            Trigger::RestartAt(None)
        );
    }
}
