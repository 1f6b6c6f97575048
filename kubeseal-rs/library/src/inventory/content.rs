//! What is visible in a SealedSecret without a key.

use std::collections::BTreeSet;

use deliver::{DELIVER_ANNOTATION, DELIVER_FILES};
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
        Self {
            items: items.iter().map(|item| item.key.clone()).collect(),
            scope: object.scope,
            formats: items.iter().flat_map(formats).collect(),
            keys: items.iter().flat_map(keys).collect(),
            delivery: Delivery::of(object),
        }
    }
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

    #[test]
    fn describes_formats_keys_and_delivery() {
        let ciphertext = |bytes: usize| {
            let modulus = u16::try_from(bytes).unwrap().to_be_bytes();
            base64::encode(&[&modulus[..], &vec![7; bytes + 16]].concat())
        };
        let fingerprint = "SHA256:7/xku5xrSv/wWlOQcX8MEnho2sw/ikOtGoRCBaIvsGk";
        let yaml = format!(
            "metadata:\n  name: db\n  annotations:\n    sealedsecrets.bitnami.com/namespace-wide: 'true'\n    \
             sealedsecrets.bitnami.com/key-hints: '{{\"b\":\"{fingerprint}\"}}'\n    {DELIVER_ANNOTATION}: files\n\
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
    }
}
