//! Re-encryption: seals all items of an object again, under one lock.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rand::CryptoRng;

use super::check::Checked;
use super::edit::{Edit, EditError};
use super::header::Fields;
use super::lock::Lock;
use super::open::open;
use super::opening_keys::{OpenedLocks, OpeningKeys};
use super::place::Place;
use super::seal::{LockSpec, next_revision, seal};
use super::suite::Recipient;
use super::value::Value;
use crate::meter::Meter;

/// Whether the new lock gets a property.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Flag {
    /// The new lock has the property if any old lock has it. The template binding is inherited only if all or none of
    /// the old locks have it; otherwise, values that were sealed unbound would be bound to a template that anyone who
    /// can edit the object could choose.
    #[default]
    Inherit,
    /// The new lock has the property.
    Set,
    /// The new lock does not have the property. This gives up protection of existing values: only a user who may read
    /// the values may choose this, never a service on behalf of a user.
    Clear,
}

/// The parameters of a fold. Place and scope of the object stay the same.
#[derive(Clone, Copy)]
pub struct FoldSpec<'a> {
    /// The public keys that can open the new lock. They come from a key ring, rules or pins, never from the object.
    pub recipients: &'a [&'a dyn Recipient],
    /// Whether classical recipients are allowed although a lock forbids them, or together with post-quantum recipients.
    pub allow_classical: bool,
    /// Whether the values are bound to the template of the object.
    pub template: Flag,
    /// Whether the values must never become a Secret object.
    pub never_secret: Flag,
    /// Whether the values must be the only values of their object.
    pub alone: Flag,
    /// Whether to seal again even if the object appears to have one shared lock with these properties. Without a
    /// private key, a stanza that does not open cannot be detected.
    pub is_forced: bool,
    /// The current time, which determines the revision.
    pub now: Timestamp,
}

impl Flag {
    fn is_set(self, checked: &Checked, has: impl Fn(&Fields) -> bool) -> bool {
        let mut locks = checked.object.locks.iter();
        match self {
            Self::Inherit => locks.any(|lock| has(&lock.header.fields)),
            Self::Set => true,
            Self::Clear => false,
        }
    }
}

/// Seals all v2 items again under one new lock, with the identifiers of their values. Removes all other locks,
/// including locks that no item refers to. Unless [`FoldSpec::is_forced`] is set, returns no change if the object
/// already has one shared lock with the requested properties, whatever the revision of the lock.
///
/// # Errors
///
/// Returns [`EditError`] if the object cannot be opened, if it cannot be sealed for the recipients, if a reader would
/// refuse the result, or if only some values are bound to the template and the binding is inherited.
pub fn fold(
    checked: &Checked,
    keys: &OpeningKeys<'_>,
    spec: &FoldSpec<'_>,
    opened: &mut OpenedLocks,
    meter: &mut dyn Meter,
    rng: &mut dyn CryptoRng,
) -> Result<Edit, EditError> {
    let no_v1_values = V1Values {
        place: &checked.place,
        values: BTreeMap::new(),
    };
    convert(checked, no_v1_values, keys, spec, opened, meter, rng)
}

/// The opened values of v1 items, for sealing as v2.
pub struct V1Values<'a> {
    /// The place of the object, from [`Place::for_sealing`]: the checks of v2 do not require a valid place if all items
    /// are v1.
    pub place: &'a Place,
    /// The values, by item key.
    pub values: BTreeMap<String, Value>,
}

/// Like [`fold`], but also seals these v1 items under the new lock.
///
/// # Errors
///
/// Returns [`EditError`] like [`fold`].
pub fn convert(
    checked: &Checked,
    v1: V1Values<'_>,
    keys: &OpeningKeys<'_>,
    spec: &FoldSpec<'_>,
    opened: &mut OpenedLocks,
    meter: &mut dyn Meter,
    rng: &mut dyn CryptoRng,
) -> Result<Edit, EditError> {
    if spec.template == Flag::Inherit && is_partly_bound(checked) {
        return Err(EditError::PartlyBound);
    }
    let lock = lock_spec(checked, v1.place, spec);
    let V1Values { mut values, .. } = v1;
    check_result(checked, &values, &lock)?;
    let is_same = values.is_empty() && !spec.is_forced && is_folded(checked, &lock);
    let v2_values = open(checked, keys, opened, meter, rng)?.into_iter();
    values.extend(v2_values.map(|(name, opened)| (name, opened.value)));
    if is_same || values.is_empty() {
        return Ok(Edit::default());
    }
    let set = seal(&lock, &values, rng)?;
    let remove = checked.object.lock_entries.clone();
    Ok(Edit { set, remove })
}

fn is_partly_bound(checked: &Checked) -> bool {
    let mut locks = checked.object.locks.iter();
    let is_bound = |lock: &Lock| lock.header.fields.template.is_some();
    let first = locks.next().map(is_bound);
    locks.any(|lock| Some(is_bound(lock)) != first)
}

fn lock_spec<'a>(checked: &'a Checked, place: &'a Place, spec: &FoldSpec<'a>) -> LockSpec<'a> {
    let is_bound = spec.template.is_set(checked, |f| f.template.is_some());
    let locks = checked.object.locks.iter();
    let revisions = locks.map(|lock| lock.header.fields.revision);
    LockSpec {
        place,
        recipients: spec.recipients,
        allow_classical: spec.allow_classical,
        template: is_bound.then_some(checked.template),
        is_never_secret: spec.never_secret.is_set(checked, |f| f.is_never_secret),
        is_alone: spec.alone.is_set(checked, |f| f.is_alone),
        revision: next_revision(spec.now, revisions),
    }
}

/// Checks that no lock that requires post-quantum recipients is converted for classical ones, unless
/// [`LockSpec::allow_classical`] is set. Checks that no v1 item remains if the new lock is bound to the template or has
/// the flag `alone`: programs that unseal would refuse such an object.
fn check_result(
    checked: &Checked,
    converted: &BTreeMap<String, Value>,
    spec: &LockSpec<'_>,
) -> Result<(), EditError> {
    let is_classical = spec.recipients.iter().any(|r| !r.suite().is_post_quantum());
    let mut locks = checked.object.locks_by_item();
    let forbids = locks.find(|(_, lock)| lock.header.fields.is_post_quantum_only);
    if let Some((item, _)) = forbids.filter(|_| is_classical && !spec.allow_classical) {
        let item = item.to_owned();
        return Err(EditError::PostQuantumOnly { item });
    }
    let needs_v2 = spec.template.is_some() || spec.is_alone;
    let mut v1_items = checked.object.v1_items.iter();
    match v1_items.find(|item| needs_v2 && !converted.contains_key(*item)) {
        None => Ok(()),
        Some(item) => Err(EditError::V1Item { item: item.clone() }),
    }
}

/// Returns whether the object has one shared lock with the properties of `spec`, and no v2 entries except those of the
/// lock and its items.
fn is_folded(checked: &Checked, spec: &LockSpec<'_>) -> bool {
    let object = &checked.object;
    let [lock] = &object.locks[..] else {
        return false;
    };
    object.items.values().all(|item| !item.is_inline)
        && object.lock_entries.len() == lock.stanzas.len() + 1
        && has_recipients(lock, spec)
        && has_flags(&lock.header.fields, spec)
}

fn has_recipients(lock: &Lock, spec: &LockSpec<'_>) -> bool {
    let stanzas = lock.stanzas.values();
    let present: BTreeSet<_> = stanzas.map(|stanza| (stanza.key, stanza.suite)).collect();
    let recipients = spec.recipients.iter();
    let wanted = recipients.map(|r| (r.key_id().short(), r.suite().code()));
    present == wanted.collect()
}

fn has_flags(fields: &Fields, spec: &LockSpec<'_>) -> bool {
    let is_post_quantum = spec.recipients.iter().all(|r| r.suite().is_post_quantum());
    fields.template == spec.template
        && fields.is_never_secret == spec.is_never_secret
        && fields.is_alone == spec.is_alone
        && fields.is_post_quantum_only == (is_post_quantum && !spec.allow_classical)
}
