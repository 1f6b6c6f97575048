//! Tests the lifecycle of v2 objects in a directory, and that every attack is refused with its reason.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use shared::v2::{self, Suite};

use crate::support::v2_objects::{Sealing, change_bytes, key_id};
use crate::support::{Case, KEYS, key_manifest, manifest_of, sealed};

const SEALING: Sealing = Sealing {
    suite: Suite::Rsa,
    scope: Scope::Strict,
    is_bound: false,
    is_never_secret: false,
    is_alone: false,
    revision: 1,
};
const BOUND_SEALING: Sealing = Sealing {
    is_bound: true,
    ..SEALING
};
const FILE: &str = "sealed/x.yaml";

fn object() -> SealedSecret {
    SEALING.object("ns/n", &[("a", "good"), ("b", "also good")])
}

async fn apply(case: &mut Case, sealed: &SealedSecret) {
    case.write(FILE, &manifest_of(sealed));
    case.tick().await;
}

#[tokio::test]
async fn an_object_moves_from_v1_to_v2_item_by_item() {
    let mut case = Case::new().await;
    let mut object = sealed(&KEYS[0], "ns/n", &[("a", "1"), ("b", "2")]);
    apply(&mut case, &object).await;
    let sealing = Sealing {
        scope: Scope::ClusterWide,
        ..SEALING
    };
    for (step, item, text) in [(1, "a", "3"), (2, "b", "4"), (3, "a", "5")] {
        sealing.set_inline(&mut object, item, text);
        apply(&mut case, &object).await;
        assert!(case.is_synced("ns/n"), "{step}: {}", case.failure("ns/n"));
        let path = format!("ns/n/{item}");
        assert_eq!(case.value(&path).as_deref(), Some(text), "{step}");
    }
    object.spec.encrypted_data.clear();
    sealing.add_shared(&mut object, &[("a", "6"), ("b", "7")]);
    apply(&mut case, &object).await;
    let values = ["a", "b"].map(|item| case.value(&format!("ns/n/{item}")));
    assert_eq!(values, [Some("6".into()), Some("7".into())]);
    let names = std::fs::read_dir(case.dir.join("secrets/ns/n")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.contains("lock")));
    let status = case.status_text("ns/n").unwrap();
    let fingerprint = KEYS[0].pair.fingerprint().to_string();
    assert_eq!(status.matches(&fingerprint).count(), 2, "{status}");
}

type Attack = fn(&mut SealedSecret);

/// Attacks on [`object`] by an editor of the file who has no keys, each with the reason of its refusal.
const ATTACKS: [(&str, &str, Attack); 10] = [
    ("two items are swapped", "Tampered", |sealed| {
        let entries = &mut sealed.spec.encrypted_data;
        let (a, b) = (entries["a"].clone(), entries["b"].clone());
        entries.extend([("a".to_owned(), b), ("b".to_owned(), a)]);
    }),
    ("an item has another name", "Tampered", |sealed| {
        let entry = sealed.spec.encrypted_data.remove("b").unwrap();
        sealed.spec.encrypted_data.insert("c".into(), entry);
    }),
    ("the scope is widened", "ScopeMismatch", |sealed| {
        let annotations = sealed.metadata.annotations.get_or_insert_default();
        Scope::ClusterWide.annotate(annotations);
    }),
    ("an item of another object", "ScopeMismatch", |sealed| {
        let other = SEALING.object("ns/other", &[("a", "bad")]);
        sealed.spec.encrypted_data = other.spec.encrypted_data;
    }),
    ("an item is truncated", "Malformed", |sealed| {
        sealed
            .spec
            .encrypted_data
            .get_mut("a")
            .unwrap()
            .truncate(60);
    }),
    ("the header is removed", "Malformed", |sealed| {
        let entries = &mut sealed.spec.encrypted_data;
        let is_header = |name: &str| name.matches('/').count() == 2;
        entries.retain(|name, _| !is_header(name));
    }),
    ("a v2 value has an unknown name", "Malformed", |sealed| {
        sealed
            .spec
            .encrypted_data
            .insert("/x".into(), "seal2.s.AA".into());
    }),
    ("a classical recipient is added", "SuiteRefused", |sealed| {
        let post_quantum = Sealing::new(Suite::XWing).object("ns/n", &[("a", "bad")]);
        let classical = std::mem::replace(&mut sealed.spec, post_quantum.spec);
        let mut classical = classical.encrypted_data.into_iter();
        let (name, stanza) = classical
            .find(|(name, _)| name.matches('/').count() == 3)
            .unwrap();
        let key = name.rsplit('/').next().unwrap();
        let mut names = sealed.spec.encrypted_data.keys();
        let lock = names.find(|name| name.matches('/').count() == 2).unwrap();
        let name = format!("{lock}/{key}");
        sealed.spec.encrypted_data.insert(name, stanza);
    }),
    ("the suite is unknown", "UnsupportedSuite", |sealed| {
        SEALING.set_inline(sealed, "a", "bad");
        // After the header of 59 bytes and the number of recipients.
        change_bytes(sealed, "a", |bytes| bytes[60..62].copy_from_slice(&[0, 4]));
    }),
    (
        "spec.data together with v2 values",
        "FormatRefused",
        |sealed| {
            sealed.spec.data = Some("AgB=".into());
        },
    ),
];

/// Attack: an editor of the file who has no keys changes, moves or replaces sealed values.
#[tokio::test]
async fn each_attack_is_refused_with_its_reason_and_the_values_stay() {
    let mut case = Case::new().await;
    for (description, reason, attack) in ATTACKS {
        apply(&mut case, &object()).await;
        assert!(case.is_synced("ns/n"), "{description}");
        let mut attacked = object();
        attack(&mut attacked);
        apply(&mut case, &attacked).await;
        assert_eq!(
            case.reason("ns/n"),
            reason,
            "{description}: {}",
            case.failure("ns/n")
        );
        let values = ["a", "b"].map(|item| case.value(&format!("ns/n/{item}")).unwrap());
        assert_eq!(values, ["good", "also good"], "{description}");
    }
}

#[tokio::test]
async fn locks_that_no_item_refers_to_are_ignored() {
    let mut case = Case::new().await;
    let mut with_other_lock = object();
    let other = Sealing::new(Suite::XWing).object("ns/other", &[("a", "bad")]);
    let locks = other.spec.encrypted_data.into_iter();
    let locks = locks.filter(|(name, _)| name.starts_with("/lock/"));
    with_other_lock.spec.encrypted_data.extend(locks);
    apply(&mut case, &with_other_lock).await;
    assert!(case.is_synced("ns/n"), "{}", case.failure("ns/n"));
    assert_eq!(case.value("ns/n/a").as_deref(), Some("good"));
}

/// Attack: an editor changes a bit of an entry.
#[tokio::test]
async fn a_changed_bit_of_any_entry_is_refused() {
    let mut case = Case::new().await;
    let mut original = object();
    SEALING.set_inline(&mut original, "c", "inline");
    apply(&mut case, &original).await;
    assert!(case.is_synced("ns/n"));
    let random = &mut StdRng::seed_from_u64(26);
    for entry in original.spec.encrypted_data.keys() {
        for _ in 0..12 {
            let mut changed = original.clone();
            change_bytes(&mut changed, entry, |bytes| {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            });
            apply(&mut case, &changed).await;
            assert!(!case.is_synced("ns/n"), "{entry}");
            let reason = case.reason("ns/n");
            let reasons = [
                "Malformed",
                "UnsupportedSuite",
                "SuiteRefused",
                "ScopeMismatch",
            ];
            let others = [
                "TemplateChanged",
                "RevisionInFuture",
                "NotMade",
                "UnknownKey",
            ];
            let is_known = reasons.iter().chain(&others).any(|known| *known == reason);
            assert!(
                is_known || ["Tampered", "FormatRefused"].contains(&&*reason),
                "{reason}"
            );
            assert_eq!(case.value("ns/n/c").as_deref(), Some("inline"), "{entry}");
        }
    }
}

/// Attack: an editor changes the template, so that a value is written elsewhere.
#[tokio::test]
async fn refuses_a_changed_bound_template_and_ignores_unbound_fields() {
    let mut case = Case::new().await;
    let mut object = BOUND_SEALING.empty_object("ns/n");
    let texts = [("t".to_owned(), Some("<{{ .a }}>".to_owned()))];
    object.spec.template.data = Some(texts.into());
    BOUND_SEALING.add_shared(&mut object, &[("a", "good")]);
    // The name and the namespace of the template are neither bound nor applied.
    object.spec.template.metadata.name = Some("other".into());
    object.spec.template.metadata.namespace = Some("other".into());
    apply(&mut case, &object).await;
    assert_eq!(case.value("ns/n/t").as_deref(), Some("<good>"));
    assert!(case.value("other/other/t").is_none());
    let texts = [("t".to_owned(), Some("{{ .a }}!".to_owned()))];
    object.spec.template.data = Some(texts.into());
    apply(&mut case, &object).await;
    assert_eq!(case.reason("ns/n"), "TemplateChanged");
    assert_eq!(case.value("ns/n/t").as_deref(), Some("<good>"));
    assert!(
        case.failure("ns/n")
            .contains("revert the change, or seal the values again")
    );
}

#[tokio::test]
async fn a_missing_key_is_named_and_the_object_is_tried_again_when_it_appears() {
    let mut case = Case::idle();
    case.write("keys/two.yaml", &key_manifest("two", &KEYS[1]));
    case.start(&[]).await.unwrap();
    apply(&mut case, &object()).await;
    assert_eq!(case.reason("ns/n"), "UnknownKey");
    let id = key_id(Suite::Rsa).to_string();
    assert!(
        case.failure("ns/n").contains(&id),
        "{}",
        case.failure("ns/n")
    );
    case.write("keys/one.yaml", &key_manifest("one", &KEYS[0]));
    case.tick().await;
    assert!(case.is_synced("ns/n"), "{}", case.failure("ns/n"));
}

#[tokio::test]
async fn a_revision_is_accepted_at_most_a_day_before_its_time() {
    let mut case = Case::new().await;
    apply(&mut case, &object()).await;
    let day = SignedDuration::from_hours(24);
    let accepted = case.now + SignedDuration::from_hours(2);
    let revision = (accepted + day).as_millisecond().try_into().unwrap();
    let early = Sealing {
        revision,
        ..SEALING
    };
    apply(&mut case, &early.object("ns/n", &[("a", "new")])).await;
    assert_eq!(case.reason("ns/n"), "RevisionInFuture");
    let types = case.conditions("ns/n").unwrap();
    assert!(
        types.iter().all(|c| c.type_ != "Stalled"),
        "an object that waits is not stalled"
    );
    case.now = accepted - SignedDuration::from_secs(1);
    case.settle().await;
    assert_eq!(case.value("ns/n/a").as_deref(), Some("good"));
    case.now = accepted;
    case.settle().await;
    assert!(case.is_synced("ns/n"), "{}", case.failure("ns/n"));
    assert_eq!(case.value("ns/n/a").as_deref(), Some("new"));
}

#[tokio::test]
async fn values_for_use_without_a_secret_are_not_written() {
    let mut case = Case::new().await;
    apply(&mut case, &object()).await;
    let never_secret = Sealing {
        is_never_secret: true,
        ..SEALING
    };
    apply(&mut case, &never_secret.object("ns/n", &[("a", "hidden")])).await;
    assert_eq!(case.reason("ns/n"), "NotMade");
    let ready = case.conditions("ns/n").unwrap().remove(1).message.unwrap();
    assert!(ready.contains("for use without a Secret object"), "{ready}");
    assert!(
        ready.ends_with("the values of the last good version stay in place"),
        "{ready}"
    );
    assert_eq!(case.value("ns/n/a").as_deref(), Some("good"));
    assert!(!case.status_text("ns/n").unwrap().contains("hidden"));
}

/// Attack: an author evades a requirement by sealing in another format.
#[tokio::test]
async fn the_administrator_requires_formats_by_namespace() {
    let unbound = object();
    let v1 = sealed(&KEYS[0], "ns/n", &[("a", "v1")]);
    let bound = BOUND_SEALING.object("ns/n", &[("a", "bound")]);
    let cases = [
        ("--require-v2=n*", &v1, "FormatRefused"),
        ("--require-v2=n*", &unbound, "Unsealed"),
        ("--require-bound=ns", &unbound, "FormatRefused"),
        ("--require-bound=ns", &v1, "FormatRefused"),
        ("--require-bound=ns", &bound, "Unsealed"),
        ("--minimum-suite=ns=post-quantum", &v1, "SuiteRefused"),
        ("--minimum-suite=ns=post-quantum", &bound, "SuiteRefused"),
        ("--minimum-suite=other=post-quantum", &bound, "Unsealed"),
    ];
    for (flag, sealed, reason) in cases {
        let mut case = Case::new().await;
        apply(&mut case, sealed).await;
        assert!(case.is_synced("ns/n"), "{flag}");
        case.start(&[flag]).await.unwrap();
        case.tick().await;
        assert_eq!(case.reason("ns/n"), reason, "{flag}");
        assert!(
            case.value("ns/n/a").is_some(),
            "{flag}: existing values stay"
        );
    }
}

/// Attack: an author makes the controller use its keys hundreds of times for one object.
#[tokio::test]
async fn refuses_an_object_with_too_many_locks() {
    let mut case = Case::new().await;
    case.start(&["--max-locks=2"]).await.unwrap();
    let mut object = object();
    SEALING.set_inline(&mut object, "c", "1");
    apply(&mut case, &object).await;
    assert!(case.is_synced("ns/n"));
    SEALING.set_inline(&mut object, "d", "1");
    apply(&mut case, &object).await;
    assert_eq!(case.reason("ns/n"), "FormatRefused");
    assert!(case.failure("ns/n").contains("more than 2 locks"));
    assert_eq!(v2::DEFAULT_MAX_LOCKS, 256);
}
