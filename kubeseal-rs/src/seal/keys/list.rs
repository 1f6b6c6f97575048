//! `seal keys list` and `seal keys status`: list keys; `status` also counts the objects and files that need each key.

mod json;

use std::fmt::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use jiff::Timestamp;
use kubeseal_library::cluster::Clusters;
use kubeseal_library::environment::Environment;
use kubeseal_library::keys::survey::{self, Depth};
use kubeseal_library::keys::{Inventory, KeyRecord, Survey, V2KeyRecord, record, v2};
use shared::key::Fingerprint;
use shared::key_marks::{KeyState, Marks};
use shared::v2::{KeyId, Suite};

use super::served::Served;
use super::{Search, find_holders, open_store, survey as run_survey};
use crate::report::shown;
use crate::seal::table::table;
use crate::seal::{Outcome, decryption, output, print};
use crate::seal_args::{KeyLocation, OutputFormat};

/// Arguments of `seal keys list`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  seal keys list --directory state\n  seal keys list --directory state -o json"
)]
pub struct KeysList {
    /// Output format
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    /// The cluster or directory with the keys.
    #[command(flatten)]
    pub location: KeyLocation,
}

/// Arguments of `seal keys status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  seal keys status prod --directory state\n  seal keys status --all-branches . --directory state -o json"
)]
pub struct KeysStatus {
    /// Files and directories to search besides the cluster
    pub paths: Vec<PathBuf>,
    /// Unseal every value instead of trusting the key that an object names; the default for up to 200 objects
    #[arg(long)]
    pub open_all: bool,
    /// Output format
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: OutputFormat,
    /// Where to search for values that need a key.
    #[command(flatten)]
    pub search: Search,
    /// The cluster or directory with the keys.
    #[command(flatten)]
    pub location: KeyLocation,
}

/// Lists keys.
///
/// # Errors
///
/// Fails if the keys cannot be read.
pub fn list(args: &KeysList, environment: &Environment) -> Result<Outcome> {
    let clusters = Clusters::new(environment);
    let store = open_store(&args.location, &clusters)?;
    let (records, v2_records) = (store.read()?, store.read_v2()?);
    let served = Served::find(&args.location, &clusters, &records, &v2_records);
    let states = record::states(&records, served.certificate.as_ref());
    let mut rows = rows(&records, &states, None);
    rows.extend(v2_rows(&v2_records, &served, None));
    print_rows(&rows, None, args.output, environment.now)
}

/// Lists keys with the number of objects and files that need each.
///
/// # Errors
///
/// Fails if keys, objects or files cannot be read.
pub fn status(args: &KeysStatus, environment: &Environment) -> Result<Outcome> {
    let clusters = Clusters::new(environment);
    let store = open_store(&args.location, &clusters)?;
    let (records, v2_records) = (store.read()?, store.read_v2()?);
    let served = Served::find(&args.location, &clusters, &records, &v2_records);
    let states = record::states(&records, served.certificate.as_ref());
    let search = &args.search;
    let ring = decryption::ring(&records, &search.backups, &search.decryption, environment)?;
    let ring = v2::add_to_ring(ring, &v2_records);
    let sources = find_holders(&store, &args.paths, search)?;
    let depth = if args.open_all {
        Depth::All
    } else {
        Depth::Unnamed
    };
    let search_args = (search, &args.location);
    let survey = run_survey(&sources.holders, &ring, search_args, depth, &clusters)?;
    let searched = Some((&sources, &survey));
    let mut rows = rows(&records, &states, searched);
    rows.extend(v2_rows(&v2_records, &served, Some(&sources)));
    print_rows(&rows, searched, args.output, environment.now)?;
    match sources.count_unreadable() {
        0 => Ok(Outcome::Done),
        n => bail!(
            "{n} of the files and objects cannot be read (see above): retire no key until they can, since any of the \
             keys may be needed"
        ),
    }
}

/// A row of the output: a key.
struct Row {
    name: String,
    state: KeyState,
    created: Option<Timestamp>,
    valid_until: Option<Timestamp>,
    marks: Marks,
    id: Option<Id>,
    file: Option<PathBuf>,
    problem: Option<String>,
    /// The numbers of objects and files that need the key; `None` for `seal keys list`.
    counts: Option<(usize, usize)>,
}

/// The identifier of a key.
enum Id {
    Fingerprint(Fingerprint),
    V2(Suite, KeyId),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fingerprint(fingerprint) => fingerprint.fmt(f),
            Self::V2(suite, id) => write!(f, "{suite} {} ({id})", id.short()),
        }
    }
}

fn rows(records: &[KeyRecord], states: &[KeyState], searched: Searched<'_>) -> Vec<Row> {
    let row = |(record, state): (&KeyRecord, &KeyState)| Row {
        name: record.name().to_owned(),
        state: *state,
        created: record.fingerprint().map(|_| record.properties.order_time),
        valid_until: record.valid_until(),
        marks: record.properties.marks,
        id: record.fingerprint().cloned().map(Id::Fingerprint),
        file: record.file.clone(),
        problem: record.key.as_ref().err().cloned(),
        counts: searched.map(|(sources, survey)| {
            let key = record.key.as_ref();
            key.map_or((0, 0), |key| survey.count_holders(&sources.holders, key))
        }),
    };
    records.iter().zip(states).map(row).rev().collect()
}

/// Returns a row for each v2 key. The items sealed for a v2 key are visible without the key.
fn v2_rows(records: &[V2KeyRecord], served: &Served, sources: Option<&Inventory>) -> Vec<Row> {
    let states = v2::states(records, served.preferred_id());
    let row = |(record, state): (&V2KeyRecord, KeyState)| {
        let key = record.key.as_ref();
        Row {
            name: record.name().to_owned(),
            state,
            created: record.not_before(),
            valid_until: key.ok().map(|key| key.validity().1),
            marks: record.marks,
            id: key.ok().map(|key| Id::V2(key.suite(), key.key_id())),
            file: record.file.clone(),
            problem: key.err().cloned(),
            counts: sources.map(|sources| v2_counts(sources, record.key_id())),
        }
    };
    records.iter().zip(states).map(row).rev().collect()
}

/// Returns the numbers of objects and of files with an item for this key, as a survey counts them.
fn v2_counts(sources: &Inventory, key: Option<KeyId>) -> (usize, usize) {
    let Some(key) = key else {
        return (0, 0);
    };
    let holders = sources.holders.iter();
    let needing = holders.filter(|holder| !v2::items_for(&holder.sealed, key.short()).is_empty());
    survey::count(needing.map(|holder| &holder.origin))
}

/// The searched objects and files, and the keys that they need; `None` for `seal keys list`.
type Searched<'a> = Option<(&'a Inventory, &'a Survey)>;

fn print_rows(
    rows: &[Row],
    searched: Searched<'_>,
    form: OutputFormat,
    now: Timestamp,
) -> Result<Outcome> {
    match form {
        OutputFormat::Text => print(text(rows, searched, now).as_bytes()),
        OutputFormat::Json => print(&output::json(&json::KeysReport::new(rows, searched))?),
    }
}

fn text(rows: &[Row], searched: Searched<'_>, now: Timestamp) -> String {
    let mut text = if rows.is_empty() {
        "no keys\n".to_owned()
    } else {
        keys_table(rows, searched.is_some(), now)
    };
    for row in rows {
        if let Some(problem) = &row.problem {
            let line = format!("{} is broken: {problem}", row.name);
            let _ = writeln!(text, "\n{}", shown(&line));
        }
    }
    let Some((sources, survey)) = searched else {
        return text;
    };
    for (origin, item) in survey.undecided() {
        let line = format!("{origin}, item {item}: no key can unseal it");
        let _ = writeln!(text, "\n{}", shown(&line));
    }
    if survey.unopened > 0 {
        let _ = writeln!(
            text,
            "\n{} of {} objects are counted for the key that their annotation or status names; pass --open-all to \
             unseal them and be sure",
            survey.unopened,
            survey.objects.len()
        );
    }
    for unreadable in &sources.unreadable {
        let line = format!(
            "{}: cannot determine which keys it needs: {}",
            unreadable.location, unreadable.why
        );
        let _ = writeln!(text, "\n{}", shown(&line));
    }
    text
}

fn keys_table(rows: &[Row], has_counts: bool, now: Timestamp) -> String {
    let mut head = vec!["NAME", "STATE", "AGE", "VALID UNTIL", "BACKED UP"];
    if has_counts {
        head.extend(["OBJECTS", "FILES"]);
    }
    head.push("FINGERPRINT OR ID");
    let mut lines: Vec<Vec<String>> = vec![head.into_iter().map(str::to_owned).collect()];
    lines.extend(rows.iter().map(|row| columns(row, now)));
    table(&lines)
}

fn columns(row: &Row, now: Timestamp) -> Vec<String> {
    let date = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), day);
    let mut columns = vec![
        row.name.clone(),
        state_text(row),
        row.created
            .map_or_else(|| "-".to_owned(), |created| age(created, now)),
        date(row.valid_until),
        row.marks.backed_up.map_or_else(|| "never".to_owned(), day),
    ];
    if let Some((objects, files)) = row.counts {
        columns.extend([objects.to_string(), files.to_string()]);
    }
    let id = row.id.as_ref();
    columns.push(id.map_or_else(|| "-".to_owned(), ToString::to_string));
    columns
}

/// Returns the state. A retired key may be compromised too.
fn state_text(row: &Row) -> String {
    let state = row.state.name();
    if row.state == KeyState::Retired && row.marks.is_compromised {
        return format!("{state}, {}", KeyState::Compromised.name());
    }
    state.to_owned()
}

fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

/// Formats an age in days, or in hours for the first two days.
fn age(created: Timestamp, now: Timestamp) -> String {
    let hours = now.duration_since(created).as_hours();
    if hours < 48 {
        format!("{hours}h")
    } else {
        format!("{}d", hours / 24)
    }
}
