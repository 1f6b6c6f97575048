//! Messages for files that users name by mistake say what the file is.

use std::process::Command;

use tests::binaries;

use super::{Tree, said};

#[test]
fn plain_text_under_data_leads_to_string_data() {
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
            let said = said(&output);
            let is_named = ["config.json", "stringData"]
                .iter()
                .all(|part| said.contains(part));
            assert!(is_named && !said.contains("hunter2"), "{said}");
        }
    }
}

#[test]
fn templates_and_conflicts_are_called_that_by_every_command() {
    let template = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {{ include \"app\" . }}\n";
    let quoted = "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: b}\ndata: {a: '{{ .Values.a | b64enc }}'}\n";
    let conflict = "apiVersion: v1\nkind: Secret\n<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> x\n";
    for (text, word) in [
        (template, "template"),
        (quoted, "template"),
        (conflict, "unresolved Git conflict markers"),
    ] {
        let tree = Tree::new();
        tree.write("a.yaml", text);
        let mut kubeseal = Command::new(binaries::kubeseal());
        kubeseal.args(["--cert", "cert.pem", "-f", "a.yaml"]);
        let output = tree.run(kubeseal);
        assert!(said(&output).contains(word), "{output:?}");
        for args in [
            &["a.yaml", "--stdout", "--cert", "cert.pem"][..],
            &["import", "secret", "a.yaml", "--cert", "cert.pem"],
        ] {
            let output = tree.seal(args);
            assert!(said(&output).contains(word), "{args:?}: {output:?}");
        }
    }
    let with_base = "apiVersion: v1\nkind: Secret\n<<<<<<< ours\na: 1\n||||||| base\n=======\na: 2\n>>>>>>> theirs\n";
    let left_over = "apiVersion: v1\nkind: Secret\na: 1\n>>>>>>> left over\n";
    for (text, word) in [
        (template, "template"),
        (conflict, "unresolved Git conflict markers"),
        (with_base, "unresolved Git conflict markers"),
        (left_over, "unresolved Git conflict markers"),
    ] {
        let tree = Tree::new();
        let sealed = text.replace(
            "kind: Secret",
            "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret",
        );
        tree.write("a.yaml", &sealed);
        for args in [
            &["view", "a.yaml"][..],
            &["set", "a.yaml", "a", "--from-file", "key.pem"],
            &["unset", "a.yaml", "a"],
            &["doctor", "a.yaml"],
            &["lint", "a.yaml"],
            &["rotate", "a.yaml", "--key", "key.pem", "--cert", "cert.pem"],
        ] {
            let output = tree.seal(args);
            let all = said(&output) + &super::printed(&output);
            assert!(all.contains(word), "{args:?}: {output:?}");
        }
    }
}

#[test]
fn what_is_no_identity_is_called_what_it_is() {
    let recipient = tests::sops::RECIPIENT;
    let passphrase = include_str!("passphrase.age");
    for (text, wanted) in [
        (passphrase, "protected by a passphrase"),
        (recipient, "is a recipient, which is public"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "is a key in PEM"),
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
        assert!(said(&output).contains(wanted), "{text}: {output:?}");
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
        said(&output).contains("is an age identity")
            || said(&output).contains("holds an age identity"),
        "{output:?}"
    );
}

/// The file may be as `age-keygen` wrote it, with the line ends of Windows, or not armored.
#[test]
fn an_identity_with_a_passphrase_is_called_that_wherever_one_is_taken() {
    let armored = include_str!("passphrase.age");
    let body: String = armored
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let binary = shared::base64::decode(body.as_bytes()).unwrap();
    let forms = [
        ("armored", armored.as_bytes().to_vec()),
        ("CRLF", armored.replace('\n', "\r\n").into_bytes()),
        ("binary", binary),
    ];
    let given = ["--backup", "backup.age", "--identity", "identity"];
    let restore = ["keys", "restore", "backup.age", "--identity", "identity"];
    for (form, bytes) in &forms {
        let tree = Tree::new();
        tree.seal_without_hints("db", "a.yaml");
        tree.write("state/keys/.keep", "");
        tree.write("backup.age", "age-encryption.org/v1\n");
        std::fs::write(tree.path("identity"), bytes).unwrap();
        for args in [
            [&restore[..], &["--directory", "state"]].concat(),
            [&["exec", "a.yaml", "--all"][..], &given, &["--", "true"]].concat(),
            [&["doctor", "a.yaml", "--offline"][..], &given].concat(),
        ] {
            let output = tree.seal(&args);
            assert_eq!(output.status.code(), Some(2), "{form} {args:?}: {output:?}");
            let is_named = said(&output).contains("protected by a passphrase");
            assert!(is_named, "{form} {args:?}: {output:?}");
        }
    }
}

#[test]
fn an_editor_that_returns_at_once_is_called_that() {
    use std::os::unix::fs::PermissionsExt as _;
    for (name, wanted) in [("code", "code --wait"), ("kate", "kate --block")] {
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
        assert!(said(&output).contains(wanted), "{output:?}");
    }
}
