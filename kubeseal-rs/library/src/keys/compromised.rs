//! The keys that were marked as compromised on this machine, in the user's state directory. The mark itself is in the
//! key Secret, which a command that seals for a certificate file does not read. Earlier versions recorded RSA keys in
//! the cache directory, which users may clean at any time; these records are still read.
//!
//! ```text
//! sealed-secrets/compromised/SHA256_7_xku5xrSv_wWlOQcX8MEnho2sw_ikOtGoRCBaIvsGk
//! ```

use std::io;
use std::path::{Path, PathBuf};

use shared::key::Fingerprint;
use shared::v2::KeyId;

use crate::environment::Environment;
use crate::files::{self, FileError};
use crate::shown::ShowPath as _;

/// The certificate belongs to a key that was marked as compromised.
#[derive(Debug, thiserror::Error)]
#[error(
    "the key of the certificate, {fingerprint}, is marked as compromised: an attacker could unseal values sealed for it\n\
     hint: fetch the current certificate with `seal cert fetch -o FILE --replace`; if the mark is a mistake, remove {}",
    .file.shown()
)]
pub struct CompromisedKey {
    fingerprint: Fingerprint,
    file: PathBuf,
}

/// A v2 key was marked as compromised.
#[derive(Debug, thiserror::Error)]
#[error(
    "the key {id} is marked as compromised: an attacker could unseal values sealed for it\n\
     hint: name the current key, for example from `seal keys export`; if the mark is a mistake, remove {}",
    .file.shown()
)]
pub struct CompromisedV2Key {
    id: KeyId,
    file: PathBuf,
}

/// Why a key cannot be recorded as compromised.
#[derive(Debug, thiserror::Error)]
pub enum RememberError {
    /// The environment names no directory for the record.
    #[error(
        "there is no state directory\nhint: set HOME, or set XDG_STATE_HOME to an absolute path"
    )]
    NoDirectory,
    /// The record cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a key must not be used for sealing: it is marked as compromised, or its record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The key is marked as compromised.
    #[error(transparent)]
    Compromised(#[from] CompromisedKey),
    /// The v2 key is marked as compromised.
    #[error(transparent)]
    CompromisedV2(#[from] CompromisedV2Key),
    /// The record of the key cannot be read.
    #[error(
        "cannot read {}, so it is not known whether the key is marked as compromised\n\
         hint: make the file readable, or set HOME or XDG_STATE_HOME to a directory of this user",
         .file.shown()
    )]
    Unreadable {
        /// The path of the record.
        file: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
}

/// Records a v2 key as compromised since the time `since`.
///
/// # Errors
///
/// Fails if there is no state directory, or it cannot be used.
pub fn remember_v2(
    environment: &Environment,
    key: &KeyId,
    since: &str,
) -> Result<(), RememberError> {
    let directory = environment
        .state_directory()
        .ok_or(RememberError::NoDirectory)?;
    Ok(remember_as(&directory, &key.to_string(), since)?)
}

/// Checks that a v2 key is not recorded as compromised. Without a state directory, no key is recorded.
///
/// # Errors
///
/// Returns [`CheckError`] if the key is recorded, or the record cannot be read.
pub fn check_v2(environment: &Environment, key: &KeyId) -> Result<(), CheckError> {
    let directory = environment.state_directory();
    match directory.map(|directory| recorded(&directory, &key.to_string())) {
        None => Ok(()),
        Some(recorded) => match recorded? {
            Some(file) => Err(CompromisedV2Key { id: *key, file }.into()),
            None => Ok(()),
        },
    }
}

/// Records an RSA key as compromised since the time `since`.
///
/// # Errors
///
/// Fails if there is no state directory, or it cannot be used.
pub fn remember(
    environment: &Environment,
    key: &Fingerprint,
    since: &str,
) -> Result<(), RememberError> {
    let directory = environment
        .state_directory()
        .ok_or(RememberError::NoDirectory)?;
    Ok(remember_as(&directory, &key.to_string(), since)?)
}

fn remember_as(directory: &Path, key: &str, since: &str) -> Result<(), FileError> {
    let file = file(directory, key);
    if let Some(directory) = file.parent() {
        files::create_directory(directory)?;
    }
    files::replace_anywhere(&file, format!("{key} since {since}\n").as_bytes())
}

/// Checks that an RSA key is not recorded as compromised, in the state directory or the cache directory.
///
/// # Errors
///
/// Fails if the key is recorded, or if the record cannot be read.
pub fn check(environment: &Environment, key: &Fingerprint) -> Result<(), CheckError> {
    let directories = [environment.state_directory(), environment.cache_directory()];
    let mut directories = directories.into_iter().flatten();
    directories.try_for_each(|directory| check_in(&directory, key))
}

fn check_in(directory: &Path, key: &Fingerprint) -> Result<(), CheckError> {
    match recorded(directory, &key.to_string())? {
        Some(file) => {
            let fingerprint = key.clone();
            Err(CompromisedKey { fingerprint, file }.into())
        }
        None => Ok(()),
    }
}

/// Returns the path of a key's record, or `None` if there is none.
fn recorded(directory: &Path, key: &str) -> Result<Option<PathBuf>, CheckError> {
    let file = file(directory, key);
    match files::is_absent(&file) {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some(file)),
        Err(source) => Err(CheckError::Unreadable { file, source }),
    }
}

/// Returns the path of a key's file. Underscores replace slashes, which base64 contains, and colons.
fn file(directory: &Path, key: &str) -> PathBuf {
    let name = key.replace(['/', ':'], "_");
    directory
        .join("sealed-secrets")
        .join("compromised")
        .join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_only_recorded_keys() {
        let directory = tempfile::tempdir().unwrap();
        let keys = ["a/b", "a+b"].map(|text| {
            let digest = format!("SHA256:{text}{}", "A".repeat(43 - text.len()));
            digest.parse::<Fingerprint>().unwrap()
        });
        remember_as(directory.path(), &keys[0].to_string(), "2026-11-28").unwrap();
        let error = check_in(directory.path(), &keys[0])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("compromised") && error.contains("SHA256_a_b"),
            "{error}"
        );
        assert!(check_in(directory.path(), &keys[1]).is_ok());
    }

    /// Fault: the record of a compromised key cannot be read, for example because its directory belongs to another
    /// user, so values are sealed for the key.
    #[cfg(unix)]
    #[test]
    fn seals_for_no_key_whose_record_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let path_of = |name: &str| directory.path().join(name);
        // A symlink loop is unreadable for root too, who may enter every directory.
        std::os::unix::fs::symlink("cycle", path_of("cycle")).unwrap();
        std::fs::write(path_of("file"), "").unwrap();
        let key: Fingerprint = format!("SHA256:{}", "A".repeat(43)).parse().unwrap();
        let error = check_in(&path_of("cycle"), &key).unwrap_err();
        assert!(matches!(error, CheckError::Unreadable { .. }), "{error}");
        for absent in ["missing", "file", "file/missing"] {
            assert!(check_in(&path_of(absent), &key).is_ok(), "{absent}");
        }
    }
}
