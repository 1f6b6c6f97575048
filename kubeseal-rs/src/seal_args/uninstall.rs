use clap::Args;

use super::{Cluster, Controller};

/// Arguments of `seal uninstall`.
#[derive(Debug, Args)]
#[command(
    after_help = "Run it when no controller of this project runs any more, before or after Bitnami's controller is back. Bitnami's \
updates the condition Synced alone, so that Ready and Stalled would stay as they are forever, and `kubectl wait` and Flux \
would judge by them. Secrets, keys and SealedSecrets stay as they are.\n\n\
Examples:\n  seal uninstall\n  seal uninstall --yes"
)]
pub struct Uninstall {
    /// Change the statuses; otherwise only list what would change
    #[arg(long)]
    pub yes: bool,
    /// Only in this namespace
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Change the statuses although a controller holds the Lease
    #[arg(long)]
    pub force: bool,
    /// Name of the controller's Lease
    #[arg(long, value_name = "NAME", default_value = "sealed-secrets-controller")]
    pub lease_name: String,
    /// The cluster to use.
    #[command(flatten)]
    pub cluster: Cluster,
    /// The controller, whose namespace contains the Lease.
    #[command(flatten)]
    pub controller: Controller,
}
