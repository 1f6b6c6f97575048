//! The mark of random values: keyed digests of the values in a Secret that its templates would not produce again if
//! they were rendered again.
//!
//! The mark is stored with the Secret, in an annotation, so that one request writes both. The mark shows for which
//! version of a SealedSecret the values were rendered, and which of them another client has changed since. Only a
//! holder of a private key of the ring can create a mark, because the key of the digests is derived from it; a mark
//! that a client changed or copied proves nothing.
//!
//! A mark also has a nonce, which is random for each rendering. Content versions identify the rendering by the nonce
//! and not by the values: whether two renderings have the same values can depend on a sealed value.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use rand::CryptoRng;

use crate::base64;
use crate::key_ring::KeyRing;
use crate::plain::Plain;
use crate::record::{Digest, Identity};
use crate::resource::RANDOM_VALUES_ANNOTATION;
use crate::secret::Secret;

/// Maximum number of digests in a mark. If an object has more random items, several items share a digest, so that the
/// annotation stays small.
const MAX_DIGESTS: usize = 256;
/// The length in bytes of a digest, and of the nonce before encoding. A forger has one attempt for each write of the
/// Secret.
const LEN: usize = 16;
/// Separates the digests from the nonce. It does not occur in base64.
const SEPARATOR: char = '.';

/// Returns the mark of a Secret, from its annotations.
pub fn of(secret: &Secret) -> Option<&String> {
    let annotations = secret.metadata.annotations.as_ref()?;
    annotations.get(RANDOM_VALUES_ANNOTATION)
}

/// Returns a random nonce for a rendering, as text.
pub fn new_nonce(random: &mut impl CryptoRng) -> String {
    let mut bytes = [0; LEN];
    random.fill_bytes(&mut bytes);
    base64::encode(&bytes)
}

/// Returns the nonce of the rendering; `None` if the mark has none, like the marks of earlier releases.
pub fn nonce(mark: &str) -> Option<&str> {
    mark.split_once(SEPARATOR).map(|(_, nonce)| nonce)
}

/// Creates the mark of these items, which were rendered from a version of the SealedSecret. `nonce` identifies the
/// rendering. Uses the newest RSA key of the ring that is neither compromised nor opening-only; returns `None` if there
/// is no such key.
pub fn create(
    version: Identity,
    items: &BTreeSet<String>,
    values: &BTreeMap<String, Plain>,
    nonce: &str,
    ring: &KeyRing,
) -> Option<String> {
    let mut keys = ring.keys().iter();
    let key = keys.find(|key| key.is_trusted_for_records())?.record_key();
    let mut mark = version_digest(key, version, items, Some(nonce)).to_vec();
    for group in groups(items) {
        mark.extend(values_digest(key, version, &group, values));
    }
    Some(format!("{}{SEPARATOR}{nonce}", base64::encode(&mark)))
}

/// Returns the items whose values have not changed since they were marked; if one of the items that share a digest was
/// changed, all of them count as changed. Returns `None` if the mark was not created for this version and these items
/// with an RSA key of the ring that is neither compromised nor opening-only.
pub fn unchanged_items(
    mark: &str,
    version: Identity,
    items: &BTreeSet<String>,
    values: &BTreeMap<String, Plain>,
    ring: &KeyRing,
) -> Option<BTreeSet<String>> {
    let nonce = nonce(mark);
    let digests = mark.split(SEPARATOR).next().unwrap_or_default();
    let mark = base64::decode(digests.as_bytes()).unwrap_or_default();
    let (of_version, of_values) = mark.split_at_checked(LEN)?;
    let keys = ring
        .keys()
        .iter()
        .filter(|key| key.is_trusted_for_records());
    let key = keys
        .map(|key| key.record_key())
        .find(|key| is_equal(&version_digest(key, version, items, nonce), of_version))?;
    let groups = groups(items).into_iter().zip(of_values.chunks(LEN));
    let unchanged = groups.filter(|(group, received)| {
        is_equal(&values_digest(key, version, group, values), received)
    });
    let items = unchanged.flat_map(|(group, _)| group);
    Some(items.cloned().collect())
}

/// Compares in constant time, so that a forger does not learn how many bytes are correct.
fn is_equal(expected: &[u8], received: &[u8]) -> bool {
    verify_slices_are_equal(expected, received).is_ok()
}

/// Divides the items into at most [`MAX_DIGESTS`] groups.
fn groups(items: &BTreeSet<String>) -> Vec<Vec<&String>> {
    let size = items.len().div_ceil(MAX_DIGESTS).max(1);
    let items: Vec<&String> = items.iter().collect();
    items.chunks(size).map(<[_]>::to_vec).collect()
}

fn version_digest(
    key: &hmac::Key,
    version: Identity,
    items: &BTreeSet<String>,
    nonce: Option<&str>,
) -> [u8; LEN] {
    let mut digest = match nonce {
        Some(nonce) => {
            let mut digest = Digest::new(key, b"a rendering with random values");
            digest.add(nonce.as_bytes());
            digest
        }
        None => Digest::new(key, b"a version with random values"),
    };
    digest.add(version.as_bytes());
    for item in items {
        digest.add(item.as_bytes());
    }
    shorten(&digest.finish())
}

fn values_digest(
    key: &hmac::Key,
    version: Identity,
    group: &[&String],
    values: &BTreeMap<String, Plain>,
) -> [u8; LEN] {
    let mut digest = Digest::new(key, b"random values of a version");
    digest.add(version.as_bytes());
    for item in group {
        digest.add(item.as_bytes());
        match values.get(*item) {
            Some(value) => digest.add(value.expose()),
            None => digest.add_absent(),
        }
    }
    shorten(&digest.finish())
}

fn shorten(tag: &hmac::Tag) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes.copy_from_slice(&tag.as_ref()[..LEN]);
    bytes
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, LazyLock};

    use jiff::Timestamp;

    use super::*;
    use crate::key::new_test_key;
    use crate::key_marks::Marks;
    use crate::key_ring::RingKey;
    use crate::resource::{SealedSecret, SealedSecretSpec};

    static KEYS: LazyLock<[Arc<RingKey>; 2]> = LazyLock::new(|| {
        [1, 2].map(|second| {
            let time = Timestamp::from_second(second).unwrap();
            let pair = new_test_key(second).pair;
            Arc::new(RingKey::new(format!("k{second}"), time, pair))
        })
    });

    const NONCE: &str = "nonce";

    fn ring(keys: &[usize]) -> KeyRing {
        KeyRing::new(keys.iter().map(|index| Arc::clone(&KEYS[*index])))
    }

    fn version(generation: i64) -> Identity {
        let mut sealed = SealedSecret::new("n", SealedSecretSpec::default());
        sealed.metadata.uid = Some("u".into());
        sealed.metadata.generation = Some(generation);
        Identity::of(&sealed).unwrap()
    }

    fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, Plain> {
        let to_owned_pair = |(k, v): &(&str, &str)| ((*k).to_owned(), Plain::from((*v).to_owned()));
        pairs.iter().map(to_owned_pair).collect()
    }

    fn items(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Attack: a client changes a random value, or copies the mark of another version.
    #[test]
    fn a_mark_shows_which_items_of_its_version_are_unchanged() {
        let both = items(&["a", "b"]);
        let original = values(&[("a", "1"), ("b", "2"), ("other", "3")]);
        let mark = create(version(1), &both, &original, NONCE, &ring(&[0])).unwrap();
        let unchanged = |values: &BTreeMap<String, Plain>, generation, keys| {
            unchanged_items(&mark, version(generation), &both, values, &ring(keys))
        };
        assert_eq!(unchanged(&original, 1, &[0]).as_ref(), Some(&both));
        assert_eq!(unchanged(&original, 1, &[0, 1]).as_ref(), Some(&both));
        let without_other = values(&[("a", "1"), ("b", "2")]);
        assert_eq!(unchanged(&without_other, 1, &[0]).as_ref(), Some(&both));
        let edited = values(&[("a", "1"), ("b", "3")]);
        assert_eq!(unchanged(&edited, 1, &[0]), Some(items(&["a"])));
        let removed = values(&[("b", "2")]);
        assert_eq!(unchanged(&removed, 1, &[0]), Some(items(&["b"])));
        let swapped = values(&[("a", "2"), ("b", "1")]);
        assert_eq!(unchanged(&swapped, 1, &[0]), Some(items(&[])));
        assert_eq!(unchanged(&original, 2, &[0]), None);
        assert_eq!(unchanged(&original, 1, &[1]), None);
        let digests = mark.split(SEPARATOR).next().unwrap();
        let shortened = format!("{}.{NONCE}", &digests[..digests.len() - 4]);
        for (forged, want) in [
            ("", None),
            ("*", None),
            ("AAAA", None),
            (digests, None),
            (&mark[..mark.len() - 1], None),
            (&shortened, Some(items(&["a"]))),
        ] {
            let unchanged = unchanged_items(forged, version(1), &both, &original, &ring(&[0]));
            assert_eq!(unchanged, want, "{forged}");
        }
        let other_items = items(&["a"]);
        let of_others = unchanged_items(&mark, version(1), &other_items, &original, &ring(&[0]));
        assert_eq!(of_others, None);
    }

    /// Attack: a client with a stolen key computes a mark for its own values.
    #[test]
    fn ignores_marks_of_a_compromised_key() {
        let marks = Marks {
            is_compromised: true,
            ..Marks::default()
        };
        let time = Timestamp::from_second(1).unwrap();
        let key = RingKey::new("k1".into(), time, new_test_key(1).pair);
        let pair_of_same_key = RingKey::new("k1".into(), time, new_test_key(1).pair);
        let stolen = KeyRing::new([Arc::new(key)]);
        let marked = KeyRing::new([Arc::new(pair_of_same_key.with_marks(marks))]);
        let (all, original) = (items(&["a"]), values(&[("a", "1")]));
        let mark = create(version(1), &all, &original, NONCE, &stolen).unwrap();
        assert_eq!(
            unchanged_items(&mark, version(1), &all, &original, &marked),
            None
        );
        assert_eq!(create(version(1), &all, &original, NONCE, &marked), None);
    }

    /// An update of the controller must not generate random values again.
    #[test]
    fn marks_of_earlier_releases_stay_valid() {
        let (all, original) = (items(&["a"]), values(&[("a", "1")]));
        let key = KEYS[0].record_key();
        let mut mark = version_digest(key, version(1), &all, None).to_vec();
        for group in groups(&all) {
            mark.extend(values_digest(key, version(1), &group, &original));
        }
        let mark = base64::encode(&mark);
        let unchanged = unchanged_items(&mark, version(1), &all, &original, &ring(&[0]));
        assert_eq!((unchanged, nonce(&mark)), (Some(all), None));
    }

    #[test]
    fn a_mark_of_many_items_stays_small() {
        let names: Vec<String> = (0..5_000).map(|i| format!("item{i:04}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let pairs: Vec<(&str, &str)> = names.iter().map(|name| (*name, "1")).collect();
        let (all, mut values) = (items(&names), values(&pairs));
        let mark = create(version(1), &all, &values, NONCE, &ring(&[0])).unwrap();
        assert!(mark.len() < 6_000, "{}", mark.len());
        values.insert("item0000".into(), Plain::from("2".to_owned()));
        let unchanged = unchanged_items(&mark, version(1), &all, &values, &ring(&[0]));
        assert!((4_900..5_000).contains(&unchanged.unwrap().len()));
    }
}
