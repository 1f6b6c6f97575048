//! Tests which variables a sealed file can set for the command that `seal exec` runs.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/exec.fixtures");

/// Environment variables that tell programs where to find code, keys or a trusted server, and one variable
/// that is in no list of such variables.
const DANGEROUS_VARIABLES: [&str; 16] = [
    "PYTHONUSERBASE",
    "KUBECONFIG",
    "HOME",
    "GIT_DIR",
    "GIT_ASKPASS",
    "PERL5DB",
    "HTTPS_PROXY",
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "AWS_CONFIG_FILE",
    "PAGER",
    "EDITOR",
    "XDG_CONFIG_HOME",
    "ZDOTDIR",
    "A_NAME_THAT_NO_LIST_HAS",
    "LD_PRELOAD",
];

fn seal(directory: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seal"));
    command
        .args(args)
        .current_dir(directory)
        .env("A_NAME_THAT_NO_LIST_HAS", "inherited");
    command
        .stdin(Stdio::null())
        .output()
        .expect("the command starts")
}

/// Creates `db.yaml` with this item and the item `password`, which anyone with the certificate can do.
fn seal_item(directory: &Path, item: &str) {
    let certificate = format!("{FIXTURES}/key-2025.pem");
    let literal = format!("--from-literal={item}=evil");
    let args = [
        "create",
        "db",
        "--cert",
        &certificate,
        &literal,
        "--from-literal=password=x",
        "-n",
        "shop",
        "-w",
    ];
    let file = directory.join("db.yaml");
    let _ = fs::remove_file(&file);
    let output = seal(directory, &[&args[..], &["db.yaml"]].concat());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs `env` with `seal exec`. Returns whether the run succeeded, and the variables that `env`
/// printed.
fn exec(directory: &Path, choice: &[&str]) -> (bool, String) {
    let state = format!("{FIXTURES}/state");
    let command = ["db.yaml", "--directory", &state, "--", "env"];
    let output = seal(directory, &[&["exec"], choice, &command].concat());
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// Attack: an author of a sealed file adds an item under the name of a variable that decides what
/// the command runs or trusts.
#[test]
fn exec_sets_only_variables_that_the_user_chose() {
    let directory = tempfile::tempdir().expect("a directory");
    for item in DANGEROUS_VARIABLES {
        seal_item(directory.path(), item);
        for (choice, should_run) in [
            (&[][..], false),
            (&["--only", "password"], true),
            (&["--only", "DB_PASSWORD=password"], true),
            (&["--all"], false),
        ] {
            let (has_run, variables) = exec(directory.path(), choice);
            assert!(
                !variables.contains("evil"),
                "{item} {choice:?}: {variables}"
            );
            assert_eq!(has_run, should_run, "{item} {choice:?}");
        }
    }
}

/// Attack: an author of a sealed file adds an item whose name is in no list of dangerous names, for a user who chooses
/// no items.
#[test]
fn exec_requires_a_choice_of_items() {
    let directory = tempfile::tempdir().expect("a directory");
    seal_item(directory.path(), "A_HARMLESS_NAME");
    assert_eq!(exec(directory.path(), &[]), (false, String::new()));
}

#[test]
fn exec_sets_the_chosen_variables() {
    let directory = tempfile::tempdir().expect("a directory");
    seal_item(directory.path(), "A_NAME_THAT_NO_LIST_HAS");
    for (choice, want) in [
        (&["--only", "password"][..], "password=x"),
        (&["--only", "DB_PASSWORD=password"], "DB_PASSWORD=x"),
        (&["--only", "X=A_NAME_THAT_NO_LIST_HAS"], "X=evil"),
        (
            &["--all", "--override", "A_NAME_THAT_NO_LIST_HAS"],
            "A_NAME_THAT_NO_LIST_HAS=evil",
        ),
    ] {
        let (has_run, variables) = exec(directory.path(), choice);
        assert!(
            has_run && variables.lines().any(|line| line == want),
            "{choice:?}: {variables}"
        );
    }
}
