//! Well-formed values that cannot be unsealed, each for a different reason.

use jiff::Timestamp;
use shared::envelope;
use shared::key_ring::{KeyRing, RingKey};
use shared::scope::Scope;
use tests::sealing::{KEYS, copy_of};
use tests::timing::{Comparison, compare, time};

/// Large enough for its decryption to be visible beside a private-key operation.
const SIZE: usize = 64 * 1024;

pub(crate) const NAMESPACE: &str = "ns";
pub(crate) const NAME: &str = "name";

/// Returns the values; the others are compared with the first.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let here = Scope::Strict.label(NAMESPACE, NAME);
    let there = Scope::Strict.label(NAMESPACE, "other");
    let seal = |key: usize, label| {
        let public = KEYS[key].pair.certificate().public_key();
        envelope::seal(
            public,
            label,
            &vec![b'x'; SIZE],
            &mut shared::random::system(),
        )
        .unwrap()
    };
    let changed = |at: usize| {
        let mut value = seal(0, &here);
        value[at] ^= 1;
        value
    };
    let len = seal(0, &here).len();
    vec![
        ("another name", seal(0, &there)),
        ("another name, another value", seal(0, &there)),
        ("another key", small(|| seal(1, &here))),
        ("a changed RSA block", changed(100)),
        ("a changed value", changed(2 + 256 + 10)),
        ("a changed tag", changed(len - 1)),
    ]
}

/// Seals until the RSA block is smaller than the modulus. A larger block is refused before the key is used.
/// Anyone with the certificate can predict that without a request, and many values for another key have such
/// blocks.
fn small(seal: impl FnMut() -> Vec<u8>) -> Vec<u8> {
    let mut values = std::iter::repeat_with(seal);
    // The first bit of a modulus is set.
    values
        .find(|value| value[2] < 0x80)
        .expect("there is no end of them")
}

pub(crate) fn in_the_function(count: usize) -> Vec<(String, Comparison)> {
    let key = RingKey::new("k".into(), Timestamp::UNIX_EPOCH, copy_of(&KEYS[0]));
    let ring = KeyRing::new([key.into()]);
    let label = Scope::Strict.label(NAMESPACE, NAME);
    let open = |value: &[u8]| time(|| ring.open(&label, value, &[]).is_ok());
    let causes = all();
    let (first, others) = causes.split_first().expect("there are some");
    let against_first = |(name, value): &(&str, Vec<u8>)| {
        let found = compare(count, || open(&first.1), || open(value));
        (format!("{} and {name}", first.0), found)
    };
    others.iter().map(against_first).collect()
}
