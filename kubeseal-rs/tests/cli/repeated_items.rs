//! Attacks on readers of v2 objects with a repeated key. Parsers disagree on which value applies.

use std::fs::File;
use std::path::Path;

use crate::support::{assert_code, assert_contains, command, write_files};
use crate::v2::{create, directory, read, seal, seal_ok, write_two_keys};
use crate::v2_attacks::{assert_refused, line_of, set};

const PROBLEM: &str = "occurs twice in its mapping, in a file with values that are sealed as v2";

/// Returns a directory in which `db.yaml` repeats an item.
fn directory_with_repeated_item() -> tempfile::TempDir {
    let directory = directory();
    create(directory.path(), &["-w", "db.yaml"]);
    let hidden = line_of(&read(directory.path(), "db.yaml"), "a");
    seal_ok(directory.path(), &set("a"));
    repeat(directory.path(), &hidden);
    directory
}

fn repeat(directory: &Path, line: &str) {
    let text = read(directory, "db.yaml");
    let last = line_of(&text, "a");
    let text = text.replace(&last, &format!("{line}\n{last}"));
    write_files(directory, &[("db.yaml", &text)]);
}

/// Attack: a committer repeats an item, so that a user sees or changes a value other than the one that the cluster
/// uses, and the hidden value stays sealed for an old key.
#[test]
fn commands_refuse_a_repeated_item_next_to_v2_values() {
    let directory = directory_with_repeated_item();
    let directory = directory.path();
    write_two_keys(directory);
    for args in [
        &set("a")[..],
        &["unset", "db.yaml", "a"],
        &["edit", "db.yaml", "--key", "cluster.key"],
        &["rotate", "db.yaml", "--key", "cluster.key"],
        &[
            "rotate",
            "db.yaml",
            "--to",
            "v1",
            "--key",
            "cluster.key",
            "--cert",
            "cert.pem",
        ],
        &["view", "db.yaml"],
        &["view", "--reveal", "db.yaml", "--key", "cluster.key"],
        &[
            "doctor",
            "--offline",
            "db.yaml",
            "--backup",
            "state/keys/old.yaml",
        ],
        &["exec", "db.yaml", "--", "true"],
    ] {
        assert_refused(directory, args, "db.yaml", PROBLEM);
    }
    assert_contains(
        &seal(directory, &["lint", "db.yaml"]),
        "[duplicate-item]",
        "lint",
    );
    let secret =
        "kind: Secret\napiVersion: v1\nmetadata: {name: db, namespace: shop}\nstringData: {b: c}\n";
    write_files(directory, &[("secret.yaml", secret)]);
    let merge = [
        "--merge-into",
        "db.yaml",
        "-f",
        "secret.yaml",
        "--cert",
        "cert.pem",
    ];
    for args in [
        &["--recovery-unseal", "--recovery-private-key", "cluster.key"][..],
        &["--re-encrypt"],
        &["--validate"],
        &merge,
    ] {
        let mut command = command(env!("CARGO_BIN_EXE_kubeseal"), directory, "/nowhere");
        command.stdin(File::open(directory.join("db.yaml")).expect("the test owns the file"));
        let output = command.args(args).current_dir(directory).output();
        let output = output.expect("the command starts");
        assert_code(&output, 1, format!("{args:?}"));
        assert_contains(&output, PROBLEM, format!("{args:?}"));
    }
}

/// Attack: a committer hides a value for an old key by repeating its item with another value, so that the key is
/// retired.
#[test]
fn retires_no_key_that_a_hidden_value_needs() {
    let directory = directory_with_repeated_item();
    let directory = directory.path();
    write_two_keys(directory);
    let retire = [
        "keys",
        "retire",
        "key-old",
        "db.yaml",
        "--directory",
        "state",
    ];
    let output = seal(directory, &retire);
    assert_code(&output, 1, "retire");
    assert_contains(&output, PROBLEM, "retire");
}
