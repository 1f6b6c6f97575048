//! A client of the controller's TLS port, which verifies and re-encrypts SealedSecrets as far as RBAC allows the
//! caller.

use std::collections::BTreeMap;
use std::thread::sleep;

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::Value as Json;
use shared::resource::SealedSecret;
use shared::unseal::UsedKey;
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};
use zeroize::Zeroizing;

use super::Timeout;
use super::busy::{Attempts, Retry};
use super::error::one_line;
use crate::bounded::{self, Kind};
use crate::notice::Waiting;
use crate::redacted::redacted;
use crate::web;

/// The key that unseals each item; `None` if no key of the controller does.
pub type KeysOfItems = BTreeMap<String, Option<UsedKey>>;

/// Why the TLS port cannot be reached, or refuses a request.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizedError {
    /// The address is not HTTPS, so the token would be sent unencrypted. The message does not quote it: without a
    /// scheme, it may be a token that was passed by mistake.
    #[error(
        "the URL of the TLS port does not begin with https://, so the token would be sent unencrypted\n\
         hint: pass the https:// URL of the TLS port"
    )]
    Unencrypted,
    /// The token is empty, or contains characters other than visible ASCII.
    #[error(
        "the file contains no token\n\
         hint: create one with `kubectl create token ACCOUNT --audience sealed-secrets.bitnami.com`"
    )]
    NoToken,
    /// The CA data contains no certificate, or is malformed PEM.
    #[error(
        "the CA certificate of the controller's TLS port is not PEM\n\
         hint: with --authority, pass the certificates that the controller serves at /v1/ca.pem"
    )]
    NoAuthority,
    /// The port cannot be reached, or its response cannot be read to its end.
    #[error(
        "cannot reach the controller's TLS port at {url}\n\
         hint: outside the cluster, use `kubectl port-forward` and --authorized https://localhost:PORT\n\
         hint: the controller creates a new CA certificate at each start: with --authority, fetch it again; without, \
         run the command again"
    )]
    Unreachable {
        /// The address of the port, without credentials.
        url: String,
        /// The HTTP client's error.
        source: Box<ureq::Error>,
    },
    /// The controller does not accept the token.
    #[error(
        "the controller rejected the token\n\
         hint: pass a token for the audience sealed-secrets.bitnami.com that has not expired"
    )]
    Unauthorized,
    /// RBAC does not allow the caller this verb on the object.
    #[error(
        "RBAC does not allow the token's user to `{0}` this SealedSecret\n\
         hint: ask an administrator for permission to `{0}` sealedsecrets.bitnami.com in the namespace of this \
         SealedSecret"
    )]
    Forbidden(&'static str),
    /// The controller responded with an unexpected status code.
    #[error("the controller responded with {0}: {1:?}")]
    Refused(StatusCode, String),
    /// The response cannot be parsed.
    #[error(
        "cannot parse the response\n\
         hint: check that the address is the controller's TLS port, and that controller and client have the \
         same version"
    )]
    MalformedResponse,
}

/// A connection to the port, with the caller's token.
pub struct Authorized {
    agent: Agent,
    url: String,
    bearer: Zeroizing<String>,
    waiting: Waiting,
}

impl Authorized {
    /// Creates a client for the port at `url`, which trusts only the certificates in `authority` (PEM). Sends no
    /// request yet.
    ///
    /// # Errors
    ///
    /// Returns an [`AuthorizedError`] if the address, token or CA certificate cannot be used.
    pub fn new(url: &str, token: &[u8], authority: &[u8]) -> Result<Self, AuthorizedError> {
        if !url.starts_with("https://") {
            return Err(AuthorizedError::Unencrypted);
        }
        let token = std::str::from_utf8(token).map_err(|_| AuthorizedError::NoToken)?;
        let token = Some(token.trim()).filter(|token| is_token(token));
        let token = token.ok_or(AuthorizedError::NoToken)?;
        let roots = certificates(authority).ok_or(AuthorizedError::NoAuthority)?;
        Ok(Self {
            agent: web::agent(url, RootCerts::new_with_certs(&roots)),
            url: format!("{}/", url.trim_end_matches('/')),
            bearer: Zeroizing::new(format!("Bearer {token}")),
            waiting: Waiting {
                status_line: None,
                is_interrupted: || false,
            },
        })
    }

    /// Sets how to show a wait before a retry, and how to check whether the user has interrupted the wait.
    #[must_use]
    pub fn with_waiting(self, waiting: Waiting) -> Self {
        Self { waiting, ..self }
    }

    /// Returns which key unseals each item of this object, without changing the object.
    ///
    /// # Errors
    ///
    /// Returns an [`AuthorizedError`] if the request fails.
    pub fn keys(&self, sealed: &SealedSecret) -> Result<KeysOfItems, AuthorizedError> {
        let (code, text) = self.post("v1/verify", &sealed.to_document())?;
        parse_keys(code, &text)
    }

    /// Returns whether the controller can decrypt every item of this SealedSecret.
    ///
    /// # Errors
    ///
    /// Returns an [`AuthorizedError`] if the request fails.
    pub fn verify(&self, sealed: &Json) -> Result<bool, AuthorizedError> {
        match self.post("v1/verify", sealed)? {
            (StatusCode::OK, _) => Ok(true),
            (StatusCode::CONFLICT, _) => Ok(false),
            (code, text) => Err(error_of_status(code, "verify", &text)),
        }
    }

    /// Returns the SealedSecret, or list of SealedSecrets, re-encrypted for the newest key. Returns
    /// `None` if the controller cannot decrypt an item.
    ///
    /// # Errors
    ///
    /// Returns an [`AuthorizedError`] if the request fails.
    pub fn rotate(&self, sealed: &Json) -> Result<Option<Json>, AuthorizedError> {
        self.rotate_at("v1/rotate", sealed)
    }

    /// Returns the SealedSecret, or list of SealedSecrets, with every item re-encrypted as v2. Returns `None` if the
    /// controller cannot decrypt an item.
    ///
    /// # Errors
    ///
    /// Returns an [`AuthorizedError`] if the request fails.
    pub fn rotate_to_v2(&self, sealed: &Json) -> Result<Option<Json>, AuthorizedError> {
        self.rotate_at("v2/rotate", sealed)
    }

    fn rotate_at(
        &self,
        endpoint: &'static str,
        sealed: &Json,
    ) -> Result<Option<Json>, AuthorizedError> {
        match self.post(endpoint, sealed)? {
            (StatusCode::OK, text) => bounded::parse_json(text.as_bytes())
                .map(Some)
                .ok_or(AuthorizedError::MalformedResponse),
            (StatusCode::CONFLICT, _) => Ok(None),
            (code, text) => Err(error_of_status(code, "rotate", &text)),
        }
    }

    /// Posts a document, retries as [`Attempts`] allows, and returns the code and text of the final response.
    fn post(&self, endpoint: &str, body: &Json) -> Result<(StatusCode, String), AuthorizedError> {
        let (url, body) = (format!("{}{endpoint}", self.url), body.to_string());
        let mut attempts = Attempts::new(Timeout::default(), self.waiting);
        loop {
            let (code, headers, text) = self.send(&url, &body)?;
            let retry = Retry::from_response(code, &headers, text.as_bytes());
            let wait = attempts.next_pause(retry);
            attempts.parts(wait.unwrap_or_default()).for_each(sleep);
            if wait.is_none() || attempts.is_interrupted() {
                return Ok((code, text));
            }
        }
    }

    fn send(
        &self,
        url: &str,
        body: &str,
    ) -> Result<(StatusCode, HeaderMap, String), AuthorizedError> {
        let to_error = |source| AuthorizedError::Unreachable {
            url: redacted(url).into_owned(),
            source: Box::new(web::without_url(source)),
        };
        let request = self.agent.post(url);
        let request = request.config().max_redirects(0).build();
        let request = request
            .header(header::AUTHORIZATION, self.bearer.as_str())
            .header(header::CONTENT_TYPE, "application/json");
        let mut response = request.send(body).map_err(to_error)?;
        let text = response
            .body_mut()
            .with_config()
            .limit(Kind::Response.limit());
        let text = text.read_to_string().map_err(to_error)?;
        Ok((response.status(), response.headers().clone(), text))
    }
}

/// Returns the certificates in PEM data; `None` if there is no certificate or the PEM data is malformed. Each replica
/// of a controller has its own CA certificate.
fn certificates(pem: &[u8]) -> Option<Vec<Certificate<'static>>> {
    let items = parse_pem(pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Some(certificate)),
        Ok(_) => None,
        Err(_) => Some(None),
    });
    let certificates: Option<Vec<_>> = items.collect();
    certificates.filter(|certificates| !certificates.is_empty())
}

/// Returns whether the string is a token that fits in a header: visible ASCII, so it cannot end the
/// header.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn parse_keys(code: StatusCode, text: &str) -> Result<KeysOfItems, AuthorizedError> {
    match code {
        StatusCode::OK | StatusCode::CONFLICT => {
            keys_of_items(text).ok_or(AuthorizedError::MalformedResponse)
        }
        code => Err(error_of_status(code, "verify", text)),
    }
}

fn error_of_status(code: StatusCode, verb: &'static str, text: &str) -> AuthorizedError {
    match code {
        StatusCode::UNAUTHORIZED => AuthorizedError::Unauthorized,
        StatusCode::FORBIDDEN => AuthorizedError::Forbidden(verb),
        code => AuthorizedError::Refused(code, one_line(text)),
    }
}

fn keys_of_items(text: &str) -> Option<KeysOfItems> {
    #[derive(Deserialize)]
    struct Response {
        items: BTreeMap<String, Option<String>>,
    }
    let response: Response = bounded::parse_json(text.as_bytes())?;
    let key = |(item, key): (String, Option<String>)| match key {
        Some(key) => Some((item, Some(key.parse().ok()?))),
        None => Some((item, None)),
    };
    response.items.into_iter().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requires_tls_and_a_token_on_one_line() {
        let new = |url: &str, token: &str| Authorized::new(url, token.as_bytes(), b"no PEM").err();
        for (url, token, want) in [
            ("http://localhost", "a.b.c", "unencrypted"),
            ("https://localhost", " \n", "no token"),
            ("https://localhost", "a\nb", "no token"),
            ("https://localhost", "a.b.c\n", "is not PEM"),
        ] {
            let error = new(url, token).unwrap().to_string();
            assert!(error.contains(want), "{url} {token:?}: {error}");
        }
    }

    #[test]
    fn rejects_a_response_without_keys() {
        let key = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
        let v2 = "1f79tcRB6C15M6q5Y1tFHQ";
        let text = format!(r#"{{"items":{{"a":"{key}","b":null,"c":"{v2}"}}}}"#);
        let keys = parse_keys(StatusCode::CONFLICT, &text).unwrap();
        assert_eq!(keys["a"], Some(key.parse().unwrap()));
        assert_eq!(keys["b"], None);
        assert_eq!(keys["c"], Some(v2.parse().unwrap()));
        for text in ["", "{}", r#"{"items":{"a":"nonsense"}}"#] {
            let error = parse_keys(StatusCode::OK, text).unwrap_err();
            assert!(
                matches!(error, AuthorizedError::MalformedResponse),
                "{text}"
            );
        }
    }
}
