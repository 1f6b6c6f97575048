use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Sealing;
use crate::command::Format;

/// `seal config`.
#[derive(Debug, Args)]
pub struct Config {
    /// What about it.
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

/// What can be asked about `.seal.yaml`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Show which rule applies to a file, and the settings that result
    Explain(Explain),
}

/// `seal config explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal config explain prod/db.yaml")]
pub struct Explain {
    /// The file; it does not have to exist
    pub path: PathBuf,
    /// Output format: yaml or json; text if not given
    #[arg(long, short, value_name = "FORMAT", hide_possible_values = true)]
    pub output: Option<Format>,
    /// How to seal.
    #[command(flatten)]
    pub sealing: Sealing,
}
