//! SealedSecret + ring → Secret, with an error per item or template.

mod errors;
mod render;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use rand::CryptoRng;

use crate::base64;
use crate::hints::{self, Hints};
use crate::key::Fingerprint;
use crate::key_ring::KeyRing;
use crate::manifest;
use crate::plain::Plain;
use crate::resource::{SealedSecret, SecretTemplate};
use crate::scope::{Label, Scope};
use crate::secret::Secret;
pub use errors::{ItemError, ItemErrors, ItemProblem, UnsealError};
pub use render::{TemplateError, TemplateErrors};

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
    /// The key that opened each item.
    pub sealed_by: BTreeMap<String, Fingerprint>,
    /// Keys of the Secret whose value would be another one next time, made by a template that uses
    /// time, chance or new keys.
    pub by_chance: BTreeSet<String>,
}

/// Opens a whole SealedSecret: [`unseal_again`] with nothing remembered.
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
    unseal_again(sealed, ring, rules, chance, &Hints::new())
}

/// Opens a whole SealedSecret. Each item is tried with the key that its hint names, then the one that
/// opened it before, then the one that opened the item before it, then newest to oldest. Scope, name
/// and namespace are those of the object itself; the template has no say in them.
///
/// # Errors
///
/// Every item that does not open, or every template that gives no value, or what is wrong with the
/// object. All or nothing.
pub fn unseal_again(
    sealed: &SealedSecret,
    ring: &KeyRing,
    rules: Rules,
    chance: &mut Chance<'_>,
    remembered: &Hints,
) -> Result<Unsealed, UnsealError> {
    let mut unsealed = match open_again(sealed, ring, rules.accept_legacy, remembered)? {
        Contents::Items(opened) => fill(&sealed.spec.template, opened, rules, chance)?,
        Contents::Legacy(unsealed) => *unsealed,
    };
    let metadata = &mut unsealed.secret.metadata;
    metadata.name.clone_from(&sealed.metadata.name);
    metadata.namespace.clone_from(&sealed.metadata.namespace);
    Ok(unsealed)
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
    open(sealed, ring, accept_legacy).map(drop)
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
    match open(sealed, ring, true)? {
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

/// Opens everything that is sealed.
pub(crate) fn open(
    sealed: &SealedSecret,
    ring: &KeyRing,
    accept_legacy: bool,
) -> Result<Contents, UnsealError> {
    open_again(sealed, ring, accept_legacy, &Hints::new())
}

fn open_again(
    sealed: &SealedSecret,
    ring: &KeyRing,
    accept_legacy: bool,
    remembered: &Hints,
) -> Result<Contents, UnsealError> {
    let label = label(sealed);
    let items = &sealed.spec.encrypted_data;
    match &sealed.spec.data {
        None => {
            let hints = hints::read(sealed.metadata.annotations.as_ref());
            let advice = [&hints, remembered];
            Ok(Contents::Items(open_items(items, ring, &label, advice)?))
        }
        Some(_) if !accept_legacy => Err(UnsealError::LegacyRefused),
        Some(_) if !items.is_empty() => Err(UnsealError::BothForms),
        Some(data) => unseal_legacy(data, ring, &label).map(|u| Contents::Legacy(Box::new(u))),
    }
}

/// Where its values open: by its own name, namespace and annotations. The template has no say.
pub(crate) fn label(sealed: &SealedSecret) -> Label {
    let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
    scope.label(sealed.namespace_or_empty(), sealed.name_or_empty())
}

fn fill(
    template: &SecretTemplate,
    (items, sealed_by): Opened,
    rules: Rules,
    chance: &mut Chance<'_>,
) -> Result<Unsealed, UnsealError> {
    let rendered = match &template.data {
        Some(texts) => render::render(items, texts, rules.refuse_chance, chance)?,
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

/// Advice on an item comes first, then the key that opened the previous item: the items of one object
/// were mostly sealed together.
fn open_items(
    items: &BTreeMap<String, String>,
    ring: &KeyRing,
    label: &Label,
    advice: [&Hints; 2],
) -> Result<Opened, ItemErrors> {
    let mut opened = Opened::default();
    let mut errors = Vec::new();
    let mut last = None;
    for (key, text) in items {
        let advice = advice.iter().filter_map(|hints| hints.get(key));
        let first: Vec<&Fingerprint> = advice.chain(last.as_ref()).collect();
        match open_item(text, ring, label, &first) {
            Ok((plain, fingerprint)) => {
                opened.0.insert(key.clone(), plain);
                opened.1.insert(key.clone(), fingerprint.clone());
                last = Some(fingerprint);
            }
            Err(problem) => errors.push(ItemError {
                key: key.clone(),
                problem,
            }),
        }
    }
    if errors.is_empty() {
        Ok(opened)
    } else {
        Err(ItemErrors(errors))
    }
}

pub(crate) fn open_item(
    text: &str,
    ring: &KeyRing,
    label: &Label,
    first: &[&Fingerprint],
) -> Result<(Plain, Fingerprint), ItemProblem> {
    let sealed = base64::decode(text.as_bytes())?;
    let (plain, key) = ring.open(label, &sealed, first)?;
    Ok((plain, key.fingerprint().clone()))
}

/// Values of a Secret: no API server stores one with a quarter of them.
const LARGEST_SECRET: usize = 200_000;

/// The plain value of `spec.data` is the JSON of a whole Secret, and the template has no part in it.
fn unseal_legacy(data: &str, ring: &KeyRing, label: &Label) -> Result<Unsealed, UnsealError> {
    let sealed = base64::decode(data.as_bytes())?;
    let (plain, key) = ring.open(label, &sealed, &[])?;
    let documents = manifest::read_within(plain.expose(), LARGEST_SECRET)
        .map_err(|_| UnsealError::LegacyContent)?;
    let [document] = documents.as_slice() else {
        return Err(UnsealError::LegacyContent);
    };
    let (secrets, _) =
        Secret::all_from_document(document).map_err(|_| UnsealError::LegacyContent)?;
    let [secret] = <[Secret; 1]>::try_from(secrets).map_err(|_| UnsealError::LegacyContent)?;
    let sealed_by = secret
        .data
        .keys()
        .map(|k| (k.clone(), key.fingerprint().clone()))
        .collect();
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

/// Template metadata without what only a server writes: sent back, it would make the write fail.
pub(crate) fn secret_metadata(template: &ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        uid: None,
        resource_version: None,
        generation: None,
        self_link: None,
        creation_timestamp: None,
        deletion_timestamp: None,
        deletion_grace_period_seconds: None,
        managed_fields: None,
        owner_references: None,
        ..template.clone()
    }
}

#[cfg(test)]
mod tests;
