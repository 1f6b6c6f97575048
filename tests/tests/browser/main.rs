//! Tests in a real browser: the results and requests of pages, and that the browser leaves nothing behind.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod left_behind;
mod missing;
mod page;
mod seal_page;
