//! Judges objects as Argo CD and Flux do: a Go program runs their own code.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::go_build;

/// The verdicts of Argo CD and of kstatus on one object.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Verdict {
    /// Argo CD's verdict, such as `Progressing`, `Healthy` or `Degraded`; empty for kinds that it does not judge.
    pub argo: String,
    /// The message that Argo CD shows with its verdict.
    pub message: String,
    /// The verdict of kstatus, which Flux uses, such as `InProgress`, `Current` or `Failed`.
    pub kstatus: String,
}

/// A difference that Argo CD finds between an object in Git and in the cluster.
#[derive(Debug, Deserialize)]
pub struct Difference {
    /// The method that found the difference: `three-way`, `structured merge` or `server-side`.
    pub method: String,
    /// The object that Argo CD expects, as JSON.
    pub expected: String,
    /// The object in the cluster, as JSON.
    pub live: String,
}

/// Evaluates an object.
///
/// # Panics
/// Panics if Go is missing, or neither the network nor Go's module cache has the modules.
pub fn judge(object: &Value) -> Verdict {
    run(command().arg("health"), object)
}

/// Applies an object to the cluster as Argo CD does, with server-side apply.
///
/// # Panics
/// Panics like [`judge`], and if the API server refuses the object.
pub fn sync(kubeconfig: &Path, object: &Value) {
    let mut command = command();
    let () = run(command.arg("sync").env("KUBECONFIG", kubeconfig), object);
}

/// Compares an object with the object in the cluster by all methods of Argo CD; ignores differences in fields of these
/// managers (`managedFieldsManagers` of an Application).
///
/// # Panics
/// Panics like [`judge`], and if the object does not exist.
pub fn differences(kubeconfig: &Path, object: &Value, managers: &[&str]) -> Vec<Difference> {
    let mut command = command();
    command.arg("diff").args(managers);
    run(command.env("KUBECONFIG", kubeconfig), object)
}

fn command() -> Command {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("verdicts");
    Command::new(go_build::build(&source, ".", "verdicts"))
}

fn run<T: DeserializeOwned>(command: &mut Command, object: &Value) -> T {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program was just built");
    let mut input = child.stdin.take().expect("stdin is piped");
    writeln!(input, "{object}").expect("the program reads its input");
    drop(input);
    let output = child.wait_with_output().expect("the process is our child");
    assert!(
        output.status.success(),
        "the program failed: see its stderr"
    );
    serde_json::from_slice(&output.stdout).expect("the program prints its result")
}
