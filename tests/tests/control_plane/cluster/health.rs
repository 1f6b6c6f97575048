//! Tests Argo CD's rule for SealedSecrets and Flux's kstatus on objects in the cluster.

use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use shared::scope::Scope;
use tests::sealing::{KEYS, put_key, sealed_for};
use tests::verdicts::judge;

use super::case::Case;

#[tokio::test]
async fn argo_cd_and_kstatus_judge_every_state_correctly() {
    let case = Case::new("health").await;
    case.seal("db", &[("a", "1")]).await;
    case.wait_until_synced("db").await;
    assert_current_verdicts(&case, "healthy", "Healthy", "Current").await;

    case.patch(
        "db",
        json!({ "spec": { "encryptedData": { "a": "AAAA" } } }),
    )
    .await;
    let message = case.wait_for_failure("db").await;
    assert_current_verdicts(&case, "failed", "Degraded", "Failed").await;
    assert_eq!(judge(&object(&case).await).message, message);

    let second = [("a", "2")];
    let items = sealed_for(
        &KEYS[1],
        case.namespace.name(),
        "db",
        &second,
        Scope::Strict,
    );
    let items = json!({ "spec": { "encryptedData": items.spec.encrypted_data } });
    case.patch("db", items).await;
    case.wait_for_failure("db").await;
    put_key(&case.namespace, "key-1", &KEYS[1]).await;
    case.wait_until_synced("db").await;
    assert_current_verdicts(&case, "recovered", "Healthy", "Current").await;

    let (sealed_secrets, late) = (
        case.sealed_secrets(),
        case.sealed_secret("late", &[("a", "1")]),
    );
    assert_eq!(case.controller.stop(), Some(0));
    let created = sealed_secrets
        .create(&PostParams::default(), &late)
        .await
        .unwrap();
    assert_verdicts(&json!(created), "new", "Progressing", "InProgress");

    // The rule compares the generation since Argo CD 3.4.13 and 3.5.7; earlier rules return `Healthy` here.
    let patch = Patch::Merge(json!({ "spec": { "encryptedData": { "a": "AAAA" } } }));
    let stale = sealed_secrets
        .patch("db", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_verdicts(
        &json!(stale),
        "stale generation",
        "Progressing",
        "InProgress",
    );
}

async fn assert_current_verdicts(case: &Case, state: &str, argo: &str, kstatus: &str) {
    assert_verdicts(&object(case).await, state, argo, kstatus);
}

fn assert_verdicts(object: &Value, state: &str, argo: &str, kstatus: &str) {
    let verdict = judge(object);
    assert_eq!(
        (verdict.argo.as_str(), verdict.kstatus.as_str()),
        (argo, kstatus),
        "{state}"
    );
}

async fn object(case: &Case) -> Value {
    json!(case.sealed_secrets().get("db").await.unwrap())
}
