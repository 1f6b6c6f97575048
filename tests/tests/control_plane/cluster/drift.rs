//! Tests edits of the controller's Secrets by other clients.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use serde_json::json;
use shared::resource::PATCH_ANNOTATION;
use tests::patience::until;

use super::case::Case;

/// Attack: a client edits the Secret directly, to replace a value.
#[tokio::test]
async fn c27_a_manual_edit_is_corrected_and_reported() {
    let case = Case::new("drift").await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    case.patch_secret(
        "db",
        json!({ "stringData": { "a": "edited", "b": "added" } }),
    )
    .await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_for_event("db", "DriftCorrected").await;
    case.wait_until_synced("db").await;
}

#[tokio::test]
async fn other_clients_labels_and_annotations_are_not_drift_and_survive_a_correction() {
    let case = Case::new("labels").await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    let edited = case
        .patch_secret(
            "db",
            json!({ "metadata": { "labels": { "other-client": "1" } } }),
        )
        .await;
    case.wait_until_idle("labels").await;
    let secret = case.secret("db").await.unwrap();
    assert_eq!(secret.resource_version(), edited.resource_version());
    case.patch_secret("db", json!({ "stringData": { "a": "edited" } }))
        .await;
    let secret = case.wait_for_values("db", &[("a", "1")]).await;
    assert_eq!(
        secret.labels().get("other-client").map(String::as_str),
        Some("1")
    );
}

#[tokio::test]
async fn restores_a_removed_owner() {
    let case = Case::new("owner").await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    let managed = json!({ "sealedsecrets.bitnami.com/managed": "true" });
    case.patch_secret(
        "db",
        json!({ "metadata": { "ownerReferences": null, "annotations": managed } }),
    )
    .await;
    until("the owner is restored", async || {
        case.secret("db").await?.metadata.owner_references.map(drop)
    })
    .await;
}

#[tokio::test]
async fn keeps_edits_if_the_flag_or_the_annotation_is_set() {
    let case = Case::with_args("tolerant", &["--correct-drift=false"]).await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    case.patch_secret("db", json!({ "stringData": { "a": "edited" } }))
        .await;
    case.wait_until_idle("tolerant").await;
    case.wait_for_values("db", &[("a", "edited")]).await;
    let case = case.restart(&[]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    let opt_out = json!({ "sealedsecrets.bitnami.com/correct-drift": "false" });
    case.patch("db", json!({ "metadata": { "annotations": opt_out } }))
        .await;
    case.wait_until_idle("annotated").await;
    case.patch_secret("db", json!({ "stringData": { "a": "edited" } }))
        .await;
    case.wait_until_idle("edited").await;
    case.wait_for_values("db", &[("a", "edited")]).await;
    case.wait_until_synced("db").await;
}

/// Attack: a client edits the Secret repeatedly, so that the controller writes indefinitely.
#[tokio::test]
async fn a_fight_over_a_secret_is_suspended_and_reported() {
    let case = Case::new("fight").await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    for round in 0..5 {
        case.patch_secret(
            "db",
            json!({ "stringData": { "a": format!("edit {round}") } }),
        )
        .await;
        case.wait_for_values("db", &[("a", "1")]).await;
        case.wait_until_synced("db").await;
    }
    case.patch_secret("db", json!({ "stringData": { "a": "last edit" } }))
        .await;
    let message = case.wait_for_failure("db").await;
    assert!(
        message.contains("corrected 5 times in 10 minutes"),
        "{message}"
    );
    case.wait_for_event("db", "DriftFight").await;
    case.wait_for_values("db", &[("a", "last edit")]).await;
}

/// Attack: a client edits the Secret in a way that the controller cannot correct, so that the status reports the edited
/// values as those of the last good version.
#[tokio::test]
async fn an_edit_that_cannot_be_corrected_is_reported_as_such() {
    let case = Case::new("frozen").await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    let edit = json!({ "immutable": true, "stringData": { "a": "edited" } });
    case.patch_secret("db", edit).await;
    case.wait_for_failure("db").await;
    let ready = case.conditions("db").await.remove(1).message.unwrap();
    assert!(
        ready.ends_with("\nanother client may have changed the values of the Secret"),
        "{ready}"
    );
    case.delete_secret("db").await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
}

/// Attack: a client adds the annotation for merging to a Secret of the controller, so that the client's items stay and
/// its removal of the owner is not reported.
#[tokio::test]
async fn an_added_consent_to_a_merge_hides_no_edit() {
    let case = Case::new("consent").await;
    for name in ["kept", "orphan"] {
        case.seal(name, &[("p", "v1"), ("q", "old")]).await;
        case.wait_until_synced(name).await;
    }
    let case = case.restart(&[]).await;
    case.wait_until_idle("restarted").await;
    let edit = |owners: serde_json::Value| {
        let mut metadata = json!({ "annotations": { PATCH_ANNOTATION: "true" } });
        if owners.is_null() {
            metadata["ownerReferences"] = owners;
        }
        json!({ "metadata": metadata, "stringData": { "evil": "x" } })
    };
    case.patch_secret("kept", edit(json!([]))).await;
    case.wait_for_values("kept", &[("p", "v1"), ("q", "old")])
        .await;
    case.wait_for_event("kept", "DriftCorrected").await;
    let next = case
        .sealed_secret("kept", &[("p", "v2")])
        .spec
        .encrypted_data;
    let items = json!({ "p": next["p"], "q": null });
    case.patch("kept", json!({ "spec": { "encryptedData": items } }))
        .await;
    case.wait_for_values("kept", &[("p", "v2")]).await;
    case.patch_secret("orphan", edit(json!(null))).await;
    let message = case.wait_for_failure("orphan").await;
    assert!(message.contains("is not managed"), "{message}");
}

/// Attack: a client adds so many annotations that no API server accepts the correction of its edit.
#[tokio::test]
async fn an_edit_with_twenty_thousand_annotations_is_corrected() {
    let case = Case::new("annotations").await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    let annotations: BTreeMap<String, &str> = (0..20_000).map(|i| (format!("{i:x}"), "")).collect();
    let metadata = json!({ "annotations": annotations });
    case.patch_secret(
        "db",
        json!({ "metadata": metadata, "stringData": { "a": "edited" } }),
    )
    .await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_for_event("db", "DriftCorrected").await;
    case.wait_until_synced("db").await;
}
