//! The JSON output of `seal inventory`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kubeseal_library::git::LastChange;
use kubeseal_library::inventory::live::LiveObject;
use kubeseal_library::inventory::{AgeGroup, Content, KeyTimes, Position, Row, State};
use serde::Serialize;

use super::Listing;
use super::columns::{commit, days, hash, secret_text};
use crate::report::path_text;

/// The beginning of every such output, by which a file is recognized before it is replaced.
pub(super) const START: &[u8] = b"{\n  \"inventoryVersion\": ";
/// The version of the form.
const VERSION: u32 = 1;

/// The output of `seal inventory`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InventoryReport<'a> {
    inventory_version: u32,
    summary: SummaryReport<'a>,
    objects: Vec<RowReport<'a>>,
}

/// The numbers of objects.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SummaryReport<'a> {
    objects: usize,
    files: usize,
    states: Vec<Count<'a>>,
    formats: Vec<Count<'a>>,
    key_ages: Vec<Count<'a>>,
}

#[derive(Debug, Serialize)]
struct Count<'a> {
    name: &'a str,
    objects: usize,
}

/// A SealedSecret in a file, or one that is only in the cluster.
#[derive(Debug, Serialize)]
struct RowReport<'a> {
    namespace: Option<&'a str>,
    name: &'a str,
    state: Option<&'static str>,
    content: Option<ContentReport<'a>>,
    file: Option<FileReport<'a>>,
    cluster: Option<ClusterReport<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ContentReport<'a> {
    items: &'a [String],
    scope: String,
    formats: Vec<&'a str>,
    keys: Vec<KeyReport<'a>>,
    newest_key_days: Option<i64>,
    rotate_by: Option<String>,
    delivery: &'static str,
}

#[derive(Debug, Serialize)]
struct KeyReport<'a> {
    id: &'a str,
    since: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FileReport<'a> {
    path: String,
    line: usize,
    history: &'static str,
    commit: Option<String>,
    author: Option<&'a str>,
    changed_at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterReport<'a> {
    condition: Option<ConditionReport<'a>>,
    generation: Option<i64>,
    last_unsealed_generation: Option<i64>,
    secret: &'static str,
}

#[derive(Debug, Serialize)]
struct ConditionReport<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'a str,
    reason: &'a str,
}

impl<'a> InventoryReport<'a> {
    pub(super) fn new(listing: &'a Listing) -> Self {
        let summary = &listing.summary;
        let rows = listing.rows.iter();
        Self {
            inventory_version: VERSION,
            summary: SummaryReport {
                objects: summary.objects,
                files: summary.files,
                states: counts(&summary.states, |state| State::name(*state)),
                formats: counts(&summary.formats, |format| format),
                key_ages: counts(&summary.key_ages, |group| AgeGroup::name(*group)),
            },
            objects: rows.map(|row| RowReport::new(row, listing)).collect(),
        }
    }
}

fn counts<'a, K>(counts: &'a BTreeMap<K, usize>, name: fn(&'a K) -> &'a str) -> Vec<Count<'a>> {
    let count = |(key, objects): (&'a K, &usize)| Count {
        name: name(key),
        objects: *objects,
    };
    counts.iter().map(count).collect()
}

impl<'a> RowReport<'a> {
    fn new(row: &'a Row, listing: &'a Listing) -> Self {
        let content = row.content.as_ref();
        Self {
            namespace: row.namespace.as_deref(),
            name: &row.name,
            state: row.state.map(State::name),
            content: content.map(|c| ContentReport::new(c, &listing.times, listing.now)),
            file: row.position.as_ref().map(FileReport::from),
            cluster: row.live.as_ref().map(ClusterReport::from),
        }
    }
}

impl<'a> ContentReport<'a> {
    fn new(content: &'a Content, times: &KeyTimes, now: Timestamp) -> Self {
        let keys = content.keys.iter().map(|id| KeyReport {
            id,
            since: times.time(id),
        });
        Self {
            items: &content.items,
            scope: content.scope.to_string(),
            formats: content.formats.iter().map(String::as_str).collect(),
            keys: keys.collect(),
            newest_key_days: times.newest(content).map(|since| days(since, now)),
            rotate_by: content.rotate_by.map(|date| date.to_string()),
            delivery: content.delivery.name(),
        }
    }
}

impl<'a> From<&'a Position> for FileReport<'a> {
    fn from(position: &'a Position) -> Self {
        let commit = commit(position);
        Self {
            path: path_text(position.path.as_os_str()).into_owned(),
            line: position.line,
            history: match position.change {
                Some(LastChange::Commit(_)) => "commit",
                Some(LastChange::Older) => "older",
                None => "unknown",
            },
            commit: hash(position),
            author: commit.map(|commit| commit.author.as_str()),
            changed_at: commit.and_then(|commit| commit.at),
        }
    }
}

impl<'a> From<&'a LiveObject> for ClusterReport<'a> {
    fn from(live: &'a LiveObject) -> Self {
        let condition = live.condition.as_ref().map(|condition| ConditionReport {
            kind: condition.kind,
            status: &condition.status,
            reason: &condition.reason,
        });
        Self {
            condition,
            generation: live.generation,
            last_unsealed_generation: live.unsealed_generation,
            secret: secret_text(live.has_secret),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FINGERPRINT, listing};
    use super::*;
    use crate::seal::output::tests::check;

    #[test]
    fn the_documentation_describes_every_field() {
        let want = format!(
            r#"{{
  "inventoryVersion": 1,
  "summary": {{
    "objects": 2,
    "files": 1,
    "states": [
      {{
        "name": "failed",
        "objects": 2
      }}
    ],
    "formats": [
      {{
        "name": "v1 2048",
        "objects": 1
      }}
    ],
    "keyAges": [
      {{
        "name": "unknown",
        "objects": 2
      }}
    ]
  }},
  "objects": [
    {{
      "namespace": "shop",
      "name": "db",
      "state": "failed",
      "content": {{
        "items": [
          "password"
        ],
        "scope": "strict",
        "formats": [
          "v1 2048"
        ],
        "keys": [
          {{
            "id": "{FINGERPRINT}",
            "since": null
          }}
        ],
        "newestKeyDays": null,
        "rotateBy": null,
        "delivery": "secret"
      }},
      "file": {{
        "path": "db.yaml",
        "line": 4,
        "history": "commit",
        "commit": "0123456789",
        "author": "db",
        "changedAt": "1970-01-01T00:00:00Z"
      }},
      "cluster": {{
        "condition": {{
          "type": "Synced",
          "status": "False",
          "reason": "UnsealFailed"
        }},
        "generation": 3,
        "lastUnsealedGeneration": 2,
        "secret": "exists"
      }}
    }},
    {{
      "namespace": "shop",
      "name": "zzz",
      "state": "failed",
      "content": null,
      "file": null,
      "cluster": {{
        "condition": {{
          "type": "Synced",
          "status": "False",
          "reason": "UnsealFailed"
        }},
        "generation": 3,
        "lastUnsealedGeneration": 2,
        "secret": "exists"
      }}
    }}
  ]
}}
"#
        );
        check(
            "seal inventory",
            &InventoryReport::new(&listing("db")),
            &want,
        );
    }
}
