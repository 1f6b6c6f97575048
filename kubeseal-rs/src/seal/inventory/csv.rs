//! Comma-separated values (RFC 4180).

use super::Listing;
use super::columns::{Cell, Column};
use crate::report::shown;

/// The beginning of every such output, by which a file is recognized before it is replaced.
pub(super) const START: &[u8] = b"namespace,name,";

/// Formats the rows with a header row. An unknown value is an empty cell.
pub(super) fn csv(listing: &Listing) -> String {
    let columns = Column::of(listing);
    let names = columns.iter().map(|column| name(*column));
    let mut text = line(names);
    for row in &listing.rows {
        let cells = columns.iter().map(|column| column.cell(row, listing));
        text += &line(cells.map(|cell| cell_text(&cell)));
    }
    text
}

/// Returns the name of a column in the header: the heading in lower case, with a hyphen for a space.
fn name(column: Column) -> String {
    column.heading().to_lowercase().replace(' ', "-")
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<String> = cells.collect();
    cells.join(",") + "\r\n"
}

fn cell_text(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => quoted(&guarded(&shown(text))),
        Cell::Number(number) => number.to_string(),
        Cell::Unknown => String::new(),
    }
}

/// Prefixes a text that a spreadsheet would evaluate as a formula with an apostrophe. Spreadsheets also accept the wide
/// forms of these characters, and some skip white space before them.
fn guarded(text: &str) -> String {
    let starts_formula = text.trim_start().starts_with([
        '=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
    ]);
    if starts_formula {
        return format!("'{text}");
    }
    text.to_owned()
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) || text.trim() != text {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FINGERPRINT, listing};
    use super::*;

    #[test]
    fn has_a_header_and_an_empty_cell_for_each_unknown_value() {
        let want = [
            "namespace,name,state,condition,unsealed,secret,delivery,items,item-names,scope,formats,keys,key-days,rotate-by,file,line,changed,commit,author",
            &format!(
                "shop,db,failed,Synced=False (UnsealFailed),2 of 3,exists,secret,1,password,strict,v1 2048,{FINGERPRINT},,,db.yaml,4,1970-01-01,0123456789,db"
            ),
            "shop,zzz,failed,Synced=False (UnsealFailed),2 of 3,exists,,,,,,,,,,,,,",
            "",
        ];
        let csv = csv(&listing("db"));
        assert_eq!(csv.split("\r\n").collect::<Vec<_>>(), want);
        assert!(csv.as_bytes().starts_with(START));
    }

    /// Attack: the author of a commit, or of a manifest, chooses a name that a spreadsheet evaluates, or that adds
    /// cells or rows.
    #[test]
    fn guards_against_formulas_and_added_cells() {
        for (text, want) in [
            ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            (" =1", "' =1"),
            ("\u{ff1d}1", "'\u{ff1d}1"),
            ("a,b", "\"a,b\""),
            ("=\"a\"", "\"'=\"\"a\"\"\""),
            ("a=b", "a=b"),
        ] {
            assert_eq!(cell_text(&Cell::Text(text.to_owned())), want, "{text}");
        }
        for text in ["\t=1", "\r=1", "a\r\nb", "\u{202e}x"] {
            let csv = csv(&listing(text));
            assert_eq!(csv.matches("\r\n").count(), 3, "{csv:?}");
            assert!(!csv.contains(['\t', '\u{202e}']), "{csv:?}");
            assert!(!csv.contains(",=1"), "{csv:?}");
        }
    }
}
