use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Destination, Sealing};

/// `seal import`.
#[derive(Debug, Args)]
pub struct Import {
    /// From what.
    #[command(subcommand)]
    pub from: ImportFrom,
}

/// What can be imported.
#[derive(Debug, Subcommand)]
pub enum ImportFrom {
    /// A .env file: an item for each variable
    #[command(after_help = "Examples:\n  seal import dotenv web .env -n shop -w web.yaml")]
    Dotenv(ImportDotenv),
    /// A file that sops encrypted, through your own `sops`
    #[command(
        after_help = "Examples:\n  seal import sops web secrets.enc.yaml -n shop -w web.yaml\n\n\
A file that holds a Secret manifest keeps its name: seal import sops FILE."
    )]
    Sops(ImportSops),
    /// A Secret as `kubectl get -o yaml` prints it, without what the server added
    #[command(
        after_help = "Examples:\n  seal import secret < from-cluster.yaml > db.sealed.yaml\n\n\
From a cluster: kubectl get secret db -n shop -o yaml | seal import secret -w db.yaml"
    )]
    Secret(ImportSecret),
    /// Many Secrets as `kubectl get -o yaml` prints them, but for those that others make anew
    #[command(
        after_help = "Examples:\n  seal import list --into sealed < from-cluster.yaml\n\n\
From a cluster: kubectl get secrets -A -o yaml | seal import list --into sealed"
    )]
    List(ImportList),
}

/// `seal import dotenv`.
#[derive(Debug, Args)]
pub struct ImportDotenv {
    /// Name of the Secret
    pub name: String,
    /// The file; stdin if not given
    pub file: Option<PathBuf>,
    /// Where it goes.
    #[command(flatten)]
    pub destination: Destination,
    /// How to seal.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// `seal import sops`.
#[derive(Debug, Args)]
pub struct ImportSops {
    /// Name of the Secret, where the file does not hold a Secret manifest; and the file
    #[arg(value_name = "[NAME] FILE", num_args = 1..=2, required = true)]
    pub words: Vec<String>,
    /// Where it goes.
    #[command(flatten)]
    pub destination: Destination,
    /// How to seal.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// `seal import secret`.
#[derive(Debug, Args)]
pub struct ImportSecret {
    /// The file; stdin if not given
    pub file: Option<PathBuf>,
    /// Where it goes.
    #[command(flatten)]
    pub destination: Destination,
    /// How to seal.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// `seal import list`.
#[derive(Debug, Args)]
pub struct ImportList {
    /// The file; stdin if not given
    pub file: Option<PathBuf>,
    /// Folder for a file each, NAMESPACE/NAME.yaml
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["write", "for_path"])]
    pub into: Option<PathBuf>,
    /// Take those that another object owns, too
    #[arg(long)]
    pub owned: bool,
    /// Where they go.
    #[command(flatten)]
    pub destination: Destination,
    /// How to seal.
    #[command(flatten)]
    pub sealing: Sealing,
}
