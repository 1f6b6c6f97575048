//! `seal create`: creates a SealedSecret from values, without a Secret file.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use kubeseal_library::dotenv;
use kubeseal_library::environment::Environment;
use shared::names;
use shared::plain::Plain;
use shared::secret::Secret;

use super::Outcome;
use super::requirements::check_secret;
use super::sealing;
use super::session::Session;
use super::values::{self, Stdin, ValueError};
use crate::report;
use crate::report::ShowPath as _;
use crate::seal_args::{Create, Like};

/// The arguments do not describe a valid Secret.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The arguments contain no value.
    #[error(
        "a Secret needs values\nhint: pass --stdin KEY, --prompt KEY, --from-file or --from-env-file"
    )]
    NoValues,
    /// An item has two values.
    #[error("duplicate item {0:?}")]
    Twice(String),
}

/// Runs the command.
///
/// # Errors
///
/// A value cannot be read, a name is invalid, or the Secret cannot be sealed.
pub fn run(args: &Create, environment: &Environment) -> Result<Outcome> {
    names::check_object(&args.name)?;
    args.destination.check()?;
    let session = Session::new(&args.sealing, environment);
    let settings = session.settings(&args.destination.path(&args.name))?;
    let mut items = Items::default();
    read_values(args, environment, &mut items)?;
    if items.0.is_empty() {
        return Err(CreateError::NoValues.into());
    }
    let secret = secret(&args.name, &args.like, items)?;
    check_secret(&secret)?;
    let sealed = sealing::seal_secret(&session, &settings, secret, sealing::Empty::Refused)?;
    args.destination.put(&[sealed])
}

fn read_values(args: &Create, environment: &Environment, items: &mut Items) -> Result<()> {
    let mut stdin = Stdin::new(environment);
    for arg in &args.from_literal {
        let (key, value) = arg
            .split_once('=')
            .ok_or(ValueError::Form("from-literal", "KEY=VALUE"))?;
        items.add(key, Plain::from(value.to_owned()))?;
    }
    if !args.from_literal.is_empty() {
        report::warn(
            "--from-literal puts values into the argument list, which other processes can read and shells keep in \
             their history; use --stdin KEY or --prompt KEY instead",
        );
    }
    for arg in &args.from_file {
        for (key, value) in stdin.from_file(arg)? {
            values::warn_about(&key, &value);
            items.add(&key, value)?;
        }
    }
    for path in &args.from_env_file {
        let text = stdin.read_file(path)?;
        let variables = dotenv::parse_plain(text.expose());
        let shown = if path.as_os_str() == "-" {
            "stdin".into()
        } else {
            path.shown()
        };
        for variable in variables.context(shown)? {
            values::warn_about_byte_order_mark("", &variable.name, &variable.value);
            items.add(&variable.name, variable.value)?;
        }
    }
    if let Some(key) = &args.stdin {
        let value = stdin.read_value(key, args.allow_empty)?;
        if !value.expose().is_empty() {
            values::warn_about(key, &value);
        }
        items.add(key, value)?;
    }
    for key in &args.prompt {
        items.add(key, values::prompt(key)?)?;
    }
    Ok(())
}

/// Values by item key, without duplicates.
#[derive(Debug, Default)]
pub struct Items(pub BTreeMap<String, Plain>);

impl Items {
    /// Adds a value.
    ///
    /// # Errors
    ///
    /// The key is invalid, or already has a value.
    pub fn add(&mut self, key: &str, value: Plain) -> Result<()> {
        names::check_item(key)?;
        match self.0.insert(key.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(CreateError::Twice(key.to_owned()).into()),
        }
    }
}

/// Returns a Secret without a namespace; the settings add it later.
///
/// # Errors
///
/// A label or annotation does not have the form `KEY=VALUE`.
pub fn secret(name: &str, like: &Like, items: Items) -> Result<Secret> {
    let pairs = |args: &[String], flag| -> Result<Option<BTreeMap<String, String>>, ValueError> {
        let pairs = args.iter().map(|arg| values::public_pair(arg, flag));
        let pairs: BTreeMap<_, _> = pairs.collect::<Result<_, _>>()?;
        Ok((!pairs.is_empty()).then_some(pairs))
    };
    let mut secret = Secret {
        type_: like.type_.clone(),
        immutable: like.immutable.then_some(true),
        data: items.0,
        ..Secret::default()
    };
    secret.metadata.name = Some(name.to_owned());
    secret.metadata.labels = pairs(&like.label, "label")?;
    secret.metadata.annotations = pairs(&like.annotation, "annotation")?;
    Ok(secret)
}
