//! Tests the lifecycle of keys in a real cluster: `seal keys`, `doctor` and `exec` with a real controller.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking"
)]

mod archive;
mod doctor;
mod drill;
mod escrow;
mod exec;
mod lifecycle;
mod odd_metadata;
mod planted;
mod signature;
mod site;
mod verify_by_token;
