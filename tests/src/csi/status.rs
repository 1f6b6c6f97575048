//! Creates and reads objects of the driver.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams, PostParams, WatchEvent, WatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::DRIVER;
use crate::control_plane::Namespace;
use crate::node::NodePod;

/// Creates a SecretProviderClass for a provider, with `objects` as its only parameter.
pub async fn create_class(namespace: &Namespace<'_>, name: &str, provider: &str, objects: &str) {
    create_class_with(namespace, name, provider, json!({ "objects": objects })).await;
}

/// Creates a SecretProviderClass with these parameters.
///
/// # Panics
/// Panics if the API server refuses it.
pub async fn create_class_with(
    namespace: &Namespace<'_>,
    name: &str,
    provider: &str,
    parameters: Value,
) {
    let kind = kind("SecretProviderClass");
    let spec = json!({ "provider": provider, "parameters": parameters });
    let object = DynamicObject::new(name, &kind).data(json!({ "spec": spec }));
    let api = Api::namespaced_with(namespace.client(), namespace.name(), &kind);
    let created = api.create(&PostParams::default(), &object).await;
    created.expect("the API server accepts the class");
}

/// Returns a volume for a class; `attributes` override the parameters of the class.
pub fn volume(class: &str, attributes: &Value) -> Value {
    let mut all = json!({ "secretProviderClass": class });
    if let (Value::Object(all), Value::Object(attributes)) = (&mut all, attributes) {
        all.extend(attributes.clone());
    }
    let csi = json!({ "driver": DRIVER, "readOnly": true, "volumeAttributes": all });
    json!({ "name": "values", "csi": csi })
}

/// Returns the versions that the driver has recorded for a Pod, by object ID; `None` before the first mount.
pub async fn versions(
    namespace: &Namespace<'_>,
    pod: &NodePod,
) -> Option<BTreeMap<String, String>> {
    let kind = kind("SecretProviderClassPodStatus");
    let api: Api<DynamicObject> = Api::namespaced_with(namespace.client(), namespace.name(), &kind);
    let statuses = api.list(&ListParams::default()).await.ok()?.items;
    let status = statuses
        .into_iter()
        .map(|object| object.data["status"].clone())
        .find(|status| status["podName"] == pod.name())?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let objects = status["objects"].as_array()?.iter();
    Some(
        objects
            .map(|object| (text(&object["id"]), text(&object["version"])))
            .collect(),
    )
}

/// The states of a Pod's `SecretProviderClassPodStatus` that Reloader would have observed.
pub struct StatusChanges {
    seen: Arc<Mutex<Vec<String>>>,
    watch: JoinHandle<()>,
}

impl StatusChanges {
    /// Watches the status of a Pod, beginning with its current state.
    pub fn watch(namespace: &Namespace<'_>, pod: &str) -> Self {
        let kind = kind("SecretProviderClassPodStatus");
        let api: Api<DynamicObject> =
            Api::namespaced_with(namespace.client(), namespace.name(), &kind);
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let (pod, changes) = (pod.to_owned(), Arc::clone(&seen));
        let watch = tokio::spawn(async move {
            let events = api.watch(&WatchParams::default(), "0").await;
            let mut events = pin!(events.expect("the API server watches"));
            while let Some(Ok(event)) = events.next().await {
                let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event else {
                    continue;
                };
                let status = &object.data["status"];
                if status["podName"] == pod {
                    add_change(&changes, reloader_text(status));
                }
            }
        });
        Self { seen, watch }
    }

    /// Ends the watch; returns the states in their order, each different from the one before.
    ///
    /// # Panics
    /// Panics if the watch has already ended.
    pub fn stop(self) -> Vec<String> {
        assert!(!self.watch.is_finished(), "the watch has ended");
        self.watch.abort();
        self.seen.lock().unwrap().clone()
    }
}

fn add_change(seen: &Mutex<Vec<String>>, text: String) {
    let mut seen = seen.lock().unwrap();
    if seen.last() != Some(&text) {
        seen.push(text);
    }
}

/// Returns the string from which Reloader computes a hash: object IDs with versions, and the name of the class.
fn reloader_text(status: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let objects = status["objects"].as_array().into_iter().flatten();
    let pairs =
        objects.map(|object| format!("{}={}", text(&object["id"]), text(&object["version"])));
    let class = text(&status["secretProviderClassName"]);
    let mut parts: Vec<String> = pairs
        .chain([format!("SecretProviderClassName={class}")])
        .collect();
    parts.sort();
    parts.join(";")
}

/// Returns the messages of the events about failed mounts of a Pod.
pub async fn failures(namespace: &Namespace<'_>, pod: &NodePod) -> Vec<String> {
    let events: Api<Event> = namespace.api();
    let listed = events.list(&ListParams::default()).await;
    let events = listed.map(|list| list.items).unwrap_or_default();
    let is_about = |event: &Event| {
        event.involved_object.name.as_deref() == Some(pod.name())
            && event.reason.as_deref() == Some("FailedMount")
    };
    let messages = events.into_iter().filter(is_about);
    messages.filter_map(|event| event.message).collect()
}

fn kind(kind: &str) -> ApiResource {
    let group = "secrets-store.csi.x-k8s.io";
    let mut resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
    if kind == "SecretProviderClass" {
        "secretproviderclasses".clone_into(&mut resource.plural);
    } else {
        "secretproviderclasspodstatuses".clone_into(&mut resource.plural);
    }
    resource
}
