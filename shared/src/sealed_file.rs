//! The SealedSecrets in a file, and edits of their items that leave everything else unchanged.

use std::collections::BTreeMap;

use crate::hints::{self, Hints};
use crate::key::Fingerprint;
use crate::manifest::edit::{Change, Edit, Step};
use crate::manifest::{Document, Node, Reading, Value};
use crate::resource::{DocumentError, KEY_HINTS_ANNOTATION, ROTATE_BY_ANNOTATION, SealedSecret};
use crate::rotate_by::{self, Dates, Due, RotateByDates};

/// The kinds of lists that may contain objects.
const LISTS: [&str; 3] = ["List", "SecretList", "SealedSecretList"];

/// A SealedSecret and its position.
#[derive(Debug, Clone)]
pub struct Found {
    /// The SealedSecret, as parsed from the file.
    pub sealed: SealedSecret,
    /// The line of the file on which the SealedSecret begins.
    pub line: usize,
    document: usize,
    path: Vec<Step>,
}

/// Changes to the items of one SealedSecret.
#[derive(Debug, Clone)]
pub struct Changes<'a> {
    /// New sealed values in base64, by item key.
    pub texts: BTreeMap<String, String>,
    /// The item keys to remove. Of an item that does not exist, the key hint and the rotate-by date are removed.
    pub removed: Vec<String>,
    /// New sealed value of the deprecated `spec.data`.
    pub data: Option<String>,
    /// How to update the key hints of changed items.
    pub hints: HintRule<'a>,
    /// New rotate-by dates, by item key; `None` removes the date. Dates of removed items are always removed.
    pub dates: BTreeMap<String, Option<Due>>,
}

/// How to update the key hints of items with new sealed values. Hints of removed items are always removed.
#[derive(Debug, Clone, Copy)]
pub enum HintRule<'a> {
    /// Write a hint for every new value.
    Write(&'a Fingerprint),
    /// Update only existing hints.
    Follow(&'a Fingerprint),
    /// Remove the hints.
    Drop,
}

impl Changes<'_> {
    fn hints_after(&self, old: &Hints) -> Hints {
        let mut new = old.clone();
        for item in self.texts.keys() {
            match self.hints {
                HintRule::Write(key) => drop(new.insert(item.clone(), key.clone())),
                HintRule::Follow(key) => {
                    new.entry(item.clone())
                        .and_modify(|hint| *hint = key.clone());
                }
                HintRule::Drop => drop(new.remove(item)),
            }
        }
        for item in &self.removed {
            new.remove(item);
        }
        new
    }

    fn dates_after(&self, old: &RotateByDates) -> RotateByDates {
        let mut new = old.clone();
        for (item, due) in &self.dates {
            new.set(item, *due);
        }
        for item in &self.removed {
            new.set(item, None);
        }
        new
    }
}

/// Returns every SealedSecret in a file, including those in lists; skips objects of another kind or API version.
///
/// # Errors
///
/// Returns an error for the first SealedSecret that cannot be read.
pub fn find(documents: &[Document]) -> Result<Vec<Found>, DocumentError> {
    let mut objects = Vec::new();
    for document in documents {
        find_in(
            &document.root,
            document.number,
            &mut Vec::new(),
            &mut objects,
        )?;
    }
    Ok(objects)
}

fn find_in(
    node: &Node,
    document: usize,
    path: &mut Vec<Step>,
    objects: &mut Vec<Found>,
) -> Result<(), DocumentError> {
    let kind = node.text("kind").unwrap_or_default();
    if LISTS.contains(&kind) {
        if let Some(Value::List(items)) = node.field("items").map(|items| &items.value) {
            path.push(Step::Field("items"));
            for (i, item) in items.iter().enumerate() {
                path.push(Step::Item(i));
                find_in(item, document, path, objects)?;
                path.pop();
            }
            path.pop();
        }
    } else if kind == "SealedSecret" && node.text("apiVersion") == Some("bitnami.com/v1alpha1") {
        objects.push(Found {
            sealed: SealedSecret::from_node(node, &mut Reading::default())?,
            line: node.line,
            document,
            path: path.clone(),
        });
    }
    Ok(())
}

impl Found {
    /// Returns the number of the document that contains the object.
    pub fn document(&self) -> usize {
        self.document
    }

    /// Returns the path from the root of the object's document to a value of the object.
    pub fn path_of(&self, path: &[Step]) -> Vec<Step> {
        [self.path.as_slice(), path].concat()
    }

    /// Returns the edit that sets or removes the key hints; `None` if the object has exactly these hints.
    pub fn set_hints(&self, hints: &Hints) -> Option<Edit> {
        let old = hints::read(self.sealed.metadata.annotations.as_ref());
        self.hint_edit(&old, hints)
    }

    /// Returns the edit that sets or removes the rotate-by dates, and keeps ignored lines of other items; `None` if the
    /// object has exactly these dates.
    pub fn set_dates(&self, dates: &Dates) -> Option<Edit> {
        let old = rotate_by::read(self.sealed.metadata.annotations.as_ref());
        let mut new = old.clone();
        for item in old.dates.keys().chain(dates.keys()) {
            if old.dates.get(item) != dates.get(item) {
                new.set(item, dates.get(item).copied());
            }
        }
        self.date_edit(&old, &new)
    }

    /// Returns the edits that make these changes and update the key hints and the rotate-by dates.
    pub fn edits(&self, changes: &Changes<'_>) -> Vec<Edit> {
        let item = |key: &String| {
            vec![
                Step::Field("spec"),
                Step::Field("encryptedData"),
                Step::Key(key.clone()),
            ]
        };
        let set =
            |(key, text): (&String, &String)| self.edit(&item(key), Change::Set(text.clone()));
        let mut edits: Vec<Edit> = changes.texts.iter().map(set).collect();
        let entries = &self.sealed.spec.encrypted_data;
        let removed_keys = changes.removed.iter();
        let removed_keys = removed_keys.filter(|key| entries.contains_key(*key));
        edits.extend(removed_keys.map(|key| self.edit(&item(key), Change::Remove)));
        if let Some(data) = &changes.data {
            let path = vec![Step::Field("spec"), Step::Field("data")];
            edits.push(self.edit(&path, Change::Set(data.clone())));
        }
        let old = hints::read(self.sealed.metadata.annotations.as_ref());
        edits.extend(self.hint_edit(&old, &changes.hints_after(&old)));
        let old = rotate_by::read(self.sealed.metadata.annotations.as_ref());
        edits.extend(self.date_edit(&old, &changes.dates_after(&old)));
        edits
    }

    fn hint_edit(&self, old: &Hints, new: &Hints) -> Option<Edit> {
        let text = (!new.is_empty()).then(|| hints::to_text(new));
        (old != new).then(|| self.annotation_edit(KEY_HINTS_ANNOTATION, text))
    }

    /// Returns `None` for an annotation that is too large to be parsed, which stays as it is.
    fn date_edit(&self, old: &RotateByDates, new: &RotateByDates) -> Option<Edit> {
        let text = Some(new.to_text()).filter(|text| !text.is_empty());
        let is_changed = old != new && !old.is_too_large;
        is_changed.then(|| self.annotation_edit(ROTATE_BY_ANNOTATION, text))
    }

    /// Returns the edit that sets an annotation, or removes it for `None`.
    fn annotation_edit(&self, name: &str, text: Option<String>) -> Edit {
        let path = [
            Step::Field("metadata"),
            Step::Field("annotations"),
            Step::Key(name.to_owned()),
        ];
        self.edit(&path, text.map_or(Change::Remove, Change::Set))
    }

    fn edit(&self, path: &[Step], change: Change) -> Edit {
        Edit {
            document: self.document,
            path: self.path_of(path),
            change,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::test_key;
    use crate::manifest::{self, edit};

    const FILE: &str = "\
# two
kind: ConfigMap
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Secret}
- apiVersion: bitnami.com/v1alpha1   # the one
  kind: SealedSecret
  metadata: {name: db, namespace: ns}
  spec:
      encryptedData:
          a: AgA   # a
          b: AgB
";

    fn apply_edits(text: &str, edits: impl Fn(&Found) -> Vec<Edit>) -> String {
        let objects = find(&manifest::read(text.as_bytes()).unwrap()).unwrap();
        let [object] = objects.as_slice() else {
            unreachable!("{objects:?}")
        };
        assert_eq!(object.sealed.qualified_name(), "ns/db");
        String::from_utf8(edit::apply(text.as_bytes(), &edits(object)).unwrap()).unwrap()
    }

    fn changes<'a>(texts: &[(&str, &str)], removed: &[&str], hints: HintRule<'a>) -> Changes<'a> {
        let to_owned = |(key, text): &(&str, &str)| ((*key).to_owned(), (*text).to_owned());
        Changes {
            texts: texts.iter().map(to_owned).collect(),
            removed: removed.iter().map(|key| (*key).to_owned()).collect(),
            data: None,
            hints,
            dates: BTreeMap::new(),
        }
    }

    #[test]
    fn sets_and_removes_items_in_place() {
        let follow = HintRule::Follow(test_key().fingerprint());
        let output = apply_edits(FILE, |object| {
            object.edits(&changes(&[("a", "AgX="), ("c", "AgY=")], &["b"], follow))
        });
        let want = FILE
            .replace("AgA ", "AgX= ")
            .replace("b: AgB\n", "c: AgY=\n");
        assert_eq!(output, want);
    }

    #[test]
    fn skips_objects_with_only_the_kind_or_only_the_version() {
        for (from, to) in [
            ("bitnami.com/v1alpha1", "bitnami.com/v2"),
            ("kind: SealedSecret", "kind: SealedThing"),
        ] {
            let documents = manifest::read(FILE.replace(from, to).as_bytes()).unwrap();
            assert!(find(&documents).unwrap().is_empty(), "{to}");
        }
    }

    #[test]
    fn updates_hints_with_their_items() {
        let key = test_key().fingerprint();
        let output = apply_edits(FILE, |object| {
            object.edits(&changes(&[("a", "AgX=")], &[], HintRule::Write(key)))
        });
        let hint = format!(
            "metadata: {{name: db, namespace: ns, annotations: {{{KEY_HINTS_ANNOTATION}: '{{\"a\":\"{key}\"}}'}}}}"
        );
        assert!(output.contains(&hint), "{output}");
        for (why, changes, is_kept) in [
            (
                "an item without a hint",
                changes(&[("b", "AgY=")], &[], HintRule::Follow(key)),
                true,
            ),
            (
                "removed",
                changes(&[], &["a"], HintRule::Follow(key)),
                false,
            ),
            (
                "hints of changed items are dropped",
                changes(&[("a", "AgZ=")], &[], HintRule::Drop),
                false,
            ),
        ] {
            let after = apply_edits(&output, |object| object.edits(&changes));
            assert_eq!(after.contains(&hint), is_kept, "{why}: {after}");
            assert_eq!(
                after.contains(KEY_HINTS_ANNOTATION),
                is_kept,
                "{why}: {after}"
            );
        }
    }

    #[test]
    fn updates_dates_with_their_items() {
        let due = |text: &str| rotate_by::parse(&format!("x {text}")).dates["x"];
        let with_dates = |dates: &[(&str, Option<Due>)], removed: &[&str]| Changes {
            dates: dates
                .iter()
                .map(|(key, due)| ((*key).to_owned(), *due))
                .collect(),
            ..changes(&[], removed, HintRule::Drop)
        };
        let dates_in = |text: &str| {
            let objects = find(&manifest::read(text.as_bytes()).unwrap()).unwrap();
            let annotations = objects[0].sealed.metadata.annotations.clone();
            annotations.and_then(|mut all| all.remove(ROTATE_BY_ANNOTATION))
        };
        let file = FILE.replace(
            "{name: db, namespace: ns}",
            "\n    name: db\n    namespace: ns",
        );
        let set = with_dates(
            &[
                ("b", Some(due("2027-01-01"))),
                ("a", Some(due("2027-03-01 90d"))),
            ],
            &[],
        );
        let output = apply_edits(&file, |object| object.edits(&set));
        let block = format!(
            "    annotations:\n      {ROTATE_BY_ANNOTATION}: |\n        a 2027-03-01 90d\n        b 2027-01-01\n"
        );
        assert!(output.contains(&block), "{output}");
        let without_b = apply_edits(&output, |object| object.edits(&with_dates(&[], &["b"])));
        assert_eq!(dates_in(&without_b).as_deref(), Some("a 2027-03-01 90d\n"));
        let re_encrypted = apply_edits(&output, |object| {
            object.edits(&changes(&[("a", "AgX=")], &[], HintRule::Drop))
        });
        assert_eq!(dates_in(&re_encrypted), dates_in(&output), "the same value");
        let without_item = output.replace("          b: AgB\n", "");
        let without_b = apply_edits(&without_item, |object| {
            object.edits(&with_dates(&[], &["b"]))
        });
        assert_eq!(
            dates_in(&without_b).as_deref(),
            Some("a 2027-03-01 90d\n"),
            "no item"
        );
        let without_dates = apply_edits(&without_b, |object| {
            object.edits(&with_dates(&[("a", None)], &[]))
        });
        assert_eq!(dates_in(&without_dates), None);
    }

    #[test]
    fn keeps_ignored_lines_when_it_sets_all_dates() {
        let file = FILE.replace(
            "namespace: ns",
            &format!(
                "namespace: ns, annotations: {{{ROTATE_BY_ANNOTATION}: \"a 2027-01-01\\nb soon\"}}"
            ),
        );
        let dates = rotate_by::parse("a 2027-01-01\nb 2027-02-01\n").dates;
        let output = apply_edits(&file, |object| {
            object.set_dates(&dates).into_iter().collect()
        });
        assert!(
            output.contains("\"a 2027-01-01\\nb 2027-02-01\\n\""),
            "{output}"
        );
        let same = rotate_by::parse("a 2027-01-01").dates;
        let output = apply_edits(&file, |object| {
            object.set_dates(&same).into_iter().collect()
        });
        assert_eq!(output, file);
    }
}
