//! Tests files as Windows programs write them (in UTF-16, with a byte order mark, or with carriage returns), and empty
//! values from stdin.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{assert_code, assert_contains, combined_output};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const KUBESEAL: &str = env!("CARGO_BIN_EXE_kubeseal");
const SEAL_TESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal");

fn run(directory: &Path, program: &str, args: &[&str]) -> Output {
    run_with_input(directory, program, args, b"")
}

fn run_with_input(directory: &Path, program: &str, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .current_dir(directory)
        .env("HOME", directory)
        .env("KUBECONFIG", "/nowhere")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    // A program that does not read its input may have exited.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("the program was started")
}

/// Returns a string in each encoding, with the name of the encoding.
fn encodings(text: &str) -> [(&'static str, Vec<u8>); 6] {
    let crlf_text = text.replace('\n', "\r\n");
    let utf16 = |mark: &str, unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let text = [mark, &crlf_text].concat();
        text.encode_utf16().flat_map(unit).collect()
    };
    [
        ("carriage returns", crlf_text.clone().into_bytes()),
        (
            "a byte order mark",
            ["\u{feff}", text].concat().into_bytes(),
        ),
        ("UTF-16, little-endian", utf16("\u{feff}", u16::to_le_bytes)),
        ("UTF-16, big-endian", utf16("\u{feff}", u16::to_be_bytes)),
        (
            "UTF-16, little-endian, no mark",
            utf16("", u16::to_le_bytes),
        ),
        ("UTF-16, big-endian, no mark", utf16("", u16::to_be_bytes)),
    ]
}

fn fixture(name: &str) -> String {
    fs::read_to_string(format!("{SEAL_TESTS}/{name}")).expect("the file exists")
}

/// Creates a directory with a file sealed for `cert.pem`, and two backups of another key: one for `recipients.txt`, one
/// with `passphrase.txt`.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let path_to = |name: &str| directory.path().join(name);
    for (from, to) in [
        ("fixtures/cert.pem", "cert.pem"),
        ("fixtures/key.pem", "key.pem"),
        ("key-fixtures/identity.txt", "identity.txt"),
        ("key-fixtures/recipients.txt", "recipients.txt"),
        ("key-fixtures/passphrase.txt", "passphrase.txt"),
    ] {
        fs::write(path_to(to), fixture(from)).expect("the test directory is writable");
    }
    fs::create_dir_all(path_to("state/keys")).expect("the test directory is writable");
    fs::create_dir_all(path_to("empty/keys")).expect("the test directory is writable");
    fs::write(
        path_to("state/keys/a.yaml"),
        fixture("key-fixtures/state/keys/key-2024.yaml"),
    )
    .expect("the test directory is writable");
    let create = [
        "create",
        "db",
        "-n",
        "shop",
        "--from-literal",
        "a=hunter2",
        "--cert",
        "cert.pem",
        "-w",
        "db.yaml",
    ];
    assert!(run(directory.path(), SEAL, &create).status.success());
    let backup = [
        "keys",
        "backup",
        "keys.age",
        "--recipients-file",
        "recipients.txt",
        "--directory",
        "state",
    ];
    assert!(run(directory.path(), SEAL, &backup).status.success());
    let passphrase_backup = [
        "keys",
        "backup",
        "secret.age",
        "--passphrase-file",
        "passphrase.txt",
        "--directory",
        "state",
    ];
    assert!(
        run(directory.path(), SEAL, &passphrase_backup)
            .status
            .success()
    );
    directory
}

/// The file to re-encode, the program and arguments that read it, and a part of the expected output.
const READERS: [(&str, &str, &[&str], &str); 8] = [
    (
        "cert.pem",
        KUBESEAL,
        &[
            "--raw",
            "--name",
            "db",
            "-n",
            "shop",
            "--from-file",
            "passphrase.txt",
            "--cert",
            "cert.pem",
        ],
        "A",
    ),
    (
        "cert.pem",
        SEAL,
        &["cert", "show", "cert.pem"],
        "fingerprint",
    ),
    (
        "cert.pem",
        SEAL,
        &[
            "set",
            "db.yaml",
            "b",
            "--from-file",
            "passphrase.txt",
            "--cert",
            "cert.pem",
        ],
        "db.yaml: shop/db: b",
    ),
    (
        "key.pem",
        KUBESEAL,
        &[
            "--recovery-unseal",
            "-f",
            "db.yaml",
            "--recovery-private-key",
            "key.pem",
        ],
        "aHVudGVyMg==",
    ),
    (
        "key.pem",
        SEAL,
        &["view", "db.yaml", "--reveal", "--key", "key.pem"],
        "hunter2",
    ),
    (
        "identity.txt",
        SEAL,
        &[
            "keys",
            "restore",
            "keys.age",
            "--identity",
            "identity.txt",
            "--directory",
            "empty",
            "--dry-run",
        ],
        "would be restored",
    ),
    (
        "recipients.txt",
        SEAL,
        &[
            "keys",
            "backup",
            "new.age",
            "--force",
            "--recipients-file",
            "recipients.txt",
            "--directory",
            "state",
        ],
        "written",
    ),
    (
        "passphrase.txt",
        SEAL,
        &[
            "keys",
            "restore",
            "secret.age",
            "--passphrase-file",
            "passphrase.txt",
            "--directory",
            "empty",
            "--dry-run",
        ],
        "would be restored",
    ),
];

#[test]
fn reads_certificates_keys_and_identities_in_windows_encodings() {
    let directory = directory();
    for (file, program, args, want) in READERS {
        let path = directory.path().join(file);
        let text = fs::read_to_string(&path).expect("the file is readable");
        for (encoding, bytes) in encodings(&text) {
            fs::write(&path, bytes).expect("the test directory is writable");
            let output = run(directory.path(), program, args);
            assert!(
                output.status.success(),
                "{file} in {encoding}: {args:?}: {}",
                combined_output(&output)
            );
            assert_contains(&output, want, format_args!("{file} in {encoding}"));
        }
        fs::write(&path, text).expect("the test directory is writable");
    }
}

#[test]
fn reads_variables_and_rules_in_windows_encodings() {
    let directory = directory();
    let path_to = |name: &str| directory.path().join(name);
    let variables = "# c\nA=1\nB=\"two\nlines\"\nC='x\ny'\n";
    for (encoding, bytes) in encodings(variables) {
        fs::write(path_to(".env"), bytes).expect("the test directory is writable");
        let args = [
            "import", "dotenv", "web", ".env", "--cert", "cert.pem", "-n", "shop",
        ];
        let output = run(directory.path(), SEAL, &args);
        assert!(
            output.status.success(),
            "{encoding}: {}",
            combined_output(&output)
        );
        fs::write(path_to("web.yaml"), &output.stdout).expect("the test directory is writable");
        let view = run(
            directory.path(),
            SEAL,
            &[
                "view", "web.yaml", "--reveal", "--key", "key.pem", "-o", "json",
            ],
        );
        for value in ["MQ==", "dHdvCmxpbmVz", "eAp5"] {
            assert_contains(&view, value, encoding);
        }
    }
    for (encoding, bytes) in encodings("rules:\n- path: '**'\n  namespace: other\n")
        .into_iter()
        .take(4)
    {
        fs::write(path_to(".seal.yaml"), bytes).expect("the test directory is writable");
        let args = [
            "create",
            "x",
            "--from-literal",
            "a=b",
            "-n",
            "shop",
            "--cert",
            "cert.pem",
        ];
        let output = run(directory.path(), SEAL, &args);
        assert_contains(&output, "requires the namespace", encoding);
    }
}

/// A value is sealed byte for byte, with a warning about a byte order mark.
#[test]
fn keeps_a_byte_order_mark_in_a_value_with_a_warning() {
    let directory = directory();
    let path_to = |name: &str| directory.path().join(name);
    for (mark, is_warned) in [
        (&b"\xef\xbb\xbf"[..], true),
        (b"\xff\xfe", true),
        (b"\xfe\xff", true),
        (b"\xff\xd8", false),
        (b"\xef\xbb", false),
        (b"", false),
    ] {
        let value = [mark, b"hunter2"].concat();
        fs::write(path_to("value"), &value).expect("the test directory is writable");
        for (args, input) in [
            (
                &[
                    "set",
                    "db.yaml",
                    "b",
                    "--from-file",
                    "value",
                    "--cert",
                    "cert.pem",
                ][..],
                &b""[..],
            ),
            (&["set", "db.yaml", "b", "--cert", "cert.pem"], &value),
            (
                &[
                    "create",
                    "x",
                    "-n",
                    "shop",
                    "--from-file",
                    "value",
                    "--cert",
                    "cert.pem",
                ],
                b"",
            ),
            (
                &[
                    "create", "x", "-n", "shop", "--stdin", "value", "--cert", "cert.pem",
                ],
                &value,
            ),
        ] {
            let output = run_with_input(directory.path(), SEAL, args, input);
            assert!(
                output.status.success(),
                "{args:?}: {}",
                combined_output(&output)
            );
            assert_eq!(
                combined_output(&output).contains("byte order mark"),
                is_warned,
                "{args:?}: {}",
                combined_output(&output)
            );
        }
    }
}

/// An empty stdin most likely means that the command which should write the value failed, or that stdin is closed.
#[test]
fn refuses_an_empty_value_from_stdin_without_the_flag() {
    let directory = directory();
    let set = ["set", "db.yaml", "a", "--cert", "cert.pem"];
    let create = [
        "create", "x", "-n", "shop", "--stdin", "a", "--cert", "cert.pem",
    ];
    for args in [&set[..], &create[..]] {
        let before = fs::read(directory.path().join("db.yaml")).expect("the file is readable");
        let output = run(directory.path(), SEAL, args);
        assert_code(&output, 2, format_args!("{args:?}"));
        assert_contains(&output, "--allow-empty", format_args!("{args:?}"));
        for redirection in ["<&-", "</dev/null"] {
            let line = format!("{SEAL} {} {redirection}", args.join(" "));
            let output = run(directory.path(), "sh", &["-c", &line]);
            assert_code(&output, 2, line);
        }
        assert_eq!(
            fs::read(directory.path().join("db.yaml")).expect("the file is readable"),
            before
        );
        let output = run(directory.path(), SEAL, &[args, &["--allow-empty"]].concat());
        assert!(output.status.success(), "{}", combined_output(&output));
    }
}
