//! Tests objects whose kind is encoded or omitted, and objects in files with template documents. A cluster accepts the
//! objects, so `seal` must find them.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::support::{assert_contains, combined_output};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/key-fixtures");

/// A Git repository in a temporary directory.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().expect("a directory"));
        fs::create_dir(tree.path("tree")).expect("the test directory is writable");
        tree.git(&["init", "-q", "-b", "main", "."]);
        tree.write("tree/a.yaml", "a: b\n");
        tree.commit();
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the test directory is writable");
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.0.path())
            .env("HOME", self.0.path())
            .env("KUBECONFIG", "/nowhere");
        for (field, value) in [("NAME", "a"), ("EMAIL", "a@x")] {
            command.env(format!("GIT_AUTHOR_{field}"), value);
            command.env(format!("GIT_COMMITTER_{field}"), value);
        }
        command
            .stdin(Stdio::null())
            .output()
            .expect("the command starts")
    }

    fn git(&self, args: &[&str]) {
        let output = self.run("git", args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            combined_output(&output)
        );
    }

    fn commit(&self) {
        self.git(&["add", "tree"]);
        self.git(&["commit", "-qm", "x"]);
    }
}

/// Returns YAML forms of a kind that do not contain its literal name.
fn hidden_forms(kind: &str) -> [String; 5] {
    let (first, rest) = kind.split_at(1);
    let byte = first.as_bytes()[0];
    let (start, end) = kind.split_at(3);
    let binary = shared::base64::encode(kind.as_bytes());
    [
        format!("\"\\x{byte:x}{rest}\""),
        format!("\"\\u00{byte:x}{rest}\""),
        format!("!!binary {binary}"),
        format!("!<tag:yaml.org,2002:binary> {binary}"),
        format!("\"{start}\\\n  {end}\""),
    ]
}

/// Attack: a committer hides the kind of a SealedSecret on another branch, with an escape, as binary, or in a list
/// whose items omit the kind, so that the key of the SealedSecret is retired.
#[test]
fn retires_no_key_that_an_object_with_a_hidden_kind_needs() {
    let tree = Tree::new();
    let certificate = format!("{FIXTURES}/key-2024.pem");
    let file = tree.path("tree/db.yaml");
    let args = [
        "create",
        "db",
        "--cert",
        &certificate,
        "--from-literal=a=b",
        "-n=shop",
        "-w",
    ];
    let output = tree.run(SEAL, &[&args[..], &["tree/db.yaml"]].concat());
    assert!(output.status.success(), "{}", combined_output(&output));
    let manifest = fs::read_to_string(&file).expect("the file exists");
    fs::remove_file(&file).expect("the file exists");
    let with_kind =
        |kind: &String| manifest.replace("kind: SealedSecret", &format!("kind: {kind}"));
    let mut forms: Vec<String> = hidden_forms("SealedSecret").iter().map(with_kind).collect();
    forms.push(list_without_kind(&manifest));
    for (i, text) in forms.iter().enumerate() {
        let branch = format!("b{i}");
        tree.git(&["checkout", "-q", "-b", &branch]);
        tree.write("tree/db.yaml", text);
        tree.commit();
        tree.git(&["checkout", "-q", "main"]);
        let state = format!("{FIXTURES}/state");
        let output = tree.run(
            SEAL,
            &[
                "keys",
                "retire",
                "key-2024",
                "tree",
                "--all-branches",
                "--directory",
                &state,
                "--dry-run",
            ],
        );
        let location = format!("{branch}:tree/db.yaml");
        assert_contains(&output, &location, text);
        assert_eq!(output.status.code(), Some(1), "{text}");
        tree.git(&["branch", "-qD", &branch]);
    }
}

/// Returns a `SealedSecretList` with the object. The item omits its kind, which is optional in a list of one kind.
fn list_without_kind(object: &str) -> String {
    let is_type_line = |line: &&str| line.starts_with("kind:") || line.starts_with("apiVersion:");
    let lines = object
        .lines()
        .filter(|line| *line != "---" && !is_type_line(line));
    let item: Vec<String> = lines.map(|line| format!("  {line}\n")).collect();
    let item = item.concat();
    format!(
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecretList\nitems:\n- {}",
        item.trim_start()
    )
}

const SECRET_FIELDS: &str =
    "metadata: {name: db, namespace: shop}\nstringData: {password: hunter2-correct-horse}\n";

const TEMPLATES: [&str; 3] = [
    "foo: {{ bar }}\n",
    "{{ if x }}\na: b\n{{ end }}\n",
    "{% if x %}\na: b\n",
];

/// Returns manifests that contain a plain Secret: with an encoded kind, in a list, or next to template documents.
fn leaks() -> Vec<String> {
    let with_kind = |kind: &String| format!("apiVersion: v1\nkind: {kind}\n{SECRET_FIELDS}");
    let json = "{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"metadata\": {\"name\": \"db\"}, \"stringData\": \
                {\"password\": \"hunter2-correct-horse\"}}\n";
    let mut leaks: Vec<String> = hidden_forms("Secret").iter().map(with_kind).collect();
    // Items of a typed list may omit their kind.
    let item =
        "{metadata: {name: db, namespace: shop}, stringData: {password: hunter2-correct-horse}}";
    for nested in [
        format!("apiVersion: v1\nkind: SecretList\nitems: [{item}]\n"),
        format!(
            "apiVersion: v1\nkind: List\nitems: [{{apiVersion: v1, kind: SecretList, items: [{item}]}}]\n"
        ),
    ] {
        leaks.push(nested);
    }
    let documents = [
        leaks[0].clone(),
        with_kind(&"Secret".to_owned()),
        json.to_owned(),
    ];
    for template in TEMPLATES {
        for leak in &documents {
            leaks.push(format!("{leak}---\n{template}"));
            leaks.push(format!("{template}---\n{leak}"));
            leaks.push(format!(
                "a: b\n--- # x\n{template}---\n{leak}---\n{template}"
            ));
        }
    }
    leaks
}

/// Attack: a committer adds a plain Secret in a form that a search for its kind does not find, or in the same file as a
/// template document, so that the whole file is not a valid manifest.
#[test]
fn lint_and_the_hook_find_hidden_secrets() {
    let tree = Tree::new();
    let hook = tree.run(SEAL, &["hook", "install"]);
    assert!(hook.status.success(), "{}", combined_output(&hook));
    let mut failures = Vec::new();
    for leak in leaks() {
        tree.write("tree/leak.yaml", &leak);
        tree.git(&["add", "tree"]);
        for args in [
            &["lint", "."][..],
            &["lint", "tree/leak.yaml"],
            &["lint", "--staged"],
        ] {
            let output = tree.run(SEAL, args);
            if output.status.code() != Some(1) || !combined_output(&output).contains("plain-secret")
            {
                failures.push(format!("{args:?}\n{leak}{}", combined_output(&output)));
            }
        }
        let commit = tree.run("git", &["commit", "-qm", "leak"]);
        if commit.status.success() {
            failures.push(format!("the hook\n{leak}"));
            tree.git(&["reset", "-q", "--soft", "HEAD~1"]);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A template that takes its values from another file is not a plain Secret.
#[test]
fn lint_skips_values_that_come_from_templates() {
    let tree = Tree::new();
    let template = "a: b\n---\n{{- if .x }}\napiVersion: v1\nkind: Secret\nmetadata: {name: db}\n\
                    stringData:\n  a: {{ .Values.a }}\n{{- end }}\n---\nb: {{ c }}\n";
    tree.write("tree/a.yaml", template);
    let output = tree.run(SEAL, &["lint", "."]);
    assert!(output.status.success(), "{}", combined_output(&output));
}

/// Lines of findings are counted from the start of the file.
#[test]
fn a_finding_after_a_template_has_the_correct_line() {
    let tree = Tree::new();
    tree.write(
        "tree/a.yaml",
        &format!("a: {{{{ b }}}}\n---\n# x\napiVersion: v1\nkind: Secret\n{SECRET_FIELDS}"),
    );
    let output = tree.run(SEAL, &["lint", "."]);
    assert_contains(&output, "tree/a.yaml:4: ", "");
}
