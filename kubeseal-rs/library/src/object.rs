//! A SealedSecret for display: structure, lines and hints, but no values.

use std::collections::BTreeMap;

use anyhow::Result;
use shared::hints::{self, Hints};
use shared::key::Fingerprint;
use shared::manifest::{Node, Reading, Value};
use shared::resource::SealedSecret;
use shared::scope::Scope;
use shared::sealed_text::NotSealed;
use shared::{envelope, sealed_text, v2};

/// One SealedSecret in a file.
#[derive(Debug, Clone)]
pub struct Object {
    /// The line where the object begins.
    pub line: usize,
    /// The SealedSecret, as parsed from the file.
    pub sealed: SealedSecret,
    /// The scope that the annotations of the object declare.
    pub scope: Scope,
    /// The items, in the order of the file.
    pub items: Vec<Item>,
    /// The hints, including those of items that do not exist.
    pub hints: Hints,
    /// The v2 content, or why it is malformed; `None` if there is none.
    pub v2: Option<Result<v2::Object, v2::Refusal>>,
}

/// A sealed item of an object, and its position in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The item key.
    pub key: String,
    /// The line where the sealed value begins.
    pub line: usize,
    /// The form of the sealed value.
    pub form: Form,
    /// The fingerprint that the key hint names.
    pub hint: Option<Fingerprint>,
}

/// The properties of a sealed value that are visible without decrypting it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// A v1 value for an RSA key with this many bits.
    Bits(usize),
    /// A well-formed v2 value.
    V2(Box<v2::ItemView>),
    /// A v2 value in an object whose v2 content is malformed.
    MalformedV2,
    /// The value is not a string.
    NotString,
    /// A string that is not a sealed value.
    NotSealed(NotSealed),
}

impl Object {
    /// Parses a SealedSecret. Refuses sealed values that are not strings; see [`Self::read_leniently`].
    ///
    /// # Errors
    ///
    /// Fails if the object is malformed, or a sealed value is not a string.
    pub fn read(node: &Node) -> Result<Self> {
        Ok(Self::of(
            node,
            SealedSecret::from_node(node, &mut Reading::default())?,
        ))
    }

    /// Like [`Self::read`], but accepts sealed values of any type, which [`Item::form`] shows.
    ///
    /// # Errors
    ///
    /// Fails if the object is malformed in any other way.
    pub fn read_leniently(node: &Node) -> Result<Self> {
        let sealed = SealedSecret::from_node_leniently(node, &mut Reading::default())?;
        Ok(Self::of(node, sealed))
    }

    fn of(node: &Node, sealed: SealedSecret) -> Self {
        let annotations = sealed.metadata.annotations.as_ref();
        let hints = hints::read(annotations);
        let entries = &sealed.spec.encrypted_data;
        let v2 = v2::is_v2(entries).then(|| v2::Object::parse(entries));
        Self {
            line: node.line,
            scope: Scope::from_annotations(annotations),
            items: items(node, &hints, v2.as_ref().and_then(|v2| v2.as_ref().ok())),
            hints,
            v2,
            sealed,
        }
    }

    /// Returns the entries of `spec.encryptedData`: sealed values by item key, and the locks of v2.
    pub fn texts(&self) -> &BTreeMap<String, String> {
        &self.sealed.spec.encrypted_data
    }

    /// Returns the item keys that have a template.
    pub fn templates(&self) -> impl Iterator<Item = &String> {
        self.sealed
            .spec
            .template
            .data
            .iter()
            .flat_map(BTreeMap::keys)
    }
}

/// Returns the items of an object as they are in the file, without the locks of v2.
pub fn item_nodes(node: &Node) -> impl Iterator<Item = &(String, Node)> {
    let entries = sealed_nodes(node).iter();
    entries.filter(|(name, _)| !v2::is_lock_entry(name))
}

/// Returns the entries of `spec.encryptedData` as they are in the file; none if they are not in a mapping.
pub fn sealed_nodes(node: &Node) -> &[(String, Node)] {
    let data = node
        .field("spec")
        .and_then(|spec| spec.field("encryptedData"));
    match data.map(|data| &data.value) {
        Some(Value::Map(entries)) => entries,
        _ => &[],
    }
}

/// Returns the items of an object, in the order of [`item_nodes`].
pub fn items(node: &Node, hints: &Hints, v2: Option<&v2::Object>) -> Vec<Item> {
    let views = v2.map(v2::Object::view).unwrap_or_default();
    let item = |(key, node): &(String, Node)| Item {
        key: key.clone(),
        line: node.line,
        form: match &node.value {
            Value::Text(text) if v2::is_v2_value(text) => match views.get(key.as_str()) {
                Some(view) => Form::V2(view.clone().into()),
                None => Form::MalformedV2,
            },
            _ => form(node),
        },
        hint: hints.get(key).cloned(),
    };
    item_nodes(node).map(item).collect()
}

fn form(node: &Node) -> Form {
    match &node.value {
        Value::Text(text) => form_of(text),
        Value::Null => form_of(""),
        _ => Form::NotString,
    }
}

/// Returns the form of a v1 value, or why the string is not one.
pub fn form_of(text: &str) -> Form {
    match sealed_text::decode(text) {
        Ok(bytes) => Form::Bits(envelope::modulus_len(&bytes).unwrap_or_default() * 8),
        Err(why) => Form::NotSealed(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{base64, manifest};

    fn form_in_yaml(text: &str) -> Form {
        let yaml = format!("spec: {{encryptedData: {{a: {text}}}}}");
        let documents = manifest::read(yaml.as_bytes()).unwrap();
        let object = Object::read_leniently(&documents[0].root).unwrap();
        object.items[0].form.clone()
    }

    #[test]
    fn recognizes_values_that_no_key_can_unseal() {
        let ciphertext = [vec![1, 0], vec![7; 256 + 16]].concat();
        let sealed = base64::encode(&ciphertext);
        assert_eq!(form_in_yaml(&sealed), Form::Bits(2048));
        for (text, want) in [
            (base64::encode(&ciphertext[..250]), "truncated"),
            (base64::encode(&ciphertext[..260]), "truncated"),
            (base64::encode(&[0; 300]), "format is unknown"),
            ("AAAA".into(), "format is unknown"),
            ("'*'".into(), "not base64"),
            ("''".into(), "empty"),
            ("~".into(), "empty"),
        ] {
            let Form::NotSealed(why) = form_in_yaml(&text) else {
                panic!("{text} is a sealed value")
            };
            assert!(why.to_string().contains(want), "{text}: {why}");
        }
        assert_eq!(form_in_yaml("[x]"), Form::NotString);
    }
}
