//! Tests programs that change an object while `seal` changes it too. v2 values depend on other entries of their object.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{assert_code, assert_contains, command, write_files};
use crate::v2::{create, directory, read, seal, seal_ok};
use crate::v2_attacks::is_bound;

/// Further arguments of `seal create`, for a second item and the output file.
pub(crate) const SECOND_ITEM_ARGS: [&str; 4] = ["--from-file", "b=value", "-w", "db.yaml"];
/// The name of the named pipe from which `seal` reads a value.
pub(crate) const PIPE: &str = "pipe";
const KEY_ARGS: [&str; 4] = ["--key", "cluster.key", "--key", "key.pem"];

/// Runs `seal` with arguments that make it read the file to change and then [`PIPE`]. Calls `meanwhile` after `seal`
/// opened the pipe and before writing the text to it.
pub(crate) fn seal_while(
    directory: &Path,
    args: &[&str],
    text: &str,
    meanwhile: impl FnOnce(),
) -> Output {
    let pipe = directory.join(PIPE);
    let status = Command::new("mkfifo").arg(&pipe).status();
    assert!(status.expect("the command starts").success());
    let mut command = command(env!("CARGO_BIN_EXE_seal"), directory, "/nowhere");
    command.args(args).current_dir(directory);
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

const SET_ARGS: [&str; 5] = ["set", "db.yaml", "a", "--from-file", PIPE];

#[track_caller]
fn assert_values(directory: &Path, values: &[&str]) {
    let view = [&["view", "--reveal", "db.yaml"][..], &KEY_ARGS].concat();
    let output = seal(directory, &view);
    assert_code(&output, 0, "view");
    for value in values {
        assert_contains(&output, value, "view");
    }
}

/// Returns a directory with a file `db.yaml` that contains the item `a`, and the earlier content of the file. The
/// earlier content also contains the item `b`, which has the same lock as `a`.
fn directory_without_b() -> (tempfile::TempDir, String) {
    let directory = directory();
    write_files(
        directory.path(),
        &[("old", "old value"), ("value", "first")],
    );
    create(directory.path(), &["--from-file", "b=old", "-w", "db.yaml"]);
    let with_b = read(directory.path(), "db.yaml");
    seal_ok(directory.path(), &["unset", "db.yaml", "b"]);
    (directory, with_b)
}

/// Fault: Git restores an item while `seal set` waits for a value. The item needs the lock of the replaced value, and
/// `seal set` removes the lock.
#[test]
fn set_keeps_the_lock_of_an_item_restored_meanwhile() {
    let (directory, with_b) = directory_without_b();
    let directory = directory.path();
    let output = seal_while(directory, &SET_ARGS, "new value", || {
        write_files(directory, &[("db.yaml", &with_b)]);
    });
    assert_code(&output, 0, "set");
    assert_values(directory, &["new value", "old value"]);
    assert_code(&seal(directory, &["lint", "db.yaml"]), 0, "lint");
}

/// Fault: an item that needs the lock of the edited value is restored while the editor of `seal edit` is open.
#[test]
fn edit_keeps_the_lock_of_an_item_restored_meanwhile() {
    let (directory, with_b) = directory_without_b();
    let directory = directory.path();
    let (copy, file) = (directory.join("with_b"), directory.join("db.yaml"));
    let copy = format!("cp '{}' '{}'", copy.display(), file.display());
    let script = format!("#!/bin/sh\nsed -i 's/a: first/a: edited/' \"$1\"\n{copy}\n");
    write_files(directory, &[("with_b", &with_b), ("editor", &script)]);
    let editor = directory.join("editor");
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o700))
        .expect("the test owns the file");
    let mut command = command(env!("CARGO_BIN_EXE_seal"), directory, "/nowhere");
    command.args(["edit", "db.yaml", "--key", "cluster.key"]);
    command.env("EDITOR", &editor).current_dir(directory);
    let output = command.output().expect("the command starts");
    assert_code(&output, 0, "edit");
    assert_values(directory, &["edited", "old value"]);
}

/// Fault: several users set and remove items of one object at the same time, and some of the items share a lock.
#[test]
fn concurrent_writers_of_one_lock_lose_no_value() {
    let directory = directory();
    let directory = directory.path();
    let items: Vec<String> = (0..6).map(|number| format!("k{number}=value")).collect();
    let mut args = vec!["-w", "db.yaml"];
    for item in &items {
        args.extend(["--from-file", item]);
    }
    create(directory, &args);
    let spawn = |args: &[&str]| {
        let mut command = command(env!("CARGO_BIN_EXE_seal"), directory, "/nowhere");
        command.args(args).current_dir(directory);
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
    let printed = seal_ok(directory, &view);
    assert_eq!(printed.matches("correct horse").count(), 11, "{printed}");
}

/// Fault: `seal rotate --to v2` converts the file while `seal set` waits for a value. A v1 value together with bound
/// values would make controllers refuse the object.
#[test]
fn set_seals_in_the_new_format_of_a_file_converted_meanwhile() {
    let directory = directory();
    let directory = directory.path();
    let v1 = "rules: [{path: '*.yaml', certificate: cert.pem}]\n";
    write_files(directory, &[(".seal.yaml", v1)]);
    create(directory, &SECOND_ITEM_ARGS);
    let bind = [
        "--to",
        "v2",
        "--bind-template",
        "--yes",
        "--recipient",
        "cert.pem",
    ];
    let rotate = [&["rotate", "db.yaml"][..], &bind, &KEY_ARGS].concat();
    let output = seal_while(directory, &SET_ARGS, "new value", || {
        drop(seal_ok(directory, &rotate));
    });
    assert_code(&output, 0, "set");
    assert!(is_bound(directory, "a") && is_bound(directory, "b"));
    assert_values(directory, &["new value", "correct horse"]);
}

/// Attack: a committer converts the values to v1, or changes the template, and the user pulls while `seal set` waits
/// for a value. The value would get less protection than the user expected.
#[test]
fn set_refuses_a_file_that_lost_its_protection_meanwhile() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &SECOND_ITEM_ARGS);
    let bound = read(directory, "db.yaml");
    let rotate = [
        &["rotate", "db.yaml", "--to", "v1", "--cert", "cert.pem"][..],
        &KEY_ARGS,
    ]
    .concat();
    let output = seal_while(directory, &SET_ARGS, "new value", || {
        drop(seal_ok(directory, &rotate));
    });
    assert_code(&output, 2, "v1");
    assert_contains(&output, "another program changed the format", "v1");
    assert!(!read(directory, "db.yaml").contains("seal2"));

    let changed = bound.clone() + "    type: Changed\n";
    write_files(directory, &[("db.yaml", &bound)]);
    let output = seal_while(directory, &SET_ARGS, "new value", || {
        write_files(directory, &[("db.yaml", &changed)]);
    });
    assert_code(&output, 2, "the template");
    assert_eq!(read(directory, "db.yaml"), changed);

    // The object has no bound values yet.
    let empty = bound.lines().filter(|line| !line.contains("seal2."));
    let empty = empty.collect::<Vec<_>>().join("\n");
    let empty = empty.replace("  encryptedData:", "  encryptedData: {}") + "\n";
    let changed = empty.clone() + "    type: Changed\n";
    write_files(directory, &[("db.yaml", &empty)]);
    let output = seal_while(directory, &SET_ARGS, "new value", || {
        write_files(directory, &[("db.yaml", &changed)]);
    });
    assert_code(&output, 2, "the template of an empty object");
    assert_contains(&output, "another program changed the template", "empty");
    assert_eq!(read(directory, "db.yaml"), changed);
}
