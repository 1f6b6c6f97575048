//! Tests the control plane that other tests rely on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod behavior;
mod faults;
mod processes;
