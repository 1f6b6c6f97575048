//! Checks the certificate to seal for against the key Secrets of `--key`: their dates and their marks as compromised.
//! Keys in PEM have neither and are not checked.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use jiff::Timestamp;
use kubeseal_library::bounded::Kind;
use kubeseal_library::keys::KeyRecord;
use kubeseal_library::redacted::redacted_source;
use kubeseal_library::rules::Source;
use kubeseal_library::{certificate, files};
use shared::key::{Certificate, Fingerprint};
use shared::key_secret;
use shared::manifest::{self, Reading};
use shared::resource::{KEY_ACTIVE, KEY_LABEL};
use shared::secret::Secret;

use crate::failure::Failure;
use crate::report;
use crate::report::ShowPath as _;
use crate::seal::settings::{Origin, Settings};

/// A key Secret of `--key`.
struct KeyFileRecord {
    name: String,
    fingerprint: Fingerprint,
    created: Timestamp,
}

/// The newest key Secret of `--key` that may seal, and the key Secrets that are marked as compromised.
pub(super) struct KeyFiles {
    /// The newest key that may seal.
    newest: Option<KeyFileRecord>,
    compromised: Vec<KeyFileRecord>,
    /// Certificates that a warning was printed for, so that a tree gets one warning per certificate.
    warned: Mutex<BTreeSet<Fingerprint>>,
}

impl KeyFiles {
    /// Reads the files a second time, because a key ring has neither dates nor marks. Pipes are skipped: they
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
        let is_compromised = |record: &&KeyRecord| record.properties.marks.is_compromised;
        Self {
            newest: newest.max_by_key(|key| key.created),
            compromised: records
                .iter()
                .filter(is_compromised)
                .filter_map(file_record)
                .collect(),
            warned: Mutex::default(),
        }
    }

    /// Checks that files may be sealed for this certificate, and warns if `--key` contains a newer key. A newer key
    /// is not an error, because the keys may be of several clusters.
    ///
    /// # Errors
    ///
    /// Fails if the key of the certificate is marked as compromised.
    pub(super) fn check(
        &self,
        settings: &Settings,
        certificate: &Certificate,
    ) -> Result<(), Failure> {
        let own = certificate.fingerprint();
        if let Some(key) = self.compromised.iter().find(|key| key.fingerprint == *own) {
            // An attacker could read the new values.
            let message = format!(
                "{} belongs to the key {}, which is marked as compromised",
                describe_certificate(settings, own),
                key.name
            );
            return Err(Failure::new(message).hint(remedy(settings)));
        }
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
        Ok(())
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
    Some(KeyFileRecord {
        name: record.name().to_owned(),
        fingerprint: record.fingerprint()?.clone(),
        created: record.properties.order_time,
    })
}

/// Describes the certificate and its origin (a flag, a variable, a rule or the controller), for messages.
fn describe_certificate(settings: &Settings, fingerprint: &Fingerprint) -> String {
    match &settings.certificate.value {
        Source::At(at) => {
            let (at, by) = (redacted_source(at), settings.certificate.by);
            format!("the certificate {at} ({by}), {fingerprint},")
        }
        Source::Controller { .. } => {
            format!("the certificate that the controller serves, {fingerprint},")
        }
    }
}

fn remedy(settings: &Settings) -> String {
    match &settings.certificate.value {
        Source::At(at) if certificate::is_url(at) => {
            let at = redacted_source(at);
            format!("check that {at} serves the new certificate, or pass a file with --cert")
        }
        Source::At(at) => format!(
            "fetch the new certificate with `seal cert fetch -o {}` (`seal cert fetch URL -o FILE` from a \
             controller on a directory), or pass it with --cert",
            certificate_path(settings, at).shown()
        ),
        Source::Controller { .. } => {
            "check in `seal keys list` which key is the sealing key, or pass a file with --cert"
                .to_owned()
        }
    }
}

/// Returns the path of the certificate file. A path from a rule is relative to the directory of `.seal.yaml`.
fn certificate_path(settings: &Settings, at: &OsStr) -> PathBuf {
    match &settings.rules {
        Some(rules) if settings.certificate.by == Origin::Rule => rules.directory().join(at),
        _ => Path::new(at).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use shared::resource::{COMPROMISED_ANNOTATION, KEY_RETIRED};

    use super::*;
    use crate::seal::settings;
    use crate::seal_args::Sealing;

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

    fn settings_with_cert_flag() -> Settings {
        let args = Sealing {
            cert: Some("cert.pem".into()),
            ..Sealing::default()
        };
        settings::decide(None, None, &args, |_| None).unwrap()
    }

    #[test]
    fn refuses_the_certificate_of_a_compromised_key() {
        let key_files = KeyFiles::of(&[
            record(OLD, Some(COMPROMISED_ANNOTATION), None),
            record(NEW, None, None),
        ]);
        let old = certificate(OLD);
        let error = key_files
            .check(&settings_with_cert_flag(), &old)
            .unwrap_err();
        let message = error.to_string();
        let fingerprint = old.fingerprint().to_string();
        let fetch = "seal cert fetch -o cert.pem";
        for part in ["cert.pem (--cert)", &fingerprint, "key-2024", fetch] {
            assert!(message.contains(part), "{message}");
        }
        assert!(
            key_files
                .check(&settings_with_cert_flag(), &certificate(NEW))
                .is_ok()
        );
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
