//! The Go peer as a library, and a second Rust implementation that shares no code with ours,
//! against `shared`.
//!
//! | module | question |
//! |---|---|
//! | `values` | does each side open what the other sealed? |
//! | `second_opinion` | do the `rsa` and `aes-gcm` crates agree with both? |
//! | `wycheproof_vectors` | are RSA blocks that are wrong in some way refused? |
//! | `gcm_cases` | are values refused whose tag or text is wrong in some way? |
//! | `vectors` | do values open that were sealed long ago? |
//! | `objects` | do whole Secrets survive the way through the other side? |
//! | `texts`, `scalars` | do both read and write the same YAML and JSON? |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod gcm_cases;
mod keys;
mod objects;
mod opened;
mod scalars;
mod second_opinion;
mod strategies;
mod texts;
mod values;
mod vectors;
mod wycheproof_vectors;

use std::sync::LazyLock;

use tests::peer::Peer;

/// One peer for all tests of this program.
static PEER: LazyLock<Peer> = LazyLock::new(|| Peer::start().expect("the Go peer starts"));
