//! Tests `seal pods` against a real API server, without a node: no container starts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

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

/// Returns a namespace with the SealedSecret `db`.
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

/// Fault: a pipeline that rotates a password goes on before the controller has seen the new value, and locks out every Pod.
#[tokio::test]
async fn wait_waits_for_the_controller_too() {
    let plane = ControlPlane::shared().await;
    let namespace = namespace(plane, "pods-unrecorded").await;
    let objects: Api<SealedSecret> = namespace.api();
    let args = ["db", "--wait", "--timeout", "1s"];
    for (observed, want) in [(1, Some(0)), (0, Some(1))] {
        let status = json!({ "status": { "observedGeneration": observed } });
        let patched = objects.patch_status("db", &PatchParams::default(), &Patch::Merge(&status));
        patched.await.unwrap();
        let output = pods(plane, &namespace, &args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), want, "{stderr}");
        assert_eq!(
            stderr.contains("has not recorded its new version"),
            want == Some(1),
            "{stderr}"
        );
    }
}
