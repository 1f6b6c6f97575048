//! Checks a document against the value types of an API type, with Go's conversion of unquoted scalars to
//! text.

use serde_json::{Map, Value as Json};

use super::error::ShapeError;
use super::node::{Node, Value};
use super::scalar;

/// The expected type of a value. `null` is allowed everywhere, as in Go.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A value of any type.
    Any,
    /// A string, or an unquoted scalar that is converted to a string. As a value of a [`Self::Map`], `null` is
    /// the empty string.
    Text,
    /// Like [`Self::Text`], but `null` stays `null`.
    TextOrNull,
    /// A boolean.
    Bool,
    /// A list of values of this type.
    List(&'static Shape),
    /// A mapping with values of this type.
    Map(&'static Shape),
    /// A mapping with these fields. Names match case-insensitively, unknown fields are dropped.
    Fields(&'static [(&'static str, Shape)]),
}

/// An unquoted scalar that was converted to a string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coercion {
    /// The line of the scalar, counted from one.
    pub line: usize,
    /// Field names from the root, joined by dots.
    pub path: String,
    /// `a number` or `a boolean`.
    pub kind: &'static str,
}

/// Reads values from one document, and collects the scalars that were converted to strings.
#[derive(Debug, Default)]
pub struct Reading {
    path: Vec<String>,
    /// Converted scalars whose string differs from their text in the file, in the order in which they were read.
    pub altered_scalars: Vec<Coercion>,
    /// All scalars that were converted, in the order in which they were read. The API server does not accept them.
    pub converted: Vec<Coercion>,
}

impl Reading {
    /// Returns the node as JSON of the expected type.
    ///
    /// # Errors
    ///
    /// Returns an error for the first value of a different type.
    pub fn json(&mut self, node: &Node, shape: Shape) -> Result<Json, ShapeError> {
        match (shape, &node.value) {
            (_, Value::Null) => Ok(Json::Null),
            (Shape::Any, _) => self.untyped(node),
            (Shape::Text | Shape::TextOrNull, _) => Ok(self.text(node)?.into()),
            (Shape::Bool, Value::Bool(b)) => Ok((*b).into()),
            (Shape::List(item), Value::List(items)) => {
                items.iter().map(|node| self.json(node, *item)).collect()
            }
            (Shape::Map(item), Value::Map(entries)) => {
                let mut map = Map::new();
                for (key, node) in entries {
                    let value = match (item, &node.value) {
                        (Shape::Text, Value::Null) => Json::from(""),
                        _ => self.inside(key, |reading| reading.json(node, *item))?,
                    };
                    map.insert(key.clone(), value);
                }
                Ok(Json::Object(map))
            }
            (Shape::Fields(fields), Value::Map(_)) => {
                let mut map = Map::new();
                for (name, shape) in fields {
                    if let Some(node) = node.field(name) {
                        let value = self.inside(name, |reading| reading.json(node, *shape))?;
                        map.insert((*name).into(), value);
                    }
                }
                Ok(Json::Object(map))
            }
            (Shape::Bool, _) => Err(self.type_error(node, "a boolean (true or false)")),
            (Shape::List(_), _) => Err(self.type_error(node, "a list")),
            (Shape::Map(_) | Shape::Fields(_), _) => Err(self.type_error(node, "a mapping")),
        }
    }

    /// Returns the string in a node. Converts an unquoted number or boolean to a string as Go does, and `null` to the
    /// empty string.
    ///
    /// # Errors
    ///
    /// Returns an error if the value has a different type.
    pub fn text(&mut self, node: &Node) -> Result<String, ShapeError> {
        match (&node.value, &node.source) {
            (Value::Null, _) => Ok(String::new()),
            (Value::Text(text), _) => Ok(text.to_string()),
            (value, Some(source)) => {
                let text = scalar::to_text(value).unwrap_or_default();
                let coercion = Coercion {
                    line: node.line,
                    path: self.path.join("."),
                    kind: node.kind(),
                };
                if text != **source {
                    self.altered_scalars.push(coercion.clone());
                }
                self.converted.push(coercion);
                Ok(text)
            }
            _ => Err(self.type_error(node, "a string")),
        }
    }

    /// Runs a step inside a field, so that messages include its name in the path.
    ///
    /// # Errors
    ///
    /// Returns the errors of the step.
    pub fn inside<T, E>(
        &mut self,
        field: &str,
        step: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.path.push(field.to_owned());
        let result = step(self);
        self.path.pop();
        result
    }

    /// Returns the error for a value of the wrong type. `wanted` includes its article.
    pub fn type_error(&self, node: &Node, wanted: &'static str) -> ShapeError {
        let path = match self.path.as_slice() {
            [] => "the document".to_owned(),
            path => path.join("."),
        };
        ShapeError {
            line: node.line,
            path,
            wanted,
            found: node.kind(),
        }
    }

    fn untyped(&mut self, node: &Node) -> Result<Json, ShapeError> {
        match &node.value {
            Value::Null => Ok(Json::Null),
            Value::Bool(b) => Ok((*b).into()),
            Value::Int(int) => Ok(integer(*int)),
            Value::Float(float) => serde_json::Number::from_f64(*float)
                .map(Json::Number)
                .ok_or_else(|| self.type_error(node, "a finite number")),
            Value::Text(text) => Ok(text.as_str().into()),
            Value::List(_) => self.json(node, Shape::List(&Shape::Any)),
            Value::Map(_) => self.json(node, Shape::Map(&Shape::Any)),
        }
    }
}

fn integer(int: i128) -> Json {
    match (i64::try_from(int), u64::try_from(int)) {
        (Ok(int), _) => int.into(),
        (_, Ok(int)) => int.into(),
        #[expect(
            clippy::cast_precision_loss,
            reason = "no parser returns such integers"
        )]
        _ => (int as f64).into(),
    }
}
