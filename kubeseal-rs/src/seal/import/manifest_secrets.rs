//! Finds the Secrets among the documents in a file, without overlooking any.

use std::collections::BTreeSet;

use kubeseal_library::walk::{LISTS, ManifestFile};
use shared::manifest::{Node, Value};
use shared::secret::Secret;

use crate::failure::Failure;

/// The contents of a file of manifests.
pub(super) struct ManifestContents<'a> {
    /// The Secrets, including those in lists.
    pub(super) secrets: Vec<&'a Node>,
    /// A message for each object of another kind, which is not imported.
    pub(super) skipped: Vec<String>,
}

/// Finds the Secrets in a file. Items of a `SecretList` need no `kind`, as for the API server.
///
/// # Errors
///
/// Fails if the file contains Secrets and also an object without a kind, which may be a Secret.
pub(super) fn secrets_in<'a>(
    manifest: &'a ManifestFile,
    file: &str,
) -> Result<ManifestContents<'a>, Failure> {
    let mut search = Search {
        file,
        document: 0,
        contents: ManifestContents {
            secrets: Vec::new(),
            skipped: Vec::new(),
        },
        without_kind: None,
    };
    for document in &manifest.documents {
        search.document = document.number;
        search.search(&document.root, false);
    }
    match search.without_kind {
        Some(failure) if !search.contents.secrets.is_empty() => Err(failure),
        _ => Ok(search.contents),
    }
}

struct Search<'a, 'f> {
    file: &'f str,
    document: usize,
    contents: ManifestContents<'a>,
    /// The error for the first object without a kind.
    without_kind: Option<Failure>,
}

impl<'a> Search<'a, '_> {
    fn search(&mut self, node: &'a Node, is_in_secret_list: bool) {
        // `sops` writes an empty document as an empty mapping.
        if matches!(&node.value, Value::Map(fields) if fields.is_empty()) {
            return;
        }
        let kind = node.text("kind").unwrap_or_default();
        let version = node.text("apiVersion").unwrap_or_default();
        if LISTS.contains(&kind) {
            if let Some(Value::List(items)) = node.field("items").map(|items| &items.value) {
                for item in items {
                    self.search(item, kind == "SecretList");
                }
            }
            return;
        }
        let is_secret = match kind {
            "Secret" => matches!(version, "" | "v1"),
            "" => is_in_secret_list,
            _ => false,
        };
        if is_secret {
            self.contents.secrets.push(node);
        } else if kind.is_empty() {
            let message = format!(
                "{}, document {}, line {}: the object has no `kind` and may be a Secret",
                self.file, self.document, node.line
            );
            self.without_kind.get_or_insert_with(|| {
                Failure::new(message)
                    .hint("add `apiVersion: v1` and `kind: Secret`, or remove the object")
            });
        } else {
            self.contents.skipped.push(format!(
                "{}, document {}, line {}: skipped: not a Secret but {}",
                self.file,
                self.document,
                node.line,
                format!("{version} {kind}").trim()
            ));
        }
    }
}

/// Refuses two Secrets with the same name and namespace: a cluster would keep only the last one.
pub(super) fn refuse_duplicates(secrets: &[Secret], file: &str) -> Result<(), Failure> {
    let mut names = BTreeSet::new();
    for secret in secrets {
        let metadata = &secret.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        if !names.insert((namespace, name)) {
            let object_name = shared::resource::qualified_name(namespace, name);
            let message = format!("{file} contains two Secrets with the name {object_name}");
            return Err(Failure::new(message).hint("rename or remove one of them"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use zeroize::Zeroizing;

    use super::*;

    const SECRET: &str = "{apiVersion: v1, kind: Secret}";

    fn counts(text: &str) -> Option<(usize, usize)> {
        let bytes = Zeroizing::new(text.as_bytes().to_vec());
        let manifest = ManifestFile::parse(Path::new("f"), bytes).unwrap();
        let contents = secrets_in(&manifest, "f").ok()?;
        Some((contents.secrets.len(), contents.skipped.len()))
    }

    #[test]
    fn counts_the_secrets_in_documents_and_lists() {
        for (why, text, want) in [
            ("alone", SECRET.to_owned(), Some((1, 0))),
            ("without a version", "kind: Secret".into(), Some((1, 0))),
            (
                "after an object of another kind",
                format!("{{apiVersion: v1, kind: ConfigMap}}\n---\n{SECRET}"),
                Some((1, 1)),
            ),
            ("two", format!("{SECRET}\n---\n{SECRET}"), Some((2, 0))),
            (
                "in a list",
                format!("kind: List\nitems: [{SECRET}, {{kind: ConfigMap}}, {SECRET}]"),
                Some((2, 1)),
            ),
            (
                "in a list of lists",
                format!("kind: List\nitems: [{{kind: List, items: [{SECRET}]}}]"),
                Some((1, 0)),
            ),
            (
                "in a list of Secrets, without a kind",
                "kind: SecretList\nitems: [{metadata: {name: a}}]".into(),
                Some((1, 0)),
            ),
            (
                "next to an object without a kind",
                format!("{SECRET}\n---\na: b"),
                None,
            ),
            (
                "next to an object without a kind, in a list",
                format!("kind: List\nitems: [{SECRET}, {{stringData: {{a: b}}}}]"),
                None,
            ),
            (
                "next to an empty document",
                format!("{SECRET}\n---\n{{}}\n"),
                Some((1, 0)),
            ),
            ("only values", "a: b".into(), Some((0, 0))),
            (
                "another group",
                "{apiVersion: x.io/v1, kind: Secret}".into(),
                Some((0, 1)),
            ),
        ] {
            assert_eq!(counts(&text), want, "{why}");
        }
    }

    #[test]
    fn refuses_two_secrets_with_the_same_name() {
        let secret = |namespace: &str, name: &str| {
            let mut secret = Secret::default();
            secret.metadata.namespace = Some(namespace.to_owned());
            secret.metadata.name = Some(name.to_owned());
            secret
        };
        let distinct = [secret("a", "b"), secret("a", "c"), secret("c", "b")];
        assert!(refuse_duplicates(&distinct, "f").is_ok());
        assert!(refuse_duplicates(&[secret("a", "b"), secret("a", "b")], "f").is_err());
    }
}
