//! Finds Services that look like a controller's.

use serde_json::Value as Json;

use super::api::Api;
use super::{ApiPath, Service};

/// Selectors of the labels that the chart, under any release name, and the manifests without Helm put on their
/// Services.
const SELECTORS: [&str; 3] = [
    "app.kubernetes.io/name%3Dsealed-secrets",
    "app.kubernetes.io/part-of%3Dsealed-secrets",
    "name%3Dsealed-secrets-controller",
];
/// The maximum number of candidates that are listed.
const MAX_CANDIDATES: usize = 10;

/// Returns the Services with a controller's labels, sorted by namespace and name, at most ten. A request that fails,
/// for example because RBAC does not allow the caller to list Services, adds none.
pub(super) fn find(api: &Api) -> Vec<Service> {
    let mut services: Vec<Service> = SELECTORS
        .iter()
        .filter_map(|selector| {
            let path = ApiPath::fixed("/api/v1/services").parameter("labelSelector", selector);
            api.get(&path.parameter("limit", "50")).ok()
        })
        .flat_map(|response| services(&response.json()))
        .collect();
    services.sort();
    services.dedup();
    services.truncate(MAX_CANDIDATES);
    services
}

fn services(list: &Json) -> Vec<Service> {
    let items = list["items"].as_array();
    let items = items.into_iter().flatten();
    items
        .filter(|service| !is_for_metrics(service))
        .filter_map(|service| {
            let text = |field: &str| service["metadata"][field].as_str().filter(|t| is_name(t));
            Some(Service {
                namespace: text("namespace")?.to_owned(),
                name: text("name")?.to_owned(),
            })
        })
        .collect()
}

/// Returns whether this is the metrics Service. In the chart, it has the labels of the controller's Service and one
/// more label.
fn is_for_metrics(service: &Json) -> bool {
    let component = &service["metadata"]["labels"]["app.kubernetes.io/component"];
    component == "metrics" || service["spec"]["ports"][0]["name"] == "metrics"
}

/// Returns whether the string is a valid name, which can be part of a URL path and be shown on the terminal.
fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.len() <= 63 && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ignores_metrics_services_and_invalid_names() {
        let service = |name: &str, component: &str, port: &str| {
            json!({
                "metadata": {
                    "name": name, "namespace": "ops",
                    "labels": { "app.kubernetes.io/component": component },
                },
                "spec": { "ports": [{ "name": port }] },
            })
        };
        let list = json!({ "items": [
            service("good", "", "http"),
            service("good-metrics", "metrics", "metrics"),
            service("other-metrics", "", "metrics"),
            service("../../secrets", "", "http"),
            service("\u{1b}[2J", "", "http"),
        ]});
        let names: Vec<String> = services(&list).into_iter().map(|s| s.name).collect();
        assert_eq!(names, ["good"]);
        assert!(services(&Json::Null).is_empty());
    }
}
