//! Converts SealedSecrets between the formats v1 and v2, for someone who holds the private keys.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rand::CryptoRng;

use crate::key::{Fingerprint, PublicKey};
use crate::key_ring::{KeyRing, RingKey};
use crate::meter::Unmetered;
use crate::names::NameError;
use crate::resource::SealedSecret;
use crate::scope::{Label, Scope};
use crate::sealed_text::{self, NotSealed};
use crate::v2::{
    self, Checked, Edit, EditError, Flag, FoldSpec, LockSpec, OpenError, OpenedLocks, Place,
    Policy, Refusal, Target, TemplateDigest, Value,
};
use crate::{base64, envelope};

/// How far in the future a revision may lie.
const MAX_AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// Why an object cannot be converted. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The object is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The object cannot be opened, or its values cannot be sealed as v2.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A v1 item is not a sealed value.
    #[error("the item {item:?} is {why}")]
    NotSealed {
        /// The item.
        item: String,
        /// What it is instead.
        why: NotSealed,
    },
    /// No key opens a v1 item.
    #[error("the item {item:?} cannot be unsealed with these keys")]
    NoKey {
        /// The item.
        item: String,
    },
    /// The scope needs a name or namespace that the object lacks.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The certificate cannot encrypt.
    #[error(transparent)]
    V1(#[from] envelope::SealError),
    /// The deprecated form has no items.
    #[error(
        "the object has the deprecated field `data`; convert it to items with `kubeseal --re-encrypt`"
    )]
    Deprecated,
    /// v1 has no such protection.
    #[error(
        "the values are sealed for use without a Secret object, which v1 cannot express; seal them again for a Secret"
    )]
    NeverSecret,
}

/// Seals all values again as v2, under one lock. v2 values keep their identifiers, and v1 values get those that content
/// versions derive from them. Returns no change if the object already is as `spec` says.
///
/// # Errors
///
/// Returns [`ConvertError`] if a value cannot be opened or sealed, or a reader would refuse the result.
pub fn to_v2(
    sealed: &SealedSecret,
    ring: &KeyRing,
    spec: &FoldSpec<'_>,
    rng: &mut dyn CryptoRng,
) -> Result<Edit, ConvertError> {
    if sealed.spec.data.is_some() {
        return Err(ConvertError::Deprecated);
    }
    let checked = check(sealed, spec.now)?;
    let (keys, mut opened) = (ring.openers(), OpenedLocks::default());
    if checked.object().v1_items().is_empty() {
        return Ok(v2::fold(
            &checked,
            &keys,
            spec,
            &mut opened,
            &mut Unmetered,
            rng,
        )?);
    }
    let place = place(sealed)?;
    let lock = lock_spec(&checked, sealed, &place, spec)?;
    let mut values = open_v2(&checked, ring, rng)?;
    values.extend(open_v1(sealed, checked.object().v1_items(), ring)?);
    let set = v2::seal(&lock, &values, rng).map_err(EditError::from)?;
    let edit = Edit {
        set,
        remove: lock_entries(sealed),
    };
    check_result(sealed, &edit, spec.now)?;
    Ok(edit)
}

/// Seals all v2 values again as v1, for one RSA key. v1 values stay as they are. Gives up what only v2 protects: the
/// binding to the template, and other recipients.
///
/// # Errors
///
/// Returns [`ConvertError`] if a value cannot be opened, or must never become a Secret object.
pub fn to_v1(
    sealed: &SealedSecret,
    ring: &KeyRing,
    key: &PublicKey,
    now: Timestamp,
    rng: &mut impl CryptoRng,
) -> Result<Edit, ConvertError> {
    if !v2::is_v2(&sealed.spec.encrypted_data) {
        return Ok(Edit::default());
    }
    let checked = check(sealed, now)?;
    if checked.object().is_never_secret() {
        return Err(ConvertError::NeverSecret);
    }
    let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
    let label = scope.label_for_sealing(sealed.namespace_or_empty(), sealed.name_or_empty())?;
    let mut set = BTreeMap::new();
    for (item, value) in open_v2(&checked, ring, rng)? {
        let text = envelope::seal(key, &label, value.plain.expose(), rng)?;
        set.insert(item, base64::encode(&text));
    }
    let remove = lock_entries(sealed);
    Ok(Edit { set, remove })
}

fn check(sealed: &SealedSecret, now: Timestamp) -> Result<Checked, Refusal> {
    let highest = now.saturating_add(MAX_AHEAD).unwrap_or(Timestamp::MAX);
    let policy = Policy {
        highest_revision: u64::try_from(highest.as_millisecond()).ok(),
        ..Policy::default()
    };
    Checked::new(sealed, &policy, Target::Other)
}

fn check_result(sealed: &SealedSecret, edit: &Edit, now: Timestamp) -> Result<(), Refusal> {
    let mut result = sealed.clone();
    edit.clone().apply(&mut result.spec.encrypted_data);
    check(&result, now).map(drop)
}

fn place(sealed: &SealedSecret) -> Result<Place, NameError> {
    let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
    Place::for_sealing(scope, sealed.namespace_or_empty(), sealed.name_or_empty())
}

/// Returns what the new lock of an object with v1 items is made for.
fn lock_spec<'a>(
    checked: &Checked,
    sealed: &SealedSecret,
    place: &'a Place,
    spec: &FoldSpec<'a>,
) -> Result<LockSpec<'a>, EditError> {
    let items = checked.object().view();
    let is_set = |flag, is_present| match flag {
        Flag::Inherit => is_present,
        Flag::Set => true,
        Flag::Clear => false,
    };
    let is_classical = spec.recipients.iter().any(|r| !r.suite().is_post_quantum());
    let mut forbidding = items.iter().filter(|(_, item)| item.is_post_quantum_only);
    if let Some((item, _)) = forbidding
        .next()
        .filter(|_| is_classical && !spec.allow_classical)
    {
        let item = (*item).to_owned();
        return Err(EditError::PostQuantumOnly { item });
    }
    let is_bound = is_set(
        spec.template,
        items.values().any(|item| item.is_template_bound),
    );
    Ok(LockSpec {
        place,
        recipients: spec.recipients,
        allow_classical: spec.allow_classical,
        template: is_bound.then(|| TemplateDigest::of(&sealed.spec.template)),
        is_never_secret: is_set(spec.never_secret, checked.object().is_never_secret()),
        is_alone: is_set(spec.alone, checked.object().is_alone()),
        revision: v2::next_revision(spec.now, items.values().map(|item| item.revision)),
    })
}

fn open_v2(
    checked: &Checked,
    ring: &KeyRing,
    rng: &mut dyn CryptoRng,
) -> Result<BTreeMap<String, Value>, EditError> {
    let (keys, mut opened) = (ring.openers(), OpenedLocks::default());
    let values = v2::open(checked, &keys, &mut opened, &mut Unmetered, rng);
    let values = values.map_err(|error: OpenError| EditError::from(error))?;
    let values = values
        .into_iter()
        .map(|(item, opened)| (item, opened.value));
    Ok(values.collect())
}

fn open_v1(
    sealed: &SealedSecret,
    items: &BTreeSet<String>,
    ring: &KeyRing,
) -> Result<BTreeMap<String, Value>, ConvertError> {
    let label = crate::unseal::label(sealed);
    let (mut values, mut last) = (BTreeMap::new(), None);
    for item in items {
        let text = sealed.spec.encrypted_data.get(item).map(String::as_str);
        let bytes = sealed_text::decode(text.unwrap_or_default());
        let bytes = bytes.map_err(|why| ConvertError::NotSealed {
            item: item.clone(),
            why,
        })?;
        let opened = open_with_any(&bytes, &label, ring, last.as_ref());
        let no_key = || ConvertError::NoKey { item: item.clone() };
        let (value, key) = opened.ok_or_else(no_key)?;
        values.insert(item.clone(), value);
        last = Some(key.fingerprint().clone());
    }
    Ok(values)
}

/// Opens a v1 value, trying the key that opened the previous one first.
fn open_with_any<'k>(
    sealed: &[u8],
    label: &Label,
    ring: &'k KeyRing,
    last: Option<&Fingerprint>,
) -> Option<(Value, &'k Arc<RingKey>)> {
    let len = envelope::modulus_len(sealed)?;
    let is_last = |key: &&Arc<RingKey>| Some(key.fingerprint()) == last;
    let (first, others): (Vec<_>, Vec<_>) = ring.keys().iter().partition(is_last);
    let mut keys = first.into_iter().chain(others);
    keys.find_map(|key| {
        if key.private().modulus_len() != len {
            return None;
        }
        let (plain, id) = envelope::open_with_id(key.private(), label, sealed).ok()?;
        Some((Value { id, plain }, key))
    })
}

fn lock_entries(sealed: &SealedSecret) -> BTreeSet<String> {
    let names = sealed.spec.encrypted_data.keys();
    names
        .filter(|name| v2::is_lock_entry(name))
        .cloned()
        .collect()
}
