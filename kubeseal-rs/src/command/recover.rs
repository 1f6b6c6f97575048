//! Decrypts SealedSecret manifests with backup keys into Secret manifests, offline.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use kubeseal_library::bounded::Kind;
use kubeseal_library::files;
use kubeseal_library::keys::archive;
use kubeseal_library::keys::key_lines::{self, KeyLineError};
use serde_json::Value as Json;
use shared::error_chain;
use shared::key::{PrivateKey, PrivateKeyError};
use shared::key_marks::Marks;
use shared::key_ring::{KeyRing, RingKey, RingV2Key};
use shared::key_secret::{self, PRIVATE_KEY_ITEM};
use shared::manifest::{self, Coercion, Document, Node, ReadError, Reading, Value};
use shared::resource::{DocumentError, SealedSecret, types_of_items};
use shared::secret::Secret;
use shared::unseal::{self, Randomness, Rules, UnsealError};
use shared::v2::key_secret::{KeySecretError, StoredKey};
use shared::v2::{self, Recipient as _};

use super::CommandError;
use super::secrets;
use crate::report;
use crate::report::ShowPath as _;

/// Why a file provides no usable key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file is an archive of `seal keys backup`.
    #[error(
        "it is an age archive, which this command cannot decrypt\nhint: restore its keys with `seal keys restore`, or \
         pass it to `seal exec` or `seal doctor` with --backup"
    )]
    Archive,
    /// The file is a certificate, the public half of a key.
    #[error(
        "it is a certificate, which is public and cannot unseal anything\nhint: pass its private key instead"
    )]
    Certificate,
    /// The file is neither PEM nor manifests.
    #[error("it contains neither a PEM private key nor the backup of a key Secret")]
    Manifest(#[from] ReadError),
    /// The file contains the beginning of a PEM block, but no complete key in PEM.
    #[error("its PEM is truncated or damaged\nhint: use another copy of the file")]
    Damaged,
    /// The keys in a PEM file cannot be used.
    #[error("it contains no usable private key")]
    Private(#[from] PrivateKeyError),
    /// A line with a v2 key cannot be used.
    #[error(transparent)]
    Line(#[from] KeyLineError),
    /// A document has a duplicate field, as if Secrets had been joined without `---`, so all but the last would be
    /// lost.
    #[error(
        "line {0}: duplicate field, as if files had been joined without a `---` line between them: the first of the \
         two Secrets would be lost\nhint: insert a `---` line above this line"
    )]
    Joined(usize),
    /// The manifests contain no key.
    #[error("it contains no private key: no Secret in it has a usable item `tls.key` or `v2.key`")]
    NoKey,
}

/// How to treat a file in which Secrets were joined without `---`, so that only the last Secret can be read.
#[derive(Debug, Clone, Copy)]
enum OnJoined {
    /// Use the keys that can be read, as upstream does, and warn.
    Warn,
    /// Refuse the file.
    Refuse,
}

impl OnJoined {
    fn report(self, file: &Path, line: usize) -> Result<(), KeyFileError> {
        let problem = KeyFileError::Joined(line);
        match self {
            Self::Refuse => Err(problem),
            Self::Warn => {
                report::warn(&format!("{}: {problem}", file.shown()));
                Ok(())
            }
        }
    }
}

/// The keys in files that the user named.
#[derive(Default)]
pub(super) struct RecoveryKeys {
    keys: Vec<Arc<RingKey>>,
    v2_keys: Vec<Arc<RingV2Key>>,
    /// Why files provide no usable key.
    unusable: Vec<CommandError>,
}

impl RecoveryKeys {
    /// Reads the keys in every file: PEM, `seal2-key` lines, or both; or Secrets in JSON or YAML, alone, in several
    /// documents, or in a list.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read, or is a directory. Fails if some files contain keys and another provides none:
    /// the user has probably passed the wrong file. For a file with an empty list of keys, only prints a warning.
    pub(super) fn read(key_files: &[PathBuf]) -> Result<Self, CommandError> {
        Self::read_files(key_files, OnJoined::Warn)
    }

    fn read_files(key_files: &[PathBuf], joined: OnJoined) -> Result<Self, CommandError> {
        let (mut recovery_keys, mut empty) = (Self::default(), Vec::new());
        for file in key_files {
            if file.is_dir() {
                return Err(CommandError::RecoveryDirectory(file.clone()));
            }
            match keys_of(file, &files::read_as(file, Kind::Keys)?, joined) {
                Ok(keys) if keys.is_empty() => empty.push(CommandError::RecoveryKey {
                    file: file.clone(),
                    source: KeyFileError::NoKey,
                }),
                Ok(keys) => recovery_keys.add(file, keys),
                Err(source) => recovery_keys.unusable.push(CommandError::RecoveryKey {
                    file: file.clone(),
                    source,
                }),
            }
        }
        if recovery_keys.is_empty() {
            recovery_keys.unusable.append(&mut empty);
        }
        for problem in &empty {
            report::warn(&error_chain(problem));
        }
        if recovery_keys.is_empty() || recovery_keys.unusable.is_empty() {
            return Ok(recovery_keys);
        }
        Err(recovery_keys.unusable.remove(0))
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.v2_keys.is_empty()
    }

    fn add(&mut self, file: &Path, keys: FileKeys) {
        let name = file.shown();
        let rsa = keys.rsa.into_iter().map(|(key, marks)| {
            let key = RingKey::opening_only(name.clone(), key);
            Arc::new(key.with_marks(marks))
        });
        self.keys.extend(rsa);
        let v2 = keys.v2.into_iter().map(|(key, marks)| {
            let key = RingV2Key::new(name.clone(), Timestamp::MIN, key);
            Arc::new(key.with_marks(marks))
        });
        self.v2_keys.extend(v2);
    }

    /// Returns the keys, with the marks of their Secrets. A ring keeps the first of equal keys, so copies with a mark
    /// that forbids sealing come first: a copy without the mark, such as one in PEM, does not cancel it.
    pub(super) fn ring(&self) -> KeyRing {
        let (mut keys, mut v2_keys) = (self.keys.clone(), self.v2_keys.clone());
        keys.sort_by_key(|key| !key.marks().is_sealing_forbidden());
        v2_keys.sort_by_key(|key| !key.marks().is_sealing_forbidden());
        KeyRing::new(keys).with_v2_keys(v2_keys)
    }

    /// Returns hints for a failed decryption: why each file provides no key, or how to pass keys. Empty if there are
    /// keys.
    fn hints(&self) -> Vec<String> {
        if !self.is_empty() {
            return Vec::new();
        }
        if self.unusable.is_empty() {
            return vec!["pass the private keys with --recovery-private-key FILE".into()];
        }
        self.unusable.iter().map(|why| error_chain(why)).collect()
    }
}

/// Returns the keys in files that the user named, for commands that need at least one.
///
/// # Errors
///
/// Fails if no file is named, or if one cannot be read or provides no key. An empty list of keys only causes a warning
/// if another file provides keys.
pub(crate) fn read_keys(key_files: &[PathBuf]) -> Result<KeyRing, CommandError> {
    if key_files.is_empty() {
        return Err(CommandError::NoRecoveryKey);
    }
    let mut recovery_keys = RecoveryKeys::read_files(key_files, OnJoined::Refuse)?;
    match recovery_keys.unusable.pop() {
        Some(why) => Err(why),
        None => Ok(recovery_keys.ring()),
    }
}

/// The keys of a file, each with the marks of its Secret.
#[derive(Default)]
struct FileKeys {
    rsa: Vec<(PrivateKey, Marks)>,
    v2: Vec<(StoredKey, Marks)>,
}

impl FileKeys {
    /// Returns keys that are not in a Secret, so that they have no marks.
    fn unmarked(rsa: Vec<PrivateKey>, v2: Vec<StoredKey>) -> Self {
        Self {
            rsa: rsa.into_iter().map(|key| (key, Marks::default())).collect(),
            v2: v2.into_iter().map(|key| (key, Marks::default())).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.rsa.is_empty() && self.v2.is_empty()
    }

    fn extend(&mut self, other: Self) {
        self.rsa.extend(other.rsa);
        self.v2.extend(other.v2);
    }
}

fn keys_of(file: &Path, bytes: &[u8], joined: OnJoined) -> Result<FileKeys, KeyFileError> {
    if archive::begins_like_archive(bytes) {
        return Err(KeyFileError::Archive);
    }
    let v2 = key_lines::read(bytes)?;
    match PrivateKey::all_from_pem(bytes) {
        Ok(rsa) => return Ok(FileKeys::unmarked(rsa, v2)),
        Err(PrivateKeyError::Missing) if !v2.is_empty() && has_private_block(bytes) => {
            return Err(KeyFileError::Damaged);
        }
        Err(PrivateKeyError::Missing) if !v2.is_empty() => {
            return Ok(FileKeys::unmarked(Vec::new(), v2));
        }
        Err(PrivateKeyError::Missing) if is_certificate(bytes) => {
            return Err(KeyFileError::Certificate);
        }
        Err(PrivateKeyError::Missing) if bytes.trim_ascii_start().starts_with(b"-----BEGIN ") => {
            return Err(KeyFileError::Damaged);
        }
        Err(PrivateKeyError::Missing) => {}
        Err(error) => return Err(error.into()),
    }
    let (mut keys, mut is_empty) = (FileKeys::default(), true);
    let documents = manifest::read(bytes)?;
    if let Some(line) = manifest::repeated_key(bytes) {
        joined.report(file, line)?;
    }
    let has_documents = !documents.is_empty();
    for document in documents {
        for node in key_secret::objects(&document.root) {
            is_empty = false;
            match Secret::from_node(&without_kind(node), &mut Reading::default())
                .map_err(UnusableKey::from)
                .and_then(|secret| keys_of_secret(&secret))
            {
                Ok(secret_keys) => keys.extend(secret_keys),
                Err(error) => report::warn(&format!(
                    "{}: skipped an object in document {}: {}",
                    file.shown(),
                    document.number,
                    error_chain(&error)
                )),
            }
        }
    }
    // Like upstream, accepts a list without items, such as the backup of a cluster without keys.
    if keys.is_empty() && !(is_empty && has_documents) {
        Err(KeyFileError::NoKey)
    } else {
        Ok(keys)
    }
}

/// Returns whether a file has the first line of a PEM block with a private key.
fn has_private_block(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::trim_ascii);
    lines.any(|line| line.starts_with("-----BEGIN ") && line.ends_with("PRIVATE KEY-----"))
}

/// Removes `kind` and `apiVersion`, ignoring case, from an object with an item `tls.key`, so that it is read as a key
/// Secret regardless of its kind, as upstream does.
fn without_kind(node: &Node) -> Cow<'_, Node> {
    let key = node
        .field("data")
        .and_then(|data| data.field(PRIVATE_KEY_ITEM));
    if key.is_none() {
        return Cow::Borrowed(node);
    }
    let mut node = node.clone();
    if let Value::Map(fields) = &mut node.value {
        let names_kind = |name: &str| {
            ["kind", "apiVersion"]
                .iter()
                .any(|k| k.eq_ignore_ascii_case(name))
        };
        fields.retain(|(name, _)| !names_kind(name));
    }
    Cow::Owned(node)
}

fn is_certificate(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    text.starts_with(b"-----BEGIN CERTIFICATE-----")
}

/// Why an object in a backup is skipped. The keys of the other objects are still used.
#[derive(Debug, thiserror::Error)]
enum UnusableKey {
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error("the Secret {0:?} has no item `tls.key` or `v2.key`")]
    NoItem(String),
    #[error("the Secret {name:?} has no usable v2 key: {source}")]
    V2 {
        name: String,
        source: KeySecretError,
    },
    #[error("the item `tls.key` of the Secret {name:?} cannot be used")]
    Private {
        name: String,
        source: PrivateKeyError,
    },
}

fn keys_of_secret(secret: &Secret) -> Result<FileKeys, UnusableKey> {
    let name = secret.metadata.name.clone().unwrap_or_default();
    if secret.data.contains_key(v2::key_secret::PRIVATE_KEY_ITEM) {
        let key = v2::key_secret::parse(secret);
        let key = key.map_err(|source| UnusableKey::V2 { name, source })?;
        let marks = Marks::read_v2(&secret.metadata, &key.key.recipient().key_id());
        return Ok(FileKeys {
            v2: vec![(key, marks)],
            ..FileKeys::default()
        });
    }
    match secret.data.get(PRIVATE_KEY_ITEM) {
        Some(pem) => {
            let rsa = PrivateKey::all_from_pem(pem.expose());
            let rsa = rsa.map_err(|source| UnusableKey::Private { name, source })?;
            let rsa = rsa.into_iter().map(|key| {
                let marks = Marks::read(&secret.metadata, key.fingerprint());
                (key, marks)
            });
            Ok(FileKeys {
                rsa: rsa.collect(),
                ..FileKeys::default()
            })
        }
        None => Err(UnusableKey::NoItem(name)),
    }
}

/// Decrypts every SealedSecret in the input and renders its templates. Templates that use time or randomness produce
/// other values than on the controller. The returned documents **contain plain values**. They have no owner reference,
/// so they can be applied unchanged.
pub(super) fn unseal(
    input: &[u8],
    keys: &RecoveryKeys,
    now: Timestamp,
) -> Result<Vec<Json>, CommandError> {
    let ring = keys.ring();
    let sealed = secrets::read_objects(input, read_with_types)?;
    if sealed.is_empty() {
        return Err(CommandError::NoSealedSecrets);
    }
    let several = sealed.len() > 1;
    let rules = Rules {
        accept_legacy: true,
        refuse_random: false,
    };
    let mut randomness = Randomness {
        now,
        rng: &mut shared::random::system(),
    };
    let unseal_one = |(sealed, types): SealedWithTypes| {
        let unsealed = unseal::unseal(&sealed, &ring, rules, &mut randomness);
        let unsealed = unsealed.map_err(|mut problem| {
            if let UnsealError::Items(items) = &mut problem {
                items.name_types(&types);
            }
            CommandError::Unseal {
                prefix: object_prefix(&sealed, several),
                problem,
                hints: keys.hints(),
            }
        });
        Ok(unsealed?.secret.to_document())
    };
    sealed.into_iter().map(unseal_one).collect()
}

/// The types of sealed values that are not strings, by item key.
type ItemTypes = BTreeMap<String, &'static str>;

type SealedWithTypes = (SealedSecret, ItemTypes);

/// Reads the SealedSecrets in a document, each with the types of its sealed values that are not strings.
fn read_with_types(
    document: &Document,
) -> Result<(Vec<SealedWithTypes>, Vec<Coercion>), DocumentError> {
    let (sealed, coerced) = SealedSecret::all_from_document(document)?;
    let nodes = SealedSecret::nodes(document).into_iter();
    let types = nodes.map(types_of_items);
    Ok((sealed.into_iter().zip(types).collect(), coerced))
}

/// Returns a prefix that names the object; empty if there is only one.
fn object_prefix(sealed: &SealedSecret, several: bool) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_a_file_that_contains_no_key() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x");
        let certificate = include_str!("../../tests/seal/fixtures/cert.pem");
        for (text, want) in [
            ("age-encryption.org/v1\n-> X25519 x\n", "is an age archive"),
            ("-----BEGIN AGE ENCRYPTED FILE-----\n", "is an age archive"),
            (certificate, "is a certificate"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = read_keys(std::slice::from_ref(&file)).unwrap_err();
            assert!(error_chain(&error).contains(want), "{error:?}");
        }
        let error = read_keys(&[directory.path().to_owned()]).unwrap_err();
        assert!(error_chain(&error).contains("is a directory"), "{error:?}");
    }
}
