use std::path::PathBuf;

use clap::Args;

use super::Sealing;

/// `seal edit`.
#[derive(Debug, Args)]
#[command(after_help = "\
The editor is $VISUAL or $EDITOR, else vi, found in PATH. It works on a file in memory, for you alone,
which is removed however it ends: Linux alone has such files, and elsewhere this is refused. What you do not
change is not sealed anew.

Examples:
  seal edit db.sealed.yaml --key key.pem
  seal edit db.sealed.yaml --blind --cert cert.pem")]
pub struct Edit {
    /// File with the SealedSecret
    pub file: PathBuf,
    /// Show keys only and take new values: decrypts nothing
    #[arg(long, conflicts_with = "key")]
    pub blind: bool,
    /// Backup of private keys, as PEM or key Secrets; instead of the Secret in the cluster
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// Which SealedSecret, if the file holds several: [NAMESPACE/]NAME
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// How to seal.
    #[command(flatten)]
    pub sealing: Sealing,
}
