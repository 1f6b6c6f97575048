//! Builds nodes from YAML events.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use zeroize::Zeroizing;

use super::error::{ReadError, ReadProblem};
use super::node::{Node, Value};
use super::{line_breaks, scalar};
use crate::base64;

/// Maximum nesting. Manifests need about ten levels; the limit keeps recursion over nodes far from a stack
/// overflow.
const MAX_DEPTH: usize = 100;
/// Maximum weight that aliases may add to an input. A real manifest repeats a few labels; an alias bomb multiplies
/// values.
const MAX_ALIASED: usize = 50_000;
const MERGE_KEY: &str = "<<";

/// Reads every document of the input. `max_values` limits the total weight. Adds `lines_before` to all line numbers.
pub(super) fn read(
    text: &str,
    lines_before: usize,
    max_values: usize,
) -> Result<Vec<Node>, ReadError> {
    let documents = parse(text, lines_before, max_values);
    // If parsing failed, check the lines up to the error: a character that only other parsers read as a line break may
    // have caused the error.
    let read_text = match &documents {
        Ok(_) => text,
        Err(error) => lines_to(text, error.line().unwrap_or(0).saturating_sub(lines_before)),
    };
    line_breaks::check(read_text).map_err(|(line, problem)| {
        let line = line + lines_before;
        let number = documents.as_deref().map_or_else(
            |error| error.position.map_or(1, |(document, _)| document),
            |documents| document_at(line, documents),
        );
        ReadError::at(number, line, problem)
    })?;
    documents
}

fn parse(text: &str, lines_before: usize, max_values: usize) -> Result<Vec<Node>, ReadError> {
    let mut builder = Builder {
        lines_before,
        max_values,
        ..Builder::default()
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| {
            builder.error_at(
                e.marker().line(),
                ReadProblem::Yaml(without_input(e.info())),
            )
        })?;
        builder.process(event, span)?;
    }
    Ok(builder.documents)
}

/// Returns the text up to and including this line, counted from one.
fn lines_to(text: &str, line: usize) -> &str {
    let mut line_ends = text.match_indices('\n').map(|(at, _)| at);
    let end = line_ends.nth(line.saturating_sub(1));
    &text[..end.unwrap_or(text.len())]
}

/// Returns the number of the document that contains a line, counted from one.
fn document_at(line: usize, documents: &[Node]) -> usize {
    let begins_before = |root: &&Node| root.line <= line;
    documents.iter().filter(begins_before).count().max(1)
}

/// Returns the name of a scalar used as a key; `None` for the merge key and for a scalar that cannot be a
/// key.
pub(super) fn key_name(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Option<String> {
    let node = Builder::default().scalar(text, style, tag).ok()?;
    match key_of(&node) {
        Ok(Key::Name(name)) => Some(name),
        Ok(Key::Merge) | Err(_) => None,
    }
}

/// Removes the input character that the parser's message quotes: it may be part of a value.
fn without_input(info: &str) -> String {
    let end = info.find(": `").unwrap_or(info.len());
    info[..end].to_owned()
}

/// Builds trees from events. Uses an explicit stack, so that no input can overflow the call stack.
#[derive(Default)]
struct Builder {
    lines_before: usize,
    document: usize,
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    aliased_weight: usize,
    /// Weight of all nodes, including copies for anchors and aliases.
    weight: usize,
    max_values: usize,
    line: usize,
}

/// A collection that has not ended yet.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<Key>,
}

enum Key {
    Name(String),
    Merge,
}

impl Builder {
    fn process(&mut self, event: Event<'_>, span: Span) -> Result<(), ReadError> {
        self.line = span.start.line() + self.lines_before;
        match event {
            Event::DocumentStart(_) => {
                self.document += 1;
                self.anchors.clear();
            }
            Event::Scalar(text, style, anchor, tag) => {
                let node = self.scalar(&text, style, tag.as_deref())?;
                self.add_weight(node.weight())?;
                self.add_node(node, anchor)?;
            }
            Event::SequenceStart(anchor, _) => self.begin(Value::List(Vec::new()), anchor)?,
            Event::MappingStart(anchor, _) => self.begin(Value::Map(Vec::new()), anchor)?,
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(anchor) => {
                let node = self.alias(anchor)?;
                self.add_node(node, 0)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Node, ReadError> {
        let is_plain = style == ScalarStyle::Plain;
        let value = match tag.map(core_tag_name).as_deref() {
            None if is_plain => scalar::resolve(text),
            None | Some("str") => text_value(text),
            Some(tag) => tagged_value(tag, text).map_err(|problem| self.error(problem))?,
        };
        // `<<` also keeps its source: in quotes it is an ordinary key.
        let is_typed = matches!(value, Value::Bool(_) | Value::Int(_) | Value::Float(_));
        let source =
            (is_plain && (is_typed || text == MERGE_KEY)).then(|| Zeroizing::new(text.to_owned()));
        Ok(Node {
            value,
            line: self.line,
            source,
        })
    }

    fn begin(&mut self, value: Value, anchor: usize) -> Result<(), ReadError> {
        if self.open.len() == MAX_DEPTH {
            return Err(self.error(ReadProblem::Depth(MAX_DEPTH)));
        }
        self.add_weight(1)?;
        self.open.push(Open {
            node: Node::new(value, self.line),
            anchor,
            key: None,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), ReadError> {
        match self.open.pop() {
            Some(collection) => self.add_node(collection.node, collection.anchor),
            None => Ok(()),
        }
    }

    fn alias(&mut self, anchor: usize) -> Result<Node, ReadError> {
        let Some(node) = self.anchors.get(&anchor) else {
            // The alias is inside the value of its own anchor.
            return Err(self.error(ReadProblem::Yaml("an alias refers to itself".into())));
        };
        let (node, weight) = (node.clone(), node.weight());
        self.aliased_weight += weight;
        if self.aliased_weight > MAX_ALIASED {
            return Err(self.error(ReadProblem::Aliases(MAX_ALIASED)));
        }
        self.add_weight(weight)?;
        Ok(node)
    }

    fn add_weight(&mut self, more: usize) -> Result<(), ReadError> {
        self.weight += more;
        if self.weight > self.max_values {
            return Err(self.error(ReadProblem::Size(self.max_values)));
        }
        Ok(())
    }

    /// Adds a finished node as item, key, value, or root.
    fn add_node(&mut self, node: Node, anchor: usize) -> Result<(), ReadError> {
        if anchor != 0 {
            // Add the weight before copying: nested anchors multiply values as aliases do.
            self.add_weight(node.weight())?;
            self.anchors.insert(anchor, node.clone());
        }
        let line = self.line;
        let Some(parent) = self.open.last_mut() else {
            refuse_separator(&node).map_err(|problem| self.error(problem))?;
            self.documents.push(node);
            return Ok(());
        };
        let result = match &mut parent.node.value {
            Value::List(items) => {
                items.push(node);
                Ok(())
            }
            Value::Map(entries) => match parent.key.take() {
                None => key_of(&node).map(|key| parent.key = Some(key)),
                Some(Key::Name(name)) => {
                    entries.push((name, node));
                    Ok(())
                }
                Some(Key::Merge) => merge(entries, node),
            },
            _ => Ok(()),
        };
        result.map_err(|problem| ReadError::at(self.document, line, problem))
    }

    fn error(&self, problem: ReadProblem) -> ReadError {
        ReadError::at(self.document, self.line, problem)
    }

    fn error_at(&self, line: usize, problem: ReadProblem) -> ReadError {
        ReadError::at(self.document.max(1), line + self.lines_before, problem)
    }
}

/// Refuses a document that is a string with the word `---`: in a block scalar without indentation, the parser treats a
/// line `---` and the next document as a part of the string, but `kubectl` splits documents there.
fn refuse_separator(root: &Node) -> Result<(), ReadProblem> {
    match &root.value {
        // A folded string has spaces for line breaks.
        Value::Text(text) if text.split_whitespace().any(|word| word == "---") => {
            let why = "a line `---` is part of a multi-line string outside any mapping";
            Err(ReadProblem::Yaml(why.into()))
        }
        _ => Ok(()),
    }
}

fn text_value(text: &str) -> Value {
    Value::Text(Zeroizing::new(text.to_owned()))
}

/// Returns the name of a YAML core tag in any notation (`!!int`, `!<tag:yaml.org,2002:int>`, or with a tag handle
/// that the document declares), or an empty string for any other tag.
fn core_tag_name(tag: &Tag) -> String {
    let full_name = format!("{}{}", tag.handle, tag.suffix);
    let name = full_name.strip_prefix("tag:yaml.org,2002:");
    name.unwrap_or_default().to_owned()
}

/// Returns the value of a scalar with a YAML core tag (`!!int "5"`). With any other tag, a scalar is a string, as in
/// Go.
fn tagged_value(tag: &str, text: &str) -> Result<Value, ReadProblem> {
    let untagged_value = scalar::resolve(text);
    match (tag, untagged_value) {
        ("null", Value::Null) => Ok(Value::Null),
        ("bool", value @ Value::Bool(_))
        | ("int", value @ Value::Int(_))
        | ("float", value @ Value::Float(_)) => Ok(value),
        #[expect(clippy::cast_precision_loss, reason = "the tag requests a float")]
        ("float", Value::Int(number)) => Ok(Value::Float(number as f64)),
        ("null", _) => Err(ReadProblem::Tag("!!null")),
        ("bool", _) => Err(ReadProblem::Tag("!!bool")),
        ("int", _) => Err(ReadProblem::Tag("!!int")),
        ("float", _) => Err(ReadProblem::Tag("!!float")),
        ("binary", _) => binary(text),
        _ => Ok(text_value(text)),
    }
}

fn binary(text: &str) -> Result<Value, ReadProblem> {
    let encoded: Zeroizing<Vec<u8>> =
        Zeroizing::new(text.bytes().filter(|b| !b.is_ascii_whitespace()).collect());
    let bytes = base64::decode(&encoded).map_err(|_| ReadProblem::Tag("!!binary"))?;
    let text = String::from_utf8(bytes).map_err(|_| ReadProblem::Tag("!!binary"))?;
    Ok(Value::Text(Zeroizing::new(text)))
}

/// Returns the key that a node represents. Keys are typed like values: upstream reads an unquoted `n:` as the key
/// `false`.
fn key_of(node: &Node) -> Result<Key, ReadProblem> {
    match &node.value {
        Value::Text(text) if **text == MERGE_KEY && node.source.is_some() => Ok(Key::Merge),
        Value::Text(text) => Ok(Key::Name(text.to_string())),
        value => scalar::to_text(value)
            .map(|text| Key::Name(float_name(text)))
            .ok_or(ReadProblem::Key),
    }
}

/// Converts the three special floats to YAML's names, which Go uses for keys.
fn float_name(text: String) -> String {
    match text.as_str() {
        "+Inf" => ".inf".into(),
        "-Inf" => "-.inf".into(),
        "NaN" => ".nan".into(),
        _ => text,
    }
}

fn merge(entries: &mut Vec<(String, Node)>, node: Node) -> Result<(), ReadProblem> {
    match node.value {
        Value::Map(merged) => entries.extend(merged),
        // Of several mappings the first one counts, and of equal keys the last.
        Value::List(maps) => {
            for map in maps.into_iter().rev() {
                match map.value {
                    Value::Map(merged) => entries.extend(merged),
                    _ => return Err(ReadProblem::Merge),
                }
            }
        }
        _ => return Err(ReadProblem::Merge),
    }
    Ok(())
}
