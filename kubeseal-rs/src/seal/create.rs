//! `seal create`: creates a SealedSecret from values, without a Secret file.

mod typed;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kubeseal_library::dotenv;
use kubeseal_library::environment::Environment;
use shared::names;
use shared::plain::Plain;
use shared::rotate_by::RotateBy;
use shared::secret::Secret;

use super::requirements::check_secret;
use super::sealing::{Empty, Parts};
use super::session::Session;
use super::values::{self, Stdin};
use super::{Outcome, annotations, sealing};
use crate::failure::Failure;
use crate::report;
use crate::seal_args::{Destination, Sealing, SecretProperties};
use typed::TypedItems;

/// Arguments of `seal create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Other processes on this machine can read a value in the argument list, and the shell keeps it in its
history: prefer --stdin, --prompt or --from-file over --from-literal.

Examples:
  seal create db --from-file password=password.txt -n shop -w db.yaml
  printf 'correct horse' | seal create db --stdin password -n shop
  seal create web --from-env-file .env -n shop --label team=web -o json
  seal create ingress --tls tls.crt tls.key -n shop -w ingress.yaml
  seal create git --basic-auth ci --password-file password.txt -n shop
  seal create db --from-file password=password.txt -n shop --deliver files")]
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
    /// Add an item from a file (`-` for stdin), or one item for each file in a directory
    #[arg(long, value_name = "[KEY=]FILE")]
    pub from_file: Vec<OsString>,
    /// Add an item for each KEY=VALUE line, without quoting rules (for those, use `seal import dotenv`)
    #[arg(long, value_name = "FILE")]
    pub from_env_file: Vec<PathBuf>,
    /// Add an item from the argument list, where other processes can read it
    #[arg(long, value_name = "KEY=VALUE")]
    pub from_literal: Vec<String>,
    /// When to change these values: after a number of days such as 90d, on a date such as 2027-03-01, or never;
    /// recorded in an annotation, see `seal due`
    #[arg(long, value_name = "DAYS|DATE")]
    pub rotate_by: Option<RotateBy>,
    /// Remove one line break at the end of the values of --stdin and --from-file, and a UTF-8 byte order mark at their
    /// start
    #[arg(long)]
    pub trim: bool,
    /// Properties of the Secret besides its values.
    #[command(flatten)]
    pub properties: SecretProperties,
    /// Where to write the result.
    #[command(flatten)]
    pub destination: Destination,
    /// The items that a built-in type requires.
    #[command(flatten)]
    pub typed: TypedItems,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// Creates a SealedSecret from values, without a Secret file.
///
/// # Errors
///
/// Fails if a value cannot be read, an argument is invalid, there are no values, or the Secret cannot be sealed or
/// written.
pub fn run(args: &Create, environment: &Environment) -> Result<Outcome> {
    names::check_object(&args.name)?;
    args.destination.check()?;
    args.typed.check()?;
    check_trim(args)?;
    let session = Session::new(&args.sealing, environment).with_rotate_by(args.rotate_by);
    let settings = session.settings(&args.destination.path(&args.name))?;
    let parts = Parts {
        templates: None,
        delivery: args.properties.delivery(),
    };
    // Check before the user is prompted for a value.
    parts.delivery.check_format(settings.format.value)?;
    let mut items = Items::default();
    read_values(args, environment, &mut items)?;
    if items.0.is_empty() {
        bail!(
            Failure::new("a Secret needs values")
                .hint("pass --stdin KEY, --prompt KEY, --from-file or --from-env-file")
        );
    }
    let mut secret = secret(&args.name, &args.properties, items)?;
    if let Some(type_) = args.typed.type_() {
        secret.type_ = Some(type_.to_owned());
    }
    check_secret(&secret)?;
    let sealed = sealing::seal_with_parts(&session, &settings, secret, parts, Empty::Refused)?;
    args.destination.write_new(&[sealed])
}

/// Refuses `--trim` without a value that it could change.
fn check_trim(args: &Create) -> Result<()> {
    if args.trim && args.stdin.is_none() && args.from_file.is_empty() {
        bail!(
            Failure::new("--trim has no effect without --stdin or --from-file").hint("omit --trim")
        );
    }
    Ok(())
}

fn read_values(args: &Create, environment: &Environment, items: &mut Items) -> Result<()> {
    let mut stdin = Stdin::new(environment).trimming(args.trim);
    for arg in &args.from_literal {
        let (key, value) = values::parse_pair(arg, "from-literal")?;
        items.add(&key, Plain::from(value))?;
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
        let variables = dotenv::parse_kubectl(text.expose());
        for variable in variables.context(values::source(path))? {
            values::warn_about_byte_order_mark("", &variable.name, &variable.value);
            items.add(&variable.name, variable.value)?;
        }
    }
    if let Some(key) = &args.stdin {
        let value = stdin.read_value(key, args.allow_empty)?;
        if !value.expose().is_empty() {
            values::warn_about(key, &value);
        }
        if !args.trim {
            values::warn_about_line_break(&value);
        }
        items.add(key, value)?;
    }
    args.typed.add_to(items, &mut stdin, environment.now)?;
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
    /// Fails if the key is invalid, or already has a value.
    pub fn add(&mut self, key: &str, value: Plain) -> Result<()> {
        names::check_item(key)?;
        match self.0.insert(key.to_owned(), value) {
            None => Ok(()),
            Some(_) => bail!("duplicate item {key:?}"),
        }
    }
}

/// Returns a Secret without a namespace. Sealing adds the namespace.
///
/// # Errors
///
/// Fails if a label or annotation does not have the form `KEY=VALUE`, is repeated, has an invalid key, is a label with
/// an invalid value, or has the name of an annotation that has an effect only on a SealedSecret.
pub fn secret(name: &str, properties: &SecretProperties, items: Items) -> Result<Secret> {
    let mut secret = Secret {
        type_: properties.type_.clone(),
        immutable: properties.immutable.then_some(true),
        data: items.0,
        ..Secret::default()
    };
    secret.metadata.name = Some(name.to_owned());
    let labels = pairs(&properties.label, "label")?;
    let invalid = labels
        .iter()
        .flat_map(BTreeMap::values)
        .find(|value| !names::is_label_value(value));
    if let Some(value) = invalid {
        bail!(
            "--label: invalid value {value:?}: use at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both \
             ends, or an empty value"
        );
    }
    annotations::check("label", labels.iter().flat_map(BTreeMap::keys))?;
    secret.metadata.labels = labels;
    let annotations = pairs(&properties.annotation, "annotation")?;
    annotations::check("annotation", annotations.iter().flat_map(BTreeMap::keys))?;
    secret.metadata.annotations = annotations;
    Ok(secret)
}

/// Parses labels or annotations; `None` if there are none.
fn pairs(args: &[String], flag: &'static str) -> Result<Option<BTreeMap<String, String>>> {
    let mut pairs = BTreeMap::new();
    for arg in args {
        let (key, value) = values::parse_pair(arg, flag)?;
        // The domain of an annotation may have uppercase letters.
        let checked = if flag == "label" {
            key.clone()
        } else {
            key.to_ascii_lowercase()
        };
        if !names::is_metadata_key(&checked) {
            bail!(
                "--{flag}: invalid key {key:?}: use at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both \
                 ends, after an optional domain and `/`"
            );
        }
        if pairs.insert(key.clone(), value).is_some() {
            bail!("--{flag}: {key:?} is specified twice");
        }
    }
    Ok((!pairs.is_empty()).then_some(pairs))
}
