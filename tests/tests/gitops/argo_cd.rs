//! Tests that Argo CD finds no difference between objects in Git and the objects that the controller has processed.

use serde_json::{Value, json};
use tests::patience::until;
use tests::verdicts::{self, Difference};

use crate::site::Site;

/// The name that the API server records for fields that the controller writes.
const CONTROLLER_FIELD_MANAGER: &str = "sealed-secrets-controller";
/// The annotation by which Argo CD recognizes the objects of an Application.
const TRACKING: &str = "argocd.argoproj.io/tracking-id";

#[tokio::test]
async fn a_sealed_secret_stays_in_sync_when_unsealed_and_when_failed() {
    let site = Site::new("argo").await;
    let mut object = json!(site.sealed_secret("db", &[("password", "value")]));
    object["metadata"]["annotations"] = json!({ TRACKING: "app:bitnami.com/SealedSecret:ns/db" });
    sync(&site, &object);
    site.wait_until_observed("db").await;
    assert_in_sync(&site, &object, "unsealed");
    assert_eq!(health(&site, "db").await, "Healthy");
    let secret = site.secret("db").await;
    let annotations = secret.metadata.annotations.unwrap_or_default();
    assert!(
        !annotations.contains_key(TRACKING),
        "Argo CD would prune it"
    );

    // A second sync changes nothing, so the controller writes nothing.
    let before = site.sealed_secrets().get("db").await.unwrap();
    sync(&site, &object);
    let after = site.sealed_secrets().get("db").await.unwrap();
    assert_eq!(
        after.metadata.resource_version,
        before.metadata.resource_version
    );

    object["spec"]["encryptedData"]["password"] = json!("AAAA");
    assert_eq!(
        methods(&differences(&site, &object, &[])),
        ["server-side", "structured merge", "three-way"],
        "a change in Git is found"
    );
    sync(&site, &object);
    site.wait_until_observed("db").await;
    assert_in_sync(&site, &object, "failed");
    assert_eq!(health(&site, "db").await, "Degraded");
}

#[tokio::test]
async fn a_secret_in_git_with_merged_values_is_in_sync_if_the_controllers_fields_are_ignored() {
    let site = Site::new("argo-patch").await;
    let annotations = json!({ "sealedsecrets.bitnami.com/patch": "true" });
    let metadata =
        json!({ "name": "db", "namespace": site.namespace.name(), "annotations": annotations });
    let in_git = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "data": { "password": "", "user": "cm9vdA==" },
    });
    sync(&site, &in_git);
    let sealed = json!(site.sealed_secret("db", &[("password", "value")]));
    sync(&site, &sealed);
    until("the Secret has the value", async || {
        (site.value("db", "password").await == "value").then_some(())
    })
    .await;

    let all_differences = differences(&site, &in_git, &[]);
    assert!(
        !all_differences.is_empty(),
        "without an exception the Secret is out of sync"
    );
    assert_eq!(
        methods(&differences(&site, &in_git, &[CONTROLLER_FIELD_MANAGER])),
        [""; 0]
    );
}

/// Applies an object as Argo CD does.
fn sync(site: &Site, object: &Value) {
    verdicts::sync(site.plane.kubeconfig(), object);
}

fn differences(site: &Site, object: &Value, managers: &[&str]) -> Vec<Difference> {
    verdicts::differences(site.plane.kubeconfig(), object, managers)
}

/// Returns Argo CD's verdict on a SealedSecret.
async fn health(site: &Site, name: &str) -> String {
    let object = site.sealed_secrets().get(name).await.unwrap();
    verdicts::judge(&json!(object)).argo
}

fn assert_in_sync(site: &Site, object: &Value, state: &str) {
    let differences = differences(site, object, &[]);
    assert!(differences.is_empty(), "{state}: {differences:#?}");
}

fn methods(differences: &[Difference]) -> Vec<&str> {
    let mut methods: Vec<_> = differences
        .iter()
        .map(|difference| difference.method.as_str())
        .collect();
    methods.sort_unstable();
    methods
}
