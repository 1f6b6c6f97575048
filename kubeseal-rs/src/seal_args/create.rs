use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{Destination, Sealing};

/// Arguments of `seal create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Every process on this machine can read a value in the argument list, and the shell keeps it in its
history: prefer --stdin, --prompt or --from-file over --from-literal.

Examples:
  seal create db --from-file password=password.txt -n shop -w db.yaml
  printf 'correct horse' | seal create db --stdin password -n shop
  seal create web --from-env-file .env -n shop --label team=web -o json")]
pub struct Create {
    /// Name of the Secret
    pub name: String,
    /// Read the value of this item from stdin, byte for byte
    #[arg(long, value_name = "KEY")]
    pub stdin: Option<String>,
    /// Accept an empty value from stdin
    #[arg(long)]
    pub allow_empty: bool,
    /// Prompt for the value of this item without showing it
    #[arg(long, value_name = "KEY")]
    pub prompt: Vec<String>,
    /// Add an item from a file (`-` for stdin), or one item for each file of a folder
    #[arg(long, value_name = "[KEY=]FILE")]
    pub from_file: Vec<OsString>,
    /// Add an item for each line KEY=VALUE, without quoting rules (for those, use `seal import dotenv`)
    #[arg(long, value_name = "FILE")]
    pub from_env_file: Vec<PathBuf>,
    /// Add an item from the argument list, where other processes can read it
    #[arg(long, value_name = "KEY=VALUE")]
    pub from_literal: Vec<String>,
    /// Properties of the Secret besides its values.
    #[command(flatten)]
    pub like: Like,
    /// Where to write the result.
    #[command(flatten)]
    pub destination: Destination,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// Properties of a new Secret besides its values.
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
    /// Make the Secret immutable
    #[arg(long)]
    pub immutable: bool,
}
