//! Tests which files `seal lint` reads (links, patches, submodules, and files that Git converts), and its findings
//! about sizes and rules.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;

use crate::support::{
    NEW_CERT, assert_code, assert_contains, combined_output, command, git, write_files,
};

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {pw: hunter2}\n";

fn seal(directory: &Path, args: &[&str]) -> Output {
    let mut seal = command(env!("CARGO_BIN_EXE_seal"), directory, "/nowhere");
    seal.args(args).current_dir(directory);
    seal.output().expect("the command starts")
}

fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    git(directory.path(), &["init", "-q"]);
    write_files(directory.path(), files);
    directory
}

/// Attack: a committer gives a plain Secret a file name that lint skips, and adds a link that tools such as kubectl
/// read.
#[test]
fn reads_links_inside_the_tree_and_reports_links_out_of_it() {
    let outside = tempfile::tempdir().expect("a directory");
    write_files(outside.path(), &[("secret.yaml", SECRET)]);
    let directory = repository(&[
        ("secret.txt", SECRET),
        ("other.yaml", &SECRET.replace("db", "other")),
        ("ignored/secret.txt", SECRET),
        (".gitignore", "ignored/\n"),
    ]);
    let link = |to: &Path, name: &str| {
        symlink(to, directory.path().join(name)).expect("the test directory is writable");
    };
    link(Path::new("secret.txt"), "link.yaml");
    link(Path::new("other.yaml"), "same.yaml");
    link(Path::new("ignored/secret.txt"), "hidden.yaml");
    link(Path::new("missing"), "dangling.yaml");
    link(&outside.path().join("secret.yaml"), "out.yaml");
    let output = seal(directory.path(), &["lint"]);
    assert_code(&output, 1, "");
    assert_contains(
        &output,
        "link.yaml:1: error: the Secret db has plain values",
        "",
    );
    assert_contains(&output, "other.yaml:1: error: ", "");
    assert_contains(
        &output,
        "out.yaml:1: error: not read: symbolic link that leads out of the tree",
        "",
    );
    for name in ["same.yaml", "hidden.yaml", "dangling.yaml"] {
        assert!(
            !combined_output(&output).contains(name),
            "{name}: {output:?}"
        );
    }
}

#[test]
fn reads_files_named_like_an_extension() {
    for name in [".yaml", "sub/.yml", ".JSON"] {
        let directory = repository(&[(name, SECRET)]);
        assert_code(&seal(directory.path(), &["lint"]), 1, name);
    }
}

/// Attack: a committer adds a value to a Secret in another file with a patch that has no `kind`.
#[test]
fn finds_values_in_patches_of_secrets() {
    let operation = "- op: replace\n  path: /stringData/pw\n  value: hunter2\n";
    let encoded = "- op: add\n  path: /data/pw\n  value: aHVudGVyMg==\n";
    let inline = |patch: &str, kind: &str| {
        let patch = patch.replace('\n', "\n    ");
        format!("patches:\n- target: {{kind: {kind}}}\n  patch: |-\n    {patch}\n")
    };
    let by_path = |field: &str, kind: &str| {
        format!("{field}:\n- target: {{version: v1, kind: {kind}, name: db}}\n  path: patch.yaml\n")
    };
    for (kustomization, patch, count) in [
        (inline(operation, "Secret"), "", 1),
        (inline(operation, "Deployment"), "", 1),
        (inline(encoded, "Secret"), "", 1),
        (inline(encoded, "Secret|ConfigMap"), "", 1),
        (inline(encoded, "ConfigMap"), "", 0),
        (inline("stringData: {pw: hunter2}", "Secret"), "", 1),
        (inline("stringData: {pw: '${PW}'}", "Secret"), "", 0),
        (by_path("patchesJson6902", "Secret"), encoded, 1),
        (by_path("patches", "Secret"), encoded, 1),
        (
            by_path("patches", "Secret"),
            "data: {pw: aHVudGVyMg==}\n",
            1,
        ),
        (by_path("patches", "ConfigMap"), encoded, 0),
        (String::new(), operation, 1),
        (String::new(), encoded, 0),
    ] {
        let files = [
            ("kustomization.yaml", &*kustomization),
            ("patch.yaml", patch),
        ];
        let directory = repository(&files);
        let case = format!("{kustomization}{patch}");
        assert_code(
            &seal(directory.path(), &["lint"]),
            i32::from(count > 0),
            &case,
        );
        git(directory.path(), &["add", "kustomization.yaml"]);
        git(directory.path(), &["commit", "-qm", "x"]);
        git(directory.path(), &["add", "patch.yaml"]);
        if !patch.is_empty() {
            let output = seal(directory.path(), &["lint", "--staged"]);
            assert_code(&output, i32::from(count > 0), &case);
        }
        assert!(
            !combined_output(&seal(directory.path(), &["lint"])).contains("hunter2"),
            "{case}"
        );
    }
}

/// Attack: a committer stores a plain Secret as text in another encoding, which Git converts to the manifest at
/// checkout.
#[test]
fn the_hook_reports_files_that_git_re_encodes() {
    for (attributes, is_reported) in [
        ("*.yaml working-tree-encoding=UTF-16LE\n", true),
        (
            "[attr]wide working-tree-encoding=UTF-16LE\na.yaml wide\n",
            true,
        ),
        ("*.yaml working-tree-encoding=UTF-8\n", false),
        ("b.yaml working-tree-encoding=UTF-16LE\n", false),
    ] {
        // With this attribute, Git reads the bytes of the file as UTF-16.
        assert_eq!(SECRET.len() % 2, 0);
        let map = "apiVersion: v1\nkind: ConfigMap\n";
        let content = if is_reported { SECRET } else { map };
        let directory = repository(&[(".gitattributes", attributes), ("a.yaml", content)]);
        git(directory.path(), &["add", "-A"]);
        let output = seal(directory.path(), &["lint", "--staged"]);
        assert_code(&output, i32::from(is_reported), attributes);
        if is_reported {
            assert_contains(
                &output,
                "a.yaml:1: error: the attribute working-tree-encoding",
                "",
            );
        }
    }
}

#[test]
fn commands_report_submodules_that_are_not_checked_out() {
    let inner = repository(&[("a.yaml", "a: b\n")]);
    git(inner.path(), &["add", "-A"]);
    git(inner.path(), &["commit", "-qm", "x"]);
    let outer = repository(&[("db.yaml", SECRET), ("old.pem", NEW_CERT)]);
    let source = inner.path().to_str().expect("UTF-8");
    git(
        outer.path(),
        &["submodule", "--quiet", "add", source, "inner"],
    );
    let want = "submodules are not checked out: inner;";
    for is_missing in [false, true] {
        if is_missing {
            git(
                outer.path(),
                &["submodule", "--quiet", "deinit", "-f", "inner"],
            );
        }
        let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/fixtures/key.pem");
        for args in [
            &["lint"][..],
            &["view", "."],
            &["rotate", ".", "--key", key, "--cert", "old.pem"],
        ] {
            let printed = combined_output(&seal(outer.path(), args));
            let count = printed.matches(want).count();
            assert_eq!(count, usize::from(is_missing), "{args:?}: {printed}");
        }
    }
    fs::create_dir(outer.path().join("keys")).expect("the test directory is writable");
    let status = seal(
        outer.path(),
        &["keys", "status", ".", "--directory", "keys"],
    );
    assert_contains(
        &status,
        "inner: cannot determine which keys it needs: a submodule",
        "",
    );
}

#[test]
fn warns_about_values_that_are_too_large_for_a_secret() {
    let directory = repository(&[("cert.pem", NEW_CERT)]);
    for (name, len) in [("small", 1000), ("large", 600_000)] {
        fs::write(directory.path().join("value"), "x".repeat(len))
            .expect("the test directory is writable");
        let file = format!("{name}.yaml");
        let create = [
            "create", name, "-n", "shop", "--cert", "cert.pem", "-w", &file,
        ];
        let values = ["--from-file", "a=value", "--from-file", "b=value"];
        assert_code(
            &seal(directory.path(), &[&create[..], &values].concat()),
            0,
            name,
        );
        let output = seal(directory.path(), &["lint", &file]);
        let is_large = len > 1000;
        assert_code(&output, i32::from(is_large), name);
        let is_found =
            combined_output(&output).contains("accepts at most 1048576; split the Secret [size]");
        assert_eq!(is_found, is_large, "{output:?}");
    }
}

/// If rules had no effect, values could be sealed for another certificate or namespace.
#[test]
fn reports_rules_without_effect() {
    let rule = "rules: [{path: '*', namespace: shop}]\n";
    for (name, text, want) in [
        (".seal.yml", rule, ".seal.yml is not read"),
        (
            ".seal.yaml",
            "rules: [{path: '*', namespace: Bad_NS}]\n",
            "not a valid namespace",
        ),
    ] {
        let directory = repository(&[
            (name, text),
            ("secret.yaml", SECRET),
            ("cert.pem", NEW_CERT),
        ]);
        for args in [
            &["lint"][..],
            &[
                "--stdout",
                "--keep-plain",
                "secret.yaml",
                "--cert",
                "cert.pem",
            ],
        ] {
            let output = seal(directory.path(), args);
            assert_code(&output, 2, format_args!("{name} {args:?}"));
            assert_contains(&output, want, format_args!("{name} {args:?}"));
        }
    }
}
