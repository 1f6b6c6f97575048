//! The certificate of the TLS port, and the authority that issued it.
//!
//! Both are created each time the process starts, and their keys never leave the process. The certificate of the
//! authority is served on the unauthenticated port, where a man in the middle can replace it, and published in the
//! `ConfigMap` of the certificate, if configured. Clients trust only the `ConfigMap`, since they read it from the API
//! server.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use tokio_rustls::TlsAcceptor;

/// The DNS name that the certificate always has, for any Service or port-forward.
pub const NAME: &str = "sealed-secrets.bitnami.com";
/// Validity of the certificates. They are not renewed, since processes are restarted much earlier.
const VALIDITY: SignedDuration = SignedDuration::from_hours(24 * 365 * 5);
/// How long before the current time the validity begins, since clocks differ.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_hours(1);

/// A TLS certificate with its key.
pub struct Identity {
    /// PEM certificate of the authority, with which callers verify the certificate.
    pub authority: String,
    acceptor: TlsAcceptor,
}

/// Why the certificate cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The validity would be out of range, so the clock must be wrong.
    #[error("cannot generate the TLS certificate: the system clock is out of range; set the clock")]
    Clock,
    /// The key or the certificate could not be generated.
    #[error("cannot generate the TLS certificate for --listen-authorized-addr")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library does not accept the certificate.
    #[error("cannot use the generated TLS certificate for --listen-authorized-addr")]
    Tls(#[from] rustls::Error),
}

impl Identity {
    /// Creates a certificate for a controller in this namespace.
    ///
    /// # Errors
    ///
    /// Returns [`IdentityError`] if the certificate cannot be created.
    pub fn new(namespace: &str, now: Timestamp) -> Result<Self, IdentityError> {
        let (authority_key, server_key) = (KeyPair::generate()?, KeyPair::generate()?);
        let mut authority = params(Vec::new(), "Sealed Secrets", now)?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);
        let certificate =
            params(subject_names(namespace), NAME, now)?.signed_by(&server_key, &issuer)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Self {
            authority: authority_pem,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// Returns the acceptor of TLS connections.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }
}

fn subject_names(namespace: &str) -> Vec<String> {
    let service = |suffix: &str| format!("*.{namespace}.{suffix}");
    vec![
        NAME.into(),
        "localhost".into(),
        "127.0.0.1".into(),
        "::1".into(),
        service("svc"),
        service("svc.cluster.local"),
    ]
}

fn params(
    names: Vec<String>,
    name: &str,
    now: Timestamp,
) -> Result<CertificateParams, IdentityError> {
    let to_offset_time = |time: Timestamp| {
        OffsetDateTime::from_unix_timestamp(time.as_second()).map_err(|_| IdentityError::Clock)
    };
    let mut params = CertificateParams::new(names)?;
    params.not_before = to_offset_time(
        now.saturating_sub(CLOCK_TOLERANCE)
            .map_err(|_| IdentityError::Clock)?,
    )?;
    params.not_after = to_offset_time(
        now.saturating_add(VALIDITY)
            .map_err(|_| IdentityError::Clock)?,
    )?;
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}
