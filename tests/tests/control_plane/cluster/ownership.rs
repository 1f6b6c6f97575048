//! Tests the ownership of Secrets.

use serde_json::json;
use shared::resource::{MANAGED_ANNOTATION, PATCH_ANNOTATION, SKIP_OWNER_ANNOTATION};

use super::case::{Case, template_annotations};

/// Attack: an author seals an object with the name of a Secret of another owner, to replace the Secret.
#[tokio::test]
async fn an_unowned_secret_stays_unchanged_until_it_is_deleted() {
    let case = Case::new("unowned").await;
    case.create_secret(json!({ "metadata": { "name": "db" }, "stringData": { "a": "unowned" } }))
        .await;
    case.seal("db", &[("a", "owned")]).await;
    let want = "failed update: Resource \"db\" already exists and is not managed by SealedSecret";
    assert_eq!(case.wait_for_failure("db").await, want);
    assert_eq!(
        case.wait_for_event("db", "ErrUpdateFailed")
            .await
            .message
            .as_deref(),
        Some(want)
    );
    case.wait_for_values("db", &[("a", "unowned")]).await;
    // C7: deleting the conflicting Secret is sufficient.
    case.delete_secret("db").await;
    case.wait_for_values("db", &[("a", "owned")]).await;
    case.wait_until_synced("db").await;
}

#[tokio::test]
async fn a_persistent_failure_is_logged_and_retried_once_consent_is_given() {
    let case = Case::with_args("keeps-failing", &["--max-unseal-retries=1"]).await;
    case.create_secret(json!({ "metadata": { "name": "db" }, "stringData": { "a": "unowned" } }))
        .await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_log("Still failing after --max-unseal-retries; retrying with backoff")
        .await;
    let consent = json!({ "metadata": { "annotations": { MANAGED_ANNOTATION: "true" } } });
    case.patch_secret("db", consent).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
}

#[tokio::test]
async fn a_managed_secret_is_taken_over() {
    let case = Case::new("managed").await;
    let metadata = json!({ "name": "db", "annotations": { MANAGED_ANNOTATION: "true" }, "labels": { "unowned": "1" } });
    case.create_secret(json!({ "metadata": metadata, "stringData": { "a": "1", "b": "2" } }))
        .await;
    let sealed = case.seal("db", &[("a", "owned")]).await;
    let secret = case.wait_for_values("db", &[("a", "owned")]).await;
    assert_eq!(
        Some(&secret.metadata.owner_references.unwrap()[0].uid),
        sealed.metadata.uid.as_ref()
    );
    assert_eq!(
        (secret.metadata.labels, secret.metadata.annotations),
        (None, None)
    );
}

#[tokio::test]
async fn c17_a_patched_secret_keeps_existing_and_dropped_items_and_is_not_deleted() {
    let case = Case::new("patch").await;
    let metadata = json!({ "name": "db", "annotations": { PATCH_ANNOTATION: "true" } });
    case.create_secret(json!({ "metadata": metadata, "stringData": { "a": "1", "b": "2" } }))
        .await;
    case.seal("db", &[("a", "owned")]).await;
    let secret = case
        .wait_for_values("db", &[("a", "owned"), ("b", "2")])
        .await;
    assert_eq!(secret.metadata.owner_references, None);
    case.wait_until_synced("db").await;
    let next = case.sealed_secret("db", &[("c", "3")]).spec.encrypted_data;
    let changed_items = json!({ "a": null, "c": next["c"] });
    case.patch("db", json!({ "spec": { "encryptedData": changed_items } }))
        .await;
    let all_items = [("a", "owned"), ("b", "2"), ("c", "3")];
    case.wait_for_values("db", &all_items).await;
    case.wait_until_synced("db").await;
    case.delete("db").await;
    case.wait_until_idle("patch").await;
    case.wait_for_values("db", &all_items).await;
}

#[tokio::test]
async fn c5_a_secret_without_owner_is_created_updated_and_not_deleted() {
    let case = Case::new("unowned").await;
    let mut sealed = case.sealed_secret("db", &[("a", "1")]);
    sealed.spec.template.metadata.annotations =
        Some([(SKIP_OWNER_ANNOTATION.to_owned(), "true".to_owned())].into());
    case.create(&sealed).await;
    let secret = case.wait_for_values("db", &[("a", "1")]).await;
    assert_eq!(secret.metadata.owner_references, None);
    case.wait_until_synced("db").await;
    let next = case.sealed_secret("db", &[("a", "2")]);
    case.patch(
        "db",
        json!({ "spec": { "encryptedData": next.spec.encrypted_data } }),
    )
    .await;
    case.wait_for_values("db", &[("a", "2")]).await;
    case.wait_until_synced("db").await;
    case.delete("db").await;
    case.wait_until_idle("unowned").await;
    case.wait_for_values("db", &[("a", "2")]).await;
    assert!(!case.controller.log().contains("not managed by"));
}

#[tokio::test]
async fn the_secret_gets_the_templates_labels_and_annotations() {
    let case = Case::new("metadata").await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.patch("db", template_annotations(&json!({ "x": "y" })))
        .await;
    tests::patience::until("the annotation exists", async || {
        let annotations = case.secret("db").await?.metadata.annotations?;
        (annotations.get("x")? == "y").then_some(())
    })
    .await;
}

/// Attack: an author without permissions for Secrets abuses the consent to a merge: takes over the Secret, to replace or
/// delete the values of another owner; or makes the Secret immutable, so that the outcome of each later write shows
/// whether a guessed value is right.
#[tokio::test]
async fn consent_to_a_merge_permits_nothing_else() {
    let case = Case::with_args("merge-only", &["--old-gc-behavior"]).await;
    let metadata = json!({ "name": "db", "annotations": { PATCH_ANNOTATION: "true" } });
    case.create_secret(json!({ "metadata": metadata, "stringData": { "pin": "4711" } }))
        .await;
    let mut sealed = case.sealed_secret("db", &[("a", "1")]);
    let requested_annotations = [(MANAGED_ANNOTATION, "true"), (PATCH_ANNOTATION, "false")];
    let requested_annotations =
        requested_annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
    sealed.spec.template.metadata.annotations = Some(requested_annotations.into());
    sealed.spec.template.immutable = Some(true);
    case.create(&sealed).await;
    let both_items = [("a", "1"), ("pin", "4711")];
    let secret = case.wait_for_values("db", &both_items).await;
    assert_eq!(
        (secret.metadata.owner_references, secret.immutable),
        (None, None)
    );
    for version in ["2", "3"] {
        let next = case
            .sealed_secret("db", &[("a", version)])
            .spec
            .encrypted_data;
        case.patch("db", json!({ "spec": { "encryptedData": next } }))
            .await;
        case.wait_for_values("db", &[("a", version), ("pin", "4711")])
            .await;
    }
    case.wait_until_synced("db").await;
    case.delete("db").await;
    case.wait_until_idle("merge-only").await;
    case.wait_for_values("db", &[("a", "3"), ("pin", "4711")])
        .await;
}
