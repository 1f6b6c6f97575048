//! Annotations that have an effect on a SealedSecret only, and none on its Secret.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use deliver::DELIVER_ANNOTATION;
use shared::resource::{
    CORRECT_DRIFT_ANNOTATION, KEEP_PREVIOUS_ANNOTATION, KEEP_PREVIOUS_FOR_ANNOTATION,
    KEEP_PREVIOUS_UNTIL_ANNOTATION, KEY_HINTS_ANNOTATION, REFRESH_ANNOTATION, ROTATE_BY_ANNOTATION,
};
use shared::secret::Secret;

use crate::failure::Failure;
use crate::report::{self, shown};

/// The annotations that are read from a SealedSecret, and not from its template or Secret. The scope annotations are
/// not among them: `seal` applies the scope that a Secret declares.
const OF_SEALED_SECRETS: [&str; 8] = [
    DELIVER_ANNOTATION,
    KEEP_PREVIOUS_ANNOTATION,
    KEEP_PREVIOUS_FOR_ANNOTATION,
    KEEP_PREVIOUS_UNTIL_ANNOTATION,
    CORRECT_DRIFT_ANNOTATION,
    REFRESH_ANNOTATION,
    KEY_HINTS_ANNOTATION,
    ROTATE_BY_ANNOTATION,
];

/// Refuses annotations or labels of a new Secret whose names are those of annotations that have an effect only on a
/// SealedSecret. `kind` is `annotation` or `label`.
pub(super) fn check<'a>(kind: &str, mut names: impl Iterator<Item = &'a String>) -> Result<()> {
    let Some(name) = names.find(|name| is_of_sealed_secrets(name)) else {
        return Ok(());
    };
    let message = format!(
        "--{kind} sets {kind}s of the Secret, but {name} has an effect only on the SealedSecret"
    );
    bail!(Failure::new(message).hint(hint(name)));
}

/// Warns about annotations and labels of a Secret in `file` that have an effect only as annotations of its SealedSecret:
/// sealing copies them to the template, where nothing reads them.
pub(super) fn warn(secret: &Secret, file: &str) {
    for warning in warnings(secret) {
        report::warn(&format!("{file}: {warning}"));
    }
}

fn warnings(secret: &Secret) -> Vec<String> {
    let metadata = &secret.metadata;
    let fields = [
        ("annotation", &metadata.annotations),
        ("label", &metadata.labels),
    ];
    let names = fields.into_iter().flat_map(|(kind, entries)| {
        let names = entries.iter().flat_map(BTreeMap::keys);
        names.map(move |name| (kind, name))
    });
    let names = names.filter(|(_, name)| is_of_sealed_secrets(name));
    let object_name = shown(metadata.name.as_deref().unwrap_or_default());
    let warning = |(kind, name): (&str, &String)| {
        let remedy = remedy(name);
        format!("the {kind} {name} of the Secret {object_name:?} has no effect{remedy}")
    };
    names.map(warning).collect()
}

/// Returns the end of a warning about an annotation or label in a file, which says what to do.
fn remedy(name: &str) -> String {
    match name {
        DELIVER_ANNOTATION => format!(
            ", so the controller creates a Secret from the SealedSecret; add {name} to metadata.annotations of the \
             SealedSecret, as `seal create --deliver files` does"
        ),
        KEY_HINTS_ANNOTATION => "; remove it: `seal` adds hints to the SealedSecret".to_owned(),
        _ => format!("; add {name} to metadata.annotations of the SealedSecret"),
    }
}

fn is_of_sealed_secrets(name: &str) -> bool {
    OF_SEALED_SECRETS.contains(&name)
}

fn hint(name: &str) -> String {
    match name {
        DELIVER_ANNOTATION => "pass --deliver files".to_owned(),
        ROTATE_BY_ANNOTATION => "pass --rotate-by".to_owned(),
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

    fn message(kind: &str, name: &str) -> Option<String> {
        let result = check(kind, [name.to_owned()].iter());
        result.err().map(|error| error.to_string())
    }

    /// Returns the warnings about a Secret with this annotation, or with this label.
    fn warnings_about(name: &str, is_label: bool) -> Vec<String> {
        let mut secret = Secret::default();
        secret.metadata.name = Some("db".to_owned());
        let entries = Some([(name.to_owned(), "files".to_owned())].into());
        if is_label {
            secret.metadata.labels = entries;
        } else {
            secret.metadata.annotations = entries;
        }
        warnings(&secret)
    }

    #[test]
    fn refuses_every_annotation_that_has_no_effect_on_a_secret() {
        for (kind, name) in ["annotation", "label"]
            .into_iter()
            .flat_map(|kind| OF_SEALED_SECRETS.map(|name| (kind, name)))
        {
            let message = message(kind, name).unwrap();
            assert!(message.starts_with(&format!("--{kind} ")), "{message}");
            assert!(message.contains(name), "{message}");
            assert!(message.contains("\nhint: "), "{message}");
        }
        let hint = message("annotation", DELIVER_ANNOTATION).unwrap();
        assert!(hint.ends_with("\nhint: pass --deliver files"), "{hint}");
    }

    /// Fault: a user annotates the Secret for delivery without a Secret, seals its file, and the Secret is created.
    #[test]
    fn warns_about_annotations_in_files_that_have_no_effect() {
        for (kind, is_label) in [("annotation", false), ("label", true)] {
            for name in OF_SEALED_SECRETS {
                let start = format!("the {kind} {name} of the Secret \"db\" has no effect");
                let warnings = warnings_about(name, is_label);
                assert!(
                    warnings.len() == 1 && warnings[0].starts_with(&start),
                    "{warnings:?}"
                );
            }
            assert!(warnings_about(PATCH_ANNOTATION, is_label).is_empty());
        }
        let warnings = warnings_about(DELIVER_ANNOTATION, false);
        assert!(
            warnings[0].contains("`seal create --deliver files`"),
            "{warnings:?}"
        );
    }

    #[test]
    fn accepts_annotations_that_have_an_effect_on_a_secret() {
        for name in [
            PATCH_ANNOTATION,
            SKIP_OWNER_ANNOTATION,
            CLUSTER_WIDE_ANNOTATION,
            "note",
        ] {
            assert_eq!(message("annotation", name), None, "{name}");
            assert_eq!(message("label", name), None, "{name}");
        }
    }
}
