//! Parses JSON streams to nodes.

use std::collections::HashMap;
use std::{fmt, iter};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use zeroize::Zeroizing;

use super::error::{ReadError, ReadProblem};
use super::node::{Node, Value};
use super::yaml_in;

/// Reads a stream of JSON objects. Input that only begins like JSON may be a YAML flow mapping, or one JSON object
/// before YAML documents. So, like upstream, the rest is read as YAML if the first or second object is not JSON.
pub(super) fn read(text: &str, max_values: usize) -> Result<Vec<Node>, ReadError> {
    let max_inner_values = inner_values_bound(text);
    let mut documents = Vec::new();
    let (mut offset, mut line, mut counted_to) = (0, 1, 0);
    loop {
        offset += leading_space_len(&text[offset..]);
        line += text[counted_to..offset].matches('\n').count();
        counted_to = offset;
        // Check before parsing, because parsing allocates the memory.
        if offset < text.len() && max_inner_values + documents.len() >= max_values {
            let number = documents.len() + 1;
            return Err(ReadError::at(number, line, ReadProblem::Size(max_values)));
        }
        let mut stream =
            serde_json::Deserializer::from_str(&text[offset..]).into_iter::<Raw<true>>();
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
                    read_rest_as_yaml(&text[offset..], documents, line, max_values, error)
                };
            }
        }
        offset += stream.byte_offset();
    }
}

/// Reads the rest as YAML; if that is malformed too, returns the JSON error, unless the YAML error is an ambiguous line
/// break.
fn read_rest_as_yaml(
    rest: &str,
    mut documents: Vec<Node>,
    line: usize,
    max_values: usize,
    error: ReadError,
) -> Result<Vec<Node>, ReadError> {
    match yaml_in::read(rest, line - 1, max_values) {
        Ok(rest) => documents.extend(rest),
        Err(yaml) if matches!(yaml.problem, ReadProblem::LineBreak(_)) => return Err(yaml),
        Err(_) => return Err(error),
    }
    Ok(documents)
}

/// Returns an upper bound on the number of values inside the documents of a JSON stream: every value except the
/// outermost follows one of the characters `{`, `[`, `,` and `:`.
fn inner_values_bound(text: &str) -> usize {
    let (mut count, mut is_quoted, mut is_escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'{' | b'[' | b',' | b':' if !is_quoted => count += 1,
            _ => {}
        }
    }
    count
}

fn leading_space_len(text: &str) -> usize {
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

/// Reads the objects at the beginning of the input, and keeps duplicate fields. Also returns the rest of the input, and
/// the number of lines before the rest. Returns nothing for input that may have more values than `max_values`.
pub(super) fn read_with_duplicates(text: &str, max_values: usize) -> (Vec<Node>, &str, usize) {
    let mut documents = Vec::new();
    let (mut offset, mut lines_before, mut counted_to) = (0, 0, 0);
    if inner_values_bound(text) >= max_values {
        return (documents, "", 0);
    }
    loop {
        offset += leading_space_len(&text[offset..]);
        lines_before += text[counted_to..offset].matches('\n').count();
        counted_to = offset;
        let mut stream =
            serde_json::Deserializer::from_str(&text[offset..]).into_iter::<Raw<false>>();
        let Some(Ok(Raw(mut node))) = stream.next() else {
            return (documents, &text[offset..], lines_before);
        };
        set_line(&mut node, lines_before + 1);
        documents.push(node);
        offset += stream.byte_offset();
    }
}

/// A value whose objects may have duplicate fields. With `MERGES`, duplicate fields are merged: Go decodes the second
/// of two equal fields into the result of the first.
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

    /// Stores a number or boolean with its text, like an unquoted YAML scalar, because upstream falls back to YAML
    /// where it expects text.
    fn with_source(value: Value, source: String) -> Self {
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
        Ok(Raw::with_source(Value::Bool(b), b.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw<MERGES>, E> {
        Ok(Raw::with_source(
            Value::Int(number.into()),
            number.to_string(),
        ))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Raw<MERGES>, E> {
        Ok(Raw::with_source(
            Value::Int(number.into()),
            number.to_string(),
        ))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw<MERGES>, E> {
        Ok(Raw::with_source(Value::Float(number), number.to_string()))
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
        let mut merged_fields = Fields::default();
        let mut entries = Vec::new();
        while let Some((name, Raw(node))) = fields.next_entry::<String, Raw<MERGES>>()? {
            if MERGES {
                merged_fields.add(name, node);
            } else {
                entries.push((name, node));
            }
        }
        Ok(Raw::new(if MERGES {
            merged_fields.into_merged()
        } else {
            Value::Map(entries)
        }))
    }
}

/// Fields in the order of first occurrence. Equal names are merged once at the end; merging at each
/// occurrence would take quadratic time.
#[derive(Default)]
struct Fields {
    positions: HashMap<String, usize>,
    fields: Vec<(String, Node, Vec<Node>)>,
}

impl Fields {
    fn add(&mut self, name: String, node: Node) {
        if let Some(position) = self.positions.get(&name) {
            self.fields[*position].2.push(node);
        } else {
            self.positions.insert(name.clone(), self.fields.len());
            self.fields.push((name, node, Vec::new()));
        }
    }

    fn into_merged(self) -> Value {
        let merge_field = |(name, first, more)| (name, merge(first, more));
        Value::Map(self.fields.into_iter().map(merge_field).collect())
    }
}

/// Merges the values of one name: the last value counts, and consecutive mappings at the end are merged.
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
    Node::new(fields.into_merged(), 0)
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
