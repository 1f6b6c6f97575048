//! Finds which Pod has which version of a Secret.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::consumption::{Delivery, Source};
use crate::decide;
use crate::history::State;
use crate::pod::Pod;
use crate::sealed::Sealed;
use crate::state::SecretId;
use crate::workload::{Id, Workload};

/// A use of one source by one container of one Pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// The namespace.
    pub namespace: String,
    /// The Secret or SecretProviderClass.
    pub source: Source,
    /// The workload of the Pod, if known.
    pub workload: Option<Id>,
    /// The Pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// How the container consumes the source.
    pub delivery: Delivery,
    /// The generation of the SealedSecret whose content the container has, if known.
    pub generation: Option<i64>,
    /// Whether the container has the newest content.
    pub verdict: Verdict,
    /// How the container gets the newest content, if it does not have it.
    pub remedy: Option<Remedy>,
}

/// Whether a container has the newest content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The newest content.
    Current,
    /// Earlier content, which was replaced at this time.
    Stale(Timestamp),
    /// Unknown, since the versions are unknown.
    Unknown,
    /// The container does not run, and reads the newest content when it starts.
    NotStarted,
}

impl Verdict {
    /// Returns the name that tables and reports show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Stale(_) => "stale",
            Self::Unknown => "unknown",
            Self::NotStarted => "not started",
        }
    }
}

/// How a container gets the newest content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// By `seal restart`, if it runs: the workload opts in.
    AutomaticRestart,
    /// By a restart that a user triggers.
    Restart,
    /// By kubelet's next update of the volume.
    Kubelet,
    /// By the rotation of the CSI driver.
    Driver,
}

impl Remedy {
    /// Returns the text that tables and reports show.
    pub fn text(self) -> &'static str {
        match self {
            Self::AutomaticRestart => "seal restart",
            Self::Restart => "restart",
            Self::Kubelet => "kubelet, within 2m",
            Self::Driver => "CSI driver",
        }
    }
}

/// The input of a survey.
#[derive(Debug, Default)]
pub struct Objects {
    /// The SealedSecrets.
    pub secrets: BTreeMap<SecretId, Sealed>,
    /// The workloads.
    pub workloads: Vec<(Id, Workload)>,
    /// The Pods.
    pub pods: Vec<Pod>,
}

/// Returns how the Pods consume the SealedSecrets, ordered. With `is_all`, also returns uses of a
/// `SecretProviderClass`, whose versions are unknown.
pub fn rows(objects: &Objects, is_all: bool, now: Timestamp) -> BTreeSet<Row> {
    let rows = objects.pods.iter().flat_map(|pod| {
        let workload = workload_of(pod, &objects.workloads);
        pod.uses.uses().filter_map(move |usage| {
            let sealed = match usage.source {
                Source::Secret(name) => Some(
                    objects
                        .secrets
                        .get(&(pod.namespace.clone(), name.clone()))?,
                ),
                Source::Class(_) => is_all.then_some(None)?,
            };
            let observed = sealed.map(|sealed| pod.observe(usage, &sealed.history, now));
            let (verdict, generation) = match observed {
                Some(Some((State::Current, generation))) => (Verdict::Current, generation),
                Some(Some((State::Stale(time), generation))) => (Verdict::Stale(time), generation),
                Some(Some((State::Unknown, _))) | None => (Verdict::Unknown, None),
                Some(None) => (Verdict::NotStarted, None),
            };
            let is_automatic = || {
                let tags = sealed.map(|sealed| sealed.tags).unwrap_or_default();
                let (Source::Secret(name) | Source::Class(name)) = usage.source;
                workload.is_some_and(|(_, workload)| {
                    let is_matched = || decide::is_matched(workload, name);
                    decide::relevance(workload, name, tags, is_matched).is_some()
                })
            };
            Some(Row {
                namespace: pod.namespace.clone(),
                source: usage.source.clone(),
                workload: workload.map(|(id, _)| id.clone()),
                pod: pod.name.clone(),
                container: usage.container.to_owned(),
                delivery: usage.delivery,
                generation,
                verdict,
                remedy: remedy(verdict, usage.delivery, is_automatic),
            })
        })
    });
    rows.collect()
}

fn workload_of<'a>(pod: &Pod, workloads: &'a [(Id, Workload)]) -> Option<&'a (Id, Workload)> {
    workloads.iter().find(|(id, workload)| {
        id.namespace == pod.namespace && workload.selector.selects(&pod.labels)
    })
}

fn remedy(verdict: Verdict, delivery: Delivery, is_automatic: impl Fn() -> bool) -> Option<Remedy> {
    if matches!(verdict, Verdict::Current | Verdict::NotStarted) {
        return None;
    }
    Some(match delivery {
        Delivery::Env | Delivery::SubPath if is_automatic() => Remedy::AutomaticRestart,
        Delivery::Env | Delivery::SubPath => Remedy::Restart,
        Delivery::Volume => Remedy::Kubelet,
        Delivery::Csi => Remedy::Driver,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::history::tests::{history, second};
    use crate::pod::tests::pod;
    use crate::workload::Kind;

    fn deployment(annotations: &Json) -> (Id, Workload) {
        let id = Id {
            namespace: "ns".into(),
            kind: Kind::Deployment,
            name: "web".into(),
        };
        let object = json!({
            "metadata": { "annotations": annotations },
            "spec": { "selector": { "matchLabels": { "app": "web" } }, "template": { "spec": { "containers": [
                { "name": "app", "envFrom": [{ "secretRef": { "name": "db" } }] },
            ] } } },
        });
        (id, Workload::read(Kind::Deployment, &object))
    }

    fn survey(
        pod: &Json,
        annotations: &Json,
        entries: &[(&str, &str, i64, i64)],
        now: i64,
    ) -> Vec<Row> {
        let sealed = Sealed {
            history: history(entries),
            ..Sealed::default()
        };
        let objects = Objects {
            secrets: BTreeMap::from([(("ns".into(), "db".into()), sealed)]),
            workloads: vec![deployment(annotations)],
            pods: vec![Pod::read(pod).unwrap()],
        };
        rows(&objects, true, second(now)).into_iter().collect()
    }

    const CHANGED: [(&str, &str, i64, i64); 2] = [("b", "1", 2, 20), ("a", "1", 1, 10)];

    #[test]
    fn reports_version_verdict_and_remedy() {
        let auto = json!({ "reloader.stakater.com/auto": "true" });
        let stale = Verdict::Stale(second(20));
        for (delivery, start, annotations, now, generation, verdict, remedy) in [
            (
                Delivery::Env,
                15,
                json!({}),
                30,
                Some(1),
                stale,
                Some(Remedy::Restart),
            ),
            (
                Delivery::Env,
                15,
                auto.clone(),
                30,
                Some(1),
                stale,
                Some(Remedy::AutomaticRestart),
            ),
            (
                Delivery::SubPath,
                15,
                json!({}),
                30,
                Some(1),
                stale,
                Some(Remedy::Restart),
            ),
            (
                Delivery::Env,
                20,
                json!({}),
                30,
                Some(2),
                Verdict::Current,
                None,
            ),
            (
                Delivery::Env,
                5,
                json!({}),
                30,
                None,
                stale,
                Some(Remedy::Restart),
            ),
            (
                Delivery::Volume,
                15,
                json!({}),
                30,
                Some(1),
                stale,
                Some(Remedy::Kubelet),
            ),
            (
                Delivery::Volume,
                15,
                json!({}),
                150,
                Some(2),
                Verdict::Current,
                None,
            ),
            (
                Delivery::Csi,
                15,
                auto,
                30,
                None,
                Verdict::Unknown,
                Some(Remedy::Driver),
            ),
        ] {
            let rows = survey(&pod("p", delivery, start), &annotations, &CHANGED, now);
            let matching_rows: Vec<_> = rows
                .iter()
                .map(|row| (row.generation, row.verdict, row.remedy))
                .collect();
            assert_eq!(
                matching_rows,
                [(generation, verdict, remedy)],
                "{delivery:?} {start} {now}"
            );
            assert_eq!(
                rows[0].workload.as_ref().map(|id| id.name.as_str()),
                Some("web")
            );
        }
    }

    #[test]
    fn without_recorded_versions_the_verdict_is_unknown() {
        let rows = survey(&pod("p", Delivery::Env, 15), &json!({}), &[], 30);
        assert_eq!(rows[0].verdict, Verdict::Unknown);
        let rows = survey(&pod("p", Delivery::Env, 5), &json!({}), &CHANGED[1..], 30);
        assert_eq!(rows[0].verdict, Verdict::Unknown);
    }

    #[test]
    fn a_waiting_container_is_not_stale() {
        let mut waiting = pod("p", Delivery::Env, 15);
        waiting["status"]["containerStatuses"] = json!([]);
        let rows = survey(&waiting, &json!({}), &CHANGED, 30);
        assert_eq!(
            (rows[0].verdict, rows[0].remedy),
            (Verdict::NotStarted, None)
        );
    }

    #[test]
    fn lists_pods_without_a_workload() {
        let mut bare = pod("p", Delivery::Env, 15);
        bare["metadata"]["labels"] = json!({});
        let rows = survey(&bare, &json!({}), &CHANGED, 30);
        assert_eq!((rows.len(), &rows[0].workload), (1, &None));
    }
}
