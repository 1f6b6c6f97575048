//! Reads identities, passphrases and the keys in backups.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use age::secrecy::SecretString;
use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use kubeseal_library::bounded::Kind;
use kubeseal_library::environment::Environment;
use kubeseal_library::files;
use kubeseal_library::keys::archive::{self, ArchiveDecryption};
use kubeseal_library::keys::key_lines::{self, KeyLineError};
use kubeseal_library::keys::{KeyRecord, V2KeyRecord};
use kubeseal_library::keys::{directory, record, v2};
use shared::key::PrivateKey;
use shared::key_ring::{KeyRing, RingKey, RingV2Key};
use shared::manifest;
use shared::secret::Secret;
use shared::v2::key_secret::StoredKey;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::prompt::{Prompt, PromptError};
use crate::report::ShowPath as _;
use crate::seal_args::DecryptionArgs;

/// Reads the files of `--identity` and `--passphrase-file`. Never prompts.
///
/// # Errors
///
/// Fails if a file cannot be read or does not contain an identity or passphrase, or if the passphrase would be read
/// from a terminal.
pub fn read(args: &DecryptionArgs, environment: &Environment) -> Result<ArchiveDecryption> {
    let mut decryption = ArchiveDecryption::default();
    for path in &args.identity {
        let bytes = files::read_as(path, Kind::Credential)?;
        match archive::identities(&bytes) {
            Some(identities) => decryption.identities.extend(identities),
            None => bail!(no_identity(path, &bytes)),
        }
    }
    if let Some(path) = &args.passphrase_file {
        decryption.passphrase = Some(read_passphrase(path, environment)?);
    }
    Ok(decryption)
}

/// Returns the error for an identity file that contains no usable identity. Its message describes the content.
fn no_identity(path: &Path, bytes: &[u8]) -> Failure {
    let path = path.shown();
    let starts_with = |head: &[u8]| bytes.trim_ascii_start().starts_with(head);
    if archive::begins_like_archive(bytes) {
        let how = if archive::needs_passphrase(bytes) {
            "protected by a passphrase"
        } else {
            "encrypted"
        };
        return Failure::new(format!(
            "{path} is {how}, but an identity must be unencrypted"
        ))
        .hint(format!(
            "pass it decrypted, through a pipe: --identity <(age -d {path})"
        ));
    }
    if starts_with(b"-----BEGIN ") {
        return Failure::new(format!(
            "{path} is a PEM file, such as an SSH key, and not an age identity (a line that begins with \
             AGE-SECRET-KEY-)"
        ))
        .hint("pass the identity of one of the archive's recipients");
    }
    if starts_with(b"age1") {
        return Failure::new(format!(
            "{path} is an age recipient, which is public and cannot decrypt"
        ))
        .hint("pass the identity, which begins with AGE-SECRET-KEY-");
    }
    Failure::new(format!(
        "{path} contains no age identity (a line that begins with AGE-SECRET-KEY-)"
    ))
    .hint("pass an identity file of `age-keygen`")
}

/// Returns the first line of the file, or of stdin for `-`, without its line break.
fn read_passphrase(path: &Path, environment: &Environment) -> Result<SecretString> {
    let bytes = match path.to_str() {
        Some("-") if environment.stdin_is_terminal => {
            bail!(
                Failure::new("stdin is a terminal, which would show the passphrase")
                    .hint("omit --passphrase-file to be prompted")
            )
        }
        Some("-") => files::read_stdin_as(Kind::Credential)?,
        _ => files::read_as(path, Kind::Credential)?,
    };
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = std::str::from_utf8(line)
        .ok()
        .filter(|text| !text.is_empty());
    let text = text.with_context(|| {
        format!(
            "the first line of {} is empty or not UTF-8, so it is not a passphrase",
            path.shown()
        )
    })?;
    Ok(SecretString::from(text.to_owned()))
}

/// Prompts for a passphrase without echo, and twice for a new one.
///
/// # Errors
///
/// Fails if there is no terminal, if the passphrase is empty or is not one line of text, or if the two entries differ.
pub fn ask_passphrase(is_new: bool) -> Result<SecretString> {
    let ask = || -> Result<_, PromptError> {
        let prompt = Prompt::open()?;
        let first = prompt.ask("Passphrase of the archive: ")?;
        let is_asked_again = is_new && !first.is_empty();
        let second = is_asked_again
            .then(|| prompt.ask("Confirm: "))
            .transpose()?;
        prompt.close()?;
        Ok((first, second))
    };
    let hint = "pass it with --passphrase-file FILE (- for stdin)";
    let (first, second) = ask().map_err(|error| error.into_failure(no_terminal(is_new), hint))?;
    if first.is_empty() {
        bail!("the passphrase is empty; nothing was written");
    }
    if second.is_some_and(|second| *second != *first) {
        bail!("the two passphrases differ; nothing was written");
    }
    Ok(SecretString::from(first.to_string()))
}

fn no_terminal(is_new: bool) -> Failure {
    if is_new {
        Failure::new("no terminal to prompt for the new passphrase of the archive").hint(
            "pass it with --passphrase-file FILE (- for stdin), or encrypt for a recipient with --recipient",
        )
    } else {
        let message =
            "the archive is encrypted with a passphrase, and there is no terminal to prompt for it";
        Failure::new(message).hint("pass it with --passphrase-file FILE (- for stdin)")
    }
}

/// The contents of a backup.
pub struct Backup {
    /// The Secrets with an item `tls.key` or `v2.key`. **They contain private keys.**
    pub secrets: Vec<Secret>,
    /// PEM keys that are not in a Secret.
    pub pem_keys: Vec<PrivateKey>,
    /// The v2 keys in lines, including post-quantum age identities.
    pub lines: Vec<StoredKey>,
}

/// Reads a backup: an age archive, manifests, PEM keys, or v2 keys, one per line. Prompts for a passphrase if needed.
///
/// # Errors
///
/// Fails if the file cannot be read, parsed or decrypted, exceeds a limit, or contains no key.
pub fn read_backup(path: &Path, decryption: &mut ArchiveDecryption) -> Result<Backup> {
    parse_backup(path, files::read_as(path, Kind::Keys)?, decryption)
}

/// The size limit for a backup, in bytes.
const MAX_BACKUP: usize = 32 * 1024 * 1024;
/// The maximum number of key Secrets in a backup, because parsing a key takes time. Enough for a new key each month for
/// eighty years.
const MAX_KEYS: usize = 1_000;

/// Like [`read_backup`], for bytes that were read from this path.
///
/// # Errors
///
/// Fails as [`read_backup`] does, except for a file that cannot be read.
pub fn parse_backup(
    path: &Path,
    bytes: Zeroizing<Vec<u8>>,
    decryption: &mut ArchiveDecryption,
) -> Result<Backup> {
    let name = || path.shown();
    let bytes = files::text(bytes);
    if bytes.len() > MAX_BACKUP {
        bail!(
            "{} is too large for a backup of keys: the limit is 32 MiB",
            name()
        );
    }
    let plain = if archive::begins_like_archive(&bytes) {
        if decryption.passphrase.is_none() && archive::needs_passphrase(&bytes) {
            decryption.passphrase = Some(ask_passphrase(false)?);
        }
        archive::decrypt(&bytes, decryption).with_context(name)?
    } else {
        bytes
    };
    let lines = read_lines(&plain).with_context(name)?;
    let pem_keys = PrivateKey::all_from_pem(&plain).unwrap_or_default();
    if !pem_keys.is_empty() || !lines.is_empty() {
        return Ok(Backup {
            secrets: Vec::new(),
            pem_keys,
            lines,
        });
    }
    if archive::identities(&plain).is_some() {
        let message = format!(
            "{} contains an age identity, not a key of a controller",
            name()
        );
        bail!(Failure::new(message).hint("pass it with --identity, and the backup with --backup"));
    }
    let secrets = directory::secrets(&plain).map_err(|_| {
        let message = format!(
            "{} is neither an age archive, nor manifests, nor keys in PEM",
            name()
        );
        Failure::new(message).hint(
            "pass an archive of `seal keys backup`, or the output of `kubectl get secret -o yaml`",
        )
    })?;
    if let Some(line) = manifest::repeated_key(&plain) {
        let message = format!(
            "{}, line {line}: duplicate field, as if files had been joined without a `---` line between them: the \
             first of the two Secrets would be lost",
            name()
        );
        bail!(Failure::new(message).hint("insert a `---` line above this line"));
    }
    let is_key = |secret: &Secret| {
        secret
            .data
            .contains_key(shared::key_secret::PRIVATE_KEY_ITEM)
            || v2::is_v2(secret)
    };
    if !secrets.iter().any(is_key) {
        let message = format!(
            "{} contains no key: no Secret in it has an item `tls.key` or `v2.key`",
            name()
        );
        bail!(Failure::new(message).hint(
            "pass an archive of `seal keys backup`, or key Secrets from `kubectl get secret -o yaml`"
        ));
    }
    let secrets: Vec<Secret> = secrets.into_iter().filter(is_key).collect();
    if secrets.len() > MAX_KEYS {
        let message = format!(
            "{} contains {} keys; at most {MAX_KEYS} are read from one file",
            name(),
            secrets.len()
        );
        bail!(Failure::new(message).hint("check that it comes from a source that you trust"));
    }
    Ok(Backup {
        secrets,
        pem_keys: Vec::new(),
        lines: Vec::new(),
    })
}

/// Returns the v2 keys in the lines of a file. An X25519 age identity is not a v2 key; the caller reports it.
fn read_lines(plain: &[u8]) -> Result<Vec<StoredKey>, KeyLineError> {
    match key_lines::read(plain) {
        Err(_) if archive::identities(plain).is_some() => Ok(Vec::new()),
        lines => lines,
    }
}

/// Returns a key ring for trial decryption, with every usable key of `records` and of the backups.
///
/// # Errors
///
/// Fails if a backup, or a file with an identity or a passphrase, cannot be read.
pub fn ring(
    records: &[KeyRecord],
    backups: &[PathBuf],
    args: &DecryptionArgs,
    environment: &Environment,
) -> Result<KeyRing> {
    let mut keys: Vec<Arc<RingKey>> = record::ring(records).keys().to_vec();
    let (mut v2_keys, mut lines) = (Vec::new(), Vec::new());
    let mut decryption = read(args, environment)?;
    for path in backups {
        let backup = read_backup(path, &mut decryption)?;
        let name = path.shown();
        let opening_only = |key| Arc::new(RingKey::opening_only(name.clone(), key));
        keys.extend(backup.pem_keys.into_iter().map(opening_only));
        let line = |key| Arc::new(RingV2Key::new(name.clone(), Timestamp::MIN, key));
        lines.extend(backup.lines.into_iter().map(line));
        for secret in backup.secrets {
            if v2::is_v2(&secret) {
                v2_keys.push(V2KeyRecord::new(secret, None));
            } else {
                keys.extend(KeyRecord::new(secret, None).key.ok());
            }
        }
    }
    let ring = v2::add_to_ring(KeyRing::new(keys), &v2_keys);
    Ok(ring.with_v2_keys(lines))
}
