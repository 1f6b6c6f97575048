//! `seal get FILE KEY`: prints the value of one item.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kubeseal_library::environment::Environment;
use kubeseal_library::{files, git};
use shared::plain::Plain;

use super::destination::{STDOUT, is_special_file};
use super::revealer::Revealer;
use super::session::Session;
use super::target::{Target, qualified_name};
use super::{Outcome, print};
use crate::failure::Failure;
use crate::report::{self, ShowPath as _, shown};
use crate::seal_args::{Cluster, Sealing};

/// Arguments of `seal get`.
#[derive(Debug, Args)]
#[command(after_help = "\
The value is written byte for byte, without a line break at its end. Templates are not rendered.

Examples:
  seal get db.sealed.yaml password --key key.pem | wc -c
  seal get db.sealed.yaml password --key key.pem -w db-password.txt")]
pub struct Get {
    /// File with the SealedSecret
    pub file: PathBuf,
    /// Key of the item
    pub item: String,
    /// Decrypt with these private keys (PEM, key Secrets, or v2 keys, one per line); repeatable. Without them, the value is
    /// read from the Secret in the cluster if you have permission
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
    /// File to write, which other users cannot read; stdout if not given, or for -
    #[arg(long, short, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long, requires = "write")]
    pub replace: bool,
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
/// Fails if the value would be printed to a terminal without `--force`, if the file to write exists and `--replace` is
/// not given, if the file with the SealedSecret has no such item, or if the value cannot be decrypted or written.
pub fn run(args: &Get, environment: &Environment) -> Result<Outcome> {
    let is_stdout = |path: &&Path| [Path::new("-"), Path::new(STDOUT)].contains(path);
    let output = args.write.as_deref().filter(|path| !is_stdout(path));
    match output {
        Some(path) => check_file(path, args)?,
        None => check_stdout(args, environment)?,
    }
    let value = value(args, environment)?;
    let Some(output) = output else {
        return print(value.expose());
    };
    files::replace_private(output, value.expose())?;
    if let Some(tree) = git::committing_tree(output) {
        report::info(&format!(
            "warning: {} has the value in plaintext inside the Git work tree {}: add it to .gitignore, or remove it",
            output.shown(),
            tree.shown()
        ));
    }
    Ok(Outcome::Done)
}

/// Checks that the value may be printed.
fn check_stdout(args: &Get, environment: &Environment) -> Result<()> {
    if environment.stdout_is_terminal && !args.force {
        bail!(
            Failure::new("stdout is a terminal, which would show the value")
                .hint("pass the value to a program with a pipe, write it with -w FILE, or print it with --force")
        );
    }
    Ok(())
}

/// Checks that the file may be written, before the value is decrypted.
fn check_file(path: &Path, args: &Get) -> Result<()> {
    let inputs = std::iter::once(&args.file).chain(&args.key);
    files::refuse_input_as_output(path, inputs.map(PathBuf::as_path))?;
    let exists = path.exists() || path.is_symlink();
    if exists && !args.replace && !is_special_file(path) {
        let message = format!("{} already exists", path.shown());
        bail!(Failure::new(message).hint("choose another name, or pass --replace"));
    }
    Ok(())
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
