//! Tests of recipients and re-encryption.

use super::*;

fn checked(entries: &BTreeMap<String, String>) -> Checked {
    let sealed = object(entries.clone());
    Checked::new(&sealed, &Policy::default(), Target::Other).unwrap()
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
fn an_added_recipient_opens_every_item_and_headers_and_boxes_stay_the_same() {
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
}

/// Attack: an editor adds an invalid stanza with the identifier of a recovery key, so that the key appears to be a
/// recipient. Only the holder of the key could notice that the stanza does not open.
#[test]
fn adding_a_recipient_replaces_its_stanza() {
    for is_inline in [false, true] {
        let mut entries = sealed_for(&[Suite::P256]);
        if is_inline {
            entries = BTreeMap::from([("x".into(), inline_for(&[Suite::P256], "x", "y"))]);
        }
        add(&entries, Suite::P256, Suite::Rsa)
            .unwrap()
            .apply(&mut entries);
        invalidate_stanza(&mut entries, KEYS.rsa.key_id().short());
        let rsa = keys_of(&[Suite::Rsa]);
        let invalidated = reason(&object(entries.clone()), &rsa);
        assert_eq!(invalidated, Some(Reason::Tampered));
        add(&entries, Suite::P256, Suite::Rsa)
            .unwrap()
            .apply(&mut entries);
        assert_eq!(reason(&object(entries), &rsa), None);
    }
}

/// Overwrites the wrapped data key in the stanza for a key.
fn invalidate_stanza(entries: &mut BTreeMap<String, String>, key: ShortKeyId) {
    let object = Object::parse(entries).unwrap();
    let mut lock = object.locks[0].clone();
    let stanza = lock.stanzas.get_mut(&key).unwrap();
    stanza.wrapped.fill(9);
    match entries.get("x") {
        Some(_) => drop(entries.insert(
            "x".into(),
            seal::inline_entry(&lock, &object.items["x"].sealed),
        )),
        None => entries.extend(seal::lock_entries(&lock)),
    }
}

/// A damaged box is detected before any stanza is added. Every item with a damaged box is named.
#[test]
fn no_recipient_is_added_to_an_object_with_a_changed_box() {
    let mut entries = mixed(&[Suite::P256]);
    for item in ["password", "user"] {
        change(&mut entries, item, |bytes| *bytes.last_mut().unwrap() ^= 1);
    }
    let error = add(&entries, Suite::P256, Suite::Rsa).unwrap_err();
    let items = vec!["password".to_owned(), "user".to_owned()];
    let want = OpenError::Refused(Refusal::Tampered { items });
    assert_eq!(error, EditError::Open(want));
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

#[test]
fn removing_a_recipient_removes_locks_that_no_item_refers_to() {
    let mut entries = sealed_for(&[Suite::P256, Suite::Rsa]);
    entries.extend(seal_with(
        &[Suite::Rsa],
        |spec| spec.revision = 3,
        &values(&[]),
    ));
    remove_recipient(&checked(&entries), KEYS.rsa.key_id().short())
        .unwrap()
        .apply(&mut entries);
    assert_eq!(entries.len(), 4, "a header, a stanza and two items");
    assert_eq!(reason(&object(entries), &keys_of(&[Suite::P256])), None);
}

fn fold_for(entries: &BTreeMap<String, String>, suites: &[Suite]) -> Edit {
    try_fold(&checked(entries), suites, |_| ()).unwrap()
}

fn try_fold(
    checked: &Checked,
    suites: &[Suite],
    change: impl Fn(&mut FoldSpec<'_>),
) -> Result<Edit, EditError> {
    let owned: Vec<_> = suites.iter().map(|suite| KEYS.recipient(*suite)).collect();
    let recipients: Vec<&dyn Recipient> = owned.iter().map(|r| &**r as &dyn Recipient).collect();
    let mut spec = FoldSpec {
        recipients: &recipients,
        allow_classical: suites.len() > 1,
        template: Flag::Inherit,
        never_secret: Flag::Inherit,
        alone: Flag::Inherit,
        is_forced: false,
        now: jiff::Timestamp::from_millisecond(8).unwrap(),
    };
    change(&mut spec);
    let (keys, opened) = (keys_of(&Suite::ALL), &mut OpenedLocks::default());
    fold(checked, &keys, &spec, opened, &mut Unmetered, &mut rng())
}

/// Returns the fields of the only lock after a fold.
fn fields_after(checked: &Checked, change: impl Fn(&mut FoldSpec<'_>)) -> header::Fields {
    let edit = try_fold(checked, &[Suite::XWing], change).unwrap();
    let object = Object::parse(&edit.set).unwrap();
    assert_eq!(object.locks.len(), 1);
    object.locks[0].header.fields.clone()
}

/// Attack: an editor has a service re-encrypt values that are bound and must not become a Secret, so that the service
/// removes these properties.
#[test]
fn folding_clears_flags_only_if_requested() {
    let digest = TemplateDigest::of(&crate::resource::SecretTemplate::default());
    let protect = |spec: &mut LockSpec<'_>| {
        spec.template = Some(digest);
        spec.is_never_secret = true;
        spec.is_alone = true;
    };
    let checked = checked(&seal_with(&[Suite::XWing], protect, &two_values()));
    let kept = fields_after(&checked, |spec| spec.is_forced = true);
    assert_eq!(kept.template, Some(digest));
    assert!(kept.is_never_secret && kept.is_alone && kept.is_post_quantum_only);
    assert_eq!(kept.revision, 8);
    let cleared = fields_after(&checked, |spec| {
        (spec.template, spec.never_secret, spec.alone) = (Flag::Clear, Flag::Clear, Flag::Clear);
    });
    assert_eq!(cleared.template, None);
    assert!(!cleared.is_never_secret && !cleared.is_alone);
}

/// The new lock gets a flag that any old lock has.
#[test]
fn folding_gives_all_items_the_flags_of_each() {
    let mut entries = sealed_for(&[Suite::XWing]);
    let protect = |spec: &mut LockSpec<'_>| {
        spec.is_never_secret = true;
        spec.revision = 20;
    };
    entries.extend(seal_with(&[Suite::XWing], protect, &values(&[("x", "y")])));
    let fields = fields_after(&checked(&entries), |_| ());
    assert_eq!(fields.template, None);
    assert!(fields.is_never_secret && !fields.is_alone);
    assert_eq!(fields.revision, 21);
    let fields = fields_after(&checked(&entries), |spec| spec.alone = Flag::Set);
    assert!(fields.is_alone);
}

/// Attack: an editor adds a bound item to an object whose values were sealed unbound, so that a re-encryption binds
/// these values to the editor's template.
#[test]
fn folding_binds_unbound_values_only_if_requested() {
    let mut entries = sealed_for(&[Suite::XWing]);
    let digest = TemplateDigest::of(&crate::resource::SecretTemplate::default());
    let bind = |spec: &mut LockSpec<'_>| spec.template = Some(digest);
    entries.extend(seal_with(&[Suite::XWing], bind, &values(&[("x", "y")])));
    let checked = checked(&entries);
    let refused = try_fold(&checked, &[Suite::XWing], |_| ());
    assert_eq!(refused, Err(EditError::PartlyBound));
    let bound = fields_after(&checked, |spec| spec.template = Flag::Set);
    assert_eq!(bound.template, Some(digest));
}

#[test]
fn folding_keeps_the_scope_of_the_object() {
    let mut sealed = object(BTreeMap::new());
    Scope::NamespaceWide.annotate(sealed.metadata.annotations.get_or_insert_default());
    let place = Place::of(Scope::NamespaceWide, "shop", "").unwrap();
    let recipient = KEYS.recipient(Suite::XWing);
    sealed.spec.encrypted_data = with_spec(
        &[Suite::XWing],
        |_| (),
        |spec| {
            let spec = LockSpec {
                place: &place,
                recipients: &[&*recipient],
                ..*spec
            };
            seal(&spec, &two_values(), &mut rng()).unwrap()
        },
    );
    let checked = Checked::new(&sealed, &Policy::default(), Target::Other).unwrap();
    let fields = fields_after(&checked, |spec| spec.is_forced = true);
    assert_eq!(fields.scope, Scope::NamespaceWide);
}

#[test]
fn folding_keeps_post_quantum_protection_unless_the_caller_allows_classical_keys() {
    let checked = checked(&sealed_for(&[Suite::XWing]));
    let error = try_fold(&checked, &[Suite::P256], |_| ()).unwrap_err();
    assert!(
        matches!(error, EditError::PostQuantumOnly { .. }),
        "{error}"
    );
    let edit = try_fold(&checked, &[Suite::P256], |spec| spec.allow_classical = true);
    assert!(edit.is_ok());
}

#[test]
fn folding_refuses_results_that_readers_would_refuse() {
    let mut entries = sealed_for(&[Suite::XWing]);
    entries.insert("old".into(), "AgB=".into());
    let checked = checked(&entries);
    for set in [
        (|spec| spec.template = Flag::Set) as fn(&mut FoldSpec<'_>),
        |spec| spec.alone = Flag::Set,
    ] {
        let error = try_fold(&checked, &[Suite::XWing], set).unwrap_err();
        let item = "old".to_owned();
        assert_eq!(error, EditError::V1Item { item });
    }
}

/// Attack: an editor adds a stanza of another suite with the identifier of a recipient, so that the object appears to
/// be folded.
#[test]
fn an_object_with_a_stanza_of_another_suite_is_folded_again() {
    let mut entries = sealed_for(&[Suite::XWing, Suite::P256]);
    let object = Object::parse(&entries).unwrap();
    let mut lock = object.locks[0].clone();
    let key = KEYS.p256.opener().key_id().short();
    lock.stanzas.get_mut(&key).unwrap().suite = suite::SuiteCode(0x7fff);
    entries.extend(seal::lock_entries(&lock));
    assert_ne!(
        fold_for(&entries, &[Suite::XWing, Suite::P256]),
        Edit::default()
    );
}

#[test]
fn a_forced_fold_re_encrypts_an_object_that_is_already_folded() {
    let checked = checked(&sealed_for(&[Suite::XWing]));
    let force = |spec: &mut FoldSpec<'_>| spec.is_forced = true;
    assert_eq!(
        try_fold(&checked, &[Suite::XWing], |_| ()),
        Ok(Edit::default())
    );
    assert_ne!(
        try_fold(&checked, &[Suite::XWing], force),
        Ok(Edit::default())
    );
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
fn folding_for_other_recipients_re_encrypts_every_entry() {
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

/// A recipient with the short identifier of another key.
struct Collision(PublicRecipient);

impl Recipient for Collision {
    fn suite(&self) -> Suite {
        self.0.suite()
    }

    fn key_id(&self) -> KeyId {
        let mut bytes = *self.0.key_id().as_bytes();
        bytes[31] ^= 1;
        KeyId(bytes)
    }

    fn wrap_key(
        &self,
        key: &DataKey,
        binding: &Binding<'_>,
        rng: &mut dyn rand::CryptoRng,
    ) -> Option<Vec<u8>> {
        self.0.wrap_key(key, binding, rng)
    }
}

#[test]
fn two_keys_with_one_short_identifier_are_refused_and_one_key_twice_counts_once() {
    let (key, other) = (KEYS.xw.recipient(), Collision(KEYS.xw.recipient()));
    let seal_for = |recipients: &[&dyn Recipient]| {
        let place = place();
        let spec = |spec: &LockSpec<'_>| LockSpec {
            place: &place,
            recipients,
            ..*spec
        };
        with_spec(
            &[Suite::XWing],
            |_| (),
            |base| seal(&spec(base), &two_values(), &mut rng()),
        )
    };
    let id = key.key_id().short();
    assert_eq!(
        seal_for(&[&key, &other]),
        Err(SealError::SameIdentifier(id))
    );
    assert_eq!(seal_for(&[&key, &key]).unwrap().len(), 4);
}
