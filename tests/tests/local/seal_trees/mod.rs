//! Tests `seal` on realistic trees: templates, unresolved merges, generators, files without key hints.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod messages;
mod scope;
mod unreadable;
mod values;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use tests::binaries;
use tests::scratch::Scratch;

const KEY: &str = include_str!("../../../../kubeseal-rs/tests/seal/fixtures/key.pem");
const CERTIFICATE: &str = include_str!("../../../../kubeseal-rs/tests/seal/fixtures/cert.pem");
/// The certificate of a different key, with 3072 bits.
const OTHER_CERTIFICATE: &str =
    include_str!("../../../../kubeseal-rs/tests/seal/fixtures/other.pem");

struct Tree(Scratch);

impl Tree {
    fn new() -> Self {
        let tree = Self(Scratch::new());
        fs::create_dir(tree.path("tree")).unwrap();
        tree.write("key.pem", KEY);
        tree.write("cert.pem", CERTIFICATE);
        tree.write("other.pem", OTHER_CERTIFICATE);
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn run(&self, mut command: Command) -> Output {
        command
            .current_dir(self.0.path())
            .env("HOME", self.0.path())
            .env("KUBECONFIG", "/nowhere")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap()
    }

    fn seal(&self, args: &[&str]) -> Output {
        let mut command = Command::new(binaries::seal());
        command.args(args);
        self.run(command)
    }

    fn git(&self, args: &[&str]) {
        let mut command = Command::new("git");
        command
            .args(["-c", "user.name=a", "-c", "user.email=a@b"])
            .args(args);
        let output = self.run(command);
        assert!(output.status.success(), "{output:?}");
    }

    /// Writes a sealed file without key hints, as Bitnami's `kubeseal` does.
    fn seal_without_hints(&self, name: &str, file: &str) {
        let args = [
            "create",
            name,
            "-n",
            "shop",
            "--cert",
            "cert.pem",
            "--no-hints",
            "--from-file",
            "a=cert.pem",
            "-w",
            file,
        ];
        let output = self.seal(&args);
        assert!(output.status.success(), "{output:?}");
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
