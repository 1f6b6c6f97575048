//! Seals values for recipients.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rand::CryptoRng;

use super::data_key::DataKey;
use super::header::{Fields, Header};
use super::id::{LockId, ShortKeyId};
use super::lock::{Lock, MAX_RECIPIENTS};
use super::place::Place;
use super::sealed_box::{ItemKey, SealedBox};
use super::suite::Recipient;
use super::template::TemplateDigest;
use super::text::{self, Kind};
use super::value::Value;
use crate::names::{self, NameError};

/// The lead over the current time, in milliseconds, from which [`next_revision`] ignores a revision: one hour. Readers
/// accept a lead of one day, to allow for clock differences.
pub const MAX_REVISION_AHEAD: u64 = 60 * 60 * 1000;

/// The parameters of a new lock.
#[derive(Clone, Copy)]
pub struct LockSpec<'a> {
    /// The place of the object.
    pub place: &'a Place,
    /// The public keys that can open the lock. They come from a key ring, rules or pins, never from the file that
    /// contains the object.
    pub recipients: &'a [&'a dyn Recipient],
    /// Whether classical recipients are allowed together with post-quantum recipients.
    pub allow_classical: bool,
    /// The digest of the template that the lock is bound to; `None` for an unbound lock.
    pub template: Option<TemplateDigest>,
    /// Whether the values must never become a Secret object.
    pub is_never_secret: bool,
    /// Whether the values must be the only values of their object. Such an object cannot be changed item by item.
    pub is_alone: bool,
    /// The revision, from [`next_revision`].
    pub revision: u64,
}

/// Why values cannot be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is no recipient, or there are too many.
    #[error("a value can be sealed for 1 to {MAX_RECIPIENTS} keys, but {0} are configured")]
    Recipients(usize),
    /// Some recipients are post-quantum, but this one is not.
    #[error(
        "the key {0} is not post-quantum, but another recipient is; remove one of them, or allow classical keys"
    )]
    Mixed(ShortKeyId),
    /// A recipient's key cannot encrypt.
    #[error("the key {0} cannot encrypt")]
    Key(ShortKeyId),
    /// Two keys have the same short identifier, so a lock can contain only one of them.
    #[error("two of the keys have the identifier {0}; remove one of them")]
    SameIdentifier(ShortKeyId),
    /// An item key, or the name or namespace of the object, is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// aws-lc failed. The failure does not depend on the value.
    #[error("the cryptographic library failed")]
    Library,
}

/// Returns the revision of a new lock: the time in milliseconds since 1970, or one more than the highest of the
/// `present` revisions if that is higher. Ignores revisions that are an hour or more in the future, so that one such
/// item does not force all later revisions into the future.
pub fn next_revision(now: Timestamp, present: impl IntoIterator<Item = u64>) -> u64 {
    let now = u64::try_from(now.as_millisecond()).unwrap_or_default();
    let limit = now.saturating_add(MAX_REVISION_AHEAD);
    let highest = present
        .into_iter()
        .filter(|revision| *revision < limit)
        .max();
    highest.map_or(now, |highest| now.max(highest.saturating_add(1)))
}

/// Seals values under a new shared lock. Returns the entries of the lock and of each item.
///
/// # Errors
///
/// Returns [`SealError`] if the recipients or names are not acceptable.
pub fn seal(
    spec: &LockSpec<'_>,
    values: &BTreeMap<String, Value>,
    rng: &mut dyn CryptoRng,
) -> Result<BTreeMap<String, String>, SealError> {
    let (lock, key) = new_lock(spec, rng)?;
    let mut entries = lock_entries(&lock);
    for (item, value) in values {
        let sealed = seal_box(&lock, &key, item, value, rng)?;
        let bytes = [&lock.id().0[..], sealed.as_bytes()].concat();
        entries.insert(item.clone(), text::encode(Kind::Short, &bytes));
    }
    Ok(entries)
}

/// Seals one value with its own lock, so that only one line of a file changes. Needs no private key. Returns the entry.
/// Readers refuse the entry in an object with a lock that must be the only one, and refuse a bound entry in an object
/// with v1 items.
///
/// # Errors
///
/// Returns [`SealError`] if the recipients or the name are not acceptable.
pub fn seal_inline(
    spec: &LockSpec<'_>,
    item: &str,
    value: &Value,
    rng: &mut dyn CryptoRng,
) -> Result<String, SealError> {
    let (lock, key) = new_lock(spec, rng)?;
    let sealed = seal_box(&lock, &key, item, value, rng)?;
    Ok(inline_entry(&lock, &sealed))
}

pub(super) fn inline_entry(lock: &Lock, sealed: &SealedBox) -> String {
    let bytes = [&lock.to_inline_bytes(), sealed.as_bytes()].concat();
    text::encode(Kind::Inline, &bytes)
}

fn seal_box(
    lock: &Lock,
    key: &DataKey,
    item: &str,
    value: &Value,
    rng: &mut dyn CryptoRng,
) -> Result<SealedBox, SealError> {
    names::check_item(item)?;
    let key = ItemKey::derive(key, &lock.header.commitment, item);
    let sealed = key.and_then(|key| SealedBox::seal(&key, value, rng));
    sealed.ok_or(SealError::Library)
}

pub(super) fn lock_entries(lock: &Lock) -> BTreeMap<String, String> {
    let header = text::encode(Kind::Header, &lock.header.to_bytes());
    let stanzas = lock.stanzas.values();
    let stanzas = stanzas.map(|stanza| stanza_entry(lock.id(), stanza));
    stanzas
        .chain([(text::header_name(lock.id()), header)])
        .collect()
}

pub(super) fn stanza_entry(lock: LockId, stanza: &super::stanza::Stanza) -> (String, String) {
    let value = text::encode(Kind::Stanza, &stanza.to_bytes());
    (text::stanza_name(lock, stanza.key), value)
}

fn new_lock(spec: &LockSpec<'_>, rng: &mut dyn CryptoRng) -> Result<(Lock, DataKey), SealError> {
    let is_post_quantum_only = check_recipients(spec)?;
    let fields = Fields {
        template: spec.template,
        is_post_quantum_only,
        is_never_secret: spec.is_never_secret,
        is_alone: spec.is_alone,
        scope: spec.place.scope(),
        revision: spec.revision,
        place: spec.place.digest(),
    };
    let key = DataKey::random(rng);
    let header = key.commit(fields, spec.place).ok_or(SealError::Library)?;
    let lock = wrap_for_all(header, &key, spec, rng)?;
    Ok((lock, key))
}

fn wrap_for_all(
    header: Header,
    key: &DataKey,
    spec: &LockSpec<'_>,
    rng: &mut dyn CryptoRng,
) -> Result<Lock, SealError> {
    let mut stanzas = BTreeMap::new();
    for (id, recipient) in distinct(spec.recipients)? {
        let stanza = Lock::new_stanza(&header, key, spec.place, recipient, rng);
        stanzas.insert(id, stanza.ok_or(SealError::Key(id))?);
    }
    let count = stanzas.len();
    Lock::new(header, stanzas).map_err(|_| SealError::Recipients(count))
}

/// Removes duplicate recipients. Keeps the order. Fails if two keys have the same short identifier.
fn distinct<'a>(
    recipients: &[&'a dyn Recipient],
) -> Result<Vec<(ShortKeyId, &'a dyn Recipient)>, SealError> {
    let mut distinct: Vec<(ShortKeyId, &dyn Recipient)> = Vec::new();
    for recipient in recipients {
        let id = recipient.key_id().short();
        match distinct.iter().find(|(known, _)| *known == id) {
            None => distinct.push((id, *recipient)),
            Some((_, known)) if known.key_id() == recipient.key_id() => {}
            Some(_) => return Err(SealError::SameIdentifier(id)),
        }
    }
    Ok(distinct)
}

/// Checks the recipients. Returns whether the lock must forbid classical recipients.
fn check_recipients(spec: &LockSpec<'_>) -> Result<bool, SealError> {
    let is_post_quantum = |r: &&&dyn Recipient| r.suite().is_post_quantum();
    let has_post_quantum = spec.recipients.iter().any(|r| is_post_quantum(&r));
    let classical = spec.recipients.iter().find(|r| !is_post_quantum(r));
    match classical {
        Some(key) if has_post_quantum && !spec.allow_classical => {
            Err(SealError::Mixed(key.key_id().short()))
        }
        Some(_) => Ok(false),
        None => Ok(!spec.allow_classical),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_increase_but_ignore_revisions_far_in_the_future() {
        let now = Timestamp::from_millisecond(1_000_000).unwrap();
        let ahead = 1_000_000 + MAX_REVISION_AHEAD;
        for (present, want) in [
            (vec![], 1_000_000),
            (vec![5], 1_000_000),
            (vec![1_000_000, 7], 1_000_001),
            (vec![ahead - 1], ahead),
            (vec![ahead], 1_000_000),
            (vec![u64::MAX, 2_000_000], 2_000_001),
        ] {
            assert_eq!(next_revision(now, present.clone()), want, "{present:?}");
        }
    }
}
