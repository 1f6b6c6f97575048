//! A SealedSecret from the API server, without data that the controller does not need.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use controller_core::drift;
use kube::Resource;
use kube::core::ObjectMeta;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use shared::readable::Bounded;
use shared::resource::{KEY_HINTS_ANNOTATION, LAST_APPLIED_ANNOTATIONS, SealedSecret};
use shared::scope::{CLUSTER_WIDE_ANNOTATION, NAMESPACE_WIDE_ANNOTATION};

use crate::metrics::INSTANCE_LABEL;

/// The labels and annotations that are kept. All others, which can have a mebibyte in each object, are reduced to a
/// digest.
const KEPT_KEYS: [&str; 5] = [
    CLUSTER_WIDE_ANNOTATION,
    NAMESPACE_WIDE_ANNOTATION,
    KEY_HINTS_ANNOTATION,
    drift::ANNOTATION,
    INSTANCE_LABEL,
];

/// A SealedSecret from a watch. Fields not listed here, such as `managedFields`, are dropped during parsing, so that
/// they are never in memory for many objects at once. An object whose `spec` or `status` does
/// not match the type must not stop the watch.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "ApiObject")]
pub struct Watched {
    /// The name, namespace, `uid`, `generation` and `resourceVersion`, and the labels and annotations that are kept.
    pub metadata: ObjectMeta,
    /// The spec; any JSON.
    pub spec: Value,
    /// The status; any JSON.
    pub status: Value,
    /// A digest of all labels and annotations, to detect changes.
    pub(super) metadata_digest: [u8; 32],
}

#[derive(Deserialize)]
struct ApiObject {
    #[serde(default)]
    metadata: ApiMetadata,
    #[serde(default)]
    spec: Bounded,
    #[serde(default)]
    status: Bounded,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    generation: Option<i64>,
    resource_version: Option<String>,
    labels: Option<Texts>,
    annotations: Option<Texts>,
}

impl From<ApiObject> for Watched {
    fn from(object: ApiObject) -> Self {
        let metadata = object.metadata;
        let mut digest = Context::new(&SHA256);
        let mut digest_and_keep = |texts: Option<Texts>| {
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
                labels: Some(labels),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            spec: object.spec.0,
            status: object.status.0,
            metadata_digest: finish(digest),
        }
    }
}

/// The labels or annotations of an object: those that are kept, and a digest of all except copies of the whole object.
#[derive(Default)]
struct Texts {
    kept: BTreeMap<String, String>,
    digest: [u8; 32],
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
        let (mut kept, mut digest) = (BTreeMap::new(), Context::new(&SHA256));
        while let Some((key, text)) = map.next_entry::<String, String>()? {
            if LAST_APPLIED_ANNOTATIONS.contains(&key.as_str()) {
                continue;
            }
            for part in [&key, &text] {
                digest.update(&part.len().to_be_bytes());
                digest.update(part.as_bytes());
            }
            if KEPT_KEYS.contains(&key.as_str()) {
                kept.insert(key, text);
            }
        }
        let digest = finish(digest);
        Ok(Texts { kept, digest })
    }
}

fn finish(digest: Context) -> [u8; 32] {
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
    use serde_json::json;

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
            (&original.spec, &original.status),
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
}
