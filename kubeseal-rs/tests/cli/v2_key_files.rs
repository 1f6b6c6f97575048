//! Tests how `seal` reads, names and counts keys for v2.
#![expect(clippy::expect_used, reason = "a test")]

use std::fs;
use std::path::Path;

use shared::v2::{PublicRecipient, Recipient as _};

use crate::support::{assert_code, assert_contains, combined_output, command, write_files};
use crate::v2::{RULES, create, folder, read, seal, seal_ok, write_two_keys};

/// Returns a directory with `shop/db`, of the items `a` and `b`, in `db.yaml`, and without rules.
fn folder_with_object(recipients: &str) -> tempfile::TempDir {
    let folder = folder();
    let rules = RULES.replace("[cluster.txt]", recipients);
    write_files(folder.path(), &[(".seal.yaml", &rules)]);
    create(folder.path(), &["--from-file", "b=value", "-w", "db.yaml"]);
    fs::remove_file(folder.path().join(".seal.yaml")).expect("the test owns the file");
    folder
}

fn recipient(folder: &Path, file: &str) -> PublicRecipient {
    let text = read(folder, file);
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    PublicRecipient::parse(lines.next().expect("a line")).expect("a recipient")
}

/// Fault: the short identifier, which values and lines contain, ends differently from the full one, and is refused.
#[test]
fn accepts_the_short_identifier_of_a_key_and_shows_both() {
    let folder = folder();
    let folder = folder.path();
    write_two_keys(folder);
    let id = recipient(folder, "cluster.txt").key_id();
    let short = id.short().to_string();
    assert!(!id.to_string().starts_with(&short));
    for args in [
        &["keys", "list", "--directory", "state"],
        &["keys", "export", "--directory", "state"],
    ] {
        let (short, id) = (short.clone(), id.to_string());
        fs::remove_file(folder.join("state/keys/new.yaml")).ok();
        let printed = seal_ok(folder, args);
        assert!(
            printed.contains(&short) && printed.contains(&id),
            "{printed}"
        );
    }
    write_files(folder, &[(".seal.yaml", "rules: []\n")]);
    create(folder, &["--cert", "cert.pem", "-w", "db.yaml"]);
    let pinned = format!(
        "rules: [{{path: '*.yaml', format: v2, recipients: cluster.txt, fingerprint: [{short}]}}]\n"
    );
    write_files(folder, &[(".seal.yaml", &pinned)]);
    let rotate = ["rotate", "--to", "v2", "--key", "key.pem", "db.yaml"];
    let refused = seal(folder, &rotate);
    assert_contains(&refused, "only a rule names the recipient", "unconfirmed");
    seal_ok(folder, &[&rotate[..], &["--recipient", &short]].concat());
    let retired = pinned.replace("fingerprint", "retired");
    write_files(folder, &[(".seal.yaml", &retired)]);
    assert_contains(&seal(folder, &["lint", "db.yaml"]), "retired key", "lint");
}

/// Fault: a backup is restored with `--seal-with`, and the summary says that no key seals.
#[test]
fn a_restore_names_the_v2_key_that_seals() {
    let folder = folder();
    let folder = folder.path();
    write_two_keys(folder);
    let short = recipient(folder, "cluster.txt")
        .key_id()
        .short()
        .to_string();
    fs::create_dir_all(folder.join("other/keys")).expect("the test owns the directory");
    let restore = [
        "keys",
        "restore",
        "state/keys/old.yaml",
        "--directory",
        "other",
    ];
    let printed = seal_ok(folder, &[&restore[..], &["--seal-with", &short]].concat());
    assert!(printed.contains("sealing key: key-old xw"), "{printed}");
    let unknown = recipient(folder, "escrow.txt").key_id().short().to_string();
    let output = seal(folder, &[&restore[..], &["--seal-with", &unknown]].concat());
    assert_code(&output, 2, "unknown");
    assert_contains(&output, "the backup contains no key", "unknown");
}

/// Fault: key Secrets were joined without `---`, and all but the last are dropped without a message.
#[test]
fn refuses_joined_key_files_and_uses_every_key_of_a_file() {
    let folder = folder_with_object("[cluster.txt]");
    let folder = folder.path();
    write_two_keys(folder);
    let joined = read(folder, "state/keys/old.yaml") + &read(folder, "state/keys/new.yaml");
    let both = read(folder, "key.pem") + &read(folder, "cluster.key");
    write_files(folder, &[("joined.yaml", &joined), ("both.key", &both)]);
    for args in [
        &["view", "--reveal", "db.yaml", "--key", "joined.yaml"][..],
        &["lint", "db.yaml", "--keys", "joined.yaml"],
    ] {
        let output = seal(folder, args);
        assert_code(&output, 2, format!("{args:?}"));
        assert_contains(&output, "insert `---` above this line", format!("{args:?}"));
    }
    let input = fs::File::open(folder.join("db.yaml")).expect("it exists");
    let mut kubeseal = command(env!("CARGO_BIN_EXE_kubeseal"), folder, "/nowhere");
    kubeseal.args(["--recovery-unseal", "--recovery-private-key", "joined.yaml"]);
    let output = kubeseal.current_dir(folder).stdin(input).output();
    assert_contains(&output.expect("it runs"), "joined without", "kubeseal");
    let view = ["view", "--reveal", "db.yaml", "--key", "both.key"];
    assert!(seal_ok(folder, &view).contains("correct horse"));
    create(folder, &["--cert", "cert.pem", "-w", "v1.yaml"]);
    let view = ["view", "--reveal", "v1.yaml", "--key", "both.key"];
    assert!(seal_ok(folder, &view).contains("correct horse"));
}

/// Fault: an escrow identity, with which values are recovered, is refused as a backup.
#[test]
fn the_escrow_identity_is_a_backup() {
    let folder = folder_with_object("[cluster.txt, escrow.txt]");
    let folder = folder.path();
    for key in ["escrow.key", "cluster.key"] {
        let doctor = ["doctor", "db.yaml", "--offline", "--backup", key];
        assert!(seal_ok(folder, &doctor).contains("can be unsealed with"));
        let status = seal(
            folder,
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
            assert!(seal_ok(folder, &exec).contains("correct horse"));
        }
    }
}

/// Fault: doctor repeats one fault for each item and suggests to seal again, and counts RSA keys only.
#[test]
fn doctor_reports_a_missing_v2_key_once_and_counts_v2_keys() {
    let folder = folder_with_object("[cluster.txt]");
    let folder = folder.path();
    write_two_keys(folder);
    let output = seal(
        folder,
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
    let output = seal(folder, &["doctor", "--directory", "state"]);
    assert_contains(
        &output,
        "v2 keys: 2 usable, key-new (xw) seals",
        "directory",
    );
}

/// Fault: a converted value is shown as a changed one, and a missing certificate is reported for each file.
#[test]
fn a_conversion_is_a_change_of_the_format() {
    let folder = folder();
    let folder = folder.path();
    write_files(folder, &[(".seal.yaml", "rules: []\n")]);
    create(folder, &["--cert", "cert.pem", "-w", "db.yaml"]);
    crate::support::git(folder, &["init", "-q"]);
    crate::support::git(folder, &["add", "db.yaml"]);
    crate::support::git(folder, &["commit", "-qm", "one"]);
    let keys = ["--key", "key.pem", "--key", "cluster.key"];
    let rotate = [
        "rotate",
        "--to",
        "v2",
        "--recipient",
        "cluster.txt",
        "db.yaml",
    ];
    seal_ok(folder, &[&rotate[..], &keys].concat());
    let want = "~ a format changed from v1 to v2; whether the value changed is unknown";
    assert_contains(&seal(folder, &["diff"]), want, "diff");
    let rotate = ["rotate", "--recipient", "cluster.txt", "db.yaml"];
    let printed = seal_ok(folder, &[&rotate[..], &keys].concat());
    assert!(
        printed.contains("1 already for these recipients"),
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
    let output = seal(folder, &missing);
    assert_code(&output, 2, "missing");
    assert_contains(&output, "cannot use the certificate missing.pem", "missing");
    assert!(!combined_output(&output).contains("shop/db"));
}

/// Fault: after a rotation, export prints the old key without a remark, and values are sealed for it for months.
#[test]
fn export_reports_a_newer_key_without_a_backup() {
    let folder = folder();
    let folder = folder.path();
    write_two_keys(folder);
    let (new, hidden) = (folder.join("state/keys/new.yaml"), folder.join("new.yaml"));
    fs::rename(&new, &hidden).expect("the test owns the file");
    let directory = ["--directory", "state"];
    // A post-quantum recipient of age, which is a recipient of v2 values too.
    let backup = ["keys", "backup", "keys.age", "-R", "escrow.txt"];
    seal_ok(folder, &[&backup[..], &directory].concat());
    fs::rename(&hidden, &new).expect("the test owns the file");
    let export = seal(folder, &[&["keys", "export"][..], &directory].concat());
    assert_code(&export, 0, "export");
    let want =
        "key-new is the newest key of the suite xw, but has no backup, so key-old is printed";
    assert_contains(&export, want, "export");
    let printed = String::from_utf8_lossy(&export.stdout).into_owned();
    let line = PublicRecipient::parse(&printed).expect("one recipient");
    assert_eq!(line.key_id(), recipient(folder, "cluster.txt").key_id());
    let list = seal_ok(folder, &[&["keys", "list"][..], &directory].concat());
    assert_eq!(list.matches(" sealing ").count(), 2, "{list}");
    fs::create_dir_all(folder.join("other/keys")).expect("the test owns the directory");
    let restore = ["keys", "restore", "keys.age", "--identity", "escrow.key"];
    let printed = seal_ok(folder, &[&restore[..], &["--directory", "other"]].concat());
    assert!(printed.contains("1 of 1 keys restored"), "{printed}");
}
