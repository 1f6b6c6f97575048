//! The fields that are read from each kind of object. Parsing skips all other fields, such as the arguments of
//! containers, because a parsed value can take a hundred times as much memory as its text.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Map;
use shared::known_fields::{Known, Part, Pruned};

/// The fields of `spec` and `status` that are read from one kind of object. The fields of the metadata are the same for
/// all kinds.
#[derive(Debug, Clone, Copy)]
pub struct Fields {
    spec: &'static Known,
    status: &'static Known,
}

/// Maximum number of entries of all maps and lists together in each of `metadata`, `spec` and `status`. A part with
/// more entries counts as missing.
pub const MAX_ENTRIES: usize = 5_000;

/// Fields of Pods.
pub const POD: Fields = Fields {
    spec: &POD_SPEC,
    status: &Known::Object(&[
        ("phase", Known::Scalar),
        ("containerStatuses", STATUSES),
        ("initContainerStatuses", STATUSES),
        ("ephemeralContainerStatuses", STATUSES),
    ]),
};
/// Fields of Deployments, `StatefulSets`, `DaemonSets` and Rollouts.
pub const WORKLOAD: Fields = Fields {
    spec: &Known::Object(&[
        ("replicas", Known::Scalar),
        ("paused", Known::Scalar),
        ("restartAt", Known::Scalar),
        ("selector", SELECTOR),
        ("updateStrategy", STRATEGY),
        ("template", TEMPLATE),
    ]),
    status: &Known::Object(&[
        ("observedGeneration", Known::Scalar),
        ("replicas", Known::Scalar),
        ("updatedReplicas", Known::Scalar),
        ("availableReplicas", Known::Scalar),
        ("currentRevision", Known::Scalar),
        ("updateRevision", Known::Scalar),
        ("desiredNumberScheduled", Known::Scalar),
        ("updatedNumberScheduled", Known::Scalar),
        ("numberAvailable", Known::Scalar),
        ("restartedAt", Known::Scalar),
        ("conditions", Known::List(&CONDITION)),
    ]),
};
/// Fields of SealedSecrets.
pub const SEALED_SECRET: Fields = Fields {
    spec: &Known::Object(&[(
        "template",
        Known::Object(&[("metadata", TEMPLATE_METADATA)]),
    )]),
    status: &Known::Object(&[("versions", Known::List(&VERSION))]),
};
/// No fields: only the metadata of these objects is read.
pub const METADATA: Fields = Fields {
    spec: &Known::Skipped,
    status: &Known::Skipped,
};

const POD_SPEC: Known = Known::Object(&[
    ("containers", CONTAINERS),
    ("initContainers", CONTAINERS),
    ("ephemeralContainers", CONTAINERS),
    ("volumes", Known::List(&VOLUME)),
]);
const CONTAINERS: Known = Known::List(&Known::Object(&[
    ("name", Known::Scalar),
    ("env", Known::List(&VARIABLE)),
    (
        "envFrom",
        Known::List(&Known::Object(&[("secretRef", REFERENCE)])),
    ),
    ("volumeMounts", Known::List(&MOUNT)),
]));
const REFERENCE: Known = Known::Object(&[("name", Known::Scalar)]);
const VARIABLE: Known =
    Known::Object(&[("valueFrom", Known::Object(&[("secretKeyRef", REFERENCE)]))]);
const MOUNT: Known = Known::Object(&[
    ("name", Known::Scalar),
    ("subPath", Known::Scalar),
    ("subPathExpr", Known::Scalar),
]);
const VOLUME: Known = Known::Object(&[
    ("name", Known::Scalar),
    ("secret", Known::Object(&[("secretName", Known::Scalar)])),
    ("csi", CSI),
    (
        "projected",
        Known::Object(&[("sources", PROJECTED_SOURCES)]),
    ),
]);
const CSI: Known = Known::Object(&[
    ("driver", Known::Scalar),
    (
        "volumeAttributes",
        Known::Object(&[("secretProviderClass", Known::Scalar)]),
    ),
]);
const PROJECTED_SOURCES: Known = Known::List(&Known::Object(&[("secret", REFERENCE)]));
const STATUSES: Known = Known::List(&Known::Object(&[
    ("name", Known::Scalar),
    (
        "state",
        Known::Object(&[("running", STARTED_STATE), ("terminated", STARTED_STATE)]),
    ),
]));
const STARTED_STATE: Known = Known::Object(&[("startedAt", Known::Scalar)]);
const TEMPLATE_METADATA: Known = Known::Object(&[("annotations", Known::Map)]);
const TEMPLATE: Known = Known::Object(&[("metadata", TEMPLATE_METADATA), ("spec", POD_SPEC)]);
const SELECTOR: Known = Known::Object(&[
    ("matchLabels", Known::Map),
    ("matchExpressions", Known::List(&REQUIREMENT)),
]);
const REQUIREMENT: Known = Known::Object(&[
    ("key", Known::Scalar),
    ("operator", Known::Scalar),
    ("values", Known::List(&Known::Scalar)),
]);
const STRATEGY: Known = Known::Object(&[
    ("type", Known::Scalar),
    (
        "rollingUpdate",
        Known::Object(&[("partition", Known::Scalar)]),
    ),
]);
const CONDITION: Known = Known::Object(&[("type", Known::Scalar), ("reason", Known::Scalar)]);
const VERSION: Known = Known::Object(&[
    ("version", Known::Scalar),
    ("keyId", Known::Scalar),
    ("generation", Known::Scalar),
    ("time", Known::Scalar),
]);

const IDENTITY: Known = Known::Object(&[
    ("name", Known::Scalar),
    ("namespace", Known::Scalar),
    ("uid", Known::Scalar),
    ("resourceVersion", Known::Scalar),
    ("generation", Known::Scalar),
    ("deletionTimestamp", Known::Scalar),
    ("labels", Known::Map),
    ("annotations", Known::Map),
]);

/// Parses an object. Succeeds for every JSON object, so that no object can make a list or watch unreadable.
///
/// # Errors
///
/// Returns the deserializer's error.
pub fn object<'de, D: Deserializer<'de>>(
    deserializer: D,
    fields: Fields,
) -> Result<Pruned, D::Error> {
    deserializer.deserialize_map(ObjectVisitor(fields))
}

struct ObjectVisitor(Fields);

impl ObjectVisitor {
    fn part(&self, name: &str) -> Option<Part> {
        let known = match name {
            "metadata" => &IDENTITY,
            "spec" => self.0.spec,
            "status" => self.0.status,
            _ => return None,
        };
        Some(Part {
            known,
            max_entries: MAX_ENTRIES,
        })
    }
}

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Pruned;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pruned, A::Error> {
        let (mut fields, mut is_too_large) = (Map::new(), false);
        while let Some(name) = map.next_key::<String>()? {
            match self.part(&name) {
                Some(part) => {
                    let value = map.next_value_seed(part)?;
                    is_too_large |= value.is_too_large;
                    fields.insert(name, value.json);
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Pruned {
            json: fields.into(),
            is_too_large,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::consumption::Delivery;
    use crate::pod::Pod;
    use crate::pod::tests::pod;
    use crate::sealed::Sealed;
    use crate::workload::{Kind, Workload};

    fn parsed(value: &Json, fields: Fields) -> Json {
        let text = value.to_string();
        object(&mut serde_json::Deserializer::from_str(&text), fields)
            .unwrap()
            .json
    }

    /// Attack: a tenant creates Pods with megabytes of arguments, to exhaust the memory of `seal restart`.
    #[test]
    fn drops_unread_fields_and_lists_with_too_many_entries() {
        let mut large = pod("p", Delivery::Env, 15);
        let small = parsed(&large, POD);
        large["spec"]["containers"][0]["args"] = json!(vec![""; 100_000]);
        large["spec"]["nodeName"] = json!("a");
        large["metadata"]["managedFields"] = json!([{ "fieldsV1": { "f:spec": {} } }]);
        assert_eq!(parsed(&large, POD), small);
        let many = vec![json!({ "secretRef": { "name": "a" } }); MAX_ENTRIES + 1];
        large["spec"]["containers"][0]["envFrom"] = json!(many);
        assert_eq!(parsed(&large, POD)["spec"], json!(null));
    }

    #[test]
    fn keeps_every_field_that_seal_restart_reads() {
        for delivery in [
            Delivery::Env,
            Delivery::SubPath,
            Delivery::Volume,
            Delivery::Csi,
        ] {
            let mut pod = pod("p", delivery, 15);
            pod["metadata"]["annotations"] = json!({ "sealedsecrets.bitnami.com/refresh": "true" });
            let read = |object: &Json| format!("{:?}", Pod::read(object).unwrap());
            assert_eq!(read(&parsed(&pod, POD)), read(&pod));
        }
        let workload = json!({
            "metadata": { "uid": "u", "resourceVersion": "1", "generation": 2, "annotations": {
                "reloader.stakater.com/auto": "true",
            } },
            "spec": {
                "replicas": 2, "restartAt": "1970-01-01T00:00:09Z",
                "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 1 } },
                "selector": {
                    "matchLabels": { "app": "web" },
                    "matchExpressions": [{ "key": "a", "operator": "In", "values": ["b"] }],
                },
                "template": {
                    "metadata": { "annotations": { "sealedsecrets.bitnami.com/restarted-for": "x" } },
                    "spec": {
                        "initContainers": [{ "name": "a", "env": [
                            { "name": "A", "valueFrom": { "secretKeyRef": { "name": "db", "key": "a" } } },
                        ] }],
                        "volumes": [{ "name": "v", "projected": { "sources": [{ "secret": { "name": "web" } }] } }],
                        "containers": [{ "name": "b", "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }],
                    },
                },
            },
            "status": {
                "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2,
                "currentRevision": "a", "updateRevision": "b", "desiredNumberScheduled": 2,
                "updatedNumberScheduled": 2, "numberAvailable": 2, "restartedAt": "1970-01-01T00:00:09Z",
                "conditions": [{ "type": "Progressing", "reason": "a" }],
            },
        });
        for kind in Kind::ALL {
            let read = |object: &Json| format!("{:?}", Workload::read(kind, object));
            assert_eq!(
                read(&parsed(&workload, WORKLOAD)),
                read(&workload),
                "{kind:?}"
            );
        }
        let sealed = json!({
            "metadata": { "annotations": { "sealedsecrets.bitnami.com/refresh": "true" } },
            "spec": { "template": { "metadata": { "annotations": { "reloader.stakater.com/match": "true" } } } },
            "status": { "versions": [
                { "version": "a", "keyId": "1", "generation": 1, "time": "1970-01-01T00:00:09Z" },
            ] },
        });
        let read = Sealed::read(&parsed(&sealed, SEALED_SECRET));
        assert_eq!(read, Sealed::read(&sealed));
        assert!(read.history.newest().is_some() && read.tags.is_match && read.refresh.is_some());
    }
}
