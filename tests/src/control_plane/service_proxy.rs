//! Lets the API server's service proxy reach a process of this machine.

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::Namespace;
use super::pod_network::POD_ADDRESS;

/// Creates the objects with which the proxy reaches `port`. The proxy reads the Service's Endpoints (not its
/// `EndpointSlices`), and connects to an address only if a Pod has that address. No kubelet runs the Pod, so this
/// function writes its status.
pub(super) async fn route(namespace: &Namespace<'_>, service: &str, port: u16) {
    let service = find_or_create(namespace, service).await;
    let name = service.metadata.name.unwrap_or_default();
    let pod = create_pod(namespace, &name).await;
    let reference = json!({ "kind": "Pod", "namespace": namespace.name(), "name": pod });
    let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
    let ports: Vec<_> = ports
        .iter()
        .map(|service_port| json!({ "name": service_port.name, "port": port }))
        .collect();
    let addresses = json!([{ "ip": POD_ADDRESS, "targetRef": reference }]);
    let endpoints = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": { "name": name },
        "subsets": [{ "addresses": addresses, "ports": ports }],
    });
    let apply = PatchParams::apply("tests").force();
    let result = namespace
        .api::<Endpoints>()
        .patch(&name, &apply, &Patch::Apply(endpoints))
        .await;
    result.expect("the endpoints are valid");
}

async fn find_or_create(namespace: &Namespace<'_>, name: &str) -> Service {
    let existing = namespace
        .api::<Service>()
        .get_opt(name)
        .await
        .expect("an admin may read");
    if let Some(service) = existing {
        return service;
    }
    let ports = json!([{ "name": "http", "port": 8080 }]);
    namespace
        .create_object(json!({ "metadata": { "name": name }, "spec": { "ports": ports } }))
        .await
}

/// Creates a Pod with a generated name and returns the name. The Pod has no grace period, because no kubelet would stop
/// it.
async fn create_pod(namespace: &Namespace<'_>, service: &str) -> String {
    let spec = json!({
        "nodeName": "this-machine",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": false,
        "containers": [{ "name": "process", "image": "none" }],
    });
    let metadata = json!({ "generateName": format!("{service}-") });
    let pod: Pod = namespace
        .create_object(json!({ "metadata": metadata, "spec": spec }))
        .await;
    let name = pod.metadata.name.expect("the API server names the Pod");
    let status = json!({ "status": { "podIP": POD_ADDRESS, "podIPs": [{ "ip": POD_ADDRESS }] } });
    let result = namespace
        .api::<Pod>()
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await;
    result.expect("the status is valid");
    name
}
