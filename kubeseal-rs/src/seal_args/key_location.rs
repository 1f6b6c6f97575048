use std::path::PathBuf;

use clap::Args;

use super::{Cluster, Controller};

/// Where the keys are stored; shared by several commands.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Location of the keys (default: the cluster of the current context)")]
pub struct KeyLocation {
    /// Use a directory with a controller's state or with key manifests, instead of a cluster
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "context"])]
    pub directory: Option<PathBuf>,
    /// The cluster to use.
    #[command(flatten)]
    pub cluster: Cluster,
    /// The controller, whose namespace contains the keys.
    #[command(flatten)]
    pub controller: Controller,
}

/// How to decrypt a backup. Without a passphrase file, the command prompts for a passphrase if it
/// needs one.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "How to decrypt backups (default: prompt for a passphrase)")]
pub struct DecryptionArgs {
    /// File with an age identity (AGE-SECRET-KEY-1…, or AGE-SECRET-KEY-PQ-1… of age 1.3); repeatable
    #[arg(long, short, value_name = "FILE")]
    pub identity: Vec<PathBuf>,
    /// File whose first line is the passphrase; `-` for stdin
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}
