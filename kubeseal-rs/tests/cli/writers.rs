//! Tests programs that change the same file concurrently.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const KUBESEAL: &str = env!("CARGO_BIN_EXE_kubeseal");
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/fixtures");

fn spawn(directory: &Path, program: &str, args: &[&str]) -> Child {
    Command::new(program)
        .args(args)
        .current_dir(directory)
        .env("KUBECONFIG", "/nowhere")
        .env("HOME", directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts")
}

fn cert_path() -> String {
    format!("{FIXTURES}/cert.pem")
}

fn create_sealed_file(directory: &Path, items: &[&str]) {
    let cert = cert_path();
    let mut args = vec![
        "create", "db", "-n", "shop", "--cert", &cert, "-w", "db.yaml",
    ];
    let literals: Vec<String> = items.iter().map(|item| format!("{item}=old")).collect();
    for literal in &literals {
        args.extend(["--from-literal", literal]);
    }
    let output = spawn(directory, SEAL, &args)
        .wait_with_output()
        .expect("the program was started");
    assert!(output.status.success(), "{output:?}");
}

fn wait_for_success(run: Child) -> Output {
    let output = run.wait_with_output().expect("the program was started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs twenty `set`, `unset` and `--merge-into` commands concurrently, each for its own item.
#[test]
fn twenty_concurrent_writers_lose_no_change() {
    let directory = tempfile::tempdir().expect("a directory");
    let old_items: Vec<String> = (0..6).map(|i| format!("old{i}")).collect();
    create_sealed_file(
        directory.path(),
        &old_items.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let (cert, value) = (cert_path(), directory.path().join("value"));
    fs::write(&value, "x").expect("the test directory is writable");
    let new_secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {merged: x}\n";
    fs::write(directory.path().join("fresh.yaml"), new_secret)
        .expect("the test directory is writable");
    let mut runs = Vec::new();
    for i in 0..13 {
        let key = format!("new{i}");
        let args = [
            "set",
            "db.yaml",
            &key,
            "--from-file",
            "value",
            "--cert",
            &cert,
        ];
        runs.push(spawn(directory.path(), SEAL, &args));
    }
    for item in &old_items {
        runs.push(spawn(directory.path(), SEAL, &["unset", "db.yaml", item]));
    }
    let merge = [
        "-f",
        "fresh.yaml",
        "--merge-into",
        "db.yaml",
        "--cert",
        &cert,
    ];
    runs.push(spawn(directory.path(), KUBESEAL, &merge));
    for run in runs {
        wait_for_success(run);
    }
    let text = fs::read_to_string(directory.path().join("db.yaml")).expect("the file is readable");
    let has_item = |item: &str| text.contains(&format!("    {item}: "));
    let lost_items: Vec<String> = (0..13)
        .map(|i| format!("new{i}"))
        .filter(|item| !has_item(item))
        .collect();
    let restored: Vec<&String> = old_items.iter().filter(|item| has_item(item)).collect();
    assert!(
        lost_items.is_empty() && restored.is_empty(),
        "lost {lost_items:?}, restored {restored:?}"
    );
    assert!(has_item("merged"), "{text}");
    assert_eq!(
        fs::read_dir(directory.path())
            .expect("the directory is readable")
            .count(),
        3,
        "temporary files remain"
    );
}

/// Another program adds lines as editors do, by writing a new file and renaming it.
#[test]
fn keeps_concurrent_changes_of_other_programs() {
    let directory = tempfile::tempdir().expect("a directory");
    create_sealed_file(directory.path(), &["a"]);
    let (file, cert) = (directory.path().join("db.yaml"), cert_path());
    fs::write(directory.path().join("value"), "x").expect("the test directory is writable");
    let is_finished = AtomicBool::new(false);
    let (line_count, lost_lines) = std::thread::scope(|scope| {
        let other_program = scope.spawn(|| {
            let mut line_count = 0;
            let mut lost_lines = Vec::new();
            while !is_finished.load(Ordering::SeqCst) {
                let text = fs::read_to_string(&file).expect("the file always exists");
                lost_lines
                    .extend((0..line_count).filter(|i| !text.contains(&format!("# line {i}.\n"))));
                if !lost_lines.is_empty() {
                    break;
                }
                let new_file = directory.path().join("new");
                fs::write(&new_file, format!("{text}# line {line_count}.\n"))
                    .expect("the test directory is writable");
                // The test replaces the file only if the file still contains the text that the test read. Otherwise, a
                // change of `seal` would be lost.
                if fs::read_to_string(&file).expect("the file is readable") == text {
                    fs::rename(&new_file, &file).expect("the test directory is writable");
                    line_count += 1;
                }
                std::thread::sleep(std::time::Duration::from_millis(4));
            }
            (line_count, lost_lines)
        });
        for i in 0..40 {
            let key = format!("k{i}");
            let args = [
                "set",
                "db.yaml",
                &key,
                "--from-file",
                "value",
                "--cert",
                &cert,
            ];
            wait_for_success(spawn(directory.path(), SEAL, &args));
        }
        is_finished.store(true, Ordering::SeqCst);
        other_program.join().expect("the thread does not panic")
    });
    assert!(
        lost_lines.is_empty(),
        "of {line_count} lines, {lost_lines:?} are gone"
    );
    assert!(line_count > 0);
}

/// Concurrent runs of `seal rotate` on one tree succeed, and leave a tree that another run accepts.
#[test]
fn concurrent_runs_of_rotate_succeed() {
    let directory = tempfile::tempdir().expect("a directory");
    for i in 0..6 {
        let sub = directory.path().join(format!("{i}"));
        fs::create_dir(&sub).expect("the test directory is writable");
        create_sealed_file(&sub, &["a", "b"]);
    }
    let (old, new) = (
        format!("{FIXTURES}/key.pem"),
        format!("{FIXTURES}/other.pem"),
    );
    let args = ["rotate", ".", "--key", &old, "--cert", &new];
    let runs: Vec<Child> = (0..3)
        .map(|_| spawn(directory.path(), SEAL, &args))
        .collect();
    for run in runs {
        wait_for_success(run);
    }
    let last_run = wait_for_success(spawn(directory.path(), SEAL, &args));
    let printed = String::from_utf8_lossy(&last_run.stderr).into_owned();
    assert!(!printed.contains("failed"), "{printed}");
}
