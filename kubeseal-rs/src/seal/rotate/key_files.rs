//! Compares the certificate to seal for with the dates of the key Secrets of `--key`. Keys in PEM have no dates and are
//! not compared. [`crate::seal::marked_keys`] checks their marks.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use jiff::Timestamp;
use kubeseal_library::bounded::Kind;
use kubeseal_library::files;
use kubeseal_library::keys::KeyRecord;
use shared::key::{Certificate, Fingerprint};
use shared::key_secret;
use shared::manifest::{self, Reading};
use shared::resource::{KEY_ACTIVE, KEY_LABEL};
use shared::secret::Secret;

use crate::report;
use crate::seal::marked_keys::{describe_certificate, remedy};
use crate::seal::settings::Settings;

/// A key Secret of `--key`.
struct KeyFileRecord {
    name: String,
    created: Timestamp,
}

/// The newest key Secret of `--key` that may seal.
pub(super) struct KeyFiles {
    /// The newest key that may seal.
    newest: Option<KeyFileRecord>,
    /// Certificates that a warning was printed for, so that a tree gets one warning per certificate.
    warned: Mutex<BTreeSet<Fingerprint>>,
}

impl KeyFiles {
    /// Reads the files a second time, because a ring of their keys has no dates. Pipes are skipped: they
    /// cannot be read twice.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self> {
        let mut records = Vec::new();
        for path in paths.iter().filter(|path| path.is_file()) {
            let bytes = files::read_as(path, Kind::Keys)?;
            records.extend(secrets(&bytes).into_iter().map(|s| KeyRecord::new(s, None)));
        }
        Ok(Self::of(&records))
    }

    fn of(records: &[KeyRecord]) -> Self {
        let may_seal = |record: &&KeyRecord| {
            !record.properties.marks.is_sealing_forbidden() && is_in_use(record)
        };
        let newest = records.iter().filter(may_seal).filter_map(file_record);
        Self {
            newest: newest.max_by_key(|key| key.created),
            warned: Mutex::default(),
        }
    }

    /// Warns if `--key` contains a newer key than the certificate's. A newer key is not an error, because the keys may be
    /// of several clusters.
    pub(super) fn warn_of_newer_key(&self, settings: &Settings, certificate: &Certificate) {
        let own = certificate.fingerprint();
        if let Some(key) = self.newest_if_after(certificate)
            && self.is_first_warning(own)
        {
            report::warn(&format!(
                "{} is older than the key {} (--key)\n\
                 hint: if both belong to the same cluster, this re-encrypts for an old key: {}",
                describe_certificate(settings, own),
                key.name,
                remedy(settings)
            ));
        }
    }

    /// Returns the newest key if it is newer than this certificate.
    fn newest_if_after(&self, certificate: &Certificate) -> Option<&KeyFileRecord> {
        let newest = self.newest.as_ref();
        newest.filter(|key| key.created > certificate.not_before())
    }

    fn is_first_warning(&self, certificate: &Fingerprint) -> bool {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        warned.insert(certificate.clone())
    }
}

/// Returns the Secrets in a file. Other documents are skipped: reading the keys already reported them.
fn secrets(bytes: &[u8]) -> Vec<Secret> {
    let documents = manifest::read(bytes).unwrap_or_default();
    let each = documents
        .iter()
        .flat_map(|document| key_secret::secrets(document, &mut Reading::default()));
    each.filter_map(Result::ok).collect()
}

/// Returns whether the key is in use, that is, not retired. A missing label counts as in use: a copy may have lost it.
fn is_in_use(record: &KeyRecord) -> bool {
    let labels = record.secret.metadata.labels.as_ref();
    let label = labels.and_then(|labels| labels.get(KEY_LABEL));
    label.is_none_or(|label| label == KEY_ACTIVE)
}

fn file_record(record: &KeyRecord) -> Option<KeyFileRecord> {
    record.fingerprint()?;
    Some(KeyFileRecord {
        name: record.name().to_owned(),
        created: record.properties.order_time,
    })
}

#[cfg(test)]
mod tests {
    use shared::resource::{COMPROMISED_ANNOTATION, KEY_RETIRED};

    use super::*;

    const OLD: &[u8] = include_bytes!("../../../tests/seal/key-fixtures/state/keys/key-2024.yaml");
    const NEW: &[u8] = include_bytes!("../../../tests/seal/key-fixtures/state/keys/key-2025.yaml");

    fn record(manifest: &[u8], mark: Option<&str>, label: Option<&str>) -> KeyRecord {
        let mut secret = secrets(manifest).remove(0);
        if let Some(mark) = mark {
            let annotations = secret.metadata.annotations.get_or_insert_default();
            annotations.insert(mark.to_owned(), String::new());
        }
        if let Some(label) = label {
            let labels = secret.metadata.labels.get_or_insert_default();
            labels.insert(KEY_LABEL.to_owned(), label.to_owned());
        }
        KeyRecord::new(secret, None)
    }

    fn certificate(manifest: &[u8]) -> Certificate {
        let key = record(manifest, None, None).key.unwrap();
        let pem = key.certificate().unwrap().to_pem();
        Certificate::from_pem(pem.as_bytes()).unwrap()
    }

    #[test]
    fn reports_a_newer_key_only_if_it_may_seal() {
        for (why, mark, label, want) in [
            ("in use", None, None, true),
            ("retired", None, Some(KEY_RETIRED), false),
            ("compromised", Some(COMPROMISED_ANNOTATION), None, false),
        ] {
            let key_files = KeyFiles::of(&[record(OLD, None, None), record(NEW, mark, label)]);
            assert_eq!(
                key_files.newest_if_after(&certificate(OLD)).is_some(),
                want,
                "{why}"
            );
            assert!(
                key_files.newest_if_after(&certificate(NEW)).is_none(),
                "{why}"
            );
        }
        assert!(
            KeyFiles::of(&[])
                .newest_if_after(&certificate(OLD))
                .is_none()
        );
    }

    #[test]
    fn warns_about_a_certificate_once() {
        let (key_files, old) = (KeyFiles::of(&[]), certificate(OLD));
        assert!(key_files.is_first_warning(old.fingerprint()));
        assert!(!key_files.is_first_warning(old.fingerprint()));
    }
}
