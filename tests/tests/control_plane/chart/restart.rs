//! Tests `seal restart` with the account and the policies of the chart. There is no node: the tests write the statuses
//! that the kubelet and the controllers of workloads would report.

use std::fmt::Debug;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Pod, ServiceAccount};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tests::control_plane::{ControlPlane, Namespace};
use tests::http;
use tests::patience::until;
use tests::restarter::{Restarter, VersionedSecret};

use super::helm::{Helm, chart};

pub(super) const RELEASE: &str = "sealed-secrets";
pub(super) const ACCOUNT: &str = "sealed-secrets-restart";
const RESTARTED_FOR: &str = "sealedsecrets.bitnami.com/restarted-for";
const REFRESHED_FOR: &str = "sealedsecrets.bitnami.com/refreshed-for";
/// A digest in the format in which `seal restart` writes it into an annotation.
const DIGEST: &str = "00112233445566778899aabbccddeeff";
const VERSION: &str = "AAAAAAAAAAAAAAAAAAAA-_";

#[tokio::test]
async fn restarts_and_refreshes_with_the_permissions_of_the_chart() {
    let plane = ControlPlane::start().await;
    let home = install(&plane).await;
    let annotations = json!({ "sealedsecrets.bitnami.com/refresh": "true" });
    let mut database = VersionedSecret::create(&home, "database", annotations, "first").await;
    create_workload(&home).await;
    let kubeconfig = plane.kubeconfig_of(home.name(), ACCOUNT).await;
    let mut restarter = Restarter::start(&kubeconfig, home.name(), &[]).await;
    restarter.wait_until_synced().await;
    database.set("second").await;
    until("the Pod was refreshed", async || {
        let pod = home.api::<Pod>().get("web-1").await.ok()?;
        (pod.metadata.annotations?.get(REFRESHED_FOR)? == &database.version()).then_some(())
    })
    .await;
    until("the workload was restarted", async || {
        restarted_for(&home).await
    })
    .await;
    until("the event was written", async || {
        let events = home
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .ok()?
            .items;
        let mut reasons = events.iter().filter_map(|event| event.reason.as_deref());
        reasons.any(|reason| reason == "Restarted").then_some(())
    })
    .await;
    let metrics = http::get(restarter.port(), "/metrics").await.unwrap();
    for line in [
        "sealed_secrets_restart_restarts_total 1",
        "sealed_secrets_restart_refreshes_total 1",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    let log = restarter.log();
    assert!(!log.contains("forbidden"), "{log}");
    assert_eq!(restarter.stop(), Some(0));
}

#[tokio::test]
async fn a_restart_that_another_client_reverts_is_repeated_once_and_reported() {
    let plane = ControlPlane::start().await;
    let home = install(&plane).await;
    let mut database = VersionedSecret::create(&home, "database", json!({}), "first").await;
    create_workload(&home).await;
    let kubeconfig = plane.kubeconfig_of(home.name(), ACCOUNT).await;
    let restarter = Restarter::start(&kubeconfig, home.name(), &[]).await;
    database.set("second").await;
    let mut restarts = Vec::new();
    for _ in 0..2 {
        restarts.push(until("it is restarted", async || restarted_for(&home).await).await);
        let annotations = json!({ RESTARTED_FOR: null });
        let patch =
            json!({ "spec": { "template": { "metadata": { "annotations": annotations } } } });
        let (deployments, params) = (home.api::<Deployment>(), PatchParams::default());
        let result = deployments
            .patch("web", &params, &Patch::Merge(patch))
            .await;
        result.unwrap();
        report_rollout(&home).await;
    }
    assert_eq!(restarts[0], restarts[1], "the same content");
    until("the event was written", async || {
        let events = home
            .api::<Event>()
            .list(&ListParams::default())
            .await
            .ok()?
            .items;
        let mut reasons = events.iter().filter_map(|event| event.reason.as_deref());
        reasons
            .any(|reason| reason == "RestartReverted")
            .then_some(())
    })
    .await;
    assert_eq!(restarted_for(&home).await, None);
    let metrics = http::get(restarter.port(), "/metrics").await.unwrap();
    assert!(
        metrics.contains("sealed_secrets_restart_reverted_total 1"),
        "{metrics}"
    );
}

/// Attack: an attacker takes over the account of `seal restart`, and changes a Pod template to run a program with the
/// Secrets of the workload.
#[tokio::test]
async fn the_policies_refuse_every_other_change_by_the_account() {
    let plane = ControlPlane::start().await;
    let home = install(&plane).await;
    create_workload(&home).await;
    let attacker = plane.client_of(home.name(), ACCOUNT).await;
    let image = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "main", "image": "evil" }] } } } });
    wait_for_policies(&attacker, &home).await;
    let in_template = |metadata: Value| json!({ "spec": { "template": { "metadata": metadata } } });
    let versions = |count| vec![VERSION; count].join(",");
    for patch in [
        image.clone(),
        json!({ "spec": { "template": { "spec": { "serviceAccountName": "admin" } } } }),
        json!({ "spec": { "template": {
            "metadata": { "annotations": { RESTARTED_FOR: DIGEST } },
            "spec": { "containers": [{ "name": "main", "image": "evil" }] },
        } } }),
        json!({ "spec": { "replicas": 0 } }),
        json!({ "spec": { "paused": true } }),
        json!({ "spec": { "strategy": { "type": "Recreate", "rollingUpdate": null } } }),
        json!({ "metadata": { "annotations": { RESTARTED_FOR: DIGEST } } }),
        json!({ "metadata": { "annotations": { "deprecated.daemonset.template.generation": "7" } } }),
        json!({ "metadata": { "managedFields": [{}] } }),
        json!({ "metadata": { "annotations": { "reloader.stakater.com/auto": null } } }),
        json!({ "metadata": { "labels": { "a": "b" } } }),
        json!({ "metadata": { "finalizers": ["a.example/b"] } }),
        json!({ "metadata": { "ownerReferences": [
            { "apiVersion": "v1", "kind": "Pod", "name": "web-1", "uid": "0" },
        ] } }),
        in_template(json!({ "annotations": { "a": "b" } })),
        in_template(json!({ "annotations": { "kept": null } })),
        in_template(json!({ "annotations": { "kept": "changed" } })),
        in_template(json!({ "labels": { "a": "b" } })),
        in_template(json!({ "annotations": { RESTARTED_FOR: "x".repeat(250_000) } })),
        in_template(json!({ "annotations": { RESTARTED_FOR: format!("{DIGEST}\n") } })),
    ] {
        let refusal = change::<Deployment>(&attacker, &home, "web", &patch)
            .await
            .unwrap_err();
        assert!(refusal.contains("seal restart may"), "{patch}: {refusal}");
    }
    for patch in [
        json!({ "spec": { "containers": [{ "name": "main", "image": "evil" }] } }),
        json!({ "spec": { "activeDeadlineSeconds": 1 } }),
        json!({ "metadata": { "labels": { "app": null } } }),
        json!({ "metadata": { "annotations": { "a": "b" } } }),
        json!({ "metadata": { "annotations": { REFRESHED_FOR: "x".repeat(250_000) } } }),
        json!({ "metadata": { "annotations": { REFRESHED_FOR: versions(17) } } }),
        json!({ "metadata": { "annotations": { REFRESHED_FOR: format!("{VERSION},") } } }),
        json!({ "metadata": { "managedFields": [{}] } }),
    ] {
        let patched = change_pod(&attacker, &home, "web-1", &patch).await;
        let refusal = patched.unwrap_err();
        assert!(refusal.contains("seal restart may"), "{patch}: {refusal}");
    }
    let annotation = in_template(json!({ "annotations": { RESTARTED_FOR: DIGEST } }));
    change::<Deployment>(&attacker, &home, "web", &annotation)
        .await
        .unwrap();
    for count in [1, 16] {
        let annotation =
            json!({ "metadata": { "annotations": { REFRESHED_FOR: versions(count) } } });
        change::<Pod>(&attacker, &home, "web-1", &annotation)
            .await
            .unwrap();
    }
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(attacker, home.name());
    assert!(
        secrets.list(&ListParams::default()).await.is_err(),
        "no Secret can be read"
    );
}

/// Attack: an attacker takes over the account of `seal restart`, and creates the Lease of the controller first, so that
/// no replica becomes the leader.
#[tokio::test]
async fn the_account_can_create_only_its_own_lease() {
    let plane = ControlPlane::start().await;
    let home = install(&plane).await;
    let attacker = plane.client_of(home.name(), ACCOUNT).await;
    let leases: Api<Lease> = Api::namespaced(attacker, home.name());
    let create = async |metadata: Value| {
        let lease = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
        let result = leases.create(&PostParams::default(), &lease).await;
        result.map_err(|error| error.to_string())
    };
    let mut number = 0;
    until("the policies take effect", async || {
        number += 1;
        let name = format!("other-{number}");
        let refusal = create(json!({ "name": name })).await.err()?;
        refusal.contains("ValidatingAdmissionPolicy").then_some(())
    })
    .await;
    for metadata in [
        json!({ "name": "sealed-secrets-controller" }),
        json!({ "generateName": "sealed-secrets-restart" }),
    ] {
        let refusal = create(metadata.clone()).await.unwrap_err();
        assert!(
            refusal.contains("seal restart may"),
            "{metadata}: {refusal}"
        );
    }
    create(json!({ "name": "sealed-secrets-restart" }))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_policies_allow_restarts_of_every_workload_kind() {
    let plane = ControlPlane::start().await;
    let home = install(&plane).await;
    create_workload(&home).await;
    let labels = json!({ "app": "web" });
    let container = json!({ "name": "main", "image": "app" });
    let template =
        json!({ "metadata": { "labels": labels }, "spec": { "containers": [container] } });
    let object = json!({
        "metadata": { "name": "web" },
        "spec": { "selector": { "matchLabels": labels }, "serviceName": "web", "template": template },
    });
    let _: StatefulSet = home.create_object(object.clone()).await;
    let mut object = object;
    object["spec"]["serviceName"].take();
    let _: DaemonSet = home.create_object(object).await;
    let account = plane.client_of(home.name(), ACCOUNT).await;
    wait_for_policies(&account, &home).await;
    // At the second restart, the account already manages the fields.
    for digit in ["1", "2"] {
        let annotations = json!({ RESTARTED_FOR: digit.repeat(32) });
        let restart =
            json!({ "spec": { "template": { "metadata": { "annotations": annotations } } } });
        change::<Deployment>(&account, &home, "web", &restart)
            .await
            .unwrap();
        change::<StatefulSet>(&account, &home, "web", &restart)
            .await
            .unwrap();
        change::<DaemonSet>(&account, &home, "web", &restart)
            .await
            .unwrap();
    }
    let other = json!({ "metadata": { "annotations": { "a": "b" } } });
    let refusal = change::<DaemonSet>(&account, &home, "web", &other).await;
    assert!(refusal.unwrap_err().contains("seal restart may"));
}

/// Another client has set the annotation before, and is its field manager.
#[tokio::test]
async fn the_policies_allow_changes_of_an_annotation_that_another_client_manages() {
    let plane = ControlPlane::start().await;
    let home = install(&plane).await;
    create_workload(&home).await;
    let restart = |digit: &str| {
        let annotations = json!({ RESTARTED_FOR: digit.repeat(32) });
        json!({ "spec": { "template": { "metadata": { "annotations": annotations } } } })
    };
    let (deployments, params) = (home.api::<Deployment>(), PatchParams::default());
    let patch = Patch::Merge(restart("1"));
    deployments.patch("web", &params, &patch).await.unwrap();
    let account = plane.client_of(home.name(), ACCOUNT).await;
    wait_for_policies(&account, &home).await;
    change::<Deployment>(&account, &home, "web", &restart("2"))
        .await
        .unwrap();
}

/// Waits until the policies for workloads and Pods refuse changes. Each attempt makes a different change, because the
/// repetition of an admitted change would have no effect.
async fn wait_for_policies(account: &Client, home: &Namespace<'_>) {
    let mut number = 0;
    until("the policies take effect", async || {
        number += 1;
        let label = json!({ "metadata": { "labels": { "attempt": number.to_string() } } });
        let workload = change::<Deployment>(account, home, "web", &label).await;
        let pod = change::<Pod>(account, home, "web-1", &label).await;
        let mut refusals = [workload.err()?, pod.err()?].into_iter();
        refusals
            .all(|refusal| refusal.contains("ValidatingAdmissionPolicy"))
            .then_some(())
    })
    .await;
}

/// Changes an object with a merge patch. Returns the API server's message if it refuses the patch.
async fn change<K>(
    client: &Client,
    namespace: &Namespace<'_>,
    name: &str,
    patch: &Value,
) -> Result<(), String>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType: Default>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace.name());
    let result = api.patch(name, &own_params(), &Patch::Merge(patch)).await;
    result.map(|_| ()).map_err(|error| error.to_string())
}

/// Changes a Pod with a strategic merge patch, which merges containers by their names.
async fn change_pod(
    client: &Client,
    namespace: &Namespace<'_>,
    name: &str,
    patch: &Value,
) -> Result<(), String> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace.name());
    let result = api
        .patch(name, &own_params(), &Patch::Strategic(patch))
        .await;
    result.map(|_| ()).map_err(|error| error.to_string())
}

/// Returns parameters with the field manager of `seal restart`.
fn own_params() -> PatchParams {
    PatchParams {
        field_manager: Some("seal-restart".into()),
        ..PatchParams::default()
    }
}

/// Installs the chart with `restart`, and returns the namespace of the release.
pub(super) async fn install(plane: &ControlPlane) -> Namespace<'_> {
    let home = plane.namespace("restart").await;
    let helm = Helm::for_cluster(plane.kubeconfig());
    let values = helm.write_values("{restart: {enabled: true}, crds: {install: false}}");
    helm.run(&[
        "install",
        RELEASE,
        &chart(),
        "--namespace",
        home.name(),
        "-f",
        &values,
    ]);
    until("the account exists", async || {
        let accounts: Api<ServiceAccount> = home.api();
        accounts.get("default").await.ok()
    })
    .await;
    home
}

/// Creates a Deployment that opts in, and a Pod of it. Their statuses report a complete rollout, and a container that
/// has been running for a minute.
async fn create_workload(namespace: &Namespace<'_>) {
    let (labels, spec) = (json!({ "app": "web" }), reader_pod_spec());
    let template =
        json!({ "metadata": { "labels": labels, "annotations": { "kept": "1" } }, "spec": spec });
    let deployment = json!({
        "metadata": { "name": "web", "annotations": opt_in() },
        "spec": { "replicas": 1, "selector": { "matchLabels": labels }, "template": template },
    });
    let _: Deployment = namespace.create_object(deployment).await;
    create_running_pod(namespace, "web-1", &labels).await;
    report_rollout(namespace).await;
}

/// Returns the annotations of a workload that opts in, with a restart window of one second.
pub(super) fn opt_in() -> Value {
    json!({ "reloader.stakater.com/auto": "true", "sealedsecrets.bitnami.com/restart-window": "1s" })
}

/// Returns the specification of a Pod that consumes the Secret `database` as environment variables and as a volume.
pub(super) fn reader_pod_spec() -> Value {
    let container = json!({
        "name": "main",
        "image": "app",
        "envFrom": [{ "secretRef": { "name": "database" } }],
        "volumeMounts": [{ "name": "database", "mountPath": "/database" }],
    });
    let volume = json!({ "name": "database", "secret": { "secretName": "database" } });
    json!({ "automountServiceAccountToken": false, "containers": [container], "volumes": [volume] })
}

/// Creates a Pod with [`reader_pod_spec`], and reports in its status that it has been running for a minute.
pub(super) async fn create_running_pod(namespace: &Namespace<'_>, name: &str, labels: &Value) {
    let pod = json!({ "metadata": { "name": name, "labels": labels }, "spec": reader_pod_spec() });
    let _: Pod = namespace.create_object(pod).await;
    let minute = SignedDuration::from_mins(1);
    let start = Timestamp::now()
        .checked_sub(minute)
        .unwrap()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let status = json!({ "status": { "phase": "Running", "containerStatuses": [{
        "name": "main", "image": "app", "imageID": "", "ready": true, "restartCount": 0,
        "state": { "running": { "startedAt": start } },
    }] } });
    let (pods, params) = (namespace.api::<Pod>(), PatchParams::default());
    let result = pods
        .patch_status(name, &params, &Patch::Merge(status))
        .await;
    result.unwrap();
}

/// Reports that the rollout of the Deployment is complete.
async fn report_rollout(namespace: &Namespace<'_>) {
    let deployments: Api<Deployment> = namespace.api();
    let generation = deployments.get("web").await.unwrap().metadata.generation;
    let status = json!({ "status": {
        "observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
    } });
    let params = PatchParams::default();
    let result = deployments
        .patch_status("web", &params, &Patch::Merge(status))
        .await;
    result.unwrap();
}

async fn restarted_for(namespace: &Namespace<'_>) -> Option<String> {
    let deployment = namespace.api::<Deployment>().get("web").await.ok()?;
    let annotations = deployment.spec?.template.metadata?.annotations?;
    annotations.get(RESTARTED_FOR).cloned()
}
