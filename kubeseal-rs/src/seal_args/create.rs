use std::path::PathBuf;

use clap::Args;

use super::{Destination, Sealing};

/// `seal create`.
#[derive(Debug, Args)]
#[command(after_help = "\
A value in the argument list can be read by every process of this machine and lands in the shell's
history: prefer --stdin, --prompt or --from-file over --from-literal.

Examples:
  seal create db --from-file password=password.txt -n shop -w db.yaml
  printf 'correct horse' | seal create db --stdin password -n shop
  seal create web --from-env-file .env -n shop --label team=web -o json")]
pub struct Create {
    /// Name of the Secret
    pub name: String,
    /// Item from stdin, as it is
    #[arg(long, value_name = "KEY")]
    pub stdin: Option<String>,
    /// Take an empty value from stdin
    #[arg(long)]
    pub allow_empty: bool,
    /// Item from a prompt that shows nothing
    #[arg(long, value_name = "KEY")]
    pub prompt: Vec<String>,
    /// Item from a file (`-` for stdin), or one for each file of a folder
    #[arg(long, value_name = "[KEY=]FILE")]
    pub from_file: Vec<String>,
    /// Items from lines KEY=VALUE, taken as they are (`seal import dotenv` knows quotes)
    #[arg(long, value_name = "FILE")]
    pub from_env_file: Vec<PathBuf>,
    /// Item in the argument list, where others can read it
    #[arg(long, value_name = "KEY=VALUE")]
    pub from_literal: Vec<String>,
    /// What the Secret is like.
    #[command(flatten)]
    pub like: Like,
    /// Where it goes.
    #[command(flatten)]
    pub destination: Destination,
    /// How to seal.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// What a new Secret is like, beside its values.
#[derive(Debug, Clone, Default, Args)]
pub struct Like {
    /// Type of the Secret; Opaque if not given
    #[arg(long = "type", value_name = "TYPE")]
    pub type_: Option<String>,
    /// Label of the Secret
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Annotation of the Secret
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// Its values may never change
    #[arg(long)]
    pub immutable: bool,
}
