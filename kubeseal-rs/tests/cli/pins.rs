//! Tests for which controllers a certificate that was used once is trusted later.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::api_server::{self, Body, certificate_path, service_body, service_path, text_body};

const SECRET: &str = "kind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {a: b}\n";

/// A user with a repository, and a cluster in which no controller has the default name. Its Services
/// `tenant/evil`, which has a controller's labels, and `ops/other` serve the same certificate.
struct Scene {
    folder: tempfile::TempDir,
    kubeconfig: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seal/exec.fixtures");
        let pem = fs::read_to_string(fixtures.join("key-2025.pem")).expect("the fixture");
        let labeled_services = r#"{"items":[{"metadata":{"namespace":"tenant","name":"evil"},"spec":{"ports":[{"name":"http"}]}}]}"#;
        let mut responses: Vec<(String, Body)> =
            vec![("/api/v1/services".into(), text_body(labeled_services))];
        for (namespace, name) in [("tenant", "evil"), ("ops", "other")] {
            responses.push((service_path(namespace, name), service_body()));
            responses.push((certificate_path(namespace, name), text_body(pem.clone())));
        }
        let kubeconfig = api_server::serve(folder.path(), responses);
        let repository = folder.path().join("repository");
        fs::create_dir_all(repository.join(".git")).expect("the folder is ours");
        fs::write(folder.path().join("secret.yaml"), SECRET).expect("the folder is ours");
        Self { folder, kubeconfig }
    }

    fn write_rules(&self, text: &str) {
        let file = self.folder.path().join("repository/.seal.yaml");
        fs::write(file, text).expect("the folder is ours");
    }

    fn run(
        &self,
        program: &str,
        args: &[&str],
        folder: &str,
        variables: &[(&str, &str)],
    ) -> Output {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.folder.path().join(folder))
            .env("KUBECONFIG", &self.kubeconfig)
            .env("XDG_CACHE_HOME", self.folder.path().join("cache"))
            .envs(variables.iter().copied())
            .stdin(Stdio::null());
        command.output().expect("it starts")
    }

    /// Runs `seal` in the repository, where its rules apply.
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

    /// Returns whether `kubeseal` uses the certificate of a controller that it discovers, and that the
    /// user does not name.
    fn is_discovered_certificate_used(&self) -> bool {
        let output = self.kubeseal(&[], &[]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let has_controller_name =
            stderr.contains("tenant/evil") || stderr.contains("--controller-namespace tenant");
        assert!(has_controller_name, "{stderr}");
        output.status.success()
    }
}

fn assert_success(output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Attack: a committer names the attacker's controller, whose Service has a controller's labels, in the rules of a
/// repository. Later the user seals elsewhere without naming a controller.
#[test]
fn a_controller_that_a_rule_named_is_not_trusted_elsewhere() {
    let scene = Scene::new();
    scene.write_rules("rules: [{path: '**', controller: {namespace: tenant, name: evil}}]");
    assert_success(&scene.seal_in_repository(&[]));
    assert!(!scene.is_discovered_certificate_used());
}

/// Attack: a committer puts the fingerprint of the attacker's certificate into the rules, and names no controller. Later
/// the user seals elsewhere without naming a controller.
#[test]
fn a_fingerprint_that_a_rule_named_is_not_trusted_elsewhere() {
    let scene = Scene::new();
    let fingerprint = "SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk";
    scene.write_rules(&format!(
        "rules: [{{path: '**', fingerprint: '{fingerprint}'}}]"
    ));
    assert_success(&scene.seal_in_repository(&[]));
    assert!(!scene.is_discovered_certificate_used());
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
        ("nobody", None, &[][..], false),
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
        let scene = Scene::new();
        if let Some(args) = args {
            assert_success(&scene.kubeseal(args, variables));
        }
        assert_eq!(scene.is_discovered_certificate_used(), is_used, "{source}");
    }
}
