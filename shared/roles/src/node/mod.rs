//! `seal node`: runs on each node, and delivers values to volumes of the Secrets Store CSI driver.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod unsupported;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::delivery::DELIVERY_SERVER;
#[cfg(target_os = "linux")]
pub use linux::run;
#[cfg(not(target_os = "linux"))]
pub use unsupported::run;

/// Arguments of `seal node`.
#[derive(Debug, Args)]
#[command(
    after_help = "Runs until SIGTERM, as the provider `sealed` of the Secrets Store CSI driver: the kubelet mounts a volume, \
the driver requests its files, and this command requests the values from the controller with the token of the Pod. It has \
no key, no permission in the cluster and no token of its own, and stores no value. The chart runs it with `csi.enabled`.\n\n\
Examples:\n  seal node --socket /provider/sealed.sock --ca-file /ca/ca.pem\n  seal node --socket /provider/sealed.sock --check"
)]
pub struct Node {
    /// Socket to listen on: sealed.sock in the driver's directory for providers
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/var/run/secrets-store-csi-providers/sealed.sock"
    )]
    pub socket: PathBuf,
    /// URL of the controller's TLS port
    #[arg(long, value_name = "URL", default_value = DELIVERY_SERVER)]
    pub server: String,
    /// CA certificates of the port, as in the ConfigMap that the controller publishes
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/secrets/sealed-secrets/ca.pem"
    )]
    pub ca_file: PathBuf,
    /// Address of metrics and a probe; none if not given
    #[arg(long, value_name = "ADDRESS", conflicts_with = "check")]
    pub listen: Option<SocketAddr>,
    /// Only check that a provider responds on the socket, for a probe; exit code 0 or 2
    #[arg(long)]
    pub check: bool,
}
