//! SealedSecret + ring → Secret, with an error per item.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::base64::{self, Base64Error};
use crate::key::Fingerprint;
use crate::key_ring::{KeyRing, NoKey};
use crate::manifest;
use crate::plain::Plain;
use crate::resource::SealedSecret;
use crate::scope::{Label, Scope};
use crate::secret::Secret;

/// A SealedSecret that opened.
#[derive(Debug)]
pub struct Unsealed {
    /// The Secret, without owner.
    pub secret: Secret,
    /// The key that opened each item.
    pub sealed_by: BTreeMap<String, Fingerprint>,
}

/// Nothing is unsealed unless all of it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// Items that did not open.
    #[error(transparent)]
    Items(#[from] ItemErrors),
    /// `spec.template.data` needs the template engine.
    #[error(
        "spec.template.data is not supported yet by this version; \
         put the finished values into encryptedData, or keep using the previous controller for this object"
    )]
    Template,
    /// Both forms at once.
    #[error(
        "cannot use the field 'encryptedData' and the deprecated field 'data' at the same time"
    )]
    BothForms,
    /// The old form, which the caller does not accept.
    #[error("using deprecated 'data' field, use 'encryptedData' or flip the feature flag")]
    LegacyRefused,
    /// `spec.data` is not base64.
    #[error("the deprecated field 'data': {0}")]
    LegacyBase64(#[from] Base64Error),
    /// `spec.data` did not open.
    #[error(transparent)]
    LegacyNoKey(#[from] NoKey),
    /// `spec.data` opened, but held no Secret.
    #[error("the deprecated field 'data' does not hold a Secret")]
    LegacyContent,
}

/// One item that did not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemError {
    /// Item key.
    pub key: String,
    /// What is wrong with it.
    pub problem: ItemProblem,
}

/// Why an item did not open: that it did not, never how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemProblem {
    /// Not base64: public knowledge, anyone can see it.
    #[error(transparent)]
    Base64(#[from] Base64Error),
    /// No key, wrong place or damaged: these look alike.
    #[error(transparent)]
    NoKey(#[from] NoKey),
}

/// All items that did not open, by key. Shown as the peer shows them: each distinct problem once,
/// with its keys in parentheses, one to a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemErrors(pub Vec<ItemError>);

impl std::error::Error for ItemErrors {}

impl fmt::Display for ItemErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut problems: Vec<(String, Vec<&str>)> = Vec::new();
        for ItemError { key, problem } in &self.0 {
            let text = problem.to_string();
            match problems.iter_mut().find(|(known, _)| *known == text) {
                Some((_, keys)) => keys.push(key),
                None => problems.push((text, vec![key])),
            }
        }
        for (i, (text, keys)) in problems.iter().enumerate() {
            let line_break = if i > 0 { "\n" } else { "" };
            write!(f, "{line_break}{text} ({})", keys.join(", "))?;
        }
        Ok(())
    }
}

/// Opens a whole SealedSecret. Scope, name and namespace are those of the object itself; the
/// template has no say in them.
///
/// `accept_legacy` takes the deprecated `spec.data` too.
///
/// # Errors
///
/// Every item that does not open, or what is wrong with the object. All or nothing.
pub fn unseal(
    sealed: &SealedSecret,
    ring: &KeyRing,
    accept_legacy: bool,
) -> Result<Unsealed, UnsealError> {
    let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
    let label = scope.label(sealed.namespace_or_empty(), sealed.name_or_empty());
    let mut unsealed = match &sealed.spec.data {
        None => unseal_items(sealed, ring, &label)?,
        Some(_) if !accept_legacy => return Err(UnsealError::LegacyRefused),
        Some(_) if !sealed.spec.encrypted_data.is_empty() => return Err(UnsealError::BothForms),
        Some(data) => unseal_legacy(data, ring, &label)?,
    };
    let metadata = &mut unsealed.secret.metadata;
    metadata.name.clone_from(&sealed.metadata.name);
    metadata.namespace.clone_from(&sealed.metadata.namespace);
    Ok(unsealed)
}

fn unseal_items(
    sealed: &SealedSecret,
    ring: &KeyRing,
    label: &Label,
) -> Result<Unsealed, UnsealError> {
    let (data, sealed_by) = open_items(&sealed.spec.encrypted_data, ring, label)?;
    let template = &sealed.spec.template;
    if template.data.as_ref().is_some_and(|data| !data.is_empty()) {
        return Err(UnsealError::Template);
    }
    let secret = Secret {
        metadata: secret_metadata(&template.metadata),
        type_: template.type_.clone().filter(|type_| !type_.is_empty()),
        immutable: template.immutable,
        data,
    };
    Ok(Unsealed { secret, sealed_by })
}

type Opened = (BTreeMap<String, Plain>, BTreeMap<String, Fingerprint>);

/// Tries the key that opened the previous item first: the items of one object were mostly sealed
/// together.
fn open_items(
    items: &BTreeMap<String, String>,
    ring: &KeyRing,
    label: &Label,
) -> Result<Opened, ItemErrors> {
    let mut opened = Opened::default();
    let mut errors = Vec::new();
    let mut last = None;
    for (key, text) in items {
        match open_item(text, ring, label, last.as_ref()) {
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

fn open_item(
    text: &str,
    ring: &KeyRing,
    label: &Label,
    first: Option<&Fingerprint>,
) -> Result<(Plain, Fingerprint), ItemProblem> {
    let sealed = base64::decode(text.as_bytes())?;
    let (plain, key) = ring.open(label, &sealed, first)?;
    Ok((plain, key.fingerprint().clone()))
}

/// The plain value of `spec.data` is the JSON of a whole Secret.
fn unseal_legacy(data: &str, ring: &KeyRing, label: &Label) -> Result<Unsealed, UnsealError> {
    let sealed = base64::decode(data.as_bytes())?;
    let (plain, key) = ring.open(label, &sealed, None)?;
    let documents = manifest::read(plain.expose()).map_err(|_| UnsealError::LegacyContent)?;
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
    Ok(Unsealed { secret, sealed_by })
}

/// Template metadata without what only a server writes: sent back, it would make the write fail.
fn secret_metadata(template: &ObjectMeta) -> ObjectMeta {
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
