//! The CA certificates that the controller's certificate is verified with.
//!
//! Each replica of a controller creates its CA when it starts. So they are read again before each request, from a file
//! or from the `ConfigMap` that the controller publishes. A volume of a `ConfigMap` exists only in the namespace of the
//! controller, and kubelet renews it within a minute or two; the API server has the current one for every namespace.

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use ureq::http::header;
use ureq::tls::Certificate;

use crate::client::{self, ClientError};
use crate::files;

/// The item of the `ConfigMap` with the CA certificates.
const ITEM: &str = "ca.pem";
const MAX_CERTIFICATES: u64 = 1 << 20;
const MAX_TOKEN: u64 = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(20);

/// Where the CA certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// A file in PEM.
    File(PathBuf),
    /// A `ConfigMap`, which the API server returns to the account of the Pod.
    ConfigMap(ConfigMap),
}

/// A `ConfigMap`, and how to reach the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMap {
    /// The address of the API server, such as `https://10.96.0.1:443`.
    pub api_server: String,
    /// The directory with the account of the Pod: `ca.crt` and `token`.
    pub account: PathBuf,
    /// The namespace of the `ConfigMap`.
    pub namespace: String,
    /// The name of the `ConfigMap`.
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
        ca(&body).ok_or_else(|| self.error(format!("it has no item {ITEM}")))
    }

    fn error(&self, why: String) -> ClientError {
        ClientError::ConfigMap {
            name: format!("{}/{}", self.namespace, self.name),
            why,
        }
    }
}

fn ca(body: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Object {
        data: std::collections::BTreeMap<String, String>,
    }
    let mut object: Object = serde_json::from_slice(body).ok()?;
    object.data.remove(ITEM).map(String::into_bytes)
}

/// Returns the certificates in a PEM text; `None` if there is none, or one is malformed.
pub(crate) fn certificates(pem: &[u8]) -> Option<Vec<Certificate<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem);
    let certificates: Result<Vec<_>, _> = certificates
        .map(|found| found.map(|der| Certificate::from_der(&der).to_owned()))
        .collect();
    certificates.ok().filter(|found| !found.is_empty())
}
