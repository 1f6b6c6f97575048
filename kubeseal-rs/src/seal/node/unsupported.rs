//! `seal node` on systems other than Linux, where it always fails.

use anyhow::{Result, bail};
use kubeseal_library::environment::Environment;

use super::Node;
use crate::failure::Failure;
use crate::seal::Outcome;

/// Fails.
///
/// # Errors
///
/// Always fails.
pub fn run(_: &Node, _: &Environment) -> Result<Outcome> {
    let message = "`seal node` runs only on Linux";
    bail!(Failure::new(message).hint("run it in the cluster: the chart does so with `csi.enabled`"))
}
