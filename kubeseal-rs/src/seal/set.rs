//! `seal set FILE KEY`: sets the value of one item.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use kubeseal_library::environment::Environment;
use kubeseal_library::recipe::{Random, Recipe};
use shared::plain::Plain;
use shared::sealed_file::Changes;

use super::session::Session;
use super::target::{Target, hint_rule};
use super::values::{Stdin, warn_about};
use super::{Outcome, names};
use crate::report;
use crate::report::ShowPath as _;
use crate::seal_args::Set;

/// The recipe also generates a public part, which `set` cannot store.
#[derive(Debug, thiserror::Error)]
#[error(
    "this recipe also generates a public part, which cannot be stored as an item\n\
     hint: `seal generate` creates a SealedSecret with both parts"
)]
pub struct HasPublic;

/// The argument list contains a value; the message does not repeat it.
#[derive(Debug, thiserror::Error)]
#[error(
    "the item key contains `=`: a value must not be in the argument list\n\
     hint: pass the value on stdin: printf '%s' VALUE | seal set FILE KEY"
)]
pub struct HasValue;

/// Runs the command.
///
/// # Errors
///
/// The file or the value cannot be read, the value cannot be sealed, or the file cannot be edited safely.
pub fn run(args: &Set, environment: &Environment) -> Result<Outcome> {
    if args.key.contains('=') {
        return Err(HasValue.into());
    }
    names::check_item(&args.key)?;
    let mut target = Target::read(&args.file, args.name.as_deref())?;
    let session = Session::new(&args.sealing, environment);
    let values = values(args, environment)?;
    target.check_change(&values, &[])?;
    let (texts, certificate) = target.seal(&session, &values)?;
    target.write(&Changes {
        texts,
        removed: Vec::new(),
        data: None,
        hints: hint_rule(&session, &certificate),
    })?;
    let items = &target.found.sealed.spec.encrypted_data;
    for key in values.keys() {
        let existed = items.contains_key(key);
        report::info(&format!(
            "{}: {}: {key} {} ({}, for {})",
            args.file.shown(),
            target.found.sealed.place(),
            if existed { "changed" } else { "added" },
            target.scope(),
            certificate.fingerprint()
        ));
    }
    Ok(Outcome::Done)
}

fn values(args: &Set, environment: &Environment) -> Result<BTreeMap<String, Plain>> {
    if let Some(recipe) = &args.generate {
        let recipe: Recipe = recipe.parse().context("--generate")?;
        let mut random = Random {
            rng: &mut shared::random::system(),
            now: environment.now,
        };
        let made = recipe.generate(&args.key, None, &mut random)?;
        return if made.public.is_empty() {
            Ok(made.sealed.into_iter().collect())
        } else {
            Err(HasPublic.into())
        };
    }
    let mut stdin = Stdin::new(environment);
    let value = match &args.from_file {
        Some(path) => stdin.read_file(path)?,
        None => stdin.read_value(&args.key, args.allow_empty)?,
    };
    if args.from_file.is_some() || !value.expose().is_empty() {
        warn_about(&args.key, &value);
    }
    if args.from_file.is_none() && value.expose().ends_with(b"\n") {
        report::warn(
            "the value ends with a line break, which is sealed as part of it; `printf %s` writes none",
        );
    }
    Ok(BTreeMap::from([(args.key.clone(), value)]))
}
