//! `values-hardened.yaml` installs and works, and so does each setting that it only proposes.

use std::fs;

use serde_json::Value;
use tests::control_plane::ControlPlane;
use tests::deployed::{Deployed, Program::Ours};
use tests::lifecycle::User;

use crate::helm::{Helm, chart};
use crate::manifests::kubectl;
use crate::render::Render;

/// Returns the path of the file.
pub fn file() -> String {
    format!("{}/values-hardened.yaml", chart())
}

/// Returns the settings behind the mark `#+`.
fn proposals() -> Vec<String> {
    let text = fs::read_to_string(file()).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("#+ "));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn the_hardened_values_carry_the_lifecycle() {
    let plane = ControlPlane::start().await;
    let helm = Helm::of(plane.kubeconfig());
    let namespace = plane.namespace("hardened").await;
    let (home, chart, file) = (namespace.name(), chart(), file());
    let words = ["install", "sealed-secrets", &chart, "--namespace", home];
    helm.run(&[&words[..], &["-f", &file]].concat());
    let controller = Deployed::start(&plane, home, "sealed-secrets", Ours).await;
    let user = User::new(&plane, home, "sealed-secrets").await;
    user.lives(&controller).await;
    controller.stop();
}

/// Each proposal changes the chart's output, and the API server knows every field of it.
#[tokio::test]
async fn each_proposal_is_a_setting_that_installs() {
    let plane = ControlPlane::shared().await;
    let proposals = proposals();
    assert!(proposals.len() >= 10, "{proposals:?}");
    let hardened = file();
    let of = |more: &str| Render::with(more, &["-f", &hardened, "-f", &crate::render::file(more)]);
    let without = of("namespace: default");
    for proposal in proposals {
        let with = of(&format!("{proposal}\nnamespace: default\n"));
        assert_ne!(with.all(), without.all(), "{proposal} changes nothing");
        let objects: Vec<String> = with.all().iter().map(Value::to_string).collect();
        let file = crate::render::file(&objects.join("\n---\n"));
        let words = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
        ];
        kubectl(
            plane,
            &[&words[..], &["--validate=strict", "-f", &file]].concat(),
        );
    }
}
