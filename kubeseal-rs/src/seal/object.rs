//! A SealedSecret for display: structure, lines and hints, but no values.

use std::collections::BTreeMap;

use anyhow::Result;
use shared::hints::{self, Hints};
use shared::key::Fingerprint;
use shared::manifest::{Node, Reading, Value};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use shared::{base64, envelope};

/// One object of a file.
#[derive(Debug, Clone)]
pub struct Object {
    /// The line where the object begins.
    pub line: usize,
    /// The parsed object.
    pub sealed: SealedSecret,
    /// The scope of the object.
    pub scope: Scope,
    /// The items, in the order of the file.
    pub items: Vec<Item>,
    /// The hints, including those of items that do not exist.
    pub hints: Hints,
}

/// One sealed item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The name of the item.
    pub key: String,
    /// The line where the item begins.
    pub line: usize,
    /// The form of the sealed value.
    pub form: Form,
    /// The certificate that the hint names.
    pub hint: Option<Fingerprint>,
}

/// The form of a sealed value, as far as it is visible without decrypting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A sealed value for a key with this many bits.
    Bits(usize),
    /// The value is not a string.
    NoText,
    /// The value is empty.
    Empty,
    /// The value is not base64.
    NoBase64,
    /// The value is base64, but not a complete sealed value.
    Truncated,
}

impl Object {
    /// Parses an object.
    ///
    /// # Errors
    ///
    /// Fails if the object is malformed.
    pub fn read(node: &Node) -> Result<Self> {
        let sealed = SealedSecret::from_node(node, &mut Reading::default())?;
        let annotations = sealed.metadata.annotations.as_ref();
        let hints = hints::read(annotations);
        Ok(Self {
            line: node.line,
            scope: Scope::from_annotations(annotations),
            items: items(node, &hints),
            hints,
            sealed,
        })
    }

    /// Returns the sealed texts by item name.
    pub fn texts(&self) -> &BTreeMap<String, String> {
        &self.sealed.spec.encrypted_data
    }

    /// Returns the keys that templates produce.
    pub fn templates(&self) -> impl Iterator<Item = &String> {
        self.sealed
            .spec
            .template
            .data
            .iter()
            .flat_map(BTreeMap::keys)
    }
}

fn items(node: &Node, hints: &Hints) -> Vec<Item> {
    let data = node
        .field("spec")
        .and_then(|spec| spec.field("encryptedData"));
    let Some(Value::Map(entries)) = data.map(|data| &data.value) else {
        return Vec::new();
    };
    let item = |(key, node): &(String, Node)| Item {
        key: key.clone(),
        line: node.line,
        form: form(node),
        hint: hints.get(key).cloned(),
    };
    entries.iter().map(item).collect()
}

/// Determines the form of a value. A sealed value contains a length, an RSA block of that length,
/// and the tag of AES-GCM.
fn form(node: &Node) -> Form {
    let Value::Text(text) = &node.value else {
        return match node.value {
            Value::Null => Form::Empty,
            _ => Form::NoText,
        };
    };
    if text.is_empty() {
        return Form::Empty;
    }
    let Ok(bytes) = base64::decode(text.as_bytes()) else {
        return Form::NoBase64;
    };
    match envelope::modulus_len(&bytes) {
        Some(len) if (128..=2048).contains(&len) && bytes.len() >= 2 + len + TAG => {
            Form::Bits(len * 8)
        }
        _ => Form::Truncated,
    }
}

/// The length of an AES-GCM tag, in bytes.
const TAG: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use shared::manifest;

    fn form_of(text: &str) -> Form {
        let yaml = format!("spec: {{encryptedData: {{a: {text}}}}}");
        let documents = manifest::read(yaml.as_bytes()).unwrap();
        Object::read(&documents[0].root).unwrap().items[0].form
    }

    #[test]
    fn sees_from_outside_what_cannot_open() {
        let whole = [vec![1, 0], vec![7; 256 + 16]].concat();
        let sealed = base64::encode(&whole);
        assert_eq!(form_of(&sealed), Form::Bits(2048));
        assert_eq!(form_of(&base64::encode(&whole[..250])), Form::Truncated);
        assert_eq!(form_of(&base64::encode(&whole[..260])), Form::Truncated);
        assert_eq!(form_of(&base64::encode(&[0; 300])), Form::Truncated);
        assert_eq!(form_of("AAAA"), Form::Truncated);
        assert_eq!(form_of("'*'"), Form::NoBase64);
        assert_eq!(form_of("''"), Form::Empty);
        assert_eq!(form_of("~"), Form::Empty);
        assert_eq!(form_of("[x]"), Form::NoText);
    }
}
