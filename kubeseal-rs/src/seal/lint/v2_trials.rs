//! Tries the private keys of `--keys` on v2 values.

use std::collections::{BTreeMap, BTreeSet};

use kubeseal_library::finding;
use shared::key_ring::{AnyKey, KeyRing};
use shared::resource::SealedSecret;
use shared::v2::{self, Checked, OpenError, OpenedLocks, Policy, Refusal, ShortKeyId, Target};

use super::object::FindingInFile;
use crate::seal::object::{Form, Object};

/// Returns a finding for each v2 item that names a key which cannot unseal it. Also returns the number of items that
/// name none of the keys. An object that every controller refuses already has a finding.
pub(super) fn findings(object: &Object, ring: &KeyRing) -> (Vec<FindingInFile>, usize) {
    let (mut tried, mut closed) = (BTreeSet::new(), BTreeMap::<String, Vec<String>>::new());
    for key in ring.all_keys() {
        let id = key.key_id().short();
        let items = items_for(object, id);
        if items.is_empty() {
            continue;
        }
        for item in closed_items(&object.sealed, &items, key) {
            closed.entry(item).or_default().push(id.to_string());
        }
        tried.extend(items);
    }
    let lines = object
        .items
        .iter()
        .map(|item| (item.key.as_str(), item.line));
    let lines: BTreeMap<&str, usize> = lines.collect();
    let findings = closed.iter().map(|(item, keys)| {
        let message = format!(
            "{item} names the key {} of --keys, which cannot unseal it for this object and item: it was changed, or moved \
             from elsewhere",
            keys.join(" and ")
        );
        let line = lines.get(item.as_str()).copied();
        (finding::CLOSED_ITEM, line.unwrap_or(object.line), message)
    });
    (findings.collect(), count(object) - tried.len())
}

/// Returns the number of well-formed v2 items.
pub(super) fn count(object: &Object) -> usize {
    let items = object.items.iter();
    let items = items.filter(|item| matches!(item.form, Form::V2(_)));
    let names: BTreeSet<&str> = items.map(|item| item.key.as_str()).collect();
    names.len()
}

/// Returns the v2 items that name a key as a recipient.
fn items_for(object: &Object, id: ShortKeyId) -> BTreeSet<&str> {
    let is_for = |form: &Form| match form {
        Form::V2(view) => view.recipients.iter().any(|(other, _)| *other == id),
        _ => false,
    };
    let items = object.items.iter().filter(|item| is_for(&item.form));
    items.map(|item| item.key.as_str()).collect()
}

/// Returns the items that the key cannot unseal. Each key is tried alone, because another key could unseal an item
/// whose part for this key was replaced.
fn closed_items(sealed: &SealedSecret, items: &BTreeSet<&str>, key: AnyKey) -> Vec<String> {
    let mut only_items = sealed.clone();
    let is_tried = |name: &String| v2::is_lock_entry(name) || items.contains(name.as_str());
    only_items
        .spec
        .encrypted_data
        .retain(|name, _| is_tried(name));
    let Ok(checked) = Checked::new(&only_items, &Policy::default(), Target::Other) else {
        return Vec::new();
    };
    let ring = KeyRing::from_keys([key]);
    let (keys, mut locks) = (ring.openers(), OpenedLocks::default());
    let random = &mut shared::random::system();
    let meter = &mut shared::meter::Unmetered;
    match v2::open(&checked, &keys, &mut locks, meter, random) {
        Err(OpenError::Refused(Refusal::Tampered { items })) => items,
        _ => Vec::new(),
    }
}
