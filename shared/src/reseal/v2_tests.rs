use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rand::{SeedableRng, rngs::StdRng};

use super::{ResealError, ResealRules, Resealed, reseal, reseal_as_v2};
use crate::key::new_test_key;
use crate::key_marks::Marks;
use crate::key_ring::{AnyKey, KeyRing, NoSealingKey, RingKey, RingV2Key};
use crate::meter::{Interrupted, Meter, Unmetered};
use crate::plain::Plain;
use crate::resource::SealedSecret;
use crate::scope::Scope;
use crate::unseal::UnsealError;
use crate::v2::key_secret::StoredKey;
use crate::v2::{
    self, Checked, EditError, LockSpec, OpenedLocks, OpenedValue, Place, Recipient, SecretKey,
    Suite, Target, TemplateDigest, Value,
};
use crate::{base64, envelope, hints};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn rng() -> StdRng {
    StdRng::seed_from_u64(4)
}

fn rsa(second: i64) -> AnyKey {
    let time = Timestamp::from_second(second).unwrap();
    let key = RingKey::new(format!("rsa{second}"), time, new_test_key(second).pair);
    AnyKey::Rsa(Arc::new(key))
}

fn v2_key(suite: Suite, byte: u8) -> AnyKey {
    let stored = StoredKey {
        key: SecretKey::from_bytes(suite, &[byte; 32]).unwrap(),
        not_before: NOW,
        not_after: NOW + SignedDuration::from_hours(1),
    };
    let time = Timestamp::from_second(byte.into()).unwrap();
    AnyKey::V2(Arc::new(RingV2Key::new(format!("v2{byte}"), time, stored)))
}

fn ring(suite: Suite, keys: &[AnyKey]) -> KeyRing {
    KeyRing::from_keys(keys.iter().cloned()).with_preferred_suite(suite)
}

fn recipient(key: &AnyKey) -> &dyn Recipient {
    key.sealing_half().unwrap().recipient
}

fn object() -> SealedSecret {
    let mut sealed = SealedSecret::new("n", crate::resource::SealedSecretSpec::default());
    sealed.metadata.namespace = Some("ns".into());
    sealed
}

fn spec<'a>(place: &'a Place, recipients: &'a [&'a dyn Recipient]) -> LockSpec<'a> {
    LockSpec {
        place,
        recipients,
        allow_classical: false,
        template: None,
        is_never_secret: false,
        is_alone: false,
        revision: 7,
    }
}

fn place() -> Place {
    Place::for_sealing(Scope::Strict, "ns", "n").unwrap()
}

fn value(text: &str) -> Value {
    Value::new(Plain::from(text.to_owned()), &mut StdRng::seed_from_u64(9))
}

/// Returns an object with a shared lock for `key`, and an inline item for the same key.
fn sealed_for(key: &AnyKey, bind: bool) -> SealedSecret {
    let (mut sealed, place) = (object(), place());
    let recipients = [recipient(key)];
    let mut spec = spec(&place, &recipients);
    spec.template = bind.then(|| TemplateDigest::of(&sealed.spec.template));
    let values = BTreeMap::from([("a".to_owned(), value("1")), ("b".to_owned(), value("2"))]);
    sealed.spec.encrypted_data = v2::seal(&spec, &values, &mut rng()).unwrap();
    let inline = v2::seal_inline(&spec, "b", &value("3"), &mut rng()).unwrap();
    sealed.spec.encrypted_data.insert("b".into(), inline);
    sealed
}

fn rules() -> ResealRules {
    ResealRules {
        now: NOW,
        accept_legacy: true,
        max_items: 10,
        policy: v2::Policy::default(),
    }
}

fn rotate(sealed: &SealedSecret, ring: &KeyRing) -> Result<Resealed, ResealError> {
    reseal(sealed, ring, rules(), &mut rng(), &mut Unmetered)
}

fn open(sealed: &SealedSecret, ring: &KeyRing) -> BTreeMap<String, OpenedValue> {
    let checked = Checked::new(sealed, &v2::Policy::default(), Target::Other).unwrap();
    let locks = &mut OpenedLocks::default();
    v2::open(&checked, &ring.openers(), locks, &mut Unmetered, &mut rng()).unwrap()
}

#[test]
fn re_encrypts_v2_items_under_one_lock_for_the_preferred_key() {
    let keys = [rsa(1), v2_key(Suite::XWing, 2), v2_key(Suite::XWing, 3)];
    for (suite, old, new) in [
        (Suite::Rsa, &keys[0], &keys[0]),
        (Suite::XWing, &keys[0], &keys[2]),
        (Suite::XWing, &keys[1], &keys[2]),
    ] {
        for bind in [false, true] {
            let ring = ring(suite, &keys);
            let sealed = sealed_for(old, bind);
            let rotated = rotate(&sealed, &ring).unwrap();
            assert_eq!(rotated.changed, 2, "{suite} {bind}");
            let entries = &rotated.sealed.spec.encrypted_data;
            assert_eq!(entries.len(), 4, "an item each, the header and one stanza");
            let before = open(&sealed, &ring);
            let after = open(&rotated.sealed, &ring);
            for (item, opened) in &after {
                assert_eq!(opened.value, before[item].value, "with its identifier");
                assert_eq!(opened.key, new.key_id());
            }
            let object = v2::Object::parse(entries).unwrap();
            let views = object.view();
            assert!(
                views
                    .values()
                    .all(|view| view.is_template_bound == bind && !view.is_inline)
            );
            let again = rotate(&rotated.sealed, &ring).unwrap();
            assert_eq!(
                (again.changed, &again.sealed.spec),
                (0, &rotated.sealed.spec)
            );
        }
    }
}

/// Attack: a caller sends a post-quantum value to a controller with only RSA keys for re-encryption, so that a quantum
/// computer can decrypt the result.
#[test]
fn refuses_to_give_up_post_quantum_protection() {
    let keys = [rsa(1), v2_key(Suite::XWing, 2)];
    let sealed = sealed_for(&keys[1], false);
    let refused = rotate(&sealed, &ring(Suite::Rsa, &keys)).unwrap_err();
    assert!(
        matches!(refused, ResealError::V2(EditError::PostQuantumOnly { .. })),
        "{refused}"
    );
}

/// Attack: a caller sends old unbound values together with a bound item and a template of its own, so that
/// re-encryption binds all values to this template with a fresh revision.
#[test]
fn refuses_to_bind_values_that_were_sealed_unbound() {
    let keys = [rsa(1), v2_key(Suite::XWing, 2)];
    let (mut sealed, place) = (sealed_for(&keys[1], false), place());
    sealed.spec.template.type_ = Some("attacker".into());
    let recipients = [recipient(&keys[1])];
    let mut spec = spec(&place, &recipients);
    spec.template = Some(TemplateDigest::of(&sealed.spec.template));
    let own = v2::seal_inline(&spec, "own", &value("x"), &mut rng()).unwrap();
    sealed.spec.encrypted_data.insert("own".into(), own);
    let ring = ring(Suite::XWing, &keys);
    let converted = reseal_as_v2(&sealed, &ring, rules(), &mut rng(), &mut Unmetered);
    for refused in [rotate(&sealed, &ring), converted] {
        let is_refused = matches!(refused, Err(ResealError::V2(EditError::PartlyBound)));
        assert!(is_refused, "{refused:?}");
    }
}

/// Attack: an author adds a recipient to an object, and waits for a re-encryption that keeps this recipient.
#[test]
fn re_encryption_drops_recipients_that_are_not_in_the_ring() {
    let keys = [rsa(1), v2_key(Suite::XWing, 2)];
    let unrelated = v2_key(Suite::XWing, 9);
    let escrow = SecretKey::from_bytes(Suite::XWing, &[8; 32])
        .unwrap()
        .recipient();
    let (mut sealed, place) = (object(), place());
    let recipients = [recipient(&keys[1]), recipient(&unrelated)];
    let values = BTreeMap::from([("a".to_owned(), value("1"))]);
    let spec = spec(&place, &recipients);
    sealed.spec.encrypted_data = v2::seal(&spec, &values, &mut rng()).unwrap();
    let ring = ring(Suite::XWing, &keys);
    let with_escrow = ring
        .clone()
        .with_additional_recipients([escrow.clone()].into());
    for (ring, mut want) in [
        (&ring, vec![keys[1].key_id().short()]),
        (
            &with_escrow,
            vec![keys[1].key_id().short(), escrow.key_id().short()],
        ),
    ] {
        let rotated = rotate(&sealed, ring).unwrap();
        let object = v2::Object::parse(&rotated.sealed.spec.encrypted_data).unwrap();
        let recipients = &object.view()["a"].recipients;
        want.sort();
        assert!(recipients.iter().map(|(key, _)| *key).eq(want));
        assert_eq!(rotate(&rotated.sealed, ring).unwrap().changed, 0);
    }
}

#[test]
fn keeps_the_format_of_each_item_of_a_mixed_object() {
    let keys = [rsa(1), rsa(2), v2_key(Suite::XWing, 3)];
    let mut sealed = sealed_for(&keys[2], false);
    let AnyKey::Rsa(old) = &keys[0] else {
        unreachable!("it is an RSA key");
    };
    let label = Scope::Strict.label_for_sealing("ns", "n").unwrap();
    let public = old.certificate().unwrap().public_key();
    let v1 = envelope::seal(public, &label, b"v1", &mut rng()).unwrap();
    let v1 = base64::encode(&v1);
    sealed.spec.encrypted_data.insert("c".into(), v1.clone());
    let ring = ring(Suite::XWing, &keys);
    let rotated = rotate(&sealed, &ring).unwrap();
    assert_eq!(rotated.changed, 3);
    let entries = &rotated.sealed.spec.encrypted_data;
    assert_ne!(entries["c"], v1);
    let bytes = base64::decode(entries["c"].as_bytes()).unwrap();
    let (plain, key) = ring.open(&label, &bytes, &[]).unwrap();
    assert_eq!((plain.expose(), key.name()), (&b"v1"[..], "rsa2"));
    assert_eq!(open(&rotated.sealed, &ring).len(), 2);
    let again = rotate(&rotated.sealed, &ring).unwrap();
    assert_eq!(
        (again.changed, &again.sealed.spec),
        (0, &rotated.sealed.spec)
    );
    // The whole object is re-encrypted, or nothing.
    sealed
        .spec
        .encrypted_data
        .insert("c".into(), base64::encode(&[0; 300]));
    assert!(matches!(
        rotate(&sealed, &ring),
        Err(ResealError::Unseal(_))
    ));
}

/// Fails the test at the first operation.
struct Forbidden;

impl Meter for Forbidden {
    fn spend(&mut self, _: u64) -> Result<(), Interrupted> {
        unreachable!("a key was used");
    }
}

/// Attack: an author sends a value with a revision in the future, a value of another place, or a damaged value, so that
/// re-encryption returns it with a fresh revision.
#[test]
fn refuses_objects_that_readers_refuse_before_using_a_private_key() {
    let keys = [rsa(1), v2_key(Suite::XWing, 2)];
    let ring = ring(Suite::XWing, &keys);
    let sealed = sealed_for(&keys[1], true);
    let mut moved = sealed.clone();
    moved.metadata.name = Some("other".into());
    let mut edited = sealed.clone();
    edited.spec.template.type_ = Some("x".into());
    let mut damaged = sealed.clone();
    damaged
        .spec
        .encrypted_data
        .insert("b".into(), "seal2.i.AA".into());
    let future = ResealRules {
        policy: v2::Policy {
            highest_revision: Some(6),
            ..v2::Policy::default()
        },
        ..rules()
    };
    for (sealed, rules, reason) in [
        (&moved, rules(), v2::Reason::ScopeMismatch),
        (&edited, rules(), v2::Reason::TemplateChanged),
        (&damaged, rules(), v2::Reason::Malformed),
        (&sealed, future, v2::Reason::RevisionInFuture),
    ] {
        let result = reseal(sealed, &ring, rules, &mut rng(), &mut Forbidden);
        let Err(ResealError::Unseal(UnsealError::Refused(refusal))) = result else {
            panic!("{reason:?} was not refused: {result:?}");
        };
        assert_eq!(refusal.reason(), reason);
    }
}

#[test]
fn reports_why_no_key_of_the_preferred_suite_may_seal() {
    let key = v2_key(Suite::XWing, 2);
    let sealed = sealed_for(&key, false);
    let AnyKey::V2(v2) = &key else {
        unreachable!("it is a v2 key");
    };
    let compromised = SecretKey::from_bytes(Suite::XWing, &[2; 32]).unwrap();
    let (not_before, not_after) = v2.validity();
    let stored = StoredKey {
        key: compromised,
        not_before,
        not_after,
    };
    let compromised = RingV2Key::new("v2".into(), NOW, stored).with_marks(Marks {
        is_compromised: true,
        ..Marks::default()
    });
    let compromised = AnyKey::V2(Arc::new(compromised));
    for (keys, want) in [
        (vec![rsa(1), compromised], NoSealingKey::Compromised),
        (vec![rsa(1)], NoSealingKey::NoKeyOfSuite(Suite::XWing)),
    ] {
        let result = rotate(&sealed, &ring(Suite::XWing, &keys));
        assert!(matches!(&result, Err(ResealError::NoCertificate(why)) if *why == want));
    }
    let removed = KeyRing::from_keys([rsa(1)]).with_preferred_suite(Suite::XWing);
    let removed = removed.with_removed([key]);
    assert!(matches!(
        rotate(&sealed, &removed),
        Err(ResealError::NoCertificate(NoSealingKey::Removed))
    ));
}

/// Returns an object with two v1 items that are sealed for `key`, one of them with a hint, and its values.
fn v1_object(key: &AnyKey, ring: &KeyRing) -> (SealedSecret, BTreeMap<String, Value>) {
    let AnyKey::Rsa(key) = key else {
        unreachable!("it is an RSA key");
    };
    let mut sealed = object();
    let label = Scope::Strict.label_for_sealing("ns", "n").unwrap();
    let public = key.certificate().unwrap().public_key();
    let mut values = BTreeMap::new();
    for (item, value) in [("c", "1"), ("d", "")] {
        let text = envelope::seal(public, &label, value.as_bytes(), &mut rng()).unwrap();
        let opened = ring.open_value_within(&label, &text, &[], &mut Unmetered);
        values.insert(item.to_owned(), opened.unwrap().0.into());
        let entries = &mut sealed.spec.encrypted_data;
        entries.insert(item.into(), base64::encode(&text));
    }
    let hints = [("c".to_owned(), key.fingerprint().clone())].into();
    let annotations = sealed.metadata.annotations.get_or_insert_default();
    hints::annotate(annotations, &hints);
    (sealed, values)
}

#[test]
fn converts_v1_and_mixed_objects_and_keeps_the_identifiers_of_values() {
    let keys = [rsa(1), rsa(2), v2_key(Suite::XWing, 3)];
    let ring = ring(Suite::XWing, &keys);
    let (v1, mut want) = v1_object(&keys[0], &ring);
    for is_mixed in [false, true] {
        let mut sealed = v1.clone();
        if is_mixed {
            let v2_part = sealed_for(&keys[2], false);
            let opened = open(&v2_part, &ring).into_iter();
            want.extend(opened.map(|(item, opened)| (item, opened.value)));
            sealed
                .spec
                .encrypted_data
                .extend(v2_part.spec.encrypted_data);
        }
        let convert = |sealed: &SealedSecret| {
            reseal_as_v2(sealed, &ring, rules(), &mut rng(), &mut Unmetered).unwrap()
        };
        let converted = convert(&sealed);
        assert_eq!(converted.changed, want.len());
        let entries = &converted.sealed.spec.encrypted_data;
        assert_eq!(entries.len(), want.len() + 2, "the header and one stanza");
        assert_eq!(converted.sealed.metadata.annotations, Some(BTreeMap::new()));
        let got = open(&converted.sealed, &ring).into_iter();
        let got: BTreeMap<_, _> = got.map(|(item, opened)| (item, opened.value)).collect();
        assert_eq!(got, want);
        let again = convert(&converted.sealed);
        assert_eq!((again.changed, &again.sealed), (0, &converted.sealed));
    }
}

/// Attack: an author restores a v1 value from before a migration, and has it converted where policy refuses v1.
#[test]
fn refuses_conversions_that_readers_would_refuse_or_that_widen_the_scope() {
    let keys = [rsa(1), v2_key(Suite::XWing, 3)];
    let ring = ring(Suite::XWing, &keys);
    let (sealed, _) = v1_object(&keys[0], &ring);
    let convert = |sealed: &SealedSecret, rules, meter: &mut dyn Meter| {
        reseal_as_v2(sealed, &ring, rules, &mut rng(), meter)
    };
    let require_v2 = ResealRules {
        policy: v2::Policy {
            require_v2: true,
            ..v2::Policy::default()
        },
        ..rules()
    };
    let refused = convert(&sealed, require_v2, &mut Forbidden);
    assert!(matches!(
        refused,
        Err(ResealError::Unseal(UnsealError::Refused(_)))
    ));
    let mut unnamed = sealed.clone();
    unnamed.metadata.name = None;
    let refused = convert(&unnamed, rules(), &mut Forbidden);
    assert!(
        matches!(refused, Err(ResealError::V2(EditError::Seal(_)))),
        "{refused:?}"
    );
    let mut deprecated = object();
    deprecated.spec.data = Some("AAAA".into());
    let refused = convert(&deprecated, rules(), &mut Forbidden);
    assert!(matches!(
        refused,
        Err(ResealError::Unseal(UnsealError::LegacyRefused))
    ));
    let mut wrong = sealed.clone();
    wrong
        .spec
        .encrypted_data
        .insert("d".into(), base64::encode(&[0; 300]));
    let refused = convert(&wrong, rules(), &mut Unmetered);
    assert!(matches!(
        refused,
        Err(ResealError::Unseal(UnsealError::Items(_)))
    ));
}
