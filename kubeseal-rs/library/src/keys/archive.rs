//! The archive of a backup: manifests of key Secrets, encrypted in the format of `age` (age-encryption.org/v1), which
//! the `age` program can decrypt too.

use std::borrow::Cow;
use std::io::{self, BufRead, Read as _, Write as _};
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, EncryptError, Encryptor, Identity, Recipient};
use shared::manifest;
use shared::secret::Secret;
use shared::v2::{AgeIdentity, AgeRecipient};
use zeroize::Zeroizing;

use super::age_header::{self, HeaderError, MAX_STANZAS, WholeHeaderReader};
use super::age_hybrid::{HybridIdentity, HybridRecipient};
use crate::bounded::Kind;
use crate::files::{self, FileError};
use crate::shown::ShowPath as _;

/// The scrypt work factor for a new archive, as an exponent of two, equal to the default of the program `age`: about a
/// second and 256 MiB. Fixed, so that a slow machine can decrypt an archive created on a fast one.
const WORK: u8 = 18;
/// The largest accepted work factor: four times the work of [`WORK`], and 1 GiB of memory.
const MAX_WORK: u8 = 20;
const _: () = assert!(WORK <= MAX_WORK);

/// The first bytes of every archive, without and with armor.
const PREFIXES: [&[u8]; 2] = [
    b"age-encryption.org/",
    b"-----BEGIN AGE ENCRYPTED FILE-----",
];

/// The maximum number of recipients of an archive: `age` adds a stanza of its own.
const MAX_RECIPIENTS: usize = MAX_STANZAS - 1;

/// The first line of an archive in the supported version of the format.
const VERSION: &[u8] = b"age-encryption.org/v1\n";

/// How an archive is encrypted: who can decrypt it.
pub enum ArchiveEncryption {
    /// Holders of one of these recipients' identities.
    Recipients(Vec<ArchiveRecipient>),
    /// Anyone who knows the passphrase.
    Passphrase(SecretString),
}

/// A recipient of an archive.
pub struct ArchiveRecipient(Box<dyn Recipient>);

impl ArchiveRecipient {
    /// Parses a recipient `age1…` or, post-quantum, `age1pq1…`. Returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(recipient) = AgeRecipient::parse(text) {
            return Some(Self(Box::new(HybridRecipient(recipient))));
        }
        let recipient: age::x25519::Recipient = text.parse().ok()?;
        Some(recipient.into())
    }
}

impl From<age::x25519::Recipient> for ArchiveRecipient {
    fn from(recipient: age::x25519::Recipient) -> Self {
        Self(Box::new(recipient))
    }
}

/// The identities and the passphrase to decrypt archives with.
#[derive(Default)]
pub struct ArchiveDecryption {
    /// The identities to try.
    pub identities: Vec<Box<dyn Identity>>,
    /// The passphrase to try.
    pub passphrase: Option<SecretString>,
}

/// Why an archive cannot be created, written, read or decrypted.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// age refuses the recipients or the passphrase, or its writer failed.
    #[error("cannot encrypt the archive: {0}")]
    Encrypt(String),
    /// Some recipients are post-quantum, and others are not.
    #[error(
        "post-quantum recipients (age1pq1…) and others cannot be combined: a quantum computer could decrypt the archive \
         with the others\nhint: pass only recipients of one kind"
    )]
    MixedRecipients,
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file of that name exists.
    #[error(
        "{} exists and may be the only copy of keys that have since been deleted\n\
         hint: choose another name, or pass --force to replace it", .0.shown()
    )]
    Exists(PathBuf),
    /// The new archive does not decrypt to the keys. It is not written.
    #[error(
        "the new archive does not decrypt to the keys, so it was not written, and no key is marked as backed up\n\
         hint: run the command again, on another machine if it fails again"
    )]
    NotDecryptable,
    /// The archive could not be read back from the disk as it was written.
    #[error(
        "the new archive could not be read back as it was written, so {} is unchanged, and no key is marked as backed \
         up\nhint: check the disk, or write to another disk", .0.shown()
    )]
    NotAsWritten(PathBuf),
    /// The file is not an age archive, or its first lines were changed.
    #[error(
        "not an age archive, or its header was changed\nhint: pass a file that `seal keys backup` wrote, or another copy of it"
    )]
    Header,
    /// The archive has a newer format version.
    #[error(
        "the archive has a later version of the age format than this program supports\n\
         hint: decrypt it with a current `age -d`, and restore the manifests in it"
    )]
    Version,
    /// The passphrase is wrong.
    #[error("the passphrase is wrong")]
    Passphrase,
    /// The archive is encrypted with a passphrase, and none was passed.
    #[error(
        "the archive is encrypted with a passphrase\nhint: pass it with --passphrase-file FILE"
    )]
    NeedsPassphrase,
    /// The archive is encrypted for recipients, and no identity was passed.
    #[error(
        "the archive is encrypted for recipients\nhint: pass the identity of one of them with --identity"
    )]
    NeedsIdentity,
    /// None of the identities belongs to a recipient of the archive.
    #[error(
        "none of the identities belongs to a recipient of the archive\nhint: pass another one with --identity"
    )]
    OtherRecipients,
    /// The passphrase's work factor is above the limit.
    #[error(
        "the work factor of the passphrase, 2^{0}, exceeds the limit of 2^{max}\n\
         hint: if you trust the source of the archive, decrypt it with `age -d` and restore the manifests in it",
        max = MAX_WORK
    )]
    Work(u8),
    /// The header is longer than any that `seal keys backup` writes.
    #[error(
        "the header of the archive is longer than 64 KiB or has more than {max} stanzas\n\
         hint: if you trust the source of the archive, decrypt it with `age -d` and restore the manifests in it",
        max = MAX_STANZAS
    )]
    LongHeader,
    /// There are more recipients than a readable archive can have.
    #[error("too many recipients ({0}): an archive has at most {max}, or about 40 that are post-quantum", max = MAX_RECIPIENTS)]
    Recipients(usize),
    /// The archive is truncated or was changed.
    #[error(
        "the archive is truncated or was changed, so its content cannot be trusted\nhint: use another copy"
    )]
    Damaged,
}

/// The size limit for a file of identities, in bytes: enough for hundreds, each of which is tried with each stanza.
const MAX_IDENTITIES: usize = 64 * 1024;

/// Parses a file with one identity per line, post-quantum or not; empty lines and lines that begin with `#` are
/// skipped. Returns `None` for any other file, and above the size limit.
pub fn identities(file: &[u8]) -> Option<Vec<Box<dyn Identity>>> {
    let file = Some(file).filter(|file| file.len() <= MAX_IDENTITIES)?;
    let text = std::str::from_utf8(file).ok()?;
    let lines = text
        .lines()
        .map(|line| line.strip_suffix('\r').unwrap_or(line));
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let identities: Vec<_> = lines.map(identity).collect::<Option<_>>()?;
    (!identities.is_empty()).then_some(identities)
}

fn identity(line: &str) -> Option<Box<dyn Identity>> {
    if let Some(identity) = AgeIdentity::parse(line) {
        return Some(Box::new(HybridIdentity(identity)));
    }
    let identity: age::x25519::Identity = line.parse().ok()?;
    Some(Box::new(identity))
}

/// Returns whether the bytes begin like an age file.
pub fn begins_like_archive(bytes: &[u8]) -> bool {
    PREFIXES.iter().any(|prefix| bytes.starts_with(prefix))
}

/// Returns the manifests for an archive, one document per Secret. **The result contains private
/// keys.**
pub fn manifests<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::new());
    for (i, secret) in secrets.enumerate() {
        if i > 0 {
            text.extend_from_slice(b"---\n");
        }
        let document = Zeroizing::new(manifest::to_yaml(&secret.to_document()));
        text.extend_from_slice(document.as_bytes());
    }
    text
}

/// Encrypts an archive.
///
/// # Errors
///
/// Fails if there is no recipient, if there are too many, or if only some of them are post-quantum.
pub fn encrypt(plain: &[u8], encryption: &ArchiveEncryption) -> Result<Vec<u8>, ArchiveError> {
    let encryptor = match encryption {
        ArchiveEncryption::Passphrase(passphrase) => {
            let mut recipient = age::scrypt::Recipient::new(passphrase.clone());
            recipient.set_work_factor(WORK);
            Encryptor::with_recipients(std::iter::once(&recipient as &dyn Recipient))
        }
        ArchiveEncryption::Recipients(recipients) if recipients.len() > MAX_RECIPIENTS => {
            return Err(ArchiveError::Recipients(recipients.len()));
        }
        ArchiveEncryption::Recipients(recipients) => {
            let recipients = recipients.iter().map(|recipient| &*recipient.0);
            Encryptor::with_recipients(recipients)
        }
    };
    let encryptor = encryptor.map_err(|error| match error {
        EncryptError::IncompatibleRecipients { .. } => ArchiveError::MixedRecipients,
        error => ArchiveError::Encrypt(error.to_string()),
    })?;
    let write = || -> io::Result<Vec<u8>> {
        let mut archive = Vec::new();
        let mut writer = encryptor.wrap_output(&mut archive)?;
        writer.write_all(plain)?;
        writer.finish()?;
        Ok(archive)
    };
    let archive = write().map_err(|error| ArchiveError::Encrypt(error.to_string()))?;
    match (encryption, age_header::len(&archive)) {
        (ArchiveEncryption::Recipients(recipients), Err(_)) => {
            Err(ArchiveError::Recipients(recipients.len()))
        }
        _ => Ok(archive),
    }
}

/// Decrypts an archive completely or not at all. With identities, success does not show who created the archive, since
/// recipients are public.
///
/// # Errors
///
/// Returns an [`ArchiveError`] if the archive cannot be decrypted.
pub fn decrypt(
    archive: &[u8],
    decryption: &ArchiveDecryption,
) -> Result<Zeroizing<Vec<u8>>, ArchiveError> {
    let file = without_armor(archive)?;
    let decryptor = decryptor(&file, WholeHeaderReader::new)?;
    let is_passphrase = decryptor.is_scrypt();
    let reader = if is_passphrase {
        let passphrase = decryption.passphrase.clone();
        let passphrase = passphrase.ok_or(ArchiveError::NeedsPassphrase)?;
        let mut identity = age::scrypt::Identity::new(passphrase);
        identity.set_max_work_factor(MAX_WORK);
        decryptor.decrypt(std::iter::once(&identity as &dyn Identity))
    } else {
        if decryption.identities.is_empty() {
            return Err(ArchiveError::NeedsIdentity);
        }
        decryptor.decrypt(decryption.identities.iter().map(|identity| &**identity))
    };
    let mut reader = reader.map_err(|error| match error {
        DecryptError::ExcessiveWork { required, .. } => ArchiveError::Work(required),
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

/// Returns whether the archive is encrypted with a passphrase rather than for recipients; `false` if its header cannot
/// be parsed.
pub fn needs_passphrase(archive: &[u8]) -> bool {
    let Ok(file) = without_armor(archive) else {
        return false;
    };
    decryptor(&file, WholeHeaderReader::new).is_ok_and(|decryptor| decryptor.is_scrypt())
}

/// Removes the armor of an armored archive. The result is still encrypted.
fn without_armor(archive: &[u8]) -> Result<Cow<'_, [u8]>, ArchiveError> {
    if !archive.starts_with(PREFIXES[1]) {
        return Ok(Cow::Borrowed(archive));
    }
    let mut file = Vec::with_capacity(archive.len());
    match age::armor::ArmoredReader::new(archive).read_to_end(&mut file) {
        Ok(_) => Ok(Cow::Owned(file)),
        Err(_) => Err(ArchiveError::Damaged),
    }
}

/// Parses the header of a file. `reader` gets the file and the length of its header.
fn decryptor<'a, R: BufRead>(
    file: &'a [u8],
    reader: impl FnOnce(&'a [u8], usize) -> R,
) -> Result<Decryptor<R>, ArchiveError> {
    if !file.starts_with(PREFIXES[0]) {
        return Err(ArchiveError::Header);
    }
    if !file.starts_with(VERSION) && file.len() >= VERSION.len() {
        return Err(ArchiveError::Version);
    }
    let header = age_header::len(file).map_err(|error| match error {
        HeaderError::Truncated => ArchiveError::Damaged,
        HeaderError::TooLong => ArchiveError::LongHeader,
    })?;
    let parsed = Decryptor::new_buffered(reader(file, header));
    parsed.map_err(|error| match error {
        DecryptError::UnknownFormat => ArchiveError::Version,
        DecryptError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            ArchiveError::Damaged
        }
        _ => ArchiveError::Header,
    })
}

/// Writes an archive in one step, and returns the bytes written. If `decryption` contains a passphrase for an archive
/// with a passphrase, or identities for an archive with recipients, the archive is decrypted and compared with `plain`
/// before it is written. It is read back from a temporary file before it gets its name or replaces an earlier archive.
///
/// # Errors
///
/// Returns an [`ArchiveError`] if the archive cannot be created, decrypted, written or read back, if the path names a
/// pipe or device, or if a file exists and `may_replace` is false. In each case, the path is unchanged, and the keys do
/// not count as backed up.
pub fn write(
    path: &Path,
    plain: &[u8],
    encryption: &ArchiveEncryption,
    decryption: &ArchiveDecryption,
    may_replace: bool,
) -> Result<Vec<u8>, ArchiveError> {
    files::check_regular(path)?;
    if path.exists() && !may_replace {
        return Err(ArchiveError::Exists(path.to_owned()));
    }
    let archive = encrypt(plain, encryption)?;
    if can_decrypt(encryption, decryption) && **decrypt(&archive, decryption)? != *plain {
        return Err(ArchiveError::NotDecryptable);
    }
    let is_as_written =
        |written: &Path| files::read_as(written, Kind::Keys).is_ok_and(|read| **read == *archive);
    if files::replace_checked(path, &archive, is_as_written)? {
        Ok(archive)
    } else {
        Err(ArchiveError::NotAsWritten(path.to_owned()))
    }
}

fn can_decrypt(encryption: &ArchiveEncryption, decryption: &ArchiveDecryption) -> bool {
    match encryption {
        ArchiveEncryption::Passphrase(_) => decryption.passphrase.is_some(),
        ArchiveEncryption::Recipients(_) => !decryption.identities.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn passphrase(text: &str) -> ArchiveDecryption {
        ArchiveDecryption {
            passphrase: Some(SecretString::from(text.to_owned())),
            ..ArchiveDecryption::default()
        }
    }

    fn identity(identity: &age::x25519::Identity) -> ArchiveDecryption {
        ArchiveDecryption {
            identities: vec![Box::new(identity.clone())],
            ..ArchiveDecryption::default()
        }
    }

    /// Attack: an attacker decrypts an archive with an identity that does not belong to a recipient.
    #[test]
    fn only_recipients_can_decrypt() {
        let [recipient, other_identity] = [(); 2].map(|()| age::x25519::Identity::generate());
        let archive = encrypt(
            b"keys",
            &ArchiveEncryption::Recipients(vec![recipient.to_public().into()]),
        )
        .unwrap();
        assert!(begins_like_archive(&archive));
        assert_eq!(
            **decrypt(&archive, &identity(&recipient)).unwrap(),
            *b"keys"
        );
        let error_text =
            |decryption: &ArchiveDecryption| decrypt(&archive, decryption).unwrap_err().to_string();
        assert!(error_text(&identity(&other_identity)).contains("none of the identities"));
        assert!(error_text(&passphrase("x")).contains("--identity"));
        assert!(encrypt(b"keys", &ArchiveEncryption::Recipients(Vec::new())).is_err());
    }

    /// Attack: an attacker decrypts an archive with a wrong passphrase, or damages the archive.
    #[test]
    fn distinguishes_a_wrong_passphrase_from_damage() {
        let correct = passphrase("correct horse");
        let encryption = ArchiveEncryption::Passphrase(correct.passphrase.clone().unwrap());
        let archive = encrypt(b"keys", &encryption).unwrap();
        assert_eq!(**decrypt(&archive, &correct).unwrap(), *b"keys");
        let error_text = |archive: &[u8], decryption: &ArchiveDecryption| {
            decrypt(archive, decryption).unwrap_err().to_string()
        };
        assert_eq!(
            error_text(&archive, &passphrase("wrong")),
            "the passphrase is wrong"
        );
        assert!(error_text(&archive, &ArchiveDecryption::default()).contains("--passphrase-file"));
        let mut changed = archive.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(error_text(&changed, &correct).contains("truncated or was changed"));
    }

    /// Attack: an attacker truncates an archive, so that keys are missing after the restore. The test cuts it at every
    /// 997th byte.
    #[test]
    fn refuses_a_truncated_archive() {
        let recipient = age::x25519::Identity::generate();
        let plain = vec![b'k'; 100_000];
        let archive = encrypt(
            &plain,
            &ArchiveEncryption::Recipients(vec![recipient.to_public().into()]),
        )
        .unwrap();
        for len in (0..archive.len()).step_by(997) {
            assert!(
                decrypt(&archive[..len], &identity(&recipient)).is_err(),
                "{len}"
            );
        }
    }

    #[test]
    fn refuses_to_overwrite_a_backup() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.age");
        let recipient = age::x25519::Identity::generate();
        let encryption = ArchiveEncryption::Recipients(vec![recipient.to_public().into()]);
        write(&path, b"one", &encryption, &identity(&recipient), false).unwrap();
        let result = write(&path, b"two", &encryption, &identity(&recipient), false);
        assert!(matches!(result, Err(ArchiveError::Exists(_))));
        let archive = std::fs::read(&path).unwrap();
        assert_eq!(**decrypt(&archive, &identity(&recipient)).unwrap(), *b"one");
        write(&path, b"two", &encryption, &identity(&recipient), true).unwrap();
        let archive = std::fs::read(&path).unwrap();
        assert_eq!(**decrypt(&archive, &identity(&recipient)).unwrap(), *b"two");
    }

    /// Fault: an archive is written to a pipe, directly or through a link. A pipe keeps no archive.
    #[test]
    #[cfg(unix)]
    fn refuses_a_pipe_as_the_path_of_an_archive() {
        use std::os::unix::fs::FileTypeExt as _;
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        let status = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(status.unwrap().success());
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        let recipient = age::x25519::Identity::generate();
        let encryption = ArchiveEncryption::Recipients(vec![recipient.to_public().into()]);
        for path in [&pipe, &link] {
            for may_replace in [false, true] {
                let result = write(path, b"x", &encryption, &identity(&recipient), may_replace);
                let error = result.unwrap_err().to_string();
                assert!(error.contains("not a regular file\nhint: "), "{error}");
            }
        }
        assert!(std::fs::metadata(&link).unwrap().file_type().is_fifo());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    /// Returns an archive with this number of stanzas, each with this number of full lines.
    fn archive_with_header(stanzas: usize, lines: usize) -> Vec<u8> {
        let line = format!("{}\n", "A".repeat(64));
        let name = "A".repeat(43);
        let stanza = format!("-> X25519 {name}\n{}{name}\n", line.repeat(lines));
        let mac = format!("--- {name}\n");
        let parts = ["age-encryption.org/v1\n", &stanza.repeat(stanzas), &mac];
        [parts.concat().as_bytes(), &[0; 64]].concat()
    }

    fn with_armor(archive: &[u8]) -> Vec<u8> {
        let mut armored = Vec::new();
        let format = age::armor::Format::AsciiArmor;
        let mut writer = age::armor::ArmoredWriter::wrap_output(&mut armored, format).unwrap();
        writer.write_all(archive).unwrap();
        writer.finish().unwrap();
        armored
    }

    /// Attack: an attacker presents an archive of a few kilobytes with hundreds of stanzas, or long ones, to keep
    /// restore and doctor busy.
    #[test]
    fn refuses_a_long_header_before_parsing_it() {
        let recipient = age::x25519::Identity::generate();
        for (why, archive, is_long) in [
            (
                "as many stanzas as allowed",
                archive_with_header(MAX_STANZAS, 0),
                false,
            ),
            (
                "one stanza too many",
                archive_with_header(MAX_STANZAS + 1, 0),
                true,
            ),
            ("thousands of stanzas", archive_with_header(10_000, 0), true),
            ("a long body", archive_with_header(1, 1_000), false),
            ("a longer body", archive_with_header(1, 1_100), true),
            ("several long bodies", archive_with_header(5, 900), true),
        ] {
            for bytes in [with_armor(&archive), archive] {
                let error = decrypt(&bytes, &identity(&recipient)).unwrap_err();
                assert_eq!(matches!(error, ArchiveError::LongHeader), is_long, "{why}");
                let error = decrypt(&bytes, &ArchiveDecryption::default()).unwrap_err();
                assert_eq!(matches!(error, ArchiveError::LongHeader), is_long, "{why}");
                assert!(!needs_passphrase(&bytes), "{why}");
            }
        }
    }

    /// Counts how often the parser reads more of the header, and so parses it from the start again.
    struct ReadCounter<'a>(WholeHeaderReader<'a>, &'a Cell<usize>);

    impl io::Read for ReadCounter<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl BufRead for ReadCounter<'_> {
        fn fill_buf(&mut self) -> io::Result<&[u8]> {
            self.0.fill_buf()
        }

        fn consume(&mut self, amount: usize) {
            self.0.consume(amount);
        }

        fn read_until(&mut self, byte: u8, buf: &mut Vec<u8>) -> io::Result<usize> {
            self.1.set(self.1.get() + 1);
            self.0.read_until(byte, buf)
        }
    }

    /// Attack: an attacker presents an archive with a header just within the limits, to make the parser run in
    /// quadratic time. Read line by line, the header would be parsed once per line.
    #[test]
    fn parses_a_header_once() {
        for (stanzas, lines) in [(1, 0), (32, 0), (256, 0), (1, 120), (1, 960), (8, 100)] {
            let archive = archive_with_header(stanzas, lines);
            let count = Cell::new(0);
            let counter = |file, header| ReadCounter(WholeHeaderReader::new(file, header), &count);
            assert!(decryptor(&archive, counter).is_ok());
            assert_eq!(count.get(), 1, "{stanzas} of {lines} lines");
            let line_reader = ReadCounter(WholeHeaderReader::new(&archive, 0), &count);
            assert!(Decryptor::new_buffered(line_reader).is_ok());
            assert_eq!(
                count.get() - 1,
                2 + stanzas * (2 + lines),
                "the crate alone reads line by line"
            );
        }
    }

    /// Attack: an attacker presents an archive that requires hours of work and more memory than available.
    #[test]
    fn refuses_a_work_factor_above_the_limit() {
        let with_work = |work: u8| {
            let mut recipient = age::scrypt::Recipient::new(SecretString::from("x".to_owned()));
            recipient.set_work_factor(1);
            let encryptor =
                Encryptor::with_recipients(std::iter::once(&recipient as &dyn Recipient));
            let mut archive = Vec::new();
            let mut writer = encryptor.unwrap().wrap_output(&mut archive).unwrap();
            writer.write_all(b"keys").unwrap();
            writer.finish().unwrap();
            let (before, after) = (b" 1\n".as_slice(), format!(" {work}\n"));
            let start = archive.windows(3).position(|w| w == before).unwrap();
            drop(archive.splice(start..start + 3, after.into_bytes()));
            archive
        };
        assert_eq!(
            **decrypt(&with_work(1), &passphrase("x")).unwrap(),
            *b"keys"
        );
        for work in MAX_WORK + 1..64 {
            let error = decrypt(&with_work(work), &passphrase("x")).unwrap_err();
            assert!(
                matches!(error, ArchiveError::Work(w) if w == work),
                "{error}"
            );
        }
    }

    #[test]
    fn refuses_to_write_an_archive_that_it_would_not_read() {
        let recipient = age::x25519::Identity::generate();
        let encryption_for = |count| {
            let recipients = (0..count).map(|_| recipient.to_public().into());
            ArchiveEncryption::Recipients(recipients.collect())
        };
        let archive = encrypt(b"keys", &encryption_for(MAX_RECIPIENTS)).unwrap();
        assert_eq!(
            **decrypt(&archive, &identity(&recipient)).unwrap(),
            *b"keys"
        );
        let error = encrypt(b"keys", &encryption_for(MAX_RECIPIENTS + 1)).unwrap_err();
        assert!(error.to_string().contains("at most 255"), "{error}");
    }

    /// A seed of zeros, as `age-keygen -pq` would print it.
    const HYBRID_IDENTITY: &str =
        "AGE-SECRET-KEY-PQ-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQAE0WQE";

    fn hybrid_recipient() -> ArchiveRecipient {
        let identity = AgeIdentity::parse(HYBRID_IDENTITY).unwrap();
        ArchiveRecipient(Box::new(HybridRecipient(identity.recipient())))
    }

    /// Attack: an attacker with a quantum computer decrypts an archive for post-quantum recipients with another
    /// recipient's stanza.
    #[test]
    fn post_quantum_recipients_share_an_archive_only_with_each_other() {
        let other = age::x25519::Identity::generate();
        let encryption =
            ArchiveEncryption::Recipients(vec![hybrid_recipient(), other.to_public().into()]);
        let error = encrypt(b"keys", &encryption).unwrap_err();
        assert!(matches!(error, ArchiveError::MixedRecipients), "{error}");
        let encryption_for =
            |count| ArchiveEncryption::Recipients((0..count).map(|_| hybrid_recipient()).collect());
        let archive = encrypt(b"keys", &encryption_for(40)).unwrap();
        let file = format!("# comment\n{HYBRID_IDENTITY}\n");
        let decryption = ArchiveDecryption {
            identities: identities(file.as_bytes()).unwrap(),
            passphrase: None,
        };
        assert_eq!(**decrypt(&archive, &decryption).unwrap(), *b"keys");
        assert!(matches!(
            decrypt(&archive, &identity(&other)),
            Err(ArchiveError::OtherRecipients)
        ));
        assert!(matches!(
            encrypt(b"keys", &encryption_for(43)),
            Err(ArchiveError::Recipients(43))
        ));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        /// Attack: an attacker presents an archive with many lines in any order, to make the parser take longer than
        /// one pass.
        #[test]
        fn any_header_is_short_or_refused(
            lines in proptest::collection::vec("(-> |---|[A-Z]{0,70}|-> scrypt [A-Z]{22} [0-9]{1,3})", 0..400)
        ) {
            let archive = format!("age-encryption.org/v1\n{}\n", lines.join("\n"));
            let header = age_header::len(archive.as_bytes()).unwrap_or(0);
            proptest::prop_assert!(header <= age_header::MAX_LEN);
            let stanzas = lines.iter().take_while(|line| !line.starts_with("---"));
            if stanzas.filter(|line| line.starts_with("-> ")).count() > MAX_STANZAS {
                proptest::prop_assert_eq!(header, 0);
            }
            let _ = decrypt(archive.as_bytes(), &ArchiveDecryption::default());
        }

        #[test]
        fn never_panics_on_any_bytes(bytes: Vec<u8>) {
            let _ = decrypt(&bytes, &ArchiveDecryption::default());
            let header = [&b"age-encryption.org/v1\n"[..], &bytes].concat();
            let _ = decrypt(&header, &ArchiveDecryption::default());
        }
    }
}
