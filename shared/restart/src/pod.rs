//! Compact forms of Pods: when their containers started, and which Secrets the containers consume.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;
use shared::resource::REFRESHED_FOR_ANNOTATION;

use crate::annotations;
use crate::consumption::{Consumption, Delivery, Source, Use};
use crate::history::{History, State};
use crate::workload::Labels;

/// The maximum time until the kubelet, with its default settings, updates a mounted Secret: a sync period of a minute,
/// plus a random part.
pub const KUBELET_SYNC: SignedDuration = SignedDuration::from_mins(2);

/// Maximum number of versions in the annotation that records a refresh. The policies in the chart admit as many.
pub const MAX_REFRESHED: usize = 16;
/// Maximum length of a version.
const MAX_VERSION_LENGTH: usize = 64;

/// A Pod that has not ended.
#[derive(Debug, Clone)]
pub struct Pod {
    /// `metadata.namespace`, where the Secrets of the Pod are too.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`, which distinguishes the Pod from later Pods of the same name.
    pub uid: String,
    /// When the Pod was created, before any of its volumes was mounted.
    pub created: Option<Timestamp>,
    /// The labels, by which workloads select the Pod.
    pub labels: Labels,
    /// How the containers consume Secrets.
    pub uses: Consumption,
    /// Whether the annotation enables the refresh, or disables it (`Some(false)`); `None` if it is not set.
    pub refresh: Option<bool>,
    /// Whether the Pod is being deleted. If its node responds, it ends at the latest after its grace period.
    pub is_terminating: bool,
    /// The content versions of the Secrets for which the Pod was last refreshed.
    refreshed_for: Vec<Box<str>>,
    /// The start time of each running container, and of each init container that has ended.
    starts: BTreeMap<String, Timestamp>,
}

impl Pod {
    /// Reads a Pod as the API server returns it. Returns `None` for a Pod that has ended, and for a Pod that is being
    /// deleted and has no running container. A running container may still use an earlier value.
    pub fn read(object: &Json) -> Option<Self> {
        let has_ended = is_deleted(object) && !has_running_container(&object["status"]);
        (!has_ended).then(|| Self::with_starts(object, starts(&object["status"])))?
    }

    /// Like [`Self::read`], but also returns `None` for a Pod that is being deleted, since it needs no new value, and
    /// for a Pod without a container in [`Self::start_of`]: such a Pod has no content of a Secret yet. There can be any
    /// number of such Pods, since a Pod without a node needs no resources, so nothing else of them is read.
    pub fn read_started(object: &Json) -> Option<Self> {
        let starts = starts(&object["status"]);
        let is_read = !starts.is_empty() && !is_deleted(object);
        is_read.then(|| Self::with_starts(object, starts))?
    }

    fn with_starts(object: &Json, starts: BTreeMap<String, Timestamp>) -> Option<Self> {
        let (metadata, status) = (&object["metadata"], &object["status"]);
        let has_ended = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
        if has_ended {
            return None;
        }
        let text = |value: &Json| value.as_str().map(str::to_owned);
        let all = annotations::from_object(object);
        Some(Self {
            namespace: text(&metadata["namespace"])?,
            name: text(&metadata["name"])?,
            uid: text(&metadata["uid"]).unwrap_or_default(),
            created: text(&metadata["creationTimestamp"]).and_then(|time| time.parse().ok()),
            labels: annotations::labels(object),
            uses: Consumption::read(&object["spec"]),
            refresh: annotations::refresh(all),
            is_terminating: is_deleted(object),
            refreshed_for: refreshed_for(&all[REFRESHED_FOR_ANNOTATION]),
            starts,
        })
    }

    /// Returns when the container with this name started, if it runs or is an init container that has ended.
    pub fn start_of(&self, container: &str) -> Option<Timestamp> {
        self.starts.get(container).copied()
    }

    /// Returns whether a container started when the Secret had earlier content than now. With `is_consumed`, only
    /// containers that consume the Secret count; otherwise, all containers of the Pod count.
    pub fn has_old_start(&self, secret: &str, history: &History, is_consumed: bool) -> bool {
        let is_old = |container: &str| {
            let start = self.start_of(container);
            start.is_some_and(|start| matches!(history.state_at(start), State::Stale(_)))
        };
        if is_consumed {
            let mut uses = self.uses.of_secret(secret);
            return uses.any(|usage| is_old(usage.container));
        }
        self.starts.keys().any(|container| is_old(container))
    }

    /// Returns whether the container of a use has the newest content, and the generation of its content, as far as
    /// known; `None` for a container without a start time ([`Self::start_of`]).
    pub fn observe(
        &self,
        usage: Use<'_>,
        history: &History,
        now: Timestamp,
    ) -> Option<(State, Option<i64>)> {
        let start = self.start_of(usage.container)?;
        let read_at = match (usage.source, usage.delivery) {
            (Source::Class(_), _) | (_, Delivery::Csi) => return Some((State::Unknown, None)),
            (_, Delivery::Env | Delivery::SubPath) => start,
            // The time of the version is rounded up, so it can be later than `now`.
            (_, Delivery::Volume) if self.is_refreshed(history) => {
                history.newest().map_or(now, |newest| newest.time.max(now))
            }
            // The kubelet has written the content that was current two minutes ago, or newer content. The extra second
            // allows for rounded times.
            (_, Delivery::Volume) => {
                let synced = now.checked_sub(KUBELET_SYNC + SignedDuration::from_secs(1));
                synced.map_or(start, |synced| start.max(synced))
            }
        };
        let state = history.state_at(read_at);
        let entry = match state {
            State::Current => history.newest(),
            State::Stale(_) | State::Unknown => history.entry_at(read_at),
        };
        Some((state, entry.map(|entry| entry.generation)))
    }

    /// Returns whether the Pod was refreshed for the newest content.
    pub fn is_refreshed(&self, history: &History) -> bool {
        let newest = history.newest();
        newest.is_some_and(|newest| self.refreshed_for.contains(&newest.version))
    }

    /// Returns whether a container mounts the Secret as a volume that the kubelet refreshes.
    pub fn mounts(&self, secret: &str) -> bool {
        let mut uses = self.uses.of_secret(secret);
        uses.any(|usage| usage.delivery == Delivery::Volume)
    }
}

/// Reads the versions of the annotation that records a refresh. Earlier releases wrote one version.
fn refreshed_for(annotation: &Json) -> Vec<Box<str>> {
    let versions = annotation.as_str().unwrap_or_default().split(',');
    let versions = versions.filter(|version| (1..=MAX_VERSION_LENGTH).contains(&version.len()));
    versions.take(MAX_REFRESHED).map(Box::from).collect()
}

/// Returns whether a Pod is being deleted. Its containers can run until its grace period ends.
fn is_deleted(object: &Json) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

fn has_running_container(status: &Json) -> bool {
    let fields = [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    let mut containers = fields
        .iter()
        .flat_map(|field| status[*field].as_array().into_iter().flatten());
    containers.any(|container| !container["state"]["running"].is_null())
}

/// Returns the start time of each running container, and of each init container that has ended: what an init container
/// wrote stays in the Pod, and may contain old values.
fn starts(status: &Json) -> BTreeMap<String, Timestamp> {
    let started = |field: &str, states: &[&str]| {
        let containers = status[field].as_array().into_iter().flatten();
        let starts = containers.filter_map(|container| {
            let name = container["name"].as_str()?.to_owned();
            let start = states
                .iter()
                .find_map(|state| container["state"][*state]["startedAt"].as_str());
            Some((name, start?.parse().ok()?))
        });
        starts.collect::<Vec<_>>()
    };
    let running = started("containerStatuses", &["running"]);
    let init = started("initContainerStatuses", &["running", "terminated"]);
    let ephemeral = started("ephemeralContainerStatuses", &["running"]);
    running.into_iter().chain(init).chain(ephemeral).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::history::tests::{history, second};

    /// Returns a Pod with one container that started at this second and consumes `db` in this way.
    pub(crate) fn pod(name: &str, delivery: Delivery, start: i64) -> Json {
        let mut container = json!({ "name": "app" });
        match delivery {
            Delivery::Env => container["envFrom"] = json!([{ "secretRef": { "name": "db" } }]),
            Delivery::Volume | Delivery::Csi => {
                container["volumeMounts"] = json!([{ "name": "v" }]);
            }
            Delivery::SubPath => {
                container["volumeMounts"] = json!([{ "name": "v", "subPath": "a" }]);
            }
        }
        let volume = if delivery == Delivery::Csi {
            json!({ "name": "v", "csi": {
                "driver": "secrets-store.csi.k8s.io", "volumeAttributes": { "secretProviderClass": "db" },
            } })
        } else {
            json!({ "name": "v", "secret": { "secretName": "db" } })
        };
        json!({
            "metadata": { "name": name, "namespace": "ns", "uid": name, "labels": { "app": "web" } },
            "spec": { "containers": [container], "volumes": [volume] },
            "status": { "phase": "Running", "containerStatuses": [
                { "name": "app", "state": { "running": { "startedAt": second(start).to_string() } } },
            ] },
        })
    }

    fn state(pod: &Json, now: i64) -> Option<State> {
        let pod = Pod::read(pod).unwrap();
        let usage = pod.uses.uses().next().unwrap();
        let history = history(&[("b", "1", 2, 20), ("a", "1", 1, 10)]);
        pod.observe(usage, &history, second(now))
            .map(|(state, _)| state)
    }

    #[test]
    fn the_state_depends_on_how_the_pod_consumes_the_secret() {
        let stale = State::Stale(second(20));
        for (delivery, start, now, want) in [
            (Delivery::Env, 15, 1000, stale),
            (Delivery::Env, 20, 1000, State::Current),
            (Delivery::SubPath, 15, 1000, stale),
            (Delivery::SubPath, 20, 21, State::Current),
            (Delivery::Volume, 15, 30, stale),
            (Delivery::Volume, 15, 140, stale),
            (Delivery::Volume, 15, 141, State::Current),
            (Delivery::Volume, 20, 21, State::Current),
            (Delivery::Csi, 15, 1000, State::Unknown),
        ] {
            assert_eq!(
                state(&pod("p", delivery, start), now),
                Some(want),
                "{delivery:?} {start} {now}"
            );
        }
    }

    #[test]
    fn a_refreshed_volume_is_current_and_a_variable_is_not() {
        for (delivery, version, want) in [
            (Delivery::Volume, "b", State::Current),
            (Delivery::Volume, "x,b", State::Current),
            (Delivery::Volume, "b,x", State::Current),
            (Delivery::Volume, "a", State::Stale(second(20))),
            (Delivery::Volume, "", State::Stale(second(20))),
            (Delivery::Env, "b", State::Stale(second(20))),
        ] {
            let mut pod = pod("p", delivery, 15);
            pod["metadata"]["annotations"] = json!({ REFRESHED_FOR_ANNOTATION: version });
            for now in [19, 30] {
                assert_eq!(state(&pod, now), Some(want), "{delivery:?} {version} {now}");
            }
        }
    }

    #[test]
    fn a_container_that_has_not_started_has_no_state() {
        for status in [
            json!({ "waiting": {} }),
            json!({ "terminated": { "startedAt": "1970-01-01T00:00:09Z" } }),
        ] {
            let mut pod = pod("p", Delivery::Env, 15);
            pod["status"]["containerStatuses"][0]["state"] = status.clone();
            assert_eq!(state(&pod, 30), None, "{status}");
        }
    }

    #[test]
    fn an_init_container_that_ended_keeps_its_values() {
        let mut pod = pod("p", Delivery::Env, 15);
        let container = pod["spec"]["containers"][0].take();
        pod["spec"] = json!({ "initContainers": [container] });
        pod["status"] = json!({ "initContainerStatuses": [
            { "name": "app", "state": { "terminated": { "startedAt": "1970-01-01T00:00:15Z" } } },
        ] });
        assert_eq!(state(&pod, 30), Some(State::Stale(second(20))));
    }

    /// Attack: a tenant writes a long annotation into many Pods, to exhaust the memory of `seal restart`.
    #[test]
    fn the_number_of_recorded_refreshes_is_limited() {
        let many = "v,".repeat(100_000);
        assert_eq!(refreshed_for(&json!(many)).len(), MAX_REFRESHED);
        assert_eq!(refreshed_for(&json!("v".repeat(100_000))).len(), 0);
        assert_eq!(refreshed_for(&json!(["v"])).len(), 0);
    }

    /// Attack: a tenant creates many large Pods that no node runs, to exhaust the memory of `seal restart`.
    #[test]
    fn a_pod_that_has_not_started_is_read_only_for_reports() {
        let mut pending = pod("p", Delivery::Env, 15);
        assert!(Pod::read_started(&pending).is_some());
        pending["status"]["containerStatuses"][0]["state"] = json!({ "waiting": {} });
        assert!(Pod::read_started(&pending).is_none());
        assert!(Pod::read(&pending).is_some());
    }

    #[test]
    fn pods_that_ended_do_not_count() {
        for (pointer, value) in [
            ("/status/phase", json!("Succeeded")),
            ("/status/phase", json!("Failed")),
            ("/metadata/labels", json!(null)),
        ] {
            let mut pod = pod("p", Delivery::Env, 15);
            *pod.pointer_mut(pointer).unwrap() = value.clone();
            assert_eq!(
                Pod::read(&pod).is_some(),
                pointer == "/metadata/labels",
                "{value}"
            );
        }
    }

    /// Fault: a container that still uses an earlier value in its grace period was missing in `seal pods`, so a
    /// pipeline revoked the value too early.
    #[test]
    fn a_pod_that_is_being_deleted_counts_while_a_container_runs_but_is_not_restarted() {
        let mut deleted = pod("p", Delivery::Env, 15);
        deleted["metadata"]["deletionTimestamp"] = json!("1970-01-01T00:00:15Z");
        assert_eq!(state(&deleted, 30), Some(State::Stale(second(20))));
        assert!(Pod::read_started(&deleted).is_none());
        let running = deleted["status"]["containerStatuses"].take();
        assert!(Pod::read(&deleted).is_none());
        deleted["status"]["initContainerStatuses"] = running;
        assert!(Pod::read(&deleted).is_some(), "a sidecar is running");
        let ended = json!({ "terminated": { "startedAt": "1970-01-01T00:00:15Z" } });
        deleted["status"]["initContainerStatuses"][0]["state"] = ended;
        assert!(Pod::read(&deleted).is_none());
    }

    #[test]
    fn detects_old_starts_for_variables_sub_paths_and_volumes() {
        let history = history(&[("b", "1", 2, 20), ("a", "1", 1, 10)]);
        for delivery in [Delivery::Env, Delivery::SubPath, Delivery::Volume] {
            for (start, want) in [(15, true), (20, false), (5, true)] {
                let pod = Pod::read(&pod("p", delivery, start)).unwrap();
                assert_eq!(
                    pod.has_old_start("db", &history, true),
                    want,
                    "{delivery:?} {start}"
                );
                assert!(!pod.has_old_start("other", &history, true));
                assert_eq!(pod.has_old_start("other", &history, false), want);
            }
        }
    }
}
