//! Tests how `seal` reads, names and counts keys for v2.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use shared::v2::{PublicRecipient, Recipient as _};

use crate::support::{assert_code, assert_contains, combined_output, command, write_files};
use crate::v2::{RULES, create, directory, read, seal, seal_ok, write_two_keys};

/// Returns a directory without rules, in which `db.yaml` contains the object `shop/db` with the items `a` and `b`.
fn directory_with_object(recipients: &str) -> tempfile::TempDir {
    let directory = directory();
    let rules = RULES.replace("[cluster.txt]", recipients);
    write_files(directory.path(), &[(".seal.yaml", &rules)]);
    create(
        directory.path(),
        &["--from-file", "b=value", "-w", "db.yaml"],
    );
    fs::remove_file(directory.path().join(".seal.yaml")).expect("the test owns the file");
    directory
}

fn recipient(directory: &Path, file: &str) -> PublicRecipient {
    let text = read(directory, file);
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    PublicRecipient::parse(lines.next().expect("a line")).expect("a recipient")
}

/// Fault: a command refuses the short identifier of a key, as it is in sealed values and in the output of other
/// commands, because in base64url it is not a prefix of the full identifier.
#[test]
fn accepts_the_short_identifier_of_a_key_and_shows_both() {
    let directory = directory();
    let directory = directory.path();
    write_two_keys(directory);
    let id = recipient(directory, "cluster.txt").key_id();
    let short = id.short().to_string();
    assert!(!id.to_string().starts_with(&short));
    for args in [
        &["keys", "list", "--directory", "state"],
        &["keys", "export", "--directory", "state"],
    ] {
        let (short, id) = (short.clone(), id.to_string());
        fs::remove_file(directory.join("state/keys/new.yaml")).ok();
        let printed = seal_ok(directory, args);
        assert!(
            printed.contains(&short) && printed.contains(&id),
            "{printed}"
        );
    }
    write_files(directory, &[(".seal.yaml", "rules: []\n")]);
    create(directory, &["--cert", "cert.pem", "-w", "db.yaml"]);
    let pinned = format!(
        "rules: [{{path: '*.yaml', format: v2, recipients: cluster.txt, fingerprint: [{short}]}}]\n"
    );
    write_files(directory, &[(".seal.yaml", &pinned)]);
    let rotate = ["rotate", "--to", "v2", "--key", "key.pem", "db.yaml"];
    let refused = seal(directory, &rotate);
    assert_contains(
        &refused,
        "refused to re-encrypt for the recipient",
        "unconfirmed",
    );
    seal_ok(directory, &[&rotate[..], &["--recipient", &short]].concat());
    let retired = pinned.replace("fingerprint", "retired");
    write_files(directory, &[(".seal.yaml", &retired)]);
    assert_contains(
        &seal(directory, &["lint", "db.yaml"]),
        "retired key",
        "lint",
    );
}

/// Fault: a backup is restored with `--seal-with`, and the summary names no sealing key.
#[test]
fn a_restore_names_the_v2_key_that_seals() {
    let directory = directory();
    let directory = directory.path();
    write_two_keys(directory);
    let short = recipient(directory, "cluster.txt")
        .key_id()
        .short()
        .to_string();
    fs::create_dir_all(directory.join("other/keys")).expect("the test owns the directory");
    let restore = [
        "keys",
        "restore",
        "state/keys/old.yaml",
        "--directory",
        "other",
    ];
    let printed = seal_ok(
        directory,
        &[&restore[..], &["--seal-with", &short]].concat(),
    );
    assert!(printed.contains("sealing key: key-old xw"), "{printed}");
    let unknown = recipient(directory, "escrow.txt")
        .key_id()
        .short()
        .to_string();
    let output = seal(
        directory,
        &[&restore[..], &["--seal-with", &unknown]].concat(),
    );
    assert_code(&output, 2, "unknown");
    assert_contains(&output, "the backup contains no key", "unknown");
}

/// Fault: key Secrets were joined without `---`, and all but the last are dropped without a message.
#[test]
fn refuses_joined_key_files_and_uses_every_key_of_a_file() {
    let directory = directory_with_object("[cluster.txt]");
    let directory = directory.path();
    write_two_keys(directory);
    let joined = read(directory, "state/keys/old.yaml") + &read(directory, "state/keys/new.yaml");
    let both = read(directory, "key.pem") + &read(directory, "cluster.key");
    write_files(directory, &[("joined.yaml", &joined), ("both.key", &both)]);
    for args in [
        &["view", "--reveal", "db.yaml", "--key", "joined.yaml"][..],
        &["lint", "db.yaml", "--keys", "joined.yaml"],
    ] {
        let output = seal(directory, args);
        assert_code(&output, 2, format!("{args:?}"));
        assert_contains(
            &output,
            "insert a `---` line above this line",
            format!("{args:?}"),
        );
    }
    let input = fs::File::open(directory.join("db.yaml")).expect("it exists");
    let mut kubeseal = command(env!("CARGO_BIN_EXE_kubeseal"), directory, "/nowhere");
    kubeseal.args(["--recovery-unseal", "--recovery-private-key", "joined.yaml"]);
    let output = kubeseal.current_dir(directory).stdin(input).output();
    assert_contains(
        &output.expect("the command starts"),
        "joined without",
        "kubeseal",
    );
    let view = ["view", "--reveal", "db.yaml", "--key", "both.key"];
    assert!(seal_ok(directory, &view).contains("correct horse"));
    create(directory, &["--cert", "cert.pem", "-w", "v1.yaml"]);
    let view = ["view", "--reveal", "v1.yaml", "--key", "both.key"];
    assert!(seal_ok(directory, &view).contains("correct horse"));
}

/// Fault: an escrow identity, with which values are recovered, is refused as a backup.
#[test]
fn the_escrow_identity_is_a_backup() {
    let directory = directory_with_object("[cluster.txt, escrow.txt]");
    let directory = directory.path();
    for key in ["escrow.key", "cluster.key"] {
        let doctor = ["doctor", "db.yaml", "--offline", "--backup", key];
        assert!(seal_ok(directory, &doctor).contains("can be unsealed with"));
        let status = seal(
            directory,
            &[
                "keys",
                "status",
                "db.yaml",
                "--directory",
                ".",
                "--backup",
                key,
            ],
        );
        assert!(
            !combined_output(&status).contains("no key can unseal"),
            "{key}"
        );
        if cfg!(target_os = "linux") {
            let exec = [
                "exec", "--only", "a", "db.yaml", "--backup", key, "--", "printenv", "a",
            ];
            assert!(seal_ok(directory, &exec).contains("correct horse"));
        }
    }
}

/// Fault: `seal doctor` repeats one fault for each item, suggests sealing again, and counts RSA keys only.
#[test]
fn doctor_reports_a_missing_v2_key_once_and_counts_v2_keys() {
    let directory = directory_with_object("[cluster.txt]");
    let directory = directory.path();
    write_two_keys(directory);
    let output = seal(
        directory,
        &["doctor", "db.yaml", "--offline", "--backup", "escrow.key"],
    );
    assert_code(&output, 1, "doctor");
    let printed = combined_output(&output);
    assert_eq!(
        printed.matches("no key for the item").count(),
        1,
        "{printed}"
    );
    assert!(
        printed.contains("2 v2 items") && printed.contains("--backup"),
        "{printed}"
    );
    let output = seal(directory, &["doctor", "--directory", "state"]);
    assert_contains(
        &output,
        "v2 keys: 2 usable, key-new (xw) seals",
        "directory",
    );
}

/// Fault: a converted value is shown as a changed one, and a missing certificate is reported for each file.
#[test]
fn diff_shows_a_conversion_as_a_change_of_the_format() {
    let directory = directory();
    let directory = directory.path();
    write_files(directory, &[(".seal.yaml", "rules: []\n")]);
    create(directory, &["--cert", "cert.pem", "-w", "db.yaml"]);
    crate::support::git(directory, &["init", "-q"]);
    crate::support::git(directory, &["add", "db.yaml"]);
    crate::support::git(directory, &["commit", "-qm", "one"]);
    let keys = ["--key", "key.pem", "--key", "cluster.key"];
    let rotate = [
        "rotate",
        "--to",
        "v2",
        "--recipient",
        "cluster.txt",
        "db.yaml",
    ];
    seal_ok(directory, &[&rotate[..], &keys].concat());
    let want = "~ a format changed from v1 to v2; whether the value changed is unknown";
    assert_contains(&seal(directory, &["diff"]), want, "diff");
    let rotate = ["rotate", "--recipient", "cluster.txt", "db.yaml"];
    let printed = seal_ok(directory, &[&rotate[..], &keys].concat());
    assert!(
        printed.contains("1 already for the configured recipients"),
        "{printed}"
    );
    let missing = [
        "rotate",
        "db.yaml",
        "--key",
        "key.pem",
        "--cert",
        "missing.pem",
    ];
    let output = seal(directory, &missing);
    assert_code(&output, 2, "missing");
    assert_contains(&output, "cannot use the certificate missing.pem", "missing");
    assert!(!combined_output(&output).contains("shop/db"));
}

/// Fault: an archive or its signature is written to a pipe, so that the command waits for a reader and then removes the
/// pipe. No backup exists afterwards.
#[test]
#[cfg(unix)]
fn a_backup_refuses_pipes_before_anything_is_written() {
    use std::os::unix::fs::FileTypeExt as _;
    let directory = directory();
    let directory = directory.path();
    write_two_keys(directory);
    for name in ["pipe", "keys.age.sig"] {
        let made = command("mkfifo", directory, "/nowhere")
            .arg(directory.join(name))
            .status();
        assert!(made.expect("mkfifo starts").success());
    }
    let run = |archive: &str, more: &[&str]| {
        let args = ["keys", "backup", archive, "-R", "escrow.txt", "--force"];
        seal(
            directory,
            &[&args[..], &["--directory", "state"], more].concat(),
        )
    };
    let sign = ["--sign", "signing-key"];
    for (archive, more, pipe) in [
        ("pipe", &[][..], "pipe"),
        ("keys.age", &sign, "keys.age.sig"),
    ] {
        let output = run(archive, more);
        assert_code(&output, 2, archive);
        let want = format!("cannot write {pipe}: not a regular file; hint: ");
        assert_contains(&output, &want, archive);
        let metadata = fs::metadata(directory.join(pipe)).expect("the pipe stays");
        assert!(metadata.file_type().is_fifo());
    }
    assert!(!directory.join("keys.age").exists());
    let keys = read(directory, "state/keys/old.yaml");
    assert!(!keys.contains("backed-up"), "{keys}");
}

/// Fault: after a key was renewed, `seal keys export` prints the old key without a remark, and values are sealed for it
/// for months.
#[test]
fn export_reports_a_newer_key_without_a_backup() {
    let directory = directory();
    let directory = directory.path();
    write_two_keys(directory);
    let (new, hidden) = (
        directory.join("state/keys/new.yaml"),
        directory.join("new.yaml"),
    );
    fs::rename(&new, &hidden).expect("the test owns the file");
    let state = ["--directory", "state"];
    // A post-quantum age recipient, which is a recipient of v2 values too.
    let backup = ["keys", "backup", "keys.age", "-R", "escrow.txt"];
    seal_ok(directory, &[&backup[..], &state].concat());
    fs::rename(&hidden, &new).expect("the test owns the file");
    let export = seal(directory, &[&["keys", "export"][..], &state].concat());
    assert_code(&export, 0, "export");
    let want =
        "key-new is the newest key of the suite xw, but has no backup, so key-old is printed";
    assert_contains(&export, want, "export");
    let printed = String::from_utf8_lossy(&export.stdout).into_owned();
    let line = PublicRecipient::parse(&printed).expect("one recipient");
    assert_eq!(line.key_id(), recipient(directory, "cluster.txt").key_id());
    let list = seal_ok(directory, &[&["keys", "list"][..], &state].concat());
    assert_eq!(list.matches(" sealing ").count(), 2, "{list}");
    fs::create_dir_all(directory.join("other/keys")).expect("the test owns the directory");
    let restore = ["keys", "restore", "keys.age", "--identity", "escrow.key"];
    let printed = seal_ok(
        directory,
        &[&restore[..], &["--directory", "other"]].concat(),
    );
    assert!(printed.contains("1 of 1 keys restored"), "{printed}");
}
