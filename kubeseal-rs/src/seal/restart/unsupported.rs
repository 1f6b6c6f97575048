//! `seal restart` on systems that run no cluster nodes with these Pods, where it always fails.

use anyhow::{Result, bail};
use kubeseal_library::environment::Environment;

use super::Restart;
use crate::failure::Failure;
use crate::seal::Outcome;

/// Fails.
///
/// # Errors
///
/// Always fails.
pub fn run(_: &Restart, _: &Environment) -> Result<Outcome> {
    let message = "`seal restart` runs only on Linux";
    bail!(
        Failure::new(message).hint("run it in the cluster: the chart does with `restart.enabled`")
    )
}
