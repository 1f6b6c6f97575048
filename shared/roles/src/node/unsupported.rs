//! `seal node` on systems other than Linux, where it always fails.

use anyhow::{Result, bail};

use super::Node;
use crate::failure::Failure;

/// Fails, since the provider needs Linux.
///
/// # Errors
///
/// Always fails.
pub fn run(_: &Node) -> Result<()> {
    let message = "`seal node` runs only on Linux";
    bail!(
        Failure::new(message)
            .hint("run `seal node` in the cluster: the chart does so with `csi.enabled`")
    )
}
