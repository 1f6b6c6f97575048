//! `seal keys compromise`: marks a key as compromised, and reports the values that were sealed for
//! it.

mod json;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kubeseal_library::cluster::Clusters;
use kubeseal_library::environment::Environment;
use kubeseal_library::git;
use kubeseal_library::keys::history::{self, Commit};
use kubeseal_library::keys::named::RuleForKey;
use kubeseal_library::keys::store::Change;
use kubeseal_library::keys::survey::Dependent;
use kubeseal_library::keys::{
    self, Holder, KeyRecord, KeyStore, Survey, Unreadable, V2KeyRecord, compromised, missing,
    record,
};
use shared::error_chain;
use shared::key::Fingerprint;
use shared::key_marks::KeyState;
use shared::key_ring::KeyRing;
use shared::needs::{Need, needs};
use shared::resource::{COMPROMISED_ANNOTATION, SealedSecret};
use shared::scope::Scope;
use shared::v2::{self as format, KeyId, ShortKeyId};

use super::served::Served;
use super::{
    Search, check_all_readable, export_step, fetch_step, find, find_holders, find_rules_for_key,
    location_flags, open_store, rotate_step, rotate_to_v2_step, step, survey_all, v2,
};
use crate::failure::Failure;
use crate::report::{self, ShowPath, shown};
use crate::seal::table::table;
use crate::seal::{Outcome, output, print};
use crate::seal_args::{KeyLocation, ReportFormat};

/// Arguments of `seal keys compromise`.
#[derive(Debug, Args)]
#[command(
    after_help = "This project's controller never seals with the marked key again, but unseals with it until it is \
retired. Bitnami's controller ignores the mark. Treat every listed value as exposed.\n\n\
Examples:\n  seal keys compromise key-old . --directory state --output markdown > ticket.md"
)]
pub struct KeysCompromise {
    /// Name of the key Secret, fingerprint, or identifier of a v2 key
    pub key: String,
    /// Files and directories to search besides the cluster, with the whole history of their repositories
    pub paths: Vec<PathBuf>,
    /// Output format
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: ReportFormat,
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

/// A compromised key, and the values that it exposes.
struct Damage {
    name: String,
    /// The fingerprint, or the identifier of a key that is only for v2.
    fingerprint: String,
    /// The identifier that v2 values use for an RSA key; `None` for a key that is only for v2, or cannot be parsed.
    key_id: Option<KeyId>,
    since: String,
    /// Items of the current objects and files that are sealed for the key.
    present: Vec<Dependent>,
    /// Commits that introduced items sealed for the key, with the items of each commit.
    commits: Commits,
    /// Content that is missing or cannot be read, and may contain items sealed for the key.
    unreadable: BTreeSet<Unreadable>,
    /// Rules that name the key.
    rules_for_key: BTreeSet<RuleForKey>,
}

type Commits = Vec<(Commit, BTreeSet<String>)>;

/// Marks a key as compromised, and reports the values that were sealed for it. The key is marked after the search, and
/// before the report is printed, so that a failure to print does not leave the key in use.
///
/// # Errors
///
/// Fails, and marks nothing, if the keys, a file in the arguments or a repository cannot be read. Fails if a Secret
/// cannot be marked. After the report, fails if a part of the history is missing.
pub fn run(args: &KeysCompromise, environment: &Environment) -> Result<Outcome> {
    let clusters = Clusters::new(environment);
    let store = open_store(&args.location, &clusters)?;
    let records = check_all_readable(store.read()?)?;
    match v2::find(&store, &records, &args.key)? {
        Some(key) => run_v2(args, &clusters, &store, &records, &key),
        None => run_rsa(args, &clusters, &store, &records),
    }
}

fn run_rsa(
    args: &KeysCompromise,
    clusters: &Clusters<'_>,
    store: &KeyStore,
    records: &[KeyRecord],
) -> Result<Outcome> {
    let environment = clusters.environment;
    let (record, fingerprint) = find(records, &args.key, &args.location)?;
    let served = Served::find(&args.location, clusters, records, &[]);
    let situation = Situation::of(records, &fingerprint, &served);
    let search_args = (&args.search, &args.location);
    let (ring, sources, survey) = survey_all(store, records, &args.paths, search_args, clusters)?;
    let key_id = record.key.as_ref().ok().map(|key| key.key_id());
    let found_rules =
        key_id.map(|id| find_rules_for_key((id, true), &args.paths, &args.search, environment));
    let found_rules = found_rules.transpose()?.unwrap_or_default();
    let key = RsaKey {
        id: key_id.map(|id| id.short()),
        fingerprint: &fingerprint,
    };
    let (commits, unreadable) = commits(args, |sealed| key.items(sealed, &ring))?;
    let (missing, mut unreadable) = all_unreadable(args, sources.unreadable, unreadable)?;
    unreadable.extend(found_rules.unreadable);
    let damage = Damage {
        rules_for_key: found_rules.rules,
        name: record.name().to_owned(),
        since: mark_time(record, environment),
        present: key.present(&survey, &sources.holders),
        commits,
        unreadable,
        fingerprint: fingerprint.to_string(),
        key_id,
    };
    if !args.dry_run {
        mark(environment, store, records, &fingerprint, &damage.since)?;
    }
    report_damage(args, (records, &[]), &damage, &situation, missing)
}

/// Like [`run_rsa`], for a key that is only for v2. The items sealed for it are visible without keys.
fn run_v2(
    args: &KeysCompromise,
    clusters: &Clusters<'_>,
    store: &KeyStore,
    records: &[KeyRecord],
    key: &v2::NamedKey,
) -> Result<Outcome> {
    let environment = clusters.environment;
    let served = Served::find(&args.location, clusters, records, key.records());
    let situation = key.situation(&served, records);
    let sources = find_holders(store, &args.paths, &args.search)?;
    let items = |sealed: &SealedSecret| keys::v2::items_for(sealed, key.id.short());
    let (commits, unreadable) = commits(args, items)?;
    let present = keys::v2::exposed_items(&sources.holders, key.id.short());
    let (missing, mut unreadable) = all_unreadable(args, sources.unreadable, unreadable)?;
    let found_rules = find_rules_for_key((key.id, false), &args.paths, &args.search, environment)?;
    unreadable.extend(found_rules.unreadable);
    let now = || environment.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let damage = Damage {
        rules_for_key: found_rules.rules,
        name: key.name().to_owned(),
        since: key.earlier_mark().unwrap_or_else(now),
        present,
        commits,
        unreadable,
        fingerprint: key.id.to_string(),
        key_id: None,
    };
    if !args.dry_run {
        key.mark(store, environment, &damage.since)?;
    }
    report_damage(args, (records, key.records()), &damage, &situation, missing)
}

/// Returns whether parts of the history are missing, and all content that is missing or cannot be read.
fn all_unreadable(
    args: &KeysCompromise,
    mut unreadable: BTreeSet<Unreadable>,
    in_commits: BTreeSet<Unreadable>,
) -> Result<(bool, BTreeSet<Unreadable>)> {
    let missing = missing_history(args)?;
    let is_missing = !missing.is_empty();
    unreadable.extend(in_commits);
    unreadable.extend(missing);
    Ok((is_missing, unreadable))
}

/// Marks every Secret with this key as compromised, because a Secret without the mark would remain usable for sealing.
/// Then records the key on this machine.
fn mark(
    environment: &Environment,
    store: &KeyStore,
    records: &[KeyRecord],
    key: &Fingerprint,
    since: &str,
) -> Result<()> {
    let has_key = |other: &&KeyRecord| other.fingerprint() == Some(key);
    let mark = Change::annotation(COMPROMISED_ANNOTATION, since.to_owned());
    for (marked_count, record) in records.iter().filter(has_key).enumerate() {
        store.change(record, &mark).with_context(|| {
            let name = record.name();
            Failure::new(format!(
                "cannot mark the key Secret {name} as compromised (other Secrets of this key already marked: \
                 {marked_count})"
            ))
            .hint("run the command again")
        })?;
    }
    if let Err(error) = compromised::remember(environment, key, since) {
        report::warn(&format!(
            "cannot record the mark locally, so `seal` refuses certificates of this key only where `retired` in \
             .seal.yaml lists its fingerprint: {}",
            error_chain(&error)
        ));
    }
    Ok(())
}

fn report_damage(
    args: &KeysCompromise,
    records: (&[KeyRecord], &[V2KeyRecord]),
    damage: &Damage,
    situation: &Situation,
    is_history_missing: bool,
) -> Result<Outcome> {
    print(&damage.report(args.output)?)?;
    report::info_lines(&next_steps(args, records, damage, situation));
    if is_history_missing {
        bail!(
            "the history is incomplete (see above), and so is this report\nhint: fetch the missing history, and run \
             the command again"
        );
    }
    Ok(Outcome::Done)
}

/// Returns the time of an earlier mark; without one, the current time.
fn mark_time(record: &KeyRecord, environment: &Environment) -> String {
    let annotations = record.secret.metadata.annotations.as_ref();
    let earlier = annotations
        .and_then(|a| a.get(COMPROMISED_ANNOTATION))
        .cloned();
    earlier.unwrap_or_else(|| environment.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Returns the Git repositories that contain the paths, and their submodules that are checked out. Omits paths outside
/// a repository.
fn repositories(args: &KeysCompromise) -> Result<BTreeSet<PathBuf>> {
    let in_repository = |path: &&PathBuf| {
        std::path::absolute(path).is_ok_and(|path| git::work_tree(&path).is_some())
    };
    let paths: Vec<_> = args.paths.iter().filter(in_repository).cloned().collect();
    history::repositories(&paths)
}

/// Returns an entry for each reason why a repository of the paths lacks commits or branches.
fn missing_history(args: &KeysCompromise) -> Result<BTreeSet<Unreadable>> {
    let mut all_missing = BTreeSet::new();
    for repository in repositories(args)? {
        all_missing.extend(missing::history(&repository)?);
    }
    Ok(all_missing)
}

/// Returns the commits that introduced items sealed for the key, in the repositories of the paths, and
/// the files there that cannot be read. A path outside a repository has no commits.
fn commits(
    args: &KeysCompromise,
    items_needing: impl Fn(&SealedSecret) -> BTreeSet<String>,
) -> Result<(Commits, BTreeSet<Unreadable>)> {
    let mut all_commits = Vec::new();
    let mut unreadable = BTreeMap::<(String, String), BTreeSet<String>>::new();
    for repository in repositories(args)? {
        let mut seen_values = SeenValues::default();
        let mut introduced = Vec::new();
        // Oldest first: a value counts for the commit that introduced it, not for each commit that
        // changed its file.
        for (commit, contents) in history::in_commits(&repository)?.into_iter().rev() {
            for why in contents.unreadable {
                let commits = unreadable.entry((commit.path.clone(), why)).or_default();
                commits.insert(commit.id.clone());
            }
            let sealed = contents.sealed.iter();
            let items = sealed.flat_map(|sealed| seen_values.introduced(sealed, &items_needing));
            let items: BTreeSet<String> = items.collect();
            if !items.is_empty() {
                introduced.push((commit, items));
            }
        }
        all_commits.extend(introduced.into_iter().rev());
    }
    let unreadable = unreadable
        .into_iter()
        .map(|((path, why), commits)| Unreadable {
            location: format!("{path} ({})", commits_text(&commits)),
            why,
        });
    Ok((all_commits, unreadable.collect()))
}

/// An RSA key. The v1 items for it are found by trial decryption; the v2 items by the keys that they name, because
/// trial decryption finds only one key of an item.
struct RsaKey<'a> {
    id: Option<ShortKeyId>,
    fingerprint: &'a Fingerprint,
}

impl RsaKey<'_> {
    /// Returns the item keys of the v1 items that this key decrypts, and of the v2 items that name it as a recipient.
    fn items(&self, sealed: &SealedSecret, ring: &KeyRing) -> BTreeSet<String> {
        let is_for_key = |need: &Need| *need == Need::Key(self.fingerprint.clone());
        let needs = needs(&sealed.v1_part(), ring).into_iter();
        let v1_items = needs
            .filter(|(_, need)| is_for_key(need))
            .map(|(item, _)| item);
        let v2_items = self.id.into_iter();
        let v2_items = v2_items.flat_map(|id| keys::v2::items_for(sealed, id));
        v1_items.chain(v2_items).collect()
    }

    /// Returns the items of the current objects and files that are sealed for this key.
    fn present(&self, survey: &Survey, holders: &[Holder]) -> Vec<Dependent> {
        let items = survey.dependents(self.fingerprint, 0).into_iter();
        let mut items: BTreeSet<Dependent> = items.filter(|item| item.is_sure).collect();
        items.extend(
            self.id
                .into_iter()
                .flat_map(|id| keys::v2::exposed_items(holders, id)),
        );
        items.into_iter().collect()
    }
}

/// Sealed values of earlier commits, with the scope, namespace and name of their object. Encryption never produces the
/// same ciphertext twice.
#[derive(Default)]
struct SeenValues {
    /// All v1 values. Trial decryption is slow, so each value is tried once.
    v1: BTreeSet<Value>,
    /// The v2 values that were sealed for the key. A later commit may add the key to the lock of a value.
    v2: BTreeSet<Value>,
}

type Value = (Scope, String, String);

impl SeenValues {
    /// Returns the items, as NAME/ITEM, whose values are sealed for the key in this version of an object, and were not
    /// sealed for it in any earlier version.
    fn introduced(
        &mut self,
        sealed: &SealedSecret,
        items_needing: impl Fn(&SealedSecret) -> BTreeSet<String>,
    ) -> Vec<String> {
        let mut items = items_needing(&self.without_earlier_v1_values(sealed));
        items.retain(|item| self.is_new_for_key(sealed, item));
        let name = sealed.name_or_empty();
        items.iter().map(|item| format!("{name}/{item}")).collect()
    }

    /// Returns the object without the v1 values that earlier versions had.
    fn without_earlier_v1_values(&mut self, sealed: &SealedSecret) -> SealedSecret {
        let mut new = sealed.clone();
        let mut is_new = |text: &String| self.v1.insert(value(sealed, text));
        let entries = &mut new.spec.encrypted_data;
        entries.retain(|name, text| !format::is_v1_item(name, text) || is_new(text));
        new.spec.data = new.spec.data.filter(&mut is_new);
        new
    }

    /// Returns whether the item is v1, or no earlier version had this v2 value with the key among its recipients.
    /// Records a v2 value as seen.
    fn is_new_for_key(&mut self, sealed: &SealedSecret, item: &str) -> bool {
        match sealed.spec.encrypted_data.get(item) {
            Some(text) if format::is_v2_value(text) => self.v2.insert(value(sealed, text)),
            _ => true,
        }
    }
}

/// Returns a value with the scope, namespace and name of its object.
fn value(sealed: &SealedSecret, text: &str) -> Value {
    let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
    (scope, sealed.qualified_name(), text.to_owned())
}

fn commits_text(ids: &BTreeSet<String>) -> String {
    let first = ids.first().map(|id| short_id(id)).unwrap_or_default();
    match ids.len() {
        0 | 1 => format!("commit {first}"),
        count => format!("{count} commits, such as {first}"),
    }
}

fn short_id(commit: &str) -> String {
    commit.chars().take(12).collect()
}

/// What determines the next steps after a key was marked as compromised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Situation {
    /// Whether every Secret of the key is retired, so that the controller does not load the key.
    pub(super) is_retired: bool,
    /// The key that seals in place of the compromised key; `None` if a new key is needed.
    pub(super) successor: Option<Successor>,
    /// Whether the key is only for v2.
    pub(super) is_v2: bool,
}

/// The key that seals in place of a compromised key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Successor {
    name: String,
    /// The file or Secret with the times by which the key counts as the sealing key; `None` if the controller confirms
    /// that it seals with the key.
    time_source: Option<String>,
}

impl Successor {
    /// Returns a successor that the controller seals with, according to its response.
    pub(super) fn served(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            time_source: None,
        }
    }

    /// Returns a successor that is the sealing key according to the times in the Secrets.
    pub(super) fn dated(name: &str, file: Option<&PathBuf>) -> Self {
        let source = file.map_or_else(|| "its Secret".to_owned(), ShowPath::shown);
        Self {
            name: name.to_owned(),
            time_source: Some(source),
        }
    }

    /// Returns the step that asks the user to check a successor, because only its own times show that it is the sealing
    /// key. Returns `None` if the controller confirms that it seals with the successor.
    fn check(&self, location_flags: &str) -> Option<String> {
        let Self { name, time_source } = self;
        let source = time_source.as_ref()?;
        Some(format!(
            "  check who created {name}: only the times in {source} show that it is the sealing key, and they prove \
             nothing; if you do not know, `seal keys rotate{location_flags}` generates another key"
        ))
    }
}

impl Situation {
    fn of(records: &[KeyRecord], key: &Fingerprint, served: &Served) -> Self {
        let is_key = |record: &KeyRecord| record.fingerprint() == Some(key);
        let own = || records.iter().filter(|record| is_key(record));
        let is_retired = own().all(|record| !record.properties.is_active);
        let states = record::states(records, None);
        let mut others = records.iter().zip(states).filter(|(r, _)| !is_key(r));
        let sealing = others.find(|(_, state)| *state == KeyState::Sealing);
        let is_newer = |record: &KeyRecord| {
            let time = record.properties.order_time;
            own().all(|own| own.properties.order_time < time)
        };
        let sealing = sealing.map(|(record, _)| record);
        let successor = sealing.filter(|record| is_retired || is_newer(record));
        let successor = successor.map(|record| {
            if served.certificate.as_ref() == record.fingerprint() {
                Successor::served(record.name())
            } else {
                Successor::dated(record.name(), record.file.as_ref())
            }
        });
        Self {
            is_retired,
            successor,
            is_v2: false,
        }
    }
}

fn next_steps(
    args: &KeysCompromise,
    records: (&[KeyRecord], &[V2KeyRecord]),
    damage: &Damage,
    situation: &Situation,
) -> String {
    let name = shown(&damage.name);
    let location_flags = location_flags(&args.location);
    let mut steps = vec![headline(&name, args.dry_run, situation)];
    match &situation.successor {
        Some(successor) => steps.extend(successor.check(&location_flags)),
        None => steps.push(step(
            &format!("seal keys rotate{location_flags}"),
            "generates a key that is not compromised",
        )),
    }
    let refused = if situation.is_v2 {
        "this key as a recipient"
    } else {
        "the certificate of this key"
    };
    steps.extend([
        new_public_key(args, situation),
        format!(
            "  add {}{} to `retired` in .seal.yaml, so that `seal` refuses {refused}",
            damage.fingerprint,
            damage.id_text()
        ),
        "  change every listed value where it is used: an attacker with the key can read the old values in every commit"
            .to_owned(),
    ]);
    steps.extend(damage.rules_for_key.iter().map(|RuleForKey { rule, field }| {
        format!("  replace this key in the `{field}` of {rule}, so that new values are not sealed for the key")
    }));
    if !situation.is_retired {
        let rotate = if situation.is_v2 {
            rotate_to_v2_step(&args.location, records.0, records.1)
        } else {
            rotate_step(&args.location, records.0)
        };
        steps.extend(retirement(args, &rotate, &name));
    }
    let steps = steps.iter().map(|step| shown(step).into_owned());
    steps.collect::<Vec<_>>().join("\n")
}

/// Returns the step that gets the public key to seal with.
fn new_public_key(args: &KeysCompromise, situation: &Situation) -> String {
    let location = &args.location;
    if situation.is_v2 {
        return step(
            &export_step(location),
            "prints the key that seals now, for the `recipients` of rules",
        );
    }
    let fetches = if situation.successor.is_some() {
        "fetches the certificate of the sealing key, for files and rules that name a certificate"
    } else {
        "fetches the certificate of the new key, for files and rules that name a certificate"
    };
    step(&fetch_step(location, None), fetches)
}

fn headline(name: &str, is_dry_run: bool, situation: &Situation) -> String {
    let mark = if is_dry_run {
        "would be marked"
    } else {
        "is marked"
    };
    let effect = if situation.is_retired {
        "the key is retired, so it neither unseals nor seals"
    } else {
        "the key can still unseal, but never seals again"
    };
    format!("{name} {mark} as compromised: {effect}. Next:")
}

/// Returns the steps that re-encrypt the values and then retire the key.
fn retirement(args: &KeysCompromise, rotate: &str, name: &str) -> [String; 2] {
    [
        step(rotate, "re-encrypts files, once the values are changed"),
        step(
            &format!(
                "seal keys retire {name} PATH{}",
                location_flags(&args.location)
            ),
            "retires the key when nothing needs it",
        ),
    ]
}

impl Damage {
    /// Returns the text after the fingerprint, with the identifier that v2 values use for an RSA key.
    fn id_text(&self) -> String {
        let text = |id| format!(", and {id} for v2 values,");
        self.key_id.map(text).unwrap_or_default()
    }

    fn report(&self, form: ReportFormat) -> Result<Vec<u8>> {
        Ok(match form {
            ReportFormat::Text => self.text().into_bytes(),
            ReportFormat::Markdown => self.markdown().into_bytes(),
            ReportFormat::Json => output::json(&json::DamageReport::new(self))?,
        })
    }

    fn present_lines(&self, head: [&str; 2]) -> Vec<Vec<String>> {
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        let line = |d: &Dependent| vec![d.origin.to_string(), d.item.clone()];
        lines.extend(self.present.iter().map(line));
        lines
    }

    fn commit_lines(&self, head: [&str; 5]) -> Vec<Vec<String>> {
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        lines.extend(self.commits.iter().map(|(commit, items)| {
            let items: Vec<&str> = items.iter().map(String::as_str).collect();
            vec![
                short_id(&commit.id),
                commit.at.clone(),
                commit.author.clone(),
                commit.path.clone(),
                items.join(", "),
            ]
        }));
        lines
    }

    fn unreadable_lines(&self, head: [&str; 2]) -> Vec<Vec<String>> {
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        let line =
            |unreadable: &Unreadable| vec![unreadable.location.clone(), unreadable.why.clone()];
        lines.extend(self.unreadable.iter().map(line));
        lines
    }

    fn text(&self) -> String {
        let mut text = format!(
            "Key {} {}\ncompromised since {}\n",
            shown(&self.name),
            self.fingerprint,
            shown(&self.since)
        );
        if self.present.is_empty() {
            text += "\nNo value found that is sealed for this key now.\n";
        } else {
            text += "\nValues that are sealed for this key now:\n";
            text += &indent(&table(&self.present_lines(["WHERE", "ITEM"])));
        }
        if !self.commits.is_empty() {
            text += "\nCommits that introduced values sealed for this key:\n";
            let head = ["COMMIT", "AT", "AUTHOR", "FILE", "ITEMS"];
            text += &indent(&table(&self.commit_lines(head)));
        }
        if !self.unreadable.is_empty() {
            text +=
                "\nUnreadable or missing content that may include values sealed for this key:\n";
            text += &indent(&table(&self.unreadable_lines(["WHERE", "WHY"])));
        }
        text
    }

    fn markdown(&self) -> String {
        let mut text = format!(
            "# Compromised key {}\n\n- Fingerprint: `{}`\n- Compromised since: {}\n",
            code_span(&self.name),
            self.fingerprint,
            code_span(&self.since)
        );
        text += "\n## Values that are sealed for this key now\n\n";
        text += &markdown_table(&self.present_lines(["Where", "Item"]), "Nothing found.\n");
        text += "\n## Commits that introduced values sealed for this key\n\n";
        let head = ["Commit", "At", "Author", "File", "Items"];
        text += &markdown_table(&self.commit_lines(head), "None found.\n");
        if !self.unreadable.is_empty() {
            text += "\n## Unreadable or missing content that may include values sealed for this key\n\n";
            text += &markdown_table(&self.unreadable_lines(["Where", "Why"]), "");
        }
        text
    }
}

fn indent(text: &str) -> String {
    text.lines().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "  {line}");
        text
    })
}

/// Formats text as a code span, so that the author of a name can neither format the ticket nor mention users, refer to
/// issues or insert links in it.
fn code_span(text: &str) -> String {
    // In a table, `|` ends a cell even inside code.
    let text = shown(text).replace('|', "\\|");
    let longest = text.split(|c| c != '`').map(str::len).max();
    let quotes = "`".repeat(longest.unwrap_or_default() + 1);
    let space = if text.starts_with('`') || text.ends_with('`') {
        " "
    } else {
        ""
    };
    match &*text {
        "" => String::new(),
        text => format!("{quotes}{space}{text}{space}{quotes}"),
    }
}

/// Formats a Markdown table, with the first line as its header. Returns `if_empty` if there are no other lines.
fn markdown_table(lines: &[Vec<String>], if_empty: &str) -> String {
    let [head, lines @ ..] = lines else {
        return if_empty.to_owned();
    };
    if lines.is_empty() {
        return if_empty.to_owned();
    }
    let mut text = format!(
        "| {} |\n|{}\n",
        head.join(" | "),
        " --- |".repeat(head.len())
    );
    for line in lines {
        let cells: Vec<String> = line.iter().map(|cell| code_span(cell)).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use shared::manifest::{self, Reading};
    use shared::v2::{LockSpec, Place, PublicRecipient, Recipient, SecretKey, Suite};

    use super::*;

    fn sealed_object(name: &str, items: &[(&str, &str)]) -> SealedSecret {
        let items: Vec<String> = items
            .iter()
            .map(|(key, text)| format!("{key}: '{text}'"))
            .collect();
        let text = format!(
            "metadata: {{name: {name}}}\nspec: {{encryptedData: {{{}}}}}",
            items.join(", ")
        );
        let documents = manifest::read(text.as_bytes()).unwrap();
        SealedSecret::from_node(&documents[0].root, &mut Reading::default()).unwrap()
    }

    /// Attack: the author of a file or commit has a name that mentions users, closes an issue or inserts a link in the
    /// ticket that the report is pasted into.
    #[test]
    fn names_have_no_effect_in_markdown() {
        for (name, want) in [
            ("@victim/team", "`@victim/team`"),
            ("fixes #12", "`fixes #12`"),
            ("https://a.example", "`https://a.example`"),
            ("[a](b) <img> *c*", "`[a](b) <img> *c*`"),
            ("a | b \\| c", "`a \\| b \\\\| c`"),
            ("`@a`", "`` `@a` ``"),
            ("a``@b", "```a``@b```"),
            ("", ""),
        ] {
            assert_eq!(code_span(name), want, "{name}");
        }
    }

    /// Returns the items that a version of an object introduces, for a key that opens every v1 item and those v2 items
    /// that name it.
    fn introduced(
        seen_values: &mut SeenValues,
        object: &SealedSecret,
        key: ShortKeyId,
    ) -> Vec<String> {
        seen_values.introduced(object, |sealed| {
            let v1 = sealed.v1_part().spec.encrypted_data.into_keys();
            v1.chain(keys::v2::items_for(sealed, key)).collect()
        })
    }

    #[test]
    fn a_commit_introduces_only_values_that_no_earlier_commit_had() {
        let mut seen_values = SeenValues::default();
        let key = recipient(1).key_id().short();
        for (why, object, want) in [
            (
                "all new",
                sealed_object("db", &[("a", "1"), ("b", "2")]),
                vec!["db/a", "db/b"],
            ),
            (
                "one changed",
                sealed_object("db", &[("a", "3"), ("b", "2")]),
                vec!["db/a"],
            ),
            (
                "none changed",
                sealed_object("db", &[("a", "3"), ("b", "2")]),
                vec![],
            ),
            (
                "one added",
                sealed_object("db", &[("a", "3"), ("b", "2"), ("c", "4")]),
                vec!["db/c"],
            ),
            ("one renamed", sealed_object("db", &[("d", "2")]), vec![]),
            ("reverted", sealed_object("db", &[("a", "1")]), vec![]),
            // A ciphertext counts once for each object that contains it.
            (
                "another object",
                sealed_object("other", &[("a", "1")]),
                vec!["other/a"],
            ),
        ] {
            assert_eq!(introduced(&mut seen_values, &object, key), want, "{why}");
        }
    }

    /// Attack: a committer adds a recipient to the lock of existing values in a later commit, so that the report on
    /// this recipient's compromised key omits the values.
    #[test]
    fn a_key_added_to_an_earlier_value_counts_as_introduced() {
        let both = sealed_v2(&[1, 2]);
        let [old, added] = [1, 2].map(|byte| recipient(byte).key_id().short());
        let mut before = both.clone();
        let stanza = |name: &str| name.ends_with(&format!("/{added}"));
        before.spec.encrypted_data.retain(|name, _| !stanza(name));
        assert_ne!(before.spec.encrypted_data, both.spec.encrypted_data);
        for (why, key, want) in [
            ("in both versions", old, [vec!["db/a"], vec![], vec![]]),
            ("added later", added, [vec![], vec!["db/a"], vec![]]),
        ] {
            let mut seen_values = SeenValues::default();
            let versions = [&before, &both, &before];
            let introduced_items = versions.map(|object| introduced(&mut seen_values, object, key));
            assert_eq!(introduced_items, want, "{why}");
        }
    }

    fn recipient(byte: u8) -> PublicRecipient {
        let key = SecretKey::from_bytes(Suite::P256, &[byte; 32]).unwrap();
        key.recipient()
    }

    /// Returns an object with one v2 item for these keys.
    fn sealed_v2(bytes: &[u8]) -> SealedSecret {
        let rng = &mut shared::random::system();
        let keys: Vec<_> = bytes.iter().map(|byte| recipient(*byte)).collect();
        let keys: Vec<&dyn Recipient> = keys.iter().map(|key| key as &dyn Recipient).collect();
        let spec = LockSpec {
            place: &Place::for_sealing(Scope::ClusterWide, "", "").unwrap(),
            recipients: &keys,
            allow_classical: false,
            template: None,
            is_never_secret: false,
            is_alone: false,
            revision: 1,
        };
        let value = shared::v2::Value::new("value".to_owned().into(), rng);
        let mut sealed = sealed_object("db", &[]);
        let values = [("a".to_owned(), value)].into();
        sealed.spec.encrypted_data = format::seal(&spec, &values, rng).unwrap();
        sealed
    }
}
