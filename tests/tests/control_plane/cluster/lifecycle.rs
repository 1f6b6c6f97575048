//! Tests the lifecycle of a SealedSecret and its Secret, up to their deletion.

use serde_json::json;
use shared::resource::SealedSecret;
use shared::scope::Scope;

use tests::sealing::{KEYS, sealed_for};

use super::case::Case;

#[tokio::test]
async fn a_new_sealed_secret_becomes_a_secret_that_it_owns() {
    let case = Case::new("create").await;
    let sealed = case
        .seal("db", &[("user", "me"), ("password", "hunter2")])
        .await;
    let secret = case
        .wait_for_values("db", &[("user", "me"), ("password", "hunter2")])
        .await;
    let owner = &secret.metadata.owner_references.unwrap()[0];
    assert_eq!(Some(&owner.uid), sealed.metadata.uid.as_ref());
    assert_eq!(
        (owner.controller, owner.block_owner_deletion),
        (Some(true), None)
    );
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    case.wait_until_synced("db").await;
    let event = case.wait_for_event("db", "Unsealed").await;
    assert_eq!(
        event.message.as_deref(),
        Some("SealedSecret unsealed successfully")
    );
    assert_eq!(
        event.source.unwrap().component.as_deref(),
        Some("sealed-secrets")
    );
}

#[tokio::test]
async fn an_edit_of_the_spec_replaces_the_values() {
    let case = Case::new("update").await;
    case.seal("db", &[("a", "1"), ("b", "2")]).await;
    case.wait_for_values("db", &[("a", "1"), ("b", "2")]).await;
    let next = case.sealed_secret("db", &[("b", "3"), ("c", "4")]);
    let mut items = json!(next.spec.encrypted_data);
    items["a"] = json!(null);
    case.patch("db", json!({ "spec": { "encryptedData": items } }))
        .await;
    case.wait_for_values("db", &[("b", "3"), ("c", "4")]).await;
    case.wait_until_synced("db").await;
}

#[tokio::test]
async fn the_secret_is_deleted_and_recreated_with_its_sealed_secret() {
    let case = Case::new("delete").await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.delete("db").await;
    case.wait_for_no_secret("db").await;
    case.seal("db", &[("a", "2")]).await;
    case.wait_for_values("db", &[("a", "2")]).await;
}

#[tokio::test]
async fn c7_a_deleted_secret_is_recreated_even_after_a_restore_of_its_sealed_secret() {
    let case = Case::new("recreate").await;
    let backup = case.sealed_secret("db", &[("a", "1")]);
    case.create(&backup).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.delete("db").await;
    case.create(&backup).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    // The garbage collector may delete the first object's Secret only now.
    case.wait_until_synced("db").await;
    let mut uid = None;
    for _ in 0..3 {
        if let Some(secret) = case.secret("db").await {
            uid = secret.metadata.uid;
            case.delete_secret("db").await;
        }
        tests::patience::until("the Secret is recreated", async || {
            let current_uid = case.secret("db").await?.metadata.uid;
            (current_uid != uid).then_some(())
        })
        .await;
    }
    case.wait_for_values("db", &[("a", "1")]).await;
}

#[tokio::test]
async fn c4_a_scope_annotation_that_is_added_later_takes_effect() {
    let case = Case::new("scope").await;
    let mut sealed: SealedSecret = sealed_for(
        &KEYS[0],
        case.namespace.name(),
        "db",
        &[("a", "1")],
        Scope::ClusterWide,
    );
    sealed.metadata.annotations = None;
    case.create(&sealed).await;
    assert_eq!(
        case.wait_for_failure("db").await,
        "no key could decrypt secret (a)"
    );
    let annotations = json!({ "sealedsecrets.bitnami.com/cluster-wide": "true" });
    case.patch("db", json!({ "metadata": { "annotations": annotations } }))
        .await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
}

/// Attack: an author applies a broken new version of a good object, to destroy its Secret.
#[tokio::test]
async fn a_bad_new_version_leaves_the_old_secret_unchanged_and_names_the_bad_item() {
    let case = Case::new("keep").await;
    case.seal("db", &[("a", "good"), ("b", "good")]).await;
    let before = case
        .wait_for_values("db", &[("a", "good"), ("b", "good")])
        .await;
    case.patch(
        "db",
        json!({ "spec": { "encryptedData": { "b": "AAAA" } } }),
    )
    .await;
    let finding = "item b is not a sealed value: its format is unknown, 3 bytes; seal it again";
    assert_eq!(
        case.wait_for_failure("db").await,
        format!("no key could decrypt secret (b)\nhint: {finding}")
    );
    let after = case
        .wait_for_values("db", &[("a", "good"), ("b", "good")])
        .await;
    assert_eq!(
        before.metadata.resource_version,
        after.metadata.resource_version
    );
    let event = case.wait_for_event("db", "ErrUnsealFailed").await;
    assert_eq!(event.message, Some(format!("Failed to unseal: {finding}")));
    let items = case
        .sealed_secrets()
        .get("db")
        .await
        .unwrap()
        .status
        .unwrap()
        .items;
    assert_eq!(items[0].key, "b");
}

#[tokio::test]
async fn c6_immutable_can_be_set_later_and_lasts_until_the_secret_is_deleted() {
    let case = Case::new("immutable").await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.patch(
        "db",
        json!({ "spec": { "template": { "immutable": true } } }),
    )
    .await;
    tests::patience::until("the Secret is immutable", async || {
        (case.secret("db").await?.immutable == Some(true)).then_some(())
    })
    .await;
    let next = case.sealed_secret("db", &[("a", "2")]);
    case.patch(
        "db",
        json!({ "spec": { "encryptedData": next.spec.encrypted_data } }),
    )
    .await;
    let message = case.wait_for_failure("db").await;
    assert!(
        message.contains("the target Secret is immutable"),
        "{message}"
    );
    case.wait_for_values("db", &[("a", "1")]).await;
    case.delete_secret("db").await;
    case.wait_for_values("db", &[("a", "2")]).await;
    case.wait_until_synced("db").await;
}

#[tokio::test]
async fn c16_a_missing_type_means_opaque_and_a_change_of_type_is_refused_with_advice() {
    let case = Case::new("type").await;
    case.seal("db", &[("a", "1")]).await;
    let before = case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    case.patch(
        "db",
        json!({ "spec": { "template": { "type": "Opaque" } } }),
    )
    .await;
    case.wait_until_synced("db").await;
    let after = case.secret("db").await.unwrap();
    assert_eq!(before.data, after.data);
    assert_eq!(before.type_, after.type_);
    case.patch(
        "db",
        json!({ "spec": { "template": { "type": "example.com/mine" } } }),
    )
    .await;
    let message = case.wait_for_failure("db").await;
    assert!(
        message.contains("delete the Secret, and the controller recreates it"),
        "{message}"
    );
    case.delete_secret("db").await;
    case.wait_until_synced("db").await;
    let recreated = case.secret("db").await.unwrap();
    assert_eq!(recreated.type_.as_deref(), Some("example.com/mine"));
}

/// Attack: an author deletes a SealedSecret with the same name as a Secret that it does not own, so that the Secret is
/// deleted.
#[tokio::test]
async fn s9_old_garbage_collection_deletes_owned_secrets_and_keeps_others() {
    let case = Case::with_args("old-gc", &["--old-gc-behavior"]).await;
    case.create_secret(
        json!({ "metadata": { "name": "unowned" }, "stringData": { "a": "unowned" } }),
    )
    .await;
    case.seal("unowned", &[("a", "owned")]).await;
    case.wait_for_failure("unowned").await;
    case.seal("owned", &[("a", "1")]).await;
    case.wait_for_values("owned", &[("a", "1")]).await;
    case.delete("unowned").await;
    case.delete("owned").await;
    case.wait_for_no_secret("owned").await;
    case.wait_until_idle("old-gc").await;
    case.wait_for_values("unowned", &[("a", "unowned")]).await;
}

#[tokio::test]
async fn c15_the_selector_applies_to_sealed_secrets_and_not_to_their_secrets() {
    let case = Case::with_args("label", &["--label-selector", "team=a"]).await;
    let mut labeled = case.sealed_secret("chosen", &[("a", "1")]);
    labeled.metadata.labels = Some([("team".to_owned(), "a".to_owned())].into());
    case.seal("other", &[("a", "1")]).await;
    case.create(&labeled).await;
    case.wait_for_values("chosen", &[("a", "1")]).await;
    // The selector applies to SealedSecrets; this Secret has no label.
    case.delete_secret("chosen").await;
    case.wait_for_values("chosen", &[("a", "1")]).await;
    assert!(case.secret("other").await.is_none());
}

#[tokio::test]
async fn with_skip_recreate_a_deleted_secret_stays_deleted() {
    let case = Case::with_args("skip", &["--skip-recreate"]).await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    case.delete_secret("db").await;
    case.wait_until_idle("skip").await;
    assert!(case.secret("db").await.is_none());
}

#[tokio::test]
async fn exits_with_code_0_when_stopped() {
    let case = Case::new("stop").await;
    assert_eq!(case.controller.stop(), Some(0));
}
