//! Tests commands against an API server, or a proxy in front of it, whose responses are false or unexpected, such as
//! success without the requested change or object.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};

use crate::api_server::{self, Request, certificate_path, not_found, service_path};
use crate::support::{NEW_CERT, OLD_CERT, combined_output, command};
use crate::v2::{v2_key, v2_secret};
use serde_json::{Value as Json, json};
use shared::resource::V2_KEY_LABEL;
use shared::v2::Suite;

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const KEYS: [&str; 2] = [
    include_str!("../seal/key-fixtures/state/keys/key-2024.yaml"),
    include_str!("../seal/key-fixtures/state/keys/key-2025.yaml"),
];
const NAMESPACE: &str = "kube-system";
const NAME: &str = "sealed-secrets-controller";
const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
const OBJECTS: &str = "/apis/bitnami.com/v1alpha1/sealedsecrets";
const LEASE: &str =
    "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/sealed-secrets-controller";
const LABEL: &str = "sealedsecrets.bitnami.com/sealed-secrets-key";

/// Response bodies that are not a list of objects, as a login page or a broken proxy sends them.
const NON_LISTS: [&str; 12] = [
    "",
    "null",
    "[]",
    "[[]]",
    "5",
    "\"x\"",
    "# comment",
    "{}",
    "<html>login</html>",
    r#"{"kind":"Status","status":"Success"}"#,
    r#"{"kind":"SealedSecretList","metadata":{},"items":null}"#,
    r#"{"kind":"SealedSecretList","metadata":{}}"#,
];

/// A cluster with two key Secrets, and one SealedSecret that this project's controller has processed.
struct Cluster {
    certificate: &'static str,
    /// Responses that replace those of an honest cluster. Each has a method, a path (optionally with the end of the
    /// query), a status code and a body.
    replaced: Vec<(&'static str, String, (u16, String))>,
    /// Additional header lines of the responses.
    head: String,
    directory: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Self {
        Self {
            certificate: NEW_CERT,
            replaced: Vec::new(),
            head: String::new(),
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    fn replace(mut self, method: &'static str, path: &str, code: u16, body: &str) -> Self {
        let response = (code, body.to_owned());
        self.replaced.push((method, path.to_owned(), response));
        self
    }

    /// Runs `seal`. Also returns the methods and paths of all requests except GET requests.
    fn seal(&self, args: &[&str]) -> (Output, Vec<String>) {
        let changes: Arc<Mutex<Vec<String>>> = Arc::default();
        let (replaced, certificate) = (self.replaced.clone(), self.certificate);
        let recorded = Arc::clone(&changes);
        let kubeconfig =
            api_server::serve_with(self.directory.path(), self.head.clone(), move |request| {
                let Request {
                    method,
                    path,
                    query,
                } = request;
                if method != "GET" {
                    let mut changes = recorded.lock().expect("no panic");
                    changes.push(format!("{method} {path}"));
                }
                let is_asked = |(other, uri, _): &&(&str, String, _)| {
                    let (other_path, end) = uri.split_once('?').unwrap_or((uri, ""));
                    other == method && other_path == path && query.ends_with(end)
                };
                let replaced = replaced.iter().find(is_asked);
                replaced.map_or_else(
                    || honest_response(request, certificate),
                    |(_, _, response)| response.clone(),
                )
            });
        let output = run(self.directory.path(), &kubeconfig, args);
        let changes = changes.lock().expect("no panic").clone();
        (output, changes)
    }

    /// Runs a command that must fail and must send no request for a change. Returns the output of the command.
    fn assert_unchanged(&self, args: &[&str], why: &str) -> String {
        let (output, changes) = self.seal(args);
        let text = combined_output(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?} {why}: {text}");
        assert_eq!(changes, [""; 0], "{args:?} {why}: {text}");
        text
    }
}

fn run(directory: &Path, kubeconfig: &Path, args: &[&str]) -> Output {
    let mut seal = command(SEAL, directory, kubeconfig);
    let seal = seal.env("XDG_CACHE_HOME", directory.join("cache"));
    seal.args(args).output().expect("the command starts")
}

fn honest_response(request: &Request, certificate: &str) -> (u16, String) {
    let Request { method, path, .. } = request;
    let success = |body: String| (200, body);
    match (method.as_str(), path.as_str()) {
        ("GET", SECRETS) => success(list("SecretList", &KEYS.map(key_secret))),
        ("GET", OBJECTS) => success(list("SealedSecretList", &[sealed_secret()])),
        ("PATCH", path) if path.starts_with(SECRETS) => {
            success(retired_key_secret(path).to_string())
        }
        ("PATCH", _) => {
            let mut object = sealed_secret();
            object["status"] = json!({ "conditions": [] });
            success(object.to_string())
        }
        ("GET", path) if path == service_path(NAMESPACE, NAME) => {
            success(r#"{"spec":{"ports":[{"name":"http","port":8080}]}}"#.to_owned())
        }
        ("GET", path) if path == certificate_path(NAMESPACE, NAME) => {
            success(certificate.to_owned())
        }
        _ => not_found(),
    }
}

fn list(kind: &str, items: &[Json]) -> String {
    json!({ "kind": kind, "apiVersion": "v1", "metadata": {}, "items": items }).to_string()
}

fn key_secret(manifest: &str) -> Json {
    let documents = shared::manifest::read(manifest.as_bytes()).expect("the text is YAML");
    let mut reading = shared::manifest::Reading::default();
    let secret = shared::secret::Secret::from_node(&documents[0].root, &mut reading);
    secret.expect("the object is a Secret").to_document()
}

/// Returns the key Secret at this path with the label of a retired key.
fn retired_key_secret(path: &str) -> Json {
    let secrets = KEYS.map(key_secret).into_iter();
    let mut secrets = secrets.filter(|secret| {
        let name = secret["metadata"]["name"].as_str();
        name.is_some_and(|name| path.ends_with(name))
    });
    let mut secret = secrets.next().expect("the key exists");
    secret["metadata"]["labels"][LABEL] = json!("retired");
    secret
}

fn sealed_secret() -> Json {
    json!({
        "kind": "SealedSecret", "apiVersion": "bitnami.com/v1alpha1",
        "metadata": { "namespace": "shop", "name": "db", "resourceVersion": "7" },
        "spec": { "encryptedData": {} },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

#[test]
fn commands_change_an_honest_cluster() {
    for (args, change) in [
        (
            &["keys", "retire", "key-2024"][..],
            format!("PATCH {SECRETS}/key-2024"),
        ),
        (
            &["uninstall", "--yes"],
            "PATCH /apis/bitnami.com/v1alpha1/namespaces/shop/sealedsecrets/db/status".to_owned(),
        ),
    ] {
        let (output, changes) = Cluster::new().seal(args);
        assert!(output.status.success(), "{}", combined_output(&output));
        assert_eq!(changes, [change]);
    }
}

/// Fault: a proxy in front of the API server responds to a list request with success but without a list, so a key seems
/// to be unused.
#[test]
fn retires_no_key_after_a_response_that_is_not_a_list() {
    for body in NON_LISTS {
        for args in [
            &["keys", "retire", "key-2024"][..],
            &["keys", "compromise", "key-2024"],
            &["keys", "status"],
            &["uninstall", "--yes"],
        ] {
            let cluster = Cluster::new().replace("GET", OBJECTS, 200, body);
            let text = cluster.assert_unchanged(args, body);
            assert!(
                text.contains("not a list of objects"),
                "{args:?} {body}: {text}"
            );
        }
        let cluster = Cluster::new().replace("GET", SECRETS, 200, body);
        cluster.assert_unchanged(&["keys", "retire", "key-2024"], body);
    }
}

/// Fault: a proxy responds to the request for the second page of a list with success but without a list, so objects are
/// missing.
#[test]
fn retires_no_key_after_a_second_page_that_is_not_a_list() {
    let first = r#"{"kind":"SealedSecretList","metadata":{"continue":"abc"},"items":[]}"#;
    for body in NON_LISTS {
        let second = format!("{OBJECTS}?continue=abc");
        let cluster = Cluster::new().replace("GET", &second, 200, body);
        let cluster = cluster.replace("GET", OBJECTS, 200, first);
        let text = cluster.assert_unchanged(&["keys", "retire", "key-2024"], body);
        assert!(text.contains("not a list of objects"), "{body}: {text}");
    }
}

/// Fault: a proxy responds to a request for a change with success, but the API server changes nothing.
#[test]
fn reports_a_change_that_the_response_does_not_contain() {
    let unchanged = key_secret(KEYS[0]).to_string();
    for body in ["", "{}", "<html>login</html>", &unchanged] {
        let path = format!("{SECRETS}/key-2024");
        let cluster = Cluster::new().replace("PATCH", &path, 200, body);
        let (output, _) = cluster.seal(&["keys", "retire", "key-2024"]);
        let text = combined_output(&output);
        assert_eq!(output.status.code(), Some(2), "{body}: {text}");
        assert!(text.contains("the response is not"), "{body}: {text}");
    }
}

/// Fault: the Lease of a running controller cannot be read, is malformed, or seems expired only because the clock of
/// this machine is wrong, so statuses are changed while the controller is running.
#[test]
fn uninstall_changes_nothing_while_a_controller_may_hold_the_lease() {
    let lease = |renewed: &str, seconds: Json| {
        let spec = json!({ "holderIdentity": "pod", "renewTime": renewed, "leaseDurationSeconds": seconds });
        json!({ "kind": "Lease", "spec": spec }).to_string()
    };
    let renewed = "2026-01-01T10:00:00.000000Z";
    let date = |time: &str| format!("Date: Thu, 01 Jan 2026 {time} GMT\r\n");
    let status = r#"{"kind":"Status","message":"no"}"#;
    for (why, code, body, head) in [
        ("unavailable", 503, String::new(), String::new()),
        ("too many requests", 429, status.to_owned(), String::new()),
        ("unauthorized", 401, status.to_owned(), String::new()),
        ("forbidden", 403, status.to_owned(), String::new()),
        (
            "not found, from a proxy",
            404,
            "<html>".to_owned(),
            String::new(),
        ),
        ("a login page", 200, "<html>".to_owned(), String::new()),
        (
            "a list",
            200,
            r#"{"kind":"LeaseList","items":[]}"#.to_owned(),
            String::new(),
        ),
        (
            "an unreadable time",
            200,
            lease("soon", json!(15)),
            String::new(),
        ),
        (
            "no duration",
            200,
            lease(renewed, json!(null)),
            String::new(),
        ),
        ("valid", 200, lease(renewed, json!(15)), date("10:00:14")),
    ] {
        let mut cluster = Cluster::new().replace("GET", LEASE, code, &body);
        cluster.head = head;
        let text = cluster.assert_unchanged(&["uninstall", "--yes"], why);
        assert!(text.contains("--force"), "{why}: {text}");
        let (output, changes) = cluster.seal(&["uninstall", "--yes", "--force"]);
        assert!(
            output.status.success(),
            "{why}: {}",
            combined_output(&output)
        );
        assert_eq!(changes.len(), 1, "{why}");
    }
    let mut expired = Cluster::new().replace("GET", LEASE, 200, &lease(renewed, json!(15)));
    expired.head = date("10:00:15");
    let (output, changes) = expired.seal(&["uninstall", "--yes"]);
    assert!(output.status.success(), "{}", combined_output(&output));
    assert_eq!(changes.len(), 1);
}

/// Attack: a man in the middle, or an outdated replica, serves the certificate of an older key, so that the newest key
/// is retired and values are sealed for an older one again.
#[test]
fn does_not_retire_the_newest_key_if_an_older_certificate_is_served() {
    let mut cluster = Cluster::new();
    for (certificate, key) in [
        (OLD_CERT, "key-2025"),
        (OLD_CERT, "key-2024"),
        (NEW_CERT, "key-2025"),
    ] {
        cluster.certificate = certificate;
        let text = cluster.assert_unchanged(&["keys", "retire", key], key);
        assert!(text.contains("generate a new key first"), "{text}");
    }
}

/// Attack: the author of a file gives its object a namespace or name that leads a GET request of the reader to another
/// path, for example through the API server's proxy to a program that acts on it.
#[test]
fn sends_no_request_with_a_name_that_changes_the_path() {
    let directory = tempfile::tempdir().expect("a directory");
    let paths: Arc<Mutex<Vec<String>>> = Arc::default();
    let recorded = Arc::clone(&paths);
    let kubeconfig = api_server::serve_with(directory.path(), String::new(), move |request| {
        let mut paths = recorded.lock().expect("no panic");
        paths.push(format!("{}?{}", request.path, request.query));
        honest_response(request, NEW_CERT)
    });
    for (namespace, name) in [
        ("prod/services/jenkins:8080/proxy/build?delay=0", "db"),
        ("..", "db"),
        ("prod", "../services/jenkins:8080/proxy/build"),
        ("prod", "db?delay=0"),
    ] {
        let mut object = sealed_secret();
        object["metadata"] = json!({ "namespace": namespace, "name": name });
        let file = directory.path().join("db.json");
        std::fs::write(&file, object.to_string()).expect("the test directory is writable");
        let commands: [&[&str]; 2] = [&["view", "--reveal", "db.json"], &["doctor", "db.json"]];
        for args in commands {
            let output = run(directory.path(), &kubeconfig, args);
            assert!(!output.status.success(), "{args:?} {namespace} {name}");
        }
    }
    let paths = paths.lock().expect("no panic").clone();
    assert!(!paths.is_empty());
    for path in paths {
        let is_harmless =
            !path.contains("jenkins") && !path.contains("..") && !path.contains("delay");
        assert!(is_harmless, "{path}");
    }
}

/// Fault: an administrator restores a backup after the label of a key was removed. Its Secret already exists, and the
/// controller does not use the key without the label. Or another Secret has the name of the key.
#[test]
fn restore_reports_the_missing_label_of_a_key() {
    let command = format!("kubectl label secret -n {NAMESPACE} key-2024 {LABEL}=active");
    let mut unlabeled = key_secret(KEYS[0]);
    unlabeled["metadata"]["labels"] = json!({});
    let mut other = key_secret(KEYS[1]);
    other["metadata"] = json!({ "name": "key-2024" });
    let backup = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/seal/key-fixtures/state/keys/key-2024.yaml"
    );
    let listed = list("SecretList", &[key_secret(KEYS[1])]);
    for (secret, want) in [
        (unlabeled, command.as_str()),
        (other, "another Secret already has the name"),
    ] {
        let path = format!("{SECRETS}/key-2024");
        let cluster = Cluster::new().replace("GET", SECRETS, 200, &listed);
        let cluster = cluster.replace("GET", &path, 200, &secret.to_string());
        for options in [&[][..], &["--dry-run"]] {
            let args = [&["keys", "restore", backup][..], options].concat();
            let text = cluster.assert_unchanged(&args, want);
            assert!(text.contains(want), "{options:?}: {text}");
        }
    }
}

/// Fault: an administrator restores a backup after the label of a v2 key was removed, or while another Secret has the
/// name of the key.
#[test]
fn restore_reports_the_missing_label_of_a_v2_key() {
    let command = format!("kubectl label secret -n {NAMESPACE} key-xw {V2_KEY_LABEL}=active");
    let directory = tempfile::tempdir().expect("a directory");
    let backup = directory.path().join("backup.yaml");
    fs::write(&backup, v2_key("key-xw", 1, 1)).expect("the test owns the file");
    let unlabeled = |byte| {
        let mut secret = v2_secret(Suite::XWing, "key-xw", byte, 1).to_document();
        secret["metadata"]["labels"] = json!({});
        secret
    };
    for (secret, want) in [
        (unlabeled(1), command.as_str()),
        (unlabeled(2), "another Secret already has the name"),
    ] {
        let path = format!("{SECRETS}/key-xw");
        let cluster = Cluster::new().replace("GET", &path, 200, &secret.to_string());
        for options in [&[][..], &["--dry-run"]] {
            let backup = backup.to_str().expect("text");
            let args = [&["keys", "restore", backup][..], options].concat();
            let text = cluster.assert_unchanged(&args, want);
            assert!(text.contains(want), "{options:?}: {text}");
        }
    }
}
