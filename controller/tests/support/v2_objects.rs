//! Objects that are sealed as v2.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use shared::base64;
use shared::key_ring::{KeyRing, RingV2Key};
use shared::key_secret::{self, OrderPriority};
use shared::plain::Plain;
use shared::resource::{SealedSecret, SealedSecretSpec};
use shared::scope::Scope;
use shared::v2::key_secret::StoredKey;
use shared::v2::{
    self, LockSpec, Place, Recipient, SecretKey, ShortKeyId, Suite, TemplateDigest, Value,
};

use super::KEYS;

static XW: LazyLock<SecretKey> = LazyLock::new(|| v2_key(Suite::XWing));
static P256: LazyLock<SecretKey> = LazyLock::new(|| v2_key(Suite::P256));

fn v2_key(suite: Suite) -> SecretKey {
    SecretKey::from_bytes(suite, &[7; 32]).unwrap()
}

/// Returns a ring with the first RSA key, and v2 keys of these suites.
pub fn ring(suites: &[Suite]) -> Arc<KeyRing> {
    let secret = key_secret::build("k", "ns", &KEYS[0], BTreeMap::new(), BTreeMap::new());
    let rsa = key_secret::parse(&secret, OrderPriority::CertNotBefore).unwrap();
    let v2_key = |suite: &Suite| {
        let stored = StoredKey {
            key: v2_key(*suite),
            not_before: Timestamp::MIN,
            not_after: Timestamp::MAX,
        };
        Arc::new(RingV2Key::new(suite.to_string(), Timestamp::MIN, stored))
    };
    Arc::new(KeyRing::new([Arc::new(rsa)]).with_v2_keys(suites.iter().map(v2_key)))
}

/// Returns the identifier of the test key of a suite.
pub fn key_id(suite: Suite) -> ShortKeyId {
    with_recipient(suite, |recipient| recipient.key_id().short())
}

fn with_recipient<T>(suite: Suite, use_recipient: impl FnOnce(&dyn Recipient) -> T) -> T {
    match suite {
        Suite::Rsa => use_recipient(KEYS[0].pair.certificate().public_key()),
        Suite::XWing => use_recipient(&XW.recipient()),
        Suite::P256 => use_recipient(&P256.recipient()),
    }
}

/// How values are sealed.
#[derive(Debug, Clone, Copy)]
pub struct Sealing {
    pub suite: Suite,
    pub scope: Scope,
    pub is_bound: bool,
    pub is_never_secret: bool,
    pub is_alone: bool,
    pub revision: u64,
}

impl Sealing {
    pub fn new(suite: Suite) -> Self {
        Self {
            suite,
            scope: Scope::Strict,
            is_bound: false,
            is_never_secret: false,
            is_alone: false,
            revision: 1,
        }
    }

    /// Returns an object whose items have one shared lock.
    pub fn object(self, id: &str, items: &[(&str, &str)]) -> SealedSecret {
        let mut sealed = self.empty_object(id);
        self.add_shared(&mut sealed, items);
        sealed
    }

    /// Returns an object without items.
    pub fn empty_object(self, id: &str) -> SealedSecret {
        let (namespace, name) = id.split_once('/').unwrap();
        let mut sealed = SealedSecret::new(name, SealedSecretSpec::default());
        sealed.metadata.namespace = Some(namespace.into());
        let annotations = sealed.metadata.annotations.get_or_insert_default();
        self.scope.annotate(annotations);
        sealed
    }

    /// Adds items with a new shared lock.
    pub fn add_shared(self, sealed: &mut SealedSecret, items: &[(&str, &str)]) {
        let rng = &mut shared::random::system();
        let items = items.iter();
        let values = items
            .map(|(item, text)| ((*item).to_owned(), value(text)))
            .collect();
        let entries = self.with_spec(sealed, |spec| v2::seal(spec, &values, rng).unwrap());
        sealed.spec.encrypted_data.extend(entries);
    }

    /// Sets an item with a separate lock.
    pub fn set_inline(self, sealed: &mut SealedSecret, item: &str, text: &str) {
        let rng = &mut shared::random::system();
        let entry = self.with_spec(sealed, |spec| {
            v2::seal_inline(spec, item, &value(text), rng).unwrap()
        });
        sealed.spec.encrypted_data.insert(item.into(), entry);
    }

    fn with_spec<T>(self, sealed: &SealedSecret, use_spec: impl FnOnce(&LockSpec<'_>) -> T) -> T {
        let (namespace, name) = (sealed.namespace_or_empty(), sealed.name_or_empty());
        let place = Place::for_sealing(self.scope, namespace, name).unwrap();
        let template = TemplateDigest::of(&sealed.spec.template);
        with_recipient(self.suite, |recipient| {
            use_spec(&LockSpec {
                place: &place,
                recipients: &[recipient],
                allow_classical: false,
                template: self.is_bound.then_some(template),
                is_never_secret: self.is_never_secret,
                is_alone: self.is_alone,
                revision: self.revision,
            })
        })
    }
}

fn value(text: &str) -> Value {
    let plain = Plain::from(text.as_bytes().to_vec());
    Value::new(plain, &mut shared::random::system())
}

/// Changes the decoded bytes of an entry, without its prefix.
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
