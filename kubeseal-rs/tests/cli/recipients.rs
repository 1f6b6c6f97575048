//! Tests which certificates existing values are encrypted for. An attacker may have written the `.seal.yaml` of the
//! repository.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::api_server::{self, Body, certificate_path, service_body, service_path, text_body};
use crate::support::{
    NEW_CERT, OLD_CERT, OTHER_CERT as ATTACKER_CERT, assert_code, assert_contains, command, stderr,
    write_files,
};

const OLD_KEY: &str = include_str!("../seal/key-fixtures/state/keys/key-2024.yaml");
const NEW_KEY: &str = include_str!("../seal/key-fixtures/state/keys/key-2025.yaml");

/// A Secret of a cluster.
const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: x}\n";

const NEW_FINGERPRINT: &str = "SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk";
const ATTACKER_FINGERPRINT: &str = "SHA256:dZRDdO3/SYi1MQLIlbT4Zztv75Xbt+KCysH30zdze7Y";

/// An attacker's rule for a copy of a production value.
const RULE: &str = "rules: [{path: 'x/**', certificate: x/cert.pem}]\n";
const STOLEN_FILE: &str = "x/stolen.yaml";

/// A repository with a copy of a production value, `x/stolen.yaml`, to which the attacker's rule applies.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new(rules: &str) -> Self {
        let fixture = Self(tempfile::tempdir().expect("a directory"));
        let files = [
            ("old.pem", OLD_CERT),
            ("old.yaml", OLD_KEY),
            ("new.pem", NEW_CERT),
            ("new.yaml", NEW_KEY),
            ("secrets.yaml", SECRET),
            ("repository/x/cert.pem", ATTACKER_CERT),
            ("repository/.seal.yaml", rules),
            ("repository/.git/HEAD", "ref: refs/heads/main\n"),
            ("repository/x/values.env", "a=b\n"),
            (
                "repository/x/stolen.enc",
                "{\"data\": \"ENC[AES256_GCM,data:dmFsdWU=,iv:eA==,tag:eA==,type:str]\", \"sops\": {\"mac\": \"x\"}}",
            ),
        ];
        write_files(fixture.0.path(), &files);
        fixture.write_program(
            "editor",
            "#!/bin/sh\nexec sed -i '/^  /s/:.*/: changed/' \"$1\"\n",
        );
        fixture.write_program("sops", "#!/bin/sh\nprintf value\n");
        let create = [
            "create",
            "db",
            "--cert=../old.pem",
            "--from-literal=a=b",
            "-n=shop",
        ];
        assert_success(&fixture.run(&[&create[..], &["-w=db.yaml"]].concat(), &[]));
        fs::rename(fixture.path("db.yaml"), fixture.path(STOLEN_FILE))
            .expect("the test directory is writable");
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("repository").join(name)
    }

    fn write_program(&self, name: &str, text: &str) {
        let name = format!("programs/{name}");
        write_files(self.0.path(), &[(&name, text)]);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.0.path().join(name), mode).expect("the test owns the file");
    }

    fn run(&self, args: &[&str], variables: &[(&str, &str)]) -> Output {
        let programs = self.0.path().join("programs").display().to_string();
        command(env!("CARGO_BIN_EXE_seal"), self.0.path(), "/nowhere")
            .args(args)
            .current_dir(self.path("."))
            .env("PATH", format!("{programs}:/usr/bin:/bin"))
            .env("EDITOR", "editor")
            .envs(variables.iter().copied())
            .output()
            .expect("the command starts")
    }

    fn stolen_file(&self) -> String {
        fs::read_to_string(self.path(STOLEN_FILE)).expect("the file exists")
    }

    /// Returns all files in the repository, with their content.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut directories = vec![self.path(".")];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory)
                .expect("the directory is readable")
                .flatten()
            {
                match entry.path() {
                    path if path.is_dir() => directories.push(path),
                    path => {
                        files.push((path.clone(), fs::read(path).expect("the file is readable")));
                    }
                }
            }
        }
        files.sort();
        files
    }
}

fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}

const ROTATE_ARGS: [&str; 4] = ["rotate", ".", "--key", "../old.yaml"];
const ROTATE_DRY_RUN_ARGS: [&str; 5] = ["rotate", ".", "--key", "../old.yaml", "--dry-run"];
const EDIT_ARGS: [&str; 4] = ["edit", STOLEN_FILE, "--key", "../old.yaml"];
const IMPORT_ARGS: [&str; 6] = [
    "import",
    "sops",
    "db",
    "x/stolen.enc",
    "-n=shop",
    "-w=x/new.yaml",
];

const IMPORT_SECRET_ARGS: [&str; 4] = ["import", "secret", "../secrets.yaml", "-w=x/new.yaml"];
const IMPORT_LIST_ARGS: [&str; 5] = ["import", "list", "../secrets.yaml", "--into", "x"];

/// Attack: a committer adds their own certificate, a copy of a sealed production file, and a rule that names the
/// certificate for the copy. Then a user with the private key re-encrypts the tree.
#[test]
fn refuses_to_re_encrypt_a_value_for_a_certificate_that_only_a_rule_names() {
    let fixture = Fixture::new(RULE);
    let before = fixture.stolen_file();
    let output = fixture.run(&ROTATE_ARGS, &[]);
    assert_eq!(fixture.stolen_file(), before, "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(2));
    for part in [
        ATTACKER_FINGERPRINT,
        "--cert x/cert.pem",
        "--cert-fingerprint SHA256:",
    ] {
        assert_contains(&output, part, "");
    }
}

/// Attack: a committer writes a rule that names their own certificate. The test uses commands that encrypt existing
/// values, a rule with and without a fingerprint, and variables that name the user's own certificate.
#[test]
fn a_rule_alone_never_chooses_the_recipient_of_an_existing_value() {
    let pinned_rule = format!(
        "rules: [{{path: 'x/**', certificate: x/cert.pem, fingerprint: '{ATTACKER_FINGERPRINT}'}}]\n"
    );
    let own_certificate = [("SEALED_SECRETS_CERT", "../new.pem")];
    let pin = [("SEALED_SECRETS_CERT_FINGERPRINT", NEW_FINGERPRINT)];
    for rule in [RULE, &pinned_rule] {
        for args in [
            &ROTATE_ARGS[..],
            &ROTATE_DRY_RUN_ARGS,
            &EDIT_ARGS,
            &IMPORT_ARGS,
            &IMPORT_SECRET_ARGS,
            &IMPORT_LIST_ARGS,
        ] {
            for variables in [&[][..], &own_certificate, &pin] {
                for flags in [&[][..], &["--config=.seal.yaml"]] {
                    let fixture = Fixture::new(rule);
                    let before = fixture.files();
                    let output = fixture.run(&[args, flags].concat(), variables);
                    let why = format!("{args:?} {flags:?} {variables:?}: {}", stderr(&output));
                    assert_eq!(output.status.code(), Some(2), "{why}");
                    assert!(stderr(&output).contains(ATTACKER_FINGERPRINT), "{why}");
                    assert_eq!(fixture.files(), before, "{why}");
                }
            }
        }
    }
}

/// A rule may choose the certificate if the user vouches for it.
#[test]
fn re_encrypts_for_a_certificate_that_the_user_vouches_for() {
    let new_rule = "rules: [{path: 'x/**', certificate: new.pem}]\n";
    let flag = format!("--cert-fingerprint={NEW_FINGERPRINT}");
    let fingerprints = format!("{ATTACKER_FINGERPRINT},{NEW_FINGERPRINT}");
    let pins = [("SEALED_SECRETS_CERT_FINGERPRINT", fingerprints.as_str())];
    for (why, flags, variables) in [
        ("--cert", &["--cert=../new.pem"][..], &[][..]),
        ("--cert-fingerprint", &[&flag], &[]),
        ("a pin in the environment", &[], &pins),
        ("its key is passed", &["--key=../new.yaml"], &[]),
    ] {
        for args in [
            &ROTATE_ARGS[..],
            &ROTATE_DRY_RUN_ARGS,
            &EDIT_ARGS,
            &IMPORT_ARGS,
            &IMPORT_SECRET_ARGS,
            &IMPORT_LIST_ARGS,
        ] {
            if args[0] == "import" && why == "its key is passed" {
                continue;
            }
            let fixture = Fixture::new(new_rule);
            fs::write(fixture.path("new.pem"), NEW_CERT).expect("the test directory is writable");
            let output = fixture.run(&[args, flags].concat(), variables);
            assert!(
                output.status.success(),
                "{args:?} {why}: {}",
                stderr(&output)
            );
            if args != EDIT_ARGS {
                assert_contains(&output, NEW_FINGERPRINT, format_args!("{args:?} {why}"));
            }
        }
    }
}

/// Attack: the attacker's key was restored into the cluster, so it is opening-only, or an attacker has the key that is
/// marked as compromised. A rule names its certificate, and the user passes all key Secrets of the cluster with `--key`.
#[test]
fn a_marked_key_neither_confirms_a_certificate_nor_gets_values() {
    let new_rule = "rules: [{path: 'x/**', certificate: new.pem}]\n";
    let named_by_user = ["--key=../marked.yaml", "--cert=../new.pem"];
    for mark in ["opening-only", "compromised"] {
        let annotations =
            format!("  annotations: {{sealedsecrets.bitnami.com/{mark}: x}}\n  labels:");
        let marked = NEW_KEY.replace("  labels:", &annotations);
        for flags in [&named_by_user[..1], &named_by_user] {
            for args in [&ROTATE_ARGS[..], &ROTATE_DRY_RUN_ARGS, &EDIT_ARGS] {
                let fixture = Fixture::new(new_rule);
                write_files(
                    fixture.0.path(),
                    &[("marked.yaml", &marked), ("repository/new.pem", NEW_CERT)],
                );
                let before = fixture.files();
                let output = fixture.run(&[args, flags].concat(), &[]);
                let case = format!("{mark} {args:?} {flags:?}");
                assert_code(&output, 2, &case);
                assert_contains(&output, &format!("is marked as {mark}"), &case);
                assert_contains(&output, NEW_FINGERPRINT, &case);
                assert_eq!(fixture.files(), before, "{case}");
            }
        }
        // The key still opens values.
        let fixture = Fixture::new("rules: []\n");
        write_files(fixture.0.path(), &[("marked.yaml", &marked)]);
        let create = [
            "create",
            "new",
            "--from-literal=a=b",
            "-n=shop",
            "-w=new.yaml",
        ];
        assert_success(&fixture.run(&[&create[..], &["--cert=../new.pem"]].concat(), &[]));
        let rotate = [
            "rotate",
            "new.yaml",
            "--key=../marked.yaml",
            "--cert=../old.pem",
        ];
        assert_success(&fixture.run(&rotate, &[]));
    }
}

/// Attack: a committer names their own certificate in a rule, while the user has pinned the correct certificate in the
/// environment.
#[test]
fn a_pinned_fingerprint_applies_to_the_certificate_of_a_rule() {
    let pin = [("SEALED_SECRETS_CERT_FINGERPRINT", NEW_FINGERPRINT)];
    for args in [
        &[
            "create",
            "new",
            "--from-literal=a=b",
            "-n=shop",
            "-w=x/new.yaml",
        ][..],
        &["set", STOLEN_FILE, "a", "--from-file=x/values.env"],
        &["generate", "new", "a=password", "-n=shop", "-w=x/new.yaml"],
        &[
            "import",
            "dotenv",
            "new",
            "x/values.env",
            "-n=shop",
            "-w=x/new.yaml",
        ],
        &["edit", STOLEN_FILE, "--blind"],
    ] {
        let fixture = Fixture::new(RULE);
        let before = fixture.files();
        let output = fixture.run(args, &pin);
        assert_code(&output, 2, format_args!("{args:?}"));
        assert_contains(&output, ATTACKER_FINGERPRINT, format_args!("{args:?}"));
        assert_eq!(fixture.files(), before, "{args:?}");
    }
}

/// Creates a cluster in which no controller has the default name and where the attacker's Service has a
/// controller's labels. Returns the path of its kubeconfig.
fn serve_cluster(directory: &Path) -> PathBuf {
    let labeled_services = r#"{"items":[{"metadata":{"namespace":"tenant","name":"evil"},"spec":{"ports":[{"name":"http"}]}}]}"#;
    let responses: Vec<(String, Body)> = vec![
        ("/api/v1/services".into(), text_body(labeled_services)),
        (service_path("tenant", "evil"), service_body()),
        (certificate_path("tenant", "evil"), text_body(ATTACKER_CERT)),
        (
            "/api/v1/namespaces/shop/secrets/db".into(),
            text_body(r#"{"kind":"Secret","apiVersion":"v1","data":{"a":"aHVudGVyMg=="}}"#),
        ),
    ];
    api_server::serve(directory, responses)
}

/// Attack: a committer adds a file that names a Secret of the user's cluster, and a rule that names the attacker's
/// certificate or controller. Then the user runs `seal edit`, which reads the Secret.
#[test]
fn refuses_to_encrypt_a_value_from_the_cluster_for_a_certificate_that_only_a_rule_names() {
    let pinned_rule = format!(
        "rules: [{{path: 'x/**', certificate: x/cert.pem, fingerprint: '{ATTACKER_FINGERPRINT}'}}]\n"
    );
    let controller_rule = "rules: [{path: 'x/**', controller: {namespace: tenant, name: evil}}]\n";
    let own_certificate = [("SEALED_SECRETS_CERT", "../new.pem")];
    let pin = [("SEALED_SECRETS_CERT_FINGERPRINT", NEW_FINGERPRINT)];
    for rule in [RULE, &pinned_rule, controller_rule] {
        for variables in [&[][..], &own_certificate, &pin] {
            for flags in [&[][..], &["--config=.seal.yaml"]] {
                let fixture = Fixture::new(rule);
                let kubeconfig = serve_cluster(fixture.0.path()).display().to_string();
                let before = fixture.files();
                let variables = [&[("KUBECONFIG", kubeconfig.as_str())], variables].concat();
                let output = fixture.run(&[&["edit", STOLEN_FILE], flags].concat(), &variables);
                let why = format!("{rule} {flags:?} {variables:?}: {}", stderr(&output));
                assert_eq!(output.status.code(), Some(2), "{why}");
                assert!(stderr(&output).contains(ATTACKER_FINGERPRINT), "{why}");
                assert_eq!(fixture.files(), before, "{why}");
            }
        }
    }
}

/// The edit succeeds if the user vouches for the certificate or if the edit decrypts no value.
#[test]
fn edits_a_value_from_the_cluster_for_a_certificate_that_the_user_vouches_for() {
    let flag = format!("--cert-fingerprint={ATTACKER_FINGERPRINT}");
    for flags in ["--cert=x/cert.pem", &flag, "--blind"] {
        let fixture = Fixture::new(RULE);
        let kubeconfig = serve_cluster(fixture.0.path()).display().to_string();
        let before = fixture.stolen_file();
        let variables = [("KUBECONFIG", kubeconfig.as_str())];
        let output = fixture.run(&["edit", STOLEN_FILE, flags], &variables);
        assert!(output.status.success(), "{flags}: {}", stderr(&output));
        assert_ne!(
            fixture.stolen_file(),
            before,
            "{flags}: {}",
            stderr(&output)
        );
    }
}

/// Attack: a committer names a controller of the attacker in a rule, or only the fingerprint of a controller that is
/// discovered by its labels.
#[test]
fn a_rule_alone_never_chooses_the_controller_for_existing_values() {
    let fingerprint_rule =
        format!("rules: [{{path: 'x/**', fingerprint: '{ATTACKER_FINGERPRINT}'}}]\n");
    for rule in [
        "rules: [{path: 'x/**', controller: {namespace: tenant, name: evil}}]\n",
        &fingerprint_rule,
    ] {
        for args in [&ROTATE_ARGS[..], &EDIT_ARGS, &EDIT_ARGS[..2]] {
            let fixture = Fixture::new(rule);
            let kubeconfig = serve_cluster(fixture.0.path()).display().to_string();
            let before = fixture.stolen_file();
            let output = fixture.run(args, &[("KUBECONFIG", &kubeconfig)]);
            assert_eq!(
                fixture.stolen_file(),
                before,
                "{rule} {args:?}: {}",
                stderr(&output)
            );
            assert_contains(&output, "--cert-fingerprint", rule);
            let pin = ["--cert-fingerprint", ATTACKER_FINGERPRINT];
            assert_success(&fixture.run(&[args, &pin].concat(), &[("KUBECONFIG", &kubeconfig)]));
        }
    }
}

/// The output names each certificate that a run encrypts for, as text and as JSON.
#[test]
fn rotate_names_the_certificates_that_it_encrypts_for() {
    for args in [&ROTATE_ARGS[..], &ROTATE_DRY_RUN_ARGS] {
        let fixture = Fixture::new("rules: []\n");
        let output = fixture.run(&[args, &["--cert=../new.pem", "-o=json"]].concat(), &[]);
        assert_success(&output);
        assert_contains(&output, NEW_FINGERPRINT, "");
        let json = String::from_utf8_lossy(&output.stdout);
        assert!(
            json.contains(&format!("\"to\": \"{NEW_FINGERPRINT}\"")),
            "{json}"
        );
    }
}
