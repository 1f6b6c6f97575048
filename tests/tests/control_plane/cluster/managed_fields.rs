//! Tests that `managedFields` name the controller, so that tools such as Argo CD can be configured to ignore its fields
//! (`managedFieldsManagers`).

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::json;
use shared::resource::KEY_LABEL;
use tests::control_plane::ControlPlane;
use tests::patience::until;
use tests::roles::{self, Reach};

use super::case::Case;

const CERTIFICATE: &str = "certificate";
const MANAGER: &str = "sealed-secrets-controller";

/// Returns the name and the subresource of each manager in the `managedFields` of an object.
fn managers(metadata: &ObjectMeta) -> Vec<(String, String)> {
    let entries = metadata.managed_fields.iter().flatten();
    let name = |text: &Option<String>| text.clone().unwrap_or_default();
    entries
        .map(|entry| (name(&entry.manager), name(&entry.subresource)))
        .collect()
}

fn controller_managers() -> Vec<(String, String)> {
    vec![(MANAGER.to_owned(), String::new())]
}

#[tokio::test]
async fn every_object_that_the_controller_writes_names_it_as_manager() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("managers").await;
    roles::grant(&namespace, Reach::Namespace).await;
    roles::grant_leases(&namespace).await;
    roles::grant_publishing(&namespace, CERTIFICATE).await;
    let case = Case::start(plane, namespace, &["--certificate-configmap", CERTIFICATE]).await;

    case.seal("db", &[("a", "1")]).await;
    let secret = case.wait_for_values("db", &[("a", "1")]).await;
    assert_eq!(
        managers(&secret.metadata),
        controller_managers(),
        "a new Secret"
    );
    case.patch_secret("db", json!({ "stringData": { "a": "edited" } }))
        .await;
    let corrected = case.wait_for_values("db", &[("a", "1")]).await;
    let controller = controller_managers().remove(0);
    assert!(
        managers(&corrected.metadata).contains(&controller),
        "an update"
    );
    case.wait_until_synced("db").await;
    let sealed = case.sealed_secrets().get("db").await.unwrap();
    let status_manager = (MANAGER.to_owned(), "status".to_owned());
    assert!(
        managers(&sealed.metadata).contains(&status_manager),
        "the status"
    );
    let event = case.wait_for_event("db", "Unsealed").await;
    assert_eq!(managers(&event.metadata), controller_managers(), "an Event");

    let lease: Lease = case.namespace.api().get(MANAGER).await.unwrap();
    assert_eq!(
        managers(&lease.metadata),
        controller_managers(),
        "the Lease"
    );
    // The test's key is so old that the controller generates a new one when it starts.
    let labeled = ListParams::default().labels(KEY_LABEL);
    let keys = case.secrets().list(&labeled).await.unwrap().items;
    let generated = keys.iter().find(|key| key.name_any() != "key-0").unwrap();
    assert_eq!(
        managers(&generated.metadata),
        controller_managers(),
        "a key Secret"
    );
    let certificate = until("the certificate is published", async || {
        let config_maps = case.namespace.api::<ConfigMap>();
        config_maps.get_opt(CERTIFICATE).await.unwrap()
    })
    .await;
    assert_eq!(
        managers(&certificate.metadata),
        controller_managers(),
        "the ConfigMap"
    );
}
