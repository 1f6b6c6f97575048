//! Well-formed v2 items that cannot be opened, each for a different reason that only the private key shows.

use std::sync::Arc;

use jiff::Timestamp;
use shared::key_ring::{KeyRing, RingKey, RingV2Key};
use shared::resource::SealedSecret;
use shared::unseal;
use shared::v2::key_secret::StoredKey;
use shared::v2::{Recipient, SecretKey, Suite};
use tests::sealing::{KEYS, copy_of};
use tests::timing::{Comparison, compare, time};
use tests::v2_objects::{change_bytes, empty, set_inline};

use crate::causes::{NAME, NAMESPACE};

/// Length of a value, so large that the time of its decryption is visible next to a private-key operation.
const VALUE_LEN: usize = 64 * 1024;
/// Length of the fields before the body of the only stanza: header, number of stanzas, suite, identifier and length.
const BEFORE_BODY: usize = 59 + 1 + 2 + 16 + 2;

/// Compares the times in which a key ring fails to open the items.
pub(crate) fn compare_in_process(count: usize) -> Vec<(String, Comparison)> {
    let suites = Suite::ALL.into_iter();
    suites
        .flat_map(|suite| compare_suite(suite, count))
        .collect()
}

fn compare_suite(suite: Suite, count: usize) -> Vec<(String, Comparison)> {
    let ring = ring();
    let unseal = |sealed: &SealedSecret| time(|| unseal::check(sealed, &ring, true).is_ok());
    let objects = failing_objects(suite);
    let (first, others) = objects.split_first().expect("the list is not empty");
    let compare_with_first = |(name, object): &(&str, SealedSecret)| {
        let comparison = compare(count, || unseal(&first.1), || unseal(object));
        (format!("{suite}: {} and {name}", first.0), comparison)
    };
    others.iter().map(compare_with_first).collect()
}

fn key(suite: Suite) -> SecretKey {
    SecretKey::from_bytes(suite, &[7; 32]).unwrap()
}

fn ring() -> KeyRing {
    let rsa = RingKey::new("k".into(), Timestamp::UNIX_EPOCH, copy_of(&KEYS[0]));
    let v2_key = |suite: Suite| {
        let stored = StoredKey {
            key: key(suite),
            not_before: Timestamp::MIN,
            not_after: Timestamp::MAX,
        };
        Arc::new(RingV2Key::new(suite.to_string(), Timestamp::MIN, stored))
    };
    KeyRing::new([rsa.into()]).with_v2_keys([Suite::XWing, Suite::P256].map(v2_key))
}

/// Returns the objects with the name of their cause. The other objects are compared with the first one.
fn failing_objects(suite: Suite) -> Vec<(&'static str, SealedSecret)> {
    let body_len = match suite {
        Suite::XWing => 1168,
        Suite::P256 => 113,
        Suite::Rsa => 256,
    };
    let body = BEFORE_BODY..BEFORE_BODY + body_len;
    let changed = |at: fn(usize) -> usize| {
        let mut object = object(suite);
        change_bytes(&mut object, "a", |bytes| {
            let at = at(bytes.len());
            bytes[at] ^= 1;
        });
        object
    };
    let mut other_key = object(suite);
    let mut stanza = Vec::new();
    change_bytes(&mut object(suite), "a", |bytes| {
        stanza = bytes[body.clone()].to_vec();
    });
    change_bytes(&mut other_key, "a", |bytes| {
        bytes[body.clone()].copy_from_slice(&stanza);
    });
    let mut changed_stanza = object(suite);
    change_bytes(&mut changed_stanza, "a", |bytes| bytes[body.end - 1] ^= 1);
    vec![
        ("the data key of another lock", other_key),
        ("a changed data key", changed_stanza),
        ("a changed commitment", changed(|_| 58)),
        ("a changed value", changed(|len| len - VALUE_LEN / 2)),
        ("a changed tag", changed(|len| len - 1)),
    ]
}

fn object(suite: Suite) -> SealedSecret {
    let mut object = empty(NAMESPACE, NAME);
    let v2_recipient;
    let recipient: &dyn Recipient = if suite == Suite::Rsa {
        KEYS[0].pair.certificate().public_key()
    } else {
        v2_recipient = key(suite).recipient();
        &v2_recipient
    };
    set_inline(&mut object, recipient, "a", &"x".repeat(VALUE_LEN));
    object
}
