//! Tests whole Secrets: sealed on one side, unsealed on the other.

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

use crate::{
    UPSTREAM,
    keys::{KEYS, TestKey},
    opened::opened,
};

/// Returns a Secret with this scope and one of everything that sealing keeps.
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
fn upstream_unseals_each_object_that_we_sealed() {
    for scope in Scope::ALL {
        let original = secret(scope);
        let key = &KEYS[1];
        let sealed = sealed_by_us(&original, key).to_document();
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
fn we_unseal_each_object_that_upstream_sealed() {
    for scope in Scope::ALL {
        let original = secret(scope);
        let key = &KEYS[0];
        for format in [Format::Json, Format::Yaml] {
            let sealed = UPSTREAM
                .seal_secret(&key.certificate, original.to_string().as_bytes(), format)
                .unwrap();
            let secret = opened(&read(&sealed), &ring(key), false).unwrap();
            assert_eq!(
                preserved_parts(&secret.to_document()),
                preserved_parts(&original),
                "{scope:?}, {format:?}"
            );
        }
    }
}

#[test]
fn both_sides_create_the_same_object_except_for_ciphertexts() {
    for scope in Scope::ALL {
        let original = secret(scope);
        let key = &KEYS[0];
        let ours = sealed_by_us(&original, key).to_document();
        for (ours, format) in [
            (to_json(&ours), Format::Json),
            (to_yaml(&ours), Format::Yaml),
        ] {
            let theirs = UPSTREAM
                .seal_secret(&key.certificate, original.to_string().as_bytes(), format)
                .unwrap();
            let theirs = String::from_utf8(theirs).unwrap();
            assert_eq!(
                without_ciphertexts(ours.trim_end()),
                without_ciphertexts(theirs.trim_end()),
                "{scope:?}, {format:?}"
            );
        }
    }
}

fn sealed_by_us(secret: &Value, key: &TestKey) -> SealedSecret {
    let documents = manifest::read(secret.to_string().as_bytes()).unwrap();
    let (secrets, _) = Secret::all_from_document(&documents[0]).unwrap();
    seal(
        &secrets[0],
        key.pair.certificate().public_key(),
        &mut shared::random::system(),
    )
    .unwrap()
}

fn read(sealed: &[u8]) -> SealedSecret {
    let documents = manifest::read(sealed).unwrap();
    SealedSecret::all_from_document(&documents[0])
        .unwrap()
        .0
        .remove(0)
}

fn ring(key: &TestKey) -> KeyRing {
    let private = PrivateKey::from_pem(key.private.as_bytes()).unwrap();
    KeyRing::new([Arc::new(RingKey::opening_only("test".to_owned(), private))])
}

/// Returns the parts that must be preserved; `null` and the empty text are both an empty value.
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

/// Removes sealed values, which contain no spaces and are longer than all else.
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
