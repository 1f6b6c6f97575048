//! One request to the controller.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use deliver::{ENDPOINT, Failure, MAX_RESPONSE, RequestBody, Response, ResponseError};
use ureq::http::{HeaderMap, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};
use zeroize::Zeroizing;

use crate::authority::{Authority, certificates};
use crate::files::{self, FileError};

/// The maximum size of a token file. Tokens have about 1 KiB.
const MAX_TOKEN: u64 = 64 << 10;
/// The time limit for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit of a complete request, in addition to the time that the controller was asked to wait.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum number of characters of a controller's message that are shown.
const MAX_MESSAGE: usize = 500;
/// The longest pause that a `Retry-After` header can request.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);

/// How to reach a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The URL of the TLS port, with the DNS name of its certificate.
    pub server: String,
    /// The source of the CA certificates of the port. No other certificate is trusted.
    pub authority: Authority,
    /// The file with the token of the Pod. The kubelet replaces it, so it is read before each request.
    pub token_file: PathBuf,
}

/// Connections to a controller.
#[derive(Debug)]
pub struct Client {
    server: String,
    authority: Authority,
    /// The file with the token; `None` if the caller passes a token with each request.
    token_file: Option<PathBuf>,
    /// The CA certificates in PEM, and the HTTP client that trusts only them.
    cached_agent: Option<(Vec<u8>, Agent)>,
}

/// The outcome of a request.
#[derive(Debug)]
pub enum Delivery {
    /// The caller already has the current revision.
    Unchanged,
    /// The current values.
    Values(Box<Response>),
}

/// A response whose body has not been received. It occupies little memory, while its values can have several megabytes.
#[derive(Debug)]
pub struct PendingDelivery {
    server: String,
    response: ureq::http::Response<Body>,
}

impl PendingDelivery {
    /// Receives the body.
    ///
    /// # Errors
    ///
    /// Fails if the body does not arrive in time, or the controller refuses the request or sends an invalid response.
    pub fn receive(mut self) -> Result<Delivery, ClientError> {
        let status = self.response.status();
        if status == StatusCode::NOT_MODIFIED {
            return Ok(Delivery::Unchanged);
        }
        let bytes = read(self.response.body_mut());
        let bytes = bytes.map_err(|source| unreachable(&self.server, source))?;
        if status != StatusCode::OK {
            return Err(refusal(status, self.response.headers(), &bytes).into());
        }
        Ok(Delivery::Values(Box::new(Response::from_json(&bytes)?)))
    }
}

/// Why a request returned no values. No message contains a value.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is not HTTPS, so token and values would be sent unencrypted.
    #[error(
        "the URL of the controller does not begin with https://, so the token would be sent unencrypted\n\
         hint: pass the URL of its TLS port, such as https://sealed-secrets-controller.kube-system.svc:8443"
    )]
    Unencrypted,
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The token file is empty or malformed.
    #[error("{} contains no valid token", .0.display())]
    NoToken(PathBuf),
    /// A token is missing, or contains characters that no token has.
    #[error("the token of the Pod is missing or malformed")]
    InvalidToken,
    /// The CA file or `ConfigMap` contains no PEM certificate, or a malformed one.
    #[error(
        "the CA certificates of the controller's TLS port contain no valid PEM certificate\n\
         hint: use the key `ca.pem` of the ConfigMap that the controller publishes"
    )]
    NoAuthority,
    /// `ca.crt` of the service account contains no PEM certificate, or a malformed one.
    #[error("`ca.crt` of the service account contains no valid PEM certificate")]
    NoApiServerAuthority,
    /// The `ConfigMap` with the CA certificates cannot be read.
    #[error(
        "cannot read the controller's CA certificate from the ConfigMap {name}: {why}\n\
         hint: enable `certificateConfigMap` in the controller's chart; or pass --ca-file"
    )]
    ConfigMap {
        /// Namespace and name of the `ConfigMap`, with a slash between them.
        name: String,
        /// What failed.
        why: String,
    },
    /// The connection failed, no complete response arrived in time, or the response exceeds [`MAX_RESPONSE`].
    #[error(
        "cannot reach the controller at {server}: {source}\n\
         hint: check that the controller's Pods are running with `authorizedEndpoints` enabled, that the URL names its \
         Service, and that the CA certificate is current"
    )]
    Unreachable {
        /// The URL of the controller's TLS port.
        server: String,
        /// The HTTP client's error.
        source: Box<ureq::Error>,
    },
    /// The controller refuses the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The response is malformed, or exceeds a limit.
    #[error("the controller's response is invalid: {0}")]
    Response(#[from] ResponseError),
}

/// An error response of the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status code.
    pub status: StatusCode,
    /// The error and hint of the controller.
    pub failure: Failure,
    /// The pause that the controller requests before the next attempt, at most a minute.
    pub retry_after: Option<Duration>,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure {
            error,
            hint,
            sealed_secret,
            item,
        } = &self.failure;
        match (sealed_secret, item) {
            (Some(object), Some(item)) => write!(
                f,
                "{}, item {}: ",
                to_short_line(object),
                to_short_line(item)
            )?,
            (Some(object), None) => write!(f, "{}: ", to_short_line(object))?,
            _ => {}
        }
        if error.is_empty() {
            write!(f, "the controller responded with {}", self.status)?;
        } else {
            f.write_str(&to_short_line(error))?;
        }
        if hint.is_empty() {
            return Ok(());
        }
        write!(f, "\nhint: {}", to_short_line(hint))
    }
}

/// Replaces control characters with spaces, and truncates the text.
fn to_short_line(text: &str) -> String {
    let on_one_line = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MAX_MESSAGE).map(on_one_line).collect()
}

impl Client {
    /// Creates a client. Reads the token file and a CA file once, so that invalid settings are reported immediately;
    /// sends nothing.
    ///
    /// # Errors
    ///
    /// Fails if the URL is not HTTPS, or a file is missing or malformed.
    pub fn new(settings: Settings) -> Result<Self, ClientError> {
        let Settings {
            server,
            authority,
            token_file,
        } = settings;
        let mut client = Self::without_token(server, authority)?;
        token(&token_file, MAX_TOKEN)?;
        client.token_file = Some(token_file);
        Ok(client)
    }

    /// Creates a client without a token file, for [`Self::begin`] and [`Self::reach`]. Otherwise like
    /// [`Self::new`].
    ///
    /// # Errors
    ///
    /// Fails like [`Self::new`].
    pub fn without_token(server: String, authority: Authority) -> Result<Self, ClientError> {
        if !server.starts_with("https://") {
            return Err(ClientError::Unencrypted);
        }
        if let Authority::File(_) = &authority {
            certificates(&authority.read()?).ok_or(ClientError::NoAuthority)?;
        }
        Ok(Self {
            server,
            authority,
            token_file: None,
            cached_agent: None,
        })
    }

    /// Requests values, with the token in the token file.
    ///
    /// # Errors
    ///
    /// Fails if the token or the CA certificates cannot be read, or the controller cannot be reached, refuses the
    /// request, or sends an invalid response.
    pub fn deliver(&mut self, request: &RequestBody) -> Result<Delivery, ClientError> {
        let path = self
            .token_file
            .as_deref()
            .ok_or(ClientError::InvalidToken)?;
        let token = token(path, MAX_TOKEN)?;
        let wait = Duration::from_secs(request.wait.unwrap_or_default().into());
        self.send(&token, request, TIMEOUT + wait)
    }

    /// Checks that a controller can be reached: sends a request without a token, which the controller refuses.
    ///
    /// # Errors
    ///
    /// Fails if the CA certificates cannot be read, no response arrives, or the server does not have the expected
    /// certificate.
    pub fn reach(&mut self, timeout: Duration) -> Result<(), ClientError> {
        let agent = self.http_client()?;
        let get = agent.get(self.url()).config();
        let response = get.timeout_global(Some(timeout)).build().call();
        response
            .map(drop)
            .map_err(|source| unreachable(&self.server, source))
    }

    /// Requests values with this token and time limit, and waits until the controller begins to respond.
    ///
    /// # Errors
    ///
    /// Fails if the token is malformed, the CA certificates cannot be read, or the controller cannot be reached.
    pub fn begin(
        &mut self,
        token: &str,
        request: &RequestBody,
        timeout: Duration,
    ) -> Result<PendingDelivery, ClientError> {
        let token = bearer(token).ok_or(ClientError::InvalidToken)?;
        self.try_send(&token, request, timeout)
    }

    fn send(
        &mut self,
        token: &str,
        request: &RequestBody,
        timeout: Duration,
    ) -> Result<Delivery, ClientError> {
        let pending = self.try_send(token, request, timeout);
        let result = pending.and_then(PendingDelivery::receive);
        if let Err(ClientError::Unreachable { .. }) = result {
            // The controller may have restarted with a new CA.
            self.cached_agent = None;
        }
        result
    }

    fn try_send(
        &mut self,
        token: &str,
        request: &RequestBody,
        timeout: Duration,
    ) -> Result<PendingDelivery, ClientError> {
        let agent = self.http_client()?;
        let post = agent.post(self.url()).config();
        let post = post.timeout_global(Some(timeout)).build();
        let post = post
            .header(header::AUTHORIZATION, token)
            .header(header::CONTENT_TYPE, "application/json");
        let response = post.send(request.to_json());
        Ok(PendingDelivery {
            response: response.map_err(|source| unreachable(&self.server, source))?,
            server: self.server.clone(),
        })
    }

    fn url(&self) -> String {
        format!("{}{ENDPOINT}", self.server.trim_end_matches('/'))
    }

    /// Returns an HTTP client that trusts the current CA certificates. A CA file is read each time; a `ConfigMap`
    /// at first, and after [`Self::send`] failed with [`ClientError::Unreachable`].
    fn http_client(&mut self) -> Result<Agent, ClientError> {
        let authority = &self.authority;
        if let (Authority::ConfigMap(_), Some((_, agent))) = (authority, &self.cached_agent) {
            return Ok(agent.clone());
        }
        let pem = authority.read()?;
        if let Some((known, agent)) = &self.cached_agent
            && *known == pem
        {
            return Ok(agent.clone());
        }
        let roots = certificates(&pem).ok_or(ClientError::NoAuthority)?;
        let new = agent(&roots, TIMEOUT);
        self.cached_agent = Some((pem, new.clone()));
        Ok(new)
    }
}

fn unreachable(server: &str, source: ureq::Error) -> ClientError {
    ClientError::Unreachable {
        server: server.to_owned(),
        source: Box::new(source),
    }
}

fn read(body: &mut Body) -> Result<Zeroizing<Vec<u8>>, ureq::Error> {
    let limit = u64::try_from(MAX_RESPONSE).unwrap_or(u64::MAX);
    body.with_config()
        .limit(limit)
        .read_to_vec()
        .map(Zeroizing::new)
}

fn refusal(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Refusal {
    let seconds = headers.get(header::RETRY_AFTER);
    let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    Refusal {
        status,
        failure: Failure::from_json(body).unwrap_or_default(),
        retry_after,
    }
}

/// Returns an HTTP client that trusts only these certificates, follows no redirects and uses no proxy.
pub(crate) fn agent(roots: &[Certificate<'static>], timeout: Duration) -> Agent {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::new_with_certs(roots))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .proxy(None)
        .max_redirects(0)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_global(Some(timeout))
        .http_status_as_error(false);
    Agent::new_with_config(config.build())
}

/// Returns the value of the `Authorization` header for the token in a file.
pub(crate) fn token(path: &Path, limit: u64) -> Result<Zeroizing<String>, ClientError> {
    let bytes = files::read(path, limit)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    bearer(text.trim()).ok_or_else(|| ClientError::NoToken(path.to_owned()))
}

/// Returns the value of the `Authorization` header for a token; `None` if the token is empty, or contains characters
/// that no token has, such as line breaks.
fn bearer(token: &str) -> Option<Zeroizing<String>> {
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    is_token.then(|| Zeroizing::new(format!("Bearer {token}")))
}

#[cfg(test)]
mod tests;
