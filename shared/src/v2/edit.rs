//! Changes of sealed objects by someone entitled to open them.

use std::collections::{BTreeMap, BTreeSet};

use rand::CryptoRng;

use super::check::Checked;
use super::data_key::DataKey;
use super::id::ShortKeyId;
use super::lock::{Lock, MAX_RECIPIENTS};
use super::object::Item;
use super::open::{OpenError, open, unlock_all};
use super::opening_keys::{OpenedLocks, OpeningKeys};
use super::seal::{LockSpec, SealError, inline_entry, seal, stanza_entry};
use super::stanza::Stanza;
use super::suite::Recipient;
use super::text;
use super::value::Value;
use crate::meter::Meter;

/// The entries of `spec.encryptedData` to set and to remove. Empty if nothing changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// Entries to add or replace.
    pub set: BTreeMap<String, String>,
    /// Names of entries to remove.
    pub remove: BTreeSet<String>,
}

/// Why an object cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The object cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The values cannot be sealed for the recipients.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// An item forbids classical recipients.
    #[error(
        "the item {item:?} forbids keys that are not post-quantum; seal it again to allow them"
    )]
    PostQuantumOnly {
        /// The item.
        item: String,
    },
    /// The last recipient of an item cannot be removed.
    #[error("the key is the only recipient of the item {item:?}; remove the item instead")]
    LastRecipient {
        /// The item.
        item: String,
    },
}

impl Edit {
    /// Applies the changes to the entries of an object.
    pub fn apply(self, entries: &mut BTreeMap<String, String>) {
        entries.retain(|name, _| !self.remove.contains(name));
        entries.extend(self.set);
    }

    /// Replaces the stanza of a lock, or adds it if the lock has none for the key.
    fn set_stanza(&mut self, checked: &Checked, index: usize, stanza: &Stanza) {
        let mut lock = checked.object.locks[index].clone();
        lock.stanzas.insert(stanza.key, stanza.clone());
        match inline_item(checked, index) {
            Some((name, item)) => {
                let entry = inline_entry(&lock, &item.sealed);
                self.set.insert(name.clone(), entry);
            }
            None => self.set.extend([stanza_entry(lock.id(), stanza)]),
        }
    }

    fn remove_stanza(&mut self, checked: &Checked, index: usize, key: ShortKeyId) {
        let mut lock = checked.object.locks[index].clone();
        lock.stanzas.remove(&key);
        match inline_item(checked, index) {
            Some((name, item)) => {
                let entry = inline_entry(&lock, &item.sealed);
                self.set.insert(name.clone(), entry);
            }
            None => drop(self.remove.insert(text::stanza_name(lock.id(), key))),
        }
    }
}

fn inline_item(checked: &Checked, lock: usize) -> Option<(&String, &Item)> {
    let mut items = checked.object.items.iter();
    items.find(|(_, item)| item.lock == lock && item.is_inline)
}

/// Adds a recipient to every lock that lacks it. Changes stanzas only: headers and boxes stay.
///
/// # Errors
///
/// Returns [`EditError`] if a lock cannot be opened, forbids the suite, or is full.
pub fn add_recipient(
    checked: &Checked,
    keys: &OpeningKeys<'_>,
    recipient: &dyn Recipient,
    opened: &mut OpenedLocks,
    meter: &mut dyn Meter,
    rng: &mut dyn CryptoRng,
) -> Result<Edit, EditError> {
    let id = recipient.key_id().short();
    check_addition(checked, recipient)?;
    let data_keys = unlock_all(checked, keys, opened, meter)?;
    let mut edit = Edit::default();
    for (index, (lock, key)) in checked.object.locks.iter().zip(&data_keys).enumerate() {
        if !lock.stanzas.contains_key(&id) {
            let stanza = wrap(checked, lock, key, recipient, rng)?;
            edit.set_stanza(checked, index, &stanza);
        }
    }
    Ok(edit)
}

fn wrap(
    checked: &Checked,
    lock: &Lock,
    key: &DataKey,
    recipient: &dyn Recipient,
    rng: &mut dyn CryptoRng,
) -> Result<Stanza, SealError> {
    let stanza = Lock::stanza(&lock.header, key, &checked.place, recipient, rng);
    stanza.ok_or_else(|| SealError::Key(recipient.key_id().short()))
}

fn check_addition(checked: &Checked, recipient: &dyn Recipient) -> Result<(), EditError> {
    let id = recipient.key_id().short();
    let locks = checked.object.locks_by_item();
    for (item, lock) in locks.filter(|(_, lock)| !lock.stanzas.contains_key(&id)) {
        let item = item.to_owned();
        if lock.header.fields.is_post_quantum_only && !recipient.suite().is_post_quantum() {
            return Err(EditError::PostQuantumOnly { item });
        }
        if lock.stanzas.len() == MAX_RECIPIENTS {
            return Err(SealError::Recipients(MAX_RECIPIENTS + 1).into());
        }
    }
    Ok(())
}

/// Removes a recipient from every lock. Needs no key. The recipient keeps what it has already read; to protect new
/// values from it, seal them again.
///
/// # Errors
///
/// Returns [`EditError::LastRecipient`] if an item would have none left.
pub fn remove_recipient(checked: &Checked, key: ShortKeyId) -> Result<Edit, EditError> {
    let mut edit = Edit::default();
    for (index, (item, lock)) in checked.object.locks_by_item().enumerate() {
        if !lock.stanzas.contains_key(&key) {
            continue;
        }
        if lock.stanzas.len() == 1 {
            let item = item.to_owned();
            return Err(EditError::LastRecipient { item });
        }
        edit.remove_stanza(checked, index, key);
    }
    Ok(edit)
}

/// Seals all v2 items again under one new lock, with the identifiers of their values. Removes all other locks, also those
/// that no item refers to. Returns no change if the object already has one shared lock with these properties, whatever
/// its revision.
///
/// # Errors
///
/// Returns [`EditError`] if the object cannot be opened, or cannot be sealed for the recipients.
pub fn fold(
    checked: &Checked,
    keys: &OpeningKeys<'_>,
    spec: &LockSpec<'_>,
    opened: &mut OpenedLocks,
    meter: &mut dyn Meter,
    rng: &mut dyn CryptoRng,
) -> Result<Edit, EditError> {
    let values = open(checked, keys, opened, meter)?;
    if values.is_empty() || is_folded(checked, spec) {
        return Ok(Edit::default());
    }
    let values: BTreeMap<String, Value> = values
        .into_iter()
        .map(|(name, opened)| (name, opened.value))
        .collect();
    let set = seal(spec, &values, rng)?;
    let remove = checked.object.lock_entries.clone();
    Ok(Edit { set, remove })
}

/// Returns whether the object has one shared lock with the properties of `spec`, and nothing else.
fn is_folded(checked: &Checked, spec: &LockSpec<'_>) -> bool {
    let object = &checked.object;
    let [lock] = &object.locks[..] else {
        return false;
    };
    let wanted: BTreeSet<_> = spec.recipients.iter().map(|r| r.key_id().short()).collect();
    let is_post_quantum = spec.recipients.iter().all(|r| r.suite().is_post_quantum());
    let fields = &lock.header.fields;
    object.items.values().all(|item| !item.is_inline)
        && object.lock_entries.len() == lock.stanzas.len() + 1
        && lock.stanzas.keys().eq(wanted.iter())
        && fields.template == spec.template
        && fields.is_never_secret == spec.is_never_secret
        && fields.is_post_quantum_only == (is_post_quantum && !spec.allow_classical)
}
