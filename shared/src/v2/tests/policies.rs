//! Tests of policies, budgets and limits.

use super::*;
use crate::meter::{Interrupted, Meter};
use crate::resource::SecretTemplate;

const POLICY: Policy = Policy {
    require_v2: false,
    require_bound: false,
    require_post_quantum: false,
    highest_revision: None,
    max_locks: DEFAULT_MAX_LOCKS,
};

const REQUIRE_V2: Policy = Policy {
    require_v2: true,
    ..POLICY
};

fn refusal(sealed: &SealedSecret, policy: &Policy) -> Option<Refusal> {
    Checked::new(sealed, policy, Target::Other).err()
}

fn check(sealed: &SealedSecret) -> Checked {
    Checked::new(sealed, &POLICY, Target::Other).unwrap()
}

fn with_v1_item(mut entries: BTreeMap<String, String>) -> BTreeMap<String, String> {
    entries.insert("old".into(), "AgB=".into());
    entries
}

fn bind(spec: &mut LockSpec<'_>) {
    spec.template = Some(TemplateDigest::of(&SecretTemplate::default()));
}

#[test]
fn requiring_v2_refuses_everything_else() {
    let mut legacy = object(BTreeMap::new());
    legacy.spec.data = Some(String::new());
    let mut partly_bound = seal_with(&[Suite::XWing], bind, &two_values());
    partly_bound.insert("x".into(), inline_for(&[Suite::XWing], "x", "y"));
    let v1 = object(with_v1_item(sealed_for(&[Suite::XWing])));
    for (sealed, want) in [
        (legacy, FormatProblem::LegacyData),
        (v1, FormatProblem::V1Item),
        (object(BTreeMap::new()), FormatProblem::Empty),
        (object(partly_bound), FormatProblem::PartlyBound),
    ] {
        assert_eq!(refusal(&sealed, &POLICY), None, "{want}");
        assert_eq!(refusal(&sealed, &REQUIRE_V2), Some(want.into()));
    }
    let valid = object(sealed_for(&[Suite::XWing]));
    assert_eq!(refusal(&valid, &REQUIRE_V2), None);
}

/// Attack: an editor restores an old v1 value in an object with values that are bound to the template.
#[test]
fn refuses_a_v1_item_in_an_object_with_a_bound_lock() {
    let sealed = object(with_v1_item(seal_with(
        &[Suite::XWing],
        bind,
        &two_values(),
    )));
    let want = FormatProblem::V1WithBound;
    assert_eq!(refusal(&sealed, &POLICY), Some(want.into()));
}

#[test]
fn requiring_post_quantum_refuses_classical_recipients_and_v1_items() {
    let policy = Policy {
        require_post_quantum: true,
        ..POLICY
    };
    for (entries, want) in [
        (sealed_for(&[Suite::XWing]), None),
        (sealed_for(&[Suite::XWing, Suite::Rsa]), Some("password")),
        (sealed_for(&[Suite::P256]), Some("password")),
        (with_v1_item(sealed_for(&[Suite::XWing])), Some("old")),
    ] {
        let want = want.map(|item| Refusal::SuiteRefused {
            item: item.to_owned(),
            required_by: RequiredBy::Policy,
        });
        assert_eq!(refusal(&object(entries), &policy), want);
    }
}

#[test]
fn a_revision_above_the_limit_is_refused() {
    let sealed = object(sealed_for(&[Suite::XWing]));
    let policy = |limit| Policy {
        highest_revision: Some(limit),
        ..POLICY
    };
    assert_eq!(refusal(&sealed, &policy(7)), None);
    let want = Refusal::RevisionInFuture {
        item: "password".into(),
        revision: 7,
    };
    assert_eq!(refusal(&sealed, &policy(6)), Some(want));
}

/// Attack: an author stores hundreds of inline items, each of which costs a private-key operation.
#[test]
fn more_locks_than_allowed_are_refused_before_any_private_key() {
    let entries: BTreeMap<_, _> = (0..4)
        .map(|i| {
            (
                format!("k{i}"),
                inline_for(&[Suite::P256], &format!("k{i}"), "x"),
            )
        })
        .collect();
    let policy = |max_locks| Policy {
        max_locks,
        ..POLICY
    };
    let sealed = object(entries);
    assert_eq!(refusal(&sealed, &policy(4)), None);
    let want = FormatProblem::Locks { limit: 3 };
    assert_eq!(refusal(&sealed, &policy(3)), Some(want.into()));
}

/// Allows this many operations, then interrupts the work.
struct Limited(u64);

impl Meter for Limited {
    fn spend(&mut self, cost: u64) -> Result<(), Interrupted> {
        if cost > 0 {
            self.0 = self.0.checked_sub(1).ok_or(Interrupted)?;
        }
        Ok(())
    }
}

#[test]
fn one_operation_opens_a_shared_lock_and_one_each_inline_item() {
    let mut entries = sealed_for(&[Suite::XWing]);
    entries.insert("x".into(), inline_for(&[Suite::XWing], "x", "y"));
    let checked = check(&object(entries));
    let keys = keys_of(&[Suite::XWing]);
    let mut meter = Limited(2);
    let opened = &mut OpenedLocks::default();
    open(&checked, &keys, opened, &mut meter, &mut rng()).unwrap();
    assert_eq!(meter.0, 0);
}

#[test]
fn an_interrupted_attempt_continues_where_it_stopped() {
    let entries: BTreeMap<_, _> = (0..3)
        .map(|i| {
            (
                format!("k{i}"),
                inline_for(&[Suite::P256], &format!("k{i}"), "x"),
            )
        })
        .collect();
    let checked = check(&object(entries));
    let keys = keys_of(&[Suite::P256]);
    let mut opened = OpenedLocks::default();
    for attempt in 1..=2 {
        let result = open(&checked, &keys, &mut opened, &mut Limited(1), &mut rng());
        assert_eq!(result, Err(OpenError::Interrupted(Interrupted)));
        assert_eq!(opened.len(), attempt);
    }
    assert_eq!(
        open(&checked, &keys, &mut opened, &mut Limited(1), &mut rng())
            .unwrap()
            .len(),
        3
    );
}

/// Attack: an author copies stanzas for every key of the controller into one lock, to multiply the work.
#[test]
fn several_own_keys_in_one_lock_cost_one_operation_of_the_cheapest_suite() {
    let sealed = object(sealed_for(&Suite::ALL));
    let checked = check(&sealed);
    let mut meter = Limited(1);
    let keys = keys_of(&Suite::ALL);
    let opened = &mut OpenedLocks::default();
    let opened = open(&checked, &keys, opened, &mut meter, &mut rng()).unwrap();
    assert_eq!(opened["user"].key, KEYS.xw.recipient().key_id());
}

/// Returns an object with this many inline items, all of them tampered with.
fn tampered(count: usize) -> SealedSecret {
    let mut entries = BTreeMap::new();
    for number in 0..count {
        let item = format!("k{number}");
        entries.insert(item.clone(), inline_for(&[Suite::P256], &item, "x"));
        change(&mut entries, &item, |bytes| bytes[58] ^= 1);
    }
    object(entries)
}

fn reason_of(result: Result<BTreeMap<String, OpenedValue>, OpenError>) -> Option<Reason> {
    match result {
        Err(OpenError::Refused(refusal)) => Some(refusal.reason()),
        _ => None,
    }
}

/// Attack: an author stores more wrong locks than one attempt can try. Attempts without a cache would never finish.
#[test]
fn repeated_attempts_on_wrong_locks_finish() {
    let checked = check(&tampered(3));
    let keys = keys_of(&[Suite::P256]);
    let mut opened = OpenedLocks::default();
    let mut attempt = || open(&checked, &keys, &mut opened, &mut Limited(1), &mut rng());
    for _ in 1..=2 {
        assert_eq!(attempt(), Err(OpenError::Interrupted(Interrupted)));
    }
    assert_eq!(reason_of(attempt()), Some(Reason::Tampered));
    assert!(opened.is_empty(), "the object was refused");
}

/// Attack: an author stores the same lock many times, to learn from the number of operations whether it opens.
#[test]
fn equal_locks_cost_one_operation_whether_they_open_or_not() {
    for damage in [0, 1] {
        let mut lock = inline_for(&[Suite::P256], "k", "x");
        let mut entries = BTreeMap::from([("k".to_owned(), lock)]);
        change(&mut entries, "k", |bytes| bytes[58] ^= damage);
        lock = entries["k"].clone();
        entries.extend((0..5).map(|number| (format!("k{number}"), lock.clone())));
        let (checked, keys) = (check(&object(entries)), keys_of(&[Suite::P256]));
        let opened = &mut OpenedLocks::default();
        let result = open(&checked, &keys, opened, &mut Limited(1), &mut rng());
        assert_eq!(reason_of(result), Some(Reason::Tampered), "{damage}");
    }
}

#[test]
fn discards_data_keys_cached_for_another_object() {
    let keys = keys_of(&[Suite::P256]);
    let mut opened = OpenedLocks::default();
    let first = check(&tampered(3));
    let result = open(&first, &keys, &mut opened, &mut Limited(2), &mut rng());
    assert_eq!(result, Err(OpenError::Interrupted(Interrupted)));
    assert_eq!(opened.len(), 2);
    let second = check(&object(sealed_for(&[Suite::P256])));
    let result = open(&second, &keys, &mut opened, &mut Limited(0), &mut rng());
    assert_eq!(result, Err(OpenError::Interrupted(Interrupted)));
    assert!(opened.is_empty());
}

/// A data key that was cached for one object does not open another.
#[test]
fn a_cached_data_key_does_not_open_another_object() {
    let mut entries = sealed_for(&[Suite::P256]);
    entries.insert("x".into(), inline_for(&[Suite::P256], "x", "y"));
    let mut checked = check(&object(entries));
    let keys = keys_of(&[Suite::P256]);
    let mut opened = OpenedLocks::default();
    let result = open(&checked, &keys, &mut opened, &mut Limited(1), &mut rng());
    assert_eq!(result, Err(OpenError::Interrupted(Interrupted)));
    checked.place = Place::of(Scope::Strict, "shop", "other").unwrap();
    let result = open(&checked, &keys, &mut opened, &mut Unmetered, &mut rng());
    assert_eq!(reason_of(result), Some(Reason::Tampered));
}

/// A key outside this process that becomes available with the second request.
struct ExternalKey(std::sync::atomic::AtomicBool);

impl Opener for ExternalKey {
    fn suite(&self) -> Suite {
        Suite::P256
    }

    fn key_id(&self) -> KeyId {
        KEYS.p256.opener().key_id()
    }

    fn cost(&self) -> u64 {
        1
    }

    fn unwrap_key(
        &self,
        wrapped: &[u8],
        binding: &Binding<'_>,
    ) -> Result<Option<DataKey>, Unavailable> {
        if self.0.swap(true, std::sync::atomic::Ordering::Relaxed) {
            KEYS.p256.opener().unwrap_key(wrapped, binding)
        } else {
            Err(Unavailable("timed out".into()))
        }
    }
}

#[test]
fn reports_an_unreachable_key_as_unavailable_and_not_as_tampering() {
    let external_key = ExternalKey(false.into());
    let keys = [&external_key as &dyn Opener].into_iter().collect();
    let checked = check(&object(sealed_for(&[Suite::P256])));
    let mut opened = OpenedLocks::default();
    let mut attempt = || open(&checked, &keys, &mut opened, &mut Unmetered, &mut rng());
    let error = attempt().unwrap_err();
    assert!(matches!(error, OpenError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("timed out"), "{error}");
    assert_eq!(attempt().unwrap().len(), 2);
}

/// Attack: an editor deletes the v2 values, and restores an earlier `spec.data`, which is encrypted with RSA.
#[test]
fn requiring_post_quantum_refuses_the_data_of_v1() {
    let mut sealed = object(BTreeMap::new());
    sealed.spec.data = Some("AgB=".into());
    let policy = Policy {
        require_post_quantum: true,
        ..POLICY
    };
    assert_eq!(refusal(&sealed, &policy), Some(Refusal::LegacyDataRefused));
    assert_eq!(refusal(&sealed, &POLICY), None);
}

#[test]
fn refuses_spec_data_in_an_object_with_v2_values() {
    let mut sealed = object(sealed_for(&[Suite::XWing]));
    sealed.spec.data = Some(String::new());
    let want = FormatProblem::DataWithV2;
    assert_eq!(refusal(&sealed, &POLICY), Some(want.into()));
}

#[test]
fn requiring_bound_values_refuses_all_others() {
    let policy = Policy {
        require_bound: true,
        ..POLICY
    };
    let bound = seal_with(&[Suite::XWing], bind, &two_values());
    let mut partly = bound.clone();
    partly.insert("x".into(), inline_for(&[Suite::XWing], "x", "y"));
    let v1 = with_v1_item(BTreeMap::new());
    let mut legacy = object(BTreeMap::new());
    legacy.spec.data = Some(String::new());
    let unbound = sealed_for(&[Suite::XWing]);
    for sealed in [object(partly), object(v1), object(unbound), legacy] {
        let want = FormatProblem::Unbound;
        assert_eq!(refusal(&sealed, &policy), Some(want.into()));
    }
    assert_eq!(refusal(&object(bound), &policy), None);
}

/// Attack: an editor replaces the address in the object that contains a password, so that a program sends the password
/// to another address.
#[test]
fn refuses_other_values_in_an_object_whose_lock_must_be_the_only_one() {
    let alone = seal_with(&[Suite::XWing], |spec| spec.is_alone = true, &two_values());
    assert!(Object::parse(&alone).unwrap().is_alone());
    assert_eq!(refusal(&object(alone.clone()), &POLICY), None);
    let mut inline = alone.clone();
    inline.insert("user".into(), inline_for(&[Suite::XWing], "user", "evil"));
    let mut shared = alone.clone();
    let other = seal_with(&[Suite::P256], |_| (), &values(&[("user", "evil")]));
    shared.extend(other);
    for entries in [inline, shared, with_v1_item(alone)] {
        let want = FormatProblem::NotAlone;
        assert_eq!(refusal(&object(entries), &POLICY), Some(want.into()));
    }
}

#[test]
fn refuses_to_create_a_secret_from_values_that_must_not_become_one() {
    let entries = seal_with(
        &[Suite::XWing],
        |spec| spec.is_never_secret = true,
        &two_values(),
    );
    let sealed = object(entries);
    let refusal = Checked::new(&sealed, &POLICY, Target::Secret).unwrap_err();
    assert_eq!(refusal.reason(), Reason::NotMade);
    assert!(Checked::new(&sealed, &POLICY, Target::Other).is_ok());
}

/// Attack: an editor gives an entry a name that reads like a part of the message.
#[test]
fn quotes_the_names_of_tampered_items() {
    let mut entries = sealed_for(&[Suite::P256]);
    let value = entries.remove("user").unwrap();
    entries.insert("x; all is well\n".into(), value);
    let refusal = open_object(&object(entries), &keys_of(&[Suite::P256])).unwrap_err();
    let text = refusal.to_string();
    assert!(text.contains(r#""x; all is well\n""#), "{text}");
}
