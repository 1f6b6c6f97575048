//! The output of `seal diff` as YAML and JSON.

use serde::Serialize;

use super::content::{Content, SealedValue};
use super::{Change, ChangeKind, ObjectChanges};

/// The output of `seal diff` as YAML or JSON.
#[derive(Debug, Serialize)]
pub(super) struct DiffReport<'a> {
    /// The objects that changed, and what was not compared.
    changed: Vec<ChangedObject<'a>>,
}

/// The changes to one object, or why a file, directory or submodule was not compared.
#[derive(Debug, Serialize)]
struct ChangedObject<'a> {
    /// The path of the file, directory or submodule, relative to the current directory.
    file: &'a str,
    /// Namespace and name; empty if `changes` contains `unreadable` or `not compared`.
    object: &'a str,
    changes: Vec<ChangeReport<'a>>,
}

/// A change to one item, or to the object itself.
#[derive(Debug, Serialize)]
struct ChangeReport<'a> {
    /// The item key; null for a change to the object or its file, `(data)` for the deprecated `spec.data`.
    item: Option<&'a str>,
    /// The name of the [`ChangeKind`].
    change: &'static str,
    /// The old fingerprint, format, scope, keys, delivery or file; only for `rekeyed`, `format changed`, `rescoped`,
    /// `recipients changed`, `delivery changed` and `moved`.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    /// The new fingerprint, format, scope, keys or delivery; only for `rekeyed`, `format changed`, `rescoped`,
    /// `recipients changed` and `delivery changed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    /// The scope of the object; only for an object that was added or removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// The annotation for delivery; only for an object with it that was added or removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<&'a str>,
    /// The values; only for `added` and `removed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<ValueReport<'a>>>,
    /// The reason; only for `unreadable` and `not compared`.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

/// A value that was added or removed.
#[derive(Debug, Serialize)]
struct ValueReport<'a> {
    /// The item key, or `(data)`.
    item: &'a str,
    /// `v1` or `v2`.
    format: &'static str,
    /// The names of the [`Protection`](super::Protection)s.
    protections: Vec<&'static str>,
}

impl<'a> ValueReport<'a> {
    fn new(value: &'a SealedValue) -> Self {
        let protections = value.protections.iter();
        Self {
            item: &value.item,
            format: value.format,
            protections: protections.map(|protection| protection.name()).collect(),
        }
    }
}

impl<'a> DiffReport<'a> {
    pub(super) fn new(changes: &'a [ObjectChanges]) -> Self {
        let object = |(file, object, changes): &'a ObjectChanges| ChangedObject {
            file,
            object,
            changes: changes.iter().map(ChangeReport::new).collect(),
        };
        Self {
            changed: changes.iter().map(object).collect(),
        }
    }
}

impl<'a> ChangeReport<'a> {
    fn new(Change { item, kind }: &'a Change) -> Self {
        let (from, to) = kind.old_and_new().unzip();
        let moved_from = match kind {
            ChangeKind::Moved(from) => Some(from.as_str()),
            _ => None,
        };
        let content = kind.content();
        let values = |content: &'a Content| content.values.iter().map(ValueReport::new).collect();
        Self {
            item: item.as_deref(),
            change: kind.name(),
            from: from.or(moved_from),
            to,
            scope: content.and_then(|content| Some(content.scope?.to_string())),
            delivery: content.and_then(|content| content.delivery.as_deref()),
            values: content.map(values),
            problem: kind.problem(),
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::scope::Scope;

    use super::*;
    use crate::seal::diff::Protection;
    use crate::seal::output::tests::{check_documents, document_text};

    #[test]
    #[expect(clippy::too_many_lines, reason = "one report with every field")]
    fn the_report_has_the_documented_form() {
        let change = |item: Option<&str>, kind| Change {
            item: item.map(str::to_owned),
            kind,
        };
        let rekeyed = ChangeKind::Rekeyed("SHA256:x".to_owned(), "SHA256:y".to_owned());
        let value = SealedValue {
            item: "b".to_owned(),
            format: "v2",
            protections: vec![Protection::NeverSecret],
        };
        let content = Content {
            scope: Some(Scope::Strict),
            delivery: Some("files".to_owned()),
            values: vec![value],
        };
        let in_object = vec![
            change(None, ChangeKind::Moved("old.yaml".to_owned())),
            change(Some("a"), rekeyed),
            change(Some("a"), ChangeKind::Lost(Protection::NeverSecret)),
            change(None, ChangeKind::Delivery("files".into(), "(none)".into())),
            change(None, ChangeKind::Template),
        ];
        let unreadable = change(None, ChangeKind::Unreadable("malformed".to_owned()));
        let added = change(None, ChangeKind::Added(content));
        let not_compared = change(None, ChangeKind::NotCompared);
        let changes = [
            ("db.yaml".to_owned(), "shop/db".to_owned(), in_object),
            ("bad.yaml".to_owned(), String::new(), vec![unreadable]),
            ("new.yaml".to_owned(), "shop/b".to_owned(), vec![added]),
            ("values.yaml".to_owned(), String::new(), vec![not_compared]),
        ];
        let want = r#"{
  "changed": [
    {
      "file": "db.yaml",
      "object": "shop/db",
      "changes": [
        {
          "item": null,
          "change": "moved",
          "from": "old.yaml"
        },
        {
          "item": "a",
          "change": "rekeyed",
          "from": "SHA256:x",
          "to": "SHA256:y"
        },
        {
          "item": "a",
          "change": "never-secret lost"
        },
        {
          "item": null,
          "change": "delivery changed",
          "from": "files",
          "to": "(none)"
        },
        {
          "item": null,
          "change": "template changed"
        }
      ]
    },
    {
      "file": "bad.yaml",
      "object": "",
      "changes": [
        {
          "item": null,
          "change": "unreadable",
          "problem": "malformed"
        }
      ]
    },
    {
      "file": "new.yaml",
      "object": "shop/b",
      "changes": [
        {
          "item": null,
          "change": "added",
          "scope": "strict",
          "delivery": "files",
          "values": [
            {
              "item": "b",
              "format": "v2",
              "protections": [
                "never-secret"
              ]
            }
          ]
        }
      ]
    },
    {
      "file": "values.yaml",
      "object": "",
      "changes": [
        {
          "item": null,
          "change": "not compared",
          "problem": "sealed values outside SealedSecrets"
        }
      ]
    }
  ]
}
"#;
        check_documents("seal diff", &[DiffReport::new(&changes)], want);
        let minimal = document_text(&[DiffReport::new(&[])]);
        assert_eq!(minimal, "{\n  \"changed\": []\n}\n");
    }
}
