use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Destination, Sealing};

/// Arguments of `seal import`.
#[derive(Debug, Args)]
pub struct Import {
    /// The subcommand.
    #[command(subcommand)]
    pub from: ImportFrom,
}

/// Subcommands of `seal import`.
#[derive(Debug, Subcommand)]
pub enum ImportFrom {
    /// Import a .env file: one item for each variable
    #[command(after_help = "Examples:\n  seal import dotenv web .env -n shop -w web.yaml")]
    Dotenv(ImportDotenv),
    /// Import a file that sops encrypted; runs your `sops`
    #[command(
        after_help = "Examples:\n  seal import sops web secrets.enc.yaml -n shop --cert cert.pem -w web.yaml\n\n\
A file that contains a Secret manifest keeps its name: seal import sops FILE."
    )]
    Sops(ImportSops),
    /// Import a Secret as `kubectl get -o yaml` prints it, without fields that the server added
    #[command(
        after_help = "Examples:\n  seal import secret < from-cluster.yaml > db.sealed.yaml\n\n\
From a cluster: kubectl get secret db -n shop -o yaml | seal import secret -w db.yaml"
    )]
    Secret(ImportSecret),
    /// Import Secrets as `kubectl get -o yaml` prints them, except those that controllers recreate
    #[command(
        after_help = "Examples:\n  seal import list --into sealed < from-cluster.yaml\n\n\
From a cluster: kubectl get secrets -A -o yaml | seal import list --into sealed"
    )]
    List(ImportList),
}

/// Arguments of `seal import dotenv`.
#[derive(Debug, Args)]
pub struct ImportDotenv {
    /// Name of the Secret
    pub name: String,
    /// The file; stdin if not given
    pub file: Option<PathBuf>,
    /// Where to write the result.
    #[command(flatten)]
    pub destination: Destination,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// Arguments of `seal import sops`.
#[derive(Debug, Args)]
pub struct ImportSops {
    /// Name of the Secret (only if the file is not a Secret manifest), and the file
    #[arg(value_name = "[NAME] FILE", num_args = 1..=2, required = true)]
    pub args: Vec<OsString>,
    /// Vault or Azure Key Vault that the file may name, besides your own Vault
    #[arg(long, value_name = "URL")]
    pub key_service: Vec<String>,
    /// Where to write the result.
    #[command(flatten)]
    pub destination: Destination,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// Arguments of `seal import secret`.
#[derive(Debug, Args)]
pub struct ImportSecret {
    /// The file; stdin if not given
    pub file: Option<PathBuf>,
    /// Where to write the result.
    #[command(flatten)]
    pub destination: Destination,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// Arguments of `seal import list`.
#[derive(Debug, Args)]
pub struct ImportList {
    /// The file; stdin if not given
    pub file: Option<PathBuf>,
    /// Folder to write NAMESPACE/NAME.yaml to, for each Secret
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["write", "for_path"])]
    pub into: Option<PathBuf>,
    /// Include Secrets that another object owns
    #[arg(long)]
    pub owned: bool,
    /// Where to write the result.
    #[command(flatten)]
    pub destination: Destination,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}
