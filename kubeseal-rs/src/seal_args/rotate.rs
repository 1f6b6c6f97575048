use std::path::PathBuf;

use clap::Args;

use super::{Asking, Sealing};
use crate::command::Format;

/// `seal rotate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Only values change; comments, order and layout stay as they are. Each file is replaced in one step, and
what is sealed for the newest key already is left alone, so an interrupted run is finished by the next one.
With --key nothing is asked of a cluster. Give the newest key, too: without it only key hints tell
what is done already, and so each file gets them. A file that cannot be read is named, and the exit code is 2.
--dry-run with --key judges by sizes and key hints, and opens only what they say nothing about.

Examples:
  seal rotate --key key.pem --cert cert.pem
  seal rotate --key key.pem --dry-run -o json prod/")]
pub struct Rotate {
    /// Files, or folders to find them in; the current folder if not given
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Backup of private keys, as PEM or key Secrets; instead of the controller
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// Tell what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Format of the summary: yaml or json; text if not given
    #[arg(long, short, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// How to seal.
    #[command(flatten)]
    pub sealing: Sealing,
    /// Whom to ask.
    #[command(flatten)]
    pub asking: Asking,
}
