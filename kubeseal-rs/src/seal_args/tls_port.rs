use std::path::PathBuf;

use clap::Args;

use kubeseal_library::cluster::TokenAccess;

/// How to reach the controller's TLS port, which verifies and re-encrypts for callers with a token.
#[derive(Debug, Clone, Default, Args)]
#[command(
    next_help_heading = "How to reach the controller's TLS port, which verifies and re-encrypts for callers with a token"
)]
pub struct TlsPort {
    /// URL of the controller's TLS port (https://…), or of a port-forward to it
    #[arg(long, value_name = "URL")]
    pub authorized: Option<String>,
    /// File with a token for the audience sealed-secrets.bitnami.com; requested from the cluster if not given
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Service account to request a token for; the account in the kubeconfig if not given
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with = "token_file")]
    pub token_account: Option<String>,
    /// CA certificate of the controller's TLS port; if not given, read from the ConfigMap that the controller of the
    /// current context publishes
    #[arg(long, value_name = "FILE")]
    pub authority: Option<PathBuf>,
}

impl TlsPort {
    /// Converts these flags to a [`TokenAccess`] for the client.
    pub fn token_access(&self) -> TokenAccess {
        TokenAccess {
            url: self.authorized.clone(),
            token_file: self.token_file.clone(),
            authority: self.authority.clone(),
            account: self.token_account.clone(),
            is_by_rule: false,
        }
    }
}
