//! Tests v2 objects, sealed for the RSA key of the controller.

use kube::ResourceExt as _;
use kube::api::{ListParams, PostParams};
use serde_json::json;
use shared::key::PublicKey;
use shared::resource::SealedSecret;
use shared::v2::TemplateDigest;
use tests::patience::until;
use tests::sealing::KEYS;
use tests::v2_objects::{add_shared, change_bytes, empty, set_inline};

use super::case::Case;
use super::guesses::visible_state;
use super::record::{operations, wait_until_recognized};

const ITEMS: [(&str, &str); 3] = [("a", "1"), ("b", "2"), ("c", "3")];

fn recipient() -> &'static PublicKey {
    KEYS[0].pair.certificate().public_key()
}

fn sealed_object(case: &Case, name: &str, items: &[(&str, &str)]) -> SealedSecret {
    let mut sealed = empty(case.namespace.name(), name);
    add_shared(&mut sealed, recipient(), items, |_| ());
    sealed
}

/// Replaces the spec of an object, and so its entries.
async fn replace(case: &Case, name: &str, sealed: &SealedSecret) {
    let objects = case.sealed_secrets();
    let mut present = objects.get(name).await.unwrap();
    present.spec = sealed.spec.clone();
    let params = PostParams::default();
    objects.replace(name, &params, &present).await.unwrap();
}

async fn assert_operations(case: &Case, want: f64) {
    let operations = operations(case).await;
    assert!((operations - want).abs() < 0.5, "{operations}, not {want}");
}

#[tokio::test]
async fn an_object_moves_from_v1_to_v2_and_costs_one_operation_for_each_lock() {
    let case = Case::with_args("v2", &["--key-renew-period=0"]).await;
    case.seal("x", &ITEMS).await;
    case.wait_until_synced("x").await;
    assert_operations(&case, 3.0).await;
    let mut mixed = case.sealed_secret("x", &ITEMS);
    set_inline(&mut mixed, recipient(), "b", "mixed");
    replace(&case, "x", &mixed).await;
    let values = [("a", "1"), ("b", "mixed"), ("c", "3")];
    case.wait_for_values("x", &values).await;
    case.wait_until_synced("x").await;
    assert_operations(&case, 3.0 + 3.0).await;
    let mut v2 = sealed_object(&case, "x", &ITEMS);
    replace(&case, "x", &v2).await;
    case.wait_for_values("x", &ITEMS).await;
    case.wait_until_synced("x").await;
    assert_operations(&case, 6.0 + 1.0).await;
    set_inline(&mut v2, recipient(), "c", "blind");
    replace(&case, "x", &v2).await;
    let values = [("a", "1"), ("b", "2"), ("c", "blind")];
    case.wait_for_values("x", &values).await;
    case.wait_until_synced("x").await;
    assert_operations(&case, 7.0 + 2.0).await;
    let case = case.restart(&["--key-renew-period=0"]).await;
    wait_until_recognized(&case, 1.0).await;
    assert_operations(&case, 0.0).await;
}

type Attack = fn(&mut SealedSecret);

/// Attacks by an editor of the file who has no keys, each with the reason of its refusal.
const ATTACKS: [(&str, Attack); 3] = [
    ("Tampered", |sealed| {
        let entries = &mut sealed.spec.encrypted_data;
        let (a, b) = (entries["a"].clone(), entries["b"].clone());
        entries.extend([("a".to_owned(), b), ("b".to_owned(), a)]);
    }),
    ("Malformed", |sealed| {
        sealed
            .spec
            .encrypted_data
            .get_mut("a")
            .unwrap()
            .truncate(60);
    }),
    ("ScopeMismatch", |sealed| {
        let mut other = empty(sealed.namespace_or_empty(), "other");
        add_shared(&mut other, recipient(), &ITEMS, |_| ());
        sealed.spec.encrypted_data = other.spec.encrypted_data;
    }),
];

/// Attack: an editor of the file who has no keys changes, moves or replaces sealed values.
#[tokio::test]
async fn each_attack_is_refused_with_its_reason_and_the_secret_stays() {
    let case = Case::new("v2-attacks").await;
    for (reason, attack) in ATTACKS {
        let name = reason.to_lowercase();
        let mut object = sealed_object(&case, &name, &ITEMS);
        case.create(&object).await;
        case.wait_until_synced(&name).await;
        let before = case.secret(&name).await.unwrap();
        attack(&mut object);
        replace(&case, &name, &object).await;
        case.wait_for_failure(&name).await;
        let reasons = case.conditions(&name).await.into_iter().map(|c| c.reason);
        assert!(
            reasons.into_iter().all(|r| r.as_deref() == Some(reason)),
            "{reason}"
        );
        case.wait_for_event(&name, reason).await;
        assert_eq!(case.secret(&name).await.unwrap(), before, "{reason}");
    }
}

/// Attack: an editor changes the template to which the values are bound.
#[tokio::test]
async fn refuses_an_object_whose_bound_template_was_changed() {
    let case = Case::new("v2-bound").await;
    let mut object = empty(case.namespace.name(), "x");
    object.spec.template.metadata.labels = Some([("l".into(), "bound".into())].into());
    let digest = TemplateDigest::of(&object.spec.template);
    add_shared(&mut object, recipient(), &ITEMS, |spec| {
        spec.template = Some(digest);
    });
    case.create(&object).await;
    case.wait_until_synced("x").await;
    let before = case.secret("x").await.unwrap();
    assert_eq!(before.labels()["l"], "bound");
    let labels = json!({ "l": "other" });
    let patch = json!({ "spec": { "template": { "metadata": { "labels": labels } } } });
    case.patch("x", patch).await;
    case.wait_for_failure("x").await;
    case.wait_for_event("x", "TemplateChanged").await;
    assert_eq!(case.secret("x").await.unwrap(), before);
}

/// Attack: an editor sets an item to guesses of its value, and watches statuses, events and revisions for the guess
/// that changes nothing.
#[tokio::test]
async fn a_right_guess_of_a_v2_value_is_indistinguishable_from_a_wrong_one() {
    let case = Case::new("v2-guesses").await;
    let mut states = Vec::new();
    for (name, guess) in [("right", "4711"), ("wrong", "4712")] {
        let mut object = sealed_object(&case, name, &[("pin", "4711"), ("b", "x")]);
        case.create(&object).await;
        case.wait_until_synced(name).await;
        let secret = case.secret(name).await.unwrap();
        set_inline(&mut object, recipient(), "pin", guess);
        replace(&case, name, &object).await;
        case.wait_until_synced(name).await;
        case.wait_until_idle(name).await;
        let updated_secret = case.secret(name).await.unwrap();
        assert_ne!(updated_secret.resource_version(), secret.resource_version());
        until("the event of the second version exists", async || {
            let events = case.events().await;
            let own_events = events
                .iter()
                .filter(|event| event.involved_object.name.as_deref() == Some(name));
            let counts = own_events.map(|event| event.count.unwrap_or(1));
            (counts.sum::<i32>() >= 2).then_some(())
        })
        .await;
        let after = case.sealed_secrets().get(name).await.unwrap();
        states.push(visible_state(&case, &after).await);
    }
    assert_eq!(states[0], states[1]);
}

#[tokio::test]
async fn the_administrator_requires_formats_by_namespace() {
    let case = Case::new("v2-limits").await;
    case.seal("v1", &ITEMS).await;
    case.create(&sealed_object(&case, "v2", &ITEMS)).await;
    for name in ["v1", "v2"] {
        case.wait_until_synced(name).await;
    }
    let secret = case.secret("v1").await.unwrap();
    let case = case.restart(&["--require-v2=*v2-limits*"]).await;
    case.wait_for_failure("v1").await;
    case.wait_for_event("v1", "FormatRefused").await;
    case.wait_until_synced("v2").await;
    assert_eq!(case.secret("v1").await.unwrap(), secret);
    let case = case.restart(&["--minimum-suite=*=post-quantum"]).await;
    case.wait_for_failure("v2").await;
    case.wait_for_event("v2", "SuiteRefused").await;
}

/// Attack: a reader searches logs, events, statuses and metrics for a known value.
#[tokio::test]
async fn a_v2_value_reaches_no_log_event_status_or_metric() {
    const CANARY: &str = "canary-8c2e71";
    let case = Case::with_args("v2-canary", &["--log-level=DEBUG"]).await;
    case.create(&sealed_object(&case, "good", &[("a", CANARY)]))
        .await;
    case.wait_until_synced("good").await;
    let mut tampered = sealed_object(&case, "tampered", &[("a", CANARY), ("b", CANARY)]);
    change_bytes(&mut tampered, "a", |bytes| *bytes.last_mut().unwrap() ^= 1);
    case.create(&tampered).await;
    case.wait_for_failure("tampered").await;
    let mut failing = sealed_object(&case, "failing", &[("a", CANARY)]);
    failing.spec.template.data = Some([("t".to_owned(), Some("{{ fail .a }}".to_owned()))].into());
    case.create(&failing).await;
    case.wait_for_failure("failing").await;
    let objects = case
        .sealed_secrets()
        .list(&ListParams::default())
        .await
        .unwrap();
    let statuses: Vec<_> = objects.iter().map(|sealed| json!(sealed.status)).collect();
    let events = case.events().await;
    for (location, text) in [
        ("log", case.controller.log()),
        ("statuses and events", json!([statuses, events]).to_string()),
        ("metrics", case.controller.scrape().await),
    ] {
        // The second text is `canary` in base64.
        let is_clean = !text.contains(CANARY) && !text.contains("Y2FuYXJ5");
        assert!(
            !text.is_empty() && is_clean,
            "the canary is in the {location}: {text}"
        );
    }
}
