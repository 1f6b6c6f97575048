//! The guard: applies an edit to the parsed document, and compares the result with the edited text.

use super::{Change, Edit, Step};
use crate::manifest::node::{Node, Value};
use zeroize::Zeroizing;

/// Applies an edit to a tree.
pub(super) fn apply(root: &mut Node, edit: &Edit) {
    let mut here = root;
    let Some((last, parents)) = edit.path.split_last() else {
        return;
    };
    for step in parents {
        match step_into(here, step) {
            Some(next) => here = next,
            None => return,
        }
    }
    match &edit.change {
        Change::Set(value) => {
            if let Some(node) = step_into(here, last) {
                node.value = Value::Text(Zeroizing::new(value.clone()));
                node.source = None;
            }
        }
        Change::Remove => {
            let name = name_in(here, last);
            if let Value::Map(entries) = &mut here.value {
                entries.retain(|(key, _)| Some(key) != name.as_ref());
            }
        }
    }
}

/// Returns the key of the mapping that a step selects.
fn name_in(node: &Node, step: &Step) -> Option<String> {
    let Value::Map(entries) = &node.value else {
        return None;
    };
    let name = step.name()?;
    let same = |entry: &&(String, Node)| match step {
        Step::Field(name) => entry.0.eq_ignore_ascii_case(name),
        _ => false,
    };
    let exact = entries.iter().rev().find(|(key, _)| key == name);
    let found = exact.or_else(|| entries.iter().rev().find(same));
    Some(found.map_or_else(|| name.to_owned(), |(key, _)| key.clone()))
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
    let name = name_in(node, step)?;
    let line = node.line;
    let Value::Map(entries) = &mut node.value else {
        return None;
    };
    let position = entries.iter().rposition(|(key, _)| *key == name);
    let at = position.unwrap_or(entries.len());
    if position.is_none() {
        entries.push((name, Node::new(Value::Null, line)));
    }
    Some(&mut entries[at].1)
}

/// Returns the path of the first difference between two trees. Of equal keys only the last counts; line
/// numbers are ignored.
pub(super) fn difference(wanted: &Node, found: &Node) -> Option<String> {
    let mut path = Vec::new();
    differs(wanted, found, &mut path).then(|| path.join("."))
}

fn differs(wanted: &Node, found: &Node, path: &mut Vec<String>) -> bool {
    let mut inside = |name: String, wanted: Option<&Node>, found: Option<&Node>| {
        path.push(name);
        let differ = match (wanted, found) {
            (Some(wanted), Some(found)) => differs(wanted, found, path),
            _ => true,
        };
        if !differ {
            path.pop();
        }
        differ
    };
    match (&wanted.value, &found.value) {
        (Value::List(wanted), Value::List(found)) => (0..wanted.len().max(found.len()))
            .any(|i| inside(i.to_string(), wanted.get(i), found.get(i))),
        (Value::Map(wanted), Value::Map(found)) => {
            let (wanted, found) = (in_effect(wanted), in_effect(found));
            let is_wanted = |name: &str| wanted.iter().any(|entry| entry.0 == name);
            let one = |i: usize| {
                let (wanted, found) = (wanted.get(i), found.get(i));
                let name = found
                    .filter(|entry| !is_wanted(entry.0))
                    .or(wanted)
                    .or(found);
                let name = name.map_or("", |entry| entry.0);
                let same = wanted.map(|entry| entry.0) == found.map(|entry| entry.0);
                let found = found.filter(|_| same).map(|entry| entry.1);
                inside(name.to_owned(), wanted.map(|entry| entry.1), found)
            };
            (0..wanted.len().max(found.len())).any(one)
        }
        (value, other) => !same_scalar(value, other) || wanted.source != found.source,
    }
}

/// Returns each key once, in the order of first occurrence, with its effective value.
fn in_effect(entries: &[(String, Node)]) -> Vec<(&str, &Node)> {
    let mut places = std::collections::HashMap::new();
    let mut all: Vec<(&str, &Node)> = Vec::new();
    for (name, node) in entries {
        let at = *places.entry(name.as_str()).or_insert(all.len());
        match all.get_mut(at) {
            Some(entry) => entry.1 = node,
            None => all.push((name, node)),
        }
    }
    all
}

fn same_scalar(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a.to_bits() == b.to_bits(),
        (Value::Text(a), Value::Text(b)) => a == b,
        _ => false,
    }
}
