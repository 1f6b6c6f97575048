//! Opens the items of an object.

use std::collections::BTreeMap;

use super::check::Checked;
use super::data_key::DataKey;
use super::error::{MAX_NAMED_KEYS, Refusal};
use super::id::{KeyId, ShortKeyId};
use super::lock::Lock;
use super::object::Item;
use super::opening_keys::{OpenedLocks, OpeningKeys};
use super::sealed_box::ItemKey;
use super::stanza::Stanza;
use super::suite::Opener;
use super::value::{OpenedValue, Value};
use crate::meter::{self, Interrupted, Meter};

/// Why the items of an object were not opened. None of them was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The object is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The meter ended the work, which says nothing about the object.
    #[error(
        "this object needs more work than one attempt may take; the next attempt continues where this one stopped"
    )]
    Interrupted(#[from] Interrupted),
}

/// Opens every v2 item, with one private-key operation for each lock that is not in `opened`. The meter is called before
/// each operation. If it interrupts the work, `opened` has the locks that were opened, for the next attempt.
///
/// Once a private key was used, every failure is reported as [`Refusal::Tampered`], after the same steps as a success.
///
/// # Errors
///
/// Returns [`OpenError`] if a key is missing, an item was tampered with, or the meter ended the work.
pub fn open(
    checked: &Checked,
    keys: &OpeningKeys<'_>,
    opened: &mut OpenedLocks,
    meter: &mut dyn Meter,
) -> Result<BTreeMap<String, OpenedValue>, OpenError> {
    let unlocked = unlock_each(checked, keys, opened, meter)?;
    open_items(checked, &unlocked, meter)
}

/// Returns the data key of every lock.
pub(super) fn unlock_all(
    checked: &Checked,
    keys: &OpeningKeys<'_>,
    opened: &mut OpenedLocks,
    meter: &mut dyn Meter,
) -> Result<Vec<DataKey>, OpenError> {
    let unlocked = unlock_each(checked, keys, opened, meter)?;
    let locks = checked.object.locks_by_item().zip(&unlocked);
    let wrong = locks.filter(|(_, unlocked)| !unlocked.is_right);
    let items: Vec<String> = wrong.map(|((item, _), _)| item.to_owned()).collect();
    if items.is_empty() {
        Ok(unlocked
            .into_iter()
            .map(|unlocked| unlocked.data_key)
            .collect())
    } else {
        Err(Refusal::Tampered { items }.into())
    }
}

/// The result of opening a lock.
struct Unlocked {
    data_key: DataKey,
    /// Whether the data key is the one that the header is committed to. Otherwise nothing that it opens may be used.
    is_right: bool,
    opener: KeyId,
}

fn unlock_each(
    checked: &Checked,
    keys: &OpeningKeys<'_>,
    opened: &mut OpenedLocks,
    meter: &mut dyn Meter,
) -> Result<Vec<Unlocked>, OpenError> {
    let openers = find_openers(checked, keys)?;
    let mut unlocked = Vec::with_capacity(openers.len());
    for (lock, (stanza, key)) in checked.object.locks.iter().zip(openers) {
        unlocked.push(unlock(checked, lock, stanza, key, opened, meter)?);
    }
    Ok(unlocked)
}

fn find_openers<'a, 'k>(
    checked: &'a Checked,
    keys: &OpeningKeys<'k>,
) -> Result<Vec<(&'a Stanza, &'k dyn Opener)>, Refusal> {
    let locks = checked.object.locks_by_item();
    let opener = |(item, lock): (&str, &'a Lock)| {
        let unknown = || Refusal::UnknownKey {
            item: item.to_owned(),
            keys: usable_keys(lock),
        };
        lock.opener(keys).ok_or_else(unknown)
    };
    locks.map(opener).collect()
}

/// Returns keys that would open the lock.
fn usable_keys(lock: &Lock) -> Vec<ShortKeyId> {
    let stanzas = lock.stanzas.values();
    let usable = stanzas.filter(|stanza| stanza.suite().is_some());
    usable
        .map(|stanza| stanza.key)
        .take(MAX_NAMED_KEYS)
        .collect()
}

fn unlock(
    checked: &Checked,
    lock: &Lock,
    stanza: &Stanza,
    key: &dyn Opener,
    opened: &mut OpenedLocks,
    meter: &mut dyn Meter,
) -> Result<Unlocked, Interrupted> {
    let memory_key = lock.memory_key(stanza);
    let (data_key, is_right) = if let Some(data_key) = opened.0.get(&memory_key) {
        let is_right = lock.is_committed_to(data_key, &checked.place);
        (data_key.clone(), is_right)
    } else {
        meter.spend(key.cost())?;
        lock.unwrap(stanza, key, &checked.place)
    };
    if is_right {
        opened.0.insert(memory_key, data_key.clone());
    }
    Ok(Unlocked {
        data_key,
        is_right,
        opener: key.key_id(),
    })
}

/// Opens every item, also after one has failed, so that the work does not depend on which fails.
fn open_items(
    checked: &Checked,
    locks: &[Unlocked],
    meter: &mut dyn Meter,
) -> Result<BTreeMap<String, OpenedValue>, OpenError> {
    let mut values = BTreeMap::new();
    let mut tampered = Vec::new();
    for (name, item) in &checked.object.items {
        let unlocked = &locks[item.lock];
        meter.spend(meter::copying_cost(item.sealed.as_bytes().len()))?;
        match open_item(name, item, &checked.object.locks[item.lock], unlocked) {
            Some(value) => {
                let key = unlocked.opener;
                values.insert(name.clone(), OpenedValue { value, key });
            }
            None => tampered.push(name.clone()),
        }
    }
    if tampered.is_empty() {
        Ok(values)
    } else {
        Err(Refusal::Tampered { items: tampered }.into())
    }
}

fn open_item(name: &str, item: &Item, lock: &Lock, unlocked: &Unlocked) -> Option<Value> {
    let key = ItemKey::derive(&unlocked.data_key, &lock.header.commitment, name)?;
    let value = item.sealed.open(&key);
    value.filter(|_| unlocked.is_right)
}
