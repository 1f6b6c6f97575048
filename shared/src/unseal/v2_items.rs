//! Opens the v2 items of one object.

use std::collections::BTreeMap;

use super::errors::UnsealError;
use super::used_key::UsedKey;
use super::{Effort, OpenedItems, Remembered};
use crate::key_ring::KeyRing;
use crate::random;
use crate::v2::{self, Checked, KeyId, OpenError};

/// Opens every v2 item of an object that passed the public checks.
pub(super) fn open_items(
    checked: &Checked,
    ring: &KeyRing,
    remembered: Remembered<'_>,
    effort: &mut Effort<'_>,
) -> Result<OpenedItems, UnsealError> {
    let mut opened = OpenedItems::default();
    if !checked.object().has_items() {
        return Ok(opened);
    }
    let (keys, rng) = (ring.openers(), &mut random::system());
    let items = v2::open(checked, &keys, remembered.locks, effort.meter, rng);
    let items = items.map_err(|why| match why {
        OpenError::Refused(why) => UnsealError::Refused(why),
        OpenError::Interrupted(_) => UnsealError::BudgetUsedUp {
            opened: remembered.hints.clone(),
        },
        OpenError::Unavailable { key, source } => UnsealError::KeyUnavailable { key, source },
    })?;
    let mut names: BTreeMap<KeyId, UsedKey> = BTreeMap::new();
    for (item, value) in items {
        let name = names.entry(value.key);
        let name = name.or_insert_with_key(|key| UsedKey::of(key.short(), ring));
        opened.1.insert(item.clone(), name.clone());
        opened.0.insert(item, value.value.plain);
    }
    Ok(opened)
}
