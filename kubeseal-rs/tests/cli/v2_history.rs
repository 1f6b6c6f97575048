//! Tests that `seal keys retire`, `status` and `compromise` find v2 values in the history and outside of SealedSecrets.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::support::{assert_code, assert_contains, git, write_files};
use crate::v2::{RULES, create, directory, export, read, seal, seal_ok, write_two_keys};
use crate::v2_attacks::line_of;

/// Returns a directory with two v2 keys in `state`, and with rules that name both keys.
fn directory_with_two_keys() -> tempfile::TempDir {
    let directory = directory();
    let rules = RULES.replace("[cluster.txt]", "[cluster.txt, new.txt]");
    write_files(
        directory.path(),
        &[("tree/README", ""), (".seal.yaml", &rules)],
    );
    write_two_keys(directory.path());
    let exported = export(directory.path());
    write_files(directory.path(), &[("new.txt", &exported)]);
    git(directory.path(), &["init", "-q", "-b", "main"]);
    directory
}

/// Further arguments of `seal create`, for a second item and the output file.
const SECOND_ITEM_ARGS: [&str; 4] = ["--from-file", "b=value", "-w", "tree/db.yaml"];

fn commit(directory: &Path, subject: &str) {
    git(directory, &["add", "tree"]);
    git(directory, &["commit", "-qm", subject]);
}

fn keys(directory: &Path, command: &str, more: &[&str]) -> Output {
    let args = ["keys", command];
    seal(
        directory,
        &[&args, more, &["--directory", "state"]].concat(),
    )
}

/// Attack: a committer adds a recipient to a lock after the values were committed, and removes the recipient again, so
/// that the report of the compromised key lists no commit.
#[test]
fn compromise_reports_a_key_that_was_added_to_a_lock_later() {
    let directory = directory_with_two_keys();
    let directory = directory.path();
    create(directory, &SECOND_ITEM_ARGS);
    let both = read(directory, "tree/db.yaml");
    let exported = read(directory, "new.txt");
    let id = exported.split(' ').nth(2).expect("an identifier");
    let is_for_new_key = |line: &&str| line.contains("/lock/") && line.contains(&format!("/{id}"));
    let lines = both.lines().filter(|line| !is_for_new_key(line));
    let before = lines.collect::<Vec<_>>().join("\n") + "\n";
    assert_ne!(before, both);
    for (subject, text) in [("one", &before), ("two", &both), ("three", &before)] {
        write_files(directory, &[("tree/db.yaml", text)]);
        commit(directory, subject);
    }
    for (key, subject) in [("key-new", "two"), ("key-old", "one")] {
        let output = keys(
            directory,
            "compromise",
            &[key, "tree", "--dry-run", "-o", "json"],
        );
        assert_code(&output, 0, key);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let commits = report["commits"].as_array().expect("a list");
        assert_eq!(commits.len(), 1, "{key}: {report}");
        assert_eq!(commits[0]["items"], serde_json::json!(["db/a", "db/b"]));
        let id = commits[0]["commit"].as_str().expect("a hash");
        assert_eq!(subject_of(directory, id), subject, "{key}");
    }
}

fn subject_of(directory: &Path, commit: &str) -> String {
    let mut git = std::process::Command::new("git");
    git.args(["show", "-s", "--format=%s", commit]);
    let output = git
        .current_dir(directory)
        .output()
        .expect("the command starts");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Attack: an author puts v2 values into chart values, a kustomize patch or a JSON patch, in the tree, on another
/// branch or in an earlier commit. The key that they need is then retired, and the report of its compromise does not
/// list them.
#[test]
fn retires_no_key_that_v2_values_outside_of_sealed_secrets_may_need() {
    let directory = directory_with_two_keys();
    let directory = directory.path();
    create(directory, &SECOND_ITEM_ARGS);
    seal_ok(
        directory,
        &["set", "tree/db.yaml", "a", "--from-file", "value"],
    );
    let line = line_of(&read(directory, "tree/db.yaml"), "a");
    let value = line.trim().strip_prefix("a: ").expect("an item").to_owned();
    fs::remove_file(directory.join("tree/db.yaml")).expect("the test owns the file");
    fs::remove_file(directory.join(".seal.yaml")).expect("the test owns the file");
    let json = format!(r#"[{{"op": "add", "path": "/spec/encryptedData/a", "value": "{value}"}}]"#);
    for (file, text) in [
        ("tree/values.yaml", format!("secrets:\n  a: {value}\n")),
        (
            "tree/patch.yaml",
            format!("spec:\n  encryptedData:\n    a: {value}\n"),
        ),
        ("tree/patch.json", json),
    ] {
        write_files(directory, &[(file, &text)]);
        let is_found = |output: &Output, place: &str, case: &str| {
            assert_contains(output, place, case);
            assert_contains(output, "sealed value outside a SealedSecret", case);
        };
        let retire = || keys(directory, "retire", &["key-old", "tree", "--dry-run"]);
        let output = retire();
        assert_code(&output, 1, file);
        is_found(&output, file, "retire");
        let output = keys(directory, "status", &["tree"]);
        assert_code(&output, 2, file);
        is_found(&output, file, "status");

        commit(directory, file);
        git(directory, &["branch", "-f", "other"]);
        git(directory, &["rm", "-q", file]);
        git(directory, &["commit", "-qm", "removed"]);
        write_files(directory, &[("tree/README", "")]);
        assert_code(&retire(), 0, "no value");
        let all = ["key-old", "tree", "--dry-run", "--all-branches"];
        let output = keys(directory, "retire", &all);
        assert_code(&output, 1, file);
        is_found(&output, &format!("other:{file}"), "retire --all-branches");
        let output = keys(directory, "compromise", &["key-old", "tree", "--dry-run"]);
        assert_code(&output, 0, file);
        is_found(&output, &format!("{file} (commit "), "compromise");
    }
}
