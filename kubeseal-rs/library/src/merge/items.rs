//! Decides which items the merged object has, from the values alone.

use std::collections::{BTreeMap, BTreeSet};

use shared::hints::{self, Hints};
use shared::key::Fingerprint;
use shared::manifest::edit::Edit;
use shared::resource::{KEY_HINTS_ANNOTATION, ROTATE_BY_ANNOTATION, SealedSecret};
use shared::rotate_by::{self, Dates, Due};
use shared::sealed_file::Found;
use shared::v2;

use super::side::SameObject;

/// The entries of `spec.encryptedData`.
type Texts = BTreeMap<String, String>;

/// The items of a merged object.
pub(super) struct MergedItems {
    /// The entries, without those in conflict.
    pub(super) texts: Texts,
    /// The keys of the entries in conflict.
    pub(super) conflicts: BTreeSet<String>,
    /// The key hints.
    pub(super) hints: Hints,
    /// The rotate-by dates.
    pub(super) dates: Dates,
    /// Why the entries cannot be combined although no entry is in conflict.
    pub(super) refusal: Option<String>,
}

/// Returns the value of the version that changed, or the common value if both versions agree. Returns `None` for a
/// conflict.
pub(super) fn pick<T: PartialEq>(base: &T, ours: T, theirs: T) -> Option<T> {
    if ours == theirs || *base == theirs {
        Some(ours)
    } else if *base == ours {
        Some(theirs)
    } else {
        None
    }
}

/// Merges the items of an object.
pub(super) fn merge(object: &SameObject<'_>) -> MergedItems {
    let none = Texts::new();
    let entries = |found: &'_ Found| found.sealed.spec.encrypted_data.clone();
    let base = object.base.map_or(none, entries);
    let (ours, theirs) = (entries(object.ours), entries(object.theirs));
    let (mut texts, mut conflicts) = (Texts::new(), BTreeSet::new());
    for key in keys(&ours, &theirs) {
        match pick(&base.get(key), ours.get(key), theirs.get(key)) {
            Some(Some(text)) => drop(texts.insert(key.clone(), text.clone())),
            Some(None) => {}
            None => drop(conflicts.insert(key.clone())),
        }
    }
    let mut refusal = changed_lock(&base, &ours, &theirs);
    if refusal.is_none() && conflicts.is_empty() {
        refusal = remove_unused_locks(&mut texts, &ours, &theirs);
    }
    MergedItems {
        hints: merge_entries(object, &texts, &conflicts, read_hints, equal_hint),
        dates: merge_entries(object, &texts, &conflicts, read_dates, earlier_date),
        texts,
        conflicts,
        refusal,
    }
}

fn keys<'a, V>(
    ours: &'a BTreeMap<String, V>,
    theirs: &'a BTreeMap<String, V>,
) -> BTreeSet<&'a String> {
    ours.keys().chain(theirs.keys()).collect()
}

/// The beginning of the names of lock entries.
const LOCK: &str = "/lock/";

/// Returns a refusal if one version sealed the items of a lock again, and the other changed the recipients of this
/// lock: the change would be lost. For example, a key that one version adds could not open the values.
fn changed_lock(base: &Texts, ours: &Texts, theirs: &Texts) -> Option<String> {
    let is_header = |name: &&String| {
        name.strip_prefix(LOCK)
            .is_some_and(|lock| !lock.contains('/'))
    };
    let changes_recipients = |side: &Texts, header: &str| {
        let prefix = format!("{header}/");
        let recipients = |texts: &Texts| -> Vec<String> {
            let names = texts.range(prefix.clone()..).map(|(name, _)| name);
            let names = names.take_while(|name| name.starts_with(&prefix));
            names.cloned().collect()
        };
        side.contains_key(header) && recipients(side) != recipients(base)
    };
    let mut headers = base.keys().filter(is_header);
    headers.find_map(|header| {
        let is_lost = |removed: &Texts, kept: &Texts| {
            !removed.contains_key(header) && changes_recipients(kept, header)
        };
        (is_lost(ours, theirs) || is_lost(theirs, ours)).then(|| {
            "one version sealed v2 values again, and the other changed the recipients of the former values".to_owned()
        })
    })
}

/// Removes locks that only removed items used. If the remaining entries are malformed, although the entries of both
/// versions are well formed, returns the reason.
fn remove_unused_locks(texts: &mut Texts, ours: &Texts, theirs: &Texts) -> Option<String> {
    let (Ok(our_object), Ok(their_object)) = (v2::Object::parse(ours), v2::Object::parse(theirs))
    else {
        return None;
    };
    let merged = match v2::Object::parse(texts) {
        Ok(merged) => merged,
        Err(refusal) => return Some(uncombinable(&refusal)),
    };
    let unused = merged.unused_lock_entries();
    let kept = [our_object, their_object].map(|object| -> BTreeSet<String> {
        let unused = object.unused_lock_entries();
        unused.into_iter().map(str::to_owned).collect()
    });
    let is_new = |name: &&str| !kept.iter().any(|kept| kept.contains(*name));
    let unused: Vec<String> = unused
        .into_iter()
        .filter(is_new)
        .map(str::to_owned)
        .collect();
    for name in unused {
        texts.remove(&name);
    }
    None
}

pub(super) fn uncombinable(refusal: &v2::Refusal) -> String {
    format!("the v2 values of the two versions cannot be combined without a key: {refusal}")
}

fn read_hints(sealed: &SealedSecret) -> Hints {
    hints::read(sealed.metadata.annotations.as_ref())
}

fn read_dates(sealed: &SealedSecret) -> Dates {
    rotate_by::read(sealed.metadata.annotations.as_ref()).dates
}

/// Returns the hint of an item in conflict: no hint is better than a wrong one.
fn equal_hint(ours: Option<&Fingerprint>, theirs: Option<&Fingerprint>) -> Option<Fingerprint> {
    ours.filter(|_| ours == theirs).cloned()
}

/// Returns the date of an item in conflict: an early reminder is better than none.
fn earlier_date(ours: Option<&Due>, theirs: Option<&Due>) -> Option<Due> {
    ours.into_iter().chain(theirs).min().copied()
}

/// Merges the entries of an annotation with an entry for each item. Returns the entries of the version that each item
/// comes from. If the item or its entry is in conflict, `resolve` determines the entry from those of our and their
/// version.
fn merge_entries<T: Clone + PartialEq>(
    object: &SameObject<'_>,
    texts: &Texts,
    conflicts: &BTreeSet<String>,
    read: fn(&SealedSecret) -> BTreeMap<String, T>,
    resolve: fn(Option<&T>, Option<&T>) -> Option<T>,
) -> BTreeMap<String, T> {
    let base = object
        .base
        .map(|base| read(&base.sealed))
        .unwrap_or_default();
    let (ours, theirs) = (read(&object.ours.sealed), read(&object.theirs.sealed));
    let is_text_of = |found: &Found, key: &String| {
        let entries = &found.sealed.spec.encrypted_data;
        texts
            .get(key)
            .is_some_and(|text| entries.get(key) == Some(text))
    };
    let entry = |key: &String| {
        let (our_entry, their_entry) = (ours.get(key), theirs.get(key));
        match (is_text_of(object.ours, key), is_text_of(object.theirs, key)) {
            (true, false) => our_entry.cloned(),
            (false, true) => their_entry.cloned(),
            _ if conflicts.contains(key) => resolve(our_entry, their_entry),
            _ => match pick(&base.get(key), our_entry, their_entry) {
                Some(entry) => entry.cloned(),
                None => resolve(our_entry, their_entry),
            },
        }
    };
    let keys = keys(&ours, &theirs).into_iter();
    keys.filter_map(|key| Some((key.clone(), entry(key)?)))
        .collect()
}

/// An annotation with an entry for each item, which is merged with the items.
#[derive(Debug, Clone, Copy)]
pub(super) enum ItemAnnotation {
    Hints,
    Dates,
}

impl ItemAnnotation {
    pub(super) const ALL: [Self; 2] = [Self::Hints, Self::Dates];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hints => KEY_HINTS_ANNOTATION,
            Self::Dates => ROTATE_BY_ANNOTATION,
        }
    }

    /// Returns whether `seal` writes the annotation like this.
    pub(super) fn is_canonical(self, text: &str) -> bool {
        match self {
            Self::Hints => hints::to_text(&hints::parse(text)) == text,
            Self::Dates => {
                let parsed = rotate_by::parse(text);
                parsed.ignored.is_empty() && parsed.to_text() == text
            }
        }
    }

    pub(super) fn is_empty(self, items: &MergedItems) -> bool {
        match self {
            Self::Hints => items.hints.is_empty(),
            Self::Dates => items.dates.is_empty(),
        }
    }

    /// Returns the edit of a version that sets the merged entries; `None` if the version has exactly these entries.
    pub(super) fn edit(self, found: &Found, items: &MergedItems) -> Option<Edit> {
        match self {
            Self::Hints => found.set_hints(&items.hints),
            Self::Dates => found.set_dates(&items.dates),
        }
    }
}
