//! Opens the v2 items of one object.

use std::collections::BTreeMap;

use super::errors::UnsealError;
use super::used_key::UsedKey;
use super::{ItemValue, OpenedItems};
use crate::hints::Hints;
use crate::key_ring::KeyRing;
use crate::meter::Meter;
use crate::random;
use crate::v2::{self, Checked, KeyId, OpenError, OpenedLocks};

/// Opens every v2 item of an object that has passed the checks that need no private key.
pub(super) fn open_items(
    checked: &Checked,
    ring: &KeyRing,
    locks: &mut OpenedLocks,
    meter: &mut dyn Meter,
) -> Result<OpenedItems, OpenError> {
    let mut opened = OpenedItems::default();
    if !checked.object().has_items() {
        return Ok(opened);
    }
    let keys = ring.openers();
    let items = v2::open(checked, &keys, locks, meter, &mut random::system())?;
    let mut used_keys: BTreeMap<KeyId, UsedKey> = BTreeMap::new();
    for (item, value) in items {
        let used_key = used_keys.entry(value.key);
        let used_key = used_key.or_insert_with_key(|key| UsedKey::of(key.short(), ring));
        opened.keys.insert(item.clone(), used_key.clone());
        opened.values.insert(item, ItemValue::V2(value.value));
    }
    Ok(opened)
}

/// Converts the error. Interrupted work keeps the hints for v1 items, which were not tried.
pub(super) fn error(why: OpenError, hints: &Hints) -> UnsealError {
    match why {
        OpenError::Refused(why) => UnsealError::Refused(why),
        OpenError::Interrupted(_) => UnsealError::BudgetUsedUp {
            opened: hints.clone(),
        },
        OpenError::Unavailable { key, source } => UnsealError::KeyUnavailable { key, source },
    }
}
