//! A delivered value.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

/// A plaintext value: wiped on drop, hidden in `Debug`, without `Display`, and base64 in JSON.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Value(Zeroizing<Vec<u8>>);

impl Value {
    /// Returns the bytes. Never format or log them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Returns the size in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the value is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(…)")
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = Zeroizing::new(go::base64::encode(&self.0));
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value in base64")
            }

            /// The error does not name the invalid character of the value, because it would reveal a part of the value.
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                let bytes = go::base64::decode(text.as_bytes());
                bytes
                    .map(Value::from)
                    .map_err(|_| E::custom("a value is not base64"))
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_the_value_nor_its_length() {
        assert_eq!(
            format!("{:?}", Value::from(b"hunter2".to_vec())),
            "Value(…)"
        );
    }

    #[test]
    fn any_bytes_survive_json() {
        for bytes in [&b""[..], b"x", b"\xff\x00\n", b"hunter2"] {
            let json = serde_json::to_string(&Value::from(bytes.to_vec())).unwrap();
            let value: Value = serde_json::from_str(&json).unwrap();
            assert_eq!(value.expose(), bytes);
        }
    }

    #[test]
    fn an_error_does_not_show_the_value() {
        let error = serde_json::from_str::<Value>("\"hunter2!\"").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
