//! Tests the status of SealedSecrets.

use std::collections::BTreeMap;
use std::process::Command;

use kube::api::PostParams;
use serde_json::json;

use tests::sealing::KEYS;
use tests::{operators, roles};

use super::case::Case;

#[tokio::test]
async fn c2_c3_the_status_shows_the_newest_error_and_then_success() {
    let case = Case::new("status").await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    for (sealed, message) in [
        ("AAAA", "no key could decrypt secret (a)"),
        ("*", "illegal base64 data at input byte 0 (a)"),
        ("AAAA", "no key could decrypt secret (a)"),
    ] {
        case.patch(
            "db",
            json!({ "spec": { "encryptedData": { "a": sealed } } }),
        )
        .await;
        case.wait_for_condition("db", |synced| {
            let text = synced.message.as_deref().unwrap_or_default();
            text.starts_with(message) && text.contains("hint: item a is not a sealed value: ")
        })
        .await;
    }
    let good = case.sealed_secret("db", &[("a", "2")]);
    case.patch(
        "db",
        json!({ "spec": { "encryptedData": good.spec.encrypted_data } }),
    )
    .await;
    case.wait_until_synced("db").await;
    let status = case.status("db").await;
    let types: Vec<_> = status
        .conditions
        .iter()
        .map(|c| (c.type_.as_str(), c.status.as_str()))
        .collect();
    assert_eq!(types, [("Synced", "True"), ("Ready", "True")]);
    assert!(status.items[0].sealed_by.is_some());
}

/// Attack: an author stores an object with too many items, so that the controller ignores a victim's valid
/// object.
#[tokio::test]
async fn a_malformed_object_gets_its_own_status_and_affects_no_other() {
    let case = Case::new("malformed").await;
    // The CRD refuses a wrong type in every field that the controller reads, so the object has too many items instead.
    let items: BTreeMap<String, &str> = (0..=20_000).map(|i| (format!("{i}"), "")).collect();
    let spec = json!({ "encryptedData": items });
    let odd = json!({
        "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
        "metadata": { "name": "odd" }, "spec": spec,
    });
    let kind = kube::api::ApiResource::erase::<shared::resource::SealedSecret>(&());
    let api = kube::Api::<kube::api::DynamicObject>::namespaced_with(
        case.namespace.client(),
        case.namespace.name(),
        &kind,
    );
    api.create(
        &PostParams::default(),
        &serde_json::from_value(odd).unwrap(),
    )
    .await
    .unwrap();
    case.seal("good", &[("a", "1")]).await;
    case.wait_for_values("good", &[("a", "1")]).await;
    let event = case.wait_for_event("odd", "ErrUnsealFailed").await;
    assert!(event.message.unwrap().contains("more than 20000 items"));
    let status = tests::patience::until("the object has a status", async || {
        Some(
            api.get("odd").await.unwrap().data["status"]["conditions"][0]["status"]
                .as_str()?
                .to_owned(),
        )
    })
    .await;
    assert_eq!(status, "False");
}

/// Attack: an author stores an object with the maximal number of items, none of which can be unsealed, so that its
/// status is too large to be written.
#[tokio::test]
async fn an_object_of_maximal_size_gets_a_status_if_every_item_fails() {
    let case = Case::new("large").await;
    let mut sealed = case.sealed_secret("large", &[]);
    for i in 0..20_000 {
        let items = &mut sealed.spec.encrypted_data;
        items.insert(format!("key-{i:05}"), "AAAA".into());
    }
    case.create(&sealed).await;
    let message = case.wait_for_failure("large").await;
    assert!(message.starts_with("no key could decrypt secret (key-00000, key-00001, "));
    let status = case.sealed_secrets().get("large").await.unwrap().status;
    assert_eq!(status.unwrap().items.len(), 500);
}

#[tokio::test]
async fn writes_no_status_if_updates_are_disabled() {
    let case = Case::with_args("no-status", &["--update-status=false"]).await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_for_event("db", "Unsealed").await;
    assert_eq!(case.conditions("db").await, []);
}

#[tokio::test]
async fn logs_once_that_secrets_cannot_be_watched_and_works_otherwise() {
    let case = Case::without_permission_to_watch_secrets("unwatched").await;
    case.wait_for_log("so edits and deletions of them are not corrected")
        .await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    let log = case.controller.log();
    let warnings = log
        .lines()
        .filter(|line| line.contains("level=WARN") && line.contains("are not corrected"));
    assert_eq!(warnings.count(), 1, "{log}");
}

#[tokio::test]
async fn c19_retries_a_failed_write_of_a_status() {
    let case = Case::without_permission_to_update_statuses("no-permission").await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_for_log("cannot update the status").await;
    assert_eq!(case.conditions("db").await, []);
    roles::grant_statuses(&case.namespace).await;
    case.wait_until_synced("db").await;
}

#[tokio::test]
async fn a_restart_writes_nothing() {
    let case = Case::new("restart").await;
    case.seal("db", &[("a", "1")]).await;
    let before = case.wait_for_values("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    let sealed = case.sealed_secrets().get("db").await.unwrap();
    let case = case.restart(&[]).await;
    case.wait_until_idle("restart").await;
    assert_eq!(
        case.secret("db").await.unwrap().metadata.resource_version,
        before.metadata.resource_version
    );
    let after = case.sealed_secrets().get("db").await.unwrap();
    assert_eq!(
        after.metadata.resource_version,
        sealed.metadata.resource_version
    );
}

#[tokio::test]
async fn without_unsealed_events_only_warnings_are_written() {
    let case = Case::with_args("quiet", &["--unsealed-events=false"]).await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    case.patch(
        "db",
        json!({ "spec": { "encryptedData": { "a": "AAAA" } } }),
    )
    .await;
    case.wait_for_event("db", "ErrUnsealFailed").await;
    let events = case.events().await;
    let reasons: Vec<_> = events.iter().map(|event| event.reason.as_deref()).collect();
    assert!(!reasons.contains(&Some("Unsealed")), "{reasons:?}");
}

/// Returns the lines that `kubectl get sealedsecret -o wide` prints.
fn wide_rows(case: &Case) -> Vec<String> {
    let output = Command::new(operators::kubectl())
        .arg(format!(
            "--kubeconfig={}",
            case.plane.kubeconfig().display()
        ))
        .args(["get", "sealedsecret", "-o", "wide", "-n"])
        .arg(case.namespace.name())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn kubectl_shows_reason_last_good_version_and_key() {
    let case = Case::new("columns").await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    let rows = wide_rows(&case);
    let header: Vec<_> = rows[0].split_whitespace().collect();
    let added_columns = ["READY", "REASON", "LAST", "GOOD", "KEY"];
    assert_eq!(
        header,
        [&["NAME", "STATUS", "SYNCED", "AGE"][..], &added_columns].concat()
    );
    let fingerprint = KEYS[0].pair.fingerprint().to_string();
    let cells = |row: &str| -> Vec<String> { row.split_whitespace().map(str::to_owned).collect() };
    let good = cells(&rows[1]);
    assert_eq!(
        good[good.len() - 4..],
        ["True", "Unsealed", "1", &fingerprint]
    );
    let bad = json!({ "spec": { "encryptedData": { "a": "AAAA" } } });
    case.patch("db", bad).await;
    case.wait_for_failure("db").await;
    let bad = cells(&wide_rows(&case).concat());
    assert_eq!(bad[bad.len() - 3..], ["False", "ErrUnsealFailed", "1"]);
}
