//! Parses JSON streams to nodes.

use std::collections::HashMap;
use std::{fmt, iter};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use zeroize::Zeroizing;

use super::error::{ReadError, ReadProblem};
use super::node::{Node, Value};
use super::yaml_in;

/// Reads a sequence of objects. A text that only begins like JSON may be a YAML flow mapping, or one JSON object before
/// YAML documents. So, like upstream, the rest is read as YAML if the first or second object is not JSON.
pub(super) fn read(text: &str, max_values: usize) -> Result<Vec<Node>, ReadError> {
    let inside = values_bound(text);
    let mut documents = Vec::new();
    let (mut at, mut line, mut counted) = (0, 1, 0);
    loop {
        at += leading_space(&text[at..]);
        line += text[counted..at].matches('\n').count();
        counted = at;
        // Check before parsing, which takes the memory.
        if at < text.len() && inside + documents.len() >= max_values {
            let number = documents.len() + 1;
            return Err(ReadError::at(number, line, ReadProblem::Size(max_values)));
        }
        let mut stream = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Raw<true>>();
        match stream.next() {
            None => return Ok(documents),
            Some(Ok(Raw::<true>(mut node))) => {
                set_line(&mut node, line);
                documents.push(node);
            }
            Some(Err(error)) => {
                let error = json_error(documents.len() + 1, line, &error);
                return if documents.len() > 1 {
                    Err(error)
                } else {
                    as_yaml(&text[at..], documents, line, max_values, error)
                };
            }
        }
        at += stream.byte_offset();
    }
}

/// Reads the rest as YAML; if that fails too, returns the JSON error.
fn as_yaml(
    rest: &str,
    mut documents: Vec<Node>,
    line: usize,
    max_values: usize,
    error: ReadError,
) -> Result<Vec<Node>, ReadError> {
    documents.extend(yaml_in::read(rest, line - 1, max_values).map_err(|_| error)?);
    Ok(documents)
}

/// Returns an upper bound for the number of values in a JSON text of these bytes: each value except the
/// outermost follows one of these characters.
fn values_bound(text: &str) -> usize {
    let (mut count, mut quoted, mut escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' | b',' | b':' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

fn leading_space(text: &str) -> usize {
    text.len() - text.trim_ascii_start().len()
}

/// Converts an error. `serde_json`'s messages can quote the input, so only their category is kept.
fn json_error(document: usize, line: usize, error: &serde_json::Error) -> ReadError {
    let problem = match error.classify() {
        Category::Eof => "unexpected end of input",
        _ => "unexpected character",
    };
    ReadError::at(
        document,
        line + error.line().saturating_sub(1),
        ReadProblem::Json(problem),
    )
}

/// Reads the objects at the beginning of a text, with duplicate fields. Also returns the rest of the text, and the
/// number of lines before it. Returns nothing for a text with more values than `max_values`.
pub(super) fn read_with_duplicates(text: &str, max_values: usize) -> (Vec<Node>, &str, usize) {
    let mut documents = Vec::new();
    let (mut at, mut lines_before, mut counted) = (0, 0, 0);
    if values_bound(text) >= max_values {
        return (documents, "", 0);
    }
    loop {
        at += leading_space(&text[at..]);
        lines_before += text[counted..at].matches('\n').count();
        counted = at;
        let mut stream = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Raw<false>>();
        let Some(Ok(Raw(mut node))) = stream.next() else {
            return (documents, &text[at..], lines_before);
        };
        set_line(&mut node, lines_before + 1);
        documents.push(node);
        at += stream.byte_offset();
    }
}

/// A value with all of its duplicate fields or, with `MERGES`, one merged field: Go decodes the second of two equal
/// fields into the result of the first.
struct Raw<const MERGES: bool>(Node);

impl<'de, const MERGES: bool> Deserialize<'de> for Raw<MERGES> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor<const MERGES: bool>;

impl<const MERGES: bool> Raw<MERGES> {
    fn new(value: Value) -> Self {
        Self(Node::new(value, 0))
    }

    /// Keeps the source text of a number or boolean, like that of an unquoted YAML scalar, because upstream
    /// falls back to YAML where it expects text.
    fn typed(value: Value, source: String) -> Self {
        Self(Node {
            value,
            line: 0,
            source: Some(Zeroizing::new(source)),
        })
    }
}

impl<'de, const MERGES: bool> Visitor<'de> for RawVisitor<MERGES> {
    type Value = Raw<MERGES>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Raw<MERGES>, E> {
        Ok(Raw::new(Value::Null))
    }

    fn visit_bool<E>(self, b: bool) -> Result<Raw<MERGES>, E> {
        Ok(Raw::typed(Value::Bool(b), b.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw<MERGES>, E> {
        Ok(Raw::typed(Value::Int(number.into()), number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw<MERGES>, E> {
        Ok(Raw::typed(Value::Int(number.into()), number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw<MERGES>, E> {
        Ok(Raw::typed(Value::Float(number), number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw<MERGES>, E> {
        Ok(Raw::new(Value::Text(Zeroizing::new(text.to_owned()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw<MERGES>, A::Error> {
        let mut list = Vec::new();
        while let Some(Raw::<MERGES>(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::new(Value::List(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Raw<MERGES>, A::Error> {
        let mut merged = Fields::default();
        let mut all = Vec::new();
        while let Some((name, Raw(node))) = fields.next_entry::<String, Raw<MERGES>>()? {
            if MERGES {
                merged.add(name, node);
            } else {
                all.push((name, node));
            }
        }
        Ok(Raw::new(if MERGES {
            merged.merged()
        } else {
            Value::Map(all)
        }))
    }
}

/// Fields in the order of first occurrence. Equal names are merged once at the end; merging at each
/// occurrence would take quadratic time.
#[derive(Default)]
struct Fields {
    places: HashMap<String, usize>,
    fields: Vec<(String, Node, Vec<Node>)>,
}

impl Fields {
    fn add(&mut self, name: String, node: Node) {
        if let Some(place) = self.places.get(&name) {
            self.fields[*place].2.push(node);
        } else {
            self.places.insert(name.clone(), self.fields.len());
            self.fields.push((name, node, Vec::new()));
        }
    }

    fn merged(self) -> Value {
        let merged = |(name, first, more)| (name, merge(first, more));
        Value::Map(self.fields.into_iter().map(merged).collect())
    }
}

/// Merges the values of one name: the last value counts; mappings at the end become one.
fn merge(first: Node, more: Vec<Node>) -> Node {
    if more.is_empty() {
        return first;
    }
    let mut maps = Vec::new();
    for node in iter::once(first).chain(more).rev() {
        match node.value {
            Value::Map(entries) => maps.push(entries),
            _ if maps.is_empty() => return node,
            _ => break,
        }
    }
    let mut fields = Fields::default();
    for (name, node) in maps.into_iter().rev().flatten() {
        fields.add(name, node);
    }
    Node::new(fields.merged(), 0)
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
