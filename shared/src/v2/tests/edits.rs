//! Recipients and re-encryption.

use super::*;

fn checked(entries: &BTreeMap<String, String>) -> Checked {
    Checked::new(&object(entries.clone()), &Policy::default()).unwrap()
}

fn mixed(suites: &[Suite]) -> BTreeMap<String, String> {
    let mut entries = sealed_for(suites);
    entries.insert("user".into(), inline_for(suites, "user", "root"));
    entries
}

fn add(entries: &BTreeMap<String, String>, owner: Suite, added: Suite) -> Result<Edit, EditError> {
    let keys = keys_of(&[owner]);
    let recipient = KEYS.recipient(added);
    let opened = &mut OpenedLocks::default();
    let checked = checked(entries);
    add_recipient(
        &checked,
        &keys,
        &*recipient,
        opened,
        &mut Unmetered,
        &mut rng(),
    )
}

#[test]
fn an_added_recipient_opens_everything_and_headers_and_boxes_stay() {
    let before = mixed(&[Suite::P256]);
    let mut after = before.clone();
    add(&before, Suite::P256, Suite::Rsa)
        .unwrap()
        .apply(&mut after);
    let opened = open_object(&object(after.clone()), &keys_of(&[Suite::Rsa])).unwrap();
    assert_eq!(plain_of(&opened)["user"], b"root");
    assert_eq!(plain_of(&opened)["password"], b"hunter2");
    let changed: Vec<_> = before
        .iter()
        .filter(|(name, value)| after[*name] != **value)
        .collect();
    assert_eq!(
        changed.len(),
        1,
        "only the inline item changes: {changed:?}"
    );
    assert_eq!(
        add(&after, Suite::P256, Suite::Rsa).unwrap(),
        Edit::default()
    );
}

#[test]
fn a_post_quantum_lock_takes_no_classical_recipient() {
    let entries = sealed_for(&[Suite::XWing]);
    let error = add(&entries, Suite::XWing, Suite::Rsa).unwrap_err();
    assert!(
        matches!(error, EditError::PostQuantumOnly { .. }),
        "{error}"
    );
}

#[test]
fn a_removed_recipient_no_longer_opens_anything() {
    let mut entries = mixed(&[Suite::P256, Suite::Rsa]);
    let (p256, rsa) = (KEYS.opener(Suite::P256).key_id(), KEYS.rsa.key_id());
    remove_recipient(&checked(&entries), rsa.short())
        .unwrap()
        .apply(&mut entries);
    let sealed = object(entries.clone());
    assert_eq!(
        reason(&sealed, &keys_of(&[Suite::Rsa])),
        Some(Reason::UnknownKey)
    );
    assert_eq!(reason(&sealed, &keys_of(&[Suite::P256])), None);
    let error = remove_recipient(&checked(&entries), p256.short()).unwrap_err();
    assert!(matches!(error, EditError::LastRecipient { .. }), "{error}");
}

fn fold_for(entries: &BTreeMap<String, String>, suites: &[Suite]) -> Edit {
    let keys = keys_of(&[Suite::XWing]);
    let checked = checked(entries);
    with_spec(
        suites,
        |spec| spec.revision = 8,
        |spec| {
            let opened = &mut OpenedLocks::default();
            fold(&checked, &keys, spec, opened, &mut Unmetered, &mut rng()).unwrap()
        },
    )
}

#[test]
fn folding_leaves_one_lock_with_the_same_values_and_identifiers() {
    let before = mixed(&[Suite::XWing]);
    let mut after = before.clone();
    fold_for(&before, &[Suite::XWing]).apply(&mut after);
    let keys = keys_of(&[Suite::XWing]);
    assert_eq!(
        open_object(&object(after.clone()), &keys).unwrap(),
        open_object(&object(before), &keys).unwrap()
    );
    assert_eq!(after.len(), 4, "a header, a stanza and two items");
    assert_eq!(fold_for(&after, &[Suite::XWing]), Edit::default());
}

#[test]
fn folding_removes_locks_that_no_item_refers_to() {
    let mut entries = sealed_for(&[Suite::XWing]);
    let lost = seal_with(&[Suite::P256], |spec| spec.revision = 3, &values(&[]));
    entries.extend(lost);
    fold_for(&entries.clone(), &[Suite::XWing]).apply(&mut entries);
    assert_eq!(entries.len(), 4);
}

#[test]
fn folding_for_other_recipients_changes_everything() {
    let before = sealed_for(&[Suite::XWing]);
    let mut after = before.clone();
    fold_for(&before, &[Suite::XWing, Suite::P256]).apply(&mut after);
    assert!(
        before
            .values()
            .all(|value| !after.values().any(|v| v == value))
    );
    assert_eq!(reason(&object(after), &keys_of(&[Suite::P256])), None);
}

#[test]
fn a_tampered_object_is_not_sealed_again() {
    let mut entries = sealed_for(&[Suite::P256]);
    let name = header_entry(&entries);
    change(&mut entries, &name, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let error = add(&entries, Suite::P256, Suite::Rsa).unwrap_err();
    assert!(
        error.to_string().contains("changed after they were sealed"),
        "{error}"
    );
}

#[test]
fn sealing_refuses_recipients_that_policy_does_not_allow() {
    let seal_for = |suites: &[Suite], allow_classical| {
        with_spec(
            suites,
            |spec| spec.allow_classical = allow_classical,
            |spec| seal(spec, &two_values(), &mut rng()).map(drop),
        )
    };
    let rsa = KEYS.rsa.key_id().short();
    assert_eq!(seal_for(&[], false), Err(SealError::Recipients(0)));
    let both = [Suite::XWing, Suite::Rsa];
    assert_eq!(seal_for(&both, false), Err(SealError::Mixed(rsa)));
    assert_eq!(seal_for(&both, true), Ok(()));
    assert_eq!(seal_for(&[Suite::Rsa], false), Ok(()));
    let slash = values(&[("/x", "")]);
    let result = with_spec(
        &[Suite::XWing],
        |_| (),
        |spec| seal(spec, &slash, &mut rng()),
    );
    assert!(matches!(result, Err(SealError::Name(_))));
}
