//! Keys that come and go while the controller runs: what is reported, and what becomes of the last one.
//!
//! When the last key is removed, by mistake most likely, the removed keys stay in memory and open until another one comes.
//! A command that deletes several Secrets deletes them one after the other, so keys that went shortly before the last
//! one belong to the same mistake.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use shared::key_ring::{KeyRing, RingKey};
use tracing::{error, info, warn};

use crate::key_store::{WAITING, waiting};
use crate::store::News;

/// Keys that are removed within this time are removed together.
const TOGETHER: SignedDuration = SignedDuration::from_mins(1);

/// Keys that were removed lately.
#[derive(Debug, Default)]
pub(crate) struct RemovedKeys {
    lately: Vec<(Timestamp, Arc<RingKey>)>,
}

impl RemovedKeys {
    /// The ring that follows `before` when these keys are stored: theirs, or if there are none, that of the keys
    /// removed just now.
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
        let gone = gone(before, &stored).map(|key| (now, Arc::clone(key)));
        self.lately.extend(gone);
        self.expire(now);
        if stored.is_empty() && !self.lately.is_empty() {
            let keys = std::mem::take(&mut self.lately);
            return KeyRing::new(keys.into_iter().map(|(_, key)| key)).removed();
        }
        stored
    }

    /// Forgets the keys that were not removed together with what may be removed now.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        // A clock that was set back keeps nothing.
        let age = |removed: Timestamp| now.duration_since(removed);
        self.lately
            .retain(|(removed, _)| !age(*removed).is_negative() && age(*removed) < TOGETHER);
    }
}

/// One thing that happened to a key.
#[derive(Debug, Clone, Copy)]
enum Change<'a> {
    Added(&'a RingKey),
    Removed(&'a RingKey),
    /// The first was replaced by the second under the same name.
    Replaced(&'a RingKey, &'a RingKey),
    LastRemoved(&'a RingKey),
}

/// What differs between two rings of one place.
fn changes<'a>(before: &'a KeyRing, after: &'a KeyRing) -> Vec<Change<'a>> {
    let stored = |ring: &'a KeyRing| ring.keys().iter().filter(move |_| !ring.is_removed());
    let added = gone(after, before).filter(|_| !after.is_removed());
    let replaced = |key: &RingKey| stored(after).find(|other| other.name() == key.name());
    let removed = stored(before)
        .filter(|key| after.is_removed() || after.key(key.fingerprint()).is_none())
        .map(|key| match replaced(key) {
            Some(other) => Change::Replaced(key, other),
            None if stored(after).next().is_none() => Change::LastRemoved(key),
            None => Change::Removed(key),
        });
    added.map(|key| Change::Added(key)).chain(removed).collect()
}

/// Logs which keys came and went.
pub(crate) fn log(before: &KeyRing, after: &KeyRing) {
    for change in changes(before, after) {
        match change {
            Change::Added(key) => info!(secretname = key.name(), "registered private key"),
            Change::Removed(key) => warn!(secretname = key.name(), "private key taken out"),
            Change::Replaced(old, new) => warn!(
                secretname = old.name(),
                before = %old.fingerprint(),
                after = %new.fingerprint(),
                "private key replaced by another one under the same name"
            ),
            Change::LastRemoved(key) => error!(
                secretname = key.name(),
                "the last private key was removed: nothing can be sealed. Removed keys open until another one comes or the \
                 controller restarts; restore the key Secrets from the backup"
            ),
        }
    }
    let name = |ring| waiting(ring).map(|key| key.name().to_owned());
    if let Some(secretname) = name(after).filter(|after| name(before).as_ref() != Some(after)) {
        warn!(secretname, "{WAITING}");
    }
}

/// What those who watch the key Secrets are told: the name of a Secret and the news about it.
pub(crate) fn news(before: &KeyRing, after: &KeyRing) -> Vec<(String, News)> {
    let changes = changes(before, after);
    changes.into_iter().filter_map(news_of).collect()
}

fn news_of(change: Change<'_>) -> Option<(String, News)> {
    let (key, reason, message) = match change {
        Change::Added(_) => return None,
        Change::Removed(key) => {
            let message = format!(
                "the key {} is not in use any more: what is sealed for it does not open",
                key.fingerprint()
            );
            (key, "KeyRemoved", message)
        }
        Change::Replaced(old, new) => {
            let (before, after) = (old.fingerprint(), new.fingerprint());
            let message = format!(
                "this Secret held the key {before} and holds {after} now: what is sealed for the former does not open; \
                 restore it under another name"
            );
            (old, "KeyReplaced", message)
        }
        Change::LastRemoved(key) => {
            let message = format!(
                "no key is left: nothing can be sealed, and the removed keys ({} was the last) open only until another one \
                 comes or the controller restarts; restore them from the backup",
                key.fingerprint()
            );
            (key, "LastKeyRemoved", message)
        }
    };
    let news = News {
        is_warning: true,
        reason,
        message,
    };
    Some((key.name().to_owned(), news))
}

/// The keys of `before` that are not in `after`.
fn gone<'a>(before: &'a KeyRing, after: &'a KeyRing) -> impl Iterator<Item = &'a Arc<RingKey>> {
    let is_gone = |key: &&Arc<RingKey>| after.key(key.fingerprint()).is_none();
    before.keys().iter().filter(is_gone)
}
