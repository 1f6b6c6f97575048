//! YAML without types, anchors, aliases and tags: every scalar is a string, even if it looks like a number or a
//! boolean, except null (an unquoted `null`, `~` or nothing).

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// The maximum nesting. The list of objects has three levels.
const MAX_DEPTH: usize = 8;
/// The maximum number of scalars, lists and maps.
const MAX_NODES: usize = 10_000;

/// Why a document is refused. The message contains neither a position nor a part of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// A syntax error.
    #[error("it is not valid YAML")]
    Syntax,
    /// No document, or several.
    #[error("it is not a single YAML document")]
    Documents,
    /// An alias, an anchor or a tag.
    #[error("it has an alias, anchor or tag")]
    Unsupported,
    /// The document is nested too deeply, or has too many entries.
    #[error("it is nested too deeply, or has too many entries")]
    Limit,
    /// A repeated key, or a key that is not a string.
    #[error("a map has a repeated key, or a key that is not a string")]
    Key,
}

/// Parses a string that contains exactly one document.
///
/// # Errors
///
/// Returns the first reason to refuse the string.
pub fn read(text: &str) -> Result<Value, YamlError> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|_| YamlError::Syntax)?;
        builder.process(event)?;
    }
    builder.root.ok_or(YamlError::Documents)
}

#[derive(Default)]
struct Builder {
    root: Option<Value>,
    open: Vec<OpenCollection>,
    nodes: usize,
}

/// A list or map whose end has not been read yet.
enum OpenCollection {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

impl Builder {
    fn process(&mut self, event: Event<'_>) -> Result<(), YamlError> {
        match event {
            Event::Scalar(text, style, 0, None) => {
                let is_null = style == ScalarStyle::Plain && ["", "~", "null"].contains(&&*text);
                let text = if is_null {
                    Value::Null
                } else {
                    Value::String(text.into_owned())
                };
                self.count()?;
                self.add(text)
            }
            Event::SequenceStart(0, None) => self.begin(OpenCollection::List(Vec::new())),
            Event::MappingStart(0, None) => self.begin(OpenCollection::Map(Map::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::DocumentStart(_) if self.root.is_some() => Err(YamlError::Documents),
            Event::Alias(_)
            | Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::MappingStart(..) => Err(YamlError::Unsupported),
            _ => Ok(()),
        }
    }

    fn count(&mut self) -> Result<(), YamlError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES || self.open.len() > MAX_DEPTH {
            return Err(YamlError::Limit);
        }
        Ok(())
    }

    fn begin(&mut self, open: OpenCollection) -> Result<(), YamlError> {
        self.open.push(open);
        self.count()
    }

    fn end(&mut self) -> Result<(), YamlError> {
        match self.open.pop() {
            Some(OpenCollection::List(items)) => self.add(Value::Array(items)),
            Some(OpenCollection::Map(entries, _)) => self.add(Value::Object(entries)),
            None => Err(YamlError::Syntax),
        }
    }

    fn add(&mut self, value: Value) -> Result<(), YamlError> {
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(OpenCollection::List(items)) => items.push(value),
            Some(OpenCollection::Map(entries, key)) => match (key.take(), value) {
                (None, Value::String(name)) if !entries.contains_key(&name) => *key = Some(name),
                (None, _) => return Err(YamlError::Key),
                (Some(name), value) => {
                    entries.insert(name, value);
                }
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn scalars_are_strings_exactly_as_written() {
        let text = "- {a: 0440, b: \"0440\", c: yes, d: 1e3, e:, f: ~, g: \"\", h: 'null'}\n- [x, {y: z}]\n";
        let expected = json!([
            { "a": "0440", "b": "0440", "c": "yes", "d": "1e3", "e": null, "f": null, "g": "", "h": "null" },
            ["x", { "y": "z" }],
        ]);
        assert_eq!(read(text), Ok(expected));
        assert_eq!(read("{\"a\": [\"b\"]}"), Ok(json!({ "a": ["b"] })));
        assert_eq!(
            read("a: |\n  first\n  second\n"),
            Ok(json!({ "a": "first\nsecond\n" }))
        );
    }

    /// Attack: the author of a class or Pod exhausts the memory of the provider, which serves all Pods of the node.
    #[test]
    fn refuses_aliases_and_oversized_documents() {
        let cases = [
            ("a: &x b\nc: *x", YamlError::Unsupported),
            ("&x [a]", YamlError::Unsupported),
            ("!!str a", YamlError::Unsupported),
            ("!!python/object:x {}", YamlError::Unsupported),
            ("a\n---\nb", YamlError::Documents),
            ("", YamlError::Documents),
            ("[a", YamlError::Syntax),
            ("a: 1\na: 2", YamlError::Key),
            ("? [a]\n: b", YamlError::Key),
            (": b", YamlError::Key),
        ];
        for (text, error) in cases {
            assert_eq!(read(text), Err(error), "{text:?}");
        }
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert_eq!(read(&deep), Err(YamlError::Limit));
        let long = format!("[{}]", "a, ".repeat(MAX_NODES + 1));
        assert_eq!(read(&long), Err(YamlError::Limit));
    }

    proptest! {
        #[test]
        fn no_input_panics(text in ".{0,64}") {
            let _ = read(&text);
        }
    }
}
