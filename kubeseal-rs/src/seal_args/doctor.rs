use std::path::PathBuf;

use clap::Args;

use super::{Asking, Form, Opening, Place};

/// `seal doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "What does not open is tried for other places only with keys that you hold: those of --backup, or the key \
Secrets if you may read them. The controller is asked about the file as it is, and nothing else; with --authorized it \
says so for each item, to those who may verify the object.\n\n\
Examples:\n  seal doctor db.sealed.yaml --offline --backup key.pem"
)]
pub struct Doctor {
    /// File with SealedSecrets that do not open
    pub file: Option<PathBuf>,
    /// A namespace that it may have been sealed for; may be given several times
    #[arg(long, value_name = "NAME")]
    pub try_namespace: Vec<String>,
    /// A name that it may have been sealed for; may be given several times
    #[arg(long, value_name = "NAME")]
    pub try_name: Vec<String>,
    /// Namespace of what names none
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Try the keys of this backup: an age archive, manifests or PEM
    #[arg(long = "backup", value_name = "FILE")]
    pub backups: Vec<PathBuf>,
    /// Ask no cluster and no controller: look at the file with the keys of --backup alone
    #[arg(
        long,
        requires = "file",
        requires = "backups",
        conflicts_with = "authorized"
    )]
    pub offline: bool,
    /// Form of the output
    #[arg(long, short, value_name = "FORM", default_value = "text")]
    pub output: Form,
    /// What opens backups.
    #[command(flatten)]
    pub opening: Opening,
    /// Whom to ask.
    #[command(flatten)]
    pub asking: Asking,
    /// Where the keys are.
    #[command(flatten)]
    pub place: Place,
}
