//! The Secret that stores a key and its certificate: type `kubernetes.io/tls`, items `tls.key` (PKCS#1 PEM)
//! and `tls.crt`, label [`KEY_LABEL`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::key::{
    Certificate, CertificateError, KeyPair, MismatchedPair, NewKey, PrivateKey, PrivateKeyError,
};
use crate::key_marks::Marks;
use crate::key_ring::RingKey;
use crate::manifest::{Document, Node, Reading, Value};
use crate::plain::Plain;
use crate::resource::{DocumentError, KEY_ACTIVE, KEY_LABEL, KEY_LABELS, UNLABELED_KEY_NAME, time};
use crate::secret::Secret;
use crate::v2;

/// Item with the private key.
pub const PRIVATE_KEY_ITEM: &str = "tls.key";
/// Item with the certificate.
pub const CERTIFICATE_ITEM: &str = "tls.crt";
/// The type of a Secret with an RSA key.
const KEY_SECRET_TYPE: &str = "kubernetes.io/tls";

/// The time by which keys are ordered, to find the newest key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OrderPriority {
    /// The start of the certificate's validity.
    #[default]
    CertNotBefore,
    /// The Secret's creation time, or the start of the certificate's validity if the Secret has none.
    SecretCreationTimestamp,
}

/// Why a Secret contains no usable key. The controller skips such a Secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySecretError {
    /// An item is missing.
    #[error("it has no item `{0}`")]
    Missing(&'static str),
    /// `tls.key` is unusable.
    #[error("tls.key cannot be used")]
    Private(#[from] PrivateKeyError),
    /// `tls.crt` is unusable.
    #[error("tls.crt cannot be used")]
    Certificate(#[from] CertificateError),
    /// Key and certificate do not match.
    #[error(transparent)]
    Mismatch(#[from] MismatchedPair),
}

/// Returns the objects in a document that contains keys: the items of a list, or the object itself. Lists that
/// client-go writes may lack a `kind`, on the list or its items, so they are recognized by `items`.
pub fn objects(root: &Node) -> Vec<&Node> {
    const LISTS: [&str; 2] = ["List", "SecretList"];
    let has_kind = root.text("kind").is_some_and(|kind| !kind.is_empty());
    match root.field("items").map(|items| &items.value) {
        Some(Value::List(items)) if !has_kind => items
            .iter()
            .flat_map(|item| item.list_items(&LISTS))
            .collect(),
        _ => root.list_items(&LISTS),
    }
}

/// Returns the Secrets in a document that contains keys. Each has a separate result.
pub fn secrets(document: &Document, reading: &mut Reading) -> Vec<Result<Secret, DocumentError>> {
    objects(&document.root)
        .into_iter()
        .map(|node| Secret::from_node(node, reading))
        .collect()
}

/// Returns whether a Secret contains a private key of a controller, active or not, according to its labels, its name,
/// or a v2 key in one of its items. An RSA key without its label and under another name cannot be distinguished from
/// other TLS keys, unless its public key is known: see [`rsa_keys`].
pub fn has_private_key(secret: &Secret) -> bool {
    let metadata = &secret.metadata;
    let labels = metadata.labels.iter().flat_map(BTreeMap::keys);
    let name = metadata.name.as_deref().unwrap_or_default();
    let has_item = |item: &str| secret.data.contains_key(item);
    has_key_label(labels)
        || is_named_like_key(name, secret.type_.as_deref(), has_item)
        || secret.data.values().any(is_v2_key)
}

/// Returns whether a Secret has the name and the items of an RSA key: the name that controllers use without a label, or a
/// generated name, which begins with it, and the type of such Secrets.
pub fn is_named_like_key(name: &str, type_: Option<&str>, has_item: impl Fn(&str) -> bool) -> bool {
    let is_generated = name.starts_with(UNLABELED_KEY_NAME)
        && type_ == Some(KEY_SECRET_TYPE)
        && has_item(CERTIFICATE_ITEM);
    (name == UNLABELED_KEY_NAME || is_generated) && has_item(PRIVATE_KEY_ITEM)
}

/// Returns the RSA private keys in values.
pub fn rsa_keys<'a>(values: impl IntoIterator<Item = &'a Plain>) -> Vec<PrivateKey> {
    let values = values.into_iter();
    let keys = values.map(|value| PrivateKey::all_from_pem(value.expose()));
    keys.flat_map(Result::unwrap_or_default).collect()
}

/// Returns whether one of these label names marks a private key of a controller. The value of the label is ignored,
/// since it only shows whether the key is active.
pub fn has_key_label<'a>(labels: impl IntoIterator<Item = &'a String>) -> bool {
    let mut labels = labels.into_iter();
    labels.any(|label| KEY_LABELS.contains(&label.as_str()))
}

/// Returns whether a value is a v2 key in one of its text forms. As in a file of keys, comments may precede it.
pub fn is_v2_key(value: &Plain) -> bool {
    let text = std::str::from_utf8(value.expose()).unwrap_or_default();
    let mut lines = text.lines().map(str::trim_ascii);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    first.is_some_and(v2::SecretKey::begins_like_key)
}

/// Returns whether the Secret stores an active RSA key: [`KEY_LABEL`] has the value [`KEY_ACTIVE`].
pub fn is_active(metadata: &ObjectMeta) -> bool {
    let label = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(KEY_LABEL));
    label.is_some_and(|value| value == KEY_ACTIVE)
}

/// Reads a key Secret.
///
/// # Errors
///
/// Returns the reason why the key is unusable.
pub fn parse(secret: &Secret, priority: OrderPriority) -> Result<RingKey, KeySecretError> {
    let private = PrivateKey::from_pem(item(secret, PRIVATE_KEY_ITEM)?.expose())?;
    let certificate = Certificate::from_pem(item(secret, CERTIFICATE_ITEM)?.expose())?;
    let pair = KeyPair::new(private, certificate)?;
    let name = secret.metadata.name.clone().unwrap_or_default();
    let marks = Marks::read(&secret.metadata, pair.fingerprint());
    let key = RingKey::new(name, order_time(secret, &pair, priority), pair);
    Ok(key.with_marks(marks))
}

fn item<'a>(secret: &'a Secret, key: &'static str) -> Result<&'a Plain, KeySecretError> {
    secret.data.get(key).ok_or(KeySecretError::Missing(key))
}

fn order_time(secret: &Secret, pair: &KeyPair, priority: OrderPriority) -> Timestamp {
    let creation_time = secret
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|time| time.0);
    match (priority, creation_time) {
        (OrderPriority::SecretCreationTimestamp, Some(creation_time)) => creation_time,
        _ => pair.certificate().not_before(),
    }
}

/// Returns the Secret that stores a new key, in upstream's format. `labels` cannot override the label that marks the
/// key as active.
pub fn build(
    name: &str,
    namespace: &str,
    key: &NewKey,
    mut labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
) -> Secret {
    labels.insert(KEY_LABEL.into(), KEY_ACTIVE.into());
    let certificate = key.pair.certificate();
    Secret {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some(namespace.into()),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            creation_timestamp: Some(time(certificate.not_before())),
            ..ObjectMeta::default()
        },
        type_: Some(KEY_SECRET_TYPE.into()),
        immutable: None,
        data: BTreeMap::from([
            (PRIVATE_KEY_ITEM.into(), key.private_pem.clone()),
            (CERTIFICATE_ITEM.into(), Plain::from(certificate.to_pem())),
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::new_test_key;

    fn build_secret() -> Secret {
        build(
            "k",
            "kube-system",
            &new_test_key(1_700_000_000),
            BTreeMap::new(),
            BTreeMap::new(),
        )
    }

    #[test]
    fn reads_what_it_builds() {
        let secret = build_secret();
        let key = parse(&secret, OrderPriority::CertNotBefore).unwrap();
        assert!(is_active(&secret.metadata));
        assert_eq!(key.name(), "k");
        assert_eq!(key.order_time().as_second(), 1_700_000_000);
    }

    #[test]
    fn is_active_only_with_the_label_value_active() {
        for (labels, want) in [
            (None, false),
            (Some(("other", "active")), false),
            (Some((KEY_LABEL, "compromised")), false),
            (Some((KEY_LABEL, "")), false),
            (Some((KEY_LABEL, "active")), true),
        ] {
            let metadata = ObjectMeta {
                labels: labels.map(|(k, v)| BTreeMap::from([(k.to_owned(), v.to_owned())])),
                ..ObjectMeta::default()
            };
            assert_eq!(is_active(&metadata), want, "{labels:?}");
        }
    }

    #[test]
    fn the_secret_has_upstreams_metadata_and_the_requested_labels() {
        let single = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let key = new_test_key(1_700_000_000);
        let secret = build("k", "kube-system", &key, single("l", "1"), single("a", "2"));
        let mut labels = single("l", "1");
        labels.insert(KEY_LABEL.into(), KEY_ACTIVE.into());
        let want = ObjectMeta {
            name: Some("k".into()),
            namespace: Some("kube-system".into()),
            labels: Some(labels),
            annotations: Some(single("a", "2")),
            creation_timestamp: Some(time(Timestamp::from_second(1_700_000_000).unwrap())),
            ..ObjectMeta::default()
        };
        assert_eq!(secret.metadata, want);
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
        assert_eq!(
            build_secret().metadata.annotations,
            None,
            "no annotations instead of an empty mapping"
        );
    }

    #[test]
    fn orders_by_creation_time_if_requested_and_present() {
        let mut secret = build_secret();
        secret.metadata.creation_timestamp = Some(time(Timestamp::from_second(5).unwrap()));
        let order =
            |secret: &Secret, priority| parse(secret, priority).unwrap().order_time().as_second();
        assert_eq!(order(&secret, OrderPriority::SecretCreationTimestamp), 5);
        assert_eq!(order(&secret, OrderPriority::CertNotBefore), 1_700_000_000);
        secret.metadata.creation_timestamp = None;
        assert_eq!(
            order(&secret, OrderPriority::SecretCreationTimestamp),
            1_700_000_000
        );
    }

    type Damage = fn(&mut Secret, &NewKey);

    /// Attack: a client stores a private key with the certificate of another key (the last case), so that values are
    /// sealed for a key that the controller does not have.
    #[test]
    fn reports_why_a_key_is_unusable() {
        let other = new_test_key(1_700_000_001);
        let cases: [(&str, Damage, &str); 4] = [
            (
                "no key",
                |s, _| drop(s.data.remove("tls.key")),
                "it has no item `tls.key`",
            ),
            (
                "no certificate",
                |s, _| drop(s.data.remove("tls.crt")),
                "it has no item `tls.crt`",
            ),
            (
                "garbage",
                |s, _| drop(s.data.insert("tls.key".into(), Plain::from(vec![1]))),
                "tls.key cannot be used: no PEM block",
            ),
            (
                "another certificate",
                |s, other| {
                    let pem = other.pair.certificate().to_pem();
                    s.data.insert("tls.crt".into(), Plain::from(pem));
                },
                "the certificate (SHA256:",
            ),
        ];
        for (why, damage, want) in cases {
            let mut secret = build_secret();
            damage(&mut secret, &other);
            let error = parse(&secret, OrderPriority::CertNotBefore).unwrap_err();
            let error = crate::error_chain(&error);
            assert!(error.starts_with(want), "{why}: {error}");
        }
    }
}
