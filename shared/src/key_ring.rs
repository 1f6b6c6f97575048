//! Ordered keys: in each suite, the sealing key is the newest key that may seal and is valid, or the newest that may
//! seal if none is valid. Every key can unseal.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::hmac;
use jiff::Timestamp;

use crate::envelope::{self, OpenedValue};
use crate::key::{Certificate, Fingerprint, KeyPair, PrivateKey, Validity};
use crate::key_marks::Marks;
use crate::meter::{Interrupted, Meter, Unmetered, opening_cost};
use crate::plain::Plain;
use crate::scope::Label;
use crate::v2::{KeyId, Opener, OpeningKeys, PublicRecipient, Recipient, Suite};

mod any_key;
mod v2_key;

pub use any_key::{AnyKey, SealingHalf};
pub use v2_key::RingV2Key;

/// An RSA key of a ring.
#[derive(Debug)]
pub struct RingKey {
    name: String,
    order_time: Timestamp,
    private: PrivateKey,
    certificate: Option<Certificate>,
    marks: Marks,
}

impl RingKey {
    /// Creates a key. `name` is the name of the Secret that stores it.
    pub fn new(name: String, order_time: Timestamp, pair: KeyPair) -> Self {
        let (private, certificate) = pair.into_halves();
        Self {
            name,
            order_time,
            private,
            certificate: Some(certificate),
            marks: Marks::default(),
        }
    }

    /// Sets the marks of the key's Secret.
    #[must_use]
    pub fn with_marks(mut self, marks: Marks) -> Self {
        self.marks = marks;
        self
    }

    /// Creates a key without a certificate: it unseals and never seals. `name` names the file that contains it.
    pub fn opening_only(name: String, private: PrivateKey) -> Self {
        Self {
            name,
            order_time: Timestamp::MIN,
            private,
            certificate: None,
            marks: Marks::default(),
        }
    }

    /// Returns the name of the Secret that stores the key, or of the file that contains it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the time by which the key is ordered.
    pub fn order_time(&self) -> Timestamp {
        self.order_time
    }

    /// Returns the fingerprint, which names the key.
    pub fn fingerprint(&self) -> &Fingerprint {
        self.private.fingerprint()
    }

    /// Returns the identifier of the key in v2 values.
    pub fn key_id(&self) -> KeyId {
        self.private.key_id()
    }

    /// Returns the HMAC key of records: only a holder of the private key can compute and verify a record.
    pub(crate) fn record_key(&self) -> &hmac::Key {
        self.private.record_key()
    }

    /// Returns the certificate, if the key has one.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// Returns the marks of the key's Secret.
    pub fn marks(&self) -> Marks {
        self.marks
    }

    /// Returns whether records computed with this key can be trusted: false for a compromised or opening-only key.
    pub(crate) fn is_trusted_for_records(&self) -> bool {
        !self.marks.is_sealing_forbidden()
    }

    fn is_valid(&self, now: Timestamp) -> bool {
        let certificate = self.certificate.as_ref();
        certificate.is_some_and(|certificate| certificate.validity(now) == Validity::Valid)
    }

    pub(crate) fn private(&self) -> &PrivateKey {
        &self.private
    }
}

/// An immutable set of keys, newest first. A change to the keys results in a new ring.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    keys: Vec<Arc<RingKey>>,
    v2_keys: Vec<Arc<RingV2Key>>,
    requires_backup: bool,
    /// The suites whose keys are no longer stored.
    removed_suites: BTreeSet<Suite>,
    /// The suite that new v2 values are sealed with; `None` for RSA.
    preferred_suite: Option<Suite>,
    /// Additional public keys that v2 values are sealed for.
    additional: Arc<[PublicRecipient]>,
}

/// The public keys that a controller seals v2 values for.
pub struct SealingRecipients {
    key: AnyKey,
    additional: Arc<[PublicRecipient]>,
}

impl SealingRecipients {
    /// Returns the public keys, the controller's own first.
    pub fn all(&self) -> Vec<&dyn Recipient> {
        let own = self.key.sealing_half().map(|half| half.recipient);
        let additional = self.additional.iter().map(|key| key as &dyn Recipient);
        own.into_iter().chain(additional).collect()
    }
}

/// Why no key may seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSealingKey {
    /// The ring has no RSA key with a certificate.
    #[error("no key with a certificate exists")]
    NoKey,
    /// The ring has no key of this suite, which is only for v2.
    #[error(
        "no key of the suite {0} exists; a controller with --sealing-suite={0} generates one when it starts"
    )]
    NoKeyOfSuite(Suite),
    /// At least one key could seal if it were backed up, which the policy requires, and no other key may seal.
    #[error(
        "no key that may seal is backed up, and this controller seals only with backed-up keys; back up the keys with `seal keys backup`"
    )]
    NotBackedUp,
    /// All keys of the suite are marked as opening-only.
    #[error(
        "every key was restored as opening-only; restart the controller to generate a sealing key, or choose a restored key \
         with `seal keys restore BACKUP --seal-with FINGERPRINT`"
    )]
    OpeningOnly,
    /// All keys of the suite are marked as compromised.
    #[error(
        "every key of this kind is marked as compromised and cannot seal; request new keys with `seal keys rotate`"
    )]
    Compromised,
    /// Some keys of the suite are marked as compromised, and all others as opening-only.
    #[error(
        "no key may seal: some are marked as compromised, the others are opening-only; request a new key with \
         `seal keys rotate`, or choose a restored key with `seal keys restore BACKUP --seal-with FINGERPRINT`"
    )]
    CompromisedOrOpeningOnly,
    /// All stored keys of the suite were removed. The controller still unseals with their copies in memory.
    #[error(
        "every key was removed, and the controller unseals with the removed keys only until another key appears or it \
         restarts; restore the key Secrets from the backup, since a restart without them generates a new key"
    )]
    Removed,
}

/// No key of the ring can decrypt the value. Does not reveal why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no key could decrypt secret")]
pub struct NoKey;

/// Why a value was not unsealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnsealFailure {
    /// No key of the ring can decrypt the value.
    #[error(transparent)]
    NoKey(#[from] NoKey),
    /// The meter ended the work before every key was tried.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl KeyRing {
    /// Creates a ring from RSA keys in the order of their registration. The key with the latest order time is the
    /// newest; of keys with equal times, the key that was registered first. A duplicate key counts once, at its first
    /// position.
    pub fn new(registered: impl IntoIterator<Item = Arc<RingKey>>) -> Self {
        Self::from_keys(registered.into_iter().map(AnyKey::Rsa))
    }

    /// Creates a ring from keys of all suites, ordered like those of [`Self::new`].
    pub fn from_keys(registered: impl IntoIterator<Item = AnyKey>) -> Self {
        let mut ring = Self::default();
        ring.register(registered);
        ring
    }

    /// Adds the keys that are only for v2, in the order of their registration. They are ordered like RSA keys, and a
    /// duplicate key counts once, at its first position.
    #[must_use]
    pub fn with_v2_keys(mut self, registered: impl IntoIterator<Item = Arc<RingV2Key>>) -> Self {
        self.register(registered.into_iter().map(AnyKey::V2));
        self
    }

    fn register(&mut self, keys: impl IntoIterator<Item = AnyKey>) {
        for key in keys {
            match key {
                AnyKey::Rsa(key) if self.key(key.fingerprint()).is_none() => self.keys.push(key),
                AnyKey::V2(key) if self.v2_key(&key.key_id()).is_none() => self.v2_keys.push(key),
                AnyKey::Rsa(_) | AnyKey::V2(_) => {}
            }
        }
        self.keys
            .sort_by_key(|key| std::cmp::Reverse(key.order_time));
        self.v2_keys
            .sort_by_key(|key| std::cmp::Reverse(key.order_time()));
    }

    /// Adds keys that are no longer stored, and marks their suites as removed: the keys unseal, but do not seal, and do
    /// not count for renewals.
    #[must_use]
    pub fn with_removed(mut self, keys: impl IntoIterator<Item = AnyKey>) -> Self {
        let keys: Vec<AnyKey> = keys.into_iter().collect();
        self.removed_suites.extend(keys.iter().map(AnyKey::suite));
        self.register(keys);
        self
    }

    /// Returns whether the keys of a suite exist only in memory, because all of them were removed.
    pub fn is_removed(&self, suite: Suite) -> bool {
        self.removed_suites.contains(&suite)
    }

    /// Sets the suite that new v2 values are sealed with. By default, they are sealed for the RSA sealing key.
    #[must_use]
    pub fn with_preferred_suite(mut self, suite: Suite) -> Self {
        self.preferred_suite = Some(suite);
        self
    }

    /// Returns the suite that new v2 values are sealed with.
    pub fn preferred_suite(&self) -> Suite {
        self.preferred_suite.unwrap_or(Suite::Rsa)
    }

    /// Sets additional public keys that v2 values are sealed for, such as an escrow key.
    #[must_use]
    pub fn with_additional_recipients(mut self, recipients: Arc<[PublicRecipient]>) -> Self {
        self.additional = recipients;
        self
    }

    /// Returns the public keys to seal v2 values for: the sealing key of the preferred suite, and the additional keys.
    ///
    /// # Errors
    ///
    /// Returns the reason why no key of the preferred suite may seal.
    pub fn sealing_recipients(&self, now: Timestamp) -> Result<SealingRecipients, NoSealingKey> {
        Ok(SealingRecipients {
            key: self.sealing_key_of(self.preferred_suite(), now)?,
            additional: Arc::clone(&self.additional),
        })
    }

    /// Returns the suites for which the controller generates keys: RSA, which v1 requires, and the preferred suite.
    pub fn renewed_suites(&self) -> impl Iterator<Item = Suite> {
        let preferred = self.preferred_suite.filter(|suite| *suite != Suite::Rsa);
        [Suite::Rsa].into_iter().chain(preferred)
    }

    /// Sets whether a key may seal only after it is marked as backed up.
    #[must_use]
    pub fn with_required_backup(mut self, is_required: bool) -> Self {
        self.requires_backup = is_required;
        self
    }

    /// Returns the RSA keys, newest first.
    pub fn keys(&self) -> &[Arc<RingKey>] {
        &self.keys
    }

    /// Returns the keys that are only for v2, newest first.
    pub fn v2_keys(&self) -> &[Arc<RingV2Key>] {
        &self.v2_keys
    }

    /// Returns the v2 key with this identifier. RSA keys can open v2 values too, but are not returned.
    pub fn v2_key(&self, id: &KeyId) -> Option<&Arc<RingV2Key>> {
        self.v2_keys.iter().find(|key| key.key_id() == *id)
    }

    /// Returns every key that opens v2 locks: the v2 keys and the RSA keys.
    pub fn openers(&self) -> OpeningKeys<'_> {
        let rsa = self.keys.iter().map(|key| key.private() as &dyn Opener);
        let v2 = self.v2_keys.iter().map(|key| key.opener());
        rsa.chain(v2).collect()
    }

    /// Returns every key: the RSA keys, then the v2 keys, each newest first.
    pub fn all_keys(&self) -> impl Iterator<Item = AnyKey> {
        let rsa = self.keys.iter().map(|key| AnyKey::Rsa(Arc::clone(key)));
        let v2 = self.v2_keys.iter().map(|key| AnyKey::V2(Arc::clone(key)));
        rsa.chain(v2)
    }

    /// Returns every key that is not removed, in the order of [`Self::all_keys`].
    pub fn stored_keys(&self) -> impl Iterator<Item = AnyKey> {
        self.all_keys().filter(|key| !self.is_removed(key.suite()))
    }

    /// Returns whether the ring has this key, stored or removed.
    pub fn contains(&self, key: &AnyKey) -> bool {
        match key {
            AnyKey::Rsa(key) => self.key(key.fingerprint()).is_some(),
            AnyKey::V2(key) => self.v2_key(&key.key_id()).is_some(),
        }
    }

    /// Returns the sealing key of v1: among the RSA keys that may seal, the newest whose certificate is valid now, or
    /// simply the newest if no certificate is valid. So a key that was generated while the clock was ahead does not
    /// seal before its validity begins. Compromised and opening-only keys never seal.
    ///
    /// # Errors
    ///
    /// Returns the reason why no key may seal.
    pub fn sealing_key(&self, now: Timestamp) -> Result<&Arc<RingKey>, NoSealingKey> {
        choose(
            self.keys.iter().filter(|key| key.certificate.is_some()),
            |key| self.sealing_refusal(Suite::Rsa, key.marks),
            |key| key.is_valid(now),
            NoSealingKey::NoKey,
        )
    }

    /// Returns the sealing key of a suite, chosen like [`Self::sealing_key`]. Never falls back to another suite, which
    /// could give up the protection against quantum computers.
    ///
    /// # Errors
    ///
    /// Returns the reason why no key of the suite may seal.
    pub fn sealing_key_of(&self, suite: Suite, now: Timestamp) -> Result<AnyKey, NoSealingKey> {
        if suite == Suite::Rsa {
            return self
                .sealing_key(now)
                .map(|key| AnyKey::Rsa(Arc::clone(key)));
        }
        let key = choose(
            self.v2_keys.iter().filter(|key| key.suite() == suite),
            |key| self.sealing_refusal(suite, key.marks()),
            |key| key.is_valid(now),
            NoSealingKey::NoKeyOfSuite(suite),
        )?;
        Ok(AnyKey::V2(Arc::clone(key)))
    }

    /// Returns whether an RSA key may seal: the RSA keys are not removed, and its marks and the policy allow it. Does
    /// not check that the key has a certificate.
    pub fn can_seal(&self, key: &RingKey) -> bool {
        self.sealing_refusal(Suite::Rsa, key.marks).is_none()
    }

    /// Returns why a key may not seal; `None` if its suite is not removed, and its marks and the policy allow it.
    pub fn why_key_cannot_seal(&self, key: &AnyKey) -> Option<NoSealingKey> {
        self.sealing_refusal(key.suite(), key.marks())
    }

    fn sealing_refusal(&self, suite: Suite, marks: Marks) -> Option<NoSealingKey> {
        if self.is_removed(suite) {
            Some(NoSealingKey::Removed)
        } else if marks.is_compromised {
            Some(NoSealingKey::Compromised)
        } else if marks.is_opening_only {
            Some(NoSealingKey::OpeningOnly)
        } else if self.requires_backup && marks.backed_up.is_none() {
            Some(NoSealingKey::NotBackedUp)
        } else {
            None
        }
    }

    /// Returns the newest RSA key of [`Self::own_keys`], whether or not it may seal.
    pub fn newest_key(&self) -> Option<&Arc<RingKey>> {
        let stored = self.keys.iter().filter(|_| !self.is_removed(Suite::Rsa));
        let mut own = stored.filter(|key| !key.marks.is_opening_only);
        own.next()
    }

    /// Returns the controller's own keys of a suite, newest first. Only these count for renewals. Omits opening-only
    /// keys, whose dates the author of the backup chose and whose private keys the author may know, and removed keys.
    pub fn own_keys(&self, suite: Suite) -> impl Iterator<Item = AnyKey> {
        let stored = self.stored_keys().filter(move |key| key.suite() == suite);
        stored.filter(|key| !key.marks().is_opening_only)
    }

    /// Returns whether there are no keys of any suite.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.v2_keys.is_empty()
    }

    /// Returns whether both rings contain the same keys in the same order, with the same names, order times and marks,
    /// and the same suites are removed.
    pub fn has_same_keys(&self, other: &Self) -> bool {
        let contents = |ring: &Self| -> Vec<(String, Timestamp, KeyId, Marks)> {
            let content = |k: AnyKey| (k.name().to_owned(), k.order_time(), k.key_id(), k.marks());
            ring.all_keys().map(content).collect()
        };
        self.removed_suites == other.removed_suites && contents(self) == contents(other)
    }

    /// Returns the key with this fingerprint.
    pub fn key(&self, fingerprint: &Fingerprint) -> Option<&Arc<RingKey>> {
        self.keys
            .iter()
            .find(|key| key.fingerprint() == fingerprint)
    }

    /// Unseals a value. Tries the keys named by `first` in that order, and then the others from newest to
    /// oldest, each at most once. Keys whose modulus length differs from the length in the value are not tried.
    ///
    /// # Errors
    ///
    /// Returns [`NoKey`] for every kind of failure.
    pub fn open(
        &self,
        label: &Label,
        sealed: &[u8],
        first: &[&Fingerprint],
    ) -> Result<(Plain, &Arc<RingKey>), NoKey> {
        let opened = self.open_value(label, sealed, first);
        opened.map(|(value, key)| (value.plain, key))
    }

    /// Like [`Self::open`], but also returns the session key of the value.
    ///
    /// # Errors
    ///
    /// Returns [`NoKey`] for every kind of failure.
    pub fn open_value(
        &self,
        label: &Label,
        sealed: &[u8],
        first: &[&Fingerprint],
    ) -> Result<(OpenedValue, &Arc<RingKey>), NoKey> {
        let result = self.open_value_within(label, sealed, first, &mut Unmetered);
        result.map_err(|_| NoKey)
    }

    /// Like [`Self::open`], but reports to a meter before each private-key operation.
    ///
    /// # Errors
    ///
    /// Returns [`UnsealFailure`] if no key can decrypt the value or the meter ends the work.
    pub fn open_within(
        &self,
        label: &Label,
        sealed: &[u8],
        first: &[&Fingerprint],
        meter: &mut dyn Meter,
    ) -> Result<(Plain, &Arc<RingKey>), UnsealFailure> {
        let opened = self.open_value_within(label, sealed, first, meter);
        opened.map(|(opened, key)| (opened.plain, key))
    }

    /// Like [`Self::open_within`], but also returns the session key of the value.
    ///
    /// # Errors
    ///
    /// Returns [`UnsealFailure`] if no key can decrypt the value or the meter ends the work.
    pub fn open_value_within(
        &self,
        label: &Label,
        sealed: &[u8],
        first: &[&Fingerprint],
        meter: &mut dyn Meter,
    ) -> Result<(OpenedValue, &Arc<RingKey>), UnsealFailure> {
        let len = envelope::modulus_len(sealed).ok_or(NoKey)?;
        let is_first = |key: &&Arc<RingKey>| first.contains(&key.fingerprint());
        let distinct = first.iter().enumerate();
        let distinct = distinct.filter(|(i, name)| !first[..*i].contains(name));
        let preferred = distinct.filter_map(|(_, name)| self.key(name));
        let others = self.keys.iter().filter(|key| !is_first(key));
        let candidates = preferred
            .chain(others)
            .filter(|key| key.private.modulus_len() == len);
        for key in candidates {
            meter.spend(opening_cost(len, sealed.len()))?;
            if let Ok(opened) = envelope::open_value(&key.private, label, sealed) {
                return Ok((opened, key));
            }
        }
        Err(NoKey.into())
    }
}

/// Returns the key that seals: of the keys that may seal, the first that is valid now, or else the first.
fn choose<K: Copy>(
    keys: impl Iterator<Item = K> + Clone,
    sealing_refusal: impl Fn(K) -> Option<NoSealingKey>,
    is_valid: impl Fn(K) -> bool,
    error_if_empty: NoSealingKey,
) -> Result<K, NoSealingKey> {
    let mut can_seal = keys.clone().filter(|key| sealing_refusal(*key).is_none());
    let valid = can_seal.clone().find(|key| is_valid(*key));
    let chosen = valid.or_else(|| can_seal.next());
    chosen.ok_or_else(|| combine_reasons(keys.filter_map(sealing_refusal), error_if_empty))
}

/// Combines the reasons why each key may not seal into one error; `error_if_empty` if there are no keys.
fn combine_reasons(
    reasons: impl Iterator<Item = NoSealingKey>,
    error_if_empty: NoSealingKey,
) -> NoSealingKey {
    let mut result = error_if_empty;
    for reason in reasons {
        result = match (result, reason) {
            // A backup of one key is sufficient, whatever the reasons of the other keys.
            (NoSealingKey::NotBackedUp, _) => result,
            (
                NoSealingKey::Compromised | NoSealingKey::CompromisedOrOpeningOnly,
                NoSealingKey::OpeningOnly,
            )
            | (
                NoSealingKey::OpeningOnly | NoSealingKey::CompromisedOrOpeningOnly,
                NoSealingKey::Compromised,
            ) => NoSealingKey::CompromisedOrOpeningOnly,
            _ => reason,
        };
    }
    result
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use std::collections::BTreeMap;

    use super::*;
    use crate::key::new_test_key;
    use crate::key_secret::{self, OrderPriority};
    use crate::scope::Scope;

    fn key(name: &str, order_time: i64) -> Arc<RingKey> {
        let pair = new_test_key(order_time).pair;
        Arc::new(RingKey::new(
            name.into(),
            Timestamp::from_second(order_time).unwrap(),
            pair,
        ))
    }

    fn sealed_for(key: &RingKey) -> Vec<u8> {
        let label = Scope::Strict.label("ns", "n");
        let public = key.certificate().unwrap().public_key();
        envelope::seal(public, &label, b"value", &mut StdRng::seed_from_u64(2)).unwrap()
    }

    #[test]
    fn the_newest_key_seals_and_ties_go_to_the_first_registered() {
        let (old, new, tie) = (key("old", 1), key("new", 2), key("tie", 2));
        let newest = |keys: &[&Arc<RingKey>]| {
            let ring = KeyRing::new(keys.iter().map(|k| Arc::clone(k)));
            ring.sealing_key(Timestamp::UNIX_EPOCH)
                .unwrap()
                .name()
                .to_owned()
        };
        assert_eq!(newest(&[&old, &new]), "new");
        assert_eq!(newest(&[&new, &old]), "new");
        assert_eq!(newest(&[&new, &tie]), "new");
        assert_eq!(newest(&[&tie, &new]), "tie");
        assert!(
            KeyRing::default()
                .sealing_key(Timestamp::UNIX_EPOCH)
                .is_err()
        );
        assert!(KeyRing::default().newest_key().is_none());
    }

    /// Attack: a client causes the controller to choose a key for sealing that is compromised, opening-only, or not
    /// backed up although a backup is required.
    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn seals_only_with_permitted_keys() {
        use NoSealingKey::{
            Compromised, CompromisedOrOpeningOnly, NoKey, NotBackedUp, OpeningOnly,
        };
        let marked = |second, backed_up: bool, is_compromised| {
            let backed_up = backed_up.then_some(Timestamp::UNIX_EPOCH);
            let pair = new_test_key(second).pair;
            let order_time = Timestamp::from_second(second).unwrap();
            let key = RingKey::new(second.to_string(), order_time, pair);
            Arc::new(key.with_marks(Marks {
                backed_up,
                is_compromised,
                ..Marks::default()
            }))
        };
        let restored = |second| {
            let order_time = Timestamp::from_second(second).unwrap();
            let key = RingKey::new("restored".into(), order_time, new_test_key(second).pair);
            Arc::new(key.with_marks(Marks {
                backed_up: Some(Timestamp::UNIX_EPOCH),
                is_opening_only: true,
                ..Marks::default()
            }))
        };
        let restored4 = restored(4);
        let [unmarked1, unmarked2] = [1, 2].map(|n| marked(n, false, false));
        let backed_up1 = marked(1, true, false);
        let [compromised1, compromised3] = [1, 3].map(|n| marked(n, true, true));
        for (why, keys, requires_backup, want) in [
            ("nothing", vec![], true, Err(NoKey)),
            (
                "the newest key",
                vec![&unmarked1, &unmarked2],
                false,
                Ok("2"),
            ),
            (
                "not backed up",
                vec![&unmarked1, &unmarked2],
                true,
                Err(NotBackedUp),
            ),
            (
                "the previous key seals until then",
                vec![&backed_up1, &unmarked2],
                true,
                Ok("1"),
            ),
            (
                "compromised, backup required",
                vec![&backed_up1, &compromised3],
                true,
                Ok("1"),
            ),
            (
                "compromised, no backup required",
                vec![&unmarked1, &compromised3],
                false,
                Ok("1"),
            ),
            (
                "compromised alone",
                vec![&compromised3],
                false,
                Err(Compromised),
            ),
            (
                "opening-only, newer and backed up",
                vec![&backed_up1, &restored4],
                true,
                Ok("1"),
            ),
            (
                "opening-only, alone",
                vec![&restored4],
                false,
                Err(OpeningOnly),
            ),
            (
                "compromised, and the other not backed up",
                vec![&unmarked1, &compromised3],
                true,
                Err(NotBackedUp),
            ),
            (
                "some compromised, the others opening-only",
                vec![&compromised1, &restored4, &compromised3],
                false,
                Err(CompromisedOrOpeningOnly),
            ),
            (
                "compromised and older, and the other not backed up",
                vec![&compromised1, &unmarked2],
                true,
                Err(NotBackedUp),
            ),
        ] {
            let keys = keys.into_iter().map(Arc::clone);
            let ring = KeyRing::new(keys).with_required_backup(requires_backup);
            let sealing_key = ring.sealing_key(Timestamp::UNIX_EPOCH);
            assert_eq!(sealing_key.map(|key| key.name()), want, "{why}");
            let may_any = ring.keys().iter().any(|key| ring.can_seal(key));
            assert_eq!(may_any, want.is_ok(), "{why}");
            assert_eq!(ring.is_empty(), want == Err(NoKey), "{why}");
        }
    }

    /// Attack: a client plants an opening-only key with a date in the far future, to prevent the renewal of the other
    /// keys.
    #[test]
    fn an_opening_only_key_is_never_the_newest_key() {
        let future = key("future", 9_000_000_000);
        let pair = new_test_key(9_000_000_001).pair;
        let marks = Marks {
            is_opening_only: true,
            ..Marks::default()
        };
        let time = Timestamp::from_second(9_000_000_001).unwrap();
        let planted = Arc::new(RingKey::new("planted".into(), time, pair).with_marks(marks));
        let newest_name = |keys: &[&Arc<RingKey>]| {
            let ring = KeyRing::new(keys.iter().map(|k| Arc::clone(k)));
            ring.newest_key().map(|key| key.name().to_owned())
        };
        assert_eq!(newest_name(&[&future, &planted]).as_deref(), Some("future"));
        assert_eq!(newest_name(&[&planted]), None);
    }

    #[test]
    fn prefers_the_newest_key_with_a_valid_certificate() {
        let day = |days: i64| Timestamp::from_second(days * 86_400).unwrap();
        let key = |name: &str, not_before: i64| {
            let pair = new_test_key(not_before * 86_400).pair;
            Arc::new(RingKey::new(name.into(), day(not_before), pair))
        };
        let end = new_test_key(0).pair.certificate().not_after();
        let last_day = end.as_second() / 86_400;
        let (old, new) = (key("old", 0), key("new", 40));
        for (why, keys, now, want) in [
            (
                "the newer key was generated while the clock was ahead",
                vec![&old, &new],
                day(1),
                "old",
            ),
            (
                "the newer key became valid",
                vec![&old, &new],
                day(40),
                "new",
            ),
            ("there is no other key", vec![&new], day(1), "new"),
            (
                "the older one has expired",
                vec![&old, &new],
                day(last_day + 1),
                "new",
            ),
            (
                "all have expired",
                vec![&old, &new],
                day(last_day + 50),
                "new",
            ),
            ("none is valid yet", vec![&old, &new], day(-1), "new"),
        ] {
            let ring = KeyRing::new(keys.into_iter().map(Arc::clone));
            assert_eq!(ring.sealing_key(now).unwrap().name(), want, "{why}");
        }
    }

    #[test]
    fn removed_keys_unseal_and_are_neither_the_sealing_nor_the_newest_key() {
        let (label, key) = (Scope::Strict.label("ns", "n"), key("a", 1));
        let ring = KeyRing::default().with_removed([AnyKey::Rsa(Arc::clone(&key))]);
        assert!(ring.open(&label, &sealed_for(&key), &[]).is_ok());
        assert_eq!(
            ring.sealing_key(Timestamp::UNIX_EPOCH).unwrap_err(),
            NoSealingKey::Removed
        );
        assert!(ring.newest_key().is_none());
    }

    #[test]
    fn rings_are_the_same_if_keys_names_order_and_marks_are_equal() {
        let new = new_test_key(1);
        let copy = |name: &str, second, marks| {
            let mut secret = key_secret::build(name, "ns", &new, BTreeMap::new(), BTreeMap::new());
            let created = Timestamp::from_second(second).unwrap();
            secret.metadata.creation_timestamp = Some(crate::resource::time(created));
            let parsed = key_secret::parse(&secret, OrderPriority::SecretCreationTimestamp);
            Arc::new(parsed.unwrap().with_marks(marks))
        };
        let unmarked = Marks::default();
        let marked = Marks {
            is_compromised: true,
            ..unmarked
        };
        let (a, b) = (copy("a", 1, unmarked), key("b", 2));
        let ring = |keys: &[&Arc<RingKey>]| KeyRing::new(keys.iter().map(|k| Arc::clone(k)));
        assert_eq!(copy("a", 1, marked).marks(), marked);
        let original = ring(&[&a]);
        for (why, other, want) in [
            ("itself", ring(&[&a]), true),
            ("nothing", KeyRing::default(), false),
            ("one more", ring(&[&a, &b]), false),
            ("another key", ring(&[&b]), false),
            ("read again", ring(&[&copy("a", 1, unmarked)]), true),
            ("another name", ring(&[&copy("c", 1, unmarked)]), false),
            ("another time", ring(&[&copy("a", 2, unmarked)]), false),
            ("another mark", ring(&[&copy("a", 1, marked)]), false),
            (
                "removed",
                KeyRing::default().with_removed([AnyKey::Rsa(Arc::clone(&a))]),
                false,
            ),
        ] {
            assert_eq!(original.has_same_keys(&other), want, "{why}");
        }
    }

    #[test]
    fn any_key_unseals_and_is_reported() {
        let keys = [key("a", 1), key("b", 2), key("c", 3)];
        let ring = KeyRing::new(keys.clone());
        let label = Scope::Strict.label("ns", "n");
        for sealer in &keys {
            for hint in &keys {
                let sealed = sealed_for(sealer);
                let (plain, opener) = ring.open(&label, &sealed, &[hint.fingerprint()]).unwrap();
                assert_eq!(
                    (plain.expose(), opener.name()),
                    (&b"value"[..], sealer.name())
                );
            }
        }
        assert_eq!(
            ring.open(&label, &sealed_for(&key("d", 4)), &[])
                .unwrap_err(),
            NoKey
        );
        assert_eq!(ring.open(&label, b"", &[]).unwrap_err(), NoKey);
    }

    #[test]
    fn one_key_in_two_secrets_counts_once() {
        let new = new_test_key(1);
        let parse_key = |name| {
            let secret = key_secret::build(name, "ns", &new, BTreeMap::new(), BTreeMap::new());
            Arc::new(key_secret::parse(&secret, OrderPriority::CertNotBefore).unwrap())
        };
        let ring = KeyRing::new([parse_key("first"), parse_key("second")]);
        let names: Vec<_> = ring.keys().iter().map(|key| key.name()).collect();
        assert_eq!(names, ["first"]);
    }
}
