//! Changes that an editor without keys could try, for every suite.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use super::*;
use crate::resource::SecretTemplate;

fn suite() -> impl Strategy<Value = Suite> {
    prop::sample::select(&Suite::ALL[..])
}

/// Returns an object with a shared lock of two items, and an inline item.
fn mixed(suite: Suite) -> BTreeMap<String, String> {
    let mut entries = sealed_for(&[suite]);
    entries.insert("token".into(), inline_for(&[suite], "token", "t"));
    entries
}

fn reason_for(entries: BTreeMap<String, String>, suite: Suite) -> Option<Reason> {
    reason(&object(entries), &keys_of(&[suite]))
}

fn bound_to(template: serde_json::Value) -> impl Fn(&mut LockSpec<'_>) {
    let template = serde_json::from_value(template).unwrap();
    move |spec| spec.template = Some(TemplateDigest::of(&template))
}

fn single_entry(text: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(text.to_owned(), text.to_owned())])
}

/// Returns a change for each field of the template that a lock can be bound to.
fn template_changes() -> [fn(&mut SecretTemplate, &str); 6] {
    [
        |template, text| template.type_ = Some(text.into()),
        |template, text| template.data = Some(BTreeMap::from([(text.into(), None)])),
        |template, text| template.metadata.labels = Some(single_entry(text)),
        |template, text| template.metadata.annotations = Some(single_entry(text)),
        |template, text| template.metadata.finalizers = Some(vec![text.into()]),
        |template, _| template.immutable = Some(true),
    ]
}

/// Returns whether the object was refused, for a reason that a changed entry can cause.
fn is_listed(reason: Option<Reason>) -> bool {
    matches!(
        reason,
        Some(
            Reason::Malformed
                | Reason::UnsupportedSuite
                | Reason::FormatRefused
                | Reason::SuiteRefused
                | Reason::ScopeMismatch
                | Reason::UnknownKey
                | Reason::Tampered
        )
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn opens_what_it_sealed(
        suite in suite(),
        plain in prop::collection::btree_map("[a-z]{1,5}", ".{0,70}", 1..5),
        scope in prop::sample::select(&Scope::ALL[..]),
        is_bound: bool,
    ) {
        let pairs: Vec<_> = plain.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let scoped = Place::of(scope, "shop", "db").unwrap();
        let template = is_bound.then(|| TemplateDigest::of(&SecretTemplate::default()));
        let entries = with_spec(&[suite], |_| (), |spec| {
            let spec = LockSpec { place: &scoped, template, ..*spec };
            seal(&spec, &values(&pairs), &mut rng()).unwrap()
        });
        let mut sealed = object(entries);
        scope.annotate(sealed.metadata.annotations.get_or_insert_default());
        let opened = open_object(&sealed, &keys_of(&[suite])).unwrap();
        let want: BTreeMap<_, _> = pairs.iter().map(|(k, v)| (*k, v.as_bytes())).collect();
        prop_assert_eq!(plain_of(&opened), want);
    }

    #[test]
    fn any_changed_bit_is_refused(suite in suite(), entry: Index, byte: Index, bit in 0_u8..8) {
        let mut entries = mixed(suite);
        let name = entry.get(&entries.keys().cloned().collect::<Vec<_>>()).clone();
        change(&mut entries, &name, |bytes| {
            let byte = byte.index(bytes.len());
            bytes[byte] ^= 1 << bit;
        });
        let reason = reason_for(entries, suite);
        prop_assert!(is_listed(reason), "{name}: {reason:?}");
    }

    #[test]
    fn any_truncated_or_longer_entry_is_refused(suite in suite(), entry: Index, len: Index, extra in 1_usize..40) {
        for is_longer in [false, true] {
            let mut entries = mixed(suite);
            let name = entry.get(&entries.keys().cloned().collect::<Vec<_>>()).clone();
            change(&mut entries, &name, |bytes| if is_longer { bytes.resize(bytes.len() + extra, 0) } else { bytes.truncate(len.index(bytes.len())) });
            let reason = reason_for(entries, suite);
            prop_assert!(matches!(reason, Some(Reason::Malformed | Reason::Tampered)), "{name}: {reason:?}");
        }
    }

    #[test]
    fn any_changed_character_is_refused(suite in suite(), entry: Index, at: Index, to in "[ -~]") {
        let mut entries = mixed(suite);
        let name = entry.get(&entries.keys().cloned().collect::<Vec<_>>()).clone();
        let before = entries[&name].clone();
        let at = at.index(before.len());
        let after = format!("{}{to}{}", &before[..at], &before[at + 1..]);
        prop_assume!(after != before);
        entries.insert(name.clone(), after);
        let opened = open_object(&object(entries), &keys_of(&[suite]));
        // Without the v2 prefix, the item counts as v1 and is not opened here.
        let is_v1 = at < "seal2.".len() && !name.starts_with('/');
        prop_assert!(opened.is_err() || is_v1, "{name}");
        prop_assert!(opened.is_err() || !opened.unwrap().contains_key(&name));
    }

    #[test]
    fn a_lock_with_a_missing_entry_is_malformed(suite in suite(), entry: Index) {
        let mut entries = mixed(suite);
        let locks: Vec<_> = entries.keys().filter(|name| name.starts_with('/')).cloned().collect();
        entries.remove(entry.get(&locks));
        prop_assert_eq!(reason_for(entries, suite), Some(Reason::Malformed));
    }

    /// Attack: an editor swaps two items, so that a program logs a password as a user name.
    #[test]
    fn swapped_items_are_tampered(suite in suite()) {
        let mut entries = mixed(suite);
        let (password, user) = (entries["password"].clone(), entries["user"].clone());
        entries.extend([("password".to_owned(), user), ("user".to_owned(), password)]);
        let refusal = open_object(&object(entries), &keys_of(&[suite])).unwrap_err();
        let items = vec!["password".to_owned(), "user".to_owned()];
        prop_assert_eq!(refusal, Refusal::Tampered { items });
    }

    /// Attack: an editor renames an item of a shared lock or an inline item.
    #[test]
    fn renamed_items_are_tampered(suite in suite(), item in prop::sample::select(&["password", "token"][..])) {
        let mut entries = mixed(suite);
        let value = entries.remove(item).unwrap();
        entries.insert("other".into(), value);
        let refusal = open_object(&object(entries), &keys_of(&[suite])).unwrap_err();
        prop_assert_eq!(refusal, Refusal::Tampered { items: vec!["other".into()] });
    }

    /// Attack: an editor copies a strict value to another object, or declares a wider scope.
    #[test]
    fn moved_objects_and_wider_scopes_are_refused(suite in suite(), scope in prop::sample::select(&Scope::ALL[..])) {
        let mut moved = object(mixed(suite));
        moved.metadata.name = Some("other".into());
        let mut copied = object(mixed(suite));
        copied.metadata.namespace = Some("other".into());
        let mut widened = object(mixed(suite));
        scope.annotate(widened.metadata.annotations.get_or_insert_default());
        let keys = keys_of(&[suite]);
        prop_assert_eq!(reason(&moved, &keys), Some(Reason::ScopeMismatch));
        prop_assert_eq!(reason(&copied, &keys), Some(Reason::ScopeMismatch));
        let want = (scope != Scope::Strict).then_some(Reason::ScopeMismatch);
        prop_assert_eq!(reason(&widened, &keys), want);
    }

    /// Attack: an editor moves an object to another place, and changes the header to contain this place.
    #[test]
    fn a_header_changed_for_another_place_is_tampered(suite in suite()) {
        let other = Place::of(Scope::NamespaceWide, "shop", "db").unwrap();
        let mut entries = sealed_for(&[suite]);
        let name = header_entry(&entries);
        change(&mut entries, &name, |bytes| {
            bytes[2] = 1;
            bytes[11..27].copy_from_slice(&other.digest());
        });
        let mut sealed = object(entries);
        Scope::NamespaceWide.annotate(sealed.metadata.annotations.get_or_insert_default());
        prop_assert_eq!(reason(&sealed, &keys_of(&[suite])), Some(Reason::Tampered));
    }

    /// Attack: an editor changes the template, so that the Secret has another type or reveals the value.
    #[test]
    fn an_edited_template_is_refused_where_it_is_bound(suite in suite(), text in "[a-z]{1,8}") {
        let template = json!({"type": "Opaque", "data": {"url": "{{ .password }}"}});
        let mut sealed = object(seal_with(&[suite], bound_to(template.clone()), &two_values()));
        sealed.spec.template = serde_json::from_value(template).unwrap();
        let keys = keys_of(&[suite]);
        prop_assert_eq!(reason(&sealed, &keys), None);
        for change in template_changes() {
            let mut changed = sealed.clone();
            change(&mut changed.spec.template, &text);
            prop_assert_eq!(reason(&changed, &keys), Some(Reason::TemplateChanged));
        }
        sealed.spec.template.metadata.name = Some(text);
        prop_assert_eq!(reason(&sealed, &keys), None);
    }

    /// Attack: an editor adds a stanza for their own key.
    #[test]
    fn a_stanza_of_another_lock_opens_nothing(suite in suite(), added in suite()) {
        prop_assume!(suite != added && !suite.is_post_quantum());
        let mut entries = sealed_for(&[suite]);
        let lock = Object::parse(&entries).unwrap().view()["user"].lock;
        let other_lock = with_spec(&[added], |_| (), |spec| {
            seal(spec, &two_values(), &mut StdRng::seed_from_u64(6)).unwrap()
        });
        let stanza = other_lock.iter().find(|(name, _)| name.matches('/').count() == 3).unwrap();
        let key = KEYS.opener(added).key_id().short();
        entries.insert(text::stanza_name(lock, key), stanza.1.clone());
        prop_assert_eq!(reason_for(entries.clone(), added), Some(Reason::Tampered));
        prop_assert_eq!(reason_for(entries, suite), None);
    }

    /// Attack: an editor combines the box of one lock with the data key of another.
    #[test]
    fn refuses_a_box_moved_to_another_lock(suite in suite()) {
        let mut entries = sealed_for(&[suite]);
        let other = seal_with(&[suite], |spec| spec.revision = 8, &two_values());
        let (_, box_of_other) = text::decode(&other["user"]).unwrap();
        change(&mut entries, "user", |bytes| bytes.splice(16.., box_of_other[16..].to_vec()).for_each(drop));
        let refusal = open_object(&object(entries), &keys_of(&[suite])).unwrap_err();
        prop_assert_eq!(refusal, Refusal::Tampered { items: vec!["user".into()] });
    }

    #[test]
    fn a_key_that_is_not_a_recipient_is_unknown(suite in suite(), other in suite()) {
        prop_assume!(suite != other);
        let refusal = open_object(&object(sealed_for(&[suite])), &keys_of(&[other])).unwrap_err();
        let keys = vec![KEYS.opener(suite).key_id().short()];
        prop_assert_eq!(refusal, Refusal::UnknownKey { item: "password".into(), keys });
    }

    #[test]
    fn parsing_never_panics(entries in prop::collection::btree_map("(/lock/)?[-_A-Za-z0-9/]{0,45}", "(seal2\\.[hlsi]\\.)?[-_A-Za-z0-9]{0,200}", 0..4)) {
        let _ = open_object(&object(entries), &keys_of(&Suite::ALL));
    }

    #[test]
    fn parsing_bytes_never_panics(kind in "[hlsi]", bytes: Vec<u8>, name in "(a|/lock/AAAAAAAAAAAAAAAAAAAAAA(/AAAAAAAAAAAAAAAAAAAAAA)?)") {
        let value = format!("seal2.{kind}.{}", text::base64url(&bytes));
        let _ = Object::parse(&BTreeMap::from([(name, value)]));
    }
}
