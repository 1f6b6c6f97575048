//! One request to the controller.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use deliver::{Answer, AnswerError, ENDPOINT, Failure, MAX_ANSWER, RequestBody};
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
/// The time limit of a whole request, in addition to the time that the controller was asked to wait.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum length of a message of the controller that is shown, in characters.
const MAX_MESSAGE: usize = 500;
/// The maximum time that a controller can ask for before the next request.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);

/// How to reach a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The URL of the TLS port, with the DNS name of its certificate.
    pub server: String,
    /// The CA certificates of the port. No other certificate is trusted.
    pub authority: Authority,
    /// The file with the token of the Pod. Kubelet replaces it, so it is read before each request.
    pub token_file: PathBuf,
}

/// Connections to a controller.
#[derive(Debug)]
pub struct Client {
    server: String,
    authority: Authority,
    /// The file with the token; `None` if each request has a token of its own.
    token_file: Option<PathBuf>,
    /// The CA certificates in PEM, and the connections that are verified with them.
    connections: Option<(Vec<u8>, Agent)>,
}

/// The outcome of a request.
#[derive(Debug)]
pub enum Delivery {
    /// The values are those of the revision that the caller has.
    Unchanged,
    /// The current values.
    Values(Box<Answer>),
}

/// There are no values. No message contains one.
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
    /// The file has no token.
    #[error("{} contains no token", .0.display())]
    NoToken(PathBuf),
    /// The token of a request cannot be one.
    #[error("the token of the Pod is malformed")]
    InvalidToken,
    /// There is no CA certificate.
    #[error("the CA certificate of the controller's TLS port is not PEM")]
    NoAuthority,
    /// The account of the Pod has no CA certificate for the API server.
    #[error("the CA certificate of the API server is not PEM")]
    NoApiServerAuthority,
    /// The API server does not return the `ConfigMap` with the CA certificates.
    #[error(
        "cannot read the CA certificate of the controller from the ConfigMap {name}: {why}\n\
         hint: enable `certificateConfigMap` in the controller's chart; or pass --ca-file"
    )]
    ConfigMap {
        /// Namespace and name.
        name: String,
        /// What failed.
        why: String,
    },
    /// The controller does not answer.
    #[error(
        "cannot reach the controller at {server}: {source}\n\
         hint: check that its Pods run, with `authorizedEndpoints` enabled, that the URL is that of its Service, and that the \
         CA certificate is the current one"
    )]
    Unreachable {
        /// The URL.
        server: String,
        /// The error of the HTTP client.
        source: Box<ureq::Error>,
    },
    /// The controller refuses the request.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The answer is not one of a controller.
    #[error("the answer of the controller cannot be used: {0}")]
    Answer(#[from] AnswerError),
}

/// An answer without values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status code.
    pub status: StatusCode,
    /// What the controller says.
    pub failure: Failure,
    /// When the controller wants the next request.
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
            (Some(object), Some(item)) => write!(f, "{}, item {}: ", short(object), short(item))?,
            (Some(object), None) => write!(f, "{}: ", short(object))?,
            _ => {}
        }
        if error.is_empty() {
            write!(f, "the controller responded with {}", self.status)?;
        } else {
            f.write_str(&short(error))?;
        }
        if hint.is_empty() {
            return Ok(());
        }
        write!(f, "\nhint: {}", short(hint))
    }
}

/// Returns the text on one line, shortened.
fn short(text: &str) -> String {
    let on_one_line = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MAX_MESSAGE).map(on_one_line).collect()
}

impl Client {
    /// Creates a client. Reads the files once, so that a mistake in the settings is reported at once; sends nothing.
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

    /// Creates a client like [`Self::new`], for [`Self::deliver_with`] only.
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
            connections: None,
        })
    }

    /// Asks for values.
    ///
    /// # Errors
    ///
    /// Fails if the controller cannot be reached, refuses the request, or sends something else than values.
    pub fn deliver(&mut self, request: &RequestBody) -> Result<Delivery, ClientError> {
        let path = self
            .token_file
            .as_deref()
            .ok_or(ClientError::InvalidToken)?;
        let token = token(path, MAX_TOKEN)?;
        let wait = Duration::from_secs(request.wait.unwrap_or_default().into());
        self.send(&token, request, TIMEOUT + wait)
    }

    /// Checks that a controller can be reached: sends a request without a token, which it refuses.
    ///
    /// # Errors
    ///
    /// Fails if there is no response, or not from the holder of the expected certificate.
    pub fn reach(&mut self, timeout: Duration) -> Result<(), ClientError> {
        let agent = self.connections()?;
        let get = agent.get(self.url()).config();
        let response = get.timeout_global(Some(timeout)).build().call();
        response
            .map(drop)
            .map_err(|source| self.unreachable(source))
    }

    fn unreachable(&self, source: ureq::Error) -> ClientError {
        ClientError::Unreachable {
            server: self.server.clone(),
            source: Box::new(source),
        }
    }

    /// Asks for values with this token, and within this time.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::deliver`].
    pub fn deliver_with(
        &mut self,
        token: &str,
        request: &RequestBody,
        timeout: Duration,
    ) -> Result<Delivery, ClientError> {
        let token = bearer(token).ok_or(ClientError::InvalidToken)?;
        self.send(&token, request, timeout)
    }

    fn send(
        &mut self,
        token: &str,
        request: &RequestBody,
        timeout: Duration,
    ) -> Result<Delivery, ClientError> {
        let result = self.try_send(token, request, timeout);
        if let Err(ClientError::Unreachable { .. }) = result {
            // The controller may have started again, with another CA.
            self.connections = None;
        }
        result
    }

    fn try_send(
        &mut self,
        token: &str,
        request: &RequestBody,
        timeout: Duration,
    ) -> Result<Delivery, ClientError> {
        let agent = self.connections()?;
        let to_error = |source| self.unreachable(source);
        let post = agent.post(self.url()).config();
        let post = post.timeout_global(Some(timeout)).build();
        let post = post
            .header(header::AUTHORIZATION, token)
            .header(header::CONTENT_TYPE, "application/json");
        let mut response = post.send(request.to_json()).map_err(to_error)?;
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(Delivery::Unchanged);
        }
        let bytes = read(response.body_mut()).map_err(to_error)?;
        if response.status() != StatusCode::OK {
            return Err(refusal(response.status(), response.headers(), &bytes).into());
        }
        Ok(Delivery::Values(Box::new(Answer::from_json(&bytes)?)))
    }

    fn url(&self) -> String {
        format!("{}{ENDPOINT}", self.server.trim_end_matches('/'))
    }

    /// Returns the connections that are verified with the current CA certificates. A file is read again each time, a
    /// `ConfigMap` after a failure.
    fn connections(&mut self) -> Result<Agent, ClientError> {
        let authority = &self.authority;
        if let (Authority::ConfigMap(_), Some((_, agent))) = (authority, &self.connections) {
            return Ok(agent.clone());
        }
        let pem = authority.read()?;
        if let Some((known, agent)) = &self.connections
            && *known == pem
        {
            return Ok(agent.clone());
        }
        let roots = certificates(&pem).ok_or(ClientError::NoAuthority)?;
        let new = agent(&roots, TIMEOUT);
        self.connections = Some((pem, new.clone()));
        Ok(new)
    }
}

fn read(body: &mut Body) -> Result<Zeroizing<Vec<u8>>, ureq::Error> {
    let limit = u64::try_from(MAX_ANSWER).unwrap_or(u64::MAX);
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

/// Returns a client that trusts only these certificates, follows no redirect and uses no proxy: the controller is in the
/// same cluster, and a proxy would receive the token.
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

/// Returns the header for the token in a file.
pub(crate) fn token(path: &Path, limit: u64) -> Result<Zeroizing<String>, ClientError> {
    let bytes = files::read(path, limit)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    bearer(text.trim()).ok_or_else(|| ClientError::NoToken(path.to_owned()))
}

/// Returns the header for a token; `None` for other texts, which could end the header.
fn bearer(token: &str) -> Option<Zeroizing<String>> {
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    is_token.then(|| Zeroizing::new(format!("Bearer {token}")))
}

#[cfg(test)]
mod tests;
