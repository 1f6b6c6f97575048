//! Tests of the whole v2 format.

mod attacks;
mod edits;
mod keys;
mod policies;
mod properties;
mod reference;
mod vectors;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::LazyLock;

use rand::{SeedableRng as _, TryCryptoRng, TryRng, rngs::StdRng};
use serde_json::Value as Json;

use super::*;
use crate::key::{PrivateKey, PublicKey};
use crate::meter::Unmetered;
use crate::plain::Plain;
use crate::resource::{SealedSecret, SealedSecretSpec};
use crate::scope::Scope;

/// Reads a file in `tests/vectors`.
pub(super) fn read_vectors(name: &str) -> Json {
    let text = match name {
        "age.json" => include_str!("../../../../tests/vectors/age.json"),
        "hpke.json" => include_str!("../../../../tests/vectors/hpke.json"),
        "x-wing.json" => include_str!("../../../../tests/vectors/x-wing.json"),
        "v2.json" => include_str!("../../../../tests/vectors/v2.json"),
        _ => include_str!("../../../../tests/vectors/v2-reference.json"),
    };
    serde_json::from_str(text).unwrap()
}

/// Decodes a hexadecimal string.
pub(super) fn bytes(hexadecimal: &Json) -> Vec<u8> {
    let digits = hexadecimal.as_str().unwrap().as_bytes();
    let pairs = digits
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

/// A random generator that returns these bytes, and panics when they are used up.
pub(super) struct FixedBytes(std::vec::IntoIter<u8>);

impl FixedBytes {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into_iter())
    }

    fn remaining(&self) -> usize {
        self.0.len()
    }
}

impl TryRng for FixedBytes {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, target: &mut [u8]) -> Result<(), Infallible> {
        target.fill_with(|| self.0.next().expect("more random bytes than the case has"));
        Ok(())
    }
}

impl TryCryptoRng for FixedBytes {}

/// The keys of the tests, one of each suite.
struct Keys {
    xw: SecretKey,
    p256: SecretKey,
    rsa: PrivateKey,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    xw: SecretKey::from_bytes(Suite::XWing, &[1; 32]).unwrap(),
    p256: SecretKey::from_bytes(Suite::P256, &[2; 32]).unwrap(),
    rsa: rsa_key(&read_vectors("v2-reference.json")["rsa pkcs8"]),
});

impl Keys {
    fn opener(&self, suite: Suite) -> &dyn Opener {
        match suite {
            Suite::XWing => self.xw.opener(),
            Suite::P256 => self.p256.opener(),
            Suite::Rsa => &self.rsa,
        }
    }

    fn recipient(&self, suite: Suite) -> Box<dyn Recipient + '_> {
        match suite {
            Suite::XWing => Box::new(self.xw.recipient()),
            Suite::P256 => Box::new(self.p256.recipient()),
            Suite::Rsa => Box::new(RsaRecipient(self.rsa.public_key())),
        }
    }
}

/// Reads a private key in PKCS #8.
fn rsa_key(der: &Json) -> PrivateKey {
    let body = crate::base64::encode(&bytes(der));
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    PrivateKey::from_pem(pem.as_bytes()).unwrap()
}

/// A borrowed RSA public key.
struct RsaRecipient<'a>(&'a PublicKey);

impl Recipient for RsaRecipient<'_> {
    fn suite(&self) -> Suite {
        self.0.suite()
    }

    fn key_id(&self) -> KeyId {
        self.0.key_id()
    }

    fn wrap_key(
        &self,
        key: &DataKey,
        binding: &Binding<'_>,
        rng: &mut dyn rand::CryptoRng,
    ) -> Option<Vec<u8>> {
        self.0.wrap_key(key, binding, rng)
    }
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(5)
}

fn place() -> Place {
    Place::for_sealing(Scope::Strict, "shop", "db").unwrap()
}

/// Returns values with fixed identifiers.
fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, Value> {
    let value = |(index, (name, plain)): (u8, &(&str, &str))| {
        let id = ValueId::from_bytes([index; 16]);
        let plain = Plain::from(plain.as_bytes().to_vec());
        ((*name).to_owned(), Value { id, plain })
    };
    (0..).zip(pairs).map(value).collect()
}

fn two_values() -> BTreeMap<String, Value> {
    values(&[("password", "hunter2"), ("user", "admin")])
}

/// Returns the entries of two items and of their shared lock for these suites.
fn sealed_for(suites: &[Suite]) -> BTreeMap<String, String> {
    seal_with(suites, |_| (), &two_values())
}

fn seal_with(
    suites: &[Suite],
    change: impl Fn(&mut LockSpec<'_>),
    values: &BTreeMap<String, Value>,
) -> BTreeMap<String, String> {
    with_spec(suites, change, |spec| {
        seal(spec, values, &mut rng()).unwrap()
    })
}

fn with_spec<T>(
    suites: &[Suite],
    change: impl Fn(&mut LockSpec<'_>),
    use_spec: impl FnOnce(&LockSpec<'_>) -> T,
) -> T {
    let owned: Vec<_> = suites.iter().map(|suite| KEYS.recipient(*suite)).collect();
    let recipients: Vec<&dyn Recipient> = owned.iter().map(|r| &**r as &dyn Recipient).collect();
    let place = place();
    let mut spec = LockSpec {
        place: &place,
        recipients: &recipients,
        allow_classical: suites.len() > 1,
        template: None,
        is_never_secret: false,
        is_alone: false,
        revision: 7,
    };
    change(&mut spec);
    use_spec(&spec)
}

/// Returns an inline item. Its data key depends on the item key.
fn inline_for(suites: &[Suite], item: &str, plain: &str) -> String {
    let values = values(&[(item, plain)]);
    let mut rng = StdRng::seed_from_u64(item.bytes().map(u64::from).sum());
    with_spec(
        suites,
        |_| (),
        |spec| seal_inline(spec, item, &values[item], &mut rng).unwrap(),
    )
}

/// Returns the object `db` in the namespace `shop`.
fn object(entries: BTreeMap<String, String>) -> SealedSecret {
    let mut sealed = SealedSecret::new("db", SealedSecretSpec::default());
    sealed.metadata.namespace = Some("shop".into());
    sealed.spec.encrypted_data = entries;
    sealed
}

fn keys_of(suites: &[Suite]) -> OpeningKeys<'static> {
    suites.iter().map(|suite| KEYS.opener(*suite)).collect()
}

fn open_object(
    sealed: &SealedSecret,
    keys: &OpeningKeys<'_>,
) -> Result<BTreeMap<String, OpenedValue>, Refusal> {
    open_with_policy(sealed, keys, &Policy::default())
}

fn open_with_policy(
    sealed: &SealedSecret,
    keys: &OpeningKeys<'_>,
    policy: &Policy,
) -> Result<BTreeMap<String, OpenedValue>, Refusal> {
    open_for(sealed, keys, policy, Target::Other)
}

fn open_for(
    sealed: &SealedSecret,
    keys: &OpeningKeys<'_>,
    policy: &Policy,
    target: Target,
) -> Result<BTreeMap<String, OpenedValue>, Refusal> {
    let checked = Checked::new(sealed, policy, target)?;
    let opened = &mut OpenedLocks::default();
    let opened = open(&checked, keys, opened, &mut Unmetered, &mut rng());
    opened.map_err(|error| match error {
        OpenError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    })
}

fn reason(sealed: &SealedSecret, keys: &OpeningKeys<'_>) -> Option<Reason> {
    open_object(sealed, keys)
        .err()
        .map(|refusal| refusal.reason())
}

fn plain_of(opened: &BTreeMap<String, OpenedValue>) -> BTreeMap<&str, &[u8]> {
    let items = opened.iter();
    items
        .map(|(name, opened)| (name.as_str(), opened.value.plain.expose()))
        .collect()
}

/// Returns the name of the header entry of the only shared lock.
fn header_entry(entries: &BTreeMap<String, String>) -> String {
    let is_header = |name: &&String| name.starts_with("/lock/") && name.matches('/').count() == 2;
    entries.keys().find(is_header).unwrap().clone()
}

/// Changes the bytes of an entry.
fn change(entries: &mut BTreeMap<String, String>, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let (kind, mut bytes) = text::decode(&entries[name]).unwrap();
    change(&mut bytes);
    entries.insert(name.to_owned(), text::encode(kind, &bytes));
}
