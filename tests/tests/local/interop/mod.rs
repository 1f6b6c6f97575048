//! Tests `shared` against upstream as a library, and against a second Rust implementation that shares no code
//! with it.
//!
//! | module | question |
//! |---|---|
//! | `values` | does each implementation unseal what the other sealed? |
//! | `second_opinion` | do the `rsa` and `aes-gcm` crates agree with both? |
//! | `wycheproof_vectors` | are invalid RSA blocks refused? |
//! | `gcm_cases` | are values with a wrong tag or ciphertext refused? |
//! | `vectors` | can values of earlier releases be unsealed? |
//! | `objects` | do whole Secrets survive sealing by one implementation and unsealing by the other? |
//! | `v2_hpke` | do the suites of v2 agree with Go's `crypto/hpke`? |
//! | `v2_reader` | does a program that was written from the specification of v2 alone agree with `shared`? |
//! | `texts`, `scalars` | do both implementations read and write the same YAML and JSON? |
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod gcm_cases;
mod keys;
mod objects;
mod scalars;
mod second_opinion;
mod strategies;
mod texts;
mod unsealing;
mod v2_hpke;
mod v2_reader;
mod values;
mod vectors;
mod wycheproof_vectors;

use std::sync::LazyLock;

use tests::upstream::Upstream;

/// The upstream process that all tests of this binary share.
static UPSTREAM: LazyLock<Upstream> = LazyLock::new(|| Upstream::start().expect("upstream starts"));
