//! `seal import`: seals existing secrets from other sources.

mod key_services;
mod manifest_secrets;
mod sops;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use kubeseal_library::dotenv::{self, Variable};
use kubeseal_library::environment::Environment;
use kubeseal_library::files;
use kubeseal_library::format::write;
use kubeseal_library::walk::ManifestFile;
use shared::key_ring::KeyRing;
use shared::key_secret::has_private_key;
use shared::manifest::Document;
use shared::plain::Plain;
use shared::secret::Secret;
use zeroize::Zeroizing;

use self::manifest_secrets::{ManifestContents, refuse_duplicates, secrets_in};
use super::create::{self, Items};
use super::sealing::{self, Empty, Sealed, encrypted_by_sops_failure};
use super::session::Session;
use super::values::{self, Stdin};
use super::{Outcome, controller_keys, destination, names};
use crate::failure::Failure;
use crate::report;
use crate::report::ShowPath as _;
use crate::seal_args::{Destination, Sealing, SecretProperties};

/// Arguments of `seal import`.
#[derive(Debug, Args)]
pub struct Import {
    /// The subcommand.
    #[command(subcommand)]
    pub from: ImportFrom,
}

/// Subcommands of `seal import`.
#[derive(Debug, Subcommand)]
pub enum ImportFrom {
    /// Import a .env file: one item for each variable
    #[command(after_help = "Examples:\n  seal import dotenv web .env -n shop -w web.yaml")]
    Dotenv(ImportDotenv),
    /// Import a file that sops encrypted; runs your `sops`
    #[command(
        after_help = "Examples:\n  seal import sops web secrets.enc.yaml -n shop --cert cert.pem -w web.yaml\n\n\
If the file is a Secret manifest, the Secret keeps its name: seal import sops FILE."
    )]
    Sops(ImportSops),
    /// Import a Secret as `kubectl get -o yaml` prints it, without fields that the server added
    #[command(
        after_help = "Examples:\n  seal import secret --cert cert.pem < from-cluster.yaml > db.sealed.yaml\n\n\
From a cluster: kubectl get secret db -n shop -o yaml | seal import secret -w db.yaml"
    )]
    Secret(ImportSecret),
    /// Import Secrets as `kubectl get -o yaml` prints them, except those that controllers recreate
    #[command(
        after_help = "Examples:\n  seal import list --cert cert.pem --into sealed < from-cluster.yaml\n\n\
From a cluster: kubectl get secrets -A -o yaml | seal import list --into sealed"
    )]
    List(ImportList),
}

/// Arguments of `seal import dotenv`.
#[derive(Debug, Args)]
pub struct ImportDotenv {
    /// Name of the Secret
    pub name: String,
    /// File to import; stdin if not given
    pub file: Option<PathBuf>,
    /// Where to write the result.
    #[command(flatten)]
    pub destination: Destination,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// Arguments of `seal import sops`.
#[derive(Debug, Args)]
pub struct ImportSops {
    /// Name of the Secret (only if the file is not a Secret manifest), and the file
    #[arg(value_name = "[NAME] FILE", num_args = 1..=2, required = true)]
    pub args: Vec<OsString>,
    /// URL of a Vault or Azure Key Vault that the file may use, in addition to `VAULT_ADDR`; repeatable
    #[arg(long, value_name = "URL")]
    pub key_service: Vec<String>,
    /// Where to write the result.
    #[command(flatten)]
    pub destination: Destination,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// Arguments of `seal import secret`.
#[derive(Debug, Args)]
pub struct ImportSecret {
    /// File to import; stdin if not given
    pub file: Option<PathBuf>,
    /// Where to write the result.
    #[command(flatten)]
    pub destination: Destination,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// Arguments of `seal import list`.
#[derive(Debug, Args)]
pub struct ImportList {
    /// File to import; stdin if not given
    pub file: Option<PathBuf>,
    /// Directory in which to write NAMESPACE/NAME.yaml for each Secret
    #[arg(long, value_name = "DIR", conflicts_with_all = ["write", "for_path"])]
    pub into: Option<PathBuf>,
    /// Include Secrets that another object owns
    #[arg(long)]
    pub owned: bool,
    /// Where to write the result.
    #[command(flatten)]
    pub destination: Destination,
    /// Options for sealing.
    #[command(flatten)]
    pub sealing: Sealing,
}

/// Seals existing secrets from a dotenv file, from sops, or from Secrets.
///
/// # Errors
///
/// Fails if the source cannot be read or sealed, or the result cannot be written.
pub fn run(args: &Import, environment: &Environment) -> Result<Outcome> {
    match &args.from {
        ImportFrom::Dotenv(args) => from_dotenv(args, environment),
        ImportFrom::Sops(args) => sops::run(args, environment),
        ImportFrom::Secret(args) => from_secret(args, environment),
        ImportFrom::List(args) => from_list(args, environment),
    }
}

/// Returns the content of a file or of stdin, and its name for messages.
fn read(file: Option<&Path>, environment: &Environment) -> Result<(Plain, String)> {
    match file {
        Some(path) => Ok((Stdin::new(environment).read_file(path)?, path.shown())),
        None => Ok((Stdin::new(environment).read("stdin")?, "stdin".to_owned())),
    }
}

fn from_dotenv(args: &ImportDotenv, environment: &Environment) -> Result<Outcome> {
    names::check_object(&args.name)?;
    args.destination.check()?;
    let session = Session::new(&args.sealing, environment);
    let settings = session.settings(&args.destination.path(&args.name))?;
    let (text, shown) = read(args.file.as_deref(), environment)?;
    let mut items = Items::default();
    for variable in dotenv::parse(text.expose()).with_context(|| shown.clone())? {
        if variable.name == "sops_mac" {
            bail!(encrypted_by_sops_failure(&shown));
        }
        if variable.has_dollar {
            report::warn(&format!(
                "{shown}:{}: {} contains a `$`, which is sealed unchanged and not expanded",
                variable.line, variable.name
            ));
        }
        warn_of_empty(&variable, &shown);
        let line = format!("{shown}:{}: ", variable.line);
        values::warn_about_byte_order_mark(&line, &variable.name, &variable.value);
        items
            .add(&variable.name, variable.value)
            .with_context(|| shown.clone())?;
    }
    let secret = create::secret(&args.name, &SecretProperties::default(), items)?;
    let sealed = sealing::seal_secret(&session, &settings, secret, Empty::Refused)?;
    args.destination.write_new(&[sealed])
}

/// Warns about an empty value, as `seal create` does. Libraries disagree on `NAME=#text`.
fn warn_of_empty(variable: &Variable, file: &str) {
    if variable.value.expose().is_empty() {
        let why = if variable.has_comment_as_value {
            ", since the text after `#` is a comment; quote the value if the text belongs to it"
        } else {
            ""
        };
        report::warn(&format!(
            "{file}:{}: the value of {} is empty{why}",
            variable.line, variable.name
        ));
    }
}

fn from_secret(args: &ImportSecret, environment: &Environment) -> Result<Outcome> {
    args.destination.check()?;
    let (manifest, shown) = read_manifest(args.file.as_deref(), environment)?;
    let ManifestContents { secrets, skipped } = secrets_in(&manifest, &shown)?;
    report_each(&skipped);
    let node = match secrets.as_slice() {
        [] => bail!("{shown} contains no Secret (apiVersion v1, kind Secret)"),
        [node] => node,
        several => {
            let message = format!("{shown} contains {} Secrets, expected one", several.len());
            bail!(Failure::new(message).hint("import several Secrets with `seal import list`"));
        }
    };
    let secret = without_generate_name(sealing::read_secret(node, &shown)?);
    let no_keys = KeyRing::default();
    let session = Session::for_existing_values(&args.sealing, environment, &no_keys);
    let name = secret.metadata.name.clone().unwrap_or_default();
    let settings = session.settings(&args.destination.path(&name))?;
    let sealed = sealing::seal_secret(&session, &settings, secret, Empty::Refused)?;
    args.destination.write_new(&[sealed])
}

fn report_each(messages: &[String]) {
    for message in messages {
        report::info(message);
    }
}

fn read_manifest(file: Option<&Path>, environment: &Environment) -> Result<(ManifestFile, String)> {
    let (bytes, shown) = read(file, environment)?;
    let bytes = Zeroizing::new(bytes.expose().to_vec());
    let manifest = ManifestFile::parse(Path::new(&shown), bytes)?;
    // Check this first: `sops` may have encrypted the kinds too.
    let has_sops = |document: &Document| document.root.field("sops").is_some();
    if manifest.documents.iter().any(has_sops) {
        bail!(encrypted_by_sops_failure(&shown));
    }
    sealing::refuse_repeated_keys(&manifest.bytes, &shown)?;
    Ok((manifest, shown))
}

/// Removes `generateName`, which has no meaning after creation. Sealing removes other server-set fields.
fn without_generate_name(mut secret: Secret) -> Secret {
    secret.metadata.generate_name = None;
    secret
}

fn from_list(args: &ImportList, environment: &Environment) -> Result<Outcome> {
    args.destination.check()?;
    let (manifest, shown) = read_manifest(args.file.as_deref(), environment)?;
    let no_keys = KeyRing::default();
    let session = Session::for_existing_values(&args.sealing, environment, &no_keys);
    let (mut sealed, mut paths) = (Vec::new(), Vec::new());
    let ManifestContents { secrets, skipped } = secrets_in(&manifest, &shown)?;
    report_each(&skipped);
    let read = |node| Ok(without_generate_name(sealing::read_secret(node, &shown)?));
    let secrets: Vec<Secret> = secrets.into_iter().map(read).collect::<Result<_>>()?;
    refuse_duplicates(&secrets, &shown)?;
    for secret in secrets {
        let metadata = &secret.metadata;
        let name = metadata.name.clone().unwrap_or_default();
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let skip = |why: &str| {
            let name = shared::resource::qualified_name(&namespace, &name);
            report::info(&format!("skipped {name}: {why}"));
        };
        if let Some(why) = skip_reason(&secret, args.owned) {
            skip(&why);
            continue;
        }
        let path = match &args.into {
            Some(directory) => path_in(directory, &namespace, &name)?,
            None => args.destination.path(&name),
        };
        let settings = session.settings(&path)?;
        if controller_keys::has_private_key(&session, &settings, &secret)? {
            skip(PRIVATE_KEY);
            continue;
        }
        sealed.push(sealing::seal_secret(
            &session,
            &settings,
            secret,
            Empty::Refused,
        )?);
        paths.push(path);
    }
    if sealed.is_empty() {
        bail!("no Secret left to import (see above)");
    }
    match args.into {
        Some(_) => write_each(&sealed, &paths, args),
        None => args.destination.write_new(&sealed),
    }
}

/// Why a key is skipped.
const PRIVATE_KEY: &str = "it is a private key of the sealed-secrets controller";

/// Returns why a Secret is skipped regardless of its settings; `None` if nothing in the Secret itself is a reason.
fn skip_reason(secret: &Secret, include_owned: bool) -> Option<String> {
    if has_private_key(secret) {
        return Some(PRIVATE_KEY.into());
    }
    match secret.type_.as_deref() {
        Some("kubernetes.io/service-account-token") => {
            return Some("it is a service account token".into());
        }
        Some("bootstrap.kubernetes.io/token") => return Some("it is a bootstrap token".into()),
        Some("helm.sh/release.v1") => return Some("it is a Helm release".into()),
        _ => {}
    }
    let owners = secret.metadata.owner_references.as_ref();
    let owner = owners
        .and_then(|owners| owners.first())
        .filter(|_| !include_owned);
    if let Some(owner) = owner {
        return Some(format!(
            "{} {} owns it (pass --owned to import it)",
            owner.kind, owner.name
        ));
    }
    secret.data.is_empty().then(|| "it has no values".into())
}

/// Returns the path of the file for a Secret. Names come from untrusted input, and an invalid name could lead out of
/// the directory.
fn path_in(directory: &Path, namespace: &str, name: &str) -> Result<PathBuf> {
    names::check_object(name)?;
    let directory = if namespace.is_empty() {
        directory.to_owned()
    } else {
        names::check_namespace(namespace)?;
        directory.join(namespace)
    };
    Ok(directory.join(format!("{name}.yaml")))
}

fn write_each(sealed: &[Sealed], paths: &[PathBuf], args: &ImportList) -> Result<Outcome> {
    if let Some(path) = paths.iter().find(|path| path.exists()) {
        bail!(destination::already_exists_failure(path));
    }
    for (count, (secret, path)) in sealed.iter().zip(paths).enumerate() {
        if let Err(error) = write_new(secret, path, args) {
            paths[..count].iter().for_each(|path| remove(path));
            return Err(error);
        }
    }
    for (secret, path) in sealed.iter().zip(paths) {
        report::info(&format!("{}: {}", path.shown(), secret.describe()));
    }
    Ok(Outcome::Done)
}

fn write_new(secret: &Sealed, path: &Path, args: &ImportList) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    files::check_inside_tree(path)?;
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot create the directory {}", directory.shown()))?;
    let text = write(&[secret.object.to_document()], args.destination.format());
    files::create(path, &text)?;
    Ok(())
}

/// Removes a file that this run created before it failed, so that the same command can be run again.
fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        report::info(&format!(
            "{} was written and cannot be removed: {error}",
            path.shown()
        ));
    }
    // Removes the directory only if it is empty.
    let _ = path.parent().map(std::fs::remove_dir);
}
