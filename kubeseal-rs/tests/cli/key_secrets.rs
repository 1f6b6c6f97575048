//! Tests that `seal` and `seal-from.sh` seal no private key of a controller, regardless of its labels, that lint
//! reports keys, and that `keys.sh` includes v2 keys.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use shared::manifest::{self, Reading, Shape};
use shared::plain::Plain;
use shared::resource::{KEY_LABEL, V2_KEY_LABEL};
use shared::secret::Secret;
use shared::v2::Suite;

use crate::support::{assert_code, assert_contains, combined_output, command, write_files};
use crate::v2::{create, directory, read, seal, seal_ok, v2_secret};

const RSA_KEY: &str = include_str!("../seal/key-fixtures/state/keys/key-2024.yaml");
const PLAIN: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: x}\n";

fn v2_key(suite: Suite, name: &str, label: Option<&str>) -> String {
    let mut secret = v2_secret(suite, name, 1, 1);
    let labels = label.map(|label| (V2_KEY_LABEL.to_owned(), label.to_owned()));
    secret.metadata.labels = labels.map(|labels| [labels].into());
    yaml(&secret)
}

fn yaml(secret: &Secret) -> String {
    manifest::to_yaml(&secret.to_document())
}

/// Returns key manifests, each with the name of its case.
fn keys() -> Vec<(&'static str, String)> {
    let label = format!("{KEY_LABEL}: active");
    let retired = RSA_KEY.replace(&label, &format!("{KEY_LABEL}: retired"));
    assert_ne!(retired, RSA_KEY, "the label is in the fixture");
    let retired = retired.replace("name: key-2024", "name: key-retired");
    let unlabeled = RSA_KEY.replace(&label, "a: b");
    let unlabeled = unlabeled.replace("name: key-2024", "name: sealed-secrets-key");
    vec![
        ("rsa", RSA_KEY.to_owned()),
        ("rsa-retired", retired),
        ("rsa-by-name", unlabeled),
        ("v2", v2_key(Suite::XWing, "v2", Some("active"))),
        ("v2-p256", v2_key(Suite::P256, "v2-p256", Some("active"))),
        (
            "v2-retired",
            v2_key(Suite::XWing, "v2-retired", Some("retired")),
        ),
        (
            "v2-compromised",
            v2_key(Suite::XWing, "v2-compromised", Some("compromised")),
        ),
        ("v2-unlabeled", v2_key(Suite::XWing, "v2-unlabeled", None)),
    ]
}

fn files_below(directory: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("the directory exists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path.display().to_string());
        }
    }
    files
}

/// Attack: an attacker gets one old key. Sealed copies of all later keys are in the repository, since a user imported
/// all Secrets of the cluster as documented.
#[test]
fn an_import_of_all_secrets_skips_every_key() {
    let directory = directory();
    let directory = directory.path();
    let mut list = PLAIN.to_owned();
    for (_, key) in keys() {
        list = list + "---\n" + &key;
    }
    write_files(directory, &[("list.yaml", &list)]);
    let output = seal(
        directory,
        &[
            "import",
            "list",
            "list.yaml",
            "--into",
            "sealed",
            "--recipient",
            "cluster.txt",
        ],
    );
    assert_code(&output, 0, "the list");
    let printed = combined_output(&output);
    let skipped = printed.matches("it is a private key of the sealed-secrets controller");
    assert_eq!(skipped.count(), keys().len(), "{printed}");
    let files = files_below(&directory.join("sealed"));
    assert_eq!(files.len(), 1, "{files:?}");
}

/// Attack: a user seals a key with another command: one that seals a whole Secret, or `seal create`.
#[test]
fn no_command_seals_a_key() {
    let directory = directory();
    let directory = directory.path();
    let refused = "is a private key of the sealed-secrets controller";
    for (case, key) in keys() {
        write_files(directory, &[("key.yaml", &key)]);
        for args in [
            &["key.yaml", "--stdout"][..],
            &["-i", "key.yaml"],
            &["import", "secret", "key.yaml", "-w", "out.yaml"],
        ] {
            let output = seal(directory, args);
            assert_code(&output, 2, format!("{case} {args:?}"));
            assert_contains(&output, refused, format!("{case} {args:?}"));
            assert_contains(&output, "seal keys backup", format!("{case} {args:?}"));
        }
        assert_eq!(read(directory, "key.yaml"), key, "{case}");
        assert!(!directory.join("out.yaml").exists(), "{case}");
    }
    let key = v2_secret(Suite::XWing, "k", 1, 1).data["v2.key"]
        .expose()
        .to_vec();
    fs::write(directory.join("key.txt"), key).expect("the test owns the file");
    let args = ["create", "k", "-n", "shop", "--from-file", "v2.key=key.txt"];
    assert_contains(&seal(directory, &args), refused, "create");
}

/// Returns manifests of keys without a label, each with the name of its case. `cert.pem` is the certificate of the last.
fn unlabeled_keys(directory: &Path) -> Vec<(&'static str, String)> {
    let unlabeled = RSA_KEY.replace(&format!("{KEY_LABEL}: active"), "a: b");
    let named = unlabeled.replace("name: key-2024", "name: sealed-secrets-keyabcde");
    let with_value = |name: &str, value: Plain| {
        let mut secret = v2_secret(Suite::XWing, name, 1, 1);
        secret.metadata.labels = None;
        secret.data = [("backup".to_owned(), value)].into();
        yaml(&secret)
    };
    let v2_line = v2_secret(Suite::XWing, "k", 1, 1).data["v2.key"].clone();
    let identity = "# public key: age1pq1x\nAGE-SECRET-KEY-PQ-1QQQQ\n".to_owned();
    vec![
        ("rsa-by-prefix", named),
        ("v2-item", with_value("v2-item", v2_line)),
        ("age-item", with_value("age-item", Plain::from(identity))),
        (
            "rsa-of-certificate",
            with_value(
                "rsa-of-certificate",
                Plain::from(read(directory, "key.pem")),
            ),
        ),
    ]
}

/// Attack: as in [`an_import_of_all_secrets_skips_every_key`] and [`no_command_seals_a_key`], with keys that lost their
/// label, or are in other items.
#[test]
fn recognizes_keys_without_a_label() {
    let directory = directory();
    let directory = directory.path();
    let rules = "rules: [{path: '**', certificate: cert.pem}]\n";
    write_files(directory, &[(".seal.yaml", rules)]);
    let refused = "is a private key of the sealed-secrets controller";
    let mut list = PLAIN.to_owned();
    for (case, key) in unlabeled_keys(directory) {
        list = list + "---\n" + &key;
        write_files(directory, &[("key.yaml", &key)]);
        for args in [
            &["key.yaml", "--stdout"][..],
            &[
                "import", "secret", "key.yaml", "-w", "out.yaml", "--cert", "cert.pem",
            ],
        ] {
            let output = seal(directory, args);
            assert_code(&output, 2, format!("{case} {args:?}"));
            assert_contains(&output, refused, format!("{case} {args:?}"));
        }
        let output = seal(directory, &["lint", "key.yaml"]);
        assert_contains(&output, "contains a private key of the controller", case);
    }
    write_files(directory, &[("list.txt", &list)]);
    let import = [
        "import", "list", "list.txt", "--into", "sealed", "--cert", "cert.pem",
    ];
    let printed = seal_ok(directory, &import);
    let skipped = printed.matches("it is a private key of the sealed-secrets controller");
    assert_eq!(
        skipped.count(),
        unlabeled_keys(directory).len(),
        "{printed}"
    );
    let files = files_below(&directory.join("sealed"));
    assert_eq!(files.len(), 1, "{files:?}");

    let sealed = kubeseal(directory, &unlabeled_keys(directory)[0].1);
    let sealed = String::from_utf8(sealed.stdout).expect("text");
    write_files(directory, &[("key.yaml", &sealed)]);
    assert_contains(
        &seal(directory, &["lint", "key.yaml"]),
        "sealed-key",
        "by prefix",
    );

    create(directory, &["-w", "db.yaml"]);
    let set = ["set", "db.yaml", "b", "--from-file", "key.pem"];
    assert_contains(&seal(directory, &set), refused, "set an RSA key");
    let set = ["set", "db.yaml", "b", "--from-file", "cluster.key"];
    assert_contains(&seal(directory, &set), refused, "set a v2 key");
    // The key of another certificate is an ordinary value.
    let other = RSA_KEY.replace(&format!("{KEY_LABEL}: active"), "a: b");
    write_files(directory, &[("web.yaml", &other)]);
    seal_ok(directory, &["web.yaml", "--stdout"]);
    let output = seal(directory, &["lint", "web.yaml"]);
    assert_contains(&output, "has plain values", "another key");
}

fn kubeseal(directory: &Path, input: &str) -> Output {
    write_files(directory, &[("input.yaml", input)]);
    let mut kubeseal = command(env!("CARGO_BIN_EXE_kubeseal"), directory, "/nowhere");
    let input = fs::File::open(directory.join("input.yaml")).expect("the file exists");
    kubeseal.args(["--cert", "cert.pem", "-o", "yaml"]);
    kubeseal.current_dir(directory).stdin(Stdio::from(input));
    kubeseal.output().expect("the command starts")
}

/// Attack: the repository contains a plain key, whatever its label is, or a key that `kubeseal` or an earlier version
/// of `seal` sealed.
#[test]
fn lint_reports_plain_and_sealed_keys() {
    let directory = directory();
    let directory = directory.path();
    write_files(directory, &[(".seal.yaml", "rules: []\n")]);
    for (case, key) in keys() {
        write_files(directory, &[("key.yaml", &key)]);
        let output = seal(directory, &["lint", "key.yaml"]);
        assert_contains(&output, "contains a private key of the controller", case);

        let output = kubeseal(directory, &key);
        assert_contains(
            &output,
            "is a private key of the sealed-secrets controller",
            case,
        );
        let sealed = String::from_utf8(output.stdout).expect("text");
        write_files(directory, &[("key.yaml", &sealed)]);
        let output = seal(directory, &["lint", "key.yaml"]);
        assert_contains(&output, "sealed-key", case);
        assert_code(&output, 1, case);
    }
}

/// Writes a fake `kubectl` that stores the input of `create`, and responds to dry runs and other commands with the keys
/// of [`keys`], `others` and a Secret.
#[cfg(unix)]
fn write_kubectl(directory: &Path, others: &[(&str, String)]) {
    use std::os::unix::fs::PermissionsExt as _;
    let mut items = Vec::new();
    let keys = keys();
    let keys = keys.iter().chain(others).map(|(_, key)| key.as_str());
    for text in keys.chain([PLAIN]) {
        let documents = manifest::read(text.as_bytes()).expect("valid");
        let json = Reading::default().json(&documents[0].root, Shape::Any);
        items.push(json.expect("JSON"));
    }
    let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": items });
    let kubectl = "#!/bin/sh\ncase \"$*\" in\n*create*dry-run*) cat >/dev/null; cat list.json ;;\n\
                   *create*) cat >>created.json ;;\n*) cat list.json ;;\nesac\n";
    write_files(
        directory,
        &[("list.json", &list.to_string()), ("bin/kubectl", kubectl)],
    );
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.join("bin/kubectl"), mode).expect("the test owns the file");
}

#[cfg(unix)]
fn script(directory: &Path, name: &str, args: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/scripts");
    let programs = Path::new(env!("CARGO_BIN_EXE_kubeseal")).parent();
    let programs = programs.expect("a directory").display();
    let mut bash = command("bash", directory, "/nowhere");
    let path = format!("{}/bin:{programs}:/usr/bin:/bin", directory.display());
    bash.arg(script.join(name)).args(args).env("PATH", path);
    bash.current_dir(directory)
        .output()
        .expect("the command starts")
}

/// Attack: a user seals all Secrets of a namespace, including keys, with the script that the documentation names.
#[cfg(unix)]
#[test]
fn the_script_for_other_tools_seals_no_key() {
    let directory = directory();
    let directory = directory.path();
    let unlabeled = unlabeled_keys(directory);
    // Only `seal` knows the public keys.
    let (_, recognizable) = unlabeled.split_last().expect("keys");
    write_kubectl(directory, recognizable);
    for from in [&["stdin"][..], &["namespace", "kube-system"]] {
        let args = [from, &["sealed", "--", "--cert", "cert.pem"]].concat();
        assert_code(&script(directory, "seal-from.sh", &args), 0, from[0]);
        let files = files_below(&directory.join("sealed"));
        assert_eq!(files.len(), 1, "{files:?}");
        assert!(files[0].ends_with("shop/db.yaml"), "{files:?}");
        fs::remove_dir_all(directory.join("sealed")).expect("the test owns the file");
    }
}

/// Fault: the backup script skips v2 keys, and its check reports that no key of the cluster is missing.
#[cfg(unix)]
#[test]
fn the_script_for_backups_includes_v2_keys() {
    let directory = directory();
    let directory = directory.path();
    write_kubectl(directory, &[]);
    let output = script(directory, "keys.sh", &["backup", "keys.json"]);
    assert_code(&output, 0, "backup");
    // A controller does not load a v2 key without the label.
    let count = keys().len() - 1;
    assert_contains(&output, &format!("{count} keys in keys.json"), "backup");
    assert_code(
        &script(directory, "keys.sh", &["check", "keys.json"]),
        0,
        "all",
    );
    let all = read(directory, "keys.json");
    let mut kept: serde_json::Value = serde_json::from_str(&all).expect("JSON");
    let items = kept["items"].as_array_mut().expect("a list");
    items.retain(|item| item["metadata"]["name"] != "v2-p256");
    write_files(directory, &[("keys.json", &kept.to_string())]);
    let output = script(directory, "keys.sh", &["check", "keys.json"]);
    assert_code(&output, 1, "a missing v2 key");
    assert_contains(&output, "not in keys.json: v2-p256", "a missing v2 key");

    write_files(directory, &[("keys.json", &all)]);
    let none = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": [] });
    write_files(directory, &[("list.json", &none.to_string())]);
    assert_code(
        &script(directory, "keys.sh", &["restore", "keys.json"]),
        0,
        "restore",
    );
    let created = read(directory, "created.json");
    let created = serde_json::Deserializer::from_str(&created).into_iter();
    let created: Vec<serde_json::Value> = created.map(|one| one.expect("JSON")).collect();
    assert_eq!(created.len(), count);
    for (name, label) in [
        ("v2", "active"),
        ("v2-retired", "retired"),
        ("v2-compromised", "compromised"),
    ] {
        let mut secrets = created.iter();
        let secret = secrets.find(|secret| secret["metadata"]["name"] == name);
        let secret = secret.expect(name);
        assert_eq!(secret["type"], "Opaque");
        assert_eq!(
            secret["metadata"]["labels"],
            serde_json::json!({ V2_KEY_LABEL: label })
        );
        let annotations = secret["metadata"]["annotations"].as_object().expect(name);
        assert!(annotations.contains_key("sealedsecrets.bitnami.com/opening-only"));
        let documents = manifest::read(secret.to_string().as_bytes()).expect("valid");
        let secret = Secret::from_node(&documents[0].root, &mut Reading::default());
        shared::v2::key_secret::parse(&secret.expect("valid")).expect("a key");
    }
}
