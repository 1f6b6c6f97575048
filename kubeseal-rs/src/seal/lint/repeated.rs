//! Finds repeated keys of a mapping. Some tools use the first of equal keys and others the last, so a reviewer, a check
//! and the cluster may see different values.

use std::collections::BTreeMap;

use shared::manifest::{self, Node, Value, folded};

use super::SECRETS;
use super::finding;
use super::object::FindingInFile;
use super::patch;
use super::placeholder::is_templated;
use super::plain::SECRET_GENERATOR;

/// The fields of objects and kustomizations whose mappings contain only names of fields, and no chosen names such as
/// those of items or labels.
const FIXED: [&str; 8] = [
    "items",
    "metadata",
    "patches",
    "patchesjson6902",
    "secretgenerator",
    "spec",
    "target",
    "template",
];

/// Returns a finding for each key of a file that is repeated or that a merge overrides, in documents that any tool may
/// read as Secrets, SealedSecrets or generators of Secrets.
pub(super) fn keys(bytes: &[u8]) -> Vec<FindingInFile> {
    let repeated = manifest::repeated_keys(bytes, may_contain_secrets);
    let finding = |repeated: manifest::RepeatedKey| {
        let key = &repeated.key;
        let message = if repeated.is_merged {
            format!(
                "a merge (`<<`) overrides the key {key}: tools disagree on which value applies; remove one"
            )
        } else {
            format!("duplicate key {key}: tools disagree on which value applies; remove one")
        };
        (finding::REPEATED_KEY, repeated.line, message)
    };
    repeated.into_iter().map(finding).collect()
}

/// Returns a finding for each field of a document whose name is a variant of another name in its mapping, such as
/// `literals` and `Literals`, if tools may read the document as Secrets, SealedSecrets or generators of Secrets. Tools
/// that ignore letter case disagree on which of them applies.
pub(super) fn variants(root: &Node) -> Vec<FindingInFile> {
    let mut findings = Vec::new();
    if may_contain_secrets(root) {
        add_variants(root, &mut findings);
    }
    findings
}

fn add_variants(node: &Node, findings: &mut Vec<FindingInFile>) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| add_variants(item, findings)),
        Value::Map(fields) => {
            let mut earlier_names = BTreeMap::new();
            for (name, value) in fields.iter().filter(|(name, _)| !is_templated(name)) {
                let folded = folded(name);
                if FIXED.contains(&folded.as_str()) {
                    add_variants(value, findings);
                }
                let other = earlier_names.insert(folded.to_string(), name);
                if let Some(other) = other.filter(|other| *other != name) {
                    findings.push((
                        finding::REPEATED_KEY,
                        value.line,
                        variant_message(name, other),
                    ));
                }
            }
        }
        _ => {}
    }
}

fn variant_message(name: &str, other: &str) -> String {
    format!(
        "duplicate key {name}, a variant of {other}: tools disagree on whether they are equal, and on which value \
         applies; remove one"
    )
}

/// Returns whether a document may contain Secrets, generate them, or patch them. Each of several equal keys, and of
/// several variants of a key, counts.
fn may_contain_secrets(root: &Node) -> bool {
    let is_kind = |kind: &str| SECRETS.contains(&kind) || kind == SECRET_GENERATOR;
    let is_list = |list: &Node| match &list.value {
        Value::List(items) => items.iter().any(may_contain_secrets),
        _ => false,
    };
    root.texts("kind").any(is_kind)
        || root.fields("items").any(is_list)
        || root.fields("secretGenerator").next().is_some()
        || patch::patches_secret(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: a committer writes two variants of the name of a field, so that kustomize uses another one than a
    /// reviewer or a check.
    #[test]
    fn finds_variants_of_a_name() {
        for (text, want) in [
            (
                "secretGenerator:\n- literals: []\n  LITERALS: [a=b]\n",
                Some(3),
            ),
            ("secretGenerator: []\n\u{17f}ecretGenerator: []\n", Some(2)),
            ("secretGenerator: []\nKind: A\n\u{212a}ind: B\n", Some(3)),
            ("kind: SecretGenerator\nenvs: []\nEnvs: []\n", Some(3)),
            (
                "kind: Secret\nstringData: {}\nStringData: {a: b}\n",
                Some(3),
            ),
            (
                "patches:\n- target: {Kind: Secret, KIND: ConfigMap}\n",
                Some(2),
            ),
            (
                "patches:\n- target: {kind: Sec.*}\n  patch: a\n  PATCH: b\n",
                Some(4),
            ),
            (
                "kind: List\nitems:\n- {kind: Secret, data: {}, Data: {}}\n",
                Some(3),
            ),
            (
                "kind: Secret\nstringData: {user: a, USER: b}\nmetadata: {labels: {a: b, A: c}}\n",
                None,
            ),
            (
                "kind: SealedSecret\nspec: {encryptedData: {a: b, A: c}, template: {data: {a: b, A: c}}}\n",
                None,
            ),
            ("kind: ConfigMap\ndata: {}\nData: {}\n", None),
            (
                "patches:\n- target: {Kind: Deployment, KIND: ConfigMap}\n",
                None,
            ),
        ] {
            let documents = manifest::read(text.as_bytes()).unwrap();
            let findings = variants(&documents[0].root);
            let line = findings.first().map(|(_, line, _)| *line);
            assert_eq!(line, want, "{text}");
        }
    }
}
