//! Tests what `seal keys`, `doctor`, `exec` and `lint` report about v2 values and their keys.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Output;

use shared::v2::{Recipient as _, Suite};

use crate::support::{assert_code, assert_contains, combined_output, command, git, write_files};
use crate::v2::{
    RULES, create, directory, export, read, seal, seal_ok, v2_key, v2_secret, write_two_keys,
};
use crate::v2_attacks::rsa_key;

const DIRECTORY_ARGS: [&str; 2] = ["--directory", "state"];

fn run(directory: &Path, args: &[&str]) -> Output {
    seal(directory, &[args, &DIRECTORY_ARGS].concat())
}

/// Returns a directory with a controller's directory, `state`: the RSA key of `cert.pem` and two v2 keys, of which
/// `key-old` is the key of `cluster.txt`.
fn directory_with_keys() -> tempfile::TempDir {
    let directory = directory();
    write_two_keys(directory.path());
    let rsa = rsa_key(directory.path());
    write_files(directory.path(), &[("state/keys/rsa.yaml", &rsa)]);
    directory
}

/// Creates `shop/db` in a file, under a temporary rule for these recipients.
fn create_for(directory: &Path, recipients: &str, file: &str) {
    let rules = RULES.replace("[cluster.txt]", recipients);
    write_files(directory, &[(".seal.yaml", &rules)]);
    create(directory, &["--from-file", "b=value", "-w", file]);
    fs::remove_file(directory.join(".seal.yaml")).expect("the test owns the file");
}

/// Replaces a string in a file. Fails if the file does not contain the string.
fn change(directory: &Path, file: &str, from: &str, to: &str) {
    let before = read(directory, file);
    let after = before.replacen(from, to, 1);
    assert_ne!(before, after, "{file}: {from}");
    write_files(directory, &[(file, &after)]);
}

/// Writes a newer RSA key, so that `key-rsa` may be retired.
fn write_newer_rsa_key(directory: &Path) {
    let newer = include_str!("../seal/key-fixtures/state/keys/key-2025.yaml");
    write_files(directory, &[("state/keys/newer.yaml", newer)]);
}

/// Attack: a committer adds a malformed entry to a file, or damages a value, so that the v2 values of the file do not
/// count as needing their key, and repairs the file after the key was retired.
#[test]
fn a_malformed_entry_hides_no_value_from_retire() {
    let directory = directory_with_keys();
    let directory = directory.path();
    write_newer_rsa_key(directory);
    for (recipients, key) in [("[cert.pem]", "key-rsa"), ("[cluster.txt]", "key-old")] {
        create_for(directory, recipients, "db.yaml");
        seal_with_rule(
            directory,
            recipients,
            &["set", "db.yaml", "b", "--from-file", "value"],
        );
        let retire = || run(directory, &["keys", "retire", key, "db.yaml", "--dry-run"]);
        assert_contains(&retire(), "2 items need it", key);
        let text = read(directory, "db.yaml");
        for (from, to) in [
            ("  encryptedData:\n", "  encryptedData:\n    /lock/x: x\n"),
            ("    /lock/", "    /lock/!"),
            ("    b: seal2.i.", "    b: seal2.i.!"),
            ("    a: seal2.s.", "    a: seal2.s.!"),
        ] {
            write_files(directory, &[("db.yaml", &text)]);
            change(directory, "db.yaml", from, to);
            let output = retire();
            assert_code(&output, 1, format!("{key} {to}"));
            for item in ["a", "b"] {
                let want = format!("item {item}: no key can unseal it, so it may need the key");
                assert_contains(&output, &want, format!("{key} {to}"));
            }
            let status = run(directory, &["keys", "status", "db.yaml"]);
            assert_contains(&status, "item b: no key can unseal it", to);
            let args = ["keys", "compromise", key, "db.yaml", "--dry-run"];
            let compromise = run(directory, &args);
            assert_contains(&compromise, "db.yaml (db)", to);
            if to.ends_with(".i.!") {
                assert_contains(&compromise, "item b: malformed v2 value", to);
            }
        }
        fs::remove_file(directory.join("db.yaml")).expect("the test owns the file");
    }
}

fn seal_with_rule(directory: &Path, recipients: &str, args: &[&str]) {
    let rules = RULES.replace("[cluster.txt]", recipients);
    write_files(directory, &[(".seal.yaml", &rules)]);
    seal_ok(directory, args);
    fs::remove_file(directory.join(".seal.yaml")).expect("the test owns the file");
}

/// Fault: a key is lost or the template was changed, so no key opens v2 values, and `status` reports that nothing
/// needs a key.
#[test]
fn status_reports_v2_values_that_no_key_opens() {
    let directory = directory_with_keys();
    let directory = directory.path();
    create_for(directory, "[escrow.txt]", "lost.yaml");
    create_for(directory, "[cluster.txt]", "changed.yaml");
    change(
        directory,
        "changed.yaml",
        "  template:\n",
        "  template:\n    type: example.com/x\n",
    );
    let output = run(directory, &["keys", "status", "lost.yaml", "changed.yaml"]);
    assert_code(&output, 0, "status");
    for file in ["lost.yaml", "changed.yaml"] {
        let want = format!("{file} (db), item a: no key can unseal it");
        assert_contains(&output, &want, file);
    }
    let output = run(directory, &["keys", "status", "lost.yaml", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        report["undecided"].as_array().map(Vec::len),
        Some(2),
        "{report}"
    );
}

/// Fault: the controller cannot open the values, because a key is retired or only the user has it, but `doctor` reports
/// no problem.
#[test]
fn doctor_and_exec_report_v2_keys_that_the_controller_does_not_use() {
    let directory = directory_with_keys();
    let directory = directory.path();
    write_newer_rsa_key(directory);
    let exported = export(directory);
    write_files(directory, &[("new.txt", &exported)]);
    create_for(directory, "[cluster.txt]", "xw.yaml");
    create_for(directory, "[cert.pem]", "rsa.yaml");
    create_for(directory, "[cluster.txt, new.txt]", "both.yaml");
    let doctor = |file: &str, more: &[&str]| run(directory, &[&["doctor", file], more].concat());
    let exec = |file: &str| {
        let exec = [
            "exec",
            "--only",
            "a",
            file,
            "--directory",
            "state",
            "--",
            "true",
        ];
        combined_output(&seal(directory, &exec))
    };
    for file in ["xw.yaml", "rsa.yaml", "both.yaml"] {
        assert_code(&doctor(file, &[]), 0, file);
        assert!(!exec(file).contains("retired"), "{file}");
    }
    for (file, label) in [("old", "/v2-key: "), ("rsa", "/sealed-secrets-key: ")] {
        let path = format!("state/keys/{file}.yaml");
        change(
            directory,
            &path,
            &format!("{label}active"),
            &format!("{label}retired"),
        );
    }
    for (file, name) in [("xw.yaml", "key-old"), ("rsa.yaml", "key-rsa")] {
        let output = doctor(file, &[]);
        assert_code(&output, 1, file);
        assert_contains(
            &output,
            "is retired, so the controller cannot unseal it",
            file,
        );
        assert_contains(&output, &format!("=active of the Secret {name}"), file);
        let printed = exec(file);
        assert!(
            printed.contains("is sealed for the retired key"),
            "{file}: {printed}"
        );
    }
    assert_code(&doctor("both.yaml", &[]), 0, "another key opens it");
    assert!(!exec("both.yaml").contains("retired"));
    fs::remove_file(directory.join("state/keys/old.yaml")).expect("the test owns the file");
    write_files(directory, &[("key.yaml", &v2_key("key-old", 1, 1))]);
    let output = doctor("xw.yaml", &["--backup", "key.yaml"]);
    assert_code(&output, 1, "only in a backup");
    assert_contains(
        &output,
        "is not a key of the controller",
        "only in a backup",
    );
}

/// Fault: the user has only a v2 key, and `doctor` reports that there is no key.
#[test]
fn doctor_accepts_a_backup_with_v2_keys_alone() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &["-w", "db.yaml"]);
    write_files(directory, &[("key.yaml", &v2_key("key-old", 1, 1))]);
    let output = seal(
        directory,
        &["doctor", "db.yaml", "--offline", "--backup", "key.yaml"],
    );
    assert_code(&output, 0, "a backup of a v2 key");
    assert_contains(
        &output,
        "can be unsealed with 1f79tcRB6C15M6q5Y1tFHQ",
        "the item",
    );
    let other = shared::manifest::to_yaml(&v2_secret(Suite::XWing, "k", 9, 1).to_document());
    write_files(directory, &[("key.yaml", &other)]);
    let output = seal(
        directory,
        &["doctor", "db.yaml", "--offline", "--backup", "key.yaml"],
    );
    assert_code(&output, 1, "another key");
}

/// Fault: files with conflict markers, templates, or values in other objects cannot be checked before the switch back
/// to Bitnami's controller.
#[test]
fn a_rollback_check_fails_if_a_file_cannot_be_read() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &["-w", "db.yaml"]);
    let text = read(directory, "db.yaml");
    let indented = text.replace('\n', "\n    ");
    for (case, text) in [
        (
            "conflict",
            format!("<<<<<<< a\n{text}=======\n{text}>>>>>>> b\n"),
        ),
        (
            "template",
            format!("{{{{ if .x }}}}\n{text}{{{{ end }}}}\n"),
        ),
        (
            "ConfigMap",
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: x}}\ndata:\n  m: |\n    {indented}\n"
            ),
        ),
    ] {
        write_files(directory, &[("tree/f.yaml", &text)]);
        let output = seal(directory, &["doctor", "--rollback", "tree"]);
        assert_code(&output, 1, case);
        assert_contains(&output, "BROKEN   rollback: ", case);
        let printed = combined_output(&output);
        assert!(!printed.contains("can read all"), "{case}: {printed}");
    }
}

/// Fault: the directory is the wrong one, or contains only templates, and nothing is checked before the switch back to
/// Bitnami's controller.
#[test]
fn a_rollback_check_fails_if_it_finds_no_object() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &["-w", "db.yaml"]);
    let text = read(directory, "db.yaml");
    fs::create_dir(directory.join("tree")).expect("the test owns the directory");
    let rollback = ["doctor", "--rollback", "tree"];
    for case in ["empty directory", "template"] {
        let output = seal(directory, &rollback);
        assert_code(&output, 1, case);
        let want = "BROKEN   rollback: no SealedSecret was found, so nothing was checked";
        assert_contains(&output, want, case);
        write_files(directory, &[("tree/_db.tpl", &text)]);
    }
}

/// Fault: a user names a directory of keys only, so no file is searched for values that need the key.
#[test]
fn retire_fails_if_there_is_nothing_to_search() {
    let directory = directory_with_keys();
    let directory = directory.path();
    write_newer_rsa_key(directory);
    for key in ["key-old", "key-rsa"] {
        let output = seal(
            directory,
            &["keys", "retire", key, "--directory", "state/keys"],
        );
        assert_code(&output, 2, key);
        assert_contains(
            &output,
            "there are no files to search for values that need the key",
            key,
        );
    }
    let listed = seal_ok(directory, &["keys", "list", "--directory", "state"]);
    assert!(!listed.contains("retired"), "{listed}");
}

/// Returns the directory of [`directory_with_keys`] as a Git repository with a newer RSA key and without rules.
fn repository_with_keys() -> tempfile::TempDir {
    let directory = directory_with_keys();
    write_newer_rsa_key(directory.path());
    fs::remove_file(directory.path().join(".seal.yaml")).expect("the test owns the file");
    write_files(
        directory.path(),
        &[("tree/README", ""), (".gitignore", "state\n")],
    );
    git(directory.path(), &["init", "-q", "-b", "main"]);
    directory
}

/// Commits all files on a new branch, and checks out another branch without rules.
fn commit_on_branch(directory: &Path, branch: &str) {
    git(directory, &["checkout", "-q", "-b", branch]);
    git(directory, &["add", "-A"]);
    git(directory, &["commit", "-qm", branch]);
    git(
        directory,
        &[
            "checkout",
            "-q",
            "--orphan",
            &format!("main-after-{branch}"),
        ],
    );
    git(directory, &["rm", "-rqf", "--cached", "."]);
    for file in [".seal.yaml", "prod/.seal.yaml", "rules.yaml"] {
        let _ = fs::remove_file(directory.join(file));
    }
    git(directory, &["add", "tree"]);
    git(directory, &["commit", "-qm", "no rules"]);
}

fn retire(directory: &Path, key: &str, more: &[&str]) -> Output {
    run(
        directory,
        &[&["keys", "retire", key, "tree", "--dry-run"], more].concat(),
    )
}

/// Fault: a rule names the certificate of the key, for v1 values or as the recipient of v2 values, so other users
/// seal values that no controller opens.
#[test]
fn retires_no_key_whose_certificate_a_rule_names() {
    for format in ["", "  format: v2\n"] {
        let directory = repository_with_keys();
        let directory = directory.path();
        let rules = format!("rules:\n- path: '**'\n  certificate: cert.pem\n{format}");
        write_files(directory, &[(".seal.yaml", &rules)]);
        let want = ".seal.yaml, rule 1 (line 2): names the certificate of the key";
        let output = retire(directory, "key-rsa", &[]);
        assert_code(&output, 1, format);
        assert_contains(&output, want, format);
        let compromise = ["keys", "compromise", "key-rsa", "tree", "--dry-run"];
        let output = run(directory, &compromise);
        assert_contains(&output, "replace this key in the `certificate` of", format);
        assert_code(&retire(directory, "key-old", &[]), 0, "another key");
        commit_on_branch(directory, "other");
        assert_code(&retire(directory, "key-rsa", &[]), 0, "no rule");
        let output = retire(directory, "key-rsa", &["--all-branches"]);
        assert_code(&output, 1, "a rule on a branch");
        assert_contains(&output, &format!("other:{want}"), "a rule on a branch");
    }
}

/// Attack: a committer replaces the rules of a branch, or a file that the rules name, with a link, so that the key that
/// the rules name is retired.
#[cfg(unix)]
#[test]
fn retires_no_key_that_rules_behind_links_on_branches_name() {
    use std::os::unix::fs::symlink;
    let directory = repository_with_keys();
    let directory = directory.path();
    write_files(directory, &[("rules.yaml", RULES)]);
    symlink("rules.yaml", directory.join(".seal.yaml")).expect("the test owns the file");
    commit_on_branch(directory, "rules");
    fs::create_dir(directory.join("keys")).expect("the test owns the directory");
    symlink("../cluster.txt", directory.join("keys/link.txt")).expect("the test owns the file");
    let named = RULES.replace("cluster.txt", "../keys/../keys/link.txt");
    write_files(directory, &[("prod/.seal.yaml", &named)]);
    commit_on_branch(directory, "key");
    symlink("/etc/rules.yaml", directory.join(".seal.yaml")).expect("the test owns the file");
    commit_on_branch(directory, "outside");
    let output = retire(directory, "key-old", &["--all-branches"]);
    assert_code(&output, 1, "links");
    for want in [
        "rules:.seal.yaml, rule 1 (line 2): names the key as a recipient",
        "key:prod/.seal.yaml, rule 1 (line 2): names the key as a recipient",
        "outside:.seal.yaml: may need the key: the branch has no such file",
    ] {
        assert_contains(&output, want, "links");
    }
}

/// Fault: a rule of a branch names a file above the directory of the rules. If the file were not found, users would get
/// used to --allow-undecided.
#[test]
fn a_recipient_file_above_the_rules_is_found_on_branches() {
    let directory = repository_with_keys();
    let directory = directory.path();
    let rules = RULES.replace("cluster.txt", "../escrow.txt");
    write_files(directory, &[("prod/.seal.yaml", &rules)]);
    commit_on_branch(directory, "other");
    let output = retire(directory, "key-old", &["--all-branches"]);
    assert_code(&output, 0, "another key");
}

/// Attack: a committer seals v2 values for a key whose fingerprint the rule lists as retired or does not accept,
/// instead of the controller's key.
#[test]
fn lint_reports_v2_recipients_that_the_rule_does_not_accept() {
    let directory = directory();
    let directory = directory.path();
    let certificate = shared::key::Certificate::from_pem(read(directory, "cert.pem").as_bytes());
    let certificate = certificate.expect("a certificate");
    let fingerprint = certificate.fingerprint();
    let id = certificate.public_key().key_id();
    let other_id = "1f79tcRB6C15M6q5Y1tFHSefo3FSXMGBXasU53Dmf04";
    create_for(directory, "[cert.pem]", "rsa.yaml");
    create_for(directory, "[escrow.txt]", "xw.yaml");
    create_for(directory, "[cluster.txt]", "own.yaml");
    let retired = "is sealed for the retired key";
    let refused = format!("accepts only {other_id}");
    let unknown = "the recipients of 2 items could not be checked";
    for (file, rule, code, want) in [
        (
            "rsa.yaml",
            format!("recipients: [cert.pem], retired: ['{fingerprint}']"),
            1,
            retired,
        ),
        (
            "rsa.yaml",
            format!("certificate: cert.pem, retired: ['{fingerprint}']"),
            1,
            retired,
        ),
        (
            "rsa.yaml",
            format!("recipients: [cluster], retired: [{id}]"),
            1,
            retired,
        ),
        (
            "rsa.yaml",
            format!("retired: ['{fingerprint}']"),
            0,
            unknown,
        ),
        (
            "xw.yaml",
            format!("recipients: [cluster], fingerprint: [{other_id}]"),
            1,
            &*refused,
        ),
        (
            "own.yaml",
            format!("recipients: [cluster], fingerprint: [{other_id}]"),
            0,
            "nothing found",
        ),
        (
            "rsa.yaml",
            format!("recipients: [cluster], fingerprint: [{other_id}]"),
            1,
            &*refused,
        ),
        (
            "rsa.yaml",
            format!("recipients: [cluster], fingerprint: ['{fingerprint}']"),
            0,
            unknown,
        ),
        (
            "xw.yaml",
            format!("recipients: [cluster], fingerprint: ['{fingerprint}']"),
            1,
            "accepts only SHA256:",
        ),
        ("xw.yaml", "recipients: [cluster]".to_owned(), 0, unknown),
        (
            "own.yaml",
            "recipients: [cluster.txt]".to_owned(),
            0,
            "nothing found",
        ),
    ] {
        let rules = format!("rules: [{{path: '**', format: v2, {rule}}}]\n");
        write_files(directory, &[(".seal.yaml", &rules)]);
        let output = seal(directory, &["lint", file]);
        assert_code(&output, code, format!("{file} {rule}"));
        assert_contains(&output, want, format!("{file} {rule}"));
        let is_unknown = combined_output(&output).contains(unknown);
        assert_eq!(is_unknown, want == unknown, "{file} {rule}");
    }
}

/// Fault: a v2 key was compromised, and the printed next steps name no key that opens the values.
#[cfg(unix)]
#[test]
fn the_printed_steps_after_a_compromise_re_encrypt_the_values() {
    let directory = directory_with_keys();
    let directory = directory.path();
    create_for(directory, "[cluster.txt]", "db.yaml");
    let args = ["keys", "compromise", "key-old", "db.yaml", "--dry-run"];
    let printed = combined_output(&run(directory, &args));
    let step = |start: &str| {
        let mut lines = printed.lines().map(str::trim);
        let line = lines.find(|line| line.starts_with(start)).expect(start);
        line.split("  ").next().expect("a command").to_owned()
    };
    let export = step("seal keys export");
    let rotate = step("seal rotate --to v2").replace(" PATH ", " db.yaml ");
    let mut sh = command("sh", directory, "/nowhere");
    let programs = Path::new(env!("CARGO_BIN_EXE_seal"))
        .parent()
        .expect("a directory");
    let path = format!("{}:/usr/bin:/bin", programs.display());
    sh.args(["-c", &format!("{export} && {rotate}")])
        .env("PATH", path);
    let output = sh
        .current_dir(directory)
        .output()
        .expect("the command starts");
    assert_code(&output, 0, format!("{export} && {rotate}"));
    assert_contains(&output, "2 items in 1 file re-encrypted", &rotate);
    let retire = ["keys", "retire", "key-old", "db.yaml", "--dry-run"];
    assert_code(&run(directory, &retire), 0, "nothing needs it");
}
