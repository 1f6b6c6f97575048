//! Acts as a test process in the tests of the control plane: starts a plane as tests do, prints the path of its
//! kubeconfig, and ends as its first argument requests.
#![allow(clippy::panic, reason = "to end by a panic is one of its uses")]

use std::env;
use std::future::pending;

use tests::control_plane::ControlPlane;

#[tokio::main]
async fn main() {
    let end = env::args().nth(1).unwrap_or_default();
    if end == "pause" {
        return pause().await;
    }
    let plane = ControlPlane::shared().await;
    let _namespace = plane.namespace("user").await;
    println!("{}", plane.kubeconfig().display());
    match end.as_str() {
        "pass" => {}
        "fail" => panic!("as requested"),
        "wait" => pending::<()>().await,
        other => panic!("unknown argument {other:?}; use pass, fail, wait or pause"),
    }
}

/// Waits with a paused API server, which cannot exit by itself.
async fn pause() {
    let mut plane = ControlPlane::start().await;
    plane.pause();
    println!("{}", plane.kubeconfig().display());
    pending::<()>().await;
}
