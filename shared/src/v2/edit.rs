//! Changes to sealed objects, and the functions that add and remove recipients.

use std::collections::{BTreeMap, BTreeSet};

use rand::CryptoRng;

use super::check::Checked;
use super::data_key::DataKey;
use super::id::ShortKeyId;
use super::lock::{Lock, MAX_RECIPIENTS};
use super::object::Item;
use super::open::{OpenError, open_with_data_keys};
use super::opening_keys::{OpenedLocks, OpeningKeys};
use super::seal::{SealError, inline_entry, stanza_entry};
use super::stanza::Stanza;
use super::suite::Recipient;
use super::text;
use crate::meter::Meter;

/// The entries of `spec.encryptedData` to set and to remove. Both are empty if nothing changes.
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
        "the item {item:?} forbids keys that are not post-quantum; seal the item again to allow such keys"
    )]
    PostQuantumOnly {
        /// The key of the item that forbids classical recipients.
        item: String,
    },
    /// The new lock would be refused in an object with a v1 item.
    #[error(
        "the item {item:?} is sealed as v1, but v2 values that are bound to the template or must be the only values of \
         the object allow no v1 items; seal the item again as v2 first"
    )]
    V1Item {
        /// The key of the v1 item.
        item: String,
    },
    /// Only some items are bound, and the caller did not decide whether to bind the others.
    #[error(
        "some items are bound to the template and others are not; check the template, and bind all of them with \
         `seal rotate --to v2 --bind-template`"
    )]
    PartlyBound,
    /// The last recipient of an item cannot be removed.
    #[error("the key is the only recipient of the item {item:?}; remove the item instead")]
    LastRecipient {
        /// The key of the item with only this recipient.
        item: String,
    },
}

impl Edit {
    /// Applies the changes to the entries of an object.
    pub fn apply(self, entries: &mut BTreeMap<String, String>) {
        entries.retain(|name, _| !self.remove.contains(name));
        entries.extend(self.set);
    }

    /// Replaces the stanza of a lock for the same key, or adds the stanza if there is none.
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

/// Adds a recipient to every lock. Changes only stanzas, no headers or boxes. Replaces an existing stanza for the key,
/// since only the owner of the key could check whether that stanza opens.
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
    check_addition(checked, recipient)?;
    let (_, data_keys) = open_with_data_keys(checked, keys, opened, meter, rng)?;
    let mut edit = Edit::default();
    for (index, (lock, key)) in checked.object.locks.iter().zip(&data_keys).enumerate() {
        let stanza = wrap(checked, lock, key, recipient, rng)?;
        edit.set_stanza(checked, index, &stanza);
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
    let stanza = Lock::new_stanza(&lock.header, key, &checked.place, recipient, rng);
    stanza.ok_or_else(|| SealError::Key(recipient.key_id().short()))
}

fn check_addition(checked: &Checked, recipient: &dyn Recipient) -> Result<(), EditError> {
    let id = recipient.key_id().short();
    for (item, lock) in checked.object.locks_by_item() {
        if lock.header.fields.is_post_quantum_only && !recipient.suite().is_post_quantum() {
            let item = item.to_owned();
            return Err(EditError::PostQuantumOnly { item });
        }
        if lock.stanzas.len() == MAX_RECIPIENTS && !lock.stanzas.contains_key(&id) {
            return Err(SealError::Recipients(MAX_RECIPIENTS + 1).into());
        }
    }
    Ok(())
}

/// Removes a recipient from every lock, and all locks that no item refers to: otherwise a merge could restore their
/// items together with the recipient. Needs no key. The recipient keeps values that it has already read; to protect new
/// values from the recipient, seal them under a new lock.
///
/// # Errors
///
/// Returns [`EditError::LastRecipient`] if an item would have no recipient left.
pub fn remove_recipient(checked: &Checked, key: ShortKeyId) -> Result<Edit, EditError> {
    let mut edit = Edit {
        remove: owned(checked.object.unused_lock_entries()),
        ..Edit::default()
    };
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

fn owned(names: BTreeSet<&str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}
