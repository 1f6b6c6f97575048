//! Tests that Pods on the node behave as on any other node.

use serde_json::json;
use tests::node::{BUSYBOX, NodePod, container_status};

use crate::shared;

#[tokio::test]
async fn a_pod_has_logs_and_runs_commands() {
    let (plane, _node) = shared().await;
    let namespace = plane.namespace("logs").await;
    let script = "echo started; exec sleep 600";
    let container = json!({ "name": "main", "image": BUSYBOX, "command": ["sh", "-c", script] });
    let pod = NodePod::create(&namespace, json!({ "containers": [container] })).await;
    pod.wait_until_ready().await;
    assert_eq!(pod.log("main").await, "started\n");
    assert_eq!(
        pod.run("main", &["hostname"]).await,
        format!("{}\n", pod.name())
    );
}

#[tokio::test]
async fn a_pod_reads_secret_projected_and_memory_volumes() {
    let (plane, _node) = shared().await;
    let namespace = plane.namespace("volumes").await;
    let secret =
        json!({ "metadata": { "name": "database" }, "stringData": { "password": "hunter2" } });
    let _: k8s_openapi::api::core::v1::Secret = namespace.create_object(secret).await;
    let token = json!({ "path": "token", "audience": "vault", "expirationSeconds": 600 });
    let name = json!({ "path": "name", "fieldRef": { "fieldPath": "metadata.name" } });
    let sources = json!([
        { "serviceAccountToken": token },
        { "secret": { "name": "database" } },
        { "downwardAPI": { "items": [name] } },
    ]);
    let volumes = json!([
        { "name": "secret", "secret": { "secretName": "database", "defaultMode": 0o400 } },
        { "name": "projected", "projected": { "sources": sources } },
        { "name": "memory", "emptyDir": { "medium": "Memory" } },
    ]);
    let mounts = json!([
        { "name": "secret", "mountPath": "/secret" },
        { "name": "projected", "mountPath": "/projected" },
        { "name": "memory", "mountPath": "/memory" },
    ]);
    let container = json!({ "name": "main", "image": BUSYBOX, "volumeMounts": mounts });
    let spec = json!({ "containers": [container], "volumes": volumes });
    let pod = NodePod::create(&namespace, spec).await;
    pod.wait_until_ready().await;
    let cat = async |path: &str| pod.run("main", &["cat", path]).await;
    assert_eq!(cat("/secret/password").await, "hunter2");
    assert_eq!(cat("/projected/password").await, "hunter2");
    assert_eq!(cat("/projected/name").await, pod.name());
    assert_eq!(cat("/projected/token").await.split('.').count(), 3);
    let mode = pod.run("main", &["stat", "-L", "-c", "%a", "/secret/password"]);
    assert_eq!(mode.await, "400\n");
    let mounted = cat("/proc/mounts").await;
    for directory in ["/secret", "/memory"] {
        let line = format!("tmpfs {directory} tmpfs ");
        assert!(
            mounted.contains(&line),
            "{directory} is in memory: {mounted}"
        );
    }
}

#[tokio::test]
async fn init_containers_end_first_and_sidecars_keep_running() {
    let (plane, _node) = shared().await;
    let namespace = plane.namespace("init").await;
    let mounts = json!([{ "name": "shared", "mountPath": "/shared" }]);
    let container = |name: &str, script: &str| json!({ "name": name, "image": BUSYBOX, "command": ["sh", "-c", script], "volumeMounts": mounts });
    let init = container("init", "echo -n prepared >/shared/init");
    let mut sidecar = container("sidecar", "cp /shared/init /shared/sidecar; exec sleep 600");
    sidecar["restartPolicy"] = json!("Always");
    let spec = json!({
        "initContainers": [init, sidecar],
        "containers": [container("main", "exec sleep 600")],
        "volumes": [{ "name": "shared", "emptyDir": {} }],
    });
    let pod = NodePod::create(&namespace, spec).await;
    let ready = pod.wait_until_ready().await;
    let state = |name| container_status(&ready, name).and_then(|status| status.state.clone());
    let exit_code = state("init")
        .and_then(|state| state.terminated)
        .map(|end| end.exit_code);
    assert_eq!(exit_code, Some(0));
    assert!(state("sidecar").is_some_and(|state| state.running.is_some()));
    assert_eq!(
        pod.run("main", &["cat", "/shared/sidecar"]).await,
        "prepared"
    );
}

/// The value is in no Secret: an init container writes it to a volume in memory.
#[tokio::test]
async fn a_container_takes_a_variable_from_a_file() {
    let (plane, _node) = shared().await;
    let namespace = plane.namespace("file-key").await;
    let init = json!({
        "name": "init",
        "image": BUSYBOX,
        "command": ["sh", "-c", "echo \"PASSWORD='hunter2'\" >/values/env"],
        "volumeMounts": [{ "name": "values", "mountPath": "/values" }],
    });
    let reference = json!({ "volumeName": "values", "path": "env", "key": "PASSWORD" });
    let main = json!({
        "name": "main",
        "image": BUSYBOX,
        "env": [{ "name": "PASSWORD", "valueFrom": { "fileKeyRef": reference } }],
    });
    let spec = json!({
        "initContainers": [init],
        "containers": [main],
        "volumes": [{ "name": "values", "emptyDir": { "medium": "Memory" } }],
    });
    let pod = NodePod::create(&namespace, spec).await;
    pod.wait_until_ready().await;
    let password = pod.run("main", &["sh", "-c", "echo $PASSWORD"]).await;
    assert_eq!(password, "hunter2\n");
}
