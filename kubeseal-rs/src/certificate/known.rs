//! The certificates seen last, in the user's cache folder, for each cluster and controller.
//!
//! ```text
//! sealed-secrets/pins/k.example_6443-1f2e3d4c5b6a7988/kube-system_sealed-secrets-controller.pem
//! sealed-secrets/seen-by-rules/k.example_6443-1f2e3d4c5b6a7988/team_sealed-secrets.pem
//! ```
//!
//! A pin lets the certificate be trusted where its own Service is found unasked. What only a rule names
//! is kept apart: it serves to announce a change, and a pin never comes of it. See
//! [`Memory`](super::trust::Memory).
//!
//! Each is a PEM file with a line above that says whose it is, good for `--cert` too. It is written
//! when the certificate changes, so its time is when that one was first seen. Nothing here is secret,
//! and nothing here stops a run: what cannot be read is not known, what cannot be written is
//! forgotten.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use shared::key::{Certificate, Fingerprint};

use super::trust::Memory;
use crate::bounded::Kind;
use crate::cluster::{Address, Service};
use crate::files::{self, FileError};

/// The certificates seen of one cluster.
#[derive(Debug)]
pub(super) struct Known {
    cache: Option<PathBuf>,
    cluster: String,
    server: String,
}

/// A certificate seen before.
#[derive(Debug)]
pub(super) struct Seen {
    /// The file as it is.
    pub(super) pem: Vec<u8>,
    /// Its key.
    pub(super) fingerprint: Fingerprint,
    /// When it was seen first.
    pub(super) since: Timestamp,
}

impl Known {
    /// Of a cluster, which is an address together with the authorities that vouch for it: every
    /// laptop has its own 127.0.0.1.
    pub(super) fn of(cache: Option<&Path>, cluster: &Address) -> Self {
        Self::new(cache, &cluster.server, &cluster.authorities)
    }

    fn new(cache: Option<&Path>, server: &str, authorities: &[Vec<u8>]) -> Self {
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
            .fold(0, |all, byte| all << 8 | u64::from(*byte));
        let name = format!("{}-{digest:016x}", in_file_name(host.trim_end_matches('/')));
        Self {
            cache: cache.map(Path::to_owned),
            cluster: name,
            server: server.to_owned(),
        }
    }

    /// The certificate that the user trusts of this controller and of no other.
    pub(super) fn pin(&self, service: &Service) -> Option<Seen> {
        self.read(Memory::Pin, service)
    }

    /// The certificate that was seen last, to notice a change.
    pub(super) fn last(&self, memory: Memory, service: &Service) -> Option<Seen> {
        self.read(memory, service).or_else(|| self.pin(service))
    }

    fn read(&self, memory: Memory, service: &Service) -> Option<Seen> {
        read(&self.file(memory, service)?)
    }

    /// Keeps a certificate in place of that controller's last one.
    ///
    /// # Errors
    ///
    /// The folder cannot be used.
    pub(super) fn remember(
        &self,
        memory: Memory,
        service: &Service,
        certificate: &Certificate,
    ) -> Result<(), FileError> {
        let Some(path) = self.file(memory, service) else {
            return Ok(());
        };
        if let Some(folder) = path.parent() {
            files::make_folder(folder)?;
        }
        let (server, pem) = (&self.server, certificate.to_pem());
        let fingerprint = certificate.fingerprint();
        let text = format!("# {fingerprint} of {service} at {server}\n{pem}");
        files::replace_anywhere(&path, text.as_bytes())
    }

    /// The file of one controller.
    fn file(&self, memory: Memory, Service { namespace, name }: &Service) -> Option<PathBuf> {
        let kind = match memory {
            Memory::Pin => "pins",
            Memory::Announcement => "seen-by-rules",
        };
        let name = format!("{}_{}.pem", in_file_name(namespace), in_file_name(name));
        let folder = self.cache.as_ref()?.join("sealed-secrets").join(kind);
        Some(folder.join(&self.cluster).join(name))
    }
}

/// Names of the cluster must not lead elsewhere; `_` is in none of them.
fn in_file_name(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let name: String = text
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .take(100)
        .collect();
    name.replace("..", "__")
}

fn read(path: &Path) -> Option<Seen> {
    let pem = files::read_as(path, Kind::Certificate).ok()?.to_vec();
    let certificate = Certificate::from_pem(&pem).ok()?;
    let since = fs::metadata(path).and_then(|file| file.modified()).ok()?;
    Some(Seen {
        pem,
        fingerprint: certificate.fingerprint().clone(),
        since: since.try_into().ok()?,
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

    const BOTH: [Memory; 2] = [Memory::Pin, Memory::Announcement];

    #[test]
    fn clusters_differ_by_address_and_authority() {
        let cluster = |server: &str, authorities: &[Vec<u8>]| {
            Known::new(Some(Path::new("/c")), server, authorities).cluster
        };
        let one = cluster("https://127.0.0.1:6443/", &[vec![1]]);
        assert_eq!(one, cluster("https://127.0.0.1:6443/", &[vec![1]]));
        assert_ne!(one, cluster("https://127.0.0.1:6443/", &[vec![2]]));
        assert_ne!(one, cluster("https://127.0.0.1:6443/", &[]));
        assert_ne!(one, cluster("https://127.0.0.1:6444/", &[vec![1]]));
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let known = Known::new(Some(Path::new("/c")), "https://x/../..", &[]);
        for (memory, above) in BOTH.into_iter().zip(["pins", "seen-by-rules"]) {
            let folder = Path::new("/c/sealed-secrets")
                .join(above)
                .join(&known.cluster);
            assert_eq!(folder.components().count(), 5);
            for name in ["../../x", "/etc/x", "..", "", "a/b", "a\0b"] {
                let file = known.file(memory, &service(name)).unwrap();
                assert_eq!(file.parent(), Some(folder.as_path()), "{name}");
            }
        }
    }

    #[test]
    fn what_is_no_certificate_is_not_known() {
        let cache = tempfile::tempdir().unwrap();
        let known = Known::new(Some(cache.path()), "https://x", &[]);
        for memory in BOTH {
            let file = known.file(memory, &service("a")).unwrap();
            assert!(known.last(memory, &service("a")).is_none());
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "half a fi").unwrap();
            assert!(known.last(memory, &service("a")).is_none());
            let none = Known::new(None, "https://x", &[]);
            assert!(none.last(memory, &service("a")).is_none());
        }
    }

    /// Attack: a certificate that was remembered of one controller, or for a rule, is offered as that of
    /// another controller.
    #[test]
    fn a_pin_counts_for_its_own_controller_alone() {
        let cache = tempfile::tempdir().unwrap();
        let known = Known::new(Some(cache.path()), "https://x", &[]);
        let other_cluster = Known::new(Some(cache.path()), "https://y", &[]);
        let pem = include_bytes!("../../tests/seal/exec.fixtures/key-2025.pem");
        let certificate = Certificate::from_pem(pem).unwrap();
        known
            .remember(Memory::Pin, &service("a"), &certificate)
            .unwrap();
        known
            .remember(Memory::Announcement, &service("b"), &certificate)
            .unwrap();
        assert!(known.pin(&service("a")).is_some());
        let elsewhere = Service {
            namespace: "b".into(),
            name: "a".into(),
        };
        for service in [service("b"), service("c"), elsewhere] {
            assert!(known.pin(&service).is_none(), "{service}");
        }
        assert!(other_cluster.pin(&service("a")).is_none());
        assert!(known.last(Memory::Announcement, &service("b")).is_some());
    }
}
