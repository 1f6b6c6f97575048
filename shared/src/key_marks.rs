//! Marks on a key Secret: when the key was backed up, and whether it is compromised or opening-only.
//!
//! The backup mark contains the fingerprint of the key, or the key id of a v2 key. So the backup mark has no effect on
//! another key: if it was copied to another Secret, or remained when the key in its Secret was replaced.

use std::fmt::Display;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::key::Fingerprint;
use crate::key_secret;
use crate::resource::{
    BACKED_UP_ANNOTATION, COMPROMISED_ANNOTATION, KEY_COMPROMISED, KEY_LABEL,
    OPENING_ONLY_ANNOTATION, V2_KEY_LABEL,
};
use crate::v2::KeyId;

/// The marks of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// The last time this key was backed up: written to an archive that was verified by reading it back.
    pub backed_up: Option<Timestamp>,
    /// Whether the key is marked as compromised: its private key may be known to an attacker.
    pub is_compromised: bool,
    /// Whether the key is opening-only: it unseals and must not seal. A restored key has this mark until an
    /// administrator chooses the key for sealing, because a backup does not prove who created a key, and the creator of
    /// a key can read all values that are sealed for it.
    pub is_opening_only: bool,
}

impl Marks {
    /// Reads the marks of the Secret that contains this RSA key.
    pub fn read(metadata: &ObjectMeta, key: &Fingerprint) -> Self {
        let is_same = |text: &str| text.parse::<Fingerprint>().is_ok_and(|f| f == *key);
        Self::read_with(metadata, KEY_LABEL, is_same)
    }

    /// Reads the marks of the Secret that contains this v2 key.
    pub fn read_v2(metadata: &ObjectMeta, key: &KeyId) -> Self {
        Self::read_with(metadata, V2_KEY_LABEL, |text| text == key.to_string())
    }

    fn read_with(metadata: &ObjectMeta, label: &str, is_same: impl Fn(&str) -> bool) -> Self {
        let annotation = |name| metadata.annotations.as_ref().and_then(|a| a.get(name));
        let label = metadata.labels.as_ref().and_then(|l| l.get(label));
        Self {
            backed_up: annotation(BACKED_UP_ANNOTATION)
                .and_then(|text| backed_up_at(text, is_same)),
            is_compromised: annotation(COMPROMISED_ANNOTATION).is_some()
                || label.is_some_and(|value| value == KEY_COMPROMISED),
            is_opening_only: annotation(OPENING_ONLY_ANNOTATION).is_some(),
        }
    }

    /// Returns whether a mark prevents the key from sealing, regardless of its backup.
    pub fn is_sealing_forbidden(&self) -> bool {
        self.is_compromised || self.is_opening_only
    }
}

/// Returns the value of [`BACKED_UP_ANNOTATION`]: the fingerprint or [`KeyId`], a space, and the time in RFC 3339
/// without fractions of a second.
pub fn backed_up_text(key: &impl Display, time: Timestamp) -> String {
    let time = Timestamp::from_second(time.as_second()).unwrap_or(time);
    format!("{key} {time}")
}

fn backed_up_at(text: &str, is_same: impl Fn(&str) -> bool) -> Option<Timestamp> {
    let (key, time) = text.split_once(' ')?;
    is_same(key).then(|| time.parse().ok()).flatten()
}

/// The state of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// New values are sealed for this key.
    Sealing,
    /// The key only unseals existing values.
    Opening,
    /// The key unseals, and will seal once it is backed up.
    Waiting,
    /// The key is compromised: it unseals and never seals.
    Compromised,
    /// The controller does not load the key.
    Retired,
    /// The Secret contains no usable key.
    Broken,
}

impl KeyState {
    /// Returns the name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sealing => "sealing",
            Self::Opening => "opening",
            Self::Waiting => "waiting",
            Self::Compromised => "compromised",
            Self::Retired => "retired",
            Self::Broken => "broken",
        }
    }
}

/// The properties of a key Secret that determine its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyProperties {
    /// Fingerprint of the key; `None` if the Secret contains no usable key.
    pub fingerprint: Option<Fingerprint>,
    /// Whether the controller loads this key.
    pub is_active: bool,
    /// The marks of the key; no marks if the Secret contains no usable key.
    pub marks: Marks,
    /// The time by which keys are ordered; [`Timestamp::MIN`] if the Secret contains no usable key.
    pub order_time: Timestamp,
}

impl KeyProperties {
    /// Reads the properties of a key Secret. `key` contains the fingerprint and order time of its key; `None` if the
    /// Secret contains no usable key.
    pub fn new(metadata: &ObjectMeta, key: Option<(&Fingerprint, Timestamp)>) -> Self {
        let fingerprint = key.map(|(fingerprint, _)| fingerprint.clone());
        Self {
            marks: fingerprint
                .as_ref()
                .map(|fingerprint| Marks::read(metadata, fingerprint))
                .unwrap_or_default(),
            is_active: key_secret::is_active(metadata),
            order_time: key.map_or(Timestamp::MIN, |(_, time)| time),
            fingerprint,
        }
    }
}

/// Returns the state of each key. `served` is the key whose certificate the controller serves; if it is unknown or may
/// not seal, the newest key that may seal counts as the sealing key. A key that may seal, is newer than the sealing key
/// and is not backed up waits for its backup.
pub fn states(keys: &[KeyProperties], served: Option<&Fingerprint>) -> Vec<KeyState> {
    let can_seal = |key: &&KeyProperties| {
        key.is_active && key.fingerprint.is_some() && !key.marks.is_sealing_forbidden()
    };
    let newest = keys
        .iter()
        .filter(can_seal)
        .max_by_key(|key| key.order_time);
    let sealing = served
        .and_then(|served| {
            keys.iter()
                .filter(can_seal)
                .find(|k| k.fingerprint.as_ref() == Some(served))
        })
        .or(newest);
    keys.iter().map(|key| state(key, sealing)).collect()
}

fn state(key: &KeyProperties, sealing: Option<&KeyProperties>) -> KeyState {
    let is_newer = sealing.is_some_and(|sealing| key.order_time > sealing.order_time);
    match &key.fingerprint {
        None => KeyState::Broken,
        Some(_) if !key.is_active => KeyState::Retired,
        Some(_) if key.marks.is_compromised => KeyState::Compromised,
        Some(_) if key.marks.is_opening_only => KeyState::Opening,
        fingerprint if sealing.is_some_and(|sealing| sealing.fingerprint == *fingerprint) => {
            KeyState::Sealing
        }
        Some(_) if is_newer && key.marks.backed_up.is_none() => KeyState::Waiting,
        Some(_) => KeyState::Opening,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::key::{new_test_key, test_key};
    use crate::resource::KEY_ACTIVE;
    use crate::v2::{Recipient as _, SecretKey, Suite};

    fn metadata(label: &str, annotations: &[(&str, String)]) -> ObjectMeta {
        let annotations = annotations
            .iter()
            .map(|(k, v)| ((*k).to_owned(), v.clone()));
        ObjectMeta {
            labels: Some(BTreeMap::from([(KEY_LABEL.to_owned(), label.to_owned())])),
            annotations: Some(annotations.collect()),
            ..ObjectMeta::default()
        }
    }

    /// Attack: a client copies the backup mark to another key, so that the controller seals with a key that is not
    /// backed up.
    #[test]
    fn a_backup_mark_applies_only_to_its_key() {
        let key = test_key().fingerprint();
        let other_key = new_test_key(5).pair.fingerprint().clone();
        let time: Timestamp = "2026-11-25T01:02:03.5Z".parse().unwrap();
        for (why, text, want) in [
            (
                "the fingerprint of the key",
                backed_up_text(key, time),
                Some("2026-11-25T01:02:03Z"),
            ),
            (
                "the fingerprint of another key",
                backed_up_text(&other_key, time),
                None,
            ),
            ("no time", format!("{key} soon"), None),
            ("no fingerprint", "2026-11-25T01:02:03Z".to_owned(), None),
            ("true", "true".to_owned(), None),
        ] {
            let marks = Marks::read(&metadata(KEY_ACTIVE, &[(BACKED_UP_ANNOTATION, text)]), key);
            assert_eq!(
                marks.backed_up.map(|time| time.to_string()).as_deref(),
                want,
                "{why}"
            );
        }
    }

    /// Attack: as in [`a_backup_mark_applies_only_to_its_key`], with a v2 key.
    #[test]
    fn a_backup_mark_of_a_v2_key_applies_only_to_its_key() {
        let id = |byte| {
            let key = SecretKey::from_bytes(Suite::XWing, &[byte; 32]).unwrap();
            key.recipient().key_id()
        };
        let (key, other) = (id(1), id(2));
        for (why, text, want) in [
            (
                "the id of the key",
                backed_up_text(&key, Timestamp::UNIX_EPOCH),
                true,
            ),
            (
                "the id of another key",
                backed_up_text(&other, Timestamp::UNIX_EPOCH),
                false,
            ),
            (
                "the short id of the key",
                backed_up_text(&key.short(), Timestamp::UNIX_EPOCH),
                false,
            ),
            (
                "the id of the key with padding",
                format!("{key}= 1970-01-01T00:00:00Z"),
                false,
            ),
            ("no time", format!("{key} soon"), false),
            (
                "the fingerprint of an RSA key",
                backed_up_text(test_key().fingerprint(), Timestamp::UNIX_EPOCH),
                false,
            ),
        ] {
            let marked = metadata(KEY_ACTIVE, &[(BACKED_UP_ANNOTATION, text)]);
            let marks = Marks::read_v2(&marked, &key);
            assert_eq!(marks.backed_up.is_some(), want, "{why}");
        }
        let labels = Some(BTreeMap::from([(
            V2_KEY_LABEL.into(),
            KEY_COMPROMISED.into(),
        )]));
        let labeled = ObjectMeta {
            labels,
            ..ObjectMeta::default()
        };
        assert!(Marks::read_v2(&labeled, &key).is_compromised);
        assert!(!Marks::read_v2(&metadata(KEY_COMPROMISED, &[]), &key).is_compromised);
    }

    #[test]
    fn a_key_is_compromised_by_annotation_or_label() {
        let key = test_key().fingerprint();
        let annotated = metadata(KEY_ACTIVE, &[(COMPROMISED_ANNOTATION, String::new())]);
        assert!(Marks::read(&annotated, key).is_compromised);
        assert!(Marks::read(&metadata(KEY_COMPROMISED, &[]), key).is_compromised);
        assert!(!Marks::read(&metadata(RETIRED, &[]), key).is_compromised);
    }

    /// A mark that forbids sealing applies whatever its value.
    #[test]
    fn an_annotation_makes_a_key_opening_only() {
        let key = test_key().fingerprint();
        for value in ["", "true", "false", "2026-11-28T00:00:00Z"] {
            let marked = metadata(KEY_ACTIVE, &[(OPENING_ONLY_ANNOTATION, value.to_owned())]);
            let marks = Marks::read(&marked, key);
            assert!(
                marks.is_opening_only && marks.is_sealing_forbidden(),
                "{value:?}"
            );
        }
        assert!(!Marks::read(&metadata(KEY_ACTIVE, &[]), key).is_sealing_forbidden());
    }

    const RETIRED: &str = crate::resource::KEY_RETIRED;

    #[test]
    fn returns_the_state_of_each_key() {
        use KeyState::{Broken, Compromised, Opening, Retired, Sealing, Waiting};
        let fingerprints: Vec<Fingerprint> = (1..=3)
            .map(|n| new_test_key(n).pair.fingerprint().clone())
            .collect();
        let key = |n: usize| KeyProperties {
            fingerprint: Some(fingerprints[n].clone()),
            is_active: true,
            marks: Marks::default(),
            order_time: Timestamp::from_second(i64::try_from(n).unwrap()).unwrap(),
        };
        let marked = |n, mark: fn(&mut Marks)| {
            let mut properties = key(n);
            mark(&mut properties.marks);
            properties
        };
        let backed_up = |n| marked(n, |m| m.backed_up = Some(Timestamp::UNIX_EPOCH));
        let compromised = |n| marked(n, |m| m.is_compromised = true);
        let opening_only = |n| marked(n, |m| m.is_opening_only = true);
        let retired = |n| KeyProperties {
            is_active: false,
            ..key(n)
        };
        let as_old_as_the_first = |n| KeyProperties {
            order_time: key(0).order_time,
            ..key(n)
        };
        let broken = KeyProperties {
            fingerprint: None,
            ..key(0)
        };
        for (why, keys, served, want) in [
            (
                "the newest seals",
                vec![key(0), key(1)],
                None,
                vec![Opening, Sealing],
            ),
            (
                "a compromised key never seals",
                vec![key(0), compromised(1)],
                None,
                vec![Sealing, Compromised],
            ),
            (
                "a compromised key never seals, even if the controller serves it",
                vec![key(0), compromised(1)],
                Some(1),
                vec![Sealing, Compromised],
            ),
            (
                "an opening-only key never seals and does not wait for a backup",
                vec![key(0), opening_only(1)],
                None,
                vec![Sealing, Opening],
            ),
            (
                "an opening-only key never seals, even if it is served and the only key",
                vec![opening_only(1)],
                Some(1),
                vec![Opening],
            ),
            (
                "a new key waits for its backup",
                vec![backed_up(0), key(1)],
                Some(0),
                vec![Sealing, Waiting],
            ),
            (
                "a key as old as the sealing key does not wait",
                vec![backed_up(0), as_old_as_the_first(1)],
                Some(0),
                vec![Sealing, Opening],
            ),
            (
                "retired and unusable keys",
                vec![broken, retired(1), key(2)],
                None,
                vec![Broken, Retired, Sealing],
            ),
            (
                "no key can seal",
                vec![retired(0), compromised(1)],
                None,
                vec![Retired, Compromised],
            ),
        ] {
            let served = served.map(|n: usize| &fingerprints[n]);
            assert_eq!(states(&keys, served), want, "{why}");
        }
    }

    /// Scripts parse these names in the output of `seal keys status -o json`.
    #[test]
    fn state_names_are_stable() {
        use KeyState::{Broken, Compromised, Opening, Retired, Sealing, Waiting};
        let states = [Sealing, Opening, Waiting, Compromised, Retired, Broken];
        assert_eq!(
            states.map(KeyState::name).join(" "),
            "sealing opening waiting compromised retired broken"
        );
    }

    proptest::proptest! {
        #[test]
        fn never_panics_on_arbitrary_marks(text: String) {
            let marked = metadata(KEY_ACTIVE, &[(BACKED_UP_ANNOTATION, text)]);
            let _ = Marks::read(&marked, test_key().fingerprint());
        }
    }
}
