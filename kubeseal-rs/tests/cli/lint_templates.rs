//! Tests that `seal lint` and the hook do not treat templates and malformed manifests as empty.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");

fn run(directory: &Path, program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .current_dir(directory)
        .env("HOME", directory)
        .stdin(Stdio::null())
        .output()
        .expect("the command starts")
}

/// Returns the rules of the findings in a directory, sorted and without duplicates, and the exit code.
fn lint(directory: &Path, args: &[&str]) -> (Vec<String>, Option<i32>) {
    let output = run(
        directory,
        SEAL,
        &[&["lint", "--format", "json"], args].concat(),
    );
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = findings.as_array().cloned().unwrap_or_default();
    let rule =
        |finding: &serde_json::Value| finding["rule"].as_str().unwrap_or_default().to_owned();
    let mut rules: Vec<String> = findings.iter().map(rule).collect();
    rules.sort();
    rules.dedup();
    (rules, output.status.code())
}

fn lint_file(name: &str, content: &[u8]) -> (Vec<String>, Option<i32>) {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join(name), content).expect("the file");
    lint(directory.path(), &["."])
}

fn assert_finding(rule: &str, name: &str, content: &[u8]) {
    let (rules, code) = lint_file(name, content);
    let text = String::from_utf8_lossy(content);
    assert_eq!(rules, [rule], "{name}: {text}");
    assert_eq!(code, Some(1), "{name}: {text}");
}

/// Attack: a committer adds a kustomization with literals in a form that cannot be parsed, so that lint skips it.
#[test]
fn a_kustomization_that_cannot_be_read_is_reported() {
    let utf16 = |text: &str| {
        let units = text.encode_utf16();
        units.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()
    };
    let generator = "secretGenerator:\n- name: db\n  literals: [a=hunter2]\n";
    let latin1 = [b"# caf\xe9\n".as_slice(), generator.as_bytes()].concat();
    let conflict = "secretGenerator:\n- name: db\n<<<<<<< HEAD\n  literals: [a=x]\n=======\n  \
                    literals: [a=hunter2]\n>>>>>>> b\n";
    for (name, content, rule) in [
        ("kustomization.yaml", latin1.clone(), "malformed-file"),
        ("kustomization.yml", utf16(generator), "malformed-file"),
        ("Kustomization", conflict.into(), "malformed-file"),
        (
            "kustomization.yaml",
            format!("{generator}   a: [").into(),
            "malformed-file",
        ),
        ("generators.yaml", latin1, "malformed-file"),
        (
            "generator.yaml",
            b"kind: SecretGenerator\nliterals: [a=hunter2\n".to_vec(),
            "malformed-file",
        ),
        (
            "kustomization.yaml",
            generator.replace("db", "{{ .x }}").into(),
            "plain-secret",
        ),
        (
            "Kustomization",
            "secretGenerator:\n- name: db\n  literals:\n  {{ if .x }}\n  - a=hunter2\n  {{ end }}\n".into(),
            "plain-secret",
        ),
    ] {
        assert_finding(rule, name, &content);
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join(name), &content).expect("the file");
        let init = run(directory.path(), "git", &["init", "-q", "."]);
        assert!(init.status.success(), "{init:?}");
        let add = run(directory.path(), "git", &["add", "."]);
        assert!(add.status.success(), "{add:?}");
        let result = lint(directory.path(), &["--staged"]);
        assert_eq!(result, (vec![rule.to_owned()], Some(1)), "{name}, staged");
    }
}

/// Attack: a committer stages only the file with the values, so that the hook overlooks it. The kustomization that
/// reads the file is committed, and is a template.
#[test]
fn the_hook_finds_a_file_that_a_templated_kustomization_reads() {
    let directory = tempfile::tempdir().expect("a directory");
    let kustomization = "secretGenerator:\n- name: {{ .x }}\n  envs: [db.env]\n";
    fs::write(directory.path().join("kustomization.yaml"), kustomization).expect("a file");
    fs::write(directory.path().join("db.env"), "a=hunter2\n").expect("a file");
    for args in [
        &["init", "-q", "."][..],
        &["add", "kustomization.yaml"],
        &[
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@x",
            "commit",
            "-qm",
            "x",
        ],
        &["add", "db.env"],
    ] {
        let output = run(directory.path(), "git", args);
        assert!(output.status.success(), "{output:?}");
    }
    let (rules, _) = lint(directory.path(), &["--staged"]);
    assert_eq!(rules, ["plain-secret"]);
}

/// Attack: a committer writes the literals of a generator in a form that kustomize rejects and a reviewer overlooks.
#[test]
fn a_generator_of_the_wrong_shape_is_reported() {
    for text in [
        "secretGenerator: {name: db, literals: [a=hunter2]}\n",
        "secretGenerator: [{name: db, literals: a=hunter2}]\n",
        "secretGenerator: [{name: db, literals: {a: hunter2}}]\n",
    ] {
        assert_finding("plain-secret", "kustomization.yaml", text.as_bytes());
    }
    let text = "secretGenerator: [{name: db, literals: }, {literals: {a: CHANGEME}}, {literals: '${A}'}]\n";
    let result = lint_file("kustomization.yaml", text.as_bytes());
    assert_eq!(result, (vec![], Some(0)));
}

fn sealed_manifest(metadata: &str, data: &str) -> String {
    format!(
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {metadata}\nspec:\n  encryptedData: {data}\n"
    )
}

/// Attack: a committer adds a plain value to a SealedSecret that template actions make invalid YAML, so that lint
/// overlooks it.
#[test]
fn finds_plain_values_in_a_templated_sealed_secret() {
    for (metadata, data, rule) in [
        ("{name: {{ .x }}}", "{k: hunter2plain}", "malformed-value"),
        (
            "{name: db, labels: {{ .y }}}",
            "{k: hunter2plain}",
            "malformed-value",
        ),
        (
            "{name: {{ .x }}}",
            "\n    {{- if .x }}\n    k: hunter2\n    {{- else }}\n    k: {{ .y }}\n    {{- end }}",
            "malformed-value",
        ),
        (
            "{name: {{ .x }}}",
            "{k: \"{{ .a }}hunter2\"}",
            "malformed-value",
        ),
        (
            "{name: {{ .x }}, annotations: {{ .a }}}",
            "{k: [hunter2]}",
            "malformed-value",
        ),
        ("{name: {{ .x }}}", "hunter2", "malformed-object"),
        (
            "{name: {{ .x }}}",
            "{}\nstringData: {a: hunter2}",
            "unknown-field",
        ),
    ] {
        assert_finding(rule, "a.yaml", sealed_manifest(metadata, data).as_bytes());
    }
}

#[test]
fn accepts_values_that_a_sealed_secret_of_a_chart_inserts() {
    for (metadata, data) in [
        ("{name: {{ .x }}}", "{k: {{ .Values.k }}}"),
        (
            "{name: {{ .x | default \"db\" }}}",
            "{{ .Values.sealed | toYaml | nindent 4 }}",
        ),
        (
            "\n  name: db\n  annotations: {{ toYaml .a | nindent 4 }}\n  labels:\n    {{- include \"l\" . | nindent 4 }}",
            "\n    {{- range $k, $v := .Values.sealed }}\n    {{ $k }}: {{ $v | quote }}\n    {{- end }}",
        ),
        (
            "{name: {{ .x }}}",
            "\n    {{- if .x }}\n    k: {{ .a }}\n    {{- else }}\n    k:\n      {{ .b }}\n    {{- end }}",
        ),
    ] {
        let text = sealed_manifest(metadata, data);
        assert_eq!(
            lint_file("a.yaml", text.as_bytes()),
            (vec![], Some(0)),
            "{text}"
        );
    }
}

const SECRET_HEAD: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\n";

/// Attack: a committer adds a line that is invalid YAML even with placeholders in place of the template actions, so
/// that lint skips the values around it.
#[test]
fn checks_the_readable_values_of_a_partly_readable_template() {
    for line in [
        "  {{ .x }}: [ {{ .y }\n",
        "  b: \"{{ .x }}\" {{ .y }}\n",
        " b: {{ .x }}\n",
        "  {{ .x }} {{ .y }}: {{ .z }}: {{ .z }}\n",
        "  b: {{ .x }}\n  - {{ .y }}\n",
    ] {
        let text = format!("{SECRET_HEAD}stringData:\n  a: hunter2\n{line}");
        let (rules, code) = lint_file("a.yaml", text.as_bytes());
        assert!(
            rules.contains(&"plain-secret".to_owned()),
            "{line}: {rules:?}"
        );
        assert_eq!(code, Some(1), "{line}");
    }
}

/// Attack: a committer puts the value into a line that cannot be parsed, so that lint overlooks it.
#[test]
fn reports_an_unreadable_line_of_a_secret_with_a_literal() {
    for line in [
        "  b: \"hunter2\" {{ .y }}\n",
        "  b: [ hunter2 {{ .y }}\n",
        "  b: {{ .x }}\n   c: hunter2\n",
        "  {{ .x }}: \"{{ .y }}\" {{ default \"hunter2\" .z }}\n",
        "  b: \"{{ .x }}\" \"hunter2 {{ .y }}\n",
    ] {
        let text = format!("{SECRET_HEAD}stringData:\n{line}");
        assert_finding("malformed-file", "a.yaml", text.as_bytes());
    }
}

#[test]
fn reports_unchecked_lines_as_notes_in_every_format() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = format!("{SECRET_HEAD}stringData:\n  a: \"{{{{ .x }}}}\" {{{{ .y }}}}\n");
    fs::write(directory.path().join("a.yaml"), text).expect("the file");
    for (format, want) in [
        ("text", "a.yaml:5: note: "),
        ("json", "\"severity\": \"note\""),
        ("sarif", "\"ruleId\": \"not-checked\""),
        ("github", "::notice file=a.yaml,line=5,title=not-checked::"),
    ] {
        let output = run(directory.path(), SEAL, &["lint", "--format", format]);
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(printed.contains(want), "{format}: {printed}");
        assert_eq!(output.status.code(), Some(0), "{format}");
    }
}

/// Attack: a committer lets the template output the kind of a Secret, so that a search for the kind does not find the
/// Secret.
#[test]
fn finds_a_secret_whose_kind_a_template_outputs() {
    let kinds = [
        "kind: {{ .Values.kind | default \"Secret\" }}",
        "kind: {{ \"Secret\" }}",
        "kind: \"{{ .Values.kind }}\"",
        "kind: ${KIND}",
        "kind: {{ if .x }}Secret{{ else }}ConfigMap{{ end }}",
        "kind: {{ if .x }}ConfigMap{{ else }}Secret{{ end }}",
        "{{ if .x }}\nkind: Secret\n{{ else }}\nkind: ConfigMap\n{{ end }}",
        "{{ if .x }}\nkind: ConfigMap\n{{ else }}\nkind: Secret\n{{ end }}",
        "{% if x %}\nkind: Secret\n{% else %}\nkind: ConfigMap\n{% endif %}",
        "kind: {% if x %}Secret{% else %}ConfigMap{% endif %}",
    ];
    for kind in kinds {
        for data in ["stringData: {a: hunter2}", "data: {a: aHVudGVyMg==}"] {
            let text = format!("apiVersion: v1\n{kind}\nmetadata: {{name: db}}\n{data}\n");
            let (rules, code) = lint_file("a.yaml", text.as_bytes());
            assert!(
                rules.contains(&"plain-secret".to_owned()),
                "{text}: {rules:?}"
            );
            assert_eq!(code, Some(1), "{text}");
        }
    }
    for text in [
        "apiVersion: {{ \"v1\" }}\nkind: Secret\nstringData: {a: hunter2}\n",
        "apiVersion: \"{{ .v }}\"\nkind: Secret\nstringData: {a: hunter2}\n",
        "apiVersion: v1\nkind: Secret\n{{ \"stringData\" }}: {a: hunter2}\n",
        "apiVersion: v1\nkind: Secret\n{{ if .x }}stringData{{ else }}data{{ end }}:\n  a: hunter2\n",
        "apiVersion: v1\nkind: {{ \"SecretList\" }}\nitems: [{metadata: {name: db}, stringData: {a: hunter2}}]\n",
    ] {
        assert_finding("plain-secret", "a.yaml", text.as_bytes());
    }
}

#[test]
fn accepts_other_objects_whose_kind_a_template_outputs() {
    for text in [
        "apiVersion: apps/v1\nkind: {{ .Values.kind }}\nmetadata: {name: db}\nspec: {replicas: 1}\n",
        "apiVersion: v1\nkind: {{ .Values.kind }}\nmetadata: {name: db}\ndata: {a: plain text}\n",
        "apiVersion: v1\nkind: {{ .Values.kind }}\nmetadata: {name: db}\nstringData: {a: {{ .Values.a }}}\n",
        "apiVersion: v1\nkind: {{ .Values.kind }}\nmetadata: {name: db}\ndata: {{ toYaml .Values.data | nindent 2 }}\n",
    ] {
        assert_eq!(
            lint_file("a.yaml", text.as_bytes()),
            (vec![], Some(0)),
            "{text}"
        );
    }
}

/// Attack: a committer writes the value in place of a mapping. The API server refuses the Secret, but the Git history
/// keeps the value.
#[test]
fn finds_a_secret_with_a_value_instead_of_a_mapping() {
    for field in [
        "data: hunter2",
        "data: aHVudGVyMg==",
        "stringData: hello",
        "stringData: [a, b]",
        "data: [{name: a, value: hunter2}]",
        "stringData: 12345",
        "stringData: |\n  a: hunter2",
    ] {
        assert_finding(
            "plain-secret",
            "a.yaml",
            format!("{SECRET_HEAD}{field}\n").as_bytes(),
        );
    }
    assert_finding(
        "plain-secret",
        "a.yaml",
        b"metadata: {name: db}\nstringData: hunter2\n",
    );
    for field in [
        "data: ",
        "stringData: []",
        "data: '${DATA}'",
        "data: {{ toYaml .x | indent 2 }}",
    ] {
        let text = format!("{SECRET_HEAD}{field}\n");
        assert_eq!(
            lint_file("a.yaml", text.as_bytes()),
            (vec![], Some(0)),
            "{text}"
        );
    }
}

#[cfg(unix)]
#[test]
fn checks_the_other_named_files_if_one_cannot_be_read() {
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["a.yaml", "z.yaml"] {
        let text = format!("{SECRET_HEAD}stringData: {{a: hunter2}}\n");
        fs::write(directory.path().join(name), text).expect("the file");
    }
    // The file is sparse, and larger than the size limit.
    let large_file = fs::File::create(directory.path().join("m.yaml")).expect("a file");
    large_file.set_len(1 << 40).expect("a sparse file");
    let output = run(
        directory.path(),
        SEAL,
        &["lint", "a.yaml", "m.yaml", "z.yaml"],
    );
    let printed = String::from_utf8_lossy(&output.stdout);
    for name in ["a.yaml:1", "z.yaml:1"] {
        assert!(printed.contains(name), "{printed}");
    }
    assert_eq!(output.status.code(), Some(2));
}
