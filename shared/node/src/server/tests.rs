//! Tests calls of a running server, without a controller.

use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::client::{self, CallError};

/// A truncated CA certificate. No test verifies a server with it.
const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBdzCCAR2gAwIBAgIBATAKBggqhkjOPQQDAjAQMQ4wDAYDVQQDDAVlbXB0eTAe
Fw0yNjAxMDEwMDAwMDBaFw0zNjAxMDEwMDAwMDBaMBAxDjAMBgNVBAMMBWVtcHR5
-----END CERTIFICATE-----
";

/// Starts a server whose controller does not exist. The server runs until the test program ends.
fn start() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (socket, ca) = (
        directory.path().join("sealed.sock"),
        directory.path().join("ca.pem"),
    );
    std::fs::write(&ca, AUTHORITY).unwrap();
    let settings = Settings {
        socket: socket.clone(),
        server: "https://127.0.0.1:1".into(),
        authority: Authority::File(ca),
        metrics: Arc::default(),
        log: |_| {},
    };
    thread::spawn(move || run(settings));
    while client::check(&socket).is_err() {
        thread::sleep(Duration::from_millis(10));
    }
    (directory, socket)
}

fn mount(socket: &Path, attributes: &str) -> Result<Vec<u8>, CallError> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build();
    runtime.unwrap().block_on(client::mount(socket, attributes))
}

fn code(result: Result<Vec<u8>, CallError>) -> String {
    match result {
        Err(CallError::Failed { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

fn attributes(objects: &str) -> String {
    let tokens = json!({ deliver::AUDIENCE: { "token": "t" } }).to_string();
    json!({ "objects": objects, "csi.storage.k8s.io/serviceAccount.tokens": tokens }).to_string()
}

#[test]
fn a_call_fails_with_a_final_code_and_the_server_keeps_serving() {
    let (_directory, socket) = start();
    assert_eq!(code(mount(&socket, "")), "3", "no attributes");
    assert_eq!(code(mount(&socket, "{}")), "9", "no token");
    assert_eq!(code(mount(&socket, &attributes("- {}"))), "3", "no object");
    assert_eq!(
        code(mount(&socket, &attributes("- sealedSecret: db"))),
        "9",
        "no controller"
    );
    let long = attributes(&"a".repeat(2 << 20));
    assert_eq!(code(mount(&socket, &long)), "3", "too long");
    client::check(&socket).unwrap();
}

/// Attack: a program with access to the socket sends anything other than gRPC, or nothing.
#[test]
fn other_connections_do_not_disturb_a_call() {
    use std::io::{Read as _, Write as _};
    let (_directory, socket) = start();
    let silent = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let mut other = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    other.write_all(&[b'x'; 4096]).unwrap();
    let _ = other.read_to_end(&mut Vec::new());
    client::check(&socket).unwrap();
    drop(silent);
}

#[test]
fn settings_are_checked_before_the_socket_exists() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sealed.sock");
    let settings = |server: &str, ca: &str| Settings {
        socket: socket.clone(),
        server: server.into(),
        authority: Authority::File(directory.path().join(ca)),
        metrics: Arc::default(),
        log: |_| {},
    };
    let error = run(settings("http://controller", "ca.pem")).unwrap_err();
    assert!(error.to_string().contains("https://"), "{error}");
    let error = run(settings("https://controller", "ca.pem")).unwrap_err();
    assert!(error.to_string().contains("ca.pem"), "{error}");
    std::fs::write(directory.path().join("empty.pem"), "").unwrap();
    assert!(run(settings("https://controller", "empty.pem")).is_err());
    assert!(!socket.exists());
}
