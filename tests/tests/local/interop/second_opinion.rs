//! Tests `shared::envelope` with a second implementation, written from the specification with only the pure-Rust `rsa`
//! and `aes-gcm` crates.

use aes_gcm::{
    Aes256Gcm, Nonce,
    aead::{Aead, KeyInit},
};
use rand::Rng;
use rsa::{Oaep, RsaPrivateKey, RsaPublicKey, pkcs1::DecodeRsaPrivateKey, sha2::Sha256};
use shared::envelope;

use super::{keys::TestKey, values::for_every_combination};

const ZERO_NONCE: [u8; 12] = [0; 12];

#[test]
fn opens_every_value_that_the_second_implementation_sealed() {
    for_every_combination(|key, label, content, combination| {
        let sealed = seal(&private_key(key).to_public_key(), label.as_bytes(), content);
        let plaintext = envelope::open(key.pair.private(), label, &sealed).expect(combination);
        assert!(plaintext.expose() == content, "{combination}");
    });
}

#[test]
fn seals_every_value_so_that_the_second_implementation_opens_it() {
    for_every_combination(|key, label, content, combination| {
        let public = key.pair.certificate().public_key();
        let sealed = envelope::seal(public, label, content, &mut shared::random::system())
            .expect(combination);
        assert!(
            open(&private_key(key), label.as_bytes(), &sealed) == content,
            "{combination}"
        );
    });
}

pub(crate) fn private_key(key: &TestKey) -> RsaPrivateKey {
    RsaPrivateKey::from_pkcs1_pem(&key.private).unwrap()
}

fn seal(key: &RsaPublicKey, label: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut session = [0; 32];
    shared::random::system().fill_bytes(&mut session);
    let wrapped = wrap_session_key(key, label, &session);
    let value = aead(&session)
        .encrypt(&Nonce::from(ZERO_NONCE), plain)
        .unwrap();
    let length = u16::try_from(wrapped.len()).unwrap().to_be_bytes();
    [&length[..], &wrapped, &value].concat()
}

/// Encrypts the session key; returns the RSA block of a sealed value.
pub(crate) fn wrap_session_key(key: &RsaPublicKey, label: &[u8], session: &[u8]) -> Vec<u8> {
    let wrapped = key.encrypt(&mut shared::random::system(), oaep(label), session);
    wrapped.unwrap()
}

fn open(key: &RsaPrivateKey, label: &[u8], sealed: &[u8]) -> Vec<u8> {
    let (length, rest) = sealed.split_first_chunk().unwrap();
    let (wrapped, value) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
    let session = key.decrypt(oaep(label), wrapped).unwrap();
    aead(&session)
        .decrypt(&Nonce::from(ZERO_NONCE), value)
        .unwrap()
}

/// Returns OAEP with SHA-256 for the label and for MGF1.
fn oaep(label: &[u8]) -> Oaep<Sha256> {
    Oaep::new_with_label(label.to_vec())
}

fn aead(session: &[u8]) -> Aes256Gcm {
    Aes256Gcm::new_from_slice(session).unwrap()
}
