//! The permissions that Bitnami's manifests give its controller, after `controller.jsonnet` and the chart. A drop-in
//! replacement must work with them.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::control_plane::Namespace;

/// The service account of the controller.
pub const ACCOUNT: &str = "sealed-secrets-controller";

/// Where the controller's permissions apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// In every namespace, as with Bitnami's manifests.
    Cluster,
    /// Only in its own namespace, as with `rbac.namespacedRoles` of the chart.
    Namespace,
}

/// Creates the account in this namespace, and grants it the permissions.
pub async fn grant(namespace: &Namespace<'_>, reach: Reach) {
    let _: ServiceAccount = namespace
        .create_object(json!({ "metadata": { "name": ACCOUNT } }))
        .await;
    bind(namespace, "sealed-secrets-key-admin", &key_admin()).await;
    match reach {
        Reach::Cluster => bind_cluster_wide(namespace).await,
        Reach::Namespace => bind(namespace, "secrets-unsealer", &unsealer()).await,
    }
}

/// Like [`grant`] in one namespace, but without permission to update `sealedsecrets/status`.
pub async fn grant_all_but_statuses(namespace: &Namespace<'_>) {
    let mut rules = unsealer();
    let is_for_status = |rule: &Value| rule["resources"] == json!(["sealedsecrets/status"]);
    list(&mut rules).retain(|rule| !is_for_status(rule));
    grant_rules(namespace, &rules).await;
}

/// Like [`grant`] in one namespace, but without permission to watch Secrets.
pub async fn grant_all_but_the_watch_of_secrets(namespace: &Namespace<'_>) {
    let mut rules = unsealer();
    for rule in list(&mut rules) {
        if rule["resources"] == json!(["secrets"]) {
            list(&mut rule["verbs"]).retain(|verb| verb != "watch");
        }
    }
    grant_rules(namespace, &rules).await;
}

fn list(value: &mut Value) -> &mut Vec<Value> {
    value.as_array_mut().expect("a list")
}

async fn grant_rules(namespace: &Namespace<'_>, rules: &Value) {
    let _: ServiceAccount = namespace
        .create_object(json!({ "metadata": { "name": ACCOUNT } }))
        .await;
    bind(namespace, "sealed-secrets-key-admin", &key_admin()).await;
    bind(namespace, "secrets-unsealer", rules).await;
}

/// Completes [`grant_all_but_statuses`]: grants all permissions, including the permission to update
/// `sealedsecrets/status`.
pub async fn grant_statuses(namespace: &Namespace<'_>) {
    bind(namespace, "statuses", &unsealer()).await;
}

/// Lets the account use Leases, which Bitnami's roles do not allow.
pub async fn grant_leases(namespace: &Namespace<'_>) {
    let verbs = ["get", "create", "update"];
    let rules =
        json!([{ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": verbs }]);
    bind(namespace, "leader-election", &rules).await;
}

/// Lets the account list Pods, which Bitnami's roles do not allow.
pub async fn grant_pods(namespace: &Namespace<'_>) {
    let rules = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list"] }]);
    bind(namespace, "pod-reader", &rules).await;
}

/// Lets the account authenticate callers and check their permissions, which Bitnami's roles do not allow.
pub async fn grant_reviews(namespace: &Namespace<'_>) {
    let mut binding = binding("system:auth-delegator", "ClusterRole", namespace.name());
    binding["metadata"]["name"] = json!(reviews_binding(namespace));
    let binding: ClusterRoleBinding = serde_json::from_value(binding).unwrap();
    let bindings = Api::<ClusterRoleBinding>::all(namespace.client());
    bindings
        .create(&PostParams::default(), &binding)
        .await
        .unwrap();
}

/// Revokes the permissions of [`grant_reviews`].
pub async fn revoke_reviews(namespace: &Namespace<'_>) {
    let bindings = Api::<ClusterRoleBinding>::all(namespace.client());
    let name = reviews_binding(namespace);
    bindings
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
}

fn reviews_binding(namespace: &Namespace<'_>) -> String {
    format!("reviews-{}", namespace.name())
}

/// Creates an account with this name that has these verbs on SealedSecrets.
pub async fn create_caller(namespace: &Namespace<'_>, name: &str, verbs: &[&str]) {
    let rules =
        json!([{ "apiGroups": ["bitnami.com"], "resources": ["sealedsecrets"], "verbs": verbs }]);
    create_caller_with(namespace, name, &rules).await;
}

/// Creates an account with this name and these permissions in the namespace.
pub async fn create_caller_with(namespace: &Namespace<'_>, name: &str, rules: &Value) {
    let account = json!({ "metadata": { "name": name } });
    let _: ServiceAccount = namespace.create_object(account).await;
    let _: Role = namespace.create_object(role(name, rules)).await;
    let mut binding = binding(name, "Role", namespace.name());
    binding["subjects"][0]["name"] = json!(name);
    let _: RoleBinding = namespace.create_object(binding).await;
}

/// Grants the account of `home` the permissions of the unsealer in an additional namespace.
pub async fn grant_also(home: &Namespace<'_>, namespace: &Namespace<'_>) {
    let _: Role = namespace
        .create_object(role("secrets-unsealer", &unsealer()))
        .await;
    let binding = binding("secrets-unsealer", "Role", home.name());
    let _: RoleBinding = namespace.create_object(binding).await;
}

fn unsealer() -> Value {
    json!([
        { "apiGroups": ["bitnami.com"], "resources": ["sealedsecrets"], "verbs": ["get", "list", "watch"] },
        { "apiGroups": ["bitnami.com"], "resources": ["sealedsecrets/status"], "verbs": ["update"] },
        { "apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "create", "update", "delete", "watch"] },
        { "apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"] },
        { "apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"] },
    ])
}

fn key_admin() -> Value {
    json!([
        { "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["sealed-secrets-key"], "verbs": ["get"] },
        { "apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "list"] },
    ])
}

async fn bind(namespace: &Namespace<'_>, name: &str, rules: &Value) {
    let _: Role = namespace.create_object(role(name, rules)).await;
    let _: RoleBinding = namespace
        .create_object(binding(name, "Role", namespace.name()))
        .await;
}

/// Uses unique names, because tests share the cluster.
async fn bind_cluster_wide(namespace: &Namespace<'_>) {
    let client = namespace.client();
    let name = format!("secrets-unsealer-{}", namespace.name());
    let role: ClusterRole = serde_json::from_value(role(&name, &unsealer())).unwrap();
    let roles = Api::<ClusterRole>::all(client.clone());
    roles.create(&PostParams::default(), &role).await.unwrap();
    let binding = binding(&name, "ClusterRole", namespace.name());
    let binding: ClusterRoleBinding = serde_json::from_value(binding).unwrap();
    let bindings = Api::<ClusterRoleBinding>::all(client);
    bindings
        .create(&PostParams::default(), &binding)
        .await
        .unwrap();
}

fn role(name: &str, rules: &Value) -> Value {
    json!({ "metadata": { "name": name }, "rules": rules })
}

fn binding(name: &str, kind: &str, home: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name },
        "subjects": [{ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": home }],
    })
}

/// Lets the account publish the certificate in this ConfigMap, which Bitnami's roles do not allow.
pub async fn grant_publishing(namespace: &Namespace<'_>, config_map: &str) {
    let rules = json!([
        { "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [config_map], "verbs": ["get", "update"] },
        { "apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"] },
    ]);
    bind(namespace, "certificate-publisher", &rules).await;
}
