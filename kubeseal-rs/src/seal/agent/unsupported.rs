//! `seal agent` on systems other than Linux, where it always fails.

use anyhow::{Result, bail};
use kubeseal_library::environment::Environment;

use super::Agent;
use crate::failure::Failure;
use crate::seal::Outcome;

/// Fails.
///
/// # Errors
///
/// Always fails.
pub fn run(_: &Agent, _: &Environment) -> Result<Outcome> {
    bail!(Failure::new("`seal agent` runs only on Linux").hint("run it in a Pod"))
}
