//! Converts documents to SealedSecrets, as leniently as upstream, and back, in upstream's field order.

use std::collections::BTreeMap;

use serde::Deserialize as _;
use serde_json::{Map, Value as Json};

use super::{SealedSecret, SealedSecretStatus};
use crate::manifest::{Coercion, Document, Node, Reading, Shape, ShapeError, Value};
use crate::readable::adapt_metadata;

impl SealedSecret {
    /// Reads every SealedSecret in a document: the document itself, or the items of a `List` or `SealedSecretList`.
    /// Also returns the unquoted scalars that were converted to a different string. A sealed value that is not a string
    /// is read as an empty value, as upstream does.
    ///
    /// # Errors
    ///
    /// Returns an error if an object has a different kind, no `spec` or invalid metadata, or a field of the wrong type,
    /// with its line.
    pub fn all_from_document(
        document: &Document,
    ) -> Result<(Vec<Self>, Vec<Coercion>), DocumentError> {
        let mut reading = Reading::default();
        let sealed = Self::nodes(document)
            .into_iter()
            .map(|node| Self::from_node_leniently(node, &mut reading));
        Ok((sealed.collect::<Result<_, _>>()?, reading.altered_scalars))
    }

    /// Returns the nodes that [`Self::all_from_document`] reads, in the same order.
    pub fn nodes(document: &Document) -> Vec<&Node> {
        document.root.list_items(&["List", "SealedSecretList"])
    }

    /// Reads one SealedSecret, which may be an item of a list with objects of several kinds.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::all_from_document`], and an error for a sealed value that is not a string.
    pub fn from_node(node: &Node, reading: &mut Reading) -> Result<Self, DocumentError> {
        let sealed = Self::from_node_leniently(node, reading)?;
        let with_object = |source| in_object(&sealed, source);
        check_items(node, reading, check_text).map_err(with_object)?;
        Ok(sealed)
    }

    /// Reads one SealedSecret. A sealed value that is not a string becomes an empty value.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::all_from_document`].
    pub fn from_node_leniently(node: &Node, reading: &mut Reading) -> Result<Self, DocumentError> {
        let sealed = read_sealed_secret(node, reading)?;
        let with_object = |source| in_object(&sealed, source);
        check_items(node, reading, |_, _| Ok(())).map_err(with_object)?;
        Ok(sealed)
    }

    /// Returns the SealedSecret as JSON, in the field order of upstream's types. Omits metadata fields and the status
    /// if they are absent.
    pub fn to_document(&self) -> Json {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        order_metadata(&mut json["metadata"]);
        order_metadata(&mut json["spec"]["template"]["metadata"]);
        order(&mut json["spec"], &["template", "data", "encryptedData"]);
        order(
            &mut json,
            &["kind", "apiVersion", "metadata", "spec", "status"],
        );
        json
    }
}

fn read_sealed_secret(node: &Node, reading: &mut Reading) -> Result<SealedSecret, DocumentError> {
    expect_kind(node, "SealedSecret", "bitnami.com/v1alpha1")?;
    if matches!(
        node.field("spec").map(|spec| &spec.value),
        None | Some(Value::Null)
    ) {
        return Err(DocumentError::NoSpec);
    }
    let mut json = reading.json(node, SEALED_SECRET_SHAPE)?;
    if json["metadata"].is_null() {
        json["metadata"] = Json::Object(Map::new());
    }
    for pointer in ["/metadata", "/spec/template/metadata"] {
        json.pointer_mut(pointer).map(adapt_metadata);
    }
    // Other clients may write the status, so a malformed status is ignored, as in the controller.
    let has_status = SealedSecretStatus::deserialize(&json["status"]).is_ok();
    if let (false, Some(object)) = (has_status, json.as_object_mut()) {
        object.remove("status");
    }
    // After the types were checked, serde rejects only malformed times, numbers, owner references and managed fields.
    serde_json::from_value(json).map_err(|_| DocumentError::Metadata)
}

/// Checks `spec.encryptedData` and each of its values. Without this check, a field that is not a mapping would count as
/// empty, as in the controller and upstream, and an object that lost all its values would look valid.
fn check_items(
    node: &Node,
    reading: &mut Reading,
    check: fn(&Node, &mut Reading) -> Result<(), ShapeError>,
) -> Result<(), ShapeError> {
    let spec = node.field("spec");
    let Some(items) = spec.and_then(|spec| spec.field("encryptedData")) else {
        return Ok(());
    };
    reading.inside("spec", |reading| {
        reading.inside("encryptedData", |reading| match &items.value {
            Value::Map(items) => items
                .iter()
                .try_for_each(|(key, value)| reading.inside(key, |reading| check(value, reading))),
            Value::Null => Ok(()),
            _ => Err(reading.type_error(items, "a mapping of item keys to sealed values")),
        })
    })
}

/// Returns the types of sealed values that are neither strings nor null, such as `a list`, by item key.
pub fn types_of_items(node: &Node) -> BTreeMap<String, &'static str> {
    let items = node
        .field("spec")
        .and_then(|spec| spec.field("encryptedData"));
    let Some(Value::Map(items)) = items.map(|items| &items.value) else {
        return BTreeMap::new();
    };
    let not_strings = items
        .iter()
        .filter(|(_, value)| !matches!(value.value, Value::Text(_) | Value::Null));
    not_strings
        .map(|(key, value)| (key.clone(), value.kind()))
        .collect()
}

fn check_text(value: &Node, reading: &mut Reading) -> Result<(), ShapeError> {
    match value.value {
        Value::Text(_) | Value::Null => Ok(()),
        _ => Err(reading.type_error(value, "a string, a sealed value in base64")),
    }
}

fn in_object(sealed: &SealedSecret, source: ShapeError) -> DocumentError {
    let object = sealed.qualified_name();
    DocumentError::Items { object, source }
}

/// Checks the kind. A missing `kind` or `apiVersion` counts as the expected value, as in upstream.
pub(crate) fn expect_kind(
    node: &Node,
    kind: &'static str,
    api_version: &'static str,
) -> Result<(), DocumentError> {
    let field = |name| node.text(name).unwrap_or_default();
    let (found, version) = (field("kind"), field("apiVersion"));
    if found.is_empty() && version.is_empty() || (found, version) == (kind, api_version) {
        return Ok(());
    }
    if found == kind && version.is_empty() || found.is_empty() && version == api_version {
        return Ok(());
    }
    let found = format!("{version} {found}").trim().to_owned();
    Err(DocumentError::Kind {
        found,
        kind,
        api_version,
    })
}

/// Why an object in a document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The object has a different kind.
    #[error("it is {found}, not {api_version} {kind}")]
    Kind {
        /// The `apiVersion` and `kind` of the object.
        found: String,
        /// The expected kind.
        kind: &'static str,
        /// The expected API version.
        api_version: &'static str,
    },
    /// The SealedSecret has no `spec`.
    #[error("it has no `spec`, so it is not a SealedSecret")]
    NoSpec,
    /// A field has the wrong type of value.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The field `encryptedData` or one of its values has the wrong type.
    #[error("SealedSecret {object}")]
    Items {
        /// Namespace and name of the object.
        object: String,
        /// The field and the expected type.
        source: ShapeError,
    },
    /// A time, a number, an owner reference or a managed field in the metadata is malformed.
    #[error(
        "its metadata is invalid; check its timestamps (in the form 2006-01-02T15:04:05Z), `ownerReferences` and `managedFields`"
    )]
    Metadata,
    /// An item of `data` is a template action.
    #[error("line {line}: data.{key} is a template action; render the template first")]
    Template {
        /// Item key.
        key: String,
        /// Line of the item.
        line: usize,
    },
    /// An item of `data` is not base64.
    #[error("line {line}: data.{key} is not base64 (plain text belongs in `stringData`)")]
    Base64 {
        /// Item key.
        key: String,
        /// Line of the item.
        line: usize,
        /// The base64 error.
        source: crate::base64::Base64Error,
    },
}

/// Field order of Go's `ObjectMeta`.
const METADATA_ORDER: [&str; 15] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

/// Sorts metadata into upstream's order.
pub(crate) fn order_metadata(metadata: &mut Json) {
    order(metadata, &METADATA_ORDER);
}

/// Moves the named fields to the front, in this order.
pub(crate) fn order(object: &mut Json, names: &[&str]) {
    let Json::Object(map) = object else { return };
    let mut fields = std::mem::take(map);
    for name in names {
        if let Some((key, value)) = fields.remove_entry(*name) {
            map.insert(key, value);
        }
    }
    map.extend(fields);
}

/// The metadata fields of upstream's types. The type of fields with [`Shape::Any`] is not checked here.
pub(crate) const METADATA: Shape = Shape::Fields(&[
    ("name", Shape::Text),
    ("generateName", Shape::Text),
    ("namespace", Shape::Text),
    ("selfLink", Shape::Text),
    ("uid", Shape::Text),
    ("resourceVersion", Shape::Text),
    ("generation", Shape::Any),
    ("creationTimestamp", Shape::Any),
    ("deletionTimestamp", Shape::Any),
    ("deletionGracePeriodSeconds", Shape::Any),
    ("labels", Shape::Map(&Shape::Text)),
    ("annotations", Shape::Map(&Shape::Text)),
    (
        "ownerReferences",
        Shape::List(&Shape::Fields(&[
            ("apiVersion", Shape::Text),
            ("kind", Shape::Text),
            ("name", Shape::Text),
            ("uid", Shape::Text),
            ("controller", Shape::Bool),
            ("blockOwnerDeletion", Shape::Bool),
        ])),
    ),
    ("finalizers", Shape::List(&Shape::Text)),
    ("managedFields", Shape::Any),
]);

const SEALED_SECRET_SHAPE: Shape = Shape::Fields(&[
    ("apiVersion", Shape::Text),
    ("kind", Shape::Text),
    ("metadata", METADATA),
    (
        "spec",
        Shape::Fields(&[
            (
                "template",
                Shape::Fields(&[
                    ("metadata", METADATA),
                    ("type", Shape::Text),
                    ("immutable", Shape::Bool),
                    ("data", Shape::Map(&Shape::TextOrNull)),
                ]),
            ),
            ("data", Shape::Text),
            ("encryptedData", Shape::Any),
        ]),
    ),
    ("status", Shape::Any),
]);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest;

    fn read(yaml: &str) -> Result<SealedSecret, String> {
        let documents = manifest::read(yaml.as_bytes()).map_err(|e| e.to_string())?;
        let (mut objects, _) =
            SealedSecret::all_from_document(&documents[0]).map_err(|e| crate::error_chain(&e))?;
        objects.pop().ok_or_else(|| "none".to_owned())
    }

    #[test]
    fn reads_as_leniently_as_upstream() {
        for (why, yaml, want) in [
            (
                "an empty spec",
                "kind: SealedSecret\napiVersion: bitnami.com/v1alpha1\nspec: {}",
                json!({}),
            ),
            (
                "no kind",
                "spec: {encryptedData: {a: x}}",
                json!({"a": "x"}),
            ),
            (
                "null",
                "spec: {template: null, encryptedData: {a: null}}",
                json!({"a": ""}),
            ),
            (
                "values that are not strings",
                "spec: {encryptedData: {a: 5, b: [x], c: z}}",
                json!({"a": "", "b": "", "c": "z"}),
            ),
            (
                "null metadata in the template",
                "spec: {template: {metadata: null, data: null}}",
                json!({}),
            ),
        ] {
            let sealed = read(yaml).unwrap_or_else(|e| unreachable!("{why}: {e}"));
            assert_eq!(json!(sealed.spec.encrypted_data), want, "{why}");
        }
    }

    /// Attack: the author of a file hides an object with a time that Kubernetes accepts and `jiff` cannot represent.
    #[test]
    fn reads_times_that_only_go_can_represent() {
        for time in [
            "9999-12-31T23:59:59Z",
            "'0000-01-01T00:00:00+14:00'",
            "2026-01-01T00:00:00.1234567890Z",
        ] {
            for metadata in [
                "creationTimestamp: TIME",
                "deletionTimestamp: TIME",
                "managedFields: [{time: TIME}]",
            ] {
                let metadata = metadata.replace("TIME", time);
                let yaml = format!(
                    "metadata: {{{metadata}}}\nspec: {{template: {{metadata: {{{metadata}}}}}}}"
                );
                assert!(read(&yaml).is_ok(), "{yaml}");
            }
        }
        let no_time = read("metadata: {creationTimestamp: soon}\nspec: {}");
        assert!(no_time.unwrap_err().contains("2006-01-02T15:04:05Z"));
    }

    /// Attack: a client that may write statuses hides an object from the key commands with a malformed status.
    #[test]
    fn a_malformed_status_leaves_the_object_readable() {
        for status in [
            "5",
            "{conditions: 5}",
            "{conditions: [{type: a, status: b, lastUpdateTime: '9999-12-31T23:59:59Z'}]}",
        ] {
            let sealed = read(&format!(
                "status: {status}\nspec: {{encryptedData: {{a: x}}}}"
            ))
            .unwrap();
            assert_eq!(
                (sealed.status, sealed.spec.encrypted_data.len()),
                (None, 1),
                "{status}"
            );
        }
        let sealed = read("status: {observedGeneration: 3}\nspec: {}").unwrap();
        assert_eq!(sealed.status.unwrap().observed_generation, Some(3));
    }

    #[test]
    fn reports_documents_that_are_not_sealed_secrets() {
        for (yaml, want) in [
            (
                "kind: Secret",
                "it is Secret, not bitnami.com/v1alpha1 SealedSecret",
            ),
            (
                "{kind: SealedSecret, apiVersion: bitnami.com/v2}",
                "it is bitnami.com/v2 SealedSecret, not",
            ),
            (
                "{kind: Secret, apiVersion: bitnami.com/v1alpha1}",
                "it is bitnami.com/v1alpha1 Secret, not",
            ),
            ("apiVersion: v1", "it is v1, not"),
            ("kind: SealedSecret", "it has no `spec`"),
            ("kind: SealedSecret\nspec: ~", "it has no `spec`"),
            ("spec: 1", "line 1: spec must be a mapping, not a number"),
            ("spec: [x]", "line 1: spec must be a mapping, not a list"),
            ("spec: text", "line 1: spec must be a mapping, not a string"),
            ("apiVersion: bitnami.com/v1alpha1", "it has no `spec`"),
            (
                "spec: {template: {type: []}}",
                "line 1: spec.template.type must be a string, not a list",
            ),
        ] {
            let error = read(yaml).unwrap_err();
            assert!(error.starts_with(want), "{error}");
        }
    }

    #[test]
    fn names_the_object_and_field_of_items_of_another_type() {
        for (items, want) in [
            (
                "[{a: AgB}]",
                "spec.encryptedData must be a mapping of item keys to sealed values, not a list",
            ),
            (
                "AgB",
                "spec.encryptedData must be a mapping of item keys to sealed values, not a string",
            ),
            (
                "''",
                "spec.encryptedData must be a mapping of item keys to sealed values, not a string",
            ),
            (
                "5",
                "spec.encryptedData must be a mapping of item keys to sealed values, not a number",
            ),
            (
                "true",
                "spec.encryptedData must be a mapping of item keys to sealed values, not a boolean",
            ),
            (
                "{b: AgB, a: 5}",
                "spec.encryptedData.a must be a string, a sealed value in base64, not a number",
            ),
            (
                "{a: [AgB]}",
                "spec.encryptedData.a must be a string, a sealed value in base64, not a list",
            ),
            (
                "{a: {b: AgB}}",
                "spec.encryptedData.a must be a string, a sealed value in base64, not a mapping",
            ),
            (
                "{a: false}",
                "spec.encryptedData.a must be a string, a sealed value in base64, not a boolean",
            ),
        ] {
            let yaml =
                format!("metadata: {{name: db, namespace: ns}}\nspec:\n  encryptedData: {items}");
            let documents = manifest::read(yaml.as_bytes()).unwrap();
            let error = SealedSecret::from_node(&documents[0].root, &mut Reading::default());
            let error = crate::error_chain(&error.unwrap_err());
            assert_eq!(
                error,
                format!("SealedSecret ns/db: line 3: {want}"),
                "{items}"
            );
            let is_mapping = items.starts_with('{');
            assert_eq!(read(&yaml).is_ok(), is_mapping, "{items}");
        }
    }

    #[test]
    fn writes_the_field_order_of_upstream() {
        let sealed = read(
            "{spec: {encryptedData: {b: x, a: z}, template: {immutable: true, type: t, metadata: {labels: {l: v}, name: web}}},
              metadata: {annotations: {z: '1'}, namespace: ns, name: web}}",
        )
        .unwrap();
        let want = r#"{"kind":"SealedSecret","apiVersion":"bitnami.com/v1alpha1","metadata":{"name":"web","namespace":"ns","annotations":{"z":"1"}},"spec":{"template":{"metadata":{"name":"web","labels":{"l":"v"}},"type":"t","immutable":true},"encryptedData":{"a":"z","b":"x"}}}"#;
        assert_eq!(sealed.to_document().to_string(), want);
    }
}
