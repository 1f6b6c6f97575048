//! Tests that `seal lint` and the hook find the values of Secrets that kustomize generates or patches, also if the
//! kustomization is written to hide them.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Output;

use crate::support::{assert_code, assert_contains, combined_output, command, git, write_files};

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {pw: hunter2}\n";

fn lint(directory: &Path, args: &[&str]) -> Output {
    let mut seal = command(env!("CARGO_BIN_EXE_seal"), directory, "/nowhere");
    seal.arg("lint").args(args).current_dir(directory);
    seal.output().expect("the command starts")
}

fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    git(directory.path(), &["init", "-q"]);
    write_files(directory.path(), files);
    git(directory.path(), &["add", "-A"]);
    directory
}

/// Commits all files except this one, which stays staged.
fn commit_others(directory: &Path, staged: &str) {
    git(directory, &["rm", "-q", "--cached", staged]);
    git(directory, &["commit", "-qm", "a"]);
    git(directory, &["add", staged]);
}

/// Checks that lint and the hook report these texts, and do not show the value.
fn assert_reported(files: &[(&str, &str)], wanted: &[&str]) {
    let directory = repository(files);
    for args in [&[][..], &["--staged"]] {
        let output = lint(directory.path(), args);
        let case = format!("{files:?}, {args:?}");
        assert_code(&output, 1, &case);
        for want in wanted {
            assert_contains(&output, want, &case);
        }
        let shown = combined_output(&output);
        assert!(!shown.contains("hunter2"), "{case}: {shown}");
    }
}

/// Attack: a committer writes field names of a generator or a Secret with U+017F or the Kelvin sign, which Go's decoder
/// treats as `s` and `k`.
#[test]
fn finds_values_in_fields_whose_names_go_treats_as_equal() {
    let (s, k) = ('\u{17f}', '\u{212a}');
    let env = ("db.env", "P=hunter2\n");
    for text in [
        format!("{s}ecretGenerator:\n- {{name: db, literals: [p=hunter2]}}\n"),
        format!("SECRETGENERATOR:\n- {{name: db, literal{s}: [p=hunter2]}}\n"),
        format!("secretGenerator:\n- {{name: db, file{s}: [db.env]}}\n"),
        format!("secretGenerator:\n- {{name: db, env{s}: [db.env]}}\n"),
        format!("kind: SecretGenerator\nmetadata: {{name: db}}\nliteral{s}: [p=hunter2]\n"),
        format!("{k}ind: SecretGenerator\nmetadata: {{name: db}}\nliterals: [p=hunter2]\n"),
        format!(
            "generators:\n- |\n  {k}ind: SecretGenerator\n  metadata: {{name: db}}\n  literal{s}: [p=hunter2]\n"
        ),
        format!(
            "patche{s}:\n- target: {{{k}ind: Secret}}\n  patch: '[{{op: add, path: /data/p, value: aHVudGVyMg==}}]'\n"
        ),
        format!(
            "apiVersion: v1\n{k}ind: Secret\nmetadata: {{name: db}}\n{s}tringData: {{p: hunter2}}\n"
        ),
    ] {
        assert_reported(&[("kustomization.yaml", &text), env], &["[plain-secret]"]);
    }
}

/// Attack: a committer writes two variants of a field name, so that lint and kustomize use different ones.
#[test]
fn finds_values_in_each_variant_of_a_name() {
    let patch = "atch: '[{op: add, path: /data/p, value: aHVudGVyMg==}]'";
    let env = ("db.env", "P=hunter2\n");
    for text in [
        "secretGenerator:\n- {name: db, LITERALS: [p=hunter2], Literals: []}\n",
        "secretGenerator:\n- {name: db, Literals: [], LITERALS: [p=hunter2]}\n",
        "secretGenerator:\n- {name: db, envs: [], Envs: [db.env]}\n",
        "secretGenerator: []\nSecretGenerator:\n- {name: db, literals: [p=hunter2]}\n",
        "kind: Kustomization\nKIND: ConfigMap\nsecretGenerator:\n- {name: db, literals: [p=hunter2]}\n",
        "Kind: SecretGenerator\nKIND: ConfigMap\nname: db\nliterals: [p=hunter2]\n",
        &format!("patches:\n- target: {{Kind: Secret, KIND: ConfigMap}}\n  p{patch}\n"),
        &format!(
            "patches:\n- target: {{kind: Secret}}\n  TARGET: {{kind: ConfigMap}}\n  p{patch}\n"
        ),
        &format!("patches:\n- target: {{kind: Secret}}\n  patch: a\n  P{patch}\n"),
    ] {
        let wanted = ["[plain-secret]", "[repeated-key]"];
        assert_reported(&[("kustomization.yaml", text), env], &wanted);
    }
}

/// Attack: a committer writes the target of a patch as a regular expression that matches Secrets.
#[test]
fn finds_patches_whose_target_matches_secrets() {
    let patch = "patch: '[{op: add, path: /data/p, value: aHVudGVyMg==}]'";
    for kind in [
        "S[ef]cret",
        "(?i)secret",
        r"Secre\w",
        "[S&&]ecret",
        "(Config|Sec)(Map|ret)",
        r"\QSecret\E",
    ] {
        let text = format!("patches:\n- target: {{kind: '{kind}'}}\n  {patch}\n");
        assert_reported(&[("kustomization.yaml", &text)], &["[plain-secret]"]);
    }
    let text = format!("patches:\n- target: {{kind: '.*Set'}}\n  {patch}\n");
    let directory = repository(&[("kustomization.yaml", &text)]);
    assert_code(&lint(directory.path(), &[]), 0, &text);
}

/// Attack: a committer gives a file that a kustomization names another extension than those of manifests.
#[test]
fn finds_values_in_files_that_a_kustomization_names() {
    let generator = "kind: SecretGenerator\nmetadata: {name: db}\nliterals: [p=hunter2]\n";
    let operations = "- {op: add, path: /data/p, value: aHVudGVyMg==}\n";
    for (kustomization, text) in [
        ("resources: [../x/a.txt]\n", SECRET),
        ("generators: [../x/a.txt]\n", generator),
        ("patchesStrategicMerge: [../x/a.txt]\n", SECRET),
        ("patches:\n- path: ../x/a.txt\n", SECRET),
        (
            "patches:\n- {path: ../x/a.txt, target: {kind: '.*'}}\n",
            operations,
        ),
        ("resources: [\"../x/a\\x2etxt\"]\n", SECRET),
    ] {
        let files = [("app/kustomization.yaml", kustomization), ("x/a.txt", text)];
        assert_reported(&files, &["[plain-secret]"]);
        let directory = repository(&files);
        commit_others(directory.path(), "x/a.txt");
        let output = lint(directory.path(), &["--staged"]);
        assert_contains(&output, "[plain-secret]", kustomization);
    }
}

/// Attack: a committer stages only the file that a generator reads, and the generator is in a file with another
/// extension.
#[test]
fn the_hook_finds_a_generator_in_a_file_that_a_kustomization_names() {
    let generator = "kind: SecretGenerator\nmetadata: {name: db}\nenvs: [db.env]\n";
    let directory = repository(&[
        ("kustomization.yaml", "generators: [g.txt]\n"),
        ("g.txt", generator),
        ("db.env", "P=hunter2\n"),
    ]);
    commit_others(directory.path(), "db.env");
    let output = lint(directory.path(), &["--staged"]);
    assert_code(&output, 1, "");
    assert_contains(&output, "[plain-secret]", "");
}

/// Attack: a committer names files outside the tree, ignored files, devices or the kustomization itself, so that lint
/// shows other files or hangs.
#[test]
fn reads_only_files_of_the_tree_that_a_kustomization_names() {
    let outside = tempfile::tempdir().expect("a directory");
    write_files(outside.path(), &[("a.txt", SECRET)]);
    let absolute = outside.path().join("a.txt").display().to_string();
    let directory = repository(&[
        ("ignored.txt", SECRET),
        (".gitignore", "ignored.txt\n"),
        ("loop.txt", "resources: [loop.txt, kustomization.yaml]\n"),
    ]);
    for name in [
        absolute.as_str(),
        "ignored.txt",
        "/dev/zero",
        "loop.txt",
        ".",
        "..",
        "",
    ] {
        let text = format!("resources: ['{name}']\n");
        write_files(directory.path(), &[("kustomization.yaml", &text)]);
        git(directory.path(), &["add", "-A"]);
        for args in [&[][..], &["--staged"]] {
            assert_code(&lint(directory.path(), args), 0, name);
        }
    }
}
