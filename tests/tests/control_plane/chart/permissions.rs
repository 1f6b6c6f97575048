//! Tests that the table in `deploy/docs/permissions.md` matches the chart, and that each permission is needed.

use std::collections::BTreeSet;
use std::fs;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use shared::resource::{KEEP_PREVIOUS_ANNOTATION, SealedSecret};
use shared::scope::Scope;
use tests::control_plane::{ControlPlane, Namespace};
use tests::deployed::{DeployedController, Program::Ours};
use tests::http::free_port;
use tests::lifecycle::User;
use tests::patience::until;
use tests::sealing::{KEYS, put_key, sealed_for};

use super::helm::{Helm, chart};
use super::manifests::deploy;
use super::render::RenderedChart;

const NAME: &str = "sealed-secrets";

const ALL_FEATURES: &str = "{oldGCBehavior: true, certificateConfigMap: {enabled: true}, previousValues: {watchPods: true}, restart: {enabled: true}}";

/// Attack: an attacker takes over the account of the controller, or of a user who seals, and uses every permission that
/// the chart grants it.
#[test]
fn the_documented_permissions_equal_those_of_the_chart() {
    let granted: BTreeSet<String> = RenderedChart::new(ALL_FEATURES)
        .objects()
        .iter()
        .filter(|object| ["Role", "ClusterRole"].contains(&object["kind"].as_str().unwrap()))
        .flat_map(permissions_of_role)
        .collect();
    assert_eq!(documented_permissions(), granted);
    let needed = NEEDED_VERBS
        .iter()
        .map(|(resource, verb)| format!("{resource} {verb}"));
    assert_eq!(
        needed.collect::<BTreeSet<_>>(),
        controller_permissions(&granted),
        "each verb of the controller is revoked once"
    );

    let namespaced = RenderedChart::new(
        "{oldGCBehavior: true, certificateConfigMap: {enabled: true}, previousValues: {watchPods: true}, \
         restart: {enabled: true}, rbac: {clusterRole: false, namespacedRoles: true}}",
    );
    let granted_in_namespaces: BTreeSet<String> = namespaced
        .objects()
        .iter()
        .filter(|object| object["kind"] == "Role")
        .flat_map(permissions_of_role)
        .collect();
    // A role in a namespace cannot grant the permission to list namespaces.
    let is_for_cluster = |permission: &&String| permission.starts_with("restart namespaces ");
    let granted_for_cluster = granted.iter().filter(is_for_cluster).cloned().collect();
    assert_eq!(
        granted_in_namespaces,
        &granted - &granted_for_cluster,
        "the same permissions in another namespace"
    );
}

/// Returns `resource verb` for the controller's own permissions.
fn controller_permissions(granted: &BTreeSet<String>) -> BTreeSet<String> {
    let permission = |row: &String| {
        let (role, permission) = row.split_once(' ')?;
        let is_of_others = [
            "certificate-reader",
            "service-proxier",
            "restart",
            "restart-leader",
        ]
        .contains(&role);
        (!is_of_others).then(|| permission.to_owned())
    };
    granted.iter().filter_map(permission).collect()
}

/// Verbs that the controller needs with [`ALL_FEATURES`].
const NEEDED_VERBS: &[(&str, &str)] = &[
    ("sealedsecrets", "list"),
    ("sealedsecrets", "watch"),
    ("sealedsecrets", "get"),
    ("sealedsecrets/status", "update"),
    ("secrets", "get"),
    ("secrets", "create"),
    ("secrets", "update"),
    ("secrets", "list"),
    ("secrets", "watch"),
    ("secrets", "delete"),
    ("events", "create"),
    ("events", "patch"),
    ("pods", "list"),
    ("leases", "get"),
    ("leases", "create"),
    ("leases", "update"),
    ("configmaps", "get"),
    ("configmaps", "create"),
    ("configmaps", "update"),
];

/// Attack: an attacker takes over the controller's account and uses a permission that the controller never needs.
#[tokio::test]
async fn the_controller_needs_each_of_its_permissions() {
    let plane = ControlPlane::start().await;
    let helm = Helm::for_cluster(plane.kubeconfig());
    let values = "{rbac: {clusterRole: false, namespacedRoles: true}, oldGCBehavior: true, \
                  certificateConfigMap: {enabled: true}, previousValues: {watchPods: true}, logLevel: DEBUG}";
    let (values, chart) = (helm.write_values(values), chart());
    for (resource, verb) in NEEDED_VERBS {
        eprintln!("without {verb} on {resource}");
        let namespace = plane.namespace("without").await;
        let home = namespace.name().to_owned();
        helm.run(&["install", NAME, &chart, "--namespace", &home, "-f", &values]);
        revoke(&namespace, resource, verb).await;
        put_key(&namespace, "key-0", &KEYS[0]).await;
        if (*resource, *verb) == ("configmaps", "update") {
            create_invalid_certificate(&namespace).await;
        }
        let controller = DeployedController::start_without_waiting(&plane, &home, NAME, Ours).await;
        let denial = format!("cannot {verb} resource \"{resource}\"");
        let mut count = 0;
        until(
            &format!("the log contains {denial}\n{}", controller.log()),
            async || {
                count += 1;
                trigger_all_work(&namespace, count).await;
                controller
                    .log()
                    .replace('\\', "")
                    .contains(&denial)
                    .then_some(())
            },
        )
        .await;
        controller.stop();
        helm.run(&["uninstall", NAME, "--namespace", &home]);
    }
}

/// Attack: a user who seals misuses a permission that their role grants and sealing does not need.
#[tokio::test]
async fn sealing_needs_each_permission_of_its_role() {
    let plane = ControlPlane::start().await;
    let helm = Helm::for_cluster(plane.kubeconfig());
    let namespace = plane.namespace("callers").await;
    let home = namespace.name().to_owned();
    let chart = chart();
    let permissions = ["--set", "rbac.clusterRole=false,rbac.namespacedRoles=true"];
    let args = ["upgrade", "--install", NAME, &chart, "--namespace", &home];
    helm.run(&[&args[..], &permissions].concat());
    let controller = DeployedController::start(&plane, &home, NAME, Ours).await;
    let user = User::in_namespace(&plane, plane.existing(&home), &home, NAME).await;
    let sealed = user.apply("a", "1").await;
    user.wait_for_value("a", "1", &controller.log()).await;
    for (resource, verb, args) in [
        ("services", "get", ["--fetch-cert"]),
        ("services/proxy", "get", ["--fetch-cert"]),
        ("services/proxy", "create", ["--validate"]),
    ] {
        user.kubeseal(&args, &sealed).unwrap();
        revoke(&namespace, resource, verb).await;
        until(
            &format!("{args:?} fails without {verb} on {resource}"),
            async || user.kubeseal(&args, &sealed).is_err().then_some(()),
        )
        .await;
        restore_rules(&namespace, "service-proxier").await;
        until("the permission is restored", async || {
            user.kubeseal(&args, &sealed).ok()
        })
        .await;
    }
}

/// Attack: an authenticated user who may seal uses this permission to unseal values, or to read
/// keys, Secrets, metrics or other objects.
#[tokio::test]
async fn users_who_seal_reach_only_the_sealing_endpoints() {
    let plane = ControlPlane::start().await;
    let helm = Helm::for_cluster(plane.kubeconfig());
    let namespace = plane.namespace("signed-in").await;
    let home = namespace.name().to_owned();
    let chart = chart();
    let port = free_port();
    let values = helm.write_values(&format!("{{authorizedEndpoints: {{enabled: true, port: {port}}}, certificateConfigMap: {{enabled: true}}}}"));
    helm.run(&["install", NAME, &chart, "--namespace", &home, "-f", &values]);
    let controller = DeployedController::start(&plane, &home, NAME, Ours).await;
    let user = User::in_namespace(&plane, plane.existing(&home), &home, NAME).await;
    user.apply("a", "1").await;
    user.wait_for_value("a", "1", &controller.log()).await;
    let client = plane.client_of(&home, "user").await;
    let core = format!("/api/v1/namespaces/{home}");
    for path in [
        "/api/v1/secrets".to_owned(),
        format!("{core}/secrets"),
        format!("{core}/secrets/a"),
        format!("{core}/secrets/sealed-secrets-key-first"),
        format!("{core}/services/http:{NAME}-metrics:metrics/proxy/metrics"),
        format!("{core}/services/{NAME}-metrics:8081/proxy/metrics"),
        format!("{core}/services/https:{NAME}:authorized/proxy/v1/unseal"),
        format!("{core}/services/http:{NAME}:authorized/proxy/v1/unseal"),
        format!("{core}/pods"),
        format!("{core}/configmaps"),
        format!("/apis/coordination.k8s.io/v1/namespaces/{home}/leases"),
        format!("/apis/bitnami.com/v1alpha1/namespaces/{home}/sealedsecrets"),
    ] {
        let request = http::Request::get(&path).body(Vec::new()).unwrap();
        let response = client.request_text(request).await;
        let is_forbidden = matches!(&response, Err(kube::Error::Api(status)) if status.code == 403);
        assert!(is_forbidden, "{path}: {response:?}");
    }
}

#[tokio::test]
async fn reading_the_config_map_is_sufficient_to_fetch_the_certificate() {
    let plane = ControlPlane::start().await;
    let helm = Helm::for_cluster(plane.kubeconfig());
    let namespace = plane.namespace("readers").await;
    let home = namespace.name().to_owned();
    let chart = chart();
    let args = ["install", NAME, &chart, "--namespace", &home];
    let values =
        "rbac.clusterRole=false,rbac.namespacedRoles=true,certificateConfigMap.enabled=true";
    helm.run(&[&args[..], &["--set", values]].concat());
    let controller = DeployedController::start(&plane, &home, NAME, Ours).await;
    let user = User::in_namespace(&plane, plane.existing(&home), &home, NAME).await;
    // Sealing fetches the certificate through the proxy and caches it.
    user.seal("a", "1").await;
    let fetch = || user.kubeseal(&["--fetch-cert"], &Value::Null);
    revoke(&namespace, "services/proxy", "get").await;
    revoke(&namespace, "configmaps", "get").await;
    until(
        "both ways to fetch the certificate are denied",
        async || fetch().err(),
    )
    .await;
    restore_rules(&namespace, "certificate-reader").await;
    let goal = format!("the published certificate is read\n{}", controller.log());
    until(&goal, async || fetch().ok()).await;
}

/// Creates a ConfigMap with an invalid certificate under the name at which the controller publishes its certificate.
async fn create_invalid_certificate(namespace: &Namespace<'_>) {
    let metadata = json!({ "name": format!("{NAME}-certificate") });
    let object = json!({ "metadata": metadata, "data": { "cert.pem": "old" } });
    let _: ConfigMap = namespace.create_object(object).await;
}

/// Creates, changes and deletes objects. Calls with increasing counts trigger every kind of work of the controller.
async fn trigger_all_work(namespace: &Namespace<'_>, count: u32) {
    let api: Api<SealedSecret> = namespace.api();
    let apply = PatchParams::apply("test").force();
    let value = format!("{}", count / 8);
    for (name, key) in [("good", &KEYS[0]), ("bad", &KEYS[1])] {
        let mut sealed = sealed_for(key, namespace.name(), name, &[("a", &value)], Scope::Strict);
        let labels = [("count".to_owned(), count.to_string())].into();
        sealed.metadata.labels = Some(labels);
        let keep = (KEEP_PREVIOUS_ANNOTATION.to_owned(), "a".to_owned());
        sealed.annotations_mut().extend([keep]);
        api.patch(name, &apply, &Patch::Apply(sealed.to_document()))
            .await
            .unwrap();
    }
    if count % 16 == 1 {
        let temporary = format!("temporary-{count}");
        let sealed = sealed_for(
            &KEYS[0],
            namespace.name(),
            &temporary,
            &[("a", "1")],
            Scope::Strict,
        );
        api.create(&PostParams::default(), &sealed).await.unwrap();
    }
    if count.is_multiple_of(16) {
        for object in api.list(&ListParams::default()).await.unwrap() {
            if object.name_any().starts_with("temporary-") {
                let _ = api
                    .delete(&object.name_any(), &DeleteParams::default())
                    .await;
            }
        }
    }
}

async fn revoke(namespace: &Namespace<'_>, resource: &str, verb: &str) {
    let roles: Api<Role> = namespace.api();
    for mut role in roles.list(&ListParams::default()).await.unwrap() {
        for rule in role.rules.iter_mut().flatten() {
            if rule.resources.iter().flatten().any(|name| name == resource) {
                rule.verbs.retain(|name| name != verb);
            }
        }
        // The API server rejects a rule without verbs.
        if let Some(rules) = &mut role.rules {
            rules.retain(|rule| !rule.verbs.is_empty());
        }
        let name = role.name_any();
        roles
            .replace(&name, &PostParams::default(), &role)
            .await
            .unwrap();
    }
}

/// Restores the rules of a role, because Helm does not revert changes that other clients make.
async fn restore_rules(namespace: &Namespace<'_>, role: &str) {
    let render = RenderedChart::new(
        "{fullnameOverride: sealed-secrets, certificateConfigMap: {enabled: true}}",
    );
    let name = format!("{NAME}-{role}");
    let patch = json!({ "rules": render.object(&format!("Role/{name}"))["rules"] });
    let roles: Api<Role> = namespace.api();
    roles
        .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .unwrap();
}

/// Returns `role resource verb` for each row of `deploy/docs/permissions.md`.
fn documented_permissions() -> BTreeSet<String> {
    let text = fs::read_to_string(deploy("docs/permissions.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
    let row = |line: &str| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        format!("{} {} {}", cells[0], cells[1], cells[2])
    };
    rows.map(row).collect()
}

pub(super) fn permissions_of_role(role: &Value) -> Vec<String> {
    let name = role["metadata"]["name"].as_str().unwrap();
    let name = name
        .strip_prefix("release-sealed-secrets-")
        .unwrap_or("unsealer");
    let strings = |list: &Value| -> Vec<String> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|item| item.as_str().unwrap().to_owned())
            .collect()
    };
    let rules = role["rules"].as_array().unwrap().iter();
    rules
        .flat_map(|rule| {
            let verbs = strings(&rule["verbs"]);
            let resources = strings(&rule["resources"]);
            resources.into_iter().flat_map(move |resource| {
                verbs
                    .clone()
                    .into_iter()
                    .map(move |verb| format!("{resource} {verb}"))
            })
        })
        .map(|permission| format!("{name} {permission}"))
        .collect()
}
