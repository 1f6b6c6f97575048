use std::path::PathBuf;

use clap::Args;

use super::{Asking, Form, Opening, Place};

/// Arguments of `seal doctor`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Other names and namespaces are tried only with keys that you have: those of --backup, or the key \
Secrets if you may read them. The controller only gets the unmodified file; with --authorized it reports the \
result for each item to callers that may verify the object.\n\n\
Examples:\n  seal doctor db.sealed.yaml --offline --backup key.pem"
)]
pub struct Doctor {
    /// File with SealedSecrets that cannot be unsealed
    pub file: Option<PathBuf>,
    /// Also try this namespace; repeatable
    #[arg(long, value_name = "NAME")]
    pub try_namespace: Vec<String>,
    /// Also try this name; repeatable
    #[arg(long, value_name = "NAME")]
    pub try_name: Vec<String>,
    /// Namespace of objects that name none
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Try the keys of this backup: an age archive, manifests or PEM; repeatable
    #[arg(long = "backup", value_name = "FILE")]
    pub backups: Vec<PathBuf>,
    /// Contact no cluster and no controller: use the keys of --backup alone
    #[arg(
        long,
        requires = "file",
        requires = "backups",
        conflicts_with = "authorized"
    )]
    pub offline: bool,
    /// Output format
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: Form,
    /// How to decrypt backups.
    #[command(flatten)]
    pub opening: Opening,
    /// How to reach the controller's port for callers with a token.
    #[command(flatten)]
    pub asking: Asking,
    /// The cluster or folder with the keys. Missing options come from the rule of `.seal.yaml` for the file.
    #[command(flatten)]
    pub place: Place,
}
