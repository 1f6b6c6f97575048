//! Reads the Pods that use a Secret, to find out whether its former values are still needed.

use controller_core::object_id::ObjectId;
use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client};
use restart::current;
use restart::history::History;
use serde_json::json;
use shared::resource::SecretVersion;
use tracing::debug;

use crate::store::api_response;

/// The number of Pods in a page of a list.
const PAGE: u32 = 250;

/// Returns whether every Pod in the namespace of the Secret has the newest of these contents, or does not use the Secret.
/// Returns `None` if the Pods cannot be listed.
pub(super) async fn are_current(
    client: &Client,
    id: &ObjectId,
    versions: &[SecretVersion],
    now: Timestamp,
) -> Option<bool> {
    let history = History::of_sealed_secret(&json!({ "status": { "versions": versions } }));
    let pods = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
    let pods: Api<DynamicObject> = Api::namespaced_with(client.clone(), &id.namespace, &pods);
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = pods.list(&page).await.inspect_err(|error| {
            debug!(
                namespace = id.namespace,
                name = id.name,
                error = api_response(error),
                "Cannot list the Pods that use the Secret; its former values stay until their time is over"
            );
        });
        let list = list.ok()?;
        for pod in &list.items {
            if !current::has_newest(&json!(pod), &id.name, &history, now) {
                return Some(false);
            }
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Some(true),
        }
    }
}
