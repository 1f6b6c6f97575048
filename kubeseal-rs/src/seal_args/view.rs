use std::path::PathBuf;

use clap::Args;
use kubeseal_library::format::Format;

use super::Cluster;

/// Arguments of `seal view`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --reveal only the file is needed, and no value is shown. The age of an item is that of its ciphertext in Git.

Examples:
  seal view db.sealed.yaml
  seal view -o json db.sealed.yaml
  seal view --reveal --key key.pem db.sealed.yaml")]
pub struct View {
    /// Files and folders to show; the current folder if none is given
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Print values: decrypted with --key, else read from the Secret in the cluster if you have permission
    #[arg(long)]
    pub reveal: bool,
    /// Private keys: PEM, or key Secrets of a backup; repeatable
    #[arg(long, value_name = "FILE", requires = "reveal")]
    pub key: Vec<PathBuf>,
    /// Output format: yaml or json; text if not given
    #[arg(long, short, value_name = "FORMAT", hide_possible_values = true, value_parser = super::output_format())]
    pub output: Option<Format>,
    /// The cluster with the Secrets; by default the one of `.seal.yaml` or the environment.
    #[command(flatten)]
    pub cluster: Cluster,
}
