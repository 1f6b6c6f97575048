use std::sync::Arc;

use rand::{SeedableRng, rngs::StdRng};
use serde_json::json;

use super::*;
use crate::base64;
use crate::envelope;
use crate::key::new_test_key;
use crate::key_ring::{NoKey, RingKey};
use crate::resource::SealedSecretSpec;

const RULES: Rules = Rules {
    accept_legacy: true,
    refuse_random: false,
};

fn open(sealed: &SealedSecret, ring: &KeyRing) -> Result<Unsealed, UnsealError> {
    open_with(sealed, ring, RULES)
}

fn open_with(sealed: &SealedSecret, ring: &KeyRing, rules: Rules) -> Result<Unsealed, UnsealError> {
    let mut randomness = Randomness {
        now: Timestamp::UNIX_EPOCH,
        rng: &mut StdRng::seed_from_u64(7),
    };
    unseal(sealed, ring, rules, &mut randomness)
}

fn ring() -> KeyRing {
    let key = new_test_key(1);
    let order_time = key.pair.certificate().not_before();
    KeyRing::new([Arc::new(RingKey::new("k".into(), order_time, key.pair))])
}

fn sealed_value(ring: &KeyRing, plain: &[u8]) -> String {
    let label = Scope::Strict.label("ns", "n");
    let key = ring
        .sealing_key(jiff::Timestamp::UNIX_EPOCH)
        .unwrap()
        .certificate()
        .unwrap()
        .public_key();
    base64::encode(&envelope::seal(key, &label, plain, &mut StdRng::seed_from_u64(5)).unwrap())
}

fn object(items: &[(&str, String)]) -> SealedSecret {
    let encrypted_data = items
        .iter()
        .map(|(k, v)| ((*k).to_owned(), v.clone()))
        .collect();
    let mut sealed = SealedSecret::new(
        "n",
        SealedSecretSpec {
            encrypted_data,
            ..SealedSecretSpec::default()
        },
    );
    sealed.metadata.namespace = Some("ns".into());
    sealed
}

fn newest_key(ring: &KeyRing) -> &crate::key_ring::RingKey {
    ring.sealing_key(jiff::Timestamp::UNIX_EPOCH).unwrap()
}

#[test]
fn unseals_every_item_and_names_its_key() {
    let ring = ring();
    let sealed = object(&[
        ("a", sealed_value(&ring, b"x")),
        ("b", sealed_value(&ring, b"")),
    ]);
    let unsealed = open(&sealed, &ring).unwrap();
    assert_eq!(unsealed.secret.data["a"].expose(), b"x");
    assert_eq!(unsealed.secret.data["b"].expose(), b"");
    for item in ["a", "b"] {
        assert_eq!(
            unsealed.sealed_by[item].fingerprint(),
            Some(newest_key(&ring).fingerprint())
        );
    }
}

#[test]
fn reading_values_ignores_templates() {
    let ring = ring();
    let mut sealed = object(&[("a", sealed_value(&ring, b"x"))]);
    sealed.spec.template.data = Some(BTreeMap::from([("b".into(), Some("{{ broken".into()))]));
    let values = unseal_values(&sealed, &ring).unwrap();
    assert_eq!(values.len(), 1);
    assert_eq!(values["a"].expose(), b"x");
    let mut legacy = object(&[]);
    let secret_json = br#"{"kind":"Secret","apiVersion":"v1","data":{"foo":"YmFy"}}"#;
    legacy.spec.data = Some(sealed_value(&ring, secret_json));
    let values = unseal_values(&legacy, &ring).unwrap();
    assert_eq!(values.len(), 1);
    assert_eq!(values["foo"].expose(), b"bar");
}

#[test]
fn a_template_error_names_the_template() {
    let ring = ring();
    let rules = Rules {
        refuse_random: true,
        ..RULES
    };
    for (key, text) in [("parse", "{{ broken"), ("random", "{{ randAlpha 5 }}")] {
        let mut sealed = object(&[("a", sealed_value(&ring, b"x"))]);
        sealed.spec.template.data = Some([(key.into(), Some(text.into()))].into());
        let error = open_with(&sealed, &ring, rules).unwrap_err();
        let UnsealError::Template(TemplateErrors(errors)) = error else {
            panic!("{key}: {error}")
        };
        let keys: Vec<_> = errors.iter().map(TemplateError::key).collect();
        assert_eq!(keys, [key]);
    }
}

/// Attack: an author forges the key hint of an item, so that the item is not unsealed or another key is reported.
#[test]
fn a_false_key_hint_changes_nothing() {
    let ring = ring();
    let mut sealed = object(&[("a", sealed_value(&ring, b"x"))]);
    let other = new_test_key(2).pair.fingerprint().clone();
    let annotations = sealed.metadata.annotations.get_or_insert_default();
    hints::annotate(annotations, &[("a".to_owned(), other)].into());
    let unsealed = open(&sealed, &ring).unwrap();
    assert_eq!(
        unsealed.sealed_by["a"].fingerprint(),
        Some(newest_key(&ring).fingerprint())
    );
}

#[test]
fn reports_all_failing_items_sorted_by_key() {
    let ring = ring();
    let sealed = object(&[
        ("good", sealed_value(&ring, b"x")),
        ("c", "*".into()),
        ("b", base64::encode(b"junk")),
        ("a", String::new()),
    ]);
    let error = open(&sealed, &ring).unwrap_err();
    let upstreams = "no key could decrypt secret (a, b)\nillegal base64 data at input byte 0 (c)";
    let [a, b, c] = [
        "item a is not a sealed value: it is empty, 0 bytes; seal it again",
        "item b is not a sealed value: it is readable text, visible to everyone who can read the object (if it is a \
         secret, replace it), 4 bytes; seal it again",
        "item c is not a sealed value: it is not base64 (invalid byte at offset 0), 1 byte; seal it again",
    ];
    let want = format!("{upstreams}\nhint: {a}\nhint: {b}\nhint: {c}");
    assert_eq!(error.to_string(), want);
    assert_eq!(error.diagnosis(), format!("{a}\n{b}\n{c}"));
}

/// Returns a well-formed value that no key can unseal.
fn value_for_no_key() -> String {
    let bytes = [&[1, 0][..], &[7; 256], &[9; 20]].concat();
    base64::encode(&bytes)
}

#[test]
fn a_diagnosis_begins_with_the_likely_cause() {
    let ring = ring();
    let mut sealed = object(&[
        ("a", value_for_no_key()),
        ("b", value_for_no_key()),
        ("c", String::new()),
        ("d", String::new()),
    ]);
    let key_in_ring = ring.keys()[0].fingerprint().clone();
    let missing_key = new_test_key(9).pair.fingerprint().clone();
    let annotations = sealed.metadata.annotations.get_or_insert_default();
    let hints = [
        ("a".to_owned(), key_in_ring.clone()),
        ("b".to_owned(), missing_key.clone()),
    ];
    hints::annotate(annotations, &hints.into());
    sealed.spec.template.metadata.name = Some("old".into());
    let error = open(&sealed, &ring).unwrap_err();
    let message = error.diagnosis();
    let lines: Vec<_> = message.lines().collect();
    assert!(lines[0].starts_with("probably renamed or moved: the template has the name old"));
    assert_eq!(
        lines[1],
        "items c, d are not sealed values: it is empty, 0 bytes; seal them again"
    );
    assert_eq!(lines[2], "no key could decrypt secret (a, b)");
    for (key, item, conclusion) in [
        (key_in_ring, "(a)", "which is in the key ring"),
        (missing_key, "(b)", "which is not in"),
    ] {
        let line = lines[3..]
            .iter()
            .find(|line| line.contains(&key.to_string()));
        let line = line.unwrap();
        assert!(line.contains(item) && line.contains(conclusion), "{line}");
    }
    assert!(
        error
            .to_string()
            .starts_with("no key could decrypt secret (a, b, c, d)")
    );
}

/// Attack: an author names keys in annotations, to learn more than whether the value can be unsealed.
#[test]
fn a_diagnosis_depends_only_on_public_data() {
    let ring = ring();
    let label = Scope::Strict.label("ns", "other");
    let key = ring.keys()[0].certificate().unwrap().public_key();
    let other_name = envelope::seal(key, &label, b"x", &mut StdRng::seed_from_u64(5)).unwrap();
    let mut damaged = base64::decode(sealed_value(&ring, b"x").as_bytes()).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    let message = [
        value_for_no_key(),
        base64::encode(&other_name),
        base64::encode(&damaged),
    ]
    .map(|text| {
        let mut sealed = object(&[("a", text)]);
        let hints = [("a".to_owned(), ring.keys()[0].fingerprint().clone())];
        hints::annotate(
            sealed.metadata.annotations.get_or_insert_default(),
            &hints.into(),
        );
        open(&sealed, &ring).unwrap_err().diagnosis()
    });
    assert_eq!(message[0], message[1]);
    assert_eq!(message[0], message[2]);
}

/// Returns every field of `ObjectMeta`, with a value.
fn all_metadata() -> serde_json::Value {
    json!({
        "name": "forged", "generateName": "forged-", "namespace": "forged", "selfLink": "/x", "uid": "u",
        "resourceVersion": "1", "generation": 2, "creationTimestamp": "2020-01-01T00:00:00Z",
        "deletionTimestamp": "2020-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3,
        "labels": {"l": "v"}, "annotations": {"sealedsecrets.bitnami.com/cluster-wide": "true"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "q"}],
        "finalizers": ["example.com/never"], "managedFields": [{"manager": "m"}],
    })
}

/// Attack: an author adds a finalizer to the template, to prevent the deletion of the Secret.
#[test]
fn copies_only_labels_and_annotations_of_a_template() {
    let template: ObjectMeta = serde_json::from_value(all_metadata()).unwrap();
    // A new field of `ObjectMeta` must be added to `all_metadata`.
    assert_eq!(all_metadata().as_object().unwrap().len(), 15);
    let ObjectMeta {
        annotations: Some(_),
        creation_timestamp: Some(_),
        deletion_grace_period_seconds: Some(_),
        deletion_timestamp: Some(_),
        finalizers: Some(_),
        generate_name: Some(_),
        generation: Some(_),
        labels: Some(_),
        managed_fields: Some(_),
        name: Some(_),
        namespace: Some(_),
        owner_references: Some(_),
        resource_version: Some(_),
        self_link: Some(_),
        uid: Some(_),
    } = &template
    else {
        panic!("a field is not filled in: {template:?}")
    };
    let ring = ring();
    let secret_json = json!({
        "kind": "Secret", "apiVersion": "v1", "metadata": all_metadata(), "data": {"a": "YQ=="},
    });
    let mut legacy = object(&[]);
    legacy.spec.data = Some(sealed_value(&ring, secret_json.to_string().as_bytes()));
    let mut sealed = object(&[]);
    sealed.spec.template.metadata = template;
    for sealed in [sealed, legacy] {
        let secret = open(&sealed, &ring).unwrap().secret;
        let metadata = serde_json::to_value(&secret.metadata).unwrap();
        assert_eq!(
            metadata,
            json!({
                "name": "n", "namespace": "ns", "labels": {"l": "v"},
                "annotations": {"sealedsecrets.bitnami.com/cluster-wide": "true"},
            })
        );
    }
}

#[test]
fn takes_type_and_immutable_from_the_template() {
    let mut sealed = object(&[]);
    sealed.spec.template.type_ = Some("t".into());
    sealed.spec.template.immutable = Some(true);
    let secret = open(&sealed, &ring()).unwrap().secret;
    assert_eq!(
        (secret.type_.as_deref(), secret.immutable),
        (Some("t"), Some(true))
    );
}

/// Attack: a reader of statuses learns the names of the items in a Secret in the deprecated form.
#[test]
fn the_deprecated_form_reveals_no_item_names() {
    let ring = ring();
    let mut sealed = object(&[]);
    let secret_json = br#"{"kind":"Secret","apiVersion":"v1","data":{"foo":"YmFy"}}"#;
    sealed.spec.data = Some(sealed_value(&ring, secret_json));
    let sealed_by = open(&sealed, &ring).unwrap().sealed_by;
    assert_eq!(sealed_by.keys().collect::<Vec<_>>(), [LEGACY_ITEM]);
}

/// Attack: an author forges scope annotations in the template, to unseal a value under another scope.
#[test]
fn a_template_does_not_affect_the_scope() {
    let ring = ring();
    let mut sealed = object(&[("a", sealed_value(&ring, b"x"))]);
    let cluster_wide =
        BTreeMap::from([(crate::scope::CLUSTER_WIDE_ANNOTATION.into(), "true".into())]);
    sealed.spec.template.metadata.annotations = Some(cluster_wide.clone());
    assert!(
        open(&sealed, &ring).is_ok(),
        "sealed with strict scope, and strict by the annotations of the object"
    );
    sealed.metadata.annotations = Some(cluster_wide);
    assert!(open(&sealed, &ring).is_err());
}

#[test]
fn the_deprecated_form_is_unsealed_only_if_accepted() {
    let ring = ring();
    let secret_json = br#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"x","uid":"u","labels":{"l":"1"}},"data":{"foo":"YmFy"},"type":"Opaque"}"#;
    let mut sealed = object(&[]);
    sealed.spec.data = Some(sealed_value(&ring, secret_json));
    let secret = open(&sealed, &ring).unwrap().secret;
    assert_eq!(secret.data["foo"].expose(), b"bar");
    assert_eq!(secret.metadata.name.as_deref(), Some("n"));
    assert_eq!(secret.metadata.labels.as_ref().unwrap()["l"], "1");
    assert_eq!(secret.metadata.uid, None);
    assert_eq!(
        open_with(
            &sealed,
            &ring,
            Rules {
                accept_legacy: false,
                ..RULES
            }
        )
        .unwrap_err(),
        UnsealError::LegacyRefused
    );

    sealed.spec.encrypted_data.insert("a".into(), String::new());
    assert_eq!(open(&sealed, &ring).unwrap_err(), UnsealError::BothForms);
    sealed.spec.encrypted_data.clear();
    for (data, want) in [
        (Some(value_for_no_key()), UnsealError::LegacyNoKey(NoKey)),
        (
            Some(String::new()),
            UnsealError::LegacyNotSealed(sealed_text::decode("").unwrap_err()),
        ),
        (
            Some(sealed_value(&ring, b"no secret")),
            UnsealError::LegacyContent,
        ),
    ] {
        sealed.spec.data = data;
        assert_eq!(open(&sealed, &ring).unwrap_err(), want);
    }
}

mod formats;
