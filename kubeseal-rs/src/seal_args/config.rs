use std::path::PathBuf;

use clap::{Args, Subcommand};
use kubeseal_library::format::Format;

use super::Sealing;

/// Arguments of `seal config`.
#[derive(Debug, Args)]
pub struct Config {
    /// The subcommand.
    #[command(subcommand)]
    pub verb: ConfigVerb,
}

/// Subcommands of `seal config`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Show which rule applies to a file, and the settings that result
    Explain(Explain),
}

/// Arguments of `seal config explain`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal config explain prod/db.yaml")]
pub struct Explain {
    /// The file; it does not have to exist
    pub path: PathBuf,
    /// Output format: yaml or json; text if not given
    #[arg(long, short, value_name = "FORMAT", hide_possible_values = true, value_parser = super::output_format())]
    pub output: Option<Format>,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}
