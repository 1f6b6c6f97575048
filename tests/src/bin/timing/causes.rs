//! Well-formed values that cannot be unsealed, for different reasons.

use jiff::Timestamp;
use shared::envelope;
use shared::key_ring::{KeyRing, RingKey};
use shared::scope::Scope;
use tests::sealing::{KEYS, copy_of};
use tests::timing::{Comparison, compare, time};

/// Length of a value, so large that the time of its decryption is visible next to a private-key operation.
const VALUE_LEN: usize = 64 * 1024;

pub(crate) const NAMESPACE: &str = "ns";
pub(crate) const NAME: &str = "name";

/// Returns the values with their names. The other values are compared with the first one.
pub(crate) fn failing_values() -> Vec<(&'static str, Vec<u8>)> {
    let label = Scope::Strict.label(NAMESPACE, NAME);
    let other_label = Scope::Strict.label(NAMESPACE, "other");
    let seal = |key: usize, label| {
        let public = KEYS[key].pair.certificate().public_key();
        envelope::seal(
            public,
            label,
            &vec![b'x'; VALUE_LEN],
            &mut shared::random::system(),
        )
        .unwrap()
    };
    let changed = |at: usize| {
        let mut value = seal(0, &label);
        value[at] ^= 1;
        value
    };
    let len = seal(0, &label).len();
    vec![
        ("another name", seal(0, &other_label)),
        ("another name, another value", seal(0, &other_label)),
        ("another key", seal_small_block(|| seal(1, &label))),
        ("a changed RSA block", changed(100)),
        ("a changed value", changed(2 + 256 + 10)),
        ("a changed tag", changed(len - 1)),
    ]
}

/// Seals until the RSA block is smaller than the modulus. A larger block is refused before the key is used; anyone with
/// the certificate can predict this refusal without a request.
fn seal_small_block(seal: impl FnMut() -> Vec<u8>) -> Vec<u8> {
    let mut values = std::iter::repeat_with(seal);
    // The first bit of a modulus is set.
    values
        .find(|value| value[2] < 0x80)
        .expect("the iterator is endless")
}

/// Compares the times in which a key ring fails to unseal the values.
pub(crate) fn compare_in_process(count: usize) -> Vec<(String, Comparison)> {
    let key = RingKey::new("k".into(), Timestamp::UNIX_EPOCH, copy_of(&KEYS[0]));
    let ring = KeyRing::new([key.into()]);
    let label = Scope::Strict.label(NAMESPACE, NAME);
    let open = |value: &[u8]| time(|| ring.open(&label, value, &[]).is_ok());
    let values = failing_values();
    let (first, others) = values.split_first().expect("the list is not empty");
    let compare_with_first = |(name, value): &(&str, Vec<u8>)| {
        let comparison = compare(count, || open(&first.1), || open(value));
        (format!("{} and {name}", first.0), comparison)
    };
    others.iter().map(compare_with_first).collect()
}
