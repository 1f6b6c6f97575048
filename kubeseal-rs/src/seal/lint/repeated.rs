//! Finds repeated keys of a mapping. Some tools use the first of equal keys and others the last, so a reviewer, a check
//! and the cluster may see different values.

use shared::manifest::{self, Node, Value};

use super::SECRETS;
use super::finding;
use super::object::FindingInFile;

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

/// Returns whether a document may contain Secrets. Each of several equal keys counts.
fn may_contain_secrets(root: &Node) -> bool {
    let Value::Map(fields) = &root.value else {
        return false;
    };
    fields.iter().any(|(name, node)| match &node.value {
        Value::Text(kind) if name == "kind" => {
            SECRETS.contains(&kind.as_str()) || *kind.as_str() == *"SecretGenerator"
        }
        Value::List(items) if name == "items" => items.iter().any(may_contain_secrets),
        _ => name == "secretGenerator",
    })
}
