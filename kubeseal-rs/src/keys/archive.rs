//! The archive of a backup: manifests of all key Secrets, encrypted in the format of `age`
//! (age-encryption.org/v1), which the ordinary `age` opens too.
//!
//! `age` brings ciphers of its own beside those of aws-lc-rs; no format that people have other tools
//! for can do without.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient};
use shared::manifest;
use shared::secret::Secret;
use zeroize::Zeroizing;

use crate::files::{self, FileError};

/// Begins every archive, armored or not.
const BEGINNINGS: [&[u8]; 2] = [
    b"age-encryption.org/",
    b"-----BEGIN AGE ENCRYPTED FILE-----",
];

/// Whom an archive is for.
pub enum Lock {
    /// Whoever has one of these identities.
    Recipients(Vec<age::x25519::Recipient>),
    /// Whoever knows the passphrase.
    Passphrase(SecretString),
}

/// What opens archives.
#[derive(Default)]
pub struct Unlock {
    /// Identities.
    pub identities: Vec<Box<dyn Identity>>,
    /// A passphrase.
    pub passphrase: Option<SecretString>,
}

/// No archive, or it does not open.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Encrypting failed.
    #[error("the archive cannot be encrypted: {0}")]
    Encrypt(String),
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is a file of that name.
    #[error(
        "{} is there already and may be the only copy of keys that are gone since; choose another name, or \
         --force to replace it", .0.display()
    )]
    Exists(PathBuf),
    /// What is on the disk is not what was written.
    #[error("{} does not read back as it was written; it was removed, and no key is marked", .0.display())]
    NotAsWritten(PathBuf),
    /// Another kind of file, or its first lines were changed.
    #[error("its first lines are not those of an age archive, or were changed")]
    Header,
    /// Made by a later age.
    #[error("it is of a later version of age than this program knows")]
    Version,
    /// The passphrase is wrong.
    #[error("the passphrase is wrong")]
    Passphrase,
    /// It wants a passphrase.
    #[error("it opens with a passphrase, and none was given")]
    NeedsPassphrase,
    /// It wants an identity.
    #[error("it opens with an identity of one of its recipients; name its file with --identity")]
    NeedsIdentity,
    /// None of the identities is for it.
    #[error("none of the identities opens it: it is for other recipients")]
    OtherRecipients,
    /// Its passphrase takes too much work.
    #[error(
        "its passphrase takes more work than this machine should be asked for; is it from a source you trust?"
    )]
    Work,
    /// Its end is missing, or something in it was changed.
    #[error("it is cut off or was changed: what is in it cannot be trusted")]
    Damaged,
}

/// Is this an age file?
pub fn is_archive(bytes: &[u8]) -> bool {
    BEGINNINGS
        .iter()
        .any(|beginning| bytes.starts_with(beginning))
}

/// The manifests of an archive: a document for each Secret. **They hold private keys.**
pub fn manifests<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::new());
    for (i, secret) in secrets.enumerate() {
        if i > 0 {
            text.extend_from_slice(b"---\n");
        }
        let one = Zeroizing::new(manifest::to_yaml(&secret.to_document()));
        text.extend_from_slice(one.as_bytes());
    }
    text
}

/// Encrypts.
///
/// # Errors
///
/// There is no recipient.
pub fn encrypt(plain: &[u8], lock: &Lock) -> Result<Vec<u8>, ArchiveError> {
    let encryptor = match lock {
        Lock::Passphrase(passphrase) => Encryptor::with_user_passphrase(passphrase.clone()),
        Lock::Recipients(recipients) => {
            let recipients = recipients
                .iter()
                .map(|recipient| recipient as &dyn Recipient);
            let made = Encryptor::with_recipients(recipients);
            made.map_err(|error| ArchiveError::Encrypt(error.to_string()))?
        }
    };
    let write = || -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let mut writer = encryptor.wrap_output(&mut out)?;
        writer.write_all(plain)?;
        writer.finish()?;
        Ok(out)
    };
    write().map_err(|error| ArchiveError::Encrypt(error.to_string()))
}

/// Decrypts, whole or not at all.
///
/// # Errors
///
/// [`ArchiveError`].
pub fn decrypt(archive: &[u8], unlock: &Unlock) -> Result<Zeroizing<Vec<u8>>, ArchiveError> {
    let armored = age::armor::ArmoredReader::new(archive);
    let decryptor = Decryptor::new(armored).map_err(|error| match error {
        DecryptError::UnknownFormat => ArchiveError::Version,
        DecryptError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            ArchiveError::Damaged
        }
        _ => ArchiveError::Header,
    })?;
    let is_passphrase = decryptor.is_scrypt();
    let opened = if is_passphrase {
        let passphrase = unlock.passphrase.clone();
        let passphrase = passphrase.ok_or(ArchiveError::NeedsPassphrase)?;
        let identity = age::scrypt::Identity::new(passphrase);
        decryptor.decrypt(std::iter::once(&identity as &dyn Identity))
    } else {
        if unlock.identities.is_empty() {
            return Err(ArchiveError::NeedsIdentity);
        }
        decryptor.decrypt(unlock.identities.iter().map(|identity| &**identity))
    };
    let mut reader = opened.map_err(|error| match error {
        DecryptError::ExcessiveWork { .. } => ArchiveError::Work,
        DecryptError::InvalidHeader | DecryptError::InvalidMac => ArchiveError::Header,
        _ if is_passphrase => ArchiveError::Passphrase,
        _ => ArchiveError::OtherRecipients,
    })?;
    let mut plain = Zeroizing::new(Vec::with_capacity(archive.len()));
    match reader.read_to_end(&mut plain) {
        Ok(_) => Ok(plain),
        Err(_) => Err(ArchiveError::Damaged),
    }
}

/// Does it open with a passphrase rather than an identity?
pub fn wants_passphrase(archive: &[u8]) -> bool {
    let armored = age::armor::ArmoredReader::new(archive);
    Decryptor::new(armored).is_ok_and(|decryptor| decryptor.is_scrypt())
}

/// Writes an archive in one step, and reads it back: the file is compared with what was written, and
/// with a passphrase or an identity it is decrypted too. A file that does not read back is removed.
///
/// # Errors
///
/// [`ArchiveError`]; then there is no new file.
pub fn write(
    path: &Path,
    plain: &[u8],
    lock: &Lock,
    unlock: &Unlock,
    may_replace: bool,
) -> Result<(), ArchiveError> {
    if path.exists() && !may_replace {
        return Err(ArchiveError::Exists(path.to_owned()));
    }
    let archive = encrypt(plain, lock)?;
    if can_open(lock, unlock) && **decrypt(&archive, unlock)? != *plain {
        return Err(ArchiveError::NotAsWritten(path.to_owned()));
    }
    files::replace(path, &archive)?;
    match files::read(path) {
        Ok(read) if **read == *archive => Ok(()),
        _ => {
            let _ = std::fs::remove_file(path);
            Err(ArchiveError::NotAsWritten(path.to_owned()))
        }
    }
}

fn can_open(lock: &Lock, unlock: &Unlock) -> bool {
    match lock {
        Lock::Passphrase(_) => unlock.passphrase.is_some(),
        Lock::Recipients(_) => !unlock.identities.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Unlock {
        Unlock {
            passphrase: Some(SecretString::from(text.to_owned())),
            ..Unlock::default()
        }
    }

    fn identity(identity: &age::x25519::Identity) -> Unlock {
        Unlock {
            identities: vec![Box::new(identity.clone())],
            ..Unlock::default()
        }
    }

    #[test]
    fn opens_for_its_recipients_and_for_nobody_else() {
        let [own, other] = [(); 2].map(|()| age::x25519::Identity::generate());
        let archive = encrypt(b"keys", &Lock::Recipients(vec![own.to_public()])).unwrap();
        assert!(is_archive(&archive));
        assert_eq!(**decrypt(&archive, &identity(&own)).unwrap(), *b"keys");
        let refused = |unlock: &Unlock| decrypt(&archive, unlock).unwrap_err().to_string();
        assert!(refused(&identity(&other)).contains("other recipients"));
        assert!(refused(&passphrase("x")).contains("--identity"));
        assert!(encrypt(b"keys", &Lock::Recipients(Vec::new())).is_err());
    }

    #[test]
    fn tells_a_wrong_passphrase_from_damage() {
        let right = passphrase("correct horse");
        let lock = Lock::Passphrase(right.passphrase.clone().unwrap());
        let archive = encrypt(b"keys", &lock).unwrap();
        assert_eq!(**decrypt(&archive, &right).unwrap(), *b"keys");
        let refused =
            |archive: &[u8], unlock: &Unlock| decrypt(archive, unlock).unwrap_err().to_string();
        assert_eq!(
            refused(&archive, &passphrase("wrong")),
            "the passphrase is wrong"
        );
        assert!(refused(&archive, &Unlock::default()).contains("none was given"));
        let mut changed = archive.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(refused(&changed, &right).contains("cut off or was changed"));
    }

    #[test]
    fn refuses_an_archive_that_was_cut_off_anywhere() {
        let own = age::x25519::Identity::generate();
        let plain = vec![b'k'; 100_000];
        let archive = encrypt(&plain, &Lock::Recipients(vec![own.to_public()])).unwrap();
        for len in (0..archive.len()).step_by(997) {
            assert!(decrypt(&archive[..len], &identity(&own)).is_err(), "{len}");
        }
    }

    #[test]
    fn a_backup_does_not_replace_another_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.age");
        let own = age::x25519::Identity::generate();
        let lock = Lock::Recipients(vec![own.to_public()]);
        write(&path, b"one", &lock, &identity(&own), false).unwrap();
        let refused = write(&path, b"two", &lock, &identity(&own), false);
        assert!(matches!(refused, Err(ArchiveError::Exists(_))));
        let read = std::fs::read(&path).unwrap();
        assert_eq!(**decrypt(&read, &identity(&own)).unwrap(), *b"one");
        write(&path, b"two", &lock, &identity(&own), true).unwrap();
        let read = std::fs::read(&path).unwrap();
        assert_eq!(**decrypt(&read, &identity(&own)).unwrap(), *b"two");
    }

    proptest::proptest! {
        #[test]
        fn never_panics_on_foreign_bytes(bytes: Vec<u8>) {
            let _ = decrypt(&bytes, &Unlock::default());
            let header = [&b"age-encryption.org/v1\n"[..], &bytes].concat();
            let _ = decrypt(&header, &Unlock::default());
        }
    }
}
