//! Tests with real Pods, on nodes that only these tests use. The tests need root; `tests/README.md` lists the other
//! requirements and the duration.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod agent;
mod containers;
mod csi;
mod image;
mod leftovers;
mod pods;
mod replicas;
mod restart;
mod rotation;
mod secrets;

use tests::control_plane::ControlPlane;
use tests::node::Node;
use tokio::sync::OnceCell;

/// Returns the control plane of this test process, and its node.
async fn shared() -> (&'static ControlPlane, &'static Node) {
    static NODE: OnceCell<Node> = OnceCell::const_new();
    let plane = ControlPlane::shared().await;
    let node = NODE.get_or_init(async || Node::start(plane).await).await;
    (plane, node)
}
