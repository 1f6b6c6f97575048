//! `seal agent` on systems other than Linux, where it always fails.

use anyhow::{Result, bail};

use super::Agent;
use crate::failure::Failure;
use crate::{CheckTemplate, Variables};

/// Fails, since the agent needs Linux.
///
/// # Errors
///
/// Always fails.
pub fn run(_: &Agent, _: Variables, _: Option<CheckTemplate>) -> Result<()> {
    bail!(Failure::new("`seal agent` runs only on Linux").hint("run `seal agent` in a Pod"))
}
