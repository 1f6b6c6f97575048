//! Finds items that were sealed for keys that are too old.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use shared::key_ring::KeyRing;
use shared::resource::SealedSecret;
use shared::unseal::UsedKey;
use shared::v2::{Object, ShortKeyId};

/// Returns the items that were opened by a key older than `limit`. A v2 item counts if any of its recipients is such a
/// key, since every recipient can open the item.
pub(super) fn items_with_old_keys<'a>(
    sealed: &'a SealedSecret,
    sealed_by: &'a BTreeMap<String, UsedKey>,
    ring: &KeyRing,
    now: Timestamp,
    limit: SignedDuration,
) -> BTreeSet<&'a str> {
    let is_too_old = |order_time: Timestamp| now.duration_since(order_time) > limit;
    let rsa_keys = ring.keys().iter().filter(|k| is_too_old(k.order_time()));
    let v2_keys = ring.v2_keys().iter().filter(|k| is_too_old(k.order_time()));
    let ids = rsa_keys.clone().map(|key| key.key_id().short());
    let ids: BTreeSet<ShortKeyId> = ids.chain(v2_keys.map(|k| k.key_id().short())).collect();
    let fingerprints: BTreeSet<_> = rsa_keys.map(|key| key.fingerprint()).collect();
    let is_old = |key: &UsedKey| match key {
        UsedKey::Rsa(fingerprint) => fingerprints.contains(fingerprint),
        UsedKey::V2(id) => ids.contains(id),
    };
    let opened = sealed_by.iter().filter(|(_, key)| is_old(key));
    let opened = opened.map(|(item, _)| item.as_str());
    opened.chain(items_for(sealed, &ids)).collect()
}

/// Returns the v2 items that were sealed for one of these keys.
fn items_for<'a>(sealed: &'a SealedSecret, keys: &BTreeSet<ShortKeyId>) -> Vec<&'a str> {
    let encrypted_data = &sealed.spec.encrypted_data;
    let Ok(object) = Object::parse(encrypted_data) else {
        return Vec::new();
    };
    let views = object.view();
    let is_affected = |item: &&String| {
        let view = views.get(item.as_str());
        view.is_some_and(|view| view.recipients.iter().any(|(key, _)| keys.contains(key)))
    };
    let items = encrypted_data.keys().filter(is_affected);
    items.map(String::as_str).collect()
}
