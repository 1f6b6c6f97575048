//! `seal restart`: runs in a cluster, and restarts or refreshes the applications that use new values.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod unsupported;

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use crate::seal_args::Cluster;

#[cfg(target_os = "linux")]
pub use linux::run;
#[cfg(not(target_os = "linux"))]
pub use unsupported::run;

/// Arguments of `seal restart`.
#[derive(Debug, Args)]
#[command(
    after_help = "Runs until SIGTERM. It restarts workloads that opt in by the annotation `sealedsecrets.bitnami.com/restart: \
auto`, or by annotations of Stakater's Reloader, after the content of a SealedSecret changed. With the annotation \
`sealedsecrets.bitnami.com/refresh: \"true\"` on a SealedSecret or Namespace, kubelet refreshes mounted files immediately. The \
command reads no Secret and has no key. The chart runs it with `restart.enabled`.\n\n\
Examples:\n  seal restart --kubeconfig admin.conf --listen 127.0.0.1:8082"
)]
pub struct Restart {
    /// Watch only this namespace; repeatable
    #[arg(long = "namespace", short, value_name = "NAME")]
    pub namespaces: Vec<String>,
    /// Maximum number of concurrent rollouts
    #[arg(long, value_name = "COUNT", default_value = "5", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_rollouts: u16,
    /// Maximum number of Pods to refresh per second
    #[arg(long, value_name = "COUNT", default_value = "20", value_parser = clap::value_parser!(u32).range(1..))]
    pub refresh_rate: u32,
    /// Leave workloads that opt in only by Reloader's annotations to Reloader
    #[arg(long)]
    pub with_reloader: bool,
    /// Address of metrics and probes
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8082")]
    pub listen: SocketAddr,
    /// Elect one of several replicas to act
    #[arg(long, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Namespace of the Lease; that of the Pod if not given
    #[arg(long, value_name = "NAME")]
    pub lease_namespace: Option<String>,
    /// Name of the Lease
    #[arg(long, value_name = "NAME", default_value = "sealed-secrets-restart")]
    pub lease_name: String,
    /// Time after the last renewal until another replica takes over
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = flags::parse_duration)]
    pub lease_duration: SignedDuration,
    /// Format of log lines
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Log details
    #[arg(long)]
    pub verbose: bool,
    /// The cluster to use; that of the Pod if not given.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable text.
    Text,
    /// One JSON object per line.
    Json,
}
