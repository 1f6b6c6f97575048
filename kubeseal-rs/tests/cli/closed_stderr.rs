//! Tests the exit codes of the programs if stderr is a closed pipe.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::io;
use std::process::{Command, Stdio};

/// Returns the exit code of a program whose stderr is a closed pipe, or `None` if a signal ended
/// the program.
fn exit_code(program: &str, args: &[&str]) -> Option<i32> {
    let directory = tempfile::tempdir().expect("a directory");
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(program);
    command.args(args).current_dir(directory.path());
    command.stdin(Stdio::null()).stderr(writer);
    command.output().expect("the command starts").status.code()
}

#[test]
fn a_closed_stderr_does_not_change_exit_codes() {
    let (seal, kubeseal) = (env!("CARGO_BIN_EXE_seal"), env!("CARGO_BIN_EXE_kubeseal"));
    assert_eq!(exit_code(seal, &["lint"]), Some(0));
    assert_eq!(exit_code(seal, &["lint", "nowhere.yaml"]), Some(2));
    assert_eq!(exit_code(seal, &["no-such-command", "x"]), Some(2));
    assert_eq!(exit_code(kubeseal, &["--cert", "nowhere.pem"]), Some(1));
    assert_eq!(exit_code(kubeseal, &["--from-file", "x"]), Some(1));
    assert_eq!(exit_code(kubeseal, &["--nonsense"]), Some(2));
}
