//! Gets the certificate to seal with, and decides whether it can be trusted.
//!
//! | module | owns |
//! |---|---|
//! | `source` | `--cert`: a file or a URL |
//! | `from_cluster` | the certificate of a cluster's controller, and fallbacks |
//! | `preferred` | whether the key that a controller prefers for v2 values has changed |
//! | `cache` | certificates and preferred keys seen before, in the cache directory |
//! | `trust` | whether a certificate may be used |
//! | `usable` | parsing PEM; expired and not yet valid certificates |

mod cache;
mod from_cluster;
mod preferred;
mod source;
mod trust;
mod usable;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use shared::key::{Certificate, CertificateError};

use crate::cluster::{Access, ClusterError, Clusters, Service};
use crate::redacted::redacted_source;

pub use from_cluster::{NewCacheEntry, fetch};
pub use preferred::remember_preferred;
pub use source::{RuleContext, SourceError, is_url, read, read_named_by_rule};
pub use trust::{AcceptedFingerprint, Discovery, SettingSource, TrustError, judge};
pub use usable::{Origin, UseError, parse, parse_from};

/// The certificate to get, and its source.
#[derive(Debug, Clone, Default)]
pub struct CertificateQuery {
    /// The file or URL of `--cert`; empty for the controller's certificate.
    pub source: OsString,
    /// How to reach the controller.
    pub access: Access,
    /// The source of the controller's name.
    pub named_by: SettingSource,
    /// The accepted fingerprints; if empty, any trusted certificate is accepted.
    pub fingerprints: Vec<AcceptedFingerprint>,
    /// Whether to use the cached certificate of the controller, without network access. Has no effect with `source`.
    pub offline: bool,
}

impl CertificateQuery {
    /// Returns the regular file that `--cert` names; empty if it names none.
    pub fn files(&self) -> Vec<PathBuf> {
        let path = Path::new(&self.source);
        path.is_file()
            .then(|| path.to_owned())
            .into_iter()
            .collect()
    }
}

/// A certificate as received, not parsed yet.
#[derive(Debug)]
pub struct ObtainedCertificate {
    /// The bytes, which [`parse_from`] parses.
    pub pem: Vec<u8>,
    /// The source of the certificate.
    pub origin: Origin,
    /// Messages for the user, such as warnings.
    pub remarks: Vec<String>,
}

/// Why a certificate cannot be obtained or parsed, or is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum ObtainError {
    /// The source of `--cert` provides no certificate.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No certificate can be fetched from the controller.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The certificate must not be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The certificate must have an accepted fingerprint, but cannot be parsed.
    #[error("cannot parse the certificate of {location}")]
    Unreadable {
        /// The source of the certificate.
        location: String,
        /// The parser's error.
        source: CertificateError,
    },
    /// `--offline` was used, and the cache has no readable pin of this controller.
    #[error(
        "no cached certificate of {service} at {server} to use offline\n\
         hint: run once without --offline, for example `kubeseal --fetch-cert`, or pass a certificate with --cert"
    )]
    NotCached {
        /// The controller's Service.
        service: Service,
        /// The address of the API server.
        server: String,
    },
}

/// Gets the certificate. With a source or `--offline`, the controller is not contacted.
///
/// # Errors
///
/// Returns an [`ObtainError`] if the certificate cannot be obtained or parsed, or is not trusted.
pub fn obtain(
    query: &CertificateQuery,
    clusters: &Clusters<'_>,
) -> Result<ObtainedCertificate, ObtainError> {
    let CertificateQuery {
        source,
        access,
        fingerprints,
        offline,
        ..
    } = query;
    match (source.is_empty(), offline) {
        (false, _) => from_source(source, fingerprints),
        (true, false) => {
            let (mut obtained, new_entry) = from_cluster::fetch(query, clusters)?;
            let failure = new_entry.and_then(|entry| entry.save(clusters.environment));
            obtained.remarks.extend(failure);
            Ok(obtained)
        }
        (true, true) => {
            let cached = from_cluster::cached_certificate(access, clusters.environment)?;
            check_accepted(&cached.pem, "the cache", fingerprints)?;
            Ok(cached)
        }
    }
}

fn from_source(
    source: &OsStr,
    fingerprints: &[AcceptedFingerprint],
) -> Result<ObtainedCertificate, ObtainError> {
    let pem = read(source)?;
    check_accepted(&pem, &redacted_source(source), fingerprints)?;
    Ok(ObtainedCertificate {
        pem,
        origin: Origin::Local,
        remarks: Vec::new(),
    })
}

fn check_accepted(
    pem: &[u8],
    location: &str,
    fingerprints: &[AcceptedFingerprint],
) -> Result<(), ObtainError> {
    if fingerprints.is_empty() {
        return Ok(());
    }
    let certificate = Certificate::from_pem(pem).map_err(|source| ObtainError::Unreadable {
        location: location.to_owned(),
        source,
    })?;
    let fingerprint = certificate.fingerprint();
    Ok(judge(
        fingerprint,
        location,
        Discovery::Named,
        fingerprints,
        None,
    )?)
}
