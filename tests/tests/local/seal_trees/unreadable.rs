//! Tests that files that cannot be read and may contain SealedSecrets are reported, with an exit code other than 0.
//! Also tests repeated runs and dry runs of `seal rotate`.

use super::{Tree, stderr, stdout};

const HEADER: &str = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\n";

/// Returns the name and the content of malformed files, each with a part of the expected message.
fn unreadable_files() -> Vec<(&'static str, String, &'static str)> {
    vec![
        (
            "conflict.yaml",
            format!(
                "{HEADER}metadata:\n  name: db\nspec:\n  encryptedData:\n<<<<<<< HEAD\n    a: AgA=\n=======\n    a: AgB=\n\
                 >>>>>>> topic\n"
            ),
            "unresolved Git conflict markers",
        ),
        (
            "conflict3.yaml",
            format!(
                "{HEADER}metadata:\n<<<<<<< ours\n  name: a\n||||||| base\n=======\n  name: b\n>>>>>>> theirs\n"
            ),
            "unresolved Git conflict markers",
        ),
        (
            "second.yaml",
            format!("kind: ConfigMap\n---\n{HEADER}spec: [\n"),
            "document 2",
        ),
        (
            "chart/templates/db.yaml",
            format!("{HEADER}metadata:\n  name: {{{{ .Release.Name }}}}-db\n"),
            "template",
        ),
        (
            "chart/templates/if.yaml",
            format!("{{{{- if .Values.on }}}}\n{HEADER}spec: {{}}\n{{{{- end }}}}\n"),
            "template",
        ),
        (
            "broken.json",
            "{\"kind\": \"SealedSecret\",".to_owned(),
            "malformed",
        ),
    ]
}

#[test]
fn rotate_reports_each_unreadable_file_and_re_encrypts_the_others() {
    for (name, text, expected) in unreadable_files() {
        let tree = Tree::new();
        tree.seal_without_hints("db", "tree/good.yaml");
        let before = tree.read("tree/good.yaml");
        tree.write(&format!("tree/{name}"), &text);
        let args = ["rotate", "tree", "--key", "key.pem", "--cert", "other.pem"];
        let output = tree.seal(&args);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        let line = format!("tree/{name}: failed: ");
        let errors = stderr(&output);
        let line = errors.lines().find(|text| text.starts_with(&line));
        assert!(
            line.is_some_and(|text| text.contains(expected)),
            "{name}: {errors}"
        );
        assert!(errors.contains("tree/good.yaml"), "{name}: {errors}");
        assert_ne!(tree.read("tree/good.yaml"), before, "{name}");
        assert_eq!(tree.read(&format!("tree/{name}")), text, "{name}");
    }
}

#[test]
fn rotate_reports_an_unreadable_file_in_a_tree_without_other_files() {
    for (name, text, expected) in unreadable_files() {
        let tree = Tree::new();
        tree.write(&format!("tree/{name}"), &text);
        let args = [
            "rotate",
            "tree",
            "--key",
            "key.pem",
            "--cert",
            "other.pem",
            "-o",
            "json",
        ];
        let output = tree.seal(&args);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        let printed = stdout(&output);
        assert!(
            printed.contains("\"failed\": 1") && printed.contains(expected),
            "{name}: {printed}"
        );
    }
}

#[test]
fn ignores_malformed_files_without_a_sealed_secret() {
    let tree = Tree::new();
    tree.seal_without_hints("db", "tree/good.yaml");
    for (name, text) in [
        (
            "chart/templates/deployment.yaml",
            "kind: Deployment\nname: {{ .x }}\n",
        ),
        (
            "chart/templates/secret.yaml",
            "kind: Secret\nname: {{ .x | quote }} \\\n",
        ),
        (
            "notes.yaml",
            "<<<<<<< HEAD\na: b\n=======\na: c\n>>>>>>> x\n",
        ),
    ] {
        tree.write(&format!("tree/{name}"), text);
    }
    for args in [
        &["rotate", "tree", "--key", "key.pem", "--cert", "other.pem"][..],
        &["view", "tree"],
    ] {
        let output = tree.seal(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
}

#[test]
fn view_shows_readable_files_and_reports_unreadable_files() {
    for (name, text, expected) in unreadable_files() {
        let tree = Tree::new();
        tree.seal_without_hints("db", "tree/good.yaml");
        tree.write(&format!("tree/{name}"), &text);
        let output = tree.seal(&["view", "tree"]);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        assert!(stdout(&output).contains("shop/db"), "{name}: {output:?}");
        let errors = stderr(&output);
        let line = errors
            .lines()
            .find(|text| text.starts_with(&format!("tree/{name}: ")));
        assert!(
            line.is_some_and(|text| text.contains(expected)),
            "{name}: {errors}"
        );
    }
}

#[test]
fn diff_reports_each_unreadable_file() {
    for (name, text, expected) in unreadable_files() {
        let tree = Tree::new();
        tree.git(&["init", "-q", "."]);
        tree.seal_without_hints("db", "tree/good.yaml");
        tree.git(&["add", "tree"]);
        tree.git(&["commit", "-qm", "one"]);
        tree.write(&format!("tree/{name}"), &text);
        tree.git(&["add", "tree"]);
        let output = tree.seal(&["diff"]);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        let printed = stdout(&output);
        assert!(
            printed.contains(&format!("tree/{name}")) && printed.contains(expected),
            "{name}: {printed}"
        );
    }
}

#[test]
fn keys_status_reports_each_unreadable_file() {
    for (name, text, expected) in unreadable_files() {
        let tree = Tree::new();
        tree.write("state/keys/.keep", "");
        tree.seal_without_hints("db", "tree/good.yaml");
        tree.write(&format!("tree/{name}"), &text);
        let output = tree.seal(&["keys", "status", "tree", "--directory", "state"]);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        let printed = stdout(&output);
        assert!(
            printed.contains(&format!("tree/{name}")) && printed.contains(expected),
            "{name}: {printed}"
        );
    }
}

#[test]
fn seal_reports_a_plain_secret_in_a_malformed_file() {
    let good =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n";
    for (name, text) in [
        (
            "conflict.yaml",
            format!("{good}<<<<<<< HEAD\n=======\n>>>>>>> x\n"),
        ),
        ("second.yaml", format!("{good}---\na: [\n")),
        ("template.yaml", good.replace("db", "{{ .x }}")),
    ] {
        let tree = Tree::new();
        tree.write("tree/good.yaml", good);
        tree.write(&format!("tree/{name}"), &text);
        let output = tree.seal(&["-i", "tree", "--cert", "cert.pem"]);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        assert!(
            stderr(&output).contains(&format!("not sealed: tree/{name}")),
            "{name}: {output:?}"
        );
        assert!(
            tree.read("tree/good.yaml").contains("SealedSecret"),
            "{name}"
        );
    }
}

#[test]
fn an_interrupted_rotate_continues_where_it_stopped() {
    let tree = Tree::new();
    for name in ["a", "b", "c"] {
        tree.seal_without_hints(name, &format!("tree/{name}.yaml"));
    }
    let rotate = |paths: &[&str]| {
        let common_args = ["rotate", "--key", "key.pem", "--cert", "other.pem"];
        tree.seal(&[&common_args, paths].concat())
    };
    assert!(
        rotate(&["tree/a.yaml"]).status.success(),
        "the files before the interruption"
    );
    let output = rotate(&["tree"]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        stderr(&output)
            .contains("2 items in 2 files re-encrypted; 1 already for the key of the certificate"),
        "{output:?}"
    );
    let rotated = ["a", "b", "c"].map(|name| tree.read(&format!("tree/{name}.yaml")));
    let output = rotate(&["tree"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stderr(&output).lines().count(), 1, "{output:?}");
    assert_eq!(
        ["a", "b", "c"].map(|name| tree.read(&format!("tree/{name}.yaml"))),
        rotated
    );
}

#[test]
fn an_item_that_no_key_decrypts_fails_with_a_hint() {
    let tree = Tree::new();
    tree.seal_without_hints("a", "tree/a.yaml");
    let args = [
        "rotate",
        "tree",
        "--key",
        "key.pem",
        "--cert",
        "other.pem",
        "--no-hints",
    ];
    assert!(tree.seal(&args).status.success());
    let output = tree.seal(&args);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        stderr(&output).contains("also pass its private key with --key"),
        "{output:?}"
    );
}

#[test]
fn reports_sealed_values_in_the_values_of_a_chart() {
    for (name, prefix) in [
        ("values.yaml", "sealed:\n  a: "),
        ("values.json", "{\"a\": \""),
        ("values-prod.yml", "list:\n- "),
    ] {
        let tree = Tree::new();
        tree.seal_without_hints("db", "one.yaml");
        let text = tree.read("one.yaml");
        let value = text.split("a: ").nth(1).unwrap().lines().next().unwrap();
        let suffix = if prefix.ends_with('"') { "\"}" } else { "\n" };
        tree.write(&format!("tree/{name}"), &format!("{prefix}{value}{suffix}"));
        tree.write("state/keys/.keep", "");
        for args in [
            &["rotate", "tree", "--key", "key.pem", "--cert", "other.pem"][..],
            &["keys", "status", "tree", "--directory", "state"],
        ] {
            let output = tree.seal(args);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
            let report = stdout(&output) + &stderr(&output);
            let expected = "sealed value outside a SealedSecret";
            assert!(
                report.contains(name) && report.contains(expected),
                "{args:?}: {report}"
            );
        }
    }
}

#[test]
fn a_dry_run_predicts_the_result_of_the_run() {
    let tree = Tree::new();
    tree.seal_without_hints("a", "tree/a.yaml");
    tree.seal_without_hints("b", "tree/b.yaml");
    let rotate = |extra_args: &[&str]| {
        let common_args = [
            "rotate",
            "tree",
            "--key",
            "key.pem",
            "--cert",
            "other.pem",
            "-o",
            "json",
        ];
        let output = tree.seal(&[&common_args, extra_args].concat());
        assert!(output.status.success(), "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (report["rotated"].clone(), report["current"].clone())
    };
    let before = tree.read("tree/a.yaml");
    let forecast = rotate(&["--dry-run"]);
    assert_eq!(tree.read("tree/a.yaml"), before);
    assert_eq!(rotate(&[]), forecast);
    assert_eq!(rotate(&["--dry-run"]), rotate(&[]));
}
