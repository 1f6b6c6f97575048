//! Determines which key each item of a SealedSecret needs, and why an item cannot be unsealed, by trying the keys of a
//! key ring; only [`from_metadata`] tries none. Do not report the results to callers who are not allowed to verify the
//! object.

use std::collections::{BTreeMap, BTreeSet};

use crate::envelope::{self, Finding};
use crate::hints;
use crate::key::Fingerprint;
use crate::key_ring::{KeyRing, UnsealFailure};
use crate::meter::{Interrupted, Meter, Unmetered};
use crate::resource::SealedSecret;
use crate::scope::Scope;
use crate::sealed_text::{self, NotSealed};
use crate::unseal::{self, UsedKey};
use crate::v2::{self, ShortKeyId};

mod v2_items;

/// Represents the deprecated `spec.data` in maps by item key. No item can have this name.
pub const LEGACY_ITEM: &str = "(data)";

/// The key that an item needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// This key unseals the item.
    Key(Fingerprint),
    /// This key, which is only for v2, unseals the item.
    V2Key(ShortKeyId),
    /// The item is v2, and the object could not be opened. The item names these keys: it may need any of them, or none
    /// if it was changed.
    OneOf(BTreeSet<UsedKey>),
    /// The item is v2, and its object has a malformed entry. The item may need any key once the entry is corrected or
    /// removed.
    AnyKey,
    /// No key of the ring unseals the item, which is v1. The item may need any key whose modulus has this many bytes,
    /// or no key if the item is damaged.
    Undecided(usize),
    /// The item is not a sealed value, so no key unseals it.
    Nothing,
}

impl Need {
    /// Returns whether it is not known which key the item needs, because no key of the ring unsealed it.
    pub fn is_undecided(&self) -> bool {
        matches!(self, Self::OneOf(_) | Self::Undecided(_) | Self::AnyKey)
    }

    /// Returns whether the item may need this RSA key. An undecided v1 item may need any key with its modulus length.
    pub fn may_require_key(&self, key: &Fingerprint, modulus_len: usize) -> bool {
        match self {
            Self::Key(needed) => needed == key,
            Self::OneOf(keys) => keys.contains(&UsedKey::Rsa(key.clone())),
            Self::Undecided(len) => *len == modulus_len,
            Self::AnyKey => true,
            Self::V2Key(_) | Self::Nothing => false,
        }
    }
}

/// Returns the key that each item needs, by item key.
pub fn needs(sealed: &SealedSecret, ring: &KeyRing) -> BTreeMap<String, Need> {
    needs_within(sealed, ring, &mut Unmetered).unwrap_or_default()
}

/// Like [`needs`], but reports to a meter before each operation.
///
/// # Errors
///
/// Returns [`Interrupted`] if the meter ended the work.
pub fn needs_within(
    sealed: &SealedSecret,
    ring: &KeyRing,
    meter: &mut dyn Meter,
) -> Result<BTreeMap<String, Need>, Interrupted> {
    let label = unseal::label(sealed);
    let hints = hints::read(sealed.metadata.annotations.as_ref());
    let mut last: Option<Fingerprint> = None;
    let mut needs = v2_items::needs_within(sealed, ring, meter)?;
    for (item, text) in v1_items(sealed) {
        let Ok(value) = sealed_text::decode(text) else {
            needs.insert(item.to_owned(), Need::Nothing);
            continue;
        };
        let first: Vec<&Fingerprint> = hints.get(item).into_iter().chain(last.as_ref()).collect();
        let need = match ring.open_within(&label, &value, &first, meter) {
            Ok((_, key)) => Need::Key(key.fingerprint().clone()),
            Err(UnsealFailure::NoKey(_)) => {
                Need::Undecided(envelope::modulus_len(&value).unwrap_or_default())
            }
            Err(UnsealFailure::Interrupted(why)) => return Err(why),
        };
        if let Need::Key(key) = &need {
            last = Some(key.clone());
        }
        needs.insert(item.to_owned(), need);
    }
    Ok(needs)
}

/// Returns the key that each item needs, by item key, without trying a key. v2 items name their keys. For v1 items,
/// uses the status of this generation or, if there is none, the annotation. The result is not evidence, since clients
/// that may write the status or the object can forge it.
///
/// Returns `None` if a v2 entry is malformed, or if a sealed value names no key of the ring. Also returns `None` if a
/// v1 value was sealed for a key of another size than the named key.
pub fn from_metadata(sealed: &SealedSecret, ring: &KeyRing) -> Option<BTreeMap<String, Need>> {
    let mut hints = hints::read(sealed.metadata.annotations.as_ref());
    if let Some(status) = &sealed.status
        && status.observed_generation == sealed.metadata.generation
    {
        for item in &status.items {
            if let Some(Ok(key)) = item.sealed_by.as_ref().map(|key| key.parse()) {
                hints.insert(item.key.clone(), key);
            }
        }
    }
    let need = |(item, text): (&str, &str)| {
        let Ok(value) = sealed_text::decode(text) else {
            return Some((item.to_owned(), Need::Nothing));
        };
        let key = ring.key(hints.get(item)?)?;
        let is_matching_size = envelope::modulus_len(&value) == Some(key.private().modulus_len());
        is_matching_size.then(|| (item.to_owned(), Need::Key(key.fingerprint().clone())))
    };
    let v2_needs = v2_items::needs_by_name(sealed, ring)?;
    let v1_needs = v1_items(sealed).map(need);
    v2_needs.into_iter().map(Some).chain(v1_needs).collect()
}

/// Returns the item key and the string of each v1 item, including the deprecated `spec.data`.
fn v1_items(sealed: &SealedSecret) -> impl Iterator<Item = (&str, &str)> {
    let legacy = sealed.spec.data.as_deref().map(|data| (LEGACY_ITEM, data));
    let encrypted_data = &sealed.spec.encrypted_data;
    let is_mixed = v2::is_v2(encrypted_data);
    let items = encrypted_data.iter();
    items
        .map(|(key, text)| (key.as_str(), text.as_str()))
        .filter(move |(key, text)| !is_mixed || v2::is_v1_item(key, text))
        .chain(legacy)
}

/// A scope, namespace and name for which a value may have been sealed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScopedName {
    /// The scope that the value may have been sealed with.
    pub scope: Scope,
    /// The namespace; irrelevant for cluster-wide scope.
    pub namespace: String,
    /// The name; relevant only for strict scope.
    pub name: String,
}

/// The result of trying keys on an item: why it cannot be unsealed, or the key that unseals it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// This key unseals the item.
    Opens(Fingerprint),
    /// The item was sealed with this key for another name, namespace or scope.
    Elsewhere(ScopedName, Fingerprint),
    /// The item was sealed for this key and changed afterwards.
    Damaged(Fingerprint),
    /// The string is not a sealed value.
    NotSealed(NotSealed),
    /// The item was sealed for a key with this many bits, and the ring has no key of that size.
    NoKeyOfSize(usize),
    /// No key of the ring unseals the item under any of the scoped names, or a key outside this process is unavailable.
    Unknown,
    /// This key, which is only for v2, unseals the item.
    OpensV2(ShortKeyId),
    /// The item is v2, and the object's v2 items were sealed for another name, namespace or scope.
    MovedV2(ScopedName),
    /// The item is v2, and the object is refused, possibly because of another item.
    Refused(Box<v2::Refusal>),
}

/// Returns, by item key, the key that unseals each item, or the reason why no key does. Tries the scope, namespace and
/// name of the object first, then `scoped_names` in order.
pub fn examine(
    sealed: &SealedSecret,
    ring: &KeyRing,
    scoped_names: &[ScopedName],
) -> BTreeMap<String, Reason> {
    let own = own_scoped_name(sealed);
    let mut reasons = v2_items::examine(sealed, ring, scoped_names);
    reasons.extend(
        v1_items(sealed)
            .map(|(item, text)| (item.to_owned(), reason(text, ring, &own, scoped_names))),
    );
    reasons
}

/// Returns the scope, namespace and name that the object declares.
pub fn own_scoped_name(sealed: &SealedSecret) -> ScopedName {
    ScopedName {
        scope: Scope::from_annotations(sealed.metadata.annotations.as_ref()),
        namespace: sealed.namespace_or_empty().to_owned(),
        name: sealed.name_or_empty().to_owned(),
    }
}

fn reason(text: &str, ring: &KeyRing, own: &ScopedName, scoped_names: &[ScopedName]) -> Reason {
    let value = match sealed_text::decode(text) {
        Ok(value) => value,
        Err(why) => return Reason::NotSealed(why),
    };
    let len = envelope::modulus_len(&value).unwrap_or_default();
    let has_matching_size =
        |key: &&std::sync::Arc<crate::key_ring::RingKey>| key.private().modulus_len() == len;
    if !ring.keys().iter().any(|key| has_matching_size(&key)) {
        return Reason::NoKeyOfSize(len * 8);
    }
    for scoped_name in std::iter::once(own).chain(scoped_names) {
        let label = scoped_name
            .scope
            .label(&scoped_name.namespace, &scoped_name.name);
        for key in ring.keys().iter().filter(has_matching_size) {
            let fingerprint = || key.fingerprint().clone();
            match envelope::examine(key.private(), &label, &value) {
                Finding::Closed => {}
                Finding::Damaged => return Reason::Damaged(fingerprint()),
                Finding::Opens if scoped_name == own => return Reason::Opens(fingerprint()),
                Finding::Opens => return Reason::Elsewhere(scoped_name.clone(), fingerprint()),
            }
        }
    }
    Reason::Unknown
}

/// Returns the scoped names that are worth trying for an object, in addition to its own: every scope with each of these
/// namespaces and names. The namespace and name of the object come first.
pub fn likely_scoped_names(
    sealed: &SealedSecret,
    namespaces: &[String],
    names: &[String],
) -> Vec<ScopedName> {
    let own = own_scoped_name(sealed);
    let own_and_others = |own: &String, others: &[String]| -> Vec<String> {
        let mut values = vec![own.clone()];
        values.extend(others.iter().filter(|other| *other != own).cloned());
        values
    };
    let (namespaces, names) = (
        own_and_others(&own.namespace, namespaces),
        own_and_others(&own.name, names),
    );
    let scoped_name = |scope, namespace: &str, name: &str| ScopedName {
        scope,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let mut scoped_names = vec![scoped_name(Scope::ClusterWide, "", "")];
    for namespace in &namespaces {
        scoped_names.push(scoped_name(Scope::NamespaceWide, namespace, ""));
        let strict = names
            .iter()
            .map(|name| scoped_name(Scope::Strict, namespace, name));
        scoped_names.extend(strict);
    }
    scoped_names.retain(|scoped_name| *scoped_name != own);
    scoped_names
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::base64;
    use crate::key::{KeyPair, new_test_key};
    use crate::key_ring::RingKey;
    use crate::plain::Plain;
    use crate::resource::{ItemStatus, SealedSecretStatus};
    use crate::seal::seal;
    use crate::secret::Secret;

    fn ring_key(second: i64) -> Arc<RingKey> {
        let pair: KeyPair = new_test_key(second).pair;
        let time = Timestamp::from_second(second).unwrap();
        Arc::new(RingKey::new(format!("k{second}"), time, pair))
    }

    fn seal_item(
        key: &RingKey,
        scope: Scope,
        namespace: &str,
        name: &str,
        item: &str,
    ) -> SealedSecret {
        let mut secret = Secret::default();
        secret.metadata.namespace = Some(namespace.into());
        secret.metadata.name = Some(name.into());
        scope.annotate(secret.metadata.annotations.get_or_insert_default());
        secret
            .data
            .insert(item.into(), Plain::from("value".to_owned()));
        let public = key.certificate().unwrap().public_key();
        seal(&secret, public, &mut StdRng::seed_from_u64(1)).unwrap()
    }

    fn damage(sealed: &mut SealedSecret, item: &str) {
        let text = sealed.spec.encrypted_data.get_mut(item).unwrap();
        let mut bytes = base64::decode(text.as_bytes()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        *text = base64::encode(&bytes);
    }

    #[test]
    fn each_item_of_an_object_sealed_by_several_keys_needs_its_own_key() {
        let (old, new) = (ring_key(1), ring_key(2));
        let mut object = seal_item(&old, Scope::Strict, "ns", "n", "a");
        object.spec.encrypted_data.extend(
            seal_item(&new, Scope::Strict, "ns", "n", "b")
                .spec
                .encrypted_data,
        );
        object.spec.encrypted_data.extend(
            seal_item(&new, Scope::Strict, "ns", "other", "c")
                .spec
                .encrypted_data,
        );
        object.spec.encrypted_data.insert("d".into(), "!".into());
        let ring = KeyRing::new([old.clone(), new.clone()]);
        let needs_by_item = needs(&object, &ring);
        let key = |key: &RingKey| Need::Key(key.fingerprint().clone());
        assert_eq!(needs_by_item["a"], key(&old));
        assert_eq!(needs_by_item["b"], key(&new));
        let len = old.private().modulus_len();
        assert_eq!(needs_by_item["c"], Need::Undecided(len));
        assert_eq!(needs_by_item["d"], Need::Nothing);
        assert!(
            needs_by_item["c"].may_require_key(old.fingerprint(), len),
            "an undecided item may need it"
        );
        assert!(
            !needs_by_item["c"].may_require_key(old.fingerprint(), len * 2),
            "an undecided item cannot need a key of another size"
        );
        assert!(needs_by_item["a"].may_require_key(old.fingerprint(), len));
        assert!(!needs_by_item["a"].may_require_key(new.fingerprint(), len));
        assert!(!needs_by_item["d"].may_require_key(old.fingerprint(), len));
    }

    #[test]
    fn reports_the_size_of_a_missing_key() {
        let own_key = ring_key(1);
        let mut object = seal_item(&own_key, Scope::Strict, "ns", "n", "a");
        let for_4096_bits = [&[2, 0][..], &[7; 512 + 32]].concat();
        let text = base64::encode(&for_4096_bits);
        object.spec.encrypted_data.insert("b".into(), text);
        let reasons = examine(&object, &KeyRing::new([own_key.clone()]), &[]);
        assert_eq!(reasons["a"], Reason::Opens(own_key.fingerprint().clone()));
        assert_eq!(reasons["b"], Reason::NoKeyOfSize(4096));
    }

    #[test]
    fn reports_why_an_item_cannot_be_unsealed() {
        let (own_key, other_key) = (ring_key(1), ring_key(2));
        let ring = KeyRing::new([own_key.clone()]);
        let moved_object = |scope, namespace: &str, name: &str| {
            let mut object = seal_item(&own_key, scope, namespace, name, "a");
            object.metadata.namespace = Some("ns".into());
            object.metadata.name = Some("n".into());
            Scope::Strict.annotate(object.metadata.annotations.get_or_insert_default());
            object
        };
        let mut damaged = seal_item(&own_key, Scope::Strict, "ns", "n", "a");
        damage(&mut damaged, "a");
        let mut malformed = damaged.clone();
        malformed
            .spec
            .encrypted_data
            .insert("a".into(), "AAAA".into());
        let scoped_name = |scope, namespace: &str, name: &str| ScopedName {
            scope,
            namespace: namespace.into(),
            name: name.into(),
        };
        let fingerprint = own_key.fingerprint().clone();
        for (why, object, want) in [
            (
                "can be unsealed",
                seal_item(&own_key, Scope::Strict, "ns", "n", "a"),
                Reason::Opens(fingerprint.clone()),
            ),
            (
                "renamed",
                moved_object(Scope::Strict, "ns", "old"),
                Reason::Elsewhere(scoped_name(Scope::Strict, "ns", "old"), fingerprint.clone()),
            ),
            (
                "moved",
                moved_object(Scope::Strict, "test", "n"),
                Reason::Elsewhere(scoped_name(Scope::Strict, "test", "n"), fingerprint.clone()),
            ),
            (
                "scope lost",
                moved_object(Scope::NamespaceWide, "ns", "x"),
                Reason::Elsewhere(
                    scoped_name(Scope::NamespaceWide, "ns", ""),
                    fingerprint.clone(),
                ),
            ),
            (
                "scope lost",
                moved_object(Scope::ClusterWide, "y", "x"),
                Reason::Elsewhere(scoped_name(Scope::ClusterWide, "", ""), fingerprint.clone()),
            ),
            ("damaged", damaged, Reason::Damaged(fingerprint.clone())),
            (
                "not a sealed value",
                malformed,
                Reason::NotSealed(sealed_text::decode("AAAA").unwrap_err()),
            ),
            (
                "another key",
                seal_item(&other_key, Scope::Strict, "ns", "n", "a"),
                Reason::Unknown,
            ),
        ] {
            let scoped_names = likely_scoped_names(&object, &["test".into()], &["old".into()]);
            assert_eq!(examine(&object, &ring, &scoped_names)["a"], want, "{why}");
        }
    }

    /// Attack: an author names a key of another size, or a key that does not exist, so that the removal of the needed
    /// key looks harmless.
    #[test]
    fn trusts_a_named_key_only_if_it_is_in_the_ring_and_of_the_right_size() {
        let (own_key, other_key) = (ring_key(1), ring_key(2));
        let ring = KeyRing::new([Arc::clone(&own_key)]);
        let mut object = seal_item(&own_key, Scope::Strict, "ns", "n", "a");
        let name_key = |object: &mut SealedSecret, key: &Fingerprint| {
            let annotations = object.metadata.annotations.get_or_insert_default();
            hints::annotate(annotations, &[("a".to_owned(), key.clone())].into());
        };
        object.metadata.annotations = None;
        assert_eq!(from_metadata(&object, &ring), None, "no key is named");
        name_key(&mut object, own_key.fingerprint());
        let need = Need::Key(own_key.fingerprint().clone());
        assert_eq!(from_metadata(&object, &ring).unwrap()["a"], need);
        name_key(&mut object, other_key.fingerprint());
        assert_eq!(from_metadata(&object, &ring), None, "not in the ring");
        name_key(&mut object, own_key.fingerprint());
        let text = object.spec.encrypted_data.get_mut("a").unwrap();
        let mut bytes = base64::decode(text.as_bytes()).unwrap();
        bytes[1] = 1;
        *text = base64::encode(&bytes);
        assert_eq!(from_metadata(&object, &ring), None, "of another size");
    }

    #[test]
    fn ignores_keys_in_the_status_of_another_generation() {
        let own_key = ring_key(1);
        let ring = KeyRing::new([Arc::clone(&own_key)]);
        let mut object = seal_item(&own_key, Scope::Strict, "ns", "n", "a");
        object.metadata.annotations = None;
        object.metadata.generation = Some(2);
        let item = ItemStatus {
            key: "a".into(),
            sealed_by: Some(own_key.fingerprint().to_string()),
            error: None,
        };
        for (generation, is_named) in [(1, false), (2, true)] {
            object.status = Some(SealedSecretStatus {
                observed_generation: Some(generation),
                items: vec![item.clone()],
                ..SealedSecretStatus::default()
            });
            assert_eq!(
                from_metadata(&object, &ring).is_some(),
                is_named,
                "{generation}"
            );
        }
    }
}
