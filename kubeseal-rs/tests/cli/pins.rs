//! Tests for which controllers a pinned certificate is trusted, and that `seal cert fetch` reports a changed one.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use crate::api_server::{self, Body, certificate_path, service_body, service_path, text_body};

const SECRET: &str = "kind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n";

/// A user with a repository, and a cluster in which no controller has the default name. Its Services
/// `tenant/evil`, which has a controller's labels, and `ops/other` serve the same certificate.
struct Fixture {
    directory: tempfile::TempDir,
    kubeconfig: PathBuf,
    /// The number of requests to `tenant/evil`.
    requests: Arc<AtomicUsize>,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seal/exec.fixtures");
        let pem = fs::read_to_string(fixtures.join("key-2025.pem")).expect("the fixture");
        let labeled_services = r#"{"items":[{"metadata":{"namespace":"tenant","name":"evil"},"spec":{"ports":[{"name":"http"}]}}]}"#;
        let mut responses: Vec<(String, Body)> =
            vec![("/api/v1/services".into(), text_body(labeled_services))];
        for (namespace, name) in [("tenant", "evil"), ("ops", "other")] {
            responses.push((service_path(namespace, name), service_body()));
        }
        let requests = Arc::new(AtomicUsize::new(0));
        let counted_body = counted_body(pem.clone(), Arc::clone(&requests));
        responses.push((certificate_path("tenant", "evil"), counted_body));
        responses.push((certificate_path("ops", "other"), text_body(pem)));
        let kubeconfig = api_server::serve(directory.path(), responses);
        let repository = directory.path().join("repository");
        fs::create_dir_all(repository.join(".git")).expect("the test directory is writable");
        fs::write(directory.path().join("secret.yaml"), SECRET)
            .expect("the test directory is writable");
        Self {
            directory,
            kubeconfig,
            requests,
        }
    }

    fn write_rules(&self, text: &str) {
        let file = self.directory.path().join("repository/.seal.yaml");
        fs::write(file, text).expect("the test directory is writable");
    }

    fn run(
        &self,
        program: &str,
        args: &[&str],
        directory: &str,
        variables: &[(&str, &str)],
    ) -> Output {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.directory.path().join(directory))
            .env("KUBECONFIG", &self.kubeconfig)
            .env("XDG_CACHE_HOME", self.directory.path().join("cache"))
            .envs(variables.iter().copied())
            .stdin(Stdio::null());
        command.output().expect("the command starts")
    }

    /// Runs `seal create` in the repository, where its rules apply.
    fn seal_in_repository(&self, args: &[&str]) -> Output {
        let create = ["create", "db", "--from-file=a=../secret.yaml", "-n", "shop"];
        self.run(
            env!("CARGO_BIN_EXE_seal"),
            &[&create, args].concat(),
            "repository",
            &[],
        )
    }

    /// Runs `kubeseal` outside the repository.
    fn kubeseal(&self, args: &[&str], variables: &[(&str, &str)]) -> Output {
        let seal_args = ["-f", "secret.yaml"];
        self.run(
            env!("CARGO_BIN_EXE_kubeseal"),
            &[&seal_args, args].concat(),
            ".",
            variables,
        )
    }

    /// Returns whether `kubeseal` uses the certificate of a controller that it discovers. The user does
    /// not name the controller.
    fn is_discovered_certificate_used(&self) -> bool {
        let output = self.kubeseal(&[], &[]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let has_controller_name =
            stderr.contains("tenant/evil") || stderr.contains("--controller-namespace tenant");
        assert!(has_controller_name, "{stderr}");
        output.status.success()
    }
}

/// Returns a body that counts how often it is requested.
fn counted_body(text: String, requests: Arc<AtomicUsize>) -> Body {
    Box::new(move |to: &mut TcpStream| {
        requests.fetch_add(1, SeqCst);
        to.write_all(text.as_bytes())
    })
}

fn assert_success(output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Fault: the certificate does not have the expected fingerprint, but the error says only that no certificate is
/// pinned.
#[test]
fn explains_why_a_found_certificate_is_not_trusted() {
    let trust = "a certificate found by them is trusted only if it is pinned for its Service or has the expected \
                 fingerprint\n";
    let other = format!("--cert-fingerprint=SHA256:{}", "A".repeat(43));
    let flags = ["--controller-name=evil", "--controller-namespace=tenant"];
    for (why, pins, args) in [
        ("no fingerprint is expected", false, vec![]),
        (
            "another fingerprint is expected",
            false,
            vec![other.as_str()],
        ),
        (
            "the pinned certificate does not have the expected fingerprint",
            true,
            vec![&other],
        ),
    ] {
        let fixture = Fixture::new();
        if pins {
            assert_success(&fixture.kubeseal(&flags, &[]));
        }
        let output = fixture.kubeseal(&args, &[]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{why}");
        assert!(stderr.contains(trust), "{why}: {stderr}");
    }
}

/// Attack: a committer names the attacker's controller, whose Service has a controller's labels, in the rules of a
/// repository. Later the user seals in another directory without naming a controller.
#[test]
fn a_controller_that_a_rule_named_is_not_trusted_elsewhere() {
    let fixture = Fixture::new();
    fixture.write_rules("rules: [{path: '**', controller: {namespace: tenant, name: evil}}]");
    assert_success(&fixture.seal_in_repository(&[]));
    assert!(!fixture.is_discovered_certificate_used());
}

/// Attack: a committer puts the fingerprint of the attacker's certificate into the rules, and names no controller.
/// Later the user seals in another directory without naming a controller.
#[test]
fn a_fingerprint_that_a_rule_named_is_not_trusted_elsewhere() {
    let fixture = Fixture::new();
    let fingerprint = "SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk";
    fixture.write_rules(&format!(
        "rules: [{{path: '**', fingerprint: '{fingerprint}'}}]"
    ));
    assert_success(&fixture.seal_in_repository(&[]));
    assert!(!fixture.is_discovered_certificate_used());
}

/// Attack: a tenant serves a certificate that the user trusts for `ops/other` from `tenant/evil`, which the user never
/// named.
///
/// Columns: how the user names a controller or a fingerprint, the flags and variables, and whether
/// the certificate of `tenant/evil` is used afterwards when no controller is named.
#[test]
fn only_the_user_creates_pins() {
    let other_flags = ["--controller-name=other", "--controller-namespace=ops"];
    let flags = ["--controller-name=evil", "--controller-namespace=tenant"];
    let variables = [
        ("SEALED_SECRETS_CONTROLLER_NAME", "evil"),
        ("SEALED_SECRETS_CONTROLLER_NAMESPACE", "tenant"),
    ];
    let fingerprint = "--cert-fingerprint=SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk";
    for (source, args, variables, is_used) in [
        ("not at all", None, &[][..], false),
        (
            "a flag, another controller",
            Some(&other_flags[..]),
            &[],
            false,
        ),
        ("a flag", Some(&flags[..]), &[], true),
        ("the environment", Some(&[]), &variables, true),
        ("a fingerprint by flag", Some(&[fingerprint]), &[], true),
    ] {
        let fixture = Fixture::new();
        if let Some(args) = args {
            assert_success(&fixture.kubeseal(args, variables));
        }
        assert_eq!(
            fixture.is_discovered_certificate_used(),
            is_used,
            "{source}"
        );
    }
}

/// Attack: a tenant labels a Service like a controller's, to receive requests of users who never named it.
#[test]
fn a_service_without_a_pin_is_not_contacted() {
    let fixture = Fixture::new();
    assert!(!fixture.is_discovered_certificate_used());
    let other_flags = ["--controller-name=other", "--controller-namespace=ops"];
    assert_success(&fixture.kubeseal(&other_flags, &[]));
    assert!(!fixture.is_discovered_certificate_used());
    assert_eq!(fixture.requests.load(SeqCst), 0);
    // Verify that the fixture counts requests.
    let flags = ["--controller-name=evil", "--controller-namespace=tenant"];
    assert_success(&fixture.kubeseal(&flags, &[]));
    assert_eq!(fixture.requests.load(SeqCst), 1);
}

const CERTIFICATES: [&str; 2] = [
    include_str!("../seal/key-fixtures/key-2024.pem"),
    include_str!("../seal/key-fixtures/key-2025.pem"),
];
const FINGERPRINTS: [&str; 2] = [
    "SHA256:HyvpkjkOwxlcAOfabLWtmCMxVKMxSgMBHjX/MefNCyo",
    "SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk",
];

/// A controller with the default name whose certificate can change.
struct ChangingController {
    directory: tempfile::TempDir,
    kubeconfig: PathBuf,
    /// The index of the served certificate.
    served: Arc<AtomicUsize>,
}

impl ChangingController {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let served: Arc<AtomicUsize> = Arc::default();
        let index = Arc::clone(&served);
        let certificate: Body =
            Box::new(move |to| to.write_all(CERTIFICATES[index.load(SeqCst)].as_bytes()));
        let (namespace, name) = ("kube-system", "sealed-secrets-controller");
        let responses = vec![
            (service_path(namespace, name), service_body()),
            (certificate_path(namespace, name), certificate),
        ];
        Self {
            kubeconfig: api_server::serve(directory.path(), responses),
            directory,
            served,
        }
    }

    /// Runs `seal cert fetch` while the certificate with this index is served.
    fn output(&self, served: usize, args: &[&str]) -> Output {
        self.served.store(served, SeqCst);
        let mut seal = Command::new(env!("CARGO_BIN_EXE_seal"));
        seal.args(["cert", "fetch"])
            .args(args)
            .current_dir(self.directory.path())
            .env("KUBECONFIG", &self.kubeconfig)
            .env("XDG_CACHE_HOME", self.directory.path().join("cache"))
            .stdin(Stdio::null());
        seal.output().expect("the command starts")
    }

    /// Like [`Self::output`], but returns the exit code and whether a change was reported.
    fn fetch(&self, served: usize, args: &[&str]) -> (Option<i32>, bool) {
        let output = self.output(served, args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        (output.status.code(), stderr.contains("has changed to"))
    }

    fn pin(&self) -> PathBuf {
        let pins = self.directory.path().join("cache/sealed-secrets/pins");
        let cluster = fs::read_dir(pins).expect("pins").next();
        let cluster = cluster
            .expect("a cluster")
            .expect("the file is readable")
            .path();
        cluster.join("kube-system_sealed-secrets-controller.pem")
    }
}

/// Attack: a man in the middle serves another certificate to `seal cert fetch`, which writes it to a file or to
/// stdout.
#[test]
fn cert_fetch_reports_a_changed_certificate_until_it_is_accepted() {
    let controller = ChangingController::new();
    assert_eq!(controller.fetch(0, &["-o", "cert.pem"]), (Some(0), false));
    let refused = ["-o", "cert.pem"];
    let wrong = ["-o", "new.pem", "--fingerprint", FINGERPRINTS[0]];
    for (why, args, want) in [
        ("not accepted", &refused[..], (Some(2), true)),
        ("still not accepted", &refused[..], (Some(2), true)),
        ("another fingerprint", &wrong[..], (Some(2), false)),
        ("a new file", &["-o", "new.pem"], (Some(0), true)),
        ("the second time", &["-o", "new.pem"], (Some(0), false)),
    ] {
        assert_eq!(controller.fetch(1, args), want, "{why}");
    }
    assert_eq!(controller.fetch(0, &[]), (Some(0), true), "stdout");
    let accepted = ["-o", "new.pem", "--fingerprint", FINGERPRINTS[1]];
    assert_eq!(controller.fetch(1, &accepted), (Some(0), true));
    assert_eq!(controller.fetch(1, &[]), (Some(0), false));
}

/// Fault: the file of the cached certificate is damaged, or is a pipe that no program writes to.
#[cfg(unix)]
#[test]
fn a_cached_certificate_that_cannot_be_read_is_reported_and_not_waited_for() {
    for is_pipe in [false, true] {
        let controller = ChangingController::new();
        assert_eq!(controller.fetch(0, &[]), (Some(0), false));
        let pin = controller.pin();
        if is_pipe {
            fs::remove_file(&pin).expect("the file exists");
            let status = Command::new("mkfifo")
                .arg(&pin)
                .status()
                .expect("the command starts");
            assert!(status.success());
        } else {
            fs::write(&pin, "half a certificate").expect("the test directory is writable");
        }
        let output = controller.output(0, &[]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        assert!(stderr.contains("cannot be read"), "{is_pipe}: {stderr}");
        assert_eq!(controller.fetch(0, &[]).0, Some(0));
    }
}
