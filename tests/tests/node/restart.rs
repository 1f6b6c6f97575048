//! Tests that `seal restart` brings new values to containers that are unaware of SealedSecrets, and the reports of
//! `seal pods`.

use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tests::binaries;
use tests::control_plane::{ControlPlane, Namespace};
use tests::node::{BUSYBOX, NodePod};
use tests::patience::until;
use tests::restarter::{Restarter, Versioned, keep_versions};
use tokio::time::sleep;

use crate::shared;

const RESTARTED_FOR: &str = "sealedsecrets.bitnami.com/restarted-for";
const REFRESHED_FOR: &str = "sealedsecrets.bitnami.com/refreshed-for";

/// The time in which a test checks that nothing happens, longer than the quiet time of the workloads.
const OBSERVATION_TIME: Duration = Duration::from_secs(7);

#[tokio::test]
async fn a_mounted_file_has_the_new_value_at_once() {
    let (plane, namespace) = start("refresh").await;
    let annotations = json!({ "sealedsecrets.bitnami.com/refresh": "true" });
    let mut database = Versioned::create(&namespace, "database", annotations, "first").await;
    let pod = NodePod::create(&namespace, reader()).await;
    pod.wait_until_ready().await;
    let mut restarter = restarter(plane, &namespace).await;
    restarter.wait_until_leader().await;
    // The Pod must start before the second in which the value changes.
    sleep(Duration::from_secs(2)).await;
    database.set("second").await;
    let start = Instant::now();
    until("the volume has the new value", async || {
        (in_volume(&pod).await == "second").then_some(())
    })
    .await;
    let elapsed = start.elapsed();
    eprintln!("the volume had the new value after {elapsed:.1?}");
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
    let pods: Api<Pod> = namespace.api();
    let annotations = pods.get(pod.name()).await.unwrap();
    assert_eq!(
        annotations.annotations().get(REFRESHED_FOR),
        Some(&database.version())
    );
    assert_eq!(
        in_environment(&pod).await,
        "first\n",
        "a variable is not refreshed"
    );
    assert_eq!(restarter.stop(), Some(0));
}

#[tokio::test]
async fn twenty_changes_in_five_seconds_cause_one_restart() {
    let (plane, namespace) = start("twenty").await;
    let mut database = Versioned::create(&namespace, "database", json!({}), "first").await;
    let app = App::create(&namespace, "3s").await;
    let _restarter = restarter(plane, &namespace).await;
    sleep(Duration::from_secs(2)).await;
    for number in 1..=20 {
        database.set(&format!("value-{number}")).await;
        sleep(Duration::from_millis(200)).await;
    }
    app.wait_for_value("value-20").await;
    app.wait_until_complete().await;
    sleep(OBSERVATION_TIME).await;
    assert_eq!(app.generation().await, 2, "one restart");
    assert_eq!(app.events("Restarted").await, 1);
}

#[tokio::test]
async fn a_replaced_version_key_restarts_nothing() {
    let (plane, namespace) = start("rekeyed").await;
    let mut database = Versioned::create(&namespace, "database", json!({}), "first").await;
    let app = App::create(&namespace, "1s").await;
    let mut restarter = restarter(plane, &namespace).await;
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
    let mut database = Versioned::create(&namespace, "database", json!({}), "first").await;
    let app = App::create(&namespace, "4s").await;
    let mut first = restarter(plane, &namespace).await;
    first.wait_until_leader().await;
    let _second = restarter(plane, &namespace).await;
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
    let mut database = Versioned::create(&namespace, "database", json!({}), "first").await;
    let app = App::create(&namespace, "1s").await;
    let _restarter = restarter(plane, &namespace).await;
    sleep(Duration::from_secs(2)).await;
    database.set("second").await;
    app.wait_for_value("second").await;
    app.wait_until_complete().await;
    let digest = app.restarted_for().await.expect("it was restarted");
    app.apply().await;
    assert_eq!(app.restarted_for().await, Some(digest));
    assert_eq!(app.generation().await, 2);
}

#[tokio::test]
async fn seal_pods_agrees_with_the_output_of_the_containers() {
    let (plane, namespace) = start("truth").await;
    let mut database = Versioned::create(&namespace, "database", json!({}), "first").await;
    let pod = NodePod::create(&namespace, reader()).await;
    pod.wait_until_ready().await;
    sleep(Duration::from_secs(2)).await;
    let (code, rows) = pods(plane, &namespace);
    assert_eq!(code, Some(0), "{rows}");
    assert_eq!(
        states(&rows),
        [
            ("env", "current"),
            ("subPath", "current"),
            ("volume", "current")
        ]
    );

    database.set("second").await;
    touch(&namespace, &pod, &database.version()).await;
    until("the volume has the new value", async || {
        (in_volume(&pod).await == "second").then_some(())
    })
    .await;
    let (code, rows) = pods(plane, &namespace);
    assert_eq!(code, Some(1), "{rows}");
    let printed = [
        ("env", in_environment(&pod).await.trim() == "second"),
        ("subPath", in_path(&pod).await == "second"),
        ("volume", in_volume(&pod).await == "second"),
    ];
    let expected = printed.map(|(way, is_new)| (way, if is_new { "current" } else { "stale" }));
    assert_eq!(states(&rows), expected);
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

/// Starts the node, and creates a namespace of its own.
async fn start(purpose: &str) -> (&'static ControlPlane, Namespace<'static>) {
    let (plane, _node) = shared().await;
    keep_versions(plane).await;
    (plane, plane.namespace(purpose).await)
}

async fn restarter(plane: &ControlPlane, namespace: &Namespace<'_>) -> Restarter {
    Restarter::start(
        plane.kubeconfig(),
        namespace.name(),
        &["--lease-duration", "3s"],
    )
    .await
}

/// Returns a Pod that consumes the Secret `database` in three ways.
fn reader() -> Value {
    let reference = json!({ "name": "database", "key": "password" });
    let container = json!({
        "name": "main",
        "image": BUSYBOX,
        "command": ["sleep", "600"],
        "env": [{ "name": "PASSWORD", "valueFrom": { "secretKeyRef": reference } }],
        "volumeMounts": [
            { "name": "database", "mountPath": "/database" },
            { "name": "database", "mountPath": "/password", "subPath": "password" },
        ],
    });
    let volume = json!({ "name": "database", "secret": { "secretName": "database" } });
    json!({ "containers": [container], "volumes": [volume] })
}

async fn in_volume(pod: &NodePod) -> String {
    pod.run("main", &["cat", "/database/password"]).await
}

async fn in_path(pod: &NodePod) -> String {
    pod.run("main", &["cat", "/password"]).await
}

async fn in_environment(pod: &NodePod) -> String {
    pod.run("main", &["sh", "-c", "echo $PASSWORD"]).await
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

/// Returns the exit code and the report of `seal pods`.
fn pods(plane: &ControlPlane, namespace: &Namespace<'_>) -> (Option<i32>, Value) {
    let output = Command::new(binaries::seal())
        .args([
            "pods",
            "database",
            "-o",
            "json",
            "-n",
            namespace.name(),
            "--kubeconfig",
        ])
        .arg(plane.kubeconfig())
        .output()
        .expect("the program was built");
    let report = serde_json::from_slice(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    (
        output.status.code(),
        report.unwrap_or_else(|error| panic!("{error}: {stderr}")),
    )
}

fn states(report: &Value) -> Vec<(&str, &str)> {
    let rows = report["pods"].as_array().into_iter().flatten();
    rows.map(|row| {
        (
            row["consumes"].as_str().unwrap(),
            row["state"].as_str().unwrap(),
        )
    })
    .collect()
}

/// A Deployment with one Pod that has a variable from the Secret `database`, and opts in.
struct App<'a> {
    namespace: &'a Namespace<'a>,
    manifest: Value,
}

impl<'a> App<'a> {
    /// Creates the Deployment with this quiet time, and waits until its Pod is available.
    async fn create(namespace: &'a Namespace<'a>, window: &str) -> Self {
        let mut spec = reader();
        spec["terminationGracePeriodSeconds"] = json!(1);
        let annotations = json!({
            "reloader.stakater.com/auto": "true", "sealedsecrets.bitnami.com/restart-window": window,
        });
        let manifest = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "web", "annotations": annotations },
            "spec": {
                "selector": { "matchLabels": { "app": "web" } },
                "template": { "metadata": { "labels": { "app": "web" } }, "spec": spec },
            },
        });
        let app = Self {
            namespace,
            manifest,
        };
        app.apply().await;
        app.wait_until_complete().await;
        app
    }

    /// Applies the manifest as a user does.
    async fn apply(&self) {
        let params = PatchParams::apply("user").force();
        let result = self
            .api()
            .patch("web", &params, &Patch::Apply(&self.manifest))
            .await;
        result.expect("the API server accepts the Deployment");
    }

    fn api(&self) -> Api<Deployment> {
        self.namespace.api()
    }

    async fn generation(&self) -> i64 {
        let deployment = self.api().get("web").await.expect("it exists");
        deployment
            .metadata
            .generation
            .expect("the API server sets it")
    }

    async fn restarted_for(&self) -> Option<String> {
        let deployment = self.api().get("web").await.expect("it exists");
        let annotations = deployment.spec?.template.metadata?.annotations?;
        annotations.get(RESTARTED_FOR).cloned()
    }

    /// Waits until the only Pod has this value in its environment.
    async fn wait_for_value(&self, value: &str) {
        until(&format!("the application has {value}"), async || {
            let pods: Api<Pod> = self.namespace.api();
            let pods = pods
                .list(&ListParams::default().labels("app=web"))
                .await
                .ok()?
                .items;
            let [pod] = pods.as_slice() else {
                return None;
            };
            let is_running = pod
                .status
                .as_ref()?
                .container_statuses
                .as_ref()?
                .first()?
                .ready;
            let pod = NodePod::existing(self.namespace, &pod.name_any());
            let is_new = is_running && in_environment(&pod).await.trim() == value;
            is_new.then_some(())
        })
        .await;
    }

    async fn wait_until_complete(&self) {
        until("the rollout is complete", async || {
            let deployment = self.api().get("web").await.ok()?;
            let generation = deployment.metadata.generation;
            let status = deployment.status?;
            let is_complete = status.observed_generation == generation
                && status.updated_replicas == Some(1)
                && status.replicas == Some(1)
                && status.available_replicas == Some(1);
            is_complete.then_some(())
        })
        .await;
    }

    /// Returns how many events of this reason the Deployment has.
    async fn events(&self, reason: &str) -> usize {
        let events: Api<Event> = self.namespace.api();
        let events = events
            .list(&ListParams::default())
            .await
            .expect("an admin may list");
        let is_of_reason = |event: &&Event| {
            event.reason.as_deref() == Some(reason)
                && event.involved_object.name.as_deref() == Some("web")
        };
        events.items.iter().filter(is_of_reason).count()
    }
}
