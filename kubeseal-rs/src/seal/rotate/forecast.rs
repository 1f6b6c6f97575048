//! Forecasts which values `seal rotate` would re-encrypt, with as few private-key operations as possible: a value of
//! another size is not sealed for the new key; a hint names the key of its item; and on each remaining item, only the
//! new private key is tried.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use shared::key::{Certificate, Fingerprint};
use shared::key_ring::KeyRing;
use shared::needs::{LEGACY_ITEM, Need, needs};
use shared::resource::SealedSecret;
use shared::{base64, envelope, hints};

/// The expected result for one object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Forecast {
    /// Items that would be re-encrypted.
    pub(super) rotated: Vec<String>,
    /// The number of re-encrypted items per old key, as far as hints name it.
    pub(super) from: BTreeMap<Fingerprint, usize>,
    /// Items that are for the new key according to their hint alone.
    pub(super) current_by_hint: Vec<String>,
    /// Why the object cannot be re-encrypted.
    pub(super) problem: Option<String>,
}

/// The keys that can unseal the old values, and the certificate to re-encrypt them for.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    pub(super) ring: &'a KeyRing,
    pub(super) certificate: &'a Certificate,
}

/// The state of one value, as far as known without the new private key.
#[derive(PartialEq, Eq)]
enum State {
    Old,
    Current,
    CurrentByHint,
    /// Only the new private key can show whether the value is sealed for it.
    Unknown,
    /// No key can unseal the value, with the reason.
    CannotUnseal(String),
}

pub(super) fn forecast(sealed: &SealedSecret, keys: Keys<'_>) -> Forecast {
    let hints = hints::read(sealed.metadata.annotations.as_ref());
    let legacy = sealed.spec.data.as_ref().map(|data| (LEGACY_ITEM, data));
    let items = sealed.spec.encrypted_data.iter();
    let items = items
        .map(|(item, text)| (item.as_str(), text))
        .chain(legacy);
    let states: Vec<_> = items
        .map(|(item, text)| (item, state(text, hints.get(item), keys)))
        .collect();
    let unknown = states.iter().filter(|(_, state)| *state == State::Unknown);
    let current = unsealable_items(sealed, &unknown.map(|(item, _)| *item).collect(), keys);
    let mut forecast = Forecast::default();
    for (item, state) in states {
        let hint = hints.get(item);
        match state {
            State::Current => {}
            State::Unknown if current.contains(item) => {}
            State::CurrentByHint => forecast.current_by_hint.push(item.to_owned()),
            State::CannotUnseal(why) => {
                forecast.problem.get_or_insert(format!("{item}: {why}"));
            }
            State::Old | State::Unknown => {
                forecast.rotated.push(item.to_owned());
                if let Some(hint) = hint {
                    *forecast.from.entry(hint.clone()).or_default() += 1;
                }
            }
        }
    }
    if forecast.problem.is_some() {
        // An object is re-encrypted completely or not at all.
        forecast.rotated.clear();
        forecast.from.clear();
    }
    forecast
}

fn state(text: &str, hint: Option<&Fingerprint>, keys: Keys<'_>) -> State {
    let Keys { ring, certificate } = keys;
    let current = certificate.fingerprint();
    let Ok(bytes) = base64::decode(text.as_bytes()) else {
        return State::CannotUnseal("its value is not base64".to_owned());
    };
    match envelope::modulus_len(&bytes) {
        None | Some(0) => {
            return State::CannotUnseal("its value is truncated or was never sealed".to_owned());
        }
        Some(len) if len != certificate.public_key().modulus_len() => return State::Old,
        Some(_) => {}
    }
    match (hint, ring.key(current)) {
        (Some(hint), Some(_)) if hint == current => State::Current,
        (Some(hint), None) if hint == current => State::CurrentByHint,
        (None, Some(_)) => State::Unknown,
        _ => State::Old,
    }
}

/// Returns the items that the new private key can unseal, with one private-key operation per item.
fn unsealable_items(
    sealed: &SealedSecret,
    items: &BTreeSet<&str>,
    keys: Keys<'_>,
) -> BTreeSet<String> {
    let new = keys.ring.key(keys.certificate.fingerprint());
    let Some(new) = new.filter(|_| !items.is_empty()) else {
        return BTreeSet::new();
    };
    let mut unknown = sealed.clone();
    let texts = &mut unknown.spec.encrypted_data;
    texts.retain(|item, _| items.contains(item.as_str()));
    unknown.spec.data = unknown.spec.data.filter(|_| items.contains(LEGACY_ITEM));
    let needs = needs(&unknown, &KeyRing::new([Arc::clone(new)])).into_iter();
    let unsealable = needs.filter(|(_, need)| matches!(need, Need::Key(_)));
    unsealable.map(|(item, _)| item).collect()
}

#[cfg(test)]
mod tests {
    use shared::manifest::{self, Reading};
    use shared::plain::Plain;
    use shared::secret::Secret;

    use super::*;
    use crate::command::read_keys;

    const FIXTURES: &str = "tests/seal";

    fn certificate(path: &str) -> Certificate {
        let pem = std::fs::read(format!("{FIXTURES}/{path}")).unwrap();
        Certificate::from_pem(&pem).unwrap()
    }

    fn ring(paths: &[&str]) -> KeyRing {
        let paths: Vec<_> = paths
            .iter()
            .map(|path| format!("{FIXTURES}/{path}").into())
            .collect();
        read_keys(&paths).unwrap()
    }

    fn sealed_object(certificate: &Certificate, has_hint: bool) -> SealedSecret {
        let mut secret = Secret::default();
        secret.metadata.name = Some("db".into());
        secret.metadata.namespace = Some("shop".into());
        secret.data.insert("a".into(), Plain::from("b".to_owned()));
        let mut random = shared::random::system();
        let mut sealed =
            shared::seal::seal(&secret, certificate.public_key(), &mut random).unwrap();
        if has_hint {
            let hints = [("a".to_owned(), certificate.fingerprint().clone())];
            let annotations = sealed.metadata.annotations.get_or_insert_default();
            hints::annotate(annotations, &hints.into_iter().collect());
        }
        sealed
    }

    const OLD: (&str, &str) = ("fixtures/cert.pem", "fixtures/key.pem");
    const NEW: (&str, &str) = (
        "key-fixtures/key-2025.pem",
        "key-fixtures/state/keys/key-2025.yaml",
    );
    /// A certificate for a key of 3072 bits.
    const OTHER: &str = "fixtures/other.pem";

    #[test]
    fn forecasts_the_result_of_rotate() {
        let (both, old) = (ring(&[OLD.1, NEW.1]), ring(&[OLD.1]));
        for (why, ring, sealed_for, has_hint, want) in [
            ("old, hinted", &both, OLD.0, true, "rotated"),
            ("old", &both, OLD.0, false, "rotated"),
            ("new, hinted", &both, NEW.0, true, "current"),
            ("new", &both, NEW.0, false, "current"),
            (
                "new, hinted, without its key",
                &old,
                NEW.0,
                true,
                "current_by_hint",
            ),
            ("another size", &both, OTHER, false, "rotated"),
        ] {
            let new = certificate(NEW.0);
            let sealed = sealed_object(&certificate(sealed_for), has_hint);
            let result = forecast(
                &sealed,
                Keys {
                    ring,
                    certificate: &new,
                },
            );
            let outcome = match &result {
                Forecast {
                    problem: Some(_), ..
                } => "problem",
                Forecast { rotated, .. } if !rotated.is_empty() => "rotated",
                Forecast {
                    current_by_hint, ..
                } if !current_by_hint.is_empty() => "current_by_hint",
                _ => "current",
            };
            assert_eq!(outcome, want, "{why}: {result:?}");
            assert_eq!(
                result.from.len(),
                usize::from(want == "rotated" && has_hint),
                "{why}"
            );
        }
    }

    #[test]
    fn an_invalid_value_fails_the_whole_object() {
        let text = "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\nspec: {encryptedData: {a: '*'}}\n";
        let documents = manifest::read(text.as_bytes()).unwrap();
        let sealed = SealedSecret::from_node(&documents[0].root, &mut Reading::default()).unwrap();
        let (ring, certificate) = (ring(&[OLD.1]), certificate(NEW.0));
        let keys = Keys {
            ring: &ring,
            certificate: &certificate,
        };
        let problem = forecast(&sealed, keys).problem;
        assert_eq!(problem.as_deref(), Some("a: its value is not base64"));
    }
}
