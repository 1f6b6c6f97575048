//! SealedSecret + ring → Secret, with an error per item or template.

mod errors;
mod items;
mod render;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::CryptoRng;

use crate::hints::{self, Hints};
use crate::key::Fingerprint;
use crate::key_ring::{KeyRing, Unopened};
use crate::manifest;
use crate::meter::{Meter, Unmetered};
use crate::needs::LEGACY_ITEM;
use crate::plain::Plain;
use crate::resource::{SealedSecret, SecretTemplate};
use crate::scope::{Label, Scope};
use crate::sealed_text;
use crate::secret::Secret;
pub use errors::{Hinted, ItemError, ItemErrors, ItemProblem, Renamed, UnsealError};
pub use render::{
    RenderError, RenderErrors, TemplateError, TemplateErrors, failures_without_values, slow_work,
};

/// What the user allows.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Does the deprecated `spec.data` open?
    pub accept_legacy: bool,
    /// Are templates refused that would give another value each time?
    pub refuse_chance: bool,
}

/// What templates may draw on besides values.
pub struct Chance<'a> {
    /// What `now` and its relatives go by.
    pub now: Timestamp,
    /// The source of random values and salts.
    pub rng: &'a mut dyn CryptoRng,
}

/// A SealedSecret that opened.
#[derive(Debug)]
pub struct Unsealed {
    /// The Secret, without owner.
    pub secret: Secret,
    /// The key that opened each item; of the deprecated form, that of [`LEGACY_ITEM`].
    pub sealed_by: BTreeMap<String, Fingerprint>,
    /// Keys of the Secret whose value would be another one next time, made by a template that uses
    /// time, chance or new keys.
    pub by_chance: BTreeSet<String>,
}

/// Private-key operations that are spent to name further wrong items, once one does not open. With a few
/// keys that names all of them; with 24 keys some twenty.
pub const AFTER_A_FAILURE: u64 = 500;

/// How much opening may cost.
pub(crate) struct Effort<'a> {
    /// Asked before each operation.
    pub(crate) meter: &'a mut dyn Meter,
    /// Operations after the first item that does not open.
    pub(crate) after_a_failure: u64,
}

/// Opens a whole SealedSecret: [`unseal_within`] without a meter and with nothing remembered.
///
/// # Errors
///
/// As there.
pub fn unseal(
    sealed: &SealedSecret,
    ring: &KeyRing,
    rules: Rules,
    chance: &mut Chance<'_>,
) -> Result<Unsealed, UnsealError> {
    unseal_within(sealed, ring, rules, chance, &Hints::new(), &mut Unmetered)
}

/// Opens a whole SealedSecret. Each item is tried with the key that its hint names, then the one that
/// opened it before, then those that opened items before it, then newest to oldest. Scope, name and
/// namespace are those of the object itself; the template has no say in them. The meter is asked before
/// each slow operation, in templates too.
///
/// # Errors
///
/// The items that do not open, or every template that gives no value, or what is wrong with the
/// object. All or nothing.
pub fn unseal_within(
    sealed: &SealedSecret,
    ring: &KeyRing,
    rules: Rules,
    chance: &mut Chance<'_>,
    remembered: &Hints,
    meter: &mut dyn Meter,
) -> Result<Unsealed, UnsealError> {
    let opened = open_only(sealed, ring, rules.accept_legacy, remembered, meter)?;
    opened.render(sealed, rules.refuse_chance, chance, meter)
}

/// The first half of [`unseal_within`]: opens, and renders nothing. What it costs, and how far the meter
/// lets it come, does not depend on the values.
///
/// # Errors
///
/// As there, but for templates.
pub fn open_only(
    sealed: &SealedSecret,
    ring: &KeyRing,
    accept_legacy: bool,
    remembered: &Hints,
    meter: &mut dyn Meter,
) -> Result<OpenedOnly, UnsealError> {
    let effort = Effort {
        meter,
        after_a_failure: AFTER_A_FAILURE,
    };
    open(sealed, ring, accept_legacy, remembered, effort).map(OpenedOnly)
}

/// An object that opened, and whose templates are not rendered yet.
pub struct OpenedOnly(Contents);

impl OpenedOnly {
    /// The second half of [`unseal_within`], whose duration depends on the values. `sealed` is the object
    /// that was opened.
    ///
    /// # Errors
    ///
    /// Every template that gives no value. One that the meter interrupts is one of them: that it took too
    /// long depends on the values as well.
    pub fn render(
        self,
        sealed: &SealedSecret,
        refuse_chance: bool,
        chance: &mut Chance<'_>,
        meter: &mut dyn Meter,
    ) -> Result<Unsealed, UnsealError> {
        let template = &sealed.spec.template;
        let mut unsealed = match self.0 {
            Contents::Items(opened) => fill(template, opened, refuse_chance, chance, meter)?,
            Contents::Legacy(unsealed) => *unsealed,
        };
        let metadata = &mut unsealed.secret.metadata;
        metadata.name.clone_from(&sealed.metadata.name);
        metadata.namespace.clone_from(&sealed.metadata.namespace);
        Ok(unsealed)
    }
}

/// Does every item open? Renders no template: the answer depends on the sealed values, the name, the
/// namespace and the scope, and on nothing that these do not authenticate.
///
/// # Errors
///
/// As [`unseal`], but for templates.
pub fn check(
    sealed: &SealedSecret,
    ring: &KeyRing,
    accept_legacy: bool,
) -> Result<(), UnsealError> {
    check_within(sealed, ring, accept_legacy, &mut Unmetered)
}

/// As [`check`], while a meter is asked before each operation. Nothing is tried after the first item that
/// does not open, since the answer is known then.
///
/// # Errors
///
/// As there; of items that do not open, one.
pub fn check_within(
    sealed: &SealedSecret,
    ring: &KeyRing,
    accept_legacy: bool,
    meter: &mut dyn Meter,
) -> Result<(), UnsealError> {
    open_all_or_stop(sealed, ring, accept_legacy, meter).map(drop)
}

/// The value of every item, without templates; those of the deprecated form too.
///
/// # Errors
///
/// As [`unseal`], but for templates.
pub fn open_values(
    sealed: &SealedSecret,
    ring: &KeyRing,
) -> Result<BTreeMap<String, Plain>, UnsealError> {
    let effort = Effort {
        meter: &mut Unmetered,
        after_a_failure: u64::MAX,
    };
    match open(sealed, ring, true, &Hints::new(), effort)? {
        Contents::Items((items, _)) => Ok(items),
        Contents::Legacy(unsealed) => Ok(unsealed.secret.data),
    }
}

/// What is sealed in an object, and the key of each item.
pub(crate) enum Contents {
    /// Values one by one.
    Items(Opened),
    /// A whole Secret.
    Legacy(Box<Unsealed>),
}

/// Opens everything that is sealed, or nothing after the first item that does not open.
pub(crate) fn open_all_or_stop(
    sealed: &SealedSecret,
    ring: &KeyRing,
    accept_legacy: bool,
    meter: &mut dyn Meter,
) -> Result<Contents, UnsealError> {
    let effort = Effort {
        meter,
        after_a_failure: 0,
    };
    open(sealed, ring, accept_legacy, &Hints::new(), effort)
}

/// Opens everything that is sealed.
fn open(
    sealed: &SealedSecret,
    ring: &KeyRing,
    accept_legacy: bool,
    remembered: &Hints,
    mut effort: Effort<'_>,
) -> Result<Contents, UnsealError> {
    let label = label(sealed);
    let items = &sealed.spec.encrypted_data;
    match &sealed.spec.data {
        None => {
            let hints = hints::read(sealed.metadata.annotations.as_ref());
            let advice = [&hints, remembered];
            let opened = items::open_items(items, ring, &label, advice, &mut effort);
            Ok(Contents::Items(
                opened.map_err(|why| explained(why, sealed, ring))?,
            ))
        }
        Some(_) if !accept_legacy => Err(UnsealError::LegacyRefused),
        Some(_) if !items.is_empty() => Err(UnsealError::BothForms),
        Some(data) => {
            let unsealed = unseal_legacy(data, ring, &label, effort.meter)?;
            Ok(Contents::Legacy(Box::new(unsealed)))
        }
    }
}

/// Adds the likely cause, if some values do not open here.
fn explained(mut why: UnsealError, sealed: &SealedSecret, ring: &KeyRing) -> UnsealError {
    if let UnsealError::Items(errors) = &mut why {
        errors.explain(sealed, ring);
    }
    why
}

/// Where its values open: by its own name, namespace and annotations. The template has no say.
pub(crate) fn label(sealed: &SealedSecret) -> Label {
    let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
    scope.label(sealed.namespace_or_empty(), sealed.name_or_empty())
}

fn fill(
    template: &SecretTemplate,
    (items, sealed_by): Opened,
    refuse_chance: bool,
    chance: &mut Chance<'_>,
    meter: &mut dyn Meter,
) -> Result<Unsealed, UnsealError> {
    let rendered = match &template.data {
        Some(texts) => render::render(items, texts, refuse_chance, chance, meter)?,
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
        by_chance: rendered.by_chance,
    })
}

pub(crate) type Opened = (BTreeMap<String, Plain>, BTreeMap<String, Fingerprint>);

pub(crate) fn open_item(
    text: &str,
    ring: &KeyRing,
    label: &Label,
    first: &[&Fingerprint],
) -> Result<(Plain, Fingerprint), ItemProblem> {
    let sealed = sealed_text::decode(text)?;
    let (plain, key) = ring.open(label, &sealed, first)?;
    Ok((plain, key.fingerprint().clone()))
}

/// Values of a Secret: no API server stores one with a quarter of them.
const LARGEST_SECRET: usize = 200_000;

/// The plain value of `spec.data` is the JSON of a whole Secret, and the template has no part in it.
fn unseal_legacy(
    data: &str,
    ring: &KeyRing,
    label: &Label,
    meter: &mut dyn Meter,
) -> Result<Unsealed, UnsealError> {
    let sealed = sealed_text::decode(data)?;
    let opened = ring.open_within(label, &sealed, &[], meter);
    let (plain, key) = opened.map_err(|why| match why {
        Unopened::NoKey(why) => UnsealError::from(why),
        Unopened::Interrupted(_) => UnsealError::BudgetUsedUp {
            opened: Hints::new(),
        },
    })?;
    let documents = manifest::read_within(plain.expose(), LARGEST_SECRET)
        .map_err(|_| UnsealError::LegacyContent)?;
    let [document] = documents.as_slice() else {
        return Err(UnsealError::LegacyContent);
    };
    let (secrets, _) =
        Secret::all_from_document(document).map_err(|_| UnsealError::LegacyContent)?;
    let [secret] = <[Secret; 1]>::try_from(secrets).map_err(|_| UnsealError::LegacyContent)?;
    // The names of the items are sealed too, and this is published.
    let sealed_by = [(LEGACY_ITEM.to_owned(), key.fingerprint().clone())].into();
    let secret = Secret {
        metadata: secret_metadata(&secret.metadata),
        ..secret
    };
    Ok(Unsealed {
        secret,
        sealed_by,
        by_chance: BTreeSet::new(),
    })
}

/// What a template may set in the metadata of a Secret: labels and annotations. Name and namespace are
/// those of the object, the owner is the controller's to set, and the rest is the server's. A finalizer
/// would make the Secret impossible to delete.
fn secret_metadata(template: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        labels: template.labels.clone(),
        annotations: template.annotations.clone(),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests;
