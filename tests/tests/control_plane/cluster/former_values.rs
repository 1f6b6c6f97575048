//! Tests former values that a Secret keeps for a while.

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use shared::resource::{
    KEEP_PREVIOUS_ANNOTATION, KEEP_PREVIOUS_FOR_ANNOTATION, MANAGED_ANNOTATION, PATCH_ANNOTATION,
    PREVIOUS_VALUES_ANNOTATION, PreviousValues, SealedSecret,
};
use tests::patience::until;

use super::case::Case;

const BEFORE: [(&str, &str); 2] = [("a", "1"), ("b", "2")];
const AFTER: [(&str, &str); 2] = [("a", "3"), ("b", "2")];
const BOTH: [(&str, &str); 3] = [("a", "3"), ("a.previous", "1"), ("b", "2")];

/// Seals an object that keeps the former value of `a` for this time.
async fn seal(case: &Case, duration: &str) {
    let mut sealed = case.sealed_secret("db", &BEFORE);
    sealed.annotations_mut().extend([
        (KEEP_PREVIOUS_ANNOTATION.to_owned(), "a".to_owned()),
        (KEEP_PREVIOUS_FOR_ANNOTATION.to_owned(), duration.to_owned()),
    ]);
    case.create(&sealed).await;
    case.wait_until_synced("db").await;
}

/// Replaces the values of these items of the object.
async fn set(case: &Case, items: &[(&str, &str)]) {
    let next = case.sealed_secret("db", items);
    let patch = json!({ "spec": { "encryptedData": next.spec.encrypted_data } });
    case.patch("db", patch).await;
}

async fn previous_values(case: &Case) -> Option<PreviousValues> {
    let object = case.sealed_secrets().get("db").await.unwrap();
    object.status?.previous
}

#[tokio::test]
async fn a_former_value_is_kept_for_the_requested_time() {
    let case = Case::new("former").await;
    seal(&case, "4s").await;
    case.wait_for_values("db", &BEFORE).await;
    set(&case, &AFTER).await;
    case.wait_for_values("db", &BOTH).await;
    let status = until("the status names the former value", async || {
        previous_values(&case).await
    })
    .await;
    assert_eq!(status.items, ["a"]);
    case.wait_for_values("db", &AFTER).await;
    until("the status names no former value", async || {
        previous_values(&case).await.is_none().then_some(())
    })
    .await;
    let events = case.events().await;
    let is_correction = |reason: Option<&str>| reason == Some("DriftCorrected");
    assert!(
        !events
            .iter()
            .any(|event| is_correction(event.reason.as_deref()))
    );
}

#[tokio::test]
async fn a_restart_keeps_former_values_and_drops_them_in_time() {
    let case = Case::new("former-restart").await;
    seal(&case, "8s").await;
    set(&case, &AFTER).await;
    case.wait_for_values("db", &BOTH).await;
    until("the status names the former value", async || {
        previous_values(&case).await
    })
    .await;
    let case = case.restart(&[]).await;
    assert!(
        case.secret("db")
            .await
            .unwrap()
            .data
            .unwrap()
            .contains_key("a.previous")
    );
    case.wait_for_values("db", &AFTER).await;
}

#[tokio::test]
async fn a_re_encrypted_or_relabeled_object_keeps_no_former_value() {
    let case = Case::new("former-same").await;
    seal(&case, "1h").await;
    let label = json!({ "spec": { "template": { "metadata": { "labels": { "team": "a" } } } } });
    case.patch("db", label).await;
    let secret = until("the Secret has the label", async || {
        let secret = case.secret("db").await?;
        secret.labels().contains_key("team").then_some(secret)
    })
    .await;
    assert_eq!(secret.data.unwrap().len(), 2);
    let marks = &secret.metadata.annotations.unwrap()[PREVIOUS_VALUES_ANNOTATION];
    assert!(!marks.contains("former"), "{marks}");
}

#[tokio::test]
async fn an_edit_of_a_former_value_by_another_client_is_kept_until_it_is_dropped() {
    let case = Case::new("former-edit").await;
    seal(&case, "5s").await;
    set(&case, &AFTER).await;
    case.wait_for_values("db", &BOTH).await;
    case.patch_secret("db", json!({ "stringData": { "b": "edited" } }))
        .await;
    case.wait_for_values("db", &BOTH).await;
    case.wait_for_event("db", "DriftCorrected").await;
    case.wait_for_values("db", &AFTER).await;
}

#[tokio::test]
async fn an_invalid_duration_is_refused_and_the_old_secret_stays() {
    let case = Case::new("former-duration").await;
    case.seal("db", &BEFORE).await;
    case.wait_until_synced("db").await;
    let annotations =
        json!({ KEEP_PREVIOUS_ANNOTATION: "a", KEEP_PREVIOUS_FOR_ANNOTATION: "soon" });
    case.patch("db", json!({ "metadata": { "annotations": annotations } }))
        .await;
    set(&case, &AFTER).await;
    let message = case.wait_for_failure("db").await;
    assert!(message.contains("use a duration"), "{message}");
    case.wait_for_values("db", &BEFORE).await;
}

/// Creates an object and replaces it with a version that `change` has changed, so that the Secret keeps a former value
/// for four seconds.
async fn with_former_value(purpose: &str, change: impl FnOnce(&mut SealedSecret)) -> Case {
    let case = Case::new(purpose).await;
    seal(&case, "4s").await;
    case.wait_for_values("db", &BEFORE).await;
    let mut next = case.sealed_secret("db", &AFTER);
    change(&mut next);
    let mut present = case.sealed_secrets().get("db").await.unwrap();
    present.spec = next.spec;
    present
        .annotations_mut()
        .extend(next.metadata.annotations.unwrap_or_default());
    let (objects, params) = (case.sealed_secrets(), PostParams::default());
    objects.replace("db", &params, &present).await.unwrap();
    case
}

/// Attack: an author tolerates edits, so that a former value stays longer than requested.
#[tokio::test]
async fn former_values_are_dropped_even_if_edits_are_tolerated() {
    let case = with_former_value("former-tolerated", |next| {
        let opt_out = (
            "sealedsecrets.bitnami.com/correct-drift".to_owned(),
            "false".to_owned(),
        );
        next.annotations_mut().extend([opt_out]);
    })
    .await;
    case.wait_for_values("db", &BOTH).await;
    case.wait_for_values("db", &AFTER).await;
}

#[tokio::test]
async fn former_values_are_dropped_even_if_a_later_version_fails() {
    let case = with_former_value("former-failing", |_| ()).await;
    case.wait_for_values("db", &BOTH).await;
    let broken = json!({ "spec": { "encryptedData": { "a": "AgBroken" } } });
    case.patch("db", broken).await;
    case.wait_for_failure("db").await;
    case.wait_for_values("db", &AFTER).await;
}

/// Attack: a client that may write statuses removes the former values from the status, so that they stay in the Secret.
#[tokio::test]
async fn former_values_are_dropped_despite_a_forged_status() {
    let case = with_former_value("former-forged", |_| ()).await;
    case.wait_for_values("db", &BOTH).await;
    until("the status names the former value", async || {
        previous_values(&case).await
    })
    .await;
    let forged = json!({ "status": { "previous": null } });
    let (objects, params) = (case.sealed_secrets(), PatchParams::default());
    objects
        .patch_status("db", &params, &Patch::Merge(forged))
        .await
        .unwrap();
    let case = case.restart(&[]).await;
    case.wait_for_values("db", &AFTER).await;
}

#[tokio::test]
async fn former_values_are_dropped_when_they_are_no_longer_requested() {
    let case = Case::new("former-removed").await;
    seal(&case, "1h").await;
    set(&case, &AFTER).await;
    case.wait_for_values("db", &BOTH).await;
    let annotations = json!({ KEEP_PREVIOUS_ANNOTATION: null });
    case.patch("db", json!({ "metadata": { "annotations": annotations } }))
        .await;
    case.wait_for_values("db", &AFTER).await;
}

#[tokio::test]
async fn a_secret_that_becomes_immutable_keeps_no_former_value() {
    let case = with_former_value("former-immutable", |next| {
        next.spec.template.immutable = Some(true);
    })
    .await;
    let secret = until("the Secret is immutable", async || {
        let secret = case.secret("db").await?;
        (secret.immutable == Some(true)).then_some(secret)
    })
    .await;
    assert!(!secret.data.unwrap().contains_key("a.previous"));
    case.wait_until_synced("db").await;
}

/// Attack: an author replaces an item of another client, in a Secret that consents to a merge, with a former value.
#[tokio::test]
async fn a_former_value_never_replaces_an_item_of_another_owner() {
    let case = Case::new("former-merged").await;
    let annotations = json!({ MANAGED_ANNOTATION: "true", PATCH_ANNOTATION: "true" });
    let metadata = json!({ "name": "db", "annotations": annotations });
    let secret =
        json!({ "metadata": metadata, "stringData": { "a.previous": "of another client" } });
    case.create_secret(secret).await;
    seal(&case, "4s").await;
    set(&case, &AFTER).await;
    let want = [("a", "3"), ("a.previous", "of another client"), ("b", "2")];
    case.wait_for_values("db", &want).await;
}
