//! Tests programs that change an object while `seal` changes it too. v2 values depend on other entries of their object.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test")]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{assert_code, assert_contains, command, write_files};
use crate::v2::{create, folder, read, seal, seal_ok};
use crate::v2_attacks::is_bound;

pub(crate) const TWO_ITEMS: [&str; 4] = ["--from-file", "b=value", "-w", "db.yaml"];
pub(crate) const PIPE: &str = "pipe";
const KEYS: [&str; 4] = ["--key", "cluster.key", "--key", "key.pem"];

/// Runs `seal` with arguments that read [`PIPE`] after the file to change. Calls `meanwhile` before writing the text to
/// the pipe.
pub(crate) fn seal_while(
    folder: &Path,
    args: &[&str],
    text: &str,
    meanwhile: impl FnOnce(),
) -> Output {
    let pipe = folder.join(PIPE);
    let status = Command::new("mkfifo").arg(&pipe).status();
    assert!(status.expect("the command starts").success());
    let mut command = command(env!("CARGO_BIN_EXE_seal"), folder, "/nowhere");
    command.args(args).current_dir(folder);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let run = command.spawn().expect("the command starts");
    // Waits until the program opens the pipe.
    let mut writer = File::options()
        .write(true)
        .open(&pipe)
        .expect("the test owns the file");
    meanwhile();
    writer
        .write_all(text.as_bytes())
        .expect("the command reads the pipe");
    drop(writer);
    let output = run.wait_with_output().expect("the program ends");
    fs::remove_file(pipe).expect("the test owns the file");
    output
}

const SET: [&str; 5] = ["set", "db.yaml", "a", "--from-file", PIPE];

#[track_caller]
fn assert_values(folder: &Path, values: &[&str]) {
    let view = [&["view", "--reveal", "db.yaml"][..], &KEYS].concat();
    let output = seal(folder, &view);
    assert_code(&output, 0, "view");
    for value in values {
        assert_contains(&output, value, "view");
    }
}

/// Returns a directory in which `db.yaml` has the item `a`, and the earlier text of the file, in which `b` had the same
/// lock.
fn folder_without_b() -> (tempfile::TempDir, String) {
    let folder = folder();
    write_files(folder.path(), &[("old", "old value"), ("value", "first")]);
    create(folder.path(), &["--from-file", "b=old", "-w", "db.yaml"]);
    let with_b = read(folder.path(), "db.yaml");
    seal_ok(folder.path(), &["unset", "db.yaml", "b"]);
    (folder, with_b)
}

/// Fault: Git restores an item while `seal set` waits for a value, and the item needs the lock that only the old value
/// needed before.
#[test]
fn set_keeps_a_lock_that_another_item_needs_meanwhile() {
    let (folder, with_b) = folder_without_b();
    let folder = folder.path();
    let output = seal_while(folder, &SET, "new value", || {
        write_files(folder, &[("db.yaml", &with_b)]);
    });
    assert_code(&output, 0, "set");
    assert_values(folder, &["new value", "old value"]);
    assert_code(&seal(folder, &["lint", "db.yaml"]), 0, "lint");
}

/// Fault: an item that needs the lock of the edited value is restored while the editor of `seal edit` is open.
#[test]
fn edit_keeps_a_lock_that_another_item_needs_meanwhile() {
    let (folder, with_b) = folder_without_b();
    let folder = folder.path();
    let (copy, file) = (folder.join("with_b"), folder.join("db.yaml"));
    let copy = format!("cp '{}' '{}'", copy.display(), file.display());
    let script = format!("#!/bin/sh\nsed -i 's/a: first/a: edited/' \"$1\"\n{copy}\n");
    write_files(folder, &[("with_b", &with_b), ("editor", &script)]);
    let editor = folder.join("editor");
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o700))
        .expect("the test owns the file");
    let mut command = command(env!("CARGO_BIN_EXE_seal"), folder, "/nowhere");
    command.args(["edit", "db.yaml", "--key", "cluster.key"]);
    command.env("EDITOR", &editor).current_dir(folder);
    let output = command.output().expect("the command starts");
    assert_code(&output, 0, "edit");
    assert_values(folder, &["edited", "old value"]);
}

/// Fault: several users set items of one object at the same time, and some of the items share a lock.
#[test]
fn concurrent_writers_of_one_lock_lose_no_value() {
    let folder = folder();
    let folder = folder.path();
    let items: Vec<String> = (0..6).map(|number| format!("k{number}=value")).collect();
    let mut args = vec!["-w", "db.yaml"];
    for item in &items {
        args.extend(["--from-file", item]);
    }
    create(folder, &args);
    let spawn = |args: &[&str]| {
        let mut command = command(env!("CARGO_BIN_EXE_seal"), folder, "/nowhere");
        command.args(args).current_dir(folder);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the command starts")
    };
    let mut runs = Vec::new();
    for number in 0..5 {
        let (item, new) = (format!("k{number}"), format!("new{number}"));
        runs.push(spawn(&["set", "db.yaml", &item, "--from-file", "value"]));
        runs.push(spawn(&["set", "db.yaml", &new, "--from-file", "value"]));
    }
    runs.push(spawn(&["unset", "db.yaml", "a"]));
    for run in runs {
        assert_code(
            &run.wait_with_output().expect("the program ends"),
            0,
            "a writer",
        );
    }
    let view = ["view", "--reveal", "db.yaml", "--key", "cluster.key"];
    let printed = seal_ok(folder, &view);
    assert_eq!(printed.matches("correct horse").count(), 11, "{printed}");
}

/// Fault: `seal rotate --to v2` converts the file while `seal set` waits for a value. A v1 value beside bound values
/// would make controllers refuse the object.
#[test]
fn set_seals_in_the_new_format_of_a_file_converted_meanwhile() {
    let folder = folder();
    let folder = folder.path();
    let v1 = "rules: [{path: '*.yaml', certificate: cert.pem}]\n";
    write_files(folder, &[(".seal.yaml", v1)]);
    create(folder, &TWO_ITEMS);
    let bind = [
        "--to",
        "v2",
        "--bind-template",
        "--yes",
        "--recipient",
        "cert.pem",
    ];
    let rotate = [&["rotate", "db.yaml"][..], &bind, &KEYS].concat();
    let output = seal_while(folder, &SET, "new value", || {
        drop(seal_ok(folder, &rotate));
    });
    assert_code(&output, 0, "set");
    assert!(is_bound(folder, "a") && is_bound(folder, "b"));
    assert_values(folder, &["new value", "correct horse"]);
}

/// Attack: a committer converts the values to v1, or changes the template, and the user pulls while `seal set` waits
/// for a value. The value would get less protection than the user expected.
#[test]
fn set_refuses_a_file_that_lost_its_protection_meanwhile() {
    let folder = folder();
    let folder = folder.path();
    create(folder, &TWO_ITEMS);
    let bound = read(folder, "db.yaml");
    let rotate = [
        &["rotate", "db.yaml", "--to", "v1", "--cert", "cert.pem"][..],
        &KEYS,
    ]
    .concat();
    let output = seal_while(folder, &SET, "new value", || {
        drop(seal_ok(folder, &rotate));
    });
    assert_code(&output, 2, "v1");
    assert_contains(&output, "another program changed the format", "v1");
    assert!(!read(folder, "db.yaml").contains("seal2"));

    let changed = bound.clone() + "    type: Changed\n";
    write_files(folder, &[("db.yaml", &bound)]);
    let output = seal_while(folder, &SET, "new value", || {
        write_files(folder, &[("db.yaml", &changed)]);
    });
    assert_code(&output, 2, "the template");
    assert_eq!(read(folder, "db.yaml"), changed);

    // The object has no bound values yet.
    let empty = bound.lines().filter(|line| !line.contains("seal2."));
    let empty = empty.collect::<Vec<_>>().join("\n");
    let empty = empty.replace("  encryptedData:", "  encryptedData: {}") + "\n";
    let changed = empty.clone() + "    type: Changed\n";
    write_files(folder, &[("db.yaml", &empty)]);
    let output = seal_while(folder, &SET, "new value", || {
        write_files(folder, &[("db.yaml", &changed)]);
    });
    assert_code(&output, 2, "the template of an empty object");
    assert_contains(&output, "another program changed the template", "empty");
    assert_eq!(read(folder, "db.yaml"), changed);
}
