//! Tests `sops` files that name an attacker's key service. `sops` sends the user's credentials to the
//! key service that a file names.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::support::{assert_contains, stderr};

const CERTIFICATE: &str = include_str!("../seal/fixtures/cert.pem");

/// A directory with a fake `sops`, which writes the Vault token of its environment to the file `ran`.
struct Fixture(tempfile::TempDir);

impl Fixture {
    fn new() -> Self {
        let fixture = Self(tempfile::tempdir().expect("a directory"));
        let script =
            "#!/bin/sh\necho \"$VAULT_TOKEN\" > \"$HOME/ran\"\nprintf '{\"a\": \"value\"}'\n";
        fs::create_dir(fixture.path("programs")).expect("the test directory is writable");
        fs::write(fixture.path("programs/sops"), script).expect("the test directory is writable");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(fixture.path("programs/sops"), mode).expect("the test owns the file");
        fs::write(fixture.path("cert.pem"), CERTIFICATE).expect("the test directory is writable");
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn import(&self, file: &str, flags: &[&str], variables: &[(&str, &str)]) -> Output {
        let programs = self.path("programs").display().to_string();
        Command::new(env!("CARGO_BIN_EXE_seal"))
            .args(["import", "sops", "x", file, "--cert=cert.pem", "-n=st"])
            .args(flags)
            .current_dir(self.0.path())
            .env("HOME", self.0.path())
            .env("KUBECONFIG", "/nowhere")
            .env("PATH", format!("{programs}:/usr/bin:/bin"))
            .env("VAULT_TOKEN", "s.victim-token")
            .env_remove("VAULT_ADDR")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("the command starts")
    }
}

const ATTACKER_URL: &str = "http://evil.example:8200";

/// Returns the name and content of a file with this Vault address, for each format that `sops` reads.
fn sops_files(address: &str) -> [(&'static str, String); 6] {
    let value = "ENC[AES256_GCM,data:dmFsdWU=,iv:eA==,tag:eA==,type:str]";
    let json = format!(r#"{{"hc_vault": [{{"vault_address": "{address}"}}], "mac": "x"}}"#);
    [
        (
            "x.yaml",
            format!("a: {value}\nsops:\n  mac: x\n  hc_vault:\n  - vault_address: {address}\n"),
        ),
        (
            "groups.yaml",
            format!("a: {value}\nsops: {{mac: x, key_groups: [{json}]}}\n"),
        ),
        ("x.json", format!(r#"{{"a": "{value}", "sops": {json}}}"#)),
        ("x.enc", format!(r#"{{"data": "{value}", "sops": {json}}}"#)),
        (
            "x.env",
            format!("a={value}\nsops_mac=x\nsops_hc_vault__list_0__map_vault_address={address}\n"),
        ),
        (
            "x.ini",
            format!(
                "[a]\na = {value}\n[sops]\nmac = x\nhc_vault__list_0__map_vault_address = {address}\n"
            ),
        ),
    ]
}

/// Attack: an attacker sends the user a `sops` file whose metadata names the attacker's server as the Vault, to which
/// `sops` would send the user's token.
#[test]
fn sends_no_token_to_an_address_that_only_the_file_names() {
    for variables in [&[][..], &[("VAULT_ADDR", "https://vault.example:8200")]] {
        for (name, text) in sops_files(ATTACKER_URL) {
            let fixture = Fixture::new();
            fs::write(fixture.path(name), &text).expect("the test directory is writable");
            let output = fixture.import(name, &[], variables);
            let why = format!("{name} {variables:?}: {}", stderr(&output));
            assert!(!fixture.path("ran").exists(), "{why}");
            assert_eq!(output.status.code(), Some(2), "{why}");
            assert!(stderr(&output).contains(ATTACKER_URL), "{why}");
        }
    }
}

/// The characters that Go's JSON decoder considers equal to `s` and `k`.
const LONG_S: char = '\u{17f}';
const KELVIN: char = '\u{212a}';

/// Attack: an attacker hides the address of their server from the check: behind a line break that only the parser of
/// `sops` knows, or in a field that only Go's JSON decoder recognizes.
#[test]
fn refuses_files_that_sops_would_read_differently() {
    let value = "ENC[AES256_GCM,data:dmFsdWU=,iv:eA==,tag:eA==,type:str]";
    let vault = format!(r#"[{{"vault_address": "{ATTACKER_URL}"}}]"#);
    let mut files = vec![
        (
            "x.json",
            format!(
                r#"{{"a": "{value}", "sops": {{"mac": "x"}}, "{LONG_S}ops": {{"hc_vault": {vault}}}}}"#
            ),
        ),
        (
            "x.json",
            format!(
                r#"{{"a": "{value}", "sops": {{"hc_vault": {}}}}}"#,
                vault.replace("address", &format!("addre{LONG_S}s"))
            ),
        ),
        (
            "x.json",
            format!(r#"{{"a": "{value}", "\u017fops": {{"hc_vault": {vault}}}}}"#),
        ),
        (
            "x.json",
            format!(r#"{{"a": "{value}", "sops": {{"{KELVIN}ms": []}}}}"#),
        ),
    ];
    for line_break in ["\u{85}", "\u{2028}", "\u{2029}"] {
        let hidden =
            format!("{line_break}    hc_vault:{line_break}    - vault_address: {ATTACKER_URL}");
        for text in [
            format!("a: {value}\nsops:\n    mac: x\n    age: [] # x{hidden}\n"),
            format!("a: {value}\nsops:\n    mac: |\n      x{hidden}\n"),
            format!("a: {value}\nsops:\n    mac: x{hidden}\n"),
        ] {
            files.push(("x.yaml", text));
        }
    }
    for (name, text) in files {
        let fixture = Fixture::new();
        fs::write(fixture.path(name), &text).expect("the test directory is writable");
        let output = fixture.import(name, &[], &[]);
        assert!(
            !fixture.path("ran").exists(),
            "{text:?}: {}",
            stderr(&output)
        );
        assert_eq!(output.status.code(), Some(2), "{text:?}");
    }
}

/// Attack: a program of the attacker replaces the file after it was checked.
#[test]
fn gives_sops_a_private_copy_of_the_content_that_was_checked() {
    let fixture = Fixture::new();
    let script = "#!/bin/sh\nfor file; do :; done\ncat \"$file\" > \"$HOME/read\"\nstat -c %a \"$file\" > \"$HOME/mode\"\n\
                  echo \"$file\" > \"$HOME/name\"\nprintf '{\"a\": \"value\"}'\n";
    fs::write(fixture.path("programs/sops"), script).expect("the test directory is writable");
    let (name, text) = sops_files("").into_iter().next().expect("a file");
    fs::write(fixture.path(name), &text).expect("the test directory is writable");
    let output = fixture.import(name, &[], &[]);
    assert!(output.status.success(), "{}", stderr(&output));
    let read = |name: &str| fs::read_to_string(fixture.path(name)).expect("sops ran");
    assert_eq!(read("read"), text);
    assert_eq!(read("mode"), "600\n");
    let copy = PathBuf::from(read("name").trim());
    assert!(!copy.starts_with(fixture.0.path()), "{}", copy.display());
    assert!(!copy.exists(), "{} was left behind", copy.display());
}

/// Attack: an attacker names their server as an Azure Key Vault or as the region of an AWS or Huawei Cloud key, to
/// receive the user's credentials.
#[test]
fn refuses_key_services_at_an_attackers_address() {
    for service in [
        r#""azure_kv": [{"vault_url": "https://evil.example"}]"#,
        r#""key_groups": [{"azure_kv": [{"vault_url": "https://evil.example"}]}]"#,
        r#""kms": [{"arn": "arn:aws:kms:evil.example/:123456789012:key/a"}]"#,
        r#""hckms": [{"key_id": "evil.example:x"}]"#,
    ] {
        let fixture = Fixture::new();
        let text = format!(r#"{{"a": "b", "sops": {{"mac": "x", {service}}}}}"#);
        fs::write(fixture.path("x.json"), text).expect("the test directory is writable");
        let output = fixture.import("x.json", &[], &[]);
        assert!(
            !fixture.path("ran").exists(),
            "{service}: {}",
            stderr(&output)
        );
        assert_contains(&output, "evil.example", service);
    }
}

/// A key service is used if the user names its address in the environment or with a flag.
#[test]
fn uses_a_key_service_that_the_user_names() {
    let address = "https://vault.example:8200";
    for (flags, variables) in [
        (
            &[][..],
            &[("VAULT_ADDR", "https://vault.example:8200/")][..],
        ),
        (&["--key-service=https://vault.example:8200"], &[]),
    ] {
        for (name, text) in sops_files(address) {
            let fixture = Fixture::new();
            fs::write(fixture.path(name), &text).expect("the test directory is writable");
            let output = fixture.import(name, flags, variables);
            assert!(
                fixture.path("ran").exists(),
                "{name} {flags:?}: {}",
                stderr(&output)
            );
        }
    }
}

#[test]
fn refuses_a_file_that_sops_cannot_read_again() {
    let fixture = Fixture::new();
    let status = Command::new("mkfifo")
        .arg(fixture.path("pipe.yaml"))
        .status();
    assert!(status.expect("mkfifo starts").success());
    std::os::unix::fs::symlink("pipe.yaml", fixture.path("link.yaml"))
        .expect("the test directory is writable");
    let absolute_path = fixture.path("pipe.yaml").display().to_string();
    for file in ["pipe.yaml", "link.yaml", &absolute_path, "/dev/null"] {
        let output = fixture.import(file, &[], &[]);
        let stderr = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{file}: {stderr}");
        assert!(stderr.contains("is not a regular file"), "{file}: {stderr}");
        assert!(
            stderr.contains("hint: write its content to a file"),
            "{file}: {stderr}"
        );
        assert!(!fixture.path("ran").exists(), "{file}");
    }
}
