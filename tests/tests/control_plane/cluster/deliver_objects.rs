//! Tests SealedSecrets whose values are only delivered, so that no Secret exists.

use deliver::{DELIVER_ANNOTATION, DELIVER_FILES};
use serde_json::{Value, json};
use shared::resource::SealedSecret;
use shared::v2::LockSpec;
use tests::sealing::KEYS;
use tests::v2_objects::{add_shared, empty};

use super::case::Case;
use super::deliver_case::{DeliverCase, all_of, values};

const ITEMS: [(&str, &str); 1] = [("a", "1")];

fn annotation(value: &Value) -> Value {
    json!({ "metadata": { "annotations": { "sealedsecrets.bitnami.com/deliver": value } } })
}

/// Adds the annotation for delivery without a Secret.
fn only_deliver(sealed: &mut SealedSecret) {
    let annotation = (DELIVER_ANNOTATION.to_owned(), DELIVER_FILES.to_owned());
    let annotations = &mut sealed.metadata.annotations;
    annotations.get_or_insert_default().extend([annotation]);
}

/// Waits until the status reports that the values are only delivered, with their version and without a record.
async fn assert_has_no_secret(case: &DeliverCase, name: &str) {
    let is_without_secret = |condition: &shared::resource::Condition| {
        condition.status == "True" && condition.reason.as_deref() == Some("NotMade")
    };
    case.case.wait_for_condition(name, is_without_secret).await;
    let conditions = case.case.conditions(name).await;
    assert_eq!(conditions.len(), 2, "Synced and Ready: {conditions:?}");
    assert!(conditions.iter().all(is_without_secret), "{conditions:?}");
    let message = conditions[1].message.as_deref().unwrap();
    assert!(message.contains("no Secret is created"), "{message}");
    let status = case.case.status(name).await;
    assert_eq!(status.versions[0].version.len(), 22);
    assert_eq!(status.record, None);
}

#[tokio::test]
async fn the_annotation_deletes_the_secret_and_removing_the_annotation_recreates_the_secret() {
    let case = DeliverCase::new("deliver-annotation").await;
    case.case.seal("db", &ITEMS).await;
    case.case.wait_for_values("db", &ITEMS).await;
    case.case.wait_until_synced("db").await;
    let status = case.case.status("db").await;
    let versions = status.versions;
    let token = case.create_pod("web").await;
    let response = case.tls.wait_for(200, &token, &all_of("db")).await;
    for _ in 0..6 {
        case.case.patch("db", annotation(&json!("files"))).await;
        case.case.wait_for_no_secret("db").await;
        assert_has_no_secret(&case, "db").await;
        let same = case.tls.wait_for(200, &token, &all_of("db")).await;
        assert_eq!(same, response, "the annotation changes nothing for Pods");
        case.case.patch("db", annotation(&Value::Null)).await;
        case.case.wait_for_values("db", &ITEMS).await;
        case.case.wait_until_synced("db").await;
    }
    let events = case.case.events().await;
    let has_drift = events
        .iter()
        .any(|event| event.reason.as_deref() == Some("DriftFight"));
    assert!(
        !has_drift,
        "no change to the annotation is an edit of the Secret"
    );
    let status = case.case.status("db").await;
    assert_eq!(status.versions, versions);
}

#[tokio::test]
async fn a_value_with_the_flag_of_v2_has_no_secret_and_is_delivered() {
    let case = DeliverCase::new("deliver-flag").await;
    let mut sealed = empty(case.case.namespace.name(), "db");
    let never_secret = |spec: &mut LockSpec<'_>| spec.is_never_secret = true;
    add_shared(
        &mut sealed,
        KEYS[0].pair.certificate().public_key(),
        &ITEMS,
        never_secret,
    );
    case.case.create(&sealed).await;
    assert_has_no_secret(&case, "db").await;
    assert!(case.case.secret("db").await.is_none());
    let token = case.create_pod("web").await;
    let response = case.tls.wait_for(200, &token, &all_of("db")).await;
    assert_eq!(values(&response), [("a".to_owned(), "1".to_owned())]);
}

/// Attack: an editor adds the annotation, to have the Secret of another client deleted.
#[tokio::test]
async fn the_annotation_removes_no_secret_of_another_client() {
    let case = DeliverCase::new("deliver-foreign-secret").await;
    let unowned = json!({ "metadata": { "name": "db" }, "stringData": { "a": "unowned" } });
    case.case.create_secret(unowned).await;
    let managed = json!({ "metadata": {
        "name": "managed", "annotations": { "sealedsecrets.bitnami.com/managed": "true" },
    }, "stringData": { "a": "unowned" } });
    case.case.create_secret(managed).await;
    for name in ["db", "managed"] {
        let mut sealed = case.case.sealed_secret(name, &ITEMS);
        only_deliver(&mut sealed);
        case.case.create(&sealed).await;
        assert_has_no_secret(&case, name).await;
        case.case.wait_for_values(name, &[("a", "unowned")]).await;
        assert_reports_remaining_secret(&case, name).await;
    }
}

async fn assert_reports_remaining_secret(case: &DeliverCase, name: &str) {
    let conditions = case.case.conditions(name).await;
    let message = conditions[1].message.as_deref().unwrap();
    assert!(message.contains("is kept, since"), "{message}");
}

/// Attack: an editor of a SealedSecret that was merged into the Secret of another client adds the annotation, to have
/// the other client's values deleted.
#[tokio::test]
async fn the_annotation_keeps_the_values_of_another_client_in_a_merged_secret() {
    let case = DeliverCase::new("deliver-merged").await;
    let shared = json!({ "metadata": {
        "name": "db",
        "annotations": {
            "sealedsecrets.bitnami.com/managed": "true", "sealedsecrets.bitnami.com/patch": "true",
        },
    }, "stringData": { "unowned": "1" } });
    case.case.create_secret(shared).await;
    case.case.seal("db", &ITEMS).await;
    let merged = [("a", "1"), ("unowned", "1")];
    case.case.wait_for_values("db", &merged).await;
    case.case.wait_until_synced("db").await;
    case.case.patch("db", annotation(&json!("files"))).await;
    assert_has_no_secret(&case, "db").await;
    assert_reports_remaining_secret(&case, "db").await;
    case.case.wait_for_values("db", &merged).await;
}

/// Attack: a client that may write Secrets adds a finalizer to a Secret, so that its values stay readable while the
/// status of the SealedSecret reports that no Secret exists.
#[tokio::test]
async fn the_status_reports_a_secret_that_a_finalizer_keeps_until_it_is_gone() {
    let watching = Case::new("deliver-finalizer").await;
    let polling = Case::without_permission_to_watch_secrets("deliver-finalizer-unwatched").await;
    let finalizers = |value: &Value| json!({ "metadata": { "finalizers": value } });
    for case in [&watching, &polling] {
        case.seal("db", &ITEMS).await;
        case.wait_for_values("db", &ITEMS).await;
        case.wait_until_synced("db").await;
        let added = finalizers(&json!(["example.com/keep"]));
        case.patch_secret("db", added).await;
        case.patch("db", annotation(&json!("files"))).await;
        wait_for_delivery_status(case, true).await;
        let secret = case.secret("db").await.unwrap();
        assert!(secret.metadata.deletion_timestamp.is_some());
        case.wait_for_values("db", &ITEMS).await;
    }
    for case in [&watching, &polling] {
        // A further attempt does not change the status.
        case.patch("db", json!({ "metadata": { "labels": { "a": "b" } } }))
            .await;
        case.wait_until_idle("db").await;
        wait_for_delivery_status(case, true).await;
        case.patch_secret("db", finalizers(&Value::Null)).await;
        case.wait_for_no_secret("db").await;
        wait_for_delivery_status(case, false).await;
    }
}

/// Waits until the status says that the values are only delivered, and whether finalizers keep the Secret.
async fn wait_for_delivery_status(case: &Case, keeps_secret: bool) {
    let is_reported = |condition: &shared::resource::Condition| {
        let message = condition.message.as_deref().unwrap_or_default();
        condition.status == "True"
            && condition.reason.as_deref() == Some("NotMade")
            && message.contains("no Secret is created")
            && message.contains("remove their finalizers") == keeps_secret
            && message.contains("existing Secret") == keeps_secret
    };
    case.wait_for_condition("db", is_reported).await;
    let conditions = case.conditions("db").await;
    assert!(conditions.iter().all(is_reported), "{conditions:?}");
}

/// Fault: the value of the annotation is misspelled, and the Secret that the author wanted to avoid is created.
#[tokio::test]
async fn a_misspelled_annotation_creates_no_secret() {
    let case = DeliverCase::new("deliver-misspelled").await;
    let mut sealed = case.case.sealed_secret("db", &ITEMS);
    let annotation = (DELIVER_ANNOTATION.to_owned(), "file".to_owned());
    let annotations = &mut sealed.metadata.annotations;
    annotations.get_or_insert_default().extend([annotation]);
    case.case.create(&sealed).await;
    let message = case.case.wait_for_failure("db").await;
    assert!(message.contains("has an unknown value"), "{message}");
    assert!(case.case.secret("db").await.is_none());
}

#[tokio::test]
async fn an_object_that_cannot_be_unsealed_keeps_its_secret() {
    let case = DeliverCase::new("deliver-damaged").await;
    case.case.seal("db", &ITEMS).await;
    case.case.wait_for_values("db", &ITEMS).await;
    let objects = case.case.sealed_secrets();
    let mut present = objects.get("db").await.unwrap();
    let other = case.case.sealed_secret("other", &ITEMS);
    present.spec.encrypted_data = other.spec.encrypted_data;
    only_deliver(&mut present);
    let params = kube::api::PostParams::default();
    objects.replace("db", &params, &present).await.unwrap();
    case.case.wait_for_failure("db").await;
    case.case.wait_for_values("db", &ITEMS).await;
}

#[tokio::test]
async fn random_templates_are_refused_for_values_that_are_only_delivered() {
    let case = DeliverCase::new("deliver-random").await;
    let mut sealed = case.case.sealed_secret("app", &ITEMS);
    let template = ("token".to_owned(), Some("{{ randAlphaNum 20 }}".to_owned()));
    sealed.spec.template.data = Some([template].into());
    only_deliver(&mut sealed);
    case.case.create(&sealed).await;
    let message = case.case.wait_for_failure("app").await;
    assert!(
        message.contains("each Pod would get different values"),
        "{message}"
    );
}
