//! Requests to the API server about Pods, workloads and events.

use std::time::Duration;

use jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use lease::api_response;
use serde_json::{Value as Json, json};
use shared::resource::{REFRESHED_FOR_ANNOTATION, RESTARTED_FOR_ANNOTATION, time};
use tokio::time::timeout;

use super::compact::{AnyWorkload, CompactObject, resource, workloads};
use crate::decide::Target;
use crate::pod::Pod;
use crate::refresh_queue::PodRefresh;
use crate::workload::{Id, Workload};

/// The field manager of all patches.
const FIELD_MANAGER: &str = "seal-restart";
/// The value of `source.component` in events.
const COMPONENT: &str = "seal-restart";
/// Time limit of a request.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The number of Pods in one page of a list. A Pod usually takes less than 20 KB, and at most 1.5 MB.
const PODS_PER_PAGE: u32 = 20;
/// Maximum length of the object's name in the name of an event, which also has a unique suffix.
const MAX_NAME: usize = 253 - 17;

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The API server cannot be reached, responded with an error, or sent a response that cannot be parsed.
    Api(Box<kube::Error>),
    /// The API server did not respond in time.
    Timeout,
}

impl Failure {
    /// Returns whether the object was changed or deleted in the meantime.
    pub(super) fn is_outdated(&self) -> bool {
        matches!(self, Self::Api(error) if matches!(&**error, kube::Error::Api(status) if matches!(status.code, 404 | 409)))
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Api(error) => api_response(error),
            Self::Timeout => "the API server does not respond".into(),
        }
    }
}

async fn with_time_limit<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    let response = timeout(TIMEOUT, request)
        .await
        .map_err(|_| Failure::Timeout)?;
    response.map_err(|error| Failure::Api(Box::new(error)))
}

/// Returns one page of the Pods of a namespace, without Pods that [`Pod::read_started`] omits, and the token of the
/// next page, if there is one. `token` is the token that the request for the previous page returned.
pub(super) async fn list_pods(
    client: &Client,
    namespace: &str,
    token: Option<&str>,
) -> Result<(Vec<Pod>, Option<String>), Failure> {
    let resource = resource("", "v1", "Pod", "pods");
    let api: Api<CompactObject<Option<Pod>>> =
        Api::namespaced_with(client.clone(), namespace, &resource);
    let params = ListParams::default().limit(PODS_PER_PAGE);
    let params = match token {
        Some(token) => params.continue_token(token),
        None => params,
    };
    let page = with_time_limit(api.list(&params)).await?;
    let started = page.items.into_iter().filter_map(|pod| pod.form);
    let token = page.metadata.continue_.filter(|token| !token.is_empty());
    Ok((started.collect(), token))
}

/// Restarts a workload, unless it has changed since the version that the decision is based on. Returns the restarted
/// workload.
pub(super) async fn restart(
    client: &Client,
    id: &Id,
    workload: &Workload,
    target: &Target,
) -> Result<Workload, Failure> {
    let resource = workloads(id.kind);
    let api: Api<CompactObject<AnyWorkload>> =
        Api::namespaced_with(client.clone(), &id.namespace, &resource);
    let patch = Patch::Merge(restart_patch(workload, target));
    let response = with_time_limit(api.patch(&id.name, &patch_params(), &patch)).await?;
    Ok(Workload::read(id.kind, &response.form.0))
}

fn restart_patch(workload: &Workload, target: &Target) -> Json {
    let spec = match target {
        Target::Annotation(digest) => {
            json!({ "template": { "metadata": { "annotations": { RESTARTED_FOR_ANNOTATION: digest } } } })
        }
        Target::RestartAt(at) => json!({ "restartAt": time(*at) }),
    };
    json!({ "metadata": { "uid": workload.uid, "resourceVersion": workload.version }, "spec": spec })
}

/// Changes an annotation of a Pod, so that the kubelet synchronizes the Pod.
pub(super) async fn refresh(client: &Client, pod: &PodRefresh) -> Result<(), Failure> {
    let resource = resource("", "v1", "Pod", "pods");
    let api: Api<CompactObject<()>> =
        Api::namespaced_with(client.clone(), &pod.namespace, &resource);
    let patch = json!({
        "metadata": { "uid": pod.uid, "annotations": { REFRESHED_FOR_ANNOTATION: pod.versions } },
    });
    with_time_limit(api.patch(&pod.name, &patch_params(), &Patch::Merge(patch))).await?;
    Ok(())
}

fn patch_params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    }
}

/// The content of an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) is_warning: bool,
    pub(super) reason: &'static str,
    pub(super) message: &'static str,
}

/// Writes an event of core/v1 about a workload.
pub(super) async fn report(
    client: &Client,
    id: &Id,
    uid: &str,
    event: Event,
    now: Timestamp,
) -> Result<(), Failure> {
    let body = event_object(id, uid, event, now).to_string().into_bytes();
    let path = format!("/api/v1/namespaces/{}/events", id.namespace);
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body);
    let request = request.map_err(|error| Failure::Api(Box::new(kube::Error::HttpError(error))))?;
    with_time_limit(client.request::<Json>(request)).await?;
    Ok(())
}

fn event_object(id: &Id, uid: &str, event: Event, now: Timestamp) -> Json {
    let (group, version) = id.kind.group_version();
    let name = &id.name[..id.name.floor_char_boundary(MAX_NAME)];
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{name}.{:016x}", shared::random::number::<u64>()),
            "namespace": id.namespace,
        },
        "involvedObject": {
            "apiVersion": format!("{group}/{version}"),
            "kind": id.kind.name(),
            "namespace": id.namespace,
            "name": id.name,
            "uid": uid,
        },
        "type": if event.is_warning { "Warning" } else { "Normal" },
        "reason": event.reason,
        "message": event.message,
        "source": { "component": COMPONENT },
        "count": 1,
        "firstTimestamp": time(now),
        "lastTimestamp": time(now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Kind;

    #[test]
    fn a_restart_changes_one_field_and_requires_the_same_version() {
        let object = json!({ "metadata": { "uid": "u", "resourceVersion": "7" } });
        let workload = Workload::read(Kind::Deployment, &object);
        let patch = |target| restart_patch(&workload, &target);
        assert_eq!(
            patch(Target::Annotation("abc".into())),
            json!({
                "metadata": { "uid": "u", "resourceVersion": "7" },
                "spec": { "template": { "metadata": { "annotations": {
                    "sealedsecrets.bitnami.com/restarted-for": "abc",
                } } } },
            })
        );
        let at = Timestamp::from_second(9).unwrap();
        assert_eq!(
            patch(Target::RestartAt(at))["spec"],
            json!({ "restartAt": "1970-01-01T00:00:09Z" })
        );
    }

    #[test]
    fn the_name_of_an_event_is_not_too_long() {
        let id = Id {
            namespace: "ns".into(),
            kind: Kind::StatefulSet,
            name: "n".repeat(253),
        };
        let event = Event {
            is_warning: true,
            reason: "R",
            message: "m",
        };
        let object = event_object(&id, "u", event, Timestamp::UNIX_EPOCH);
        assert_eq!(object["metadata"]["name"].as_str().unwrap().len(), 253);
        assert_eq!(object["involvedObject"]["apiVersion"], "apps/v1");
    }
}
