//! Determines the keys that v2 items need.

use std::collections::BTreeMap;

use super::{Need, Reason, ScopedName};
use crate::key_ring::KeyRing;
use crate::meter::{Interrupted, Meter, Unmetered};
use crate::random;
use crate::resource::SealedSecret;
use crate::unseal::UsedKey;
use crate::v2::{
    self, Checked, KeyId, Object, OpenError, OpenedLocks, OpenedValue, Policy, Refusal, Target,
};

impl From<UsedKey> for Need {
    fn from(key: UsedKey) -> Self {
        match key {
            UsedKey::Rsa(fingerprint) => Self::Key(fingerprint),
            UsedKey::V2(id) => Self::V2Key(id),
        }
    }
}

/// Returns the key that opens each v2 item, or the keys that the items name if the object cannot be opened.
pub(super) fn needs_within(
    sealed: &SealedSecret,
    ring: &KeyRing,
    meter: &mut dyn Meter,
) -> Result<BTreeMap<String, Need>, Interrupted> {
    match open(sealed, ring, meter) {
        Ok(values) => {
            let need = |value: OpenedValue| Need::from(UsedKey::of(value.key.short(), ring));
            let values = values.into_iter();
            Ok(values.map(|(item, value)| (item, need(value))).collect())
        }
        Err(OpenError::Interrupted(why)) => Err(why),
        Err(_) => Ok(needs_unopened(sealed, ring)),
    }
}

/// Returns the keys that v2 items name, for an object that could not be opened. If an entry is malformed, returns
/// [`Need::AnyKey`] for every v2 item, because the entry can hide further keys.
fn needs_unopened(sealed: &SealedSecret, ring: &KeyRing) -> BTreeMap<String, Need> {
    let Ok(object) = Object::parse(&sealed.spec.encrypted_data) else {
        let items = v2_names(sealed);
        return items.map(|item| (item.to_owned(), Need::AnyKey)).collect();
    };
    let view = object.view().into_iter();
    let need = |item: v2::ItemView| {
        let keys = item.recipients.iter();
        Need::OneOf(keys.map(|(id, _)| UsedKey::of(*id, ring)).collect())
    };
    view.map(|(name, item)| (name.to_owned(), need(item)))
        .collect()
}

/// Returns the key of the ring that each v2 item names; `None` if an item names no key of the ring, or an entry is
/// malformed.
pub(super) fn needs_by_name(
    sealed: &SealedSecret,
    ring: &KeyRing,
) -> Option<BTreeMap<String, Need>> {
    let object = Object::parse(&sealed.spec.encrypted_data).ok()?;
    let openers = object.openers(&ring.openers()).into_iter();
    let need = |(item, key): (&str, Option<KeyId>)| {
        Some((item.to_owned(), UsedKey::of(key?.short(), ring).into()))
    };
    openers.map(need).collect()
}

/// Returns the key that unseals each v2 item, or the reason why the object cannot be opened.
pub(super) fn examine(
    sealed: &SealedSecret,
    ring: &KeyRing,
    scoped_names: &[ScopedName],
) -> BTreeMap<String, Reason> {
    let to_all = |reason: &Reason| {
        let items = v2_names(sealed);
        items
            .map(|item| (item.to_owned(), reason.clone()))
            .collect()
    };
    let reason = |value: OpenedValue| match UsedKey::of(value.key.short(), ring) {
        UsedKey::Rsa(fingerprint) => Reason::Opens(fingerprint),
        UsedKey::V2(id) => Reason::OpensV2(id),
    };
    match open(sealed, ring, &mut Unmetered) {
        Ok(values) => values.into_iter().map(|(i, v)| (i, reason(v))).collect(),
        Err(OpenError::Refused(why @ Refusal::ScopeMismatch { .. })) => {
            let moved = other_scoped_name(sealed, scoped_names).map(Reason::MovedV2);
            to_all(&moved.unwrap_or_else(|| Reason::Refused(why.into())))
        }
        Err(OpenError::Refused(why)) => to_all(&Reason::Refused(why.into())),
        Err(OpenError::Interrupted(_) | OpenError::Unavailable { .. }) => to_all(&Reason::Unknown),
    }
}

/// Returns the scoped name that all v2 items were sealed for, if it is among `scoped_names`.
fn other_scoped_name(sealed: &SealedSecret, scoped_names: &[ScopedName]) -> Option<ScopedName> {
    let object = Object::parse(&sealed.spec.encrypted_data).ok()?;
    let is_for = |scoped_name: &&ScopedName| {
        let place = v2::Place::of(scoped_name.scope, &scoped_name.namespace, &scoped_name.name);
        place.is_some_and(|place| object.is_for(&place))
    };
    scoped_names.iter().find(is_for).cloned()
}

fn open(
    sealed: &SealedSecret,
    ring: &KeyRing,
    meter: &mut dyn Meter,
) -> Result<BTreeMap<String, OpenedValue>, OpenError> {
    let checked = Checked::new(sealed, &Policy::default(), Target::Other)?;
    if !checked.object().has_items() {
        return Ok(BTreeMap::new());
    }
    let (keys, mut locks) = (ring.openers(), OpenedLocks::default());
    v2::open(&checked, &keys, &mut locks, meter, &mut random::system())
}

fn v2_names(sealed: &SealedSecret) -> impl Iterator<Item = &str> {
    let encrypted_data = &sealed.spec.encrypted_data;
    let names = v2::item_names(encrypted_data);
    names.filter(|name| !v2::is_v1_item(name, &encrypted_data[*name]))
}
