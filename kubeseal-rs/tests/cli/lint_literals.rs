//! Tests that lint finds values in template actions, generators and strings, and that no file makes lint slow.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::write_files;

/// The limit of processor time in seconds. Lint in quadratic time would take minutes for the large files of the tests.
const CPU_LIMIT_SECONDS: &str = "60";

/// Returns the rules of the findings in a directory, without repetition.
fn lint(directory: &Path) -> Vec<String> {
    let output = Command::new("/bin/sh")
        .args([
            "-c",
            r#"ulimit -t "$1" && shift && exec "$@""#,
            "sh",
            CPU_LIMIT_SECONDS,
        ])
        .args([env!("CARGO_BIN_EXE_seal"), "lint", "--format", "json", "."])
        .current_dir(directory)
        .env("HOME", directory)
        .stdin(Stdio::null())
        .output()
        .expect("the command starts");
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = findings.as_array().expect("a list").iter();
    let mut rules: Vec<String> = findings
        .map(|finding| finding["rule"].as_str().unwrap_or_default().to_owned())
        .collect();
    rules.sort();
    rules.dedup();
    rules
}

fn lint_files(files: &[(&str, &str)]) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a directory");
    write_files(directory.path(), files);
    lint(directory.path())
}

fn secret(before: &str, fields: &str) -> String {
    format!("{before}\napiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n{fields}\n")
}

/// Attack: a committer writes a value into a Helm, Jinja or ERB action, so that lint treats the value as an action.
#[test]
fn finds_the_values_that_a_template_outputs() {
    for (before, fields) in [
        ("", "stringData: {{ dict \"pw\" \"hunter2\" | toJson }}"),
        (
            "",
            "stringData:\n  {{- dict \"pw\" \"hunter2\" | toYaml | nindent 2 }}",
        ),
        (
            "",
            "stringData:\n{{ include \"p\" (dict \"pw\" \"hunter2\") | indent 2 }}",
        ),
        (
            "",
            "stringData:\n  a: {{ .Values.a }}\n{{ \"pw: hunter2\" | indent 2 }}",
        ),
        ("", "stringData: {pw: {{ trimPrefix \"x\" \"xhunter2\" }}}"),
        ("", "stringData:\n  pw: {{ dig \"a\" \"hunter2\" .Values }}"),
        ("", "stringData:\n  pw: {{ +4711081547 }}"),
        ("", "stringData:\n  pw: \"{# hunter2 #}\""),
        ("", "stringData:\n  pw: |\n    {# hunter2 #}"),
        ("", "stringData:\n  pw: \"{% hunter2 %}\""),
        ("", "stringData:\n  pw: '<% hunter2 %>'"),
        (
            "{{- $d := dict \"pw\" \"hunter2\" }}",
            "stringData:\n  pw: {{ $d.pw }}",
        ),
        (
            "{{- $_ := set .Values \"pw\" \"hunter2\" }}",
            "stringData:\n  pw: {{ .Values.pw }}",
        ),
        (
            "# {{ $p := \"hunter2\" }}",
            "stringData:\n  pw: \"{{ $p }}\"",
        ),
        (
            "# {{ define \"p\" }}hunter2{{ end }}",
            "stringData:\n  pw: '{{ include \"p\" . }}'",
        ),
        (
            "# {% set p %}hunter2{% endset %}",
            "stringData:\n  pw: \"{{ p }}\"",
        ),
        (
            "",
            "stringData:\n{{- range $k, $v := dict \"pw\" \"hunter2\" }}\n  {{ $k }}: {{ $v }}\n{{- end }}",
        ),
        (
            "",
            "stringData:\n{{- with \"hunter2\" }}\n  pw: {{ . }}\n{{- end }}",
        ),
    ] {
        let text = secret(before, fields);
        assert_eq!(
            lint_files(&[("secret.yaml", &text)]),
            ["plain-secret"],
            "{text}"
        );
    }
}

/// Attack: a committer hides a whole Secret from lint in a template action, or between actions that Helm removes.
#[test]
fn finds_secrets_that_template_actions_hide() {
    for text in [
        format!(
            "{{{{- $x := \"}}}}{{{{/*\" }}}}{}{{{{/* */}}}}\n",
            secret("", "stringData:\n  pw: hunter2")
        ),
        "{{- define \"s\" }}\nkind: Secret\nstringData:\n  pw: {{ .pw }}\n{{- end }}\n---\n\
         {{ include \"s\" (dict \"pw\" \"hunter2\") }}\n"
            .to_owned(),
        "{{ `apiVersion: v1\nkind: Secret\nstringData: {pw: hunter2}\n` }}\n".to_owned(),
        "{{ print \"kind: Secret\\nstringData: {pw: hunter2}\" }}\n".to_owned(),
        "# {{/*\nkind: ConfigMap\n# */}}{{ \"\\nkind: Secret\" }}\nmetadata: {name: a}\n\
         data: {pw: aHVudGVyMg==}\n"
            .to_owned(),
    ] {
        let findings = lint_files(&[("secret.yaml", &text)]);
        assert!(
            findings.contains(&"plain-secret".to_owned()),
            "{text}: {findings:?}"
        );
    }
}

/// A chart may contain URLs with credentials from its values, and a Kyverno policy may contain a pattern for Secrets.
#[test]
fn accepts_templates_and_patterns_without_values() {
    let pattern = "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nspec:\n  rules:\n  - validate:\n      pattern:\n        \
                   kind: Secret\n        data: {\"*\": \"?*\"}\n";
    assert_eq!(lint_files(&[("policy.yaml", pattern)]), [""; 0]);
    for value in [
        "postgres://{{ .Values.u }}:{{ .Values.p }}@db",
        "{{ printf \"postgres://%s:%s@%s/app\" .Values.u .Values.p .Values.h | b64enc }}",
        "{{ .x | default (dateInZone \"2006-01-02T15:04:05Z\" (now) \"UTC\") | quote }}",
        "{{ derivePassword 1 \"long\" .Values.p .Values.u .Values.h }}",
        "{{ regexReplaceAll \"[^a-z]\" .Values.p \"\" }}",
        "{{ .Values.p | trimAll \"\\\"\" }}",
        "\"{{ .Values.p | trimAll \\\"x\\\" }}\"",
        "${A:?must set}",
        "$A",
        "\"<base64>\"",
        "\"@@A@@\"",
        "\"%A%\"",
        "\"****\"",
    ] {
        let text = secret("", &format!("stringData:\n  pw: {value}"));
        assert_eq!(lint_files(&[("secret.yaml", &text)]), [""; 0], "{value}");
    }
}

/// A file that sops encrypted may contain a list and the SOPS metadata at the root.
#[test]
fn accepts_a_list_that_sops_encrypted() {
    let encrypted = "ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]";
    let list = |sops: &str| {
        format!(
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  metadata: {{name: b}}\n  \
             stringData: {{p: '{encrypted}'}}\n{sops}"
        )
    };
    let sops = format!("sops: {{mac: '{encrypted}'}}\n");
    assert_eq!(lint_files(&[("a.yaml", &list(&sops))]), [""; 0]);
    assert_eq!(lint_files(&[("a.yaml", &list(""))]), ["plain-secret"]);
    let mixed = list(&sops).replace("{p:", "{q: hunter2, p:");
    assert_eq!(lint_files(&[("a.yaml", &mixed)]), ["plain-secret"]);
}

#[test]
fn passes_templates_without_values() {
    for (before, fields) in [
        (
            "{{- $name := include \"app.fullname\" . }}",
            "  labels:\n{{ include \"app.labels\" (dict \"component\" \"db\" \"context\" $) | indent 4 }}\n\
             stringData:\n  name: {{ $name }}\n  pw: {{ .Values.pw | default (randAlphaNum 32) | quote }}",
        ),
        (
            "{{- if and .Values.auth.enabled (not .Values.auth.existingSecret) }}",
            "data:\n  pw: {{ include \"common.secrets.passwords.manage\" (dict \"secret\" (include \
             \"common.names.fullname\" .) \"key\" \"pw\" \"length\" 16 \"providedValues\" (list \"auth.pw\") \
             \"context\" $) }}\n{{- end }}",
        ),
        (
            "{# created by the role db #}",
            "stringData:\n  # {{ ansible_managed }}\n  pw: \"{{ lookup('env', 'PW') }}\" {# from CI #}\n\
             {% if tls %}\n  cert: \"{{ vault['cert'] }}\"\n{% endif %}",
        ),
        (
            "",
            "stringData:\n{{- range $key, $value := .Values.secrets }}\n  {{ $key }}: {{ $value | quote }}\n{{- end }}",
        ),
        (
            "",
            "data:\n{{ (.Files.Glob \"secrets/*\").AsSecrets | indent 2 }}\n  a: {{ .Files.Get \"a.txt\" | b64enc }}",
        ),
        (
            "{{- $old := lookup \"v1\" \"Secret\" .Release.Namespace \"db\" }}",
            "data:\n  pw: {{ if $old }}{{ index $old.data \"pw\" }}{{ else }}{{ randAlphaNum 20 | b64enc }}{{ end }}",
        ),
        (
            "",
            "stringData:\n  pw: <%= ENV['PW'] %>\n<% if tls %>\n  cert: <%= @cert %>\n<% end %>",
        ),
    ] {
        let text = secret(before, fields);
        assert_eq!(lint_files(&[("secret.yaml", &text)]), [""; 0], "{text}");
    }
}

/// Attack: a committer adds the keywords of sops to a file with plain values, so that it looks encrypted.
#[test]
fn finds_generator_values_despite_sops_keywords() {
    let encrypted = "ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]";
    let envs = "secretGenerator: [{name: db, envs: [a]}]\n";
    let files = "secretGenerator: [{name: db, files: [a]}]\n";
    for (kustomization, content) in [
        (envs, "# sops ENC[\nPW=hunter2\n".to_owned()),
        (
            envs,
            format!("PW=hunter2\nX={encrypted}\nsops_mac={encrypted}\n"),
        ),
        (envs, format!("sops_pw=hunter2\nsops_mac={encrypted}\n")),
        (files, "hunter2 sops ENC[".to_owned()),
        (
            files,
            format!("pw: hunter2\nsops: {{mac: '{encrypted}'}}\n"),
        ),
        (files, format!("PW=hunter2\nsops_mac={encrypted}\n")),
    ] {
        let findings = lint_files(&[("kustomization.yaml", kustomization), ("a", &content)]);
        assert_eq!(findings, ["plain-secret"], "{content}");
    }
    for (kustomization, content) in [
        (
            envs,
            format!("PW={encrypted}\nsops_version=3.9.0\nsops_mac={encrypted}\n"),
        ),
        (
            files,
            format!("pw: {encrypted}\nsops: {{mac: '{encrypted}'}}\n"),
        ),
        (
            files,
            format!("{{\"data\": \"{encrypted}\", \"sops\": {{\"mac\": \"{encrypted}\"}}}}"),
        ),
    ] {
        let findings = lint_files(&[("kustomization.yaml", kustomization), ("a", &content)]);
        assert_eq!(findings, [""; 0], "{content}");
    }
}

/// Attack: a committer writes a generator in a rare form, or a Secret into a string, so that lint overlooks the values.
#[test]
fn finds_generators_and_secrets_in_strings() {
    let generator = "apiVersion: builtin\n    kind: SecretGenerator\n    metadata: {name: db}\n    literals: [pw=hunter2]\n";
    let json =
        "{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"stringData\": {\"pw\": \"hunter2\"}}";
    for (name, content) in [
        (
            "kustomization.yaml",
            format!("generators:\n- |-\n    {generator}"),
        ),
        (
            "kustomization.yaml",
            "kind: \"\"\nsecretGenerator: [{name: db, literals: [pw=hunter2]}]\n".to_owned(),
        ),
        ("a.yaml", format!("kind: List\nitems:\n-   {generator}")),
        (
            "a.yaml",
            format!("kind: ConfigMap\ndata: {{a: '[{json}]'}}\n"),
        ),
        (
            "a.yaml",
            format!("kind: ConfigMap\ndata: {{a: '--- {json}'}}\n"),
        ),
        (
            "a.yaml",
            format!(
                "kind: ConfigMap\ndata: {{a: '{}'}}\n",
                json.replace("cret", "\\u0063ret")
            ),
        ),
    ] {
        assert_eq!(
            lint_files(&[(name, &content)]),
            ["plain-secret"],
            "{content}"
        );
    }
}

/// kustomize ignores the letter case of fields, and resolves the paths of a generator from the kustomization that names
/// the file of the generator.
#[test]
fn finds_generators_in_the_forms_that_kustomize_accepts() {
    for field in ["secretGenerator", "SecretGenerator", "secretgenerator"] {
        let text = format!("{field}: [{{name: db, literals: [pw=hunter2]}}]\n");
        assert_eq!(
            lint_files(&[("kustomization.yaml", &text)]),
            ["plain-secret"],
            "{field}"
        );
    }
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir(directory.path().join("g")).expect("the test directory is writable");
    for (name, text) in [
        ("kustomization.yaml", "generators: [g/g.yaml]\n"),
        (
            "g/g.yaml",
            "apiVersion: builtin\nkind: SecretGenerator\nmetadata: {name: a}\nenvs: [b.env]\n",
        ),
        ("b.env", "PW=hunter2\n"),
    ] {
        fs::write(directory.path().join(name), text).expect("the test directory is writable");
    }
    assert_eq!(lint(directory.path()), ["plain-secret"]);
}

/// Attack: a committer adds a file that slows lint down so much that users skip the hook.
#[test]
fn lint_takes_linear_time_for_large_files() {
    let head = secret("", "stringData:");
    let repeated = |text: &str| text.repeat(2_000_000 / text.len());
    let numbered = |line: &dyn Fn(usize) -> String| (0..50_000).map(line).collect::<String>();
    for content in [
        head.clone() + &numbered(&|n| format!("  k{n}: {{{{ .a }}}}\n")),
        head.clone() + "  a: " + &repeated("{{a}}"),
        head.clone() + "  a: " + &repeated("{% if a %}"),
        head.clone() + "  a: " + &repeated("{{/*"),
        head.clone() + "  a: " + &repeated("{{ `"),
        head.clone() + "  a: {{ " + &repeated("a[") + " }}",
        head.clone() + "  a: {{ " + &repeated("(") + " }}",
        head.clone() + "  a: " + &repeated("<% = "),
        head.clone() + "  a: " + &repeated("{{if a}}x"),
        head.clone() + "  a: {{ $x" + &repeated(".a") + " }}",
        repeated("---\na: {{ .b }}\n---\nb: 1\n") + &head,
        "---\na: 1\n".repeat(100_000) + "---\n" + &head + "  a: {{ .x }}\n{{ if",
        numbered(&|n| format!("{{{{ $v{n} := \"x\" }}}}\n")) + &head + "  a: {{ $v1 }}",
        "kind: ConfigMap\ndata:\n  a: |\n    ".to_owned()
            + &head.replace('\n', "\n    ")
            + &numbered(&|n| format!("  k{n}: {{{{ .a }}}}\n    ")),
    ] {
        lint_files(&[("secret.yaml", &content)]);
    }
    let variables = numbered(&|n| format!("K{n}=hunter2\n"));
    let generator = "secretGenerator:\n- envs:\n".to_owned() + &"  - big.env\n".repeat(2000);
    let findings = lint_files(&[("kustomization.yaml", &generator), ("big.env", &variables)]);
    assert_eq!(findings, ["plain-secret"]);
    let generator = "secretGenerator: [{envs: [../big.env]}]\n";
    let names: Vec<String> = (0..1000)
        .map(|n| format!("a{n}.d/kustomization.yaml"))
        .collect();
    let files = names.iter().map(|name| (name.as_str(), generator));
    let files: Vec<_> = files.chain([("big.env", variables.as_str())]).collect();
    assert_eq!(lint_files(&files), ["plain-secret"]);
}
