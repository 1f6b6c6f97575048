//! The JSON output of `seal keys list` and `seal keys status`.

use jiff::Timestamp;
use kubeseal_library::keys::{Inventory, Survey};
use serde::Serialize;

use super::super::json::{ItemReport, UnreadableReport};
use super::{Id, Row, Searched};
use crate::report::ShowPath;

/// All keys and, for `seal keys status`, the items that need them.
#[derive(Debug, Serialize)]
pub(super) struct KeysReport<'a> {
    /// The RSA keys, then the keys that are only for v2. In each group, the newest key is first, and unusable keys are
    /// last.
    keys: Vec<KeyReport<'a>>,
    #[serde(flatten)]
    searched: Option<SearchReport<'a>>,
}

/// A key in the output.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyReport<'a> {
    /// The name of the key Secret.
    name: &'a str,
    /// `sealing`, `opening`, `waiting`, `compromised`, `retired` or `broken`.
    state: &'static str,
    /// The fingerprint; null if the key cannot be used, or is only for v2.
    fingerprint: Option<String>,
    /// `xw` or `p256`; absent for an RSA key or an unusable key.
    #[serde(skip_serializing_if = "Option::is_none")]
    suite: Option<String>,
    /// The identifier of a key that is only for v2; absent for an RSA key or an unusable key.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<String>,
    /// The short form of the identifier, as in sealed values and recipient lines; absent for an RSA key or an unusable
    /// key.
    #[serde(skip_serializing_if = "Option::is_none")]
    short_key_id: Option<String>,
    /// The start of the validity of the key or its certificate; null if the key cannot be used.
    #[serde(rename = "made")]
    created: Option<Timestamp>,
    /// The end of the validity of the key or its certificate; null if the key cannot be used or has no certificate.
    valid_until: Option<Timestamp>,
    /// The time of the last backup; null if there is none.
    backed_up: Option<Timestamp>,
    /// Whether the key is marked as compromised.
    compromised: bool,
    /// Whether the key is marked as opening-only: it unseals, and does not seal.
    opening_only: bool,
    /// The number of objects that need the key; absent for `seal keys list`.
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<usize>,
    /// The number of files that need the key; absent for `seal keys list`.
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<usize>,
    /// The file that contains the key Secret; absent in a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Why the key cannot be used; absent if it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

/// The objects and files that `seal keys status` searched.
#[derive(Debug, Serialize)]
struct SearchReport<'a> {
    /// Items that no available key unseals.
    undecided: Vec<ItemReport<'a>>,
    /// The number of objects that were not unsealed, but counted for the key that they name.
    unopened: usize,
    /// Content that is missing or cannot be read, and may need any key.
    unread: Vec<UnreadableReport<'a>>,
}

impl<'a> KeysReport<'a> {
    pub(super) fn new(rows: &'a [Row], searched: Searched<'a>) -> Self {
        Self {
            keys: rows.iter().map(KeyReport::new).collect(),
            searched: searched.map(SearchReport::new),
        }
    }
}

impl<'a> KeyReport<'a> {
    fn new(row: &'a Row) -> Self {
        let (objects, files) = row.counts.unzip();
        let (fingerprint, v2) = match &row.id {
            None => (None, None),
            Some(Id::Fingerprint(fingerprint)) => (Some(fingerprint.to_string()), None),
            Some(Id::V2(suite, id)) => (None, Some((suite, id))),
        };
        Self {
            name: &row.name,
            state: row.state.name(),
            fingerprint,
            suite: v2.map(|(suite, _)| suite.to_string()),
            key_id: v2.map(|(_, id)| id.to_string()),
            short_key_id: v2.map(|(_, id)| id.short().to_string()),
            created: row.created,
            valid_until: row.valid_until,
            backed_up: row.marks.backed_up,
            compromised: row.marks.is_compromised,
            opening_only: row.marks.is_opening_only,
            objects,
            files,
            file: row.file.as_ref().map(ShowPath::shown),
            problem: row.problem.as_deref(),
        }
    }
}

impl<'a> SearchReport<'a> {
    fn new((sources, survey): (&'a Inventory, &'a Survey)) -> Self {
        let undecided = survey.undecided().into_iter();
        Self {
            undecided: undecided
                .map(|(origin, item)| ItemReport::new(origin, item))
                .collect(),
            unopened: survey.unopened,
            unread: UnreadableReport::all(&sources.unreadable),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kubeseal_library::keys::{KeyRecord, Origin, Unreadable, directory};
    use shared::key_marks::KeyState;
    use shared::needs::Need;

    use super::*;
    use crate::seal::output::tests::{check, check_bytes};

    const COMMANDS: &str = "seal keys list` and `seal keys status";

    fn record() -> KeyRecord {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seal/key-fixtures");
        let text = std::fs::read(fixtures.join("state/keys/key-2024.yaml")).unwrap();
        let mut secrets = directory::secrets(&text).unwrap();
        KeyRecord::new(secrets.remove(0), Some("keys/key-2024.yaml".into()))
    }

    fn row(record: KeyRecord, state: KeyState) -> Row {
        super::super::rows(&[record], &[state], None).remove(0)
    }

    fn v2_row() -> Row {
        let id = "1f79tcRB6C15M6q5Y1tFHSefo3FSXMGBXasU53Dmf04";
        Row {
            name: "v2".to_owned(),
            id: Some(Id::V2(shared::v2::Suite::XWing, id.parse().unwrap())),
            counts: Some((1, 0)),
            file: None,
            ..row(record(), KeyState::Opening)
        }
    }

    #[test]
    fn the_report_has_the_documented_form() {
        let mut usable = record();
        usable.properties.marks.backed_up = Some("2025-06-01T12:00:00Z".parse().unwrap());
        let broken = KeyRecord::unreadable("lost", "no permission");
        let row = |record, state, counts| Row {
            counts: Some(counts),
            ..row(record, state)
        };
        let rows = [
            row(usable, KeyState::Sealing, (2, 1)),
            row(broken, KeyState::Broken, (0, 0)),
            v2_row(),
        ];
        let origin = Origin::Cluster {
            namespace: "shop".to_owned(),
            name: "db".to_owned(),
        };
        let needs = [("a".to_owned(), Need::Undecided(256))].into();
        let survey = Survey {
            objects: vec![(origin, needs)],
            unopened: 3,
        };
        let unreadable = Unreadable {
            location: "bad.yaml".to_owned(),
            why: "malformed".to_owned(),
        };
        let sources = Inventory {
            unreadable: [unreadable].into(),
            ..Inventory::default()
        };
        let want = r#"{
  "keys": [
    {
      "name": "key-2024",
      "state": "sealing",
      "fingerprint": "SHA256:HyvpkjkOwxlcAOfabLWtmCMxVKMxSgMBHjX/MefNCyo",
      "made": "2024-01-01T00:00:00Z",
      "validUntil": "2200-01-01T00:00:00Z",
      "backedUp": "2025-06-01T12:00:00Z",
      "compromised": false,
      "openingOnly": false,
      "objects": 2,
      "files": 1,
      "file": "keys/key-2024.yaml"
    },
    {
      "name": "lost",
      "state": "broken",
      "fingerprint": null,
      "made": null,
      "validUntil": null,
      "backedUp": null,
      "compromised": false,
      "openingOnly": false,
      "objects": 0,
      "files": 0,
      "problem": "it cannot be read: no permission"
    },
    {
      "name": "v2",
      "state": "opening",
      "fingerprint": null,
      "suite": "xw",
      "keyId": "1f79tcRB6C15M6q5Y1tFHSefo3FSXMGBXasU53Dmf04",
      "shortKeyId": "1f79tcRB6C15M6q5Y1tFHQ",
      "made": "2024-01-01T00:00:00Z",
      "validUntil": "2200-01-01T00:00:00Z",
      "backedUp": null,
      "compromised": false,
      "openingOnly": false,
      "objects": 1,
      "files": 0
    }
  ],
  "undecided": [
    {
      "where": "SealedSecret shop/db",
      "item": "a"
    }
  ],
  "unopened": 3,
  "unread": [
    {
      "where": "bad.yaml",
      "why": "malformed"
    }
  ]
}
"#;
        check(
            COMMANDS,
            &KeysReport::new(&rows, Some((&sources, &survey))),
            want,
        );
    }

    #[test]
    fn the_smallest_report_has_the_documented_form() {
        let minimal = KeysReport::new(&[], None);
        check_bytes(&minimal, "{\n  \"keys\": []\n}\n");
        let mut record = record();
        record.file = None;
        let row = row(record, KeyState::Opening);
        let want = r#"{
  "keys": [
    {
      "name": "key-2024",
      "state": "opening",
      "fingerprint": "SHA256:HyvpkjkOwxlcAOfabLWtmCMxVKMxSgMBHjX/MefNCyo",
      "made": "2024-01-01T00:00:00Z",
      "validUntil": "2200-01-01T00:00:00Z",
      "backedUp": null,
      "compromised": false,
      "openingOnly": false
    }
  ]
}
"#;
        check_bytes(&KeysReport::new(&[row], None), want);
    }
}
