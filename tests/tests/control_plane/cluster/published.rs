//! Tests the publication of the certificate in a `ConfigMap`.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tests::control_plane::ControlPlane;
use tests::patience::until;
use tests::roles::{self, Reach};
use tests::sealing::{KEYS, put_key};

use super::case::Case;

const NAME: &str = "sealed-secrets-controller-certificate";
const ARGS: &[&str] = &["--certificate-configmap", NAME, "--key-renew-period=0"];

fn config_map_api(case: &Case) -> Api<ConfigMap> {
    case.namespace.api()
}

async fn certificate(case: &Case) -> Option<String> {
    let object = config_map_api(case).get_opt(NAME).await.unwrap()?;
    object.data?.get("cert.pem").cloned()
}

#[tokio::test]
async fn the_certificate_is_published_and_follows_the_newest_key() {
    let case = Case::publishing("published", NAME, ARGS).await;
    let first = KEYS[0].pair.certificate().to_pem();
    until("the certificate is published", async || {
        (certificate(&case).await? == first).then_some(())
    })
    .await;
    let note = Patch::Merge(json!({ "data": { "note": "manual" } }));
    let config_maps = config_map_api(&case);
    let params = PatchParams::default();
    config_maps.patch(NAME, &params, &note).await.unwrap();

    put_key(&case.namespace, "key-1", &KEYS[1]).await;
    let second = KEYS[1].pair.certificate().to_pem();
    until(
        "the certificate of the newest key is published",
        async || (certificate(&case).await? == second).then_some(()),
    )
    .await;
    let object = config_maps.get(NAME).await.unwrap();
    assert_eq!(object.data.unwrap()["note"], "manual");

    let params = DeleteParams::default();
    config_maps.delete(NAME, &params).await.unwrap();
    let case = case.restart(ARGS).await;
    until("the ConfigMap is recreated", async || {
        (certificate(&case).await? == second).then_some(())
    })
    .await;
}

/// Attack: a client that may write the `ConfigMap` puts another certificate into it and makes it immutable, so that
/// clients seal for that certificate.
#[tokio::test]
async fn an_immutable_config_map_is_reported_with_its_remedy_and_created_again_once_deleted() {
    let mut case = Case::publishing("immutable", NAME, ARGS).await;
    until("the certificate is published", async || {
        certificate(&case).await
    })
    .await;
    let forgery = Patch::Merge(json!({ "data": { "cert.pem": "forged" }, "immutable": true }));
    let config_maps = config_map_api(&case);
    let params = PatchParams::default();
    config_maps.patch(NAME, &params, &forgery).await.unwrap();
    // The controller checks the ConfigMap when the keys change.
    put_key(&case.namespace, "key-1", &KEYS[1]).await;
    case.controller
        .wait_for_log("delete the ConfigMap, and the controller recreates it")
        .await;
    config_maps
        .delete(NAME, &DeleteParams::default())
        .await
        .unwrap();
    let second = KEYS[1].pair.certificate().to_pem();
    until("the ConfigMap is created again", async || {
        (certificate(&case).await? == second).then_some(())
    })
    .await;
    let log = case.controller.log();
    assert_eq!(
        log.matches("is immutable; delete the ConfigMap").count(),
        1,
        "{log}"
    );
    assert!(!log.contains("Failure"), "{log}");
}

#[tokio::test]
async fn publishes_nothing_without_the_flag_and_logs_once_without_the_permission() {
    let unpublished = Case::new("unpublished").await;
    let mut case = Case::with_args("unpublished", ARGS).await;
    case.controller
        .wait_for_log("--certificate-configmap: the certificate is not published")
        .await;
    put_key(&case.namespace, "key-1", &KEYS[1]).await;
    case.controller.wait_for_log("secretname=key-1").await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    let log = case.controller.log();
    assert_eq!(
        log.matches("the certificate is not published").count(),
        1,
        "{log}"
    );
    assert_eq!(certificate(&case).await, None);
    assert_eq!(certificate(&unpublished).await, None);
    assert!(!unpublished.controller.log().contains("configmap"));
}

impl Case {
    async fn publishing(purpose: &str, config_map: &str, args: &[&str]) -> Self {
        let plane = ControlPlane::shared().await;
        let namespace = plane.namespace(purpose).await;
        roles::grant(&namespace, Reach::Namespace).await;
        roles::grant_publishing(&namespace, config_map).await;
        Self::start(plane, namespace, args).await
    }
}
