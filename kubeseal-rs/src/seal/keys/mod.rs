//! `seal keys`: manages keys from creation to retirement.
//!
//! | module | does |
//! |---|---|
//! | [`list`] | `list` and `status` |
//! | [`export`] | printing public keys for v2 values |
//! | [`backup`], [`restore`] | writing and reading the archive |
//! | [`rotate`] | requesting a new key |
//! | [`retire`], [`compromise`] | retiring a key, marking a key as compromised |
//! | `v2` | retiring and marking keys that are only for v2 |
//! | `served` | asking a controller which keys it seals with |

pub mod backup;
pub mod compromise;
pub mod export;
mod json;
pub mod list;
pub mod restore;
pub mod retire;
pub mod rotate;
mod served;
mod v2;

use backup::KeysBackup;
use compromise::KeysCompromise;
use export::KeysExport;
use list::{KeysList, KeysStatus};
use restore::KeysRestore;
use retire::KeysRetire;
use rotate::KeysRotate;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use kubeseal_library::bounded::Kind;
use kubeseal_library::cluster::{
    Access, Authorized, ClusterError, Clusters, Controller, Overrides, TokenAccess,
};
use kubeseal_library::environment::Environment;
use kubeseal_library::files;
use kubeseal_library::keys::named::{RuleSearch, RulesForKey};
use kubeseal_library::keys::survey::{self, Depth, Holder};
use kubeseal_library::keys::{self, Inventory, KeyRecord, KeyStore, Survey, V2KeyRecord, history};
use shared::error_chain;
use shared::key::Fingerprint;
use shared::key_ring::KeyRing;
use shared::unseal::UsedKey;
use shared::v2::KeyId;

use super::{Outcome, decryption};
use crate::failure::Failure;
use crate::report::{self, ShowPath as _, path_text, shown};
use crate::seal_args::{DecryptionArgs, KeyLocation, TlsPort};

/// Arguments of `seal keys`.
#[derive(Debug, Args)]
pub struct Keys {
    /// The subcommand.
    #[command(subcommand)]
    pub verb: KeysVerb,
}

/// Subcommands of `seal keys`.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// List keys with state, age, fingerprint or identifier, and last backup
    List(KeysList),
    /// List keys, and how many objects and files need each
    Status(KeysStatus),
    /// Print the public keys for v2 values, as lines for .seal.yaml
    Export(KeysExport),
    /// Write all keys to an encrypted archive, and mark them as backed up
    Backup(KeysBackup),
    /// Restore keys from a backup to a cluster or directory
    Restore(KeysRestore),
    /// Request a new key from the controller, and wait for its certificate
    Rotate(KeysRotate),
    /// Retire a key that is no longer needed
    Retire(KeysRetire),
    /// Mark a key as compromised, and list the values sealed for it
    Compromise(KeysCompromise),
}

/// Where to search for values that need a key.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where to search for values that need a key")]
pub struct Search {
    /// Search SealedSecrets in this namespace only; repeatable
    #[arg(long = "only-namespace", value_name = "NAME")]
    pub namespaces: Vec<String>,
    /// Also search every branch of the repositories that contain PATH
    #[arg(long)]
    pub all_branches: bool,
    /// Try the keys in this backup too: an age archive, manifests, PEM, or v2 keys, one per line; repeatable
    #[arg(long = "backup", value_name = "FILE")]
    pub backups: Vec<PathBuf>,
    /// The identities and passphrase that decrypt backups.
    #[command(flatten)]
    pub decryption: DecryptionArgs,
    /// How to reach the controller's TLS port.
    #[command(flatten)]
    pub tls_port: TlsPort,
}

/// Runs a subcommand of `seal keys`. Escapes its errors into one line, except errors about the cluster.
///
/// # Errors
///
/// Returns the first error.
pub fn run(args: &Keys, environment: &Environment) -> Result<Outcome> {
    // Many errors contain untrusted names and strings, so they are escaped into one line. Only errors
    // about the connection to the cluster have several lines, which this program formats itself.
    let one_line = |error: anyhow::Error| {
        let is_from_cluster = error.chain().any(<dyn Error>::is::<ClusterError>);
        let failure = Failure::from(error);
        anyhow::Error::from(if is_from_cluster {
            failure
        } else {
            Failure::new(failure.one_line())
        })
    };
    run_subcommand(args, environment).map_err(one_line)
}

fn run_subcommand(args: &Keys, environment: &Environment) -> Result<Outcome> {
    match &args.verb {
        KeysVerb::List(args) => list::list(args, environment),
        KeysVerb::Status(args) => list::status(args, environment),
        KeysVerb::Export(args) => export::run(args, environment),
        KeysVerb::Backup(args) => backup::run(args, environment),
        KeysVerb::Restore(args) => restore::run(args, environment),
        KeysVerb::Rotate(args) => rotate::run(args, environment),
        KeysVerb::Retire(args) => retire::run(args, environment),
        KeysVerb::Compromise(args) => compromise::run(args, environment),
    }
}

/// Returns how to reach the cluster and its controller: from flags, else from the variables of `kubeseal`, else by
/// default.
pub fn access(location: &KeyLocation, environment: &Environment) -> Access {
    let setting = |arg: &Option<String>, variable: &str| {
        arg.clone()
            .or_else(|| environment.nonempty_variable(variable))
    };
    let kubeconfig = environment.nonempty_variable("SEALED_SECRETS_KUBECONFIG");
    Access {
        kubeconfig: location
            .cluster
            .kubeconfig
            .clone()
            .or(kubeconfig.map(Into::into)),
        overrides: Overrides {
            context: setting(&location.cluster.context, "SEALED_SECRETS_CONTEXT"),
            ..Overrides::default()
        },
        name: setting(&location.controller.name, "SEALED_SECRETS_CONTROLLER_NAME")
            .unwrap_or_else(|| "sealed-secrets-controller".to_owned()),
        namespace: setting(
            &location.controller.namespace,
            "SEALED_SECRETS_CONTROLLER_NAMESPACE",
        )
        .unwrap_or_else(|| "kube-system".to_owned()),
        ..Access::default()
    }
}

/// Opens the store of the keys that the arguments select.
///
/// # Errors
///
/// Fails if the path does not name a directory, or the kubeconfig or its credentials cannot be used.
pub fn open_store(location: &KeyLocation, clusters: &Clusters<'_>) -> Result<KeyStore> {
    match &location.directory {
        Some(directory) => KeyStore::directory(directory),
        None => KeyStore::cluster(&access(location, clusters.environment), clusters),
    }
}

/// Returns the flags that select the same keys in the next command.
pub(super) fn location_flags(location: &KeyLocation) -> String {
    let path = |path: &Option<PathBuf>| Some(path_text(path.as_ref()?.as_os_str()).into_owned());
    let args = [
        ("directory", path(&location.directory)),
        ("kubeconfig", path(&location.cluster.kubeconfig)),
        ("context", location.cluster.context.clone()),
        ("controller-name", location.controller.name.clone()),
        (
            "controller-namespace",
            location.controller.namespace.clone(),
        ),
    ];
    let flags = args.into_iter().filter_map(|(name, value)| {
        let value = value?;
        Some(format!(" --{name} {}", quote(&value)))
    });
    flags.collect::<Vec<_>>().concat()
}

/// Returns the command that re-encrypts files. `seal rotate` has no `--directory`, so for a directory the command names
/// the key files and a certificate.
fn rotate_step(location: &KeyLocation, records: &[KeyRecord]) -> String {
    if location.directory.is_none() {
        return format!("seal rotate PATH{}", location_flags(location));
    }
    let keys = key_flags(rsa_files(records));
    format!("seal rotate PATH --cert cert.pem{keys}")
}

/// Returns the flags that name key files, each once.
fn key_flags<'a>(files: impl Iterator<Item = &'a PathBuf>) -> String {
    let files: BTreeSet<&PathBuf> = files.collect();
    let flags = files
        .into_iter()
        .map(|file| format!(" --key {}", quote(&file.shown())));
    flags.collect::<Vec<_>>().concat()
}

fn rsa_files(records: &[KeyRecord]) -> impl Iterator<Item = &PathBuf> {
    let usable = records.iter().filter(|record| record.key.is_ok());
    usable.filter_map(|record| record.file.as_ref())
}

/// The name of the file for the public key, in the printed next steps for a controller on a directory.
const RECIPIENT_FILE: &str = "recipient.txt";

/// Returns the command that prints the public key for v2 values. For a directory, the command writes the key to the
/// file that [`rotate_to_v2_step`] names.
fn export_step(location: &KeyLocation) -> String {
    let flags = location_flags(location);
    match location.directory {
        None => format!("seal keys export{flags}"),
        Some(_) => format!("seal keys export{flags} > {RECIPIENT_FILE}"),
    }
}

/// Returns the command that re-encrypts files as v2. For a directory, the command names the public key and the
/// private-key files of all keys, because the values of one object may be sealed for several keys.
fn rotate_to_v2_step(location: &KeyLocation, rsa: &[KeyRecord], v2: &[V2KeyRecord]) -> String {
    if location.directory.is_none() {
        return format!("seal rotate --to v2 PATH{}", location_flags(location));
    }
    let usable = v2.iter().filter(|record| record.key.is_ok());
    let files = usable.filter_map(|record| record.file.as_ref());
    let keys = key_flags(files.chain(rsa_files(rsa)));
    format!("seal rotate --to v2 PATH --recipient {RECIPIENT_FILE}{keys}")
}

/// Returns the command that re-encrypts the values sealed for a key, without the paths to pass to it.
pub(super) fn rotate_command(key: &UsedKey) -> &'static str {
    match key {
        UsedKey::Rsa(_) => "seal rotate",
        UsedKey::V2(_) => "seal rotate --to v2",
    }
}

/// Returns the command that fetches the certificate from the location of the keys; for a directory, from the URL if
/// there is one.
fn fetch_step(location: &KeyLocation, url: Option<&str>) -> String {
    match url {
        Some(url) if location.directory.is_some() => {
            format!("seal cert fetch {} -o cert.pem --replace", quote(url))
        }
        _ => format!(
            "seal cert fetch -o cert.pem --replace{}",
            location_flags(location)
        ),
    }
}

/// Formats a command and its purpose, in columns if the command is short.
fn step(command: &str, does: &str) -> String {
    format!("  {command:<27}  {does}")
}

/// Quotes an argument for a shell, if needed.
fn quote(arg: &str) -> Cow<'_, str> {
    let is_safe = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !arg.is_empty() && arg.chars().all(is_safe) {
        Cow::Borrowed(arg)
    } else {
        Cow::Owned(format!("'{}'", arg.replace('\'', r"'\''")))
    }
}

/// Refuses to act on keys while a key Secret cannot be read: it may contain the same key, which would stay in use.
fn check_all_readable(records: Vec<KeyRecord>) -> Result<Vec<KeyRecord>> {
    for record in &records {
        if let (false, Err(problem)) = (record.is_readable, &record.key) {
            let name = record.name();
            let message = format!(
                "cannot check the key Secret {name}: {problem}; it may contain a copy of this key, so nothing was changed"
            );
            bail!(Failure::new(message).hint("repair this Secret, or back it up and delete it"));
        }
    }
    Ok(records)
}

/// Finds the RSA key with that name or fingerprint.
fn find<'a>(
    records: &'a [KeyRecord],
    arg: &str,
    location: &KeyLocation,
) -> Result<(&'a KeyRecord, Fingerprint)> {
    let list = format!("`seal keys list{}`", location_flags(location));
    let matches_arg = |record: &&KeyRecord| {
        record.name() == arg || record.fingerprint().is_some_and(|f| f.to_string() == arg)
    };
    let mut matching = records.iter().filter(matches_arg);
    let Some(record) = matching.next() else {
        bail!(Failure::new(format!("no key {arg:?}")).hint(format!("list the keys with {list}")));
    };
    if matching.any(|other| other.fingerprint() != record.fingerprint()) {
        bail!(
            Failure::new(format!("several keys have the name {arg:?}"))
                .hint(format!("pass a fingerprint from {list}"))
        );
    }
    match (record.fingerprint(), &record.key) {
        (Some(fingerprint), _) => Ok((record, fingerprint.clone())),
        (None, unusable) => {
            let message = match unusable {
                Err(problem) => format!("the Secret {arg} contains no usable key: {problem}"),
                Ok(_) => format!("the Secret {arg} contains no key"),
            };
            bail!(Failure::new(message).hint("restore the Secret from a backup, or delete it"))
        }
    }
}

/// Creates a client for the controller's TLS port, if an argument for the port is given. The CA certificate of the port
/// comes from a file, or from a `ConfigMap` in the cluster.
///
/// # Errors
///
/// Fails if a file cannot be read, if the CA certificate is not published, if no token can be requested, or if the URL,
/// the token or the CA certificate is not valid.
pub fn authorized(
    args: &TlsPort,
    location: &KeyLocation,
    clusters: &Clusters<'_>,
) -> Result<Option<Authorized>> {
    let by_token = args.token_access();
    if by_token == TokenAccess::default() {
        return Ok(None);
    }
    let access = Access {
        by_token,
        ..access(location, clusters.environment)
    };
    let (Some(url), Some(token)) = (&args.authorized, &args.token_file) else {
        let port = Controller::find(&access, clusters).and_then(Controller::into_authorized);
        return port.map(Some).context(
            Failure::new("cannot request a token from the cluster")
                .hint("pass a token with --token-file FILE"),
        );
    };
    let file = token.shown();
    let token = files::read_as(token, Kind::Credential)?;
    let authority = match &args.authority {
        Some(path) => files::read_as(path, Kind::Certificate)?.to_vec(),
        None => Controller::find(&access, clusters)
            .and_then(|controller| controller.authority())
            .context("cannot get the CA certificate of the controller's TLS port")?,
    };
    Authorized::new(url, &token, &authority)
        .map(|port| Some(port.with_waiting(clusters.environment.waiting())))
        .with_context(|| format!("--authorized with --token-file {file}"))
}

/// Determines which key each object needs, by trying keys of the store and of backups, and by
/// asking a controller if requested.
fn survey(
    holders: &[Holder],
    ring: &KeyRing,
    (search, location): (&Search, &KeyLocation),
    depth: Depth,
    clusters: &Clusters<'_>,
) -> Result<Survey> {
    let mut survey = Survey::run(holders, ring, depth, clusters.environment.status_line);
    if let Some(controller) = authorized(&search.tls_port, location, clusters)? {
        for (origin, error) in survey.ask_controller(holders, &controller)? {
            let why = error_chain(&error);
            warn(&format!("{origin}: cannot ask the controller: {why}"));
        }
    }
    Ok(survey)
}

/// Reads the SealedSecrets in the store and in files, and determines which keys they need. Also returns the key ring
/// that was used.
fn survey_all(
    store: &KeyStore,
    records: &[KeyRecord],
    paths: &[PathBuf],
    (search, location): (&Search, &KeyLocation),
    clusters: &Clusters<'_>,
) -> Result<(KeyRing, Inventory, Survey)> {
    let ring = decryption::ring(
        records,
        &search.backups,
        &search.decryption,
        clusters.environment,
    )?;
    let ring = keys::v2::add_to_ring(ring, &store.read_v2()?);
    let sources = find_holders(store, paths, search)?;
    let search_args = (search, location);
    let survey = survey(&sources.holders, &ring, search_args, Depth::All, clusters)?;
    Ok((ring, sources, survey))
}

/// Prints a message that may contain untrusted names.
fn info(line: &str) {
    report::info(&shown(line));
}

/// Prints a warning that may contain untrusted names.
fn warn(line: &str) {
    report::warn(&shown(line));
}

/// Returns everything that may need a key: objects where the keys are stored, files and, if
/// requested, branches.
fn find_holders(store: &KeyStore, paths: &[PathBuf], search: &Search) -> Result<Inventory> {
    let mut sources = store.sealed(&search.namespaces, &mut report::notice)?;
    sources.extend(survey::in_files(paths, &mut report::notice)?);
    if search.all_branches {
        let current_dir = [PathBuf::from(".")];
        let paths = if paths.is_empty() {
            &current_dir
        } else {
            paths
        };
        for repository in history::repositories(paths)? {
            sources.extend(history::in_branches(&repository)?);
        }
    }
    Ok(sources)
}

/// Returns the rules that name a key: the rules for the paths and, if requested, the rules in branches. `is_rsa` is
/// whether rules can also name the key by its certificate.
fn find_rules_for_key(
    (key, is_rsa): (KeyId, bool),
    paths: &[PathBuf],
    search: &Search,
    environment: &Environment,
) -> Result<RulesForKey> {
    let mut rules = RuleSearch {
        key,
        is_rsa,
        now: environment.now,
        result: RulesForKey::default(),
    };
    rules.in_files(paths)?;
    if search.all_branches {
        let current_dir = [PathBuf::from(".")];
        let paths = if paths.is_empty() {
            &current_dir
        } else {
            paths
        };
        for repository in history::repositories(paths)? {
            rules.in_branches(&repository)?;
        }
    }
    Ok(rules.result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal_args;

    fn key_location(directory: Option<&str>, context: Option<&str>) -> KeyLocation {
        KeyLocation {
            directory: directory.map(PathBuf::from),
            cluster: seal_args::Cluster {
                context: context.map(str::to_owned),
                ..seal_args::Cluster::default()
            },
            ..KeyLocation::default()
        }
    }

    #[test]
    fn the_next_command_selects_the_same_keys() {
        for (directory, context, want_flags, rotate, fetch) in [
            (None, None, "", "PATH", "-o cert.pem --replace"),
            (
                None,
                Some("prod"),
                " --context prod",
                "PATH --context prod",
                "-o cert.pem --replace --context prod",
            ),
            (
                Some("my state"),
                None,
                " --directory 'my state'",
                "PATH --cert cert.pem",
                "-o cert.pem --replace --directory 'my state'",
            ),
        ] {
            let location = key_location(directory, context);
            assert_eq!(location_flags(&location), want_flags);
            assert_eq!(rotate_step(&location, &[]), format!("seal rotate {rotate}"));
            assert_eq!(
                fetch_step(&location, None),
                format!("seal cert fetch {fetch}")
            );
        }
    }

    #[test]
    fn a_shell_reads_a_quoted_argument_as_one() {
        for (arg, want) in [
            ("state/keys", "state/keys"),
            ("my state", "'my state'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(quote(arg), want);
        }
    }
}
