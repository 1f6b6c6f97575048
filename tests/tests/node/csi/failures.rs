//! Tests that no Pod runs without its files after any failure.

use std::collections::HashSet;
use std::sync::Mutex;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tests::control_plane::Namespace;
use tests::csi::{FakeController, Provider, create_class, failures, volume};
use tests::node::NodePod;
use tests::patience::until;

use super::{driver, provider_name, read, reader};

/// Returns the parameter `objects` for a SealedSecret.
fn objects(name: &str) -> String {
    format!("- {{sealedSecret: {name}, items: [password], path: password}}")
}

#[tokio::test]
async fn a_pod_reads_the_file_that_a_controller_sends() {
    let (plane, _node, driver) = driver().await;
    let namespace = plane.namespace("csi-file").await;
    let controller = FakeController::start(|_| FakeController::file("password", "hunter2"));
    let name = provider_name(&namespace);
    let _provider = Provider::start(driver, &name, controller.port(), controller.authority()).await;
    create_class(&namespace, "web", &name, &objects("db")).await;
    let pod = NodePod::create(&namespace, reader(&volume("web", &json!({})), "default")).await;
    pod.wait_until_ready().await;
    assert_eq!(read(&pod, "password").await, "hunter2");
}

/// For each case: the name of the requested SealedSecret, the response of the controller, and the code in the event.
const RESPONSES: [(&str, &str, &str); 13] = [
    ("s400", "400 Bad Request", "InvalidArgument"),
    ("s401", "401 Unauthorized", "Unauthenticated"),
    ("s403", "403 Forbidden", "PermissionDenied"),
    ("s404", "404 Not Found", "NotFound"),
    ("s408", "408 Request Timeout", "FailedPrecondition"),
    ("s413", "413 Payload Too Large", "FailedPrecondition"),
    ("s422", "422 Unprocessable Entity", "FailedPrecondition"),
    ("s429", "429 Too Many Requests", "FailedPrecondition"),
    ("s500", "500 Internal Server Error", "FailedPrecondition"),
    ("s503", "503 Service Unavailable", "FailedPrecondition"),
    ("s504", "504 Gateway Timeout", "FailedPrecondition"),
    ("s304", "304 Not Modified", "Internal"),
    ("s200", "200 OK", "Internal"),
];

/// Fault: a controller refuses requests, is busy, or is broken. After some codes, the kubelet keeps the directory of a
/// volume, the driver considers the volume mounted, and the Pod starts with an empty volume.
#[tokio::test]
async fn no_pod_runs_without_its_file_after_any_response_of_a_controller() {
    let (plane, _node, driver) = driver().await;
    let namespace = plane.namespace("csi-codes").await;
    let controller = FakeController::start(fail_first());
    let name = provider_name(&namespace);
    let _provider = Provider::start(driver, &name, controller.port(), controller.authority()).await;
    let mut pods = Vec::new();
    for (object, ..) in RESPONSES {
        create_class(&namespace, object, &name, &objects(object)).await;
        let spec = reader(&volume(object, &json!({})), "default");
        pods.push(NodePod::create(&namespace, spec).await);
    }
    for ((object, _, code), pod) in RESPONSES.iter().zip(&pods) {
        let event = until("each Pod has an event", async || {
            failures(&namespace, pod).await.into_iter().next()
        });
        let event = event.await;
        assert!(
            event.contains(&format!("code = {code} desc = ")),
            "{object}: {event}"
        );
        assert!(event.contains("the controller"), "{object}: {event}");
        assert_has_no_position(&event);
    }
    for pod in &pods {
        pod.wait_until_ready().await;
        assert_eq!(read(pod, "password").await, "hunter2");
    }
}

/// Returns the responses of a controller that fails the first request for each object.
fn fail_first() -> impl Fn(&str) -> Option<String> + Send {
    let seen = Mutex::new(HashSet::new());
    move |request| {
        let found = RESPONSES
            .iter()
            .find(|(object, ..)| request.contains(&format!("\"{object}\"")));
        let (object, status, _) =
            found.unwrap_or_else(|| panic!("a request for an unknown object: {request:?}"));
        if seen.lock().unwrap().insert(*object) {
            FakeController::response(status, "<html>no JSON, line 3</html>")
        } else {
            FakeController::file("password", "hunter2")
        }
    }
}

/// Checks that an event contains no line or column, which could depend on a value.
fn assert_has_no_position(event: &str) {
    for text in ["line ", "column ", "offset", "position"] {
        assert!(!event.contains(text), "{event}");
    }
}

/// Fault: no controller is running when a Pod starts.
#[tokio::test]
async fn a_pod_waits_for_a_controller_and_its_event_says_so() {
    let (plane, _node, driver) = driver().await;
    let namespace = plane.namespace("csi-down").await;
    let controller = FakeController::start(|_| FakeController::file("password", "hunter2"));
    let name = provider_name(&namespace);
    let port = tests::http::free_port();
    let mut provider = Provider::start(driver, &name, port, controller.authority()).await;
    create_class(&namespace, "web", &name, &objects("db")).await;
    let pod = NodePod::create(&namespace, reader(&volume("web", &json!({})), "default")).await;
    let event = until("the Pod has an event", async || {
        failures(&namespace, &pod).await.into_iter().next()
    });
    let event = event.await;
    assert!(event.contains("code = FailedPrecondition"), "{event}");
    assert!(
        event.contains("cannot reach the controller at https://127.0.0.1"),
        "{event}"
    );
    pod.wait_until("has not started", |pod| is_pending(pod).then_some(()))
        .await;
    provider.stop();
    let _provider = Provider::start(driver, &name, controller.port(), controller.authority()).await;
    pod.wait_until_ready().await;
    assert_eq!(read(&pod, "password").await, "hunter2");
}

/// Fault: the provider is killed before the first mount, and while a mount is in progress, more often than the driver
/// repeats a call.
#[tokio::test]
async fn a_pod_waits_for_a_provider_that_is_killed() {
    let (plane, _node, driver) = driver().await;
    let namespace = plane.namespace("csi-killed").await;
    let controller = FakeController::start(|_| None);
    let name = provider_name(&namespace);
    let mut provider =
        Provider::start(driver, &name, controller.port(), controller.authority()).await;
    provider.kill();
    create_class(&namespace, "web", &name, &objects("db")).await;
    let pod = NodePod::create(&namespace, reader(&volume("web", &json!({})), "default")).await;
    for count in 1..=4 {
        provider.start_again().await;
        let description = format!("mount {count} is in progress");
        until(&description, async || {
            (controller.requests().len() >= count).then_some(())
        })
        .await;
        provider.kill();
        pod.wait_until("has not started", |pod| is_pending(pod).then_some(()))
            .await;
    }
    controller.set_responses(|_| FakeController::file("password", "hunter2"));
    provider.start_again().await;
    pod.wait_until_ready().await;
    assert_eq!(read(&pod, "password").await, "hunter2");
}

/// Fault: the provider is killed while a volume of a running Pod is mounted again, and is not restarted.
#[tokio::test]
async fn files_stay_while_the_provider_is_killed_during_a_remount() {
    let (plane, _node, driver) = driver().await;
    let namespace = plane.namespace("csi-remount").await;
    let controller = FakeController::start(|_| FakeController::file("password", "first"));
    let name = provider_name(&namespace);
    let mut provider =
        Provider::start(driver, &name, controller.port(), controller.authority()).await;
    create_class(&namespace, "web", &name, &objects("db")).await;
    let pod = NodePod::create(&namespace, reader(&volume("web", &json!({})), "default")).await;
    pod.wait_until_ready().await;
    controller.set_responses(|_| None);
    for number in 0..3 {
        let count = controller.requests().len();
        until("a mount is in progress", async || {
            touch(&namespace, &pod, number).await;
            (controller.requests().len() > count).then_some(())
        })
        .await;
        provider.kill();
        assert_eq!(read(&pod, "password").await, "first", "kill {number}");
        provider.start_again().await;
    }
    controller.set_responses(|_| FakeController::file("password", "second"));
    until("the volume is refreshed", async || {
        touch(&namespace, &pod, 9).await;
        (read(&pod, "password").await == "second").then_some(())
    })
    .await;
}

/// Changes an annotation of a Pod to another value each time, so that the kubelet mounts its volumes again.
async fn touch(namespace: &Namespace<'_>, pod: &NodePod, number: usize) {
    let time = std::time::SystemTime::now();
    let text = format!("{number} {time:?}");
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { "touched": text } } }));
    let pods: Api<Pod> = namespace.api();
    let params = PatchParams::default();
    let patched = pods.patch(pod.name(), &params, &patch);
    patched.await.expect("the Pod exists");
}

/// Fault: the controller accepts a request and does not respond.
#[tokio::test]
async fn a_mount_ends_within_fifteen_seconds_without_a_response() {
    let (plane, _node, driver) = driver().await;
    let namespace = plane.namespace("csi-silent").await;
    let controller = FakeController::start(|_| None);
    let name = provider_name(&namespace);
    let provider = Provider::start(driver, &name, controller.port(), controller.authority()).await;
    let tokens = json!({ deliver::AUDIENCE: { "token": "token" } }).to_string();
    let attributes = json!({ "objects": objects("db"), tests::csi::TOKENS: tokens }).to_string();
    let start = std::time::Instant::now();
    // More than the provider sends concurrently, and fewer than the connections that it accepts.
    let calls = (0..15).map(|_| node::client::mount(provider.socket(), &attributes));
    for result in futures::future::join_all(calls).await {
        let error = result.expect_err("there is no response").to_string();
        assert!(error.contains("the error code 9"), "{error}");
    }
    let duration = start.elapsed();
    assert!(
        duration < std::time::Duration::from_secs(15),
        "{duration:?}"
    );
}

fn is_pending(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase == Some("Pending")
}
