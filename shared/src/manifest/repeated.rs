//! Finds repeated keys in the JSON and YAML documents that a filter accepts.

use std::collections::HashSet;

use super::node::{Node, Value};
use super::yaml_keys::{self, RepeatedKey};
use super::{
    MAX_VALUES, MIN_ANCHOR_VALUES, json_in, split_at_separators, text_begins_like_json, yaml_in,
};

pub(super) fn find(text: &str, is_wanted: impl Fn(&Node) -> bool) -> Vec<RepeatedKey> {
    let (objects, yaml, lines_before) = if text_begins_like_json(text) {
        json_in::read_with_duplicates(text, MAX_VALUES)
    } else {
        (Vec::new(), text, 0)
    };
    let mut repeated = Vec::new();
    for root in objects.iter().filter(|root| is_wanted(root)) {
        add_repeated_in_json(root, &mut repeated);
    }
    if add_repeated_in_yaml(yaml, lines_before, &is_wanted, &mut repeated).is_none() {
        for (lines_before_piece, piece) in split_at_separators(yaml) {
            add_repeated_in_yaml(
                piece,
                lines_before + lines_before_piece,
                &is_wanted,
                &mut repeated,
            );
        }
    }
    repeated
}

fn add_repeated_in_json(node: &Node, repeated: &mut Vec<RepeatedKey>) {
    match &node.value {
        Value::List(items) => items
            .iter()
            .for_each(|item| add_repeated_in_json(item, repeated)),
        Value::Map(entries) => {
            let mut earlier_keys = HashSet::new();
            for (key, value) in entries {
                if !earlier_keys.insert(key) {
                    repeated.push(RepeatedKey {
                        line: value.line,
                        key: key.clone(),
                        is_merged: false,
                    });
                }
                add_repeated_in_json(value, repeated);
            }
        }
        _ => {}
    }
}

/// Adds the repeated keys of YAML documents to `repeated`. Returns `None` for malformed text.
fn add_repeated_in_yaml(
    text: &str,
    lines_before: usize,
    is_wanted: impl Fn(&Node) -> bool,
    repeated: &mut Vec<RepeatedKey>,
) -> Option<()> {
    let max_values = MAX_VALUES.min(MIN_ANCHOR_VALUES + 2 * text.len());
    let roots = yaml_in::read(text, lines_before, max_values).ok()?;
    let documents = yaml_keys::find_in_documents(text, lines_before);
    for (root, keys) in roots.iter().zip(documents) {
        if !keys.is_empty() && is_wanted(root) {
            repeated.extend(keys);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeated_keys(text: &str) -> Vec<(usize, String)> {
        let is_wanted = |root: &Node| root.field("skip").is_none();
        let keys = find(text, is_wanted);
        keys.into_iter()
            .map(|repeated| (repeated.line, repeated.key))
            .collect()
    }

    #[test]
    fn finds_repeated_keys_in_yaml_and_json() {
        for (text, want) in [
            ("a: 1\na: 2\n", vec![(2, "a")]),
            ("skip:\na: 1\na: 2\n---\nb: 1\nb: 1\n", vec![(6, "b")]),
            ("{{ x }}\n---\na: 1\na: 2\n", vec![(4, "a")]),
            ("{\"a\": 1, \"a\": 2}", vec![(1, "a")]),
            (
                "{\"a\": 1}\n{\"b\": [{\"c\": 1,\t\"c\": 2}]}",
                vec![(2, "c")],
            ),
            ("{\"a\": \"\\ud83d\\ude00\", \"a\": 1}", vec![(1, "a")]),
            ("{\"skip\": 1, \"a\": 1, \"a\": 2}", vec![]),
            ("{\"a\": 1}\n---\nb: 1\nb: 2\n", vec![(4, "b")]),
            ("{a: 1, a: 2}\n", vec![(1, "a")]),
            ("a: {<<: {b: 1}, b: 2}\n", vec![]),
            (
                "a: {b: 2, c: 1, <<: {b: 1, c: 2}}\n",
                vec![(1, "b"), (1, "c")],
            ),
        ] {
            let want: Vec<_> = want
                .into_iter()
                .map(|(line, key)| (line, key.to_owned()))
                .collect();
            assert_eq!(repeated_keys(text), want, "{text:?}");
        }
    }
}
