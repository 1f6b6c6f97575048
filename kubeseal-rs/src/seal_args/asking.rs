use std::path::PathBuf;

use clap::Args;

/// The controller's port for callers with a token, which tells them the key of each item.
#[derive(Debug, Clone, Default, Args)]
#[command(
    next_help_heading = "Whom to ask about what opens with no key here (the verb `verify` on SealedSecrets is needed)"
)]
pub struct Asking {
    /// Port of the controller for callers with a token: https://…, also that of a port-forward
    #[arg(long, value_name = "URL", requires = "token_file")]
    pub authorized: Option<String>,
    /// File with a token for the audience sealed-secrets.bitnami.com
    #[arg(long, value_name = "FILE", requires = "authorized")]
    pub token_file: Option<PathBuf>,
    /// Its authority, as /v1/ca.pem has it; else the controller of the current context is asked for it
    #[arg(long, value_name = "FILE", requires = "authorized")]
    pub authority: Option<PathBuf>,
}
