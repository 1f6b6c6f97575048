//! Tests `seal pods` against a real API server, without a node: no container starts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::binaries;
use tests::control_plane::{ControlPlane, Namespace};
use tests::sealing::{KEYS, sealed_for};

const AUDIENCE: &str = "sealed-secrets.bitnami.com";

/// Creates a namespace with the SealedSecret `db`.
async fn namespace(plane: &'static ControlPlane, purpose: &str) -> Namespace<'static> {
    let namespace = plane.namespace(purpose).await;
    let items = [("password", "p")];
    let sealed = sealed_for(&KEYS[0], namespace.name(), "db", &items, Scope::Strict);
    let objects: Api<SealedSecret> = namespace.api();
    let created = objects.create(&PostParams::default(), &sealed).await;
    created.unwrap();
    namespace
}

fn pods(plane: &ControlPlane, namespace: &Namespace<'_>, args: &[&str]) -> Output {
    let mut command = Command::new(binaries::seal());
    command.args(["pods", "-n", namespace.name()]).args(args);
    command.arg("--kubeconfig").arg(plane.kubeconfig());
    command.output().unwrap()
}

/// The resources of the CSI driver do not exist in this cluster.
#[tokio::test]
async fn without_the_driver_its_volumes_are_unknown_and_the_rest_is_shown() {
    let plane = ControlPlane::shared().await;
    let namespace = namespace(plane, "pods-no-driver").await;
    let token = json!({ "serviceAccountToken": { "audience": AUDIENCE, "path": "token" } });
    let class = json!({ "secretProviderClass": "web" });
    let pod = json!({
        "metadata": { "name": "web" },
        "spec": {
            "initContainers": [{
                "name": "seal", "image": "seal", "command": ["seal", "agent", "--objects=db"],
                "volumeMounts": [{ "name": "token", "mountPath": "/token" }],
            }],
            "containers": [{
                "name": "app", "image": "app", "envFrom": [{ "secretRef": { "name": "db" } }],
                "volumeMounts": [{ "name": "values", "mountPath": "/values" }],
            }],
            "volumes": [
                { "name": "token", "projected": { "sources": [token] } },
                { "name": "values", "csi": { "driver": "secrets-store.csi.k8s.io", "readOnly": true, "volumeAttributes": class } },
            ],
        },
    });
    let _: Pod = namespace.create_object(pod).await;
    let output = pods(plane, &namespace, &["-o", "json"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*stderr), (Some(0), ""));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["pods"].as_array().unwrap().iter();
    let rows: Vec<_> = rows
        .map(|row| json!([row["secret"], row["consumes"], row["state"], row["reason"]]))
        .collect();
    let want = [
        json!([null, "csi", "unknown", "the class cannot be read"]),
        json!(["db", "env", "not started", null]),
        json!(["db", "agent", "not started", null]),
    ];
    assert_eq!(rows, want);
}

/// Fault: the log of a container cannot be read, so it is unknown whether `seal-deliver exec` still waits for values.
/// The container was called current, because it had started after the last change.
#[tokio::test]
async fn without_a_log_the_version_of_a_command_is_unknown() {
    let plane = ControlPlane::shared().await;
    let namespace = namespace(plane, "pods-no-log").await;
    let objects: Api<SealedSecret> = namespace.api();
    let version =
        json!({ "version": "v", "keyId": "k", "generation": 1, "time": "2026-01-01T00:00:00Z" });
    let status = json!({ "status": {
        "observedGeneration": 1, "lastUnsealedGeneration": 1, "versions": [version],
    } });
    let (params, patch) = (PatchParams::default(), Patch::Merge(&status));
    objects.patch_status("db", &params, &patch).await.unwrap();
    let token = json!({ "serviceAccountToken": { "audience": AUDIENCE, "path": "token" } });
    let exec = ["seal-deliver", "exec", "--from=db", "--all", "--", "app"];
    let pod = json!({
        "metadata": { "name": "web" },
        "spec": {
            "containers": [{
                "name": "app", "image": "app", "command": exec,
                "volumeMounts": [{ "name": "token", "mountPath": "/token" }],
            }],
            "volumes": [{ "name": "token", "projected": { "sources": [token] } }],
        },
    });
    let _: Pod = namespace.create_object(pod).await;
    let running = json!({
        "name": "app", "image": "app", "imageID": "", "ready": true, "restartCount": 0,
        "state": { "running": { "startedAt": "2026-01-02T00:00:00Z" } },
    });
    let status = json!({ "status": { "phase": "Running", "containerStatuses": [running] } });
    let pods: Api<Pod> = namespace.api();
    let patched = pods
        .patch_status("web", &params, &Patch::Merge(&status))
        .await;
    patched.unwrap();
    let output = self::pods(plane, &namespace, &["db", "-o", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = &report["pods"][0];
    let found = json!([
        row["consumes"],
        row["state"],
        row["reason"],
        row["refreshedBy"]
    ]);
    let want = json!(["exec", "unknown", "the log cannot be read", null]);
    assert_eq!(found, want, "{report}");
    assert_eq!(output.status.code(), Some(0));
}

/// Fault: a pipeline that rotates a password continues before the controller has observed the new value, and locks out
/// every Pod.
#[tokio::test]
async fn wait_waits_for_the_controller_too() {
    let plane = ControlPlane::shared().await;
    let namespace = namespace(plane, "pods-unrecorded").await;
    let objects: Api<SealedSecret> = namespace.api();
    let args = ["db", "--wait", "--timeout", "1s"];
    for (observed, want) in [(1, Some(0)), (0, Some(1))] {
        let status =
            json!({ "status": { "observedGeneration": observed, "lastUnsealedGeneration": 1 } });
        let (params, patch) = (PatchParams::default(), Patch::Merge(&status));
        objects.patch_status("db", &params, &patch).await.unwrap();
        let output = pods(plane, &namespace, &args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), want, "{stderr}");
        assert_eq!(
            stderr.contains("has not recorded its new version"),
            want == Some(1),
            "{stderr}"
        );
        assert_eq!(
            stderr.contains("timed out after 1s"),
            want == Some(1),
            "{stderr}"
        );
    }
}

/// Attack: a SealedSecret gets a value that no key unseals. Every container was reported as current, and a pipeline
/// revoked the former password, which all containers still used.
#[tokio::test]
async fn a_newest_version_that_could_not_be_unsealed_is_a_finding() {
    let plane = ControlPlane::shared().await;
    let namespace = namespace(plane, "pods-failed").await;
    let synced = json!({ "type": "Synced", "status": "False", "reason": "ErrUnsealFailed" });
    let status = json!({ "status": { "observedGeneration": 1, "conditions": [synced] } });
    let (params, patch) = (PatchParams::default(), Patch::Merge(&status));
    let objects: Api<SealedSecret> = namespace.api();
    objects.patch_status("db", &params, &patch).await.unwrap();
    let want = format!(
        "warning: the newest version of {}/db could not be unsealed\nhint: see `kubectl describe ",
        namespace.name()
    );
    for args in [&["db"][..], &["db", "--wait", "--timeout", "1s"]] {
        let output = pods(plane, &namespace, args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(&want), "{stderr}");
    }
}

/// Fault: a pipeline waits for a workload that nothing restarts, and its log does not say so.
#[tokio::test]
async fn wait_says_on_stderr_what_is_stale_after_the_time_limit() {
    let plane = ControlPlane::shared().await;
    let namespace = namespace(plane, "pods-stale").await;
    let version = |version: &str, generation: i64, time: &str| json!({ "version": version, "keyId": "k", "generation": generation, "time": time });
    let versions = [
        version("b", 2, "2026-01-03T00:00:00Z"),
        version("a", 1, "2026-01-01T00:00:00Z"),
    ];
    let status = json!({ "status": {
        "observedGeneration": 1, "lastUnsealedGeneration": 1, "versions": versions,
    } });
    let (params, patch) = (PatchParams::default(), Patch::Merge(&status));
    let objects: Api<SealedSecret> = namespace.api();
    objects.patch_status("db", &params, &patch).await.unwrap();
    create_workload(&namespace, "2026-01-02T00:00:00Z").await;

    let output = pods(plane, &namespace, &["db", "--wait", "--timeout", "1s"]);
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stdout.contains("manual restart"), "{stdout}");
    for text in [
        "warning: timed out after 1s: 1 container still has an earlier value\n".to_owned(),
        format!(
            "Deployment/web in {}, 1 container with an earlier db: no automatic restart: ",
            namespace.name()
        ),
        "\nhint: restart workloads without automatic restart manually".to_owned(),
    ] {
        assert!(stderr.contains(&text), "{text:?} in {stderr}");
    }
    let output = pods(plane, &namespace, &["db"]);
    assert!(output.stderr.is_empty(), "without --wait nothing timed out");
}

/// Creates a Deployment without an opt-in, and a Pod of it whose container started at this time.
async fn create_workload(namespace: &Namespace<'_>, started: &str) {
    let labels = json!({ "app": "web" });
    let variables = json!([{ "secretRef": { "name": "db" } }]);
    let spec = json!({ "containers": [{ "name": "app", "image": "app", "envFrom": variables }] });
    let template = json!({ "metadata": { "labels": labels }, "spec": spec });
    let deployment = json!({
        "metadata": { "name": "web" },
        "spec": { "replicas": 1, "selector": { "matchLabels": labels }, "template": template },
    });
    let _: Deployment = namespace.create_object(deployment).await;
    let pod = json!({ "metadata": { "name": "web-1", "labels": labels }, "spec": spec });
    let _: Pod = namespace.create_object(pod).await;
    let status = json!({ "status": { "phase": "Running", "containerStatuses": [{
        "name": "app", "image": "app", "imageID": "", "ready": true, "restartCount": 0,
        "state": { "running": { "startedAt": started } },
    }] } });
    let (params, patch) = (PatchParams::default(), Patch::Merge(&status));
    let pods: Api<Pod> = namespace.api();
    pods.patch_status("web-1", &params, &patch).await.unwrap();
}
