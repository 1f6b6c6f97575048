//! The CA certificates that verify the controller's certificate.
//!
//! Each replica of a controller creates a new CA when it starts, so the certificates are read again: a file is read
//! before each request, and the `ConfigMap` that the controller publishes is read again after a request that did not
//! reach the controller. A Pod can mount this `ConfigMap` only in the namespace of the controller, and the kubelet
//! updates the volume within a minute or two. The API server returns the current content to Pods of every namespace.

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use ureq::http::header;
use ureq::tls::Certificate;

use crate::client::{self, ClientError};
use crate::files;

/// The key of the CA certificates in `data` of the `ConfigMap`.
const CA_KEY: &str = "ca.pem";
const MAX_CERTIFICATES: u64 = 1 << 20;
const MAX_TOKEN: u64 = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(20);

/// Where the CA certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// A PEM file.
    File(PathBuf),
    /// A `ConfigMap`, which the Pod reads with its service account.
    ConfigMap(ConfigMap),
}

/// A `ConfigMap`, and how to reach the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMap {
    /// The address of the API server, such as `https://10.96.0.1:443`.
    pub api_server: String,
    /// The directory with the credentials of the Pod's service account: `ca.crt` and `token`.
    pub account: PathBuf,
    /// The namespace of the `ConfigMap` and of the controller.
    pub namespace: String,
    /// The name of the `ConfigMap`, `<service>-certificate` by default.
    pub name: String,
}

impl Authority {
    /// Returns the CA certificates in PEM.
    pub(crate) fn read(&self) -> Result<Vec<u8>, ClientError> {
        match self {
            Self::File(path) => Ok(files::read(path, MAX_CERTIFICATES)?.to_vec()),
            Self::ConfigMap(config_map) => config_map.read(),
        }
    }
}

impl ConfigMap {
    fn read(&self) -> Result<Vec<u8>, ClientError> {
        let roots = files::read(&self.account.join("ca.crt"), MAX_CERTIFICATES)?;
        let roots = certificates(&roots).ok_or(ClientError::NoApiServerAuthority)?;
        let token = client::token(&self.account.join("token"), MAX_TOKEN)?;
        let agent = client::agent(&roots, TIMEOUT);
        let url = format!(
            "{}/api/v1/namespaces/{}/configmaps/{}",
            self.api_server.trim_end_matches('/'),
            self.namespace,
            self.name
        );
        let request = agent
            .get(&url)
            .header(header::AUTHORIZATION, token.as_str());
        let mut response = request
            .call()
            .map_err(|source| self.error(source.to_string()))?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.error(format!("the API server responded with {status}")));
        }
        let body = response
            .body_mut()
            .with_config()
            .limit(2 * MAX_CERTIFICATES);
        let body = body
            .read_to_vec()
            .map_err(|source| self.error(source.to_string()))?;
        ca_from_config_map(&body)
            .ok_or_else(|| self.error(format!("the ConfigMap has no key {CA_KEY}")))
    }

    fn error(&self, why: String) -> ClientError {
        ClientError::ConfigMap {
            name: format!("{}/{}", self.namespace, self.name),
            why,
        }
    }
}

fn ca_from_config_map(body: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Object {
        data: std::collections::BTreeMap<String, String>,
    }
    let mut object: Object = serde_json::from_slice(body).ok()?;
    object.data.remove(CA_KEY).map(String::into_bytes)
}

/// Parses PEM certificates; returns `None` if there is no certificate, or a certificate is malformed.
pub(crate) fn certificates(pem: &[u8]) -> Option<Vec<Certificate<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem);
    let certificates: Result<Vec<_>, _> = certificates
        .map(|found| found.map(|der| Certificate::from_der(&der).to_owned()))
        .collect();
    certificates.ok().filter(|found| !found.is_empty())
}
