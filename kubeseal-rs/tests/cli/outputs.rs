//! Tests how commands write files: outputs that are also inputs, permissions, failures after the first of several
//! files, and messages about unusual input.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use crate::support::{NEW_CERT, assert_code, assert_contains, command, write_files};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const KUBESEAL: &str = env!("CARGO_BIN_EXE_kubeseal");
const KEY: &str = include_str!("../seal/key-fixtures/state/keys/key-2025.yaml");
const RECIPIENTS: &str = include_str!("../seal/key-fixtures/recipients.txt");
const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {pw: hunter2}\n";

fn run(directory: &Path, program: &str, args: &[&str]) -> Output {
    let mut command = command(program, directory, "/nowhere");
    command.args(args).current_dir(directory);
    command.output().expect("the command starts")
}

/// Creates a directory with a Secret, the same Secret sealed, the certificate and the key.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let files = [
        ("cert.pem", NEW_CERT),
        ("secret.yaml", SECRET),
        ("keys/key.yaml", KEY),
        ("recipients.txt", RECIPIENTS),
    ];
    write_files(directory.path(), &files);
    let seal = [
        "--cert",
        "cert.pem",
        "-f",
        "secret.yaml",
        "-w",
        "sealed.yaml",
    ];
    assert_code(&run(directory.path(), KUBESEAL, &seal), 0, "");
    directory
}

/// Fault: a user passes an input file, such as the only copy of a key, as the output file.
#[test]
fn refuses_an_output_that_the_command_reads() {
    let directory = directory();
    let path_to = |name: &str| directory.path().join(name);
    std::os::unix::fs::symlink("keys/key.yaml", path_to("link.yaml"))
        .expect("the test directory is writable");
    let recover = [
        "--recovery-unseal",
        "--recovery-private-key",
        "keys/key.yaml",
    ];
    let recover = [&recover[..], &["-f", "sealed.yaml", "-w"]].concat();
    let seal = ["--cert", "cert.pem", "-f", "secret.yaml", "-w"];
    let backup = [
        "keys",
        "backup",
        "--force",
        "-R",
        "recipients.txt",
        "--directory",
        "keys",
    ];
    for (program, args, output) in [
        (KUBESEAL, &recover[..], "keys/key.yaml"),
        (KUBESEAL, &recover, "./keys/key.yaml"),
        (KUBESEAL, &recover, "link.yaml"),
        (KUBESEAL, &seal, "cert.pem"),
        (SEAL, &backup, "keys/key.yaml"),
        (SEAL, &backup, "recipients.txt"),
    ] {
        let before = fs::read(path_to(output)).expect("a file");
        let result = run(directory.path(), program, &[args, &[output]].concat());
        assert!(!result.status.success(), "{output}");
        assert_contains(&result, "this command reads the file", output);
        assert_eq!(
            fs::read(path_to(output)).expect("a file"),
            before,
            "{output}"
        );
    }
}

#[test]
fn plain_values_are_readable_only_by_their_owner() {
    let directory = directory();
    let plain = directory.path().join("plain.json");
    fs::write(&plain, "").expect("the test directory is writable");
    fs::set_permissions(&plain, Permissions::from_mode(0o644)).expect("the test owns the file");
    let args = [
        "--recovery-unseal",
        "--recovery-private-key",
        "keys/key.yaml",
    ];
    let args = [&args[..], &["-f", "sealed.yaml", "-w", "plain.json"]].concat();
    assert_code(&run(directory.path(), KUBESEAL, &args), 0, "");
    let metadata = fs::metadata(&plain).expect("a file");
    assert!(metadata.len() > 0);
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

/// Fault: an import cannot write the second of several files.
#[test]
fn a_failed_import_leaves_no_files() {
    let directory = directory();
    let list = ["a", "b", "c"].map(|namespace| SECRET.replace("shop", namespace));
    // The directory of the second namespace is a file.
    write_files(
        directory.path(),
        &[("list.yaml", &list.join("---\n")), ("sealed/b", "")],
    );
    let import = [
        "import",
        "list",
        "list.yaml",
        "--into",
        "sealed",
        "--cert",
        "cert.pem",
    ];
    let output = run(directory.path(), SEAL, &import);
    assert_code(&output, 2, "");
    assert!(!directory.path().join("sealed/a").exists());
    fs::remove_file(directory.path().join("sealed/b")).expect("the file exists");
    assert_code(&run(directory.path(), SEAL, &import), 0, "again");
    assert!(directory.path().join("sealed/c/db.yaml").exists());
}

#[test]
fn warns_about_an_empty_value_in_a_dotenv_file() {
    let directory = directory();
    write_files(
        directory.path(),
        &[(".env", "A=#hunter2\nB=\nC=x # y\nD='#x'\n")],
    );
    let args = [
        "import", "dotenv", "web", ".env", "-n", "shop", "--cert", "cert.pem",
    ];
    let output = run(directory.path(), SEAL, &args);
    assert_code(&output, 0, "");
    let comment = ".env:1: the value of A is empty, since the text after `#` is a comment";
    assert_contains(&output, comment, "");
    assert_contains(&output, ".env:2: the value of B is empty\n", "");
    for item in ["C is empty", "D is empty", "hunter2"] {
        assert!(
            !crate::support::combined_output(&output).contains(item),
            "{item}"
        );
    }
}

/// YAML 1.1 reads `n` and `y` as booleans and `0x10` as a number, so the Secret would be sealed for another namespace
/// or name.
#[test]
fn refuses_a_name_that_yaml_reads_as_a_boolean() {
    let directory = directory();
    for (from, to, field) in [
        ("namespace: shop", "namespace: n", "metadata.namespace"),
        ("name: db", "name: y", "metadata.name"),
        ("namespace: shop", "namespace: 0x10", "metadata.namespace"),
    ] {
        write_files(directory.path(), &[("a.yaml", &SECRET.replace(from, to))]);
        for args in [
            &["--stdout", "--keep-plain", "a.yaml"][..],
            &["import", "secret", "a.yaml"],
            &["import", "list", "a.yaml"],
        ] {
            let output = run(
                directory.path(),
                SEAL,
                &[args, &["--cert", "cert.pem"]].concat(),
            );
            assert_code(&output, 2, to);
            assert_contains(&output, &format!("a.yaml:3: {field} must be a string"), to);
            assert_contains(&output, "hint: quote the value", to);
        }
        write_files(
            directory.path(),
            &[("a.yaml", &SECRET.replace(from, &format!("{from}x")))],
        );
    }
    let owned = SECRET.replace(
        "namespace: shop",
        "namespace: shop, ownerReferences: [{name: y}]",
    );
    write_files(directory.path(), &[("a.yaml", &owned)]);
    let args = ["import", "list", "--owned", "a.yaml", "--cert", "cert.pem"];
    assert_code(&run(directory.path(), SEAL, &args), 0, "an owner");
}

/// A retired key still unseals values locally.
#[test]
fn exec_warns_about_a_retired_key() {
    let directory = directory();
    let args = [
        "exec",
        "--only",
        "pw",
        "sealed.yaml",
        "--directory",
        "keys",
        "--",
        "true",
    ];
    let output = run(directory.path(), SEAL, &args);
    assert_code(&output, 0, "active");
    assert!(output.stderr.is_empty(), "{output:?}");
    let retired = KEY.replace("sealed-secrets-key: active", "sealed-secrets-key: retired");
    assert_ne!(retired, KEY);
    write_files(directory.path(), &[("keys/key.yaml", &retired)]);
    let output = run(directory.path(), SEAL, &args);
    assert_code(&output, 0, "retired");
    assert_contains(
        &output,
        "sealed.yaml: the item pw is sealed for the retired key",
        "",
    );
}

#[test]
fn does_not_report_a_file_without_secrets_as_plain() {
    let directory = directory();
    crate::support::git(directory.path(), &["init", "-q"]);
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    write_files(directory.path(), &[("map.yaml", map), ("empty.yaml", "")]);
    for file in ["map.yaml", "empty.yaml"] {
        let output = run(directory.path(), SEAL, &[file, "--cert", "cert.pem"]);
        assert_code(&output, 2, file);
        assert_contains(&output, "contains no Secret", file);
    }
    let output = run(
        directory.path(),
        SEAL,
        &["secret.yaml", "--cert", "cert.pem"],
    );
    assert_contains(&output, "would remain in plaintext", "");
}

/// A run can find the same file twice: in the controller's directory and below the current directory.
#[test]
fn counts_a_broken_file_once() {
    let directory = directory();
    let broken = "kind: SealedSecret\na: [\n";
    write_files(
        directory.path(),
        &[
            ("state/keys/key.yaml", KEY),
            ("state/sealed/a.yaml", broken),
        ],
    );
    let absolute = directory.path().join("state");
    for state in ["state", "./state", absolute.to_str().expect("UTF-8")] {
        let output = run(
            directory.path(),
            SEAL,
            &["keys", "status", ".", "--directory", state],
        );
        assert_code(&output, 2, state);
        assert_contains(
            &output,
            "error: 1 of the files and objects cannot be read",
            state,
        );
    }
}

#[test]
fn messages_about_a_wrong_file_name_the_next_step() {
    let directory = directory();
    let cut: String = include_str!("../seal/fixtures/key.pem")
        .lines()
        .take(3)
        .collect();
    let files = [
        (
            "csr.pem",
            "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n",
        ),
        (
            "pub.pem",
            "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n",
        ),
        ("cr.pem", &NEW_CERT.replace('\n', "\r")),
        ("cut.pem", &cut),
    ];
    write_files(directory.path(), &files);
    for (args, want) in [
        (
            &[
                "--stdout",
                "--keep-plain",
                "secret.yaml",
                "--cert",
                "csr.pem",
            ][..],
            "certificate signing request",
        ),
        (
            &[
                "--stdout",
                "--keep-plain",
                "secret.yaml",
                "--cert",
                "pub.pem",
            ],
            "it is a public key",
        ),
        (
            &[
                "--stdout",
                "--keep-plain",
                "secret.yaml",
                "--cert",
                "cr.pem",
            ],
            "tr '\\r' '\\n'",
        ),
        (
            &["view", "--reveal", "sealed.yaml", "--key", "cut.pem"],
            "its PEM is truncated",
        ),
        (
            &["view", "nosuch.yaml"],
            "hint: check the path and the current directory",
        ),
        (
            &["keys", "list", "--directory", "nosuch"],
            "the directory nosuch does not exist; hint: ",
        ),
        (
            &["keys", "list", "--directory", "cert.pem"],
            "the directory cert.pem is not a directory; hint: ",
        ),
    ] {
        let output = run(directory.path(), SEAL, args);
        assert_code(&output, 2, format_args!("{args:?}"));
        assert_contains(&output, want, format_args!("{args:?}"));
    }
}

#[test]
fn writes_a_new_object_to_stdout_by_its_path() {
    let directory = directory();
    let create = format!(
        "exec {SEAL} create db -n shop --cert cert.pem --from-file a=secret.yaml -w /dev/stdout"
    );
    let output = run(directory.path(), "sh", &["-c", &create]);
    assert_code(&output, 0, "a pipe");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("kind: SealedSecret"), "{output:?}");
    let output = run(
        directory.path(),
        "sh",
        &["-c", &format!("{create} > new.yaml")],
    );
    assert_code(&output, 0, "a file");
    let written = std::fs::read_to_string(directory.path().join("new.yaml")).unwrap();
    assert!(written.contains("kind: SealedSecret"), "{written}");
}
