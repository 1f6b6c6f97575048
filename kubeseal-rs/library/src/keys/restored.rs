//! Builds the Secret that is stored for a key in a backup: name, key, certificate, and marks.
//!
//! A backup is untrusted: anyone can encrypt an archive for its recipient. Metadata can trigger other programs: a
//! replicator, for example, copies a Secret into other namespaces. So no other metadata is restored.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use shared::key::Fingerprint;
use shared::key_marks::backed_up_text;
use shared::key_secret::{CERTIFICATE_ITEM, PRIVATE_KEY_ITEM};
use shared::resource::{
    BACKED_UP_ANNOTATION, COMPROMISED_ANNOTATION, KEY_ACTIVE, KEY_COMPROMISED, KEY_LABEL,
    KEY_RETIRED, OPENING_ONLY_ANNOTATION,
};
use shared::secret::Secret;

use super::record::KeyRecord;

/// The type of a key Secret.
const TYPE: &str = "kubernetes.io/tls";

/// What a restored key may be used for, as chosen by the administrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyUse {
    /// Unsealing only: the key gets the opening-only mark with this time.
    OpeningOnly(Timestamp),
    /// Sealing too: the administrator named the fingerprint of the key.
    Sealing,
}

/// A key Secret that is ready to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoredSecret {
    /// The Secret, without a namespace.
    pub secret: Secret,
    /// The properties of the Secret in the backup that are not restored, for display. Entries contain names from the
    /// backup, which are untrusted.
    pub left_out: Vec<String>,
}

impl RestoredSecret {
    /// Builds the Secret for a key in a backup. Metadata about where the Secret was before, such as
    /// its namespace and `uid`, is not restored and not listed.
    pub fn new(record: &KeyRecord, key: &Fingerprint, key_use: KeyUse) -> Self {
        let backup = &record.secret;
        let mut secret = Secret {
            type_: Some(TYPE.to_owned()),
            ..Secret::default()
        };
        secret.metadata.name.clone_from(&backup.metadata.name);
        secret.metadata.labels = Some(labels(record, key_use));
        let annotations = annotations(record, key, key_use);
        secret.metadata.annotations = Some(annotations).filter(|all| !all.is_empty());
        let is_kept =
            |item: &&String| [PRIVATE_KEY_ITEM, CERTIFICATE_ITEM].contains(&item.as_str());
        let items = backup.data.iter().filter(|(item, _)| is_kept(item));
        secret.data = items
            .map(|(item, value)| (item.clone(), value.clone()))
            .collect();
        let left_out = left_out(backup, &secret);
        Self { secret, left_out }
    }
}

/// Returns the properties of a Secret in a backup that the restored one does not have, for display. A mark as
/// opening-only that is removed or replaced is not listed.
pub fn left_out(backup: &Secret, restored: &Secret) -> Vec<String> {
    let names = |metadata: &Option<BTreeMap<String, String>>| -> BTreeSet<String> {
        metadata
            .iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect()
    };
    let (before, after) = (&backup.metadata, &restored.metadata);
    let labels = &names(&before.labels) - &names(&after.labels);
    let mut annotations = &names(&before.annotations) - &names(&after.annotations);
    annotations.remove(OPENING_ONLY_ANNOTATION);
    let items = backup
        .data
        .keys()
        .filter(|item| !restored.data.contains_key(*item));
    let labels = labels.iter().map(|name| format!("label {name}"));
    let annotations = annotations.iter().map(|name| format!("annotation {name}"));
    labels
        .chain(annotations)
        .chain(other_properties(backup, restored))
        .chain(items.map(|item| format!("item {item}")))
        .collect()
}

fn labels(record: &KeyRecord, key_use: KeyUse) -> BTreeMap<String, String> {
    let labels = record.secret.metadata.labels.as_ref();
    let state = labels.and_then(|labels| labels.get(KEY_LABEL));
    let state = state.map(String::as_str);
    let state = match state {
        // Controllers read the key of the Secret `sealed-secrets-key` whatever its label is.
        _ if record.properties.is_active || key_use == KeyUse::Sealing => KEY_ACTIVE,
        Some(KEY_COMPROMISED) => KEY_COMPROMISED,
        // With any other value, controllers do not read the key.
        _ => KEY_RETIRED,
    };
    BTreeMap::from([(KEY_LABEL.to_owned(), state.to_owned())])
}

fn annotations(record: &KeyRecord, key: &Fingerprint, key_use: KeyUse) -> BTreeMap<String, String> {
    let empty = BTreeMap::new();
    let before = record
        .secret
        .metadata
        .annotations
        .as_ref()
        .unwrap_or(&empty);
    let mut annotations = BTreeMap::new();
    if let Some(time) = record.properties.marks.backed_up {
        annotations.insert(BACKED_UP_ANNOTATION.to_owned(), backed_up_text(key, time));
    }
    // In the backup, this mark may be a label, which is not restored.
    if record.properties.marks.is_compromised {
        let since = before.get(COMPROMISED_ANNOTATION);
        let since = since.and_then(|since| since.parse::<Timestamp>().ok());
        let since = since.map(|since| since.to_string());
        annotations.insert(COMPROMISED_ANNOTATION.to_owned(), since.unwrap_or_default());
    }
    if let KeyUse::OpeningOnly(since) = key_use {
        let since = since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        annotations.insert(OPENING_ONLY_ANNOTATION.to_owned(), since);
    }
    annotations
}

/// Returns which of these properties a Secret in a backup has and its restored Secret does not: owner references,
/// finalizers, immutability, and a different type.
fn other_properties(backup: &Secret, restored: &Secret) -> impl Iterator<Item = String> {
    let metadata = &backup.metadata;
    let is_nonempty = |list: Option<usize>| list.is_some_and(|len| len > 0);
    let type_ = backup.type_.as_deref();
    let type_ = type_.filter(|type_| restored.type_.as_deref() != Some(*type_));
    [
        is_nonempty(metadata.owner_references.as_ref().map(Vec::len))
            .then(|| "ownerReferences".to_owned()),
        is_nonempty(metadata.finalizers.as_ref().map(Vec::len)).then(|| "finalizers".to_owned()),
        (backup.immutable == Some(true)).then(|| "immutable".to_owned()),
        type_.map(|type_| format!("type {type_}")),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use shared::key_secret::{self, OrderPriority};
    use shared::plain::Plain;
    use shared::resource::RENEW_ANNOTATION;

    use super::*;
    use crate::keys::record::LEGACY_NAME;

    const MANIFEST: &str =
        include_str!("../../../tests/seal/key-fixtures/state/keys/key-2024.yaml");

    fn backup() -> Secret {
        let secrets = crate::keys::directory::secrets(MANIFEST.as_bytes());
        secrets.unwrap().remove(0)
    }

    fn restore(secret: Secret, key_use: KeyUse) -> RestoredSecret {
        let record = KeyRecord::new(secret, None);
        let key = record.fingerprint().unwrap().clone();
        RestoredSecret::new(&record, &key, key_use)
    }

    const OPENING_ONLY: KeyUse = KeyUse::OpeningOnly(Timestamp::UNIX_EPOCH);

    /// Annotations and labels that trigger widely used programs.
    const TRIGGERS: [&str; 14] = [
        "reflector.v1.k8s.emberstack.com/reflection-allowed",
        "reflector.v1.k8s.emberstack.com/reflection-auto-enabled",
        "replicator.v1.mittwald.de/replicate-to",
        "replicator.v1.mittwald.de/replicate-to-matching",
        "replicator.v1.mittwald.de/replication-allowed",
        "kubed.appscode.com/sync",
        "config-syncer.appscode.com/sync",
        "argocd.argoproj.io/sync-options",
        "argocd.argoproj.io/tracking-id",
        "kustomize.toolkit.fluxcd.io/reconcile",
        "helm.sh/resource-policy",
        "cert-manager.io/inject-ca-from-secret",
        "sealedsecrets.bitnami.com/managed",
        "sealedsecrets.bitnami.com/patch",
    ];

    /// Attack: an attacker adds an annotation or label to an archive, so that a replicator copies the private key into
    /// other namespaces.
    #[test]
    fn restores_no_metadata_that_triggers_another_program() {
        for name in TRIGGERS {
            let mut secret = backup();
            let entry = (name.to_owned(), "true".to_owned());
            secret.metadata.annotations = Some(BTreeMap::from([entry.clone()]));
            secret
                .metadata
                .labels
                .get_or_insert_default()
                .extend([entry]);
            let restored = restore(secret, OPENING_ONLY);
            assert_eq!(
                restored.left_out,
                [format!("label {name}"), format!("annotation {name}")]
            );
            assert_no_other_metadata(&restored.secret);
        }
    }

    fn assert_no_other_metadata(secret: &Secret) {
        let metadata = secret.metadata.clone();
        let keys = |map: Option<BTreeMap<String, String>>| map.unwrap_or_default().into_keys();
        let mut names = keys(metadata.annotations.clone());
        let allowed = [
            BACKED_UP_ANNOTATION,
            COMPROMISED_ANNOTATION,
            OPENING_ONLY_ANNOTATION,
        ];
        assert!(names.all(|name| allowed.contains(&name.as_str())));
        assert!(keys(metadata.labels.clone()).eq([KEY_LABEL.to_owned()]));
        let mut expected = Secret::default().metadata;
        expected.name.clone_from(&metadata.name);
        expected.labels.clone_from(&metadata.labels);
        expected.annotations.clone_from(&metadata.annotations);
        assert_eq!(metadata, expected);
        assert_eq!(secret.type_.as_deref(), Some(TYPE));
        assert_eq!(secret.immutable, None);
        assert!(secret.data.keys().eq(["tls.crt", "tls.key"]));
    }

    /// Attack: an attacker adds a Secret with an owner, a finalizer, another type or namespace, or further items to an
    /// archive, so that the restore creates them.
    #[test]
    fn restores_only_name_key_certificate_and_marks() {
        let mut secret = backup();
        secret.metadata.namespace = Some("elsewhere".into());
        secret.metadata.generate_name = Some("k".into());
        secret.metadata.owner_references =
            Some(std::iter::repeat_with(Default::default).take(1).collect());
        secret.metadata.finalizers = Some(vec!["foreign/finalizer".into()]);
        secret.metadata.uid = Some("1".into());
        secret.metadata.resource_version = Some("1".into());
        secret.type_ = Some("kubernetes.io/service-account-token".into());
        secret.immutable = Some(true);
        secret.data.insert("token".into(), Plain::from(vec![1]));
        let restored = restore(secret, OPENING_ONLY);
        assert_no_other_metadata(&restored.secret);
        assert_eq!(
            restored.left_out,
            [
                "ownerReferences",
                "finalizers",
                "immutable",
                "type kubernetes.io/service-account-token",
                "item token"
            ]
        );
    }

    #[test]
    fn keeps_the_marks_that_match_the_key() {
        let key = KeyRecord::new(backup(), None)
            .fingerprint()
            .unwrap()
            .clone();
        let backed_up = backed_up_text(&key, Timestamp::UNIX_EPOCH);
        let backup_mark_of_other_key = backed_up.replace("SHA256:", "SHA256:x");
        for (why, name, value, want, left_out) in [
            (
                "a backup of this key",
                BACKED_UP_ANNOTATION,
                backed_up.as_str(),
                Some(backed_up.as_str()),
                0,
            ),
            (
                "a backup of another key",
                BACKED_UP_ANNOTATION,
                backup_mark_of_other_key.as_str(),
                None,
                1,
            ),
            (
                "since a time",
                COMPROMISED_ANNOTATION,
                "2026-01-01T00:00:00Z",
                Some("2026-01-01T00:00:00Z"),
                0,
            ),
            (
                "since an invalid time",
                COMPROMISED_ANNOTATION,
                "\u{1b}[2J",
                Some(""),
                0,
            ),
            ("a request for a new key", RENEW_ANNOTATION, "true", None, 1),
        ] {
            let mut secret = backup();
            secret.metadata.annotations = Some(BTreeMap::from([(name.into(), value.into())]));
            let restored = restore(secret, OPENING_ONLY);
            let annotations = restored.secret.metadata.annotations.unwrap();
            assert_eq!(annotations.get(name).map(String::as_str), want, "{why}");
            assert_eq!(restored.left_out.len(), left_out, "{why}");
        }
    }

    #[test]
    fn restores_a_supported_label_and_a_mark_that_prevents_sealing() {
        for (name, label, key_use, want) in [
            ("k", Some("active"), OPENING_ONLY, "active"),
            ("k", Some("compromised"), OPENING_ONLY, "compromised"),
            ("k", Some("retired"), OPENING_ONLY, "retired"),
            ("k", Some("anything"), OPENING_ONLY, "retired"),
            ("k", None, OPENING_ONLY, "retired"),
            (LEGACY_NAME, None, OPENING_ONLY, "active"),
            (LEGACY_NAME, Some("retired"), OPENING_ONLY, "active"),
            (LEGACY_NAME, Some("anything"), OPENING_ONLY, "active"),
            (LEGACY_NAME, Some("compromised"), OPENING_ONLY, "active"),
            ("k", Some("active"), KeyUse::Sealing, "active"),
        ] {
            let mut secret = backup();
            secret.metadata.name = Some(name.into());
            let entry = |label: &str| BTreeMap::from([(KEY_LABEL.to_owned(), label.to_owned())]);
            secret.metadata.labels = label.map(entry);
            let restored = restore(secret, key_use);
            assert_eq!(
                restored.secret.metadata.labels,
                Some(entry(want)),
                "{label:?}"
            );
            let parsed = key_secret::parse(&restored.secret, OrderPriority::CertNotBefore);
            let marks = parsed.unwrap().marks();
            assert_eq!(marks.is_opening_only, key_use == OPENING_ONLY, "{label:?}");
            let is_compromised = label == Some("compromised");
            assert_eq!(marks.is_compromised, is_compromised, "{label:?}");
        }
    }

    proptest::proptest! {
        /// Attack: an attacker adds arbitrary labels, annotations and items to a Secret in an archive, so that the
        /// restore creates them.
        #[test]
        fn drops_all_metadata_of_other_programs(
            labels: BTreeMap<String, String>, annotations: BTreeMap<String, String>, items: Vec<String>,
        ) {
            let mut secret = backup();
            secret.metadata.labels = Some(labels);
            secret.metadata.annotations = Some(annotations);
            for item in items {
                secret.data.entry(item).or_insert_with(|| Plain::from(vec![0]));
            }
            assert_no_other_metadata(&restore(secret, OPENING_ONLY).secret);
        }
    }
}
