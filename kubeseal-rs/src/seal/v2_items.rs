//! Seals new v2 values for a SealedSecret in a file, without opening existing values.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use shared::names;
use shared::plain::Plain;
use shared::resource::SealedSecret;
use shared::scope::Scope;
use shared::v2::{self, Checked, LockSpec, Object, Place, Policy, Reason, TemplateDigest, Value};

use super::binding;
use super::recipients::Recipients;
use super::size;
use crate::failure::Failure;
use crate::report::shown;

/// The entries to set and to remove.
#[derive(Debug, Default)]
pub struct Entries {
    /// New entries of `spec.encryptedData`.
    pub set: BTreeMap<String, String>,
    /// The entries of locks that no item uses any longer.
    pub unused: Vec<String>,
}

/// The new values of an object, and the items that are removed.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    /// New values, by item key.
    pub set: &'a BTreeMap<String, Plain>,
    /// Items that are removed.
    pub removed: &'a [String],
}

impl Change<'_> {
    pub(super) fn keeps(&self, item: &str) -> bool {
        !self.set.contains_key(item) && !self.removed.iter().any(|removed| removed == item)
    }
}

/// Seals new values for an object: one value inline, so that one line of the file changes, and several under a new
/// shared lock. The SealedSecret in the file determines the scope. The new values are bound to the template if a value
/// in the file is bound, or if the rule requires it. The new values can never become a Secret if the rule requires
/// this, or if an existing value can never become one. Existing values are those in the file or, if the file has none,
/// those in `committed`, the object in the last commit.
///
/// # Errors
///
/// Fails if the object is malformed or would be refused by a controller because of the change, if it has lost its
/// binding to the template or the flag against a Secret since the last commit, or if the values cannot be sealed.
pub fn seal(
    sealed: &SealedSecret,
    committed: Option<&SealedSecret>,
    change: Change<'_>,
    recipients: &Recipients,
    now: Timestamp,
) -> Result<Entries> {
    for item in change.set.keys() {
        names::check_item(item)?;
    }
    let object = parse(sealed)?;
    let place = place(sealed)?;
    let is_bound = binding::decide(sealed, &object, committed, change, recipients.bind_template)?;
    let keys = recipients.keys();
    let spec = LockSpec {
        place: &place,
        recipients: &keys,
        allow_classical: recipients.allow_classical,
        template: is_bound.then(|| TemplateDigest::of(&sealed.spec.template)),
        is_never_secret: decide_never_secret(sealed, &object, committed)?
            || recipients.is_never_secret,
        is_alone: false,
        revision: v2::next_revision(now, object.view().values().map(|item| item.revision)),
    };
    let set = new_entries(&spec, change)?;
    finish(sealed, change, set)
}

/// Returns whether new values must never become a Secret object because the existing values must not. Existing values
/// are those in the file or, if the file has none, those in the last commit.
///
/// # Errors
///
/// Fails if only the last commit has such values: a user who can change the file must not be able to put the next value
/// into a Secret.
fn decide_never_secret(
    sealed: &SealedSecret,
    object: &Object,
    committed: Option<&SealedSecret>,
) -> Result<bool> {
    let before = committed.map(|before| Object::parse(&before.spec.encrypted_data));
    let was_never_secret = matches!(before, Some(Ok(before)) if before.is_never_secret());
    if object.is_never_secret() || !was_never_secret {
        return Ok(object.is_never_secret());
    }
    if object.has_items() || !object.v1_items().is_empty() {
        bail!(never_secret_lost(&shown(&sealed.qualified_name())));
    }
    Ok(true)
}

fn never_secret_lost(object_name: &str) -> Failure {
    Failure::new(format!(
        "the values of {object_name} can never become a Secret in the last commit, and can in the file"
    ))
    .hint("review the file with `seal diff`; restore it from the last commit, or commit it if this is intended")
}

fn new_entries(spec: &LockSpec<'_>, change: Change<'_>) -> Result<BTreeMap<String, String>> {
    let rng = &mut shared::random::system();
    let values = change.set.iter();
    let values = values.map(|(item, plain)| (item.clone(), Value::new(plain.clone(), rng)));
    let values: BTreeMap<String, Value> = values.collect();
    Ok(match values.first_key_value() {
        None => BTreeMap::new(),
        Some((item, value)) if values.len() == 1 => {
            let text = v2::seal_inline(spec, item, value, rng)?;
            BTreeMap::from([(item.clone(), text)])
        }
        Some(_) => v2::seal(spec, &values, rng)?,
    })
}

/// Returns the lock entries that become unused when items are removed; none if a remaining entry is malformed.
pub fn unused_after_removal(sealed: &SealedSecret, removed: &[String]) -> Vec<String> {
    let mut after = sealed.spec.encrypted_data.clone();
    after.retain(|name, _| !removed.contains(name));
    unused_entries(&after)
}

fn unused_entries(entries: &BTreeMap<String, String>) -> Vec<String> {
    let object = Object::parse(entries);
    let unused = object.as_ref().map(Object::unused_lock_entries);
    let unused = unused.unwrap_or_default().into_iter();
    unused.map(str::to_owned).collect()
}

fn finish(
    sealed: &SealedSecret,
    change: Change<'_>,
    set: BTreeMap<String, String>,
) -> Result<Entries> {
    let mut after = sealed.clone();
    let entries = &mut after.spec.encrypted_data;
    entries.retain(|name, _| !change.removed.contains(name));
    entries.extend(set.clone());
    let unused = unused_entries(entries);
    entries.retain(|name, _| !unused.contains(name));
    check_result(sealed, &after)?;
    size::check(&after)?;
    Ok(Entries { set, unused })
}

/// Refuses a change whose result a controller would refuse. Accepts the change if a controller already refuses the
/// object for the same reason.
fn check_result(before: &SealedSecret, after: &SealedSecret) -> Result<()> {
    let Some(refusal) = refusal(after) else {
        return Ok(());
    };
    if refusal_reason(before) == Some(refusal.reason()) {
        return Ok(());
    }
    bail!("a controller would refuse the result: {refusal}");
}

fn refusal(sealed: &SealedSecret) -> Option<v2::Refusal> {
    Checked::new(sealed, &Policy::default(), v2::Target::Other).err()
}

fn refusal_reason(sealed: &SealedSecret) -> Option<Reason> {
    refusal(sealed).map(|refusal| refusal.reason())
}

fn parse(sealed: &SealedSecret) -> Result<Object> {
    let object = Object::parse(&sealed.spec.encrypted_data)
        .with_context(|| format!("{} cannot be changed", shown(&sealed.qualified_name())))?;
    if object.is_alone() {
        let message = format!(
            "the values of {} were sealed as the only values of their object, so no item can be set separately",
            shown(&sealed.qualified_name())
        );
        bail!(Failure::new(message).hint("seal all values again, into a new file"));
    }
    Ok(object)
}

fn place(sealed: &SealedSecret) -> Result<Place> {
    let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
    let (namespace, name) = (sealed.namespace_or_empty(), sealed.name_or_empty());
    Ok(Place::for_sealing(scope, namespace, name)?)
}
