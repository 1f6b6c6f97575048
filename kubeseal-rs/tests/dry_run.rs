//! `seal rotate --dry-run` through the controller.
#![cfg(unix)]

mod api_server;

use std::fs;
use std::process::{Command, Stdio};

use api_server::{certificate_of, path_of, service, text};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/key-fixtures");
const PLACE: (&str, &str) = ("kube-system", "sealed-secrets-controller");

/// Attack: a reader of a repository has the controller decrypt and encrypt everything, again and again, with a command
/// that changes nothing. The test server serves only the certificate, not `/v1/rotate`.
#[test]
fn a_dry_run_requests_only_the_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let new = fs::read_to_string(format!("{FIXTURES}/key-2025.pem")).expect("a fixture");
    let kubeconfig = api_server::serve(
        folder.path(),
        vec![
            (path_of(PLACE.0, PLACE.1), service()),
            (certificate_of(PLACE.0, PLACE.1), text(new)),
        ],
    );
    let seal = |args: &[&str]| {
        let output = Command::new(SEAL)
            .args(args)
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .env("KUBECONFIG", &kubeconfig)
            .stdin(Stdio::null())
            .output()
            .expect("it starts");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {stderr}");
        stderr
    };
    fs::write(folder.path().join("value"), "hunter2").expect("a file");
    for (name, key, hints) in [
        ("old", "key-2024", None),
        ("new", "key-2025", None),
        ("untold", "key-2025", Some("--no-hints")),
    ] {
        let (cert, out) = (
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
            &cert,
        ];
        args.extend(hints);
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
    assert!(stderr.contains("1 without a key hint"), "{stderr}");
}
