//! `seal` on a real API server: the certificate comes through the service proxy, as the rule says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tests::binaries;
use tests::control_plane::{ControlPlane, Namespace};
use tests::directory_controller::DirectoryController;
use tests::patience::until;
use tests::scratch::Scratch;

struct Way {
    plane: &'static ControlPlane,
    namespace: Namespace<'static>,
    controller: DirectoryController,
    tree: Scratch,
}

impl Way {
    async fn new() -> Self {
        let plane = ControlPlane::shared().await;
        let namespace = plane.namespace("seal").await;
        let controller = DirectoryController::start();
        namespace.route("sealed-secrets", controller.port()).await;
        let tree = Scratch::new();
        Self {
            plane,
            namespace,
            controller,
            tree,
        }
    }

    fn rules(&self, more: &str) {
        let rules = format!(
            "rules:\n- path: '**'\n  controller: {{name: sealed-secrets, namespace: {}}}\n{more}",
            self.namespace.name()
        );
        fs::write(self.tree.path().join(".seal.yaml"), rules).unwrap();
    }

    fn seal(&self, words: &[&str], input: &str) -> Output {
        let mut child = Command::new(binaries::seal())
            .env("KUBECONFIG", self.plane.kubeconfig())
            .current_dir(self.tree.path())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that fails early reads nothing.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    fn state(&self, name: &str) -> PathBuf {
        self.controller.folder().join(name)
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn the_controller_of_the_rule_opens_what_was_sealed_for_it() {
    let way = Way::new().await;
    way.rules("");
    let words = [
        "create", "db", "--stdin", "password", "-n", "shop", "-w", "db.yaml",
    ];
    let created = way.seal(&words, "hunter2");
    assert!(created.status.success(), "{}", said(&created));
    fs::copy(way.tree.path().join("db.yaml"), way.state("sealed/db.yaml")).unwrap();
    let value = way.state("secrets/shop/db/password");
    let opened = until("the value is there", async || fs::read(&value).ok()).await;
    assert_eq!(opened, b"hunter2");
}

#[tokio::test]
async fn a_pin_that_is_not_the_controllers_stops_everything() {
    let way = Way::new().await;
    way.rules("  fingerprint: SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\n");
    let refused = way.seal(
        &[
            "create", "db", "--stdin", "password", "-n", "shop", "-w", "db.yaml",
        ],
        "hunter2",
    );
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        said(&refused).contains("and not one that was asked for, by --cert-fingerprint or a rule"),
        "{}",
        said(&refused)
    );
    assert!(!way.tree.path().join("db.yaml").exists());
}

#[tokio::test]
async fn without_a_rule_the_usual_controller_is_asked_and_its_absence_named() {
    let way = Way::new().await;
    let refused = way.seal(
        &["create", "db", "--stdin", "password", "-n", "shop"],
        "hunter2",
    );
    assert_eq!(refused.status.code(), Some(2));
    let said = said(&refused);
    assert!(said.contains("cannot get sealed secret service"), "{said}");
    // lint asks no cluster, whatever the rule says.
    way.rules("");
    let lint = Command::new(binaries::seal())
        .env("KUBECONFIG", "nowhere")
        .current_dir(way.tree.path())
        .arg("lint")
        .output()
        .unwrap();
    assert!(lint.status.success(), "{lint:?}");
}
