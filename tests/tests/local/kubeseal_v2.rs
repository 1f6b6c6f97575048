//! Tests Bitnami's `kubeseal` and this project's on files with v2 values.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use shared::manifest;
use shared::resource::SealedSecret;
use tests::scratch::Scratch;
use tests::sealing::KEYS;
use tests::{binaries, upstream};

const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {more: x}\n";

/// Creates a file with two v2 items. `bind` binds them to the template.
fn create(directory: &Path, bind: bool) {
    let rules = format!(
        "rules:\n- path: '*.yaml'\n  format: v2\n  certificate: cert.pem\n  bindTemplate: {bind}\n"
    );
    fs::write(directory.join(".seal.yaml"), rules).unwrap();
    fs::write(
        directory.join("cert.pem"),
        KEYS[0].pair.certificate().to_pem(),
    )
    .unwrap();
    fs::write(directory.join("value"), "correct horse").unwrap();
    fs::write(directory.join("secret.in"), SECRET).unwrap();
    let args = [
        "create",
        "db",
        "--from-file",
        "a=value",
        "--from-file",
        "b=value",
        "-n",
        "shop",
        "-w",
        "db.yaml",
    ];
    let output = run(directory, &binaries::seal(), &args);
    assert!(output.status.success(), "{output:?}");
}

fn run(directory: &Path, program: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(directory)
        .env("HOME", directory)
        .env("KUBECONFIG", "/nowhere");
    command.stdin(Stdio::null()).output().unwrap()
}

fn merge(directory: &Path, program: &Path) -> Output {
    let mut command = Command::new(program);
    command.args(["--cert", "cert.pem", "--merge-into", "db.yaml"]);
    command
        .current_dir(directory)
        .env("HOME", directory)
        .env("KUBECONFIG", "/nowhere");
    command
        .stdin(fs::File::open(directory.join("secret.in")).unwrap())
        .output()
        .unwrap()
}

fn entries(directory: &Path) -> BTreeMap<String, String> {
    let text = fs::read(directory.join("db.yaml")).unwrap();
    let documents = manifest::read(&text).unwrap();
    let (mut sealed, _) = SealedSecret::all_from_document(&documents[0]).unwrap();
    sealed.remove(0).spec.encrypted_data
}

#[test]
fn a_merge_by_either_kubeseal_keeps_v2_entries() {
    for program in [upstream::upstream_kubeseal(), binaries::kubeseal()] {
        let directory = Scratch::new();
        create(directory.path(), false);
        let before = entries(directory.path());
        let output = merge(directory.path(), &program);
        assert!(output.status.success(), "{output:?}");
        let mut after = entries(directory.path());
        let added = after.remove("more").unwrap();
        assert!(!added.starts_with("seal2."), "the added value is v1");
        assert_eq!(after, before, "{}", program.display());
    }
}

#[test]
fn kubeseal_warns_about_v2_values_and_refuses_bound_values() {
    let directory = Scratch::new();
    create(directory.path(), false);
    let output = merge(directory.path(), &binaries::kubeseal());
    let warning = String::from_utf8_lossy(&output.stderr);
    assert!(
        warning.contains("other values are sealed as v2"),
        "{warning}"
    );
    let directory = Scratch::new();
    create(directory.path(), true);
    let before = fs::read(directory.path().join("db.yaml")).unwrap();
    let output = merge(directory.path(), &binaries::kubeseal());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("bound to the template"),
        "{error}"
    );
    assert_eq!(fs::read(directory.path().join("db.yaml")).unwrap(), before);
}

#[test]
fn kubeseal_recovers_v2_values_offline() {
    let directory = Scratch::new();
    create(directory.path(), true);
    fs::write(
        directory.path().join("key.pem"),
        KEYS[0].private_pem.expose(),
    )
    .unwrap();
    let mut command = Command::new(binaries::kubeseal());
    command.args(["--recovery-unseal", "--recovery-private-key", "key.pem"]);
    command
        .current_dir(directory.path())
        .env("HOME", directory.path())
        .env("KUBECONFIG", "/nowhere");
    command.stdin(fs::File::open(directory.path().join("db.yaml")).unwrap());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let secret: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(secret["data"]["a"], "Y29ycmVjdCBob3JzZQ==");
    assert_eq!(secret["data"]["b"], "Y29ycmVjdCBob3JzZQ==");
}
