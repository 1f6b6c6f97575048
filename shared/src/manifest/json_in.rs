//! JSON streams → nodes.

use serde_json::Value as Json;
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
        let mut stream = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Json>();
        match stream.next() {
            None => return Ok(documents),
            Some(Ok(value)) => documents.push(node(value, line)),
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
    text.len() - text.trim_start().len()
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

fn node(value: Json, line: usize) -> Node {
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(b),
        Json::Number(number) => match number.as_i128() {
            Some(int) => Value::Int(int),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(Zeroizing::new(text)),
        Json::Array(items) => Value::List(items.into_iter().map(|v| node(v, line)).collect()),
        Json::Object(map) => Value::Map(
            map.into_iter()
                .map(|(key, v)| (key, node(v, line)))
                .collect(),
        ),
    };
    Node::new(value, line)
}
