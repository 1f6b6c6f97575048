//! The cache of keys that were marked as compromised on this machine, in the user's cache directory. The mark itself is
//! in the key Secret, which a command that seals for a certificate file does not read.
//!
//! ```text
//! sealed-secrets/compromised/SHA256_7_xku5xrSv_wWlOQcX8MEnho2sw_ikOtGoRCBaIvsGk
//! ```

use std::path::{Path, PathBuf};

use shared::key::Fingerprint;

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

/// Adds a key to the cache. Does nothing without a cache directory.
///
/// # Errors
///
/// Fails if the cache directory cannot be used.
pub fn remember(cache: Option<&Path>, key: &Fingerprint, since: &str) -> Result<(), FileError> {
    let Some(file) = file(cache, key) else {
        return Ok(());
    };
    if let Some(folder) = file.parent() {
        files::create_folder(folder)?;
    }
    files::replace_anywhere(&file, format!("{key} since {since}\n").as_bytes())
}

/// Checks that a key is not in the cache, before values are sealed for it.
///
/// # Errors
///
/// Returns [`Compromised`] if the key is in the cache.
pub fn check(cache: Option<&Path>, key: &Fingerprint) -> Result<(), Compromised> {
    match file(cache, key).filter(|file| file.exists()) {
        Some(file) => Err(Compromised {
            fingerprint: key.clone(),
            file,
        }),
        None => Ok(()),
    }
}

/// Returns the path of a key's file. Slashes in base64 and colons are replaced in its name.
fn file(cache: Option<&Path>, key: &Fingerprint) -> Option<PathBuf> {
    let name = key.to_string().replace(['/', ':'], "_");
    let folder = cache?.join("sealed-secrets").join("compromised");
    Some(folder.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_only_keys_in_the_cache() {
        let cache = tempfile::tempdir().unwrap();
        let keys = ["a/b", "a+b"].map(|text| {
            let digest = format!("SHA256:{text}{}", "A".repeat(43 - text.len()));
            digest.parse::<Fingerprint>().unwrap()
        });
        let cache_folder = Some(cache.path());
        remember(cache_folder, &keys[0], "2026-11-28").unwrap();
        let error = check(cache_folder, &keys[0]).unwrap_err().to_string();
        assert!(
            error.contains("compromised") && error.contains("SHA256_a_b"),
            "{error}"
        );
        assert!(check(cache_folder, &keys[1]).is_ok() && check(None, &keys[0]).is_ok());
        remember(None, &keys[1], "2026-11-28").unwrap();
    }
}
