//! The Secret that stores a v2 key: type `Opaque`, label [`V2_KEY_LABEL`], items `v2.key`, `v2.pub`, `not-before` and
//! `not-after`. Bitnami's controller does not select this label: it crashes on a key that is not RSA.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::key_text::{KeyTextError, PublicRecipient, SecretKey};
use super::suite::Recipient as _;
use crate::plain::Plain;
use crate::resource::{KEY_ACTIVE, V2_KEY_LABEL};
use crate::secret::Secret;

/// Item with the private key.
pub const PRIVATE_KEY_ITEM: &str = "v2.key";
/// Item with the public key.
pub const RECIPIENT_ITEM: &str = "v2.pub";
/// Item with the time from which the key may seal.
pub const NOT_BEFORE_ITEM: &str = "not-before";
/// Item with the time until which the key may seal. Afterwards, the key can still open values.
pub const NOT_AFTER_ITEM: &str = "not-after";

/// A v2 key with its validity for sealing.
#[derive(Debug)]
pub struct StoredKey {
    /// The private key.
    pub key: SecretKey,
    /// The time from which the key may seal.
    pub not_before: Timestamp,
    /// The time until which the key may seal.
    pub not_after: Timestamp,
}

/// Why a Secret contains no usable v2 key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySecretError {
    /// An item is missing.
    #[error("it has no item `{0}`")]
    Missing(&'static str),
    /// An item is not text.
    #[error("its item `{0}` is not text")]
    NotText(&'static str),
    /// A key is unusable.
    #[error("its item `{item}` cannot be used: {why}")]
    Key {
        /// The name of the item in the Secret.
        item: &'static str,
        /// Why the key of the item is unusable.
        why: KeyTextError,
    },
    /// The public key does not belong to the private key.
    #[error("its items `{PRIVATE_KEY_ITEM}` and `{RECIPIENT_ITEM}` do not belong together")]
    Mismatch,
    /// A time is malformed.
    #[error("its item `{0}` is not a time such as 2026-01-31T00:00:00Z")]
    Time(&'static str),
}

/// Returns the Secret that stores a key. `labels` cannot override the label that marks the key as active.
pub fn build(
    name: &str,
    namespace: &str,
    stored: &StoredKey,
    mut labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
) -> Secret {
    labels.insert(V2_KEY_LABEL.into(), KEY_ACTIVE.into());
    let recipient = stored.key.recipient();
    let data = [
        (PRIVATE_KEY_ITEM, stored.key.to_text()),
        (RECIPIENT_ITEM, Plain::from(recipient.to_string())),
        (NOT_BEFORE_ITEM, time_text(stored.not_before)),
        (NOT_AFTER_ITEM, time_text(stored.not_after)),
    ];
    Secret {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some(namespace.into()),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        immutable: None,
        data: data.map(|(item, value)| (item.to_owned(), value)).into(),
    }
}

fn time_text(time: Timestamp) -> Plain {
    let seconds = Timestamp::from_second(time.as_second()).unwrap_or(time);
    Plain::from(seconds.to_string())
}

/// Reads a Secret that stores a v2 key.
///
/// # Errors
///
/// Returns the reason why the key is unusable.
pub fn parse(secret: &Secret) -> Result<StoredKey, KeySecretError> {
    let unusable = |item| move |why| KeySecretError::Key { item, why };
    let key = SecretKey::parse(text(secret, PRIVATE_KEY_ITEM)?);
    let key = key.map_err(unusable(PRIVATE_KEY_ITEM))?;
    let recipient = PublicRecipient::parse(text(secret, RECIPIENT_ITEM)?);
    let recipient = recipient.map_err(unusable(RECIPIENT_ITEM))?;
    if recipient.key_id() != key.recipient().key_id() {
        return Err(KeySecretError::Mismatch);
    }
    Ok(StoredKey {
        key,
        not_before: time(secret, NOT_BEFORE_ITEM)?,
        not_after: time(secret, NOT_AFTER_ITEM)?,
    })
}

fn text<'a>(secret: &'a Secret, item: &'static str) -> Result<&'a str, KeySecretError> {
    let value = secret.data.get(item).ok_or(KeySecretError::Missing(item))?;
    std::str::from_utf8(value.expose()).map_err(|_| KeySecretError::NotText(item))
}

fn time(secret: &Secret, item: &'static str) -> Result<Timestamp, KeySecretError> {
    let text = text(secret, item)?.trim_ascii();
    text.parse().map_err(|_| KeySecretError::Time(item))
}

/// Returns whether the Secret stores an active v2 key.
pub fn is_active(metadata: &ObjectMeta) -> bool {
    let label = metadata.labels.as_ref().and_then(|l| l.get(V2_KEY_LABEL));
    label.is_some_and(|value| value == KEY_ACTIVE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::KEY_LABEL;
    use crate::v2::Suite;

    fn stored_key(suite: Suite) -> StoredKey {
        StoredKey {
            key: SecretKey::from_bytes(suite, &[3; 32]).unwrap(),
            not_before: Timestamp::from_second(1_700_000_000).unwrap(),
            not_after: Timestamp::from_second(1_800_000_000).unwrap(),
        }
    }

    fn secret() -> Secret {
        let none = BTreeMap::new;
        build(
            "k",
            "kube-system",
            &stored_key(Suite::XWing),
            none(),
            none(),
        )
    }

    #[test]
    fn reads_what_it_builds() {
        for suite in [Suite::XWing, Suite::P256] {
            let stored = stored_key(suite);
            let secret = build("k", "ns", &stored, BTreeMap::new(), BTreeMap::new());
            let read = parse(&secret).unwrap();
            assert_eq!(
                read.key.recipient().key_id(),
                stored.key.recipient().key_id()
            );
            assert_eq!(read.not_before, stored.not_before);
            assert_eq!(read.not_after, stored.not_after);
            assert!(is_active(&secret.metadata));
        }
    }

    #[test]
    fn bitnamis_controller_does_not_select_a_v2_key_secret() {
        assert!(!secret().metadata.labels.unwrap().contains_key(KEY_LABEL));
    }

    #[test]
    fn reports_why_a_key_is_unusable() {
        let other = SecretKey::from_bytes(Suite::P256, &[4; 32]).unwrap();
        let text = |text: &str| Some(Plain::from(text.to_owned()));
        for (item, value, want) in [
            (
                PRIVATE_KEY_ITEM,
                None,
                KeySecretError::Missing(PRIVATE_KEY_ITEM),
            ),
            (
                RECIPIENT_ITEM,
                None,
                KeySecretError::Missing(RECIPIENT_ITEM),
            ),
            (
                RECIPIENT_ITEM,
                Some(Plain::from(vec![0xff])),
                KeySecretError::NotText(RECIPIENT_ITEM),
            ),
            (
                RECIPIENT_ITEM,
                text(&other.recipient().to_string()),
                KeySecretError::Mismatch,
            ),
            (
                NOT_AFTER_ITEM,
                text("soon"),
                KeySecretError::Time(NOT_AFTER_ITEM),
            ),
            (
                PRIVATE_KEY_ITEM,
                text("x"),
                KeySecretError::Key {
                    item: PRIVATE_KEY_ITEM,
                    why: KeyTextError::KeyForm,
                },
            ),
        ] {
            let mut secret = secret();
            match value {
                Some(value) => drop(secret.data.insert(item.to_owned(), value)),
                None => drop(secret.data.remove(item)),
            }
            assert_eq!(parse(&secret).unwrap_err(), want);
        }
    }
}
