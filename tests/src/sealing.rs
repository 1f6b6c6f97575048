//! Keys, and objects sealed for them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::control_plane::Namespace;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as ApiSecret;
use kube::ResourceExt as _;
use shared::key::{Certificate, KeyPair, KeySize, KeySpec, NewKey, PrivateKey};
use shared::key_ring::{KeyRing, RingKey};
use shared::key_secret;
use shared::plain::Plain;
use shared::resource::SealedSecret;
use shared::scope::Scope;
use shared::seal::seal;
use shared::secret::Secret;

/// Keys that all tests of a test binary share, because generating a key takes a while. Each key is newer than the
/// previous key.
pub static KEYS: LazyLock<[NewKey; 3]> =
    LazyLock::new(|| [1_700_000_000, 1_700_000_001, 1_700_000_002].map(key));

fn key(second: i64) -> NewKey {
    let spec = KeySpec {
        size: KeySize::Rsa2048,
        ttl: SignedDuration::from_hours(87_600),
        common_name: String::new(),
    };
    let now = Timestamp::from_second(second).unwrap();
    spec.generate(now, &mut shared::random::system()).unwrap()
}

/// Returns a copy of key and certificate.
pub fn copy_of(key: &NewKey) -> KeyPair {
    let private = PrivateKey::from_pem(key.private_pem.expose()).unwrap();
    let certificate = Certificate::from_pem(key.pair.certificate().to_pem().as_bytes());
    KeyPair::new(private, certificate.unwrap()).unwrap()
}

/// Returns a key ring with copies of these keys, the newest last.
pub fn key_ring(keys: &[&NewKey]) -> KeyRing {
    let ring_key = |(second, key): (i64, &&NewKey)| {
        let time = Timestamp::from_second(second).unwrap();
        RingKey::new(format!("key-{second}"), time, copy_of(key)).into()
    };
    KeyRing::new((0..).zip(keys).map(ring_key))
}

/// Returns the items as the `data` of a Secret.
pub fn values(items: &[(&str, &str)]) -> BTreeMap<String, ByteString> {
    let item =
        |(key, value): &(&str, &str)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
    items.iter().map(item).collect()
}

/// Returns a SealedSecret with these values, sealed for `key`.
pub fn sealed_for(
    key: &NewKey,
    namespace: &str,
    name: &str,
    items: &[(&str, &str)],
    scope: Scope,
) -> SealedSecret {
    let mut secret = Secret::default();
    secret.metadata.namespace = Some(namespace.into());
    secret.metadata.name = Some(name.into());
    scope.annotate(secret.metadata.annotations.get_or_insert_default());
    for (item, value) in items {
        secret
            .data
            .insert((*item).into(), Plain::from((*value).to_owned()));
    }
    let public = key.pair.certificate().public_key();
    seal(&secret, public, &mut shared::random::system()).unwrap()
}

/// Stores a key as a Secret in the form that the controller writes.
pub async fn put_key(namespace: &Namespace<'_>, name: &str, key: &NewKey) {
    let secret = key_secret::build(
        name,
        namespace.name(),
        key,
        BTreeMap::new(),
        BTreeMap::new(),
    );
    let object: ApiSecret = namespace.create_object(secret.to_document()).await;
    assert_eq!(object.name_any(), name);
}
