//! The table for people.

use kubeseal_library::inventory::{Row, State};

use super::Listing;
use super::columns::{Cell, Column};
use crate::report::Paint;
use crate::seal::table::painted;

/// The number of characters of a key identifier in the table.
const KEY_LEN: usize = 8;

/// Formats the rows as a table, and the summary. Colors the states if `paint` is given.
pub(super) fn text(listing: &Listing, paint: Option<Paint>) -> String {
    let summary = summary(listing);
    if listing.rows.is_empty() {
        return format!("{summary}\n");
    }
    let mut columns = Column::of(listing);
    columns.retain(|column| match column {
        Column::Line | Column::ItemNames => false,
        Column::RotateBy => has_dates(listing),
        _ => true,
    });
    let heading = |column: &Column| column.heading().to_uppercase();
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(heading).collect()];
    for row in &listing.rows {
        let cell = |column: &Column| cell(*column, row, listing);
        lines.push(columns.iter().map(cell).collect());
    }
    let table = painted(&lines, |column, text| match paint {
        Some(paint) if columns[column] == Column::State => painted_state(paint, text),
        _ => text,
    });
    format!("{table}\n{summary}\n")
}

fn has_dates(listing: &Listing) -> bool {
    let mut contents = listing.rows.iter().flat_map(|row| &row.content);
    contents.any(|content| content.rotate_by.is_some())
}

fn cell(column: Column, row: &Row, listing: &Listing) -> String {
    let content = row.content.as_ref();
    match (column, column.cell(row, listing), content) {
        (Column::Keys, Cell::Text(_), Some(content)) => {
            let keys: Vec<&str> = content.keys.iter().map(|key| short_key(key)).collect();
            keys.join(", ")
        }
        (Column::File, Cell::Text(file), _) => {
            let line = row.position.as_ref().map_or(0, |position| position.line);
            format!("{file}:{line}")
        }
        (_, Cell::Text(text), _) => text,
        (_, Cell::Number(number), _) => number.to_string(),
        (_, Cell::Unknown, _) => "-".to_owned(),
    }
}

/// Returns the beginning of a fingerprint or key identifier.
fn short_key(key: &str) -> &str {
    let start = key.find(':').map_or(0, |colon| colon + 1);
    key.get(..start + KEY_LEN).unwrap_or(key)
}

fn painted_state(paint: Paint, text: String) -> String {
    match text.trim_end() {
        "ok" => paint.green(&text),
        "pending" => paint.yellow(&text),
        "failed" | "differs" | "not-in-cluster" | "no-file" => paint.red(&text),
        _ => text,
    }
}

/// Returns the numbers of objects and files, by state and by format, in one line.
pub(super) fn summary(listing: &Listing) -> String {
    let summary = &listing.summary;
    let mut parts = vec![counted(summary.objects, "object")];
    if listing.has_files {
        parts[0] += " in ";
        parts[0] += &counted(summary.files, "file");
    }
    let states = summary.states.iter();
    let states = states.map(|(state, count)| format!("{count} {}", State::name(*state)));
    let formats = summary.formats.iter();
    let formats = formats.map(|(format, count)| format!("{count} with {format}"));
    let lists = [states.collect::<Vec<_>>(), formats.collect()];
    let lists = lists.into_iter().filter(|list| !list.is_empty());
    parts.extend(lists.map(|list| list.join(", ")));
    parts.join("; ")
}

fn counted(count: usize, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::listing;
    use super::*;

    #[test]
    fn shows_states_and_a_summary() {
        let want = "\
NAMESPACE  NAME  STATE   CONDITION                    UNSEALED  SECRET  DELIVERY  ITEMS  SCOPE   FORMATS  KEYS             KEY DAYS  FILE       CHANGED     COMMIT      AUTHOR
shop       db    failed  Synced=False (UnsealFailed)  2 of 3    exists  secret    1      strict  v1 2048  SHA256:7/xku5xr  -         db.yaml:4  1970-01-01  0123456789  db
shop       zzz   failed  Synced=False (UnsealFailed)  2 of 3    exists  -         -      -       -        -                -         -          -           -           -

2 objects in 1 file; 2 failed; 1 with v1 2048
";
        assert_eq!(text(&listing("db"), None), want);
    }

    #[test]
    fn shows_dates_if_an_object_has_one() {
        let mut listing = listing("db");
        let content = listing.rows[0].content.as_mut().unwrap();
        content.rotate_by = Some(jiff::civil::date(2027, 3, 1));
        let text = text(&listing, None);
        assert!(
            text.contains("  ROTATE BY   FILE ") && text.contains("  2027-03-01  db.yaml:4"),
            "{text}"
        );
    }

    /// Attack: the author of a commit chooses a name that controls the terminal.
    #[test]
    fn escapes_terminal_control_characters() {
        let text = text(&listing("a\u{1b}[2J\u{202e}\nb"), None);
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
        assert_eq!(text.lines().count(), 5, "{text}");
    }
}
