//! `seal get FILE KEY`: prints the value of one item.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kubeseal_library::environment::Environment;
use kubeseal_library::files;
use shared::plain::Plain;

use super::revealer::Revealer;
use super::session::Session;
use super::target::{Target, qualified_name};
use super::{Outcome, print};
use crate::failure::Failure;
use crate::report::{ShowPath as _, shown};
use crate::seal_args::{Cluster, Sealing};

/// Arguments of `seal get`.
#[derive(Debug, Args)]
#[command(after_help = "\
The value is written byte for byte, without a line break at its end. Templates are not rendered.

Examples:
  seal get db.sealed.yaml password --key key.pem | wc -c
  seal get db.sealed.yaml password --key key.pem -o password.txt")]
pub struct Get {
    /// File with the SealedSecret
    pub file: PathBuf,
    /// Key of the item
    pub item: String,
    /// Decrypt with these private keys (PEM, key Secrets, or v2 keys, one per line); repeatable. Without them, the value is
    /// read from the Secret in the cluster if you have permission
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// Write the value to this file, which other users cannot read
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print the value even to a terminal
    #[arg(long)]
    pub force: bool,
    /// SealedSecret to read, if the file contains several: [NAMESPACE/]NAME
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The cluster with the Secret; by default, the cluster of `.seal.yaml` or the environment.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Prints or writes the value of an item.
///
/// # Errors
///
/// Fails if the value would be printed to a terminal without `--force`, if the file has no such item, or if the value
/// cannot be decrypted or written.
pub fn run(args: &Get, environment: &Environment) -> Result<Outcome> {
    if args.output.is_none() && environment.stdout_is_terminal && !args.force {
        bail!(
            Failure::new("stdout is a terminal, which would show the value")
                .hint("pass the value to a program with a pipe, write it with -o FILE, or print it with --force")
        );
    }
    let value = value(args, environment)?;
    let Some(output) = &args.output else {
        return print(value.expose());
    };
    let inputs = std::iter::once(&args.file).chain(&args.key);
    files::refuse_input_as_output(output, inputs.map(PathBuf::as_path))?;
    files::replace_private(output, value.expose())?;
    Ok(Outcome::Done)
}

fn value(args: &Get, environment: &Environment) -> Result<Plain> {
    let target = Target::read(&args.file, args.name.as_deref())?;
    let sealed = &target.found.sealed;
    if !target.has_item(&args.item) {
        let items: Vec<_> = target.items().map(|item| shown(item)).collect();
        let message = format!(
            "{} has no item {:?}",
            qualified_name(&target.found),
            args.item
        );
        bail!(Failure::new(message).hint(format!("its items are: {}", items.join(", "))));
    }
    let sealing = Sealing {
        cluster: args.cluster.clone(),
        ..Sealing::default()
    };
    let session = Session::new(&sealing, environment);
    let value = Revealer::new(&args.key, &session)?
        .value(sealed, &args.item, &args.file)
        .with_context(|| args.file.shown())?;
    let unknown = || {
        Failure::new(format!(
            "the Secret in the cluster has no value for the item {:?}",
            args.item
        ))
        .hint("pass --key FILE to decrypt the value in the file")
    };
    value.with_context(unknown)
}
