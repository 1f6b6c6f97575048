//! Acts as a test process in the tests of the control plane: starts a plane as tests do, prints the path of its
//! kubeconfig, and ends as its first argument requests. With a second argument, it also starts a node with a Pod, and ends
//! only after SIGUSR1.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "only tests run this, and to end by a panic is one of its uses"
)]

use std::env;
use std::future::pending;

use serde_json::json;
use tests::control_plane::{ControlPlane, Namespace};
use tests::node::{BUSYBOX, Node, NodePod};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() {
    let end = env::args().nth(1).unwrap_or_default();
    if end == "pause" {
        return pause().await;
    }
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("user").await;
    if env::args().nth(2).is_some() {
        let _node = Node::start(plane).await;
        run_pod(&namespace).await;
        let mut signal = signal(SignalKind::user_defined1()).expect("signals can be handled");
        println!("{}", plane.kubeconfig().display());
        signal.recv().await;
        return finish(&end).await;
    }
    println!("{}", plane.kubeconfig().display());
    finish(&end).await;
}

async fn finish(end: &str) {
    match end {
        "pass" => {}
        "fail" => panic!("as requested"),
        "wait" => pending::<()>().await,
        other => panic!("unknown argument {other:?}; use pass, fail, wait or pause"),
    }
}

/// Runs a Pod with a volume in memory.
async fn run_pod(namespace: &Namespace<'_>) {
    let mount = json!({ "name": "memory", "mountPath": "/memory" });
    let container = json!({ "name": "main", "image": BUSYBOX, "volumeMounts": [mount] });
    let volume = json!({ "name": "memory", "emptyDir": { "medium": "Memory" } });
    let spec = json!({ "containers": [container], "volumes": [volume] });
    NodePod::create(namespace, spec)
        .await
        .wait_until_ready()
        .await;
}

/// Waits with a paused API server, which cannot exit by itself.
async fn pause() {
    let mut plane = ControlPlane::start().await;
    plane.pause();
    println!("{}", plane.kubeconfig().display());
    pending::<()>().await;
}
