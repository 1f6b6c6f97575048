//! Evaluates a status as Argo CD and Flux do: a Go program runs their own rules.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use crate::go_build;

/// The Go module of Argo CD, of which only the rule for SealedSecrets is used. As a dependency, the module would add
/// hundreds of others.
const ARGO_CD: &str = "github.com/argoproj/argo-cd/v3@v3.2.0";
const ARGO_CD_SUM: &str = "h1:m2eGAV+nXQGgzZbH5SyJD5laaPW27mzWXBrgisUHY/0=";
const RULE_PATH: &str = "resource_customizations/bitnami.com/SealedSecret/health.lua";

/// The verdicts of Argo CD and of kstatus on one object.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Verdict {
    /// Argo CD's verdict: `Progressing`, `Healthy` or `Degraded`.
    pub argo: String,
    /// The message that Argo CD shows with its verdict.
    pub message: String,
    /// The verdict of kstatus, which Flux waits for: `InProgress`, `Current` or `Failed`.
    pub kstatus: String,
}

/// Evaluates an object.
///
/// # Panics
/// Panics if Go is missing, or neither the network nor Go's module cache has the rules.
pub fn judge(object: &Value) -> Verdict {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("health");
    let mut child = Command::new(go_build::build(&source, ".", "health"))
        .arg(rule())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program was just built");
    let mut input = child.stdin.take().expect("stdin is piped");
    writeln!(input, "{object}").expect("the program reads its input");
    drop(input);
    let output = child.wait_with_output().expect("the process is our child");
    assert!(
        output.status.success(),
        "the program failed: see its stderr"
    );
    serde_json::from_slice(&output.stdout).expect("the program prints verdicts")
}

fn rule() -> PathBuf {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Module {
        dir: PathBuf,
        sum: String,
    }
    let output = Command::new("go")
        .args(["mod", "download", "-json", ARGO_CD])
        // `ARGO_CD_SUM` pins the checksum.
        .env("GOSUMDB", "off")
        .current_dir(std::env::temp_dir())
        .output()
        .expect("Go is installed");
    let module: Result<Module, _> = serde_json::from_slice(&output.stdout);
    let module = module.unwrap_or_else(|_| {
        let stdout = String::from_utf8_lossy(&output.stdout);
        panic!("cannot download {ARGO_CD}: {stdout}")
    });
    assert_eq!(module.sum, ARGO_CD_SUM, "of {ARGO_CD}");
    module.dir.join(RULE_PATH)
}
