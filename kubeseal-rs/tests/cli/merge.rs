//! Tests the merge driver, the text conversion and `seal get` with the real `git`. After a merge without a
//! conflict, every value can be unsealed with the key.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::{
    assert_code, assert_contains, combined_output, command, copy_program, git, stderr, write_files,
};
use crate::v2;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/fixtures");

/// A repository with the drivers, a certificate and its key.
struct Clone(tempfile::TempDir);

impl Clone {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["cert.pem", "key.pem"] {
            let from = Path::new(FIXTURES).join(name);
            fs::copy(from, directory.path().join(name)).expect("the test owns the file");
        }
        let clone = Self(directory);
        clone.install();
        clone
    }

    /// A repository whose rules require v2.
    fn with_v2() -> Self {
        let clone = Self(v2::directory());
        clone.install();
        clone
    }

    fn install(&self) {
        self.git(&["init", "-q", "-b", "main"]);
        self.git(&["config", "user.name", "a"]);
        self.git(&["config", "user.email", "a@b"]);
        self.seal(&["hook", "install", "--merge", "--diff"]);
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    #[track_caller]
    fn git(&self, args: &[&str]) {
        git(self.path(), args);
    }

    fn try_git(&self, args: &[&str]) -> Output {
        let mut git = command("git", self.path(), "/nowhere");
        let git = git.args(args).current_dir(self.path());
        git.output().expect("the command starts")
    }

    #[track_caller]
    fn seal(&self, args: &[&str]) -> String {
        v2::seal_ok(self.path(), args)
    }

    /// Sets an item to a value.
    #[track_caller]
    fn set(&self, item: &str, value: &str) {
        write_files(self.path(), &[("value", value)]);
        let mut args = vec![
            "set",
            "db.yaml",
            item,
            "--from-file",
            "value",
            "--name",
            "db",
        ];
        if self.path().join("cert.pem").exists() && !self.path().join("cluster.txt").exists() {
            args.extend(["--cert", "cert.pem"]);
        }
        self.seal(&args);
    }

    fn read(&self) -> String {
        v2::read(self.path(), "db.yaml")
    }

    fn write(&self, text: &str) {
        write_files(self.path(), &[("db.yaml", text)]);
    }

    /// Creates `shop/db` with the items `a`, `b` and `c`, whose values are their names.
    fn create(&self, more: &[&str]) {
        write_files(self.path(), &[("a", "a"), ("b", "b"), ("c", "c")]);
        let args = "create db -n shop -w db.yaml --from-file a=a --from-file b=b --from-file c=c";
        let args: Vec<&str> = args.split(' ').chain(more.iter().copied()).collect();
        self.seal(&args);
        for name in ["a", "b", "c"] {
            fs::remove_file(self.path().join(name)).expect("the test owns the file");
        }
    }

    fn commit(&self, subject: &str) {
        self.git(&["add", "db.yaml", ".gitattributes"]);
        self.git(&["commit", "-qm", subject]);
    }

    /// Commits a change on the branch `theirs`, and another on `main`, which is checked out.
    fn branch(&self, ours: impl Fn(&Self), theirs: impl Fn(&Self)) {
        self.commit("base");
        self.git(&["checkout", "-qb", "theirs"]);
        theirs(self);
        self.commit("theirs");
        self.git(&["checkout", "-q", "main"]);
        ours(self);
        self.commit("ours");
    }

    /// Returns the value of an item, decrypted with the keys.
    #[track_caller]
    fn get(&self, item: &str) -> String {
        let keys = ["key.pem", "cluster.key"];
        let keys = keys.iter().filter(|key| self.path().join(key).exists());
        let mut args = vec!["get", "db.yaml", item, "--name", "db"];
        args.extend(keys.flat_map(|key| ["--key", *key]));
        let output = v2::seal(self.path(), &args);
        assert_code(&output, 0, item);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[track_caller]
    fn assert_values(&self, values: &[(&str, &str)]) {
        for (item, value) in values {
            assert_eq!(self.get(item), *value, "{item} in\n{}", self.read());
        }
    }
}

const V1: [&str; 2] = ["--cert", "cert.pem"];

/// Installs the drivers with a copy of the program, which the test can remove. Returns the directory of the copy.
fn install_copy(clone: &Clone) -> tempfile::TempDir {
    let elsewhere = tempfile::tempdir().expect("a directory");
    let directory = elsewhere.path().join("50% of $(touch pwned)");
    fs::create_dir(&directory).expect("the test owns the directory");
    let copy = directory.join("seal");
    copy_program(env!("CARGO_BIN_EXE_seal"), &copy);
    let mut seal = command(&copy.display().to_string(), clone.path(), "/nowhere");
    let seal = seal
        .args(["hook", "install", "--merge", "--diff"])
        .current_dir(clone.path());
    assert_code(&seal.output().expect("the command starts"), 0, "install");
    elsewhere
}

fn assert_both_versions_are_marked(clone: &Clone) {
    let text = clone.read();
    let position = |mark: &str| text.find(mark).expect("a marker");
    assert!(position("<<<<<<< ours\n") < position("=======\n"));
    assert!(position("=======\n") < position(">>>>>>> theirs\n"));
}

/// Fault: after `seal` was moved, Git kept our version without markers, so `git add` lost the changes of the other
/// version, and `git diff` failed.
#[test]
fn without_the_program_git_merges_and_compares_lines() {
    let clone = Clone::new();
    clone.create(&V1);
    let elsewhere = install_copy(&clone);
    clone.branch(
        |clone| clone.set("b", "ours"),
        |clone| clone.set("b", "theirs"),
    );
    assert_contains(&clone.try_git(&["log", "-p"]), "+    b: [v1 ", "installed");
    drop(elsewhere);
    let log = clone.try_git(&["log", "-p"]);
    assert_code(&log, 0, "log");
    assert_contains(&log, "+    b: AQ", "log");
    let status = v2::seal(clone.path(), &["hook", "status"]);
    assert_code(&status, 1, "status");
    assert_contains(&status, "seal no longer exists; run ", "status");
    let output = clone.try_git(&["merge", "--no-edit", "theirs"]);
    assert_code(&output, 1, "merge");
    assert_contains(&output, "seal is missing: merged by lines", "merge");
    assert_both_versions_are_marked(&clone);
    clone.git(&["merge", "--abort"]);
    clone.git(&["checkout", "-qb", "comment", "main~1"]);
    clone.write(&format!("# a comment\n{}", clone.read()));
    clone.commit("comment");
    clone.git(&["merge", "-q", "--no-edit", "main"]);
    assert!(clone.read().starts_with("# a comment\n"));
    clone.assert_values(&[("a", "a"), ("b", "ours")]);
    assert!(!clone.path().join("pwned").exists());
}

/// Attack: a committer makes `seal` fail, so that a merge loses the other version, or is not checked and reported as
/// successful.
#[test]
fn a_failed_program_is_a_conflict_with_the_lines_of_both_versions() {
    let clone = Clone::new();
    clone.create(&V1);
    let elsewhere = install_copy(&clone);
    let program = elsewhere.path().join("50% of $(touch pwned)/seal");
    fs::remove_file(&program).expect("the test owns the file");
    fs::write(&program, "#!/bin/sh\nexit 2\n").expect("the test owns the file");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .expect("the test owns the file");
    clone.branch(
        |clone| clone.set("b", "ours"),
        |clone| clone.set("b", "theirs"),
    );
    let merge = |branch: &str| {
        let output = clone.try_git(&["merge", "--no-edit", branch]);
        assert_code(&output, 1, branch);
        assert_contains(&output, "seal failed: merged by lines", branch);
        assert_contains(&output, "CONFLICT", branch);
    };
    merge("theirs");
    assert_both_versions_are_marked(&clone);
    clone.git(&["merge", "--abort"]);
    clone.git(&["checkout", "-qb", "comment", "main~1"]);
    clone.write(&format!("# a comment\n{}", clone.read()));
    clone.commit("comment");
    merge("main");
    assert!(clone.read().starts_with("# a comment\n"));
    clone.assert_values(&[("a", "a"), ("b", "ours")]);
}

#[test]
fn merges_items_that_two_branches_add() {
    let clone = Clone::new();
    clone.create(&V1);
    clone.branch(|clone| clone.set("d", "D"), |clone| clone.set("e", "E"));
    clone.git(&["merge", "-q", "--no-edit", "theirs"]);
    clone.assert_values(&[("a", "a"), ("b", "b"), ("c", "c"), ("d", "D"), ("e", "E")]);
    let hints = clone.seal(&["view", "db.yaml"]);
    assert_eq!(hints.matches("sealed for SHA256:").count(), 5, "{hints}");
}

#[test]
fn merges_changes_of_different_items_and_keeps_comments() {
    let clone = Clone::new();
    clone.create(&V1);
    clone.write(
        &clone
            .read()
            .replace("    b: ", "    # rotated monthly\n    b: "),
    );
    clone.branch(
        |clone| {
            clone.set("a", "A");
            clone.write(&clone.read().replace("rotated monthly", "rotated weekly"));
        },
        |clone| {
            clone.set("b", "B");
            clone.seal(&["unset", "db.yaml", "c"]);
        },
    );
    clone.git(&["merge", "-q", "--no-edit", "theirs"]);
    clone.assert_values(&[("a", "A"), ("b", "B")]);
    let text = clone.read();
    assert!(text.contains("    # rotated weekly\n    b: "), "{text}");
    assert!(!text.contains("    c: "), "{text}");
}

#[test]
fn a_conflict_names_the_item_and_marks_only_its_lines() {
    let clone = Clone::new();
    clone.create(&V1);
    clone.branch(
        |clone| {
            clone.set("b", "ours");
            clone.set("a", "A");
        },
        |clone| {
            clone.set("b", "theirs");
            clone.set("c", "C");
        },
    );
    let output = clone.try_git(&["merge", "--no-edit", "theirs"]);
    assert_code(&output, 1, "merge");
    assert_contains(
        &output,
        "db.yaml: conflict: the item b of shop/db is changed in ",
        "merge",
    );
    assert_contains(
        &output,
        "keep one of the two values and remove the markers; ",
        "merge",
    );
    write_files(clone.path(), &[("value", "neither")]);
    let set = [
        "set",
        "db.yaml",
        "b",
        "--from-file",
        "value",
        "--cert",
        "cert.pem",
    ];
    assert_code(&v2::seal(clone.path(), &set), 2, "markers");
    let text = clone.read();
    let marked: Vec<&str> = text
        .lines()
        .skip_while(|line| !line.starts_with("<<<<<<<"))
        .take_while(|line| !line.starts_with(">>>>>>>"))
        .collect();
    let [_, ours, "=======", theirs] = marked[..] else {
        unreachable!("{text}")
    };
    assert!(
        ours.starts_with("    b: ") && theirs.starts_with("    b: "),
        "{text}"
    );
    for (chosen, dropped, value) in [(ours, theirs, "ours"), (theirs, ours, "theirs")] {
        let is_kept = |line: &&str| {
            let is_marker = ["<<<<<<<", "=======", ">>>>>>>"]
                .iter()
                .any(|mark| line.starts_with(mark));
            !is_marker && *line != dropped
        };
        let lines: Vec<&str> = text.lines().filter(is_kept).collect();
        assert!(lines.contains(&chosen));
        clone.write(&(lines.join("\n") + "\n"));
        clone.assert_values(&[("a", "A"), ("b", value), ("c", "C")]);
    }
    clone.set("b", "neither");
    clone.assert_values(&[("a", "A"), ("b", "neither"), ("c", "C")]);
}

#[test]
fn merges_in_rebase_cherry_pick_and_stash() {
    for args in [&["rebase", "-q", "theirs"][..], &["cherry-pick", "theirs"]] {
        let clone = Clone::new();
        clone.create(&V1);
        clone.branch(|clone| clone.set("d", "D"), |clone| clone.set("e", "E"));
        clone.git(args);
        clone.assert_values(&[("a", "a"), ("d", "D"), ("e", "E")]);
    }
    let clone = Clone::new();
    clone.create(&V1);
    clone.branch(|clone| clone.set("a", "A"), |clone| clone.set("b", "B"));
    clone.git(&["checkout", "-q", "theirs"]);
    clone.set("c", "C");
    clone.git(&["stash", "-q"]);
    clone.git(&["checkout", "-q", "main"]);
    clone.git(&["stash", "pop", "-q"]);
    clone.assert_values(&[("a", "A"), ("b", "b"), ("c", "C")]);
}

#[test]
fn merges_files_of_two_documents_and_of_windows() {
    for line_break in ["\n", "\r\n"] {
        let clone = Clone::new();
        clone.create(&V1);
        let other = "---\nkind: ConfigMap\ndata:\n  x: 1\n  y: 2\n  z: 3\n";
        clone.write(&format!("{}{other}", clone.read()).replace('\n', line_break));
        let replace =
            |clone: &Clone, from: &str, to: &str| clone.write(&clone.read().replace(from, to));
        clone.branch(
            |clone| {
                clone.set("d", "D");
                replace(clone, "x: 1", "x: 9");
            },
            |clone| {
                clone.set("e", "E");
                replace(clone, "z: 3", "z: 9");
            },
        );
        clone.git(&["merge", "-q", "--no-edit", "theirs"]);
        clone.assert_values(&[("a", "a"), ("d", "D"), ("e", "E")]);
        let text = clone.read();
        assert!(text.contains("x: 9") && text.contains("z: 9"), "{text}");
        assert_eq!(text.matches("\r\n").count() > 0, line_break == "\r\n");
        assert_eq!(
            text.replace("\r\n", "").contains('\n'),
            line_break == "\n",
            "{text}"
        );
    }
}

#[test]
fn files_without_sealed_values_merge_as_without_the_driver() {
    let clone = Clone::new();
    clone.write("a: 1\nb: 2\nc: 3\nd: {{ template }}\n");
    let replace = |from: &'static str, to: &'static str| {
        move |clone: &Clone| clone.write(&clone.read().replace(from, to))
    };
    clone.branch(replace("a: 1", "a: 9"), replace("d: {{", "d: {{-"));
    clone.git(&["merge", "-q", "--no-edit", "theirs"]);
    assert_eq!(clone.read(), "a: 9\nb: 2\nc: 3\nd: {{- template }}\n");
}

#[test]
fn merges_v2_items_of_two_branches() {
    let clone = Clone::with_v2();
    clone.create(&[]);
    assert!(clone.read().contains("seal2."), "{}", clone.read());
    clone.branch(
        |clone| {
            clone.set("d", "D");
            clone.set("a", "A");
        },
        |clone| {
            clone.set("e", "E");
            clone.seal(&["unset", "db.yaml", "b"]);
        },
    );
    clone.git(&["merge", "-q", "--no-edit", "theirs"]);
    clone.assert_values(&[("a", "A"), ("c", "c"), ("d", "D"), ("e", "E")]);
    // One branch seals all values again, and the other adds one with its own lock.
    let rotate = |clone: &Clone| {
        clone.seal(&["rotate", "db.yaml", "--to", "v2", "--key", "cluster.key"]);
    };
    clone.git(&["branch", "-qD", "theirs"]);
    clone.set("x", "X");
    clone.branch(rotate, |clone| clone.set("f", "F"));
    clone.git(&["merge", "-q", "--no-edit", "theirs"]);
    clone.assert_values(&[("a", "A"), ("c", "c"), ("x", "X"), ("f", "F")]);
}

/// Fault: one branch seals all v2 values again, and the other adds a recipient to the former values. A merge by lines
/// would lose the recipient, or leave a value without its lock.
#[test]
fn v2_values_that_cannot_be_combined_without_a_key_are_a_conflict() {
    let clone = Clone::with_v2();
    clone.create(&[]);
    let lock = |text: &str| {
        let line = text.lines().find(|line| line.contains("/lock/"));
        line.expect("a shared lock").to_owned()
    };
    let base = clone.read();
    let header = lock(&base);
    // A stanza of an unknown key is a well-formed recipient.
    let stanza = base
        .lines()
        .find(|line| line.contains("/lock/") && line.contains("seal2.l."))
        .expect("a stanza")
        .to_owned();
    assert_ne!(header, stanza);
    clone.branch(
        |clone| {
            clone.set("a", "A");
            clone.seal(&["rotate", "db.yaml", "--to", "v2", "--key", "cluster.key"]);
        },
        |clone| clone.write(&clone.read().replace(&format!("{stanza}\n"), "")),
    );
    let output = clone.try_git(&["merge", "--no-edit", "theirs"]);
    assert_code(&output, 1, "merge");
    assert_contains(
        &output,
        "changed the recipients of the former values",
        "merge",
    );
    assert!(clone.read().contains("<<<<<<< "), "{}", clone.read());
}

/// Fault: one branch moves the object to another namespace, and the other adds an item for the former one.
#[test]
fn a_merge_never_moves_an_item_to_another_namespace() {
    let clone = Clone::new();
    clone.create(&V1);
    clone.branch(
        |clone| clone.write(&clone.read().replace("namespace: shop", "namespace: web")),
        |clone| clone.set("a", "A"),
    );
    let output = clone.try_git(&["merge", "--no-edit", "theirs"]);
    assert_code(&output, 1, "merge");
    assert_contains(&output, "sealed for the former place", "merge");
}

/// Attack: a committer names a file and a branch such that the driver's command line runs a program or gets an option,
/// writes another file, or controls the terminal.
#[test]
fn a_hostile_repository_runs_nothing_in_a_merge() {
    let clone = Clone::new();
    clone.create(&V1);
    let names = [
        "--help.yaml",
        "$(touch pwned);`touch pwned`'\".yaml",
        "a\u{1b}[2J.yaml",
    ];
    let text = clone.read();
    let copy = |clone: &Clone, from: &str, to: &str| {
        for name in names {
            write_files(clone.path(), &[(name, &text.replace(from, to))]);
        }
        clone.git(&["add", "."]);
    };
    write_files(
        clone.path(),
        &[(
            ".gitattributes",
            "* merge=seal diff=seal conflict-marker-size=100000000\n",
        )],
    );
    copy(&clone, "", "");
    clone.branch(
        |clone| copy(clone, "    a: A", "    a: B"),
        |clone| copy(clone, "    a: A", "    a: C"),
    );
    let branch = "theirs;touch${IFS}pwned";
    clone.git(&["branch", "-qm", "theirs", branch]);
    let output = clone.try_git(&["merge", "--no-edit", branch]);
    assert_code(&output, 1, "merge");
    assert!(!clone.path().join("pwned").exists());
    let printed = combined_output(&output);
    assert!(
        !printed
            .lines()
            .any(|line| line.contains("conflict: ") && line.contains('\u{1b}')),
        "{printed}"
    );
    let merged = v2::read(clone.path(), names[1]);
    assert!(
        merged.contains("    a: B") && merged.contains("    a: C"),
        "{merged}"
    );
    assert!(merged.len() < text.len() + 2_000, "{}", merged.len());
    let shown = clone.try_git(&["log", "-p", "-1", "theirs;touch${IFS}pwned"]);
    assert_code(&shown, 0, "log");
    assert!(!clone.path().join("pwned").exists());
}

/// Attack: a committer commits a version that is too large, binary or malformed, so that the driver crashes or reports
/// a merge without a conflict.
#[test]
fn an_unreadable_version_is_never_a_silent_merge() {
    let clone = Clone::new();
    clone.create(&V1);
    let base = clone.read();
    let write = |name: &str, text: &str| write_files(clone.path(), &[(name, text)]);
    let merge = |base: &str, ours: &str, theirs: &str| {
        for (name, text) in [("o", base), ("a", ours), ("b", theirs)] {
            write(name, text);
        }
        v2::seal(
            clone.path(),
            &["merge-file", "o", "a", "b", "--path=db.yaml"],
        )
    };
    let huge = "a".repeat(17 << 20);
    let output = merge(&base, &base, &huge);
    assert_code(&output, 2, "huge");
    assert_eq!(v2::read(clone.path(), "a"), base);
    assert_code(&merge(&base, "a\0b", "c"), 1, "binary");
    assert_eq!(v2::read(clone.path(), "a"), "a\0b");
    // Malformed YAML is merged by lines.
    let broken = base.replace("  template:", "  template: [");
    assert_code(
        &merge(&base, &broken, &base.replace("name: db", "name: dc")),
        0,
        "malformed",
    );
    let mut pipe = Command::new("mkfifo");
    let status = pipe.arg(clone.path().join("pipe")).status();
    assert!(status.expect("the command starts").success());
    let output = v2::seal(clone.path(), &["merge-file", "o", "pipe", "b"]);
    assert_code(&output, 2, "pipe");
}

/// Fault: the file had only our version, and nothing said that `git add` would lose the other one.
#[test]
fn a_conflict_without_markers_names_a_command_that_prints_the_other_version() {
    let (text, binary) = ("a: 2\n", "a: \0\n");
    for (args, want) in [
        (&["merge", "--no-edit", "theirs"][..], binary),
        (&["cherry-pick", "theirs"][..], binary),
        (&["rebase", "theirs"][..], text),
    ] {
        let clone = Clone::new();
        clone.write("a: 1\n");
        clone.branch(|clone| clone.write(text), |clone| clone.write(binary));
        let output = clone.try_git(args);
        assert_code(&output, 1, args[0]);
        assert_contains(&output, "`git add` now would lose the version of ", args[0]);
        let printed = combined_output(&output);
        let (_, command) = printed.split_once(", which `").expect("a command");
        let (command, _) = command.split_once("` prints: ").expect("a command");
        let mut sh = Command::new("sh");
        let sh = sh.args(["-c", command]).current_dir(clone.path());
        let output = sh.output().expect("the command starts");
        assert_eq!(output.stdout, want.as_bytes(), "{command}");
    }
}

#[test]
fn a_conflict_of_other_lines_names_their_numbers() {
    let clone = Clone::new();
    clone.create(&V1);
    let replace = |value: &'static str| {
        move |clone: &Clone| {
            let base = clone.read();
            clone.write(&format!("# {value}\n{base}"));
        }
    };
    clone.branch(replace("ours"), replace("theirs"));
    let output = clone.try_git(&["merge", "--no-edit", "theirs"]);
    assert_code(&output, 1, "merge");
    let want = "db.yaml: conflict in lines 1 to 5 of the merged file";
    assert_contains(&output, want, "merge");
}

#[test]
fn differences_show_items_and_keys_instead_of_ciphertexts() {
    let clone = Clone::new();
    clone.create(&V1);
    clone.write(&format!(
        "{}---\nkind: ConfigMap\ndata: {{x: 1}}\n",
        clone.read()
    ));
    clone.commit("base");
    clone.set("a", "A");
    clone.write(&clone.read().replace("x: 1", "x: 2"));
    let output = clone.try_git(&["diff"]);
    assert_code(&output, 0, "diff");
    let text = combined_output(&output);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with(['+', '-']))
        .collect();
    let [_, _, removed, added, "-data: {x: 1}", "+data: {x: 2}"] = lines[..] else {
        unreachable!("{text}")
    };
    let properties = ", for SHA256:WtQrwMYu, 2048 bits, strict, shop/db, ";
    for (line, start) in [
        (removed, "-    a: [v1 sha256:"),
        (added, "+    a: [v1 sha256:"),
    ] {
        let digest = line.strip_prefix(start).and_then(|rest| rest.get(..32));
        let digest = digest.expect("a digest");
        assert!(
            digest.bytes().all(|digit| digit.is_ascii_hexdigit()),
            "{text}"
        );
        assert!(line[start.len() + 32..].starts_with(properties), "{text}");
        assert!(line.ends_with(" bytes]") && line.len() < 130, "{text}");
    }
    assert_ne!(removed[1..], added[1..]);
    assert_contains(&clone.try_git(&["log", "-p"]), "+    b: [v1 sha256:", "log");
}

#[test]
fn differences_show_the_recipients_of_v2_values() {
    let clone = Clone::with_v2();
    clone.create(&[]);
    clone.set("d", "D");
    let text = clone.seal(&["textconv", "db.yaml"]);
    let values = text.lines().filter(|line| line.contains(": [v2 sha256:"));
    let values: Vec<&str> = values.collect();
    assert_eq!(values.len(), 4, "{text}");
    let is_complete =
        |line: &&str| line.contains(", for xw ") && line.contains(", strict, shop/db, ");
    assert!(values.iter().all(is_complete), "{text}");
    assert!(
        text.contains(": [lock sha256:") && !text.contains("seal2."),
        "{text}"
    );
}

/// Attack: a committer writes terminal escapes, or a huge file, so that `git diff` controls the terminal or fills the
/// memory.
#[test]
fn differences_have_no_control_characters_and_a_bounded_size() {
    let clone = Clone::new();
    clone.write("a: \"\u{1b}[2J\"\t# \u{202e}\r\nb: \rc\n");
    let text = clone.seal(&["textconv", "db.yaml"]);
    assert_eq!(text, "a: \"\\u{1b}[2J\"\t# \\u{202e}\r\nb: \\rc\n");
    let file = fs::File::create(clone.path().join("db.yaml")).expect("the test owns the file");
    file.set_len(40 << 20).expect("the test owns the file");
    let text = clone.seal(&["textconv", "db.yaml"]);
    assert!(
        text.starts_with("41943040 bytes, too many") && text.len() < 200,
        "{text}"
    );
}

#[test]
fn the_status_reports_drivers_that_this_clone_lacks() {
    let clone = Clone::new();
    let status = |code| {
        let output = v2::seal(clone.path(), &["hook", "status"]);
        assert_code(&output, code, "status");
        combined_output(&output)
    };
    let text = "pre-commit hook: not installed; run `seal hook install`\nmerge driver: installed\n\
text conversion: installed\n";
    assert_eq!(status(0), text);
    // Git itself reads what was written, and nothing else has changed.
    let driver = clone.try_git(&["config", "merge.seal.driver"]);
    assert_contains(&driver, " merge-file --path=%P ", "driver");
    assert_contains(&clone.try_git(&["config", "user.email"]), "a@b", "email");
    clone.seal(&["hook", "uninstall", "--merge"]);
    assert!(status(1).contains("merge driver: missing in this clone"));
    clone.seal(&["hook", "install"]);
    let text = clone.seal(&["hook", "uninstall"]);
    assert!(text.contains("pre-commit removed"), "{text}");
    assert!(text.contains("text conversion removed"), "{text}");
    fs::remove_file(clone.path().join(".gitattributes")).expect("the test owns the file");
    let text = "pre-commit hook: not installed; run `seal hook install`\n\
merge driver: not installed; run `seal hook install --merge`\n\
text conversion: not installed; run `seal hook install --diff`\n";
    assert_eq!(status(0), text);
    let settings = clone.try_git(&["config", "--get-regexp", "seal"]);
    assert_eq!(combined_output(&settings), "");
}

/// Attack: the author of an archive replaces `.git/config` or `.gitattributes` with a link to a file of the user, or
/// leaves a lock file.
#[test]
fn drivers_are_not_installed_through_links() {
    let clone = Clone::new();
    clone.seal(&["hook", "uninstall"]);
    let victim = tempfile::tempdir().expect("a directory");
    let target = victim.path().join("config");
    let config = clone.path().join(".git/config");
    let install = || v2::seal(clone.path(), &["hook", "install", "--merge"]);
    fs::copy(&config, &target).expect("the test owns the file");
    let before = fs::read_to_string(&target).expect("the test owns the file");
    fs::remove_file(&config).expect("the test owns the file");
    std::os::unix::fs::symlink(&target, &config).expect("the test owns the file");
    assert_code(&install(), 2, "a link to a configuration");
    fs::remove_file(&config).expect("the test owns the file");
    fs::copy(&target, &config).expect("the test owns the file");
    let attributes = clone.path().join(".gitattributes");
    fs::remove_file(&attributes).expect("the test owns the file");
    std::os::unix::fs::symlink(&target, &attributes).expect("the test owns the file");
    assert_code(&install(), 2, "a link to attributes");
    assert_eq!(
        fs::read_to_string(&target).expect("the file exists"),
        before
    );
    fs::remove_file(&attributes).expect("the test owns the file");
    let lock = clone.path().join(".git/config.lock");
    fs::write(&lock, "").expect("the test owns the file");
    assert_contains(&install(), "config.lock", "locked");
    fs::remove_file(&lock).expect("the test owns the file");
    assert_code(&install(), 0, "without links");
    assert!(!lock.exists());
}

/// Attack: a user registers a `seal` in the work tree, and a committer replaces that program with the next checkout.
#[test]
fn a_seal_in_the_work_tree_is_no_driver() {
    let clone = Clone::new();
    clone.seal(&["hook", "uninstall"]);
    let copy = clone.path().join("seal");
    copy_program(env!("CARGO_BIN_EXE_seal"), &copy);
    let mut seal = command(&copy.display().to_string(), clone.path(), "/nowhere");
    let seal = seal
        .args(["hook", "install", "--merge"])
        .current_dir(clone.path());
    let output = seal.output().expect("the command starts");
    assert_code(&output, 2, "in the tree");
    assert_contains(&output, "inside the work tree", "in the tree");
}

/// Attack: another user of the machine reads the file to which a value was written, or a value is printed to a
/// terminal.
#[test]
fn get_writes_one_value_only_where_the_user_asks() {
    let clone = Clone::new();
    clone.create(&V1);
    clone.set("line", "two\nlines\n\0");
    assert_eq!(clone.get("line"), "two\nlines\n\0");
    let write = ["get", "db.yaml", "a", "--key", "key.pem", "-w", "out"];
    let text = clone.seal(&write);
    assert!(
        text.starts_with("warning: out has the value in plaintext inside the Git work tree "),
        "{text}"
    );
    write_files(clone.path(), &[("out", "kept"), (".gitignore", "out\n")]);
    assert_contains(
        &v2::seal(clone.path(), &write),
        "out already exists",
        "existing",
    );
    assert_eq!(v2::read(clone.path(), "out"), "kept");
    assert_eq!(clone.seal(&[&write[..], &["--replace"]].concat()), "");
    assert_eq!(v2::read(clone.path(), "out"), "a");
    let mode = fs::metadata(clone.path().join("out"))
        .expect("the file exists")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let get = |args: &[&str]| v2::seal(clone.path(), &[&["get", "db.yaml"][..], args].concat());
    let missing = get(&["nothing", "--key", "key.pem"]);
    assert_code(&missing, 2, "missing");
    assert!(
        stderr(&missing).contains("its items are: a, b, c, line"),
        "{}",
        stderr(&missing)
    );
    assert_code(
        &get(&["a", "--key", "key.pem", "-w", "key.pem", "--replace"]),
        2,
        "output over the key",
    );
    let stdout = get(&["a", "--key", "key.pem", "-w", "-"]);
    assert_eq!(stdout.stdout, b"a");
    let refused = get_on_terminal(clone.path(), &[]);
    assert_code(&refused.0, 2, "a terminal");
    assert_contains(&refused.0, "stdout is a terminal", "a terminal");
    let refused = get_on_terminal(clone.path(), &["-w", "-"]);
    assert_code(&refused.0, 2, "a terminal as -");
    let (output, screen) = get_on_terminal(clone.path(), &["--force"]);
    assert_code(&output, 0, "--force");
    assert!(screen.contains("two"), "{screen:?}");
}

/// Fault: `seal get` failed if any item of the object was sealed for a key that the user does not have.
#[test]
fn get_decrypts_only_the_item_that_it_prints() {
    let clone = Clone::new();
    clone.create(&V1);
    let other = Path::new(FIXTURES).join("other.pem");
    fs::copy(other, clone.path().join("other.pem")).expect("the test owns the file");
    write_files(clone.path(), &[("value", "z")]);
    let set = "set db.yaml z --from-file value --cert other.pem";
    clone.seal(&set.split(' ').collect::<Vec<_>>());
    assert_eq!(clone.get("a"), "a");
    let set = "set db.yaml y --from-file value --cert other.pem";
    clone.seal(&set.split(' ').collect::<Vec<_>>());
    let get = ["get", "db.yaml", "z", "--key", "key.pem"];
    let output = v2::seal(clone.path(), &get);
    assert_code(&output, 2, "another key");
    let message = stderr(&output);
    assert!(
        message.contains('z') && output.stdout.is_empty(),
        "{message}"
    );
    assert!(
        !message.contains("y, z") && !message.contains("(y"),
        "{message}"
    );
}

#[test]
fn get_decrypts_a_v2_item_beside_one_for_another_key() {
    let clone = Clone::with_v2();
    clone.create(&[]);
    let rules = v2::RULES.replace("cluster.txt", "escrow.txt");
    write_files(clone.path(), &[(".seal.yaml", &rules), ("value", "z")]);
    let create = "create db -n shop --from-file z=value -w other.yaml";
    clone.seal(&create.split(' ').collect::<Vec<_>>());
    let other = v2::read(clone.path(), "other.yaml");
    let entries = other.lines().filter(|line| line.contains("seal2."));
    let entries: Vec<&str> = entries.collect();
    assert!(!entries.is_empty(), "{other}");
    let start = "  encryptedData:\n";
    let with_entries = format!("{start}{}\n", entries.join("\n"));
    clone.write(&clone.read().replace(start, &with_entries));
    assert_eq!(clone.get("a"), "a");
    let get = ["get", "db.yaml", "z", "--key"];
    let output = v2::seal(clone.path(), &[&get[..], &["escrow.key"]].concat());
    assert_code(&output, 0, "escrow");
    assert_eq!(output.stdout, b"z");
    let output = v2::seal(clone.path(), &[&get[..], &["cluster.key"]].concat());
    assert_code(&output, 2, "cluster");
}

/// Runs `seal get` with a terminal as stdout. Returns its result, and what the terminal received.
fn get_on_terminal(directory: &Path, flags: &[&str]) -> (Output, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).expect("the terminal was opened");
    unlockpt(&terminal).expect("the terminal was opened");
    let name = ptsname(&terminal, Vec::new()).expect("a name");
    let name = name.into_string().expect("ASCII");
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(name)
        .expect("the terminal");
    let mut seal = command(env!("CARGO_BIN_EXE_seal"), directory, "/nowhere");
    seal.args(["get", "db.yaml", "line", "--key", "key.pem"])
        .args(flags);
    let seal = seal
        .current_dir(directory)
        .stdout(file)
        .stderr(Stdio::piped());
    let output = seal
        .spawn()
        .expect("the command starts")
        .wait_with_output()
        .expect("the command runs");
    let mut screen = [0; 1024];
    let count = if output.status.success() {
        fs::File::from(terminal)
            .read(&mut screen)
            .expect("the terminal is readable")
    } else {
        0
    };
    (
        output,
        String::from_utf8_lossy(&screen[..count]).into_owned(),
    )
}
