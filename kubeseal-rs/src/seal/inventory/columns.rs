//! The columns of tables, in text, CSV and HTML.

use jiff::Timestamp;
use kubeseal_library::git::{FileCommit, LastChange};
use kubeseal_library::inventory::live::{Condition, LiveObject};
use kubeseal_library::inventory::{Content, Position, Row, State};

use super::Listing;
use crate::report::path_text;

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Namespace,
    Name,
    State,
    Condition,
    Unsealed,
    Secret,
    Delivery,
    Items,
    ItemNames,
    Scope,
    Formats,
    Keys,
    KeyAge,
    RotateBy,
    File,
    Line,
    Changed,
    Commit,
    Author,
}

/// The content of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Text(String),
    Number(i64),
    /// The value is unknown, or does not exist.
    Unknown,
}

impl Column {
    pub(super) const ALL: [Self; 19] = [
        Self::Namespace,
        Self::Name,
        Self::State,
        Self::Condition,
        Self::Unsealed,
        Self::Secret,
        Self::Delivery,
        Self::Items,
        Self::ItemNames,
        Self::Scope,
        Self::Formats,
        Self::Keys,
        Self::KeyAge,
        Self::RotateBy,
        Self::File,
        Self::Line,
        Self::Changed,
        Self::Commit,
        Self::Author,
    ];

    /// Returns the columns that apply to a listing: those of a cluster and of files only if they were read.
    pub(super) fn of(listing: &Listing) -> Vec<Self> {
        let is_shown = |column: &Self| match column {
            Self::State | Self::Condition | Self::Unsealed | Self::Secret | Self::Delivery => {
                listing.has_cluster
            }
            Self::File | Self::Line | Self::Changed | Self::Commit | Self::Author => {
                listing.has_files
            }
            _ => true,
        };
        Self::ALL.into_iter().filter(is_shown).collect()
    }

    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Name => "Name",
            Self::State => "State",
            Self::Condition => "Condition",
            Self::Unsealed => "Unsealed",
            Self::Secret => "Secret",
            Self::Delivery => "Delivery",
            Self::Items => "Items",
            Self::ItemNames => "Item names",
            Self::Scope => "Scope",
            Self::Formats => "Formats",
            Self::Keys => "Keys",
            Self::KeyAge => "Key days",
            Self::RotateBy => "Rotate by",
            Self::File => "File",
            Self::Line => "Line",
            Self::Changed => "Changed",
            Self::Commit => "Commit",
            Self::Author => "Author",
        }
    }

    pub(super) fn cell(self, row: &Row, listing: &Listing) -> Cell {
        match self {
            Self::Namespace => text_or_unknown(row.namespace.clone()),
            Self::Name => Cell::Text(row.name.clone()),
            Self::State => text_or_unknown(row.state.map(State::name)),
            Self::Condition | Self::Unsealed | Self::Secret => row
                .live
                .as_ref()
                .map_or(Cell::Unknown, |live| self.live(live)),
            Self::Delivery
            | Self::Items
            | Self::ItemNames
            | Self::Scope
            | Self::Formats
            | Self::Keys
            | Self::KeyAge
            | Self::RotateBy => {
                let content = row.content.as_ref();
                content.map_or(Cell::Unknown, |content| self.content(content, listing))
            }
            Self::File | Self::Line | Self::Changed | Self::Commit | Self::Author => {
                let position = row.position.as_ref();
                position.map_or(Cell::Unknown, |position| self.position(position))
            }
        }
    }

    fn live(self, live: &LiveObject) -> Cell {
        match self {
            Self::Condition => text_or_unknown(live.condition.as_ref().map(condition_text)),
            Self::Unsealed => text_or_unknown(generations(live)),
            Self::Secret => Cell::Text(secret_text(live.has_secret).to_owned()),
            _ => Cell::Unknown,
        }
    }

    fn content(self, content: &Content, listing: &Listing) -> Cell {
        match self {
            Self::Delivery => Cell::Text(content.delivery.name().to_owned()),
            Self::Items => Cell::Number(i64::try_from(content.items.len()).unwrap_or(i64::MAX)),
            Self::ItemNames => list_cell(&content.items),
            Self::Scope => Cell::Text(content.scope.to_string()),
            Self::Formats => list_cell(&content.formats),
            Self::Keys => list_cell(&content.keys),
            Self::RotateBy => text_or_unknown(content.rotate_by.map(|date| date.to_string())),
            Self::KeyAge => match listing.times.newest(content) {
                Some(since) => Cell::Number(days(since, listing.now)),
                None => Cell::Unknown,
            },
            _ => Cell::Unknown,
        }
    }

    fn position(self, position: &Position) -> Cell {
        let commit = commit(position);
        match self {
            Self::File => Cell::Text(path_text(position.path.as_os_str()).into_owned()),
            Self::Line => Cell::Number(i64::try_from(position.line).unwrap_or(i64::MAX)),
            Self::Changed if position.change == Some(LastChange::Older) => {
                Cell::Text("older".to_owned())
            }
            Self::Changed => text_or_unknown(commit.and_then(|commit| commit.at).map(day)),
            Self::Commit => text_or_unknown(hash(position)),
            Self::Author => text_or_unknown(commit.map(|commit| commit.author.clone())),
            _ => Cell::Unknown,
        }
    }
}

/// Returns the commit that changed a file last, if it is known.
pub(super) fn commit(position: &Position) -> Option<&FileCommit> {
    match &position.change {
        Some(LastChange::Commit(commit)) => Some(commit),
        Some(LastChange::Older) | None => None,
    }
}

/// Returns the hash of the commit that changed a file last; `None` with `--redact`.
pub(super) fn hash(position: &Position) -> Option<String> {
    let hash = commit(position).map(|commit| commit.hash.clone());
    hash.filter(|hash| !hash.is_empty())
}

/// Returns whether the Secret exists, as text.
pub(super) fn secret_text(has_secret: Option<bool>) -> &'static str {
    match has_secret {
        Some(true) => "exists",
        Some(false) => "missing",
        None => "unknown",
    }
}

/// Returns the number of days since a key may seal.
pub(super) fn days(since: Timestamp, now: Timestamp) -> i64 {
    now.duration_since(since).as_hours() / 24
}

fn condition_text(condition: &Condition) -> String {
    let kind = condition.kind;
    match (condition.status.as_str(), condition.reason.as_str()) {
        ("True", _) => kind.to_owned(),
        (status, "") => format!("{kind}={status}"),
        (status, reason) => format!("{kind}={status} ({reason})"),
    }
}

/// Returns the newest generation that was unsealed, and the newest one.
fn generations(live: &LiveObject) -> Option<String> {
    Some(format!(
        "{} of {}",
        live.unsealed_generation?, live.generation?
    ))
}

fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

fn text_or_unknown(text: Option<impl Into<String>>) -> Cell {
    text.map_or(Cell::Unknown, |text| Cell::Text(text.into()))
}

/// Returns the names in one cell.
fn list_cell<'a>(names: impl IntoIterator<Item = &'a String>) -> Cell {
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    if names.is_empty() {
        return Cell::Unknown;
    }
    Cell::Text(names.join(", "))
}
