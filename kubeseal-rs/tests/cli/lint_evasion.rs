//! Tests that `seal lint` finds plain values that a committer hides, and templates that insert missing items.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");

/// Returns the names of the lint rules that the files in a directory violate.
fn violated_rules(directory: &Path) -> Vec<String> {
    rules_reported_by(directory, &["lint", "--format", "json", "."])
}

fn rules_reported_by(directory: &Path, args: &[&str]) -> Vec<String> {
    let output = Command::new(SEAL)
        .args(args)
        .current_dir(directory)
        .env("HOME", directory)
        .stdin(Stdio::null())
        .output()
        .expect("the command starts");
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = findings.as_array().cloned().unwrap_or_default();
    let rule =
        |finding: &serde_json::Value| finding["rule"].as_str().unwrap_or_default().to_owned();
    findings.iter().map(rule).collect()
}

fn rules_violated_by(name: &str, text: &str) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join(name), text).expect("the file");
    violated_rules(directory.path())
}

const SECRET_HEAD: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\n";

/// Attack: a committer repeats a key of a mapping, once with a placeholder for the parser of one tool and once with a
/// value for the parser of another tool.
#[test]
fn reports_a_repeated_key_in_a_secret() {
    for (name, text) in [
        ("items.yaml", format!("{SECRET_HEAD}stringData: {{a: CHANGEME, a: CHANGEME}}\n")),
        ("data.yaml", format!("{SECRET_HEAD}stringData: {{a: hunter2}}\nstringData: {{a: CHANGEME}}\n")),
        ("alias.yaml", format!("{SECRET_HEAD}&k stringData: {{a: hunter2}}\n*k : {{a: CHANGEME}}\n")),
        ("kind.yaml", format!("{SECRET_HEAD}kind: ConfigMap\nstringData: {{a: hunter2}}\n")),
        ("merge.yaml", format!("{SECRET_HEAD}<<: {{stringData: {{a: hunter2}}}}\n<<: {{stringData: {{}}}}\n")),
        (
            "list.yaml",
            "kind: List\nitems:\n- {apiVersion: v1, kind: Secret, data: {a: aHVudGVyMg==}, data: {}}\n".to_owned(),
        ),
        (
            "sibling.yaml",
            format!("{{{{ x }}}}\n---\n{SECRET_HEAD}stringData: {{a: hunter2}}\nstringData: {{}}\n"),
        ),
        (
            "db.json",
            "{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"stringData\": {\"a\": \"hunter2\"}, \"stringData\": null, \
             \"metadata\": {\"name\": \"\\ud83d\\ude00\"}}"
                .to_owned(),
        ),
        (
            "sealed.yaml",
            "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: db, namespace: shop}\nspec: {}\nspec: {}\n"
                .to_owned(),
        ),
        (
            "kustomization.yaml",
            "secretGenerator: [{name: db, literals: [a=hunter2]}]\nsecretGenerator: []\n".to_owned(),
        ),
    ] {
        let rules = rules_violated_by(name, &text);
        assert!(rules.iter().any(|rule| rule == "repeated-key"), "{name}: {rules:?}");
    }
}

#[test]
fn a_repeated_key_in_other_objects_is_not_reported() {
    for (name, text) in [
        (
            "map.yaml",
            "kind: ConfigMap\ndata: {Secret: x}\ndata: {}\n".to_owned(),
        ),
        (
            "merge.yaml",
            format!("{SECRET_HEAD}stringData: {{<<: {{a: CHANGEME}}, a: TODO}}\n"),
        ),
        ("two.yaml", format!("{SECRET_HEAD}---\n{SECRET_HEAD}")),
    ] {
        assert_eq!(
            rules_violated_by(name, &text),
            Vec::<String>::new(),
            "{name}"
        );
    }
}

/// Attack: a committer begins a document with an unindented block scalar. For lint's YAML parser, the scalar includes
/// the next `---` and the Secret below; for `kubectl`, the separator begins a new document.
#[test]
fn a_block_scalar_above_a_separator_hides_no_secret() {
    for head in ["--- |", "--- >-\nx", "--- |+\n\n", "a: b\n--- |"] {
        let text = format!("{head}\n---\n{SECRET_HEAD}stringData: {{a: hunter2}}\n");
        let rules = rules_violated_by("db.yaml", &text);
        assert!(
            rules.iter().any(|rule| rule == "plain-secret"),
            "{head}: {rules:?}"
        );
    }
}

const EXEMPTION: &str = "# seal lint: ignore plain-secret: an example";

/// Attack: a committer puts a line that looks like an exempting comment into a value, to exempt a Secret in the same
/// file.
#[test]
fn a_line_of_a_value_exempts_nothing() {
    let plain = format!("{SECRET_HEAD}stringData: {{a: hunter2}}\n");
    for (why, text) in [
        (
            "a literal scalar before the Secret",
            format!("--- |\n{EXEMPTION}\n---\n{plain}"),
        ),
        (
            "a folded string",
            format!("--- >-\nb\n{EXEMPTION}\nc\n---\n{plain}"),
        ),
        (
            "double quotes",
            format!("--- \"b\n{EXEMPTION}\n\"\n---\n{plain}"),
        ),
        (
            "single quotes",
            format!("--- 'b\n\n{EXEMPTION}'\n---\n{plain}"),
        ),
        (
            "a literal scalar inside the Secret",
            format!("{plain}b: |\n {EXEMPTION}\n"),
        ),
        (
            "after the Secret, in malformed YAML",
            format!("{plain}---\na: \"b\n{EXEMPTION}\n\"\nc: \"\n"),
        ),
    ] {
        let rules = rules_violated_by("db.yaml", &text);
        assert!(
            rules.iter().any(|rule| rule == "plain-secret"),
            "{why}: {rules:?}"
        );
    }
}

#[test]
fn a_comment_before_inside_or_after_a_secret_exempts_the_file() {
    let plain = format!("{SECRET_HEAD}stringData: {{a: hunter2}}\n");
    for text in [
        format!("{EXEMPTION}\n{plain}"),
        format!("{plain}{EXEMPTION}\n"),
        format!("{SECRET_HEAD}{EXEMPTION}\nstringData:\n{EXEMPTION}\n  a: hunter2\n"),
        format!("---\n{EXEMPTION}\n---\n{plain}"),
    ] {
        assert_eq!(
            rules_violated_by("db.yaml", &text),
            Vec::<String>::new(),
            "{text}"
        );
    }
    let malformed = format!(
        "{EXEMPTION}, and more\n# seal lint: ignore malformed-file: a template\n{plain}{{{{ x }}}}\n"
    );
    assert_eq!(
        rules_violated_by("db.yaml", &malformed),
        Vec::<String>::new()
    );
}

fn sealed_manifest(template: &str) -> String {
    let value = "A".repeat(400);
    format!(
        "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {{name: db, namespace: shop}}\nspec:\n  \
         encryptedData: {{password: {value}, user: {value}}}\n  template:\n    data:\n      other: text\n      url: |-\n        \
         {template}\n"
    )
}

/// Returns whether lint reports a missing item. Other findings are ignored, since the values of the fixture are not
/// ciphertexts.
fn has_missing_item(template: &str) -> bool {
    let rules = rules_violated_by("db.yaml", &sealed_manifest(template));
    rules.iter().any(|rule| rule == "missing-item")
}

#[test]
fn reports_a_template_that_inserts_a_missing_item() {
    for template in [
        "{{ .passwrod }}",
        "a:{{ .user }}:{{ .passwrod | b64enc }}",
        "{{ printf \"%s\" (.passwrod | quote) }}",
        "{{ if .user }}{{ .passwrod }}{{ end }}",
        "{{ range list 1 }}{{ $.passwrod }}{{ end }}",
        "{{ with .user }}x{{ else }}{{ .passwrod }}{{ end }}",
        "{{ .Password }}",
    ] {
        assert!(has_missing_item(template), "{template}");
    }
}

#[test]
fn accepts_templates_that_test_or_use_existing_items() {
    for template in [
        "{{ .password }}:{{ .user }}{{ .other }}{{ $.user }}",
        "{{ if .tls }}{{ .tls }}{{ end }}",
        "{{ .port | default \"5432\" }}",
        "{{ with .tls }}{{ . }}{{ end }}",
        "{{ range $k, $v := . }}{{ $k }}={{ $v }}{{ end }}",
        "{{ with dict \"a\" .user }}{{ .a }}{{ end }}",
        "{{ index . \"no-name\" }}",
    ] {
        assert!(!has_missing_item(template), "{template}");
    }
}

#[test]
fn a_missing_item_is_reported_with_template_line_and_nearest_name() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(
        directory.path().join("db.yaml"),
        sealed_manifest("a\n        {{ .passwrod }}"),
    )
    .expect("the file");
    let output = Command::new(SEAL)
        .args(["lint", "db.yaml"])
        .current_dir(directory.path())
        .env("HOME", directory.path())
        .output()
        .expect("the command starts");
    let printed = String::from_utf8_lossy(&output.stdout);
    let want = "the template url, line 2, inserts .passwrod, but no sealed item passwrod exists; did you mean password?";
    assert!(printed.contains(want), "{printed}");
}

/// Attack: a committer adds plain values in a file that a `secretGenerator` of kustomize reads, instead of in the
/// kustomization.
#[test]
fn lint_checks_the_files_of_a_generator() {
    for (generator, is_found) in [
        ("{name: db, envs: [db.env]}", true),
        ("{name: db, env: db.env}", true),
        ("{name: db, files: [password.txt]}", true),
        ("{name: db, files: [key=sub/../password.txt]}", true),
        ("{name: db, envs: [placeholders.env]}", false),
        ("{name: db, files: [sops.yaml, missing.txt]}", false),
        ("{name: db, files: ['https://a.example/x', sub]}", false),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir(directory.path().join("sub")).expect("a directory");
        for (name, text) in [
            (
                "kustomization.yaml",
                format!("secretGenerator: [{generator}]\n"),
            ),
            ("db.env", "# a\nPASSWORD=hunter2\nHOME\n".to_owned()),
            ("placeholders.env", "PASSWORD=${PASSWORD}\nB=\n".to_owned()),
            ("password.txt", "hunter2".to_owned()),
            (
                "sops.yaml",
                "a: C\nsops: {mac: 'C'}\n"
                    .replace('C', "ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]"),
            ),
        ] {
            fs::write(directory.path().join(name), text).expect("a file");
        }
        let rules = violated_rules(directory.path());
        assert_eq!(
            rules == ["plain-secret"],
            is_found,
            "{generator}: {rules:?}"
        );
    }
}

/// Attack: a committer names a file outside the tree, or a device, in a kustomization, so that lint shows the
/// content of the file or hangs.
#[cfg(unix)]
#[test]
fn lint_reads_no_generator_file_outside_its_tree() {
    let outside = tempfile::tempdir().expect("a directory");
    let outside_file = outside.path().join("outside.txt");
    fs::write(&outside_file, "hunter2").expect("a file");
    let directory = tempfile::tempdir().expect("a directory");
    let relative = format!(
        "../{}/outside.txt",
        outside.path().file_name().expect("a name").display()
    );
    std::os::unix::fs::symlink(&outside_file, directory.path().join("link.txt")).expect("a link");
    let absolute = outside_file.display().to_string();
    for name in [
        absolute.as_str(),
        &relative,
        "link.txt",
        "/dev/stdin",
        "/dev/zero",
    ] {
        let text = format!("secretGenerator: [{{name: db, files: ['{name}']}}]\n");
        fs::write(directory.path().join("kustomization.yaml"), text).expect("a file");
        assert_eq!(
            violated_rules(directory.path()),
            Vec::<String>::new(),
            "{name}"
        );
    }
}

/// Runs `git` in a directory. Panics if it fails.
#[cfg(unix)]
fn git(directory: &Path, args: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@b"])
        .args(args)
        .current_dir(directory)
        .env("HOME", directory)
        .output()
        .expect("the command starts");
    assert!(output.status.success(), "{args:?}: {output:?}");
}

/// Creates a repository with these links, with a kustomization in `app/` that reads `source`, and with a value in
/// `b/real.env`.
#[cfg(unix)]
fn repository_with_links(source: &str, links: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    git(root, &["init", "-q", "."]);
    for name in ["app", "b", "c"] {
        fs::create_dir(root.join(name)).expect("a directory");
    }
    let kustomization = format!("secretGenerator: [{{name: db, envs: ['{source}']}}]\n");
    fs::write(root.join("app/kustomization.yaml"), kustomization).expect("a file");
    fs::write(root.join("b/real.env"), "P=hunter2\n").expect("a file");
    for (link, target) in links {
        std::os::unix::fs::symlink(target, root.join(link)).expect("a link");
    }
    directory
}

#[cfg(unix)]
const LINT_STAGED_ARGS: [&str; 4] = ["lint", "--staged", "--format", "json"];

/// Attack: a committer lets a generator read a value through a symbolic link, so that the hook overlooks the value. The
/// hook follows staged links, regardless of the order in which files were staged.
#[cfg(unix)]
#[test]
fn the_hook_follows_staged_links_of_a_generator() {
    for (source, links) in [
        ("link.env", &[("app/link.env", "../b/real.env")][..]),
        ("directory/real.env", &[("app/directory", "../b")]),
        (
            "../c/./link.env",
            &[
                ("c/link.env", "chain"),
                ("c/chain", "../app/directory/real.env"),
                ("app/directory", "../b"),
            ],
        ),
        (
            "sub/../link.env",
            &[("app/link.env", "../b/real.env"), ("app/sub", "../c")],
        ),
    ] {
        for staged_last in ["app/kustomization.yaml", "b/real.env", links[0].0] {
            let directory = repository_with_links(source, links);
            let root = directory.path();
            git(root, &["add", ".", &format!(":!{staged_last}")]);
            git(root, &["commit", "-qm", "a"]);
            git(root, &["add", staged_last]);
            for (link, _) in links {
                fs::remove_file(root.join(link)).expect("a link");
            }
            let rules = rules_reported_by(root, &LINT_STAGED_ARGS);
            assert_eq!(rules, ["plain-secret"], "{source}, {staged_last}");
        }
    }
}

/// The hook also finds a generator next to the link, in a file that is not named like a kustomization.
#[cfg(unix)]
#[test]
fn the_hook_finds_a_generator_next_to_a_link() {
    let directory = repository_with_links("none", &[("c/link.env", "../b/real.env")]);
    let generator = "kind: SecretGenerator\nmetadata: {name: db}\nenvs: [link.env]\n";
    fs::write(directory.path().join("c/generator.yaml"), generator).expect("a file");
    git(directory.path(), &["add", ".", ":!b"]);
    git(directory.path(), &["commit", "-qm", "a"]);
    git(directory.path(), &["add", "b"]);
    let rules = rules_reported_by(directory.path(), &LINT_STAGED_ARGS);
    assert_eq!(rules, ["plain-secret"]);
}

/// Attack: a committer adds links that lead out of the repository, or form a symlink loop, so that the hook reveals
/// another file or hangs.
#[cfg(unix)]
#[test]
fn the_hook_follows_no_link_out_of_the_repository() {
    let outside = tempfile::tempdir().expect("a directory");
    let outside_file = outside.path().join("outside.env");
    fs::write(&outside_file, "P=hunter2\n").expect("a file");
    let outside_file = outside_file.display().to_string();
    for target in [outside_file.as_str(), "link.env", "../../../../dev/zero"] {
        let directory = repository_with_links("link.env", &[("app/link.env", target)]);
        git(directory.path(), &["add", "app"]);
        let rules = rules_reported_by(directory.path(), &LINT_STAGED_ARGS);
        assert_eq!(rules, Vec::<String>::new(), "{target}");
    }
}
