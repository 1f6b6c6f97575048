//! The guard: applies an edit to the parsed document, and compares the result with the edited text.

use super::{Change, Edit, Step};
use crate::manifest::node::{Node, Value, is_same_name};
use zeroize::Zeroizing;

/// Applies an edit to a tree.
pub(super) fn apply(root: &mut Node, edit: &Edit) {
    let mut current = root;
    let Some((last, parents)) = edit.path.split_last() else {
        return;
    };
    for step in parents {
        match step_into(current, step) {
            Some(next) => current = next,
            None => return,
        }
    }
    match &edit.change {
        Change::Set(value) => {
            if let Some(node) = step_into(current, last) {
                node.value = Value::Text(Zeroizing::new(value.clone()));
                node.source = None;
            }
        }
        Change::Remove => {
            let name = key_in(current, last);
            if let Value::Map(entries) = &mut current.value {
                entries.retain(|(key, _)| Some(key) != name.as_ref());
            }
        }
    }
}

/// Returns the key that a step selects in a mapping: an existing key, or the name of a new one. Returns `None` if the
/// node is not a mapping, or the step selects an item of a list.
fn key_in(node: &Node, step: &Step) -> Option<String> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let name = step.name()?;
    let is_match = |entry: &&(String, Node)| match step {
        Step::Field(name) => is_same_name(&entry.0, name),
        _ => false,
    };
    let exact = entries.iter().rev().find(|(key, _)| key == name);
    let selected = exact.or_else(|| entries.iter().rev().find(is_match));
    Some(selected.map_or_else(|| name.to_owned(), |(key, _)| key.clone()))
}

fn step_into<'a>(node: &'a mut Node, step: &Step) -> Option<&'a mut Node> {
    if let Step::Item(index) = step {
        return match &mut node.value {
            Value::List(items) => items.get_mut(*index),
            _ => None,
        };
    }
    if matches!(node.value, Value::Null) {
        node.value = Value::Map(Vec::new());
    }
    let name = key_in(node, step)?;
    let line = node.line;
    let Value::Map(entries) = &mut node.value else {
        return None;
    };
    let position = entries.iter().rposition(|(key, _)| *key == name);
    let entry_index = position.unwrap_or(entries.len());
    if position.is_none() {
        entries.push((name, Node::new(Value::Null, line)));
    }
    Some(&mut entries[entry_index].1)
}

/// Returns the path of the first difference between two trees. Of duplicate keys, only the last counts. Ignores line
/// numbers.
pub(super) fn difference(expected: &Node, actual: &Node) -> Option<String> {
    let mut path = Vec::new();
    is_different(expected, actual, &mut path).then(|| path.join("."))
}

fn is_different(expected: &Node, actual: &Node, path: &mut Vec<String>) -> bool {
    let mut differs_inside = |name: String, expected: Option<&Node>, actual: Option<&Node>| {
        path.push(name);
        let has_difference = match (expected, actual) {
            (Some(expected), Some(actual)) => is_different(expected, actual, path),
            _ => true,
        };
        if !has_difference {
            path.pop();
        }
        has_difference
    };
    match (&expected.value, &actual.value) {
        (Value::List(expected), Value::List(actual)) => (0..expected.len().max(actual.len()))
            .any(|i| differs_inside(i.to_string(), expected.get(i), actual.get(i))),
        (Value::Map(expected), Value::Map(actual)) => {
            let (expected, actual) = (effective_entries(expected), effective_entries(actual));
            let is_expected = |name: &str| expected.iter().any(|entry| entry.0 == name);
            let differs_at = |i: usize| {
                let (expected, actual) = (expected.get(i), actual.get(i));
                let name = actual
                    .filter(|entry| !is_expected(entry.0))
                    .or(expected)
                    .or(actual);
                let name = name.map_or("", |entry| entry.0);
                let has_same_name = expected.map(|entry| entry.0) == actual.map(|entry| entry.0);
                let actual = actual.filter(|_| has_same_name).map(|entry| entry.1);
                differs_inside(name.to_owned(), expected.map(|entry| entry.1), actual)
            };
            (0..expected.len().max(actual.len())).any(differs_at)
        }
        (expected_value, actual_value) => {
            !is_same_scalar(expected_value, actual_value) || expected.source != actual.source
        }
    }
}

/// Returns each key once, in the order of first occurrence, with its effective value.
fn effective_entries(entries: &[(String, Node)]) -> Vec<(&str, &Node)> {
    let mut positions = std::collections::HashMap::new();
    let mut effective: Vec<(&str, &Node)> = Vec::new();
    for (name, node) in entries {
        let position = *positions.entry(name.as_str()).or_insert(effective.len());
        match effective.get_mut(position) {
            Some(entry) => entry.1 = node,
            None => effective.push((name, node)),
        }
    }
    effective
}

fn is_same_scalar(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Text(a), Value::Text(b)) => a == b,
        _ => false,
    }
}
