//! Tests single values: every scope, every key size, every kind of content.

use shared::{
    envelope,
    scope::{Label, Scope},
};

use super::{
    UPSTREAM,
    keys::{KEYS, TestKey},
};

/// Returns the name and the bytes of each kind of content.
pub(crate) fn contents() -> [(&'static str, Vec<u8>); 4] {
    let mebibyte =
        (0..1024 * 1024_u32).map(|i| u8::try_from(i.wrapping_mul(2_654_435_761) >> 24).unwrap());
    [
        ("nothing", Vec::new()),
        ("one byte", vec![0]),
        (
            "bytes that are not UTF-8",
            vec![0xff, 0xfe, 0x00, 0xc3, 0x28, b'\n'],
        ),
        ("a mebibyte", mebibyte.collect()),
    ]
}

/// Calls `check` for every key with every scope and content, and passes a description of the combination.
pub(crate) fn for_every_combination(check: impl Fn(&TestKey, &Label, &[u8], &str)) {
    for key in KEYS.iter() {
        for scope in Scope::ALL {
            let label = scope.label("some-namespace", "some-name");
            for (kind, content) in contents() {
                check(
                    key,
                    &label,
                    &content,
                    &format!("{kind}, {scope:?}, {}", key.description),
                );
            }
        }
    }
}

#[test]
fn opens_every_value_that_upstream_sealed() {
    for_every_combination(|key, label, content, combination| {
        let sealed = UPSTREAM
            .seal_value(&key.certificate, label.as_bytes(), content)
            .unwrap();
        let plaintext = envelope::open(key.pair.private(), label, &sealed).expect(combination);
        assert!(plaintext.expose() == content, "{combination}");
    });
}

#[test]
fn seals_every_value_so_that_upstream_opens_it() {
    for_every_combination(|key, label, content, combination| {
        let public = key.pair.certificate().public_key();
        let sealed = envelope::seal(public, label, content, &mut shared::random::system())
            .expect(combination);
        let plaintext = UPSTREAM
            .open_value(&[&key.private], label.as_bytes(), &sealed)
            .expect(combination);
        assert!(plaintext == content, "{combination}");
    });
}

#[test]
fn neither_implementation_opens_a_value_of_the_other_under_another_label() {
    let key = &KEYS[0];
    let labels = Scope::ALL.map(|scope| scope.label("ns", "name"));
    for (sealed_index, label) in labels.iter().enumerate() {
        let public = key.pair.certificate().public_key();
        let own_ciphertext =
            envelope::seal(public, label, b"value", &mut shared::random::system()).unwrap();
        let upstream_ciphertext = UPSTREAM
            .seal_value(&key.certificate, label.as_bytes(), b"value")
            .unwrap();
        for (opened_index, other) in labels.iter().enumerate() {
            let can_open = UPSTREAM
                .open_value(&[&key.private], other.as_bytes(), &own_ciphertext)
                .is_ok();
            assert_eq!(
                can_open,
                sealed_index == opened_index,
                "upstream, {label:?} under {other:?}"
            );
            let can_open = envelope::open(key.pair.private(), other, &upstream_ciphertext).is_ok();
            assert_eq!(
                can_open,
                sealed_index == opened_index,
                "shared, {label:?} under {other:?}"
            );
        }
    }
}
