//! Tests which changes change the content versions in the status, and which do not.

use k8s_openapi::api::core::v1::Secret as ApiSecret;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use shared::reseal::{ResealRules, reseal, reseal_as_v2};
use shared::resource::{SealedSecret, SecretVersion};
use shared::v2;
use tests::patience::until;
use tests::sealing::{KEYS, key_ring, put_key};

use super::case::Case;
use super::record::wait_until_recognized;

const ITEMS: [(&str, &str); 2] = [("a", "1"), ("b", "2")];
const KEY_SECRET: &str = "sealed-secrets-key-content-versions";

/// Waits until the status reports that the current generation is unsealed, and returns the versions.
async fn versions(case: &Case, name: &str) -> Vec<SecretVersion> {
    let status = until("the generation is unsealed", async || {
        let object = case.sealed_secrets().get(name).await.unwrap();
        let status = object.status?;
        (status.last_unsealed_generation == object.metadata.generation).then_some(status)
    })
    .await;
    status.versions
}

async fn replace_entries(case: &Case, name: &str, next: &SealedSecret) {
    let mut present = case.sealed_secrets().get(name).await.unwrap();
    present.spec = next.spec.clone();
    let objects = case.sealed_secrets();
    objects
        .replace(name, &PostParams::default(), &present)
        .await
        .unwrap();
}

fn rules() -> ResealRules {
    ResealRules {
        now: jiff::Timestamp::now(),
        accept_legacy: false,
        max_items: 10,
        policy: v2::Policy::default(),
    }
}

#[tokio::test]
async fn setting_a_value_changes_the_version_and_re_encryption_does_not() {
    let case = Case::new("versions").await;
    case.seal("db", &ITEMS).await;
    let first = versions(&case, "db").await;
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].generation, Some(1));

    let ring = key_ring(&[&KEYS[0], &KEYS[1]]);
    put_key(&case.namespace, "key-1", &KEYS[1]).await;
    case.wait_for_log("secretname=key-1").await;
    let (random, meter) = (&mut shared::random::system(), &mut shared::meter::Unmetered);
    let present = case.sealed_secrets().get("db").await.unwrap();
    let resealed = reseal(&present, &ring, rules(), random, meter).unwrap();
    assert_eq!(resealed.changed, 2);
    replace_entries(&case, "db", &resealed.sealed).await;
    assert_eq!(versions(&case, "db").await, first, "re-encrypted");

    let label = json!({ "spec": { "template": { "metadata": { "labels": { "team": "a" } } } } });
    case.patch("db", label).await;
    assert_eq!(versions(&case, "db").await, first, "labeled");

    let present = case.sealed_secrets().get("db").await.unwrap();
    let converted = reseal_as_v2(&present, &ring, rules(), random, meter).unwrap();
    replace_entries(&case, "db", &converted.sealed).await;
    assert_eq!(versions(&case, "db").await, first, "converted to v2");

    // The same values are set again.
    let again = case.sealed_secret("db", &ITEMS);
    replace_entries(&case, "db", &again).await;
    let next = versions(&case, "db").await;
    assert_eq!(next.len(), 2);
    assert_eq!(next[1], first[0]);
    assert_ne!(next[0].version, first[0].version);
    assert!(next[0].time >= first[0].time);
}

#[tokio::test]
async fn a_restart_keeps_the_versions_and_a_replaced_version_key_keeps_their_time() {
    let case = Case::new("versions-restart").await;
    case.seal("db", &ITEMS).await;
    let first = versions(&case, "db").await;
    let case = case.restart(&[]).await;
    wait_until_recognized(&case, 1.0).await;
    assert_eq!(versions(&case, "db").await, first);

    let case = case
        .restart_after(async |namespace| {
            let secrets = namespace.api::<ApiSecret>();
            let params = DeleteParams::default();
            secrets.delete(KEY_SECRET, &params).await.unwrap();
        })
        .await;
    let next = until("the version has another key", async || {
        let next = versions(&case, "db").await;
        (next.len() == 2).then_some(next)
    })
    .await;
    assert_ne!(next[0].key_id, first[0].key_id);
    assert_eq!(
        (next[0].generation, &next[0].time),
        (Some(1), &first[0].time)
    );
    let secret = case.secret("db").await.unwrap();
    let manager = secret
        .managed_fields()
        .iter()
        .filter(|m| m.operation.as_deref() == Some("Update"));
    assert_eq!(manager.count(), 1, "the Secret was written once");
}

/// Attack: an author seals guesses of a value one after another, and compares versions to recognize the right one.
#[tokio::test]
async fn a_right_guess_changes_the_version_like_a_wrong_one() {
    let case = Case::new("versions-guess").await;
    case.seal("pin", &[("pin", "1234")]).await;
    let mut previous = versions(&case, "pin").await;
    for guess in ["0000", "1234", "1234", "9999"] {
        let sealed = case.sealed_secret("pin", &[("pin", guess)]);
        replace_entries(&case, "pin", &sealed).await;
        let next = versions(&case, "pin").await;
        assert_eq!(next.len(), previous.len() + 1, "{guess}");
        let is_new = previous
            .iter()
            .all(|version| version.version != next[0].version);
        assert!(is_new, "{guess}");
        previous = next;
    }
}

#[tokio::test]
async fn each_generation_changes_the_version_of_random_values() {
    let case = Case::new("versions-random").await;
    case.seal_with("app", &[("a", "1")], &[("token", "{{ randAlphaNum 20 }}")])
        .await;
    let first = versions(&case, "app").await;
    let case = case.restart(&[]).await;
    assert_eq!(versions(&case, "app").await, first);
    let label = json!({ "spec": { "template": { "metadata": { "labels": { "team": "a" } } } } });
    case.patch("app", label).await;
    assert_eq!(versions(&case, "app").await.len(), 2);
}

/// Attack: an author in the controller's namespace seals a Secret with the name of the content-version key, to know the
/// key and test guesses offline.
#[tokio::test]
async fn a_sealed_secret_cannot_create_the_version_key() {
    let case = Case::new("versions-key").await;
    case.delete_secret(KEY_SECRET).await;
    case.seal(KEY_SECRET, &[("key", "0123456789abcdef0123456789abcdef")])
        .await;
    let message = case.wait_for_failure(KEY_SECRET).await;
    assert!(message.contains("would load it as a key"), "{message}");
    assert!(case.secret(KEY_SECRET).await.is_none());
}
