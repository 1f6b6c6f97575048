//! The version of a file's content: equal only if nobody set a value in between.

use std::fmt;

use aws_lc_rs::hmac;

use super::encoder::{Encoder, Purpose};
use super::text;
use super::value::ValueId;

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

/// A value that a file was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionInput<'a> {
    /// Name of the SealedSecret.
    pub object: &'a str,
    /// Name of the item.
    pub item: &'a str,
    /// Identifier of the value.
    pub value: &'a ValueId,
}

/// The version of the content of a file. Depends on the identifiers of its values, never on the values: a value that is
/// set again has another version, also if it is equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentVersion([u8; 16]);

impl ContentVersion {
    /// Calculates the version of the file at a path, from the text of its template, if it has one, and its values.
    pub fn new(
        key: &VersionKey,
        namespace: &str,
        path: &str,
        template: Option<&str>,
        inputs: &[VersionInput<'_>],
    ) -> Self {
        let mut sorted: Vec<_> = inputs.iter().collect();
        sorted.sort_by_key(|input| (input.object, input.item));
        let bytes = Encoder::new(Purpose::Version)
            .prefixed(namespace.as_bytes())
            .prefixed(path.as_bytes())
            .optional(template)
            .count(sorted.len());
        let bytes = sorted.into_iter().fold(bytes, push_input).finish();
        let mut version = [0; 16];
        version.copy_from_slice(&hmac::sign(&key.0, &bytes).as_ref()[..16]);
        Self(version)
    }
}

fn push_input(bytes: Encoder, input: &VersionInput<'_>) -> Encoder {
    bytes
        .prefixed(input.object.as_bytes())
        .prefixed(input.item.as_bytes())
        .fixed(input.value.expose())
}

impl fmt::Display for ContentVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::base64url(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(template: Option<&str>, inputs: &[(&str, &str, u8)]) -> ContentVersion {
        let ids: Vec<_> = inputs
            .iter()
            .map(|i| ValueId::from_bytes([i.2; 16]))
            .collect();
        let inputs: Vec<_> = inputs
            .iter()
            .zip(&ids)
            .map(|((object, item, _), value)| VersionInput {
                object,
                item,
                value,
            })
            .collect();
        ContentVersion::new(&VersionKey::new(&[1; 32]), "ns", "path", template, &inputs)
    }

    #[test]
    fn depends_on_identifiers_names_and_template_and_not_on_order() {
        let base = version(None, &[("a", "x", 1), ("b", "y", 2)]);
        assert_eq!(version(None, &[("b", "y", 2), ("a", "x", 1)]), base);
        for other in [
            version(Some(""), &[("a", "x", 1), ("b", "y", 2)]),
            version(None, &[("a", "x", 1), ("b", "y", 3)]),
            version(None, &[("a", "y", 1), ("b", "x", 2)]),
            version(None, &[("a", "x", 1)]),
        ] {
            assert_ne!(other, base);
        }
    }
}
