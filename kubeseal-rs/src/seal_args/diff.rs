use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use kubeseal_library::format::Format;

/// Arguments of `seal diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
REV is a Git revision, or two as A..B; HEAD if not given. A new ciphertext does not show whether the
value changed or was re-encrypted.

Examples:
  seal diff
  seal diff HEAD~1 db.sealed.yaml
  seal diff --exit-code HEAD")]
pub struct Diff {
    /// A revision, then files and folders; `--` before a path that looks like a revision
    #[arg(value_name = "[REV] [PATH]...")]
    pub args: Vec<OsString>,
    /// Paths only
    #[arg(last = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Exit with code 1 if anything differs
    #[arg(long)]
    pub exit_code: bool,
    /// Output format: yaml or json; text if not given
    #[arg(long, short, value_name = "FORMAT", hide_possible_values = true, value_parser = super::output_format())]
    pub output: Option<Format>,
}
