use std::path::PathBuf;

use clap::Args;

use kubeseal_library::format::Format;

/// Where to write a new SealedSecret.
#[derive(Debug, Clone, Default, Args)]
pub struct Destination {
    /// File to write; stdout if not given
    #[arg(long, short = 'w', value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Path where the output will be saved; selects the rule in .seal.yaml
    #[arg(long = "for", value_name = "PATH", conflicts_with = "write")]
    pub for_path: Option<PathBuf>,
    /// Output format: yaml (default) or json
    #[arg(long, short, value_name = "FORMAT", hide_possible_values = true, value_parser = super::output_format())]
    pub output: Option<Format>,
}
