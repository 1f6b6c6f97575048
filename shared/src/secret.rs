//! A Secret with its plaintext values.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value as Json, json};

use crate::base64;
use crate::manifest::{Coercion, Document, Node, Reading, Shape, Value};
use crate::plain::Plain;
use crate::readable::adapt_metadata;
use crate::resource::{DocumentError, METADATA, expect_kind, order, order_metadata};

/// A Secret in memory: the input of sealing and the result of unsealing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Secret {
    /// Metadata, such as name, namespace, labels and annotations.
    pub metadata: ObjectMeta,
    /// `type`; `None` means `Opaque`.
    pub type_: Option<String>,
    /// Whether the Secret can never change.
    pub immutable: Option<bool>,
    /// Plaintext values by item key; entries of `stringData` have replaced those of `data`.
    pub data: BTreeMap<String, Plain>,
}

impl Secret {
    /// Reads every Secret in a document: the document itself, or the items of a `List` or `SecretList`. A document
    /// without `kind` counts as a Secret, as in upstream. Also returns which unquoted scalars were converted to a
    /// different string.
    ///
    /// # Errors
    ///
    /// Returns an error for a different kind, invalid metadata, a value of the wrong type, or `data` that is not
    /// base64.
    pub fn all_from_document(
        document: &Document,
    ) -> Result<(Vec<Self>, Vec<Coercion>), DocumentError> {
        let mut reading = Reading::default();
        let nodes = document.root.list_items(&["List", "SecretList"]);
        let secrets = nodes
            .into_iter()
            .map(|node| Self::from_node(node, &mut reading));
        let secrets = secrets.collect::<Result<_, _>>()?;
        Ok((secrets, reading.altered_scalars))
    }

    /// Reads one Secret, which may be an item of a list with objects of several kinds.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::all_from_document`].
    pub fn from_node(node: &Node, reading: &mut Reading) -> Result<Self, DocumentError> {
        read_secret(node, reading)
    }

    /// Returns the document as upstream writes it. **It contains the plaintext values** in base64.
    pub fn to_document(&self) -> Json {
        let data: serde_json::Map<String, Json> = self
            .data
            .iter()
            .map(|(key, value)| (key.clone(), base64::encode(value.expose()).into()))
            .collect();
        let mut metadata = serde_json::to_value(&self.metadata).unwrap_or_default();
        order_metadata(&mut metadata);
        let mut json = json!({"kind": "Secret", "apiVersion": "v1", "metadata": metadata});
        if let Some(immutable) = self.immutable {
            json["immutable"] = immutable.into();
        }
        if !data.is_empty() {
            json["data"] = Json::Object(data);
        }
        if let Some(type_) = &self.type_ {
            json["type"] = type_.as_str().into();
        }
        order(
            &mut json,
            &[
                "kind",
                "apiVersion",
                "metadata",
                "immutable",
                "data",
                "type",
            ],
        );
        json
    }
}

const SHAPE_WITHOUT_VALUES: Shape = Shape::Fields(&[
    ("metadata", METADATA),
    ("type", Shape::Text),
    ("immutable", Shape::Bool),
]);

/// Reads a Secret. The values go directly from the node to [`Plain`], since a JSON tree would not be wiped.
fn read_secret(node: &Node, reading: &mut Reading) -> Result<Secret, DocumentError> {
    expect_kind(node, "Secret", "v1")?;
    let mut json = reading.json(node, SHAPE_WITHOUT_VALUES)?;
    let metadata = match json["metadata"].take() {
        Json::Null => ObjectMeta::default(),
        mut metadata => {
            adapt_metadata(&mut metadata);
            serde_json::from_value(metadata).map_err(|_| DocumentError::Metadata)?
        }
    };
    let type_ = json["type"]
        .as_str()
        .filter(|t| !t.is_empty())
        .map(str::to_owned);
    let immutable = json["immutable"].as_bool();
    let mut data = read_items(node, "data", reading, decode_item)?;
    data.extend(read_items(
        node,
        "stringData",
        reading,
        |_, node, reading| Ok(Plain::from(reading.text(node)?)),
    )?);
    Ok(Secret {
        metadata,
        type_,
        immutable,
        data,
    })
}

/// Converts one value of a map of items into bytes.
type ReadValue = fn(&str, &Node, &mut Reading) -> Result<Plain, DocumentError>;

fn read_items(
    secret: &Node,
    field: &str,
    reading: &mut Reading,
    read_value: ReadValue,
) -> Result<BTreeMap<String, Plain>, DocumentError> {
    let Some(node) = secret.field(field) else {
        return Ok(BTreeMap::new());
    };
    reading.inside(field, |reading| match &node.value {
        Value::Null => Ok(BTreeMap::new()),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, node)| {
                let value = reading.inside(key, |reading| read_value(key, node, reading))?;
                Ok((key.clone(), value))
            })
            .collect(),
        _ => Err(reading.type_error(node, "a mapping").into()),
    })
}

fn decode_item(key: &str, node: &Node, reading: &mut Reading) -> Result<Plain, DocumentError> {
    let text = match &node.value {
        Value::Text(text) => text.as_bytes(),
        Value::Null => b"",
        _ => return Err(reading.type_error(node, "a base64 string").into()),
    };
    base64::decode(text).map(Plain::from).map_err(|source| {
        let (key, line) = (key.to_owned(), node.line);
        if text.trim_ascii_start().starts_with(b"{{") {
            return DocumentError::Template { key, line };
        }
        DocumentError::Base64 { key, line, source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;

    fn read(text: &str) -> Result<(Vec<Secret>, Vec<Coercion>), String> {
        let documents = manifest::read(text.as_bytes()).map_err(|e| e.to_string())?;
        Secret::all_from_document(&documents[0]).map_err(|e| crate::error_chain(&e))
    }

    fn value<'a>(secret: &'a Secret, key: &str) -> &'a [u8] {
        secret.data[key].expose()
    }

    #[test]
    fn string_data_overrides_data() {
        let (secrets, _) =
            read("kind: Secret\ndata: {a: YQ==, b: Yg==}\nstringData: {b: B, c: }\n").unwrap();
        assert_eq!(value(&secrets[0], "a"), b"a");
        assert_eq!(value(&secrets[0], "b"), b"B");
        assert_eq!(value(&secrets[0], "c"), b"");
    }

    #[test]
    fn treats_null_as_no_data_or_an_empty_value() {
        assert!(
            read("{data: , stringData: null}").unwrap().0[0]
                .data
                .is_empty()
        );
        let (secrets, _) = read("data: {a: null}").unwrap();
        assert_eq!(value(&secrets[0], "a"), b"");
    }

    #[test]
    fn reports_scalars_converted_to_another_text() {
        let (secrets, coerced) =
            read("stringData:\n  port: 5432\n  big: 1234567.891\n  yes: on\n  quoted: '1e3'\n")
                .unwrap();
        assert_eq!(value(&secrets[0], "big"), b"1.2345679e+06");
        assert_eq!(value(&secrets[0], "quoted"), b"1e3");
        let reported: Vec<_> = coerced
            .iter()
            .map(|c| (c.line, c.path.as_str(), c.kind))
            .collect();
        assert_eq!(
            reported,
            [
                (3, "stringData.big", "a number"),
                (4, "stringData.true", "a boolean")
            ]
        );
    }

    #[test]
    fn json_numbers_become_text_and_equal_json_fields_are_merged() {
        let (secrets, coerced) =
            read(r#"{"stringData":{"port":8080,"big":1234567.891},"stringData":{"port":80}}"#)
                .unwrap();
        assert_eq!(value(&secrets[0], "port"), b"80");
        assert_eq!(value(&secrets[0], "big"), b"1.2345679e+06");
        assert_eq!(coerced.len(), 1);
    }

    #[test]
    fn null_labels_and_annotations_are_empty() {
        let (secrets, _) = read("metadata: {annotations: {a: , b: null}, labels: null}").unwrap();
        let annotations = secrets[0].metadata.annotations.as_ref().unwrap();
        assert_eq!(
            (annotations["a"].as_str(), annotations["b"].as_str()),
            ("", "")
        );
    }

    #[test]
    fn expands_lists() {
        let list =
            "kind: List\nitems:\n- kind: Secret\n  stringData: {a: x}\n- stringData: {b: y}\n";
        assert_eq!(read(list).unwrap().0.len(), 2);
        assert_eq!(read("kind: List\n").unwrap().0.len(), 0);
    }

    /// Attack: a reader of errors searches them for values of malformed Secrets.
    #[test]
    fn errors_name_the_location_and_the_type_and_never_the_value() {
        for (why, text, want) in [
            (
                "kind",
                "kind: ConfigMap\ndata: {a: hunter2}",
                "it is ConfigMap, not v1 Secret",
            ),
            (
                "kind in a list",
                "kind: List\nitems: [{kind: Pod}]",
                "it is Pod, not v1 Secret",
            ),
            (
                "number in data",
                "data:\n  a: 5",
                "line 2: data.a must be a base64 string, not a number",
            ),
            (
                "a template action",
                "data:\n  a: '{{ .a | b64enc }}'",
                "line 2: data.a is a template action; render the template first",
            ),
            (
                "not base64",
                "data:\n  a: hunter2!",
                "line 2: data.a is not base64 (plain text belongs in `stringData`): illegal base64 data at input byte 7",
            ),
            (
                "map in stringData",
                "stringData: {a: {b: hunter2}}",
                "line 1: stringData.a must be a string, not a mapping",
            ),
            (
                "a string for data",
                "data: hunter2",
                "line 1: data must be a mapping, not a string",
            ),
            (
                "list of labels",
                "metadata: {labels: [a]}",
                "line 1: metadata.labels must be a mapping, not a list",
            ),
            (
                "bad time",
                "metadata: {creationTimestamp: hunter2}",
                "its metadata is invalid; check its timestamps (in the form 2006-01-02T15:04:05Z), `ownerReferences` and `managedFields`",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error, want, "{why}");
        }
    }

    #[test]
    fn writes_the_field_order_of_upstream_and_nothing_that_is_empty() {
        let to_json = |text| read(text).unwrap().0[0].to_document().to_string();
        assert_eq!(
            to_json(
                "{type: t, stringData: {b: B, a: A}, immutable: true, metadata: {namespace: ns, name: web}}"
            ),
            r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"web","namespace":"ns"},"immutable":true,"data":{"a":"QQ==","b":"Qg=="},"type":"t"}"#
        );
        assert_eq!(
            to_json("metadata: {name: web}"),
            r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"web"}}"#
        );
    }

    #[test]
    fn debug_shows_no_value() {
        let (secrets, _) = read("stringData: {a: hunter2}").unwrap();
        assert!(!format!("{secrets:?}").contains("hunter2"));
    }
}
