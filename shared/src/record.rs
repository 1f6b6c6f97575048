//! Records in statuses: keyed digests that prove that a Secret was created from a SealedSecret.
//!
//! A reader of statuses must not learn anything about values from a record. A keyed digest of the values is
//! not enough for that: anyone can seal a guess and have the controller compute its digest. So the digest of
//! the values covers the [`Identity`] of the object, with its ciphertext and generation, which an author
//! cannot repeat for another value. The `resourceVersion` of the Secret does not change if nothing changes,
//! so it is published as a digest too. See "Guesses" in `controller/NOTES.md`.
//!
//! A writer of statuses must not make the controller accept a Secret that differs from its SealedSecret. So
//! the proof covers everything that the Secret depends on: the [`Identity`] of the SealedSecret, the configured
//! rules, limits and tolerance of drift, and which Secret it is. A record that is copied, outdated, forged or
//! malformed is ignored: it costs a decryption and nothing else.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::hmac;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::base64;
use crate::key_ring::KeyRing;
use crate::resource::{
    MANAGED_ANNOTATION, PATCH_ANNOTATION, SKIP_OWNER_ANNOTATION, SealedSecret, SecretRecord,
};
use crate::scope::Scope;
use crate::secret::Secret;
use crate::unseal::Rules;

/// Annotations of a Secret that allow the controller to change it.
const CONSENTS: [&str; 3] = [MANAGED_ANNOTATION, PATCH_ANNOTATION, SKIP_OWNER_ANNOTATION];

/// The indexes of the proofs in a record. In this order, they prove that the version was unsealed, that the Secret
/// matches the version under the rules, where the content of the Secret comes from, whether the Secret has former
/// values, and whether its names and sizes are public. The first proof stays valid when the rules change, because it
/// decides whether random values are kept. The third proof stays valid for later versions of the Secret.
const UNSEALED_PROOF: usize = 0;
const MATCHES_PROOF: usize = 1;
const ORIGIN_PROOF: usize = 2;
const FORMER_PROOF: usize = 3;
const SIZES_PROOF: usize = 4;

/// Identifies one version of one SealedSecret: SHA-256 over namespace, name, `uid`, generation, scope and
/// `spec`. It is public, and short enough to be kept for many objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity([u8; 32]);

impl Identity {
    /// Returns the identity of an object, or `None` if the object has no `uid`.
    pub fn of(sealed: &SealedSecret) -> Option<Self> {
        sealed.metadata.uid.as_ref()?;
        Self::from_manifest(sealed)
    }

    /// Returns the identity of an object that may be a manifest in a file, without `uid`.
    pub fn from_manifest(sealed: &SealedSecret) -> Option<Self> {
        let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
        let spec = serde_json::to_vec(&sealed.spec).ok()?;
        let generation = sealed.metadata.generation.unwrap_or_default();
        let mut digest = Context::new(&SHA256);
        for part in [
            sealed.namespace_or_empty().as_bytes(),
            sealed.name_or_empty().as_bytes(),
            sealed
                .metadata
                .uid
                .as_deref()
                .unwrap_or_default()
                .as_bytes(),
            &generation.to_be_bytes(),
            scope.to_string().as_bytes(),
            &spec,
        ] {
            digest.update(&length(part));
            digest.update(part);
        }
        digest.finish().as_ref().try_into().ok().map(Self)
    }

    /// Returns the bytes of the digest.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The inputs that a Secret was created from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The version of the SealedSecret.
    pub identity: Identity,
    /// The configured rules for unsealing.
    pub rules: Rules,
    /// A string that identifies the other limits that the object was checked against.
    pub limits: &'a str,
    /// Whether the controller tolerates edits by other clients. A record is genuine only under the setting that it was
    /// created with.
    pub tolerates_drift: bool,
}

/// The facts that a record proves about a Secret, besides its origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether all content of the Secret comes from the SealedSecret.
    pub is_exclusive: bool,
    /// Whether the Secret has former values.
    pub has_former: bool,
    /// Whether the SealedSecret shows the item names and the sizes of the values.
    pub has_public_sizes: bool,
}

/// Creates the record that shows that this stored Secret was created from the SealedSecret. Uses the newest RSA key of
/// the ring that is neither compromised nor opening-only. Returns `None` if there is no such key, or if the Secret has
/// no `uid` or `resourceVersion`.
pub fn create(
    origin: Origin<'_>,
    secret: &Secret,
    facts: Facts,
    ring: &KeyRing,
) -> Option<SecretRecord> {
    let key = ring
        .keys()
        .iter()
        .find(|key| key.is_trusted_for_records())?;
    let (identity, metadata) = (origin.identity, &secret.metadata);
    let secret_uid = metadata.uid.clone()?;
    let resource_version = metadata.resource_version.as_ref()?;
    let version = version_tag(key.record_key(), identity, &secret_uid, resource_version);
    let mut record = SecretRecord {
        secret_uid,
        secret_version: base64::encode(version.as_ref()),
        key: key.fingerprint().to_string(),
        content: base64::encode(content_tag(key.record_key(), identity, secret).as_ref()),
        proof: String::new(),
    };
    let key = key.record_key();
    let proofs = [
        unsealed_tag(key, origin.identity),
        proof(key, origin, &record),
        origin_tag(key, &record.secret_uid, facts.is_exclusive),
        former_tag(key, &record, facts.has_former),
        sizes_tag(key, &record, resource_version, facts.has_public_sizes),
    ];
    let proofs: Vec<u8> = proofs.iter().flat_map(hmac::Tag::as_ref).copied().collect();
    record.proof = base64::encode(&proofs);
    Some(record)
}

/// Returns whether the record was created for this origin, whichever Secret it describes, with an RSA key of the ring
/// that is neither compromised nor opening-only.
pub fn is_genuine(record: &SecretRecord, origin: Origin<'_>, ring: &KeyRing) -> bool {
    let has = |index, tag: hmac::Tag| has_proof(record, index, &tag);
    trusted_key(record, ring).is_some_and(|key| {
        has(UNSEALED_PROOF, unsealed_tag(key, origin.identity))
            && has(MATCHES_PROOF, proof(key, origin, record))
            && [false, true]
                .into_iter()
                .any(|flag| has(ORIGIN_PROOF, origin_tag(key, &record.secret_uid, flag)))
    })
}

/// Returns whether the record proves that the controller last wrote the Secret with this `uid` without merging: no
/// annotation of the Secret allowed a merge. Unlike the other proofs about the Secret, this one does not depend on the
/// version of the Secret.
pub fn is_exclusive(record: &SecretRecord, uid: &str, ring: &KeyRing) -> bool {
    let expected = trusted_key(record, ring).map(|key| origin_tag(key, uid, true));
    record.secret_uid == uid && expected.is_some_and(|tag| has_proof(record, ORIGIN_PROOF, &tag))
}

/// Returns whether the Secret in the recorded version, or with the recorded content, may have former values. True if
/// the record does not prove the opposite.
pub fn may_have_former(record: &SecretRecord, ring: &KeyRing) -> bool {
    let expected = trusted_key(record, ring).map(|key| former_tag(key, record, false));
    !expected.is_some_and(|tag| has_proof(record, FORMER_PROOF, &tag))
}

/// Returns whether the record proves that the item names and value sizes of this version of the Secret are public,
/// because its SealedSecret shows them.
pub fn has_public_sizes(record: &SecretRecord, secret: &ObjectMeta, ring: &KeyRing) -> bool {
    let version = secret.resource_version.as_deref().unwrap_or_default();
    let expected = trusted_key(record, ring).map(|key| sizes_tag(key, record, version, true));
    secret.uid.as_deref() == Some(&record.secret_uid)
        && expected.is_some_and(|tag| has_proof(record, SIZES_PROOF, &tag))
}

/// Returns whether the record was created for this version of the object, under any rules and limits, with an RSA key
/// of the ring that is neither compromised nor opening-only: if so, this version was unsealed.
pub fn is_proof_of_unsealing(record: &SecretRecord, identity: Identity, ring: &KeyRing) -> bool {
    let expected = trusted_key(record, ring).map(|key| unsealed_tag(key, identity));
    expected.is_some_and(|tag| has_proof(record, UNSEALED_PROOF, &tag))
}

/// Returns whether the record of the object with this identity names the Secret with this `uid` and version.
pub fn is_for_secret(
    record: &SecretRecord,
    identity: Identity,
    ring: &KeyRing,
    uid: &str,
    version: &str,
) -> bool {
    let expected = trusted_key(record, ring).map(|key| version_tag(key, identity, uid, version));
    record.secret_uid == uid && expected.is_some_and(|tag| is_tag(&tag, &record.secret_version))
}

/// Returns whether the record of the object shows that the Secret still has the recorded content, whatever its version.
/// Labels and annotations that other clients added are ignored, except annotations that allow the controller to change
/// the Secret. Returns false for the deprecated form, whose labels and annotations are sealed.
pub fn is_for_content(
    record: &SecretRecord,
    identity: Identity,
    sealed: &SealedSecret,
    ring: &KeyRing,
    secret: &Secret,
) -> bool {
    has_recorded_values(record, identity, ring, secret)
        && has_template_metadata(sealed, &secret.metadata)
}

/// Like [`is_for_content`], but ignores all labels and annotations, except annotations that allow the controller to
/// change the Secret. Accepts the deprecated form too.
pub fn has_recorded_values(
    record: &SecretRecord,
    identity: Identity,
    ring: &KeyRing,
    secret: &Secret,
) -> bool {
    let expected = trusted_key(record, ring).map(|key| content_tag(key, identity, secret));
    secret.metadata.uid.as_deref() == Some(&record.secret_uid)
        && expected.is_some_and(|tag| is_tag(&tag, &record.content))
}

fn trusted_key<'a>(record: &SecretRecord, ring: &'a KeyRing) -> Option<&'a hmac::Key> {
    let fingerprint = record.key.parse().ok()?;
    // Skip compromised and opening-only keys: an attacker who has such a key can compute records.
    let trusted = ring
        .key(&fingerprint)
        .filter(|key| key.is_trusted_for_records());
    trusted.map(|key| key.record_key())
}

fn is_tag(expected: &hmac::Tag, text: &str) -> bool {
    is_equal_tag(expected.as_ref(), &decode(text))
}

fn decode(text: &str) -> Vec<u8> {
    base64::decode(text.as_bytes()).unwrap_or_default()
}

/// Compares in constant time, so that a forger does not learn how many bytes are correct.
fn is_equal_tag(expected: &[u8], received: &[u8]) -> bool {
    verify_slices_are_equal(expected, received).is_ok()
}

/// Returns whether the Secret has all labels and annotations of the template. Returns false for the
/// deprecated form, whose labels and annotations are sealed.
fn has_template_metadata(sealed: &SealedSecret, secret: &ObjectMeta) -> bool {
    let template = &sealed.spec.template.metadata;
    sealed.spec.data.is_none()
        && [
            (&template.labels, &secret.labels),
            (&template.annotations, &secret.annotations),
        ]
        .into_iter()
        .all(|(expected, actual)| {
            let mut expected = expected.iter().flatten();
            expected.all(|(key, text)| actual.as_ref().and_then(|f| f.get(key)) == Some(text))
        })
}

/// Returns the digest of the Secret's version. It also covers the object, since the version stays the same if a write
/// changes nothing.
fn version_tag(key: &hmac::Key, identity: Identity, uid: &str, version: &str) -> hmac::Tag {
    let mut digest = Digest::new(key, b"version");
    digest.add(&identity.0);
    digest.add(uid.as_bytes());
    digest.add(version.as_bytes());
    digest.finish()
}

fn content_tag(key: &hmac::Key, identity: Identity, secret: &Secret) -> hmac::Tag {
    let metadata = &secret.metadata;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let owners = serde_json::to_vec(&metadata.owner_references).unwrap_or_default();
    let mut digest = Digest::new(key, b"content of a generation");
    digest.add(&identity.0);
    digest.add(text(&metadata.namespace).as_bytes());
    digest.add(text(&metadata.name).as_bytes());
    digest.add(text(&metadata.uid).as_bytes());
    digest.add(text(&secret.type_).as_bytes());
    digest.add(&[u8::from(secret.immutable == Some(true))]);
    digest.add(&owners);
    for name in CONSENTS {
        let consent = metadata.annotations.as_ref().and_then(|a| a.get(name));
        digest.add(consent.map_or(&b""[..], |text| text.as_bytes()));
    }
    for (item, value) in &secret.data {
        digest.add(item.as_bytes());
        digest.add(value.expose());
    }
    digest.finish()
}

/// Returns whether the record has this proof at this index. Records of earlier releases have fewer proofs.
fn has_proof(record: &SecretRecord, index: usize, expected: &hmac::Tag) -> bool {
    let (proofs, expected) = (decode(&record.proof), expected.as_ref());
    let received = proofs.chunks(expected.len()).nth(index);
    is_equal_tag(expected, received.unwrap_or_default())
}

/// Returns the digest that proves whether the Secret has former values. It covers the digests of version and content,
/// so that it counts only in its own record.
fn former_tag(key: &hmac::Key, record: &SecretRecord, has_former: bool) -> hmac::Tag {
    let mut digest = Digest::new(key, b"former values in a Secret");
    digest.add(record.secret_uid.as_bytes());
    digest.add(record.secret_version.as_bytes());
    digest.add(record.content.as_bytes());
    digest.add(&[u8::from(has_former)]);
    digest.finish()
}

/// Returns the digest that proves whether names and sizes are public. It covers the version of the Secret, since it
/// must not count after another client has written the Secret; the digest of the version differs for each identity.
fn sizes_tag(key: &hmac::Key, record: &SecretRecord, version: &str, is_public: bool) -> hmac::Tag {
    let mut digest = Digest::new(key, b"public sizes in a Secret");
    digest.add(record.secret_uid.as_bytes());
    digest.add(record.secret_version.as_bytes());
    digest.add(version.as_bytes());
    digest.add(&[u8::from(is_public)]);
    digest.finish()
}

/// Returns the digest that proves whether all content of the Secret with this `uid` comes from its SealedSecret.
fn origin_tag(key: &hmac::Key, secret_uid: &str, is_exclusive: bool) -> hmac::Tag {
    let mut digest = Digest::new(key, b"origin of the content of a Secret");
    digest.add(secret_uid.as_bytes());
    digest.add(&[u8::from(is_exclusive)]);
    digest.finish()
}

fn unsealed_tag(key: &hmac::Key, identity: Identity) -> hmac::Tag {
    let mut digest = Digest::new(key, b"this version was unsealed");
    digest.add(&identity.0);
    digest.finish()
}

/// Returns the digest that proves that the Secret matches its SealedSecret under these rules. Destructures the settings
/// without `..`, so that the compiler reports each new setting: a proof without the new setting would stay valid when
/// that setting changes.
fn proof(key: &hmac::Key, origin: Origin<'_>, record: &SecretRecord) -> hmac::Tag {
    let Origin {
        identity,
        rules: Rules {
            accept_legacy,
            refuse_random,
        },
        limits,
        tolerates_drift,
    } = origin;
    let settings = [accept_legacy, refuse_random, tolerates_drift];
    let mut digest = Digest::new(key, b"proof of a generation");
    digest.add(&identity.0);
    digest.add(&settings.map(u8::from));
    digest.add(limits.as_bytes());
    digest.add(record.secret_uid.as_bytes());
    digest.add(record.secret_version.as_bytes());
    digest.add(record.content.as_bytes());
    digest.finish()
}

/// Hashes parts with their lengths, so that no two lists of parts give the same input.
pub(crate) struct Digest(hmac::Context);

impl Digest {
    pub(crate) fn new(key: &hmac::Key, purpose: &[u8]) -> Self {
        let mut digest = Self(hmac::Context::with_key(key));
        digest.add(purpose);
        digest
    }

    pub(crate) fn add(&mut self, part: &[u8]) {
        self.0.update(&length(part));
        self.0.update(part);
    }

    /// Adds a marker that differs from every other part.
    pub(crate) fn add_absent(&mut self) {
        self.0.update(&u64::MAX.to_be_bytes());
    }

    pub(crate) fn finish(self) -> hmac::Tag {
        self.0.sign()
    }
}

fn length(part: &[u8]) -> [u8; 8] {
    u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, LazyLock};

    use jiff::Timestamp;
    use proptest::prelude::{any, proptest};

    use super::*;
    use crate::key::{NewKey, new_test_key};
    use crate::key_marks::Marks;
    use crate::key_ring::RingKey;
    use crate::plain::Plain;
    use crate::resource::SealedSecretSpec;

    const RULES: Rules = Rules {
        accept_legacy: true,
        refuse_random: false,
    };

    const FACTS: Facts = Facts {
        is_exclusive: true,
        has_former: false,
        has_public_sizes: true,
    };

    fn ring(keys: impl IntoIterator<Item = (i64, NewKey)>) -> KeyRing {
        KeyRing::new(keys.into_iter().map(|(second, key)| {
            let time = Timestamp::from_second(second).unwrap();
            Arc::new(RingKey::new(format!("k{second}"), time, key.pair))
        }))
    }

    fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let to_owned_pair = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(to_owned_pair).collect()
    }

    fn sealed_secret() -> SealedSecret {
        let mut sealed = SealedSecret::new("n", SealedSecretSpec::default());
        sealed.metadata.namespace = Some("ns".into());
        sealed.metadata.uid = Some("u".into());
        sealed.metadata.generation = Some(1);
        sealed.spec.encrypted_data.insert("a".into(), "AAAA".into());
        sealed.spec.template.metadata.labels = Some(texts(&[("l", "v")]));
        sealed
    }

    fn secret() -> Secret {
        let mut secret = Secret::default();
        secret.metadata.namespace = Some("ns".into());
        secret.metadata.name = Some("n".into());
        secret.metadata.uid = Some("su".into());
        secret.metadata.resource_version = Some("7".into());
        secret.metadata.labels = Some(texts(&[("l", "v"), ("other", "x")]));
        secret.data.insert("a".into(), Plain::from("1".to_owned()));
        secret
    }

    fn origin(sealed: &SealedSecret) -> Origin<'static> {
        Origin {
            identity: Identity::of(sealed).unwrap(),
            rules: RULES,
            limits: "",
            tolerates_drift: false,
        }
    }

    #[test]
    fn a_record_is_genuine_only_for_its_object() {
        type Change = fn(&mut SealedSecret);
        let ring = ring([(1, new_test_key(1))]);
        let record = create(origin(&sealed_secret()), &secret(), FACTS, &ring).unwrap();
        let cases: [(&str, bool, Change); 9] = [
            ("itself", true, |_| {}),
            ("another generation", false, |s| {
                s.metadata.generation = Some(2);
            }),
            ("a label of the SealedSecret", true, |s| {
                s.metadata.labels = Some(texts(&[("x", "y")]));
            }),
            ("another namespace", false, |s| {
                s.metadata.namespace = Some("n2".into());
            }),
            ("another name", false, |s| {
                s.metadata.name = Some("n2".into());
            }),
            ("recreated with the same name", false, |s| {
                s.metadata.uid = Some("u2".into());
            }),
            ("another scope", false, |s| {
                Scope::ClusterWide.annotate(s.metadata.annotations.get_or_insert_default());
            }),
            ("another value", false, |s| {
                s.spec.encrypted_data.insert("a".into(), "AAAB".into());
            }),
            ("another template", false, |s| {
                s.spec.template.metadata.labels = Some(texts(&[("l", "w")]));
            }),
        ];
        for (why, is_accepted, change) in cases {
            let mut sealed = sealed_secret();
            change(&mut sealed);
            assert_eq!(
                is_genuine(&record, origin(&sealed), &ring),
                is_accepted,
                "{why}"
            );
            let identity = Identity::of(&sealed).unwrap();
            assert_eq!(
                is_proof_of_unsealing(&record, identity, &ring),
                is_accepted,
                "{why}"
            );
        }
    }

    /// Attack: a client changes each field of a status record, so that the controller accepts a Secret that it did not
    /// write.
    #[test]
    fn a_modified_record_proves_nothing() {
        type Forge = fn(&mut SecretRecord);
        let ring = ring([(1, new_test_key(1)), (2, new_test_key(2))]);
        let valid_record = create(origin(&sealed_secret()), &secret(), FACTS, &ring).unwrap();
        let forgeries: [(&str, Forge); 6] = [
            ("another Secret", |r| r.secret_uid = "x".into()),
            ("another version", |r| r.secret_version = "8".into()),
            ("other content", |r| r.content = r.proof.clone()),
            ("no proof", |r| r.proof = String::new()),
            ("not base64", |r| r.proof = "*".into()),
            ("not a fingerprint", |r| r.key = "x".into()),
        ];
        assert!(is_genuine(&valid_record, origin(&sealed_secret()), &ring));
        for (why, forge) in forgeries {
            let mut record = valid_record.clone();
            forge(&mut record);
            assert!(
                !is_genuine(&record, origin(&sealed_secret()), &ring),
                "{why}"
            );
        }
    }

    #[test]
    fn a_record_is_valid_only_with_its_key_and_under_its_rules() {
        let [old, new] = [1, 2].map(|second| (second, new_test_key(second)));
        let sealed = sealed_secret();
        let only_old = ring([old]);
        let record = create(origin(&sealed), &secret(), FACTS, &only_old).unwrap();
        let both = KeyRing::new(
            only_old
                .keys()
                .iter()
                .cloned()
                .chain(ring([new]).keys().iter().cloned()),
        );
        assert!(is_genuine(&record, origin(&sealed), &both));
        let only_new = KeyRing::new([Arc::clone(both.newest_key().unwrap())]);
        assert!(!is_genuine(&record, origin(&sealed), &only_new));
        assert!(!is_genuine(&record, origin(&sealed), &KeyRing::default()));
        let tolerant = Origin {
            tolerates_drift: true,
            ..origin(&sealed)
        };
        assert!(!is_genuine(&record, tolerant, &both));
        let identity = Identity::of(&sealed).unwrap();
        assert!(
            is_proof_of_unsealing(&record, identity, &both),
            "under other rules"
        );
        assert!(!is_proof_of_unsealing(&record, identity, &only_new));
        let mut strict = origin(&sealed);
        strict.rules.refuse_random = true;
        assert!(!is_genuine(&record, strict, &both));
        let limited = Origin {
            limits: "x",
            ..origin(&sealed)
        };
        assert!(!is_genuine(&record, limited, &both));
    }

    #[test]
    fn a_record_accepts_a_secret_with_the_same_content() {
        type Change = fn(&mut Secret);
        let ring = ring([(1, new_test_key(1))]);
        let sealed = sealed_secret();
        let record = create(origin(&sealed), &secret(), FACTS, &ring).unwrap();
        let cases: [(&str, bool, Change); 9] = [
            ("itself", true, |_| {}),
            ("another version", true, |s| {
                s.metadata.resource_version = Some("9".into());
            }),
            ("a label of another client removed", true, |s| {
                s.metadata.labels = Some(texts(&[("l", "v")]));
            }),
            ("a template label changed", false, |s| {
                s.metadata.labels = Some(texts(&[("l", "w")]));
            }),
            ("a value changed", false, |s| {
                s.data.insert("a".into(), Plain::from("2".to_owned()));
            }),
            ("a value added", false, |s| {
                s.data.insert("b".into(), Plain::default());
            }),
            ("immutable", false, |s| s.immutable = Some(true)),
            ("recreated", false, |s| s.metadata.uid = Some("x".into())),
            ("the patch annotation added", false, |s| {
                s.metadata.annotations = Some(texts(&[(PATCH_ANNOTATION, "true")]));
            }),
        ];
        for (why, is_accepted, change) in cases {
            let mut secret = secret();
            change(&mut secret);
            let identity = origin(&sealed).identity;
            assert_eq!(
                is_for_content(&record, identity, &sealed, &ring, &secret),
                is_accepted,
                "{why}"
            );
        }
    }

    #[test]
    fn a_record_names_one_version_of_one_secret() {
        let (ring, identity) = (
            ring([(1, new_test_key(1))]),
            origin(&sealed_secret()).identity,
        );
        let record = create(origin(&sealed_secret()), &secret(), FACTS, &ring).unwrap();
        for (uid, version, want) in [
            ("su", "7", true),
            ("su", "8", false),
            ("another", "7", false),
            ("another", "8", false),
        ] {
            let is_named = is_for_secret(&record, identity, &ring, uid, version);
            assert_eq!(is_named, want, "{uid} {version}");
        }
    }

    /// Attack: a client copies or changes a record, so that another Secret appears to come only from the SealedSecret,
    /// or that the controller no longer detects a merge.
    #[test]
    fn a_record_shows_for_every_version_whether_the_secret_has_other_content() {
        let ring = ring([(1, new_test_key(1))]);
        for is_exclusive in [true, false] {
            let facts = Facts {
                is_exclusive,
                ..FACTS
            };
            let mut record = create(origin(&sealed_secret()), &secret(), facts, &ring).unwrap();
            assert!(is_genuine(&record, origin(&sealed_secret()), &ring));
            let shown = |record: &SecretRecord, uid| super::is_exclusive(record, uid, &ring);
            assert_eq!(shown(&record, "su"), is_exclusive);
            assert!(!shown(&record, "another"));
            record.secret_uid = "another".into();
            assert!(!shown(&record, "another"));
            record.secret_uid = "su".into();
            assert!(!super::is_exclusive(&record, "su", &KeyRing::default()));
            record.proof.truncate(84);
            assert!(!shown(&record, "su"));
        }
    }

    /// Attack: a client shortens a record, or adds a proof of another record, so that former values are not found.
    #[test]
    fn a_record_shows_whether_its_secret_has_former_values_and_public_sizes() {
        let ring = ring([(1, new_test_key(1))]);
        let of = |facts, version: &str| {
            let mut secret = secret();
            secret.metadata.resource_version = Some(version.into());
            let record = create(origin(&sealed_secret()), &secret, facts, &ring).unwrap();
            (record, secret.metadata)
        };
        let with_former = Facts {
            has_former: true,
            has_public_sizes: false,
            ..FACTS
        };
        let (without, metadata) = of(FACTS, "7");
        let (mut record, later) = of(with_former, "8");
        assert!(!may_have_former(&without, &ring) && may_have_former(&record, &ring));
        assert!(has_public_sizes(&without, &metadata, &ring));
        assert!(!has_public_sizes(&without, &later, &ring));
        assert!(!has_public_sizes(&record, &later, &ring));
        record.proof = without.proof.clone();
        assert!(may_have_former(&record, &ring), "another record");
        assert!(!has_public_sizes(&record, &later, &ring), "another record");
        let shortened = base64::encode(&decode(&without.proof)[..96]);
        let mut record = without;
        record.proof = shortened;
        assert!(may_have_former(&record, &ring), "an earlier release");
        assert!(is_genuine(&record, origin(&sealed_secret()), &ring));
    }

    /// Attack: a client computes a record with a stolen key, so that the controller accepts a Secret that another
    /// client wrote.
    #[test]
    fn ignores_records_of_compromised_and_opening_only_keys() {
        let marks = Marks::default();
        for (why, marks, is_trusted) in [
            ("not compromised", marks, true),
            (
                "backed up",
                Marks {
                    backed_up: Some(Timestamp::UNIX_EPOCH),
                    ..marks
                },
                true,
            ),
            (
                "compromised",
                Marks {
                    is_compromised: true,
                    ..marks
                },
                false,
            ),
            (
                "opening-only",
                Marks {
                    is_opening_only: true,
                    ..marks
                },
                false,
            ),
        ] {
            let key = |second, marks| {
                let time = Timestamp::from_second(second).unwrap();
                let key = RingKey::new(format!("k{second}"), time, new_test_key(second).pair);
                Arc::new(key.with_marks(marks))
            };
            let stolen = KeyRing::new([key(2, Marks::default())]);
            let forged = create(origin(&sealed_secret()), &secret(), FACTS, &stolen).unwrap();
            let single = KeyRing::new([key(2, marks)]);
            let both = KeyRing::new([key(1, Marks::default()), key(2, marks)]);
            let identity = Identity::of(&sealed_secret()).unwrap();
            for ring in [&single, &both] {
                let genuine = is_genuine(&forged, origin(&sealed_secret()), ring);
                assert_eq!(genuine, is_trusted, "{why}");
                let is_named = is_for_secret(&forged, identity, ring, "su", "7");
                assert_eq!(is_named, is_trusted, "{why}");
                let is_accepted =
                    is_for_content(&forged, identity, &sealed_secret(), ring, &secret());
                assert_eq!(is_accepted, is_trusted, "{why}");
            }
            let new_record = create(origin(&sealed_secret()), &secret(), FACTS, &single);
            assert_eq!(new_record.is_some(), is_trusted, "{why}");
            let new_record = create(origin(&sealed_secret()), &secret(), FACTS, &both).unwrap();
            assert_eq!(new_record.key == forged.key, is_trusted, "{why}");
            assert!(
                is_genuine(&new_record, origin(&sealed_secret()), &both),
                "{why}"
            );
        }
    }

    /// Attack: a reader compares the records of two versions, to learn whether their values are equal.
    ///
    /// The version of a Secret stays the same if nothing changes, and so would any function of only the version.
    #[test]
    fn records_of_two_generations_share_only_the_uid_and_the_key() {
        let ring = ring([(1, new_test_key(1))]);
        let record_of = |generation, ciphertext: &str| {
            let mut sealed = sealed_secret();
            sealed.metadata.generation = Some(generation);
            let items = &mut sealed.spec.encrypted_data;
            items.insert("a".into(), ciphertext.to_owned());
            create(origin(&sealed), &secret(), FACTS, &ring).unwrap()
        };
        let first = record_of(1, "AAAA");
        assert_eq!(first, record_of(1, "AAAA"));
        for other in [
            record_of(2, "AAAA"),
            record_of(1, "BBBB"),
            record_of(2, "BBBB"),
        ] {
            assert_eq!(
                (&first.secret_uid, &first.key),
                (&other.secret_uid, &other.key)
            );
            assert_ne!(first.secret_version, other.secret_version);
            assert_ne!(first.content, other.content);
            assert_ne!(first.proof, other.proof);
        }
    }

    /// Earlier releases created records with the `resourceVersion` of the Secret itself, not with its digest.
    #[test]
    fn a_record_of_an_earlier_release_is_read_and_proves_nothing() {
        let ring = ring([(1, new_test_key(1))]);
        let key = ring.newest_key().unwrap();
        let mut old = create(origin(&sealed_secret()), &secret(), FACTS, &ring).unwrap();
        old.secret_version = "7".into();
        let mut digest = Digest::new(key.record_key(), b"proof");
        digest.add(&origin(&sealed_secret()).identity.0);
        digest.add(&[1, 0, 0]);
        for part in ["", "su", "7", &old.content] {
            digest.add(part.as_bytes());
        }
        old.proof = base64::encode(digest.finish().as_ref());
        let json = serde_json::to_value(&old).unwrap();
        assert_eq!(serde_json::from_value::<SecretRecord>(json).unwrap(), old);
        assert!(!is_genuine(&old, origin(&sealed_secret()), &ring));
        assert!(!is_for_secret(
            &old,
            origin(&sealed_secret()).identity,
            &ring,
            "su",
            "7"
        ));
    }

    /// Attack: a reader compares records of Secrets with known values, to learn an unknown value.
    #[test]
    fn records_of_equal_values_differ_between_keys_and_secrets() {
        let [a, b] = [1, 2].map(|second| ring([(second, new_test_key(second))]));
        let record_of =
            |ring: &KeyRing| create(origin(&sealed_secret()), &secret(), FACTS, ring).unwrap();
        assert_ne!(record_of(&a).content, record_of(&b).content);
        let mut other_secret = secret();
        other_secret.metadata.name = Some("n2".into());
        let other_record = create(origin(&sealed_secret()), &other_secret, FACTS, &a).unwrap();
        assert_ne!(record_of(&a).content, other_record.content);
    }

    fn digest_of(parts: [&[u8]; 2]) -> Vec<u8> {
        let mut digest = Digest::new(&hmac::Key::new(hmac::HMAC_SHA256, b"k"), b"");
        for part in parts {
            digest.add(part);
        }
        digest.finish().as_ref().to_vec()
    }

    /// If separators were used instead of lengths, they could also occur within a part.
    #[test]
    fn parts_that_look_like_lengths_change_the_digest() {
        for byte in [0, 1] {
            let length_bytes = [byte; 8];
            assert_ne!(
                digest_of([&length_bytes, &[]]),
                digest_of([&[], &length_bytes])
            );
        }
    }

    proptest! {
        #[test]
        fn rejects_arbitrary_records_without_a_panic(
            secret_uid in any::<String>(), secret_version in any::<String>(),
            content in any::<String>(), proof in any::<String>(),
        ) {
            // All cases share one ring, since generating keys is slow.
            static RING: LazyLock<KeyRing> = LazyLock::new(|| ring([(1, new_test_key(1))]));
            let fingerprint = RING.newest_key().unwrap().fingerprint().to_string();
            let record = SecretRecord { secret_uid, secret_version, key: fingerprint, content, proof };
            proptest::prop_assert!(!is_genuine(&record, origin(&sealed_secret()), &RING));
            let identity = origin(&sealed_secret()).identity;
            proptest::prop_assert!(!is_for_content(&record, identity, &sealed_secret(), &RING, &secret()));
            proptest::prop_assert!(!is_for_secret(&record, identity, &RING, "su", "7"));
        }

        #[test]
        fn different_parts_give_different_digests(a: Vec<u8>, b: Vec<u8>, cut: usize) {
            let joined = [a.clone(), b.clone()].concat();
            let cut = cut % (joined.len() + 1);
            let is_equal = digest_of([&a, &b]) == digest_of([&joined[..cut], &joined[cut..]]);
            proptest::prop_assert_eq!(is_equal, cut == a.len());
        }
    }
}
