//! `seal exec`: runs a command with values in its environment or in files in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use kubeseal_library::cluster::Clusters;
use kubeseal_library::environment::Environment;
use kubeseal_library::keys::{record, v2 as keys_of_v2};
use kubeseal_library::walk::sealed_in;
use roles::delivery::Delivery;
use roles::exec::{self, CommandArgs, DeliveryCommand, Values};
use shared::key_marks::KeyState;
use shared::key_ring::KeyRing;
use shared::needs::{Need, needs};
use shared::resource::SealedSecret;
use shared::unseal::{Randomness, Rules, UsedKey, unseal};
use shared::v2;

use super::keys::{open_store, rotate_command};
use super::{Outcome, decryption};
use crate::failure::Failure;
use crate::report::{self, ShowPath as _, path_text, shown};
use crate::seal_args::{DecryptionArgs, KeyLocation};

/// Arguments of `seal exec`.
#[derive(Debug, Args)]
#[command(
    after_help = "The command replaces the process of `seal`, so it receives all signals and determines the exit code. (On Windows, `seal` waits for the command and exits with its exit code.) Nothing is written to disk.\n\n\
Anyone with the certificate can add items to a file, so you choose which of them become variables. A variable that \
is already set is replaced only if --override names it.\n\n\
In a Pod, --from receives the values from the controller, with the Pod's token and the permission that `seal grant` prints. With \
--on-change, `seal` stays the parent of the command, forwards signals, and ends with its exit code.\n\n\
Examples:\n  seal exec --only password db.sealed.yaml --backup key.pem -- sh -c 'echo ${#password}'\n  \
seal exec --only PW=password db.sealed.yaml --backup key.pem -- sh -c 'echo ${#PW}'\n  \
seal exec --files --only password db.sealed.yaml --backup key.pem -- printenv password_FILE\n  \
seal exec --from db --only PGPASSWORD=password --on-change=restart -- app"
)]
pub struct Exec {
    /// Files with SealedSecrets
    #[arg(required_unless_present = "from")]
    pub paths: Vec<PathBuf>,
    /// In a Pod: receive the values of these SealedSecrets from the controller
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        conflicts_with_all = ["paths", "backups", "directory", "kubeconfig", "context", "identity", "passphrase_file"]
    )]
    pub from: Vec<String>,
    /// After a change: restart the command; send it a signal, with --files; or end it and exit
    #[arg(long, value_name = "restart|signal:NAME|exit", requires = "from")]
    pub on_change: Option<String>,
    /// The command, and how it receives values.
    #[command(flatten)]
    pub command_args: CommandArgs,
    /// Decrypt with the keys in this backup: an age archive, manifests, PEM, or v2 keys, one per line; the keys of
    /// --directory or the cluster if not given
    #[arg(long = "backup", value_name = "FILE")]
    pub backups: Vec<PathBuf>,
    /// The identities and passphrase that decrypt backups.
    #[command(flatten)]
    pub decryption: DecryptionArgs,
    /// The cluster or directory with the keys.
    #[command(flatten)]
    pub location: KeyLocation,
    /// How to reach the controller, with `--from`.
    #[command(flatten)]
    pub delivery: Delivery,
}

/// Runs the command in place of this process; with `--on-change` or on Windows, runs it as a child and exits with its
/// exit code. Does not return on success.
///
/// # Errors
///
/// Fails if no items are chosen, the keys cannot be read, a file cannot be decrypted, an item cannot become a variable,
/// `--files` or `--from` is not supported or cannot be used, or the command cannot be started.
pub fn run(args: &Exec, environment: &Environment) -> Result<Outcome> {
    exec::check_files(&args.command_args)?;
    if !args.from.is_empty() {
        return super::role(exec::run(&delivery_command(args), super::variable));
    }
    if args.on_change.is_some() {
        // clap does not check that `--from` is set, because `--from` conflicts with the files.
        bail!(Failure::new("--on-change needs --from").hint(
            "values in files do not change; pass --from to receive them from the controller"
        ));
    }
    let sealed = read(&args.paths)?;
    if args.command_args.only.is_empty() && !args.command_args.all {
        bail!(no_choice(args, &sealed));
    }
    let keys = keys(args, environment)?;
    let values = values(args, &sealed, &keys, environment)?;
    super::role(exec::become_command(
        &args.command_args,
        &values,
        super::variable,
    ))
}

fn delivery_command(args: &Exec) -> DeliveryCommand<'_> {
    DeliveryCommand {
        from: &args.from,
        on_change: args.on_change.as_deref(),
        command_args: &args.command_args,
        delivery: &args.delivery,
    }
}

/// Returns every SealedSecret with its file.
fn read(paths: &[PathBuf]) -> Result<Vec<(&Path, SealedSecret)>> {
    let mut sealed = Vec::new();
    for path in paths {
        sealed.extend(
            sealed_in(path)?
                .into_iter()
                .map(|object| (path.as_path(), object)),
        );
    }
    Ok(sealed)
}

/// Returns the error for a command line that selects no items. It lists the items, and shows how to select some or all.
/// Only names are read, so no key is needed.
fn no_choice(args: &Exec, sealed: &[(&Path, SealedSecret)]) -> Failure {
    let items: BTreeSet<&str> = sealed
        .iter()
        .flat_map(|(_, object)| item_names(object))
        .collect();
    let items = Vec::from_iter(items).join(", ");
    let name = |(_, object): &(&Path, SealedSecret)| object.qualified_name();
    let objects = sealed.iter().map(name).collect::<Vec<_>>().join(", ");
    let command = shell_arguments(args);
    let message =
        format!("choose the items to pass to the command; available items of {objects}: {items}");
    Failure::new(message)
        .hint(format!("name the items: seal exec --only ITEM,VARIABLE=ITEM {command}"))
        .hint("or pass every item with --all, which lets the authors of the file choose the names of variables")
}

fn item_names(sealed: &SealedSecret) -> impl Iterator<Item = &str> {
    let encrypted = v2::items(&sealed.spec.encrypted_data).map(|(name, _)| name);
    let rendered = sealed
        .spec
        .template
        .data
        .iter()
        .flat_map(|data| data.keys());
    encrypted.chain(rendered).map(String::as_str)
}

/// Formats files and command for a shell.
fn shell_arguments(args: &Exec) -> String {
    let paths = args.paths.iter().map(|path| path_text(path.as_os_str()));
    let command = args.command_args.command.iter().map(|arg| path_text(arg));
    let quoted = |arg: std::borrow::Cow<'_, str>| {
        shlex::try_quote(&arg).map_or_else(|_| arg.clone().into_owned(), Into::into)
    };
    let dashes = std::iter::once("--".to_owned());
    let arguments = paths.map(quoted).chain(dashes).chain(command.map(quoted));
    arguments.collect::<Vec<String>>().join(" ")
}

/// The keys that unseal the values.
struct Keys {
    ring: KeyRing,
    /// The keys that the controller uses, without retired keys; `None` with backups, whose controller is unknown.
    in_use: Option<KeyRing>,
}

fn keys(args: &Exec, environment: &Environment) -> Result<Keys> {
    if !args.backups.is_empty() {
        let ring = decryption::ring(&[], &args.backups, &args.decryption, environment)?;
        return Ok(Keys { ring, in_use: None });
    }
    let records = open_store(&args.location, &Clusters::new(environment))
        .and_then(|store| Ok((store.read()?, store.read_v2()?)));
    let (records, v2_records) = records.context(
        Failure::new("cannot read the keys")
            .hint("pass a backup with --backup, or a directory with --directory"),
    )?;
    let ring = keys_of_v2::add_to_ring(record::ring(&records), &v2_records);
    let states = record::states(&records, None).into_iter();
    let rsa = records.iter().zip(states);
    let rsa = rsa.filter(|(_, state)| *state != KeyState::Retired);
    let rsa = rsa.filter_map(|(record, _)| record.key.as_ref().ok().cloned());
    let v2 = v2_records.iter().filter(|record| record.is_active);
    let in_use = Some(keys_of_v2::add_to_ring(KeyRing::new(rsa), v2));
    Ok(Keys { ring, in_use })
}

/// Unseals the objects, renders their templates and returns the values of all items. Fails if several SealedSecrets
/// contain the same chosen item. If they contain another item several times, the last value is returned.
fn values(
    args: &Exec,
    sealed: &[(&Path, SealedSecret)],
    keys: &Keys,
    environment: &Environment,
) -> Result<Values> {
    let rules = Rules {
        accept_legacy: true,
        refuse_random: false,
    };
    let mut randomness = Randomness {
        now: environment.now,
        rng: &mut shared::random::system(),
    };
    let is_chosen = |key: &String| {
        args.command_args.all
            || args
                .command_args
                .only
                .iter()
                .any(|chosen| chosen.item == *key)
    };
    let mut values = Values::new();
    for (path, sealed) in sealed {
        let unsealed = unseal(sealed, &keys.ring, rules, &mut randomness)
            .map_err(|error| anyhow!(error.diagnosis()));
        let unsealed = unsealed.with_context(|| cannot_unseal(path, sealed))?;
        warn_about_retired_keys(path, sealed, &unsealed.sealed_by, keys);
        for (key, value) in unsealed.secret.data {
            if is_chosen(&key) && values.contains_key(&key) {
                bail!(
                    Failure::new(format!("several SealedSecrets contain an item {key}")).hint(
                        "run the command with files in which only one SealedSecret contains it"
                    )
                );
            }
            values.insert(key, value.expose().to_vec().into());
        }
    }
    Ok(values)
}

/// Warns about items that are sealed only for retired keys, so that the controller can no longer unseal them. A v2 item
/// may be sealed for several keys.
fn warn_about_retired_keys(
    path: &Path,
    sealed: &SealedSecret,
    sealed_by: &BTreeMap<String, UsedKey>,
    keys: &Keys,
) {
    let Some(in_use) = &keys.in_use else { return };
    let is_retired = |key: &&UsedKey| match key {
        UsedKey::Rsa(key) => in_use.key(key).is_none(),
        UsedKey::V2(id) => in_use
            .v2_keys()
            .iter()
            .all(|key| key.key_id().short() != *id),
    };
    if sealed_by.values().all(|key| !is_retired(&key)) {
        return;
    }
    let needs = needs(sealed, in_use);
    let has_key_in_use =
        |item: &String| matches!(needs.get(item), Some(Need::Key(_) | Need::V2Key(_)));
    let retired = sealed_by.iter().filter(|(_, key)| is_retired(key));
    for (item, key) in retired.filter(|(item, _)| !has_key_in_use(item)) {
        report::warn(&shown(&format!(
            "{}: the item {item} is sealed for the retired key {key}, which the controller does not use: re-encrypt the \
             file with `{}`",
            path.shown(),
            rotate_command(key)
        )));
    }
}

fn cannot_unseal(path: &Path, sealed: &SealedSecret) -> Failure {
    let (file, name) = (path.shown(), sealed.name_or_empty());
    Failure::new(format!(
        "cannot unseal {file} ({name}), so the command was not run"
    ))
    .hint(format!("`seal doctor {file}` shows the reason"))
}
