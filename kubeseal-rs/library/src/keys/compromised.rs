//! The keys that were marked as compromised on this machine, in the user's state directory. The mark itself is in the key
//! Secret, which a command that seals for a certificate file does not read. Earlier versions stored the keys in the cache
//! directory, which users may clean at any time; these are still read.
//!
//! ```text
//! sealed-secrets/compromised/SHA256_7_xku5xrSv_wWlOQcX8MEnho2sw_ikOtGoRCBaIvsGk
//! ```

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
pub struct Compromised {
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
pub struct CompromisedV2 {
    id: KeyId,
    file: PathBuf,
}

/// Records a v2 key. Without a state directory, records nothing.
///
/// # Errors
///
/// Fails if the state directory cannot be used.
pub fn remember_v2(environment: &Environment, key: &KeyId, since: &str) -> Result<(), FileError> {
    let Some(folder) = environment.state_folder() else {
        return Ok(());
    };
    remember_as(&folder, &key.to_string(), since)
}

/// Checks that a v2 key is not recorded, before values are sealed for it.
///
/// # Errors
///
/// Returns [`CompromisedV2`] if the key is recorded.
pub fn check_v2(environment: &Environment, key: &KeyId) -> Result<(), CompromisedV2> {
    let recorded = environment
        .state_folder()
        .map(|folder| file(&folder, &key.to_string()));
    match recorded.filter(|file| file.exists()) {
        Some(file) => Err(CompromisedV2 { id: *key, file }),
        None => Ok(()),
    }
}

/// Records a key. Without a state directory, records nothing.
///
/// # Errors
///
/// Fails if the state directory cannot be used.
pub fn remember(
    environment: &Environment,
    key: &Fingerprint,
    since: &str,
) -> Result<(), FileError> {
    let Some(folder) = environment.state_folder() else {
        return Ok(());
    };
    remember_as(&folder, &key.to_string(), since)
}

fn remember_as(folder: &Path, key: &str, since: &str) -> Result<(), FileError> {
    let file = file(folder, key);
    if let Some(folder) = file.parent() {
        files::create_folder(folder)?;
    }
    files::replace_anywhere(&file, format!("{key} since {since}\n").as_bytes())
}

/// Checks that a key is not recorded, before values are sealed for it.
///
/// # Errors
///
/// Returns [`Compromised`] if the key is recorded.
pub fn check(environment: &Environment, key: &Fingerprint) -> Result<(), Compromised> {
    let folders = [environment.state_folder(), environment.cache_folder()];
    let mut folders = folders.into_iter().flatten();
    folders.try_for_each(|folder| check_in(&folder, key))
}

fn check_in(folder: &Path, key: &Fingerprint) -> Result<(), Compromised> {
    match Some(file(folder, &key.to_string())).filter(|file| file.exists()) {
        Some(file) => Err(Compromised {
            fingerprint: key.clone(),
            file,
        }),
        None => Ok(()),
    }
}

/// Returns the path of a key's file. Slashes in base64 and colons are replaced in its name.
fn file(folder: &Path, key: &str) -> PathBuf {
    let name = key.replace(['/', ':'], "_");
    folder.join("sealed-secrets").join("compromised").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_only_recorded_keys() {
        let folder = tempfile::tempdir().unwrap();
        let keys = ["a/b", "a+b"].map(|text| {
            let digest = format!("SHA256:{text}{}", "A".repeat(43 - text.len()));
            digest.parse::<Fingerprint>().unwrap()
        });
        remember_as(folder.path(), &keys[0].to_string(), "2026-11-28").unwrap();
        let error = check_in(folder.path(), &keys[0]).unwrap_err().to_string();
        assert!(
            error.contains("compromised") && error.contains("SHA256_a_b"),
            "{error}"
        );
        assert!(check_in(folder.path(), &keys[1]).is_ok());
    }
}
