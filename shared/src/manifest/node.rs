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

    /// Returns the value of a field of a mapping: an exact match of the name if there is one, otherwise a name that
    /// [`is_same_name`] accepts.
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
        last(&|key| key == name).or_else(|| last(&|key| is_same_name(key, name)))
    }

    /// Returns the values of every field with a name that [`is_same_name`] accepts, in the order of the input. Which of
    /// them counts depends on the program: some use the last one, and others the last one in sorted order.
    pub fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        let entries = match &self.value {
            Value::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        let matching = entries
            .iter()
            .filter(move |(key, _)| is_same_name(key, name));
        matching.map(|(_, node)| node)
    }

    /// Returns the strings in every field with a name that [`is_same_name`] accepts.
    pub fn texts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields(name).filter_map(|node| match &node.value {
            Value::Text(text) => Some(text.as_str()),
            _ => None,
        })
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

/// Returns whether Go's JSON decoder treats two names of fields as equal, of which one consists of ASCII characters. It
/// ignores case as Unicode does, so `ſ` (U+017F) equals `s`, and the Kelvin sign (U+212A) equals `k`.
pub fn is_same_name(name: &str, other: &str) -> bool {
    name.chars()
        .map(folded_char)
        .eq(other.chars().map(folded_char))
}

/// Returns a text in which names that [`is_same_name`] accepts are equal.
pub fn folded(text: &str) -> Zeroizing<String> {
    let mut folded = Zeroizing::new(String::with_capacity(text.len()));
    folded.extend(text.chars().map(folded_char));
    folded
}

fn folded_char(c: char) -> char {
    match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;

    /// Attack: an author writes the name of a field with characters that Go's decoder treats as ASCII letters, or
    /// writes several variants of a name, so that a check overlooks the field.
    #[test]
    fn finds_fields_by_names_that_go_treats_as_equal() {
        let text = "\u{17f}ecret: 1\nSECRET: 2\n\u{212a}ind: a\nkInD: b\n\u{e9}: 3\n";
        let documents = read(text.as_bytes()).unwrap();
        let root = &documents[0].root;
        assert!(root.texts("kind").eq(["a", "b"]));
        assert_eq!(root.fields("secret").count(), 2);
        assert_eq!(root.text("KIND"), Some("b"));
        assert!(root.field("e").is_none());
    }
}
