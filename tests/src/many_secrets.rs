//! Many Secrets in one input, and a comparison of the outputs of two programs.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

/// Returns this many Secrets as YAML documents, of several forms: data and stringData, labels, types, every
/// scope.
pub fn secrets(count: usize) -> String {
    let mut text = String::new();
    for i in 0..count {
        let value = STANDARD.encode(format!("value {i}"));
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: s-{i}\n  namespace: shop-{}\n  labels:\n    app: a-{i}\n",
            i % 7
        );
        match i % 3 {
            1 => text.push_str(
                "  annotations:\n    sealedsecrets.bitnami.com/namespace-wide: \"true\"\n",
            ),
            2 => text
                .push_str("  annotations:\n    sealedsecrets.bitnami.com/cluster-wide: \"true\"\n"),
            _ => {}
        }
        let _ = writeln!(text, "data:\n  password: {value}");
        if i % 2 == 0 {
            let _ = writeln!(
                text,
                "stringData:\n  url: https://host-{i}/\n  port: \"{i}\""
            );
        }
        if i % 5 == 0 {
            text.push_str("type: example.com/own\n");
        }
    }
    text
}

/// Returns the objects of a JSON stream, in order, with each ciphertext replaced by its length.
///
/// # Panics
/// Panics if the stream is malformed.
pub fn structure(stream: &[u8]) -> Vec<Value> {
    let objects = serde_json::Deserializer::from_slice(stream).into_iter();
    let stripped = objects.map(|object| {
        let mut object: Value = object.expect("JSON");
        let items = object.pointer_mut("/spec/encryptedData");
        let items = items.and_then(Value::as_object_mut);
        for (_, value) in items.into_iter().flatten() {
            let length = value.as_str().map(str::len);
            *value = length.into();
        }
        object
    });
    stripped.collect()
}
