//! Checks the controller's response to a re-encryption. The unauthenticated port has no TLS, so another process on the
//! cluster's network could respond in the controller's place, and the response replaces a file of the user.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::Value as Json;
use shared::key::PublicKey;
use shared::resource::{KEY_HINTS_ANNOTATION, SealedSecret};
use shared::scope::Scope;
use shared::v2 as format;
use shared::{base64, envelope, hints};

mod v2;

/// The accepted lengths of RSA moduli in bytes if the certificate is unknown: 2048 to 16384 bits.
const MODULI: RangeInclusive<usize> = 256..=2048;

/// Why a response is not the object that was sent, with new ciphertexts. The message quotes at most an item key of the
/// response, never a value, which could be plaintext.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// The response is not a SealedSecret.
    #[error(
        "the controller's response is not a SealedSecret; the response was discarded\n\
         hint: check that the Service is the controller's"
    )]
    NoObject,
    /// The name, namespace or scope differs.
    #[error(
        "the controller's response contains a different object from the request; the response was discarded\n\
         hint: check that the Service is the controller's"
    )]
    Object,
    /// The item keys differ, or the response has the deprecated `spec.data`.
    #[error(
        "the controller's response does not contain the same items as the request; the response was discarded\n\
         hint: check that the Service is the controller's"
    )]
    Items,
    /// An item cannot be a ciphertext of the same value with the same protection.
    #[error(
        "the controller's response for the item {item:?} {problem}; the response was discarded\n\
         hint: check that the Service is the controller's"
    )]
    Item {
        /// The item key, as in `spec.encryptedData`.
        item: String,
        /// Why the response for the item is invalid: a predicate, such as "is empty".
        problem: &'static str,
    },
    /// Another part of the response is not acceptable. Contains the end of the message, such as `the metadata`.
    #[error(
        "the controller's response changes {0}; the response was discarded\n\
         hint: check that the Service is the controller's"
    )]
    Other(&'static str),
}

/// Parses a response.
///
/// # Errors
///
/// Returns [`RotationError::NoObject`] if the response is not a SealedSecret.
pub fn parse(response: Json) -> Result<SealedSecret, RotationError> {
    serde_json::from_value(response).map_err(|_| RotationError::NoObject)
}

/// Checks that a response has the same items, that each v1 item is unchanged or has a value of the same length
/// encrypted for a key as long as `key`, that each v2 item keeps its protection, and that nothing else is new except
/// key hints. Only the holder of a private key can check whether the items can be unsealed.
///
/// # Errors
///
/// Returns [`RotationError`] if the response fails one of these checks.
pub fn check(
    sent: &SealedSecret,
    response: &SealedSecret,
    key: &PublicKey,
) -> Result<(), RotationError> {
    check_same_items(sent, response)?;
    let modulus = key.modulus_len();
    check_items(sent, response, &(modulus..=modulus), |_| true)?;
    v2::check(sent, response)?;
    check_object(sent, response)
}

/// Checks the response to a conversion, in which every item has to be v2, with at least the protection that it had.
///
/// # Errors
///
/// Returns [`RotationError`] if the response fails one of these checks.
pub fn check_converted(sent: &SealedSecret, response: &SealedSecret) -> Result<(), RotationError> {
    check_same_items(sent, response)?;
    v2::check_converted(sent, response)?;
    check_object(sent, response)
}

fn check_same_items(sent: &SealedSecret, response: &SealedSecret) -> Result<(), RotationError> {
    let items = |sealed: &SealedSecret| -> Vec<String> {
        let items = format::item_names(&sealed.spec.encrypted_data);
        items.map(str::to_owned).collect()
    };
    if items(sent) != items(response) || response.spec.data.is_some() {
        return Err(RotationError::Items);
    }
    Ok(())
}

/// Like [`check`], for any controller that upstream's `kubeseal` works with. Bitnami's
/// controller turns templates into items or drops them, and replaces the deprecated `spec.data` with
/// items.
///
/// # Errors
///
/// Returns [`RotationError`] if the response fails one of these checks.
pub fn check_leniently(sent: &SealedSecret, response: &SealedSecret) -> Result<(), RotationError> {
    let templates = sent.spec.template.data.as_ref();
    let is_template = |item: &String| templates.is_some_and(|data| data.contains_key(item));
    let is_deprecated = sent.spec.data.is_some();
    let (old, new) = (&sent.spec.encrypted_data, &response.spec.encrypted_data);
    let has_all = format::items(old).all(|(item, _)| new.contains_key(item) || is_template(item));
    let has_no_more =
        format::items(new).all(|(item, _)| old.contains_key(item) || is_template(item));
    let is_same = has_all && has_no_more && response.spec.data.is_none();
    if !is_deprecated && !is_same {
        return Err(RotationError::Items);
    }
    check_items(sent, response, &MODULI, |item| !is_template(item))?;
    v2::check(sent, response)?;
    if let Some(data) = &response.spec.data {
        let is_same = sent.spec.data.as_ref() == Some(data);
        let is_valid = is_same || ciphertext_problem(data, None, &MODULI).is_none();
        is_valid
            .then_some(())
            .ok_or(RotationError::Other("the deprecated spec.data"))?;
    }
    check_object(sent, response)
}

fn check_items(
    sent: &SealedSecret,
    response: &SealedSecret,
    moduli: &RangeInclusive<usize>,
    keeps_length: impl Fn(&String) -> bool,
) -> Result<(), RotationError> {
    let items = response.spec.encrypted_data.iter();
    for (item, text) in items.filter(|(item, text)| format::is_v1_item(item, text)) {
        let old = sent.spec.encrypted_data.get(item);
        if old == Some(text) {
            continue;
        }
        let old = old.filter(|_| keeps_length(item));
        if let Some(problem) = ciphertext_problem(text, old, moduli) {
            let item = item.clone();
            return Err(RotationError::Item { item, problem });
        }
    }
    Ok(())
}

/// Returns why `text` is not an acceptable new ciphertext: not canonical base64, not an encrypted value, a key length
/// outside `moduli`, or a value length that differs from that of `old`. Returns `None` if it is acceptable.
fn ciphertext_problem(
    text: &str,
    old: Option<&String>,
    moduli: &RangeInclusive<usize>,
) -> Option<&'static str> {
    let bytes = base64::decode(text.as_bytes()).ok();
    // Accept only the canonical form, so that the string has no line breaks.
    let Some(bytes) = bytes.filter(|bytes| base64::encode(bytes) == text) else {
        return Some("is not base64");
    };
    let (modulus, len) = (envelope::modulus_len(&bytes), envelope::plain_len(&bytes));
    let (Some(modulus), Some(len)) = (modulus, len) else {
        return Some("is not an encrypted value");
    };
    if !moduli.contains(&modulus) {
        return Some("is encrypted for a key of an unexpected length");
    }
    let old = old.and_then(|old| base64::decode(old.as_bytes()).ok());
    let old_len = old.and_then(|old| envelope::plain_len(&old));
    old_len
        .is_some_and(|old| old != len)
        .then_some("does not have the length of the value that was sent")
}

/// Checks that name, namespace and scope are unchanged, and that metadata and template contain nothing that is not in
/// the request, except key hints. Missing content is not an error: Bitnami's controller drops labels and annotations.
fn check_object(sent: &SealedSecret, response: &SealedSecret) -> Result<(), RotationError> {
    let identity = |sealed: &SealedSecret| {
        let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
        let (namespace, name) = (sealed.namespace_or_empty(), sealed.name_or_empty());
        (namespace.to_owned(), name.to_owned(), scope)
    };
    if identity(sent) != identity(response) {
        return Err(RotationError::Object);
    }
    let mut without_hints = response.clone();
    remove_hints(&mut without_hints)?;
    let (before, after) = (sent.to_document(), without_hints.to_document());
    if !is_from(&after["metadata"], &[&before["metadata"]]) {
        return Err(RotationError::Other("the metadata"));
    }
    if sent.spec.data.is_some() {
        // The deprecated form contains the template, encrypted.
        return Ok(());
    }
    let old = &before["spec"]["template"];
    let mut template = after["spec"]["template"].clone();
    let metadata = template["metadata"].take();
    let is_same = is_from(&metadata, &[&old["metadata"], &before["metadata"]]);
    if !is_same || !is_from(&template, &[old]) {
        return Err(RotationError::Other("the template"));
    }
    Ok(())
}

/// Removes the key hints, which change with the ciphertexts. Fails if they are empty, or contain anything but
/// fingerprints for items of the response.
fn remove_hints(response: &mut SealedSecret) -> Result<(), RotationError> {
    let items = &response.spec.encrypted_data;
    let annotations = response.metadata.annotations.as_mut();
    let Some(text) = annotations.and_then(|texts| texts.remove(KEY_HINTS_ANNOTATION)) else {
        return Ok(());
    };
    let parsed = hints::parse(&text);
    let is_of_items = parsed.keys().all(|item| items.contains_key(item));
    let raw: BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_default();
    if !is_of_items || raw.len() != parsed.len() || parsed.is_empty() {
        return Err(RotationError::Other("the key hints"));
    }
    Ok(())
}

/// Returns whether every value in this JSON exists in one of the sources, at the same location. `null` is always
/// accepted. An empty string or object is accepted where a source has any value.
fn is_from(value: &Json, sources: &[&Json]) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) if text.is_empty() => true,
        Json::Object(fields) => fields.iter().all(|(name, value)| {
            let sources: Vec<&Json> = sources
                .iter()
                .filter_map(|source| source.get(name))
                .collect();
            value.is_null() || (!sources.is_empty() && is_from(value, &sources))
        }),
        value => sources.contains(&value),
    }
}
