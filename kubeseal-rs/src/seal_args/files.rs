use std::path::PathBuf;

use clap::Args;

use super::Sealing;
use crate::command::Format;

/// `seal [FILE…]`.
#[derive(Debug, Default, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are switches of a command line"
)]
pub struct Files {
    /// Files with Secrets, or folders to find them in; stdin to stdout without any
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Put the sealed manifest into the plain file's place (else beside it, as NAME.sealed.yaml)
    #[arg(long, short, conflicts_with_all = ["stdout", "remove_plain", "keep_plain"])]
    pub in_place: bool,
    /// Print instead of writing files
    #[arg(long, conflicts_with = "remove_plain")]
    pub stdout: bool,
    /// Remove each plain file once its sealed one is written
    #[arg(long, conflicts_with = "keep_plain")]
    pub remove_plain: bool,
    /// Leave plain files where they are, even inside a Git work tree
    #[arg(long)]
    pub keep_plain: bool,
    /// Path that the result of stdin will have, which picks the rule
    #[arg(long = "for", value_name = "PATH", conflicts_with = "files")]
    pub for_path: Option<PathBuf>,
    /// Accept a Secret without values
    #[arg(long)]
    pub allow_empty: bool,
    /// Format of the result: yaml or json; that of the input if not given
    #[arg(long, short, value_name = "FORMAT", hide_possible_values = true)]
    pub output: Option<Format>,
    /// How to seal.
    #[command(flatten)]
    pub sealing: Sealing,
}
