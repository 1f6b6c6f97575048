//! Tests unreadable files and directories, special files, file size limits, owners and signals.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::support::{assert_code, assert_contains, combined_output, copy_program};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/fixtures");

fn command(directory: &Path, program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(directory)
        .env("HOME", directory)
        .env("KUBECONFIG", "/nowhere")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn seal(directory: &Path, args: &[&str]) -> Output {
    command(directory, SEAL, args)
        .output()
        .expect("the command starts")
}

fn create_sealed_file(directory: &Path) {
    for name in ["cert.pem", "key.pem", "other.pem"] {
        fs::copy(format!("{FIXTURES}/{name}"), directory.join(name))
            .expect("the test directory is writable");
    }
    let args = [
        "create",
        "db",
        "-n",
        "shop",
        "--from-literal",
        "a=hunter2",
        "--cert",
        "cert.pem",
        "-w",
        "db.yaml",
    ];
    let output = seal(directory, &args);
    assert!(output.status.success(), "{}", combined_output(&output));
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

const NOBODY: u32 = 65534;

/// Runs `seal` as a user to whom file permissions apply: the current user, or `nobody` if the current user is root.
fn seal_as_unprivileged_user(directory: &Path, args: &[&str]) -> Output {
    if !is_root() {
        return seal(directory, args);
    }
    // The original program may be in a directory that `nobody` cannot enter.
    let copy = directory.join("seal");
    copy_program(SEAL, &copy);
    let mut command = command(directory, &copy.display().to_string(), args);
    command
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .expect("the command starts")
}

#[test]
fn reports_an_unreadable_directory_and_continues() {
    let directory = tempfile::tempdir().expect("a directory");
    let open_mode = fs::Permissions::from_mode(0o777);
    fs::set_permissions(directory.path(), open_mode.clone()).expect("the test owns the file");
    create_sealed_file(directory.path());
    for name in ["a", "closed", "z"] {
        let sub = directory.path().join("tree").join(name);
        fs::create_dir_all(&sub).expect("the test directory is writable");
        fs::copy(directory.path().join("db.yaml"), sub.join("db.yaml"))
            .expect("the test directory is writable");
        for path in [
            &sub,
            &sub.join("db.yaml"),
            &directory.path().join("key.pem"),
        ] {
            fs::set_permissions(path, open_mode.clone()).expect("the test owns the file");
        }
    }
    let closed_directory = directory.path().join("tree/closed");
    fs::set_permissions(&closed_directory, fs::Permissions::from_mode(0o000))
        .expect("the test owns the file");
    for args in [
        &["view", "tree"][..],
        &["lint", "tree"],
        &["rotate", "tree", "--key", "key.pem", "--cert", "other.pem"],
    ] {
        let output = seal_as_unprivileged_user(directory.path(), args);
        assert_code(&output, 2, format_args!("{args:?}"));
        assert_contains(&output, "tree/closed", format_args!("{args:?}"));
        let has_continued = combined_output(&output).contains("z/db.yaml")
            || combined_output(&output).contains("in 2 files");
        assert!(has_continued, "{args:?}: {}", combined_output(&output));
    }
    fs::set_permissions(&closed_directory, open_mode).expect("the test owns the file");
}

const PLAIN_SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: z, namespace: shop}\nstringData: {a: hunter2}\n";

#[test]
fn reports_an_unreadable_file_and_continues() {
    for args in [
        &["view", "tree"][..],
        &["lint", "tree"],
        &["lint", "tree", "--format", "json"],
        &["rotate", "tree", "--key", "key.pem", "--cert", "other.pem"],
        &["keys", "status", "tree", "--directory", "state"],
        &["-i", "tree", "--cert", "cert.pem"],
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let open_mode = fs::Permissions::from_mode(0o777);
        create_sealed_file(directory.path());
        let path_to = |name: &str| directory.path().join(name);
        fs::create_dir_all(path_to("tree")).expect("the test directory is writable");
        fs::create_dir_all(path_to("state/keys")).expect("the test directory is writable");
        for name in ["tree/a.yaml", "tree/m.yaml", "tree/n.yaml"] {
            fs::copy(path_to("db.yaml"), path_to(name)).expect("the test directory is writable");
        }
        fs::write(path_to("tree/z.yaml"), PLAIN_SECRET).expect("the test directory is writable");
        for name in [
            "",
            "tree",
            "state",
            "state/keys",
            "key.pem",
            "tree/n.yaml",
            "tree/z.yaml",
        ] {
            fs::set_permissions(path_to(name), open_mode.clone()).expect("the test owns the file");
        }
        for name in ["tree/a.yaml", "tree/m.yaml"] {
            fs::set_permissions(path_to(name), fs::Permissions::from_mode(0o000))
                .expect("the test owns the file");
        }
        let output = seal_as_unprivileged_user(directory.path(), args);
        let printed = combined_output(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {printed}");
        for name in ["tree/a.yaml", "tree/m.yaml"] {
            assert!(printed.contains(name), "{args:?}: {printed}");
        }
        let has_continued = ["z.yaml", "n.yaml"]
            .iter()
            .any(|name| printed.contains(name));
        assert!(has_continued, "{args:?}: {printed}");
        assert!(!printed.contains("hunter2"), "{args:?}: {printed}");
    }
}

fn git(directory: &Path, args: &[&str]) {
    let mut git = command(
        directory,
        "git",
        &["-c", "user.name=a", "-c", "user.email=a@b"],
    );
    git.args(["-c", "protocol.file.allow=always"]).args(args);
    let output = git.output().expect("the command starts");
    assert!(output.status.success(), "{}", combined_output(&output));
}

/// Attack: an attacker removes the permission to read a file, or replaces the file with a pipe, so that a reviewer's
/// `seal diff` shows a change as a removal or does not show the change.
#[test]
fn an_unreadable_file_is_not_reported_as_removed_or_unchanged() {
    let directory = tempfile::tempdir().expect("a directory");
    let path_to = |name: &str| directory.path().join(name);
    let open_mode = fs::Permissions::from_mode(0o777);
    create_sealed_file(directory.path());
    for name in [
        "closed/inner.yaml",
        "file.yaml",
        "pipe.yaml",
        "changed.yaml",
    ] {
        fs::create_dir_all(path_to(name).parent().expect("the path has a parent"))
            .expect("the test directory is writable");
        fs::copy(path_to("db.yaml"), path_to(name)).expect("the test directory is writable");
    }
    git(directory.path(), &["init", "-q"]);
    git(directory.path(), &["add", "."]);
    git(directory.path(), &["commit", "-qm", "x"]);
    fs::write(path_to("changed.yaml"), "").expect("the test directory is writable");
    fs::copy(path_to("db.yaml"), path_to("untracked.yaml"))
        .expect("the test directory is writable");
    fs::write(path_to("untracked.pem"), "").expect("the test directory is writable");
    fs::create_dir(path_to("unlisted")).expect("the test directory is writable");
    fs::remove_file(path_to("pipe.yaml")).expect("the file exists");
    let status = command(directory.path(), "mkfifo", &["pipe.yaml"]).status();
    assert!(status.expect("the command starts").success());
    fs::set_permissions(directory.path(), open_mode.clone()).expect("the test owns the file");
    for name in ["key.pem", "db.yaml", "changed.yaml", "pipe.yaml"] {
        fs::set_permissions(path_to(name), open_mode.clone()).expect("the test owns the file");
    }
    let closed_paths = [
        "closed",
        "file.yaml",
        "untracked.yaml",
        "untracked.pem",
        "unlisted",
    ];
    for name in closed_paths {
        fs::set_permissions(path_to(name), fs::Permissions::from_mode(0o000))
            .expect("the test owns the file");
    }
    for (args, names) in [
        (
            &["diff"][..],
            &[
                "closed/inner.yaml",
                "file.yaml",
                "untracked.yaml",
                "unlisted",
                "pipe.yaml",
                "changed.yaml",
            ][..],
        ),
        (
            &["diff", "-o", "json", "HEAD"],
            &[
                "closed/inner.yaml",
                "file.yaml",
                "untracked.yaml",
                "unlisted",
                "pipe.yaml",
                "changed.yaml",
            ],
        ),
        (&["diff", "file.yaml"], &["file.yaml"]),
        (&["diff", "closed/inner.yaml"], &["closed/inner.yaml"]),
        (&["diff", "closed"], &["closed/inner.yaml"]),
        (&["diff", "unlisted"], &["unlisted"]),
        (&["diff", "unlisted/x.yaml"], &["unlisted"]),
        (&["diff", "pipe.yaml"], &["pipe.yaml"]),
    ] {
        let output = seal_as_unprivileged_user(directory.path(), args);
        let printed = combined_output(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {printed}");
        for name in names {
            assert!(printed.contains(name), "{args:?}: {name} in {printed}");
        }
        assert!(
            printed.contains("unreadable") && !printed.contains(".pem"),
            "{args:?}: {printed}"
        );
        let removed_count = printed.matches("removed").count();
        assert_eq!(
            removed_count,
            usize::from(names.contains(&"changed.yaml")),
            "{args:?}: {printed}"
        );
        assert!(
            !printed.contains("no sealed item changed"),
            "{args:?}: {printed}"
        );
    }
    for name in closed_paths {
        fs::set_permissions(path_to(name), open_mode.clone()).expect("the test owns the file");
    }
}

/// Attack: an attacker replaces the edited text or the sealed file with a pipe, device, directory or looping link while
/// the editor runs, so that the command hangs.
#[test]
fn an_edit_refuses_special_files_and_reports_the_discarded_text() {
    let replacements = [
        "mkfifo $FILE",
        "ln -s /dev/zero $FILE",
        "mkdir $FILE",
        "ln -s loop $FILE",
    ];
    for (file, before) in [
        ("$1", ""),
        ("$SEALED", "sed -i s/hunter2/hunter3/ \"$1\"\n"),
    ] {
        for replacement in replacements {
            let directory = tempfile::tempdir().expect("a directory");
            create_sealed_file(directory.path());
            let sealed = directory.path().join("db.yaml").display().to_string();
            let replacement = replacement.replace("$FILE", &format!("\"{file}\""));
            let script =
                format!("#!/bin/sh\nSEALED={sealed}\n{before}rm \"{file}\"\n{replacement}\n");
            let editor = directory.path().join("editor");
            fs::write(&editor, script).expect("the test directory is writable");
            fs::set_permissions(&editor, fs::Permissions::from_mode(0o755))
                .expect("the test owns the file");
            let args = ["edit", "db.yaml", "--key", "key.pem", "--cert", "cert.pem"];
            let mut edit = command(
                directory.path(),
                "timeout",
                &[&["20", SEAL][..], &args].concat(),
            );
            let output = edit
                .env("EDITOR", &editor)
                .output()
                .expect("the command starts");
            let printed = combined_output(&output);
            assert_eq!(
                output.status.code(),
                Some(2),
                "{file} {replacement}: {printed}"
            );
            for part in ["nothing was changed", "the edited text was discarded"] {
                assert!(printed.contains(part), "{file} {replacement}: {printed}");
            }
            let has_file_name = printed.contains("values.yaml") || printed.contains("db.yaml");
            assert!(
                has_file_name && !printed.contains("hunter"),
                "{file} {replacement}: {printed}"
            );
        }
    }
}

/// Attack: an attacker replaces a sealed file with a pipe, device or directory, so that a command that changes the file
/// hangs.
#[test]
fn commands_do_not_wait_for_a_pipe_in_place_of_a_file() {
    for replacement in ["mkfifo db.yaml", "ln -s /dev/zero db.yaml", "mkdir db.yaml"] {
        for args in [
            &["set", "db.yaml", "a", "--generate", "--cert", "cert.pem"][..],
            &["unset", "db.yaml", "a"],
            &["edit", "db.yaml", "--blind", "--cert", "cert.pem"],
        ] {
            let directory = tempfile::tempdir().expect("a directory");
            create_sealed_file(directory.path());
            fs::remove_file(directory.path().join("db.yaml")).expect("the file exists");
            let status = command(directory.path(), "sh", &["-c", replacement]).status();
            assert!(status.expect("the command starts").success());
            let mut run = command(
                directory.path(),
                "timeout",
                &[&["20", SEAL][..], args].concat(),
            );
            let output = run
                .env("EDITOR", "true")
                .output()
                .expect("the command starts");
            let printed = combined_output(&output);
            assert_eq!(
                output.status.code(),
                Some(2),
                "{args:?} {replacement}: {printed}"
            );
            let is_explained =
                printed.contains("not a regular file") || printed.contains("is a directory");
            assert!(
                is_explained && printed.contains("db.yaml"),
                "{args:?} {replacement}: {printed}"
            );
        }
    }
}

#[test]
fn reports_a_repository_without_a_commit() {
    let directory = tempfile::tempdir().expect("a directory");
    git(directory.path(), &["init", "-q"]);
    create_sealed_file(directory.path());
    for args in [
        &["diff"][..],
        &["diff", "db.yaml"],
        &["diff", "--", "db.yaml"],
    ] {
        let output = seal(directory.path(), args);
        assert_code(&output, 2, format_args!("{args:?}"));
        assert_contains(
            &output,
            "no commit to compare with",
            format_args!("{args:?}"),
        );
    }
}

/// `sudo seal set` must not change the owner of a file. The test gives the file another owner if it runs as root, since
/// only root can.
#[test]
fn a_file_keeps_its_owner_group_and_mode() {
    let directory = tempfile::tempdir().expect("a directory");
    create_sealed_file(directory.path());
    let file = directory.path().join("db.yaml");
    let (owner, mode) = (
        if is_root() {
            NOBODY
        } else {
            fs::metadata(&file).expect("the file exists").uid()
        },
        0o640,
    );
    if is_root() {
        std::os::unix::fs::chown(&file, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("the test owns the file");
    let group = fs::metadata(&file).expect("the file exists").gid();
    for args in [
        &["set", "db.yaml", "b", "--generate", "--cert", "cert.pem"][..],
        &["unset", "db.yaml", "b"],
        &[
            "rotate",
            "db.yaml",
            "--key",
            "key.pem",
            "--cert",
            "other.pem",
        ],
    ] {
        let output = seal(directory.path(), args);
        assert!(
            output.status.success(),
            "{args:?}: {}",
            combined_output(&output)
        );
        let metadata = fs::metadata(&file).expect("the file exists");
        let attributes = (
            metadata.uid(),
            metadata.gid(),
            metadata.permissions().mode() & 0o777,
        );
        assert_eq!(attributes, (owner, group, mode), "{args:?}");
    }
}

/// By default, a process that exceeds the file size limit is killed in the middle of a write.
#[test]
fn a_write_above_the_file_size_limit_leaves_no_file() {
    let directory = tempfile::tempdir().expect("a directory");
    create_sealed_file(directory.path());
    let before = fs::read(directory.path().join("db.yaml")).expect("the file is readable");
    let set = format!("ulimit -f 0; exec {SEAL} set db.yaml b --generate --cert cert.pem");
    let create = format!(
        "ulimit -f 0; exec {SEAL} create x -n shop --from-file other.pem --cert cert.pem -w x.yaml"
    );
    let unset = format!("ulimit -f 0; exec {SEAL} unset db.yaml a");
    let rotate = format!("ulimit -f 0; exec {SEAL} rotate db.yaml --key key.pem --cert other.pem");
    for line in [set, create, unset, rotate] {
        let output = command(directory.path(), "sh", &["-c", &line])
            .output()
            .expect("the command starts");
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        assert_contains(&output, "cannot", &line);
        assert_eq!(
            fs::read(directory.path().join("db.yaml")).expect("the file is readable"),
            before
        );
        assert_eq!(
            fs::read_dir(directory.path())
                .expect("the directory is readable")
                .count(),
            4,
            "{line}"
        );
    }
}

/// When a signal ends `seal rotate`, every file is complete, no temporary files remain, and the output
/// reports the progress.
#[test]
fn an_interrupted_rotate_leaves_complete_files_and_reports_its_progress() {
    for (name, number) in [("HUP", 1), ("INT", 2), ("TERM", 15)] {
        let directory = tempfile::tempdir().expect("a directory");
        create_sealed_file(directory.path());
        let sealed =
            fs::read_to_string(directory.path().join("db.yaml")).expect("the file is readable");
        fs::create_dir(directory.path().join("tree")).expect("the test directory is writable");
        for i in 0..1500 {
            fs::write(directory.path().join(format!("tree/{i}.yaml")), &sealed)
                .expect("the test directory is writable");
        }
        let args = ["rotate", "tree", "--key", "key.pem", "--cert", "other.pem"];
        let run = command(directory.path(), SEAL, &args)
            .spawn()
            .expect("the command starts");
        let is_changed = || {
            let first = fs::read_to_string(directory.path().join("tree/0.yaml"));
            first.is_ok_and(|first| first != sealed)
        };
        while !is_changed() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = Command::new("kill")
            .args([format!("-{name}"), run.id().to_string()])
            .status();
        assert!(status.expect("the command starts").success());
        let output = run.wait_with_output().expect("the program was started");
        assert_eq!(output.status.signal(), Some(number), "{output:?}");
        let printed = combined_output(&output);
        assert!(
            printed.contains(&format!("interrupted by SIG{name} after ")),
            "{printed}"
        );
        assert!(printed.contains("tree/0.yaml"), "{printed}");
        assert_eq!(
            fs::read_dir(directory.path().join("tree"))
                .expect("the directory is readable")
                .count(),
            1500
        );
        let view = seal(directory.path(), &["view", "tree"]);
        assert!(view.status.success(), "{name}");
    }
}
