//! The SealedSecret API type, as lenient as upstream, and the names of annotations and labels.

mod document;
mod names;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube_derive::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;

use crate::v2;

pub use document::{DocumentError, types_of_items};
pub(crate) use document::{METADATA, expect_kind, order, order_metadata};
pub use names::*;

/// The content of a SealedSecret.
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
    doc = "A Secret whose values are encrypted; only the controller of the cluster can unseal it.",
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.conditions[0].message"}"#,
    printcolumn = r#"{"name":"Synced","type":"string","jsonPath":".status.conditions[0].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Last Good","type":"integer","priority":1,"jsonPath":".status.lastUnsealedGeneration"}"#,
    printcolumn = r#"{"name":"Key","type":"string","priority":1,"jsonPath":".status.items[0].sealedBy"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SealedSecretSpec {
    /// The Secret without its sealed values.
    #[serde(default, deserialize_with = "null_is_default")]
    pub template: SecretTemplate,
    /// Deprecated: a whole Secret sealed as one value, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Sealed values in base64, by item key. A value that is not a string reads as an empty value: one malformed
    /// object must not stop a stream of many.
    #[serde(default, deserialize_with = "lenient_map")]
    #[schemars(schema_with = "encrypted_data_schema")]
    pub encrypted_data: BTreeMap<String, String>,
}

/// Metadata, type and templates of the Secret.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct SecretTemplate {
    /// Metadata of the Secret; its name and namespace are those of the SealedSecret.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schemars(schema_with = "metadata_schema")]
    pub metadata: ObjectMeta,
    /// Type of the Secret; absent means `Opaque`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// If true, the data of the Secret can never change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
    /// Templates over the decrypted values, by item key. `null` removes the item with that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<BTreeMap<String, Option<String>>>,
}

/// The state that the controller last observed.
///
/// For an object without status, the API server fills in a generation that never occurs, as for Flux's own
/// resources: kstatus would treat an object without an observed generation as reconciled.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[schemars(extend("default" = {"observedGeneration": -1}))]
#[serde(rename_all = "camelCase")]
pub struct SealedSecretStatus {
    /// Generation of the object that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The newest generation that was unsealed: the Secret has its values, even while a newer generation fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_unsealed_generation: Option<i64>,
    /// Conditions of the object. `Synced` is the first, because the printer columns show the first condition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The key that decrypts each item, or what is wrong with it, ordered by item key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<ItemStatus>,
    /// Lets the controller recognize the Secret without decrypting anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<SecretRecord>,
    /// The last contents of the Secret, newest first, at most five.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub versions: Vec<SecretVersion>,
    /// The former values that the Secret still has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousValues>,
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
    /// When this condition last changed, or was last written for a new generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
    /// When `status` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// Machine-readable reason, one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Human-readable reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The outcome for one item.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ItemStatus {
    /// Item key.
    pub key: String,
    /// Identifier of the key that unsealed the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_by: Option<String>,
    /// Why the item cannot be unsealed, or its template cannot be rendered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Identifies the Secret that was created from the SealedSecret. Only the controller can write a valid record: a copy
/// in another object, or a changed one, proves nothing. See [`crate::record`].
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRecord {
    /// `uid` of the Secret.
    pub secret_uid: String,
    /// Keyed digest of the SealedSecret and the Secret's `resourceVersion` when it was last written or read.
    pub secret_version: String,
    /// Fingerprint of the key that the digests are keyed with.
    pub key: String,
    /// Keyed digest of the SealedSecret and the Secret's content.
    pub content: String,
    /// Keyed digests that prove what the record states.
    pub proof: String,
}

/// A version of the Secret's content. See [`crate::v2::ContentVersion`].
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretVersion {
    /// Changes when a value is set or a template changes, even if the new content equals the earlier content, but not
    /// when values are re-encrypted. Reveals nothing about values.
    #[schemars(length(max = 64))]
    pub version: String,
    /// Identifies the controller's content-version key, with which `version` was calculated (not a sealing key).
    /// Versions with different key IDs cannot be compared.
    #[schemars(length(max = 64))]
    pub key_id: String,
    /// The first generation of the SealedSecret with this content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The time since which the Secret had this content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
}

/// The former values that a Secret keeps until no program needs them, each under the name of its item with `.previous`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousValues {
    /// The item keys with a former value.
    pub items: Vec<String>,
    /// The time since which some former values are not kept, even if programs still use them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// Formats `namespace/name`, or the name alone if the namespace is empty, for messages.
pub fn qualified_name(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

impl SealedSecret {
    /// Returns the namespace of the object; empty if it has none.
    pub fn namespace_or_empty(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Returns the name of the object; empty if it has none.
    pub fn name_or_empty(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Returns `namespace/name`, or the name alone if the object has no namespace, for messages.
    pub fn qualified_name(&self) -> String {
        qualified_name(self.namespace_or_empty(), self.name_or_empty())
    }

    /// Returns the object with its v1 items only.
    #[must_use]
    pub fn v1_part(&self) -> Self {
        let mut part = self.clone();
        part.spec
            .encrypted_data
            .retain(|name, text| v2::is_v1_item(name, text));
        part
    }

    /// Returns the object with its v2 items and their locks only.
    #[must_use]
    pub fn v2_part(&self) -> Self {
        let mut part = self.clone();
        part.spec
            .encrypted_data
            .retain(|name, text| !v2::is_v1_item(name, text));
        part
    }
}

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

/// Returns an instant as a Kubernetes time, truncated to seconds as the API does.
pub fn time(instant: Timestamp) -> Time {
    Time(Timestamp::from_second(instant.as_second()).unwrap_or(instant))
}

#[cfg(test)]
mod tests {
    use kube_core::CustomResourceExt as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_crd_is_at_least_as_lenient_as_upstreams() {
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
        assert_eq!(
            columns,
            [
                "Status",
                "Synced",
                "Age",
                "Ready",
                "Reason",
                "Last Good",
                "Key"
            ]
        );
        assert_eq!(definition["metadata"]["name"], "sealedsecrets.bitnami.com");
    }
}
