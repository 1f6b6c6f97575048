//! Tests `seal` with v2 values: whole trees, recipients of untrusted rules, and keys in a directory.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Output;

use shared::manifest;
use shared::plain::Plain;
use shared::resource::SealedSecret;
use shared::secret::Secret;
use shared::v2::key_secret::{self, StoredKey};
use shared::v2::{SecretKey, Suite};

use crate::support::{assert_code, assert_contains, combined_output, command, write_files};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/v2.fixtures");
pub(crate) const RULES: &str =
    "rules:\n- path: '*.yaml'\n  format: v2\n  recipients: [cluster.txt]\n";

/// Runs `seal` in a directory.
pub(crate) fn seal(directory: &Path, args: &[&str]) -> Output {
    let mut command = command(env!("CARGO_BIN_EXE_seal"), directory, "/nowhere");
    command.args(args).current_dir(directory);
    command.output().expect("the command starts")
}

#[track_caller]
pub(crate) fn seal_ok(directory: &Path, args: &[&str]) -> String {
    let output = seal(directory, args);
    assert_code(&output, 0, format!("{args:?}"));
    combined_output(&output)
}

/// Returns a directory with keys, a certificate, [`RULES`], and a value in the file `value`.
pub(crate) fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for name in [
        "cert.pem",
        "key.pem",
        "cluster.key",
        "cluster.txt",
        "escrow.key",
        "escrow.txt",
    ] {
        fs::copy(Path::new(FIXTURES).join(name), directory.path().join(name))
            .expect("the test owns the file");
    }
    write_files(
        directory.path(),
        &[(".seal.yaml", RULES), ("value", "correct horse")],
    );
    directory
}

/// The arguments that seal one value, as item `a` of the object `shop/db`.
pub(crate) const CREATE_ARGS: [&str; 6] = ["create", "db", "-n", "shop", "--from-file", "a=value"];

/// Creates `shop/db` with [`CREATE_ARGS`] and these arguments.
#[track_caller]
pub(crate) fn create(directory: &Path, more: &[&str]) {
    seal_ok(directory, &[&CREATE_ARGS[..], more].concat());
}

/// Returns the stdout of `seal keys export`: the public keys of the controller whose directory is `state`.
#[track_caller]
pub(crate) fn export(directory: &Path) -> String {
    let output = seal(directory, &["keys", "export", "--directory", "state"]);
    assert_code(&output, 0, "export");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn read(directory: &Path, file: &str) -> String {
    fs::read_to_string(directory.join(file)).expect("the file exists")
}

/// Returns the text of a file without the entries of `encryptedData`, each of which is one line.
fn outside_entries(text: &str) -> String {
    let is_entry = |line: &&str| {
        let line = line.trim_start();
        ["a: ", "b: ", "\"/lock/", "/lock/"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    let lines = text.lines().filter(|line| !is_entry(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// Converts a tree of a thousand files to v2 and back. Only entries of `encryptedData` change, and a second run changes
/// nothing.
#[test]
fn converting_a_thousand_files_keeps_every_other_byte() {
    let directory = directory();
    let directory = directory.path();
    let args = [
        "create",
        "wide",
        "--from-file",
        "a=value",
        "--from-file",
        "b=value",
        "--sealed-format",
        "v1",
        "--cert",
        "cert.pem",
        "--scope",
        "cluster-wide",
        "--no-hints",
        "-w",
        "tree/0.yaml",
    ];
    fs::create_dir(directory.join("tree")).expect("the test owns the directory");
    seal_ok(directory, &args);
    let first = read(directory, "tree/0.yaml");
    for number in 1..1000 {
        let indent = if number % 2 == 0 {
            ""
        } else {
            "\n# a comment   \n"
        };
        let text = first.replace("name: wide", &format!("name: wide{number}  # {number}"));
        fs::write(
            directory.join(format!("tree/{number}.yaml")),
            format!("{indent}{text}# end"),
        )
        .expect("the test owns the file");
    }
    let texts = || -> Vec<String> {
        (0..1000)
            .map(|number| read(directory, &format!("tree/{number}.yaml")))
            .collect()
    };
    let before = texts();
    let keys = ["--key", "key.pem", "--key", "cluster.key"];
    let to_v2 = [&["rotate", "tree", "--to", "v2"][..], &keys].concat();
    let printed = seal_ok(directory, &to_v2);
    assert!(
        printed.contains("2000 items in 1000 files re-encrypted"),
        "{printed}"
    );
    let converted = texts();
    for (before, after) in before.iter().zip(&converted) {
        assert_eq!(outside_entries(before), outside_entries(after));
        assert!(
            !after.contains(" AQ") && after.contains("seal2.s."),
            "{after}"
        );
    }
    seal_ok(directory, &to_v2);
    assert!(texts() == converted, "a second run changes nothing");
    let to_v1 = [
        &[
            "rotate",
            "tree",
            "--to",
            "v1",
            "--cert",
            "cert.pem",
            "--no-hints",
        ][..],
        &keys,
    ];
    seal_ok(directory, &to_v1.concat());
    for (before, after) in before.iter().zip(&texts()) {
        assert_eq!(outside_entries(before), outside_entries(after));
        assert!(!after.contains("seal2"), "{after}");
    }
}

/// Attack: a committer adds a recipient to the rule, or to the file, to read existing values once a user re-encrypts
/// them.
#[test]
fn existing_values_are_sealed_only_for_confirmed_recipients() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &["-w", "db.yaml"]);
    let sealed = read(directory, "db.yaml");
    let with_escrow = RULES.replace("[cluster.txt]", "[cluster.txt, escrow.txt]");
    write_files(directory, &[(".seal.yaml", &with_escrow)]);
    let rotate = ["rotate", "db.yaml", "--key", "cluster.key"];
    let output = seal(directory, &rotate);
    assert_code(&output, 2, "refused to re-encrypt for the recipient");
    assert_contains(&output, "refused to re-encrypt for the recipient", "rotate");
    assert_eq!(read(directory, "db.yaml"), sealed);
    for confirmation in [["--recipient", "escrow.txt"], ["--key", "escrow.key"]] {
        write_files(directory, &[("db.yaml", &sealed)]);
        seal_ok(directory, &[&rotate[..], &confirmation].concat());
        seal_ok(
            directory,
            &["view", "db.yaml", "--reveal", "--key", "escrow.key"],
        );
    }
    // A recipient of the file that no rule lists is reported, and does not get the next values.
    write_files(directory, &[(".seal.yaml", RULES)]);
    let output = seal(directory, &["lint", "db.yaml"]);
    assert_code(&output, 1, "a recipient that no rule lists");
    assert_contains(&output, "[foreign-recipient]", "lint");
    seal_ok(directory, &["set", "db.yaml", "a", "--from-file", "value"]);
    assert_code(&seal(directory, &["lint", "db.yaml"]), 0, "after the set");
    let output = seal(
        directory,
        &["view", "db.yaml", "--reveal", "--key", "escrow.key"],
    );
    assert_code(&output, 2, "the key of the removed recipient");
}

/// Attack: a committer adds a recipient to a rule, and a user imports all Secrets of a cluster.
#[test]
fn secrets_of_a_cluster_are_imported_only_for_confirmed_recipients() {
    let directory = directory();
    let directory = directory.path();
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: x}\n";
    write_files(directory, &[("list.txt", secret)]);
    for import in [
        &["import", "list", "list.txt", "--into", "sealed"][..],
        &["import", "secret", "list.txt", "-w", "db.yaml"],
    ] {
        let output = seal(directory, import);
        assert_code(&output, 2, format!("{import:?}"));
        assert_contains(&output, "refused to re-encrypt for the recipient", "import");
        seal_ok(
            directory,
            &[import, &["--recipient", "cluster.txt"]].concat(),
        );
    }
    assert!(directory.join("sealed/shop/db.yaml").exists());
}

/// Attack: an attacker has a key that is marked as compromised, or a key that was restored as opening-only. A rule or a
/// flag names it as a recipient, and the user passes its key Secret with `--key`.
#[test]
fn a_marked_key_neither_confirms_a_recipient_nor_gets_values() {
    let rsa = RULES.replace("cluster.txt", "cert.pem");
    for (rules, flags) in [
        (RULES, &[][..]),
        (RULES, &["--recipient", "cluster.txt"]),
        ("rules: []\n", &["--recipient", "cluster.txt"]),
        (&rsa, &[]),
        (&rsa, &["--recipient", "cert.pem"]),
    ] {
        for mark in ["compromised", "opening-only"] {
            let directory = directory();
            let directory = directory.path();
            write_files(
                directory,
                &[(".seal.yaml", if rules == rsa { rules } else { RULES })],
            );
            create(directory, &["-w", "db.yaml"]);
            let sealed = read(directory, "db.yaml");
            let key = if rules == rsa {
                rsa_secret(directory)
            } else {
                v2_secret(Suite::XWing, "k", 1, 1)
            };
            let marked = marked(key, mark);
            write_files(
                directory,
                &[(".seal.yaml", rules), ("marked.yaml", &marked)],
            );
            // `seal edit` exists only on Linux.
            let count = if cfg!(target_os = "linux") { 2 } else { 1 };
            for args in &[["rotate", "db.yaml"], ["edit", "db.yaml"]][..count] {
                let mut command = command(env!("CARGO_BIN_EXE_seal"), directory, "/nowhere");
                command
                    .args(args)
                    .args(["--key", "marked.yaml"])
                    .args(flags);
                command.current_dir(directory).env("EDITOR", "/bin/false");
                let output = command.output().expect("the command starts");
                let case = format!("{rules} {flags:?} {mark} {args:?}");
                let is_edit_without_rule = args[0] == "edit" && rules == "rules: []\n";
                assert_code(&output, 2, &case);
                if !is_edit_without_rule {
                    assert_contains(&output, &format!("is marked as {mark}"), &case);
                }
                assert_eq!(read(directory, "db.yaml"), sealed, "{case}");
            }
            // The key still opens values.
            seal_ok(
                directory,
                &["view", "db.yaml", "--reveal", "--key", "marked.yaml"],
            );
        }
    }
}

/// Returns a Secret with the private key of `cert.pem`.
fn rsa_secret(directory: &Path) -> Secret {
    let mut secret = v2_secret(Suite::XWing, "k", 1, 1);
    let item = |item: &str, file| (item.to_owned(), Plain::from(read(directory, file)));
    secret.data = [item("tls.key", "key.pem"), item("tls.crt", "cert.pem")].into();
    secret
}

/// Returns the manifest of a key Secret with this mark.
fn marked(mut secret: Secret, mark: &str) -> String {
    let annotations = secret.metadata.annotations.get_or_insert_default();
    annotations.insert(format!("sealedsecrets.bitnami.com/{mark}"), "x".to_owned());
    manifest::to_yaml(&secret.to_document())
}

/// Attack: a committer adds a v2 key to a rule that pins certificates, or to a rule while the user pins a certificate
/// in the environment.
#[test]
fn refuses_v2_keys_that_are_not_pinned() {
    let directory = directory();
    let directory = directory.path();
    let output = {
        let mut command = command(env!("CARGO_BIN_EXE_seal"), directory, "/nowhere");
        let pin = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
        command.env("SEALED_SECRETS_CERT_FINGERPRINT", pin);
        command
            .args(CREATE_ARGS)
            .args(["--for", "db.yaml"])
            .current_dir(directory)
            .output()
            .expect("the command starts")
    };
    assert_code(&output, 2, "a pin of the user");
    assert_contains(&output, "pass --recipient", "a pin of the user");
    let pinned =
        RULES.to_owned() + "  fingerprint: SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\n";
    write_files(directory, &[(".seal.yaml", &pinned)]);
    let output = seal(
        directory,
        &[&CREATE_ARGS[..], &["--for", "db.yaml"]].concat(),
    );
    assert_code(&output, 2, "a pin of the rule");
    assert_contains(&output, "requires one of the keys", "a pin of the rule");
    let pinned = RULES.to_owned() + "  fingerprint: 1f79tcRB6C15M6q5Y1tFHSefo3FSXMGBXasU53Dmf04\n";
    write_files(directory, &[(".seal.yaml", &pinned)]);
    create(directory, &["--for", "db.yaml"]);
}

/// Returns the fingerprint of `cert.pem`.
pub(crate) fn fingerprint(directory: &Path) -> String {
    let pem = read(directory, "cert.pem");
    let (certificate, _) = shared::key::Certificate::first_of_pem(pem.as_bytes()).expect("valid");
    certificate.fingerprint().to_string()
}

/// Fault: a rule without recipients retires the key, pins another key or requires longer keys, and a user or a script
/// passes the key with `--recipient`.
#[test]
fn checks_a_recipient_of_a_flag_against_the_rule() {
    let directory = directory();
    let directory = directory.path();
    let retired = format!("retired: ['{}']", fingerprint(directory));
    let pinned = "fingerprint: SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
    let retired_id = "retired: 1f79tcRB6C15M6q5Y1tFHSefo3FSXMGBXasU53Dmf04";
    let v1 = ["--sealed-format", "v1", "--cert", "cert.pem"];
    create(directory, &[&["-w", "old.yaml"][..], &v1].concat());
    let rotate = ["rotate", "old.yaml", "--to", "v2", "--key", "key.pem"];
    for (restriction, recipient, why) in [
        (retired.as_str(), "cert.pem", "as retired"),
        (retired_id, "cluster.txt", "as retired"),
        (
            pinned,
            "cert.pem",
            "requires a certificate with the fingerprint",
        ),
        (pinned, "cluster.txt", "requires one of the keys"),
        ("keySize: 8192", "cert.pem", "at least 8192 bits"),
    ] {
        let rules = format!("rules:\n- path: '*.yaml'\n  format: v2\n  {restriction}\n");
        write_files(directory, &[(".seal.yaml", &rules)]);
        let recipient = ["--recipient", recipient];
        let create = [&CREATE_ARGS[..], &["--for", "db.yaml"], &recipient].concat();
        let output = seal(directory, &create);
        assert_code(&output, 2, restriction);
        assert_contains(&output, why, restriction);
        crate::v2_attacks::assert_refused(
            directory,
            &[&rotate[..], &recipient].concat(),
            "old.yaml",
            why,
        );
    }
    let rules = "rules:\n- path: '*.yaml'\n  format: v2\n";
    write_files(directory, &[(".seal.yaml", rules)]);
    create(
        directory,
        &["--for", "db.yaml", "--recipient", "cluster.txt"],
    );
}

/// Without a key, `set` changes one line in place.
#[test]
fn set_without_keys_changes_one_line() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &["--from-file", "b=value", "-w", "db.yaml"]);
    let before = read(directory, "db.yaml").replace("    b: ", "    # the second\n    b:   ");
    write_files(directory, &[("db.yaml", &before)]);
    seal_ok(directory, &["set", "db.yaml", "b", "--from-file", "value"]);
    let after = read(directory, "db.yaml");
    let changed: Vec<_> = before
        .lines()
        .zip(after.lines())
        .filter(|(a, b)| a != b)
        .collect();
    let [(_, line)] = changed[..] else {
        unreachable!("{changed:?}")
    };
    assert!(line.starts_with("    b:   seal2.i."), "{line}");
    assert_eq!(before.lines().count(), after.lines().count());
    let parsed = manifest::read(after.as_bytes()).expect("valid");
    let (sealed, _) = SealedSecret::all_from_document(&parsed[0]).expect("valid");
    let object = shared::v2::Object::parse(&sealed[0].spec.encrypted_data).expect("valid");
    assert!(
        object.view()["b"].is_template_bound,
        "like the other values of the file"
    );
    // The shared lock is removed together with its last item.
    seal_ok(directory, &["set", "db.yaml", "a", "--from-file", "value"]);
    assert!(!read(directory, "db.yaml").contains("/lock/"));
}

#[test]
fn lists_backs_up_restores_retires_and_marks_v2_keys() {
    let directory = directory();
    let directory = directory.path();
    write_two_keys(directory);
    let state = ["--directory", "state"];
    let run = |args: &[&str]| seal(directory, &[args, &state].concat());
    let listed = run(&["keys", "list"]);
    assert_code(&listed, 0, "list");
    for want in [
        "key-old  opening",
        "key-new  sealing",
        "xw 1f79tcRB6C15M6q5Y1tFHQ (1f79tcRB6C15M6q5Y1tFHSefo3FSXMGBXasU53Dmf04)",
    ] {
        assert_contains(&listed, want, "list");
    }
    let exported = run(&["keys", "export", "--comment", "main"]);
    assert_contains(&exported, "seal2-recipient xw ", "export");
    assert_contains(&exported, " main\n", "export");

    write_files(directory, &[("pass", "a long passphrase")]);
    let backup = run(&["keys", "backup", "keys.age", "--passphrase-file", "pass"]);
    assert_contains(
        &backup,
        "2 keys of state/keys, 2 marked as backed up",
        "backup",
    );
    let marked = read(directory, "state/keys/old.yaml");
    let id = "1f79tcRB6C15M6q5Y1tFHSefo3FSXMGBXasU53Dmf04";
    assert!(
        marked.contains("/backed-up") && marked.contains(id),
        "{marked}"
    );
    fs::create_dir(directory.join("copy")).expect("the test owns the directory");
    let restore = [
        "keys",
        "restore",
        "keys.age",
        "--passphrase-file",
        "pass",
        "--directory",
        "copy",
    ];
    let restored = seal(directory, &restore);
    assert_code(&restored, 0, "restore");
    let line = format!("key-old xw {id}: restored, as opening-only");
    assert_contains(&restored, &line, "restore");
    assert!(read(directory, "copy/keys/key-old.yaml").contains("opening-only"));

    create(directory, &["-w", "db.yaml"]);
    let refused = run(&["keys", "retire", "key-old", "db.yaml"]);
    assert_code(&refused, 1, "an item needs the key");
    assert_contains(&refused, "db.yaml (db), item a: needs the key", "retire");
    assert_contains(
        &run(&["keys", "retire", "key-new"]),
        "is the sealing key",
        "retire",
    );
    let marked = run(&["keys", "compromise", "1f79tcRB6C15M6q5Y1tFHQ", "db.yaml"]);
    assert_code(&marked, 0, "compromise");
    assert_contains(&marked, "db.yaml (db)", "compromise");
    assert_contains(&run(&["keys", "list"]), "key-old  compromised", "list");
    let output = seal(directory, &["set", "db.yaml", "a", "--from-file", "value"]);
    assert_code(&output, 2, "a compromised recipient");
    assert_contains(&output, "is marked as compromised", "set");
    fs::remove_file(directory.join("db.yaml")).expect("the test owns the file");
    assert_contains(
        &run(&["keys", "retire", "key-old"]),
        "key-old is retired",
        "retire",
    );
}

/// Returns the manifest of a v2 key that is generated from `byte` and valid from this day of January 2026.
pub(crate) fn v2_key(name: &str, byte: u8, day: u8) -> String {
    manifest::to_yaml(&v2_secret(Suite::XWing, name, byte, day).to_document())
}

/// Writes a controller's directory, `state`, with the keys `key-old`, which is the key of `cluster.txt`, and `key-new`.
pub(crate) fn write_two_keys(directory: &Path) {
    let files = [
        ("state/keys/old.yaml", v2_key("key-old", 1, 1)),
        ("state/keys/new.yaml", v2_key("key-new", 2, 2)),
        ("state/sealed/README", String::new()),
    ];
    write_files(
        directory,
        &files.each_ref().map(|(path, text)| (*path, text.as_str())),
    );
}

/// Returns the Secret of a v2 key that is generated from `byte` and valid from this day of January 2026.
pub(crate) fn v2_secret(suite: Suite, name: &str, byte: u8, day: u8) -> Secret {
    let stored = StoredKey {
        key: SecretKey::from_bytes(suite, &[byte; 32]).expect("a key"),
        not_before: format!("2026-01-{day:02}T00:00:00Z")
            .parse()
            .expect("a time"),
        not_after: "2200-01-01T00:00:00Z".parse().expect("a time"),
    };
    key_secret::build(name, "ops", &stored, [].into(), [].into())
}

/// Fault: `--recipient` is passed for values that are sealed as v1, and is ignored: the escrow key cannot open them.
#[test]
fn refuses_recipients_for_v1_values() {
    let directory = directory();
    let directory = directory.path();
    let manifest =
        "kind: Secret\napiVersion: v1\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n";
    write_files(
        directory,
        &[(".seal.yaml", "rules: []\n"), ("secret.yaml", manifest)],
    );
    create(directory, &["--cert", "cert.pem", "-w", "db.yaml"]);
    let before = read(directory, "db.yaml");
    let create = [&CREATE_ARGS[..], &["--cert", "cert.pem"]].concat();
    let commands: [&[&str]; 6] = [
        &create,
        &[
            "set",
            "db.yaml",
            "a",
            "--from-file",
            "value",
            "--cert",
            "cert.pem",
        ],
        &[
            "generate", "new", "a=hex:16", "-n", "shop", "--cert", "cert.pem",
        ],
        &[
            "rotate", "db.yaml", "--key", "key.pem", "--cert", "cert.pem",
        ],
        &[
            "rotate", "db.yaml", "--to", "v1", "--key", "key.pem", "--cert", "cert.pem",
        ],
        &["rotate", "db.yaml"],
    ];
    for recipient in ["escrow.txt", "missing.txt"] {
        for arguments in commands {
            let arguments = [arguments, &["--recipient", recipient]].concat();
            let output = seal(directory, &arguments);
            assert_code(&output, 2, format!("{arguments:?}"));
            let want = "--recipient has no effect on values sealed as v1";
            assert_contains(&output, want, format!("{arguments:?}"));
        }
        let mut filter = command(env!("CARGO_BIN_EXE_seal"), directory, "/nowhere");
        let input = fs::File::open(directory.join("secret.yaml")).expect("it exists");
        filter.args(["--cert", "cert.pem", "--recipient", recipient]);
        let output = filter.current_dir(directory).stdin(input).output();
        let output = output.expect("the command starts");
        assert_code(&output, 2, "seal");
        assert_contains(&output, "--recipient has no effect", "seal");
    }
    assert_eq!(read(directory, "db.yaml"), before);
}
