use std::path::PathBuf;

use clap::Args;

use super::Sealing;

/// Arguments of `seal set`.
#[derive(Debug, Args)]
#[command(after_help = "\
Name, namespace and scope are those of the file. Comments, order and layout stay.

Examples:
  seal set db.sealed.yaml password < password.txt
  seal set db.sealed.yaml ssh.key --from-file key.pem
  seal set db.sealed.yaml session --generate --cert cert.pem
  seal set db.sealed.yaml token --generate hex:16 --name shop/db")]
pub struct Set {
    /// File with the SealedSecret
    pub file: PathBuf,
    /// Key of the item; added if it does not exist
    pub key: String,
    /// Read the value from this file, byte for byte; from stdin or a hidden prompt if not given
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    pub from_file: Option<PathBuf>,
    /// Accept an empty value from stdin
    #[arg(long)]
    pub allow_empty: bool,
    /// Generate a random value by a recipe of `seal generate`; a password by default
    #[arg(long, value_name = "RECIPE", num_args = 0..=1, default_missing_value = "password")]
    pub generate: Option<String>,
    /// Which SealedSecret, if the file contains several: [NAMESPACE/]NAME
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}
