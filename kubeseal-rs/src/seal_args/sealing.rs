use std::path::PathBuf;

use clap::Args;
use shared::key::Fingerprint;
use shared::scope::Scope;

use super::{Cluster, Controller};

/// The words of every command that seals. What they leave out `.seal.yaml` says, then the variables
/// of `kubeseal`, then the cluster.
#[derive(Debug, Clone, Default, Args)]
#[command(
    next_help_heading = "How to seal (else .seal.yaml says, then SEALED_SECRETS_*, then the cluster)"
)]
pub struct Sealing {
    /// Certificate to seal with
    #[arg(long, value_name = "FILE|URL")]
    pub cert: Option<String>,
    /// The certificate must be this one
    #[arg(long, value_name = "SHA256:…")]
    pub cert_fingerprint: Option<Fingerprint>,
    /// Where it opens: strict, namespace-wide, cluster-wide
    #[arg(long, value_name = "SCOPE")]
    pub scope: Option<Scope>,
    /// Namespace of the Secret
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Rules to go by instead of the .seal.yaml that is found
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write no annotation that says which certificate sealed each item
    #[arg(long)]
    pub no_hints: bool,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Cluster,
    /// Which controller.
    #[command(flatten)]
    pub controller: Controller,
}
