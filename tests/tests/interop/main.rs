//! The Go peer as a library, and a second Rust implementation that shares no code with ours, against `shared`.
//!
//! | module | question |
//! |---|---|
//! | `values` | does each side open what the other sealed? |
//! | `second_opinion` | do the `rsa` and `aes-gcm` crates agree with both? |
//! | `vectors` | do values open that were sealed long ago? |
//! | `objects` | do whole Secrets survive the way through the other side? |
//! | `texts` | do both read and write the same YAML and JSON? |

mod keys;
mod objects;
mod second_opinion;
mod texts;
mod values;
mod vectors;

use std::sync::LazyLock;

use tests::peer::Peer;

/// One peer for all tests of this program.
static PEER: LazyLock<Peer> = LazyLock::new(|| Peer::start().expect("the Go peer starts"));
