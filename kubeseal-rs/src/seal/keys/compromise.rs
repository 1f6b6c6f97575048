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
use kubeseal_library::keys::store::Change;
use kubeseal_library::keys::survey::Dependent;
use kubeseal_library::keys::{
    self, Holder, KeyRecord, KeyStore, Survey, Unread, compromised, missing, record,
};
use shared::error_chain;
use shared::key::Fingerprint;
use shared::key_marks::KeyState;
use shared::key_ring::KeyRing;
use shared::needs::{Need, needs};
use shared::resource::{COMPROMISED_ANNOTATION, SealedSecret};
use shared::scope::Scope;
use shared::v2::{self as format, ShortKeyId};

use super::{
    Search, check_all_readable, fetch_step, find, find_holders, find_named, location_flags,
    rotate_step, step, store, survey_all, v2,
};
use crate::failure::Failure;
use crate::report::{self, shown};
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

/// The exposed values, which have to be replaced.
struct Damage {
    name: String,
    /// The fingerprint, or the identifier of a key that is only for v2.
    fingerprint: String,
    since: String,
    /// Items sealed for the key that exist now.
    present: Vec<Dependent>,
    /// Commits that introduced items sealed for the key, with the items of each commit.
    commits: Commits,
    /// Files and objects that cannot be read, and may contain items sealed for the key.
    unread: BTreeSet<Unread>,
    /// Rules that name the key as a recipient.
    named: BTreeSet<String>,
}

type Commits = Vec<(Commit, BTreeSet<String>)>;

/// Runs the command. The key is marked only after everything was read, and before the report is
/// printed, so that a failure to print does not leave the key in use.
///
/// # Errors
///
/// Fails if the keys, a file in the arguments or a repository cannot be read; then nothing is marked.
pub fn run(args: &KeysCompromise, environment: &Environment) -> Result<Outcome> {
    let clusters = Clusters::new(environment);
    let store = store(&args.location, &clusters)?;
    let records = check_all_readable(store.read()?)?;
    match v2::find(&store, &records, &args.key)? {
        Some(key) => run_v2(args, environment, &store, &records, &key),
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
    let situation = Situation::of(records, &fingerprint);
    let search_args = (&args.search, &args.location);
    let (ring, sources, survey) = survey_all(store, records, &args.paths, search_args, clusters)?;
    let key_id = record.key.as_ref().ok().map(|key| key.key_id());
    let named = key_id.map(|id| find_named(id, &args.paths, &args.search, environment));
    let named = named.transpose()?.unwrap_or_default();
    let key = RsaKey {
        id: key_id.map(|id| id.short()),
        fingerprint: &fingerprint,
    };
    let (commits, unread) = commits(args, |sealed| key.items(sealed, &ring))?;
    let (missing, mut unread) = all_unread(args, sources.unread, unread)?;
    unread.extend(named.unread);
    let damage = Damage {
        named: named.places,
        name: record.name().to_owned(),
        since: mark_time(record, environment),
        present: key.present(&survey, &sources.holders),
        commits,
        unread,
        fingerprint: fingerprint.to_string(),
    };
    if !args.dry_run {
        mark(environment, store, records, &fingerprint, &damage.since)?;
    }
    report_damage(args, records, &damage, situation, missing)
}

/// Does the same for a key that is only for v2. What is sealed for it is visible without keys.
fn run_v2(
    args: &KeysCompromise,
    environment: &Environment,
    store: &KeyStore,
    records: &[KeyRecord],
    key: &v2::NamedKey,
) -> Result<Outcome> {
    let sources = find_holders(store, &args.paths, &args.search)?;
    let items = |sealed: &SealedSecret| {
        let items = keys::v2::items_for(sealed, key.id.short()).into_iter();
        let name = sealed.name_or_empty();
        items.map(|item| format!("{name}/{item}")).collect()
    };
    let (commits, unread) = commits(args, items)?;
    let present = keys::v2::exposed(&sources.holders, key.id.short());
    let (missing, mut unread) = all_unread(args, sources.unread, unread)?;
    let named = find_named(key.id, &args.paths, &args.search, environment)?;
    unread.extend(named.unread);
    let now = || environment.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let damage = Damage {
        named: named.places,
        name: key.name().to_owned(),
        since: key.earlier_mark().unwrap_or_else(now),
        present,
        commits,
        unread,
        fingerprint: key.id.to_string(),
    };
    if !args.dry_run {
        key.mark(store, environment, &damage.since)?;
    }
    report_damage(args, records, &damage, key.situation(), missing)
}

/// Returns what the history lacks, and everything that cannot be read.
fn all_unread(
    args: &KeysCompromise,
    mut unread: BTreeSet<Unread>,
    in_commits: BTreeSet<Unread>,
) -> Result<(bool, BTreeSet<Unread>)> {
    let missing = missing_history(args)?;
    let is_missing = !missing.is_empty();
    unread.extend(in_commits);
    unread.extend(missing);
    Ok((is_missing, unread))
}

/// Marks every Secret with this key: a Secret without the mark would remain usable for sealing.
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
                "{marked_count} Secrets of this key are marked and {name} is not"
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
    records: &[KeyRecord],
    damage: &Damage,
    situation: Situation,
    is_history_missing: bool,
) -> Result<Outcome> {
    print(&damage.report(args.output)?)?;
    report::info_lines(&next_steps(args, records, damage, situation));
    if is_history_missing {
        bail!(
            "the history is incomplete (see above), and so is this report\nhint: fetch the rest, and run the command again"
        );
    }
    Ok(Outcome::Done)
}

/// Returns the time of the mark: that of an earlier mark, or else the current time.
fn mark_time(record: &KeyRecord, environment: &Environment) -> String {
    let annotations = record.secret.metadata.annotations.as_ref();
    let earlier = annotations
        .and_then(|a| a.get(COMPROMISED_ANNOTATION))
        .cloned();
    earlier.unwrap_or_else(|| environment.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Returns the root of the Git repository of each path that is in one.
fn repositories(args: &KeysCompromise) -> Result<BTreeSet<PathBuf>> {
    let in_repository = |path: &&PathBuf| {
        std::path::absolute(path).is_ok_and(|path| git::work_tree(&path).is_some())
    };
    let paths: Vec<_> = args.paths.iter().filter(in_repository).cloned().collect();
    history::repositories(&paths)
}

/// Returns the branches and commits that the repositories of the paths lack.
fn missing_history(args: &KeysCompromise) -> Result<BTreeSet<Unread>> {
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
    items_needing: impl Fn(&SealedSecret) -> Vec<String>,
) -> Result<(Commits, BTreeSet<Unread>)> {
    let mut all_commits = Vec::new();
    let mut unread = BTreeMap::<(String, String), BTreeSet<String>>::new();
    for repository in repositories(args)? {
        let mut seen = SeenValues::default();
        let mut introduced = Vec::new();
        // Oldest first: a value counts for the commit that introduced it, not for each commit that
        // changed its file.
        for (commit, contents) in history::in_commits(&repository)?.into_iter().rev() {
            for why in contents.unread {
                let commits = unread.entry((commit.path.clone(), why)).or_default();
                commits.insert(commit.id.clone());
            }
            let new = contents
                .sealed
                .iter()
                .map(|sealed| seen.take_new_values(sealed));
            let items: BTreeSet<String> = new.flat_map(|new| items_needing(&new)).collect();
            if !items.is_empty() {
                introduced.push((commit, items));
            }
        }
        all_commits.extend(introduced.into_iter().rev());
    }
    let unread = unread.into_iter().map(|((path, why), commits)| Unread {
        place: format!("{path} ({})", commits_text(&commits)),
        why,
    });
    Ok((all_commits, unread.collect()))
}

/// An RSA key. Trial decryption shows which v1 items are for it; v2 items name their keys, and only one of them opens an
/// item here.
struct RsaKey<'a> {
    id: Option<ShortKeyId>,
    fingerprint: &'a Fingerprint,
}

impl RsaKey<'_> {
    /// Returns the items that this key decrypts, as NAME/ITEM.
    fn items(&self, sealed: &SealedSecret, ring: &KeyRing) -> Vec<String> {
        let is_for_key = |need: &Need| *need == Need::Key(self.fingerprint.clone());
        let items = needs(sealed, ring).into_iter();
        let mut items: BTreeSet<String> = items
            .filter(|(_, need)| is_for_key(need))
            .map(|(item, _)| item)
            .collect();
        items.extend(
            self.id
                .into_iter()
                .flat_map(|id| keys::v2::items_for(sealed, id)),
        );
        let name = sealed.name_or_empty();
        items.iter().map(|item| format!("{name}/{item}")).collect()
    }

    /// Returns the items that this key decrypts now.
    fn present(&self, survey: &Survey, holders: &[Holder]) -> Vec<Dependent> {
        let items = survey.dependents(self.fingerprint, 0).into_iter();
        let mut items: BTreeSet<Dependent> = items.filter(|item| item.is_sure).collect();
        items.extend(
            self.id
                .into_iter()
                .flat_map(|id| keys::v2::exposed(holders, id)),
        );
        items.into_iter().collect()
    }
}

/// Sealed values of earlier commits, with the scope, namespace and name that each was sealed for. Encryption
/// never produces the same ciphertext twice.
#[derive(Default)]
struct SeenValues(BTreeSet<(Scope, String, String)>);

impl SeenValues {
    /// Returns the object with only those values that were not seen before.
    fn take_new_values(&mut self, sealed: &SealedSecret) -> SealedSecret {
        let mut new = sealed.clone();
        let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
        let place = sealed.qualified_name();
        let mut is_new = |text: &String| self.0.insert((scope, place.clone(), text.clone()));
        // Without its lock, the keys of a v2 value are unknown.
        let entries = &mut new.spec.encrypted_data;
        entries.retain(|name, text| format::is_lock_entry(name) || is_new(text));
        new.spec.data = new.spec.data.filter(&mut is_new);
        new
    }
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

/// What decides the next steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Situation {
    /// Whether every Secret of the key is retired, so that the controller does not load it.
    pub(super) is_retired: bool,
    /// Whether a newer key seals, so that no new key is needed.
    pub(super) has_successor: bool,
}

impl Situation {
    fn of(records: &[KeyRecord], key: &Fingerprint) -> Self {
        let is_key = |record: &KeyRecord| record.fingerprint() == Some(key);
        let own = || records.iter().filter(|record| is_key(record));
        let is_retired = own().all(|record| !record.facts.is_active);
        let states = record::states(records, None);
        let mut others = records.iter().zip(states).filter(|(r, _)| !is_key(r));
        let sealing = others.find(|(_, state)| *state == KeyState::Sealing);
        let is_newer = |record: &KeyRecord| {
            let time = record.facts.order_time;
            own().all(|own| own.facts.order_time < time)
        };
        Self {
            is_retired,
            has_successor: sealing.is_some_and(|(record, _)| is_retired || is_newer(record)),
        }
    }
}

fn next_steps(
    args: &KeysCompromise,
    records: &[KeyRecord],
    damage: &Damage,
    situation: Situation,
) -> String {
    let name = shown(&damage.name);
    let (location, location_flags) = (&args.location, location_flags(&args.location));
    let mut steps = vec![headline(&name, args.dry_run, situation)];
    let mut fetches =
        "fetches the certificate of the sealing key, for files and rules that name a certificate";
    if !situation.has_successor {
        steps.push(step(
            &format!("seal keys rotate{location_flags}"),
            "generates a key that is not compromised",
        ));
        fetches = "fetches its certificate, for files and rules that name a certificate";
    }
    steps.extend([
        step(&fetch_step(location, None), fetches),
        format!(
            "  add {} to `retired` in .seal.yaml, so that its certificate is refused",
            damage.fingerprint
        ),
        "  change every listed value where it is used: an attacker with the key can read them in every commit"
            .to_owned(),
    ]);
    steps.extend(damage.named.iter().map(|rule| {
        format!(
            "  replace it in the `recipients` of {rule}, so that new values are not sealed for it"
        )
    }));
    if !situation.is_retired {
        steps.extend(retirement(args, records, &name));
    }
    let steps = steps.iter().map(|step| shown(step).into_owned());
    steps.collect::<Vec<_>>().join("\n")
}

fn headline(name: &str, is_dry_run: bool, situation: Situation) -> String {
    let mark = if is_dry_run {
        "would be marked"
    } else {
        "is marked"
    };
    let effect = if situation.is_retired {
        "it is retired, so it neither unseals nor seals"
    } else {
        "it can still unseal, but never seals again"
    };
    format!("{name} {mark} as compromised: {effect}. Next:")
}

/// Returns the steps after which nothing needs the key.
fn retirement(args: &KeysCompromise, records: &[KeyRecord], name: &str) -> [String; 2] {
    [
        step(
            &rotate_step(&args.location, records),
            "re-encrypts files, after the values were changed",
        ),
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

    fn unread_lines(&self, head: [&str; 2]) -> Vec<Vec<String>> {
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        let line = |unread: &Unread| vec![unread.place.clone(), unread.why.clone()];
        lines.extend(self.unread.iter().map(line));
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
        if !self.unread.is_empty() {
            text +=
                "\nUnreadable or missing content that may include values sealed for this key:\n";
            text += &indent(&table(&self.unread_lines(["WHERE", "WHY"])));
        }
        text
    }

    fn markdown(&self) -> String {
        let mut text = format!(
            "# Compromised key {}\n\n- Fingerprint: `{}`\n- Compromised since: {}\n",
            code(&self.name),
            self.fingerprint,
            code(&self.since)
        );
        text += "\n## Values that are sealed for this key now\n\n";
        text += &markdown_table(&self.present_lines(["Where", "Item"]), "Nothing found.\n");
        text += "\n## Commits that introduced values sealed for this key\n\n";
        let head = ["Commit", "At", "Author", "File", "Items"];
        text += &markdown_table(&self.commit_lines(head), "None found.\n");
        if !self.unread.is_empty() {
            text += "\n## Unreadable or missing content that may include values sealed for this key\n\n";
            text += &markdown_table(&self.unread_lines(["Where", "Why"]), "");
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
/// issues or link elsewhere in it.
fn code(text: &str) -> String {
    // A table takes `|` as the end of a cell, even in code.
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

/// Formats a Markdown table, with its first line as the head.
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
        let cells: Vec<String> = line.iter().map(|cell| code(cell)).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use shared::manifest::{self, Reading};

    use super::*;

    fn sealed(name: &str, items: &[(&str, &str)]) -> SealedSecret {
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

    /// Attack: the author of a file or commit has a name that mentions users, closes an issue or links elsewhere in the
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
            assert_eq!(code(name), want, "{name}");
        }
    }

    #[test]
    fn a_commit_introduces_only_values_that_no_earlier_commit_had() {
        let mut seen = SeenValues::default();
        for (why, object, want) in [
            (
                "all new",
                sealed("db", &[("a", "1"), ("b", "2")]),
                vec!["a", "b"],
            ),
            (
                "one changed",
                sealed("db", &[("a", "3"), ("b", "2")]),
                vec!["a"],
            ),
            (
                "none changed",
                sealed("db", &[("a", "3"), ("b", "2")]),
                vec![],
            ),
            (
                "one added",
                sealed("db", &[("a", "3"), ("b", "2"), ("c", "4")]),
                vec!["c"],
            ),
            ("one renamed", sealed("db", &[("d", "2")]), vec![]),
            ("reverted", sealed("db", &[("a", "1")]), vec![]),
            // The ciphertext is not valid for the earlier object, so it counts as new here.
            ("another object", sealed("other", &[("a", "1")]), vec!["a"]),
        ] {
            let new = seen.take_new_values(&object).spec.encrypted_data;
            assert_eq!(new.into_keys().collect::<Vec<_>>(), want, "{why}");
        }
    }
}
