//! Tests that `seal restart` needs each permission that the chart grants its account.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tests::control_plane::{ControlPlane, Namespace};
use tests::patience::until;
use tests::restarter::{Restarter, VersionedSecret};

use super::helm::Helm;
use super::permissions::permissions_of_role;
use super::render::RenderedChart;
use super::restart::{ACCOUNT, RELEASE, create_running_pod, install, opt_in, reader_pod_spec};

/// The kinds of workload, with their versions.
const WORKLOADS: [(&str, &str); 4] = [
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("argoproj.io/v1alpha1", "Rollout"),
];
/// Minimum time between two changes to the value, longer than the `restart-window` of the workloads.
const CHANGE_INTERVAL: Duration = Duration::from_secs(4);

/// Attack: an attacker takes over the account of `seal restart`, and uses a permission that it never needs.
#[tokio::test]
async fn the_restarter_needs_each_of_its_permissions() {
    let plane = ControlPlane::start().await;
    plane.install(&rollouts()).await;
    let permissions = granted();
    assert!(permissions.len() > 20, "{permissions:?}");
    for (resource, verb) in &permissions {
        eprintln!("without {verb} on {resource}");
        let home = install(&plane).await;
        revoke(&plane, &home, resource, verb).await;
        assert_is_denied(&plane, &home, resource, verb).await;
        let helm = Helm::for_cluster(plane.kubeconfig());
        helm.run(&["uninstall", RELEASE, "--namespace", home.name()]);
    }
}

/// Returns each resource and verb that the chart grants `seal restart`.
fn granted() -> BTreeSet<(String, String)> {
    let chart = RenderedChart::new("{restart: {enabled: true}}");
    let roles = chart.objects().iter().filter(|object| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let is_role = ["Role", "ClusterRole"].contains(&object["kind"].as_str().unwrap());
        is_role && name.contains("-restart")
    });
    let permission = |permission: String| {
        let mut parts = permission.split(' ').skip(1).map(str::to_owned);
        (parts.next().unwrap(), parts.next().unwrap())
    };
    roles
        .flat_map(permissions_of_role)
        .map(permission)
        .collect()
}

/// Runs `seal restart` with an account that lacks this permission, and changes a value repeatedly, until the log shows
/// that the API server denied the request.
async fn assert_is_denied(plane: &ControlPlane, home: &Namespace<'_>, resource: &str, verb: &str) {
    let annotations = json!({ "sealedsecrets.bitnami.com/refresh": "true" });
    let mut database = VersionedSecret::create(home, "database", annotations, "0").await;
    for (api_version, kind) in WORKLOADS {
        create_workload(home, api_version, kind).await;
    }
    let kubeconfig = plane.kubeconfig_of(home.name(), ACCOUNT).await;
    let restarter = Restarter::start_for_all_namespaces(&kubeconfig, home.name()).await;
    let denial = format!("cannot {verb} resource \"{resource}\"");
    let mut count = 0;
    let mut changed_at = Instant::now();
    until(&format!("the log contains {denial}"), async || {
        if changed_at.elapsed() > CHANGE_INTERVAL {
            count += 1;
            database.set(&count.to_string()).await;
            changed_at = Instant::now();
        }
        let log = restarter.log().replace('\\', "");
        log.contains(&denial).then_some(())
    })
    .await;
}

/// Creates a workload that opts in, whose rollout is complete, and its Pod.
async fn create_workload(home: &Namespace<'_>, api_version: &str, kind: &str) {
    let name = kind.to_lowercase();
    let labels = json!({ "app": name });
    let mut spec = json!({
        "selector": { "matchLabels": labels },
        "template": { "metadata": { "labels": labels }, "spec": reader_pod_spec() },
    });
    if kind != "DaemonSet" {
        spec["replicas"] = json!(1);
    }
    if kind == "StatefulSet" {
        spec["serviceName"] = json!("none");
    }
    let status = status(kind);
    let object = json!({
        "apiVersion": api_version, "kind": kind, "spec": spec, "status": status,
        "metadata": { "name": name, "annotations": opt_in() },
    });
    let (group, version) = api_version.split_once('/').unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api = Api::<DynamicObject>::namespaced_with(home.client(), home.name(), &resource);
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
    if group == "apps" {
        let patch = Patch::Merge(json!({ "status": status }));
        let params = PatchParams::default();
        let written = api.patch_status(&name, &params, &patch).await;
        written.unwrap();
    }
    create_running_pod(home, &format!("{name}-1"), &labels).await;
}

/// Returns the status of a complete rollout of one Pod.
fn status(kind: &str) -> Value {
    match kind {
        "DaemonSet" => json!({
            "observedGeneration": 1, "desiredNumberScheduled": 1, "currentNumberScheduled": 1, "numberMisscheduled": 0,
            "numberReady": 1, "updatedNumberScheduled": 1, "numberAvailable": 1,
        }),
        "Rollout" => {
            json!({ "observedGeneration": "1", "updatedReplicas": 1, "availableReplicas": 1 })
        }
        _ => json!({
            "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
        }),
    }
}

/// Removes a verb from the rules for a resource, in every Role of the release and in the `ClusterRole` of `seal
/// restart`.
async fn revoke(plane: &ControlPlane, home: &Namespace<'_>, resource: &str, verb: &str) {
    let roles: Api<Role> = home.api();
    for mut role in roles.list(&ListParams::default()).await.unwrap() {
        remove_verb(&mut role.rules, resource, verb);
        let name = role.name_any();
        let replaced = roles.replace(&name, &PostParams::default(), &role).await;
        replaced.unwrap();
    }
    let roles: Api<ClusterRole> = Api::all(plane.admin());
    let mut role = roles.get(ACCOUNT).await.unwrap();
    remove_verb(&mut role.rules, resource, verb);
    let replaced = roles.replace(ACCOUNT, &PostParams::default(), &role).await;
    replaced.unwrap();
}

fn remove_verb(rules: &mut Option<Vec<PolicyRule>>, resource: &str, verb: &str) {
    for rule in rules.iter_mut().flatten() {
        if rule.resources.iter().flatten().any(|name| name == resource) {
            rule.verbs.retain(|name| name != verb);
        }
    }
    // The API server rejects a rule without verbs.
    if let Some(rules) = rules {
        rules.retain(|rule| !rule.verbs.is_empty());
    }
}

/// Returns a definition of Argo's Rollouts that accepts any fields.
fn rollouts() -> CustomResourceDefinition {
    let schema = json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
    let version = json!({ "name": "v1alpha1", "served": true, "storage": true, "schema": schema });
    let definition = json!({
        "metadata": { "name": "rollouts.argoproj.io" },
        "spec": {
            "group": "argoproj.io",
            "scope": "Namespaced",
            "names": { "kind": "Rollout", "plural": "rollouts", "singular": "rollout", "listKind": "RolloutList" },
            "versions": [version],
        },
    });
    serde_json::from_value(definition).expect("a definition")
}
