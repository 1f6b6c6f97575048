//! Reports keys that are added and removed while the controller runs, and keeps the keys in memory if the last one is
//! removed.
//!
//! If the last key is removed, which is probably a mistake, the removed keys stay in memory and unseal until another
//! key is stored. A command that deletes several Secrets deletes them one after the other, so keys that were removed
//! shortly before the last one are kept too.

use std::sync::Arc;

use controller_core::reason::Reason;
use jiff::{SignedDuration, Timestamp};
use shared::key_ring::{KeyRing, RingKey};
use tracing::{error, info, warn};

use crate::key_store::{NOT_BACKED_UP, key_without_backup};
use crate::store::EventRecord;

/// How long a removed key is kept, in case the last key is removed too.
const RETENTION: SignedDuration = SignedDuration::from_mins(1);

/// Keys that were removed recently.
#[derive(Debug, Default)]
pub(crate) struct RemovedKeys {
    recent: Vec<(Timestamp, Arc<RingKey>)>,
}

impl RemovedKeys {
    /// Returns the key ring that follows `before`: the stored keys, or, if none are stored, the recently removed keys.
    pub(crate) fn next_ring(
        &mut self,
        before: &KeyRing,
        stored: KeyRing,
        now: Timestamp,
    ) -> KeyRing {
        if before.is_removed() {
            return if stored.is_empty() {
                before.clone()
            } else {
                stored
            };
        }
        let removed = missing_keys(before, &stored).map(|key| (now, Arc::clone(key)));
        self.recent.extend(removed);
        self.expire(now);
        if stored.is_empty() && !self.recent.is_empty() {
            let keys = std::mem::take(&mut self.recent);
            return KeyRing::new(keys.into_iter().map(|(_, key)| key)).into_removed();
        }
        stored
    }

    /// Forgets keys that were removed longer ago than [`RETENTION`].
    pub(crate) fn expire(&mut self, now: Timestamp) {
        // A negative age means that the clock was set back. Forget these keys too.
        let age = |removed: Timestamp| now.duration_since(removed);
        self.recent
            .retain(|(removed, _)| !age(*removed).is_negative() && age(*removed) < RETENTION);
    }
}

/// A change to the key ring.
#[derive(Debug, Clone, Copy)]
enum Change<'a> {
    Added(&'a RingKey),
    Removed(&'a RingKey),
    /// The first key was replaced by the second key under the same name.
    Replaced(&'a RingKey, &'a RingKey),
    LastRemoved(&'a RingKey),
}

/// Returns the differences between two versions of a key ring.
fn differences<'a>(before: &'a KeyRing, after: &'a KeyRing) -> Vec<Change<'a>> {
    let stored_keys = |ring: &'a KeyRing| ring.keys().iter().filter(move |_| !ring.is_removed());
    let added = missing_keys(after, before).filter(|_| !after.is_removed());
    let replacement = |key: &RingKey| stored_keys(after).find(|other| other.name() == key.name());
    let removed = stored_keys(before)
        .filter(|key| after.is_removed() || after.key(key.fingerprint()).is_none())
        .map(|key| match replacement(key) {
            Some(new) => Change::Replaced(key, new),
            None if stored_keys(after).next().is_none() => Change::LastRemoved(key),
            None => Change::Removed(key),
        });
    added.map(|key| Change::Added(key)).chain(removed).collect()
}

/// Logs which keys were added and removed, and a new key that is not backed up.
pub(crate) fn log_changes(before: &KeyRing, after: &KeyRing) {
    for change in differences(before, after) {
        match change {
            Change::Added(key) => info!(secretname = key.name(), "registered private key"),
            Change::Removed(key) => warn!(secretname = key.name(), "private key removed"),
            Change::Replaced(old, new) => warn!(
                secretname = old.name(),
                before = %old.fingerprint(),
                after = %new.fingerprint(),
                "private key replaced by another one under the same name"
            ),
            Change::LastRemoved(key) => error!(
                secretname = key.name(),
                "the last private key was removed: nothing can be sealed, and the removed keys can unseal only until another key is \
                 stored or the controller restarts; restore the key Secrets from the backup"
            ),
        }
    }
    let name = |ring| key_without_backup(ring).map(|key| key.name().to_owned());
    if let Some(secretname) = name(after).filter(|after| name(before).as_ref() != Some(after)) {
        warn!(secretname, "{NOT_BACKED_UP}");
    }
}

/// Returns the events to send about key Secrets, each with the name of its Secret.
pub(crate) fn events(before: &KeyRing, after: &KeyRing) -> Vec<(String, EventRecord)> {
    let changes = differences(before, after);
    changes.into_iter().filter_map(event).collect()
}

fn event(change: Change<'_>) -> Option<(String, EventRecord)> {
    let (key, reason, message) = match change {
        Change::Added(_) => return None,
        Change::Removed(key) => {
            let message = format!(
                "the key {} was removed: values sealed for it cannot be unsealed; if they are still needed, restore the key Secret \
                 from the backup",
                key.fingerprint()
            );
            (key, Reason::KeyRemoved, message)
        }
        Change::Replaced(old, new) => {
            let (before, after) = (old.fingerprint(), new.fingerprint());
            let message = format!(
                "the key {before} in this Secret was replaced by {after}: values sealed for the old key cannot be unsealed; \
                 restore the old key under another name"
            );
            (old, Reason::KeyReplaced, message)
        }
        Change::LastRemoved(key) => {
            let message = format!(
                "the last key was removed: nothing can be sealed, and the removed keys (including {}) can unseal only until \
                 another key is stored or the controller restarts; restore them from the backup",
                key.fingerprint()
            );
            (key, Reason::LastKeyRemoved, message)
        }
    };
    let event = EventRecord {
        is_warning: true,
        reason,
        message,
    };
    Some((key.name().to_owned(), event))
}

/// Returns the keys of `before` that are not in `after`.
fn missing_keys<'a>(
    before: &'a KeyRing,
    after: &'a KeyRing,
) -> impl Iterator<Item = &'a Arc<RingKey>> {
    let is_missing = |key: &&Arc<RingKey>| after.key(key.fingerprint()).is_none();
    before.keys().iter().filter(is_missing)
}
