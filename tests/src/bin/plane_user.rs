//! Acts as a test process in the tests that check that test processes leave nothing behind. Starts a control plane, and
//! the component that the second argument names (a node with a Pod, or Flux), or only a browser. Prints a line, and
//! ends in the way that the first argument requests. With a node, it ends only after SIGUSR1.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "only tests run this program, some of them to observe a panic"
)]

use std::env;
use std::future::pending;

use serde_json::json;
use tests::browser::Browser;
use tests::control_plane::{ControlPlane, Namespace};
use tests::flux::Flux;
use tests::node::{BUSYBOX, Node, NodePod};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() {
    let mut args = env::args().skip(1);
    let end = args.next().unwrap_or_default();
    match args.next().as_deref() {
        None if end == "pause" => pause().await,
        None => use_plane(&end).await,
        Some("node") => use_node(&end).await,
        Some("flux") => use_flux(&end).await,
        Some("browser") => use_browser(&end).await,
        Some(other) => panic!("unknown argument {other:?}; use node, flux or browser, or none"),
    }
}

/// Creates a namespace, prints the path of the plane's kubeconfig, and finishes as `end` specifies.
async fn use_plane(end: &str) {
    let plane = ControlPlane::shared().await;
    let _namespace = plane.namespace("user").await;
    println!("{}", plane.kubeconfig().display());
    finish(end).await;
}

/// Prints the path of the plane's kubeconfig once a node and a Pod are running, and ends only after SIGUSR1.
async fn use_node(end: &str) {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("user").await;
    let _node = Node::start(plane).await;
    run_pod(&namespace).await;
    let mut signal = signal(SignalKind::user_defined1()).expect("signals can be handled");
    println!("{}", plane.kubeconfig().display());
    signal.recv().await;
    finish(end).await;
}

/// Prints the URL of a repository.
async fn use_flux(end: &str) {
    let plane = ControlPlane::shared().await;
    let flux = Flux::start(plane).await;
    println!("{}", flux.repository("user").url());
    finish(end).await;
}

async fn use_browser(end: &str) {
    let browser = Browser::start();
    browser.open("data:text/html,<title>user</title>");
    println!("the page is open");
    finish(end).await;
}

async fn finish(end: &str) {
    match end {
        "pass" => {}
        "fail" => panic!("as requested"),
        "wait" => pending().await,
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
