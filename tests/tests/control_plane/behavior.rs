//! Tests that the shared control plane behaves like a cluster.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use http::Request;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace as CoreNamespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Config, Error, Resource, ResourceExt};
use serde_json::json;
use shared::resource::SealedSecret;
use tests::control_plane::{ControlPlane, Namespace};
use tests::patience;

#[tokio::test]
async fn collects_a_secret_whose_owner_was_deleted() {
    let namespace = ControlPlane::shared().await.namespace("owner").await;
    let sealed_secret = json!({ "metadata": { "name": "owner" }, "spec": { "encryptedData": {} } });
    let owner: SealedSecret = namespace.create_object(sealed_secret).await;
    let reference = owner.controller_owner_ref(&()).unwrap();
    let metadata = json!({ "name": "secret", "ownerReferences": [reference] });
    let secret: Secret = namespace
        .create_object(json!({ "metadata": metadata }))
        .await;
    let orphan: Secret = namespace
        .create_object(json!({ "metadata": { "name": "orphan" } }))
        .await;

    namespace
        .api::<SealedSecret>()
        .delete("owner", &DeleteParams::default())
        .await
        .unwrap();

    let uid = secret.uid().unwrap();
    let deletion = await_condition(
        namespace.api::<Secret>(),
        "secret",
        conditions::is_deleted(&uid),
    );
    patience::within_limit("the owned Secret is deleted", deletion)
        .await
        .unwrap();
    assert_eq!(
        namespace.api::<Secret>().get("orphan").await.unwrap().uid(),
        orphan.uid()
    );
}

#[tokio::test]
async fn denies_requests_that_the_role_does_not_allow() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("roles").await;
    let second_namespace = plane.namespace("roles").await;
    allow_to_read_secrets(&namespace, "reader").await;

    let reader = plane.client_of(namespace.name(), "reader").await;

    let secrets: Api<Secret> = Api::namespaced(reader.clone(), namespace.name());
    secrets
        .list(&ListParams::default())
        .await
        .expect("the role allows it");
    let new = serde_json::from_value(json!({ "metadata": { "name": "new" } })).unwrap();
    assert_forbidden(
        "another verb",
        &secrets.create(&PostParams::default(), &new).await,
    );
    let maps: Api<ConfigMap> = Api::namespaced(reader.clone(), namespace.name());
    assert_forbidden("another kind", &maps.list(&ListParams::default()).await);
    let other_namespace: Api<Secret> = Api::namespaced(reader, second_namespace.name());
    assert_forbidden(
        "another namespace",
        &other_namespace.list(&ListParams::default()).await,
    );
}

#[tokio::test]
async fn creates_a_kubeconfig_for_a_service_account() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("file").await;
    allow_to_read_secrets(&namespace, "reader").await;

    let path = plane.kubeconfig_of(namespace.name(), "reader").await;

    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    let client = Client::try_from(config).unwrap();
    Api::<Secret>::namespaced(client.clone(), namespace.name())
        .list(&ListParams::default())
        .await
        .unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client, namespace.name());
    assert_forbidden("another kind", &maps.list(&ListParams::default()).await);
}

#[tokio::test]
async fn reaches_a_local_process_through_the_service_proxy() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("proxy").await;
    namespace.route("echo", echo_server()).await;
    let client = plane.admin();

    for (port_form, service) in [
        ("name", "echo:http"),
        ("number", "echo:8080"),
        ("scheme and name", "http:echo:http"),
    ] {
        let path = format!(
            "/api/v1/namespaces/{}/services/{service}/proxy/v1/verify?a=b",
            namespace.name()
        );
        let request = Request::post(path)
            .body(b"what the caller sent".to_vec())
            .unwrap();
        let response = client.request_text(request).await.unwrap();
        assert!(
            response.starts_with("POST /v1/verify?a=b HTTP/1.1\r\n"),
            "{port_form}: {response}"
        );
        assert!(
            response.ends_with("\r\n\r\nwhat the caller sent"),
            "{port_form}: {response}"
        );
    }
}

#[tokio::test]
async fn the_service_proxy_reports_a_local_process_that_is_down() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("proxy").await;
    let free_port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    namespace.route("down", free_port).await;

    let path = format!(
        "/api/v1/namespaces/{}/services/down:http/proxy/",
        namespace.name()
    );
    let response = plane
        .admin()
        .request_text(Request::get(path).body(Vec::new()).unwrap())
        .await;

    assert!(
        matches!(&response, Err(Error::Api(status)) if status.code == 503),
        "{response:?}"
    );
}

#[tokio::test]
async fn empties_a_deleted_namespace() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("deleted").await;
    let _: Secret = namespace
        .create_object(json!({ "metadata": { "name": "inside" } }))
        .await;
    namespace.route("with-a-pod", 1).await;

    let namespaces: Api<CoreNamespace> = Api::all(plane.admin());
    let uid = namespaces
        .get(namespace.name())
        .await
        .unwrap()
        .uid()
        .unwrap();
    namespaces
        .delete(namespace.name(), &DeleteParams::default())
        .await
        .unwrap();

    let deletion = await_condition(namespaces, namespace.name(), conditions::is_deleted(&uid));
    patience::within_limit("the namespace is deleted", deletion)
        .await
        .unwrap();
}

#[tokio::test]
async fn serves_a_custom_resource_once_it_is_installed() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("custom").await;
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let version = json!({ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } });
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": { "name": "samples.example.com" },
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": { "plural": "samples", "kind": "Sample" },
            "versions": [version],
        },
    }))
    .unwrap();

    plane.install(&definition).await;
    plane.install(&definition).await; // Tests of one process may install a definition twice.

    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Sample"));
    let samples: Api<DynamicObject> = Api::namespaced_with(plane.admin(), namespace.name(), &kind);
    let sample = DynamicObject::new("first", &kind).data(json!({ "spec": { "any": "thing" } }));
    let created_sample = samples
        .create(&PostParams::default(), &sample)
        .await
        .unwrap();
    assert_eq!(created_sample.data["spec"]["any"], "thing");
}

#[tokio::test]
async fn reports_the_version_of_kubernetes_that_it_was_built_from() {
    let version = ControlPlane::shared()
        .await
        .admin()
        .apiserver_version()
        .await
        .unwrap();
    let numbers: Vec<_> = version
        .git_version
        .trim_start_matches('v')
        .split('.')
        .collect();
    assert_eq!(
        numbers[..2],
        [version.major.as_str(), version.minor.as_str()],
        "{version:?}"
    );
    assert_ne!(version.major, "0", "{version:?}");
}

/// Creates a service account with a role to get, list and watch Secrets in its namespace.
async fn allow_to_read_secrets(namespace: &Namespace<'_>, account: &str) {
    let metadata = json!({ "name": account });
    let rule =
        json!({ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"] });
    let role_ref =
        json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account });
    let subject =
        json!({ "kind": "ServiceAccount", "name": account, "namespace": namespace.name() });
    let binding = json!({ "metadata": metadata, "roleRef": role_ref, "subjects": [subject] });
    let _: ServiceAccount = namespace
        .create_object(json!({ "metadata": metadata }))
        .await;
    let _: Role = namespace
        .create_object(json!({ "metadata": metadata, "rules": [rule] }))
        .await;
    let _: RoleBinding = namespace.create_object(binding).await;
}

fn assert_forbidden<T: Debug>(request: &str, response: &Result<T, Error>) {
    assert!(
        matches!(response, Err(Error::Api(status)) if status.code == 403),
        "{request}: {response:?}"
    );
}

/// Starts a server that responds to each request that ends with `what the caller sent` with the request itself; returns
/// its port.
fn echo_server() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().flatten().for_each(echo));
    port
}

fn echo(mut caller: TcpStream) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.ends_with(b"what the caller sent") {
        match caller.read(&mut buffer) {
            Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        request.len()
    );
    let _ = caller.write_all(&[head.as_bytes(), &request].concat());
}
