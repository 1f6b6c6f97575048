//! One key Secret, its key and its state.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use shared::error_chain;
use shared::key::Fingerprint;
use shared::key_marks::{self, KeyProperties, KeyState};
use shared::key_ring::{KeyRing, RingKey};
use shared::key_secret::{self, OrderPriority};
use shared::secret::Secret;

/// The name of the key Secret of upstream's first releases, which is active without a label.
pub const LEGACY_NAME: &str = shared::resource::UNLABELED_KEY_NAME;

/// A key Secret. **It contains the private key.**
pub struct KeyRecord {
    /// The Secret as it is stored.
    pub secret: Secret,
    /// The key, or why the Secret contains no usable key.
    pub key: Result<Arc<RingKey>, String>,
    /// The fingerprint, the order time and the marks of the key, and whether it is active.
    pub properties: KeyProperties,
    /// The file that contains the Secret; `None` in a cluster or an archive.
    pub file: Option<PathBuf>,
    /// Whether the Secret can be read. If not, it may contain any key.
    pub is_readable: bool,
}

impl KeyRecord {
    /// Creates the record of a key Secret. If the key cannot be parsed, the record contains the error.
    pub fn new(secret: Secret, file: Option<PathBuf>) -> Self {
        let key = key_secret::parse(&secret, OrderPriority::CertNotBefore);
        let key = key.map(Arc::new).map_err(|error| error_chain(&error));
        let parsed = key.as_ref().ok();
        let parsed = parsed.map(|key| (key.fingerprint(), key.order_time()));
        let mut properties = KeyProperties::new(&secret.metadata, parsed);
        // Controllers, also upstream's, read this key whatever its label is.
        properties.is_active |= secret.metadata.name.as_deref() == Some(LEGACY_NAME);
        Self {
            secret,
            key,
            properties,
            file,
            is_readable: true,
        }
    }

    /// Returns the record of a Secret in the cluster that cannot be read.
    pub fn unreadable(name: &str, why: &str) -> Self {
        let mut secret = Secret::default();
        secret.metadata.name = Some(name.to_owned());
        Self {
            properties: KeyProperties::new(&secret.metadata, None),
            secret,
            key: Err(format!("it cannot be read: {why}")),
            file: None,
            is_readable: false,
        }
    }

    /// Returns the name of the Secret.
    pub fn name(&self) -> &str {
        self.secret.metadata.name.as_deref().unwrap_or_default()
    }

    /// Returns the fingerprint of the key, if the key can be parsed.
    pub fn fingerprint(&self) -> Option<&Fingerprint> {
        self.properties.fingerprint.as_ref()
    }

    /// Returns the end of the certificate's validity; `None` if the Secret contains no usable key or no certificate.
    pub fn valid_until(&self) -> Option<Timestamp> {
        let key = self.key.as_ref().ok()?;
        Some(key.certificate()?.not_after())
    }
}

/// Returns the state of each key; see [`key_marks::states`].
pub fn states(records: &[KeyRecord], served: Option<&Fingerprint>) -> Vec<KeyState> {
    let properties: Vec<KeyProperties> = records
        .iter()
        .map(|record| record.properties.clone())
        .collect();
    key_marks::states(&properties, served)
}

/// Returns every usable key, including retired keys. The ring is only for trial decryption, not for sealing.
pub fn ring(records: &[KeyRecord]) -> KeyRing {
    KeyRing::new(
        records
            .iter()
            .filter_map(|record| record.key.as_ref().ok().cloned()),
    )
}

#[cfg(test)]
mod tests {
    use shared::resource::KEY_LABEL;

    use super::*;

    const MANIFEST: &str =
        include_str!("../../../tests/seal/key-fixtures/state/keys/key-2024.yaml");

    #[test]
    fn a_key_is_active_by_its_label_or_by_the_legacy_name() {
        for (name, label, want) in [
            ("k", Some("active"), true),
            ("k", Some("retired"), false),
            ("k", None, false),
            (LEGACY_NAME, Some("active"), true),
            (LEGACY_NAME, Some("retired"), true),
            (LEGACY_NAME, Some("compromised"), true),
            (LEGACY_NAME, Some(""), true),
            (LEGACY_NAME, None, true),
        ] {
            let secrets = crate::keys::directory::secrets(MANIFEST.as_bytes());
            let mut secret = secrets.unwrap().remove(0);
            secret.metadata.name = Some(name.to_owned());
            let labels = label.map(|label| [(KEY_LABEL.to_owned(), label.to_owned())].into());
            secret.metadata.labels = labels;
            let record = KeyRecord::new(secret, None);
            assert_eq!(record.properties.is_active, want, "{name} {label:?}");
        }
    }
}
