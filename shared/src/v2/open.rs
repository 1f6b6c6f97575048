//! Opens the items of an object.

use std::collections::BTreeMap;

use rand::CryptoRng;

use super::check::Checked;
use super::data_key::DataKey;
use super::error::{MAX_NAMED_KEYS, Refusal};
use super::id::{KeyId, ShortKeyId};
use super::lock::Lock;
use super::object::Item;
use super::opening_keys::{OpenedLocks, OpeningKeys, Outcome};
use super::sealed_box::ItemKey;
use super::stanza::Stanza;
use super::suite::{Opener, Unavailable};
use super::value::{OpenedValue, Value};
use crate::meter::{self, Interrupted, Meter};

/// Why the items of an object cannot be opened. On an error, no value is returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The object is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The meter interrupted the work. This is independent of the object's validity.
    #[error(
        "this object needs more work than one attempt may take; the next attempt continues where this one stopped"
    )]
    Interrupted(#[from] Interrupted),
    /// A key outside this process is unavailable. This is independent of the object's validity.
    #[error("cannot use the key {key}: {source}; try again, since the object was not refused")]
    Unavailable {
        /// The identifier of the unavailable key.
        key: ShortKeyId,
        /// The cause of the failure.
        source: Unavailable,
    },
}

impl OpenError {
    /// Returns whether another attempt can have another result.
    fn is_temporary(&self) -> bool {
        matches!(self, Self::Interrupted(_) | Self::Unavailable { .. })
    }
}

/// Opens every v2 item, with one private-key operation for each lock that is not in `opened`. The meter is called
/// before each operation. If the meter interrupts the work, or a key is unavailable, `opened` contains the outcomes for
/// the next attempt.
///
/// Once a private key was used, the only refusal is [`Refusal::Tampered`], after the same steps as a success.
///
/// # Errors
///
/// Returns [`OpenError`] if a key is missing or unavailable, an item was tampered with, or the meter interrupted the
/// work.
pub fn open(
    checked: &Checked,
    keys: &OpeningKeys<'_>,
    opened: &mut OpenedLocks,
    meter: &mut dyn Meter,
    rng: &mut dyn CryptoRng,
) -> Result<BTreeMap<String, OpenedValue>, OpenError> {
    open_with_data_keys(checked, keys, opened, meter, rng).map(|(values, _)| values)
}

/// Every v2 item, and the data key of every lock.
type ItemsAndDataKeys = (BTreeMap<String, OpenedValue>, Vec<DataKey>);

/// Like [`open`], but also returns the data keys.
pub(super) fn open_with_data_keys(
    checked: &Checked,
    keys: &OpeningKeys<'_>,
    opened: &mut OpenedLocks,
    meter: &mut dyn Meter,
    rng: &mut dyn CryptoRng,
) -> Result<ItemsAndDataKeys, OpenError> {
    let result = unlock_each(checked, keys, opened, meter, rng).and_then(|unlocked| {
        let values = open_items(checked, &unlocked, meter)?;
        let data_keys = unlocked.into_iter().map(|lock| lock.outcome.data_key);
        Ok((values, data_keys.collect()))
    });
    if !result.as_ref().is_err_and(OpenError::is_temporary) {
        opened.clear();
    }
    result
}

/// The outcome for a lock, and the key that was tried.
struct UnlockResult {
    outcome: Outcome,
    opener: KeyId,
}

fn unlock_each(
    checked: &Checked,
    keys: &OpeningKeys<'_>,
    opened: &mut OpenedLocks,
    meter: &mut dyn Meter,
    rng: &mut dyn CryptoRng,
) -> Result<Vec<UnlockResult>, OpenError> {
    let openers = find_openers(checked, keys)?;
    let locks = checked.object.locks.iter().zip(&openers);
    let cache_keys = locks.map(|(lock, (stanza, _))| lock.cache_key(stanza, &checked.place));
    let cache_keys: Vec<_> = cache_keys.collect();
    opened.retain(&cache_keys);
    let mut unlocked = Vec::with_capacity(openers.len());
    let locks = checked.object.locks.iter().zip(openers);
    for ((lock, (stanza, key)), cache_key) in locks.zip(cache_keys) {
        let outcome = if let Some(outcome) = opened.get(&cache_key) {
            outcome.clone()
        } else {
            meter.spend(key.cost())?;
            unwrap(checked, lock, stanza, key, rng)?
        };
        opened.insert(cache_key, outcome.clone());
        unlocked.push(verify_again(checked, lock, key, outcome));
    }
    Ok(unlocked)
}

fn unwrap(
    checked: &Checked,
    lock: &Lock,
    stanza: &Stanza,
    key: &dyn Opener,
    rng: &mut dyn CryptoRng,
) -> Result<Outcome, OpenError> {
    let unwrapped = lock.unwrap(stanza, key, &checked.place, rng);
    let (data_key, is_committed) = unwrapped.map_err(|source| OpenError::Unavailable {
        key: key.key_id().short(),
        source,
    })?;
    Ok(Outcome {
        data_key,
        is_committed,
    })
}

/// Verifies the commitment again, as is required whenever a data key is used.
fn verify_again(
    checked: &Checked,
    lock: &Lock,
    key: &dyn Opener,
    mut outcome: Outcome,
) -> UnlockResult {
    outcome.is_committed &= lock.is_committed_to(&outcome.data_key, &checked.place);
    let opener = key.key_id();
    UnlockResult { outcome, opener }
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

/// Returns the identifiers of keys that could open the lock, at most [`MAX_NAMED_KEYS`].
fn usable_keys(lock: &Lock) -> Vec<ShortKeyId> {
    let stanzas = lock.stanzas.values();
    let usable = stanzas.filter(|stanza| stanza.suite().is_some());
    usable
        .map(|stanza| stanza.key)
        .take(MAX_NAMED_KEYS)
        .collect()
}

/// Opens every item, even after a failure, so that the work does not depend on which item fails.
fn open_items(
    checked: &Checked,
    locks: &[UnlockResult],
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

fn open_item(name: &str, item: &Item, lock: &Lock, unlocked: &UnlockResult) -> Option<Value> {
    let key = ItemKey::derive(&unlocked.outcome.data_key, &lock.header.commitment, name)?;
    let value = item.sealed.open(&key);
    value.filter(|_| unlocked.outcome.is_committed)
}
