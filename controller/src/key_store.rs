//! Maintains the key ring from the key Secrets in `DIR/keys`.
//!
//! The files contain manifests of key Secrets: one Secret, a `List` (also without `kind`, as client-go marshals it),
//! or several documents. A Secret counts as a key if it has the label of an active key of v1 or of v2, or if its name
//! equals the key prefix, as in upstream's first releases. Secrets that cannot be used as keys are reported and
//! skipped. If a file becomes unreadable, its keys stay in use until the file is removed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rand::RngExt as _;
use shared::key::Certificate;
use shared::key_ring::{AnyKey, KeyRing, NoSealingKey, RingV2Key};
use shared::key_secret::OrderPriority;
use shared::manifest::{self, Document, Reading};
use shared::resource::{KEY_ACTIVE, KEY_LABEL, RENEW_ANNOTATION, V2_KEY_LABEL};
use shared::secret::Secret;
use shared::v2::Suite;
use shared::{error_chain, key_secret, v2};
use tracing::{debug, error, info, warn};
use zeroize::Zeroizing;

use crate::args::KeyConfig;
use crate::files::{Directory, FileError};
use crate::key_changes::{self, RemovedKeys};
use crate::key_renewal::{AcceptedRequests, GeneratedKey};
use crate::poll::{self, Depth, PolledFiles, QUIET_PERIOD};

const KEYS_DIRECTORY: &str = "keys";
/// The alphabet of the random suffix that the API server appends to generated names. It has no vowels, so that no
/// suffix forms a word.
const NAME_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const NAME_SUFFIX_LENGTH: usize = 5;
/// Maximum length of a name without its suffix. With the suffix and `.yaml`, the file name has fewer than 255 bytes.
const MAX_NAME_START: usize = 244;

/// The keys in a directory.
#[derive(Debug)]
pub struct KeyStore {
    root: Arc<Directory>,
    config: KeyConfig,
    files: PolledFiles<KeyFile>,
    ring: Arc<KeyRing>,
    removed: RemovedKeys,
    reported: BTreeSet<String>,
    accepted: AcceptedRequests,
}

/// The parsed content of a file.
#[derive(Debug, Default)]
struct KeyFile {
    keys: Vec<StoredKey>,
    problems: Vec<String>,
    /// Names of Secrets that do not count as keys.
    inactive: Vec<String>,
    /// Names of key Secrets whose annotation requests a newer key.
    renewal_requests: Vec<String>,
}

/// A key and the creation time of its Secret.
#[derive(Debug)]
pub(crate) struct StoredKey {
    pub(crate) key: AnyKey,
    pub(crate) created: Option<Timestamp>,
}

/// The formats of key Secrets. Each format has its own label: upstream's controller selects only the label of RSA keys,
/// and crashes on other keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyFormat {
    /// RSA keys with certificates, for v1 and v2.
    Rsa,
    /// Keys that are only for v2.
    V2,
}

impl KeyFormat {
    pub(crate) const ALL: [Self; 2] = [Self::Rsa, Self::V2];

    /// Returns the label selector of the active keys.
    pub(crate) fn selector(self) -> String {
        let label = match self {
            Self::Rsa => KEY_LABEL,
            Self::V2 => V2_KEY_LABEL,
        };
        format!("{label}={KEY_ACTIVE}")
    }

    /// Reads a key Secret. Returns the problem if it contains no usable key.
    pub(crate) fn read(
        self,
        secret: &Secret,
        priority: OrderPriority,
    ) -> Result<StoredKey, String> {
        let key = match self {
            Self::Rsa => key_secret::parse(secret, priority)
                .map(|key| AnyKey::Rsa(Arc::new(key)))
                .map_err(|error| error_chain(&error)),
            Self::V2 => RingV2Key::read(secret, priority)
                .map(|key| AnyKey::V2(Arc::new(key)))
                .map_err(|error| error_chain(&error)),
        }?;
        let created = secret.metadata.creation_timestamp.as_ref();
        let created = created.map(|time| time.0);
        Ok(StoredKey { key, created })
    }
}

/// Returns the Secret that stores a generated key. Configured labels cannot turn the Secret into a key of another
/// format, on which upstream's controller would crash.
pub(crate) fn key_secret(key: &GeneratedKey, name: &str, config: &KeyConfig) -> Secret {
    let (mut labels, annotations) = (config.labels.clone(), config.annotations.clone());
    labels.retain(|label, _| label != KEY_LABEL && label != V2_KEY_LABEL);
    let namespace = &config.namespace;
    match key {
        GeneratedKey::Rsa(key) => key_secret::build(name, namespace, key, labels, annotations),
        GeneratedKey::V2(key) => v2::key_secret::build(name, namespace, key, labels, annotations),
    }
}

/// Returns the beginning of the names of new key Secrets: the prefix, and for v2 keys also the suite, as in
/// `sealed-secrets-key-v2-xw-`.
pub(crate) fn name_start(suite: Suite, config: &KeyConfig) -> String {
    match suite {
        Suite::Rsa => config.prefix.clone(),
        suite => format!("{}-v2-{suite}-", config.prefix),
    }
}

/// Logs the identifier and end of validity of a new key.
pub(crate) fn log_new_key(key: &GeneratedKey) {
    match key {
        GeneratedKey::Rsa(key) => log_certificate(key.pair.certificate()),
        GeneratedKey::V2(stored) => {
            let (key_id, suite) = (stored.key.opener().key_id(), key.suite());
            info!(%key_id, %suite, until = %stored.not_after, "Key generated");
        }
    }
}

/// Builds the key ring. Registers keys by creation time, as upstream does, and then by name. This order matters only
/// for duplicates and for keys that the ring itself would order equally.
pub(crate) fn build_ring<'a>(
    stored: impl Iterator<Item = &'a StoredKey>,
    config: &KeyConfig,
) -> KeyRing {
    let mut stored: Vec<&StoredKey> = stored.collect();
    stored.sort_by_key(|stored| (stored.created, stored.key.name()));
    KeyRing::from_keys(stored.into_iter().map(|stored| stored.key.clone()))
        .with_required_backup(config.requires_backup)
        .with_preferred_suite(config.sealing_suite)
        .with_additional_recipients(Arc::clone(&config.additional_recipients))
}

/// Returns the newest key of each suite for which keys are generated, if the key seals only after a backup and was not
/// already waiting for the backup in `before`.
pub(crate) fn new_keys_without_backup(before: &KeyRing, after: &KeyRing) -> Vec<AnyKey> {
    let before: Vec<_> = keys_without_backup(before)
        .map(|key| key.key_id())
        .collect();
    let after = keys_without_backup(after);
    after
        .filter(|key| !before.contains(&key.key_id()))
        .collect()
}

fn keys_without_backup(ring: &KeyRing) -> impl Iterator<Item = AnyKey> {
    let newest = ring
        .renewed_suites()
        .filter_map(|suite| ring.own_keys(suite).next());
    newest.filter(|key| ring.why_key_cannot_seal(key) == Some(NoSealingKey::NotBackedUp))
}

/// The message about a key that seals only once it is backed up (see [`new_keys_without_backup`]).
pub(crate) const NOT_BACKED_UP: &str =
    "this key does not seal until it is backed up: run `seal keys backup`";

impl KeyStore {
    /// Creates the directory `keys` if it is missing, and loads its content.
    ///
    /// # Errors
    ///
    /// Returns [`FileError`] if the directory cannot be used.
    pub fn open(
        root: Arc<Directory>,
        config: KeyConfig,
        now: Timestamp,
    ) -> Result<Self, FileError> {
        match root.open_beneath(Path::new(KEYS_DIRECTORY)) {
            Err(error) if error.is_missing() => drop(root.child_or_new(KEYS_DIRECTORY)?),
            opened => Directory::try_from(opened?)?.remove_leftovers()?,
        }
        info!("Searching for existing private keys");
        let mut store = Self {
            root,
            config,
            files: PolledFiles::default(),
            ring: Arc::default(),
            removed: RemovedKeys::default(),
            reported: BTreeSet::new(),
            accepted: AcceptedRequests::default(),
        };
        // Files that exist at startup are assumed to be complete, so this scan skips the [`QUIET_PERIOD`].
        store.scan(now.saturating_add(QUIET_PERIOD).unwrap_or(now))?;
        Ok(store)
    }

    /// Returns the key ring as of the last poll.
    pub fn ring(&self) -> &Arc<KeyRing> {
        &self.ring
    }

    /// Checks for added and removed keys. Returns whether the key ring changed. If the directory cannot be listed, logs
    /// an error and leaves the key ring as it is.
    pub fn poll(&mut self, now: Timestamp) -> bool {
        let before = Arc::clone(&self.ring);
        if let Err(error) = self.scan(now) {
            self.report(
                [format!(
                    "{}; previously loaded keys stay in use",
                    error_chain(&error)
                )]
                .into(),
            );
        }
        !self.ring.has_same_keys(&before)
    }

    /// Returns the suites whose newest key Secret has [`RENEW_ANNOTATION`] with the value `true`, which requests a new
    /// key. Returns a suite only once per requesting key Secret.
    pub fn accept_renewal_requests(&mut self) -> Vec<Suite> {
        let files = self.files.files().values();
        let requests: BTreeSet<&String> = files
            .filter_map(|file| file.value.as_ref())
            .flat_map(|f| &f.renewal_requests)
            .collect();
        let is_requested = |name: &str| requests.iter().any(|request| *request == name);
        self.accepted.accept(&self.ring, is_requested)
    }

    /// Stores a new key durably and atomically, and adds it to the key ring.
    ///
    /// # Errors
    ///
    /// Returns [`FileError`] if the file cannot be written.
    pub fn add(&mut self, new: &GeneratedKey, now: Timestamp) -> Result<(), FileError> {
        let directory = Directory::try_from(self.root.open_beneath(Path::new(KEYS_DIRECTORY))?)?;
        let name = free_name(&directory, &name_start(new.suite(), &self.config));
        let secret = key_secret(new, &name, &self.config);
        let text = Zeroizing::new(manifest::to_yaml(&secret.to_document()));
        directory.replace(&file_name(&name), text.as_bytes())?;
        info!(namespace = self.config.namespace, name, "New key written");
        log_new_key(new);
        // The new file is complete, so this poll skips the [`QUIET_PERIOD`].
        let (stamp, _) = directory.stat(file_name(&name))?;
        let written = Timestamp::from_nanosecond(stamp.last_change_nanoseconds()).unwrap_or(now);
        let now = now.max(written);
        self.poll(now.saturating_add(QUIET_PERIOD).unwrap_or(now));
        Ok(())
    }

    fn scan(&mut self, now: Timestamp) -> Result<(), FileError> {
        let listing = poll::list(&self.root, KEYS_DIRECTORY, Depth::Flat)?;
        let config = &self.config;
        let scan = self.files.scan(&self.root, &listing, now, |path, bytes| {
            KeyFile::parse(path, bytes, config)
        });
        self.report(self.collect_problems(listing.problems.into_values()));
        self.removed.expire(now);
        if scan.changed {
            self.update_ring(now);
        }
        Ok(())
    }

    /// Returns the number of problems with keys and key files.
    pub fn unusable_count(&self) -> usize {
        self.reported.len()
    }

    fn update_ring(&mut self, now: Timestamp) {
        let parsed_files = self
            .files
            .files()
            .values()
            .filter_map(|file| file.value.as_ref());
        let ring = build_ring(parsed_files.flat_map(|file| &file.keys), &self.config);
        let ring = self.removed.next_ring(&self.ring, ring, now);
        key_changes::log_changes(&self.ring, &ring);
        self.ring = Arc::new(ring);
    }

    fn collect_problems(&self, listing_problems: impl Iterator<Item = String>) -> BTreeSet<String> {
        let mut problems: BTreeSet<String> = listing_problems.collect();
        for (path, file) in self.files.files() {
            let path = path.display();
            problems.extend(
                file.problem
                    .iter()
                    .map(|problem| format!("{path}: {problem}")),
            );
            let content = file.value.iter().filter(|_| file.problem.is_none());
            let document_problems = content.flat_map(|content| &content.problems);
            problems.extend(document_problems.map(|problem| format!("{path}: {problem}")));
        }
        problems
    }

    /// Logs the problems that were not reported before.
    fn report(&mut self, problems: BTreeSet<String>) {
        for problem in problems.difference(&self.reported) {
            error!(error = problem, "Error reading key");
        }
        self.reported = problems;
    }
}

/// Returns an unused name with a random suffix.
fn free_name(directory: &Directory, start: &str) -> String {
    let start: String = start.chars().take(MAX_NAME_START).collect();
    let mut rng = shared::random::system();
    loop {
        let letter = |_| char::from(NAME_ALPHABET[rng.random_range(..NAME_ALPHABET.len())]);
        let suffix: String = (0..NAME_SUFFIX_LENGTH).map(letter).collect();
        let name = format!("{start}{suffix}");
        if directory.stat(file_name(&name)).is_err() {
            return name;
        }
    }
}

/// Logs the fingerprint and expiry of a new certificate at INFO, and the certificate itself only at DEBUG, since
/// clients can fetch it.
fn log_certificate(certificate: &Certificate) {
    let (fingerprint, until) = (certificate.fingerprint(), certificate.not_after());
    info!(%fingerprint, %until, "Certificate generated");
    let certificate = certificate.to_pem();
    debug!(certificate, "The new certificate");
}

fn file_name(name: &str) -> String {
    format!("{name}.yaml")
}

impl KeyFile {
    fn parse(path: &Path, bytes: &[u8], config: &KeyConfig) -> Result<Self, String> {
        let documents = manifest::read(bytes).map_err(|error| error_chain(&error))?;
        let mut parsed = Self::default();
        for document in &documents {
            parsed.add_document(path, document, config);
        }
        for name in &parsed.inactive {
            warn!(secretname = name, file = %path.display(), "private key not used: its label sealedsecrets.bitnami.com/sealed-secrets-key, or sealedsecrets.bitnami.com/v2-key, is not active");
        }
        Ok(parsed)
    }

    fn add_document(&mut self, path: &Path, document: &Document, config: &KeyConfig) {
        let mut reading = Reading::default();
        for secret in key_secret::secrets(document, &mut reading) {
            let result = secret
                .map_err(|error| error_chain(&error))
                .and_then(|secret| self.add_secret(path, secret, config));
            if let Err(problem) = result {
                let number = document.number;
                self.problems.push(format!("document {number}: {problem}"));
            }
        }
    }

    fn add_secret(
        &mut self,
        path: &Path,
        mut secret: Secret,
        config: &KeyConfig,
    ) -> Result<(), String> {
        let name = secret.metadata.name.get_or_insert_with(|| stem(path));
        let name = name.clone();
        let formats = formats(&secret, &name, config);
        if formats.is_empty() {
            self.inactive.push(name);
            return Ok(());
        }
        let annotations = secret.metadata.annotations.as_ref();
        if annotations
            .and_then(|a| a.get(RENEW_ANNOTATION))
            .is_some_and(|value| value == "true")
        {
            self.renewal_requests.push(name.clone());
        }
        for format in formats {
            let key = format.read(&secret, config.priority);
            let key = key.map_err(|problem| format!("Secret {name}: {problem}"))?;
            self.keys.push(key);
        }
        Ok(())
    }
}

/// Returns the formats in which a Secret is an active key.
fn formats(secret: &Secret, name: &str, config: &KeyConfig) -> Vec<KeyFormat> {
    let mut formats = KeyFormat::ALL.to_vec();
    formats.retain(|format| match format {
        KeyFormat::Rsa => key_secret::is_active(&secret.metadata) || name == config.prefix,
        KeyFormat::V2 => v2::key_secret::is_active(&secret.metadata),
    });
    formats
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
