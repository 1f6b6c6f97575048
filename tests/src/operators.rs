//! The programs that cluster administrators use: the real Helm, Kustomize and kubectl, built from their Go modules, and
//! Prometheus and `ssh-keygen` as installed on the system.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use shared::manifest::{self, Reading, Shape};

use crate::go_build;

/// Returns the path of Helm.
pub fn helm() -> PathBuf {
    build("helm.sh/helm/v3/cmd/helm", "helm")
}

/// Returns the path of Kustomize.
pub fn kustomize() -> PathBuf {
    build("sigs.k8s.io/kustomize/kustomize/v5", "kustomize")
}

/// Returns the path of Kubernetes' kubectl.
pub fn kubectl() -> PathBuf {
    build("./kubectl", "kubectl")
}

/// Returns a command for a program of Prometheus: `promtool` or `prometheus`.
///
/// # Panics
/// Panics with instructions if the program is not installed.
pub fn prometheus_program(name: &str) -> Command {
    let version = Command::new(name).arg("--version").output();
    let is_installed = version.is_ok_and(|output| output.status.success());
    assert!(
        is_installed,
        "the program `{name}` is not installed: install Debian's package `prometheus` (apt-get install \
         --no-install-recommends prometheus), or put Prometheus' release on the PATH"
    );
    Command::new(name)
}

/// Returns a command for OpenSSH's `ssh-keygen`. It cannot reach the user's `ssh-agent`.
///
/// # Panics
/// Panics with instructions if the program is not installed.
pub fn ssh_keygen() -> Command {
    // Without arguments, ssh-keygen prompts for a file; with an unknown flag, it exits immediately.
    let is_installed = Command::new("ssh-keygen").arg("-?").output().is_ok();
    assert!(
        is_installed,
        "the program `ssh-keygen` is not installed: install Debian's package `openssh-client` (apt-get install \
         --no-install-recommends openssh-client)"
    );
    let mut command = Command::new("ssh-keygen");
    command.env_remove("SSH_AUTH_SOCK");
    command
}

/// Runs a command; returns its stdout.
///
/// # Panics
/// Panics with its output if it fails.
pub fn run_successfully(command: &mut Command) -> String {
    let output = output(command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{command:?}:\n{stderr}\n{printed}");
    printed
}

/// Runs a command; returns its stderr.
///
/// # Panics
/// Panics with its stdout if it succeeds.
pub fn run_expecting_failure(command: &mut Command) -> String {
    let output = output(command);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(
        !output.status.success(),
        "{command:?} succeeded:\n{printed}"
    );
    String::from_utf8(output.stderr).expect("text")
}

fn output(command: &mut Command) -> Output {
    let output = command.output();
    output.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
}

/// Parses objects from YAML or JSON; leaves out empty documents.
///
/// # Panics
/// Panics if the text is neither YAML nor JSON.
pub fn objects(text: &str) -> Vec<Value> {
    let documents =
        manifest::read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let json = |document: &manifest::Document| Reading::default().json(&document.root, Shape::Any);
    let parsed = documents
        .iter()
        .map(|document| json(document).expect("YAML has JSON's shape"));
    parsed.filter(|object| !object.is_null()).collect()
}

fn build(package: &str, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("operator");
    go_build::build(&source, package, name)
}
