//! Tests that `seal keys retire` and `seal keys compromise` find values in other branches, in submodules and in earlier
//! commits.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::{OLD_CERT, combined_output, command, git, stderr, write_files};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const KUBESEAL: &str = env!("CARGO_BIN_EXE_kubeseal");
const STATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/key-fixtures/state");

/// A directory with a repository, `main`, whose branch `main` contains no sealed value.
struct Fixture {
    directory: tempfile::TempDir,
    manifest: String,
    value: String,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {p: value}\n";
        let files = [
            ("secret.yaml", secret),
            ("old.pem", OLD_CERT),
            ("main/README", "x"),
        ];
        write_files(directory.path(), &files);
        let seal = |args: &[&str]| {
            let mut kubeseal = command(KUBESEAL, directory.path(), "/nowhere");
            let output = kubeseal.args(args).current_dir(directory.path()).output();
            let output = output.expect("the command starts");
            assert!(output.status.success(), "{}", stderr(&output));
            String::from_utf8(output.stdout).expect("the output is UTF-8")
        };
        let manifest = seal(&["-f", "secret.yaml", "--cert", "old.pem", "-o", "yaml"]);
        let value = manifest.lines().find_map(|line| line.split_once(" p: "));
        let value = value.expect("an item").1.to_owned();
        let fixture = Self {
            directory,
            manifest,
            value,
        };
        fixture.init("main");
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Turns a directory into a repository with one commit.
    fn init(&self, name: &str) {
        git(&self.path(name), &["init", "-q", "-b", "main", "."]);
        self.commit(name);
    }

    fn commit(&self, name: &str) {
        git(&self.path(name), &["add", "-A"]);
        git(
            &self.path(name),
            &["commit", "-q", "--allow-empty", "-m", "x"],
        );
    }

    /// Commits a file on a new branch, `prod`, and checks out `main` again.
    fn commit_on_branch(&self, name: &str, file: &str, text: &str) {
        let repository = self.path(name);
        git(&repository, &["checkout", "-q", "-b", "prod"]);
        write_files(&repository, &[(file, text)]);
        self.commit(name);
        git(&repository, &["checkout", "-q", "main"]);
    }

    fn seal(&self, name: &str, args: &[&str]) -> Output {
        let mut seal = command(SEAL, self.directory.path(), "/nowhere");
        seal.args(args)
            .args([".", "--directory", STATE, "--dry-run"]);
        seal.current_dir(self.path(name))
            .output()
            .expect("the command starts")
    }

    /// Runs `seal keys retire --dry-run`, and checks that it refuses and reports a location.
    fn assert_reported(&self, why: &str, name: &str, location: &str) {
        let output = self.seal(name, &["keys", "retire", "key-2024", "--all-branches"]);
        let text = combined_output(&output);
        assert_eq!(output.status.code(), Some(1), "{why}: {text}");
        assert!(text.contains(location), "{why}: {text}");
    }
}

/// Returns forms of a sealed value outside a SealedSecret: a description, the file name and the content.
fn forms(fixture: &Fixture) -> Vec<(&'static str, &'static str, String)> {
    let Fixture {
        manifest, value, ..
    } = fixture;
    vec![
        (
            "a value of a chart",
            "values.yaml",
            format!("sealed: {value}\n"),
        ),
        (
            "a HelmRelease",
            "release.yml",
            format!("kind: HelmRelease\nspec:\n  values:\n    sealed: {value}\n"),
        ),
        (
            "a template with an unknown kind",
            "template.yaml",
            format!("kind: {{{{ $k }}}}\nspec:\n  encryptedData:\n    p: {value}\n"),
        ),
        (
            "a comment that mentions a SealedSecret",
            "values.yaml",
            format!("# for a SealedSecret\nsealed: {value}\n"),
        ),
        (
            "a value next to a SealedSecret",
            "db.yaml",
            format!("{}---\nother: {value}\n", manifest.replace(value, "AgBB")),
        ),
        (
            "a file without an ending",
            "Kustomization",
            format!("sealed: {value}\n"),
        ),
        (
            "JSON",
            "values.JSON",
            format!("{{\"sealed\": \"{value}\"}}\n"),
        ),
    ]
}

/// Attack: a committer hides a sealed value outside a SealedSecret, on another branch or in an earlier commit. `seal
/// keys retire` would then retire a key that is still needed, and `seal keys compromise` would not list the value as
/// exposed.
#[test]
fn finds_values_outside_of_sealed_secrets_on_other_branches_and_in_commits() {
    for (why, file, text) in forms(&Fixture::new()) {
        let fixture = Fixture::new();
        fixture.commit_on_branch("main", file, &text);
        fixture.assert_reported(why, "main", &format!("prod:{file}: may need the key"));
        let deleted = Fixture::new();
        write_files(&deleted.path("main"), &[(file, text.as_str())]);
        deleted.commit("main");
        fs::remove_file(deleted.path("main").join(file)).expect("the file exists");
        deleted.commit("main");
        for fixture in [&fixture, &deleted] {
            let compromise = fixture.seal("main", &["keys", "compromise", "key-2024"]);
            let printed = combined_output(&compromise);
            assert!(printed.contains(file), "{why}: {printed}");
        }
    }
}

/// Fault: the commit of a branch is missing or damaged, as in a clone that borrows objects from a deleted repository.
#[test]
fn a_branch_that_cannot_be_read_is_an_error() {
    for (why, damage) in [
        (
            "missing",
            (|object: &Path| fs::remove_file(object)) as fn(&Path) -> _,
        ),
        ("damaged", |object| {
            fs::remove_file(object)?;
            fs::write(object, "x")
        }),
    ] {
        let fixture = Fixture::new();
        fixture.commit_on_branch("main", "db.yaml", &fixture.manifest);
        let reference = fixture.path("main/.git/refs/heads/prod");
        let id = fs::read_to_string(reference).expect("a reference");
        let (directory, file) = id.trim().split_at(2);
        let object = fixture.path(&format!("main/.git/objects/{directory}/{file}"));
        damage(&object).expect("the object can be damaged");
        for args in [
            &["keys", "retire", "key-2024", "--all-branches"][..],
            &["keys", "compromise", "key-2024"],
        ] {
            let output = fixture.seal("main", args);
            let text = combined_output(&output);
            assert_eq!(output.status.code(), Some(2), "{why} {args:?}: {text}");
            assert!(text.contains("cannot read"), "{why} {args:?}: {text}");
        }
    }
}

/// Attack: a committer keeps a SealedSecret in a submodule, on another branch of either repository, so that its key is
/// retired.
#[test]
fn searches_the_submodules_of_other_branches_and_the_branches_of_submodules() {
    let fixture = Fixture::new();
    write_files(&fixture.path("sub"), &[("README", "x")]);
    fixture.init("sub");
    fixture.commit_on_branch("sub", "db.yaml", &fixture.manifest);
    let main = fixture.path("main");
    git(&main, &["submodule", "--quiet", "add", "../sub", "sub"]);
    fixture.commit("main");
    fixture.assert_reported(
        "a branch of a submodule",
        "main",
        "origin/prod:db.yaml (db)",
    );

    git(&main, &["checkout", "-q", "-b", "prod"]);
    git(&main.join("sub"), &["checkout", "-q", "origin/prod"]);
    fixture.commit("main");
    git(&main, &["checkout", "-q", "main"]);
    git(&main, &["submodule", "--quiet", "update"]);
    git(
        &main.join("sub"),
        &["update-ref", "-d", "refs/remotes/origin/prod"],
    );
    fixture.assert_reported("a recorded commit", "main", "prod:sub/db.yaml (db)");

    git(&main, &["submodule", "--quiet", "deinit", "-f", "--all"]);
    fixture.assert_reported("a missing submodule", "main", "prod:sub: may need the key");
}
