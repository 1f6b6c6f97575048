//! Tests `tests/vectors/sealed-secrets-vectors.json`: values that upstream sealed for a throw-away key.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::json;
use shared::{
    envelope,
    key::{Certificate, PrivateKey},
    key_ring::{KeyRing, RingKey},
    manifest,
    resource::SealedSecret,
    scope::Scope,
};

use super::unsealing::unseal_object;

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Vector>,
    certificate: String,
    private_key_pkcs1: String,
    key_fingerprint: String,
    deprecated_v1_spec_data: DeprecatedVector,
}

#[derive(Deserialize)]
struct Vector {
    id: String,
    scope: String,
    namespace: String,
    name: String,
    oaep_label_utf8: String,
    plaintext_b64: String,
    #[serde(rename = "encryptedData_value")]
    sealed: String,
}

#[derive(Deserialize)]
struct DeprecatedVector {
    namespace: String,
    name: String,
    #[serde(rename = "spec.data")]
    data: String,
}

fn vectors() -> Vectors {
    let text = include_str!("../../../vectors/sealed-secrets-vectors.json");
    serde_json::from_str(text).unwrap()
}

fn key_ring(vectors: &Vectors) -> KeyRing {
    let private = PrivateKey::from_pem(vectors.private_key_pkcs1.as_bytes()).unwrap();
    KeyRing::new([Arc::new(RingKey::opening_only(
        "the vectors' key".to_owned(),
        private,
    ))])
}

#[test]
fn every_vector_can_be_opened_only_under_the_label_of_its_scope() {
    let vectors = vectors();
    let private = PrivateKey::from_pem(vectors.private_key_pkcs1.as_bytes()).unwrap();
    for vector in &vectors.cases {
        let scope: Scope = vector.scope.parse().unwrap();
        let label = scope.label(&vector.namespace, &vector.name);
        assert_eq!(
            label.as_bytes(),
            vector.oaep_label_utf8.as_bytes(),
            "{}",
            vector.id
        );
        let sealed = STANDARD.decode(&vector.sealed).unwrap();
        let plaintext = envelope::open(&private, &label, &sealed).expect(&vector.id);
        assert_eq!(
            STANDARD.encode(plaintext.expose()),
            vector.plaintext_b64,
            "{}",
            vector.id
        );
        let moved = scope.label("elsewhere", "other");
        assert_eq!(
            envelope::open(&private, &moved, &sealed).is_ok(),
            moved == label,
            "{}",
            vector.id
        );
    }
    assert_eq!(vectors.cases.len(), 6);
}

#[test]
fn the_certificate_of_the_vectors_has_the_stated_fingerprint() {
    let vectors = vectors();
    let certificate = Certificate::from_pem(vectors.certificate.as_bytes()).unwrap();
    assert_eq!(
        certificate.fingerprint().to_string(),
        vectors.key_fingerprint
    );
    let private = PrivateKey::from_pem(vectors.private_key_pkcs1.as_bytes()).unwrap();
    assert_eq!(private.fingerprint(), certificate.fingerprint());
}

#[test]
fn the_deprecated_form_is_unsealed_only_if_it_is_accepted() {
    let vectors = vectors();
    let vector = &vectors.deprecated_v1_spec_data;
    let sealed = sealed_secret(&json!({
        "apiVersion": "bitnami.com/v1alpha1",
        "kind": "SealedSecret",
        "metadata": {"namespace": vector.namespace, "name": vector.name},
        "spec": {"data": vector.data, "encryptedData": {}},
    }));
    let ring = key_ring(&vectors);
    assert!(unseal_object(&sealed, &ring, false).is_err());
    let secret = unseal_object(&sealed, &ring, true).unwrap();
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    assert_eq!(secret.metadata.labels.unwrap()["l"], "1");
    assert_eq!(secret.data["foo"].expose(), b"bar");
}

fn sealed_secret(object: &serde_json::Value) -> SealedSecret {
    let documents = manifest::read(object.to_string().as_bytes()).unwrap();
    SealedSecret::all_from_document(&documents[0])
        .unwrap()
        .0
        .remove(0)
}
