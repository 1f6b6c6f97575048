//! Tests `seal inventory --cluster`: the state of each object, with and without permission to list Secrets.

use std::fs;
use std::path::Path;

use kube::api::PostParams;
use serde_json::{Value as Json, json};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::patience::until;
use tests::roles;
use tests::sealing::{KEYS, sealed_for};

use super::{AppliedObject, output_text};

/// Creates an object that no file contains and that the controller cannot unseal, and a file that is not applied.
async fn add_objects(applied: &AppliedObject<'_>) {
    let namespace = applied.namespace.name();
    let items = [("a", "x")];
    let other = sealed_for(&KEYS[1], namespace, "other", &items, Scope::Strict);
    let objects = applied.namespace.api::<SealedSecret>();
    let created = objects.create(&PostParams::default(), &other).await;
    created.unwrap();
    let absent = sealed_for(&KEYS[0], namespace, "absent", &items, Scope::Strict);
    let text = shared::manifest::to_yaml(&absent.to_document());
    fs::write(applied.tree.path().join("absent.yaml"), text).unwrap();
}

/// Returns the name, the state and whether a Secret exists for each object of `seal inventory`.
fn states(applied: &AppliedObject<'_>, kubeconfig: &Path) -> Option<Vec<Json>> {
    let namespace = applied.namespace.name();
    let args = ["inventory", ".", "--cluster", "-n", namespace, "-o", "json"];
    let output = applied.seal(kubeconfig, "false", &args);
    let report: Json = serde_json::from_slice(&output.stdout).ok()?;
    assert!(!output_text(&output).contains("hunter2"));
    let rows = report["objects"].as_array().unwrap().iter();
    let state = |row: &Json| json!([row["name"], row["state"], row["cluster"]["secret"]]);
    Some(rows.map(state).collect())
}

#[tokio::test]
async fn an_inventory_shows_the_state_of_each_object() {
    let applied = AppliedObject::new().await;
    add_objects(&applied).await;
    let kubeconfig = applied.plane.kubeconfig();
    let want = [
        json!(["absent", "not-in-cluster", null]),
        json!(["db", "ok", "exists"]),
        json!(["other", "failed", "missing"]),
    ];
    until("the controller has reported on every object", async || {
        (states(&applied, kubeconfig)? == want).then_some(())
    })
    .await;
    let namespace = applied.namespace.name();
    let args = ["inventory", "--cluster", "-n", namespace, "--check"];
    let output = applied.seal(kubeconfig, "false", &args);
    assert_eq!(output.status.code(), Some(1), "{}", output_text(&output));
    let items = [("a", "hunter2"), ("b", "kept")];
    let again = sealed_for(&KEYS[0], namespace, "db", &items, Scope::Strict);
    let text = shared::manifest::to_yaml(&again.to_document());
    fs::write(applied.file(), text).unwrap();
    let states = states(&applied, kubeconfig).unwrap();
    assert_eq!(states[1], json!(["db", "differs", "exists"]), "not applied");
}

#[tokio::test]
async fn an_inventory_needs_no_permission_for_secrets() {
    let applied = AppliedObject::new().await;
    let rules = json!([
        { "apiGroups": ["bitnami.com"], "resources": ["sealedsecrets"], "verbs": ["list"] },
    ]);
    roles::create_caller_with(&applied.namespace, "lister", &rules).await;
    let namespace = applied.namespace.name();
    let kubeconfig = applied.plane.kubeconfig_of(namespace, "lister").await;
    let want = [json!(["db", "ok", "unknown"])];
    until("the permission takes effect", async || {
        (states(&applied, &kubeconfig)? == want).then_some(())
    })
    .await;
}
