//! Policies, budgets and limits.

use super::*;
use crate::meter::{Interrupted, Meter};
use crate::resource::SecretTemplate;

const POLICY: Policy = Policy {
    require_v2: false,
    require_post_quantum: false,
    highest_revision: None,
    max_locks: DEFAULT_MAX_LOCKS,
};

const REQUIRE_V2: Policy = Policy {
    require_v2: true,
    ..POLICY
};

fn refusal(sealed: &SealedSecret, policy: &Policy) -> Option<Refusal> {
    Checked::new(sealed, policy).err()
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
    let mut legacy = object(sealed_for(&[Suite::XWing]));
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
    let good = object(sealed_for(&[Suite::XWing]));
    assert_eq!(refusal(&good, &REQUIRE_V2), None);
}

/// Attack: an editor puts an old v1 value back beside values that are bound to the template.
#[test]
fn a_v1_item_beside_a_bound_lock_is_refused() {
    let sealed = object(with_v1_item(seal_with(
        &[Suite::XWing],
        bind,
        &two_values(),
    )));
    let want = FormatProblem::V1BesideBound;
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

/// Counts operations, and interrupts after some.
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
    let checked = Checked::new(&object(entries), &POLICY).unwrap();
    let keys = keys_of(&[Suite::XWing]);
    let mut meter = Limited(2);
    open(&checked, &keys, &mut OpenedLocks::default(), &mut meter).unwrap();
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
    let checked = Checked::new(&object(entries), &POLICY).unwrap();
    let keys = keys_of(&[Suite::P256]);
    let mut opened = OpenedLocks::default();
    for attempt in 1..=2 {
        let result = open(&checked, &keys, &mut opened, &mut Limited(1));
        assert_eq!(result, Err(OpenError::Interrupted(Interrupted)));
        assert_eq!(opened.len(), attempt);
    }
    assert_eq!(
        open(&checked, &keys, &mut opened, &mut Limited(1))
            .unwrap()
            .len(),
        3
    );
}

/// Attack: an author copies stanzas for every key of the controller into one lock, to multiply the work.
#[test]
fn several_own_keys_in_one_lock_cost_one_operation_of_the_cheapest_suite() {
    let sealed = object(sealed_for(&Suite::ALL));
    let checked = Checked::new(&sealed, &POLICY).unwrap();
    let mut meter = Limited(1);
    let keys = keys_of(&Suite::ALL);
    let opened = open(&checked, &keys, &mut OpenedLocks::default(), &mut meter).unwrap();
    assert_eq!(opened["user"].key, KEYS.xw.recipient().key_id());
}

/// A data key that is remembered for one object opens no other place.
#[test]
fn a_remembered_data_key_is_checked_against_the_place() {
    let entries = sealed_for(&[Suite::XWing]);
    let mut checked = Checked::new(&object(entries), &POLICY).unwrap();
    let keys = keys_of(&[Suite::XWing]);
    let mut opened = OpenedLocks::default();
    open(&checked, &keys, &mut opened, &mut Unmetered).unwrap();
    checked.place = Place::of(Scope::Strict, "shop", "other").unwrap();
    let result = open(&checked, &keys, &mut opened, &mut Unmetered);
    let Err(OpenError::Refused(refusal)) = result else {
        panic!("{result:?}");
    };
    assert_eq!(refusal.reason(), Reason::Tampered);
}
