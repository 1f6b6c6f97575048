//! Tests programs that change an object while `seal rotate` re-encrypts it.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::api_server::{self, certificate_path, endpoint_path, service_path};
use crate::concurrent_v2::{PIPE, SECOND_ITEM_ARGS, seal_while};
use crate::support::{
    NEW_CERT, OLD_CERT, assert_code, assert_contains, combined_output, command, write_files,
};
use crate::v2::{RULES, create, directory, read, seal_ok};
use crate::v2_attacks::set;

const OLD_KEY: &str = include_str!("../seal/key-fixtures/state/keys/key-2024.yaml");
const NEW_KEY: &str = include_str!("../seal/key-fixtures/state/keys/key-2025.yaml");

/// Fault: a user sets an item while `seal rotate` re-encrypts the object, and `seal rotate` reports values as
/// re-encrypted although it did not write them.
#[test]
fn rotate_retries_an_object_that_changed_meanwhile() {
    let directory = directory();
    let directory = directory.path();
    let two = |name: &str| {
        let args = ["create", name, "-n", "shop", "--from-file", "a=value"];
        let file = format!("{name}.yaml");
        seal_ok(
            directory,
            &[&args[..], &["--from-file", "b=value", "-w", &file]].concat(),
        );
        read(directory, &file)
    };
    let (db, other) = (two("db"), two("other"));
    write_files(directory, &[("db.yaml", &format!("{db}---\n{other}"))]);
    let both = RULES.replace("[cluster.txt]", "[cluster.txt, escrow.txt]");
    write_files(directory, &[(".seal.yaml", &both), ("new", "new value")]);
    let rotate = [
        "rotate",
        "db.yaml",
        "--key",
        "cluster.key",
        "--recipient",
        PIPE,
    ];
    let escrow = read(directory, "escrow.txt");
    let set = ["set", "db.yaml", "a", "--name", "db", "--from-file", "new"];
    let output = seal_while(directory, &rotate, &escrow, || {
        drop(seal_ok(directory, &set));
    });
    assert_code(&output, 0, "rotate");
    assert_contains(
        &output,
        "4 items in 1 file re-encrypted; 0 already",
        "rotate",
    );
    let view = ["view", "--reveal", "db.yaml", "--key", "escrow.key"];
    let printed = seal_ok(directory, &view);
    assert_eq!(printed.matches("correct horse").count(), 3, "{printed}");
    assert!(printed.contains("new value"), "{printed}");
}

/// Fault: a user sets a v1 item while `seal rotate` re-encrypts the object, and `seal rotate` reports values as
/// re-encrypted although it did not write them.
#[test]
fn rotate_retries_a_v1_object_that_changed_meanwhile() {
    let directory = directory();
    let directory = directory.path();
    let files = [
        ("old.pem", OLD_CERT),
        ("old.yaml", OLD_KEY),
        ("new.yaml", NEW_KEY),
    ];
    write_files(directory, &files);
    write_files(directory, &[("new", "new value")]);
    let v1 = ["--sealed-format", "v1", "--cert", "old.pem"];
    create(directory, &[&SECOND_ITEM_ARGS[..], &v1].concat());
    let rotate = ["rotate", "db.yaml", "--key", "old.yaml", "--cert", PIPE];
    let set = [&["set", "db.yaml", "a", "--from-file", "new"][..], &v1].concat();
    let output = seal_while(directory, &rotate, NEW_CERT, || {
        drop(seal_ok(directory, &set));
    });
    assert_code(&output, 0, "rotate");
    let want = "2 items in 1 file re-encrypted; 0 already";
    assert_contains(&output, want, "rotate");
    let view = ["view", "--reveal", "db.yaml", "--key", "new.yaml"];
    let printed = seal_ok(directory, &view);
    assert!(
        printed.contains("new value") && printed.contains("correct horse"),
        "{printed}"
    );
}

/// Fault: another program changes the object while the controller re-encrypts it, once or at every attempt.
#[test]
fn rotate_through_the_controller_retries_a_changed_object() {
    for (changes, code, want) in [
        (1, 0, "2 items in 1 file re-encrypted"),
        (
            usize::MAX,
            2,
            "another program changed the object meanwhile",
        ),
    ] {
        let directory = directory();
        let directory = directory.path().to_owned();
        let v1 = ["--sealed-format", "v1", "--cert", "cert.pem"];
        create(&directory, &[&SECOND_ITEM_ARGS[..], &v1].concat());
        let response = document(&directory);
        let sent = Arc::new(AtomicUsize::new(0));
        let kubeconfig = serve(&directory, response.to_string(), {
            let (sent, directory) = (Arc::clone(&sent), directory.clone());
            move || {
                if sent.fetch_add(1, SeqCst) < changes {
                    seal_ok(&directory, &[&set("a")[..], &v1].concat());
                }
            }
        });
        fs::remove_file(directory.join("db.yaml")).expect("the test owns the file");
        create(&directory, &[&SECOND_ITEM_ARGS[..], &v1].concat());
        let mut command = command(env!("CARGO_BIN_EXE_seal"), &directory, &kubeconfig);
        command.args(["rotate", "db.yaml"]).current_dir(&directory);
        let output = command.output().expect("the command starts");
        assert_code(&output, code, changes);
        assert!(combined_output(&output).contains(want), "{output:?}");
        assert_eq!(sent.load(SeqCst), if code == 0 { 2 } else { 10 });
        let returned = response["spec"]["encryptedData"]["a"]
            .as_str()
            .expect("text");
        assert_eq!(read(&directory, "db.yaml").contains(returned), code == 0);
    }
}

/// Returns the object in `db.yaml` as JSON.
fn document(directory: &Path) -> serde_json::Value {
    let parsed = shared::manifest::read(read(directory, "db.yaml").as_bytes()).expect("valid");
    let objects = shared::sealed_file::find(&parsed).expect("valid");
    objects[0].sealed.to_document()
}

/// Serves a controller that calls `meanwhile` and then sends `response`, for every re-encryption.
fn serve(
    directory: &Path,
    response: String,
    meanwhile: impl Fn() + Send + Sync + 'static,
) -> std::path::PathBuf {
    let (namespace, name) = ("kube-system", "sealed-secrets-controller");
    let rotated: api_server::Body = Box::new(move |to| {
        meanwhile();
        to.write_all(response.as_bytes())
    });
    let responses = vec![
        (service_path(namespace, name), api_server::service_body()),
        (
            certificate_path(namespace, name),
            api_server::text_body(read(directory, "cert.pem")),
        ),
        (endpoint_path(namespace, name, "rotate"), rotated),
    ];
    api_server::serve(directory, responses)
}
