use std::fmt;

use zeroize::Zeroizing;

const BYTES_PER_WEIGHT: usize = 64;

/// A value in a document, with its place. `Debug` shows the kind and the line only, since any node
/// of a Secret may be a plain value.
#[derive(Clone)]
pub struct Node {
    /// What it is, after YAML 1.1 typing.
    pub value: Value,
    /// Line of the input where it begins, counted from one.
    pub line: usize,
    /// The text of an unquoted YAML scalar that was read as a number, a boolean or a merge key. Only
    /// these are turned back into text where text is wanted; a JSON number is not.
    pub source: Option<Zeroizing<String>>,
}

/// The kinds of values.
#[derive(Clone)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer of 64 bits, signed or unsigned.
    Int(i128),
    /// A number with fraction or exponent.
    Float(f64),
    /// Text.
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

    /// The field of that name in a mapping: the exact name first, else one that differs in case
    /// only, as Go's JSON decoder finds it.
    pub fn field(&self, name: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let last = |same: &dyn Fn(&str) -> bool| {
            entries
                .iter()
                .rev()
                .find(|(key, _)| same(key))
                .map(|(_, node)| node)
        };
        last(&|key| key == name).or_else(|| last(&|key| key.eq_ignore_ascii_case(name)))
    }

    /// The text of a field, if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match &self.field(name)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items, if this is an object of one of these list kinds, in lists of lists too; else this
    /// node alone.
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

    /// The kind with its article, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// Memory of this tree in units of about a hundred bytes: one for each node, and for text as much
    /// more as it is long.
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
