//! The cache of certificates seen before, by cluster and controller, in the user's cache directory.
//!
//! ```text
//! sealed-secrets/pins/k.example_6443-1f2e3d4c5b6a7988/kube-system_sealed-secrets-controller.pem
//! sealed-secrets/pins/k.example_6443-1f2e3d4c5b6a7988/kube-system_sealed-secrets-controller.v2
//! sealed-secrets/seen-by-rules/k.example_6443-1f2e3d4c5b6a7988/team_sealed-secrets.pem
//! ```
//!
//! If no fingerprint is specified, a pin makes a discovered certificate trusted (`Discovery::Found`); `--offline` uses
//! the pin too. Certificates that are used because of a rule are stored separately: they serve to report a change, and
//! are not pins. See [`CacheKind`].
//!
//! A file with the extension `.v2` contains the suite and the identifier of the key that a controller preferred for v2
//! values. It serves to report a change, and is not a pin.
//!
//! Every other file is PEM, begins with a comment line that names cluster and controller, and can be passed to
//! `--cert`. A readable file is rewritten only when the key changes, so its modification time is the time when the
//! certificate or key was first seen. The files contain no secrets. An unreadable file counts as missing, with a
//! warning when the certificate or key is fetched. If a write fails, the command continues.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use shared::key::{Certificate, Fingerprint};
use shared::v2::{KeyId, Suite};

use super::trust::CacheKind;
use crate::bounded::Kind;
use crate::cluster::{Address, Service};
use crate::files::{self, FileError};
use crate::shown::ShowPath as _;

/// The certificate cache of one cluster.
#[derive(Debug)]
pub(super) struct Cache {
    directory: Option<PathBuf>,
    cluster: String,
    server: String,
}

/// A certificate seen before.
#[derive(Debug)]
pub(super) struct CachedCertificate {
    /// The content of the file.
    pub(super) pem: Vec<u8>,
    /// The fingerprint of the certificate's key.
    pub(super) fingerprint: Fingerprint,
    /// When the certificate was first seen.
    pub(super) since: Timestamp,
}

/// The preferred key for v2 values that was seen before.
#[derive(Debug)]
pub(super) struct CachedRecipient {
    /// The suite and the key identifier, separated by a space.
    pub(super) key: String,
    /// When the key was first seen.
    pub(super) since: Timestamp,
}

impl Cache {
    /// Opens the cache of a cluster. A cluster is identified by its address and its trusted CA certificates, since an
    /// address such as 127.0.0.1 can belong to different clusters.
    pub(super) fn for_cluster(directory: Option<&Path>, cluster: &Address) -> Self {
        Self::new(directory, &cluster.server, &cluster.authorities)
    }

    fn new(directory: Option<&Path>, server: &str, authorities: &[Vec<u8>]) -> Self {
        let mut digest = Sha256::new();
        digest.update(server);
        for authority in authorities {
            digest.update([0]);
            digest.update(authority);
        }
        let digest = digest.finalize();
        let host = server.split("://").last().unwrap_or_default();
        let digest = digest
            .iter()
            .take(8)
            .fold(0, |number, byte| number << 8 | u64::from(*byte));
        let name = format!(
            "{}-{digest:016x}",
            sanitize_file_name(host.trim_end_matches('/'))
        );
        Self {
            directory: directory.map(Path::to_owned),
            cluster: name,
            server: server.to_owned(),
        }
    }

    /// Returns the pinned certificate of this controller. It is trusted for no other controller.
    pub(super) fn pin(&self, service: &Service) -> Option<CachedCertificate> {
        self.read(CacheKind::Pin, service)
    }

    /// Returns the cached certificate of this kind, or else the pin, to detect a change.
    pub(super) fn last_certificate(
        &self,
        kind: CacheKind,
        service: &Service,
    ) -> Option<CachedCertificate> {
        self.read(kind, service).or_else(|| self.pin(service))
    }

    fn read(&self, kind: CacheKind, service: &Service) -> Option<CachedCertificate> {
        read(&self.file(kind, service)?)
    }

    /// Returns a remark if the controller's file may exist and cannot be read, so that a change cannot be detected.
    pub(super) fn unreadable_remark(&self, kind: CacheKind, service: &Service) -> Option<String> {
        let path = self.file(kind, service)?;
        (may_exist(&path) && read(&path).is_none()).then(|| {
            format!(
                "the cached certificate of {service} cannot be read, so it is unknown whether the certificate has changed \
                 ({})",
                path.shown()
            )
        })
    }

    /// Returns the key that this controller preferred for v2 values in an earlier run, `None` if no key is cached, or a
    /// message if the file may exist but cannot be read.
    pub(super) fn last_recipient(
        &self,
        kind: CacheKind,
        service: &Service,
    ) -> Result<Option<CachedRecipient>, String> {
        let Some(path) = self.recipient_file(kind, service) else {
            return Ok(None);
        };
        let cached = read_recipient(&path);
        if cached.is_none() && may_exist(&path) {
            return Err(format!(
                "the cached key of {service} for v2 values cannot be read, so it is unknown whether the key has changed ({})",
                path.shown()
            ));
        }
        Ok(cached)
    }

    /// Saves the suite and the identifier of the key that this controller prefers. Without a cache directory, saves
    /// nothing.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be created or the file cannot be written.
    pub(super) fn remember_recipient(
        &self,
        kind: CacheKind,
        service: &Service,
        key: &str,
    ) -> Result<(), FileError> {
        let Some(path) = self.recipient_file(kind, service) else {
            return Ok(());
        };
        let text = format!("# of {service} at {}\n{key}\n", self.server);
        write(&path, &text)
    }

    fn recipient_file(&self, kind: CacheKind, service: &Service) -> Option<PathBuf> {
        Some(self.file(kind, service)?.with_extension("v2"))
    }

    /// Saves a certificate and replaces the controller's previous one. Without a cache directory, saves nothing.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be created or the file cannot be written.
    pub(super) fn remember(
        &self,
        kind: CacheKind,
        service: &Service,
        certificate: &Certificate,
    ) -> Result<(), FileError> {
        let Some(path) = self.file(kind, service) else {
            return Ok(());
        };
        let (server, pem) = (&self.server, certificate.to_pem());
        let fingerprint = certificate.fingerprint();
        let text = format!("# {fingerprint} of {service} at {server}\n{pem}");
        write(&path, &text)
    }

    /// Returns the path of the controller's file in the cache.
    fn file(&self, kind: CacheKind, Service { namespace, name }: &Service) -> Option<PathBuf> {
        let subdirectory = match kind {
            CacheKind::Pin => "pins",
            CacheKind::SeenByRule => "seen-by-rules",
        };
        let name = format!(
            "{}_{}.pem",
            sanitize_file_name(namespace),
            sanitize_file_name(name)
        );
        let directory = self
            .directory
            .as_ref()?
            .join("sealed-secrets")
            .join(subdirectory);
        Some(directory.join(&self.cluster).join(name))
    }
}

/// Replaces all characters of an untrusted name but ASCII letters, digits, `-` and single dots with `_`, so that the
/// name cannot lead to another directory. Keeps at most 100 characters. No valid name of a namespace or Service
/// contains `_`.
fn sanitize_file_name(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let name: String = text
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .take(100)
        .collect();
    name.replace("..", "__")
}

fn may_exist(path: &Path) -> bool {
    !files::is_absent(path).unwrap_or(false)
}

fn write(path: &Path, text: &str) -> Result<(), FileError> {
    if let Some(directory) = path.parent() {
        files::create_directory(directory)?;
    }
    files::replace_regular(path, text.as_bytes())
}

fn first_seen(path: &Path) -> Option<Timestamp> {
    let since = fs::metadata(path).and_then(|file| file.modified()).ok()?;
    since.try_into().ok()
}

fn read_recipient(path: &Path) -> Option<CachedRecipient> {
    let bytes = files::read_regular(path, Kind::Certificate.limit()).ok()?;
    let text = std::str::from_utf8(&bytes).ok()?;
    let key = text.lines().find(|line| !line.starts_with('#'))?;
    let (suite, id) = key.split_once(' ')?;
    (suite.parse::<Suite>().is_ok() && id.parse::<KeyId>().is_ok()).then_some(())?;
    Some(CachedRecipient {
        key: key.to_owned(),
        since: first_seen(path)?,
    })
}

fn read(path: &Path) -> Option<CachedCertificate> {
    let pem = files::read_regular(path, Kind::Certificate.limit());
    let pem = pem.ok()?.to_vec();
    let certificate = Certificate::from_pem(&pem).ok()?;
    Some(CachedCertificate {
        pem,
        fingerprint: certificate.fingerprint().clone(),
        since: first_seen(path)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> Service {
        Service {
            namespace: "ops".into(),
            name: name.into(),
        }
    }

    const KINDS: [CacheKind; 2] = [CacheKind::Pin, CacheKind::SeenByRule];

    #[test]
    fn distinguishes_clusters_by_address_and_authority() {
        let cluster = |server: &str, authorities: &[Vec<u8>]| {
            Cache::new(Some(Path::new("/c")), server, authorities).cluster
        };
        let expected = cluster("https://127.0.0.1:6443/", &[vec![1]]);
        assert_eq!(expected, cluster("https://127.0.0.1:6443/", &[vec![1]]));
        assert_ne!(expected, cluster("https://127.0.0.1:6443/", &[vec![2]]));
        assert_ne!(expected, cluster("https://127.0.0.1:6443/", &[]));
        assert_ne!(expected, cluster("https://127.0.0.1:6444/", &[vec![1]]));
    }

    #[test]
    fn hostile_names_stay_in_the_cache_directory() {
        let cache = Cache::new(Some(Path::new("/c")), "https://x/../..", &[]);
        for (kind, subdirectory) in KINDS.into_iter().zip(["pins", "seen-by-rules"]) {
            let directory = Path::new("/c/sealed-secrets")
                .join(subdirectory)
                .join(&cache.cluster);
            assert_eq!(directory.components().count(), 5);
            for name in ["../../x", "/etc/x", "..", "", "a/b", "a\0b"] {
                let file = cache.file(kind, &service(name)).unwrap();
                assert_eq!(file.parent(), Some(directory.as_path()), "{name}");
            }
        }
    }

    #[test]
    fn ignores_a_cache_file_without_a_certificate() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(directory.path()), "https://x", &[]);
        for kind in KINDS {
            let file = cache.file(kind, &service("a")).unwrap();
            assert!(cache.last_certificate(kind, &service("a")).is_none());
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "half a fi").unwrap();
            assert!(cache.last_certificate(kind, &service("a")).is_none());
            let disabled = Cache::new(None, "https://x", &[]);
            assert!(disabled.last_certificate(kind, &service("a")).is_none());
        }
    }

    /// Fault: the file of a cached certificate cannot be read, so a change to the certificate is not reported.
    #[cfg(unix)]
    #[test]
    fn reports_a_file_that_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let cycle = directory.path().join("cycle");
        std::os::unix::fs::symlink("cycle", &cycle).unwrap();
        for (directory, is_reported) in [(cycle, true), (directory.path().join("missing"), false)] {
            let cache = Cache::new(Some(&directory), "https://x", &[]);
            let unreadable_remark = cache.unreadable_remark(CacheKind::Pin, &service("a"));
            assert_eq!(
                unreadable_remark.is_some(),
                is_reported,
                "{unreadable_remark:?}"
            );
        }
    }

    /// Attack: a server presents a certificate that was saved for one controller, or for a rule, as the certificate of
    /// another controller.
    #[test]
    fn a_pin_applies_only_to_its_own_controller() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(directory.path()), "https://x", &[]);
        let other_cluster = Cache::new(Some(directory.path()), "https://y", &[]);
        let pem = include_bytes!("../../../tests/seal/exec.fixtures/key-2025.pem");
        let certificate = Certificate::from_pem(pem).unwrap();
        cache
            .remember(CacheKind::Pin, &service("a"), &certificate)
            .unwrap();
        cache
            .remember(CacheKind::SeenByRule, &service("b"), &certificate)
            .unwrap();
        assert!(cache.pin(&service("a")).is_some());
        let in_other_namespace = Service {
            namespace: "b".into(),
            name: "a".into(),
        };
        for service in [service("b"), service("c"), in_other_namespace] {
            assert!(cache.pin(&service).is_none(), "{service}");
        }
        assert!(other_cluster.pin(&service("a")).is_none());
        assert!(
            cache
                .last_certificate(CacheKind::SeenByRule, &service("b"))
                .is_some()
        );
    }
}
