//! Tests with Flux, and with Argo CD's own verdicts on objects.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod app;
mod argo_cd;
mod flux;
mod left_behind;
mod rollout;
mod site;
