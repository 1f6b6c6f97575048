//! Tests that no Pod runs without its files, whatever fails.

use std::collections::HashSet;
use std::sync::Mutex;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tests::csi::{FakeController, Provider, class, failures, volume};
use tests::node::NodePod;
use tests::patience::until;

use super::{driver, provider_name, read, reader};

/// The name of the file and of the SealedSecret in these tests.
fn objects(name: &str) -> String {
    format!("- {{sealedSecret: {name}, items: [password], path: password}}")
}

#[tokio::test]
async fn a_pod_reads_the_file_that_a_controller_sends() {
    let (plane, _node, driver) = driver().await;
    let namespace = plane.namespace("csi-file").await;
    let controller = FakeController::start(|_| FakeController::file("password", "hunter2"));
    let name = provider_name(&namespace);
    let _provider =
        Provider::start(driver, &name, controller.port(), controller.authority()).await;
    class(&namespace, "web", &name, &objects("db")).await;
    let pod = NodePod::create(&namespace, reader(&volume("web", &json!({})), "default")).await;
    pod.wait_until_ready().await;
    assert_eq!(read(&pod, "password").await, "hunter2");
}
