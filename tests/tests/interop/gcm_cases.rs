//! AES-GCM cases in the style of Project Wycheproof, whose own vectors have nonces other than the format's
//! zero: every key length and the lengths around a block, and for each value the manipulations of tag and
//! ciphertext that implementations are known to overlook. The second implementation creates them.

use rsa::RsaPublicKey;
use shared::envelope::{self, OpenError};
use shared::key::PrivateKey;
use shared::scope::{Label, Scope};

use crate::keys::KEYS;
use crate::second_opinion::{private, wrapped};
use crate::wycheproof_vectors::encrypted;

const TAG_LEN: usize = 16;

struct Sealer {
    public: RsaPublicKey,
    label: Label,
}

impl Sealer {
    /// Returns a value with this session key and any ciphertext and tag.
    fn value(&self, session: &[u8], encrypted: &[u8]) -> Vec<u8> {
        let block = wrapped(&self.public, self.label.as_bytes(), session);
        let length = u16::try_from(block.len()).unwrap().to_be_bytes();
        [&length[..], &block, encrypted].concat()
    }

    fn open(
        &self,
        key: &PrivateKey,
        session: &[u8],
        encrypted: &[u8],
    ) -> Result<Vec<u8>, OpenError> {
        let opened = envelope::open(key, &self.label, &self.value(session, encrypted));
        opened.map(|plain| plain.expose().to_vec())
    }
}

/// Attack: an attacker flips bits of tag and ciphertext at every length.
#[test]
fn accepts_every_length_and_refuses_every_change_of_tag_or_ciphertext() {
    let key = &KEYS[0];
    let sealer = Sealer {
        public: private(key).to_public_key(),
        label: Scope::Strict.label("shop", "db"),
    };
    let key = key.pair.private();
    for session_len in [16, 24, 32] {
        let session: Vec<u8> = (0..session_len).collect();
        for len in [0, 1, 15, 16, 17, 31, 32, 33, 255] {
            let plain = vec![0x61; len];
            let good = encrypted(&session, &plain).unwrap();
            let which = format!("key of {session_len}, text of {len}");
            assert_eq!(sealer.open(key, &session, &good), Ok(plain), "{which}");
            for (mistake, bad) in invalid_values(&good) {
                let got = sealer.open(key, &session, &bad);
                assert_eq!(got, Err(OpenError), "{which}, {mistake}");
            }
        }
    }
}

#[test]
fn refuses_a_session_key_of_another_length() {
    let key = &KEYS[0];
    let sealer = Sealer {
        public: private(key).to_public_key(),
        label: Scope::Strict.label("shop", "db"),
    };
    for len in [0, 1, 15, 17, 23, 25, 31, 33, 64] {
        // Would be accepted if the key were truncated, or padded with zeros.
        let mut aes = vec![0; 32];
        let session = vec![7; len];
        let kept = len.min(32);
        aes[..kept].copy_from_slice(&session[..kept]);
        let encrypted = encrypted(&aes, b"text").unwrap();
        let got = sealer.open(key.pair.private(), &session, &encrypted);
        assert_eq!(got, Err(OpenError), "session key of {len}");
    }
}

fn invalid_values(good: &[u8]) -> Vec<(String, Vec<u8>)> {
    let tag = good.len() - TAG_LEN;
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bad = good.to_vec();
        change(&mut bad);
        bad
    };
    let mut invalid_values = Vec::new();
    for bit in [
        0, 1, 7, 8, 31, 32, 63, 64, 71, 77, 80, 96, 97, 103, 120, 121, 126, 127,
    ] {
        let bad = changed(&|bad| bad[tag + bit / 8] ^= 1 << (bit % 8));
        invalid_values.push((format!("bit {bit} of the tag flipped"), bad));
    }
    for (mistake, and, xor) in [
        ("all bits of the tag flipped", 0xff, 0xff),
        ("the first bit of each byte of the tag flipped", 0xff, 0x80),
        ("a tag of zeros", 0, 0),
        ("a tag of ones", 0, 0xff),
    ] {
        let change = |byte: &mut u8| *byte = *byte & and ^ xor;
        let bad = changed(&|bad| bad[tag..].iter_mut().for_each(change));
        invalid_values.push((mistake.into(), bad));
    }
    for left in [0, 1, 8, 12, 15] {
        let bad = changed(&|bad| bad.truncate(tag + left));
        invalid_values.push((format!("{left} bytes of the tag"), bad));
    }
    invalid_values.push(("a byte more".into(), changed(&|bad| bad.push(0))));
    invalid_values.push((
        "a byte more in front".into(),
        changed(&|bad| bad.insert(0, 0)),
    ));
    if tag > 0 {
        invalid_values.push(("text changed".into(), changed(&|bad| bad[tag - 1] ^= 1)));
        invalid_values.push(("text missing".into(), good[tag..].to_vec()));
    }
    invalid_values
}
