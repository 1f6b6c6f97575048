//! The certificates seen last, in the user's cache folder: a pin per cluster and controller.
//!
//! ```text
//! sealed-secrets/clusters/k.example_6443-1f2e3d4c5b6a7988/kube-system_sealed-secrets-controller.pem
//! ```
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

use crate::cluster::{Address, Service};
use crate::files::{self, FileError};

/// The certificates seen of one cluster.
#[derive(Debug)]
pub(super) struct Known {
    folder: Option<PathBuf>,
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
            folder: cache.map(|cache| cache.join("sealed-secrets/clusters").join(name)),
            server: server.to_owned(),
        }
    }

    /// That of one controller.
    pub(super) fn last(&self, service: &Service) -> Option<Seen> {
        read(&self.file(service)?)
    }

    /// Of all its controllers.
    pub(super) fn fingerprints(&self) -> Vec<Fingerprint> {
        let entries = self.folder.as_ref().and_then(|f| fs::read_dir(f).ok());
        let paths = entries.into_iter().flatten().flatten().map(|e| e.path());
        paths
            .filter(|path| path.extension().is_some_and(|e| e == "pem"))
            .filter_map(|path| Some(read(&path)?.fingerprint))
            .collect()
    }

    /// Keeps a certificate in place of that controller's last one.
    ///
    /// # Errors
    ///
    /// The folder cannot be used.
    pub(super) fn remember(
        &self,
        service: &Service,
        certificate: &Certificate,
    ) -> Result<(), FileError> {
        let Some(path) = self.file(service) else {
            return Ok(());
        };
        if let Some(folder) = path.parent() {
            files::make_folder(folder)?;
        }
        let (server, pem) = (&self.server, certificate.to_pem());
        let fingerprint = certificate.fingerprint();
        let text = format!("# {fingerprint} of {service} at {server}\n{pem}");
        files::replace(&path, text.as_bytes())
    }

    /// The file of one controller.
    pub(super) fn file(&self, Service { namespace, name }: &Service) -> Option<PathBuf> {
        let name = format!("{}_{}.pem", in_file_name(namespace), in_file_name(name));
        Some(self.folder.as_ref()?.join(name))
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
    let pem = fs::read(path).ok()?;
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

    #[test]
    fn clusters_differ_by_address_and_authority() {
        let folder = |server: &str, authorities: &[Vec<u8>]| {
            Known::new(Some(Path::new("/c")), server, authorities).folder
        };
        let one = folder("https://127.0.0.1:6443/", &[vec![1]]);
        assert!(one.is_some());
        assert_eq!(one, folder("https://127.0.0.1:6443/", &[vec![1]]));
        assert_ne!(one, folder("https://127.0.0.1:6443/", &[vec![2]]));
        assert_ne!(one, folder("https://127.0.0.1:6443/", &[]));
        assert_ne!(one, folder("https://127.0.0.1:6444/", &[vec![1]]));
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let known = Known::new(Some(Path::new("/c")), "https://x/../..", &[]);
        let folder = known.folder.clone().unwrap();
        assert_eq!(
            folder.parent(),
            Some(Path::new("/c/sealed-secrets/clusters"))
        );
        for name in ["../../x", "/etc/x", "..", "", "a/b", "a\0b"] {
            let file = known.file(&service(name)).unwrap();
            assert_eq!(file.parent(), Some(folder.as_path()), "{name}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_not_known() {
        let cache = tempfile::tempdir().unwrap();
        let known = Known::new(Some(cache.path()), "https://x", &[]);
        let file = known.file(&service("a")).unwrap();
        assert!(known.last(&service("a")).is_none() && known.fingerprints().is_empty());
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "half a fi").unwrap();
        assert!(known.last(&service("a")).is_none() && known.fingerprints().is_empty());
        let none = Known::new(None, "https://x", &[]);
        assert!(none.last(&service("a")).is_none() && none.fingerprints().is_empty());
    }
}
