//! Recognizes private keys of controllers, so that none is sealed into a repository: by labels, names and v2 keys, and
//! RSA keys by the public keys that the settings name.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use kubeseal_library::rules::SealedFormat;
use shared::key::{Fingerprint, PrivateKey};
use shared::key_ring::KeyRing;
use shared::key_secret;
use shared::plain::Plain;
use shared::secret::Secret;
use shared::v2::{AnyKeyId, Opener as _, Recipient as _};

use super::recipients::KnownRecipients;
use super::session::Session;
use super::settings::Settings;
use crate::failure::Failure;

/// The public keys of a controller that are known here.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownKeys {
    fingerprints: Vec<Fingerprint>,
    ids: Vec<AnyKeyId>,
}

impl KnownKeys {
    /// Returns the keys that the user pins, and those that the rule accepts or lists as retired. Reads no file.
    pub(super) fn named_in(settings: &Settings) -> Self {
        let accepted = settings.fingerprints().into_iter();
        let mut known = Self {
            fingerprints: accepted.map(|accepted| accepted.fingerprint).collect(),
            ids: Vec::new(),
        };
        if let Some(rule) = &settings.rule {
            known.fingerprints.extend(rule.retired.iter().cloned());
            known
                .ids
                .extend(rule.key_ids.iter().chain(&rule.retired_ids));
        }
        known
    }

    /// Adds the keys that values of this format are sealed for.
    fn with_sealing_keys(
        mut self,
        session: &Session<'_>,
        settings: &Settings,
        format: SealedFormat,
    ) -> Result<Self> {
        match format {
            SealedFormat::V1 => {
                let certificate = session.certificate(settings)?;
                self.fingerprints.push(certificate.fingerprint().clone());
            }
            SealedFormat::V2 => {
                let recipients = session.recipients(settings)?;
                let ids = recipients
                    .keys
                    .iter()
                    .map(|key| AnyKeyId::from(key.key_id()));
                self.ids.extend(ids);
            }
        }
        Ok(self)
    }

    /// Adds the keys of a rule that can be read without a network.
    pub(super) fn with_recipients(mut self, recipients: &KnownRecipients) -> Self {
        let certificates = recipients.fingerprints.values();
        self.fingerprints.extend(certificates.cloned());
        let ids = recipients
            .keys
            .iter()
            .map(|key| AnyKeyId::from(key.key_id()));
        self.ids.extend(ids);
        self
    }

    /// Adds the RSA keys of a ring.
    pub(super) fn with_ring(mut self, ring: &KeyRing) -> Self {
        let fingerprints = ring.keys().iter().map(|key| key.fingerprint());
        self.fingerprints.extend(fingerprints.cloned());
        self
    }

    /// Returns whether a Secret contains a private key of a controller.
    pub(super) fn has_private_key(&self, secret: &Secret) -> bool {
        key_secret::has_private_key(secret)
            || self.include_any(&key_secret::rsa_keys(secret.data.values()))
    }

    fn include_any(&self, keys: &[PrivateKey]) -> bool {
        let is_known = |key: &PrivateKey| {
            let id = key.key_id();
            self.fingerprints.contains(key.fingerprint())
                || self.ids.iter().any(|own| own.is_of(&id))
        };
        keys.iter().any(is_known)
    }
}

/// Returns whether a Secret contains a private key of a controller: one that is recognizable without the settings, or one
/// that belongs to a key that the settings name or that the Secret would be sealed for.
///
/// # Errors
///
/// Fails if the Secret contains RSA keys, and the certificate or recipients cannot be obtained.
pub(super) fn has_private_key(
    session: &Session<'_>,
    settings: &Settings,
    secret: &Secret,
) -> Result<bool> {
    Ok(key_secret::has_private_key(secret)
        || includes_known_key(
            session,
            settings,
            settings.format.value,
            secret.data.values(),
        )?)
}

/// Returns whether values include an RSA key that the settings name or that values of this format are sealed for.
fn includes_known_key<'a>(
    session: &Session<'_>,
    settings: &Settings,
    format: SealedFormat,
    values: impl IntoIterator<Item = &'a Plain>,
) -> Result<bool> {
    let keys = key_secret::rsa_keys(values);
    if keys.is_empty() {
        return Ok(false);
    }
    let known = KnownKeys::named_in(settings).with_sealing_keys(session, settings, format)?;
    Ok(known.include_any(&keys))
}

/// Refuses to seal a private key of a controller as one of these values, in this format.
///
/// # Errors
///
/// Fails if a value is such a key. Also fails if a value is an RSA key, and the certificate or recipients cannot be
/// obtained.
pub(super) fn check_values(
    session: &Session<'_>,
    settings: &Settings,
    format: SealedFormat,
    values: &BTreeMap<String, Plain>,
) -> Result<()> {
    for (item, value) in values {
        if key_secret::is_v2_key(value) || includes_known_key(session, settings, format, [value])? {
            bail!(failure(&format!("the value of {item:?}")));
        }
    }
    Ok(())
}

/// Returns the error for a private key that must not be sealed: anyone who can unseal it can then unseal every value that
/// is sealed for this key.
pub(super) fn failure(what: &str) -> Failure {
    let message = format!(
        "{what} is a private key of the sealed-secrets controller; anyone who can unseal it \
         can then unseal every value that is sealed for this key"
    );
    Failure::new(message).hint("keep keys in an encrypted archive: `seal keys backup`")
}
