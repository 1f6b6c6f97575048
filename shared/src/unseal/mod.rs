//! Unseals a SealedSecret into a Secret, with an error per item or template.
//!
//! Objects can have v1 items, v2 items ([`crate::v2`]), or both; either the whole object is unsealed or nothing. No
//! result depends on the random numbers that are needed to open v2 items, so they come from the operating system.

mod errors;
mod items;
mod opened_items;
mod render;
mod used_key;
mod v2_items;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::CryptoRng;

use crate::envelope::OpenedValue;
use crate::hints::{self, Hints};
use crate::key::Fingerprint;
use crate::key_ring::{KeyRing, UnsealFailure};
use crate::manifest;
use crate::meter::{Meter, Unmetered};
use crate::needs::LEGACY_ITEM;
use crate::plain::Plain;
use crate::resource::{SealedSecret, SecretTemplate};
use crate::scope::{Label, Scope};
use crate::sealed_text;
use crate::secret::Secret;
use crate::v2::{self, Checked, OpenedLocks, Target, ValueDigest};
pub(crate) use opened_items::{ItemValue, OpenedItems};

pub use errors::{HintedItems, ItemError, ItemErrors, ItemProblem, NameMismatch, UnsealError};
pub(crate) use items::MAX_NAMED;
pub use render::{
    RenderError, RenderErrors, TemplateError, TemplateErrors, check_templates,
    failures_without_values, slow_work,
};
pub use used_key::{MalformedUsedKey, UsedKey};

/// The rules for unsealing.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Whether the deprecated `spec.data` is accepted.
    pub accept_legacy: bool,
    /// Whether to refuse templates whose result differs between renderings.
    pub refuse_random: bool,
}

/// The requirements that an object must meet before any of its items is unsealed.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    /// Whether the deprecated `spec.data` is accepted.
    pub accept_legacy: bool,
    /// The requirements of administrators for the object.
    pub policy: v2::Policy,
    /// The purpose of the values.
    pub target: Target,
}

impl Admission {
    /// Returns the admission for uses that create no Secret object and have no policy, such as recovery.
    pub fn for_values(accept_legacy: bool) -> Self {
        Self {
            accept_legacy,
            policy: v2::Policy::default(),
            target: Target::Other,
        }
    }
}

/// The results of earlier attempts on an object.
pub struct EarlierResults<'a> {
    /// The keys to try on v1 items before all others, except those that the object's key hints name.
    pub hints: &'a Hints,
    /// The v2 locks that interrupted attempts have tried. If this attempt is interrupted too, it adds the locks that it
    /// has tried.
    pub locks: &'a mut OpenedLocks,
}

/// The time and the randomness that templates may use.
pub struct Randomness<'a> {
    /// The time that `now` and related functions return.
    pub now: Timestamp,
    /// The source of random values and salts.
    pub rng: &'a mut dyn CryptoRng,
}

/// An unsealed SealedSecret.
#[derive(Debug, Clone)]
pub struct Unsealed {
    /// The Secret, without owner.
    pub secret: Secret,
    /// The key that unsealed each item; for the deprecated form, under [`LEGACY_ITEM`].
    pub sealed_by: BTreeMap<String, UsedKey>,
    /// Items whose value would differ in another rendering, since their template uses time, randomness or new
    /// keys.
    pub random_items: BTreeSet<String>,
    /// The digest of each value under its identifier, by item key; for the deprecated form, under [`LEGACY_ITEM`].
    pub digests: BTreeMap<String, ValueDigest>,
}

/// Maximum number of private-key operations after the first failing item, to name other failing items. With 24 keys,
/// this suffices for about twenty items.
pub const MAX_AFTER_FAILURE: u64 = 500;

/// The limits on the cost of unsealing.
pub(crate) struct Effort<'a> {
    /// The meter, which is called before each operation.
    pub(crate) meter: &'a mut dyn Meter,
    /// Maximum number of operations after the first failing item.
    pub(crate) after_failure: u64,
}

/// Unseals a SealedSecret: [`unseal_within`] without a policy and without a meter.
///
/// # Errors
///
/// Returns the errors of [`unseal_within`].
pub fn unseal(
    sealed: &SealedSecret,
    ring: &KeyRing,
    rules: Rules,
    randomness: &mut Randomness<'_>,
) -> Result<Unsealed, UnsealError> {
    let admission = Admission::for_values(rules.accept_legacy);
    let no_random = rules.refuse_random;
    unseal_within(
        sealed,
        ring,
        (admission, no_random),
        randomness,
        &mut Unmetered,
    )
}

/// Checks a SealedSecret against `admission`, then unseals its items and renders its templates. For each v1 item, tries
/// the key that its hint names, then the keys that unsealed earlier items, then all other keys from newest to oldest.
/// v2 items name their keys. Uses the scope, name and namespace of the object itself; the template does not affect
/// them. Values that must not become a Secret object are refused only if the target of the admission is a Secret. For
/// `refuse_random`, see [`Rules`]. Calls the meter before each slow operation, including those of templates.
///
/// # Errors
///
/// Returns the items that cannot be unsealed, or the templates that fail, or the problem with the object.
/// In each case, no part of the Secret is returned.
pub fn unseal_within(
    sealed: &SealedSecret,
    ring: &KeyRing,
    (admission, refuse_random): (Admission, bool),
    randomness: &mut Randomness<'_>,
    meter: &mut dyn Meter,
) -> Result<Unsealed, UnsealError> {
    let earlier_results = EarlierResults {
        hints: &Hints::new(),
        locks: &mut OpenedLocks::default(),
    };
    let unsealed_items = unseal_items(sealed, ring, admission, earlier_results, meter)?;
    unsealed_items.render(sealed, refuse_random, randomness, meter)
}

/// Performs the first half of [`unseal_within`]: unseals the items and renders nothing. Its cost, and its progress
/// before the meter ends it, do not depend on the values. Checks the admission before any key is used.
///
/// # Errors
///
/// Returns the errors of [`unseal_within`], except those of templates.
pub fn unseal_items(
    sealed: &SealedSecret,
    ring: &KeyRing,
    admission: Admission,
    earlier_results: EarlierResults<'_>,
    meter: &mut dyn Meter,
) -> Result<UnsealedItems, UnsealError> {
    let effort = Effort {
        meter,
        after_failure: MAX_AFTER_FAILURE,
    };
    open(sealed, ring, admission, earlier_results, effort).map(UnsealedItems)
}

/// An object whose items are unsealed and whose templates are not rendered yet.
#[derive(Clone)]
pub struct UnsealedItems(Contents);

impl UnsealedItems {
    /// Performs the second half of [`unseal_within`], whose duration depends on the values. `sealed` is the object that
    /// was unsealed.
    ///
    /// # Errors
    ///
    /// Returns the templates that fail. A template that the meter interrupts also counts as failed: a separate error
    /// such as [`UnsealError::BudgetUsedUp`] would reveal how long rendering takes, which depends on the values.
    pub fn render(
        self,
        sealed: &SealedSecret,
        refuse_random: bool,
        randomness: &mut Randomness<'_>,
        meter: &mut dyn Meter,
    ) -> Result<Unsealed, UnsealError> {
        let template = &sealed.spec.template;
        let mut unsealed = match self.0 {
            Contents::Items(items) => {
                build_secret(template, items, refuse_random, randomness, meter)?
            }
            Contents::Legacy(unsealed) => *unsealed,
        };
        let metadata = &mut unsealed.secret.metadata;
        metadata.name.clone_from(&sealed.metadata.name);
        metadata.namespace.clone_from(&sealed.metadata.namespace);
        Ok(unsealed)
    }
}

/// Checks that every item can be unsealed. Renders no template, so the result depends only on the sealed values, the
/// name, the namespace, the scope and, if values are bound to it, the template, which are all authenticated.
///
/// # Errors
///
/// Returns the errors of [`unseal`], except those of templates.
pub fn check(
    sealed: &SealedSecret,
    ring: &KeyRing,
    accept_legacy: bool,
) -> Result<(), UnsealError> {
    let admission = Admission::for_values(accept_legacy);
    check_within(sealed, ring, admission, &mut Unmetered).map(drop)
}

/// Like [`check`], but with the requirements of a policy, which are checked before any key is used. Calls a meter
/// before each operation, and uses no key after the first v1 item that cannot be unsealed. Returns the key that
/// unsealed each item, like [`Unsealed::sealed_by`].
///
/// # Errors
///
/// Returns the errors of [`check`].
pub fn check_within(
    sealed: &SealedSecret,
    ring: &KeyRing,
    admission: Admission,
    meter: &mut dyn Meter,
) -> Result<BTreeMap<String, UsedKey>, UnsealError> {
    let effort = Effort {
        meter,
        after_failure: 0,
    };
    Ok(match open_once(sealed, ring, admission, effort)? {
        Contents::Items(items) => items.keys,
        Contents::Legacy(unsealed) => unsealed.sealed_by,
    })
}

/// Returns the value of every item, including the items in the deprecated form. Ignores templates.
///
/// # Errors
///
/// Returns the errors of [`unseal`], except those of templates.
pub fn unseal_values(
    sealed: &SealedSecret,
    ring: &KeyRing,
) -> Result<BTreeMap<String, Plain>, UnsealError> {
    let effort = Effort {
        meter: &mut Unmetered,
        after_failure: u64::MAX,
    };
    match open_once(sealed, ring, Admission::for_values(true), effort)? {
        Contents::Items(items) => Ok(items.into_plain()),
        Contents::Legacy(unsealed) => Ok(unsealed.secret.data),
    }
}

/// The unsealed content of an object, and the key of each item.
#[derive(Clone)]
pub(crate) enum Contents {
    /// The values of separate items.
    Items(OpenedItems),
    /// A whole Secret, from the deprecated form.
    Legacy(Box<Unsealed>),
}

/// Unseals the content of an object without v2 items. Uses no key after the first item that fails.
pub(crate) fn open_all_or_stop(
    sealed: &SealedSecret,
    ring: &KeyRing,
    accept_legacy: bool,
    meter: &mut dyn Meter,
) -> Result<Contents, UnsealError> {
    let mut effort = Effort {
        meter,
        after_failure: 0,
    };
    if let Some(data) = &sealed.spec.data {
        return open_legacy(sealed, data, ring, accept_legacy, effort.meter);
    }
    let items = sealed.spec.encrypted_data.iter();
    let opened = open_v1_items(sealed, items, ring, &Hints::new(), &mut effort)?;
    Ok(Contents::Items(opened))
}

/// Unseals the content of an object in one attempt, without results of earlier attempts.
fn open_once(
    sealed: &SealedSecret,
    ring: &KeyRing,
    admission: Admission,
    effort: Effort<'_>,
) -> Result<Contents, UnsealError> {
    let earlier_results = EarlierResults {
        hints: &Hints::new(),
        locks: &mut OpenedLocks::default(),
    };
    open(sealed, ring, admission, earlier_results, effort)
}

/// Unseals the content of an object. Opens v2 items first, because a missing key for one of them is known without using
/// any key.
fn open(
    sealed: &SealedSecret,
    ring: &KeyRing,
    admission: Admission,
    earlier_results: EarlierResults<'_>,
    mut effort: Effort<'_>,
) -> Result<Contents, UnsealError> {
    let checked = Checked::new(sealed, &admission.policy, admission.target)?;
    if let Some(data) = &sealed.spec.data {
        return open_legacy(sealed, data, ring, admission.accept_legacy, effort.meter);
    }
    let EarlierResults { hints, locks } = earlier_results;
    let v2_items = v2_items::open_items(&checked, ring, locks, effort.meter);
    let mut items = v2_items.map_err(|why| v2_items::error(why, hints))?;
    let is_v1 = |(name, _): &(&String, &String)| checked.object().v1_items().contains(*name);
    let v1_items = sealed.spec.encrypted_data.iter().filter(is_v1);
    items.extend(open_v1_items(sealed, v1_items, ring, hints, &mut effort)?);
    Ok(Contents::Items(items))
}

/// Unseals these v1 items of an object.
fn open_v1_items<'a>(
    sealed: &SealedSecret,
    items: impl Iterator<Item = (&'a String, &'a String)>,
    ring: &KeyRing,
    earlier_hints: &Hints,
    effort: &mut Effort<'_>,
) -> Result<OpenedItems, UnsealError> {
    let hints = hints::read(sealed.metadata.annotations.as_ref());
    let advice = [&hints, earlier_hints];
    let result = items::open_items(items, ring, &label(sealed), advice, effort);
    let (values, keys) = result.map_err(|why| explain(why, sealed, ring))?;
    let values = values.into_iter();
    let keys = keys.into_iter();
    Ok(OpenedItems {
        values: values
            .map(|(item, value)| (item, ItemValue::V1(value)))
            .collect(),
        keys: keys.map(|(item, key)| (item, UsedKey::Rsa(key))).collect(),
    })
}

/// Unseals the deprecated form of an object.
fn open_legacy(
    sealed: &SealedSecret,
    data: &str,
    ring: &KeyRing,
    accept_legacy: bool,
    meter: &mut dyn Meter,
) -> Result<Contents, UnsealError> {
    if !accept_legacy {
        Err(UnsealError::LegacyRefused)
    } else if !sealed.spec.encrypted_data.is_empty() {
        Err(UnsealError::BothForms)
    } else {
        let unsealed = unseal_legacy(data, ring, &label(sealed), meter)?;
        Ok(Contents::Legacy(Box::new(unsealed)))
    }
}

/// Adds the likely cause to an error about items.
fn explain(mut why: UnsealError, sealed: &SealedSecret, ring: &KeyRing) -> UnsealError {
    if let UnsealError::Items(errors) = &mut why {
        errors.explain(sealed, ring);
    }
    why
}

/// Returns the label of the object's values, from its own name, namespace and annotations. The template does
/// not affect it.
pub(crate) fn label(sealed: &SealedSecret) -> Label {
    let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
    scope.label(sealed.namespace_or_empty(), sealed.name_or_empty())
}

fn build_secret(
    template: &SecretTemplate,
    items: OpenedItems,
    refuse_random: bool,
    randomness: &mut Randomness<'_>,
    meter: &mut dyn Meter,
) -> Result<Unsealed, UnsealError> {
    let (digests, sealed_by) = (items.digests(), items.keys.clone());
    let items = items.into_plain();
    let rendered = match &template.data {
        Some(texts) => render::render(items, texts, refuse_random, randomness, meter)?,
        None => items.into(),
    };
    let secret = Secret {
        metadata: secret_metadata(&template.metadata),
        type_: template.type_.clone().filter(|type_| !type_.is_empty()),
        immutable: template.immutable,
        data: rendered.values,
    };
    Ok(Unsealed {
        secret,
        sealed_by,
        random_items: rendered.random_items,
        digests,
    })
}

pub(crate) fn open_item(
    text: &str,
    ring: &KeyRing,
    label: &Label,
    first: &[&Fingerprint],
) -> Result<(OpenedValue, Fingerprint), ItemProblem> {
    let sealed = sealed_text::decode(text)?;
    let (value, key) = ring.open_value(label, &sealed, first)?;
    Ok((value, key.fingerprint().clone()))
}

/// Maximum number of values in a deprecated `spec.data`.
const MAX_LEGACY_VALUES: usize = 200_000;

/// Unseals `spec.data`, whose plaintext is the JSON of a whole Secret. The template is not used.
fn unseal_legacy(
    data: &str,
    ring: &KeyRing,
    label: &Label,
    meter: &mut dyn Meter,
) -> Result<Unsealed, UnsealError> {
    let sealed = sealed_text::decode(data)?;
    let result = ring.open_value_within(label, &sealed, &[], meter);
    let (value, key) = result.map_err(|why| match why {
        UnsealFailure::NoKey(why) => UnsealError::from(why),
        UnsealFailure::Interrupted(_) => UnsealError::BudgetUsedUp {
            opened: Hints::new(),
        },
    })?;
    let documents = manifest::read_within(value.plain.expose(), MAX_LEGACY_VALUES)
        .map_err(|_| UnsealError::LegacyContent)?;
    let [document] = documents.as_slice() else {
        return Err(UnsealError::LegacyContent);
    };
    let (secrets, _) =
        Secret::all_from_document(document).map_err(|_| UnsealError::LegacyContent)?;
    let [secret] = <[Secret; 1]>::try_from(secrets).map_err(|_| UnsealError::LegacyContent)?;
    // The item names are sealed too, but this map is published, so it uses a fixed name.
    let key = UsedKey::Rsa(key.fingerprint().clone());
    let sealed_by = [(LEGACY_ITEM.to_owned(), key)].into();
    let digest = ValueDigest::new(&value.id(), &value.plain);
    let secret = Secret {
        metadata: secret_metadata(&secret.metadata),
        ..secret
    };
    Ok(Unsealed {
        secret,
        sealed_by,
        random_items: BTreeSet::new(),
        digests: [(LEGACY_ITEM.to_owned(), digest)].into(),
    })
}

/// Returns the metadata that a template may set on a Secret: labels and annotations. The name and namespace come from
/// the object, the owner from the controller, and all other fields from the server. A finalizer would make the Secret
/// impossible to delete.
fn secret_metadata(template: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        labels: template.labels.clone(),
        annotations: template.annotations.clone(),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests;
