//! The size of the item keys, labels and annotations of a Secret.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use shared::plain::Plain;

/// Maximum size in bytes of item keys, labels and annotations up to which labels and annotations of other clients are
/// kept. Together with the largest values it is below [`MAX_WITH_VALUES`], so that no other client can make a
/// correction too large. An API server accepts annotations of 256 KiB.
pub const MAX_KEPT: usize = 350_000;
/// Maximum size of values, item keys, labels and annotations together, in bytes. etcd accepts requests of up to 1.5
/// MiB.
pub const MAX_WITH_VALUES: usize = 1_400_000;

/// Bytes that etcd stores for a name in addition to its text. Names are stored a second time in `managedFields`.
const OVERHEAD: usize = 32;

/// Returns whether a Secret with these items, labels and annotations can be written whatever its values are.
pub fn leave_room(values: &BTreeMap<String, Plain>, parts: &[&ObjectMeta]) -> bool {
    let metadata_len: usize = parts.iter().map(|part| metadata_len(part)).sum();
    item_keys_len(values) + metadata_len <= MAX_KEPT
}

/// Returns an upper bound on the size of the item keys in etcd, in bytes.
pub fn item_keys_len(values: &BTreeMap<String, Plain>) -> usize {
    values.keys().map(|key| 2 * (key.len() + OVERHEAD)).sum()
}

/// Returns an upper bound on the size of the labels and annotations in etcd, in bytes.
pub fn metadata_len(metadata: &ObjectMeta) -> usize {
    let texts = [&metadata.labels, &metadata.annotations];
    let texts = texts.into_iter().flatten().flatten();
    texts
        .map(|(key, text)| 2 * (key.len() + OVERHEAD) + text.len())
        .sum()
}
