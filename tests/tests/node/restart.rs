//! Tests that `seal restart` brings new values to containers that are unaware of SealedSecrets, and the reports of
//! `seal pods`.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tests::application::{Application, reader_pod_spec, value_in_environment};
use tests::control_plane::{ControlPlane, Namespace};
use tests::node::NodePod;
use tests::patience::until;
use tests::restarter::{Restarter, VersionedSecret};
use tokio::time::sleep;

use crate::{pods, shared};

const REFRESHED_FOR: &str = "sealedsecrets.bitnami.com/refreshed-for";

/// The time in which a test checks that nothing happens, longer than the quiet time of the workloads.
const OBSERVATION_TIME: Duration = Duration::from_secs(7);

#[tokio::test]
async fn a_mounted_file_has_the_new_value_at_once() {
    let (plane, namespace) = start("refresh").await;
    let annotations = json!({ "sealedsecrets.bitnami.com/refresh": "true" });
    let mut database = VersionedSecret::create(&namespace, "database", annotations, "first").await;
    let pod = NodePod::create(&namespace, reader_pod_spec()).await;
    pod.wait_until_ready().await;
    let mut restarter = start_restarter(plane, &namespace).await;
    restarter.wait_until_leader().await;
    let mut delays = Vec::new();
    for value in ["second", "third", "fourth"] {
        // The Pod must start, or be refreshed, before the second in which the value changes.
        sleep(Duration::from_secs(2)).await;
        database.set(value).await;
        let start = Instant::now();
        until("the volume has the new value", async || {
            (value_in_volume(&pod).await == value).then_some(())
        })
        .await;
        delays.push(start.elapsed());
    }
    delays.sort_unstable();
    eprintln!("the volume had the new values after {delays:.1?}");
    assert!(delays[1] < Duration::from_secs(2), "{delays:?}");
    let pods: Api<Pod> = namespace.api();
    let annotations = pods.get(pod.name()).await.unwrap();
    assert_eq!(
        annotations.annotations().get(REFRESHED_FOR),
        Some(&database.version())
    );
    assert_eq!(
        value_in_environment(&pod).await,
        "first\n",
        "a variable is not refreshed"
    );
    assert_eq!(restarter.stop(), Some(0));
}

#[tokio::test]
async fn twenty_changes_in_five_seconds_cause_one_restart() {
    let (plane, namespace) = start("twenty").await;
    let mut database = VersionedSecret::create(&namespace, "database", json!({}), "first").await;
    let app = Application::create(&namespace, "3s").await;
    let _restarter = start_restarter(plane, &namespace).await;
    sleep(Duration::from_secs(2)).await;
    for number in 1..=20 {
        database.set(&format!("value-{number}")).await;
        sleep(Duration::from_millis(200)).await;
    }
    app.wait_for_value("value-20").await;
    app.wait_until_complete().await;
    sleep(OBSERVATION_TIME).await;
    assert_eq!(app.generation().await, 2, "one restart");
    assert_eq!(app.count_events("Restarted").await, 1);
}

#[tokio::test]
async fn a_replaced_version_key_restarts_nothing() {
    let (plane, namespace) = start("rekeyed").await;
    let mut database = VersionedSecret::create(&namespace, "database", json!({}), "first").await;
    let app = Application::create(&namespace, "1s").await;
    let mut restarter = start_restarter(plane, &namespace).await;
    restarter.wait_until_leader().await;
    sleep(Duration::from_secs(2)).await;
    database.replace_key().await;
    sleep(OBSERVATION_TIME).await;
    assert_eq!(app.generation().await, 1);
    database.set("second").await;
    app.wait_for_value("second").await;
}

/// Fault: the leader crashes between a change and the restart.
#[tokio::test]
async fn a_leader_that_is_killed_in_the_quiet_time_causes_exactly_one_restart() {
    let (plane, namespace) = start("killed").await;
    let mut database = VersionedSecret::create(&namespace, "database", json!({}), "first").await;
    let app = Application::create(&namespace, "4s").await;
    let mut first = start_restarter(plane, &namespace).await;
    first.wait_until_leader().await;
    let _second = start_restarter(plane, &namespace).await;
    sleep(Duration::from_secs(2)).await;
    database.set("second").await;
    sleep(Duration::from_secs(1)).await;
    first.kill();
    app.wait_for_value("second").await;
    app.wait_until_complete().await;
    sleep(OBSERVATION_TIME).await;
    assert_eq!(app.generation().await, 2, "one restart");
}

#[tokio::test]
async fn applying_the_original_manifest_keeps_the_restart() {
    let (plane, namespace) = start("applied").await;
    let mut database = VersionedSecret::create(&namespace, "database", json!({}), "first").await;
    let app = Application::create(&namespace, "1s").await;
    let _restarter = start_restarter(plane, &namespace).await;
    sleep(Duration::from_secs(2)).await;
    database.set("second").await;
    app.wait_for_value("second").await;
    app.wait_until_complete().await;
    let digest = app
        .restarted_for()
        .await
        .expect("the workload was restarted");
    app.apply().await;
    assert_eq!(app.restarted_for().await, Some(digest));
    assert_eq!(app.generation().await, 2);
}

#[tokio::test]
async fn seal_pods_agrees_with_the_output_of_the_containers() {
    let (plane, namespace) = start("truth").await;
    let mut database = VersionedSecret::create(&namespace, "database", json!({}), "first").await;
    let pod = NodePod::create(&namespace, reader_pod_spec()).await;
    pod.wait_until_ready().await;
    sleep(Duration::from_secs(2)).await;
    let (code, rows) = pods::survey(plane, &namespace, "database", &[]);
    assert_eq!(code, Some(0), "{rows}");
    assert_eq!(
        pods::states(&rows),
        [
            ("env", "current"),
            ("subPath", "current"),
            ("volume", "current")
        ]
    );

    database.set("second").await;
    touch(&namespace, &pod, &database.version()).await;
    until("the volume has the new value", async || {
        (value_in_volume(&pod).await == "second").then_some(())
    })
    .await;
    let (code, rows) = pods::survey(plane, &namespace, "database", &[]);
    assert_eq!(code, Some(1), "{rows}");
    let printed = [
        ("env", value_in_environment(&pod).await.trim() == "second"),
        ("subPath", value_in_sub_path(&pod).await == "second"),
        ("volume", value_in_volume(&pod).await == "second"),
    ];
    let expected = printed.map(|(way, is_new)| (way, if is_new { "current" } else { "stale" }));
    assert_eq!(pods::states(&rows), expected);
    assert_eq!(
        expected,
        [
            ("env", "stale"),
            ("subPath", "stale"),
            ("volume", "current")
        ]
    );
    assert_eq!(rows["pods"][0]["generation"], 1);
    assert_eq!(rows["pods"][2]["generation"], 2);
}

/// Starts the node on the first call, and creates a separate namespace.
async fn start(purpose: &str) -> (&'static ControlPlane, Namespace<'static>) {
    let (plane, _node) = shared().await;
    (plane, plane.namespace(purpose).await)
}

async fn start_restarter(plane: &ControlPlane, namespace: &Namespace<'_>) -> Restarter {
    Restarter::start(
        plane.kubeconfig(),
        namespace.name(),
        &["--lease-duration", "3s"],
    )
    .await
}

async fn value_in_volume(pod: &NodePod) -> String {
    pod.run("main", &["cat", "/database/password"]).await
}

async fn value_in_sub_path(pod: &NodePod) -> String {
    pod.run("main", &["cat", "/password"]).await
}

/// Refreshes the Pod as `seal restart` does.
async fn touch(namespace: &Namespace<'_>, pod: &NodePod, version: &str) {
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { REFRESHED_FOR: version } } }));
    let pods: Api<Pod> = namespace.api();
    let result = pods
        .patch(pod.name(), &PatchParams::default(), &patch)
        .await;
    result.expect("the Pod exists");
}
