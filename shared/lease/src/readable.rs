//! Objects from the API server, parsed so that no object can make a whole list or watch unreadable.

use std::borrow::Cow;

use kube::Resource;
use kube::core::ObjectMeta;
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize, Serializer, ser};
use serde_json::Value;
use shared::readable::{Object, adapt_time};

/// JSON pointers to the times of a Lease, which clients can set.
const TIMES: [&str; 2] = ["/spec/renewTime", "/spec/acquireTime"];

/// An API object, parsed as `K` without `managedFields`: the controller does not use them, and an update without them
/// leaves them unchanged. Deserialization succeeds for every object (see [`Object`]).
#[derive(Debug, Clone)]
pub enum Readable<K> {
    /// An object that is a valid `K`.
    Object(K),
    /// The name, namespace, `uid` and `resourceVersion` of an object that is not a valid `K`.
    Unreadable(Box<ObjectMeta>),
}

impl<K> Readable<K> {
    /// Returns the object, or `None` if it is not a valid `K`.
    pub fn object(self) -> Option<K> {
        match self {
            Self::Object(object) => Some(object),
            Self::Unreadable(_) => None,
        }
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Readable<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(mut json) = Object::deserialize(deserializer)?;
        for pointer in TIMES {
            json.pointer_mut(pointer).map(adapt_time);
        }
        let identity = identity(&json["metadata"]);
        // Drop the error, since it can quote a value.
        Ok(serde_json::from_value(json).map_or_else(|_| Self::Unreadable(identity), Self::Object))
    }
}

fn identity(metadata: &Value) -> Box<ObjectMeta> {
    let text = |name: &str| metadata[name].as_str().map(str::to_owned);
    Box::new(ObjectMeta {
        name: text("name"),
        namespace: text("namespace"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        ..ObjectMeta::default()
    })
}

impl<K: Serialize> Serialize for Readable<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Object(object) => object.serialize(serializer),
            Self::Unreadable(_) => Err(ser::Error::custom("cannot serialize an unreadable object")),
        }
    }
}

impl<K: Resource> Resource for Readable<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &Self::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &Self::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Object(object) => object.meta(),
            Self::Unreadable(metadata) => metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::Object(object) => object.meta_mut(),
            Self::Unreadable(metadata) => metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::Lease;
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use kube::ResourceExt as _;
    use kube::core::{ObjectList, PartialObjectMeta, WatchEvent};
    use serde_json::json;

    use super::*;

    /// Returns a list of three objects: `a` and `z` are valid; `odd`, between them, has the `unusual_fields`.
    fn list<K>(unusual_fields: &Value) -> Vec<Readable<K>>
    where
        K: DeserializeOwned + Clone,
    {
        let object = |name| json!({ "metadata": { "name": name, "namespace": "ns", "resourceVersion": "1" } });
        let mut unusual = object("odd");
        for (name, value) in unusual_fields.as_object().unwrap() {
            match unusual[name].as_object_mut() {
                Some(fields) => fields.extend(value.as_object().unwrap().clone()),
                None => unusual[name] = value.clone(),
            }
        }
        let items = [object("a"), unusual, object("z")];
        let text = json!({ "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items })
            .to_string();
        let list: ObjectList<Readable<K>> = serde_json::from_str(&text).unwrap();
        list.items
    }

    /// Attack: a client makes one object of a list unreadable, so that the controller cannot read the list.
    #[test]
    fn an_unreadable_object_keeps_its_name_and_leaves_the_list_readable() {
        for unusual in [
            json!({ "data": { "a": "not base64" } }),
            json!({ "data": [] }),
            json!({ "type": 5 }),
            json!({ "immutable": "yes" }),
            json!({ "metadata": { "labels": 5 } }),
            json!({ "metadata": { "finalizers": [5] } }),
            json!({ "metadata": { "ownerReferences": [5] } }),
            json!({ "metadata": { "generation": "x" } }),
            json!({ "metadata": { "creationTimestamp": "soon" } }),
        ] {
            let list = list::<Secret>(&unusual);
            let names: Vec<String> = list.iter().map(Readable::name_any).collect();
            assert_eq!(names, ["a", "odd", "z"], "{unusual}");
            assert_eq!(list[1].resource_version().as_deref(), Some("1"));
            let are_readable: Vec<bool> = list
                .into_iter()
                .map(|object| object.object().is_some())
                .collect();
            assert_eq!(are_readable, [true, false, true], "{unusual}");
        }
    }

    fn are_readable<K: DeserializeOwned + Clone>(unusual: &Value) -> bool {
        list::<K>(unusual)
            .into_iter()
            .all(|object| object.object().is_some())
    }

    /// Attack: a client hides an object from the controller with times and `managedFields` that the API server stores
    /// and the types of `k8s-openapi` reject.
    #[test]
    fn reads_objects_with_times_out_of_range_and_malformed_managed_fields() {
        let time = "9999-12-31T23:59:59Z";
        let metadata = json!({ "creationTimestamp": time, "managedFields": [{ "time": time }, 5], "generation": -5 });
        let unusual = json!({ "metadata": metadata, "spec": { "renewTime": time, "acquireTime": "-0001-12-31T00:00:00.000000Z" } });
        assert!(are_readable::<Secret>(&unusual));
        assert!(are_readable::<PartialObjectMeta<Secret>>(&unusual));
        assert!(are_readable::<ConfigMap>(&unusual));
        assert!(are_readable::<Lease>(&unusual));
        let event = json!({ "type": "MODIFIED", "object": { "metadata": metadata } }).to_string();
        let event: WatchEvent<Readable<Secret>> = serde_json::from_str(&event).unwrap();
        assert!(matches!(event, WatchEvent::Modified(Readable::Object(_))));
    }

    #[test]
    fn requests_only_metadata_for_partial_metadata_types() {
        assert!(Readable::<PartialObjectMeta<Secret>>::metadata_api());
        assert!(!Readable::<Secret>::metadata_api());
    }
}
