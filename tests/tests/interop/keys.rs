//! Key pairs of every size in use, half of them made by the peer and half by us.

use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use shared::key::{Certificate, KeyPair, KeySize, KeySpec, PrivateKey};
use tests::peer::KeyRequest;

use crate::PEER;

pub(crate) struct TestKey {
    /// Whose it is, for messages.
    pub(crate) maker: String,
    /// PEM, PKCS#1.
    pub(crate) private: String,
    /// PEM.
    pub(crate) certificate: String,
    /// Both as we read them.
    pub(crate) pair: KeyPair,
}

/// Six pairs; an RSA-4096 key takes about a second to make.
pub(crate) static KEYS: LazyLock<Vec<TestKey>> = LazyLock::new(|| {
    [2048, 3072, 4096]
        .into_iter()
        .flat_map(|bits| [made_by_the_peer(bits), made_by_us(bits)])
        .collect()
});

fn made_by_the_peer(bits: u32) -> TestKey {
    let made = PEER.generate(&KeyRequest::rsa(bits)).unwrap();
    TestKey::new(
        format!("the peer's key of {bits} bits"),
        made.pkcs1,
        made.certificate,
    )
}

fn made_by_us(bits: u32) -> TestKey {
    let spec = KeySpec {
        size: KeySize::try_from(i64::from(bits)).unwrap(),
        ttl: SignedDuration::from_hours(24 * 365),
        common_name: String::new(),
    };
    let made = spec
        .generate(Timestamp::now(), &mut shared::random::system())
        .unwrap();
    let private = String::from_utf8(made.private_pem.expose().to_vec()).unwrap();
    TestKey::new(
        format!("our key of {bits} bits"),
        private,
        made.pair.certificate().to_pem(),
    )
}

impl TestKey {
    fn new(maker: String, private: String, certificate: String) -> Self {
        let pair = KeyPair::new(
            PrivateKey::from_pem(private.as_bytes()).unwrap(),
            Certificate::from_pem(certificate.as_bytes()).unwrap(),
        );
        Self {
            maker,
            private,
            certificate,
            pair: pair.unwrap(),
        }
    }
}

#[test]
fn both_sides_name_a_key_by_the_same_fingerprint() {
    for key in KEYS.iter() {
        let theirs = PEER.fingerprint(&key.certificate).unwrap();
        assert_eq!(key.pair.fingerprint().to_string(), theirs, "{}", key.maker);
    }
}
