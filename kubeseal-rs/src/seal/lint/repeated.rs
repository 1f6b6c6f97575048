//! Keys that a mapping has twice. Of equal keys some tools take the first and others the last, so a reader, a check
//! and the cluster may see different values.

use shared::manifest::{self, Node, Value};

use super::SECRETS;
use super::finding;
use super::object::Found;

/// Looks at a file, for keys in documents that hold Secrets, SealedSecrets or generators of Secrets to any tool.
pub(super) fn keys(bytes: &[u8]) -> Vec<Found> {
    let found = manifest::repeated_keys(bytes, holds_secrets);
    let finding = |repeated: manifest::RepeatedKey| {
        let message = format!(
            "the key {} is repeated in its mapping, and tools disagree which one counts; remove one",
            repeated.key
        );
        (finding::REPEATED_KEY, repeated.line, message)
    };
    found.into_iter().map(finding).collect()
}

/// Of equal keys, each counts here.
fn holds_secrets(root: &Node) -> bool {
    let Value::Map(fields) = &root.value else {
        return false;
    };
    fields.iter().any(|(name, node)| match &node.value {
        Value::Text(kind) if name == "kind" => {
            SECRETS.contains(&kind.as_str()) || *kind.as_str() == *"SecretGenerator"
        }
        Value::List(items) if name == "items" => items.iter().any(holds_secrets),
        _ => name == "secretGenerator",
    })
}
