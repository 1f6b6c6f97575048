//! Tests the error messages for files that users pass by mistake.

use std::process::Command;

use tests::binaries;

use super::{Tree, stderr};

#[test]
fn plain_text_under_data_is_reported_with_a_hint_to_string_data() {
    for value in ["hunter2!", "|\n    {\"a\": 1}", "-----BEGIN KEY-----"] {
        let tree = Tree::new();
        tree.write(
            "a.yaml",
            &format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: a, namespace: b}}\ndata:\n  config.json: {value}\n"
            ),
        );
        let mut command = Command::new(binaries::kubeseal());
        command.args(["--cert", "cert.pem", "-f", "a.yaml"]);
        let kubeseal = tree.run(command);
        assert_eq!(kubeseal.status.code(), Some(1), "{kubeseal:?}");
        let seal = tree.seal(&["a.yaml", "--stdout", "--cert", "cert.pem"]);
        assert_eq!(seal.status.code(), Some(2), "{seal:?}");
        for output in [kubeseal, seal] {
            let message = stderr(&output);
            let is_reported = ["config.json", "stringData"]
                .iter()
                .all(|part| message.contains(part));
            assert!(is_reported && !message.contains("hunter2"), "{message}");
        }
    }
}

#[test]
fn commands_report_templates_and_git_conflicts_in_files() {
    let template = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {{ include \"app\" . }}\n";
    let quoted = "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: b}\ndata: {a: '{{ .Values.a | b64enc }}'}\n";
    let conflict = "apiVersion: v1\nkind: Secret\n<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> x\n";
    for (text, expected) in [
        (template, "template"),
        (quoted, "template"),
        (conflict, "unresolved Git conflict markers"),
    ] {
        let tree = Tree::new();
        tree.write("a.yaml", text);
        let mut kubeseal = Command::new(binaries::kubeseal());
        kubeseal.args(["--cert", "cert.pem", "-f", "a.yaml"]);
        let output = tree.run(kubeseal);
        assert!(stderr(&output).contains(expected), "{output:?}");
        for args in [
            &["a.yaml", "--stdout", "--cert", "cert.pem"][..],
            &["import", "secret", "a.yaml", "--cert", "cert.pem"],
        ] {
            let output = tree.seal(args);
            assert!(stderr(&output).contains(expected), "{args:?}: {output:?}");
        }
    }
    let with_base = "apiVersion: v1\nkind: Secret\n<<<<<<< ours\na: 1\n||||||| base\n=======\na: 2\n>>>>>>> theirs\n";
    let end_marker_only = "apiVersion: v1\nkind: Secret\na: 1\n>>>>>>> left over\n";
    for (text, expected) in [
        (template, "template"),
        (conflict, "unresolved Git conflict markers"),
        (with_base, "unresolved Git conflict markers"),
        (end_marker_only, "unresolved Git conflict markers"),
    ] {
        let tree = Tree::new();
        let sealed = text.replace(
            "kind: Secret",
            "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret",
        );
        tree.write("a.yaml", &sealed);
        for args in [
            &["view", "a.yaml"][..],
            &["set", "a.yaml", "a", "--from-file", "cert.pem"],
            &["unset", "a.yaml", "a"],
            &["doctor", "a.yaml"],
            &["lint", "a.yaml"],
            &["rotate", "a.yaml", "--key", "key.pem", "--cert", "cert.pem"],
        ] {
            // Lint replaces the actions of a template with placeholders, so it reads the file.
            if args[0] == "lint" && text == template {
                continue;
            }
            let output = tree.seal(args);
            let report = stderr(&output) + &super::stdout(&output);
            assert!(report.contains(expected), "{args:?}: {output:?}");
        }
    }
}

#[test]
fn reports_files_that_are_not_identities() {
    let recipient = tests::sops::RECIPIENT;
    let passphrase = include_str!("passphrase.age");
    for (text, expected) in [
        (passphrase, "protected by a passphrase"),
        (recipient, "is an age recipient, which is public"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "is a PEM file"),
        ("something\n", "contains no age identity"),
    ] {
        let tree = Tree::new();
        tree.write("state/keys/.keep", "");
        tree.write("backup.age", "age-encryption.org/v1\n");
        tree.write("identity", text);
        let args = [
            "keys",
            "restore",
            "backup.age",
            "--identity",
            "identity",
            "--directory",
            "state",
        ];
        let output = tree.seal(&args);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(stderr(&output).contains(expected), "{text}: {output:?}");
    }
    let tree = Tree::new();
    tree.write("identity", tests::sops::IDENTITY);
    tree.write(
        "a.yaml",
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nspec: {}\n",
    );
    let output = tree.seal(&[
        "exec", "a.yaml", "--all", "--backup", "identity", "--", "true",
    ]);
    assert!(
        stderr(&output).contains("is an age identity")
            || stderr(&output).contains("contains an age identity"),
        "{output:?}"
    );
}

/// Tests an encrypted identity file as `age` wrote it, with Windows line endings, and without armor.
#[test]
fn restore_exec_and_doctor_recognize_an_encrypted_identity_file() {
    let armored = include_str!("passphrase.age");
    let body: String = armored
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let binary = shared::base64::decode(body.as_bytes()).unwrap();
    let formats = [
        ("armored", armored.as_bytes().to_vec()),
        ("CRLF", armored.replace('\n', "\r\n").into_bytes()),
        ("binary", binary),
    ];
    let backup_args = ["--backup", "backup.age", "--identity", "identity"];
    let restore = ["keys", "restore", "backup.age", "--identity", "identity"];
    for (format, bytes) in &formats {
        let tree = Tree::new();
        tree.seal_without_hints("db", "a.yaml");
        tree.write("state/keys/.keep", "");
        tree.write("backup.age", "age-encryption.org/v1\n");
        std::fs::write(tree.path("identity"), bytes).unwrap();
        for args in [
            [&restore[..], &["--directory", "state"]].concat(),
            [
                &["exec", "a.yaml", "--all"][..],
                &backup_args,
                &["--", "true"],
            ]
            .concat(),
            [&["doctor", "a.yaml", "--offline"][..], &backup_args].concat(),
        ] {
            let output = tree.seal(&args);
            assert_eq!(
                output.status.code(),
                Some(2),
                "{format} {args:?}: {output:?}"
            );
            let is_reported = stderr(&output).contains("protected by a passphrase");
            assert!(is_reported, "{format} {args:?}: {output:?}");
        }
    }
}

#[test]
fn reports_an_editor_that_returns_at_once() {
    use std::os::unix::fs::PermissionsExt as _;
    for (name, expected) in [("code", "code --wait"), ("kate", "kate --block")] {
        let tree = Tree::new();
        tree.seal_without_hints("db", "a.yaml");
        tree.write(&format!("bin/{name}"), "#!/bin/sh\n");
        let program = tree.path(&format!("bin/{name}"));
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(binaries::seal());
        command
            .args(["edit", "a.yaml", "--key", "key.pem", "--cert", "cert.pem"])
            .env("EDITOR", program)
            .env_remove("VISUAL");
        let output = tree.run(command);
        assert!(output.status.success(), "{output:?}");
        assert!(stderr(&output).contains(expected), "{output:?}");
    }
}
