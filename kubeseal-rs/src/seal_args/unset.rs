use std::path::PathBuf;

use clap::Args;

/// Arguments of `seal unset`.
#[derive(Debug, Args)]
#[command(after_help = "\
Needs neither certificate nor cluster. Comments, order and layout stay.

Examples:
  seal unset db.sealed.yaml password
  seal unset db.sealed.yaml password --name shop/db")]
pub struct Unset {
    /// File with the SealedSecret
    pub file: PathBuf,
    /// Keys of the items
    #[arg(required = true, value_name = "KEY")]
    pub keys: Vec<String>,
    /// Which SealedSecret, if the file contains several: [NAMESPACE/]NAME
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}
