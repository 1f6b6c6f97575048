use std::path::PathBuf;

use clap::Args;

use super::Cluster;
use crate::command::Format;

/// `seal view`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --reveal nothing but the file is needed, and no value is shown. Age is that of the item's line in Git.

Examples:
  seal view db.sealed.yaml
  seal view -o json db.sealed.yaml
  seal view --reveal --key key.pem db.sealed.yaml")]
pub struct View {
    /// Files, and folders to look through; the current one if none is given
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Show values, on your screen and in whatever stdout goes to: opened with --key, else those of the Secret in the
    /// cluster, which you have to be allowed to read
    #[arg(long)]
    pub reveal: bool,
    /// Private keys: PEM, or backups of key Secrets
    #[arg(long, value_name = "FILE", requires = "reveal")]
    pub key: Vec<PathBuf>,
    /// Format of the answer: yaml or json; text if not given
    #[arg(long, short, value_name = "FORMAT", hide_possible_values = true)]
    pub output: Option<Format>,
    /// Which cluster has the Secrets; else `.seal.yaml` and the environment say.
    #[command(flatten)]
    pub cluster: Cluster,
}
