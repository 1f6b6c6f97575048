//! Formats the reports of commands for programs. Each report is a struct next to the code that fills it, and
//! `docs/json.md` describes its fields.

use anyhow::Result;
use kubeseal_library::format::{self, Format};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::report::json_shown;

/// Formats a report as indented JSON without terminal control characters.
pub(super) fn json(report: &impl Serialize) -> Result<Vec<u8>> {
    let text = serde_json::to_string_pretty(report)?;
    Ok((json_shown(&text) + "\n").into_bytes())
}

/// Formats reports like manifests: as indented JSON one after another, or as YAML documents.
pub(super) fn documents(reports: &[impl Serialize], format: Format) -> Result<Zeroizing<Vec<u8>>> {
    let documents = reports.iter().map(serde_json::to_value);
    Ok(format::write(
        &documents.collect::<Result<Vec<_>, _>>()?,
        format,
    ))
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value as Json, json};

    use super::*;
    use crate::report;

    /// Checks the bytes of a report that has all fields, and that `docs/json.md` lists exactly these fields.
    pub(in crate::seal) fn check(command: &str, report: &impl Serialize, want: &str) {
        check_bytes(report, want);
        check_page(command, &serde_json::to_value(report).unwrap());
    }

    /// Checks the bytes of a report.
    pub(in crate::seal) fn check_bytes(report: &impl Serialize, want: &str) {
        assert_eq!(String::from_utf8(json(report).unwrap()).unwrap(), want);
    }

    /// Like [`check`], for a command with `--output yaml`.
    pub(in crate::seal) fn check_documents(command: &str, reports: &[impl Serialize], want: &str) {
        assert_eq!(document_text(reports), want);
        for report in reports {
            check_page(command, &serde_json::to_value(report).unwrap());
        }
    }

    /// Returns reports as JSON documents.
    pub(in crate::seal) fn document_text(reports: &[impl Serialize]) -> String {
        let bytes = documents(reports, Format::Json).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// Checks that the table of the command lists exactly the fields of the report.
    fn check_page(command: &str, report: &Json) {
        let page = include_str!("../../docs/json.md");
        let sections = page.split("\n## ");
        let mut command_sections =
            sections.filter(|section| section.starts_with(&format!("`{command}`")));
        let section = command_sections.next().unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        let documented: BTreeSet<&str> = rows.filter_map(|row| row.split('`').next()).collect();
        let mut fields = BTreeSet::new();
        collect_fields("", report, &mut fields);
        let fields: BTreeSet<&str> = fields.iter().map(String::as_str).collect();
        assert_eq!(documented, fields, "{command}");
    }

    /// Collects the paths of all fields, such as `keys[].name`. A fingerprint is a key of a map, not a field.
    fn collect_fields(path: &str, value: &Json, fields: &mut BTreeSet<String>) {
        match value {
            Json::Array(items) => {
                for item in items {
                    collect_fields(&format!("{path}[]"), item, fields);
                }
            }
            Json::Object(entries) => {
                for (key, value) in entries
                    .iter()
                    .filter(|(key, _)| !key.starts_with("SHA256:"))
                {
                    let dot = if path.is_empty() { "" } else { "." };
                    let path = format!("{path}{dot}{key}");
                    collect_fields(&path, value, fields);
                    fields.insert(path);
                }
            }
            _ => {}
        }
    }

    /// Attack: a client uses a name that moves the cursor or reverses the text direction, to forge the JSON output that
    /// an administrator reads.
    #[test]
    fn json_contains_no_terminal_control_characters() {
        let text = "a\u{7f}\u{9b}2J\u{202e}\u{1b}[2J\nß";
        let bytes = json(&json!({ "name": text })).unwrap();
        let read: Json = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read["name"], text);
        let written = String::from_utf8(bytes).unwrap();
        assert_eq!(written.lines().count(), 3);
        assert_eq!(report::lines_shown(&written), written);
        assert!(
            written.contains("\\u009b2J") && written.contains('ß'),
            "{written}"
        );
    }
}
