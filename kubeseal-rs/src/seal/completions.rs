//! `seal completions`: prints a completion script.

use anyhow::Result;
use clap::Args;

use super::{Outcome, print};
use crate::{pages, seal_args};

/// Arguments of `seal completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal completions bash > seal.bash")]
pub struct Completions {
    /// Shell to generate the script for
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(crate::pages::SHELLS))]
    pub shell: String,
}

/// Prints the completion script for a shell.
///
/// # Errors
///
/// Fails if stdout cannot be written to.
pub fn run(args: &Completions) -> Result<Outcome> {
    print(&pages::completions(&args.shell, seal_args::program()))
}
