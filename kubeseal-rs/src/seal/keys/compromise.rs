//! `seal keys compromise`: marks a key as known to others, and reports the values that were sealed
//! for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use kubeseal_library::cluster::Clusters;
use kubeseal_library::environment::Environment;
use kubeseal_library::git;
use kubeseal_library::keys::history::{self, Commit};
use kubeseal_library::keys::store::Change;
use kubeseal_library::keys::survey::Dependent;
use kubeseal_library::keys::{KeyRecord, Unread, marked};
use serde_json::{Value as Json, json};
use shared::error_chain;
use shared::key::Fingerprint;
use shared::key_ring::KeyRing;
use shared::needs::{Need, needs};
use shared::resource::{COMPROMISED_ANNOTATION, SealedSecret};
use shared::scope::Scope;

use super::list::table;
use super::{
    Search, again, all_readable, fetch_step, find, rotate_step, step, store, survey_all,
    unread_json,
};
use crate::report::{self, shown};
use crate::seal::{Outcome, print};
use crate::seal_args::{Place, ReportForm};

/// Arguments of `seal keys compromise`.
#[derive(Debug, Args)]
#[command(
    after_help = "The marked key can still unseal, but never seals again. Treat every listed value as known to \
others.\n\n\
Examples:\n  seal keys compromise key-old . --directory state --output markdown > ticket.md"
)]
pub struct KeysCompromise {
    /// Name of the key Secret, or fingerprint
    pub key: String,
    /// Files and folders to search besides the cluster; of a repository the whole history
    pub paths: Vec<PathBuf>,
    /// Format of the report
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: ReportForm,
    /// Report without marking the key
    #[arg(long)]
    pub dry_run: bool,
    /// Where to search for what needs a key.
    #[command(flatten)]
    pub search: Search,
    /// The cluster or folder with the keys.
    #[command(flatten)]
    pub place: Place,
}

/// The values that are known to others and have to be replaced.
struct Damage {
    name: String,
    fingerprint: Fingerprint,
    since: String,
    /// Items that exist now.
    present: Vec<Dependent>,
    /// Commits that introduced such items, with the items of each.
    commits: Commits,
    /// Files and objects that may contain such items but cannot be read.
    unread: BTreeSet<Unread>,
}

type Commits = Vec<(Commit, BTreeSet<String>)>;

/// Runs the command. The key is marked only after everything was read, and before the report is printed, so that a failure to print
/// does not leave it in use.
///
/// # Errors
///
/// Fails if something cannot be read; then nothing is marked.
pub fn run(args: &KeysCompromise, environment: &Environment) -> Result<Outcome> {
    let clusters = Clusters::new(environment);
    let store = store(&args.place, &clusters)?;
    let records = all_readable(store.read()?)?;
    let (record, fingerprint) = find(&records, &args.key, &args.place)?;
    let search_args = (&args.search, &args.place);
    let (ring, mut found, survey) =
        survey_all(&store, &records, &args.paths, search_args, &clusters)?;
    let (commits, unread) = commits(args, &ring, &fingerprint)?;
    found.unread.extend(unread);
    let damage = Damage {
        name: record.name().to_owned(),
        since: since(record, environment),
        present: survey
            .dependents(&fingerprint, 0)
            .into_iter()
            .filter(|dependent| dependent.is_sure)
            .collect(),
        commits,
        unread: found.unread,
        fingerprint,
    };
    if !args.dry_run {
        // Mark every Secret with this key: one without the mark would remain usable for sealing.
        let same = |other: &&KeyRecord| other.fingerprint() == Some(&damage.fingerprint);
        let mark = Change::annotation(COMPROMISED_ANNOTATION, damage.since.clone());
        for (done, record) in records.iter().filter(same).enumerate() {
            store.change(record, &mark).with_context(|| {
                let name = record.name();
                format!(
                    "{done} Secrets of this key are marked and {name} is not\nhint: run the command again"
                )
            })?;
        }
        let cache = environment.cache_folder();
        let remembered = marked::remember(cache.as_deref(), &damage.fingerprint, &damage.since);
        if let Err(error) = remembered {
            report::warn(&format!(
                "cannot record the mark locally, so `seal` will not refuse certificates of this key: {}",
                error_chain(&error)
            ));
        }
    }
    print(&damage.report(args.output)?)?;
    report::info_lines(&next(args, &records, &damage));
    Ok(Outcome::Done)
}

/// Returns the time of the mark. An existing mark is kept.
fn since(record: &KeyRecord, environment: &Environment) -> String {
    let annotations = record.secret.metadata.annotations.as_ref();
    let before = annotations
        .and_then(|a| a.get(COMPROMISED_ANNOTATION))
        .cloned();
    before.unwrap_or_else(|| environment.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Searches the commits of the paths' repositories. Also returns what cannot be read there. A path
/// outside a repository has no commits.
fn commits(
    args: &KeysCompromise,
    ring: &KeyRing,
    key: &Fingerprint,
) -> Result<(Commits, BTreeSet<Unread>)> {
    let mut found = Vec::new();
    let mut unread = BTreeMap::<(String, String), BTreeSet<String>>::new();
    let in_repository = |path: &&std::path::PathBuf| {
        std::path::absolute(path).is_ok_and(|path| git::work_tree(&path).is_some())
    };
    let paths: Vec<_> = args.paths.iter().filter(in_repository).cloned().collect();
    for repository in history::repositories(&paths)? {
        let mut seen = Seen::default();
        let mut brought = Vec::new();
        // Oldest first: a value counts for the commit that introduced it, not for each commit that
        // changed its file.
        for (commit, contents) in history::in_commits(&repository)?.into_iter().rev() {
            for why in contents.unread {
                let commits = unread.entry((commit.path.clone(), why)).or_default();
                commits.insert(commit.id.clone());
            }
            let new = contents.sealed.iter().map(|sealed| seen.new_of(sealed));
            let items: BTreeSet<String> = new.flat_map(|new| needing(&new, ring, key)).collect();
            if !items.is_empty() {
                brought.push((commit, items));
            }
        }
        found.extend(brought.into_iter().rev());
    }
    let unread = unread.into_iter().map(|((path, why), commits)| Unread {
        place: format!("{path} ({})", in_commits(&commits)),
        why,
    });
    Ok((found, unread.collect()))
}

/// Returns the items that this key decrypts, as NAME/ITEM.
fn needing(sealed: &SealedSecret, ring: &KeyRing, key: &Fingerprint) -> Vec<String> {
    let items = needs(sealed, ring).into_iter();
    let ours = items.filter(|(_, need)| *need == Need::Key(key.clone()));
    let name = sealed.name_or_empty();
    ours.map(|(item, _)| format!("{name}/{item}")).collect()
}

/// Sealed values of earlier commits, with the scope, namespace and name that each was sealed for. Encryption
/// never produces the same ciphertext twice.
#[derive(Default)]
struct Seen(BTreeSet<(Scope, String, String)>);

impl Seen {
    /// Returns the object with only those values that were not seen before.
    fn new_of(&mut self, sealed: &SealedSecret) -> SealedSecret {
        let mut new = sealed.clone();
        let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
        let place = sealed.place();
        let mut is_new = |text: &String| self.0.insert((scope, place.clone(), text.clone()));
        new.spec.encrypted_data.retain(|_, text| is_new(text));
        new.spec.data = new.spec.data.filter(&mut is_new);
        new
    }
}

fn in_commits(ids: &BTreeSet<String>) -> String {
    let first = ids.first().map(|id| short(id)).unwrap_or_default();
    match ids.len() {
        0 | 1 => format!("commit {first}"),
        count => format!("{count} commits, such as {first}"),
    }
}

fn short(commit: &str) -> String {
    commit.chars().take(12).collect()
}

fn next(args: &KeysCompromise, records: &[KeyRecord], damage: &Damage) -> String {
    let name = shown(&damage.name);
    let (place, again) = (&args.place, again(&args.place));
    let marked = if args.dry_run {
        "would be marked"
    } else {
        "is marked"
    };
    let steps = [
        format!("{name} {marked} as compromised: it can still unseal, but never seals again. Next:"),
        step(&format!("seal keys rotate{again}"), "generates a key that is not known to others"),
        step(
            &fetch_step(place, None),
            "fetches its certificate, for files and rules that name a certificate",
        ),
        format!(
            "  add {} to `retired` in .seal.yaml, so that its certificate is refused",
            damage.fingerprint
        ),
        "  change every listed value where it is used: an attacker with the key can read them in every commit"
            .to_owned(),
        step(
            &rotate_step(place, records),
            "re-encrypts files, after the values were changed",
        ),
        step(
            &format!("seal keys retire {name} PATH{again}"),
            "retires the key when nothing needs it",
        ),
    ];
    steps.map(|step| shown(&step).into_owned()).join("\n")
}

impl Damage {
    fn report(&self, form: ReportForm) -> Result<Vec<u8>> {
        Ok(match form {
            ReportForm::Text => self.text().into_bytes(),
            ReportForm::Markdown => self.markdown().into_bytes(),
            ReportForm::Json => super::json_bytes(&self.json())?,
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
                short(&commit.id),
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
            text += "\nNothing found that is sealed for it now.\n";
        } else {
            text += "\nSealed for it now:\n";
            text += &indented(&table(&self.present_lines(["WHERE", "ITEM"])));
        }
        if !self.commits.is_empty() {
            text += "\nCommits that introduced values sealed for it:\n";
            let head = ["COMMIT", "AT", "AUTHOR", "FILE", "ITEMS"];
            text += &indented(&table(&self.commit_lines(head)));
        }
        if !self.unread.is_empty() {
            text += "\nUnreadable, may be sealed for it:\n";
            text += &indented(&table(&self.unread_lines(["WHERE", "WHY"])));
        }
        text
    }

    fn markdown(&self) -> String {
        let mut text = format!(
            "# Compromised key `{}`\n\n- Fingerprint: `{}`\n- Compromised since: {}\n",
            shown(&self.name),
            self.fingerprint,
            shown(&self.since)
        );
        text += "\n## Sealed for it now\n\n";
        text += &rows(&self.present_lines(["Where", "Item"]), "Nothing found.\n");
        text += "\n## Commits that introduced values sealed for it\n\n";
        let head = ["Commit", "At", "Author", "File", "Items"];
        text += &rows(&self.commit_lines(head), "None found.\n");
        if !self.unread.is_empty() {
            text += "\n## Unreadable, may be sealed for it\n\n";
            text += &rows(&self.unread_lines(["Where", "Why"]), "");
        }
        text
    }

    fn json(&self) -> Json {
        let present = self
            .present
            .iter()
            .map(|d| json!({"where": d.origin.to_string(), "item": d.item}));
        let commits = self.commits.iter().map(|(commit, items)| {
            json!({
                "commit": commit.id, "at": commit.at, "author": commit.author,
                "file": commit.path, "items": items,
            })
        });
        json!({
            "key": self.name,
            "fingerprint": self.fingerprint.to_string(),
            "since": self.since,
            "present": present.collect::<Vec<_>>(),
            "commits": commits.collect::<Vec<_>>(),
            "unread": unread_json(&self.unread),
        })
    }
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "  {line}");
        all
    })
}

/// Escapes the characters of Markdown and HTML, so that a file name cannot format the ticket or link elsewhere.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in shown(text).chars() {
        if "\\`*[]<>|~&".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Formats a Markdown table.
fn rows(lines: &[Vec<String>], otherwise: &str) -> String {
    if lines.len() < 2 {
        return otherwise.to_owned();
    }
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate() {
        let cells: Vec<String> = line.iter().map(|cell| escaped(cell)).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
        if i == 0 {
            let _ = writeln!(text, "|{}", " --- |".repeat(line.len()));
        }
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

    #[test]
    fn a_commit_introduces_only_values_that_no_earlier_commit_had() {
        let mut seen = Seen::default();
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
            let new = seen.new_of(&object).spec.encrypted_data;
            assert_eq!(new.into_keys().collect::<Vec<_>>(), want, "{why}");
        }
    }
}
