//! Tests that other processes of the same user cannot read the memory of the programs.
#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::support::copy_program;

/// The user ID of `nobody`. A test that runs as root starts the program as this user, since root can
/// read the memory of every process.
const NOBODY: u32 = 65534;

/// Runs a program that waits for stdin. Returns its user ID and the user ID of the owner of its
/// memory, which is root if other processes of the user have no access.
fn user_and_memory_owner(program: &str, args: &[&str]) -> (u32, u32) {
    // Copy the program: the user that it runs as may have no access to its original path.
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
        .expect("the test directory is writable");
    let copy = directory.path().join("program");
    copy_program(program, &copy);
    let mut command = Command::new(&copy);
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut user = fs::metadata("/proc/self").expect("/proc exists").uid();
    if user == 0 {
        user = NOBODY;
        command.uid(user).gid(user);
    }
    let mut child = command
        .env("HOME", "/")
        .spawn()
        .expect("the command starts");
    let memory_path = format!("/proc/{}/mem", child.id());
    // The program protects its memory after it has started. It waits for stdin, so it does not end
    // before the check.
    let end = Instant::now() + Duration::from_secs(10);
    let mut owner = user;
    while owner == user && Instant::now() < end {
        sleep(Duration::from_millis(50));
        owner = fs::metadata(&memory_path)
            .expect("the child is still running")
            .uid();
    }
    drop(child.stdin.take());
    let _ = child.wait();
    (user, owner)
}

/// Attack: another process of the same user reads the memory of a program that holds a value, or crashes the program to
/// get a core dump.
#[test]
fn the_memory_of_the_programs_is_unreadable_for_other_processes() {
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/seal/exec.fixtures/key-2025.pem"
    );
    let certificate = fs::read(fixture).expect("the fixture");
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
        .expect("the test directory is writable");
    let file = directory.path().join("cert.pem");
    fs::write(&file, certificate).expect("the test directory is writable");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))
        .expect("the test directory is writable");
    let cert = file.to_str().expect("UTF-8");
    let (user, owner) = user_and_memory_owner(env!("CARGO_BIN_EXE_kubeseal"), &["--cert", cert]);
    assert_ne!(user, owner, "kubeseal");
    let args = ["create", "a", "-n", "b", "--cert", cert, "--stdin", "a"];
    let (user, owner) = user_and_memory_owner(env!("CARGO_BIN_EXE_seal"), &args);
    assert_ne!(user, owner, "seal");
}
