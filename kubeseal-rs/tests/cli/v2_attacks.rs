//! Attacks on v2 values, mostly by a committer without keys who changes a user's files.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use shared::key::Certificate;
use shared::manifest;
use shared::resource::SealedSecret;
use shared::v2::{Object, Recipient as _, SecretKey, Suite};

use crate::api_server::{self, Body, certificate_path, service_body, service_path};
use crate::support::{assert_code, assert_contains, command, git, stderr, write_files};
use crate::v2::{
    CREATE_ARGS, RULES, create, directory, export, read, seal, seal_ok, v2_key, write_two_keys,
};

/// Runs a command that must fail with this message and leave the file unchanged.
#[track_caller]
pub(crate) fn assert_refused(directory: &Path, args: &[&str], file: &str, why: &str) -> Output {
    let before = read(directory, file);
    let output = seal(directory, args);
    assert_code(&output, 2, why);
    assert_contains(&output, why, format!("{args:?}"));
    assert_eq!(read(directory, file), before);
    output
}

pub(crate) fn set(item: &str) -> [&str; 5] {
    ["set", "db.yaml", item, "--from-file", "value"]
}

/// Returns the line of an item in a file.
pub(crate) fn line_of(text: &str, item: &str) -> String {
    let start = format!("    {item}: ");
    let line = text.lines().find(|line| line.starts_with(&start));
    line.expect("an item").to_owned()
}

/// Adds a line to `encryptedData`.
fn with_line(text: &str, line: &str) -> String {
    text.replacen(
        "  encryptedData:\n",
        &format!("  encryptedData:\n{line}\n"),
        1,
    )
}

#[track_caller]
pub(crate) fn is_bound(directory: &Path, item: &str) -> bool {
    let documents = manifest::read(read(directory, "db.yaml").as_bytes()).expect("valid");
    let (sealed, _) = SealedSecret::all_from_document(&documents[0]).expect("valid");
    let object = Object::parse(&sealed[0].spec.encrypted_data).expect("valid");
    object.view()[item].is_template_bound
}

/// Attack: a committer adds a v1 item to a bound file, so that the next value is not bound and can be used in another
/// template.
#[test]
fn binds_new_values_despite_an_added_v1_item() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &["-w", "db.yaml"]);
    let v1 = [
        "--sealed-format",
        "v1",
        "--cert",
        "cert.pem",
        "-w",
        "v1.yaml",
    ];
    create(directory, &[&["--from-file", "x=value"], &v1[..]].concat());
    let line = line_of(&read(directory, "v1.yaml"), "x");
    let text = with_line(&read(directory, "db.yaml"), &line);
    write_files(directory, &[("db.yaml", &text)]);
    let output = assert_refused(directory, &set("a"), "db.yaml", "is bound to the template");
    assert_contains(&output, "seal unset", "the next step");
    seal_ok(directory, &["unset", "db.yaml", "x"]);
    seal_ok(directory, &set("a"));
    assert!(is_bound(directory, "a"));
}

/// Attack: a committer replaces all bound items with their own unbound items, so that the next value is not bound.
#[test]
fn binds_new_values_despite_unbound_items() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &["-w", "db.yaml"]);
    let bound = read(directory, "db.yaml");
    let unbound_rule = RULES.to_owned() + "  bindTemplate: false\n";
    write_files(directory, &[(".seal.yaml", &unbound_rule)]);
    create(directory, &["--from-file", "b=value", "-w", "own.yaml"]);
    let own = read(directory, "own.yaml");

    // The values of the last commit are bound.
    write_files(directory, &[("db.yaml", &bound)]);
    git(directory, &["init", "-q"]);
    git(directory, &["add", "db.yaml"]);
    git(directory, &["commit", "-qm", "bound"]);
    write_files(directory, &[("db.yaml", &own)]);
    let output = assert_refused(directory, &set("a"), "db.yaml", "they no longer are");
    assert_contains(&output, "seal diff", "the next step");

    // Only the rule requires bound values.
    git(directory, &["commit", "-qam", "unbound"]);
    write_files(directory, &[(".seal.yaml", RULES)]);
    let output = seal_ok(directory, &set("a"));
    assert!(
        output.contains("seal rotate --to v2 --bind-template"),
        "{output}"
    );
    assert!(is_bound(directory, "a") && !is_bound(directory, "b"));

    // Neither the last commit nor the rule requires bound values.
    write_files(
        directory,
        &[(".seal.yaml", &unbound_rule), ("db.yaml", &own)],
    );
    seal_ok(directory, &set("a"));
    assert!(!is_bound(directory, "a"));
}

/// Attack: a committer changes the template of a bound file, so that the next value is bound to the changed template.
#[test]
fn new_values_are_not_bound_to_a_changed_template() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &["-w", "db.yaml"]);
    let bound = read(directory, "db.yaml");
    let changed = bound.clone() + "    data:\n      url: 'https://attacker/?{{ .a }}'\n";
    write_files(directory, &[("db.yaml", &changed)]);
    let output = assert_refused(
        directory,
        &set("a"),
        "db.yaml",
        "the template of shop/db was changed",
    );
    assert_contains(&output, "revert the change", "the next step");

    // The committer also removes the bound item.
    git(directory, &["init", "-q"]);
    write_files(directory, &[("db.yaml", &bound)]);
    git(directory, &["add", "db.yaml"]);
    git(directory, &["commit", "-qm", "bound"]);
    write_files(directory, &[("db.yaml", &changed)]);
    seal_ok(directory, &["unset", "db.yaml", "a"]);
    assert_refused(directory, &set("a"), "db.yaml", "they no longer are");
    write_files(directory, &[("db.yaml", &bound)]);
    seal_ok(directory, &["unset", "db.yaml", "a"]);
    seal_ok(directory, &set("a"));
    assert!(
        is_bound(directory, "a"),
        "the template equals the committed one"
    );
}

/// Attack: a committer without keys hides values from the report of a compromised key by adding another recipient, by a
/// change that makes controllers refuse the object, or by a malformed entry.
#[test]
fn compromise_lists_values_with_other_recipients_and_in_refused_objects() {
    let directory = directory();
    let directory = directory.path();
    let rules =
        RULES.replace("[cluster.txt]", "[cluster.txt, cert.pem]") + "  allowClassical: true\n";
    write_files(
        directory,
        &[
            (".seal.yaml", &rules),
            ("state/keys/rsa.yaml", &rsa_key(directory)),
            ("state/keys/xw.yaml", &v2_key("key-xw", 1, 1)),
            ("state/sealed/README", ""),
        ],
    );
    git(directory, &["init", "-q"]);
    for (name, change) in [
        ("both", None),
        (
            "refused",
            Some(("  template:\n", "  template:\n    type: Changed\n")),
        ),
        (
            "malformed",
            Some(("  encryptedData:\n", "  encryptedData:\n    /x: abc\n")),
        ),
    ] {
        let file = format!("tree/{name}.yaml");
        let create = ["create", name, "-n", "shop", "--from-file", "a=value"];
        let create = [&create[..], &["--from-file", "b=value", "-w", &file]].concat();
        fs::create_dir_all(directory.join("tree")).expect("the test owns the directory");
        seal_ok(directory, &create);
        if let Some((from, to)) = change {
            let text = read(directory, &file);
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{name}");
            write_files(directory, &[(&file, &changed)]);
        }
    }
    git(directory, &["add", "tree"]);
    git(directory, &["commit", "-qm", "values"]);
    for key in ["key-rsa", "key-xw"] {
        let args = [
            "keys",
            "compromise",
            key,
            "tree",
            "--directory",
            "state",
            "--dry-run",
        ];
        let output = seal(directory, &args);
        assert_code(&output, 0, key);
        for name in ["both", "refused", "malformed"] {
            assert_contains(&output, &format!("tree/{name}.yaml ({name})"), key);
            assert_contains(&output, &format!("{name}/a"), key);
        }
        let args = ["keys", "status", "tree", "--directory", "state"];
        assert_contains(&seal(directory, &args), "0        3", "status");
    }
}

/// Returns the Secret of the RSA key in `key.pem`.
pub(crate) fn rsa_key(directory: &Path) -> String {
    let encoded = |file: &str| shared::base64::encode(read(directory, file).as_bytes());
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: key-rsa\n  namespace: ops\n  labels:\n    \
         sealedsecrets.bitnami.com/sealed-secrets-key: active\ntype: kubernetes.io/tls\ndata:\n  tls.crt: {}\n  \
         tls.key: {}\n",
        encoded("cert.pem"),
        encoded("key.pem")
    )
}

/// Attack: a committer allows a classical key in the rule, so that existing values become readable for a quantum
/// computer when a user re-encrypts them.
#[test]
fn a_rule_alone_does_not_allow_classical_keys_for_existing_values() {
    let directory = directory();
    let directory = directory.path();
    create(directory, &["-w", "db.yaml"]);
    let before = read(directory, "db.yaml");
    let classical = RULES.replace("[cluster.txt]", "[cluster.txt, cert.pem]");
    let classical = classical + "  allowClassical: true\n";
    write_files(directory, &[(".seal.yaml", &classical)]);
    let keys = [
        "rotate",
        "db.yaml",
        "--key",
        "cluster.key",
        "--key",
        "key.pem",
    ];
    let output = seal(directory, &keys);
    assert_code(&output, 2, "only a rule allows the key");
    assert_contains(&output, "forbids keys that are not post-quantum", "rotate");
    assert_contains(&output, "pass --allow-classical", "rotate");
    assert_eq!(read(directory, "db.yaml"), before);
    let printed = seal_ok(directory, &[&keys[..], &["--allow-classical"]].concat());
    assert!(
        printed.contains("no longer for post-quantum keys only"),
        "{printed}"
    );
    seal_ok(
        directory,
        &["view", "db.yaml", "--reveal", "--key", "key.pem"],
    );
}

/// Attack: a committer adds a stanza for another key. The stanza cannot open the lock, but counts as a recipient, so
/// that the key that the values need is retired.
#[test]
fn a_stanza_that_does_not_open_is_not_a_recipient() {
    let directory = directory();
    let directory = directory.path();
    write_two_keys(directory);
    let both = RULES.replace("[cluster.txt]", "[cluster.txt, new.txt]");
    let exported = export(directory);
    let id_new = exported
        .split(' ')
        .nth(2)
        .expect("an identifier")
        .to_owned();
    write_files(directory, &[("new.txt", &exported)]);
    let more = ["--from-file", "b=value", "-w"];
    create(directory, &[&more[..], &["db.yaml"]].concat());
    write_files(directory, &[(".seal.yaml", &both)]);
    create(directory, &[&more[..], &["other.yaml"]].concat());
    let retire = |file| {
        let retire = [
            "keys",
            "retire",
            "key-old",
            file,
            "--directory",
            "state",
            "--dry-run",
        ];
        seal(directory, &retire)
    };
    let new_only = RULES.replace("cluster.txt", "new.txt");
    write_files(directory, &[(".seal.yaml", &new_only)]);
    let output = retire("db.yaml");
    assert_code(&output, 1, "the only recipient");
    assert_contains(&output, "2 items need it", "the only recipient");
    // A stanza from another lock, for the other key of the store.
    let (db, other) = (read(directory, "db.yaml"), read(directory, "other.yaml"));
    let own_lock = entry(&db, ID_OF_CLUSTER).0;
    let (other_lock, value) = entry(&other, &id_new);
    let stanza = format!(
        "    {}: {value}",
        other_lock.replace(&lock_of(&other_lock), &lock_of(&own_lock))
    );
    write_files(directory, &[("db.yaml", &with_line(&db, &stanza))]);
    let output = retire("db.yaml");
    assert_code(&output, 1, "a stanza that does not open");
    assert_contains(
        &output,
        "db.yaml (db), item a",
        "a stanza that does not open",
    );
    assert_code(&retire("other.yaml"), 0, "another recipient that opens");
}

const ID_OF_CLUSTER: &str = "1f79tcRB6C15M6q5Y1tFHQ";

/// Returns the name and the value of the stanza for a key.
fn entry(text: &str, key: &str) -> (String, String) {
    let is_stanza = |line: &&str| line.contains("/lock/") && line.contains(&format!("/{key}"));
    let line = text.lines().find(is_stanza).expect("a stanza");
    let (name, value) = line.trim().split_once(": ").expect("an entry");
    (name.to_owned(), value.to_owned())
}

/// Returns the identifier of the lock in the name of an entry.
fn lock_of(name: &str) -> String {
    name.split('/').nth(2).expect("a lock").to_owned()
}

/// Attack: a server between the user and the controller replaces the key that the controller prefers for v2 values,
/// first with another post-quantum key, then with a key that is not post-quantum.
#[test]
fn reports_a_changed_preferred_key() {
    let directory = directory();
    let directory = directory.path();
    fs::remove_file(directory.join(".seal.yaml")).expect("the test owns the file");
    let lists = preferred_keys(directory);
    let served: Arc<AtomicUsize> = Arc::default();
    let index = Arc::clone(&served);
    let list: Body = Box::new(move |to| to.write_all(lists[index.load(SeqCst)].as_bytes()));
    let (namespace, name) = ("kube-system", "sealed-secrets-controller");
    let path = certificate_path(namespace, name).replace("/v1/cert.pem", "/v2/recipients");
    let responses = vec![
        (service_path(namespace, name), service_body()),
        (path, list),
    ];
    let kubeconfig = api_server::serve(directory, responses);
    let create = || {
        let mut command = command(env!("CARGO_BIN_EXE_seal"), directory, &kubeconfig);
        command.args(CREATE_ARGS).args(["--sealed-format", "v2"]);
        command.env("XDG_CACHE_HOME", directory.join("cache"));
        let output = command
            .current_dir(directory)
            .output()
            .expect("the command starts");
        assert_code(&output, 0, "create");
        stderr(&output)
    };
    for (index, want) in [
        (0, None),
        (0, None),
        (1, Some("has changed to xw ")),
        (1, None),
        (
            2,
            Some(", which is not post-quantum, unlike the previous one; the previous one was xw "),
        ),
    ] {
        served.store(index, SeqCst);
        let printed = create();
        let is_reported =
            printed.contains("the key of kube-system/sealed-secrets-controller for v2");
        assert_eq!(is_reported, want.is_some(), "{index}: {printed}");
        assert!(
            printed.contains(want.unwrap_or_default()),
            "{index}: {printed}"
        );
    }
}

/// Returns three responses of `/v2/recipients`: each of the first two lists a post-quantum key, the last an RSA key.
fn preferred_keys(directory: &Path) -> [String; 3] {
    let list = |suite: &str, id: String, field: &str, key: &str| {
        let listed = serde_json::json!({
            "suite": suite, "keyId": id, field: key,
            "notBefore": "2020-01-01T00:00:00Z", "notAfter": "2200-01-01T00:00:00Z",
        });
        serde_json::json!({"recipients": [listed]}).to_string()
    };
    let line = |byte: u8| {
        let key = SecretKey::from_bytes(Suite::XWing, &[byte; 32]).expect("a key");
        let recipient = key.recipient();
        list(
            "xw",
            recipient.key_id().to_string(),
            "recipient",
            &recipient.to_string(),
        )
    };
    let pem = read(directory, "cert.pem");
    let certificate = Certificate::from_pem(pem.as_bytes()).expect("a certificate");
    let id = certificate.public_key().key_id().to_string();
    [line(1), line(2), list("rsa", id, "certificate", &pem)]
}

/// Fault: rules in the working tree or on another branch still name a key that is retired or compromised, so other
/// users seal values that no controller can open, or that an attacker can open.
#[test]
fn retires_no_key_that_a_rule_names() {
    let directory = directory();
    let directory = directory.path();
    write_two_keys(directory);
    write_files(directory, &[("tree/README", "")]);
    let line = read(directory, "cluster.txt");
    let by_line = RULES.replace("[cluster.txt]", &format!("['{}']", line.trim()));
    let retire = |more: &[&str]| {
        let retire = [
            "keys",
            "retire",
            "key-old",
            "tree",
            "--directory",
            "state",
            "--dry-run",
        ];
        seal(directory, &[&retire, more].concat())
    };
    for rules in [RULES, &by_line] {
        write_files(directory, &[(".seal.yaml", rules)]);
        git(directory, &["init", "-q"]);
        let output = retire(&[]);
        assert_code(&output, 1, rules);
        assert_contains(
            &output,
            ".seal.yaml, rule 1 (line 2): names the key as a recipient",
            rules,
        );
        let compromise = [
            "keys",
            "compromise",
            "key-old",
            "tree",
            "--directory",
            "state",
        ];
        let output = seal(directory, &[&compromise[..], &["--dry-run"]].concat());
        assert_code(&output, 0, rules);
        assert_contains(&output, "replace this key in the `recipients` of", rules);
    }
    git(directory, &["add", ".seal.yaml", "cluster.txt"]);
    git(directory, &["commit", "-qm", "named"]);
    git(directory, &["branch", "other"]);
    write_files(directory, &[(".seal.yaml", RULES)]);
    git(directory, &["commit", "-qam", "named by a file"]);
    git(directory, &["branch", "file"]);
    git(directory, &["rm", "-q", "-f", ".seal.yaml"]);
    git(directory, &["commit", "-qm", "removed"]);
    assert_code(&retire(&[]), 0, "no rule");
    let output = retire(&["--all-branches"]);
    assert_code(&output, 1, "a rule on a branch");
    for branch in ["other", "file"] {
        let want = format!("{branch}:.seal.yaml, rule 1 (line 2): names the key as a recipient");
        assert_contains(&output, &want, branch);
    }
}

/// Attack: a committer changes the rule of a file whose values only post-quantum keys open, so that the next value is
/// sealed for an RSA key.
#[test]
fn a_rule_alone_does_not_weaken_post_quantum_protection() {
    for rules in [
        RULES.replace("cluster.txt", "cert.pem"),
        "rules:\n- path: '*.yaml'\n  certificate: cert.pem\n".to_owned(),
        RULES.replace("[cluster.txt]", "[cluster.txt, cert.pem]") + "  allowClassical: true\n",
    ] {
        let directory = directory();
        let directory = directory.path();
        create(directory, &["--from-file", "b=value", "-w", "db.yaml"]);
        write_files(directory, &[(".seal.yaml", &rules)]);
        let output = assert_refused(
            directory,
            &set("a"),
            "db.yaml",
            "for post-quantum keys only",
        );
        assert_contains(&output, "pass the key with --recipient FILE", &rules);
        let confirmed = [&set("a")[..], &["--recipient", "cert.pem"]].concat();
        seal_ok(directory, &confirmed);
        // After the next `set`, the file has no value for post-quantum keys only, but the last commit has one.
        git(directory, &["init", "-q"]);
        git(directory, &["add", "db.yaml"]);
        git(directory, &["commit", "-qm", "values"]);
        seal_ok(
            directory,
            &[
                "set",
                "db.yaml",
                "b",
                "--from-file",
                "value",
                "--recipient",
                "cert.pem",
            ],
        );
        assert_refused(
            directory,
            &set("a"),
            "db.yaml",
            "for post-quantum keys only",
        );
        git(directory, &["commit", "-qam", "classical"]);
        seal_ok(directory, &set("a"));
    }
}
