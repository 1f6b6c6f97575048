//! `seal man`: prints the manual page.

use anyhow::Result;
use clap::Args;

use super::{Outcome, print};
use crate::{pages, seal_args};

/// Arguments of `seal man`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal man > seal.1")]
pub struct Man {}

/// Prints the manual page of `seal` and its subcommands.
///
/// # Errors
///
/// Fails if stdout cannot be written to.
pub fn run(_: &Man) -> Result<Outcome> {
    print(&pages::manual(seal_args::program()))
}
