//! What is visible in a SealedSecret without a key.

use std::collections::BTreeSet;

use deliver::{DELIVER_ANNOTATION, DELIVER_FILES};
use jiff::civil::Date;
use sha2::{Digest as _, Sha256};
use shared::rotate_by;
use shared::scope::Scope;

use crate::object::{Form, Item, Object};

/// What is visible in a SealedSecret without a key, and is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The item keys, in the order of the file.
    pub items: Vec<String>,
    /// The scope that the annotations declare.
    pub scope: Scope,
    /// The formats of the items: `v1 2048`, with the bits of the RSA key, `v2 xw`, with the suite of a recipient,
    /// `v2 unknown` for a suite that this program does not know, or `malformed`.
    pub formats: BTreeSet<String>,
    /// The keys that the items are sealed for: the fingerprints of key hints, and the short identifiers of the
    /// recipients of v2 values. Hints are not verified, and a v1 value without a hint names no key.
    pub keys: BTreeSet<String>,
    /// How the values leave the controller.
    pub delivery: Delivery,
    /// The earliest rotate-by date of the items, in UTC.
    pub rotate_by: Option<Date>,
    /// A digest of the sealed values, the template, the scope and the delivery, to compare a file with the cluster.
    pub digest: [u8; 32],
}

/// How the values of a SealedSecret leave the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As a Secret.
    Secret,
    /// To files in Pods; there is no Secret.
    Files,
    /// Not at all: the controller refuses the annotation for delivery.
    Invalid,
}

impl Delivery {
    /// Returns the name in all outputs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Files => "files",
            Self::Invalid => "invalid",
        }
    }

    fn of(object: &Object) -> Self {
        let annotations = object.sealed.metadata.annotations.as_ref();
        match annotations.and_then(|annotations| annotations.get(DELIVER_ANNOTATION)) {
            None => Self::Secret,
            Some(form) if form == DELIVER_FILES => Self::Files,
            Some(_) => Self::Invalid,
        }
    }
}

impl From<&Object> for Content {
    fn from(object: &Object) -> Self {
        let items = &object.items;
        let delivery = Delivery::of(object);
        Self {
            items: items.iter().map(|item| item.key.clone()).collect(),
            scope: object.scope,
            formats: items.iter().flat_map(formats).collect(),
            keys: items.iter().flat_map(keys).collect(),
            delivery,
            rotate_by: rotate_by::earliest(&object.sealed),
            digest: digest(object, delivery),
        }
    }
}

/// Returns the digest of what an author chooses. In the metadata of the template, only labels and annotations count,
/// because other programs change the rest. An empty mapping equals a missing one.
fn digest(object: &Object, delivery: Delivery) -> [u8; 32] {
    let spec = &object.sealed.spec;
    let metadata = &spec.template.metadata;
    let content = serde_json::json!({
        "encryptedData": spec.encrypted_data,
        "data": spec.data,
        "type": spec.template.type_,
        "immutable": spec.template.immutable,
        "templates": spec.template.data.as_ref().filter(|entries| !entries.is_empty()),
        "labels": metadata.labels.as_ref().filter(|entries| !entries.is_empty()),
        "annotations": metadata.annotations.as_ref().filter(|entries| !entries.is_empty()),
        "scope": object.scope.to_string(),
        "delivery": delivery.name(),
    });
    Sha256::digest(content.to_string()).into()
}

fn formats(item: &Item) -> Vec<String> {
    match &item.form {
        Form::Bits(bits) => vec![format!("v1 {bits}")],
        Form::V2(view) => {
            let suites = view.recipients.iter().map(|(_, suite)| *suite);
            let suites = suites.map(|suite| match suite {
                Some(suite) => format!("v2 {suite}"),
                None => "v2 unknown".to_owned(),
            });
            suites.collect()
        }
        Form::MalformedV2 | Form::NotString | Form::NotSealed(_) => vec!["malformed".to_owned()],
    }
}

/// Returns the keys that an item names. A v2 value has no hint.
fn keys(item: &Item) -> Vec<String> {
    match &item.form {
        Form::V2(view) => {
            let ids = view.recipients.iter().map(|(id, _)| id.to_string());
            ids.collect()
        }
        _ => item.hint.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use shared::{base64, manifest};

    use super::*;

    /// Returns the digest of an object with this metadata and spec.
    fn digest_of(annotations: &str, spec: &str) -> [u8; 32] {
        let yaml = format!("metadata: {{name: db, annotations: {annotations}}}\nspec: {spec}\n");
        let documents = manifest::read(yaml.as_bytes()).unwrap();
        Content::from(&Object::read(&documents[0].root).unwrap()).digest
    }

    #[test]
    fn the_digest_is_of_values_template_scope_and_delivery() {
        let same = digest_of("{}", "{encryptedData: {a: x, b: w}}");
        for (annotations, spec) in [
            (
                "{kubectl.kubernetes.io/x: w}",
                "{encryptedData: {b: w, a: x}}",
            ),
            (
                "{}",
                "{encryptedData: {a: x, b: w}, template: {data: {}, metadata: {creationTimestamp: null, name: db, labels: {}}}}",
            ),
        ] {
            assert_eq!(digest_of(annotations, spec), same, "{annotations} {spec}");
        }
        for (annotations, spec) in [
            ("{}", "{encryptedData: {a: x}}"),
            ("{}", "{encryptedData: {a: x, b: z}}"),
            ("{}", "{encryptedData: {a: x, b: w, c: z}}"),
            ("{}", "{encryptedData: {a: x, b: w}, template: {type: t}}"),
            (
                "{}",
                "{encryptedData: {a: x, b: w}, template: {data: {c: d}}}",
            ),
            (
                "{}",
                "{encryptedData: {a: x, b: w}, template: {metadata: {labels: {c: d}}}}",
            ),
            (
                "{sealedsecrets.bitnami.com/cluster-wide: 'true'}",
                "{encryptedData: {a: x, b: w}}",
            ),
        ] {
            assert_ne!(digest_of(annotations, spec), same, "{annotations} {spec}");
        }
    }

    #[test]
    fn describes_formats_keys_and_delivery() {
        let ciphertext = |bytes: usize| {
            let modulus = u16::try_from(bytes).unwrap().to_be_bytes();
            base64::encode(&[&modulus[..], &vec![7; bytes + 16]].concat())
        };
        let fingerprint = "SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk";
        let yaml = format!(
            "metadata:\n  name: db\n  annotations:\n    sealedsecrets.bitnami.com/namespace-wide: 'true'\n    \
             sealedsecrets.bitnami.com/key-hints: '{{\"b\":\"{fingerprint}\"}}'\n    {DELIVER_ANNOTATION}: files\n    \
             sealedsecrets.bitnami.com/rotate-by: \"a 2027-03-01\\nb 2027-02-01\"\n\
             spec: {{encryptedData: {{b: {}, a: {}, c: '*'}}}}\n",
            ciphertext(256),
            ciphertext(512)
        );
        let documents = manifest::read(yaml.as_bytes()).unwrap();
        let content = Content::from(&Object::read(&documents[0].root).unwrap());
        assert_eq!(content.items, ["b", "a", "c"]);
        assert_eq!(content.scope, Scope::NamespaceWide);
        let formats: Vec<_> = content.formats.iter().map(String::as_str).collect();
        assert_eq!(formats, ["malformed", "v1 2048", "v1 4096"]);
        let keys: Vec<_> = content.keys.iter().map(String::as_str).collect();
        assert_eq!(keys, [fingerprint]);
        assert_eq!(content.delivery, Delivery::Files);
        assert_eq!(content.rotate_by, Some(jiff::civil::date(2027, 2, 1)));
    }
}
