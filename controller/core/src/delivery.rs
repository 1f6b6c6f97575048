//! SealedSecrets whose values are delivered to Pods without a Secret object.

use std::collections::BTreeMap;

use deliver::{DELIVER_ANNOTATION, DELIVER_FILES};
use shared::resource::SealedSecret;
use shared::v2::Object;

/// The annotation for delivery has a value that the controller does not know. A misspelled value must not create the
/// Secret that the author wanted to avoid.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error(
    "the annotation {DELIVER_ANNOTATION} has an unknown value; set it to \"{DELIVER_FILES}\" to create no Secret, or remove it"
)]
pub struct UnknownDelivery;

/// Checks the value of the annotation for delivery, if the object has one.
///
/// # Errors
///
/// Returns [`UnknownDelivery`] if the value is not [`DELIVER_FILES`].
pub fn check_annotation(sealed: &SealedSecret) -> Result<(), UnknownDelivery> {
    let annotations = sealed.metadata.annotations.as_ref();
    match annotations.and_then(|annotations| annotations.get(DELIVER_ANNOTATION)) {
        Some(value) if value != DELIVER_FILES => Err(UnknownDelivery),
        _ => Ok(()),
    }
}

/// Returns whether the controller creates no Secret for the object: the annotation of the object requests it, or the
/// object has a v2 value with the flag that forbids a Secret.
///
/// An editor of the object can remove the annotation, but not the flag, which is sealed.
pub fn is_only_delivered(sealed: &SealedSecret) -> bool {
    opts_in(sealed.metadata.annotations.as_ref()) || is_never_secret(sealed)
}

/// Returns whether the annotations of a SealedSecret request that no Secret is created for it.
pub fn opts_in(annotations: Option<&BTreeMap<String, String>>) -> bool {
    let value = annotations.and_then(|annotations| annotations.get(DELIVER_ANNOTATION));
    value.is_some_and(|value| value == DELIVER_FILES)
}

/// Returns whether the header of an item has the flag that forbids a Secret. The header is authenticated when the item
/// is unsealed.
fn is_never_secret(sealed: &SealedSecret) -> bool {
    let object = Object::parse(&sealed.spec.encrypted_data);
    object.is_ok_and(|object| object.is_never_secret())
}

#[cfg(test)]
mod tests {
    use shared::resource::SealedSecretSpec;

    use super::*;

    #[test]
    fn only_the_exact_annotation_counts() {
        for (value, want, is_known) in [
            (Some("files"), true, true),
            (Some("Files"), false, false),
            (Some("file"), false, false),
            (Some(""), false, false),
            (None, false, true),
        ] {
            let mut sealed = SealedSecret::new("n", SealedSecretSpec::default());
            let annotation = value.map(|value| (DELIVER_ANNOTATION.to_owned(), value.to_owned()));
            sealed.metadata.annotations = Some(annotation.into_iter().collect());
            assert_eq!(is_only_delivered(&sealed), want, "{value:?}");
            assert_eq!(check_annotation(&sealed).is_ok(), is_known, "{value:?}");
        }
    }
}
