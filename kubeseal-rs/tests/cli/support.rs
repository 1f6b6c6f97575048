//! Helpers that write files to a user's directory, run programs there and check their output.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The certificate of the key that existing values are sealed for.
pub(crate) const OLD_CERT: &str = include_str!("../seal/key-fixtures/key-2024.pem");
/// The certificate of the newest key.
pub(crate) const NEW_CERT: &str = include_str!("../seal/key-fixtures/key-2025.pem");
/// A certificate of another owner, with a key of another length.
pub(crate) const OTHER_CERT: &str = include_str!("../seal/fixtures/other.pem");

/// Writes files, whose paths are relative to the directory.
pub(crate) fn write_files(directory: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().expect("the path has a parent"))
            .expect("the test directory is writable");
        fs::write(path, text).expect("the test directory is writable");
    }
}

/// Returns a command for a user with this home and kubeconfig, and without input.
pub(crate) fn command(program: &str, home: &Path, kubeconfig: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env("HOME", home)
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null());
    command
}

/// Copies a program with `cp`. A copy that this process wrote could not be run while a child process of another test
/// inherits its open descriptor.
pub(crate) fn copy_program(program: &str, copy: &Path) {
    let status = Command::new("cp").arg("-p").arg(program).arg(copy).status();
    assert!(
        status.expect("the command starts").success(),
        "cp {program}"
    );
}

/// Returns the stderr of a program as text.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns the stdout of a program, followed by its stderr, as text.
pub(crate) fn combined_output(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(output)
}

/// Checks that a program printed a string. `case` names the case of a table.
#[track_caller]
pub(crate) fn assert_contains(output: &Output, text: &str, case: impl Display) {
    let printed = combined_output(output);
    assert!(printed.contains(text), "{case}: no {text:?} in: {printed}");
}

/// Checks the exit code of a program. `case` names the case of a table.
#[track_caller]
pub(crate) fn assert_code(output: &Output, code: i32, case: impl Display) {
    let printed = combined_output(output);
    assert_eq!(output.status.code(), Some(code), "{case}: {printed}");
}

/// Runs `git`. Panics if it fails.
pub(crate) fn git(directory: &Path, args: &[&str]) {
    let mut git = command("git", directory, "/nowhere");
    git.args(["-c", "user.name=a", "-c", "user.email=a@b"]);
    git.args(["-c", "protocol.file.allow=always"]).args(args);
    let output = git
        .current_dir(directory)
        .output()
        .expect("the command starts");
    assert!(
        output.status.success(),
        "{args:?}: {}",
        combined_output(&output)
    );
}
