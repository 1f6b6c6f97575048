//! `seal keys retire`: retires a key that nothing needs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use kubeseal_library::cluster::Clusters;
use kubeseal_library::environment::Environment;
use kubeseal_library::keys::named::RuleForKey;
use kubeseal_library::keys::record::LEGACY_NAME;
use kubeseal_library::keys::store::Change;
use kubeseal_library::keys::survey::Dependent;
use kubeseal_library::keys::{Inventory, KeyRecord, KeyStore, Unreadable, record};
use shared::key::Fingerprint;
use shared::key_marks::KeyState;
use shared::key_secret::PRIVATE_KEY_ITEM;
use shared::resource::{KEY_COMPROMISED, KEY_LABEL, KEY_RETIRED};

use super::served::Served;
use super::{
    Search, check_all_readable, find, find_holders, find_rules_for_key, info, location_flags,
    open_store, rotate_step, rotate_to_v2_step, survey_all, v2,
};
use crate::failure::Failure;
use crate::report::shown;
use crate::seal::{Outcome, print};
use crate::seal_args::KeyLocation;

/// Arguments of `seal keys retire`.
#[derive(Debug, Args)]
#[command(
    after_help = "A retired key cannot unseal until its label is restored: keep the backup.\n\n\
Examples:\n  seal keys retire key-old prod --all-branches --directory state"
)]
pub struct KeysRetire {
    /// Name of the key Secret, fingerprint, or identifier of a v2 key
    pub key: String,
    /// Files and directories to search besides the cluster
    pub paths: Vec<PathBuf>,
    /// Retire the key even if unreadable files, or items that no available key can unseal, may need it
    #[arg(long)]
    pub allow_undecided: bool,
    /// Retire the newest key of a v2 suite that is no longer the controller's --sealing-suite
    #[arg(long)]
    pub former_suite: bool,
    /// Show what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Where to search for values that need a key.
    #[command(flatten)]
    pub search: Search,
    /// The cluster or directory with the keys.
    #[command(flatten)]
    pub location: KeyLocation,
}

/// Retires a key. If items, rules or unreadable files may need the key, lists them and does not retire the key.
///
/// # Errors
///
/// Fails if the key may not be retired or is already retired, if there is nothing to search, or if a named file cannot
/// be read. Other files that cannot be read are listed.
pub fn run(args: &KeysRetire, environment: &Environment) -> Result<Outcome> {
    let clusters = Clusters::new(environment);
    let store = open_store(&args.location, &clusters)?;
    let records = check_all_readable(store.read()?)?;
    if let Some(key) = v2::find(&store, &records, &args.key)? {
        let served = Served::find(&args.location, &clusters, &records, key.records());
        let flags = location_flags(&args.location);
        key.check_retirable(&served, args.former_suite, &flags)?;
        return retire_v2(args, environment, &store, &records, &key);
    }
    if args.former_suite {
        bail!("--former-suite is for v2 keys: every controller needs an RSA key, for v1 values");
    }
    let (record, fingerprint) = find(&records, &args.key, &args.location)?;
    let state = |served: Option<&Fingerprint>| {
        let states = record::states(&records, served);
        let mut keys = records.iter().zip(states);
        let key = keys.find(|(other, _)| other.fingerprint() == Some(&fingerprint));
        key.map(|(_, state)| state)
    };
    let served = Served::find(&args.location, &clusters, &records, &[]).certificate;
    let flags = location_flags(&args.location);
    check_state(record, state(served.as_ref()), &flags)?;
    if state(None) == Some(KeyState::Sealing) {
        let message = format!(
            "cannot retire {}: it is the newest key, so the controller seals with it now or will soon, although the \
             controller last served the certificate of an older key",
            record.name()
        );
        let hint = format!("generate a new key first: `seal keys rotate{flags}`");
        bail!(Failure::new(message).hint(hint));
    }

    let search_args = (&args.search, &args.location);
    let (_, mut sources, survey) =
        survey_all(&store, &records, &args.paths, search_args, &clusters)?;
    let key_id = record.key.as_ref().ok().map(|key| key.key_id());
    let found_rules =
        key_id.map(|id| find_rules_for_key((id, true), &args.paths, &args.search, environment));
    let found_rules = found_rules.transpose()?.unwrap_or_default();
    sources.unreadable.extend(found_rules.unreadable);
    let mut uses = Uses {
        dependents: survey.dependents(&fingerprint, modulus_len(record)),
        sources,
        rules_for_key: found_rules.rules,
    };
    if uses.report(args, record.name(), &rotate_step(&args.location, &records))? {
        return Ok(Outcome::Findings);
    }
    let searched_count = survey.objects.len();
    check_searched(args, &store, searched_count)?;
    let unsearched = unsearched_text(&args.search.namespaces);
    if args.dry_run {
        info(&format!(
            "{} would be retired: none of {searched_count} SealedSecrets needs it{unsearched}",
            record.name()
        ));
        return Ok(Outcome::Done);
    }
    let label = if record.properties.marks.is_compromised {
        KEY_COMPROMISED
    } else {
        KEY_RETIRED
    };
    store.change(record, &Change::label(KEY_LABEL, label))?;
    info(&format!(
        "{} is retired: none of {searched_count} SealedSecrets needs it{unsearched}; it cannot unseal until the label \
         {KEY_LABEL}=active is restored",
        record.name()
    ));
    Ok(Outcome::Done)
}

/// Retires a key that is only for v2. If a rule names the key, or an item or an unreadable file may need it, lists them
/// and does not retire the key. An item that another loaded key opens does not need this key.
fn retire_v2(
    args: &KeysRetire,
    environment: &Environment,
    store: &KeyStore,
    records: &[KeyRecord],
    key: &v2::NamedKey,
) -> Result<Outcome> {
    let mut sources = find_holders(store, &args.paths, &args.search)?;
    let found_rules = find_rules_for_key((key.id, false), &args.paths, &args.search, environment)?;
    sources.unreadable.extend(found_rules.unreadable);
    let mut uses = Uses {
        dependents: key.dependents(&sources, records),
        sources,
        rules_for_key: found_rules.rules,
    };
    let rotate = rotate_to_v2_step(&args.location, records, key.records());
    if uses.report(args, key.name(), &rotate)? {
        return Ok(Outcome::Findings);
    }
    let searched_count = uses.sources.holders.len();
    check_searched(args, store, searched_count)?;
    let unsearched = unsearched_text(&args.search.namespaces);
    if args.dry_run {
        info(&format!(
            "{} would be retired: none of {searched_count} SealedSecrets needs it{unsearched}",
            key.name()
        ));
        return Ok(Outcome::Done);
    }
    key.retire(store)?;
    key.print_retired(searched_count, &unsearched);
    Ok(Outcome::Done)
}

/// Fails if nothing was searched, because a value elsewhere may need the key.
fn check_searched(args: &KeysRetire, store: &KeyStore, count: usize) -> Result<()> {
    if count == 0 && args.paths.is_empty() && !store.has_sealed_secrets() {
        bail!(
            Failure::new("there are no files to search for values that need the key")
                .hint("pass files or directories, or the directory of a controller")
        );
    }
    Ok(())
}

/// The items, files and rules that need a key, or may need it.
struct Uses {
    dependents: Vec<Dependent>,
    sources: Inventory,
    /// Rules that name the key.
    rules_for_key: BTreeSet<RuleForKey>,
}

impl Uses {
    /// Prints the uses of the key and the next steps; with `--allow-undecided`, only the uses that are certain. Returns
    /// whether there are uses. `rotate` is the command that re-encrypts files.
    fn report(&mut self, args: &KeysRetire, name: &str, rotate: &str) -> Result<bool> {
        if args.allow_undecided {
            self.dependents.retain(|dependent| dependent.is_sure);
            self.sources.unreadable.clear();
        }
        let (unreadable, rules_for_key) = (&self.sources.unreadable, &self.rules_for_key);
        if self.dependents.is_empty() && unreadable.is_empty() && rules_for_key.is_empty() {
            return Ok(false);
        }
        print(dependents_text(&self.dependents, unreadable, rules_for_key).as_bytes())?;
        let unreadable = self.sources.count_unreadable();
        for line in advice(
            name,
            &self.dependents,
            unreadable,
            rules_for_key.len(),
            rotate,
        ) {
            info(&line);
        }
        Ok(true)
    }
}

/// Returns a remark on the namespaces of `--only-namespace`; empty without this flag.
fn unsearched_text(namespaces: &[String]) -> String {
    if namespaces.is_empty() {
        return String::new();
    }
    let searched = namespaces.join(", ");
    format!(" (in the cluster, only these namespaces were searched: {searched})")
}

fn check_state(record: &KeyRecord, state: Option<KeyState>, location_flags: &str) -> Result<()> {
    let name = record.name();
    match state {
        Some(KeyState::Sealing) => {
            bail!(
                Failure::new(format!("cannot retire {name}: it is the sealing key")).hint(format!(
                    "generate a new key first: `seal keys rotate{location_flags}`"
                ))
            )
        }
        _ if name == LEGACY_NAME => bail!(
            Failure::new(format!(
                "controllers use the Secret {LEGACY_NAME} regardless of its label, so it cannot be retired"
            ))
            .hint("back it up and delete it, or store it under another name")
        ),
        Some(KeyState::Retired) => bail!("{name} is already retired; nothing was changed"),
        _ => Ok(()),
    }
}

/// Returns the length of the modulus in bytes, to compare it with the envelopes of items that no key decrypts.
fn modulus_len(record: &KeyRecord) -> usize {
    let pem = record.secret.data.get(PRIVATE_KEY_ITEM);
    let key = pem.and_then(|pem| shared::key::PrivateKey::from_pem(pem.expose()).ok());
    key.map_or(0, |key| key.modulus_len())
}

fn dependents_text(
    dependents: &[Dependent],
    unreadable: &BTreeSet<Unreadable>,
    rules_for_key: &BTreeSet<RuleForKey>,
) -> String {
    let line = |dependent: &Dependent| {
        let why = if dependent.is_sure {
            "needs the key"
        } else {
            "no key can unseal it, so it may need the key"
        };
        format!("{}, item {}: {why}", dependent.origin, dependent.item)
    };
    let unreadable_line = |unreadable: &Unreadable| {
        format!(
            "{}: may need the key: {}",
            unreadable.location, unreadable.why
        )
    };
    let rule_lines = rules_for_key.iter().map(ToString::to_string);
    let lines = dependents
        .iter()
        .map(line)
        .chain(rule_lines)
        .chain(unreadable.iter().map(unreadable_line));
    lines.fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{}", shown(&line));
        text
    })
}

fn advice(
    name: &str,
    dependents: &[Dependent],
    unreadable: usize,
    rule_count: usize,
    rotate: &str,
) -> Vec<String> {
    let sure_count = dependents
        .iter()
        .filter(|dependent| dependent.is_sure)
        .count();
    let unsure_count = dependents.len() - sure_count;
    let need = if sure_count == 1 {
        "item needs"
    } else {
        "items need"
    };
    let mut text = format!("{name} is not retired: {sure_count} {need} it");
    if unsure_count > 0 {
        let _ = write!(text, ", {unsure_count} more may need it");
    }
    if rule_count > 0 {
        let rules = if rule_count == 1 {
            "rule names"
        } else {
            "rules name"
        };
        let _ = write!(text, ", {rule_count} {rules} it");
    }
    if unreadable > 0 {
        let files = if unreadable == 1 { "file" } else { "files" };
        let _ = write!(text, ", {unreadable} {files} cannot be read");
    }
    let mut lines = vec![text];
    if sure_count > 0 {
        lines.push(format!(
            "hint: re-encrypt the objects that need this key (`{rotate}`), and apply them"
        ));
    }
    if rule_count > 0 {
        lines.push(
            "hint: replace the key in these rules, so that new values are not sealed for it"
                .to_owned(),
        );
    }
    if unsure_count > 0 {
        lines.push(
            "hint: find out with `seal doctor FILE` why an item cannot be unsealed, or ignore such items with \
             --allow-undecided"
                .to_owned(),
        );
    }
    if unreadable > 0 {
        lines.push(
            "hint: correct the unreadable files and objects, or ignore them with --allow-undecided"
                .to_owned(),
        );
    }
    lines
}
