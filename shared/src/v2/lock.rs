//! A lock: a header, and its data key wrapped for each recipient.

use std::collections::BTreeMap;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use rand::CryptoRng;

use super::data_key::DataKey;
use super::error::Problem;
use super::header::Header;
use super::id::{LockId, ShortKeyId, sha256};
use super::opening_keys::OpeningKeys;
use super::place::Place;
use super::stanza::Stanza;
use super::suite::{Binding, Opener, Recipient, Unavailable};

/// Maximum number of recipients of a lock.
pub const MAX_RECIPIENTS: usize = 32;

/// A lock with at least one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lock {
    pub(super) header: Header,
    pub(super) stanzas: BTreeMap<ShortKeyId, Stanza>,
}

impl Lock {
    pub(super) fn new(
        header: Header,
        stanzas: BTreeMap<ShortKeyId, Stanza>,
    ) -> Result<Self, Problem> {
        match stanzas.len() {
            1..=MAX_RECIPIENTS => Ok(Self { header, stanzas }),
            _ => Err(Problem::Recipients),
        }
    }

    pub(super) fn id(&self) -> LockId {
        self.header.lock_id()
    }

    /// Returns the bytes that precede the box of an inline item.
    pub(super) fn to_inline_bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.to_bytes();
        bytes.push(u8::try_from(self.stanzas.len()).unwrap_or(u8::MAX));
        for stanza in self.stanzas.values() {
            bytes.extend_from_slice(&stanza.to_bytes());
        }
        bytes
    }

    /// Reads the lock of an inline item. Returns the lock and the bytes of the item's box.
    pub(super) fn split_inline(bytes: &[u8]) -> Result<(Self, &[u8]), Problem> {
        let (header, bytes) = Header::split(bytes)?;
        let (count, mut bytes) = bytes.split_first().ok_or(Problem::Length)?;
        let mut stanzas = BTreeMap::new();
        for _ in 0..*count {
            let (stanza, rest) = Stanza::split(bytes)?;
            if stanzas
                .last_key_value()
                .is_some_and(|(last, _)| *last >= stanza.key)
            {
                return Err(Problem::Order);
            }
            stanzas.insert(stanza.key, stanza);
            bytes = rest;
        }
        Ok((Self::new(header, stanzas)?, bytes))
    }

    /// Wraps the data key for a recipient. Returns `None` if the recipient's key cannot encrypt.
    pub(super) fn new_stanza(
        header: &Header,
        key: &DataKey,
        place: &Place,
        recipient: &dyn Recipient,
        rng: &mut dyn CryptoRng,
    ) -> Option<Stanza> {
        let header = header.to_bytes();
        let binding = Binding {
            header: &header,
            context: place.context(),
        };
        Some(Stanza {
            suite: recipient.suite().code(),
            key: recipient.key_id().short(),
            wrapped: recipient.wrap_key(key, &binding, rng)?,
        })
    }

    /// Returns the stanza and the key for opening the lock. If several match, returns those with the cheapest suite,
    /// then with the lowest identifier. So each lock takes only one operation, whatever stanzas an author adds.
    pub(super) fn opener<'k>(&self, keys: &OpeningKeys<'k>) -> Option<(&Stanza, &'k dyn Opener)> {
        let own = self.stanzas.values().filter_map(|stanza| {
            let key = keys.get(&stanza.key)?;
            (stanza.suite() == Some(key.suite())).then_some((stanza, key))
        });
        own.min_by_key(|(stanza, key)| (key.suite(), stanza.key))
    }

    /// Returns the key under which [`OpenedLocks`](super::OpenedLocks) caches the outcome for a stanza.
    pub(super) fn cache_key(&self, stanza: &Stanza, place: &Place) -> [u8; 32] {
        let parts = [&self.header.to_bytes(), &stanza.to_bytes(), place.context()];
        sha256(&parts.concat())
    }

    /// Unwraps the data key; if that fails, takes a random substitute. Returns the key, and whether it was unwrapped
    /// and the header is committed to it. A constant substitute would let an attacker create boxes that open under it,
    /// and observe in the timing whether a key unwraps a stanza.
    pub(super) fn unwrap(
        &self,
        stanza: &Stanza,
        key: &dyn Opener,
        place: &Place,
        rng: &mut dyn CryptoRng,
    ) -> Result<(DataKey, bool), Unavailable> {
        let header = self.header.to_bytes();
        let binding = Binding {
            header: &header,
            context: place.context(),
        };
        let substitute = DataKey::random(rng);
        let unwrapped = key.unwrap_key(&stanza.wrapped, &binding)?;
        let is_unwrapped = unwrapped.is_some();
        let key = unwrapped.unwrap_or(substitute);
        let is_committed = self.is_committed_to(&key, place);
        Ok((key, is_unwrapped && is_committed))
    }

    /// Returns whether the header is committed to this data key and place.
    pub(super) fn is_committed_to(&self, key: &DataKey, place: &Place) -> bool {
        let expected = key.commitment(&self.header.fields, place);
        expected.is_some_and(|expected| {
            verify_slices_are_equal(expected.as_ref(), &self.header.commitment).is_ok()
        })
    }
}
