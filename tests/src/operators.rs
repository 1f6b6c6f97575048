//! The programs of cluster operators: the real Helm, Kustomize and kubectl, built from their Go modules, and
//! Prometheus as installed on the system.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use shared::manifest::{self, Reading, Shape};

use crate::go_build;

/// Returns the path of Helm.
pub fn helm() -> PathBuf {
    built("helm.sh/helm/v3/cmd/helm", "helm")
}

/// Returns the path of Kustomize.
pub fn kustomize() -> PathBuf {
    built("sigs.k8s.io/kustomize/kustomize/v5", "kustomize")
}

/// Returns the path of Kubernetes' kubectl.
pub fn kubectl() -> PathBuf {
    built("./kubectl", "kubectl")
}

/// Returns a command for a program of Prometheus: `promtool` or `prometheus`.
///
/// # Panics
/// Panics with instructions, if it is not installed.
pub fn of_prometheus(name: &str) -> Command {
    let found = Command::new(name).arg("--version").output();
    let works = found.is_ok_and(|output| output.status.success());
    assert!(
        works,
        "the program `{name}` is not installed: install Debian's package `prometheus` (apt-get install \
         --no-install-recommends prometheus), or put Prometheus' release on the PATH"
    );
    Command::new(name)
}

/// Returns a command for OpenSSH's `ssh-keygen`. It uses no key of the user who runs the tests.
///
/// # Panics
/// Panics with instructions, if it is not installed.
pub fn ssh_keygen() -> Command {
    // Without arguments it would prompt for a file; an unknown flag makes it exit at once.
    let works = Command::new("ssh-keygen").arg("-?").output().is_ok();
    assert!(
        works,
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
/// Panics with its stderr, if it failed.
pub fn successful(command: &mut Command) -> String {
    let output = output(command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{command:?}:\n{stderr}\n{printed}");
    printed
}

/// Runs a command; returns its stderr.
///
/// # Panics
/// Panics if it did not fail.
pub fn failed(command: &mut Command) -> String {
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

/// Parses objects from YAML or JSON.
///
/// # Panics
/// Panics if the text is neither.
pub fn objects(text: &str) -> Vec<Value> {
    let documents =
        manifest::read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let json = |document: &manifest::Document| Reading::default().json(&document.root, Shape::Any);
    let objects = documents
        .iter()
        .map(|document| json(document).expect("YAML has JSON's shape"));
    objects.filter(|object| !object.is_null()).collect()
}

fn built(package: &str, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("operator");
    go_build::build(&source, package, name)
}
