use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Opening, Place};
use crate::seal::exec::Chosen;

/// Arguments of `seal exec`.
#[derive(Debug, Args)]
#[command(
    after_help = "The command replaces the process of `seal`, so signals and the exit code are its own. Nothing is written to disk.\n\n\
Anyone with the certificate can add items to a file, so you choose which of them become variables. A variable that \
is already set is replaced only if --override names it.\n\n\
Examples:\n  seal exec --only password db.sealed.yaml --backup key.pem -- sh -c 'echo ${#password}'\n  \
seal exec --only PW=password db.sealed.yaml --backup key.pem -- sh -c 'echo ${#PW}'\n  \
seal exec --files --only password db.sealed.yaml --backup key.pem -- printenv password_FILE"
)]
pub struct Exec {
    /// Files with SealedSecrets
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Pass only these items; VARIABLE=ITEM renames one
    #[arg(
        long,
        value_name = "[VARIABLE=]ITEM",
        value_delimiter = ',',
        conflicts_with = "all"
    )]
    pub only: Vec<Chosen>,
    /// Pass every item under its own name
    #[arg(long)]
    pub all: bool,
    /// Let an item replace this variable even if it is set or --all refuses it
    #[arg(long = "override", value_name = "VARIABLE", value_delimiter = ',')]
    pub overrides: Vec<String>,
    /// Pass values as files in memory (Linux): a variable `ITEM_FILE` contains the path
    #[arg(long)]
    pub files: bool,
    /// Decrypt with the keys of this backup: an age archive, manifests or PEM; the keys of --directory or the
    /// cluster if not given
    #[arg(long = "backup", value_name = "FILE")]
    pub backups: Vec<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// How to decrypt backups.
    #[command(flatten)]
    pub opening: Opening,
    /// The cluster or folder with the keys.
    #[command(flatten)]
    pub place: Place,
}

/// Arguments of `seal hook`.
#[derive(Debug, Args)]
pub struct Hook {
    /// The subcommand.
    #[command(subcommand)]
    pub verb: HookVerb,
}

/// Subcommands of `seal hook`.
#[derive(Debug, Subcommand)]
pub enum HookVerb {
    /// Install a pre-commit hook that runs `seal lint` on staged files
    Install(HookInstall),
}

/// Arguments of `seal hook install`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal hook install\n  seal hook install --print")]
pub struct HookInstall {
    /// Print the hook, to add it to a hook of your own
    #[arg(long)]
    pub print: bool,
}

/// Arguments of `seal completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal completions bash > seal.bash")]
pub struct Completions {
    /// The shell
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(crate::pages::SHELLS))]
    pub shell: String,
}

/// Arguments of `seal man`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  seal man > seal.1")]
pub struct Man {}
