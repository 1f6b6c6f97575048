use std::path::PathBuf;

use clap::Args;
use kubeseal_library::format::Format;

use super::Sealing;

/// Arguments of `seal [FILE…]`.
#[derive(Debug, Default, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are switches of a command line"
)]
pub struct Files {
    /// Files with Secrets, or folders to search; without any, stdin is sealed to stdout
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Replace each plain file by its sealed manifest, instead of writing NAME.sealed.yaml beside it
    #[arg(long, short, conflicts_with_all = ["stdout", "remove_plain", "keep_plain"])]
    pub in_place: bool,
    /// Print the result instead of writing files
    #[arg(long, conflicts_with = "remove_plain")]
    pub stdout: bool,
    /// Remove each plain file after its sealed file is written
    #[arg(long, conflicts_with = "keep_plain")]
    pub remove_plain: bool,
    /// Keep plain files, even inside a Git work tree
    #[arg(long)]
    pub keep_plain: bool,
    /// Path that the result of stdin will have; selects the rule of .seal.yaml
    #[arg(long = "for", value_name = "PATH", conflicts_with = "files")]
    pub for_path: Option<PathBuf>,
    /// Accept a Secret without values
    #[arg(long)]
    pub allow_empty: bool,
    /// Output format: yaml or json; that of the input if not given
    #[arg(long, short, value_name = "FORMAT", hide_possible_values = true, value_parser = super::output_format())]
    pub output: Option<Format>,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}
