//! Reports keys that are added and removed while the controller is running, and keeps the keys of a suite in memory if
//! the last key of the suite is removed.
//!
//! If the last key is removed, which is probably a mistake, the removed keys stay in memory and unseal until another
//! key of the suite is stored. A command that deletes several Secrets deletes them one by one, so keys that were
//! removed shortly before the last key are kept too.

use controller_core::reason::Reason;
use jiff::{SignedDuration, Timestamp};
use shared::key_ring::{AnyKey, KeyRing};
use shared::v2::Suite;
use tracing::{error, info, warn};

use crate::key_store::{NOT_BACKED_UP, new_keys_without_backup};
use crate::store::EventRecord;

/// How long a removed key is kept, in case the last key of its suite is removed too.
const RETENTION: SignedDuration = SignedDuration::from_mins(1);

/// Keys that were removed recently.
#[derive(Debug, Default)]
pub(crate) struct RemovedKeys {
    recent: Vec<(Timestamp, AnyKey)>,
}

impl RemovedKeys {
    /// Returns the key ring that follows `before`: the stored keys and, of each suite without a stored key, the
    /// keys that were removed recently or are already kept.
    pub(crate) fn next_ring(
        &mut self,
        before: &KeyRing,
        stored: KeyRing,
        now: Timestamp,
    ) -> KeyRing {
        let removed = before.stored_keys().filter(|key| !stored.contains(key));
        self.recent.extend(removed.map(|key| (now, key)));
        self.expire(now);
        let is_missing = |suite| stored.all_keys().all(|key| key.suite() != suite);
        let kept = before
            .all_keys()
            .filter(|key| before.is_removed(key.suite()) && is_missing(key.suite()));
        let mut kept: Vec<AnyKey> = kept.collect();
        let newly_kept = self
            .recent
            .extract_if(.., |(_, key)| is_missing(key.suite()));
        kept.extend(newly_kept.map(|(_, key)| key));
        stored.with_removed(kept)
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
#[derive(Debug, Clone)]
enum Change {
    Added(AnyKey),
    Removed(AnyKey),
    /// The first key was replaced with the second key under the same name.
    Replaced(AnyKey, AnyKey),
    /// The last key of its suite was removed.
    LastRemoved(AnyKey),
}

/// Returns the differences between two versions of a key ring.
fn differences(before: &KeyRing, after: &KeyRing) -> Vec<Change> {
    let after_stored: Vec<AnyKey> = after.stored_keys().collect();
    let is_stored = |key: &AnyKey| after_stored.iter().any(|k| k.key_id() == key.key_id());
    let added = after_stored.iter().filter(|key| !before.contains(key));
    let replacement = |key: &AnyKey| {
        let is_rsa = |key: &AnyKey| key.suite() == Suite::Rsa;
        let mut same_name = after_stored.iter().filter(|new| new.name() == key.name());
        same_name.find(|new| is_rsa(new) == is_rsa(key)).cloned()
    };
    let is_last = |key: &AnyKey| after_stored.iter().all(|k| k.suite() != key.suite());
    let removed = before.stored_keys().filter(|key| !is_stored(key));
    let removed = removed.map(|key| match replacement(&key) {
        Some(new) => Change::Replaced(key, new),
        None if is_last(&key) => Change::LastRemoved(key),
        None => Change::Removed(key),
    });
    added.cloned().map(Change::Added).chain(removed).collect()
}

/// Logs which keys were added, removed and replaced, and new keys that must be backed up before they seal.
pub(crate) fn log_changes(before: &KeyRing, after: &KeyRing) {
    for change in differences(before, after) {
        match change {
            Change::Added(key) => info!(secretname = key.name(), "registered private key"),
            Change::Removed(key) => warn!(secretname = key.name(), "private key removed"),
            Change::Replaced(old, new) => warn!(
                secretname = old.name(),
                before = old.id_text(),
                after = new.id_text(),
                "private key replaced with another key under the same name"
            ),
            Change::LastRemoved(key) => error!(
                secretname = key.name(),
                "the last private key{} was removed: values can no longer be sealed for it, and the removed keys can \
                 unseal only until another key is stored or the controller restarts; restore the key Secrets from the \
                 backup",
                suite_phrase(key.suite())
            ),
        }
    }
    for key in new_keys_without_backup(before, after) {
        warn!(secretname = key.name(), "{NOT_BACKED_UP}");
    }
}

/// Returns the phrase that names the suite of a v2 key in a message; empty for RSA.
fn suite_phrase(suite: Suite) -> String {
    match suite {
        Suite::Rsa => String::new(),
        suite => format!(" of the suite {suite}"),
    }
}

/// Returns the events to send about key Secrets, each with the name of its Secret.
pub(crate) fn events(before: &KeyRing, after: &KeyRing) -> Vec<(String, EventRecord)> {
    let changes = differences(before, after);
    changes.into_iter().filter_map(event).collect()
}

fn event(change: Change) -> Option<(String, EventRecord)> {
    let (key, reason, message) = match change {
        Change::Added(_) => return None,
        Change::Removed(key) => {
            let message = format!(
                "the key {} was removed: values sealed for it cannot be unsealed; if they are still needed, restore the key Secret \
                 from the backup",
                key.id_text()
            );
            (key, Reason::KeyRemoved, message)
        }
        Change::Replaced(old, new) => {
            let (before, after) = (old.id_text(), new.id_text());
            let message = format!(
                "the key {before} in this Secret was replaced with {after}: values sealed for the old key cannot be unsealed; \
                 restore the old key under another name"
            );
            (old, Reason::KeyReplaced, message)
        }
        Change::LastRemoved(key) => {
            let message = format!(
                "the last key{} was removed: values can no longer be sealed for it, and the removed keys (including \
                 {}) can unseal only until another key is stored or the controller restarts; restore them from the \
                 backup",
                suite_phrase(key.suite()),
                key.id_text()
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
