//! The output of `seal rotate` as YAML and JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use super::summary::{FileReport, ObjectReport, Total, failure_counts};
use super::templates::TemplateSummary;
use crate::report::path_text;

/// The result of a run; in a dry run, the expected result.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RotateReport<'a> {
    /// Whether nothing was changed, because of `--dry-run`.
    dry_run: bool,
    /// The number of items that were re-encrypted.
    rotated: usize,
    /// The number of items that are already encrypted for the target: the newest key, or, with `--key`, the certificate
    /// or the recipients. Includes items whose key is known only from a hint.
    current: usize,
    /// The number of objects whose re-encryption failed, and of files that cannot be read.
    failed: usize,
    /// Files with changes, failures or items whose key is known only from a hint. Other files are only counted.
    files: Vec<RotatedFile<'a>>,
}

/// The result for one file.
#[derive(Debug, Serialize)]
struct RotatedFile<'a> {
    path: Cow<'a, str>,
    /// Objects with changes, failures or items whose key is known only from a hint.
    objects: Vec<RotatedObject<'a>>,
    /// Why the file cannot be read; absent if it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

/// The result for one object.
#[derive(Debug, Serialize)]
struct RotatedObject<'a> {
    /// Namespace and name.
    name: &'a str,
    /// The line where the object begins.
    line: usize,
    /// The items that were re-encrypted; `(data)` for the deprecated `spec.data`.
    rotated: &'a [String],
    /// The number of items that were already encrypted for the target; 0 after a failure.
    current: usize,
    /// The number of re-encrypted items by the fingerprint of their old key; absent if none is known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    from: BTreeMap<String, usize>,
    /// The fingerprint that the items are encrypted for now, or the suites and identifiers of the v2 keys; absent if
    /// none was re-encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    /// Items that are for the newest key according to their key hint alone; absent if there are none.
    #[serde(rename = "believed", skip_serializing_if = "<[String]>::is_empty")]
    current_by_hint: &'a [String],
    /// The template that values are newly bound to; absent if there is none, as without `--bind-template`.
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<&'a TemplateSummary>,
    /// Why the object was not re-encrypted; absent without a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

impl<'a> RotateReport<'a> {
    pub(super) fn new(reports: &'a [FileReport], dry_run: bool) -> Self {
        let total = Total::of(reports);
        let (objects, files) = failure_counts(reports);
        Self {
            dry_run,
            rotated: total.rotated,
            current: total.current,
            failed: objects + files,
            files: reports.iter().filter_map(RotatedFile::new).collect(),
        }
    }
}

impl<'a> RotatedFile<'a> {
    /// Returns `None` for a file that is only counted.
    fn new(file: &'a FileReport) -> Option<Self> {
        let objects = file.objects.iter().filter_map(RotatedObject::new);
        let objects: Vec<_> = objects.collect();
        let is_reported = !objects.is_empty() || file.problem.is_some();
        is_reported.then(|| Self {
            path: path_text(file.path.as_os_str()),
            objects,
            problem: file.problem.as_deref(),
        })
    }
}

impl<'a> RotatedObject<'a> {
    /// Returns `None` for an object that is only counted.
    fn new(object: &'a ObjectReport) -> Option<Self> {
        let is_reported = object.problem.is_some()
            || !object.rotated.is_empty()
            || !object.current_by_hint.is_empty();
        let from = object.from.iter();
        is_reported.then(|| Self {
            name: &object.name,
            line: object.line,
            rotated: &object.rotated,
            current: object.current(),
            from: from.map(|(key, count)| (key.to_string(), *count)).collect(),
            to: object.to.as_deref(),
            current_by_hint: &object.current_by_hint,
            template: object.template.as_ref(),
            problem: object.problem.as_deref(),
        })
    }
}

#[cfg(test)]
mod tests {
    use shared::resource::SecretTemplate;

    use super::*;
    use crate::seal::output::tests::{check_documents, document_text};

    const KEY: &str = "SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk";

    fn object(name: &str) -> ObjectReport {
        ObjectReport {
            is_v2: false,
            has_v1: true,
            name: name.to_owned(),
            line: 1,
            items: 3,
            rotated: Vec::new(),
            from: BTreeMap::new(),
            to: None,
            current_by_hint: Vec::new(),
            template: None,
            problem: None,
        }
    }

    fn file(path: &str, objects: Vec<ObjectReport>, problem: Option<&str>) -> FileReport {
        FileReport {
            path: path.into(),
            objects,
            problem: problem.map(str::to_owned),
        }
    }

    #[test]
    fn the_report_has_the_documented_form() {
        let rotated = ObjectReport {
            rotated: vec!["a".to_owned()],
            from: [(KEY.parse().unwrap(), 1)].into(),
            to: Some(KEY.to_owned()),
            current_by_hint: vec!["b".to_owned()],
            template: Some(TemplateSummary::of(&SecretTemplate {
                data: Some([("url".to_owned(), Some("a\nb".to_owned()))].into()),
                ..SecretTemplate::default()
            })),
            ..object("shop/db")
        };
        let failed = ObjectReport {
            problem: Some("no key".to_owned()),
            ..object("shop/web")
        };
        let reports = [
            file(
                "a.yaml",
                vec![rotated, failed, object("shop/current")],
                None,
            ),
            file("b.yaml", vec![object("shop/current")], None),
            file("c.yaml", Vec::new(), Some("malformed")),
        ];
        let want = r#"{
  "dryRun": true,
  "rotated": 1,
  "current": 8,
  "failed": 2,
  "files": [
    {
      "path": "a.yaml",
      "objects": [
        {
          "name": "shop/db",
          "line": 1,
          "rotated": [
            "a"
          ],
          "current": 2,
          "from": {
            "SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk": 1
          },
          "to": "SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk",
          "believed": [
            "b"
          ],
          "template": {
            "type": "Opaque",
            "immutable": false,
            "labels": [],
            "annotations": [],
            "finalizers": [],
            "data": [
              {
                "item": "url",
                "lines": 2
              }
            ]
          }
        },
        {
          "name": "shop/web",
          "line": 1,
          "rotated": [],
          "current": 0,
          "problem": "no key"
        }
      ]
    },
    {
      "path": "c.yaml",
      "objects": [],
      "problem": "malformed"
    }
  ]
}
"#;
        check_documents("seal rotate", &[RotateReport::new(&reports, true)], want);
    }

    #[test]
    fn the_smallest_report_has_the_documented_form() {
        let want = r#"{
  "dryRun": false,
  "rotated": 0,
  "current": 0,
  "failed": 0,
  "files": []
}
"#;
        assert_eq!(document_text(&[RotateReport::new(&[], false)]), want);
    }
}
