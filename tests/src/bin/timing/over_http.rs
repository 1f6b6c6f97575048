//! Measures the response times of a controller over HTTP, for the values of [`crate::causes`].

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use shared::key_secret;
use shared::manifest;
use tests::control_plane::ControlPlane;
use tests::directory_controller::DirectoryController;
use tests::http::{self, free_port};
use tests::patience;
use tests::pod::Pod;
use tests::roles::{self, ACCOUNT, Reach};
use tests::sealing::{KEYS, put_key};
use tests::timing::{Comparison, compare, time};
use tests::upstream;

use crate::causes::{NAME, NAMESPACE, failing_values};

/// Flags that prevent responses with status 429.
const UNLIMITED_RATE_ARGS: [&str; 2] = ["--rate-limit=1000000", "--rate-limit-burst=1000000"];

pub(crate) fn compare_ours(count: usize) -> Vec<(String, Comparison)> {
    let controller = DirectoryController::start_with(&UNLIMITED_RATE_ARGS);
    let no_metadata = BTreeMap::new;
    let secret = key_secret::build("key-0", "default", &KEYS[0], no_metadata(), no_metadata());
    let file = controller.directory().join("keys/timing.yaml");
    fs::write(file, manifest::to_yaml(&secret.to_document())).unwrap();
    let port = controller.port();
    let certificate = KEYS[0].pair.certificate().to_pem();
    while !send(port, "GET /v1/certs.pem", "").contains(certificate.trim()) {}
    measure(port, count)
}

pub(crate) async fn compare_upstreams(count: usize) -> Vec<(String, Comparison)> {
    let plane = ControlPlane::start().await;
    let namespace = plane.namespace("timing").await;
    roles::grant(&namespace, Reach::Namespace).await;
    put_key(&namespace, "sealed-secrets-key0", &KEYS[0]).await;
    let address = format!("--listen-addr=127.0.0.1:{}", free_port());
    let mut args = vec![
        "--all-namespaces=false",
        &address,
        "--listen-metrics-addr=127.0.0.1:0",
    ];
    args.extend(UNLIMITED_RATE_ARGS);
    let pod = Pod::start(
        &plane,
        &namespace,
        ACCOUNT,
        &upstream::upstream_controller(),
        &args,
    )
    .await;
    let port = pod.port();
    patience::until("upstream serves its certificate", async || {
        http::get(port, "/v1/cert.pem").await.ok()
    })
    .await;
    tokio::task::block_in_place(|| measure(port, count))
}

fn measure(port: u16, count: usize) -> Vec<(String, Comparison)> {
    let bodies: Vec<(&str, String)> = failing_values()
        .iter()
        .map(|(name, value)| (*name, body(value)))
        .collect();
    let time_request = |body: &String| -> Duration {
        let mut response = String::new();
        let duration = time(|| response = send(port, "POST /v1/verify", body));
        assert!(response.starts_with("HTTP/1.1 409 "), "{response}");
        duration
    };
    let (first, others) = bodies.split_first().expect("the list is not empty");
    let compare_with_first = |(name, body): &(&str, String)| {
        let comparison = compare(count, || time_request(&first.1), || time_request(body));
        (format!("{} and {name}", first.0), comparison)
    };
    others.iter().map(compare_with_first).collect()
}

fn body(value: &[u8]) -> String {
    json!({
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": { "namespace": NAMESPACE, "name": NAME },
        "spec": { "encryptedData": { "a": shared::base64::encode(value) }, "template": {} },
    })
    .to_string()
}

fn send(port: u16, request_line: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let length = body.len();
    let head = format!(
        "{request_line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}
