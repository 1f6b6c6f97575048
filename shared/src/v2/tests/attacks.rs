//! Attacks on the format that require more than changing entries.

use super::data_key::DataKey;
use super::header::{Fields, Header};
use super::*;
use crate::envelope;
use crate::scope::Label;

fn label() -> Label {
    Scope::Strict.label("shop", "db")
}

/// Attack: an author stores the RSA block of a v2 stanza as a v1 value, and has the controller open it. Both use the
/// same key; the cluster-wide label of v1 equals the empty label of v2.
#[test]
fn the_rsa_block_of_a_stanza_does_not_open_as_a_v1_value() {
    let entries = sealed_for(&[Suite::Rsa]);
    let stanza = entries
        .keys()
        .find(|name| name.matches('/').count() == 3)
        .unwrap();
    let (_, bytes) = text::decode(&entries[stanza]).unwrap();
    let block = &bytes[20..];
    assert_eq!(block.len(), KEYS.rsa.modulus_len());
    let cluster_wide = Scope::ClusterWide.label("", "");
    let v1 = [&[1, 0][..], block, &[0; 32]].concat();
    assert!(envelope::open(&KEYS.rsa, &cluster_wide, &v1).is_err());
    assert_eq!(
        envelope::examine(&KEYS.rsa, &cluster_wide, &v1),
        envelope::Finding::Closed,
        "no session key has this length"
    );
}

/// Attack: an author stores the RSA block of a v1 value as a v2 stanza, so that the session key of the value is used as
/// a data key.
#[test]
fn the_rsa_block_of_a_v1_value_does_not_open_a_lock() {
    for label in [label(), Scope::ClusterWide.label("", "")] {
        let v1 = envelope::seal(KEYS.rsa.public_key(), &label, b"x", &mut rng()).unwrap();
        let mut entries = sealed_for(&[Suite::Rsa]);
        let stanza = entries
            .keys()
            .find(|name| name.matches('/').count() == 3)
            .unwrap()
            .clone();
        change(&mut entries, &stanza, |bytes| {
            bytes.splice(20.., v1[2..258].to_vec()).for_each(drop);
        });
        assert_eq!(
            reason(&object(entries), &keys_of(&[Suite::Rsa])),
            Some(Reason::Tampered)
        );
    }
}

/// Attack: a reader continues with a constant if a data key cannot be unwrapped. An author commits a header to this
/// constant, seals a value with it, and adds a stanza that no key can unwrap: the lock then opens for every key.
#[test]
fn a_lock_for_the_substitute_key_does_not_open() {
    for suite in Suite::ALL {
        let entries = inline_item_for(&DataKey::from_slice(&[0; 32]).unwrap(), suite);
        let refusal = open_object(&object(entries), &keys_of(&[suite])).unwrap_err();
        assert_eq!(refusal.reason(), Reason::Tampered, "{suite}");
    }
}

/// Returns an inline item that is sealed with this data key, with an invalid stanza.
fn inline_item_for(key: &DataKey, suite: Suite) -> BTreeMap<String, String> {
    let header = key.commit(fields(suite), &place()).unwrap();
    let id = KEYS.opener(suite).key_id().short();
    let wrapped = match suite {
        Suite::XWing => vec![9; 1168],
        Suite::P256 => vec![9; 113],
        Suite::Rsa => vec![9; 256],
    };
    let suite = suite.code();
    let stanza = stanza::Stanza {
        suite,
        key: id,
        wrapped,
    };
    let lock = lock::Lock::new(header, BTreeMap::from([(id, stanza)])).unwrap();
    let value = &values(&[("a", "forged")])["a"];
    let item = sealed_box::ItemKey::derive(key, &lock.header.commitment, "a").unwrap();
    let sealed = sealed_box::SealedBox::seal(&item, value, &mut rng()).unwrap();
    BTreeMap::from([("a".into(), seal::inline_entry(&lock, &sealed))])
}

fn fields(suite: Suite) -> Fields {
    Fields {
        template: None,
        is_post_quantum_only: suite.is_post_quantum(),
        is_never_secret: false,
        is_alone: false,
        scope: Scope::Strict,
        revision: 7,
        place: place().digest(),
    }
}

/// Attack: an author creates a header whose commitment also fits another data key, other fields or another place, so
/// that two recipients read different values. The commitment covers the data key, the fields and the place.
#[test]
fn the_commitment_depends_on_key_fields_and_place() {
    let (one, other) = (
        DataKey::from_slice(&[1; 32]).unwrap(),
        DataKey::from_slice(&[2; 32]).unwrap(),
    );
    let commitment = |key: &DataKey, change: fn(&mut Fields), place: &Place| {
        let mut fields = fields(Suite::XWing);
        change(&mut fields);
        *key.commitment(&fields, place).unwrap()
    };
    let elsewhere = Place::of(Scope::Strict, "shop", "web").unwrap();
    let base = commitment(&one, |_| (), &place());
    for changed in [
        commitment(&other, |_| (), &place()),
        commitment(&one, |_| (), &elsewhere),
        commitment(&one, |fields| fields.revision += 1, &place()),
        commitment(&one, |fields| fields.is_never_secret = true, &place()),
        commitment(&one, |fields| fields.is_alone = true, &place()),
        commitment(
            &one,
            |fields| fields.template = Some(TemplateDigest::from_bytes([7; 32])),
            &place(),
        ),
        commitment(&one, |fields| fields.is_post_quantum_only = false, &place()),
        commitment(&one, |fields| fields.scope = Scope::ClusterWide, &place()),
    ] {
        assert_ne!(changed, base);
    }
}

/// Attack: an author adds a stanza with another data key for a second recipient to a lock, so that both recipients read
/// different values.
#[test]
fn refuses_a_second_data_key_under_one_header() {
    let suites = [Suite::XWing, Suite::P256];
    let mut entries = sealed_for(&suites);
    let parsed = Object::parse(&entries).unwrap();
    let header: &Header = &parsed.locks[0].header;
    let second = DataKey::from_slice(&[4; 32]).unwrap();
    let recipient = KEYS.recipient(Suite::P256);
    let stanza =
        lock::Lock::new_stanza(header, &second, &place(), &*recipient, &mut rng()).unwrap();
    entries.extend([seal::stanza_entry(header.lock_id(), &stanza)]);
    let sealed = object(entries);
    assert_eq!(reason(&sealed, &keys_of(&[Suite::XWing])), None);
    assert_eq!(
        reason(&sealed, &keys_of(&[Suite::P256])),
        Some(Reason::Tampered)
    );
}

/// After a private key was used, the only reason is `Tampered`, with the same text for every cause.
#[test]
fn every_failure_after_the_private_key_has_the_same_text() {
    for suite in Suite::ALL {
        let texts: std::collections::BTreeSet<String> = damages()
            .into_iter()
            .map(|damage| {
                let mut entries =
                    BTreeMap::from([("a".to_owned(), inline_for(&[suite], "a", "b"))]);
                change(&mut entries, "a", damage);
                let refusal = open_object(&object(entries), &keys_of(&[suite])).unwrap_err();
                refusal.to_string()
            })
            .collect();
        assert_eq!(texts.len(), 1, "{suite}: {texts:?}");
    }
}

/// Returns changes to the commitment, the encapsulation, the wrapped key, the nonce, the box and the tag of an inline
/// item.
fn damages() -> Vec<fn(&mut Vec<u8>)> {
    let header = 59 + 1 + 20;
    assert_eq!(header, 80);
    vec![
        |bytes| bytes[58] ^= 1,
        |bytes| bytes[90] ^= 1,
        |bytes| {
            let last = bytes.len() - 60 - 1;
            bytes[last] ^= 1;
        },
        |bytes| {
            let nonce = bytes.len() - 60;
            bytes[nonce] ^= 1;
        },
        |bytes| {
            let middle = bytes.len() - 30;
            bytes[middle] ^= 1;
        },
        |bytes| *bytes.last_mut().unwrap() ^= 1,
    ]
}

/// `Debug` of an opened object shows no plaintext and no value identifier.
#[test]
fn debug_shows_no_value() {
    let opened = open_object(
        &object(sealed_for(&[Suite::P256])),
        &keys_of(&[Suite::P256]),
    )
    .unwrap();
    let shown = format!("{opened:?}");
    assert!(
        !shown.contains("hunter2") && shown.contains("Plain(…)") && shown.contains("ValueId(…)")
    );
}

#[test]
fn an_object_is_v2_only_by_its_names_or_values() {
    let entries = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    assert!(!is_v2(&BTreeMap::new()));
    assert!(!is_v2(&entries("a", "AgB=")));
    assert!(!is_v2(&entries("/a", "AgB=")));
    assert!(is_v2(&entries("a", "seal2.")));
    assert!(is_v2(&entries("/lock/x", "")));
}
