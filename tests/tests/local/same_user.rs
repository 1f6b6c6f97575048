//! Tests which data of the controller another process of the same user can read.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tests::guarded::{self, GuardedProcess};
use tests::logged::LoggedProcess;
use tests::{binaries, patience};

/// Root can read everything, so a test that runs as root runs both processes as this user.
const NOBODY: u32 = 65_534;

fn set_user(command: &mut Command) -> &mut Command {
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Returns whether a process of the same user can read the first byte of this file in `/proc/ID`.
fn is_readable(id: u32, file: &str) -> bool {
    let mut head = Command::new("head");
    head.args(["-c1", &format!("/proc/{id}/{file}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let output = set_user(&mut head).output().unwrap();
    output.status.success() && !output.stdout.is_empty()
}

/// Copies the program to a directory that every user can access, and creates the subdirectory `work`.
fn create_controller_directory(directory: &Path) {
    let program = directory.join("controller");
    fs::copy(binaries::controller(), &program).unwrap();
    for path in [directory, &program] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    let work = directory.join("work");
    fs::create_dir(&work).unwrap();
    fs::set_permissions(&work, Permissions::from_mode(0o777)).unwrap();
}

/// Attack: another process of the controller's user, in its container or on its node, reads keys from the controller's
/// memory.
#[tokio::test]
async fn memory_and_environment_are_unreadable_for_other_processes_of_the_user() {
    let directory = tempfile::tempdir().unwrap();
    create_controller_directory(directory.path());
    let mut command = guarded::command(directory.path().join("controller"));
    command
        .arg("--directory")
        .arg(directory.path().join("work"))
        .args(["--key-size=2048", "--listen-addr=127.0.0.1:0"])
        .arg("--listen-metrics-addr=127.0.0.1:0");
    let mut controller = LoggedProcess::spawn(set_user(&mut command)).unwrap();
    let serves = |log: &str| log.contains("HTTP server serving").then_some(());
    controller
        .wait_for_log("the controller serves HTTP", serves)
        .await;
    for file in ["maps", "mem", "environ", "auxv", "stack"] {
        assert!(
            !is_readable(controller.id(), file),
            "/proc/ID/{file} is readable"
        );
    }

    // An unprotected process is readable.
    let mut command = guarded::command("sleep");
    let sleeper = GuardedProcess::spawn(set_user(command.arg("60"))).unwrap();
    patience::until("the unprotected process is readable", async || {
        is_readable(sleeper.id(), "maps").then_some(())
    })
    .await;
    assert_eq!(controller.stop(), Some(0));
}
