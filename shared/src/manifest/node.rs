use std::fmt;

use zeroize::Zeroizing;

const BYTES_PER_WEIGHT: usize = 64;

/// A value in a document, with its position. `Debug` shows only its type and line, because any node of a
/// Secret may be a plaintext value.
#[derive(Clone)]
pub struct Node {
    /// The value after YAML 1.1 typing.
    pub value: Value,
    /// Line of the input on which the value begins, counted from one.
    pub line: usize,
    /// The source text of an unquoted YAML scalar that was read as a number, a boolean or a merge key, or a JSON number
    /// or boolean as text. Numbers and booleans without a source are not accepted where a string is expected.
    pub source: Option<Zeroizing<String>>,
}

/// A value in a document, by type.
#[derive(Clone)]
pub enum Value {
    /// `null`, `~` or an empty value.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer of 64 bits, signed or unsigned.
    Int(i128),
    /// Any other number, including infinity and NaN.
    Float(f64),
    /// A string.
    Text(Zeroizing<String>),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the input; of equal keys the last one counts.
    Map(Vec<(String, Node)>),
}

impl Node {
    pub(super) fn new(value: Value, line: usize) -> Self {
        Self {
            value,
            line,
            source: None,
        }
    }

    /// Returns the value of a field of a mapping: an exact match of the name if there is one, otherwise a match that
    /// ignores case, as in Go's JSON decoder.
    pub fn field(&self, name: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let last = |is_match: &dyn Fn(&str) -> bool| {
            entries
                .iter()
                .rev()
                .find(|(key, _)| is_match(key))
                .map(|(_, node)| node)
        };
        last(&|key| key == name).or_else(|| last(&|key| key.eq_ignore_ascii_case(name)))
    }

    /// Returns the string in a field; `None` if the field is absent or is not a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        match &self.field(name)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the items of a list of one of these kinds, including items of nested lists. For any other node, returns
    /// the node itself.
    pub fn list_items(&self, kinds: &[&str]) -> Vec<&Self> {
        if !self.text("kind").is_some_and(|kind| kinds.contains(&kind)) {
            return vec![self];
        }
        match self.field("items").map(|items| &items.value) {
            Some(Value::List(items)) => items
                .iter()
                .flat_map(|item| item.list_items(kinds))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Returns the name of the type with its article, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// Returns the memory of this tree in units of about a hundred bytes: one per node, plus one per 64 bytes of a
    /// string.
    pub(super) fn weight(&self) -> usize {
        let source = self.source.as_ref().map_or(0, |source| source.len());
        1 + source / BYTES_PER_WEIGHT
            + match &self.value {
                Value::List(items) => items.iter().map(Self::weight).sum(),
                Value::Map(entries) => entries
                    .iter()
                    .map(|(name, node)| name.len() / BYTES_PER_WEIGHT + node.weight())
                    .sum(),
                Value::Text(text) => text.len() / BYTES_PER_WEIGHT,
                _ => 0,
            }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({} at line {})", self.kind(), self.line)
    }
}
