//! Tests AES-GCM with every key length, with lengths around a block, and with the manipulations of tag and ciphertext
//! that implementations are known to overlook. The cases follow Project Wycheproof, whose own vectors do not use the
//! zero nonce of the format. The crate `aes-gcm` encrypts the values.

use rsa::RsaPublicKey;
use shared::envelope::{self, OpenError};
use shared::key::PrivateKey;
use shared::scope::{Label, Scope};

use super::keys::KEYS;
use super::second_opinion::{private_key, wrap_session_key};
use super::wycheproof_vectors::encrypt;

const TAG_LEN: usize = 16;

struct Sealer {
    public: RsaPublicKey,
    label: Label,
}

impl Sealer {
    /// Returns a sealed value with this session key, and with `encrypted` as ciphertext and tag.
    fn value(&self, session: &[u8], encrypted: &[u8]) -> Vec<u8> {
        let block = wrap_session_key(&self.public, self.label.as_bytes(), session);
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&length[..], &block, encrypted].concat()
    }

    fn open(
        &self,
        key: &PrivateKey,
        session: &[u8],
        encrypted: &[u8],
    ) -> Result<Vec<u8>, OpenError> {
        let plain = envelope::open(key, &self.label, &self.value(session, encrypted));
        plain.map(|plain| plain.expose().to_vec())
    }
}

/// Attack: an attacker manipulates tag and ciphertext, at lengths around a block, to change a value.
#[test]
fn accepts_lengths_around_a_block_and_refuses_changes_of_tag_or_ciphertext() {
    let key = &KEYS[0];
    let sealer = Sealer {
        public: private_key(key).to_public_key(),
        label: Scope::Strict.label("shop", "db"),
    };
    let key = key.pair.private();
    for session_len in [16, 24, 32] {
        let session: Vec<u8> = (0..session_len).collect();
        for len in [0, 1, 15, 16, 17, 31, 32, 33, 255] {
            let plain = vec![0x61; len];
            let good = encrypt(&session, &plain).unwrap();
            let lengths = format!("key of {session_len}, text of {len}");
            assert_eq!(sealer.open(key, &session, &good), Ok(plain), "{lengths}");
            for (manipulation, bad) in invalid_values(&good) {
                let got = sealer.open(key, &session, &bad);
                assert_eq!(got, Err(OpenError), "{lengths}, {manipulation}");
            }
        }
    }
}

#[test]
fn refuses_a_session_key_of_another_length() {
    let key = &KEYS[0];
    let sealer = Sealer {
        public: private_key(key).to_public_key(),
        label: Scope::Strict.label("shop", "db"),
    };
    for len in [0, 1, 15, 17, 23, 25, 31, 33, 64] {
        // The value would be accepted if the session key were truncated, or padded with zeros.
        let mut aes = vec![0; 32];
        let session = vec![7; len];
        let common_length = len.min(32);
        aes[..common_length].copy_from_slice(&session[..common_length]);
        let encrypted = encrypt(&aes, b"text").unwrap();
        let got = sealer.open(key.pair.private(), &session, &encrypted);
        assert_eq!(got, Err(OpenError), "session key of {len}");
    }
}

fn invalid_values(good: &[u8]) -> Vec<(String, Vec<u8>)> {
    let tag = good.len() - TAG_LEN;
    let changed_copy = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bad = good.to_vec();
        change(&mut bad);
        bad
    };
    let mut invalid_values = Vec::new();
    for bit in [
        0, 1, 7, 8, 31, 32, 63, 64, 71, 77, 80, 96, 97, 103, 120, 121, 126, 127,
    ] {
        let bad = changed_copy(&|bad| bad[tag + bit / 8] ^= 1 << (bit % 8));
        invalid_values.push((format!("bit {bit} of the tag flipped"), bad));
    }
    for (manipulation, and, xor) in [
        ("all bits of the tag flipped", 0xff, 0xff),
        ("the first bit of each byte of the tag flipped", 0xff, 0x80),
        ("a tag of zeros", 0, 0),
        ("a tag of ones", 0, 0xff),
    ] {
        let change = |byte: &mut u8| *byte = *byte & and ^ xor;
        let bad = changed_copy(&|bad| bad[tag..].iter_mut().for_each(change));
        invalid_values.push((manipulation.into(), bad));
    }
    for tag_length in [0, 1, 8, 12, 15] {
        let bad = changed_copy(&|bad| bad.truncate(tag + tag_length));
        invalid_values.push((format!("{tag_length} bytes of the tag"), bad));
    }
    invalid_values.push(("an extra byte".into(), changed_copy(&|bad| bad.push(0))));
    invalid_values.push((
        "an extra byte in front".into(),
        changed_copy(&|bad| bad.insert(0, 0)),
    ));
    if tag > 0 {
        invalid_values.push((
            "text changed".into(),
            changed_copy(&|bad| bad[tag - 1] ^= 1),
        ));
        invalid_values.push(("text missing".into(), good[tag..].to_vec()));
    }
    invalid_values
}
