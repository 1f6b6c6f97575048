//! Tests malformed objects, mainly SealedSecrets whose `encryptedData` is not a mapping of strings. `seal` and
//! `kubeseal` must not read them as valid objects without items.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use crate::support::{NEW_CERT, OLD_CERT, combined_output, command, git, write_files};

const KEY: &str = include_str!("../seal/key-fixtures/state/keys/key-2024.yaml");
const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const KUBESEAL: &str = env!("CARGO_BIN_EXE_kubeseal");

fn object(items: &str) -> String {
    format!(
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {{name: db, namespace: shop}}\nspec:\n  \
         encryptedData: {items}\n"
    )
}

/// Creates a directory with keys, certificates and a Git repository, `tree`, with a sealed file.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: web, namespace: shop}\nstringData: {a: hunter2}\n";
    let files = [
        ("old.pem", OLD_CERT),
        ("new.pem", NEW_CERT),
        ("key.yaml", KEY),
        ("secret.yaml", secret),
        ("state/keys/key.yaml", KEY),
        ("tree/db.yaml", ""),
    ];
    write_files(directory.path(), &files);
    let (_, _, sealed) = run(
        directory.path(),
        KUBESEAL,
        &["-f", "secret.yaml", "--cert", "old.pem", "-o", "yaml"],
    );
    fs::write(directory.path().join("tree/good.yaml"), sealed)
        .expect("the test directory is writable");
    git(&directory.path().join("tree"), &["init", "-q"]);
    git(&directory.path().join("tree"), &["add", "."]);
    git(&directory.path().join("tree"), &["commit", "-qm", "x"]);
    directory
}

/// Runs a program. Returns its exit code, its stdout and stderr together, and its stdout alone.
fn run(directory: &Path, program: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = command(program, directory, "/nowhere");
    command
        .env("EDITOR", "true")
        .args(args)
        .current_dir(directory);
    let output = command.output().expect("the command starts");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), combined_output(&output), stdout)
}

const NON_MAPPINGS: [(&str, &str); 6] = [
    ("[{a: AgB}]", "a list"),
    ("[]", "a list"),
    ("AgB", "a string"),
    ("\"\"", "a string"),
    ("7", "a number"),
    ("true", "a boolean"),
];

const NON_STRINGS: [(&str, &str); 4] = [
    ("{b: AgB, a: 7}", "a number"),
    ("{a: [AgB]}", "a list"),
    ("{a: {b: AgB}}", "a mapping"),
    ("{a: false}", "a boolean"),
];

#[test]
#[expect(clippy::too_many_lines, reason = "one table of commands")]
fn commands_locate_items_of_the_wrong_type() {
    let directory = directory();
    let mappings = NON_MAPPINGS.map(|(items, type_name)| {
        (items, format!("line 5: spec.encryptedData must be a mapping of item keys to sealed values, not {type_name}"))
    });
    let texts = NON_STRINGS.map(|(items, type_name)| {
        (
            items,
            format!(
                "spec.encryptedData.a must be a string, a sealed value in base64, not {type_name}"
            ),
        )
    });
    for (items, want) in mappings.into_iter().chain(texts) {
        let file = directory.path().join("tree/db.yaml");
        fs::write(&file, object(items)).expect("the test directory is writable");
        for (args, code, other_output) in [
            (&["view", "tree/db.yaml"][..], 2, ""),
            (&["view", "tree"], 2, "shop/web"),
            (&["view", "tree", "-o", "json"], 2, "\"web\""),
            (&["diff", "tree"], 2, "tree/db.yaml"),
            (
                &[
                    "rotate",
                    "tree/db.yaml",
                    "--key",
                    "key.yaml",
                    "--cert",
                    "new.pem",
                ],
                2,
                "",
            ),
            (
                &["rotate", "tree", "--key", "key.yaml", "--cert", "old.pem"],
                2,
                "1 already for the key of the certificate",
            ),
            (
                &[
                    "rotate",
                    "tree",
                    "--key",
                    "key.yaml",
                    "--cert",
                    "old.pem",
                    "--dry-run",
                ],
                2,
                "1 already for the key of the certificate",
            ),
            (
                &[
                    "set",
                    "tree/db.yaml",
                    "b",
                    "--generate",
                    "--cert",
                    "new.pem",
                ],
                2,
                "",
            ),
            (&["unset", "tree/db.yaml", "a"], 2, ""),
            (
                &[
                    "edit",
                    "tree/db.yaml",
                    "--key",
                    "key.yaml",
                    "--cert",
                    "new.pem",
                ],
                2,
                "",
            ),
            (
                &["edit", "tree/db.yaml", "--blind", "--cert", "new.pem"],
                2,
                "",
            ),
            (
                &["keys", "status", "tree", "--directory", "state"],
                2,
                "key-2024",
            ),
            (
                &["keys", "status", "tree/db.yaml", "--directory", "state"],
                2,
                "",
            ),
            (
                &[
                    "exec",
                    "tree/db.yaml",
                    "--only",
                    "a",
                    "--backup",
                    "key.yaml",
                    "--",
                    "true",
                ],
                2,
                "",
            ),
        ] {
            let (exit_code, printed, _) = run(directory.path(), SEAL, args);
            assert_eq!(exit_code, Some(code), "{items} {args:?}: {printed}");
            for part in ["db.yaml", "shop/db", &want, other_output] {
                assert!(
                    printed.contains(part),
                    "{items} {args:?}: {part:?} in {printed}"
                );
            }
            let text = fs::read_to_string(&file).expect("the file is readable");
            assert_eq!(text, object(items), "{args:?}");
        }
    }
}

#[test]
fn lint_finds_items_of_the_wrong_type() {
    let directory = directory();
    for (items, type_name) in NON_MAPPINGS.into_iter().chain(NON_STRINGS) {
        fs::write(directory.path().join("tree/db.yaml"), object(items))
            .expect("the test directory is writable");
        let (code, printed, _) = run(directory.path(), SEAL, &["lint", "tree"]);
        assert_eq!(code, Some(1), "{items}: {printed}");
        let is_named = printed.contains("encryptedData must be a mapping")
            || printed.contains("a is not a string");
        assert!(
            is_named && (printed.contains("tree/db.yaml:5") || printed.contains("line 5")),
            "{items} {type_name}: {printed}"
        );
    }
}

#[test]
fn kubeseal_refuses_items_of_the_wrong_type() {
    let directory = directory();
    let recover = [
        "--recovery-unseal",
        "--recovery-private-key",
        "key.yaml",
        "-f",
        "tree/db.yaml",
    ];
    let merge = [
        "--merge-into",
        "tree/db.yaml",
        "-f",
        "secret.yaml",
        "--cert",
        "new.pem",
    ];
    for (items, type_name) in NON_MAPPINGS {
        let file = directory.path().join("tree/db.yaml");
        fs::write(&file, object(items)).expect("the test directory is writable");
        for args in [
            &recover[..],
            &merge,
            &["--re-encrypt", "-f", "tree/db.yaml"],
            &["--validate", "-f", "tree/db.yaml"],
        ] {
            let (code, printed, stdout) = run(directory.path(), KUBESEAL, args);
            assert_eq!(code, Some(1), "{items} {args:?}: {printed}");
            assert!(stdout.is_empty(), "{items} {args:?}: {stdout}");
            for part in [
                "shop/db",
                "line 5: spec.encryptedData must be a mapping",
                type_name,
            ] {
                assert!(
                    printed.contains(part),
                    "{items} {args:?}: {part:?} in {printed}"
                );
            }
            assert_eq!(
                fs::read_to_string(&file).expect("the file is readable"),
                object(items),
                "{args:?}"
            );
        }
    }
    for (items, type_name) in NON_STRINGS {
        fs::write(directory.path().join("tree/db.yaml"), object(items))
            .expect("the test directory is writable");
        let (code, printed, stdout) = run(directory.path(), KUBESEAL, &recover);
        assert_eq!(code, Some(1), "{items}: {printed}");
        // Upstream reads such a value as an empty string, which no key decrypts.
        assert!(
            printed.contains("no key could decrypt secret (a"),
            "{items}: {printed}"
        );
        let hint = format!(
            "hint: item a is not a sealed value: it is {type_name}, not a string in base64"
        );
        assert!(printed.contains(&hint), "{items}: {printed}");
        assert!(!printed.contains("empty"), "{items}: {printed}");
        assert!(stdout.is_empty(), "{items}: {stdout}");
    }
    let list = "apiVersion: v1\nkind: List\nitems:\n- spec: {encryptedData: {c: ''}}\n- spec: {encryptedData: {c: [x], d: 5, e: ~}}\n";
    for (items, want) in [
        (
            object("{a: ~}"),
            &["item a is not a sealed value: it is empty, 0 bytes"][..],
        ),
        (
            object("{a: 5, b: 7, c: true}"),
            &[
                "items a, b are not sealed values: it is a number",
                "item c is not a sealed value: it is a boolean",
            ],
        ),
        (
            object("{a: 5}") + "---\n" + &object("{a: [x]}"),
            &["item a is not a sealed value: it is a number"],
        ),
        (
            list.to_owned(),
            &["item c is not a sealed value: it is empty"],
        ),
        (
            list.replace("''", "{}"),
            &["item c is not a sealed value: it is a mapping"],
        ),
    ] {
        fs::write(directory.path().join("tree/db.yaml"), &items)
            .expect("the test directory is writable");
        let (code, printed, _) = run(directory.path(), KUBESEAL, &recover);
        assert_eq!(code, Some(1), "{items}: {printed}");
        for part in want {
            assert!(printed.contains(part), "{items}: {part:?} in {printed}");
        }
    }
}

#[test]
fn reports_a_sealed_secret_of_another_api_version() {
    let directory = directory();
    let sealed =
        fs::read_to_string(directory.path().join("tree/good.yaml")).expect("the file is readable");
    let version = "apiVersion: bitnami.com/v1alpha1\n";
    assert!(sealed.contains(version), "{sealed}");
    // Seal the value again to get a different ciphertext.
    let seal_args = ["-f", "secret.yaml", "--cert", "old.pem", "-o", "yaml"];
    let (_, _, second) = run(directory.path(), KUBESEAL, &seal_args);
    let without_version = second.trim_start_matches("---\n").replace(version, "");
    let item = without_version.trim_end().replace('\n', "\n  ");
    let list = format!("apiVersion: v1\nkind: List\nitems:\n- {item}\n");
    let missing = "the object of kind SealedSecret has no apiVersion";
    for (text, want) in [
        (&list, missing),
        (&without_version, missing),
        (&format!("{sealed}---\n{without_version}"), missing),
        (
            &sealed.replace("v1alpha1", "v1"),
            "the object of kind SealedSecret has the apiVersion \"bitnami.com/v1\"",
        ),
        (
            &sealed.replace("kind: SealedSecret\n", "kind: Other\n"),
            "sealed value outside a SealedSecret",
        ),
    ] {
        fs::write(directory.path().join("tree/db.yaml"), text)
            .expect("the test directory is writable");
        for args in [
            &[
                "rotate",
                "tree",
                "--key",
                "key.yaml",
                "--cert",
                "new.pem",
                "--dry-run",
            ][..],
            &[
                "rotate",
                "tree/db.yaml",
                "--key",
                "key.yaml",
                "--cert",
                "new.pem",
                "--dry-run",
            ],
            &["keys", "status", "tree", "--directory", "state"],
            &["keys", "status", "tree/db.yaml", "--directory", "state"],
        ] {
            let (code, printed, _) = run(directory.path(), SEAL, args);
            assert_eq!(code, Some(2), "{args:?}: {printed}\n{text}");
            assert!(printed.contains("db.yaml"), "{args:?}: {printed}");
            assert!(
                printed.contains(want),
                "{args:?}: {want:?} in {printed}\n{text}"
            );
        }
    }
}

/// Lint reports numbers and booleans where the API server accepts only strings.
#[test]
fn lint_reports_fields_of_the_wrong_type() {
    let directory = directory();
    let good = fs::read_to_string(directory.path().join("tree/good.yaml")).expect("a file");
    for (from, to, path) in [
        (
            "  template:\n",
            "  template:\n    type: 5\n",
            "spec.template.type",
        ),
        (
            "  template:\n",
            "  template:\n    data: {x: 5}\n",
            "spec.template.data.x",
        ),
        ("  name: web\n", "  name: 5\n", "metadata.name"),
        (
            "  name: web\n",
            "  name: web\n  labels: {a: true}\n",
            "metadata.labels.a",
        ),
        (
            "    metadata:\n",
            "    metadata:\n      labels: {a: 0x10}\n",
            "spec.template.metadata.labels.a",
        ),
    ] {
        assert!(good.contains(from), "{good}");
        for (replacement, is_found) in [
            (to.to_owned(), true),
            (
                to.replace('5', "'5'")
                    .replace("true", "'true'")
                    .replace("0x10", "'0x10'"),
                false,
            ),
        ] {
            write_files(
                directory.path(),
                &[("a.yaml", &good.replacen(from, &replacement, 1))],
            );
            let (_, output, _) = run(directory.path(), SEAL, &["lint", "a.yaml"]);
            let message =
                format!("{path} must be a quoted string: the API server does not accept a ");
            assert_eq!(
                output.contains(&message),
                is_found,
                "{replacement}: {output}"
            );
        }
    }
}

/// If an import used only one of the values of a repeated key, it would lose the others.
#[test]
fn an_import_refuses_a_repeated_key() {
    let directory = directory();
    let object = "apiVersion: v1\nkind: Secret\nmetadata: {name: web, namespace: shop}\n";
    for fields in [
        "stringData: {a: one, a: two}\n",
        "stringData: {a: one}\nstringData: {b: two}\n",
        "data: {a: b25l}\ndata: {b: dHdv}\n",
    ] {
        let text = format!("{object}{fields}");
        fs::write(directory.path().join("in.yaml"), &text).expect("the test directory is writable");
        for args in [
            &["import", "secret", "in.yaml", "--cert", "old.pem"][..],
            &["import", "list", "in.yaml", "--cert", "old.pem"],
        ] {
            let (code, printed, _) = run(directory.path(), SEAL, args);
            assert_eq!(code, Some(2), "{args:?}: {printed}\n{text}");
            assert!(printed.contains("duplicate key"), "{args:?}: {printed}");
        }
    }
}
