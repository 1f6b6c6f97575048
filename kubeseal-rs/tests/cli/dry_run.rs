//! Tests `seal rotate --dry-run` through a controller.
#![cfg(unix)]

use std::fs;
use std::process::{Command, Stdio};

use crate::api_server::{self, certificate_path, service_body, service_path, text_body};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/key-fixtures");
const CONTROLLER: (&str, &str) = ("kube-system", "sealed-secrets-controller");

/// Attack: a caller makes the controller decrypt and encrypt every value in a repository repeatedly, with a command
/// that changes no file. The test server serves the Service and the certificate, not `/v1/rotate`.
#[test]
fn a_dry_run_requests_only_the_certificate() {
    let directory = tempfile::tempdir().expect("a directory");
    let new_cert = fs::read_to_string(format!("{FIXTURES}/key-2025.pem")).expect("a fixture");
    let kubeconfig = api_server::serve(
        directory.path(),
        vec![
            (service_path(CONTROLLER.0, CONTROLLER.1), service_body()),
            (
                certificate_path(CONTROLLER.0, CONTROLLER.1),
                text_body(new_cert),
            ),
        ],
    );
    let seal = |args: &[&str]| {
        let output = Command::new(SEAL)
            .args(args)
            .current_dir(directory.path())
            .env("HOME", directory.path())
            .env("KUBECONFIG", &kubeconfig)
            .stdin(Stdio::null())
            .output()
            .expect("the command starts");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {stderr}");
        stderr
    };
    fs::write(directory.path().join("value"), "hunter2").expect("a file");
    for (name, key, option) in [
        ("old", "key-2024", None),
        ("new", "key-2025", None),
        ("unhinted", "key-2025", Some("--no-hints")),
    ] {
        let (cert_flag, out) = (
            format!("--cert={FIXTURES}/{key}.pem"),
            format!("tree-{name}.yaml"),
        );
        let mut args = vec![
            "create",
            name,
            "-n",
            "shop",
            "--from-file",
            "a=value",
            "-w",
            &out,
            &cert_flag,
        ];
        args.extend(option);
        seal(&args);
    }
    let stderr = seal(&["rotate", "--dry-run", "."]);
    assert!(
        stderr.contains("tree-old.yaml") && !stderr.contains("tree-new.yaml: "),
        "{stderr}"
    );
    assert!(
        stderr.contains("based on sizes and key hints alone"),
        "{stderr}"
    );
    assert!(stderr.contains("1 value without a key hint"), "{stderr}");
}
