//! Runs Bitnami's released integration suite with this project's programs, under each of the two CRDs. Exits with 1 if
//! a spec differs from `tests/upstream-suite.toml`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a check prints its results, and fails by panicking"
)]

use std::fs;
use std::process::{Command, ExitCode};

use kube::CustomResourceExt as _;
use shared::resource::SealedSecret;
use tests::cluster_controller::ClusterController;
use tests::control_plane::ControlPlane;
use tests::roles::{self, ACCOUNT, Reach};
use tests::scratch::Scratch;
use tests::upstream_suite::{self, Definition, ExpectedFailures, Verdict};
use tests::{binaries, upstream};

const LIST: &str = include_str!("../../upstream-suite.toml");

/// The minimum number of specs: a run with fewer specs fails, so that a changed report format does not pass.
const MIN_SPECS: usize = 40;

/// The namespace in which upstream's manifests install the controller and its Service.
const HOME: &str = "kube-system";
const SERVICE: &str = "sealed-secrets-controller";

#[tokio::main]
async fn main() -> ExitCode {
    let expected =
        ExpectedFailures::read(LIST).unwrap_or_else(|error| panic!("upstream-suite.toml: {error}"));
    let mut differences = Vec::new();
    for definition in [Definition::Upstream, Definition::Ours] {
        let verdicts = run(definition).await;
        assert!(
            verdicts.len() >= MIN_SPECS,
            "only {} specs ran",
            verdicts.len()
        );
        let passed = verdicts.iter().filter(|v| v.state == "passed").count();
        println!(
            "under {definition}, {passed} of {} specs pass",
            verdicts.len()
        );
        let run_differences = upstream_suite::differences(&expected, definition, &verdicts);
        differences.extend(
            run_differences
                .iter()
                .map(|text| format!("under {definition}: {text}")),
        );
    }
    for difference in &differences {
        println!("{difference}\n");
    }
    if differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs the suite on its own control plane, because the suite disturbs `kube-system`.
async fn run(definition: Definition) -> Vec<Verdict> {
    let plane = ControlPlane::start().await;
    plane
        .install(&match definition {
            Definition::Upstream => upstream::definition(),
            Definition::Ours => SealedSecret::crd(),
        })
        .await;
    let home = plane.existing(HOME);
    roles::grant(&home, Reach::Cluster).await;
    let kubeconfig = plane.kubeconfig_of(HOME, ACCOUNT).await;
    let args = ["--all-namespaces=true"];
    let controller = ClusterController::start_with(&kubeconfig, HOME, &args).await;
    home.route(SERVICE, controller.port().expect("the controller is ready"))
        .await;
    let verdicts = tokio::task::block_in_place(|| suite(&plane));
    assert_eq!(controller.stop(), Some(0));
    verdicts
}

/// Runs the suite and reads its report. The exit code is ignored, because it is 1 as soon as a spec fails.
fn suite(plane: &ControlPlane) -> Vec<Verdict> {
    let directory = Scratch::new();
    let report = directory.path().join("report.json");
    let output = Command::new(upstream_suite::program())
        .current_dir(directory.path())
        .arg("-kubeconfig")
        .arg(plane.kubeconfig())
        .args(["-namespace", HOME])
        .arg("-kubeseal-bin")
        .arg(binaries::kubeseal())
        .arg("-controller-bin")
        .arg(binaries::controller())
        .arg(format!("--ginkgo.json-report={}", report.display()))
        .arg("--ginkgo.no-color")
        .env("HOME", directory.path())
        .env("TMPDIR", directory.path())
        .output()
        .expect("the suite is built");
    let text = fs::read_to_string(&report).unwrap_or_else(|error| {
        let (stdout, stderr) = (&output.stdout, &output.stderr);
        let (stdout, stderr) = (
            String::from_utf8_lossy(stdout),
            String::from_utf8_lossy(stderr),
        );
        panic!("the suite wrote no report ({error}):\n{stdout}\n{stderr}")
    });
    upstream_suite::verdicts(&text).unwrap_or_else(|error| panic!("the suite's report: {error}"))
}
