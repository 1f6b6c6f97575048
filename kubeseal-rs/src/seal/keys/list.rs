//! `seal keys list` and `seal keys status`: list keys, and how many objects and files need each.

mod json;

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use jiff::Timestamp;
use kubeseal_library::cluster::Clusters;
use kubeseal_library::environment::Environment;
use kubeseal_library::keys::survey::Depth;
use kubeseal_library::keys::{Inventory, KeyRecord, Survey, record};
use shared::key_marks::KeyState;

use super::{Search, find_holders, served_fingerprint, store, survey};
use crate::report::shown;
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
    let records = store(&args.location, &clusters)?.read()?;
    let states = record::states(
        &records,
        served_fingerprint(&args.location, &clusters).as_ref(),
    );
    let rows = rows(&records, &states, None);
    show(&rows, None, args.output, environment.now)
}

/// Lists keys with the number of objects and files that need each.
///
/// # Errors
///
/// Fails if keys, objects or files cannot be read.
pub fn status(args: &KeysStatus, environment: &Environment) -> Result<Outcome> {
    let clusters = Clusters::new(environment);
    let store = store(&args.location, &clusters)?;
    let records = store.read()?;
    let states = record::states(
        &records,
        served_fingerprint(&args.location, &clusters).as_ref(),
    );
    let search = &args.search;
    let ring = decryption::ring(&records, &search.backups, &search.decryption, environment)?;
    let sources = find_holders(&store, &args.paths, search)?;
    let depth = if args.open_all {
        Depth::All
    } else {
        Depth::Unnamed
    };
    let search_args = (search, &args.location);
    let survey = survey(&sources.holders, &ring, search_args, depth, &clusters)?;
    let rows = rows(&records, &states, Some(&survey));
    let searched = Some((&sources, &survey));
    show(&rows, searched, args.output, environment.now)?;
    match sources.unread_places() {
        0 => Ok(Outcome::Done),
        n => bail!("{n} of the files and objects cannot be read (see above), and may need any key"),
    }
}

/// The displayed data of a key.
struct Row<'a> {
    record: &'a KeyRecord,
    state: KeyState,
    /// The numbers of objects and files that need the key.
    counts: Option<(usize, usize)>,
}

fn rows<'a>(
    records: &'a [KeyRecord],
    states: &[KeyState],
    survey: Option<&Survey>,
) -> Vec<Row<'a>> {
    let row = |(record, state): (&'a KeyRecord, &KeyState)| Row {
        counts: survey.map(|survey| {
            record
                .fingerprint()
                .map_or((0, 0), |key| survey.counts(key))
        }),
        state: *state,
        record,
    };
    records.iter().zip(states).map(row).rev().collect()
}

/// The searched objects and files, and the keys that they need.
type Searched<'a> = Option<(&'a Inventory, &'a Survey)>;

fn show(
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
        if let Err(problem) = &row.record.key {
            let line = format!("{} is broken: {problem}", row.record.name());
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
            "\n{} of {} objects are counted for the key that their annotation or status names; --open-all unseals \
             them to make sure",
            survey.unopened,
            survey.found.len()
        );
    }
    for unread in &sources.unread {
        let line = format!(
            "{}: cannot determine which keys it needs: {}",
            unread.place, unread.why
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
    head.push("FINGERPRINT");
    let mut lines: Vec<Vec<String>> = vec![head.into_iter().map(str::to_owned).collect()];
    lines.extend(rows.iter().map(|row| columns(row, now)));
    table(&lines)
}

fn columns(row: &Row, now: Timestamp) -> Vec<String> {
    let facts = &row.record.facts;
    let date = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), day);
    let created = facts.fingerprint.as_ref().map(|_| facts.order_time);
    let mut columns = vec![
        row.record.name().to_owned(),
        state_text(row),
        created.map_or_else(|| "-".to_owned(), |created| age(created, now)),
        date(row.record.valid_until()),
        facts
            .marks
            .backed_up
            .map_or_else(|| "never".to_owned(), day),
    ];
    if let Some((objects, files)) = row.counts {
        columns.extend([objects.to_string(), files.to_string()]);
    }
    let fingerprint = row.record.fingerprint();
    columns.push(fingerprint.map_or_else(|| "-".to_owned(), ToString::to_string));
    columns
}

/// Returns the state. A retired key may be compromised too.
fn state_text(row: &Row) -> String {
    let state = row.state.name();
    if row.state == KeyState::Retired && row.record.facts.marks.is_compromised {
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

/// Formats a table with aligned columns.
pub(super) fn table(lines: &[Vec<String>]) -> String {
    let shown = |line: &Vec<String>| line.iter().map(|cell| shown(cell).into_owned()).collect();
    let lines: Vec<Vec<String>> = lines.iter().map(shown).collect();
    let column_count = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let widths = lines.iter().filter_map(|line| line.get(column));
        widths.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..column_count).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let padded: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        let _ = writeln!(text, "{}", padded.join("  ").trim_end());
    }
    text
}
