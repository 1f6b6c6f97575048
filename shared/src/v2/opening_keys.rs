//! The private keys that may open locks, and the outcomes of interrupted attempts.

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

/// The outcomes for the locks of one object, with which the next attempt continues after the meter interrupted the
/// work, or a key was unavailable. Failures are cached too: otherwise, attempts could repeat them forever, and the
/// number of private-key operations would depend on the outcome. The cache key covers the whole header, stanza and
/// place, not only the identifier of the lock. The cache is wiped when the object is opened or refused.
#[derive(Clone, Default)]
pub struct OpenedLocks(BTreeMap<[u8; 32], Outcome>);

/// The outcome of unwrapping a stanza.
#[derive(Clone)]
pub(super) struct Outcome {
    pub(super) data_key: DataKey,
    /// Whether the header is committed to the data key. Otherwise, nothing that the data key opens may be used.
    pub(super) is_committed: bool,
}

impl OpenedLocks {
    /// Returns the number of cached outcomes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether no outcome is cached.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, cache_key: &[u8; 32]) -> Option<&Outcome> {
        self.0.get(cache_key)
    }

    pub(super) fn insert(&mut self, cache_key: [u8; 32], outcome: Outcome) {
        self.0.insert(cache_key, outcome);
    }

    /// Removes all outcomes except those with these cache keys, which belong to the current object.
    pub(super) fn retain(&mut self, cache_keys: &[[u8; 32]]) {
        self.0.retain(|cache_key, _| cache_keys.contains(cache_key));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl fmt::Debug for OpenedLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenedLocks({})", self.len())
    }
}
