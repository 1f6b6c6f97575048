//! SealedSecret manifests + backup keys → Secret manifests, offline.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value as Json;
use shared::key::{PrivateKey, PrivateKeyError};
use shared::key_ring::{KeyRing, RingKey};
use shared::key_secret::PRIVATE_KEY_ITEM;
use shared::resource::SealedSecret;
use shared::secret::Secret;
use shared::unseal;

use super::CommandError;
use super::secrets::{self, ManifestError};
use crate::{files, report};

/// A file gives no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Neither PEM nor manifests.
    #[error("holds neither a PEM private key nor the backup of a key Secret")]
    Manifest(#[from] ManifestError),
    /// A PEM file whose key cannot be used.
    #[error("holds no usable key")]
    Private(#[from] PrivateKeyError),
    /// A key Secret whose key cannot be used.
    #[error("holds the Secret {name:?}, whose tls.key cannot be used")]
    Secret {
        /// Its name.
        name: String,
        /// What is wrong.
        source: PrivateKeyError,
    },
    /// Manifests without a key.
    #[error("holds no Secret with an item `tls.key`")]
    NoKey,
}

/// Reads the keys of every file: PEM with one or more keys, or Secrets in JSON or YAML, alone, in
/// several documents, or in a `List`.
pub(super) fn read_keys(key_files: &[PathBuf]) -> Result<KeyRing, CommandError> {
    let mut keys = Vec::new();
    for file in key_files {
        let bytes = files::read(file)?;
        let found = keys_of(&bytes).map_err(|source| CommandError::RecoveryKey {
            file: file.clone(),
            source,
        })?;
        let name = file.display().to_string();
        keys.extend(
            found
                .into_iter()
                .map(|key| Arc::new(RingKey::opening_only(name.clone(), key))),
        );
    }
    Ok(KeyRing::new(keys))
}

fn keys_of(bytes: &[u8]) -> Result<Vec<PrivateKey>, KeyFileError> {
    match PrivateKey::all_from_pem(bytes) {
        Ok(keys) => return Ok(keys),
        Err(PrivateKeyError::Missing) => {}
        Err(error) => return Err(error.into()),
    }
    let secrets = secrets::read_objects(bytes, Secret::all_from_document)?;
    let mut keys = Vec::new();
    for secret in &secrets {
        let name = secret.metadata.name.clone().unwrap_or_default();
        match secret.data.get(PRIVATE_KEY_ITEM) {
            Some(pem) => keys.extend(
                PrivateKey::all_from_pem(pem.expose())
                    .map_err(|source| KeyFileError::Secret { name, source })?,
            ),
            None => report::warn(&format!(
                "the Secret {name:?} has no item `tls.key` and is skipped"
            )),
        }
    }
    if keys.is_empty() {
        Err(KeyFileError::NoKey)
    } else {
        Ok(keys)
    }
}

/// Opens every SealedSecret of the input. The documents **hold plain values**, and no owner: what
/// is recovered can be applied as it is.
pub(super) fn unseal(input: &[u8], ring: &KeyRing) -> Result<Vec<Json>, CommandError> {
    let sealed = secrets::read_objects(input, SealedSecret::all_from_document)?;
    if sealed.is_empty() {
        return Err(CommandError::NoSealedSecrets);
    }
    let several = sealed.len() > 1;
    let open = |sealed: SealedSecret| match unseal::unseal(&sealed, ring, true) {
        Ok(unsealed) => Ok(unsealed.secret.to_document()),
        Err(source) => Err(CommandError::Unseal {
            place: place(&sealed, several),
            source,
        }),
    };
    sealed.into_iter().map(open).collect()
}

/// Says which of several objects is meant; a lone one needs no name.
fn place(sealed: &SealedSecret, several: bool) -> String {
    if several {
        format!(
            "{}/{}: ",
            sealed.namespace_or_empty(),
            sealed.name_or_empty()
        )
    } else {
        String::new()
    }
}
