//! Tests the chart, the manifests and the scripts with the real Helm, Kustomize and kubectl on a real API server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking, in its helpers too"
)]

mod flaws;
mod gitops;
mod hardened;
mod helm;
mod installs;
mod manifests;
mod monitoring;
mod permissions;
mod reach;
mod recovery;
mod render;
mod restart;
mod restart_permissions;
mod values;
