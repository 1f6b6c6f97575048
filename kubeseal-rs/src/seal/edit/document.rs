//! The document to edit: values by item key, formatted as YAML and parsed again. It has the familiar form of a Secret:
//! `stringData` for text, `data` in base64 for other bytes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value as Json, json};
use shared::base64;
use shared::manifest::{self, Node, Value};
use shared::plain::Plain;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::seal::in_cluster::Values;

/// Formats the text for the editor, with escapes for invisible characters. **It contains plain values.**
pub(super) fn write(object_name: &str, values: &Values, is_blind: bool) -> Zeroizing<String> {
    let (mut texts, mut bytes) = (Map::new(), Map::new());
    for (key, value) in values {
        let text = value
            .as_ref()
            .map(|value| std::str::from_utf8(value.expose()));
        match (text, value) {
            (Some(Ok(text)), _) => drop(texts.insert(key.clone(), text.into())),
            (Some(Err(_)), Some(value)) => {
                bytes.insert(key.clone(), base64::encode(value.expose()).into());
            }
            _ => drop(texts.insert(key.clone(), Json::Null)),
        }
    }
    let mut document = json!({ "stringData": texts });
    if !bytes.is_empty() {
        document["data"] = Json::Object(bytes);
    }
    let body = Zeroizing::new(manifest::to_visible_yaml(&document));
    let header = header(object_name, values, is_blind);
    let unknown = lines_of_unknown(values);
    // Allocate the full length up front: a growing string would leave copies in freed memory.
    let mut text = Zeroizing::new(String::with_capacity(header.len() + body.len()));
    text.push_str(&header);
    for line in body.split_inclusive('\n') {
        let key = line.strip_suffix(" null\n");
        match key.filter(|_| unknown.contains(line)) {
            Some(key) => text.extend([key, "\n"]),
            None => text.push_str(line),
        }
    }
    text
}

/// Returns the lines of unknown values as [`manifest::to_visible_yaml`] writes them, which end in ` null`. A line of a
/// string value never equals one of them, since it is indented further.
fn lines_of_unknown(values: &Values) -> BTreeSet<String> {
    let unknown = values.iter().filter(|(_, value)| value.is_none());
    let line =
        |(key, _): (&String, _)| format!("  {}", manifest::to_visible_yaml(&json!({ key: null })));
    unknown.map(line).collect()
}

fn header(object_name: &str, values: &Values, is_blind: bool) -> String {
    let has_unknown = values.values().any(Option::is_none);
    let unknown_note = if has_unknown {
        "# Values are not shown: write a new value after the colon, or nothing to keep the old one.\n"
    } else {
        ""
    };
    let data_note = if is_blind {
        ""
    } else {
        "# Values that are not text are under data, in base64.\n"
    };
    format!(
        "# {object_name}: change values, add keys, remove keys. Values that you do not change are not re-encrypted.\n\
         {unknown_note}{data_note}# Save and quit; an empty file changes nothing.\n"
    )
}

/// Parses the edited text. Returns `None` if it is empty except for comments.
pub(super) fn read(text: &[u8]) -> Result<Option<Values>> {
    let documents = manifest::read(text).context("cannot parse the edited text")?;
    let root = match documents.as_slice() {
        [] => return Ok(None),
        [one] => &one.root,
        more => {
            let count = more.len();
            bail!("the edited text contains {count} documents, expected one")
        }
    };
    let mut values = Values::new();
    for (name, node) in entries(
        root,
        "expected stringData and data, each a mapping of keys to values",
    )? {
        let is_text = match name.as_str() {
            "stringData" => true,
            "data" => false,
            _ => bail!(
                "line {}: {name:?} is neither stringData nor data",
                node.line
            ),
        };
        for (key, node) in entries(node, "expected a mapping of keys to values")? {
            let value = value(key, node, is_text)?;
            if values.insert(key.clone(), value).is_some() {
                bail!("line {}: duplicate key {key}", node.line);
            }
        }
    }
    Ok(Some(values))
}

fn entries<'a>(node: &'a Node, expected: &str) -> Result<&'a [(String, Node)]> {
    match &node.value {
        Value::Map(entries) => Ok(entries),
        Value::Null => Ok(&[]),
        _ => bail!("line {}: {expected}", node.line),
    }
}

/// Returns the value of an item; `None` if it is null, as when nothing follows the colon. A number or `yes` without
/// quotes is kept as typed.
fn value(key: &str, node: &Node, is_text: bool) -> Result<Option<Plain>> {
    let line = node.line;
    let text = match (&node.value, &node.source) {
        (Value::Null, _) => return Ok(None),
        (Value::Text(text), _) => text,
        (_, Some(source)) => source,
        _ => bail!("line {line}: expected a string"),
    };
    if is_text {
        return Ok(Some(Plain::from(text.as_bytes().to_vec())));
    }
    // Drop the error, which would quote the value.
    let bytes = base64::decode(text.as_bytes()).ok().with_context(|| {
        Failure::new(format!("line {line}: the value of {key} is not base64"))
            .hint("write text under stringData")
    })?;
    Ok(Some(Plain::from(bytes)))
}

/// The changes from one set of values to another.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Items that are new or changed.
    pub(super) set: BTreeMap<String, Plain>,
    /// Items that were removed.
    pub(super) removed: Vec<String>,
}

/// Compares values. An item whose value was not shown, and which has none after editing, is unchanged.
pub(super) fn difference(before: &Values, after: &Values) -> Difference {
    let mut difference = Difference::default();
    for (key, value) in after {
        match value {
            Some(value) if before.get(key) != Some(&Some(value.clone())) => {
                difference.set.insert(key.clone(), value.clone());
            }
            // A new item without a value gets an empty value.
            None if !before.contains_key(key) => {
                difference.set.insert(key.clone(), Plain::default());
            }
            _ => {}
        }
    }
    let removed = before.keys().filter(|key| !after.contains_key(*key));
    difference.removed = removed.cloned().collect();
    // A value that the editor showed and that is now empty was emptied intentionally; a value that was never shown is
    // unchanged.
    for (key, value) in before {
        if value.is_some() && after.get(key) == Some(&None) {
            difference.set.insert(key.clone(), Plain::default());
        }
    }
    difference
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::any;
    use proptest::prop_oneof;

    use super::*;

    fn plain(text: &str) -> Plain {
        Plain::from(text.to_owned())
    }

    #[test]
    fn shows_text_as_text_and_bytes_in_base64() {
        let values = Values::from([
            ("a".to_owned(), Some(plain("x\ny\n"))),
            ("b".to_owned(), Some(plain("yes"))),
            ("c".to_owned(), Some(Plain::from(vec![0xff]))),
        ]);
        let text = write("ns/n", &values, false);
        let body: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
        assert_eq!(
            body.join("\n"),
            "data:\n  c: /w==\nstringData:\n  a: |\n    x\n    y\n  b: \"yes\""
        );
        assert!(text.starts_with("# ns/n: change values"));
    }

    /// Attack: an author seals a value with invisible characters or characters that change the direction of text, so
    /// that a person who edits the object sees another value.
    #[test]
    fn escapes_invisible_characters_of_values() {
        let value = "a\u{202e}b\u{200b}c\u{2028}d\u{2066}e\u{feff}\u{ad}f\n\u{e0041}g\n";
        let values = Values::from([("a".to_owned(), Some(plain(value)))]);
        let text = write("n", &values, false);
        assert!(text.is_ascii(), "{}", *text);
        assert_eq!(read(text.as_bytes()).unwrap(), Some(values));
    }

    #[test]
    fn omits_null_only_as_the_value_of_a_key() {
        let values = Values::from([
            (
                "a".to_owned(),
                Some(plain("primary: x\nreplica: null\n  b: null\n")),
            ),
            ("b".to_owned(), None),
            ("c: null".to_owned(), Some(plain("d: null"))),
        ]);
        let text = write("n", &values, false);
        assert!(text.contains("\n  b:"), "{}", *text);
        let parsed = read(text.as_bytes()).unwrap().unwrap();
        assert_eq!(parsed, values, "{}", *text);
    }

    #[test]
    fn an_unquoted_value_is_kept_as_typed() {
        let values = read(b"stringData:\n  a: 0123\n  b: yes\n  c: x\n  d:\n")
            .unwrap()
            .unwrap();
        let want = [("a", "0123"), ("b", "yes"), ("c", "x")];
        for (key, value) in want {
            assert_eq!(values[key], Some(plain(value)), "{key}");
        }
        assert_eq!(values["d"], None);
    }

    #[test]
    fn the_difference_contains_only_changed_items() {
        let before = Values::from([
            ("known".to_owned(), Some(plain("1"))),
            ("changed".to_owned(), Some(plain("2"))),
            ("emptied".to_owned(), Some(plain("3"))),
            ("gone".to_owned(), Some(plain("4"))),
            ("hidden".to_owned(), None),
            ("replaced".to_owned(), None),
        ]);
        let after = Values::from([
            ("known".to_owned(), Some(plain("1"))),
            ("changed".to_owned(), Some(plain("two"))),
            ("emptied".to_owned(), None),
            ("hidden".to_owned(), None),
            ("replaced".to_owned(), Some(plain("6"))),
            ("new".to_owned(), Some(plain("7"))),
        ]);
        let changes = difference(&before, &after);
        let set: Vec<&str> = changes.set.keys().map(String::as_str).collect();
        assert_eq!(set, ["changed", "emptied", "new", "replaced"]);
        assert_eq!(changes.removed, ["gone"]);
    }

    #[test]
    fn refuses_invalid_text_without_showing_values() {
        for (text, want) in [
            ("a: b", "line 1: \"a\" is neither"),
            (
                "stringData: hunter2",
                "line 1: expected a mapping of keys to values",
            ),
            ("stringData:\n  a: [hunter2]", "line 2: expected a string"),
            (
                "data:\n  a: hunter2!",
                "line 2: the value of a is not base64",
            ),
            (
                "data:\n  a: aGk=\nstringData:\n  a: hunter2",
                "line 4: duplicate key a",
            ),
            (
                "stringData: {}\n---\nstringData: {}",
                "the edited text contains 2",
            ),
            ("stringData: [hunter2", "cannot parse the edited text"),
        ] {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(
                error.starts_with(want) && !error.contains("hunter2"),
                "{error}"
            );
        }
        assert_eq!(read(b"# all gone\n").unwrap(), None);
    }

    proptest::proptest! {
        #[test]
        fn written_values_are_read_back_unchanged(
            texts in btree_map("[a-z.]{1,9}", prop_oneof![any::<String>(), "([ab :\n]|: null\n){0,9}"], 0..4),
            bytes in btree_map("[A-Z_]{1,9}", vec(any::<u8>(), 0..20), 0..4),
        ) {
            let texts = texts.into_iter().map(|(key, text)| (key, text.into_bytes()));
            let items = texts.chain(bytes).map(|(key, value)| (key, Some(Plain::from(value))));
            let values: Values = items.collect();
            let text = write("n", &values, false);
            let parsed = read(text.as_bytes()).unwrap().unwrap_or_default();
            proptest::prop_assert_eq!(difference(&values, &parsed), Difference::default(), "{}", *text);
        }
    }
}
