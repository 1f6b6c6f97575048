//! SealedSecret on the wire, as lenient as the peer; every annotation and label name.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube_derive::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value as Json};

use crate::manifest::{Coercion, Document, Node, Reading, Shape, ShapeError, Value};

/// On an existing Secret: the controller may overwrite it and take ownership.
pub const MANAGED_ANNOTATION: &str = "sealedsecrets.bitnami.com/managed";
/// On an existing Secret: merge into it instead of replacing it.
pub const PATCH_ANNOTATION: &str = "sealedsecrets.bitnami.com/patch";
/// On the template: the Secret gets no owner.
pub const SKIP_OWNER_ANNOTATION: &str = "sealedsecrets.bitnami.com/skip-set-owner-references";
/// On a key Secret; the value is [`KEY_ACTIVE`] for a key that is loaded.
pub const KEY_LABEL: &str = "sealedsecrets.bitnami.com/sealed-secrets-key";
/// Value of [`KEY_LABEL`] of a key in use.
pub const KEY_ACTIVE: &str = "active";
/// Value of [`KEY_LABEL`] of a key that was taken out because nothing needs it any more.
pub const KEY_RETIRED: &str = "retired";
/// Value of [`KEY_LABEL`] of a key that was taken out because others may know it. The peer's word.
pub const KEY_COMPROMISED: &str = "compromised";
/// On a key Secret: which key was backed up and when. See [`crate::key_marks`].
pub const BACKED_UP_ANNOTATION: &str = "sealedsecrets.bitnami.com/backed-up";
/// On a key Secret: since when others may know the key. It opens and never seals again.
pub const COMPROMISED_ANNOTATION: &str = "sealedsecrets.bitnami.com/compromised";
/// On the newest key Secret, with the value `true`: a key is made to follow it.
pub const RENEW_ANNOTATION: &str = "sealedsecrets.bitnami.com/renew";
/// On a SealedSecret: which certificate each item was sealed with. See [`crate::hints`].
pub const KEY_HINTS_ANNOTATION: &str = "sealedsecrets.bitnami.com/key-hints";
/// Annotations with a copy of the whole Secret, which sealing must not carry along.
pub const LAST_APPLIED_ANNOTATIONS: [&str; 2] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "kubecfg.ksonnet.io/last-applied-configuration",
];

/// What stands in a SealedSecret.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "bitnami.com",
    version = "v1alpha1",
    kind = "SealedSecret",
    plural = "sealedsecrets",
    singular = "sealedsecret",
    namespaced,
    status = "SealedSecretStatus",
    derive = "PartialEq",
    crates(
        kube_core = "::kube_core",
        k8s_openapi = "::k8s_openapi",
        schemars = "::schemars",
        serde = "::serde",
        serde_json = "::serde_json"
    ),
    doc = "A Secret whose values are encrypted; only the controller of the cluster can open it.",
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.conditions[0].message"}"#,
    printcolumn = r#"{"name":"Synced","type":"string","jsonPath":".status.conditions[0].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SealedSecretSpec {
    /// Everything of the Secret except its sealed values.
    #[serde(default, deserialize_with = "null_is_default")]
    pub template: SecretTemplate,
    /// Deprecated: a whole Secret sealed as one value, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Sealed values in base64, by item key. Whatever is no text reads as an empty value: one
    /// malformed object must not stop a stream of many.
    #[serde(default, deserialize_with = "lenient_map")]
    #[schemars(schema_with = "encrypted_data_schema")]
    pub encrypted_data: BTreeMap<String, String>,
}

/// What the Secret looks like.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct SecretTemplate {
    /// Metadata of the Secret; its name and namespace are those of the SealedSecret.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schemars(schema_with = "metadata_schema")]
    pub metadata: ObjectMeta,
    /// Type of the Secret; absent means `Opaque`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Whether the Secret's data may never change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// Templates over the decrypted values, by item key. `null` removes the item of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<BTreeMap<String, Option<String>>>,
}

/// What the controller saw last.
///
/// The API server fills in a generation that never is for an object without status, as for Flux's own
/// resources: kstatus takes an object that says nothing about its generation for a finished one.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(extend("default" = {"observedGeneration": -1}))]
#[serde(rename_all = "camelCase")]
pub struct SealedSecretStatus {
    /// Generation of the object that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Synced` comes first: it is the one that Argo CD and the printer columns read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The key behind each item, or what is wrong with it, in order of item key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<ItemStatus>,
    /// By this the controller knows the Secret again without decrypting anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<SecretRecord>,
}

/// One condition.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Synced`, `Ready` or `Stalled`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// When this condition was last written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// When `status` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// One word for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What became of one item.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ItemStatus {
    /// Item key.
    pub key: String,
    /// Fingerprint of the key that opened it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_by: Option<String>,
    /// Why it did not open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The Secret that came of the SealedSecret, and what only the controller can write: a copy of it in
/// another object, or a changed one, proves nothing. See [`crate::record`].
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRecord {
    /// `uid` of the Secret.
    pub secret_uid: String,
    /// `resourceVersion` of the Secret as it was last written or read.
    pub secret_version: String,
    /// Fingerprint of the key in whose name the two digests are.
    pub key: String,
    /// Keyed digest of the Secret's content.
    pub content: String,
    /// Keyed digest of the SealedSecret and everything above.
    pub proof: String,
}

/// For people: `namespace/name`, or the name alone.
pub fn place(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

impl SealedSecret {
    /// Namespace of the object; empty if it has none.
    pub fn namespace_or_empty(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Name of the object; empty if it has none.
    pub fn name_or_empty(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// For people: `namespace/name`, or the name alone.
    pub fn place(&self) -> String {
        place(self.namespace_or_empty(), self.name_or_empty())
    }

    /// Reads every SealedSecret of a document: the document itself, or the items of a `List` or
    /// `SealedSecretList`. Says as well which unquoted scalars became another text.
    ///
    /// # Errors
    ///
    /// Another kind, or a value of the wrong kind, with its line.
    pub fn all_from_document(
        document: &Document,
    ) -> Result<(Vec<Self>, Vec<Coercion>), DocumentError> {
        let mut reading = Reading::default();
        let nodes = document.root.list_items(&["List", "SealedSecretList"]);
        let sealed = nodes
            .into_iter()
            .map(|node| Self::from_node(node, &mut reading));
        Ok((sealed.collect::<Result<_, _>>()?, reading.coerced))
    }

    /// Reads one object, which may stand in a list of objects of several kinds.
    ///
    /// # Errors
    ///
    /// As [`Self::all_from_document`].
    pub fn from_node(node: &Node, reading: &mut Reading) -> Result<Self, DocumentError> {
        read_sealed_secret(node, reading)
    }

    /// The document as the peer writes it: field order of its types, no status, no generated
    /// metadata left empty.
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
    if !matches!(
        node.field("spec").map(|spec| &spec.value),
        Some(Value::Map(_))
    ) {
        return Err(DocumentError::NoSpec);
    }
    let mut json = reading.json(node, OBJECT)?;
    if json["metadata"].is_null() {
        json["metadata"] = Json::Object(Map::new());
    }
    // What the shapes let through, serde refuses only in times and managed fields.
    serde_json::from_value(json).map_err(|_| DocumentError::Metadata)
}

/// Absent `kind` and `apiVersion` count as the expected ones, as for the peer.
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

/// A document is not the object that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Another kind of object.
    #[error("it is {found}, not {api_version} {kind}")]
    Kind {
        /// Its `apiVersion` and `kind`.
        found: String,
        /// The kind that was expected.
        kind: &'static str,
        /// Its API version.
        api_version: &'static str,
    },
    /// A SealedSecret without content.
    #[error("it has no `spec`, so it is no SealedSecret")]
    NoSpec,
    /// A field has the wrong kind of value.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A time, an owner reference or a managed field is malformed.
    #[error(
        "its metadata is not that of a Kubernetes object (is every timestamp like 2006-01-02T15:04:05Z?)"
    )]
    Metadata,
    /// An item of `data` is not base64.
    #[error("line {line}: data.{key}")]
    Base64 {
        /// Item key.
        key: String,
        /// Its line.
        line: usize,
        /// What is wrong with it.
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

/// Puts metadata into the order in which the peer writes it.
pub(crate) fn order_metadata(metadata: &mut Json) {
    order(metadata, &METADATA_ORDER);
}

/// Puts the named fields first, in that order.
pub(crate) fn order(object: &mut Json, names: &[&str]) {
    let Json::Object(map) = object else { return };
    let mut rest = std::mem::take(map);
    for name in names {
        if let Some((key, value)) = rest.remove_entry(*name) {
            map.insert(key, value);
        }
    }
    map.extend(rest);
}

/// Metadata as far as the peer's types want text.
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
    ("ownerReferences", Shape::Any),
    ("finalizers", Shape::List(&Shape::Text)),
    ("managedFields", Shape::Any),
]);

const OBJECT: Shape = Shape::Fields(&[
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

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn lenient_map<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, String>, D::Error> {
    let Json::Object(map) = Json::deserialize(d)? else {
        return Ok(BTreeMap::new());
    };
    let text = |value: Json| value.as_str().map(str::to_owned).unwrap_or_default();
    Ok(map
        .into_iter()
        .map(|(key, value)| (key, text(value)))
        .collect())
}

fn encrypted_data_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "Sealed values in base64, by item key.",
        "additionalProperties": {"type": "string"},
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

fn metadata_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "Metadata of the Secret; its name and namespace are those of the SealedSecret.",
        "nullable": true,
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
            "finalizers": {"type": "array", "items": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "name": {"type": "string"},
            "namespace": {"type": "string"},
        },
    })
}

/// A Kubernetes time of that instant, cut to seconds as the API writes it.
pub fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use kube_core::CustomResourceExt as _;
    use serde_json::json;

    use super::*;
    use crate::manifest;

    fn read(yaml: &str) -> Result<SealedSecret, String> {
        let documents = manifest::read(yaml.as_bytes()).map_err(|e| e.to_string())?;
        let (mut found, _) =
            SealedSecret::all_from_document(&documents[0]).map_err(|e| crate::error_chain(&e))?;
        found.pop().ok_or_else(|| "none".to_owned())
    }

    #[test]
    fn reads_leniently_as_the_peer_does() {
        for (why, yaml, want) in [
            (
                "nothing in it",
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
                "values that are no text",
                "spec: {encryptedData: {a: 5, b: [x], c: z}}",
                json!({"a": "", "b": "", "c": "z"}),
            ),
            ("no mapping at all", "spec: {encryptedData: [x]}", json!({})),
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

    #[test]
    fn says_what_is_no_sealed_secret() {
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
            ("apiVersion: bitnami.com/v1alpha1", "it has no `spec`"),
            (
                "spec: {template: {type: []}}",
                "line 1: spec.template.type must be text, not a list",
            ),
        ] {
            let error = read(yaml).unwrap_err();
            assert!(error.starts_with(want), "{error}");
        }
    }

    #[test]
    fn writes_the_field_order_of_the_peer() {
        let sealed = read(
            "{spec: {encryptedData: {b: x, a: z}, template: {immutable: true, type: t, metadata: {labels: {l: v}, name: web}}},
              metadata: {annotations: {z: '1'}, namespace: ns, name: web}}",
        )
        .unwrap();
        let want = r#"{"kind":"SealedSecret","apiVersion":"bitnami.com/v1alpha1","metadata":{"name":"web","namespace":"ns","annotations":{"z":"1"}},"spec":{"template":{"metadata":{"name":"web","labels":{"l":"v"}},"type":"t","immutable":true},"encryptedData":{"a":"z","b":"x"}}}"#;
        assert_eq!(sealed.to_document().to_string(), want);
    }

    #[test]
    fn the_definition_is_at_least_as_lenient_as_the_peers() {
        let definition = serde_json::to_value(SealedSecret::crd()).unwrap();
        let version = &definition["spec"]["versions"][0];
        let schema = &version["schema"]["openAPIV3Schema"];
        let spec = &schema["properties"]["spec"]["properties"];
        assert_eq!(schema["required"], json!(["spec"]));
        assert_eq!(
            spec["encryptedData"]["x-kubernetes-preserve-unknown-fields"],
            json!(true)
        );
        let template = &spec["template"]["properties"];
        assert_eq!(
            template["metadata"]["x-kubernetes-preserve-unknown-fields"],
            json!(true)
        );
        for nullable in [&template["metadata"], &template["data"]] {
            assert_eq!(nullable["nullable"], json!(true));
        }
        assert_eq!(
            template["data"]["additionalProperties"]["nullable"],
            json!(true)
        );
        assert_eq!(version["subresources"], json!({"status": {}}));
        let columns: Vec<_> = version["additionalPrinterColumns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| &c["name"])
            .collect();
        assert_eq!(columns, ["Status", "Synced", "Age"]);
        assert_eq!(definition["metadata"]["name"], "sealedsecrets.bitnami.com");
    }
}
