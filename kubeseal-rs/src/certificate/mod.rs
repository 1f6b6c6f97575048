//! Where the certificate comes from, and whether it can be trusted.
//!
//! | module | owns |
//! |---|---|
//! | `source` | `--cert`: a file or a URL |
//! | `of_cluster` | the controller of a cluster, and what stands in for it |
//! | `known` | the certificates seen last, in the cache folder |
//! | `trust` | whether one may be sealed with |
//! | `usable` | PEM → certificate; expired or not yet valid |

mod known;
mod of_cluster;
mod source;
mod trust;
mod usable;

use std::ffi::{OsStr, OsString};

use shared::key::{Certificate, CertificateError};

use crate::cluster::{Access, ClusterError, Service};
use crate::redacted::redacted_source;
use crate::surroundings::Surroundings;

pub use source::{OfRule, SourceError, is_url, read, read_named_by_rule};
pub use trust::{By, TrustError, Vouched, Way, judge};
pub use usable::{Origin, UseError, parse, parse_of};

/// Which certificate is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// `--cert`: a file or URL; empty for the controller's.
    pub source: OsString,
    /// Where the controller is.
    pub access: Access,
    /// Who says so.
    pub named_by: By,
    /// The only certificates to accept, by `--cert-fingerprint` or a rule; empty for any that can be
    /// trusted.
    pub fingerprints: Vec<Vouched>,
    /// Take the last one seen of the controller, and ask nobody.
    pub offline: bool,
}

/// A certificate as it came.
#[derive(Debug)]
pub struct Obtained {
    /// Its bytes, to be parsed by [`parse_of`].
    pub pem: Vec<u8>,
    /// Who gave it.
    pub origin: Origin,
    /// What to warn of.
    pub remarks: Vec<String>,
}

/// There is no certificate, or none to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum ObtainError {
    /// `--cert` gives none.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The controller gives none.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// It must not be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// What has to be a known certificate is none at all.
    #[error("the certificate of {place} cannot be read")]
    Unreadable {
        /// Where it is from.
        place: String,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// `--offline` before the first time online.
    #[error(
        "no certificate of {service} at {server} was ever seen here, so there is none to use offline. \
         Run once without --offline, for example `kubeseal --fetch-cert`, or give one with --cert"
    )]
    NeverSeen {
        /// The controller.
        service: Service,
        /// The API server.
        server: String,
    },
}

/// Gets the certificate. With a source, or offline, nobody else is asked.
///
/// # Errors
///
/// [`ObtainError`].
pub fn obtain(wanted: &Wanted, surroundings: &Surroundings) -> Result<Obtained, ObtainError> {
    let Wanted {
        source,
        access,
        fingerprints,
        offline,
        ..
    } = wanted;
    match (source.is_empty(), offline) {
        (false, _) => given(source, fingerprints),
        (true, false) => of_cluster::fetch(wanted, surroundings),
        (true, true) => {
            let seen = of_cluster::last(access, surroundings)?;
            check(&seen.pem, "the cache", fingerprints)?;
            Ok(seen)
        }
    }
}

fn given(source: &OsStr, fingerprints: &[Vouched]) -> Result<Obtained, ObtainError> {
    let pem = read(source)?;
    check(&pem, &redacted_source(source), fingerprints)?;
    Ok(Obtained {
        pem,
        origin: Origin::Given,
        remarks: Vec::new(),
    })
}

fn check(pem: &[u8], place: &str, fingerprints: &[Vouched]) -> Result<(), ObtainError> {
    if fingerprints.is_empty() {
        return Ok(());
    }
    let certificate = Certificate::from_pem(pem).map_err(|source| ObtainError::Unreadable {
        place: place.to_owned(),
        source,
    })?;
    let found = certificate.fingerprint();
    Ok(judge(found, place, Way::Named, fingerprints, None)?)
}
