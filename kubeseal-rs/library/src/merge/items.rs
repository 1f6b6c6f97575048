//! Decides which items the merged object has, from the values alone.

use std::collections::{BTreeMap, BTreeSet};

use shared::hints::{self, Hints};
use shared::resource::SealedSecret;
use shared::sealed_file::Found;
use shared::v2;

use super::side::SameObject;

/// The entries of `spec.encryptedData`.
type Texts = BTreeMap<String, String>;

/// The items of a merged object.
pub(super) struct MergedItems {
    /// The entries, without those in conflict.
    pub(super) texts: Texts,
    /// The key hints.
    pub(super) hints: Hints,
    /// Why the entries cannot be combined although no entry is in conflict.
    pub(super) refusal: Option<String>,
}

/// Returns the value of the version that changed, or the common value if both versions agree. Returns `None` for a
/// conflict.
pub(super) fn pick<T: PartialEq>(base: T, ours: T, theirs: T) -> Option<T> {
    if ours == theirs || base == theirs {
        Some(ours)
    } else if base == ours {
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
        match pick(base.get(key), ours.get(key), theirs.get(key)) {
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
        hints: merge_hints(object, &texts, &conflicts),
        texts,
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

/// Returns the hints of the version that each item comes from. An item in conflict keeps its hint only if both versions
/// have it: no hint is better than a wrong one.
fn merge_hints(object: &SameObject<'_>, texts: &Texts, conflicts: &BTreeSet<String>) -> Hints {
    let read = |sealed: &SealedSecret| hints::read(sealed.metadata.annotations.as_ref());
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
    let hint = |key: &String| {
        let (our_hint, their_hint) = (ours.get(key), theirs.get(key));
        match (is_text_of(object.ours, key), is_text_of(object.theirs, key)) {
            (true, false) => our_hint,
            (false, true) => their_hint,
            _ if conflicts.contains(key) => our_hint.filter(|hint| Some(*hint) == their_hint),
            _ => pick(base.get(key), our_hint, their_hint).flatten(),
        }
    };
    let keys = keys(&ours, &theirs).into_iter();
    keys.filter_map(|key| Some((key.clone(), hint(key)?.clone())))
        .collect()
}
