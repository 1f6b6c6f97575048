//! The Kubernetes client of `kubeseal` and `seal`. It reaches the controller through the API server's service proxy or,
//! with a token, at the controller's TLS port.

mod api;
mod authorized;
mod busy;
mod by_token;
mod candidates;
mod clusters;
mod connection;
mod error;
mod error_text;
mod login;
mod newest;
mod objects;
mod overrides;
mod path;
mod plug_in;
pub mod rotated;
mod secret;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use serde_json::Value as Json;
use shared::key::{Certificate, Fingerprint};
use shared::v2::RecipientList;

use crate::bounded;
use crate::environment::Environment;
use api::{Api, Response};
pub use authorized::{Authorized, AuthorizedError, KeysOfItems};
pub use by_token::{ByTokenError, TokenAccess};
pub use clusters::Clusters;
pub use connection::{Address, server_of_text};
pub use error::{Cause, ClusterError, NoService, Problem};
pub use newest::Newest;
pub use objects::{CreateOutcome, Objects, parse};
pub use overrides::{HiddenString, Overrides};
pub use path::ApiPath;

const FETCH_FAILED: &str = "cannot fetch certificate";
const RECIPIENTS_FAILED: &str = "cannot fetch the recipients of v2 values";
const VERIFY_FAILED: &str = "cannot validate sealed secret";
const ROTATE_FAILED: &str = "cannot re-encrypt secret";

/// The controller to use, and how to reach it.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The kubeconfig file of `--kubeconfig`; `None` for the default files.
    pub kubeconfig: Option<PathBuf>,
    /// Flags that override the kubeconfig.
    pub overrides: Overrides,
    /// The name of the controller's Service (`--controller-name`).
    pub name: String,
    /// The namespace of the controller's Service (`--controller-namespace`).
    pub namespace: String,
    /// Whether name and namespace are the defaults because neither was set.
    pub is_unnamed: bool,
    /// Time limits for requests.
    pub timeout: Timeout,
    /// How to reach the controller's TLS port.
    pub by_token: TokenAccess,
}

/// How long to wait for responses. `None` waits without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout {
    /// The time limit for one response, from connecting to the last byte.
    pub response: Option<Duration>,
    /// The limit for retrying a request, including the waits between attempts.
    pub busy: Option<Duration>,
}

impl Timeout {
    /// Returns the limits that `--request-timeout` sets.
    pub fn from_flag(flag: Option<Duration>) -> Self {
        Self {
            response: flag,
            busy: flag,
        }
    }
}

impl Default for Timeout {
    /// Returns limits that suit a rate-limited controller: by default, it accepts two requests per second from each
    /// address, so a hundred concurrent jobs take about a minute.
    fn default() -> Self {
        Self {
            response: Some(Duration::from_mins(1)),
            busy: Some(Duration::from_mins(5)),
        }
    }
}

/// A Service, identified by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// The namespace, as in `--controller-namespace`.
    pub namespace: String,
    /// The name, as in `--controller-name`.
    pub name: String,
}

impl Service {
    /// Returns the default name of the `ConfigMap` in which a controller publishes its certificates.
    pub fn config_map_name(&self) -> String {
        format!("{}-certificate", self.name)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A connection to an API server.
#[derive(Clone)]
pub struct Cluster {
    api: Arc<Api>,
}

/// A controller behind its Service.
pub struct Controller {
    cluster: Cluster,
    service: Service,
    port: String,
    /// The number of the Service's TLS port, if the Service has one.
    authorized_port: Option<u16>,
    by_token: TokenAccess,
    authorized: OnceLock<Authorized>,
}

/// The ports of a Service that the client uses.
struct Ports {
    /// The name of the Service's first port; empty if the port has no name.
    first: String,
    authorized: Option<u16>,
}

/// The item of the `ConfigMap` with the CA certificates of the TLS port.
const AUTHORITY_ITEM: &str = "ca.pem";
/// The name of the TLS port in the chart.
const AUTHORIZED_PORT: &str = "authorized";

impl Cluster {
    /// Determines how to reach the API server. Sends no request yet, but may run an exec plug-in.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the kubeconfig, the flags or the credentials cannot be used.
    fn new(access: &Access, environment: &Environment) -> Result<Self, ClusterError> {
        Ok(Self {
            api: Arc::new(Api::new(access, environment)?),
        })
    }

    /// Returns the address of the API server.
    pub fn address(&self) -> &Address {
        &self.api.address
    }

    /// Looks up the Service that `access` names. Uses the Service's first port, as upstream does.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the request fails; [`ClusterError::NoService`] lists Services
    /// that the user may have meant.
    pub fn controller(&self, access: &Access) -> Result<Controller, ClusterError> {
        let service = Service {
            namespace: access.namespace.clone(),
            name: access.name.clone(),
        };
        match self.ports(&service) {
            Ok(ports) => Ok(Controller {
                cluster: self.clone(),
                service,
                port: ports.first,
                authorized_port: ports.authorized,
                by_token: access.by_token.clone(),
                authorized: OnceLock::new(),
            }),
            Err(ClusterError::NoService(mut missing)) => {
                missing.candidates = candidates::find(&self.api);
                missing.can_use_candidate = access.is_unnamed;
                Err(ClusterError::NoService(missing))
            }
            Err(error) => Err(error),
        }
    }

    fn ports(&self, service: &Service) -> Result<Ports, ClusterError> {
        let Service { namespace, name } = service;
        let path = services_path(namespace)?.object(name)?;
        let response = self.api.get(&path)?;
        let body = response.json();
        if response.code == StatusCode::NOT_FOUND || response.code == StatusCode::FORBIDDEN {
            let message = body["message"].as_str().map(str::to_owned);
            return Err(ClusterError::NoService(Box::new(NoService {
                service: service.clone(),
                is_forbidden: response.code == StatusCode::FORBIDDEN,
                why: message.unwrap_or_else(|| response.code.to_string()),
                candidates: Vec::new(),
                can_use_candidate: false,
            })));
        }
        if !response.code.is_success() {
            return Err(refusal(
                "cannot get sealed secret service",
                &response,
                service,
                "",
            ));
        }
        let ports = body["spec"]["ports"].as_array();
        let first = ports.and_then(|ports| ports.first());
        let first = first.ok_or_else(|| ClusterError::NoPorts(service.clone()))?;
        let authorized = ports
            .into_iter()
            .flatten()
            .find(|port| port["name"] == AUTHORIZED_PORT);
        Ok(Ports {
            first: first["name"].as_str().unwrap_or_default().to_owned(),
            authorized: authorized.and_then(|port| port["port"].as_u64()?.try_into().ok()),
        })
    }

    /// Returns the certificate that a Service serves, or `None` if the request fails. Used for Services that the user
    /// did not name.
    pub fn certificate_of(&self, service: &Service) -> Option<Vec<u8>> {
        let port = self.ports(service).ok()?.first;
        let path = proxy_path(service, &port, "v1/cert.pem").ok()?;
        let response = self.api.get(&path).ok()?;
        response.code.is_success().then_some(response.body)
    }

    /// Returns an item of a `ConfigMap`, or `None` if it does not exist or cannot be read, for example because of RBAC.
    pub fn config_map_item(&self, namespace: &str, name: &str, item: &str) -> Option<String> {
        let path = ApiPath::namespaced("/api/v1", namespace, "configmaps")
            .and_then(|all| all.object(name));
        let response = self.api.get(&path.ok()?).ok()?;
        let object = response.code.is_success().then(|| response.json())?;
        object["data"][item].as_str().map(str::to_owned)
    }
}

impl Controller {
    /// Looks up the Service that `access` names.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the settings cannot be used or the request fails.
    pub fn find(access: &Access, clusters: &Clusters<'_>) -> Result<Self, ClusterError> {
        clusters.connect(access)?.controller(access)
    }

    /// Returns the address of the API server.
    pub fn address(&self) -> &Address {
        self.cluster.address()
    }

    /// Returns the controller's Service.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Fetches the certificate to seal with, without checking it.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the request fails.
    pub fn certificate(&self) -> Result<Vec<u8>, ClusterError> {
        let response = self.cluster.api.get(&self.path("cert.pem")?)?;
        Ok(self.success(FETCH_FAILED, response)?.body)
    }

    /// Fetches the list of the keys that v2 values can be sealed for, without checking the keys.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the request fails, or the controller does not serve such a list.
    pub fn recipients(&self) -> Result<RecipientList, ClusterError> {
        let path = proxy_path(&self.service, &self.port, "v2/recipients")?;
        let response = self.success(RECIPIENTS_FAILED, self.cluster.api.get(&path)?)?;
        bounded::parse_json(&response.body).ok_or(ClusterError::MalformedResponse {
            failure: RECIPIENTS_FAILED,
        })
    }

    /// Returns the CA certificates of the TLS port, in PEM, from the `ConfigMap` where the controller publishes them.
    /// The CA certificates from the unauthenticated port are not used: another server could respond there, and would
    /// get the token.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the controller does not publish them, or RBAC does not allow the caller to read
    /// the `ConfigMap`.
    pub fn authority(&self) -> Result<Vec<u8>, ClusterError> {
        let Service { namespace, .. } = &self.service;
        let config_map = self.service.config_map_name();
        let pem = self
            .cluster
            .config_map_item(namespace, &config_map, AUTHORITY_ITEM);
        pem.map(String::into_bytes).ok_or_else(|| {
            let (service, config_map) = (self.service.clone(), config_map);
            ByTokenError::NoAuthority {
                service,
                config_map,
            }
            .into()
        })
    }

    /// Returns the fingerprints of the certificates that the controller publishes, in its order: newest first.
    /// Bitnami's controller publishes only the certificate of its newest key. Empty if the controller publishes none or
    /// cannot be reached.
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        let published = ["certs.pem", "cert.pem"].into_iter().find_map(|endpoint| {
            let response = self.cluster.api.get(&self.path(endpoint).ok()?).ok()?;
            let fingerprints = fingerprints(&String::from_utf8_lossy(&response.body));
            Some(fingerprints)
                .filter(|fingerprints| response.code.is_success() && !fingerprints.is_empty())
        });
        published.unwrap_or_default()
    }

    /// Returns whether the controller can decrypt every item of this SealedSecret.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the response is neither a success nor a failure to decrypt.
    pub fn verify(&self, sealed: &Json) -> Result<bool, ClusterError> {
        if let Some(port) = self.authorized_in_use()? {
            return Ok(port.verify(sealed)?);
        }
        let response = self.cluster.api.post(&self.path("verify")?, sealed)?;
        if response.code == StatusCode::CONFLICT {
            return Ok(false);
        }
        match self.success(VERIFY_FAILED, response) {
            Ok(_) => Ok(true),
            Err(error) if self.may_require_token(&error) => {
                Ok(self.authorized()?.verify(sealed)?)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the SealedSecret re-encrypted for the newest key, or `None` if the controller cannot
    /// decrypt it.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the request fails.
    pub fn rotate(&self, sealed: &Json) -> Result<Option<Json>, ClusterError> {
        if let Some(port) = self.authorized_in_use()? {
            return Ok(port.rotate(sealed)?);
        }
        let response = self.cluster.api.post(&self.path("rotate")?, sealed)?;
        // Bitnami's controller responds with 500 to every failure. `verify` shows whether it cannot
        // decrypt the object.
        let cannot_decrypt = match response.code {
            StatusCode::CONFLICT => true,
            StatusCode::INTERNAL_SERVER_ERROR => matches!(self.verify(sealed), Ok(false)),
            _ => false,
        };
        if cannot_decrypt {
            return Ok(None);
        }
        let body = match self.success(ROTATE_FAILED, response) {
            Ok(response) => response.body,
            Err(error) if self.may_require_token(&error) => {
                return Ok(self.authorized()?.rotate(sealed)?);
            }
            Err(error) => return Err(error),
        };
        bounded::parse_json(&body)
            .map(Some)
            .ok_or(ClusterError::MalformedResponse {
                failure: ROTATE_FAILED,
            })
    }

    /// Returns the SealedSecret with every item re-encrypted as v2, or `None` if the controller cannot decrypt it. Only
    /// the TLS port converts values.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the request fails.
    pub fn rotate_to_v2(&self, sealed: &Json) -> Result<Option<Json>, ClusterError> {
        Ok(self.authorized()?.rotate_to_v2(sealed)?)
    }

    /// Returns the connection to the TLS port, if the user named that port or an earlier
    /// request needed it.
    fn authorized_in_use(&self) -> Result<Option<&Authorized>, ClusterError> {
        if self.by_token.url.is_some() {
            return self.authorized().map(Some);
        }
        Ok(self.authorized.get())
    }

    /// Returns whether the error can come from a controller with `--plain-certificate-only`: the endpoint
    /// does not exist, and the Service has a TLS port.
    fn may_require_token(&self, error: &ClusterError) -> bool {
        let is_missing = matches!(error, ClusterError::Refused { problem, .. } if problem.cause == Cause::NoEndpoint);
        is_missing && self.authorized_port.is_some()
    }

    fn path(&self, endpoint: &str) -> Result<ApiPath, ClusterError> {
        proxy_path(&self.service, &self.port, &format!("v1/{endpoint}"))
    }

    fn success(&self, failure: &'static str, response: Response) -> Result<Response, ClusterError> {
        if response.code.is_success() {
            return Ok(response);
        }
        Err(refusal(failure, &response, &self.service, &self.port))
    }
}

fn services_path(namespace: &str) -> Result<ApiPath, ClusterError> {
    ApiPath::namespaced("/api/v1", namespace, "services")
}

fn proxy_path(service: &Service, port: &str, endpoint: &str) -> Result<ApiPath, ClusterError> {
    services_path(&service.namespace)?.proxied(&service.name, port, endpoint)
}

fn refusal(
    failure: &'static str,
    response: &Response,
    service: &Service,
    port: &str,
) -> ClusterError {
    let problem = Box::new(Problem::from_response(response, service, port));
    ClusterError::Refused { failure, problem }
}

/// Returns the fingerprints of the certificates in PEM data, except certificates that cannot be parsed.
fn fingerprints(pem: &str) -> Vec<Fingerprint> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    pem.split(BEGIN)
        .skip(1)
        .filter_map(|rest| Certificate::from_pem(format!("{BEGIN}{rest}").as_bytes()).ok())
        .map(|certificate| certificate.fingerprint().clone())
        .collect()
}
