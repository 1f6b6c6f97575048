//! `seal restart` on systems other than Linux, where it always fails.

use anyhow::{Result, bail};
use kubeseal_library::environment::Environment;

use super::Restart;
use crate::failure::Failure;
use crate::seal::Outcome;

/// Returns the error that names the supported system.
///
/// # Errors
///
/// Always fails.
pub fn run(_: &Restart, _: &Environment) -> Result<Outcome> {
    let message = "`seal restart` runs only on Linux";
    bail!(Failure::new(message).hint("run it in the cluster, with `restart.enabled` of the chart"))
}
