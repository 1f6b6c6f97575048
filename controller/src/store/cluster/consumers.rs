//! Reads the Pods that use a Secret, to determine whether its former values are still needed.

use controller_core::object_id::ObjectId;
use jiff::Timestamp;
use kube::Client;
use restart::current;
use restart::fields;
use restart::history::History;
use serde::{Deserialize, Deserializer};
use serde_json::json;
use shared::known_fields::Pruned;
use tokio::sync::Semaphore;
use tracing::debug;

use crate::store::api_response;

/// The number of Pods in a page of a list. A Pod can be larger than a mebibyte.
const PAGE: u32 = 20;
/// Allows one list at a time, to limit the memory. The objects that have to wait are checked again later.
static LISTS: Semaphore = Semaphore::const_new(1);

/// A page of Pods, without unneeded fields.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    items: Vec<Pod>,
    #[serde(default)]
    metadata: PageMetadata,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(rename = "continue", default)]
    token: String,
}

/// The fields of a Pod that show how it uses Secrets. A Pod with too many entries counts as using an earlier value.
struct Pod(Pruned);

impl<'de> Deserialize<'de> for Pod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fields::object(deserializer, fields::POD).map(Self)
    }
}

/// Returns whether every Pod in the namespace of the Secret either does not use the Secret or has the content that the
/// Secret has had since `changed_at`. Returns `None` if the Pods cannot be listed, or if another list is in progress.
pub(super) async fn are_current(
    client: &Client,
    id: &ObjectId,
    changed_at: Timestamp,
    now: Timestamp,
) -> Option<bool> {
    let _turn = LISTS.try_acquire().ok()?;
    let history = history(changed_at);
    let mut token = String::new();
    loop {
        let page = list(client, &id.namespace, &token).await;
        let page = page.inspect_err(|error| {
            debug!(
                namespace = id.namespace,
                name = id.name,
                error = api_response(error),
                "Cannot list the Pods that use the Secret; its former values stay until their retention period ends"
            );
        });
        let Page { items, metadata } = page.ok()?;
        let has_newest = |Pod(pod): &Pod| {
            !pod.is_too_large && current::has_newest(&pod.json, &id.name, &history, now)
        };
        if !items.iter().all(has_newest) {
            return Some(false);
        }
        if metadata.token.is_empty() {
            return Some(true);
        }
        token = metadata.token;
    }
}

/// Returns the history of a Secret whose content changed at `changed_at`.
fn history(changed_at: Timestamp) -> History {
    let entry = |version: &str, generation, time: Timestamp| json!({ "version": version, "keyId": "", "generation": generation, "time": time.to_string() });
    let versions = [
        entry("new", 2, changed_at),
        entry("old", 1, Timestamp::UNIX_EPOCH),
    ];
    History::from_sealed_secret(&json!({ "status": { "versions": versions } }))
}

async fn list(client: &Client, namespace: &str, token: &str) -> Result<Page, kube::Error> {
    let query = continue_parameter(token);
    let path = format!("/api/v1/namespaces/{namespace}/pods?limit={PAGE}{query}");
    let request = http::Request::get(path).body(Vec::new());
    let request = request.map_err(kube::Error::HttpError)?;
    client.request(request).await
}

/// Returns the parameter with the token of the next page; empty without a token. Drops unsafe characters: the API
/// server encodes tokens as URL-safe base64.
fn continue_parameter(token: &str) -> String {
    let is_safe = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let safe: String = token.chars().filter(is_safe).collect();
    if safe.is_empty() {
        safe
    } else {
        format!("&continue={safe}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn parse(pod: &Value) -> Pruned {
        let page: Page = serde_json::from_value(json!({ "items": [pod] })).unwrap();
        let Pod(pruned) = page.items.into_iter().next().unwrap();
        pruned
    }

    fn pod(container: &Value) -> Value {
        json!({
            "metadata": { "name": "p", "namespace": "ns", "managedFields": [{ "fieldsV1": { "f:a": {} } }] },
            "spec": { "containers": [container] },
            "status": { "containerStatuses": [
                { "name": "app", "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } } },
            ] },
        })
    }

    /// Attack: a tenant creates Pods with megabytes of arguments, so that a list takes gigabytes of the controller's
    /// memory.
    #[test]
    fn keeps_only_the_fields_of_a_pod_that_show_its_use_of_secrets() {
        let env =
            json!([{ "name": "P", "valueFrom": { "secretKeyRef": { "name": "db", "key": "p" } } }]);
        let args = vec![""; 300_000];
        let pruned = parse(&pod(&json!({ "name": "app", "args": args, "env": env })));
        assert!(!pruned.is_too_large);
        assert!(pruned.json.to_string().len() < 1_000, "{}", pruned.json);
        let before = "2025-01-01T00:00:00Z".parse().unwrap();
        let after = "2026-06-01T00:00:00Z".parse().unwrap();
        let now = "2026-07-01T00:00:00Z".parse().unwrap();
        for (changed_at, is_current) in [(before, true), (after, false)] {
            let history = history(changed_at);
            assert_eq!(
                current::has_newest(&pruned.json, "db", &history, now),
                is_current
            );
            assert!(current::has_newest(&pruned.json, "other", &history, now));
        }
    }

    #[test]
    fn a_pod_with_too_many_variables_is_marked() {
        let variable = json!({ "name": "P", "valueFrom": { "secretKeyRef": { "name": "db" } } });
        let env = vec![variable; fields::MAX_ENTRIES];
        assert!(parse(&pod(&json!({ "name": "app", "env": env }))).is_too_large);
    }

    #[test]
    fn a_token_cannot_change_the_request() {
        assert_eq!(continue_parameter(""), "");
        assert_eq!(continue_parameter("eyJ2Ij-_x"), "&continue=eyJ2Ij-_x");
        assert_eq!(continue_parameter("a&b=c/../d"), "&continue=abc..d");
    }
}
