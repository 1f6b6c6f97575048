//! Makes output comparable: replaces each ciphertext with its plaintext and the label that decrypts it.

use anyhow::Result;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use tests::upstream::Upstream;

/// Decrypts the ciphertexts in output.
pub(crate) struct Opener<'a> {
    pub(crate) upstream: &'a Upstream,
    /// Private keys, each with the name to show.
    pub(crate) keys: &'a [(&'static str, String)],
    /// Labels to try on a bare ciphertext, and on an item after the labels of its object.
    pub(crate) labels: &'a [String],
}

impl Opener<'_> {
    /// Replaces each ciphertext in a string with its plaintext, key and label; other text is unchanged.
    pub(crate) fn open(&self, text: &str) -> String {
        if let Some(sealed) = ciphertext(text.trim_end()) {
            return text.replace(text.trim_end(), &self.describe(&sealed, self.labels));
        }
        self.documents(text)
            .unwrap_or_default()
            .iter()
            .fold(text.to_owned(), |text, document| {
                self.open_items(text, document)
            })
    }

    /// Parses the documents of a manifest.
    pub(crate) fn documents(&self, text: &str) -> Result<Vec<Value>> {
        if text.trim_start().starts_with('{') {
            return Ok(serde_json::Deserializer::from_str(text)
                .into_iter()
                .collect::<Result<_, _>>()?);
        }
        let text = text.strip_prefix("---\n").unwrap_or(text);
        text.split("\n---\n")
            .map(|document| Ok(self.upstream.parse(document.as_bytes())?))
            .collect()
    }

    fn open_items(&self, mut text: String, document: &Value) -> String {
        let labels = [labels(document), self.labels.to_vec()].concat();
        let items = document
            .pointer("/spec/encryptedData")
            .and_then(Value::as_object);
        for value in items
            .into_iter()
            .flatten()
            .filter_map(|(_, value)| value.as_str())
        {
            if let Some(sealed) = ciphertext(value) {
                text = text.replace(value, &self.describe(&sealed, &labels));
            }
        }
        text
    }

    fn describe(&self, sealed: &[u8], labels: &[String]) -> String {
        for (name, key) in self.keys {
            for label in labels {
                if let Ok(plain) = self.upstream.open_value(&[key], label.as_bytes(), sealed) {
                    return format!(
                        "<{} sealed with {name} for {label:?}>",
                        to_printable(&plain)
                    );
                }
            }
        }
        format!("<no key decrypts this with any of {labels:?}>")
    }
}

/// Returns the bytes of a base64 string; `None` unless they look like a sealed value of a 2048-bit key.
fn ciphertext(text: &str) -> Option<Vec<u8>> {
    STANDARD
        .decode(text)
        .ok()
        .filter(|sealed| sealed.starts_with(&[1, 0]) && sealed.len() > 256)
}

/// Returns the label that the annotations imply, then labels that an incorrect program could have used.
fn labels(document: &Value) -> Vec<String> {
    let text = |path: &str| {
        document
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let is_true = |scope: &str| {
        text(&format!(
            "/metadata/annotations/sealedsecrets.bitnami.com~1{scope}"
        )) == "true"
    };
    let strict = format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"));
    let namespace = text("/metadata/namespace").to_owned();
    let mut labels = vec![strict, namespace, String::new()];
    if is_true("cluster-wide") {
        labels.rotate_right(1);
    } else if is_true("namespace-wide") {
        labels.rotate_left(1);
    }
    labels
}

fn to_printable(plain: &[u8]) -> String {
    match std::str::from_utf8(plain) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("base64 {}", STANDARD.encode(plain)),
    }
}
