//! `seal restart`: runs in a cluster, and restarts or refreshes the applications that use new values.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod unsupported;

use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;

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
    after_help = "Runs until SIGTERM. It restarts workloads that opt in with the annotation \
`sealedsecrets.bitnami.com/restart: auto`, or with annotations of Stakater's Reloader, after the content of a \
SealedSecret changed. With the annotation \
`sealedsecrets.bitnami.com/refresh: \"true\"` on a SealedSecret or Namespace, the kubelet refreshes mounted files \
immediately. The command reads no Secret and has no key. The chart runs it with `restart.enabled`.\n\n\
Examples:\n  seal restart --kubeconfig admin.conf --listen 127.0.0.1:8082"
)]
pub struct Restart {
    /// Watch only this namespace; repeatable
    #[arg(long = "namespace", short, value_name = "NAME")]
    pub namespaces: Vec<String>,
    /// Maximum number of concurrent rollouts
    #[arg(long, value_name = "COUNT", default_value = "5", value_parser = parse_rollouts)]
    pub max_rollouts: u16,
    /// Maximum number of Pods to refresh per second
    #[arg(long, value_name = "COUNT", default_value = "20", value_parser = parse_rate)]
    pub refresh_rate: u32,
    /// Leave workloads that opt in only with Reloader's annotations to Reloader
    #[arg(long)]
    pub with_reloader: bool,
    /// Address of metrics and probes
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8082")]
    pub listen: SocketAddr,
    /// Elect a leader among several replicas; only the leader acts
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
    /// Log debug messages too
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

fn parse_rollouts(text: &str) -> Result<u16, String> {
    parse_count(text, &u16::MAX)
}

fn parse_rate(text: &str) -> Result<u32, String> {
    parse_count(text, &u32::MAX)
}

/// Parses a whole number from 1 to `max`.
fn parse_count<T: FromStr + PartialOrd + Default + Display>(
    text: &str,
    max: &T,
) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| *number > T::default());
    number.ok_or_else(|| format!("expected a whole number from 1 to {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_an_invalid_number_and_names_the_valid_range() {
        for text in ["", "0", "-1", "five", "1.5", "65536"] {
            let error = parse_rollouts(text).unwrap_err();
            assert_eq!(error, "expected a whole number from 1 to 65535", "{text}");
        }
        assert_eq!(parse_rollouts("65535"), Ok(65_535));
        assert_eq!(parse_rate("1"), Ok(1));
        let error = parse_rate("4294967296").unwrap_err();
        assert_eq!(error, "expected a whole number from 1 to 4294967295");
    }
}
