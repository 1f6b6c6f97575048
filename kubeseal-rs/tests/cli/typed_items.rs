//! Tests `seal create` for built-in types, and `--trim`.
#![expect(clippy::expect_used, reason = "a test")]

use std::fs;
use std::path::Path;
use std::process::Output;

use rcgen::{CertificateParams, KeyPair};
use time::{Duration, OffsetDateTime};

use crate::support::{assert_code, assert_contains, combined_output, command};

const SEAL: &str = env!("CARGO_BIN_EXE_seal");
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/seal/fixtures");
const ENCRYPTED_SSH_KEY: &str = include_str!("../../library/src/typed/test-keys/encrypted");
const SSH_KEY: &str = include_str!("../seal/key-fixtures/id_ed25519");

/// Runs `seal create x` with these arguments, and writes `x.yaml`.
fn create(directory: &Path, args: &[&str]) -> Output {
    let mut seal = command(SEAL, directory, "/nowhere");
    seal.args(["create", "x", "-n", "shop", "-w", "x.yaml", "--cert"])
        .arg(format!("{FIXTURES}/cert.pem"))
        .args(args)
        .current_dir(directory);
    seal.output().expect("the command starts")
}

/// Returns the value of an item in `x.yaml`.
fn value(directory: &Path, item: &str) -> Vec<u8> {
    let mut seal = command(SEAL, directory, "/nowhere");
    seal.args(["get", "x.yaml", item, "--key"])
        .arg(format!("{FIXTURES}/key.pem"))
        .current_dir(directory);
    let output = seal.output().expect("the command starts");
    assert_code(&output, 0, item);
    output.stdout
}

fn directory_with(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, content) in files {
        fs::write(directory.path().join(name), content).expect("the test directory is writable");
    }
    directory
}

/// Returns a self-signed certificate that was valid for a year until this number of days from now.
fn certificate(key: &KeyPair, days: i64) -> String {
    let mut params =
        CertificateParams::new(vec!["shop.example.com".to_owned()]).expect("a valid name");
    params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
    params.not_before = params.not_after - Duration::days(365);
    params.self_signed(key).expect("the key signs").pem()
}

#[test]
fn creates_a_tls_secret_with_warnings_about_its_validity() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    for (days, warning) in [
        (-1, Some("tls.crt: the certificate expired on ")),
        (10, Some("tls.crt: the certificate expires on ")),
        (40, None),
    ] {
        let (chain, pem) = (certificate(&key, days), key.serialize_pem());
        let directory =
            directory_with(&[("tls.crt", chain.as_bytes()), ("tls.key", pem.as_bytes())]);
        let output = create(directory.path(), &["--tls", "tls.crt", "tls.key"]);
        assert_code(&output, 0, days);
        match warning {
            Some(warning) => assert_contains(&output, warning, days),
            None => assert!(!combined_output(&output).contains("warning"), "{days}"),
        }
        assert_eq!(value(directory.path(), "tls.crt"), chain.as_bytes());
        assert_eq!(value(directory.path(), "tls.key"), pem.as_bytes());
    }
}

#[test]
fn refuses_a_tls_key_of_another_certificate_and_writes_nothing() {
    let [own, other] = [(); 2].map(|()| {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        (certificate(&key, 100), key.serialize_pem())
    });
    let chain = other.0.clone() + &own.0;
    let directory = directory_with(&[
        ("own.crt", own.0.as_bytes()),
        ("chain.crt", chain.as_bytes()),
        ("own.key", own.1.as_bytes()),
        ("other.key", other.1.as_bytes()),
        ("text", b"hunter2"),
    ]);
    for (files, want) in [
        (
            ["own.crt", "other.key"],
            "other.key: the private key does not match",
        ),
        (
            ["chain.crt", "own.key"],
            "own.key: the private key matches certificate 2",
        ),
        (
            ["own.crt", "own.crt"],
            "own.crt: it contains no private key",
        ),
        (["text", "own.key"], "text: data does not contain"),
        (["own.crt", "text"], "text: it contains no private key"),
        (["own.crt", "missing"], "missing: no such file"),
    ] {
        let output = create(directory.path(), &["--tls", files[0], files[1]]);
        assert_code(&output, 2, want);
        assert_contains(&output, want, files.join(" "));
        assert!(!combined_output(&output).contains("hunter2"), "{want}");
        assert!(!directory.path().join("x.yaml").exists(), "{want}");
    }
}

#[test]
fn creates_an_ssh_secret_with_warnings_about_what_programs_reject() {
    let without_line_break = SSH_KEY.trim_end();
    for (key, warning) in [
        (SSH_KEY, None),
        (
            ENCRYPTED_SSH_KEY,
            Some("id: the private key is protected by a passphrase"),
        ),
        (
            without_line_break,
            Some("id: `ssh` rejects the private key"),
        ),
    ] {
        let directory = directory_with(&[("id", key.as_bytes())]);
        let output = create(directory.path(), &["--ssh-auth", "id"]);
        assert_code(&output, 0, key);
        match warning {
            Some(warning) => assert_contains(&output, warning, ""),
            None => assert!(!combined_output(&output).contains("warning")),
        }
        assert_eq!(value(directory.path(), "ssh-privatekey"), key.as_bytes());
    }
    let directory = directory_with(&[("id.pub", b"ssh-ed25519 AAAA a@b\n")]);
    let output = create(directory.path(), &["--ssh-auth", "id.pub"]);
    assert_code(&output, 2, "a public key");
    assert_contains(&output, "id.pub: it is a public key", "");
}

#[test]
fn a_built_in_type_can_have_further_items() {
    let directory = directory_with(&[
        ("id", SSH_KEY.as_bytes()),
        ("known_hosts", b"github.com x\n"),
    ]);
    let args = ["--ssh-auth", "id", "--from-file", "known_hosts"];
    assert_code(&create(directory.path(), &args), 0, "known_hosts");
    assert_eq!(value(directory.path(), "known_hosts"), b"github.com x\n");
    fs::remove_file(directory.path().join("x.yaml")).expect("the file exists");
    let twice = [
        "--ssh-auth",
        "id",
        "--from-file",
        "ssh-privatekey=known_hosts",
    ];
    let output = create(directory.path(), &twice);
    assert_contains(&output, "duplicate item \"ssh-privatekey\"", "");
}

#[test]
fn refuses_combinations_of_types_and_passwords() {
    let directory = directory_with(&[("id", SSH_KEY.as_bytes()), ("password", b"hunter2\r\n")]);
    for (args, want) in [
        (
            &["--ssh-auth", "id", "--type", "Opaque"][..],
            "cannot be used with",
        ),
        (
            &["--ssh-auth", "id", "--tls", "id", "id"],
            "cannot be used with",
        ),
        (
            &["--ssh-auth", "id", "--basic-auth", "a"],
            "cannot be used with",
        ),
        (&["--docker-registry", "r.example"], "--docker-username"),
        (&["--docker-username", "ci"], "--docker-registry"),
        (
            &["--ssh-auth", "id", "--password-file", "password"],
            "no password is used",
        ),
        (
            &["--from-file", "id", "--password-file", "password"],
            "no password is used",
        ),
        (
            &["--basic-auth", "a", "--password-stdin"],
            "the password is empty",
        ),
        (
            &[
                "--basic-auth",
                "a",
                "--password-stdin",
                "--password-file",
                "password",
            ],
            "cannot be used with",
        ),
        (
            &["--basic-auth", "", "--password-file", "password"],
            "the user name is empty",
        ),
        (
            &["--basic-auth", "a:hunter2", "--password-file", "password"],
            "contains a colon",
        ),
    ] {
        let output = create(directory.path(), args);
        assert_code(&output, 2, format_args!("{args:?}"));
        assert_contains(&output, want, format_args!("{args:?}"));
        assert!(!combined_output(&output).contains("hunter2"), "{args:?}");
    }
    let args = ["--basic-auth", "a", "--password-file", "password"];
    assert_code(&create(directory.path(), &args), 0, "a password");
    assert_eq!(value(directory.path(), "password"), b"hunter2");
}

#[test]
fn trims_values_from_files_only_with_the_flag() {
    let directory = directory_with(&[("a", b"\xef\xbb\xbfx\r\n")]);
    let root = directory.path();
    fs::create_dir(root.join("values")).expect("the test directory is writable");
    fs::write(root.join("values/b"), b"y\n\n").expect("the test directory is writable");
    let args = ["--from-file", "a", "--from-file", "values"];
    assert_contains(&create(root, &args), "pass --trim to remove it", "");
    assert_eq!(value(root, "a"), b"\xef\xbb\xbfx\r\n");
    assert_eq!(value(root, "b"), b"y\n\n");
    fs::remove_file(root.join("x.yaml")).expect("the file exists");
    let output = create(root, &[&args[..], &["--trim"]].concat());
    assert!(!combined_output(&output).contains("warning"));
    assert_eq!(value(root, "a"), b"x");
    assert_eq!(value(root, "b"), b"y\n");
    let mut set = command(SEAL, root, "/nowhere");
    set.args(["set", "x.yaml", "a", "--trim", "--generate", "hex"]);
    let output = set.current_dir(root).output().expect("the command starts");
    assert_code(&output, 2, "--generate");
    assert_contains(&output, "cannot be used with", "--generate");
}
