//! Finds values in patches of Secrets: in JSON patches (RFC 6902) anywhere, and in patches of a kustomization whose
//! target is a Secret.

use std::borrow::Cow;

use kubeseal_library::finding;
use kubeseal_library::walk;
use shared::manifest::{self, Node, Value};
use shared::names;

use super::object::FindingInFile;
use super::plain::{PlainKeys, is_value, join_first_keys, plain_fields};
use super::target_kind;
use super::template::Literals;

/// The fields of a kustomization that contain patches.
const FIELDS: [&str; 2] = ["patches", "patchesJson6902"];

/// Returns whether the target of a patch may be a Secret. Each variant of the names `target` and `kind` counts.
pub(super) fn targets_secret(patch: &Node) -> bool {
    let mut kinds = patch
        .fields("target")
        .flat_map(|target| target.texts("kind"));
    kinds.any(target_kind::may_match_secret)
}

/// Returns whether a patch of a kustomization may change a Secret.
pub(super) fn patches_secret(kustomization: &Node) -> bool {
    patches(kustomization).any(targets_secret)
}

/// Returns the patches of a kustomization.
fn patches(kustomization: &Node) -> impl Iterator<Item = &Node> {
    let lists = FIELDS
        .into_iter()
        .flat_map(|field| kustomization.fields(field));
    let patches = lists.filter_map(|list| match &list.value {
        Value::List(patches) => Some(patches),
        _ => None,
    });
    patches.flatten()
}

/// Returns the finding for an operation of a JSON patch that sets a value. Only Secrets have `stringData`; `data`
/// counts if the target is a Secret.
pub(super) fn operation(
    node: &Node,
    is_secret_patch: bool,
    literals: &Literals<'_>,
) -> Option<FindingInFile> {
    let key = value_of_operation(node, is_secret_patch, literals)?;
    let message = format!(
        "a JSON patch of a Secret has a plain value: {key}; seal it with `seal create`, and change it if it was \
         committed"
    );
    Some((finding::PLAIN_SECRET, node.line, message))
}

/// Returns the finding for a patch that is a part of a Secret, possibly without its kind.
pub(super) fn part_of_secret(node: &Node, literals: &Literals<'_>) -> Option<FindingInFile> {
    let plain = plain_fields(node, literals, false);
    let keys: Vec<&str> = plain.iter().map(String::as_str).collect();
    let message = format!(
        "a patch of a Secret has plain values: {}; seal them with `seal create`, and change them if they were committed",
        join_first_keys(&keys)
    );
    (!keys.is_empty()).then_some((finding::PLAIN_SECRET, node.line, message))
}

/// Returns the files of patches whose target is a Secret, each with the line of its patch.
pub(super) fn files(kustomization: &Node) -> Vec<(usize, &str)> {
    let secret_patches = patches(kustomization).filter(|patch| targets_secret(patch));
    let with_paths = |patch| Node::texts(patch, "path").map(move |path| (patch.line, path));
    secret_patches.flat_map(with_paths).collect()
}

/// Returns the keys of the plain values in the file of a patch whose target is a Secret.
pub(super) fn plain_keys(bytes: &[u8]) -> PlainKeys {
    let literals = Literals::default();
    let mut keys = Vec::new();
    for document in manifest::read_well_formed(bytes) {
        match &document.root.value {
            Value::List(operations) => {
                let key = |node: &Node| value_of_operation(node, true, &literals);
                keys.extend(operations.iter().filter_map(key));
            }
            // A Secret that has a kind is also found without its kustomization.
            _ if walk::Kind::of(&document.root).is_none() => {
                keys.extend(plain_fields(&document.root, &literals, false));
            }
            _ => {}
        }
    }
    let is_key = |key: &str| names::check_item(key).is_ok();
    let keys = keys.iter().map(String::as_str);
    PlainKeys::of(keys.map(|key| {
        if is_key(key) {
            key
        } else {
            "a value without a key"
        }
    }))
}

/// Returns the item key of the plain value that an operation sets, or the name of the field if the value has no item
/// key.
fn value_of_operation(
    node: &Node,
    is_secret_patch: bool,
    literals: &Literals<'_>,
) -> Option<String> {
    node.text("op")?;
    let value = node.field("value")?;
    let mut path = node.text("path")?.strip_prefix('/')?.split('/');
    let field = path.next()?;
    let is_encoded = field == "data";
    if field != "stringData" && !(is_encoded && is_secret_patch) {
        return None;
    }
    let is_plain = |node: &Node| is_value(node, is_encoded, literals);
    match (path.next(), &value.value) {
        (Some(key), _) => is_plain(value).then(|| unescape(key).into_owned()),
        (None, Value::Map(entries)) => {
            let mut plain = entries.iter().filter(|(_, node)| is_plain(node));
            plain.next().map(|(key, _)| key.clone())
        }
        (None, _) => is_plain(value).then(|| field.to_owned()),
    }
}

/// Returns a component of a JSON pointer (RFC 6901) without its escapes.
fn unescape(component: &str) -> Cow<'_, str> {
    if component.contains('~') {
        component.replace("~1", "/").replace("~0", "~").into()
    } else {
        component.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_that_set_values_are_found() {
        for (text, is_secret_patch, want) in [
            (
                "{op: replace, path: /stringData/p, value: hunter2}",
                false,
                Some("p"),
            ),
            (
                "{op: add, path: /stringData/a~1b, value: hunter2}",
                false,
                Some("a/b"),
            ),
            (
                "{op: add, path: /stringData, value: {p: hunter2}}",
                false,
                Some("p"),
            ),
            (
                "{op: add, path: /data/p, value: aHVudGVyMg==}",
                true,
                Some("p"),
            ),
            ("{op: add, path: /data/p, value: aHVudGVyMg==}", false, None),
            ("{op: add, path: /stringData/p, value: '${P}'}", false, None),
            ("{op: remove, path: /stringData/p}", true, None),
            (
                "{op: add, path: /metadata/labels/p, value: hunter2}",
                true,
                None,
            ),
            ("{path: /stringData/p, value: hunter2}", false, None),
        ] {
            let documents = manifest::read(text.as_bytes()).unwrap();
            let key = value_of_operation(&documents[0].root, is_secret_patch, &Literals::default());
            assert_eq!(key.as_deref(), want, "{text}");
        }
    }
}
