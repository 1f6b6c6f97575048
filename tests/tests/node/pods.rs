//! Reports of `seal pods` about real Pods.

use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use kube::Api;
use serde_json::Value;
use shared::resource::SealedSecret;
use tests::binaries;
use tests::control_plane::{ControlPlane, Namespace};
use tests::patience::until;

/// Returns the exit code and the report of `seal pods` about a SealedSecret.
pub(crate) fn survey(
    plane: &ControlPlane,
    namespace: &Namespace<'_>,
    name: &str,
    args: &[&str],
) -> (Option<i32>, Value) {
    let output = Command::new(binaries::seal())
        .args(["pods", name, "-o", "json", "-n", namespace.name()])
        .args(args)
        .arg("--kubeconfig")
        .arg(plane.kubeconfig())
        .output()
        .expect("the program was built");
    let report = serde_json::from_slice(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    (
        output.status.code(),
        report.unwrap_or_else(|error| panic!("{error}: {stderr}")),
    )
}

/// Returns how each container receives the values, and the state of its content.
pub(crate) fn states(report: &Value) -> Vec<(&str, &str)> {
    let rows = report["pods"].as_array().into_iter().flatten();
    rows.map(|row| {
        (
            row["consumes"].as_str().unwrap(),
            row["state"].as_str().unwrap(),
        )
    })
    .collect()
}

/// Waits until the controller has recorded a version of this generation of a SealedSecret, and more than a second has
/// passed since the version's time.
pub(crate) async fn wait_until_recorded(namespace: &Namespace<'_>, name: &str, generation: i64) {
    let objects: Api<SealedSecret> = namespace.api();
    until("the version is recorded", async || {
        let object = objects.get(name).await.ok()?;
        let version = object.status?.versions.first()?.clone();
        let has_passed = Timestamp::now() > version.time?.0 + SignedDuration::from_secs(1);
        (version.generation == Some(generation) && has_passed).then_some(())
    })
    .await;
}
