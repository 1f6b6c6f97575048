//! Attacks through ignore files of an untrusted repository, and through ignore files of other users in the parent
//! directories.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::stderr;

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const SEALED_SECRET: &str = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nmetadata: {name: db, namespace: shop}\n\
                      spec: {encryptedData: {a: AgBB}}\n";
const PLAIN_SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n";

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("the path has a parent"))
            .expect("the test directory is writable");
        fs::write(path, text).expect("the file is writable");
    }

    fn git(&self, directory: &str, arguments: &[&str]) {
        let git = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@b"])
            .args(arguments)
            .current_dir(self.path(directory))
            .env("HOME", self.0.path())
            .output()
            .expect("git starts");
        assert!(git.status.success(), "{git:?}");
    }

    fn seal(&self, directory: &str, arguments: &[&str]) -> Output {
        let child = Command::new(SEAL)
            .args(arguments)
            .current_dir(self.path(directory))
            .env("HOME", self.path("home"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.expect("seal starts");
        let end = Instant::now() + Duration::from_secs(30);
        while child.try_wait().expect("the child was started").is_none() {
            if Instant::now() > end {
                child.kill().expect("the child was started");
                unreachable!("{arguments:?} hangs");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.wait_with_output().expect("the child was started")
    }

    /// Returns whether lint reports this file when it runs in `directory`.
    fn is_reported_by_lint(&self, directory: &str, file: &str) -> bool {
        let output = self.seal(directory, &["lint"]);
        String::from_utf8_lossy(&output.stdout).contains(file)
    }
}

fn make_pipe(path: &Path) {
    let status = Command::new("mkfifo").arg(path).status();
    assert!(status.expect("mkfifo starts").success());
}

/// Attack: an attacker makes an ignore file a link, a pipe without a writer, or huge, so that a command hangs or
/// exhausts the memory.
#[test]
fn only_small_regular_ignore_files_have_an_effect() {
    for (kind, why) in [
        ("a link to a device", "symbolic link"),
        ("a link to a pipe", "symbolic link"),
        ("a link to a list", "symbolic link"),
        ("a pipe", "not a regular file"),
        ("huge", "larger than the limit of 1048576 bytes"),
    ] {
        let tree = Tree::new();
        tree.write("sub/sealed.yaml", SEALED_SECRET);
        tree.write("sub/plain.yaml", PLAIN_SECRET);
        let ignore_file = tree.path("sub/.gitignore");
        make_pipe(&tree.path("pipe"));
        fs::write(tree.path("list"), "*\n").expect("the file is writable");
        match kind {
            "a link to a device" => symlink("/dev/zero", ignore_file).expect("a link"),
            "a link to a pipe" => symlink("../pipe", ignore_file).expect("a link"),
            "a link to a list" => symlink("../list", ignore_file).expect("a link"),
            "a pipe" => make_pipe(&ignore_file),
            _ => fs::write(ignore_file, "*\n".repeat(1 << 20)).expect("the file is writable"),
        }
        for arguments in [&["lint", "."][..], &["view", "."], &["rotate", "."]] {
            let output = tree.seal(".", arguments);
            let log = stderr(&output);
            assert!(
                log.contains("/sub/.gitignore has no effect"),
                "{kind}: {output:?}"
            );
            assert!(log.contains(why), "{kind}: {output:?}");
        }
        assert!(tree.is_reported_by_lint(".", "sub/plain.yaml"), "{kind}");
    }
}

/// Attack: an attacker hides a plain Secret from lint with an ignore file above the work tree, or with an ignore file
/// that Git does not read.
#[test]
fn only_ignore_files_of_the_work_tree_have_an_effect() {
    let tree = Tree::new();
    tree.write("tree/sub/plain.yaml", PLAIN_SECRET);
    tree.git("tree", &["init", "-q"]);
    for (ignore_file, is_reported) in [
        (".gitignore", true),
        (".ignore", true),
        ("tree/.ignore", true),
        ("tree/sub/.ignore", true),
        ("tree/.gitignore", false),
        ("tree/sub/.gitignore", false),
        ("tree/.git/info/exclude", false),
    ] {
        tree.write(ignore_file, "plain.yaml\n");
        for directory in ["tree", "tree/sub"] {
            assert_eq!(
                tree.is_reported_by_lint(directory, "plain.yaml"),
                is_reported,
                "{ignore_file}"
            );
        }
        fs::remove_file(tree.path(ignore_file)).expect("the file exists");
    }
    // Without a repository, ignore files above the linted directory have no effect.
    fs::remove_dir_all(tree.path("tree/.git")).expect("the directory exists");
    tree.write("tree/.gitignore", "plain.yaml\n");
    assert!(!tree.is_reported_by_lint("tree", "plain.yaml"));
    assert!(tree.is_reported_by_lint("tree/sub", "plain.yaml"));
}

/// Attack: a committer commits or stages a plain Secret whose file or directory an ignore rule excludes, so that lint
/// skips it.
#[test]
fn a_tracked_file_is_checked_despite_ignore_rules() {
    let tree = Tree::new();
    tree.git(".", &["init", "-q"]);
    for name in [
        "a/committed.yaml",
        "a/staged.yaml",
        "a/ignored.yaml",
        "b/linked.yaml",
        "single.yaml",
    ] {
        tree.write(name, PLAIN_SECRET);
    }
    let committed = ["a/committed.yaml", "b/linked.yaml", "single.yaml"];
    tree.git(".", &[&["add"][..], &committed].concat());
    tree.git(".", &["commit", "-q", "-m", "x"]);
    tree.git(".", &["add", "a/staged.yaml"]);
    tree.write(".gitignore", "a/\nb\nsingle.yaml\n");
    tree.write("elsewhere/linked.yaml", "a: b\n");
    fs::remove_dir_all(tree.path("b")).expect("the directory exists");
    symlink("elsewhere", tree.path("b")).expect("a link");
    for (name, is_reported) in [
        ("committed.yaml", true),
        ("staged.yaml", true),
        ("ignored.yaml", false),
        ("linked.yaml", false),
        ("single.yaml", true),
    ] {
        assert_eq!(tree.is_reported_by_lint(".", name), is_reported, "{name}");
    }
}

/// Attack: an attacker uses ignore files in and above a controller's directory to hide an object that needs a
/// key.
#[test]
fn finds_an_object_of_a_controller_despite_ignore_files() {
    for (ignore_file, text) in [
        ("state/sealed/.gitignore", "*"),
        ("state/sealed/.ignore", "*"),
        ("state/.gitignore", "sealed/**"),
        (".ignore", "*.yaml"),
    ] {
        let tree = Tree::new();
        tree.write("state/sealed/shop/db.yaml", SEALED_SECRET);
        tree.write(ignore_file, text);
        let survey =
            kubeseal_library::keys::survey::in_files(&[tree.path("state/sealed")], &mut |_| ());
        assert_eq!(
            survey.expect("the file is readable").holders.len(),
            1,
            "{ignore_file}"
        );
    }
}

/// Attack: an attacker uses ignore files in and above a directory of keys to hide a key from a backup.
#[test]
fn finds_a_key_in_a_directory_despite_ignore_files() {
    const KEY: &str =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: key}\ndata: {tls.key: '', tls.crt: ''}\n";
    for (ignore_file, text) in [
        ("state/keys/.gitignore", "*"),
        ("state/keys/.ignore", "*"),
        ("state/.gitignore", "keys/*"),
        (".ignore", "*.yaml"),
    ] {
        let tree = Tree::new();
        tree.write("state/keys/key.yaml", KEY);
        tree.write(ignore_file, text);
        let keys = kubeseal_library::keys::directory::read(&tree.path("state/keys"));
        assert_eq!(
            keys.expect("the file is readable").len(),
            1,
            "{ignore_file}"
        );
    }
}
