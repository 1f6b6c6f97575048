//! Refuses to seal for a key whose key Secret in `--key` is marked as compromised or opening-only. Such a key opens
//! existing values, and does not confirm a certificate or recipient that only a rule names. Keys in PEM and in lines
//! have no marks.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use kubeseal_library::certificate;
use kubeseal_library::redacted::redacted_source;
use kubeseal_library::rules::Source;
use shared::key::{Certificate, Fingerprint};
use shared::key_ring::{AnyKey, KeyRing};
use shared::v2::{KeyId, Recipient};

use super::settings::{Origin, Settings};
use crate::failure::Failure;
use crate::report::ShowPath as _;

/// Returns whether the user has passed the private key of this public key, from a Secret whose marks allow it to seal.
pub(super) fn confirms(keys: &KeyRing, id: &KeyId) -> bool {
    find(keys, id).is_some_and(|key| !key.marks().is_sealing_forbidden())
}

/// Refuses a certificate whose private key is in a marked Secret.
///
/// # Errors
///
/// Fails if the key of the certificate is marked as compromised or opening-only.
pub(super) fn check_certificate(
    keys: &KeyRing,
    settings: &Settings,
    certificate: &Certificate,
) -> Result<(), Failure> {
    let Some(reason) = reason(keys, &certificate.public_key().key_id()) else {
        return Ok(());
    };
    let certificate = describe_certificate(settings, certificate.fingerprint());
    let message = format!("{certificate} belongs to a key that {reason}");
    Err(Failure::new(message).hint(remedy(settings)))
}

/// Refuses a recipient whose private key is in a marked Secret.
///
/// # Errors
///
/// Fails if the key is marked as compromised or opening-only.
pub(super) fn check_recipient(keys: &KeyRing, key: &dyn Recipient) -> Result<(), Failure> {
    let Some(reason) = reason(keys, &key.key_id()) else {
        return Ok(());
    };
    let message = format!("the recipient {} {} {reason}", key.suite(), key.key_id());
    Err(Failure::new(message).hint("name the current key, for example from `seal keys export`"))
}

fn find(keys: &KeyRing, id: &KeyId) -> Option<AnyKey> {
    keys.all_keys().find(|key| key.key_id() == *id)
}

/// Returns the end of a message on a key that must not seal; `None` if no mark forbids it.
fn reason(keys: &KeyRing, id: &KeyId) -> Option<String> {
    let key = find(keys, id)?;
    let (marks, file) = (key.marks(), key.name().to_owned());
    if marks.is_compromised {
        return Some(format!("is marked as compromised in {file} (--key)"));
    }
    let is_opening_only = marks.is_opening_only;
    is_opening_only.then(|| {
        format!("is marked as opening-only in {file} (--key): a restored key does not seal until an administrator chooses it")
    })
}

/// Describes the certificate and its origin (a flag, a variable, a rule or the controller), for messages.
pub(super) fn describe_certificate(settings: &Settings, fingerprint: &Fingerprint) -> String {
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

/// Returns the hint for a certificate that must not be used.
pub(super) fn remedy(settings: &Settings) -> String {
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
    use std::fs;

    use shared::manifest;
    use shared::resource::{
        COMPROMISED_ANNOTATION, KEY_COMPROMISED, KEY_LABEL, OPENING_ONLY_ANNOTATION,
    };

    use super::*;
    use crate::command::read_keys;
    use crate::seal::settings;
    use crate::seal_args::Sealing;

    const KEY: &str = include_str!("../../tests/seal/key-fixtures/state/keys/key-2024.yaml");
    const OTHER_KEY: &str = include_str!("../../tests/seal/key-fixtures/state/keys/key-2025.yaml");
    const PEM_FILE: &str = "private.pem";

    fn secret(manifest: &str) -> shared::secret::Secret {
        kubeseal_library::keys::directory::secrets(manifest.as_bytes())
            .unwrap()
            .remove(0)
    }

    fn certificate(manifest: &str) -> Certificate {
        Certificate::from_pem(secret(manifest).data["tls.crt"].expose()).unwrap()
    }

    /// Returns the manifest of [`KEY`] with a mark.
    fn marked(mark: &str) -> String {
        let mut secret = secret(KEY);
        if mark == KEY_COMPROMISED {
            let labels = secret.metadata.labels.get_or_insert_default();
            labels.insert(KEY_LABEL.to_owned(), mark.to_owned());
        } else {
            let annotations = secret.metadata.annotations.get_or_insert_default();
            annotations.insert(mark.to_owned(), "true".to_owned());
        }
        manifest::to_yaml(&secret.to_document())
    }

    /// Reads the keys in files with this content, in this order.
    fn keys(files: &[&str]) -> KeyRing {
        let directory = tempfile::tempdir().unwrap();
        let write = |(number, text): (usize, &&str)| {
            let path = directory.path().join(number.to_string());
            fs::write(&path, text).unwrap();
            path
        };
        let paths: Vec<PathBuf> = files.iter().enumerate().map(write).collect();
        read_keys(&paths).unwrap()
    }

    /// Attack: the attacker's key was restored into the cluster as opening-only, or the attacker has a key that is marked
    /// as compromised. A user who passes all key Secrets with `--key` re-encrypts values for it.
    #[test]
    fn a_marked_key_neither_confirms_nor_seals() {
        let pem = String::from_utf8(secret(KEY).data["tls.key"].expose().to_vec()).unwrap();
        let args = Sealing {
            cert: Some(PEM_FILE.into()),
            ..Sealing::default()
        };
        let settings = settings::decide(None, None, &args, |_| None).unwrap();
        let (own, id) = (certificate(KEY), certificate(KEY).public_key().key_id());
        for (mark, why) in [
            (COMPROMISED_ANNOTATION, "is marked as compromised"),
            (KEY_COMPROMISED, "is marked as compromised"),
            (OPENING_ONLY_ANNOTATION, "is marked as opening-only"),
        ] {
            let marked = marked(mark);
            // A copy of the key without the mark does not cancel it.
            for files in [
                &[&*marked][..],
                &[&marked, &pem],
                &[&pem, &marked],
                &[KEY, &marked],
            ] {
                let ring = keys(files);
                assert_eq!(ring.keys().len(), 1, "{mark}");
                assert!(!confirms(&ring, &id), "{mark}");
                let error = check_certificate(&ring, &settings, &own)
                    .unwrap_err()
                    .to_string();
                for part in [PEM_FILE, why, own.fingerprint().to_string().as_str()] {
                    assert!(error.contains(part), "{mark}: {error}");
                }
                let error = check_recipient(&ring, own.public_key())
                    .unwrap_err()
                    .to_string();
                assert!(error.contains(why), "{mark}: {error}");
            }
        }
        for ring in [keys(&[KEY]), keys(&[&pem]), keys(&[KEY, OTHER_KEY])] {
            assert!(confirms(&ring, &id));
            assert!(check_certificate(&ring, &settings, &own).is_ok());
            assert!(check_recipient(&ring, own.public_key()).is_ok());
        }
        let ring = keys(&[&marked(COMPROMISED_ANNOTATION)]);
        let other = certificate(OTHER_KEY);
        assert!(check_certificate(&ring, &settings, &other).is_ok());
        assert!(!confirms(&ring, &other.public_key().key_id()));
    }
}
