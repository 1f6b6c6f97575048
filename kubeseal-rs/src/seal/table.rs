//! Tables for people.

use std::fmt::Write as _;

use crate::report::shown;

/// Formats a table with aligned columns.
pub(in crate::seal) fn table(lines: &[Vec<String>]) -> String {
    painted(lines, |_, cell| cell)
}

/// Like [`table`]; `paint` colors each padded cell, given the number of its column.
pub(in crate::seal) fn painted(
    lines: &[Vec<String>],
    paint: impl Fn(usize, String) -> String,
) -> String {
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
            .enumerate()
            .map(|(column, (cell, width))| paint(column, format!("{cell:<width$}")))
            .collect();
        let _ = writeln!(text, "{}", padded.join("  ").trim_end());
    }
    text
}
