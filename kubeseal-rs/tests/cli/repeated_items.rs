//! Attacks on readers of v2 objects with a repeated key. Parsers disagree on which value applies.

use std::fs::File;
use std::path::Path;

use crate::support::{assert_code, assert_contains, command, write_files};
use crate::v2::{create, folder, read, seal, seal_ok, write_two_keys};
use crate::v2_attacks::{assert_refused, line_of, set};

const PROBLEM: &str = "occurs twice in its mapping, beside values that are sealed as v2";

/// Returns a directory in which `db.yaml` repeats an item.
fn folder_with_repeated_item() -> tempfile::TempDir {
    let folder = folder();
    create(folder.path(), &["-w", "db.yaml"]);
    let hidden = line_of(&read(folder.path(), "db.yaml"), "a");
    seal_ok(folder.path(), &set("a"));
    repeat(folder.path(), &hidden);
    folder
}

fn repeat(folder: &Path, line: &str) {
    let text = read(folder, "db.yaml");
    let last = line_of(&text, "a");
    let text = text.replace(&last, &format!("{line}\n{last}"));
    write_files(folder, &[("db.yaml", &text)]);
}

/// Attack: a committer repeats an item, so that a user sees or changes another value than the cluster uses, and the
/// hidden value stays sealed for an old key.
#[test]
fn commands_refuse_a_repeated_item_beside_v2_values() {
    let folder = folder_with_repeated_item();
    let folder = folder.path();
    write_two_keys(folder);
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
        assert_refused(folder, args, "db.yaml", PROBLEM);
    }
    assert_contains(
        &seal(folder, &["lint", "db.yaml"]),
        "[duplicate-item]",
        "lint",
    );
    let secret =
        "kind: Secret\napiVersion: v1\nmetadata: {name: db, namespace: shop}\nstringData: {b: c}\n";
    write_files(folder, &[("secret.yaml", secret)]);
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
        let mut command = command(env!("CARGO_BIN_EXE_kubeseal"), folder, "/nowhere");
        command.stdin(File::open(folder.join("db.yaml")).expect("the test owns the file"));
        let output = command.args(args).current_dir(folder).output();
        let output = output.expect("the command starts");
        assert_code(&output, 1, format!("{args:?}"));
        assert_contains(&output, PROBLEM, format!("{args:?}"));
    }
}

/// Attack: a committer hides a value for an old key by repeating its item with another value, so that the key is
/// retired.
#[test]
fn retires_no_key_that_a_hidden_value_needs() {
    let folder = folder_with_repeated_item();
    let folder = folder.path();
    write_two_keys(folder);
    let retire = [
        "keys",
        "retire",
        "key-old",
        "db.yaml",
        "--directory",
        "state",
    ];
    let output = seal(folder, &retire);
    assert_code(&output, 1, "retire");
    assert_contains(&output, PROBLEM, "retire");
}
