//! Tests `seal keys` with v2 keys of a cluster and the list of the controller at `/v2/recipients`, and the restore of
//! v2 keys.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value as Json, json};
use shared::manifest;
use shared::v2::{Recipient as _, SecretKey, Suite};

use crate::api_server::{self, Body, certificate_path, service_body, service_path, text_body};
use crate::support::{
    NEW_CERT, assert_code, assert_contains, combined_output, command, write_files,
};
use crate::v2::{directory, read, seal, seal_ok, v2_secret};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "sealed-secrets-controller";

/// The keys of a cluster: the newest of a former suite, and two of the current suite.
const KEYS: [(Suite, &str, u8, u8); 3] = [
    (Suite::P256, "key-p256", 1, 1),
    (Suite::XWing, "key-old", 2, 2),
    (Suite::XWing, "key-new", 3, 3),
];

/// Serves a cluster with [`KEYS`] and a controller that lists one key at `/v2/recipients`, or does not serve a list.
/// Returns the path of the kubeconfig.
fn serve(directory: &Path, listed: Option<(Suite, u8)>) -> std::path::PathBuf {
    let secrets = KEYS.map(|(suite, name, byte, day)| {
        let secret = v2_secret(suite, name, byte, day);
        secret.to_document()
    });
    let secrets = json!({"kind": "SecretList", "metadata": {}, "items": secrets});
    let objects = json!({"kind": "SealedSecretList", "metadata": {}, "items": []});
    let certificate = certificate_path(NAMESPACE, NAME);
    let recipients = certificate.replace("/v1/cert.pem", "/v2/recipients");
    let mut responses: Vec<(String, Body)> = vec![
        (service_path(NAMESPACE, NAME), service_body()),
        (certificate, text_body(NEW_CERT)),
        (
            "/api/v1/namespaces/kube-system/secrets".to_owned(),
            text_body(secrets.to_string()),
        ),
        (
            "/apis/bitnami.com/v1alpha1/sealedsecrets".to_owned(),
            text_body(objects.to_string()),
        ),
    ];
    responses.extend(listed.map(|(suite, byte)| {
        let key = SecretKey::from_bytes(suite, &[byte; 32]).expect("a key");
        let key = key.recipient();
        let listed = json!({
            "suite": suite.to_string(), "keyId": key.key_id().to_string(), "recipient": key.to_string(),
            "notBefore": "2020-01-01T00:00:00Z", "notAfter": "2200-01-01T00:00:00Z",
        });
        (recipients, text_body(json!({"recipients": [listed]}).to_string()))
    }));
    api_server::serve(directory, responses)
}

fn keys(listed: Option<(Suite, u8)>, args: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    let kubeconfig = serve(directory.path(), listed);
    let mut command = command(env!("CARGO_BIN_EXE_seal"), directory.path(), kubeconfig);
    command.env("XDG_CACHE_HOME", directory.path().join("cache"));
    command
        .arg("keys")
        .args(args)
        .output()
        .expect("the command starts")
}

fn states(output: &Output) -> Vec<String> {
    let report: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    let keys = report["keys"].as_array().expect("a list").iter();
    let text = |field: &Json| field.as_str().expect("text").to_owned();
    keys.map(|key| format!("{} {}", text(&key["name"]), text(&key["state"])))
        .collect()
}

#[test]
fn the_controller_determines_which_v2_key_seals() {
    for (listed, remark, want) in [
        (
            Some((Suite::XWing, 3)),
            "",
            ["key-new sealing", "key-old opening", "key-p256 opening"],
        ),
        // With --require-backup, a controller prefers the older key until the newest one has a backup.
        (
            Some((Suite::XWing, 2)),
            "",
            ["key-new waiting", "key-old sealing", "key-p256 opening"],
        ),
        (
            Some((Suite::P256, 1)),
            "",
            ["key-new opening", "key-old opening", "key-p256 sealing"],
        ),
        (
            Some((Suite::XWing, 9)),
            "which is not among the key Secrets",
            ["key-new sealing", "key-old opening", "key-p256 sealing"],
        ),
        (
            None,
            "cannot fetch the controller's keys for v2 values",
            ["key-new sealing", "key-old opening", "key-p256 sealing"],
        ),
    ] {
        let output = keys(listed, &["list", "-o", "json"]);
        assert_code(&output, 0, format!("{listed:?}"));
        assert_eq!(states(&output), want, "{listed:?}");
        assert_contains(&output, remark, format!("{listed:?}"));
    }
}

/// Attack: a server between the user and the controller lists another key, so that the sealing key is retired.
#[test]
fn retires_the_newest_key_of_a_suite_only_with_former_suite() {
    let (xw, older, p256) = (
        Some((Suite::XWing, 3)),
        Some((Suite::XWing, 2)),
        Some((Suite::P256, 1)),
    );
    let former = "--former-suite";
    for (listed, args, code, want) in [
        (
            xw,
            &["key-p256"][..],
            2,
            "prefers the suite xw; if it will keep this preference, pass --former-suite",
        ),
        (
            None,
            &["key-p256"],
            2,
            "a different --sealing-suite now, pass --former-suite",
        ),
        (xw, &["key-p256", former], 0, "key-p256 would be retired"),
        (None, &["key-p256", former], 0, "key-p256 would be retired"),
        (
            p256,
            &["key-p256", former],
            2,
            "cannot retire key-p256: the controller prefers this key",
        ),
        (
            xw,
            &["key-new"],
            2,
            "cannot retire key-new: the controller prefers this key",
        ),
        (
            xw,
            &["key-new", former],
            2,
            "cannot retire key-new: the controller prefers this key",
        ),
        (
            older,
            &["key-new"],
            2,
            "cannot retire key-new: it is the sealing key of its suite",
        ),
        (
            older,
            &["key-new", former],
            2,
            "cannot retire key-new: the controller prefers its suite",
        ),
        (
            older,
            &["key-old"],
            2,
            "cannot retire key-old: the controller prefers this key",
        ),
        (xw, &["key-old"], 0, "key-old would be retired"),
    ] {
        let output = keys(listed, &[&["retire", "--dry-run"], args].concat());
        assert_code(&output, code, format!("{listed:?} {args:?}"));
        assert_contains(&output, want, format!("{listed:?} {args:?}"));
    }
}

/// Attack: an attacker who has a copy of a key stores another key with times that make it the newest, so that the
/// report of the compromised key says that nothing is left to do.
#[test]
fn asks_to_check_a_successor_that_only_its_times_identify() {
    let check = "check who created key-new: only the times in";
    let rotate = "generates a key that is not compromised";
    for (listed, is_checked) in [
        (Some((Suite::XWing, 3)), false),
        (Some((Suite::P256, 1)), false),
        (Some((Suite::XWing, 2)), true),
        (None, true),
    ] {
        let output = keys(listed, &["compromise", "key-old", "--dry-run"]);
        assert_code(&output, 0, format!("{listed:?}"));
        let printed = combined_output(&output);
        assert_eq!(printed.contains(check), is_checked, "{listed:?}: {printed}");
        assert!(!printed.contains(rotate), "{listed:?}: {printed}");
        for want in ["seal keys export", "seal rotate --to v2 PATH"] {
            assert!(printed.contains(want), "{listed:?}: {printed}");
        }
    }
    // A key of another suite is not a successor.
    let output = keys(None, &["compromise", "key-new", "--dry-run"]);
    assert_contains(&output, rotate, "the newest");
}

/// Like RSA keys, v2 keys are restored as opening-only unless the user names them.
#[test]
fn a_restored_v2_key_seals_only_if_the_user_names_it() {
    let directory = directory();
    let directory = directory.path();
    let [old, new] = [KEYS[1], KEYS[2]].map(|(suite, name, byte, day)| {
        manifest::to_yaml(&v2_secret(suite, name, byte, day).to_document())
    });
    write_files(directory, &[("backup.yaml", &format!("{old}---\n{new}"))]);
    fs::create_dir(directory.join("state")).expect("the test owns the directory");
    let restore = |more: &[&str]| {
        let restore = ["keys", "restore", "backup.yaml", "--directory", "state"];
        seal(directory, &[&restore, more].concat())
    };
    let report = |more: &[&str]| {
        let output = restore(&[&["-o", "json"], more].concat());
        assert_code(&output, 0, format!("{more:?}"));
        let want: Json = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(want["keys"][1]["suite"], "xw");
        (
            states(&output),
            want["keys"][1]["keyId"]
                .as_str()
                .expect("an identifier")
                .to_owned(),
        )
    };
    let (states, id) = report(&["--dry-run"]);
    assert_eq!(states, ["key-old opening", "key-new opening"]);
    let line = format!("key-new xw {id}: restored, as opening-only");
    let output = restore(&[]);
    assert_contains(&output, &line, "without --seal-with");
    assert_contains(
        &output,
        "hint: for a v2 key, compare its identifier",
        "the hint",
    );
    assert!(read(directory, "state/keys/key-new.yaml").contains("opening-only"));

    let line = format!("key-new xw {id}: already exists, and is now the sealing key");
    assert_contains(&restore(&["--seal-with", &id]), &line, "restored before");
    assert!(!read(directory, "state/keys/key-new.yaml").contains("opening-only"));
    let listed = seal_ok(directory, &["keys", "list", "--directory", "state"]);
    assert!(listed.contains("key-new  sealing"), "{listed}");

    fs::remove_dir_all(directory.join("state/keys")).expect("the test owns the file");
    let (states, _) = report(&["--seal-with", &id]);
    assert_eq!(states, ["key-old opening", "key-new sealing"]);
    let output = restore(&["--seal-with", "nonsense"]);
    assert_code(&output, 2, "nonsense");
    assert_contains(&output, "expected a fingerprint", "nonsense");
}

/// A generic finding about plain values could make the user seal the private key.
#[test]
fn lint_reports_a_plain_v2_key() {
    let directory = directory();
    let secret = v2_secret(Suite::XWing, "key", 1, 1);
    let key = manifest::to_yaml(&secret.to_document());
    write_files(directory.path(), &[("key.yaml", &key)]);
    let output = seal(directory.path(), &["lint", "key.yaml"]);
    assert_code(&output, 1, "a key");
    assert_contains(
        &output,
        "the Secret key contains a private key of the controller",
        "a key",
    );
}
