use clap::Args;

use super::{Cluster, Controller};

/// Arguments of `seal uninstall`.
#[derive(Debug, Args)]
#[command(
    after_help = "Run this command after every controller of this project is stopped, before or after Bitnami's \
controller starts. Bitnami's controller updates only the condition Synced, so Ready and Stalled would never \
change again and would mislead \
`kubectl wait` and Flux. Secrets, keys and SealedSecrets are not changed.\n\n\
Examples:\n  seal uninstall\n  seal uninstall --yes"
)]
pub struct Uninstall {
    /// Change the statuses; otherwise only list what would change
    #[arg(long)]
    pub yes: bool,
    /// Only in this namespace
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Change the statuses even if a controller holds the Lease
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
