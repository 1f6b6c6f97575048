//! `seal set FILE KEY`: sets the value of one item.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kubeseal_library::environment::Environment;
use kubeseal_library::recipe::{GenerationContext, Recipe};
use shared::plain::Plain;
use shared::rotate_by::RotateBy;

use super::session::Session;
use super::target::{OnConflict, Target};
use super::v2_items::Change;
use super::values::{Stdin, warn_about, warn_about_line_break};
use super::{Outcome, dates, names};
use crate::failure::Failure;
use crate::report;
use crate::report::ShowPath as _;
use crate::seal_args::Sealing;

/// Arguments of `seal set`.
#[derive(Debug, Args)]
#[command(after_help = "\
Name, namespace and scope are those of the SealedSecret in the file. Comments, order and layout are kept.

Examples:
  seal set db.sealed.yaml password < password.txt
  seal set db.sealed.yaml ssh.key --from-file id_ed25519
  seal set db.sealed.yaml session --generate --cert cert.pem
  seal set db.sealed.yaml password --rotate-by 90d < password.txt
  seal set db.sealed.yaml token --generate hex:16 --name shop/db")]
pub struct Set {
    /// File with the SealedSecret
    pub file: PathBuf,
    /// Key of the item; added if it does not exist
    pub key: String,
    /// Read the value from this file, byte for byte; from stdin or a hidden prompt if not given
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    pub from_file: Option<PathBuf>,
    /// Accept an empty value from stdin
    #[arg(long)]
    pub allow_empty: bool,
    /// Remove one line break at the end of the value, and a UTF-8 byte order mark at its start
    #[arg(long, conflicts_with = "generate")]
    pub trim: bool,
    /// Generate a random value with a recipe of `seal generate`; a password by default
    #[arg(long, value_name = "RECIPE", num_args = 0..=1, default_missing_value = "password")]
    pub generate: Option<String>,
    /// When to change this value: after a number of days such as 90d, on a date such as 2027-03-01, or never; recorded
    /// in an annotation, see `seal due`
    #[arg(long, value_name = "DAYS|DATE")]
    pub rotate_by: Option<RotateBy>,
    /// SealedSecret to change, if the file contains several: [NAMESPACE/]NAME
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// Sets the value of one item of a SealedSecret.
///
/// # Errors
///
/// Fails if the file or the value cannot be read, the value cannot be sealed, or the file cannot be edited safely.
pub fn run(args: &Set, environment: &Environment) -> Result<Outcome> {
    if args.key.contains('=') {
        // Do not quote the argument, which may be a value.
        bail!(
            Failure::new("the item key contains `=`: a value must not be in the argument list")
                .hint("pass the value on stdin: printf '%s' VALUE | seal set FILE KEY")
        );
    }
    names::check_item(&args.key)?;
    let mut target = Target::read(&args.file, args.name.as_deref())?;
    let session = Session::new(&args.sealing, environment).with_rotate_by(args.rotate_by);
    let values = values(args, environment)?;
    let change = Change {
        set: &values,
        removed: &[],
    };
    let new = target.change(&session, change, OnConflict::Overwrite)?;
    for key in values.keys() {
        let existed = target.has_item(key);
        let due = new.dates.get(key).copied().flatten();
        let due = due.map(|due| format!(", rotate by {}", due.date));
        report::info(&format!(
            "{}: {}: {key} {} ({}, for {}{})",
            args.file.shown(),
            target.found.sealed.qualified_name(),
            if existed { "changed" } else { "added" },
            target.scope(),
            new.keys,
            due.unwrap_or_default()
        ));
    }
    for notice in dates::removal_notices(&new.dates) {
        let object_name = target.found.sealed.qualified_name();
        report::info(&format!("{}: {object_name}: {notice}", args.file.shown()));
    }
    Ok(Outcome::Done)
}

fn values(args: &Set, environment: &Environment) -> Result<BTreeMap<String, Plain>> {
    if let Some(recipe) = &args.generate {
        let recipe: Recipe = recipe.parse().context("--generate")?;
        let mut context = GenerationContext {
            rng: &mut shared::random::system(),
            now: environment.now,
        };
        let generated = recipe.generate(&args.key, None, &mut context)?;
        if !generated.public.is_empty() {
            let message =
                "this recipe also generates a public part, which cannot be stored as an item";
            bail!(
                Failure::new(message)
                    .hint("create a SealedSecret with both parts with `seal generate`")
            );
        }
        return Ok(generated.secret.into_iter().collect());
    }
    let mut stdin = Stdin::new(environment).trimming(args.trim);
    let value = match &args.from_file {
        Some(path) => stdin.read_value_file(path)?,
        None => stdin.read_value(&args.key, args.allow_empty)?,
    };
    if args.from_file.is_some() || !value.expose().is_empty() {
        warn_about(&args.key, &value);
    }
    if args.from_file.is_none() && !args.trim {
        warn_about_line_break(&value);
    }
    Ok(BTreeMap::from([(args.key.clone(), value)]))
}
