//! A static page with the table and charts. It loads nothing and sends nothing.

use anyhow::Result;
use kubeseal_library::inventory::{AgeGroup, State};
use page::html::{escaped, fill, policy};
use serde::Serialize;

use super::Listing;
use super::columns::{Cell, Column};
use super::text::summary;
use crate::report::{json_shown, shown};

/// The title of every such page, by which a file is recognized before it is replaced.
pub(super) const TITLE: &[u8] = b"<title>Inventory of sealed secrets</title>";

const DOCUMENT: &str = include_str!("page/index.html");
const STYLE: &str = concat!("\n", include_str!("page/style.css"));
const SCRIPT: &str = concat!("\n", include_str!("page/script.js"));

/// The data of the page.
#[derive(Debug, Serialize)]
struct Data {
    columns: Vec<&'static str>,
    /// The cells of each row: a string, a number, or null for an unknown value.
    rows: Vec<Vec<serde_json::Value>>,
    charts: Vec<Chart>,
}

/// A bar chart.
#[derive(Debug, Serialize)]
struct Chart {
    title: &'static str,
    /// The label and length of each bar.
    bars: Vec<(String, usize)>,
}

/// Returns the page. Untrusted names are escaped for display, so that they cannot change the direction of the text.
pub(super) fn html(listing: &Listing) -> Result<String> {
    let data = data(listing)?;
    Ok(fill(DOCUMENT, |name| match name {
        "policy" => policy(SCRIPT, STYLE),
        "style" => STYLE.to_owned(),
        "script" => SCRIPT.to_owned(),
        "summary" => escaped(&summary(listing)),
        "date" => listing.now.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        "data" => data.clone(),
        // A test checks that the document has no other placeholder.
        _ => String::new(),
    }))
}

/// Returns the data as JSON that cannot end its element or begin another one.
fn data(listing: &Listing) -> Result<String> {
    let columns = Column::of(listing);
    let rows = listing.rows.iter().map(|row| {
        let cells = columns.iter().map(|column| column.cell(row, listing));
        cells.map(|cell| json_cell(&cell)).collect()
    });
    let data = Data {
        rows: rows.collect(),
        columns: columns.iter().map(|column| column.heading()).collect(),
        charts: charts(listing),
    };
    let json = json_shown(&serde_json::to_string(&data)?);
    Ok(json
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026"))
}

fn json_cell(cell: &Cell) -> serde_json::Value {
    match cell {
        Cell::Text(text) => shown(text).into(),
        Cell::Number(number) => (*number).into(),
        Cell::Unknown => serde_json::Value::Null,
    }
}

fn charts(listing: &Listing) -> Vec<Chart> {
    let summary = &listing.summary;
    let states = summary.states.iter();
    let states = states.map(|(state, count)| (State::name(*state).to_owned(), *count));
    let formats = summary.formats.iter();
    let formats = formats.map(|(format, count)| (format.clone(), *count));
    let ages = summary.key_ages.iter();
    let ages = ages.map(|(group, count)| (AgeGroup::name(*group).to_owned(), *count));
    let charts = [
        ("Objects by state", states.collect::<Vec<_>>()),
        ("Objects by format", formats.collect()),
        ("Objects by age of the newest key", ages.collect()),
    ];
    let charts = charts.into_iter().filter(|(_, bars)| !bars.is_empty());
    charts.map(|(title, bars)| Chart { title, bars }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::listing;
    use super::*;

    /// Returns the JSON in the data element of a page.
    fn data_element(html: &str) -> &str {
        let mut parts = html.split(r#"<script type="application/json" id="data">"#);
        parts.nth(1).unwrap().split("</script>").next().unwrap()
    }

    /// Attack: the author of a commit, or of a manifest, chooses a name that ends the element of the data, runs a
    /// script in the browser of a reader, or shows another text than it contains.
    #[test]
    fn names_cannot_add_elements_or_control_characters() {
        let benign = html(&listing("db")).unwrap();
        for text in [
            "</script><script>alert(1)</script>",
            "<!--<script>",
            "\"onload=\"alert(1)",
            "&lt;b&gt;",
            "{{script}}",
            "a\u{202e}b\u{2028}c\u{0}d\u{1b}[2J\u{7f}",
        ] {
            let html = html(&listing(text)).unwrap();
            assert_eq!(
                html.matches('<').count(),
                benign.matches('<').count(),
                "{text}"
            );
            assert_eq!(
                html.matches('>').count(),
                benign.matches('>').count(),
                "{text}"
            );
            let is_control =
                |c: char| c != '\n' && c.is_control() || "\u{202e}\u{2028}".contains(c);
            assert!(!html.contains(is_control), "{text}");
            let data: serde_json::Value = serde_json::from_str(data_element(&html)).unwrap();
            let name = data["rows"].as_array().unwrap().iter().map(|row| &row[1]);
            let names: Vec<_> = name.filter_map(|name| name.as_str()).collect();
            assert!(names.contains(&&*shown(text)), "{names:?}");
        }
    }

    /// Attack: an author of a repository adds an element that loads a script or sends data to their server.
    #[test]
    fn the_page_loads_nothing_and_has_no_other_placeholder() {
        let html = html(&listing("db")).unwrap();
        for text in [
            "{{",
            "}}",
            "src=",
            "href=",
            "http:",
            "https:",
            "url(",
            "style=",
            "onclick",
            "innerHTML",
        ] {
            let text_in_page = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!text_in_page.contains(text), "{text}");
        }
        assert!(html.contains("default-src 'none'; script-src 'sha256-"));
        assert!(
            html.as_bytes()
                .windows(TITLE.len())
                .any(|part| part == TITLE)
        );
    }
}
