//! The private keys that may open locks, and the data keys that an interrupted attempt has opened.

use std::collections::BTreeMap;
use std::fmt;

use super::data_key::DataKey;
use super::id::ShortKeyId;
use super::suite::Opener;

/// Private keys by their short identifier.
#[derive(Clone, Default)]
pub struct OpeningKeys<'k>(BTreeMap<ShortKeyId, &'k dyn Opener>);

impl<'k> OpeningKeys<'k> {
    pub(super) fn get(&self, key: &ShortKeyId) -> Option<&'k dyn Opener> {
        self.0.get(key).copied()
    }
}

impl<'k> FromIterator<&'k dyn Opener> for OpeningKeys<'k> {
    fn from_iter<I: IntoIterator<Item = &'k dyn Opener>>(keys: I) -> Self {
        let by_id = keys.into_iter().map(|key| (key.key_id().short(), key));
        Self(by_id.collect())
    }
}

impl fmt::Debug for OpeningKeys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Data keys of locks that were opened before the meter interrupted the work, so that the next attempt continues there.
/// Remembered by the whole header and stanza, never by the identifier of the lock.
#[derive(Clone, Default)]
pub struct OpenedLocks(pub(super) BTreeMap<[u8; 32], DataKey>);

impl OpenedLocks {
    /// Returns the number of remembered data keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether no data key is remembered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for OpenedLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenedLocks({})", self.len())
    }
}
