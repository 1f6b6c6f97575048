//! Tests which files remain after `seal` is killed with SIGKILL, which no program can catch.
#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/fixtures");
const TIMEOUT: Duration = Duration::from_secs(20);

fn seal(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(SEAL);
    command
        .args(args)
        .current_dir(directory)
        .env("KUBECONFIG", "/nowhere")
        .env("HOME", directory)
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn create_sealed_file(directory: &Path) {
    let cert = format!("{FIXTURES}/cert.pem");
    let mut create = seal(
        directory,
        &[
            "create",
            "db",
            "-n",
            "shop",
            "--from-literal",
            "a=hunter2",
            "--cert",
            &cert,
            "-w",
            "db.yaml",
        ],
    );
    assert!(create.status().expect("the command starts").success());
}

fn wait_for(condition: impl Fn() -> bool) -> bool {
    let end = Instant::now() + TIMEOUT;
    while Instant::now() < end {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Returns the in-memory directories that a `seal edit` created.
fn edit_directories(run: &Child) -> Vec<PathBuf> {
    let prefix = format!("seal-edit-{}-", run.id());
    let entries = fs::read_dir("/dev/shm").expect("Linux has it");
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
        })
        .collect()
}

/// Fault: `seal edit` is killed by SIGKILL while the editor is open; the temporary plaintext file must not remain.
#[test]
fn a_killed_edit_leaves_no_plaintext_file() {
    let directory = tempfile::tempdir().expect("a directory");
    create_sealed_file(directory.path());
    let editor = directory.path().join("editor");
    let marker = directory.path().join("opened");
    let text = format!("#!/bin/sh\ntouch '{}'\nexec sleep 5\n", marker.display());
    fs::write(&editor, text).expect("the test directory is writable");
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755))
        .expect("the test owns the file");
    let key = format!("{FIXTURES}/key.pem");
    let cert = format!("{FIXTURES}/cert.pem");
    let mut run = seal(
        directory.path(),
        &["edit", "db.yaml", "--key", &key, "--cert", &cert],
    )
    .env("VISUAL", &editor)
    .spawn()
    .expect("the command starts");
    assert!(wait_for(|| marker.exists()), "the editor was not started");
    assert_eq!(
        edit_directories(&run).len(),
        1,
        "the test checks the wrong directory"
    );
    run.kill().expect("the process is running");
    let is_removed = wait_for(|| edit_directories(&run).is_empty());
    let leftovers = edit_directories(&run);
    for path in &leftovers {
        let _ = fs::remove_dir_all(path);
    }
    run.wait().expect("the program was started");
    assert!(is_removed, "{leftovers:?}");
}

/// Returns the temporary files in a directory.
fn temporary_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "tmp"))
        .collect()
}

/// Kills the run as soon as a temporary file appears, and returns the temporary files that are left.
fn kill_at_a_temporary_file(mut run: Child, directory: &Path) -> Vec<PathBuf> {
    while run.try_wait().expect("the program was started").is_none() {
        if !temporary_files(directory).is_empty() {
            run.kill().expect("the process is running");
            break;
        }
    }
    run.wait().expect("the program was started");
    temporary_files(directory)
}

/// Fault: `seal keys restore` is killed while a private key is in a temporary file.
#[test]
fn a_killed_restore_leaves_no_temporary_file_with_a_key() {
    let mut leftovers = Vec::new();
    for _ in 0..30 {
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path().join("state");
        fs::create_dir_all(state.join("keys")).expect("the test directory is writable");
        let key = format!("{FIXTURES}/../key-fixtures/state/keys/key-2024.yaml");
        let args = ["keys", "restore", &key, "--directory", "state"];
        let run = seal(directory.path(), &args)
            .spawn()
            .expect("the command starts");
        leftovers.extend(kill_at_a_temporary_file(run, &state.join("keys")));
    }
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

/// Fault: a command is killed while it writes a new file.
#[test]
fn a_killed_run_leaves_no_temporary_file() {
    let cert = format!("{FIXTURES}/cert.pem");
    let create = [
        "create",
        "db",
        "-n",
        "shop",
        "--from-literal",
        "a=b",
        "--cert",
        &cert,
        "-w",
        "db.yaml",
    ];
    let fetch = ["cert", "fetch", &cert, "--out", "copy.pem"];
    for args in [&create[..], &fetch[..]] {
        for _ in 0..15 {
            let directory = tempfile::tempdir().expect("a directory");
            let run = seal(directory.path(), args)
                .spawn()
                .expect("the command starts");
            let leftovers = kill_at_a_temporary_file(run, directory.path());
            assert!(leftovers.is_empty(), "{args:?}: {leftovers:?}");
        }
    }
}
