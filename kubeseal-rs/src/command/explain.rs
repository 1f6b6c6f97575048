//! Explains why the controller cannot decrypt a SealedSecret, from public data: its name, namespace, scope, key hints
//! and status, and the certificates that the controller publishes.

use std::collections::BTreeSet;

use shared::hints;
use shared::key::Fingerprint;
use shared::resource::SealedSecret;
use shared::scope::Scope;

/// The maximum number of fingerprints to list, because a key ring can contain dozens of keys.
const MAX_LISTED: usize = 5;

/// Returns an explanation for the user. `published` contains the fingerprints of the controller's certificates, newest
/// first.
pub(super) fn explain_failure(sealed: &SealedSecret, published: &[Fingerprint]) -> String {
    let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
    let (namespace, name) = (sealed.namespace_or_empty(), sealed.name_or_empty());
    let requirement = match scope {
        Scope::Strict => format!("name {name:?} and namespace {namespace:?}"),
        Scope::NamespaceWide => format!("namespace {namespace:?}"),
        Scope::ClusterWide => "any name and namespace".to_owned(),
    };
    let target = format!("With scope {scope}, it has to be sealed for {requirement}.");
    let named_keys = named_keys(sealed);
    let unpublished: Vec<&Fingerprint> = named_keys
        .iter()
        .filter(|f| !published.contains(f))
        .collect();
    let advice = match (named_keys.is_empty(), unpublished.is_empty()) {
        (false, true) => {
            "The controller publishes the key that the object names, so most likely the object's name, namespace or \
             scope was changed after sealing: seal the object again for its current name, namespace and scope."
                .to_owned()
        }
        (false, false) if !published.is_empty() => format!(
            "The object names {}, which the controller does not publish: it was sealed for another cluster, or for a \
             key that is lost or expired. Seal it again with this controller's certificate.",
            list(unpublished)
        ),
        _ => "Either the object was sealed for another controller's certificate, or its name, namespace or scope was \
                changed after sealing: seal it again with this controller's certificate, for its current name, \
                namespace and scope."
            .to_owned(),
    };
    let published_text = match published {
        [] => "The controller publishes no certificate.".to_owned(),
        published => format!("The controller publishes {}.", list(published.iter())),
    };
    format!("{target} {published_text}\n{advice}")
}

/// Returns the fingerprints in the key hints of the SealedSecret, and in the status that the controller wrote.
fn named_keys(sealed: &SealedSecret) -> BTreeSet<Fingerprint> {
    let hinted_keys = hints::read(sealed.metadata.annotations.as_ref());
    let items = sealed.status.iter().flat_map(|status| &status.items);
    let observed = items.filter_map(|item| item.sealed_by.as_ref()?.parse().ok());
    hinted_keys.into_values().chain(observed).collect()
}

fn list<'a>(fingerprints: impl IntoIterator<Item = &'a Fingerprint>) -> String {
    let texts: Vec<String> = fingerprints.into_iter().map(ToString::to_string).collect();
    let more = texts.len().saturating_sub(MAX_LISTED);
    let first = texts.iter().take(MAX_LISTED).cloned().collect::<Vec<_>>();
    match more {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use shared::resource::{KEY_HINTS_ANNOTATION, SealedSecretSpec};

    use super::*;

    fn fingerprint(letter: char) -> Fingerprint {
        let text = format!("SHA256:{}A", letter.to_string().repeat(42));
        text.parse().unwrap()
    }

    fn sealed_object(annotations: &[(&str, &str)]) -> SealedSecret {
        let mut sealed = SealedSecret::new("db", SealedSecretSpec::default());
        sealed.metadata.namespace = Some("shop".into());
        let annotations = annotations.iter();
        let annotations = annotations.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        sealed.metadata.annotations = Some(annotations.collect());
        sealed
    }

    #[test]
    fn a_hint_distinguishes_a_moved_object_from_one_of_another_cluster() {
        let (a, b) = (fingerprint('a'), fingerprint('b'));
        let hint = format!("{{\"password\": \"{a}\"}}");
        let hinted = sealed_object(&[(KEY_HINTS_ANNOTATION, &hint)]);
        for (why, object, published, want) in [
            (
                "moved",
                &hinted,
                vec![b.clone(), a.clone()],
                "most likely the object's name, namespace or scope was changed after sealing",
            ),
            (
                "of another cluster",
                &hinted,
                vec![b.clone()],
                "for another cluster",
            ),
            (
                "no published certificate",
                &hinted,
                vec![],
                "Either the object was sealed for another",
            ),
            (
                "no hint",
                &sealed_object(&[]),
                vec![a.clone()],
                "Either the object was sealed for another",
            ),
            (
                "a broken hint",
                &sealed_object(&[(KEY_HINTS_ANNOTATION, "{")]),
                vec![a],
                "Either the object was sealed for another",
            ),
        ] {
            let text = explain_failure(object, &published);
            assert!(text.contains(want), "{why}: {text}");
        }
    }

    #[test]
    fn shows_the_name_and_namespace_that_the_scope_requires() {
        let wide = [("sealedsecrets.bitnami.com/namespace-wide", "true")];
        for (object, want) in [
            (
                sealed_object(&[]),
                "With scope strict, it has to be sealed for name \"db\" and namespace \"shop\".",
            ),
            (
                sealed_object(&wide),
                "With scope namespace-wide, it has to be sealed for namespace \"shop\".",
            ),
        ] {
            let text = explain_failure(&object, &[]);
            assert!(text.starts_with(want), "{text}");
        }
    }
}
