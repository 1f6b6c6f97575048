//! Tests that a signal ends a command that waits for a busy controller.
#![cfg(unix)]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use crate::api_server::{self, Request, certificate_path, endpoint_path, not_found, service_path};
use crate::support::{NEW_CERT, OLD_CERT, combined_output, command, write_files};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "sealed-secrets-controller";
const SECRET: &str =
    "kind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {p: value}\n";

/// Returns the response of a controller that is always busy, and records a request for a re-encryption.
fn busy_response(request: &Request, is_requested: &AtomicBool) -> (u16, String) {
    let path = request.path.as_str();
    if path == service_path(NAMESPACE, NAME) {
        let service = r#"{"spec":{"ports":[{"name":"http","port":8080}]}}"#;
        return (200, service.to_owned());
    }
    if path == certificate_path(NAMESPACE, NAME) {
        return (200, NEW_CERT.to_owned());
    }
    if path == endpoint_path(NAMESPACE, NAME, "rotate") {
        is_requested.store(true, SeqCst);
        return (429, String::new());
    }
    not_found()
}

/// Fault: the controller is busy, and requests a wait of twenty seconds after each attempt.
#[test]
fn a_signal_ends_a_wait_for_a_busy_controller() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = [("secret.yaml", SECRET), ("old.pem", OLD_CERT)];
    write_files(directory.path(), &files);
    let mut kubeseal = command(env!("CARGO_BIN_EXE_kubeseal"), directory.path(), "/nowhere");
    kubeseal.args(["-f", "secret.yaml", "--cert", "old.pem", "-w", "db.yaml"]);
    let sealed = kubeseal.current_dir(directory.path()).output();
    assert!(sealed.expect("the command starts").status.success());
    let read = || fs::read(directory.path().join("db.yaml")).expect("the file exists");
    let before = read();

    let is_requested: Arc<AtomicBool> = Arc::default();
    let requested = Arc::clone(&is_requested);
    let head = "Retry-After: 20\r\n".to_owned();
    let kubeconfig = api_server::serve_with(directory.path(), head, move |request| {
        busy_response(request, &requested)
    });
    let mut seal = command(env!("CARGO_BIN_EXE_seal"), directory.path(), kubeconfig);
    seal.args(["rotate", "db.yaml"])
        .current_dir(directory.path());
    let seal = seal.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = seal.spawn().expect("the command starts");
    while !is_requested.load(SeqCst) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let start = Instant::now();
    let pid = child.id().to_string();
    let kill = Command::new("kill").args(["-INT", &pid]).status();
    assert!(kill.expect("the command starts").success());
    let output = child.wait_with_output().expect("the program was started");
    let text = combined_output(&output);
    assert_eq!(output.status.signal(), Some(2), "{text}");
    assert!(start.elapsed() < Duration::from_secs(15), "{text}");
    for part in ["interrupt again to stop now", "interrupted by SIGINT"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(read(), before);
}
