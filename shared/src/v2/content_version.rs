//! The version of a file's content: equal only if all values and their identifiers are equal.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::hmac;

use super::encoder::{Encoder, Purpose};
use super::text;
use super::value::Value;

/// The key of content versions. The controller generates it; it is never sealed, because anyone can seal.
pub struct VersionKey(hmac::Key);

impl VersionKey {
    /// Reads the 32 bytes of the key.
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }
}

impl fmt::Debug for VersionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VersionKey(…)")
    }
}

/// The values that a file was made from, by the name of their SealedSecret and of their item.
pub type VersionInputs<'a> = BTreeMap<(&'a str, &'a str), &'a Value>;

/// The version of the content of a file. A value that is set again has another version, also if it is equal. The version
/// reveals nothing about a value, because it depends on it only through the identifier that is sealed with it, which is
/// random and used as a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentVersion([u8; 16]);

impl ContentVersion {
    /// Calculates the version of the file at a path, from the text of its template, if it has one, and its values.
    pub fn new(
        key: &VersionKey,
        namespace: &str,
        path: &str,
        template: Option<&str>,
        inputs: &VersionInputs<'_>,
    ) -> Self {
        let bytes = Encoder::new(Purpose::Version)
            .prefixed(namespace.as_bytes())
            .prefixed(path.as_bytes())
            .optional(template)
            .count(inputs.len());
        let bytes = inputs.iter().fold(bytes, push_input).finish();
        let mut version = [0; 16];
        version.copy_from_slice(&hmac::sign(&key.0, &bytes).as_ref()[..16]);
        Self(version)
    }
}

fn push_input(bytes: Encoder, ((object, item), value): (&(&str, &str), &&Value)) -> Encoder {
    bytes
        .prefixed(object.as_bytes())
        .prefixed(item.as_bytes())
        .fixed(keyed_digest(value).as_ref())
}

/// Returns the digest of a value under its identifier. The identifier alone would not do: an author can set another value
/// with the identifier of the present one.
fn keyed_digest(value: &Value) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA256, value.id.expose());
    hmac::sign(&key, value.plain.expose())
}

impl fmt::Display for ContentVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::base64url(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plain::Plain;
    use crate::v2::value::ValueId;

    fn value(id: u8, plain: &str) -> Value {
        Value {
            id: ValueId::from_bytes([id; 16]),
            plain: Plain::from(plain.as_bytes().to_vec()),
        }
    }

    fn version(template: Option<&str>, inputs: &[(&str, &str, u8, &str)]) -> ContentVersion {
        let values = inputs.iter().map(|input| value(input.2, input.3));
        let values: Vec<_> = values.collect();
        let named = inputs.iter().zip(&values);
        let inputs = named.map(|(input, value)| ((input.0, input.1), value));
        let key = VersionKey::new(&[1; 32]);
        ContentVersion::new(&key, "ns", "path", template, &inputs.collect())
    }

    #[test]
    fn depends_on_values_identifiers_names_and_template() {
        let base = version(None, &[("a", "x", 1, "v"), ("b", "y", 2, "w")]);
        for other in [
            version(Some(""), &[("a", "x", 1, "v"), ("b", "y", 2, "w")]),
            version(None, &[("a", "x", 1, "v"), ("b", "y", 3, "w")]),
            version(None, &[("a", "y", 1, "v"), ("b", "x", 2, "w")]),
            version(None, &[("a", "x", 1, "v")]),
        ] {
            assert_ne!(other, base);
        }
    }

    /// Attack: an author sets another value with the identifier of the present one, so that no program restarts.
    #[test]
    fn another_value_with_the_same_identifier_has_another_version() {
        let of = |plain: &str| version(None, &[("a", "url", 1, plain)]);
        assert_ne!(of("https://good"), of("https://evil"));
        assert_eq!(of("https://good"), of("https://good"));
    }
}
