//! Tests input in unusual forms. `seal lint` and the hook must find every form of a Secret that the sealing commands
//! accept, and Secrets in templates, kustomizations and strings of other objects. Unusable input is reported.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{assert_code, assert_contains, combined_output};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const KUBESEAL: &str = env!("CARGO_BIN_EXE_kubeseal");
const CERT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/fixtures/cert.pem");

fn run(directory: &Path, program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .current_dir(directory)
        .env("HOME", directory)
        .env("KUBECONFIG", "/nowhere")
        .stdin(Stdio::null())
        .output()
        .expect("the command starts")
}

fn git(directory: &Path, args: &[&str]) {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
    let output = run(directory, "git", &[&identity, args].concat());
    assert!(output.status.success(), "{}", combined_output(&output));
}

fn directory_with(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        write(directory.path(), name, text.as_bytes());
    }
    directory
}

fn write(directory: &Path, name: &str, bytes: &[u8]) {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().expect("a directory"))
        .expect("the test directory is writable");
    fs::write(path, bytes).expect("the test directory is writable");
}

/// Runs lint in a directory. Returns each finding as `rule file:line`.
fn findings(directory: &Path, args: &[&str]) -> BTreeSet<String> {
    let lint = ["lint", "--format", "json"];
    let output = run(directory, SEAL, &[&lint, args].concat());
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let findings = findings.as_array().cloned().unwrap_or_default();
    let finding = |one: &serde_json::Value| {
        let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
        format!("{} {}:{}", text("rule"), text("file"), one["line"])
    };
    findings.iter().map(finding).collect()
}

fn has_plain_secret(findings: &BTreeSet<String>, file: &str) -> bool {
    let start = format!("plain-secret {file}:");
    findings.iter().any(|finding| finding.starts_with(&start))
}

/// Returns a manifest, in YAML or JSON, with an object that has these fields. `container` determines whether the object
/// is alone, after another object, or in a list.
fn manifest(
    version: Option<&str>,
    kind: Option<&str>,
    container: &str,
    is_json: bool,
    data: &str,
) -> String {
    let field = |name: &str, value: Option<&str>| {
        value.map_or_else(String::new, |value| format!("\"{name}\": {value}, "))
    };
    let object = format!(
        "{{{}{}\"metadata\": {{\"name\": \"db\", \"namespace\": \"shop\"}}, {data}}}",
        field("apiVersion", version),
        field("kind", kind),
    );
    let list = |kind: &str, item: &str| format!("{{\"kind\": \"{kind}\", \"items\": [{item}]}}");
    let text = match container {
        "alone" => object,
        "after" => {
            format!("{{\"kind\": \"Secret\", \"metadata\": {{\"name\": \"a\"}}}}\n---\n{object}")
        }
        "nested" => list("List", &list("List", &object)),
        kind => list(kind, &object),
    };
    // A preceding line makes the file YAML for every parser.
    if is_json {
        text
    } else {
        format!("# a file\n--- \n{text}\n")
    }
}

/// Attack: a committer writes a Secret in a form that `kubeseal` or `seal` accepts, and lint does not recognize.
#[test]
fn reports_forms_that_kubeseal_or_seal_accepts_as_a_secret() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut count, mut names) = (0, Vec::new());
    for version in [
        None,
        Some("\"v1\""),
        Some("\"\""),
        Some("null"),
        Some("\"v2\""),
    ] {
        for kind in [
            None,
            Some("\"Secret\""),
            Some("\"\""),
            Some("null"),
            Some("\"secret\""),
            Some("\"ConfigMap\""),
        ] {
            for container in ["alone", "after", "List", "SecretList", "nested"] {
                count += 1;
                let data = [
                    "\"stringData\": {\"a\": \"hunter2\"}",
                    "\"data\": {\"a\": \"aHVudGVyMg==\"}",
                ];
                let is_json = count % 4 < 2;
                let text = manifest(version, kind, container, is_json, data[count % 2]);
                let name = format!("{count}.{}", if is_json { "json" } else { "yaml" });
                write(directory.path(), &name, text.as_bytes());
                names.push((name, text));
            }
        }
    }
    let lint_findings = findings(directory.path(), &["."]);
    let mut accepted_count = 0;
    for (name, text) in &names {
        let kubeseal = [
            "--cert",
            CERT,
            "--allow-empty-data",
            "-n",
            "shop",
            "-f",
            name,
        ];
        let seal = [
            "--cert",
            CERT,
            "--stdout",
            "--allow-empty",
            "-n",
            "shop",
            name,
        ];
        let can_seal = |program, args: &[&str]| {
            let output = run(directory.path(), program, args);
            let text = String::from_utf8_lossy(&output.stdout);
            let has_item = text.contains(" a:") || text.contains("\"a\":");
            // `seal --stdout` also prints the documents that it does not seal.
            let is_kept = text.contains("hunter2") || text.contains("aHVudGVyMg");
            output.status.success() && has_item && !is_kept
        };
        if can_seal(KUBESEAL, &kubeseal) || can_seal(SEAL, &seal) {
            accepted_count += 1;
            assert!(
                has_plain_secret(&lint_findings, name),
                "{text}\n{lint_findings:?}"
            );
        }
    }
    assert!(accepted_count > 50, "{accepted_count}");
}

#[test]
fn does_not_report_files_without_secrets() {
    let directory = directory_with(&[
        ("values.yaml", "data: {user: abcd}\nsecretName: db\n"),
        (
            "response.json",
            "{\"data\": {\"id\": \"abcd1234\"}, \"secret\": true}",
        ),
        (
            "map.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: secrets}\ndata: {a: abcd}\n",
        ),
        (
            "ref.yaml",
            "kind: Deployment\nref: {kind: Secret, name: db}\n",
        ),
        (
            "patch.yaml",
            "metadata: {name: secret}\ndata: {a: 'no base64'}\n",
        ),
        (
            "text.yaml",
            "kind: ConfigMap\ndata:\n  a: |\n    kind: Secret\n    metadata: {name: a}\n",
        ),
    ]);
    assert_eq!(findings(directory.path(), &["."]), BTreeSet::new());
}

fn utf16(text: &str, mark: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
    [mark, text]
        .concat()
        .encode_utf16()
        .flat_map(unit)
        .collect()
}

/// Attack: a committer adds a Secret in an encoding in which a text search does not find it.
#[test]
fn reports_a_file_in_another_encoding() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {a: hunter2}\n";
    let sealed =
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nspec: {encryptedData: {a: b}}\n";
    let utf32 = |text: &str| -> Vec<u8> {
        text.chars()
            .flat_map(|c| u32::from(c).to_le_bytes())
            .collect()
    };
    let mut truncated = utf16(text, "\u{feff}", u16::to_le_bytes);
    truncated.pop();
    for (why, bytes, want) in [
        ("little-endian", utf16(text, "", u16::to_le_bytes), "UTF-16"),
        ("big-endian", utf16(text, "", u16::to_be_bytes), "UTF-16"),
        ("truncated", truncated, "UTF-16"),
        (
            "a SealedSecret",
            utf16(sealed, "", u16::to_le_bytes),
            "UTF-16",
        ),
        ("UTF-32", utf32(text), "UTF-32"),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), "db.yaml", &bytes);
        for args in [&["lint", "."][..], &["lint", "db.yaml"]] {
            let output = run(directory.path(), SEAL, args);
            assert_eq!(output.status.code(), Some(1), "{why}");
            assert_contains(&output, want, why);
        }
        git(directory.path(), &["init", "-q"]);
        git(directory.path(), &["add", "."]);
        let output = run(directory.path(), SEAL, &["lint", "--staged"]);
        assert_contains(&output, want, why);
    }
    let directory = tempfile::tempdir().expect("a directory");
    write(
        directory.path(),
        "db.yaml",
        &utf16(sealed, "", u16::to_le_bytes),
    );
    let output = run(
        directory.path(),
        SEAL,
        &["rotate", "--dry-run", "--key", CERT, "."],
    );
    assert_code(&output, 2, "");
    let config_map = utf16("kind: ConfigMap\n", "", u16::to_le_bytes);
    write(directory.path(), "db.yaml", &config_map);
    assert_eq!(findings(directory.path(), &["."]), BTreeSet::new());
}

/// Attack: a committer stages only the file with the value of a `secretGenerator`, after the kustomization was
/// committed, so that the hook overlooks it.
#[test]
fn the_hook_checks_a_value_file_whose_kustomization_is_committed() {
    for (kustomization, text, file, is_found) in [
        (
            "kustomization.yaml",
            "secretGenerator: [{name: a, envs: [password.env]}]\n",
            "password.env",
            true,
        ),
        (
            "kustomization.yaml",
            "secretGenerator: [{name: a, files: [a=./sub/../sub/p.txt]}]\n",
            "sub/p.txt",
            true,
        ),
        (
            "base/kustomization.yml",
            "secretGenerator: [{name: a, files: [../secrets/p.txt]}]\n",
            "secrets/p.txt",
            true,
        ),
        (
            "base/app/Kustomization",
            "secretGenerator: [{name: a, env: ../../p.env}]\n",
            "p.env",
            true,
        ),
        (
            "app/generator.yaml",
            "kind: SecretGenerator\nmetadata: {name: a}\nfiles: [p.txt]\n",
            "app/p.txt",
            true,
        ),
        (
            "kustomization.yaml",
            "configMapGenerator: [{name: a, envs: [p.env]}]\n",
            "p.env",
            false,
        ),
        (
            "kustomization.yaml",
            "secretGenerator: [{name: a, envs: [other.env]}]\n",
            "p.env",
            false,
        ),
    ] {
        let directory = directory_with(&[(kustomization, text)]);
        let root = directory.path();
        git(root, &["init", "-q"]);
        git(root, &["add", "."]);
        git(root, &["commit", "-qm", "a"]);
        write(root, file, b"PASSWORD=hunter2\n");
        git(root, &["add", file]);
        let lint_findings = findings(root, &["--staged"]);
        assert_eq!(
            has_plain_secret(&lint_findings, kustomization),
            is_found,
            "{kustomization}, {text}: {lint_findings:?}"
        );
        write(root, file, b"${PASSWORD}\n");
        git(root, &["add", file]);
        assert_eq!(findings(root, &["--staged"]), BTreeSet::new(), "{text}");
    }
}

const HELM_SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {{ include \"app.name\" . }}\n  labels:\n    \
                    {{- include \"app.labels\" . | nindent 4 }}\nstringData:\n";

/// Attack: a committer writes a real value into a template with actions that make the file invalid YAML.
#[test]
fn finds_a_real_value_in_a_file_with_template_actions() {
    for items in [
        "  a: {{ .Values.a }}\n  b: hunter2\n",
        "  a: {{ .Values.a | quote }}\n  b: \"{{ .Values.b | default \"hunter2\" }}\"\n",
        "  {{- if .Values.on }}\n  b: hunter2\n  {{- end }}\n",
        "  {{- if .Values.on }}\n  b: hunter2\n  {{- else }}\n  b: {{ .Values.b }}\n  {{- end }}\n",
        "  {{- if .Values.on }}\n  b: {{ .Values.b }}\n  {{- else }}\n  b: hunter2\n  {{- end }}\n",
        "  b: {{ .Values.user }}:hunter2\n",
        "  b: |\n    hunter2\n  c: {{ .Values.c }}\n",
        "  {{ .Values.key }}: hunter2\n",
        "  {{- range $k, $v := .Values.all }}\n  {{ $k }}: {{ $v }}\n  {{- end }}\n  b: hunter2\n",
        "  {{- $p := \"hunter2\" }}\n  b: {{ $p }}\n",
        "  {{- /* a: b }} */}}\n  b: hunter2\n",
        "  {% if on %}\n  b: hunter2\n  {% endif %}\n",
    ] {
        for head in [
            "",
            "{{- if .Values.secret }}\n",
            "{{/* a comment */}}\n---\n{{ template \"x\" . }}\n---\n",
        ] {
            let text = format!("{head}{HELM_SECRET}{items}");
            let directory = directory_with(&[("templates/db.yaml", &text)]);
            let lint_findings = findings(directory.path(), &["."]);
            assert!(
                has_plain_secret(&lint_findings, "templates/db.yaml"),
                "{text}\n{lint_findings:?}"
            );
            git(directory.path(), &["init", "-q"]);
            git(directory.path(), &["add", "."]);
            let lint_findings = findings(directory.path(), &["--staged"]);
            assert!(
                has_plain_secret(&lint_findings, "templates/db.yaml"),
                "staged: {text}\n{lint_findings:?}"
            );
        }
    }
}

#[test]
fn accepts_a_template_without_a_value() {
    for items in [
        "  a: {{ .Values.a }}\n  b: {{ .Values.b | b64enc | quote }}\n",
        "  {{- range $k, $v := .Values.all }}\n  {{ $k }}: {{ $v | quote }}\n  {{- end }}\n",
        "  {{- toYaml .Values.data | nindent 2 }}\n",
        "  a: {{ required \"set a\" .Values.a }}\n  {{- with .Values.b }}\n  b: {{ . }}\n  {{- end }}\n",
        "  a: {{ include \"app.password\" . | b64enc }} # from the vault\n",
        "  a: {{ if .Values.a }}{{ .Values.a }}{{ else }}{{ randAlphaNum 32 }}{{ end }}\n",
    ] {
        let directory = directory_with(&[("templates/db.yaml", &format!("{HELM_SECRET}{items}"))]);
        let output = run(directory.path(), SEAL, &["lint", "."]);
        assert_code(&output, 0, items);
        assert!(
            !combined_output(&output).contains("render"),
            "{items}: {}",
            combined_output(&output)
        );
    }
}

#[test]
fn reports_a_template_that_cannot_be_checked() {
    for text in [
        format!("{HELM_SECRET}  a: {{{{ .a }}}}\n b: hunter2\n: - x\n"),
        format!("{HELM_SECRET}  {{{{ \"b: hunter2\" }}}}\n  a: [\n"),
        format!("{HELM_SECRET}  a: {{{{ .a\n"),
    ] {
        let directory = directory_with(&[("db.yaml", &text)]);
        let output = run(directory.path(), SEAL, &["lint", "."]);
        assert!(
            combined_output(&output).contains("db.yaml:")
                && combined_output(&output).contains("render"),
            "{text}: {}",
            combined_output(&output)
        );
    }
}

/// Attack: a committer adds a Secret as a value or inside a string of another object, so that lint overlooks it.
#[test]
fn finds_a_secret_inside_another_object_with_its_line() {
    for (why, text, line) in [
        (
            "a string in a ConfigMap",
            "kind: ConfigMap\ndata:\n  db.yaml: |\n    # a\n    kind: Secret\n    stringData: {a: hunter2}\n",
            5,
        ),
        (
            "two documents in Helm values",
            "extraDeploy:\n- |-\n  kind: ConfigMap\n  ---\n  apiVersion: v1\n  kind: Secret\n  stringData:\n    a: hunter2\n",
            5,
        ),
        (
            "a value",
            "extraManifests:\n- apiVersion: v1\n  kind: Secret\n  data: {a: aHVudGVyMg==}\n",
            2,
        ),
        (
            "a template in Helm values",
            "deploy:\n  - |\n    kind: Secret\n    metadata: {name: {{ .x }}}\n    stringData: {a: hunter2, b: {{ .y }}}\n",
            3,
        ),
        (
            "a string inside a string",
            "a: |\n  b: |\n    kind: Secret\n    stringData: {a: hunter2}\n",
            3,
        ),
        (
            "an annotation of kubectl",
            "kind: Secret\nmetadata:\n  annotations:\n    a: '{\"kind\":\"Secret\",\"data\":{\"a\":\"aHVudGVyMg==\"}}'\n",
            4,
        ),
        (
            "a double-quoted string",
            "a: b\nkept: \"kind: Secret\\nstringData: {a: hunter2}\\n\"\n",
            2,
        ),
        (
            "an OpenShift template",
            "kind: Template\nobjects:\n- kind: Secret\n  stringData: {a: hunter2}\n",
            3,
        ),
    ] {
        let directory = directory_with(&[("x.yaml", text)]);
        let lint_findings = findings(directory.path(), &["."]);
        assert!(
            lint_findings.contains(&format!("plain-secret x.yaml:{line}")),
            "{why}: {lint_findings:?}"
        );
    }
}

/// Attack: a committer adds a file whose aliases repeat a long string with a manifest, so that lint runs for minutes.
#[test]
fn nested_strings_are_limited_and_reported() {
    let inner = "x: &x {k: v}\n".to_owned() + &"# filler\n".repeat(2000) + "kind: Secret\n";
    let inner = format!("  {}\n", inner.trim_end().replace('\n', "\n  "));
    let text = format!("a: &a |\n{inner}b: [{}]\n", "*a, ".repeat(100));
    let directory = directory_with(&[("x.yaml", &text)]);
    let output = run(directory.path(), SEAL, &["lint", "."]);
    assert_contains(&output, "[not-checked]", "");
}

/// Attack: a committer makes the rules of a repository invalid, so that no rule applies.
#[test]
fn invalid_rules_are_an_error_even_without_a_sealed_secret() {
    for (text, line) in [
        ("rules:\n- path: a\n  scope: wide\n", 3),
        ("rules:\n- path: [\n", 3),
        ("rules: {}\n", 1),
        ("rules:\n- path: a\n  ignore: {plain-secret: ' '}\n", 3),
        ("rules:\n- path: a\n  ignore: {exemption: why}\n", 3),
    ] {
        let directory = directory_with(&[(".seal.yaml", text), ("sub/a.yaml", "a: b\n")]);
        let root = directory.path();
        git(root, &["init", "-q"]);
        git(root, &["add", "."]);
        for args in [
            &["lint"][..],
            &["lint", "sub"],
            &["lint", "sub/a.yaml"],
            &["lint", "--staged"],
            &["lint", ".seal.yaml"],
        ] {
            let output = run(root, SEAL, args);
            assert_code(&output, 2, format_args!("{args:?}"));
            let want = format!(".seal.yaml:{line}: error: ");
            assert_contains(&output, &want, format_args!("{args:?}"));
        }
        // The staged content is checked, although the work tree has been corrected.
        write(root, ".seal.yaml", b"rules: []\n");
        assert_eq!(
            run(root, SEAL, &["lint", "--staged"]).status.code(),
            Some(2)
        );
        git(root, &["add", "."]);
        assert_eq!(
            run(root, SEAL, &["lint", "--staged"]).status.code(),
            Some(0)
        );
    }
}

/// Returns a certificate that was valid for one day.
fn expired_certificate() -> String {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    params.self_signed(&key).expect("a certificate").pem()
}

#[test]
fn reports_an_unusable_certificate_with_its_reason() {
    let key = "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n";
    let directory = directory_with(&[("expired.pem", &expired_certificate()), ("key.pem", key)]);
    let root = directory.path();
    let create = [
        "create",
        "db",
        "-n",
        "shop",
        "--no-hints",
        "--from-file",
        "a=key.pem",
        "--cert",
        CERT,
        "-w",
        "db.yaml",
    ];
    assert!(run(root, SEAL, &create).status.success());
    let output = run(root, SEAL, &["lint", "--cert", "expired.pem", "."]);
    let text = combined_output(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("expired.pem:1: error: the certificate expired.pem expired on "),
        "{text}"
    );
    assert!(
        text.contains("2020") && !text.contains("no certificate is available"),
        "{text}"
    );
    for (cert, want) in [
        ("missing.pem", "open missing.pem: no such file or directory"),
        (
            "key.pem",
            "it contains a private key, which must be kept secret",
        ),
        (
            "db.yaml",
            "data does not contain any valid RSA or ECDSA certificates",
        ),
    ] {
        for args in [
            &["lint", "--cert", cert, "."][..],
            &["lint", "--cert", cert, "key.pem"],
            &["cert", "show", cert],
        ] {
            let output = run(root, SEAL, args);
            assert_code(&output, 2, format_args!("{args:?}"));
            assert_contains(&output, want, format_args!("{args:?}"));
            assert!(!combined_output(&output).contains("aHVudGVyMg"), "{args:?}");
        }
    }
}

#[test]
fn refuses_a_certificate_file_together_with_a_cluster_flag() {
    for flag in [
        &["--directory", "."][..],
        &["--kubeconfig", "config"],
        &["--context", "a"],
        &["--controller-name", "a"],
        &["--controller-namespace", "a"],
    ] {
        for verb in ["show", "fetch", "verify"] {
            let directory = tempfile::tempdir().expect("a directory");
            let against = ["--against", CERT];
            let extra_args = if verb == "verify" { &against[..] } else { &[] };
            let output = run(
                directory.path(),
                SEAL,
                &[&["cert", verb, CERT], flag, extra_args].concat(),
            );
            assert_eq!(output.status.code(), Some(2), "{verb} {flag:?}");
            assert_contains(&output, "cannot be used with", "");
        }
    }
}

#[test]
fn hints_of_import_name_only_its_flags() {
    let directory = directory_with(&[
        ("empty.env", "# nothing\n"),
        (
            "empty.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: shop}\n",
        ),
    ]);
    for (args, has_flag) in [
        (
            &["import", "dotenv", "a", "empty.env", "-n", "shop"][..],
            false,
        ),
        (&["import", "secret", "empty.yaml"], false),
        (&["create", "a", "-n", "shop"], false),
        (&["--stdout", "empty.yaml"], true),
    ] {
        let output = run(directory.path(), SEAL, &[args, &["--cert", CERT]].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(
            combined_output(&output).contains("--allow-empty"),
            has_flag,
            "{args:?}: {}",
            combined_output(&output)
        );
    }
}

#[test]
fn reports_a_byte_order_mark_in_a_dotenv_value() {
    let directory = directory_with(&[
        (
            "a.env",
            "\u{feff}A=1\nB=\u{feff}x\nC='\u{feff}y'\nD=x\u{feff}\n",
        ),
        ("b.env", "A=1\rB=2\r"),
    ]);
    let import = [
        "import", "dotenv", "a", "a.env", "-n", "shop", "--cert", CERT,
    ];
    let text = combined_output(&run(directory.path(), SEAL, &import));
    let marks: Vec<_> = text
        .lines()
        .filter(|line| line.contains("byte order mark"))
        .collect();
    assert_eq!(marks.len(), 2, "{text}");
    assert!(
        marks[0].contains("a.env:2: the value of B")
            && marks[1].contains("a.env:3: the value of C"),
        "{text}"
    );
    let create = [
        "create",
        "a",
        "--from-env-file",
        "b.env",
        "-n",
        "shop",
        "--cert",
        CERT,
    ];
    let output = run(directory.path(), SEAL, &create);
    assert_contains(
        &output,
        "b.env: line 1: the line contains a carriage return",
        "",
    );
}

/// Attack: an attacker puts a file without keys among the recovery keys, so that no value is recovered. Like upstream,
/// `kubeseal` accepts an empty list.
#[test]
fn accepts_an_empty_list_among_recovery_keys() {
    let directory = directory_with(&[
        ("plain.txt", "hunter2"),
        ("list.yaml", "apiVersion: v1\nkind: List\nitems: []\n"),
        ("list.json", "{\"kind\": \"SecretList\", \"items\": null}"),
        ("items.json", "{\"items\": []}"),
    ]);
    let root = directory.path();
    let create = [
        "create",
        "db",
        "-n",
        "shop",
        "--from-file",
        "a=plain.txt",
        "--cert",
        CERT,
        "-w",
        "db.yaml",
    ];
    assert!(run(root, SEAL, &create).status.success());
    let key = CERT.replace("cert.pem", "key.pem");
    for list in ["list.yaml", "list.json", "items.json"] {
        let unseal = |files: &str| {
            run(
                root,
                KUBESEAL,
                &[
                    "--recovery-unseal",
                    "--recovery-private-key",
                    files,
                    "-f",
                    "db.yaml",
                ],
            )
        };
        for files in [format!("{list},{key}"), format!("{key},{list}")] {
            let output = unseal(&files);
            assert!(
                output.status.success(),
                "{files}: {}",
                combined_output(&output)
            );
            assert_contains(&output, "contains no private key", "");
        }
        let output = unseal(list);
        assert_contains(&output, "no key could decrypt secret", "");
    }
}

/// Attack: a committer writes a file for which the error message of `sops` controls or fills the terminal.
#[cfg(unix)]
#[test]
fn shows_errors_of_sops_escaped_and_shortened() {
    use std::os::unix::fs::PermissionsExt as _;
    let script = "#!/bin/sh\nprintf 'Failed to get the data key\\n\\nGroup 0: FAILED\\n  age1x: FAILED\\n' >&2\n\
                  printf '    - | \\033[31mno identity matched\\n' >&2\nfor i in $(seq 500); do echo line $i >&2; done\nexit 1\n";
    let directory = directory_with(&[
        ("bin/sops", script),
        ("a.yaml", "a: ENC[x]\nsops: {mac: x}\n"),
    ]);
    let sops = directory.path().join("bin/sops");
    fs::set_permissions(&sops, fs::Permissions::from_mode(0o755)).expect("the test owns the file");
    let output = Command::new(SEAL)
        .args([
            "import", "sops", "db", "a.yaml", "-n", "shop", "--cert", CERT,
        ])
        .current_dir(directory.path())
        .env("HOME", directory.path())
        .env(
            "PATH",
            format!("{}:/usr/bin:/bin", directory.path().join("bin").display()),
        )
        .output()
        .expect("the command starts");
    let text = combined_output(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for want in [
        "Failed to get the data key",
        "Group 0: FAILED",
        "no identity matched",
        "…",
    ] {
        assert!(text.contains(want), "{want}: {text}");
    }
    assert!(
        !text.contains('\u{1b}') && !text.contains("line 50"),
        "{text}"
    );
}

#[test]
fn warns_about_a_secret_that_its_type_does_not_allow() {
    for (kind, data, want) in [
        (
            "kubernetes.io/tls",
            "tls.crt: aGk=",
            Some("requires the item tls.key"),
        ),
        (
            "kubernetes.io/tls",
            "tls.key: aGk=",
            Some("requires the item tls.crt"),
        ),
        (
            "kubernetes.io/ssh-auth",
            "a: aGk=",
            Some("requires the item ssh-privatekey"),
        ),
        (
            "kubernetes.io/dockerconfigjson",
            ".dockerconfigjson: aGk=",
            Some("is a JSON object"),
        ),
        ("kubernetes.io/tls", "tls.key: aGk=, tls.crt: aGk=", None),
        ("Opaque", "a: aGk=", None),
    ] {
        let secret = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: x, namespace: shop}}\ntype: {kind}\ndata: {{{data}}}\n"
        );
        let directory = directory_with(&[("a.yaml", &secret)]);
        for args in [
            &["a.yaml", "--cert", CERT][..],
            &["-i", "a.yaml", "--cert", CERT],
            &["import", "secret", "a.yaml", "--cert", CERT],
            &["import", "list", "a.yaml", "--cert", CERT],
        ] {
            let output = run(directory.path(), SEAL, args);
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            write(directory.path(), "a.yaml", secret.as_bytes());
            assert!(output.status.success(), "{args:?}: {stderr}");
            let is_warned = stderr.contains("the API server will refuse the Secret");
            assert_eq!(
                is_warned,
                want.is_some(),
                "{kind} {data} {args:?}: {stderr}"
            );
            assert!(
                stderr.contains(want.unwrap_or_default()),
                "{args:?}: {stderr}"
            );
            assert!(!stderr.contains("aGk="), "{args:?}: {stderr}");
        }
    }
}
