//! Tests `seal inventory`: the last change of files in Git, the joined state of a cluster, and hostile names.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value as Json, json};

use crate::api_server::{self, Request};
use crate::support::{assert_code, assert_contains, combined_output, command, git, write_files};

const SECRETS: &str = "/api/v1/secrets";
const SEALED_SECRETS: &str = "/apis/bitnami.com/v1alpha1/sealedsecrets";

fn inventory(directory: &Path, args: &[&str]) -> Output {
    let kubeconfig = directory.join("kubeconfig");
    let mut seal = command(env!("CARGO_BIN_EXE_seal"), directory, kubeconfig);
    seal.arg("inventory").args(args).current_dir(directory);
    seal.output().expect("the command starts")
}

fn report(directory: &Path, args: &[&str]) -> Json {
    let output = inventory(directory, &[args, &["-o", "json"]].concat());
    assert_code(&output, 0, format!("{args:?}"));
    serde_json::from_slice(&output.stdout).expect("the report is JSON")
}

/// Returns a value that has the form of a ciphertext for a key of 2048 bits.
fn sealed_value() -> String {
    format!("AQAH{}", "B".repeat(372))
}

/// Returns a manifest with such a value.
fn manifest(name: &str) -> String {
    let value = sealed_value();
    format!(
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{encryptedData: {{password: {value}}}}}\n"
    )
}

fn repository() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    git(directory.path(), &["init", "-q", "-b", "main"]);
    directory
}

fn commit(directory: &Path, message: &str) {
    git(directory, &["add", "-A"]);
    git(directory, &["commit", "-q", "-m", message]);
}

#[test]
fn shows_the_last_change_of_a_moved_file_and_of_its_neighbor() {
    let directory = repository();
    let path = directory.path();
    write_files(
        path,
        &[("a.yaml", &manifest("a")), ("b.yaml", &manifest("b"))],
    );
    commit(path, "one");
    fs::create_dir(path.join("prod")).expect("a directory");
    git(path, &["mv", "a.yaml", "prod/a.yaml"]);
    commit(path, "two");
    write_files(path, &[("c.yaml", &manifest("c"))]);
    let report = report(path, &[]);
    let file = |index: usize| report["objects"][index]["file"].clone();
    let (moved, neighbor, new) = (file(0), file(1), file(2));
    assert_eq!(moved["path"], "prod/a.yaml");
    for file in [&moved, &neighbor] {
        assert_eq!(file["history"], "commit", "{file}");
        assert_eq!(file["author"], "a", "{file}");
    }
    assert_ne!(moved["commit"], neighbor["commit"]);
    assert_eq!(new["history"], "unknown", "{new}");
    assert_eq!(
        report["objects"][0]["content"]["formats"],
        json!(["v1 2048"])
    );
}

#[test]
fn outside_a_repository_the_history_is_unknown() {
    let directory = tempfile::tempdir().expect("a directory");
    write_files(directory.path(), &[("a.yaml", &manifest("a"))]);
    let report = report(directory.path(), &[]);
    assert_eq!(report["objects"][0]["file"]["history"], "unknown");
    assert_eq!(report["objects"][0]["file"]["commit"], Json::Null);
}

#[test]
fn in_a_shallow_clone_the_oldest_change_is_older() {
    let directory = repository();
    let path = directory.path();
    write_files(path, &[("a.yaml", &manifest("a"))]);
    commit(path, "one");
    write_files(path, &[("b.yaml", &manifest("b"))]);
    commit(path, "two");
    write_files(path, &[("c.yaml", &manifest("c"))]);
    commit(path, "three");
    let url = format!("file://{}", path.display());
    git(path, &["clone", "-q", "--depth", "2", &url, "clone"]);
    let report = report(&path.join("clone"), &[]);
    let history = |index: usize| report["objects"][index]["file"]["history"].clone();
    assert_eq!(
        [history(0), history(1), history(2)],
        ["older", "older", "commit"]
    );
}

/// Attack: a committer chooses a name of the author and the object that moves the cursor, reverses the text, ends an
/// element of a page or is a formula, to forge what the reader of an inventory sees.
#[test]
fn an_author_cannot_control_the_terminal_or_a_report() {
    for author in [
        "a\u{1b}[2J\u{202e}b",
        "</script><script>alert(1)</script>",
        "=HYPERLINK(1)",
    ] {
        let directory = repository();
        let path = directory.path();
        let object = serde_json::to_string(author).expect("a string");
        write_files(path, &[("a.yaml", &manifest(&object))]);
        git(path, &["add", "-A"]);
        let name = format!("user.name={author}");
        git(path, &["-c", &name, "commit", "-q", "-m", "x"]);
        for format in ["text", "json", "csv", "html"] {
            let output = inventory(path, &["-o", format]);
            assert_code(&output, 0, author);
            let text = combined_output(&output);
            for hostile in ["\u{1b}", "\u{202e}", ",=HYPERLINK", "<script>alert"] {
                // A table and JSON are no markup, and are not opened by a spreadsheet.
                let is_markup = hostile.starts_with('<') && format != "html";
                assert!(is_markup || !text.contains(hostile), "{format}: {text}");
            }
        }
    }
}

#[test]
fn a_redacted_inventory_has_no_names() {
    let directory = repository();
    let path = directory.path();
    write_files(path, &[("customer/a.yaml", &manifest("orders"))]);
    git(path, &["add", "-A"]);
    git(path, &["-c", "user.name=Alice", "commit", "-q", "-m", "x"]);
    for format in ["text", "json", "csv", "html"] {
        let output = inventory(path, &["-o", format, "--redact"]);
        assert_code(&output, 0, format);
        let text = combined_output(&output);
        for name in ["shop", "orders", "customer", "Alice", "password", "AQAH"] {
            assert!(!text.contains(name), "{format}: {name}: {text}");
        }
        assert_contains(&output, "object-1", format);
    }
}

fn live(name: &str, observed: i64, synced: &str) -> Json {
    json!({
        "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
        "metadata": { "name": name, "namespace": "shop", "generation": 2 },
        "spec": { "encryptedData": { "password": sealed_value() } },
        "status": {
            "observedGeneration": observed,
            "conditions": [{ "type": "Synced", "status": synced, "reason": "UnsealFailed" }],
        },
    })
}

/// Returns the response of an API server with four SealedSecrets. `secrets` is its response to a list of Secrets.
fn response(request: &Request, secrets: &(u16, String)) -> (u16, String) {
    let objects = [
        live("ok", 2, "True"),
        live("failed", 2, "False"),
        live("pending", 1, "True"),
        live("only", 2, "True"),
    ];
    let list = json!({
        "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecretList", "metadata": {}, "items": objects,
    });
    match request.path.as_str() {
        SEALED_SECRETS => (200, list.to_string()),
        SECRETS => secrets.clone(),
        _ => api_server::not_found(),
    }
}

fn states(report: &Json) -> Vec<(String, String, String)> {
    let rows = report["objects"].as_array().expect("a list").iter();
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let state = |row: &Json| {
        let secret = &row["cluster"]["secret"];
        (text(&row["name"]), text(&row["state"]), text(secret))
    };
    rows.map(state).collect()
}

#[test]
fn joins_files_and_the_cluster() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let files = ["ok", "failed", "pending", "absent"];
    for name in files {
        write_files(path, &[(&format!("tree/{name}.yaml"), &manifest(name))]);
    }
    let secret = json!({ "metadata": { "name": "ok", "namespace": "shop" } });
    let list = json!({ "kind": "PartialObjectMetadataList", "metadata": {}, "items": [secret] });
    let secrets = (200, list.to_string());
    api_server::serve_with(path, String::new(), move |request| {
        response(request, &secrets)
    });
    let args = ["tree", "--cluster"];
    let want = [
        ("absent", "not-in-cluster", ""),
        ("failed", "failed", "missing"),
        ("ok", "ok", "exists"),
        ("only", "no-file", "missing"),
        ("pending", "pending", "missing"),
    ];
    let want = want.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
    assert_eq!(states(&report(path, &args)), want);
    assert_code(&inventory(path, &args), 0, "without --check");
    let check = inventory(path, &["tree", "--cluster", "--check"]);
    assert_code(&check, 1, "with --check");
    let only_cluster = report(path, &["--cluster"]);
    let only = &states(&only_cluster)[2];
    assert_eq!(only.1, "ok", "without files, no object lacks a file");
    assert_code(&inventory(path, &["--cluster", "--check"]), 1, "failed");
}

/// Otherwise a changed value, a new item, or the file of another cluster with the same name, is reported as `ok`.
#[test]
fn a_file_whose_content_is_not_in_the_cluster_differs() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let same = manifest("ok");
    let changed = same.replace("AQAHB", "AQAHC");
    let added = same.replace("password:", "token: AgB, password:");
    write_files(
        path,
        &[
            ("tree/a.yaml", &same),
            ("tree/b.yaml", &changed),
            ("tree/c.yaml", &added),
        ],
    );
    let list = json!({ "kind": "PartialObjectMetadataList", "metadata": {}, "items": [] });
    let secrets = (200, list.to_string());
    api_server::serve_with(path, String::new(), move |request| {
        response(request, &secrets)
    });
    let args = ["tree", "--cluster"];
    let report = report(path, &args);
    let rows = report["objects"].as_array().expect("a list").iter();
    let rows = rows.filter(|row| row["name"] == "ok");
    let states: Vec<_> = rows.map(|row| row["state"].clone()).collect();
    assert_eq!(states, ["ok", "differs", "differs"]);
    let check = ["tree/b.yaml", "--cluster", "--check"];
    assert_code(&inventory(path, &check), 1, "differs");
}

#[test]
fn without_permission_it_is_unknown_which_secrets_exist() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let forbidden = json!({ "kind": "Status", "message": "secrets is forbidden", "code": 403 });
    let secrets = (403, forbidden.to_string());
    api_server::serve_with(path, String::new(), move |request| {
        response(request, &secrets)
    });
    let output = inventory(path, &["--cluster", "-o", "json"]);
    assert_code(&output, 0, "forbidden");
    assert_contains(&output, "no permission to list Secrets", "forbidden");
    let report: Json = serde_json::from_slice(&output.stdout).expect("the report is JSON");
    assert!(
        states(&report)
            .iter()
            .all(|(_, _, secret)| secret == "unknown")
    );
}
