//! Annotations that have an effect on a SealedSecret only, and none on the Secret that a user describes with flags.

use anyhow::{Result, bail};
use deliver::DELIVER_ANNOTATION;
use shared::resource::{
    CORRECT_DRIFT_ANNOTATION, KEEP_PREVIOUS_ANNOTATION, KEEP_PREVIOUS_FOR_ANNOTATION,
    KEEP_PREVIOUS_UNTIL_ANNOTATION, KEY_HINTS_ANNOTATION, REFRESH_ANNOTATION,
};

use crate::failure::Failure;

/// The annotations that the controller and `seal restart` read from a SealedSecret, and not from its template or
/// Secret. The scope annotations are not among them: `seal` applies the scope that a Secret declares.
const OF_SEALED_SECRETS: [&str; 7] = [
    DELIVER_ANNOTATION,
    KEEP_PREVIOUS_ANNOTATION,
    KEEP_PREVIOUS_FOR_ANNOTATION,
    KEEP_PREVIOUS_UNTIL_ANNOTATION,
    CORRECT_DRIFT_ANNOTATION,
    REFRESH_ANNOTATION,
    KEY_HINTS_ANNOTATION,
];

/// Refuses annotations of a new Secret that would have no effect on it: the user believes that they have one.
///
/// # Errors
///
/// Fails for the first annotation that has an effect only on a SealedSecret.
pub(super) fn check<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<()> {
    let Some(name) = names.find(|name| OF_SEALED_SECRETS.contains(&name.as_str())) else {
        return Ok(());
    };
    let message = format!(
        "--annotation sets annotations of the Secret, but {name} has an effect only on the SealedSecret"
    );
    bail!(Failure::new(message).hint(hint(name)));
}

fn hint(name: &str) -> String {
    match name {
        DELIVER_ANNOTATION => "pass --deliver files".to_owned(),
        KEY_HINTS_ANNOTATION => {
            "omit it: it is added automatically, unless you pass --no-hints".to_owned()
        }
        _ => format!("add {name} to metadata.annotations of the SealedSecret in the new file"),
    }
}

#[cfg(test)]
mod tests {
    use shared::resource::{PATCH_ANNOTATION, SKIP_OWNER_ANNOTATION};
    use shared::scope::CLUSTER_WIDE_ANNOTATION;

    use super::*;

    fn message(name: &str) -> Option<String> {
        let result = check([name.to_owned()].iter());
        result.err().map(|error| error.to_string())
    }

    #[test]
    fn refuses_every_annotation_that_has_no_effect_on_a_secret() {
        for name in OF_SEALED_SECRETS {
            let message = message(name).unwrap();
            assert!(message.contains(name), "{message}");
            assert!(message.contains("\nhint: "), "{message}");
        }
        let hint = message(DELIVER_ANNOTATION).unwrap();
        assert!(hint.ends_with("\nhint: pass --deliver files"), "{hint}");
    }

    #[test]
    fn accepts_annotations_that_have_an_effect_on_a_secret() {
        for name in [
            PATCH_ANNOTATION,
            SKIP_OWNER_ANNOTATION,
            CLUSTER_WIDE_ANNOTATION,
            "note",
        ] {
            assert_eq!(message(name), None, "{name}");
        }
    }
}
