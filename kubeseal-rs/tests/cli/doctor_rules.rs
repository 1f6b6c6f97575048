//! Tests how `seal doctor` uses the rule for a file.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Command, Stdio};

const KUBECONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: dev\n\
    contexts: [{name: dev, context: {cluster: dev, user: u}}, {name: prod, context: {cluster: prod, user: u}}]\n\
    clusters: [{name: dev, cluster: {server: 'https://127.0.0.1:7'}}, {name: prod, cluster: {server: 'https://127.0.0.1:9'}}]\n\
    users: [{name: u, user: {}}]\n";

const SEALED_SECRET: &str = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: db, namespace: shop}\n\
    spec: {encryptedData: {a: AgBB}}\n";

/// Returns the stdout of `seal doctor` for `prod/db.yaml`, to which this rule applies.
fn doctor(rule: &str, args: &[&str]) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let path_to = |name: &str| directory.path().join(name);
    fs::create_dir(path_to("prod")).expect("a directory");
    fs::write(path_to("kubeconfig"), KUBECONFIG).expect("a file");
    fs::write(path_to("prod/db.yaml"), SEALED_SECRET).expect("a file");
    fs::write(
        path_to(".seal.yaml"),
        format!("rules: [{{path: prod/**, {rule}}}]\n"),
    )
    .expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_seal"))
        .args(["doctor", "prod/db.yaml"])
        .args(args)
        .current_dir(directory.path())
        .env("HOME", directory.path())
        .env("KUBECONFIG", path_to("kubeconfig"))
        .stdin(Stdio::null())
        .output()
        .expect("the command starts");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn doctor_uses_the_controller_of_the_rule() {
    for (rule, args, server) in [
        ("context: prod", &[][..], "127.0.0.1:9"),
        ("context: prod", &["--context", "dev"], "127.0.0.1:7"),
        ("namespace: shop", &[], "127.0.0.1:7"),
    ] {
        let printed = doctor(rule, args);
        assert!(printed.contains(server), "{rule} {args:?}: {printed}");
    }
}

#[test]
fn doctor_reports_an_invalid_rule() {
    for (rule, want) in [
        ("certificate: no.pem", "no.pem"),
        ("certificat: x", ".seal.yaml"),
    ] {
        let printed = doctor(rule, &[]);
        assert!(
            printed.contains("rules") && printed.contains(want),
            "{rule}: {printed}"
        );
    }
}
