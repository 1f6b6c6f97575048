//! The digest of a template, to which a lock can be bound.

use std::collections::BTreeMap;
use std::fmt;

use super::encoder::{Encoder, Purpose};
use super::id::sha256;
use crate::resource::SecretTemplate;

/// The digest of the fields of a template to which values can be bound: type, `immutable`, labels, annotations,
/// finalizers and templates of items.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TemplateDigest([u8; 32]);

impl TemplateDigest {
    /// Calculates the digest of a template.
    pub fn of(template: &SecretTemplate) -> Self {
        let metadata = &template.metadata;
        let finalizers = metadata.finalizers.as_deref().unwrap_or_default();
        let mut bytes = Encoder::new(Purpose::Template)
            .prefixed(template.type_.as_deref().unwrap_or_default().as_bytes())
            .fixed(&[immutable_byte(template.immutable)]);
        bytes = push_map(bytes, metadata.labels.as_ref());
        bytes = push_map(bytes, metadata.annotations.as_ref());
        bytes = bytes.count(finalizers.len());
        for finalizer in finalizers {
            bytes = bytes.prefixed(finalizer.as_bytes());
        }
        Self(sha256(&push_data(bytes, template.data.as_ref()).finish()))
    }

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn immutable_byte(immutable: Option<bool>) -> u8 {
    match immutable {
        None => 0,
        Some(false) => 1,
        Some(true) => 2,
    }
}

/// Appends a map, ordered by the bytes of the keys, as in `BTreeMap`.
fn push_map(bytes: Encoder, map: Option<&BTreeMap<String, String>>) -> Encoder {
    let bytes = bytes.count(map.map_or(0, BTreeMap::len));
    let entries = map.into_iter().flatten();
    entries.fold(bytes, |bytes, (key, value)| {
        bytes.prefixed(key.as_bytes()).prefixed(value.as_bytes())
    })
}

fn push_data(bytes: Encoder, data: Option<&BTreeMap<String, Option<String>>>) -> Encoder {
    let bytes = bytes.count(data.map_or(0, BTreeMap::len));
    let entries = data.into_iter().flatten();
    entries.fold(bytes, |bytes, (key, text)| {
        bytes.prefixed(key.as_bytes()).optional(text.as_deref())
    })
}

impl fmt::Debug for TemplateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TemplateDigest({})", super::text::base64url(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(template: serde_json::Value) -> TemplateDigest {
        TemplateDigest::of(&serde_json::from_value(template).unwrap())
    }

    #[test]
    fn equals_the_digest_of_the_documented_bytes() {
        let template = json!({
            "type": "Opaque", "immutable": true,
            "metadata": {"name": "n", "labels": {"b": "2", "a": "1"}, "finalizers": ["f"]},
            "data": {"k": null, "l": ""},
        });
        let bytes = b"seal/v2/template\0\
            \0\0\0\x06Opaque\x02\
            \0\0\0\x02\0\0\0\x01a\0\0\0\x011\0\0\0\x01b\0\0\0\x012\
            \0\0\0\0\
            \0\0\0\x01\0\0\0\x01f\
            \0\0\0\x02\0\0\0\x01k\0\0\0\0\x01l\x01\0\0\0\0";
        assert_eq!(digest(template), TemplateDigest(sha256(bytes)));
    }

    #[test]
    fn absent_null_and_empty_fields_have_the_same_digest() {
        let empty = digest(json!({}));
        for template in [
            json!({"metadata": null, "data": null, "immutable": null, "type": null}),
            json!({"metadata": {"labels": null, "annotations": {}, "finalizers": []}}),
            json!({"data": {}, "type": ""}),
            json!({"metadata": {"name": "n", "namespace": "ns", "generateName": "g"}}),
        ] {
            assert_eq!(digest(template.clone()), empty, "{template}");
        }
    }

    #[test]
    fn every_bound_field_changes_the_digest() {
        let all = [
            json!({}),
            json!({"type": "Opaque"}),
            json!({"immutable": false}),
            json!({"immutable": true}),
            json!({"metadata": {"labels": {"a": "b"}}}),
            json!({"metadata": {"annotations": {"a": "b"}}}),
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["b", "a"]}}),
            json!({"data": {"a": "b"}}),
            json!({"data": {"a": ""}}),
            json!({"data": {"a": null}}),
        ];
        let digests: std::collections::BTreeSet<_> =
            all.iter().map(|t| digest(t.clone()).0).collect();
        assert_eq!(digests.len(), all.len());
    }
}
