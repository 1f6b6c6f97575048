//! Objects with v2 items, with and without v1 items.

use proptest::prelude::*;

use super::*;
use crate::key_ring::RingV2Key;
use crate::meter::Interrupted;
use crate::needs::{self, Need};
use crate::random;
use crate::resource::SecretTemplate;
use crate::v2::key_secret::StoredKey;
use crate::v2::{
    FormatProblem, LockSpec, Policy, Reason, Recipient, Refusal, SecretKey, ShortKeyId, Suite,
    TemplateDigest, Value,
};

const ADMISSION: Admission = Admission {
    accept_legacy: true,
    policy: Policy {
        require_v2: false,
        require_bound: false,
        require_post_quantum: false,
        highest_revision: Some(1_000),
        max_locks: v2::DEFAULT_MAX_LOCKS,
    },
    target: Target::Secret,
};

/// Counts operations with keys, and interrupts the work after `limit`.
struct Counter {
    operations: u64,
    limit: u64,
}

impl Meter for Counter {
    fn spend(&mut self, microseconds: u64) -> Result<(), Interrupted> {
        // Copying a small value has no cost.
        if microseconds > 0 && self.operations == self.limit {
            return Err(Interrupted);
        }
        self.operations += u64::from(microseconds > 0);
        Ok(())
    }
}

fn key_of(suite: Suite) -> SecretKey {
    SecretKey::from_bytes(suite, &[7; 32]).unwrap()
}

/// Returns a key ring with one key of each suite.
fn full_ring() -> KeyRing {
    let v2_key = |suite: Suite| {
        let stored = StoredKey {
            key: key_of(suite),
            not_before: Timestamp::MIN,
            not_after: Timestamp::MAX,
        };
        let name = suite.to_string();
        Arc::new(RingV2Key::new(name, Timestamp::UNIX_EPOCH, stored))
    };
    ring().with_v2_keys([Suite::XWing, Suite::P256].map(v2_key))
}

fn with_spec<T>(
    ring: &KeyRing,
    suite: Suite,
    change: impl Fn(&mut LockSpec<'_>),
    use_spec: impl FnOnce(&LockSpec<'_>) -> T,
) -> T {
    let place = v2::Place::for_sealing(Scope::Strict, "ns", "n").unwrap();
    let v2_recipient;
    let recipient: &dyn Recipient = if suite == Suite::Rsa {
        ring.keys()[0].certificate().unwrap().public_key()
    } else {
        v2_recipient = key_of(suite).recipient();
        &v2_recipient
    };
    let mut spec = LockSpec {
        place: &place,
        recipients: &[recipient],
        allow_classical: false,
        template: None,
        is_never_secret: false,
        is_alone: false,
        revision: 7,
    };
    change(&mut spec);
    use_spec(&spec)
}

fn value(text: &str) -> Value {
    let plain = Plain::from(text.as_bytes().to_vec());
    Value::new(plain, &mut random::system())
}

fn shared(
    ring: &KeyRing,
    suite: Suite,
    items: &[(&str, &str)],
    change: impl Fn(&mut LockSpec<'_>),
) -> BTreeMap<String, String> {
    let items = items.iter();
    let values = items
        .map(|(name, text)| ((*name).to_owned(), value(text)))
        .collect();
    with_spec(ring, suite, change, |spec| {
        v2::seal(spec, &values, &mut random::system()).unwrap()
    })
}

fn inline(ring: &KeyRing, suite: Suite, item: &str, text: &str) -> (String, String) {
    let sealed = with_spec(
        ring,
        suite,
        |_| (),
        |spec| v2::seal_inline(spec, item, &value(text), &mut random::system()).unwrap(),
    );
    (item.to_owned(), sealed)
}

fn object_of(entries: impl IntoIterator<Item = (String, String)>) -> SealedSecret {
    let mut sealed = object(&[]);
    sealed.spec.encrypted_data = entries.into_iter().collect();
    sealed
}

/// Unseals within a number of operations. Returns the result and the number of operations.
fn unseal_counting(
    sealed: &SealedSecret,
    ring: &KeyRing,
    admission: Admission,
    locks: &mut OpenedLocks,
    limit: u64,
) -> (Result<Unsealed, UnsealError>, u64) {
    let mut counter = Counter {
        operations: 0,
        limit,
    };
    let earlier_results = EarlierResults {
        hints: &Hints::new(),
        locks,
    };
    let items = unseal_items(sealed, ring, admission, earlier_results, &mut counter);
    let operations = counter.operations;
    let mut randomness = Randomness {
        now: Timestamp::UNIX_EPOCH,
        rng: &mut StdRng::seed_from_u64(7),
    };
    let rendered = items.and_then(|i| i.render(sealed, false, &mut randomness, &mut Unmetered));
    (rendered, operations)
}

fn unseal_admitted(
    sealed: &SealedSecret,
    ring: &KeyRing,
    admission: Admission,
) -> (Result<Unsealed, UnsealError>, u64) {
    let locks = &mut OpenedLocks::default();
    unseal_counting(sealed, ring, admission, locks, u64::MAX)
}

fn refusal(result: Result<Unsealed, UnsealError>) -> Refusal {
    match result {
        Err(UnsealError::Refused(refusal)) => refusal,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the object was unsealed"),
    }
}

/// Replaces a character in the middle of an entry.
fn damage(sealed: &mut SealedSecret, entry: &str) {
    let text = sealed.spec.encrypted_data.get_mut(entry).unwrap();
    let middle = text.len() / 2;
    let other = if &text[middle..=middle] == "A" {
        "B"
    } else {
        "A"
    };
    text.replace_range(middle..=middle, other);
}

#[test]
fn an_object_of_all_formats_is_unsealed_with_one_operation_for_each_lock_and_v1_item() {
    let ring = full_ring();
    for suite in Suite::ALL {
        let mut entries = shared(&ring, suite, &[("a", "1"), ("b", "2"), ("c", "3")], |_| ());
        entries.extend([inline(&ring, suite, "d", "4")]);
        entries.insert("e".into(), sealed_value(&ring, b"5"));
        let (unsealed, operations) = unseal_admitted(&object_of(entries), &ring, ADMISSION);
        let unsealed = unsealed.unwrap();
        let data = &unsealed.secret.data;
        let values: Vec<_> = data.iter().map(|(k, v)| (k.as_str(), v.expose())).collect();
        let want: [(&str, &[u8]); 5] = [
            ("a", b"1"),
            ("b", b"2"),
            ("c", b"3"),
            ("d", b"4"),
            ("e", b"5"),
        ];
        assert_eq!(values, want, "{suite}");
        assert_eq!(operations, 3, "{suite}");
        let fingerprint = UsedKey::Rsa(ring.keys()[0].fingerprint().clone());
        let used = match suite {
            Suite::Rsa => fingerprint.clone(),
            suite => UsedKey::V2(key_of(suite).recipient().key_id().short()),
        };
        assert_eq!(unsealed.sealed_by["a"], used);
        assert_eq!(unsealed.sealed_by["e"], fingerprint);
    }
}

/// Attack: an author makes the controller use its keys for an object that must be refused.
#[test]
fn refuses_publicly_visible_problems_before_using_a_key() {
    type Change<'a> = &'a dyn Fn(&mut SealedSecret);
    let ring = full_ring();
    let sealed_with = |change: &dyn Fn(&mut LockSpec<'_>)| {
        let mut entries = shared(&ring, Suite::XWing, &[("a", "1")], change);
        entries.insert("old".into(), sealed_value(&ring, b"5"));
        object_of(entries)
    };
    let template = SecretTemplate::default();
    let bound = |spec: &mut LockSpec<'_>| spec.template = Some(TemplateDigest::of(&template));
    let never_secret = |spec: &mut LockSpec<'_>| spec.is_never_secret = true;
    let future = |spec: &mut LockSpec<'_>| spec.revision = 1_001;
    let nothing: Change<'_> = &|_| ();
    let cases: [(Reason, SealedSecret, Change<'_>); 6] = [
        (Reason::Malformed, sealed_with(&|_| ()), &|sealed| {
            let entries = &mut sealed.spec.encrypted_data;
            entries.insert("/other".into(), String::new());
        }),
        (Reason::ScopeMismatch, sealed_with(&|_| ()), &|sealed| {
            sealed.metadata.name = Some("other".into());
        }),
        (Reason::FormatRefused, sealed_with(&bound), nothing),
        (Reason::TemplateChanged, sealed_with(&bound), &|sealed| {
            sealed.spec.encrypted_data.remove("old");
            sealed.spec.template.type_ = Some("other".into());
        }),
        (Reason::RevisionInFuture, sealed_with(&future), nothing),
        (Reason::NotMade, sealed_with(&never_secret), nothing),
    ];
    for (want, mut sealed, change) in cases {
        change(&mut sealed);
        let (result, operations) = unseal_admitted(&sealed, &ring, ADMISSION);
        assert_eq!((refusal(result).reason(), operations), (want, 0));
    }
    let mut sealed = sealed_with(&|_| ());
    let inline = inline(&ring, Suite::P256, "z", "");
    sealed.spec.encrypted_data.extend([inline]);
    let without_p256 = KeyRing::new(ring.keys().iter().cloned());
    let (result, operations) = unseal_admitted(&sealed, &without_p256, ADMISSION);
    assert_eq!(
        (refusal(result).reason(), operations),
        (Reason::UnknownKey, 0)
    );
}

/// Attack: an author evades a requirement of v2 by sealing as v1.
#[test]
fn a_policy_refuses_v1_objects_too() {
    let ring = full_ring();
    let v1 = object(&[("a", sealed_value(&ring, b"x"))]);
    let mut legacy = object(&[]);
    legacy.spec.data = Some(sealed_value(&ring, b"{}"));
    let mut admission = ADMISSION;
    admission.policy.require_v2 = true;
    for (sealed, problem) in [
        (&v1, FormatProblem::V1Item),
        (&legacy, FormatProblem::LegacyData),
    ] {
        let (result, operations) = unseal_admitted(sealed, &ring, admission);
        assert_eq!((refusal(result), operations), (problem.into(), 0));
    }
}

/// Attack: an editor damages one item, so that the others are used without it.
#[test]
fn unseals_nothing_of_an_object_with_one_damaged_item() {
    let ring = full_ring();
    let mut entries = shared(&ring, Suite::XWing, &[("a", "1"), ("b", "2")], |_| ());
    entries.insert("old".into(), sealed_value(&ring, b"5"));
    let sealed = object_of(entries);
    let mut tampered = sealed.clone();
    damage(&mut tampered, "b");
    let items = vec!["b".to_owned()];
    let result = unseal_admitted(&tampered, &ring, ADMISSION).0;
    assert_eq!(refusal(result), Refusal::Tampered { items });
    let mut damaged = sealed;
    damage(&mut damaged, "old");
    let Err(UnsealError::Items(errors)) = unseal_admitted(&damaged, &ring, ADMISSION).0 else {
        panic!("expected a failing v1 item");
    };
    assert_eq!(errors.to_string(), "no key could decrypt secret (old)");
}

/// Attack: an author keeps the controller busy with an object that needs more work than one attempt may use.
#[test]
fn interrupted_work_continues_and_no_operation_is_repeated() {
    let ring = full_ring();
    let names: Vec<String> = (0..20).map(|i| format!("k{i:02}")).collect();
    let items = names
        .iter()
        .map(|name| inline(&ring, Suite::P256, name, "x"));
    let sealed = object_of(items);
    let (mut locks, mut total) = (OpenedLocks::default(), 0);
    for attempt in 1.. {
        let (result, operations) = unseal_counting(&sealed, &ring, ADMISSION, &mut locks, 6);
        total += usize::try_from(operations).unwrap();
        match result {
            Ok(unsealed) => {
                assert_eq!((unsealed.secret.data.len(), attempt, total), (20, 4, 20));
                break;
            }
            Err(UnsealError::BudgetUsedUp { opened }) => {
                assert_eq!((opened.len(), locks.len()), (0, total));
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(locks.is_empty(), "data keys are wiped");
}

#[test]
fn values_that_must_not_become_a_secret_are_still_available_to_others() {
    let ring = full_ring();
    let never_secret = |spec: &mut LockSpec<'_>| spec.is_never_secret = true;
    let sealed = object_of(shared(&ring, Suite::XWing, &[("a", "1")], never_secret));
    assert_eq!(unseal_values(&sealed, &ring).unwrap()["a"].expose(), b"1");
    assert_eq!(check(&sealed, &ring, true), Ok(()));
    let mut tampered = sealed.clone();
    damage(&mut tampered, "a");
    assert!(check(&tampered, &ring, true).is_err());
}

fn id_of(suite: Suite) -> ShortKeyId {
    key_of(suite).recipient().key_id().short()
}

#[test]
fn each_item_of_a_mixed_object_needs_its_own_key() {
    let ring = full_ring();
    let mut entries = shared(&ring, Suite::XWing, &[("a", "1")], |_| ());
    entries.extend([inline(&ring, Suite::Rsa, "b", "2")]);
    entries.insert("old".into(), sealed_value(&ring, b"5"));
    let sealed = object_of(entries);
    let rsa = ring.keys()[0].fingerprint().clone();
    let want = BTreeMap::from([
        ("a".to_owned(), Need::V2Key(id_of(Suite::XWing))),
        ("b".to_owned(), Need::Key(rsa.clone())),
        ("old".to_owned(), Need::Key(rsa.clone())),
    ]);
    assert_eq!(needs::needs(&sealed, &ring), want);

    let mut tampered = sealed.clone();
    damage(&mut tampered, "b");
    let undecided = needs::needs(&tampered, &ring);
    let one_of = |key: UsedKey| Need::OneOf([key].into());
    assert_eq!(undecided["a"], one_of(UsedKey::V2(id_of(Suite::XWing))));
    assert_eq!(undecided["b"], one_of(UsedKey::Rsa(rsa.clone())));
    assert!(
        undecided["b"].may_require_key(&rsa, 256) && !undecided["a"].may_require_key(&rsa, 256)
    );
    assert_eq!(undecided["old"], Need::Key(rsa.clone()));

    let mut malformed = sealed.clone();
    malformed
        .spec
        .encrypted_data
        .get_mut("a")
        .unwrap()
        .push('!');
    let needs_of_malformed = needs::needs(&malformed, &ring);
    assert_eq!(needs_of_malformed["a"], Need::AnyKey);
    assert!(
        needs_of_malformed["b"].may_require_key(&rsa, 256),
        "it may need any key"
    );
    assert_eq!(needs_of_malformed.len(), 3, "locks are not items");
}

/// Attack: an editor names a key that is not in the ring, so that the removal of the needed key looks harmless.
#[test]
fn a_v2_item_needs_the_key_that_it_names_only_if_the_ring_has_it() {
    let ring = full_ring();
    let sealed = object_of(shared(&ring, Suite::P256, &[("a", "1")], |_| ()));
    let named = needs::from_metadata(&sealed, &ring).unwrap();
    assert_eq!(named["a"], Need::V2Key(id_of(Suite::P256)));
    let without_v2_keys = KeyRing::new(ring.keys().iter().cloned());
    assert_eq!(needs::from_metadata(&sealed, &without_v2_keys), None);
}

#[test]
fn reports_why_a_v2_item_cannot_be_unsealed() {
    let ring = full_ring();
    let sealed = object_of(shared(&ring, Suite::XWing, &[("a", "1")], |_| ()));
    let reason = |sealed: &SealedSecret| {
        let scoped_names = needs::likely_scoped_names(sealed, &[], &["n".into()]);
        needs::examine(sealed, &ring, &scoped_names)
            .remove("a")
            .unwrap()
    };
    assert_eq!(reason(&sealed), needs::Reason::OpensV2(id_of(Suite::XWing)));
    let mut renamed = sealed.clone();
    renamed.metadata.name = Some("other".into());
    let scoped_name = needs::own_scoped_name(&sealed);
    assert_eq!(reason(&renamed), needs::Reason::MovedV2(scoped_name));
    renamed.metadata.namespace = Some("elsewhere".into());
    let needs::Reason::Refused(why) = reason(&renamed) else {
        panic!("expected a refusal");
    };
    assert_eq!(why.reason(), Reason::ScopeMismatch);
    let mut tampered = sealed;
    damage(&mut tampered, "a");
    let items = vec!["a".to_owned()];
    let want = Refusal::Tampered { items };
    assert_eq!(reason(&tampered), needs::Reason::Refused(Box::new(want)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The checks of v2 do not affect objects without v2 entries, whatever the names of their items.
    #[test]
    fn v1_objects_are_unsealed_as_if_v2_did_not_exist(
        names in prop::collection::btree_set("(/|/lock|lock/|seal2)?[a-c]{0,2}", 0..4),
        are_valid: [bool; 4],
        has_data: bool,
        accept_legacy: bool,
    ) {
        let ring = ring();
        let text = |is_valid| if is_valid { sealed_value(&ring, b"x") } else { "AgB=".to_owned() };
        let entries = names.into_iter().zip(are_valid);
        let mut sealed = object_of(entries.map(|(name, is_valid)| (name, text(is_valid))));
        sealed.spec.data = has_data.then(|| text(true));
        prop_assume!(!v2::is_v2(&sealed.spec.encrypted_data));
        let result = |contents| match contents {
            Ok(Contents::Items(items)) => Ok((items.clone().into_plain(), items.keys)),
            Ok(Contents::Legacy(unsealed)) => Ok((unsealed.secret.data, unsealed.sealed_by)),
            Err(why) => Err(why),
        };
        let effort = Effort { meter: &mut Unmetered, after_failure: 0 };
        let present = result(open_once(&sealed, &ring, Admission::for_values(accept_legacy), effort));
        let v1_only = open_all_or_stop(&sealed, &ring, accept_legacy, &mut Unmetered);
        prop_assert_eq!(present, result(v1_only));
    }
}
