//! Tests whole Secrets, sealed by one implementation and unsealed by the other.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use shared::{
    key::PrivateKey,
    key_ring::{KeyRing, RingKey},
    manifest::{self, to_json, to_yaml},
    resource::SealedSecret,
    scope::Scope,
    seal::seal,
    secret::Secret,
};
use tests::upstream::Format;

use super::{
    UPSTREAM,
    keys::{KEYS, TestKey},
    unsealing::unseal_object,
};

/// Returns a Secret with this scope and every kind of field that sealing preserves.
fn secret(scope: Scope) -> Value {
    let mut annotations = BTreeMap::from([("note".to_owned(), "kept: \"yes\"".to_owned())]);
    scope.annotate(&mut annotations);
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": "ns", "name": "app", "labels": {"team": "red"}, "annotations": annotations},
        "type": "example.com/kind",
        "immutable": true,
        "data": {
            "empty": "",
            "text": STANDARD.encode("hunter2"),
            "bytes": STANDARD.encode([0, 255, 128, 10]),
            "large": STANDARD.encode(vec![b'x'; 100_000]),
        },
    })
}

#[test]
fn upstream_unseals_each_object_that_shared_sealed() {
    for scope in Scope::ALL {
        let original = secret(scope);
        let key = &KEYS[1];
        let sealed = seal_object(&original, key).to_document();
        for (text, format) in [
            (to_json(&sealed), Format::Json),
            (to_yaml(&sealed), Format::Yaml),
        ] {
            let secret = UPSTREAM
                .unseal(&[&key.private], text.as_bytes(), format)
                .unwrap();
            assert_eq!(
                preserved_parts(&UPSTREAM.parse(&secret).unwrap()),
                preserved_parts(&original),
                "{scope:?}, {format:?}"
            );
        }
    }
}

#[test]
fn shared_unseals_each_object_that_upstream_sealed() {
    for scope in Scope::ALL {
        let original = secret(scope);
        let key = &KEYS[0];
        for format in [Format::Json, Format::Yaml] {
            let sealed = UPSTREAM
                .seal_secret(&key.certificate, original.to_string().as_bytes(), format)
                .unwrap();
            let secret = unseal_object(&read_object(&sealed), &key_ring(key), false).unwrap();
            assert_eq!(
                preserved_parts(&secret.to_document()),
                preserved_parts(&original),
                "{scope:?}, {format:?}"
            );
        }
    }
}

#[test]
fn both_implementations_create_the_same_object_except_for_ciphertexts() {
    for scope in Scope::ALL {
        let original = secret(scope);
        let key = &KEYS[0];
        let own_document = seal_object(&original, key).to_document();
        for (own_text, format) in [
            (to_json(&own_document), Format::Json),
            (to_yaml(&own_document), Format::Yaml),
        ] {
            let upstream_text = UPSTREAM
                .seal_secret(&key.certificate, original.to_string().as_bytes(), format)
                .unwrap();
            let upstream_text = String::from_utf8(upstream_text).unwrap();
            assert_eq!(
                without_ciphertexts(own_text.trim_end()),
                without_ciphertexts(upstream_text.trim_end()),
                "{scope:?}, {format:?}"
            );
        }
    }
}

fn seal_object(secret: &Value, key: &TestKey) -> SealedSecret {
    let documents = manifest::read(secret.to_string().as_bytes()).unwrap();
    let (secrets, _) = Secret::all_from_document(&documents[0]).unwrap();
    seal(
        &secrets[0],
        key.pair.certificate().public_key(),
        &mut shared::random::system(),
    )
    .unwrap()
}

fn read_object(sealed: &[u8]) -> SealedSecret {
    let documents = manifest::read(sealed).unwrap();
    SealedSecret::all_from_document(&documents[0])
        .unwrap()
        .0
        .remove(0)
}

fn key_ring(key: &TestKey) -> KeyRing {
    let private = PrivateKey::from_pem(key.private.as_bytes()).unwrap();
    KeyRing::new([Arc::new(RingKey::opening_only("test".to_owned(), private))])
}

/// Returns the parts that must be preserved; `null` and the empty string are both an empty value.
fn preserved_parts(secret: &Value) -> Value {
    let text = |path: &str| secret.pointer(path).cloned().unwrap_or_default();
    let items = secret["data"].as_object().unwrap().iter();
    let items: BTreeMap<_, _> = items
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    json!({
        "name": text("/metadata/name"),
        "namespace": text("/metadata/namespace"),
        "labels": text("/metadata/labels"),
        "annotations": text("/metadata/annotations"),
        "type": text("/type"),
        "immutable": text("/immutable"),
        "data": items,
    })
}

/// Removes sealed values, which contain no spaces and are longer than all other words.
fn without_ciphertexts(text: &str) -> String {
    let shorten = |word: &str| {
        if word.len() > 300 {
            "<sealed>".to_owned()
        } else {
            word.to_owned()
        }
    };
    let lines = text
        .lines()
        .map(|line| line.split(' ').map(shorten).collect::<Vec<_>>().join(" "));
    let lines = lines.map(|line| line.replace("<sealed>,", "<sealed>"));
    lines.collect::<Vec<_>>().join("\n")
}
