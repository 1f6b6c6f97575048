//! The JSON output of `seal keys compromise`.

use std::collections::BTreeSet;

use kubeseal_library::keys::history::Commit;
use serde::Serialize;

use super::super::json::{ItemReport, UnreadableReport};
use super::Damage;

/// The key, and the values that an attacker with the key can read.
#[derive(Debug, Serialize)]
pub(super) struct DamageReport<'a> {
    /// The name of the key Secret.
    key: &'a str,
    /// The fingerprint of the key, or the identifier of a key that is only for v2.
    fingerprint: String,
    /// When the key was marked as compromised; in a dry run without an earlier mark, the current time.
    since: &'a str,
    /// Items of the current objects and files that are sealed for the key.
    present: Vec<ItemReport<'a>>,
    /// Commits that introduced items sealed for the key; within each repository, the newest first.
    commits: Vec<CommitReport<'a>>,
    /// Content that is missing or cannot be read, and may contain items sealed for the key.
    unread: Vec<UnreadableReport<'a>>,
}

/// A commit and a file in which it introduced items. A commit that changed several files occurs once for each file.
#[derive(Debug, Serialize)]
struct CommitReport<'a> {
    /// The hash of the commit.
    commit: &'a str,
    /// The author date, in RFC 3339 format.
    at: &'a str,
    /// The author, with the e-mail address in angle brackets.
    author: &'a str,
    /// The path of the file in the repository.
    file: &'a str,
    /// The items, as `NAME/ITEM`.
    items: &'a BTreeSet<String>,
}

impl<'a> DamageReport<'a> {
    pub(super) fn new(damage: &'a Damage) -> Self {
        let present = damage.present.iter();
        Self {
            key: &damage.name,
            fingerprint: damage.fingerprint.clone(),
            since: &damage.since,
            present: present
                .map(|one| ItemReport::new(&one.origin, &one.item))
                .collect(),
            commits: damage.commits.iter().map(CommitReport::new).collect(),
            unread: UnreadableReport::all(&damage.unreadable),
        }
    }
}

impl<'a> CommitReport<'a> {
    fn new((commit, items): &'a (Commit, BTreeSet<String>)) -> Self {
        Self {
            commit: &commit.id,
            at: &commit.at,
            author: &commit.author,
            file: &commit.path,
            items,
        }
    }
}

#[cfg(test)]
mod tests {
    use kubeseal_library::keys::survey::Dependent;
    use kubeseal_library::keys::{Origin, Unreadable};

    use super::*;
    use crate::seal::output::tests::{check, check_bytes};

    fn damage() -> Damage {
        let fingerprint = "SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk";
        Damage {
            key_id: None,
            rules_for_key: BTreeSet::new(),
            name: "key-2025".to_owned(),
            fingerprint: fingerprint.to_owned(),
            since: "2026-01-01T00:00:00Z".to_owned(),
            present: Vec::new(),
            commits: Vec::new(),
            unreadable: BTreeSet::new(),
        }
    }

    #[test]
    fn the_report_has_the_documented_form() {
        let origin = Origin::File {
            path: "db.yaml".into(),
            name: "db".to_owned(),
        };
        let commit = Commit {
            id: "0123".to_owned(),
            author: "a <a@example.com>".to_owned(),
            at: "2025-01-01T00:00:00Z".to_owned(),
            path: "tree/db.yaml".to_owned(),
        };
        let unreadable = Unreadable {
            location: "bad.yaml".to_owned(),
            why: "malformed".to_owned(),
        };
        let damage = Damage {
            present: vec![Dependent {
                origin,
                item: "password".to_owned(),
                is_sure: true,
            }],
            commits: vec![(commit, ["db/password".to_owned()].into())],
            unreadable: [unreadable].into(),
            ..damage()
        };
        let want = r#"{
  "key": "key-2025",
  "fingerprint": "SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk",
  "since": "2026-01-01T00:00:00Z",
  "present": [
    {
      "where": "db.yaml (db)",
      "item": "password"
    }
  ],
  "commits": [
    {
      "commit": "0123",
      "at": "2025-01-01T00:00:00Z",
      "author": "a <a@example.com>",
      "file": "tree/db.yaml",
      "items": [
        "db/password"
      ]
    }
  ],
  "unread": [
    {
      "where": "bad.yaml",
      "why": "malformed"
    }
  ]
}
"#;
        check("seal keys compromise", &DamageReport::new(&damage), want);
    }

    #[test]
    fn the_smallest_report_has_the_documented_form() {
        let want = r#"{
  "key": "key-2025",
  "fingerprint": "SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk",
  "since": "2026-01-01T00:00:00Z",
  "present": [],
  "commits": [],
  "unread": []
}
"#;
        check_bytes(&DamageReport::new(&damage()), want);
    }
}
