//! Refuses a file with v2 values if a document with SealedSecrets repeats a key, and any file in which a merge (`<<`)
//! overrides a key of such a document. Parsers disagree on which value applies, so a user would see or change a value
//! or template other than the one that the cluster uses. Repeated keys are accepted in files with only v1 values, as
//! upstream does: `kubectl` uses the last one, and kustomize refuses them.

use shared::manifest::{self, Document, Node, RepeatedKey, Value};
use shared::v2;

use crate::shown::shown;

/// A key is repeated in a file with v2 values, or overridden by a merge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}\nhint: remove one of them; an API server uses the last one", self.problem())]
pub struct RepeatedKeyError {
    /// The line of the repeated key.
    pub line: usize,
    /// The key, as written.
    pub key: String,
    /// Whether a merge repeats the key.
    pub is_merged: bool,
}

impl RepeatedKeyError {
    /// Returns the message without its hint.
    pub fn problem(&self) -> String {
        if self.is_merged {
            return format!(
                "line {}: a merge (`<<`) overrides the key {}, and tools disagree on which value applies",
                self.line,
                shown(&self.key)
            );
        }
        format!(
            "line {}: the key {} occurs twice in its mapping, in a file with values that are sealed as v2",
            self.line,
            shown(&self.key)
        )
    }
}

/// Checks the content of a file, and the documents that were parsed from it.
///
/// # Errors
///
/// Fails if a document that can contain SealedSecrets repeats a key and a SealedSecret of the file has v2 values, or if
/// a merge repeats a key.
pub fn check(bytes: &[u8], documents: &[Document]) -> Result<(), RepeatedKeyError> {
    let has_v2 = documents.iter().any(|document| has_v2(&document.root));
    if !has_v2 && memchr::memmem::find(bytes, b"<").is_none() {
        return Ok(());
    }
    let repeated = manifest::repeated_keys(bytes, may_contain_sealed);
    match repeated.into_iter().find(|key| has_v2 || key.is_merged) {
        Some(RepeatedKey {
            line,
            key,
            is_merged,
        }) => Err(RepeatedKeyError {
            line,
            key,
            is_merged,
        }),
        None => Ok(()),
    }
}

/// The kinds of lists that may contain SealedSecrets.
const LISTS: [&str; 2] = ["List", "SealedSecretList"];

fn has_v2(root: &Node) -> bool {
    let objects = root.list_items(&LISTS).into_iter();
    let mut entries = objects.filter_map(|node| node.field("spec")?.field("encryptedData"));
    entries.any(|entries| match &entries.value {
        Value::Map(entries) => entries.iter().any(is_v2_entry),
        _ => false,
    })
}

fn is_v2_entry((name, node): &(String, Node)) -> bool {
    let is_v2_value = matches!(&node.value, Value::Text(text) if v2::is_v2_value(text));
    is_v2_value || v2::is_lock_entry(name)
}

/// Returns whether a document may contain SealedSecrets. Considers every occurrence of a repeated key.
fn may_contain_sealed(root: &Node) -> bool {
    let Value::Map(fields) = &root.value else {
        return false;
    };
    fields.iter().any(|(name, node)| match &node.value {
        Value::Text(kind) if name == "kind" => {
            ["SealedSecret", "SealedSecretList"].contains(&kind.as_str())
        }
        Value::List(items) if name == "items" => items.iter().any(may_contain_sealed),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "kind: SealedSecret\nspec:\n  encryptedData:\n    a: seal2.i.AA\n";

    fn line(text: &str) -> Option<usize> {
        let documents = manifest::read(text.as_bytes()).unwrap();
        check(text.as_bytes(), &documents)
            .err()
            .map(|error| error.line)
    }

    /// Attack: a committer repeats an item, the template or an annotation of an object with v2 values, so that a user
    /// sees or changes a value or template other than the one that the cluster uses.
    #[test]
    fn a_repeated_key_beside_v2_values_is_refused() {
        for (text, want) in [
            (format!("{V2}    a: seal2.i.AB\n"), Some(5)),
            (format!("{V2}  template: {{}}\n  template: {{}}\n"), Some(6)),
            (format!("{V2}metadata:\n  annotations: {{x: a, x: b}}\n"), Some(6)),
            (format!("kind: ConfigMap\n---\n{V2}spec: {{encryptedData: {{/lock/a: b}}}}\n"), Some(7)),
            (
                "kind: List\nitems:\n- {kind: SealedSecret, spec: {encryptedData: {a: seal2.i.AA, a: b, b: seal2.i.AA}}}\n"
                    .to_owned(),
                Some(3),
            ),
            (
                r#"{"kind": "SealedSecret", "spec": {"encryptedData": {"a": "b", "a": "\u0073eal2.i.AA"}}}"#.to_owned(),
                Some(1),
            ),
            (V2.to_owned(), None),
            (format!("{V2}<<: {{spec: {{}}}}\n"), Some(5)),
            (format!("{V2}<<: {{spec: {{}}}}\n").replace("seal2.i.", ""), Some(5)),
            (
                "kind: SealedSecret\nspec:\n  encryptedData: {a: AA}\n  <<: {encryptedData: {a: AB}}\n".to_owned(),
                Some(4),
            ),
            ("kind: SealedSecret\n<<: {spec: {}}\nspec:\n  encryptedData: {a: AA}\n".to_owned(), None),
            ("kind: ConfigMap\ndata: {a: b}\n<<: {data: {}}\n".to_owned(), None),
            (V2.replace("seal2.i.", "") + "    a: AB\n", None),
            (format!("{V2}---\nkind: ConfigMap\ndata: {{a: b, a: c}}\n"), None),
        ] {
            assert_eq!(line(&text), want, "{text}");
        }
    }
}
