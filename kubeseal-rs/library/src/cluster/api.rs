//! Sends requests to the API server.

use std::time::Instant;

use connect::Connections;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use jiff::Timestamp;
use kube::client::Body;
use kube::{Client, Config};
use serde_json::Value as Json;
use tokio::runtime::Runtime;

use super::busy::{Attempts, Retry};
use super::connection::Address;
use super::error::one_line;
use super::error_text::error_text;
use super::login::Login;
use super::{Access, ApiPath, ClusterError, Timeout, connection};
use crate::bounded::{self, Kind, TooLarge};
use crate::environment::Environment;
use crate::notice::Waiting;

/// A client of the API server.
pub(super) struct Api {
    runtime: Runtime,
    client: Client,
    login: Option<Login>,
    timeout: Timeout,
    pub(super) waiting: Waiting,
    /// The address of the API server.
    pub(super) address: Address,
}

/// An HTTP response, successful or not.
pub(super) struct Response {
    pub(super) code: StatusCode,
    /// Why the request should be sent again; `None` if the response is final.
    pub(super) retry: Option<Retry>,
    /// The number of times the request was sent.
    pub(super) attempts: u32,
    /// The server's time, from the `Date` header.
    pub(super) date: Option<Timestamp>,
    pub(super) body: Vec<u8>,
}

impl Api {
    /// Creates the client. Sends no request yet.
    pub(super) fn new(access: &Access, environment: &Environment) -> Result<Self, ClusterError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ClusterError::System)?;
        let mut config = connection::config(access, environment)?;
        let login = Login::new(&mut config.auth_info, environment.now)?;
        let guard = runtime.enter();
        let api = Self {
            address: Address::from_config(&config),
            client: client(config).map_err(|error| ClusterError::Client(error_text(&error)))?,
            login,
            timeout: access.timeout,
            waiting: environment.waiting(),
            runtime: {
                drop(guard);
                runtime
            },
        };
        Ok(api)
    }

    pub(super) fn get(&self, path: &ApiPath) -> Result<Response, ClusterError> {
        self.send_with_retries(&Method::GET, path, None)
    }

    pub(super) fn post(&self, path: &ApiPath, body: &Json) -> Result<Response, ClusterError> {
        self.send_with_retries(&Method::POST, path, Some(body.to_string().as_bytes()))
    }

    pub(super) fn send_once(
        &self,
        method: &Method,
        path: &ApiPath,
        body: Vec<u8>,
        content_type: &'static str,
        response_kind: Kind,
    ) -> Result<Response, ClusterError> {
        self.runtime.block_on(self.try_once(
            method,
            path,
            Some((body, content_type)),
            response_kind,
        ))
    }

    /// Like [`Self::send_once`], with method, path, body and content type of the request. Fails with
    /// [`ClusterError::TimeLimit`] if the response is not complete at `deadline`.
    pub(super) fn send_once_until(
        &self,
        deadline: Instant,
        (method, path, body, content_type): (&Method, &ApiPath, Vec<u8>, &'static str),
        response_kind: Kind,
    ) -> Result<Response, ClusterError> {
        let response = self.try_once(method, path, Some((body, content_type)), response_kind);
        self.runtime.block_on(async {
            let response = tokio::time::timeout_at(deadline.into(), response).await;
            response.unwrap_or(Err(ClusterError::TimeLimit))
        })
    }

    /// Sends a request, and sends it again while [`Retry`] requires this, the limits of [`Attempts`] allow it and the
    /// user does not interrupt the run. Use it only for requests that are safe to repeat.
    fn send_with_retries(
        &self,
        method: &Method,
        path: &ApiPath,
        body: Option<&[u8]>,
    ) -> Result<Response, ClusterError> {
        let mut attempts = Attempts::new(self.timeout, self.waiting);
        self.runtime.block_on(async {
            loop {
                let body = body.map(|bytes| (bytes.to_vec(), "application/json"));
                let response = self.try_once(method, path, body, Kind::Response).await?;
                if let Some(wait) = attempts.next_pause(response.retry) {
                    for part in attempts.parts(wait) {
                        tokio::time::sleep(part).await;
                    }
                    if !attempts.is_interrupted() {
                        continue;
                    }
                }
                let attempts = attempts.done;
                return Ok(Response {
                    attempts,
                    ..response
                });
            }
        })
    }

    async fn try_once(
        &self,
        method: &Method,
        path: &ApiPath,
        body: Option<(Vec<u8>, &'static str)>,
        response_kind: Kind,
    ) -> Result<Response, ClusterError> {
        let unreachable = |why: String| ClusterError::Unreachable {
            server: self.address.server.clone(),
            why,
        };
        let response = self.send(method, path, body, response_kind);
        match self.timeout.response {
            None => response.await.map_err(unreachable),
            Some(timeout) => match tokio::time::timeout(timeout, response).await {
                Ok(response) => response.map_err(unreachable),
                Err(_) => Err(unreachable(format!(
                    "no response within {timeout:?} (kubeseal can change this limit with --request-timeout)"
                ))),
            },
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a token expires during a long run"
    )]
    async fn send(
        &self,
        method: &Method,
        path: &ApiPath,
        body: Option<(Vec<u8>, &'static str)>,
        response_kind: Kind,
    ) -> Result<Response, String> {
        let (body, content_type) = body.unwrap_or((Vec::new(), "application/json"));
        let mut request = Request::builder();
        if let Some(login) = &self.login
            && let Some(header) = login.header(Timestamp::now())?
        {
            request = request.header(header::AUTHORIZATION, header);
        }
        let request = request
            .method(method)
            .uri(path.as_str())
            .header(header::ACCEPT, accept(response_kind))
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(body))
            .map_err(|error| error.to_string())?;
        let response = self.client.send(request).await;
        let (head, body) = response.map_err(|error| error_text(&error))?.into_parts();
        let limit = usize::try_from(response_kind.limit()).unwrap_or(usize::MAX);
        let body = Limited::new(body, limit).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                format!(
                    "the response: {}",
                    TooLarge {
                        kind: response_kind
                    }
                )
            } else {
                error.to_string()
            }
        })?;
        let body = body.to_bytes().to_vec();
        Ok(Response {
            code: head.status,
            retry: Retry::from_response(head.status, &head.headers, &body),
            attempts: 1,
            date: date(&head.headers),
            body,
        })
    }
}

/// Returns the accepted content types. For metadata, there is no alternative, so that the API server never sends whole
/// objects.
fn accept(response_kind: Kind) -> &'static str {
    match response_kind {
        Kind::MetadataList => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        _ => "application/x-pem-file, */*",
    }
}

fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(header::DATE)?.to_str().ok()?;
    Some(jiff::fmt::rfc2822::parse(text).ok()?.timestamp())
}

/// Creates the client: with a proxy, as kube does; otherwise, with the connections of the crate `connect`.
fn client(config: Config) -> kube::Result<Client> {
    if config.proxy_url.is_some() {
        return Client::try_from(config);
    }
    Ok(Connections::new(&config)?.client_builder(&config)?.build())
}

impl Response {
    /// Returns the body of a successful response; otherwise, an error that begins with `failure`.
    pub(super) fn success(self, failure: &'static str) -> Result<Vec<u8>, ClusterError> {
        if self.code.is_success() {
            return Ok(self.body);
        }
        let status = self.json();
        let text = match status["message"].as_str() {
            Some(message) => one_line(message),
            None => one_line(&String::from_utf8_lossy(&self.body)),
        };
        let code = self.code;
        Err(ClusterError::Object {
            failure,
            code,
            text,
        })
    }

    /// Returns the body as JSON, or null if it is not JSON or has too many values.
    pub(super) fn json(&self) -> Json {
        if bounded::may_have_too_many_values(&self.body) {
            return Json::Null;
        }
        super::parse(&self.body).unwrap_or_default()
    }
}
