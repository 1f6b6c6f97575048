//! The output of `seal diff` as YAML and JSON.

use serde::Serialize;

use super::{Change, ChangeKind, ObjectChanges};

/// The JSON output of `seal diff`.
#[derive(Debug, Serialize)]
pub(super) struct DiffReport<'a> {
    /// The objects and files that changed.
    changed: Vec<ChangedObject<'a>>,
}

/// The changes to one object, or of a file that cannot be read.
#[derive(Debug, Serialize)]
struct ChangedObject<'a> {
    /// The path of the file, relative to the current directory.
    file: &'a str,
    /// Namespace and name; empty for a file that cannot be read.
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
    /// The old fingerprint, format, scope, keys or delivery; only for `rekeyed`, `format changed`, `rescoped`,
    /// `recipients changed` and `delivery changed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    /// The new fingerprint, format, scope, keys or delivery; only for `rekeyed`, `format changed`, `rescoped`,
    /// `recipients changed` and `delivery changed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    /// The reason; only for `unreadable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
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
        let (from, to) = kind.endpoints().unzip();
        let problem = match kind {
            ChangeKind::Unreadable(why) => Some(why.as_str()),
            _ => None,
        };
        Self {
            item: item.as_deref(),
            change: kind.name(),
            from,
            to,
            problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::diff::Protection;
    use crate::seal::output::tests::{check_documents, document_text};

    #[test]
    fn the_report_has_the_documented_form() {
        let change = |item: Option<&str>, kind| Change {
            item: item.map(str::to_owned),
            kind,
        };
        let rekeyed = ChangeKind::Rekeyed("SHA256:x".to_owned(), "SHA256:y".to_owned());
        let in_object = vec![
            change(Some("a"), rekeyed),
            change(Some("a"), ChangeKind::Lost(Protection::NeverSecret)),
            change(None, ChangeKind::Delivery("files".into(), "(none)".into())),
            change(None, ChangeKind::Template),
        ];
        let unreadable = change(None, ChangeKind::Unreadable("malformed".to_owned()));
        let changes = [
            ("db.yaml".to_owned(), "shop/db".to_owned(), in_object),
            ("bad.yaml".to_owned(), String::new(), vec![unreadable]),
        ];
        let want = r#"{
  "changed": [
    {
      "file": "db.yaml",
      "object": "shop/db",
      "changes": [
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
    }
  ]
}
"#;
        check_documents("seal diff", &[DiffReport::new(&changes)], want);
        let minimal = document_text(&[DiffReport::new(&[])]);
        assert_eq!(minimal, "{\n  \"changed\": []\n}\n");
    }
}
