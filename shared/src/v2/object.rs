//! Parses the v2 content of `spec.encryptedData`.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::error::{Problem, Refusal};
use super::header::Header;
use super::id::{KeyId, LockId, ShortKeyId};
use super::lock::Lock;
use super::opening_keys::OpeningKeys;
use super::place::Place;
use super::sealed_box::SealedBox;
use super::stanza::Stanza;
use super::suite::Suite;
use super::template::TemplateDigest;
use super::text::{self, Kind, Name};
use crate::scope::Scope;

/// The entries of an object, parsed without a key. Contains only the locks that items refer to; other locks are only
/// checked for their form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub(super) items: BTreeMap<String, Item>,
    pub(super) locks: Vec<Lock>,
    /// Names of the v1 items.
    pub(super) v1_items: BTreeSet<String>,
    /// Names of the entries of all shared locks, including locks that no item refers to.
    pub(super) lock_entries: BTreeSet<String>,
}

/// An item, and the index of its lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) lock: usize,
    pub(super) is_inline: bool,
    pub(super) sealed: SealedBox,
}

/// The public properties of an item, which can be read without a key.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a property of the format"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemView {
    /// The identifier of the item's lock.
    pub lock: LockId,
    /// Whether the item carries its own lock.
    pub is_inline: bool,
    /// The revision: milliseconds since 1970, or higher.
    pub revision: u64,
    /// Whether the item is bound to the template.
    pub is_template_bound: bool,
    /// Whether the value must never become a Secret object.
    pub is_never_secret: bool,
    /// Whether the object must contain only the values of the lock.
    pub is_alone: bool,
    /// Whether classical recipients are forbidden.
    pub is_post_quantum_only: bool,
    /// The scope that the item was sealed for.
    pub scope: Scope,
    /// The maximum length of the value in bytes. Lengths are visible in steps of 32 bytes.
    pub max_len: usize,
    /// The keys of all recipients, each with its suite, or `None` for an unknown suite.
    pub recipients: Vec<(ShortKeyId, Option<Suite>)>,
}

/// Returns whether an object has v2 entries, well-formed or not.
pub fn is_v2(encrypted_data: &BTreeMap<String, String>) -> bool {
    let is_entry =
        |(name, value): (&String, &String)| text::is_lock_name(name) || text::is_v2(value);
    encrypted_data.iter().any(is_entry)
}

/// Returns the entries that are items, well-formed or not. Omits entries of locks.
pub fn items(
    encrypted_data: &BTreeMap<String, String>,
) -> impl Iterator<Item = (&String, &String)> {
    let entries = encrypted_data.iter();
    entries.filter(|(name, _)| !text::is_lock_name(name))
}

/// Returns whether the entry with this name is part of a lock, well-formed or not.
pub fn is_lock_entry(name: &str) -> bool {
    text::is_lock_name(name)
}

/// Returns whether a value is v2, well-formed or not.
pub fn is_v2_value(value: &str) -> bool {
    text::is_v2(value)
}

/// Returns the names of all v1 and v2 items of an object. The entries may be malformed.
pub fn item_names(encrypted_data: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    items(encrypted_data).map(|(name, _)| name.as_str())
}

/// Returns whether an entry is a v1 item, in an object that also has v2 entries.
pub fn is_v1_item(name: &str, value: &str) -> bool {
    !text::is_lock_name(name) && !text::is_v2(value)
}

impl Object {
    /// Parses the entries of an object. Without v2 entries, every entry is a v1 item, whatever its name.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal::Malformed`] for the first entry whose name or value identifies it as v2 but that does not
    /// have a valid form, or for the first item without a complete lock.
    pub fn parse(encrypted_data: &BTreeMap<String, String>) -> Result<Self, Refusal> {
        let mut entries = Entries::default();
        if !is_v2(encrypted_data) {
            entries.v1_items = encrypted_data.keys().cloned().collect();
            return entries.into_object();
        }
        for (name, value) in encrypted_data {
            let malformed = |problem| malformed(name, problem);
            entries.read(name, value).map_err(malformed)?;
        }
        entries.into_object()
    }

    /// Returns whether any item is v2.
    pub fn has_items(&self) -> bool {
        !self.items.is_empty()
    }

    /// Returns the names of the v1 items, which the functions for v1 open.
    pub fn v1_items(&self) -> &BTreeSet<String> {
        &self.v1_items
    }

    /// Returns whether at least one value must never become a Secret object.
    pub fn is_never_secret(&self) -> bool {
        self.locks
            .iter()
            .any(|lock| lock.header.fields.is_never_secret)
    }

    /// Returns whether the object must contain only the values of one lock, so that no item can be set separately.
    pub fn is_alone(&self) -> bool {
        self.locks.iter().any(|lock| lock.header.fields.is_alone)
    }

    /// Returns the public properties of each v2 item.
    pub fn view(&self) -> BTreeMap<&str, ItemView> {
        let items = self.items.iter();
        items
            .map(|(name, item)| (name.as_str(), self.view_of(item)))
            .collect()
    }

    /// Returns, for each item, the key that is expected to open it; `None` if none of `keys` is. A stanza does not
    /// prove that its key opens the item.
    pub fn openers(&self, keys: &OpeningKeys<'_>) -> BTreeMap<&str, Option<KeyId>> {
        let openers = self.locks.iter().map(|lock| lock.opener(keys));
        let openers: Vec<_> = openers.map(|o| o.map(|(_, key)| key.key_id())).collect();
        let items = self.items.iter();
        items
            .map(|(name, item)| (name.as_str(), openers[item.lock]))
            .collect()
    }

    /// Returns whether every v2 item was sealed for this place.
    pub fn is_for(&self, place: &Place) -> bool {
        self.locks
            .iter()
            .all(|lock| lock.header.fields.is_for(place))
    }

    /// Returns whether every v2 item that is bound to a template is bound to this template.
    pub fn fits_template(&self, template: &TemplateDigest) -> bool {
        let bound = self.locks.iter().map(|lock| &lock.header.fields.template);
        bound.flatten().all(|bound| bound == template)
    }

    fn view_of(&self, item: &Item) -> ItemView {
        let lock = &self.locks[item.lock];
        let fields = &lock.header.fields;
        let recipients = lock.stanzas.values().map(|s| (s.key, s.suite()));
        ItemView {
            lock: lock.id(),
            is_inline: item.is_inline,
            revision: fields.revision,
            is_template_bound: fields.template.is_some(),
            is_never_secret: fields.is_never_secret,
            is_alone: fields.is_alone,
            is_post_quantum_only: fields.is_post_quantum_only,
            scope: fields.scope,
            max_len: item.sealed.max_plain_len(),
            recipients: recipients.collect(),
        }
    }

    /// Returns the names of the entries of shared locks that no item refers to.
    pub fn unused_lock_entries(&self) -> BTreeSet<&str> {
        let used = self.locks.iter().map(|lock| text::header_name(lock.id()));
        let used: Vec<String> = used.collect();
        let entries = self.lock_entries.iter().map(String::as_str);
        entries
            .filter(|name| !used.iter().any(|header| name.starts_with(header)))
            .collect()
    }

    fn push(&mut self, lock: Lock) -> usize {
        self.locks.push(lock);
        self.locks.len() - 1
    }

    /// Returns each lock with the name of its first item, for messages.
    pub(super) fn locks_by_item(&self) -> impl Iterator<Item = (&str, &Lock)> {
        let mut names = vec![""; self.locks.len()];
        for (name, item) in self.items.iter().rev() {
            names[item.lock] = name;
        }
        names.into_iter().zip(&self.locks)
    }
}

fn malformed(entry: &str, problem: Problem) -> Refusal {
    let entry = entry.to_owned();
    Refusal::Malformed { entry, problem }
}

/// The entries of an object by kind, before items are matched with locks.
#[derive(Default)]
struct Entries {
    headers: BTreeMap<LockId, Header>,
    stanzas: BTreeMap<LockId, BTreeMap<ShortKeyId, Stanza>>,
    short_items: BTreeMap<String, (LockId, SealedBox)>,
    inline_items: BTreeMap<String, (Lock, SealedBox)>,
    v1_items: BTreeSet<String>,
    lock_names: BTreeSet<String>,
}

impl Entries {
    fn read(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        match text::parse_name(name)? {
            Name::Header(lock) => self.read_header(lock, value)?,
            Name::Stanza(lock, key) => self.read_stanza(lock, key, value)?,
            Name::Item(item) if text::is_v2(value) => return self.read_item(item, value),
            Name::Item(item) => {
                self.v1_items.insert(item.to_owned());
                return Ok(());
            }
        }
        self.lock_names.insert(name.to_owned());
        Ok(())
    }

    fn read_header(&mut self, lock: LockId, value: &str) -> Result<(), Problem> {
        let header = Header::parse(&bytes_of(Kind::Header, value)?)?;
        if header.lock_id() != lock {
            return Err(Problem::Mismatch);
        }
        self.headers.insert(lock, header);
        Ok(())
    }

    fn read_stanza(&mut self, lock: LockId, key: ShortKeyId, value: &str) -> Result<(), Problem> {
        let stanza = Stanza::parse(&bytes_of(Kind::Stanza, value)?)?;
        if stanza.key != key {
            return Err(Problem::Mismatch);
        }
        self.stanzas.entry(lock).or_default().insert(key, stanza);
        Ok(())
    }

    fn read_item(&mut self, item: &str, value: &str) -> Result<(), Problem> {
        match text::decode(value)? {
            (Kind::Short, bytes) => {
                let (lock, sealed) = bytes.split_first_chunk().ok_or(Problem::Length)?;
                let short = (LockId(*lock), SealedBox::parse(sealed)?);
                self.short_items.insert(item.to_owned(), short);
            }
            (Kind::Inline, bytes) => {
                let (lock, sealed) = Lock::split_inline(&bytes)?;
                let inline = (lock, SealedBox::parse(sealed)?);
                self.inline_items.insert(item.to_owned(), inline);
            }
            (Kind::Header | Kind::Stanza, _) => return Err(Problem::Kind),
        }
        Ok(())
    }

    fn into_object(mut self) -> Result<Object, Refusal> {
        let mut object = Object {
            items: BTreeMap::new(),
            locks: Vec::new(),
            v1_items: std::mem::take(&mut self.v1_items),
            lock_entries: std::mem::take(&mut self.lock_names),
        };
        self.move_short_items(&mut object)?;
        for (name, (lock, sealed)) in self.inline_items {
            let (lock, is_inline) = (object.push(lock), true);
            let item = Item {
                lock,
                is_inline,
                sealed,
            };
            object.items.insert(name, item);
        }
        Ok(object)
    }

    /// Adds the items of shared locks to the object, and the locks that they refer to.
    fn move_short_items(&mut self, object: &mut Object) -> Result<(), Refusal> {
        let mut indexes = BTreeMap::new();
        for (name, (id, sealed)) in std::mem::take(&mut self.short_items) {
            if let Entry::Vacant(index) = indexes.entry(id) {
                let lock = self.take_lock(id).map_err(|why| malformed(&name, why))?;
                index.insert(object.push(lock));
            }
            let (lock, is_inline) = (indexes[&id], false);
            let item = Item {
                lock,
                is_inline,
                sealed,
            };
            object.items.insert(name, item);
        }
        Ok(())
    }

    fn take_lock(&mut self, id: LockId) -> Result<Lock, Problem> {
        let header = self.headers.remove(&id).ok_or(Problem::NoHeader)?;
        let stanzas = self.stanzas.remove(&id).unwrap_or_default();
        Lock::new(header, stanzas)
    }
}

fn bytes_of(kind: Kind, value: &str) -> Result<Vec<u8>, Problem> {
    match text::decode(value)? {
        (actual, bytes) if actual == kind => Ok(bytes),
        _ => Err(Problem::Kind),
    }
}
