//! Tests v2 keys that are added, removed and generated in a directory.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use shared::key_marks::backed_up_text;
use shared::key_ring::{KeyRing, NoSealingKey};
use shared::manifest;
use shared::plain::Plain;
use shared::resource::{
    BACKED_UP_ANNOTATION, COMPROMISED_ANNOTATION, KEY_LABEL, OPENING_ONLY_ANNOTATION,
    RENEW_ANNOTATION, V2_KEY_LABEL,
};
use shared::secret::Secret;
use shared::v2::key_secret::{self, PRIVATE_KEY_ITEM, RECIPIENT_ITEM, StoredKey};
use shared::v2::{KeyId, Recipient as _, SecretKey, Suite};

use crate::support::Case;

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const XW: &str = "--sealing-suite=xw";

fn ring(case: &mut Case) -> Arc<KeyRing> {
    Arc::clone(&case.controller().server_state().ring.borrow())
}

/// Returns the names of the v2 keys, newest first.
fn v2_names(case: &mut Case) -> Vec<String> {
    let ring = ring(case);
    let keys = ring.v2_keys().iter();
    keys.map(|key| key.name().to_owned()).collect()
}

fn stored_key(suite: Suite, byte: u8) -> StoredKey {
    StoredKey {
        key: SecretKey::from_bytes(suite, &[byte; 32]).unwrap(),
        not_before: Timestamp::from_second(1_700_000_000 + i64::from(byte)).unwrap(),
        not_after: Timestamp::from_second(4_000_000_000).unwrap(),
    }
}

fn secret(name: &str, suite: Suite, byte: u8, annotations: &[(&str, &str)]) -> Secret {
    let texts = annotations.iter().map(|(k, v)| ((*k).into(), (*v).into()));
    let stored = stored_key(suite, byte);
    key_secret::build(
        name,
        "kube-system",
        &stored,
        BTreeMap::new(),
        texts.collect(),
    )
}

fn id(suite: Suite, byte: u8) -> KeyId {
    stored_key(suite, byte).key.recipient().key_id()
}

fn put(case: &Case, secret: &Secret) {
    let name = secret.metadata.name.as_ref().unwrap();
    let text = manifest::to_yaml(&secret.to_document());
    case.write(&format!("keys/{name}.yaml"), &text);
}

/// Returns the name of the sealing key of the suite `xw`.
fn sealing_key_name(case: &mut Case) -> Result<String, NoSealingKey> {
    let now = case.now;
    let key = ring(case).sealing_key_of(Suite::XWing, now);
    key.map(|key| key.name().to_owned())
}

#[tokio::test]
async fn generates_a_key_of_the_preferred_suite_in_addition_to_the_rsa_key_once() {
    let mut case = Case::idle();
    let labels = format!("--privatekey-labels=team=a,{KEY_LABEL}=active");
    case.start(&[XW, "--privatekey-annotations=note=b", &labels])
        .await
        .unwrap();
    assert_eq!(ring(&mut case).keys().len(), 1);
    let names = v2_names(&mut case);
    let [name] = &names[..] else {
        panic!("{names:?}");
    };
    let suffix = name.strip_prefix("sealed-secrets-key-v2-xw-").unwrap();
    assert_eq!(suffix.len(), 5);
    let text = std::fs::read_to_string(case.dir.join(format!("keys/{name}.yaml"))).unwrap();
    for want in [
        "\n  annotations:\n    note: b\n",
        &format!("\n  labels:\n    {V2_KEY_LABEL}: active\n    team: a\n"),
        "\ntype: Opaque\n",
        "\n  v2.key: ",
    ] {
        assert!(text.contains(want), "{want}");
    }
    assert!(
        !text.contains(KEY_LABEL),
        "Bitnami's controller would load it"
    );
    case.restart().await;
    assert_eq!(v2_names(&mut case), names);
    case.start(&["--sealing-suite=p256"]).await.unwrap();
    let suites: Vec<Suite> = ring(&mut case)
        .v2_keys()
        .iter()
        .map(|k| k.suite())
        .collect();
    assert_eq!(suites.len(), 2, "the other key stays");
    assert!(suites.contains(&Suite::P256));
    case.start(&[]).await.unwrap();
    assert_eq!(v2_names(&mut case).len(), 2, "RSA needs no new key");
    assert_eq!(ring(&mut case).keys().len(), 1);
}

#[tokio::test]
async fn renews_the_keys_of_each_suite_by_their_own_age() {
    let mut case = Case::new().await;
    case.start(&[XW]).await.unwrap();
    let first = v2_names(&mut case);
    let hour = SignedDuration::from_hours(1);
    // The RSA key is years old, so it is renewed immediately.
    case.start(&[XW, "--key-renew-period=1h"]).await.unwrap();
    assert_eq!(ring(&mut case).keys().len(), 2);
    assert_eq!(v2_names(&mut case), first);
    case.now += hour - SECOND;
    case.tick().await;
    assert_eq!(v2_names(&mut case), first);
    wait_for_v2_keys(&mut case, 2).await;
    let newest = v2_names(&mut case).remove(0);
    assert_eq!(sealing_key_name(&mut case), Ok(newest));
    // The old key still opens values.
    assert_eq!(v2_names(&mut case)[1], first[0]);
}

#[tokio::test]
async fn an_annotation_requests_a_key_of_the_suite_of_its_secret() {
    let mut case = Case::new().await;
    put(
        &case,
        &secret("a", Suite::XWing, 1, &[(RENEW_ANNOTATION, "true")]),
    );
    put(
        &case,
        &secret("b", Suite::P256, 2, &[(RENEW_ANNOTATION, "true")]),
    );
    case.start(&[XW]).await.unwrap();
    wait_for_v2_keys(&mut case, 3).await;
    case.advance(SECOND * 60).await;
    assert_eq!(
        v2_names(&mut case).len(),
        3,
        "only one key of the preferred suite is generated"
    );
    assert_eq!(ring(&mut case).keys().len(), 1);
    // A renewal requested by a signal applies to all suites.
    case.controller().request_key();
    wait_for_keys(&mut case, |ring| {
        (ring.v2_keys().len(), ring.keys().len()) == (4, 2)
    })
    .await;
}

/// Attack: a client copies the backup mark of another key, so that the controller seals with a key that would be lost
/// with the cluster.
#[tokio::test]
async fn seals_with_a_key_only_after_its_own_backup_if_required() {
    let mut case = Case::new().await;
    let marked = |key: KeyId| backed_up_text(&key, Timestamp::UNIX_EPOCH);
    let (own, other) = (marked(id(Suite::XWing, 1)), marked(id(Suite::XWing, 2)));
    for (mark, want) in [
        (None, Err(NoSealingKey::NotBackedUp)),
        (Some(&other), Err(NoSealingKey::NotBackedUp)),
        (Some(&own), Ok("a".to_owned())),
    ] {
        let marks: Vec<(&str, &str)> = mark
            .map(|m| (BACKED_UP_ANNOTATION, m.as_str()))
            .into_iter()
            .collect();
        put(&case, &secret("a", Suite::XWing, 1, &marks));
        case.start(&[XW, "--require-backup"]).await.unwrap();
        assert_eq!(sealing_key_name(&mut case), want, "{mark:?}");
        assert_eq!(v2_names(&mut case), ["a"], "no other key is generated");
    }
    // Until the newer key is backed up, the older key seals.
    put(&case, &secret("b", Suite::XWing, 2, &[]));
    case.advance(SECOND * 5).await;
    assert_eq!(v2_names(&mut case), ["b", "a"]);
    assert_eq!(sealing_key_name(&mut case), Ok("a".into()));
}

#[tokio::test]
async fn compromised_and_opening_only_keys_open_and_never_seal() {
    for (mark, value, want) in [
        (
            COMPROMISED_ANNOTATION,
            "2026-01-01T00:00:00Z",
            NoSealingKey::Compromised,
        ),
        (OPENING_ONLY_ANNOTATION, "", NoSealingKey::OpeningOnly),
    ] {
        let mut case = Case::new().await;
        put(&case, &secret("old", Suite::XWing, 1, &[]));
        put(&case, &secret("new", Suite::XWing, 2, &[]));
        case.start(&[XW]).await.unwrap();
        assert_eq!(sealing_key_name(&mut case), Ok("new".into()));
        put(&case, &secret("new", Suite::XWing, 2, &[(mark, value)]));
        case.advance(SECOND * 5).await;
        assert_eq!(sealing_key_name(&mut case), Ok("old".into()), "{mark}");
        assert!(ring(&mut case).v2_key(&id(Suite::XWing, 2)).is_some());
        put(&case, &secret("old", Suite::XWing, 1, &[(mark, value)]));
        case.advance(SECOND * 5).await;
        assert_eq!(sealing_key_name(&mut case), Err(want), "{mark}");
    }
}

#[tokio::test]
async fn loads_only_keys_with_the_active_label() {
    let mut case = Case::new().await;
    for (name, byte, label) in [("retired", 1, "retired"), ("compromised", 2, "compromised")] {
        let mut secret = secret(name, Suite::XWing, byte, &[]);
        let labels = secret.metadata.labels.as_mut().unwrap();
        labels.insert(V2_KEY_LABEL.into(), label.into());
        put(&case, &secret);
    }
    put(&case, &secret("used", Suite::XWing, 3, &[]));
    case.start(&[XW]).await.unwrap();
    assert_eq!(v2_names(&mut case), ["used"]);
}

#[tokio::test]
async fn removed_keys_of_a_suite_open_until_another_key_of_it_is_stored() {
    let mut case = Case::new().await;
    put(&case, &secret("a", Suite::XWing, 1, &[]));
    put(&case, &secret("p", Suite::P256, 2, &[]));
    case.start(&[XW]).await.unwrap();
    case.remove("keys/a.yaml");
    case.advance(SECOND * 60).await;
    let ring_now = ring(&mut case);
    assert!(ring_now.is_removed(Suite::XWing));
    assert!(!ring_now.is_removed(Suite::P256) && !ring_now.is_removed(Suite::Rsa));
    assert!(
        ring_now.v2_key(&id(Suite::XWing, 1)).is_some(),
        "the key still opens values"
    );
    assert_eq!(sealing_key_name(&mut case), Err(NoSealingKey::Removed));
    assert_eq!(v2_names(&mut case).len(), 2, "no key is generated");
    // The RSA keys are removed and restored independently.
    case.remove("keys/one.yaml");
    case.advance(SECOND * 5).await;
    let ring_now = ring(&mut case);
    assert!(ring_now.is_removed(Suite::Rsa) && ring_now.is_removed(Suite::XWing));
    assert_eq!((ring_now.keys().len(), ring_now.v2_keys().len()), (1, 2));
    put(&case, &secret("a", Suite::XWing, 1, &[]));
    case.advance(SECOND * 5).await;
    assert_eq!(sealing_key_name(&mut case), Ok("a".into()));
    assert!(ring(&mut case).is_removed(Suite::Rsa));
}

#[tokio::test]
async fn an_unparsable_file_keeps_its_key_until_it_is_removed() {
    let mut case = Case::new().await;
    put(&case, &secret("a", Suite::XWing, 1, &[]));
    put(&case, &secret("b", Suite::XWing, 2, &[]));
    case.start(&[XW]).await.unwrap();
    case.write("keys/b.yaml", "a: [");
    case.advance(SECOND * 5).await;
    assert_eq!(v2_names(&mut case), ["b", "a"]);
    case.remove("keys/b.yaml");
    case.advance(SECOND * 5).await;
    assert_eq!(v2_names(&mut case), ["a"]);
}

/// Attack: a client plants Secrets that look like v2 keys but are malformed, to stop the controller, or to make the
/// controller seal for a key that it does not have.
#[tokio::test]
async fn unusable_keys_are_skipped() {
    let mut case = Case::new().await;
    put(&case, &secret("good", Suite::XWing, 1, &[]));
    let other = stored_key(Suite::XWing, 2).key.recipient().to_string();
    let zero = |suite: &str, len| {
        let key = "A".repeat(len);
        format!(
            "seal2-recipient {suite} {} {key}",
            id(Suite::XWing, 1).short()
        )
    };
    let private = |text: &str| (PRIVATE_KEY_ITEM, Plain::from(text.to_owned()));
    let public = |text: String| (RECIPIENT_ITEM, Plain::from(text));
    let zero_key = "A".repeat(43);
    let bad = [
        ("mismatch", public(other)),
        ("zero-public", public(zero("xw", 1622))),
        ("huge", public("A".repeat(900_000))),
        ("huge-key", private(&"A".repeat(900_000))),
        ("not-text", (PRIVATE_KEY_ITEM, Plain::from(vec![0xff; 32]))),
        (
            "wrong-suite",
            private(&format!("seal2-key p256 {zero_key}")),
        ),
        ("rsa", private(&format!("seal2-key rsa {zero_key}"))),
        ("unknown", private(&format!("seal2-key xx {zero_key}"))),
        ("short", private("seal2-key xw AAAA")),
        ("empty", private("")),
    ];
    for (name, (item, value)) in &bad {
        let mut secret = secret(name, Suite::XWing, 1, &[]);
        secret.data.insert((*item).into(), value.clone());
        put(&case, &secret);
    }
    let mut bare = secret("bare", Suite::XWing, 1, &[]);
    bare.data.clear();
    put(&case, &bare);
    // A Secret with both labels that has only a v2 key.
    let mut both = secret("both", Suite::XWing, 1, &[]);
    let labels = both.metadata.labels.as_mut().unwrap();
    labels.insert(KEY_LABEL.into(), "active".into());
    put(&case, &both);
    case.start(&[XW]).await.unwrap();
    assert_eq!(v2_names(&mut case), ["good"]);
    assert_eq!(sealing_key_name(&mut case), Ok("good".into()));
    let now = case.now;
    assert_eq!(ring(&mut case).sealing_key(now).unwrap().name(), "one");
}

/// Waits for keys that are generated on a thread, in real time, while the test's clock advances.
async fn wait_for_v2_keys(case: &mut Case, count: usize) {
    wait_for_keys(case, |ring| ring.v2_keys().len() == count).await;
}

/// Waits until the ring is as expected. Keys are generated in the background, RSA keys for seconds.
async fn wait_for_keys(case: &mut Case, is_expected: impl Fn(&KeyRing) -> bool) {
    for _ in 0..6000 {
        case.tick().await;
        if is_expected(&ring(case)) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    unreachable!("no key was generated in time");
}
