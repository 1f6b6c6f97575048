//! Acts as a test process in the tests of what test processes leave behind: starts a control plane, Flux or a browser as
//! tests do, prints a line, and ends as its first argument requests.
#![allow(clippy::panic, reason = "to end by a panic is one of its uses")]

use std::env;
use std::future::pending;

use tests::browser::Browser;
use tests::control_plane::ControlPlane;
use tests::flux::Flux;

#[tokio::main]
async fn main() {
    let mut args = env::args().skip(1);
    let end = args.next().unwrap_or_default();
    match args.next().as_deref() {
        None if end == "pause" => pause().await,
        None => use_plane(&end).await,
        Some("flux") => use_flux(&end).await,
        Some("browser") => use_browser(&end).await,
        Some(other) => panic!("unknown argument {other:?}; use flux or browser, or none"),
    }
}

/// Prints the path of the plane's kubeconfig.
async fn use_plane(end: &str) {
    let plane = ControlPlane::shared().await;
    let _namespace = plane.namespace("user").await;
    println!("{}", plane.kubeconfig().display());
    finish(end).await;
}

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

/// Waits with a paused API server, which cannot exit by itself.
async fn pause() {
    let mut plane = ControlPlane::start().await;
    plane.pause();
    println!("{}", plane.kubeconfig().display());
    pending::<()>().await;
}
