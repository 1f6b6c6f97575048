//! Key Secrets of keys that are only for v2. Their label differs from that of RSA keys.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use shared::error_chain;
use shared::key_marks::{KeyState, Marks};
use shared::key_ring::{KeyRing, RingV2Key};
use shared::resource::SealedSecret;
use shared::secret::Secret;
use shared::v2::{self, ItemView, KeyId, Object, Refusal, ShortKeyId, Suite, key_secret};

use super::survey::{Dependent, Holder};

/// A key Secret of v2. **It contains the private key.**
pub struct V2KeyRecord {
    /// The Secret as it is stored.
    pub secret: Secret,
    /// The key, or why the Secret contains no usable key.
    pub key: Result<Arc<RingV2Key>, String>,
    /// Whether the key is backed up, compromised or opening-only; no marks if the key cannot be parsed.
    pub marks: Marks,
    /// Whether the controller loads the key.
    pub is_active: bool,
    /// The file that contains the Secret; `None` in a cluster or an archive.
    pub file: Option<PathBuf>,
}

/// Returns whether a Secret has the item for a v2 key, well formed or not.
pub fn is_v2(secret: &Secret) -> bool {
    secret.data.contains_key(key_secret::PRIVATE_KEY_ITEM)
}

impl V2KeyRecord {
    /// Parses the key of a Secret.
    pub fn new(secret: Secret, file: Option<PathBuf>) -> Self {
        let name = secret.metadata.name.clone().unwrap_or_default();
        let key = key_secret::parse(&secret).map(|stored| {
            let order_time = stored.not_before;
            let key = RingV2Key::new(name, order_time, stored);
            let marks = Marks::read_v2(&secret.metadata, &key.key_id());
            Arc::new(key.with_marks(marks))
        });
        let key = key.map_err(|error| error_chain(&error));
        let marks = key.as_ref().map(|key| key.marks()).unwrap_or_default();
        Self {
            is_active: key_secret::is_active(&secret.metadata),
            marks,
            key,
            secret,
            file,
        }
    }

    /// Returns the name of the Secret.
    pub fn name(&self) -> &str {
        self.secret.metadata.name.as_deref().unwrap_or_default()
    }

    /// Returns the identifier of the key, if the key can be parsed.
    pub fn key_id(&self) -> Option<KeyId> {
        Some(self.key.as_ref().ok()?.key_id())
    }

    /// Returns the suite of the key, if the key can be parsed.
    pub fn suite(&self) -> Option<Suite> {
        Some(self.key.as_ref().ok()?.suite())
    }

    /// Returns the time from which the key may seal, if the key can be parsed.
    pub fn not_before(&self) -> Option<Timestamp> {
        Some(self.key.as_ref().ok()?.validity().0)
    }

    /// Returns whether an argument names this key: by its Secret, or by its full or short identifier.
    pub fn is_named(&self, arg: &str) -> bool {
        let id = self.key_id();
        let is_id = |id: KeyId| id.to_string() == arg || id.short().to_string() == arg;
        self.name() == arg || id.is_some_and(is_id)
    }

    /// Returns whether the key is loaded, usable, and not marked against sealing.
    pub fn can_seal(&self) -> bool {
        self.is_active && self.key.is_ok() && !self.marks.is_sealing_forbidden()
    }
}

/// Returns the state of each key. `preferred` is the key that the controller prefers, of any suite. If the preferred
/// key is unknown, the newest key of each suite that may seal and the newest such key with a backup count as sealing
/// keys, because only the controller knows whether it seals only with backed-up keys.
pub fn states(records: &[V2KeyRecord], preferred: Option<KeyId>) -> Vec<KeyState> {
    records
        .iter()
        .map(|record| state(record, records, preferred))
        .collect()
}

fn state(record: &V2KeyRecord, all: &[V2KeyRecord], preferred: Option<KeyId>) -> KeyState {
    if record.key.is_err() {
        KeyState::Broken
    } else if !record.is_active {
        KeyState::Retired
    } else if record.marks.is_compromised {
        KeyState::Compromised
    } else if !record.can_seal() {
        KeyState::Opening
    } else if let Some(preferred) = preferred {
        state_beside(record, all, preferred)
    } else if is_newest(record, all, |_| true)
        || is_newest(record, all, |key| key.marks.backed_up.is_some())
    {
        KeyState::Sealing
    } else {
        KeyState::Opening
    }
}

/// Returns the state of a key that may seal, given the key that the controller prefers.
fn state_beside(record: &V2KeyRecord, all: &[V2KeyRecord], preferred: KeyId) -> KeyState {
    let id = record.key_id();
    if id == Some(preferred) {
        return KeyState::Sealing;
    }
    let mut same_suite = all.iter().filter(|other| other.suite() == record.suite());
    let preferred = same_suite.find(|other| other.key_id() == Some(preferred));
    let is_newer = preferred.is_some_and(|other| record.not_before() > other.not_before());
    if is_newer && record.marks.backed_up.is_none() {
        KeyState::Waiting
    } else {
        KeyState::Opening
    }
}

/// Returns whether a key is the newest one of its suite that may seal, among these candidates.
fn is_newest(
    record: &V2KeyRecord,
    all: &[V2KeyRecord],
    is_candidate: fn(&V2KeyRecord) -> bool,
) -> bool {
    let keys = all.iter().filter(|other| other.suite() == record.suite());
    let keys = keys.filter(|other| other.can_seal() && is_candidate(other));
    let newest = keys.max_by_key(|key| key.not_before());
    newest.is_some_and(|newest| newest.key_id() == record.key_id())
}

/// Returns a key ring with these keys added, including retired keys. Use the ring for unsealing only, not for sealing.
pub fn add_to_ring<'a>(
    ring: KeyRing,
    records: impl IntoIterator<Item = &'a V2KeyRecord>,
) -> KeyRing {
    let keys = records
        .into_iter()
        .filter_map(|record| record.key.as_ref().ok());
    ring.with_v2_keys(keys.cloned())
}

/// Returns the items that are sealed for a key, even if they have other recipients or a controller refuses the object.
/// No key is needed. In an object with a malformed entry, each item without its own lock counts if the name of a lock
/// entry ends with the identifier of the key, because the item may belong to that lock.
pub fn items_for(sealed: &SealedSecret, key: ShortKeyId) -> BTreeSet<String> {
    let mut entries = sealed.spec.encrypted_data.clone();
    let object = loop {
        match Object::parse(&entries) {
            Ok(object) => break object,
            Err(Refusal::Malformed { entry, .. }) if entries.remove(&entry).is_some() => {}
            Err(_) => return BTreeSet::new(),
        }
    };
    let view = object.view().into_iter();
    let is_for = |item: &ItemView| item.recipients.iter().any(|(id, _)| *id == key);
    let items = view.filter(|(_, item)| is_for(item));
    let items: BTreeSet<String> = items.map(|(name, _)| name.to_owned()).collect();
    if entries.len() == sealed.spec.encrypted_data.len() {
        return items;
    }
    items
        .into_iter()
        .chain(items_by_name(sealed, key))
        .collect()
}

/// Returns the v2 items of an object that do not carry their own lock, if the name of a lock entry ends with the
/// identifier of the key.
fn items_by_name(sealed: &SealedSecret, key: ShortKeyId) -> Vec<String> {
    let entries = &sealed.spec.encrypted_data;
    let end = format!("/{key}");
    let is_for_key = |name: &String| v2::is_lock_entry(name) && name.ends_with(&end);
    if !entries.keys().any(is_for_key) {
        return Vec::new();
    }
    let items = v2::items(entries).filter(|(_, text)| v2::is_v2_value(text));
    let items = items.filter(|(_, text)| !text.starts_with(INLINE));
    items.map(|(name, _)| name.clone()).collect()
}

/// Returns the first malformed item that carries its own lock. The keys of such an item are unknown.
pub fn unreadable_item(sealed: &SealedSecret) -> Option<&String> {
    let items = v2::items(&sealed.spec.encrypted_data);
    let is_malformed = |(name, text): &(&String, &String)| {
        let alone = BTreeMap::from([((*name).clone(), (*text).clone())]);
        text.starts_with(INLINE) && Object::parse(&alone).is_err()
    };
    let mut malformed = items.filter(is_malformed);
    malformed.next().map(|(name, _)| name)
}

/// The prefix of an item that carries its own lock.
const INLINE: &str = "seal2.i.";

/// Returns every item that is sealed for a key, with its location.
pub fn exposed_items(holders: &[Holder], key: ShortKeyId) -> Vec<Dependent> {
    let items = holders.iter().flat_map(|holder| {
        let items = items_for(&holder.sealed, key).into_iter();
        items.map(|item| Dependent {
            origin: holder.origin.clone(),
            item,
            is_sure: true,
        })
    });
    items.collect()
}

#[cfg(test)]
mod tests {
    use shared::key_marks;
    use shared::resource::{BACKED_UP_ANNOTATION, V2_KEY_LABEL};
    use shared::v2::SecretKey;
    use shared::v2::key_secret::StoredKey;

    use super::*;

    fn record(suite: Suite, byte: u8, label: &str) -> V2KeyRecord {
        let start = Timestamp::from_second(i64::from(byte)).unwrap();
        let stored = StoredKey {
            key: SecretKey::from_bytes(suite, &[byte; 32]).unwrap(),
            not_before: start,
            not_after: Timestamp::MAX,
        };
        let name = format!("key-{byte}");
        let mut secret = key_secret::build(&name, "ops", &stored, [].into(), [].into());
        let labels = secret.metadata.labels.get_or_insert_default();
        labels.insert(V2_KEY_LABEL.to_owned(), label.to_owned());
        V2KeyRecord::new(secret, None)
    }

    #[test]
    fn the_newest_key_of_each_suite_seals() {
        let mut broken = record(Suite::XWing, 9, "active").secret;
        broken.data.remove("not-before");
        let records = [
            record(Suite::XWing, 1, "active"),
            record(Suite::XWing, 2, "active"),
            record(Suite::P256, 3, "active"),
            record(Suite::P256, 4, "retired"),
            record(Suite::XWing, 5, "compromised"),
            V2KeyRecord::new(broken, None),
        ];
        let names = |preferred| {
            let states = states(&records, preferred).into_iter();
            states.map(KeyState::name).collect::<Vec<_>>()
        };
        let want = [
            "opening", "sealing", "sealing", "retired", "retired", "broken",
        ];
        assert_eq!(names(None), want);
        let id = |index: usize| records[index].key_id();
        let want = [
            "sealing", "waiting", "opening", "retired", "retired", "broken",
        ];
        assert_eq!(names(id(0)), want);
        let want = [
            "opening", "opening", "sealing", "retired", "retired", "broken",
        ];
        assert_eq!(names(id(2)), want);
        assert_eq!(add_to_ring(KeyRing::default(), &records).v2_keys().len(), 5);
    }

    /// Fault: with --require-backup, the controller seals for an older key while the newest key has no backup. The
    /// older key is retired, and values that are being sealed for it are lost.
    #[test]
    fn the_newest_key_with_a_backup_may_be_the_sealing_key() {
        let mut backed_up = record(Suite::XWing, 2, "active").secret;
        let id = record(Suite::XWing, 2, "active").key_id().unwrap();
        let mark = key_marks::backed_up_text(&id, Timestamp::UNIX_EPOCH);
        let annotations = backed_up.metadata.annotations.get_or_insert_default();
        annotations.insert(BACKED_UP_ANNOTATION.to_owned(), mark);
        let records = [
            record(Suite::XWing, 1, "active"),
            V2KeyRecord::new(backed_up, None),
            record(Suite::XWing, 3, "active"),
        ];
        let states = states(&records, None).into_iter();
        let names: Vec<_> = states.map(KeyState::name).collect();
        assert_eq!(names, ["opening", "sealing", "sealing"]);
    }

    #[test]
    fn an_argument_names_a_key_by_secret_or_identifier() {
        let record = record(Suite::XWing, 1, "active");
        let id = record.key_id().unwrap();
        for arg in ["key-1", &id.to_string(), &id.short().to_string()] {
            assert!(record.is_named(arg), "{arg}");
        }
        assert!(!record.is_named("key"));
        assert!(is_v2(&record.secret));
    }
}
