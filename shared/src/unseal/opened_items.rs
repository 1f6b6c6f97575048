//! The opened items of an object.

use std::collections::BTreeMap;

use super::UsedKey;
use crate::envelope;
use crate::plain::Plain;
use crate::v2::{self, ValueDigest};

/// The values of the items, and the key of each, by item key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OpenedItems {
    pub(crate) values: BTreeMap<String, ItemValue>,
    pub(crate) keys: BTreeMap<String, UsedKey>,
}

/// The value of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ItemValue {
    V1(envelope::OpenedValue),
    V2(v2::Value),
}

impl OpenedItems {
    /// Adds the items of another format.
    pub(super) fn extend(&mut self, other: Self) {
        self.values.extend(other.values);
        self.keys.extend(other.keys);
    }

    /// Returns the digest of each value under its identifier.
    pub(super) fn digests(&self) -> BTreeMap<String, ValueDigest> {
        let values = self.values.iter();
        let digests = values.map(|(item, value)| (item.clone(), value.digest()));
        digests.collect()
    }

    /// Returns the values in plaintext.
    pub(super) fn into_plain(self) -> BTreeMap<String, Plain> {
        let values = self.values.into_iter();
        values.map(|(item, value)| (item, value.into())).collect()
    }
}

impl ItemValue {
    fn digest(&self) -> ValueDigest {
        match self {
            Self::V1(value) => ValueDigest::new(&value.id(), &value.plain),
            Self::V2(value) => ValueDigest::new(&value.id, &value.plain),
        }
    }
}

impl From<ItemValue> for Plain {
    fn from(value: ItemValue) -> Self {
        match value {
            ItemValue::V1(value) => value.plain,
            ItemValue::V2(value) => value.plain,
        }
    }
}
