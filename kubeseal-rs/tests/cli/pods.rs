//! Tests `seal pods` against an API server that responds slowly or endlessly, and before the controller has reported.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::api_server::{self, Body, Request, text_body};
use crate::support::{assert_code, assert_contains, combined_output, command};

const PODS: &str = "/api/v1/namespaces/shop/pods";
const SEALED_SECRETS: &str = "/apis/bitnami.com/v1alpha1/namespaces/shop/sealedsecrets";
/// A delay far above the time limits of these tests, and below the limit for one response.
const TOO_LONG: Duration = Duration::from_secs(40);

fn pods(directory: &Path, args: &[&str]) -> Output {
    let kubeconfig = directory.join("kubeconfig");
    let mut seal = command(env!("CARGO_BIN_EXE_seal"), directory, kubeconfig);
    seal.args(["pods", "-n", "shop"]).args(args);
    seal.output().expect("the command starts")
}

fn empty_list(kind: &str, token: &str) -> String {
    json!({ "kind": kind, "metadata": { "continue": token }, "items": [] }).to_string()
}

/// Returns a list of one Pod, whose container runs `seal exec` with the values of the SealedSecret `db`.
fn list_with_receiver() -> String {
    let token = json!({ "serviceAccountToken": { "audience": "sealed-secrets.bitnami.com", "path": "token" } });
    let state = json!({ "running": { "startedAt": "2026-01-02T00:00:00Z" } });
    let pod = json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "u" },
        "spec": {
            "containers": [{
                "name": "app", "command": ["seal", "exec", "--from=db", "--all", "--", "app"],
                "volumeMounts": [{ "name": "token", "mountPath": "/token" }],
            }],
            "volumes": [{ "name": "token", "projected": { "sources": [token] } }],
        },
        "status": { "phase": "Running", "containerStatuses": [{ "name": "app", "state": state }] },
    });
    json!({ "kind": "PodList", "metadata": {}, "items": [pod] }).to_string()
}

/// Attack: a server that impersonates the API server returns empty pages endlessly.
#[test]
fn a_list_of_empty_pages_ends_with_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let page = text_body(empty_list("PodList", "next"));
    api_server::serve(directory.path(), vec![(PODS.to_owned(), page)]);
    let output = pods(directory.path(), &[]);
    assert_code(&output, 2, "empty pages");
    assert_contains(&output, "100 empty pages", "empty pages");
}

/// Attack: a node sends the log of a container a byte at a time, so that a pipeline waits without limit.
#[test]
fn a_log_without_end_does_not_exceed_the_time_limit() {
    let directory = tempfile::tempdir().expect("a directory");
    let log: Body = Box::new(|to: &mut TcpStream| {
        loop {
            to.write_all(b"x")?;
            sleep(Duration::from_millis(100));
        }
    });
    api_server::serve(
        directory.path(),
        vec![
            (PODS.to_owned(), text_body(list_with_receiver())),
            (format!("{PODS}/web/log"), log),
        ],
    );
    let start = Instant::now();
    let output = pods(directory.path(), &["--wait", "--timeout", "1s"]);
    assert!(start.elapsed() < TOO_LONG);
    assert_code(&output, 2, "log");
    assert_contains(&output, "timed out after 5s", "log");
    assert_contains(&output, "no state is known", "log");
}

/// Attack: an API server lists the Pods once, and does not respond to the next request for them in time, so that a
/// pipeline waits without limit.
#[test]
fn the_last_complete_state_is_shown_at_the_time_limit() {
    let directory = tempfile::tempdir().expect("a directory");
    let lists_of_pods = AtomicUsize::new(0);
    let unrecorded = json!({
        "metadata": { "name": "db", "namespace": "shop", "generation": 2 },
        "status": { "observedGeneration": 1 },
    });
    let sealed = json!({ "kind": "SealedSecretList", "metadata": {}, "items": [unrecorded] });
    let response = move |request: &Request| match request.path.as_str() {
        PODS => {
            if lists_of_pods.fetch_add(1, Ordering::Relaxed) > 0 {
                sleep(TOO_LONG);
            }
            (200, empty_list("PodList", ""))
        }
        SEALED_SECRETS => (200, sealed.to_string()),
        path if path.ends_with("/rollouts") => api_server::not_found(),
        _ => (200, empty_list("List", "")),
    };
    api_server::serve_with(directory.path(), String::new(), response);
    let start = Instant::now();
    let output = pods(directory.path(), &["--wait", "--timeout", "6s"]);
    assert!(start.elapsed() < TOO_LONG);
    assert_code(&output, 1, "the last state");
    assert_contains(&output, "no Pod consumes a SealedSecret", "the last state");
    assert_contains(
        &output,
        "timed out after 6s: a SealedSecret has changed",
        "the last state",
    );
}

/// Returns the response of an API server with the SealedSecret `shop/db`, which has this status, and a Pod with
/// variables from its Secret.
fn response(request: &Request, status: &Json) -> (u16, String) {
    let sealed = json!({
        "metadata": { "name": "db", "namespace": "shop", "generation": 1 },
        "status": status,
    });
    let state = json!({ "running": { "startedAt": "2026-01-02T00:00:00Z" } });
    let pod = json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "u" },
        "spec": { "containers": [{ "name": "app", "envFrom": [{ "secretRef": { "name": "db" } }] }] },
        "status": { "phase": "Running", "containerStatuses": [{ "name": "app", "state": state }] },
    });
    let list = |object: &Json| json!({ "kind": "List", "metadata": {}, "items": [object] });
    match request.path.as_str() {
        PODS => (200, list(&pod).to_string()),
        SEALED_SECRETS => (200, list(&sealed).to_string()),
        path if path.ends_with("/rollouts") => api_server::not_found(),
        _ => (200, empty_list("List", "")),
    }
}

/// Fault: a pipeline applies a new SealedSecret, and `seal pods --wait` ends with success before the controller has
/// seen it, while the state of every container is unknown.
#[test]
fn a_sealed_secret_without_a_report_is_awaited() {
    for status in [json!(null), json!({}), json!({ "conditions": [] })] {
        let directory = tempfile::tempdir().expect("a directory");
        let case = status.to_string();
        let response = move |request: &Request| response(request, &status);
        api_server::serve_with(directory.path(), String::new(), response);
        let output = pods(directory.path(), &["db", "--wait", "--timeout", "1s"]);
        assert_code(&output, 1, &case);
        assert_contains(&output, "unknown", &case);
        let want = "timed out after 1s: the controller has not reported on these SealedSecrets";
        assert_contains(&output, want, &case);
        assert_contains(&output, "\n  shop/db\nhint: ", &case);
        let output = pods(directory.path(), &["db"]);
        assert_code(&output, 0, &case);
        let printed = combined_output(&output);
        assert!(!printed.contains("has not reported"), "{printed}");
    }
}

#[test]
fn the_wait_ends_when_the_controller_has_reported() {
    let directory = tempfile::tempdir().expect("a directory");
    let lists = AtomicUsize::new(0);
    let response = move |request: &Request| {
        let is_listed = request.path == SEALED_SECRETS;
        let count = lists.fetch_add(usize::from(is_listed), Ordering::Relaxed);
        let report = json!({ "observedGeneration": 1, "lastUnsealedGeneration": 1 });
        let status = if count > 0 { report } else { Json::Null };
        response(request, &status)
    };
    api_server::serve_with(directory.path(), String::new(), response);
    let start = Instant::now();
    let output = pods(directory.path(), &["db", "--wait", "--timeout", "60s"]);
    assert!(start.elapsed() < TOO_LONG);
    assert_code(&output, 0, "reported");
}
