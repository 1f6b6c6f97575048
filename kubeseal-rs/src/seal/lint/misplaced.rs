//! Finds values of a Secret outside of `data` and `stringData`: with a wrong indentation, or in a field with a
//! misspelled name. The API server refuses or drops such a field, but its values are in the file.

use kubeseal_library::finding;
use shared::manifest::{Node, Value, is_same_name};
use shared::names;

use super::object::FindingInFile;
use super::placeholder::is_templated;
use super::plain::{is_sops_ciphertext, is_v1, is_value, join_first_keys, name_of};
use super::template::Literals;

/// The fields of a Secret, and the field with the SOPS metadata.
const FIELDS: [&str; 8] = [
    "apiVersion",
    "data",
    "immutable",
    "kind",
    "metadata",
    "sops",
    "stringData",
    "type",
];

/// The fields of `metadata`. They contain no values, even if they are outside `metadata` by mistake.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Returns the finding for a Secret of the core API with plain values outside of `data` and `stringData`. An object
/// without `metadata` is a reference to a Secret, such as a `sourceRef`, and has other fields.
pub(super) fn values(
    secret: &Node,
    literals: &Literals<'_>,
    has_sops: bool,
) -> Option<FindingInFile> {
    let metadata = secret.field("metadata")?;
    let mut versions = secret.texts("apiVersion");
    if secret.texts("apiVersion").next().is_some() && !versions.any(is_v1) {
        return None;
    }
    let mut search = Search {
        literals,
        has_sops: has_sops || secret.field("sops").is_some(),
        line: secret.line,
        keys: Vec::new(),
    };
    let is_known = |name: &str| is_among(name, &FIELDS) || is_among(name, &METADATA);
    for (name, node) in fields(secret).iter().filter(|(name, _)| !is_known(name)) {
        search.search_field("", name, node);
    }
    search.search_metadata(metadata);
    search.finding(name_of(secret))
}

struct Search<'a> {
    literals: &'a Literals<'a>,
    has_sops: bool,
    /// The line of the first value.
    line: usize,
    /// The paths of the values.
    keys: Vec<String>,
}

impl Search<'_> {
    /// Searches `metadata`. A string in an unknown field is most likely a label or an annotation with a wrong
    /// indentation, unless `metadata` also contains an empty `data` or `stringData`.
    fn search_metadata(&mut self, metadata: &Node) {
        let starts_values = |(name, node): &(String, Node)| {
            is_values_field(name) && matches!(node.value, Value::Null)
        };
        let has_start = fields(metadata).iter().any(starts_values);
        for (name, node) in fields(metadata) {
            if !is_among(name, &METADATA) && (has_start || is_mapping(node)) {
                self.search_field("metadata.", name, node);
            }
        }
        for field in ["annotations", "labels"] {
            let entries = metadata.field(field).map_or(&[][..], fields);
            for (name, node) in entries.iter().filter(|(_, node)| is_mapping(node)) {
                self.search_field(&format!("metadata.{field}."), name, node);
            }
        }
    }

    /// Adds the values of an unknown field. A name that is not the key of an item may be a value, so it is not shown.
    fn search_field(&mut self, above: &str, name: &str, node: &Node) {
        if is_templated(name) || is_of_tool(name, node) {
            return;
        }
        let is_key = names::check_item(name).is_ok();
        let shown = if is_key { name } else { "(invalid name)" };
        self.search_node(&format!("{above}{shown}"), node);
    }

    fn search_node(&mut self, path: &str, node: &Node) {
        match &node.value {
            Value::Map(entries) => {
                for (name, node) in entries {
                    if is_templated(name) || names::check_item(name).is_err() {
                        self.search_node(path, node);
                    } else {
                        self.search_node(&format!("{path}.{name}"), node);
                    }
                }
            }
            Value::List(items) => {
                for item in items {
                    self.search_node(path, item);
                }
            }
            Value::Bool(_) => {}
            _ if self.has_sops && is_sops_ciphertext(node) => {}
            _ if is_value(node, true, self.literals) => self.add(path, node.line),
            _ => {}
        }
    }

    fn add(&mut self, path: &str, line: usize) {
        if self.keys.is_empty() {
            self.line = line;
        }
        if !self.keys.iter().any(|key| key == path) {
            self.keys.push(path.to_owned());
        }
    }

    fn finding(self, name: &str) -> Option<FindingInFile> {
        let keys: Vec<&str> = self.keys.iter().map(String::as_str).collect();
        let message = format!(
            "the Secret {name} has values outside of data and stringData: {}; move them to stringData, seal the Secret \
             with `seal -i`, and change the values if they were committed",
            join_first_keys(&keys)
        );
        (!keys.is_empty()).then_some((finding::PLAIN_SECRET, self.line, message))
    }
}

fn fields(node: &Node) -> &[(String, Node)] {
    match &node.value {
        Value::Map(fields) => fields,
        _ => &[],
    }
}

/// Returns whether a field is a directive of kustomize, or an anchor of Kyverno such as `=(data)`, which compares
/// values and does not set them.
fn is_of_tool(name: &str, node: &Node) -> bool {
    let is_directive = || {
        let values = ["delete", "merge", "replace"];
        matches!(&node.value, Value::Text(text) if values.contains(&text.as_str()))
    };
    let is_anchor = |start| name.starts_with(start) && name.ends_with(')');
    name == "$patch" && is_directive() || ["(", "=(", "^(", "<(", "X("].into_iter().any(is_anchor)
}

fn is_mapping(node: &Node) -> bool {
    matches!(node.value, Value::Map(_))
}

/// Returns whether a field has one of these names, or a variant of one.
fn is_among(name: &str, names: &[&str]) -> bool {
    names.iter().any(|other| is_same_name(name, other))
}

fn is_values_field(name: &str) -> bool {
    is_among(name, &["data", "stringData"])
}
