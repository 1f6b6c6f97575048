//! Tests values in volumes of the real Secrets Store CSI driver, with real Pods and `seal-deliver node` as the
//! provider.

mod failures;
mod installed;
mod mounts;
mod pods;

use serde_json::{Value, json};
use tests::control_plane::{ControlPlane, Namespace};
use tests::csi::Driver;
use tests::node::{BUSYBOX, Node, NodePod};
use tokio::sync::OnceCell;

use crate::shared;

/// Returns the control plane of this test process, its node, and the driver on that node.
async fn driver() -> (&'static ControlPlane, &'static Node, &'static Driver) {
    static DRIVER: OnceCell<Driver> = OnceCell::const_new();
    let (plane, node) = shared().await;
    let driver = DRIVER.get_or_init(async || Driver::start(plane, node).await);
    (plane, node, driver.await)
}

/// Returns the specification of a Pod whose container mounts the volume at `/values`.
fn reader(volume: &Value, account: &str) -> Value {
    let container = json!({
        "name": "main",
        "image": BUSYBOX,
        "volumeMounts": [{ "name": "values", "mountPath": "/values", "readOnly": true }],
    });
    json!({ "containers": [container], "volumes": [volume], "serviceAccountName": account })
}

async fn read(pod: &NodePod, path: &str) -> String {
    pod.run("main", &["cat", &format!("/values/{path}")]).await
}

/// Returns a name for the provider of a test, so that tests do not share a provider.
fn provider_name(namespace: &Namespace<'_>) -> String {
    namespace.name().chars().take(30).collect()
}
