//! Tests keys that are added, removed and generated.

use std::sync::Arc;

use controller::files::Directory;
use controller::key_renewal::GeneratedKey;
use controller::key_store::KeyStore;
use jiff::{SignedDuration, Timestamp};
use shared::key_ring::{KeyRing, NoSealingKey};
use shared::v2::Suite;

use crate::support::{Case, KEYS, key, key_manifest, manifest_of, sealed};

const SECOND: SignedDuration = SignedDuration::from_secs(1);

fn ring(case: &mut Case) -> Arc<KeyRing> {
    Arc::clone(&case.controller().server_state().ring.borrow())
}

fn key_names(case: &mut Case) -> Vec<String> {
    let ring = ring(case);
    ring.keys()
        .iter()
        .map(|key| key.name().to_owned())
        .collect()
}

/// Only files that other programs write have to stay unchanged for a while before the controller reads them.
#[tokio::test]
async fn a_generated_key_is_in_use_as_soon_as_it_is_stored() {
    let case = Case::new().await;
    let directory = tempfile::tempdir().unwrap();
    let root = Arc::new(Directory::open(directory.path()).unwrap());
    let now = Timestamp::now();
    let mut store = KeyStore::open(root, case.config().keys, now).unwrap();
    store
        .add(&GeneratedKey::Rsa(key(1_700_000_000).into()), now)
        .unwrap();
    assert_eq!(store.ring().keys().len(), 1);
}

#[tokio::test]
async fn an_added_key_unseals_failed_objects_within_two_seconds() {
    let mut case = Case::new().await;
    case.write(
        "sealed/x.yaml",
        &manifest_of(&sealed(&KEYS[1], "ns/n", &[("a", "1")])),
    );
    case.advance(SECOND * 60).await;
    assert_eq!(case.failure("ns/n"), "no key could decrypt secret (a)");
    case.write("keys/two.yaml", &key_manifest("two", &KEYS[1]));
    case.advance(SECOND * 2).await;
    assert_eq!(case.value("ns/n/a").as_deref(), Some("1"));
    assert!(case.is_synced("ns/n"));
}

#[tokio::test]
async fn a_removed_key_unseals_nothing_and_existing_secrets_stay() {
    let mut case = Case::new().await;
    case.write("keys/two.yaml", &key_manifest("two", &KEYS[1]));
    let object = |value| manifest_of(&sealed(&KEYS[1], "ns/n", &[("a", value)]));
    case.write("sealed/x.yaml", &object("1"));
    case.advance(SECOND * 2).await;
    case.remove("keys/two.yaml");
    case.advance(SECOND * 5).await;
    assert!(case.is_synced("ns/n"));
    case.write("sealed/x.yaml", &object("2"));
    case.tick().await;
    assert_eq!(case.failure("ns/n"), "no key could decrypt secret (a)");
    assert_eq!(case.value("ns/n/a").as_deref(), Some("1"));
}

#[tokio::test]
async fn after_the_last_key_is_removed_the_removed_keys_unseal_until_another_is_added() {
    let mut case = Case::new().await;
    case.write("keys/two.yaml", &key_manifest("two", &KEYS[1]));
    case.advance(SECOND * 2).await;
    // The keys are removed one after another, as a command does that removes several files.
    case.remove("keys/one.yaml");
    case.advance(SECOND * 2).await;
    case.remove("keys/two.yaml");
    case.advance(SECOND * 60).await;
    let reason = ring(&mut case)
        .sealing_key(Timestamp::UNIX_EPOCH)
        .unwrap_err();
    assert_eq!(reason, NoSealingKey::Removed);
    assert_eq!(std::fs::read_dir(case.dir.join("keys")).unwrap().count(), 0);
    for (i, name) in ["ns/a", "ns/b"].into_iter().enumerate() {
        let object = manifest_of(&sealed(&KEYS[i], name, &[("a", "1")]));
        case.write(&format!("sealed/{i}.yaml"), &object);
        case.advance(SECOND * 2).await;
        assert!(case.is_synced(name), "{name}");
    }
    case.write("keys/one.yaml", &key_manifest("one", &KEYS[0]));
    case.advance(SECOND * 2).await;
    assert_eq!(key_names(&mut case), ["one"]);
    assert!(ring(&mut case).sealing_key(Timestamp::UNIX_EPOCH).is_ok());
}

/// Attack: a client removes the last key, so that a stolen key that was removed earlier unseals again.
#[tokio::test]
async fn removing_the_last_key_does_not_bring_back_keys_removed_earlier() {
    let mut case = Case::new().await;
    case.write("keys/two.yaml", &key_manifest("two", &KEYS[1]));
    case.advance(SECOND * 2).await;
    case.remove("keys/two.yaml");
    case.advance(SECOND * 62).await;
    case.remove("keys/one.yaml");
    case.advance(SECOND * 2).await;
    assert_eq!(key_names(&mut case), ["one"]);
}

#[tokio::test]
async fn a_key_is_generated_at_startup_only_if_there_is_none() {
    let mut case = Case::idle();
    std::fs::remove_dir(case.dir.join("keys")).unwrap();
    let args = [
        "--privatekey-labels=team=a",
        "--privatekey-annotations=note=b=c",
        "--key-prefix=my",
    ];
    case.start(&args).await.unwrap();
    let name = key_names(&mut case).remove(0);
    assert!(name.starts_with("my") && name.len() == 7, "{name}");
    let text = std::fs::read_to_string(case.dir.join(format!("keys/{name}.yaml"))).unwrap();
    for want in [
        "apiVersion: v1\ndata:\n  tls.crt: LS0",
        "\n  tls.key: LS0",
        "\nkind: Secret\nmetadata:\n  annotations:\n    note: b=c\n  creationTimestamp: ",
        "\n  labels:\n    sealedsecrets.bitnami.com/sealed-secrets-key: active\n    team: a\n",
        &format!("\n  name: {name}\n  namespace: kube-system\ntype: kubernetes.io/tls\n"),
    ] {
        assert!(text.contains(want), "{want}");
    }
    case.restart().await;
    assert_eq!(key_names(&mut case), [name]);
}

/// Attack: an attacker adds a key to an archive that an administrator restores. The key is newer than every other key
/// and marked as backed up, so that a controller without other keys seals for it.
#[tokio::test]
async fn an_opening_only_key_unseals_and_a_new_sealing_key_is_generated() {
    let mut case = Case::idle();
    let metadata = format!(
        "metadata:\n  annotations:\n    {}: ''\n    {}: {} 2026-01-01T00:00:00Z\n",
        shared::resource::OPENING_ONLY_ANNOTATION,
        shared::resource::BACKED_UP_ANNOTATION,
        KEYS[1].pair.fingerprint(),
    );
    let planted = key_manifest("planted", &KEYS[1]).replace("metadata:\n", &metadata);
    case.write("keys/planted.yaml", &planted);
    let object = manifest_of(&sealed(&KEYS[1], "ns/n", &[("a", "1")]));
    case.write("sealed/x.yaml", &object);
    case.start(&["--key-renew-period=0"]).await.unwrap();
    case.advance(SECOND * 2).await;
    assert_eq!(case.value("ns/n/a").as_deref(), Some("1"));
    let ring = ring(&mut case);
    assert_eq!(ring.keys().len(), 2);
    assert_ne!(
        ring.sealing_key(Timestamp::UNIX_EPOCH).unwrap().name(),
        "planted"
    );
    case.restart().await;
    assert_eq!(key_names(&mut case).len(), 2, "only one key is generated");
}

#[tokio::test]
async fn the_newest_key_in_the_configured_order_seals() {
    let mut case = Case::new().await;
    let manifest =
        key_manifest("two", &KEYS[1]).replace("2023-11-14T22:13:21Z", "2001-01-01T00:00:00Z");
    case.write("keys/two.yaml", &manifest);
    case.tick().await;
    assert_eq!(key_names(&mut case), ["two", "one"]);
    case.start(&["--key-order-priority=SecretCreationTimestamp"])
        .await
        .unwrap();
    assert_eq!(key_names(&mut case), ["one", "two"]);
}

#[tokio::test]
async fn lists_and_documents_are_read_and_invalid_manifests_skipped() {
    let mut case = Case::idle();
    let manifest = key_manifest("one", &KEYS[0]);
    let item = |text: &str| format!("- {}", text.trim().replace('\n', "\n  "));
    let without_certificate = manifest.replace("tls.crt", "tls.other");
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n{}\n- kind: ConfigMap\n{}\n",
        item(&without_certificate.replace("name: one", "name: bad")),
        item(&manifest)
    );
    case.write("keys/list.yaml", &list);
    let documents = format!(
        "{}---\n{}",
        manifest.replace("name: one", "name: again"),
        key_manifest("two", &KEYS[1])
    );
    case.write("keys/documents.yaml", &documents);
    // Like a list that client-go marshals.
    let without_kind = key_manifest("three", &key(1_700_000_002))
        .replace("kind: Secret\n", "")
        .replace("apiVersion: v1\n", "");
    let list = format!("metadata: {{}}\nitems:\n{}\n", item(&without_kind));
    case.write("keys/without-kind.yaml", &list);
    case.write("keys/broken.yaml", "a: [");
    case.start(&[]).await.unwrap();
    // The same key under two names counts once.
    assert_eq!(key_names(&mut case), ["three", "two", "again"]);
}

#[tokio::test]
async fn loads_only_labeled_keys_and_the_key_named_like_the_prefix() {
    let mut case = Case::idle();
    let without_label = |name, key| key_manifest(name, key).replace("active", "compromised");
    case.write(
        "keys/one.yaml",
        &without_label("sealed-secrets-key", &KEYS[0]),
    );
    case.write("keys/two.yaml", &without_label("two", &KEYS[1]));
    case.start(&[]).await.unwrap();
    assert_eq!(key_names(&mut case), ["sealed-secrets-key"]);
}

#[tokio::test]
async fn an_unparsable_key_file_keeps_its_key_until_it_is_removed() {
    let mut case = Case::new().await;
    case.write("keys/one.yaml", "a: [");
    case.advance(SECOND * 5).await;
    assert_eq!(key_names(&mut case), ["one"]);
    let keys = case.dir.join("keys");
    std::fs::rename(&keys, case.outer.path().join("away")).unwrap();
    case.advance(SECOND * 5).await;
    assert_eq!(key_names(&mut case), ["one"]);
    std::fs::rename(case.outer.path().join("away"), &keys).unwrap();
    case.remove("keys/one.yaml");
    case.tick().await;
    assert!(ring(&mut case).is_removed(Suite::Rsa));
}

#[tokio::test]
async fn a_requested_key_is_generated_even_if_renewal_is_disabled() {
    let mut case = Case::new().await;
    case.controller().request_key();
    wait_for_keys(&mut case, 2).await;
    assert_eq!(key_names(&mut case)[1], "one");
    case.advance(SECOND * 60).await;
    assert_eq!(key_names(&mut case).len(), 2);
}

#[tokio::test]
async fn a_key_is_generated_when_the_newest_reaches_its_renewal_age() {
    let mut case = Case::new().await;
    let age = case.now.as_second() - 1_700_000_000 + 3600;
    case.start(&[&format!("--key-renew-period={age}s")])
        .await
        .unwrap();
    case.advance(SECOND * 3599).await;
    assert_eq!(key_names(&mut case), ["one"]);
    wait_for_keys(&mut case, 2).await;
    case.advance(SECOND * 60).await;
    assert_eq!(key_names(&mut case).len(), 2);
}

#[tokio::test]
async fn a_key_generated_while_the_clock_was_ahead_neither_seals_nor_delays_the_next() {
    let mut case = Case::new().await;
    let day = SignedDuration::from_hours(24);
    let age = case.now.as_second() - 1_700_000_000 + (day * 30).as_secs();
    let period = format!("--key-renew-period={age}s");
    case.start(&[&period]).await.unwrap();
    let now = case.now;
    case.now = now + day * 40;
    wait_for_keys(&mut case, 2).await;
    case.now = now;
    case.advance(SECOND * 2).await;
    let sealing_key_name = |ring: &KeyRing, now| ring.sealing_key(now).unwrap().name().to_owned();
    assert_eq!(sealing_key_name(&ring(&mut case), case.now), "one");
    assert_eq!(key_names(&mut case).len(), 2, "no key is due yet");
    // The older key reaches its renewal age before the generated key is valid.
    case.now = now + day * 30;
    wait_for_keys(&mut case, 3).await;
    let newest = sealing_key_name(&ring(&mut case), case.now);
    assert!(key_names(&mut case)[1..].contains(&newest), "{newest}");
    assert_ne!(newest, "one");
}

#[tokio::test]
async fn a_key_is_generated_if_every_key_is_from_the_future() {
    let mut case = Case::new().await;
    case.now = Timestamp::from_second(1_600_000_000).unwrap();
    case.start(&["--key-renew-period=720h"]).await.unwrap();
    let names_after_start = key_names(&mut case);
    assert_eq!(names_after_start.len(), 2, "{names_after_start:?}");
    let sealing_key_name = ring(&mut case)
        .sealing_key(case.now)
        .unwrap()
        .name()
        .to_owned();
    assert_ne!(sealing_key_name, "one");
    case.restart().await;
    assert_eq!(
        key_names(&mut case),
        names_after_start,
        "only one key is generated"
    );
}

#[tokio::test]
async fn a_key_is_generated_if_the_newest_is_older_than_the_cutoff() {
    let mut case = Case::new().await;
    case.start(&["--key-cutoff-time=Tue, 14 Nov 2023 22:13:20 +0000"])
        .await
        .unwrap();
    assert_eq!(key_names(&mut case), ["one"]);
    case.start(&["--key-cutoff-time=Tue, 14 Nov 2023 22:13:21 +0000"])
        .await
        .unwrap();
    assert_eq!(key_names(&mut case).len(), 2);
}

/// Waits for a key that is generated on a thread, in real time, while the test's clock advances.
async fn wait_for_keys(case: &mut Case, count: usize) {
    for _ in 0..2000 {
        case.tick().await;
        if ring(case).keys().len() == count {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    unreachable!("no key was generated in time");
}
