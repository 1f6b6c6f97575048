//! JSON streams → nodes.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use zeroize::Zeroizing;

use super::error::{ReadError, ReadProblem};
use super::node::{Node, Value};
use super::yaml_in;

/// Reads objects that stand one after the other. A text that merely begins like JSON is a YAML
/// flow mapping, or one JSON document before YAML ones, as for the peer: up to the second object
/// YAML gets its chance.
pub(super) fn read(text: &str) -> Result<Vec<Node>, ReadError> {
    let mut documents = Vec::new();
    let mut at = 0;
    loop {
        at += leading_space(&text[at..]);
        let line = 1 + text[..at].matches('\n').count();
        let mut stream = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Raw>();
        match stream.next() {
            None => return Ok(documents),
            Some(Ok(Raw(mut node))) => {
                set_line(&mut node, line);
                documents.push(node);
            }
            Some(Err(error)) => {
                let error = json_error(documents.len() + 1, line, &error);
                return if documents.len() > 1 {
                    Err(error)
                } else {
                    as_yaml(&text[at..], documents, line, error)
                };
            }
        }
        at += stream.byte_offset();
    }
}

/// Reads the rest as YAML; if it is none either, the JSON error is the one to show.
fn as_yaml(
    rest: &str,
    mut documents: Vec<Node>,
    line: usize,
    error: ReadError,
) -> Result<Vec<Node>, ReadError> {
    documents.extend(yaml_in::read(rest, line - 1).map_err(|_| error)?);
    Ok(documents)
}

fn leading_space(text: &str) -> usize {
    text.len() - text.trim_ascii_start().len()
}

/// `serde_json`'s messages can quote the input, so only their category is kept.
fn json_error(document: usize, line: usize, error: &serde_json::Error) -> ReadError {
    let problem = match error.classify() {
        Category::Eof => "it ends too early",
        _ => "unexpected character",
    };
    ReadError::at(
        document,
        line + error.line().saturating_sub(1),
        ReadProblem::Json(problem),
    )
}

/// A value as it stands, with equal fields merged: Go decodes the second of two equal fields into
/// what the first one made.
struct Raw(Node);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl Raw {
    fn new(value: Value) -> Self {
        Self(Node::new(value, 0))
    }

    /// A number or boolean keeps its text, as an unquoted YAML scalar does: the peer falls back to
    /// YAML where text is wanted.
    fn typed(value: Value, source: String) -> Self {
        Self(Node {
            value,
            line: 0,
            source: Some(Zeroizing::new(source)),
        })
    }
}

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::new(Value::Null))
    }

    fn visit_bool<E>(self, b: bool) -> Result<Raw, E> {
        Ok(Raw::typed(Value::Bool(b), b.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::typed(Value::Int(number.into()), number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::typed(Value::Int(number.into()), number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::typed(Value::Float(number), number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::new(Value::Text(Zeroizing::new(text.to_owned()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(Raw(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::new(Value::List(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Raw, A::Error> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        while let Some((name, Raw(node))) = fields.next_entry::<String, Raw>()? {
            if let Some(place) = places.get(&name) {
                merge(&mut entries[*place].1, node);
            } else {
                places.insert(name.clone(), entries.len());
                entries.push((name, node));
            }
        }
        Ok(Raw::new(Value::Map(entries)))
    }
}

fn merge(into: &mut Node, from: Node) {
    match (&mut into.value, from.value) {
        (Value::Map(entries), Value::Map(more)) => {
            for (name, node) in more {
                match entries.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, known)) => merge(known, node),
                    None => entries.push((name, node)),
                }
            }
        }
        (value, newer) => {
            *value = newer;
            into.source = from.source;
        }
    }
}

fn set_line(node: &mut Node, line: usize) {
    node.line = line;
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| set_line(item, line)),
        Value::Map(entries) => entries
            .iter_mut()
            .for_each(|(_, node)| set_line(node, line)),
        _ => {}
    }
}
