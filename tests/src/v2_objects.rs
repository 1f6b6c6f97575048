//! Objects that are sealed as v2.

use std::collections::BTreeMap;

use jiff::Timestamp;
use shared::base64;
use shared::plain::Plain;
use shared::resource::{SealedSecret, SealedSecretSpec};
use shared::scope::Scope;
use shared::v2::{self, LockSpec, Place, Recipient, Value};

/// Returns an object without items, for strict scope.
pub fn empty(namespace: &str, name: &str) -> SealedSecret {
    let mut sealed = SealedSecret::new(name, SealedSecretSpec::default());
    sealed.metadata.namespace = Some(namespace.into());
    sealed
}

/// Adds items with a new shared lock. `change` modifies the properties of the lock.
pub fn add_shared(
    sealed: &mut SealedSecret,
    recipient: &dyn Recipient,
    items: &[(&str, &str)],
    change: impl FnOnce(&mut LockSpec<'_>),
) {
    let items = items.iter();
    let values: BTreeMap<String, Value> = items
        .map(|(item, text)| ((*item).to_owned(), value(text)))
        .collect();
    let entries = with_spec(sealed, recipient, |spec| {
        change(spec);
        v2::seal(spec, &values, &mut shared::random::system()).unwrap()
    });
    sealed.spec.encrypted_data.extend(entries);
}

/// Sets an item with a separate lock.
pub fn set_inline(sealed: &mut SealedSecret, recipient: &dyn Recipient, item: &str, text: &str) {
    let entry = with_spec(sealed, recipient, |spec| {
        v2::seal_inline(spec, item, &value(text), &mut shared::random::system()).unwrap()
    });
    sealed.spec.encrypted_data.insert(item.into(), entry);
}

fn with_spec<T>(
    sealed: &SealedSecret,
    recipient: &dyn Recipient,
    use_spec: impl FnOnce(&mut LockSpec<'_>) -> T,
) -> T {
    let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
    let (namespace, name) = (sealed.namespace_or_empty(), sealed.name_or_empty());
    use_spec(&mut LockSpec {
        place: &Place::for_sealing(scope, namespace, name).unwrap(),
        recipients: &[recipient],
        allow_classical: false,
        template: None,
        is_never_secret: false,
        is_alone: false,
        revision: v2::next_revision(Timestamp::now(), []),
    })
}

fn value(text: &str) -> Value {
    let plain = Plain::from(text.as_bytes().to_vec());
    Value::new(plain, &mut shared::random::system())
}

/// Changes the decoded bytes of an entry of `encryptedData`, after its prefix.
pub fn change_bytes(sealed: &mut SealedSecret, entry: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let text = sealed.spec.encrypted_data.get_mut(entry).unwrap();
    let (prefix, encoded) = text.split_at(text.rfind('.').unwrap() + 1);
    let standard = encoded.replace('-', "+").replace('_', "/");
    let padding = "=".repeat(standard.len().wrapping_neg() % 4);
    let mut bytes = base64::decode((standard + &padding).as_bytes()).unwrap();
    change(&mut bytes);
    let encoded = base64::encode(&bytes).replace('+', "-").replace('/', "_");
    *text = format!("{prefix}{}", encoded.trim_end_matches('='));
}
