//! Tests when a container that is unaware of SealedSecrets sees new values.

use std::collections::BTreeMap;
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::cluster_controller::ClusterController;
use tests::control_plane::Namespace;
use tests::node::{BUSYBOX, NodePod, container_status};
use tests::patience::until;
use tests::roles::{self, Reach};
use tests::sealing::{KEYS, put_key, sealed_for};

use crate::shared;

#[tokio::test]
async fn a_container_sees_a_new_value_in_its_volume_and_after_a_restart_in_its_environment() {
    let (plane, _node) = shared().await;
    let namespace = plane.namespace("values").await;
    roles::grant(&namespace, Reach::Namespace).await;
    put_key(&namespace, "key-0", &KEYS[0]).await;
    let args = ["--key-renew-period=0"];
    let _controller = ClusterController::start(plane, &namespace, &args).await;
    apply(&namespace, "first").await;
    let pod = NodePod::create(&namespace, reader_pod_spec()).await;
    pod.wait_until_ready().await;
    assert_eq!(value_in_volume(&pod).await, "first");
    assert_eq!(value_in_environment(&pod).await, "first\n");

    apply(&namespace, "second").await;
    let start = Instant::now();
    touch(&namespace, &pod).await;
    until("the volume has the new value", async || {
        (value_in_volume(&pod).await == "second").then_some(())
    })
    .await;
    eprintln!("the volume had the new value after {:.1?}", start.elapsed());
    assert_eq!(
        value_in_environment(&pod).await,
        "first\n",
        "the environment of a running container does not change"
    );

    pod.run("main", &["touch", "/end"]).await;
    pod.wait_until("has restarted", |pod| {
        let status = container_status(pod, "main")?;
        (status.restart_count == 1 && status.ready).then_some(())
    })
    .await;
    assert_eq!(value_in_environment(&pod).await, "second\n");
}

/// Returns the specification of a Pod that reads the Secret `database` from a volume and from its environment. Its
/// container ends, and is restarted, when the file `/end` exists.
fn reader_pod_spec() -> Value {
    let script = "until [ -e /end ]; do sleep 0.1; done";
    let reference = json!({ "name": "database", "key": "password" });
    let container = json!({
        "name": "main",
        "image": BUSYBOX,
        "command": ["sh", "-c", script],
        "env": [{ "name": "PASSWORD", "valueFrom": { "secretKeyRef": reference } }],
        "volumeMounts": [{ "name": "database", "mountPath": "/database" }],
    });
    let volume = json!({ "name": "database", "secret": { "secretName": "database" } });
    json!({ "containers": [container], "volumes": [volume] })
}

/// Applies a SealedSecret with this password, and waits until its Secret has it.
async fn apply(namespace: &Namespace<'_>, password: &str) {
    let items = [("password", password)];
    let sealed = sealed_for(
        &KEYS[0],
        namespace.name(),
        "database",
        &items,
        Scope::Strict,
    );
    let patch = json!({
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": { "name": "database" },
        "spec": sealed.spec,
    });
    let sealed: Api<SealedSecret> = namespace.api();
    let apply = PatchParams::apply("user").force();
    let result = sealed.patch("database", &apply, &Patch::Apply(patch)).await;
    result.expect("the API server accepts the object");
    until("the Secret has the password", async || {
        let secrets: Api<k8s_openapi::api::core::v1::Secret> = namespace.api();
        let data: BTreeMap<_, _> = secrets.get_opt("database").await.ok()??.data?;
        (data.get("password")?.0 == password.as_bytes()).then_some(())
    })
    .await;
}

/// Changes an annotation of the Pod: the kubelet then updates the Pod's volumes immediately, instead of within a minute
/// or two.
async fn touch(namespace: &Namespace<'_>, pod: &NodePod) {
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { "touched": "1" } } }));
    let pods: Api<Pod> = namespace.api();
    let params = PatchParams::default();
    let result = pods.patch(pod.name(), &params, &patch).await;
    result.expect("the Pod exists");
}

async fn value_in_volume(pod: &NodePod) -> String {
    pod.run("main", &["cat", "/database/password"]).await
}

async fn value_in_environment(pod: &NodePod) -> String {
    pod.run("main", &["sh", "-c", "echo $PASSWORD"]).await
}
