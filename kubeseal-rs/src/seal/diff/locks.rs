//! Changes to the locks of v2 values: their recipients, and changes that only a recipient can verify.

use std::collections::{BTreeMap, BTreeSet};

use shared::v2::{self, ItemView};

use super::{Change, ChangeKind};
use crate::seal::object::Object;

/// Returns the changes to the recipients and to the lock entries. `are_items_unchanged` is whether the items, their
/// protections and the scope are all unchanged.
pub(super) fn changes(old: &Object, new: &Object, are_items_unchanged: bool) -> Vec<Change> {
    let (old_items, new_items) = (views(old), views(new));
    let mut by_item = BTreeMap::new();
    for (item, before) in &old_items {
        let Some(after) = new_items.get(item) else {
            continue;
        };
        let (from, to) = (keys(before), keys(after));
        if from != to {
            by_item.insert((*item).to_owned(), (from, to));
        }
    }
    let is_unexplained =
        are_items_unchanged && by_item.is_empty() && lock_entries(old) != lock_entries(new);
    let mut changes = recipient_changes(by_item, old_items.len());
    if is_unexplained || has_replaced_lock_entry(old, new) {
        let kind = ChangeKind::Locks;
        changes.push(Change { item: None, kind });
    }
    changes
}

/// Returns the change to the recipients of each item, or a single change to the object if all items have the same
/// change. `count` is the number of v2 items in the older version.
fn recipient_changes(by_item: BTreeMap<String, (String, String)>, count: usize) -> Vec<Change> {
    let distinct: BTreeSet<&(String, String)> = by_item.values().collect();
    if let [(from, to)] = Vec::from_iter(distinct)[..]
        && by_item.len() == count
    {
        let kind = ChangeKind::Recipients(from.clone(), to.clone());
        return vec![Change { item: None, kind }];
    }
    let change = |(item, (from, to))| Change {
        item: Some(item),
        kind: ChangeKind::Recipients(from, to),
    };
    by_item.into_iter().map(change).collect()
}

/// Returns the v2 items; none if the v2 content is malformed.
pub(super) fn views(object: &Object) -> BTreeMap<&str, ItemView> {
    let v2 = object.v2.as_ref().and_then(|v2| v2.as_ref().ok());
    v2.map(v2::Object::view).unwrap_or_default()
}

fn keys(view: &ItemView) -> String {
    let keys = view.recipients.iter().map(|(id, suite)| match suite {
        Some(suite) => format!("{suite} {id}"),
        None => id.to_string(),
    });
    keys.collect::<Vec<_>>().join(", ")
}

fn lock_entries(object: &Object) -> BTreeMap<&String, &String> {
    let entries = object.texts().iter();
    entries
        .filter(|(name, _)| v2::is_lock_entry(name))
        .collect()
}

/// Returns whether a lock entry has a different value under the same name. The name commits to the header, so a
/// different value means that a wrapped data key was replaced; the recipient may no longer be able to unwrap it.
fn has_replaced_lock_entry(old: &Object, new: &Object) -> bool {
    let after = lock_entries(new);
    let mut before = lock_entries(old).into_iter();
    before.any(|(name, text)| after.get(name).is_some_and(|now| *now != text))
}
