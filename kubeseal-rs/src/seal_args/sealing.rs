use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use kubeseal_library::rules::SealedFormat;
use shared::key::Fingerprint;
use shared::scope::Scope;

use super::{Cluster, Controller};

/// Options for sealing, shared by several commands. Missing options are taken from `.seal.yaml`, then from the
/// variables of `kubeseal`, then from the cluster.
#[derive(Debug, Clone, Default, Args)]
#[command(
    next_help_heading = "Sealing options (defaults: .seal.yaml, then SEALED_SECRETS_*, then the cluster)"
)]
pub struct Sealing {
    /// Certificate to seal with
    #[arg(long, value_name = "FILE|URL")]
    pub cert: Option<OsString>,
    /// Fail unless the certificate has this fingerprint
    #[arg(long, value_name = "SHA256:…")]
    pub cert_fingerprint: Option<Fingerprint>,
    /// Format of new values: v1 or v2; a file that has v2 values stays v2
    #[arg(long, value_name = "FORMAT")]
    pub sealed_format: Option<SealedFormat>,
    /// Seal v2 values for this key: a `seal2-recipient …` or `age1pq1…` line, a file or URL, or `cluster`; repeatable.
    /// If .seal.yaml lists recipients, this confirms one of them, also by its identifier of 22 or 43 characters
    #[arg(long, value_name = "KEY|FILE|URL")]
    pub recipient: Vec<String>,
    /// Where the value can be unsealed: strict, namespace-wide, cluster-wide
    #[arg(long, value_name = "SCOPE")]
    pub scope: Option<Scope>,
    /// Namespace of the Secret
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Use this rules file instead of .seal.yaml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Add no key hints (the annotation that names the certificate of each item)
    #[arg(long)]
    pub no_hints: bool,
    /// The cluster to use.
    #[command(flatten)]
    pub cluster: Cluster,
    /// The controller to use.
    #[command(flatten)]
    pub controller: Controller,
}
