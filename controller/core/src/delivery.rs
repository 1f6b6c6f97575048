//! SealedSecrets whose values are delivered to Pods without a Secret object.

use std::collections::BTreeMap;

use deliver::{DELIVER_ANNOTATION, DELIVER_FILES};
use shared::resource::SealedSecret;
use shared::v2::Object;

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
        for (value, want) in [
            (Some("files"), true),
            (Some("Files"), false),
            (Some(""), false),
            (None, false),
        ] {
            let mut sealed = SealedSecret::new("n", SealedSecretSpec::default());
            let annotation = value.map(|value| (DELIVER_ANNOTATION.to_owned(), value.to_owned()));
            sealed.metadata.annotations = Some(annotation.into_iter().collect());
            assert_eq!(is_only_delivered(&sealed), want, "{value:?}");
        }
    }
}
