//! Tests which objects the controller recognizes without decryption, and the number of decryptions otherwise. Compares
//! counts, not times.

use k8s_openapi::api::core::v1::Secret as ApiSecret;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use shared::hints;
use shared::resource::SealedSecret;
use shared::scope::Scope;
use tests::cluster_controller::ClusterController;
use tests::patience::until;
use tests::scrape::Scrape;
use tests::sealing::{KEYS, put_key, sealed_for};

use super::case::Case;

const ITEMS: [(&str, &str); 3] = [("a", "1"), ("b", "2"), ("c", "3")];

async fn counter(controller: &ClusterController, name: &str) -> f64 {
    let scrape = Scrape::read(&controller.scrape().await);
    let value = scrape.value(&format!("sealed_secrets_controller_{name}"), &[]);
    value.unwrap_or_default()
}

pub(super) async fn operations(case: &Case) -> f64 {
    counter(&case.controller, "private_key_operations_total").await
}

pub(super) async fn wait_until_recognized(case: &Case, objects: f64) {
    let goal = format!(
        "{objects} objects are recognized\n{}",
        case.controller.log()
    );
    until(&goal, async || {
        (counter(&case.controller, "recognized_total").await >= objects).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_restart_decrypts_nothing_and_unseals_the_next_object_at_once() {
    let one_key = ["--key-renew-period=0"];
    let case = Case::with_args("restart", &one_key).await;
    for i in 0..5 {
        case.seal(&format!("s-{i}"), &ITEMS).await;
    }
    for i in 0..5 {
        case.wait_until_synced(&format!("s-{i}")).await;
    }
    let operations_before = operations(&case).await;
    assert!(
        (operations_before - 15.0).abs() < 0.5,
        "{operations_before}"
    );
    let case = case.restart(&one_key).await;
    wait_until_recognized(&case, 5.0).await;
    assert!(operations(&case).await < 0.5);
    case.seal("new", &ITEMS[..1]).await;
    case.wait_for_values("new", &ITEMS[..1]).await;
    case.wait_until_synced("new").await;
    assert!((operations(&case).await - 1.0).abs() < 0.5);
}

#[tokio::test]
async fn notices_changes_made_while_stopped_and_decrypts_nothing_for_an_unrelated_label() {
    let case = Case::new("meanwhile").await;
    for name in ["labeled", "edited", "deleted"] {
        case.seal(name, &ITEMS[..1]).await;
        case.wait_until_synced(name).await;
    }
    let case = case
        .restart_after(async |namespace| {
            let secrets = namespace.api::<ApiSecret>();
            let patch = async |name, patch: Value| {
                let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
                secrets.patch(name, &params, &patch).await.unwrap();
            };
            patch("labeled", json!({ "metadata": { "labels": { "x": "y" } } })).await;
            patch("edited", json!({ "stringData": { "a": "edited" } })).await;
            let result = secrets.delete("deleted", &DeleteParams::default()).await;
            result.unwrap();
        })
        .await;
    case.wait_for_values("edited", &ITEMS[..1]).await;
    case.wait_for_values("deleted", &ITEMS[..1]).await;
    wait_until_recognized(&case, 1.0).await;
    assert!((operations(&case).await - 2.0).abs() < 0.5);
    let labels = case.secret("labeled").await.unwrap().metadata.labels;
    assert_eq!(labels.unwrap()["x"], "y");
}

/// Attack: an author copies the status record of another object, so that the controller does not write the Secret.
#[tokio::test]
async fn a_record_copied_from_another_object_is_ignored() {
    let case = Case::new("forged").await;
    for name in ["mine", "other"] {
        case.seal(name, &ITEMS).await;
        case.wait_until_synced(name).await;
    }
    let record = async |name: &str| {
        let object = case.sealed_secrets().get(name).await.unwrap();
        object.status.and_then(|status| status.record)
    };
    let (mine, other) = (
        record("mine").await.unwrap(),
        record("other").await.unwrap(),
    );
    let records = [
        ("copied", json!(mine)),
        ("with the right Secret", {
            let mut record = mine.clone();
            record.secret_uid.clone_from(&other.secret_uid);
            record.secret_version.clone_from(&other.secret_version);
            json!(record)
        }),
    ];
    let mut case = case;
    for (kind, record) in records {
        case = case
            .restart_after(async |namespace| {
                let patch = Patch::Merge(json!({ "status": { "record": record } }));
                let api = namespace.api::<SealedSecret>();
                let params = PatchParams::default();
                api.patch_status("other", &params, &patch).await.unwrap();
            })
            .await;
        let genuine = json!(other);
        until(&format!("the record is corrected: {kind}"), async || {
            let object = case.sealed_secrets().get("other").await.unwrap();
            (json!(object.status?.record?) == genuine).then_some(())
        })
        .await;
        wait_until_recognized(&case, 1.0).await;
        assert!((operations(&case).await - 3.0).abs() < 0.5, "{kind}");
    }
}

#[tokio::test]
async fn a_hint_or_a_recorded_key_saves_attempts_with_other_keys() {
    let case = Case::with_args("hints", &["--key-renew-period=0"]).await;
    put_key(&case.namespace, "key-1", &KEYS[1]).await;
    put_key(&case.namespace, "key-2", &KEYS[2]).await;
    case.wait_for_log("secretname=key-2").await;
    let seal =
        |name: &str, items| sealed_for(&KEYS[0], case.namespace.name(), name, items, Scope::Strict);
    let mut hinted = seal("hinted", &ITEMS);
    let oldest = KEYS[0].pair.fingerprint();
    let hint = |(item, _): &(&str, &str)| ((*item).to_owned(), oldest.clone());
    let annotations = hinted.metadata.annotations.get_or_insert_default();
    hints::annotate(annotations, &ITEMS.iter().map(hint).collect());
    case.create(&hinted).await;
    case.wait_until_synced("hinted").await;
    let hinted_operations = operations(&case).await;
    assert!(
        (hinted_operations - 3.0).abs() < 0.5,
        "{hinted_operations} operations, not one for each item"
    );

    case.create(&seal("unhinted", &ITEMS)).await;
    case.wait_until_synced("unhinted").await;
    let first = operations(&case).await - hinted_operations;
    assert!(
        (first - 5.0).abs() < 0.5,
        "{first} operations: the first item tries all three keys, the other items only the key that unsealed the first one"
    );
    // A new version, sealed for the same key: the status still names the key.
    let next = seal("unhinted", &[("a", "9"), ("b", "2"), ("c", "3")]);
    case.patch(
        "unhinted",
        json!({ "spec": { "encryptedData": next.spec.encrypted_data } }),
    )
    .await;
    case.wait_for_values("unhinted", &[("a", "9"), ("b", "2"), ("c", "3")])
        .await;
    let second = operations(&case).await - hinted_operations - first;
    assert!((second - 3.0).abs() < 0.5, "{second}");
}
