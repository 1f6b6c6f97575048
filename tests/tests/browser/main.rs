//! Tests in a real browser: what its pages compute and send, and what it leaves behind.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod left_behind;
mod missing;
mod seal_page;
