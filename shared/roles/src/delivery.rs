//! How a Pod reaches the controller.

use std::path::PathBuf;

use clap::Args;

/// The URL of the controller's TLS port in a default installation.
pub const DELIVERY_SERVER: &str = "https://sealed-secrets-controller.kube-system.svc:8443";

/// Arguments of commands that receive values from the controller.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "How to reach the controller that delivers values to this Pod")]
pub struct Delivery {
    /// URL of the controller's TLS port
    #[arg(long, value_name = "URL", default_value = DELIVERY_SERVER)]
    pub server: String,
    /// File with the Pod's token for the audience sealed-secrets.bitnami.com
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/secrets/sealed-secrets/token"
    )]
    pub token_file: PathBuf,
    /// CA certificates of the port; if not given, read from the ConfigMap that the controller publishes, with the Pod's
    /// service account
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}
