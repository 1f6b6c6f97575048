//! Tests that a release with `values-hardened.yaml` works, and that the settings proposed in its comments are valid.

use std::fs;

use serde_json::Value;
use tests::control_plane::ControlPlane;
use tests::deployed::{DeployedController, Program::Ours};
use tests::lifecycle::User;

use super::helm::{Helm, chart};
use super::manifests::kubectl;
use super::render::RenderedChart;

/// Returns the path of `values-hardened.yaml`.
pub fn values_file() -> String {
    format!("{}/values-hardened.yaml", chart())
}

/// Returns the line indexes of each proposal: consecutive lines that start with [`MARK`] after their
/// indentation.
fn proposals(text: &str) -> Vec<Vec<usize>> {
    let is_marked = |line: &str| line.trim_start().starts_with(MARK);
    let mut proposals: Vec<Vec<usize>> = Vec::new();
    for (number, _) in text.lines().enumerate().filter(|(_, line)| is_marked(line)) {
        match proposals.last_mut() {
            Some(last) if last.last() == Some(&(number - 1)) => last.push(number),
            _ => proposals.push(vec![number]),
        }
    }
    proposals
}

const MARK: &str = "#+ ";

/// Returns the file without the mark on these lines, as a user would edit it.
fn uncomment(text: &str, lines: &[usize]) -> String {
    let edited = text.lines().enumerate().map(|(number, line)| {
        if lines.contains(&number) {
            line.replacen(MARK, "", 1) + "\n"
        } else {
            format!("{line}\n")
        }
    });
    edited.collect()
}

#[tokio::test]
async fn a_release_with_the_hardened_values_passes_the_lifecycle_test() {
    let plane = ControlPlane::start().await;
    let helm = Helm::for_cluster(plane.kubeconfig());
    let namespace = plane.namespace("hardened").await;
    let (home, chart, file) = (namespace.name(), chart(), values_file());
    let args = ["install", "sealed-secrets", &chart, "--namespace", home];
    helm.run(&[&args[..], &["-f", &file]].concat());
    let controller = DeployedController::start(&plane, home, "sealed-secrets", Ours).await;
    let user = User::new(&plane, home, "sealed-secrets").await;
    user.run_lifecycle(&controller).await;
    controller.stop();
}

/// Each proposal changes the chart's output, and the API server accepts every field of the output.
#[tokio::test]
async fn the_api_server_accepts_each_proposed_setting() {
    let plane = ControlPlane::shared().await;
    let text = fs::read_to_string(values_file()).unwrap();
    let proposals = proposals(&text);
    assert!(proposals.len() >= 11, "{proposals:?}");
    let render = |values: &str| {
        let values = super::render::write_file(values);
        RenderedChart::with_args("namespace: default", &["-f", &values])
    };
    let unchanged = render(&text);
    let all_lines: Vec<usize> = proposals.iter().flatten().copied().collect();
    for lines in proposals.iter().chain([&all_lines]) {
        let changed = render(&uncomment(&text, lines));
        assert_ne!(
            changed.objects(),
            unchanged.objects(),
            "lines {lines:?} change nothing"
        );
        let kinds: Vec<_> = changed
            .objects()
            .iter()
            .map(|object| object["kind"].clone())
            .collect();
        assert!(
            kinds.contains(&"NetworkPolicy".into()),
            "{lines:?}: {kinds:?}"
        );
        let objects: Vec<String> = changed.objects().iter().map(Value::to_string).collect();
        let file = super::render::write_file(&objects.join("\n---\n"));
        let args = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
        ];
        kubectl(
            plane,
            &[&args[..], &["--validate=strict", "-f", &file]].concat(),
        );
    }
}
