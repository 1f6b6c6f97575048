//! Support for the tests that span crates: a real Kubernetes control plane, Bitnami's implementation, and the
//! programs that the tests start.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "only tests use this crate, and a test fails by panicking"
)]

pub mod age;
pub mod application;
pub mod axe;
pub mod binaries;
pub mod browser;
pub mod cluster_controller;
pub mod control_plane;
pub mod core_dumps;
pub mod csi;
pub mod deployed;
pub mod directory_controller;
pub mod flux;
pub mod go_build;
pub mod guarded;
pub mod http;
pub mod https;
pub mod lifecycle;
pub mod logged;
pub mod many_secrets;
pub mod memory;
pub mod node;
pub mod observed;
pub mod operators;
pub mod patience;
pub mod pod;
pub mod prometheus;
pub mod restarter;
pub mod roles;
pub mod scrape;
pub mod scratch;
pub mod sealing;
pub mod sops;
pub mod timing;
pub mod upstream;
pub mod upstream_suite;
pub mod v2_objects;
pub mod verdicts;

mod cache;
mod network_namespace;
mod progress;
mod sweeper;
mod tunnel;
