//! A SealedSecret from the API server, without data that the controller does not need.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use controller_core::drift;
use controller_core::object_id::ObjectId;
use deliver::DELIVER_ANNOTATION;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::core::ObjectMeta;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeStruct as _, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::known_fields::{self, Known, Pruned};
use shared::resource::{
    KEEP_PREVIOUS_ANNOTATION, KEEP_PREVIOUS_FOR_ANNOTATION, KEEP_PREVIOUS_UNTIL_ANNOTATION,
    KEY_HINTS_ANNOTATION, LAST_APPLIED_ANNOTATIONS, ROTATE_BY_ANNOTATION, SealedSecret,
    SealedSecretStatus,
};
use shared::rotate_by;
use shared::scope::{CLUSTER_WIDE_ANNOTATION, NAMESPACE_WIDE_ANNOTATION};

use crate::metrics::INSTANCE_LABEL;

/// The labels and annotations that are kept. All others are reduced to a digest, or, if they are copies of the complete
/// object, dropped.
const KEPT_KEYS: [&str; 10] = [
    CLUSTER_WIDE_ANNOTATION,
    NAMESPACE_WIDE_ANNOTATION,
    KEY_HINTS_ANNOTATION,
    KEEP_PREVIOUS_ANNOTATION,
    KEEP_PREVIOUS_FOR_ANNOTATION,
    KEEP_PREVIOUS_UNTIL_ANNOTATION,
    drift::ANNOTATION,
    DELIVER_ANNOTATION,
    ROTATE_BY_ANNOTATION,
    INSTANCE_LABEL,
];

/// The fields of `spec` that the controller reads.
const SPEC: Known = Known::Object(&[
    ("template", TEMPLATE),
    ("data", Known::Scalar),
    ("encryptedData", Known::Map),
]);
const TEMPLATE: Known = Known::Object(&[
    ("metadata", TEMPLATE_METADATA),
    ("type", Known::Scalar),
    ("immutable", Known::Scalar),
    ("data", Known::Map),
]);
const TEMPLATE_METADATA: Known = Known::Object(&[
    ("name", Known::Scalar),
    ("namespace", Known::Scalar),
    ("labels", Known::Map),
    ("annotations", Known::Map),
]);
/// Maximum number of items, templates, labels and annotations in a `spec`. The largest object that etcd accepts has
/// room for about 4,000 values that are sealed with the smallest keys.
pub(super) const MAX_SPEC_ENTRIES: usize = 20_000;

/// The fields of `status` that the controller reads.
const STATUS: Known = Known::Object(&[
    ("observedGeneration", Known::Scalar),
    ("lastUnsealedGeneration", Known::Scalar),
    ("conditions", Known::List(&CONDITION)),
    ("items", Known::List(&ITEM)),
    ("record", RECORD),
    ("versions", Known::List(&VERSION)),
    ("previous", PREVIOUS),
]);
const PREVIOUS: Known = Known::Object(&[
    ("items", Known::List(&Known::Scalar)),
    ("until", Known::Scalar),
]);
const CONDITION: Known = Known::Object(&[
    ("type", Known::Scalar),
    ("status", Known::Scalar),
    ("lastUpdateTime", Known::Scalar),
    ("lastTransitionTime", Known::Scalar),
    ("reason", Known::Scalar),
    ("message", Known::Scalar),
]);
const ITEM: Known = Known::Object(&[
    ("key", Known::Scalar),
    ("sealedBy", Known::Scalar),
    ("error", Known::Scalar),
]);
const RECORD: Known = Known::Object(&[
    ("secretUid", Known::Scalar),
    ("secretVersion", Known::Scalar),
    ("key", Known::Scalar),
    ("content", Known::Scalar),
    ("proof", Known::Scalar),
]);
const VERSION: Known = Known::Object(&[
    ("version", Known::Scalar),
    ("keyId", Known::Scalar),
    ("generation", Known::Scalar),
    ("time", Known::Scalar),
]);
/// Maximum number of list entries in a status, far more than the controller writes. A larger status counts as missing.
const MAX_STATUS_ENTRIES: usize = 2_000;

/// A SealedSecret from the API server. Fields that the controller does not read, such as `managedFields`, are dropped
/// during parsing, so that they are never in memory for many objects at the same time. `spec` and `status` can be of
/// any type: an object that does not match the schema must not stop the watch.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "ApiObject")]
pub struct Watched {
    /// The name, namespace, `uid`, `generation`, `resourceVersion` and `deletionTimestamp`, and the labels and
    /// annotations that are kept.
    pub metadata: ObjectMeta,
    /// The known fields of the spec.
    pub spec: Pruned,
    /// The known fields of the status.
    pub status: Value,
    /// A digest of all labels and annotations, except copies of the complete object, to detect changes.
    pub(super) metadata_digest: [u8; 32],
}

#[derive(Deserialize)]
struct ApiObject {
    #[serde(default)]
    metadata: ApiMetadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default)]
struct Spec(Pruned);

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        known_fields::parse(deserializer, &SPEC, MAX_SPEC_ENTRIES).map(Self)
    }
}

#[derive(Default)]
struct Status(Pruned);

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        known_fields::parse(deserializer, &STATUS, MAX_STATUS_ENTRIES).map(Self)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    generation: Option<i64>,
    resource_version: Option<String>,
    deletion_timestamp: Option<Time>,
    labels: Option<MetadataEntries>,
    annotations: Option<MetadataEntries>,
}

impl From<ApiObject> for Watched {
    fn from(object: ApiObject) -> Self {
        let metadata = object.metadata;
        let mut digest = Context::new(&SHA256);
        let mut digest_and_keep = |texts: Option<MetadataEntries>| {
            let texts = texts.unwrap_or_default();
            digest.update(&texts.digest);
            texts.kept
        };
        let labels = digest_and_keep(metadata.labels);
        let annotations = digest_and_keep(metadata.annotations);
        Self {
            metadata: ObjectMeta {
                name: metadata.name,
                namespace: metadata.namespace,
                uid: metadata.uid,
                generation: metadata.generation,
                resource_version: metadata.resource_version,
                deletion_timestamp: metadata.deletion_timestamp,
                labels: Some(labels),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            spec: object.spec.0,
            status: object.status.0.json,
            metadata_digest: digest_bytes(digest),
        }
    }
}

impl Watched {
    /// Returns the request body for a status. It has no `spec`: the API server keeps the `spec` of the stored object.
    pub(super) fn with_status(
        id: &ObjectId,
        version: Option<&str>,
        status: &SealedSecretStatus,
    ) -> Self {
        Self {
            metadata: ObjectMeta {
                name: Some(id.name.clone()),
                namespace: Some(id.namespace.clone()),
                resource_version: version.map(str::to_owned),
                ..ObjectMeta::default()
            },
            spec: Pruned::default(),
            status: json!(status),
            metadata_digest: [0; 32],
        }
    }
}

impl Serialize for Watched {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("SealedSecret", 4)?;
        object.serialize_field("apiVersion", &SealedSecret::api_version(&()))?;
        object.serialize_field("kind", &SealedSecret::kind(&()))?;
        object.serialize_field("metadata", &self.metadata)?;
        object.serialize_field("status", &self.status)?;
        object.end()
    }
}

/// The kept labels or annotations of an object, and a digest of all except copies of the complete object.
#[derive(Default)]
struct MetadataEntries {
    kept: BTreeMap<String, String>,
    digest: [u8; 32],
}

impl<'de> Deserialize<'de> for MetadataEntries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MetadataEntriesVisitor)
    }
}

struct MetadataEntriesVisitor;

impl<'de> Visitor<'de> for MetadataEntriesVisitor {
    type Value = MetadataEntries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MetadataEntries, A::Error> {
        let (mut kept, mut digest) = (BTreeMap::new(), Context::new(&SHA256));
        while let Some((key, text)) = map.next_entry::<String, String>()? {
            if LAST_APPLIED_ANNOTATIONS.contains(&key.as_str()) {
                continue;
            }
            for part in [&key, &text] {
                digest.update(&part.len().to_be_bytes());
                digest.update(part.as_bytes());
            }
            if KEPT_KEYS.contains(&key.as_str()) && !is_too_large(&key, &text) {
                kept.insert(key, text);
            }
        }
        let digest = digest_bytes(digest);
        Ok(MetadataEntries { kept, digest })
    }
}

/// Returns whether the annotation has no effect because of its size, so that it need not be kept.
fn is_too_large(key: &str, text: &str) -> bool {
    key == ROTATE_BY_ANNOTATION && text.len() > rotate_by::MAX_BYTES
}

fn digest_bytes(digest: Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.finish().as_ref());
    bytes
}

impl Resource for Watched {
    type DynamicType = ();
    type Scope = <SealedSecret as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        SealedSecret::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        SealedSecret::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        SealedSecret::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        SealedSecret::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(annotations: &Value, managed_fields: &Value) -> Watched {
        let json = json!({
            "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret", "spec": 1, "other": {},
            "metadata": {
                "name": "n", "namespace": "ns", "managedFields": managed_fields, "labels": { INSTANCE_LABEL: "i", "x": "y" },
                "annotations": annotations,
            },
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn keeps_only_needed_metadata_and_detects_changes_except_in_copies_of_the_object() {
        let copy = LAST_APPLIED_ANNOTATIONS[0];
        let original = watched(
            &json!({ drift::ANNOTATION: "false", "a": "b", copy: "{}" }),
            &json!([]),
        );
        let labels = [(INSTANCE_LABEL.to_owned(), "i".to_owned())];
        let annotations = [(drift::ANNOTATION.to_owned(), "false".to_owned())];
        assert_eq!(original.metadata.labels, Some(labels.into()));
        assert_eq!(original.metadata.annotations, Some(annotations.into()));
        assert_eq!(
            (&original.spec.json, &original.status),
            (&json!(1), &Value::Null)
        );
        for (is_equal, annotations) in [
            (
                true,
                json!({ drift::ANNOTATION: "false", "a": "b", copy: "{1}" }),
            ),
            (false, json!({ drift::ANNOTATION: "false", "a": "c" })),
            (false, json!({ drift::ANNOTATION: "false", "ab": "" })),
            (false, json!({ drift::ANNOTATION: "false" })),
            (false, json!({ drift::ANNOTATION: "true", "a": "b" })),
            (false, Value::Null),
        ] {
            let changed = watched(&annotations, &json!([{ "manager": "m" }]));
            assert_eq!(
                changed.metadata_digest == original.metadata_digest,
                is_equal,
                "{annotations}"
            );
        }
    }
    /// Attack: an author writes huge annotations on many objects, so that the controller keeps them in memory.
    #[test]
    fn keeps_dates_only_up_to_a_size() {
        for (len, is_kept) in [
            (rotate_by::MAX_BYTES, true),
            (rotate_by::MAX_BYTES + 1, false),
        ] {
            let text = "x".repeat(len);
            let object = watched(&json!({ ROTATE_BY_ANNOTATION: text }), &json!([]));
            let kept = object.metadata.annotations.unwrap();
            assert_eq!(kept.contains_key(ROTATE_BY_ANNOTATION), is_kept, "{len}");
        }
    }
}
