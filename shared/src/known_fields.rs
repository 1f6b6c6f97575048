//! Parses JSON from clients, and skips unknown fields.
//!
//! The API server stores any JSON in some fields of a SealedSecret, and a parsed value can take a hundred times as much
//! memory as its text. So unknown fields are skipped during parsing, and the number of entries is limited.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The known fields of a value. An object or a list in place of another type is kept without its content, so that typed
/// parsing reports it.
#[derive(Debug)]
pub enum Known {
    /// A value without fields or entries: text, number, boolean or null.
    Scalar,
    /// An object with these fields.
    Object(&'static [(&'static str, Known)]),
    /// An object with arbitrary field names and scalar values.
    Map,
    /// A list whose entries have these known fields.
    List(&'static Known),
    /// A value whose content is skipped: it is read as null.
    Skipped,
}

/// The known part of a value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pruned {
    /// The value; null if it has too many entries.
    pub json: Value,
    /// Whether the value has more entries than the maximum.
    pub is_too_large: bool,
}

/// Parses a value whose maps and lists have at most `max_entries` entries together. A value with more entries is
/// replaced with null.
///
/// # Errors
///
/// Returns the deserializer's error.
pub fn parse<'de, D: Deserializer<'de>>(
    deserializer: D,
    known: &'static Known,
    max_entries: usize,
) -> Result<Pruned, D::Error> {
    let entries = Cell::new(0);
    let seed = Seed {
        known,
        entries: &entries,
        max_entries,
    };
    let json = seed.deserialize(deserializer)?;
    let is_too_large = entries.get() > max_entries;
    Ok(Pruned {
        json: if is_too_large { Value::Null } else { json },
        is_too_large,
    })
}

/// A deserialization seed for [`parse`] inside a larger value.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// The known fields.
    pub known: &'static Known,
    /// The maximum number of entries of maps and lists together.
    pub max_entries: usize,
}

impl<'de> DeserializeSeed<'de> for Part {
    type Value = Pruned;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Pruned, D::Error> {
        parse(deserializer, self.known, self.max_entries)
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    known: &'static Known,
    /// The number of entries that were counted so far.
    entries: &'a Cell<usize>,
    max_entries: usize,
}

impl Seed<'_> {
    fn of(self, known: &'static Known) -> Self {
        Self { known, ..self }
    }

    /// Counts an entry. Returns whether the entry is kept.
    fn count(self) -> bool {
        self.entries.set(self.entries.get() + 1);
        self.entries.get() <= self.max_entries
    }

    /// Returns the seed for a field of an object; `None` if the field is skipped.
    fn for_field(self, name: &str) -> Option<Self> {
        match self.known {
            Known::Object(fields) => {
                let field = fields.iter().find(|(known, _)| *known == name);
                field.map(|(_, known)| self.of(known))
            }
            Known::Map => self.count().then(|| self.of(&Known::Scalar)),
            Known::Scalar | Known::List(_) | Known::Skipped => None,
        }
    }

    /// Returns the seed for the next element of a list, which is skipped once the maximum number of entries is reached.
    fn for_element(self) -> Self {
        let is_full = self.entries.get() >= self.max_entries;
        match self.known {
            Known::List(known) if !is_full => self.of(known),
            _ => self.of(&Known::Skipped),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.known {
            // `serde_json` skips a value without recursion, so its depth is not limited.
            Known::Skipped => {
                deserializer.deserialize_ignored_any(IgnoredAny)?;
                Ok(Value::Null)
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self.for_element())? {
            if matches!(self.known, Known::List(_)) && self.count() {
                values.push(value);
            }
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            match self.for_field(&name) {
                Some(seed) => drop(fields.insert(name, map.next_value_seed(seed)?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fields.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KNOWN: Known = Known::Object(&[
        ("text", Known::Scalar),
        ("map", Known::Map),
        ("list", Known::List(&Known::Object(&[("a", Known::Scalar)]))),
    ]);

    fn parsed(value: &Value) -> Pruned {
        let text = value.to_string();
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        parse(&mut deserializer, &KNOWN, 3).unwrap()
    }

    /// Attack: an author stores JSON in unused fields of an object, to exhaust the memory.
    #[test]
    fn keeps_only_known_fields_and_the_type_of_every_value() {
        for (value, want) in [
            (json!(5), json!(5)),
            (json!([1, [2]]), json!([])),
            (
                json!({ "text": "x", "other": [{ "": 0 }], "map": { "a": "b", "c": null } }),
                json!({ "text": "x", "map": { "a": "b", "c": null } }),
            ),
            (
                json!({ "text": { "x": [1] }, "map": [1, 2], "list": { "a": 1 } }),
                json!({ "text": {}, "map": [], "list": {} }),
            ),
            (
                json!({ "map": { "a": { "b": 1 }, "c": [1] }, "list": [] }),
                json!({ "map": { "a": {}, "c": [] }, "list": [] }),
            ),
            (
                json!({ "list": [{ "a": 1, "b": 2 }, 5] }),
                json!({ "list": [{ "a": 1 }, 5] }),
            ),
        ] {
            let pruned = parsed(&value);
            assert_eq!((pruned.json, pruned.is_too_large), (want, false), "{value}");
        }
    }

    /// Attack: an author stores more items than any object needs, to exhaust the memory.
    #[test]
    fn drops_a_value_with_too_many_entries() {
        for (value, is_too_large) in [
            (
                json!({ "map": { "a": 1, "b": 2, "c": 3 }, "text": "x" }),
                false,
            ),
            (json!({ "map": { "a": 1, "b": 2, "c": 3, "d": 4 } }), true),
            (json!({ "list": [{}, {}, {}] }), false),
            (json!({ "list": [{}, {}, {}, {}, {}] }), true),
            (json!({ "list": [{}, {}], "map": { "a": 1, "b": 2 } }), true),
        ] {
            let pruned = parsed(&value);
            assert_eq!(pruned.is_too_large, is_too_large, "{value}");
            assert_eq!(pruned.json.is_null(), is_too_large, "{value}");
        }
    }

    /// Attack: an author nests JSON deeper than `serde_json` parses, to hide the object.
    #[test]
    fn skips_deeply_nested_values() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let text = format!(r#"{{"other":{deep},"text":{deep},"map":{{"a":{deep}}}}}"#);
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        let pruned = parse(&mut deserializer, &KNOWN, 3).unwrap();
        assert_eq!(pruned.json, json!({ "text": [], "map": { "a": [] } }));
    }
}
