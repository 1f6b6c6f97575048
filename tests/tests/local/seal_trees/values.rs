//! Tests which values lint and the hook treat as plaintext, and which findings about keys they report.

use super::{Tree, stderr, stdout};

const HEADER: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\n";

/// Lints a directory with one file. Returns the exit code and the stdout.
fn lint(name: &str, text: &str) -> (Option<i32>, String) {
    let tree = Tree::new();
    tree.write(&format!("tree/{name}"), text);
    let output = tree.seal(&["lint", "tree"]);
    (output.status.code(), stdout(&output))
}

#[test]
fn lint_accepts_placeholders() {
    for text in [
        "stringData: {a: '{{ .Values.a }}', b: \"{{ .Values.b | quote }}\"}\ndata: {c: '{{ .Values.c | b64enc }}'}\n",
        "stringData: {a: '${A}', b: '${B:=}'}\n",
        "data: {a: JHtBfQ==}\n",
        "stringData: {a: CHANGEME, b: <password>, c: '<path:secret/data/db#a>'}\n",
        "data: {a: ''}\nstringData: {b: , c: ''}\n",
        "data:\n",
    ] {
        let report = lint("a.yaml", &format!("{HEADER}{text}"));
        assert_eq!(report, (Some(0), String::new()), "{text}");
    }
    let templated = HEADER.replace("db", "'{{ .Release.Name }}-db'");
    let report = lint(
        "a.yaml",
        &format!("{templated}stringData: {{a: '{{{{ .Values.a }}}}'}}\n"),
    );
    assert_eq!(report, (Some(0), String::new()));
}

#[test]
fn lint_reports_a_value_among_placeholders() {
    for text in [
        "stringData: {a: '{{ .Values.a }}', password: hunter2}\n",
        "stringData: {a: '${A}', password: '${B:=hunter2}'}\n",
        "data: {a: '', password: aHVudGVyMg==}\n",
        "stringData: {a: CHANGEME, password: '{{ .Values.b | default \"hunter2\" }}'}\n",
        "stringData: {a: '${A}', password: 'postgres://app:hunter2@${HOST}'}\n",
    ] {
        let (code, report) = lint("a.yaml", &format!("{HEADER}{text}"));
        assert_eq!(code, Some(1), "{text}");
        assert!(
            report.contains("plain values: password;") && !report.contains("hunter2"),
            "{report}"
        );
    }
}

#[test]
fn lint_reports_literals_of_a_secret_generator() {
    for (name, text) in [
        (
            "kustomization.yaml",
            "secretGenerator:\n- name: db\n  literals:\n  - a=${A}\n  - password=hunter2\n",
        ),
        (
            "kustomization.yml",
            "kind: Kustomization\nsecretGenerator: [{literals: ['password=\"hunter2\"']}]\n",
        ),
        (
            "Kustomization",
            "kind: Component\nsecretGenerator: [{literals: [password=hunter2]}]\n",
        ),
        (
            "generator.yaml",
            "apiVersion: builtin\nkind: SecretGenerator\nliterals: [password=hunter2]\n",
        ),
    ] {
        let (code, report) = lint(name, text);
        assert_eq!(code, Some(1), "{name}: {report}");
        assert!(
            report.contains("plain values: password;") && !report.contains("hunter2"),
            "{report}"
        );
    }
    for text in [
        "secretGenerator: [{literals: ['a=${A}', b=]}]\n",
        "secretGenerator: [{envs: [.env]}]\n",
    ] {
        assert_eq!(
            lint("kustomization.yaml", text),
            (Some(0), String::new()),
            "{text}"
        );
    }
}

#[test]
fn accepts_template_actions_in_a_sealed_secret_of_a_chart() {
    let text = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata:\n  name: '{{ .Release.Name }}-db'\n  \
                namespace: '{{ .Release.Namespace }}'\n  annotations:\n    sealedsecrets.bitnami.com/cluster-wide: \
                '{{ .Values.wide }}'\nspec:\n  encryptedData:\n    a: '{{ .Values.sealed.a }}'\n  template:\n    \
                metadata: {name: db}\n";
    assert_eq!(lint("a.yaml", text), (Some(0), String::new()));
    let (code, _) = lint(
        "a.yaml",
        &text.replace("'{{ .Values.sealed.a }}'", "hunter2"),
    );
    assert_eq!(code, Some(1));
}

#[test]
fn an_exemption_requires_a_reason() {
    let secret = format!("{HEADER}stringData: {{a: hunter2}}\n");
    for (comment, code) in [
        ("# seal lint: ignore plain-secret: keys of the tests\n", 0),
        ("# seal lint: ignore plain-secret\n", 1),
        ("# seal lint: ignore scope: a reason\n", 1),
        ("", 1),
    ] {
        let (exit_code, _) = lint("a.yaml", &format!("{comment}{secret}"));
        assert_eq!(exit_code, Some(code), "{comment}");
    }
    for (rule, code) in [
        (
            "{path: 'tree/', ignore: {plain-secret: keys of the tests}}",
            0,
        ),
        (
            "{path: 'other/', ignore: {plain-secret: keys of the tests}}",
            1,
        ),
        ("{path: 'tree/', ignore: {scope: keys of the tests}}", 1),
    ] {
        let tree = Tree::new();
        tree.write(
            "tree/a.json",
            r#"{"apiVersion":"v1","kind":"Secret","stringData":{"a":"hunter2"}}"#,
        );
        tree.write(".seal.yaml", &format!("rules: [{rule}]\n"));
        let output = tree.seal(&["lint", "tree"]);
        assert_eq!(output.status.code(), Some(code), "{rule}: {output:?}");
        assert_eq!(
            stderr(&output).contains("exempted, with a reason"),
            code == 0,
            "{rule}: {output:?}"
        );
    }
    for (rule, expected) in [
        (
            "{path: a, ignore: {plain-secret: ''}}",
            "a reason must be a string, not empty",
        ),
        (
            "{path: a, ignore: {plain-secret: }}",
            "a reason must be a string",
        ),
        (
            "{path: a, ignore: [plain-secret]}",
            "ignore must be a mapping",
        ),
        (
            "{path: a, ignore: {nothing: x}}",
            "unknown field \"nothing\"",
        ),
        (
            "{path: a, ignore: {rules-file: x}}",
            "unknown field \"rules-file\"",
        ),
    ] {
        let tree = Tree::new();
        tree.write(".seal.yaml", &format!("rules: [{rule}]\n"));
        let output = tree.seal(&["config", "explain", "a.yaml"]);
        assert!(stderr(&output).contains(expected), "{rule}: {output:?}");
    }
}

#[test]
fn the_hook_blocks_only_files_with_values() {
    for (text, code) in [
        ("stringData: {a: '${A}'}\n", 0),
        ("stringData: {a: hunter2}\n", 1),
    ] {
        let tree = Tree::new();
        tree.git(&["init", "-q", "."]);
        tree.write("tree/a.yaml", &format!("{HEADER}{text}"));
        tree.write("tree/Kustomization", "resources: [a.yaml]\n");
        tree.git(&["add", "tree"]);
        let output = tree.seal(&["lint", "--staged"]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
    let tree = Tree::new();
    tree.git(&["init", "-q", "."]);
    tree.write(
        "tree/kustomization.yaml",
        "secretGenerator: [{literals: [a=hunter2]}]\n",
    );
    tree.git(&["add", "tree"]);
    assert_eq!(tree.seal(&["lint", "--staged"]).status.code(), Some(1));
}

#[test]
fn lint_counts_items_with_an_unknown_key_and_tries_keys() {
    let tree = Tree::new();
    tree.seal_without_hints("db", "tree/db.yaml");
    let lint = |extra_args: &[&str]| {
        let output = tree.seal(&[&["lint", "tree"], extra_args].concat());
        (output.status.code(), stdout(&output) + &stderr(&output))
    };
    let (code, output) = lint(&["--cert", "cert.pem"]);
    assert_eq!(code, Some(0));
    assert!(
        output.contains("1 item could not be checked: no key hint"),
        "{output}"
    );
    let (code, output) = lint(&[]);
    assert_eq!(code, Some(0));
    assert!(output.contains("1 item could not be checked"), "{output}");
    for args in [
        &["--cert", "cert.pem", "--keys", "key.pem"][..],
        &["--keys", "key.pem"],
        &["--keys", "key.pem", "--keys", "key.pem"],
    ] {
        let (code, output) = lint(args);
        assert_eq!(code, Some(0));
        assert!(!output.contains("not be checked"), "{args:?}: {output}");
    }
    // A different size is enough to distinguish the keys.
    let (code, output) = lint(&["--cert", "other.pem"]);
    assert_eq!(code, Some(1));
    assert!(
        output.contains("[key-size]") && !output.contains("not be checked"),
        "{output}"
    );
}

#[test]
fn lint_with_keys_reports_items_for_an_old_key_or_without_a_key() {
    let tree = Tree::new();
    tree.seal_without_hints("db", "tree/db.yaml");
    tree.write("new.pem", NEW_CERTIFICATE);
    tree.write("new-key.pem", NEW_KEY);
    let lint = |keys: &[&str]| {
        let common_args = ["lint", "tree", "--cert", "new.pem"];
        let keys = keys.iter().flat_map(|key| ["--keys", key]);
        let output = tree.seal(&common_args.into_iter().chain(keys).collect::<Vec<_>>());
        (output.status.code(), stdout(&output) + &stderr(&output))
    };
    let (code, output) = lint(&["key.pem"]);
    assert_eq!(code, Some(1));
    assert!(output.contains("[other-key]"), "{output}");
    let (code, output) = lint(&["new-key.pem"]);
    assert_eq!(code, Some(1));
    assert!(output.contains("[closed-item]"), "{output}");
    let (code, output) = lint(&[]);
    assert_eq!(code, Some(0));
    assert!(output.contains("1 item could not be checked"), "{output}");
}

const NEW_CERTIFICATE: &str =
    include_str!("../../../../kubeseal-rs/tests/seal/key-fixtures/key-2025.pem");
const NEW_KEY: &str =
    include_str!("../../../../kubeseal-rs/tests/seal/key-fixtures/state/keys/key-2025.yaml");
