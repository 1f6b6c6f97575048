//! Tests that private keys of controllers are not sealed into a repository, whatever they are labeled.
#![expect(clippy::expect_used, reason = "a test")]

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use shared::manifest;
use shared::resource::{KEY_LABEL, V2_KEY_LABEL};
use shared::secret::Secret;
use shared::v2::Suite;

use crate::support::{assert_code, assert_contains, combined_output, command, write_files};
use crate::v2::{folder, read, seal, v2_secret};

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

/// Returns manifests of keys, with names for the cases.
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

fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("it exists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path.display().to_string());
        }
    }
    files
}

/// Attack: an attacker gets one old key. Sealed copies of all later keys are in the repository, since a user imported all
/// Secrets of the cluster as documented.
#[test]
fn an_import_of_all_secrets_skips_every_key() {
    let folder = folder();
    let folder = folder.path();
    let mut list = PLAIN.to_owned();
    for (_, key) in keys() {
        list = list + "---\n" + &key;
    }
    write_files(folder, &[("list.yaml", &list)]);
    let output = seal(folder, &["import", "list", "list.yaml", "--into", "sealed"]);
    assert_code(&output, 0, "the list");
    let printed = combined_output(&output);
    let skipped = printed.matches("it is a private key of the sealed-secrets controller");
    assert_eq!(skipped.count(), keys().len(), "{printed}");
    let files = files_below(&folder.join("sealed"));
    assert_eq!(files.len(), 1, "{files:?}");
}

/// Attack: as above, with every other command that seals a whole Secret.
#[test]
fn no_command_seals_a_key() {
    let folder = folder();
    let folder = folder.path();
    let refused = "is a private key of the sealed-secrets controller";
    for (case, key) in keys() {
        write_files(folder, &[("key.yaml", &key)]);
        for args in [
            &["key.yaml", "--stdout"][..],
            &["-i", "key.yaml"],
            &["import", "secret", "key.yaml", "-w", "out.yaml"],
        ] {
            let output = seal(folder, args);
            assert_code(&output, 2, format!("{case} {args:?}"));
            assert_contains(&output, refused, format!("{case} {args:?}"));
            assert_contains(&output, "seal keys backup", format!("{case} {args:?}"));
        }
        assert_eq!(read(folder, "key.yaml"), key, "{case}");
        assert!(!folder.join("out.yaml").exists(), "{case}");
    }
    let key = v2_secret(Suite::XWing, "k", 1, 1).data["v2.key"]
        .expose()
        .to_vec();
    fs::write(folder.join("key.txt"), key).expect("ours");
    let args = ["create", "k", "-n", "shop", "--from-file", "v2.key=key.txt"];
    assert_contains(&seal(folder, &args), refused, "create");
}

fn kubeseal(folder: &Path, input: &str) -> Output {
    write_files(folder, &[("input.yaml", input)]);
    let mut kubeseal = command(env!("CARGO_BIN_EXE_kubeseal"), folder, "/nowhere");
    let input = fs::File::open(folder.join("input.yaml")).expect("it exists");
    kubeseal.args(["--cert", "cert.pem", "-o", "yaml"]);
    kubeseal.current_dir(folder).stdin(Stdio::from(input));
    kubeseal.output().expect("it runs")
}

/// Attack: a key that `kubeseal` or an earlier version sealed is in the repository, or a plain one, with any label.
#[test]
fn lint_reports_plain_and_sealed_keys() {
    let folder = folder();
    let folder = folder.path();
    write_files(folder, &[(".seal.yaml", "rules: []\n")]);
    for (case, key) in keys() {
        write_files(folder, &[("key.yaml", &key)]);
        let output = seal(folder, &["lint", "key.yaml"]);
        assert_contains(&output, "is a private key of the controller", case);

        let output = kubeseal(folder, &key);
        assert_contains(
            &output,
            "is a private key of the sealed-secrets controller",
            case,
        );
        let sealed = String::from_utf8(output.stdout).expect("text");
        write_files(folder, &[("key.yaml", &sealed)]);
        let output = seal(folder, &["lint", "key.yaml"]);
        assert_contains(&output, "sealed-key", case);
        assert_code(&output, 1, case);
    }
}
