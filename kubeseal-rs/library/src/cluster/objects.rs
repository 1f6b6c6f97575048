//! Reads and writes objects of the API server as JSON bytes.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde_json::Value as Json;
use shared::readable::Object;
use zeroize::Zeroizing;

use super::api::{Api, Response};
use super::{Access, ClusterError, Clusters};
use crate::bounded::Kind;

/// The number of objects in one page of a list.
const PAGE: usize = 200;

/// The maximum number of pages, for a million objects, so that a hostile server cannot continue a list without end.
const MAX_PAGES: usize = 5_000;

/// An authenticated client of an API server.
pub struct Objects {
    api: Arc<Api>,
}

/// The outcome of creating an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateOutcome {
    /// The object was created.
    Created,
    /// An object of that name existed and is unchanged.
    Exists,
}

impl Objects {
    /// Uses the connection of the run. Sends no request yet.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the settings cannot be used.
    pub fn connect(access: &Access, clusters: &Clusters<'_>) -> Result<Self, ClusterError> {
        Ok(Self {
            api: clusters.connect(access)?.api,
        })
    }

    /// Returns the address of the API server.
    pub fn server(&self) -> &str {
        &self.api.address.server
    }

    /// Reads the parts of an object that [`Object`] keeps. Returns `None` if the object does not exist.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the request fails.
    pub fn get(
        &self,
        what: &'static str,
        path: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, ClusterError> {
        let response = self.send(&Method::GET, path, None)?;
        if response.code == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let body = response.success(what).map(Zeroizing::new)?;
        Ok(Some(drop_unused_fields(body)))
    }

    /// Reads a list in pages and returns, for each page, the JSON that [`Object`] keeps. `path` may contain a query.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if a request fails or the list does not end.
    pub fn list(
        &self,
        what: &'static str,
        path: &str,
    ) -> Result<Vec<Zeroizing<Vec<u8>>>, ClusterError> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut pages = Vec::new();
        let mut next = format!("{path}{separator}limit={PAGE}");
        while pages.len() < MAX_PAGES {
            let page = Zeroizing::new(self.send(&Method::GET, &next, None)?.success(what)?);
            let token = continuation(&page);
            pages.push(drop_unused_fields(page));
            let Some(token) = token else { return Ok(pages) };
            next = format!("{path}{separator}limit={PAGE}&continue={token}");
        }
        Err(ClusterError::EndlessList {
            what,
            most: MAX_PAGES,
        })
    }

    /// Changes an object with a JSON merge patch (RFC 7386).
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the request fails.
    pub fn merge(&self, what: &'static str, path: &str, change: &Json) -> Result<(), ClusterError> {
        let body = change.to_string().into_bytes();
        let kind = "application/merge-patch+json";
        let response = self.send(&Method::PATCH, path, Some((body, kind)))?;
        response.success(what).map(drop)
    }

    /// Creates an object.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the request fails. An existing object is not an error.
    pub fn create(
        &self,
        what: &'static str,
        path: &str,
        body: Vec<u8>,
    ) -> Result<CreateOutcome, ClusterError> {
        let response = self.send(&Method::POST, path, Some((body, "application/json")))?;
        if response.code == StatusCode::CONFLICT {
            return Ok(CreateOutcome::Exists);
        }
        response.success(what).map(|_| CreateOutcome::Created)
    }

    /// Sends a GET request and returns the status code, of success or failure, and the body.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if there is no response.
    pub fn get_raw(&self, path: &str) -> Result<(u16, Vec<u8>), ClusterError> {
        let empty_body = (Vec::new(), "application/json");
        let response = self.api.send_once(
            &Method::GET,
            path,
            empty_body.0,
            empty_body.1,
            Kind::Response,
        )?;
        Ok((response.code.as_u16(), response.body))
    }

    fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<(Vec<u8>, &'static str)>,
    ) -> Result<Response, ClusterError> {
        let (bytes, kind) = body.unwrap_or((Vec::new(), "application/json"));
        self.api.send_once(method, path, bytes, kind, Kind::List)
    }
}

/// Parses a response of the API server.
///
/// # Errors
///
/// Fails if the response is not JSON.
pub fn parse(body: &[u8]) -> serde_json::Result<Json> {
    serde_json::from_slice(body).map(|Object(json)| json)
}

/// Returns the parts of a response that [`Object`] keeps, so that no object can make a list unreadable. Returns a body
/// that is not JSON unchanged, since the caller's parser reports it.
fn drop_unused_fields(body: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    match parse(&body) {
        Ok(json) => Zeroizing::new(json.to_string().into_bytes()),
        Err(_) => body,
    }
}

/// Returns the token of the next page. An API server encodes the token as base64url, which needs no escaping in a
/// query.
fn continuation(page: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct List {
        metadata: Metadata,
    }
    #[derive(serde::Deserialize)]
    struct Metadata {
        #[serde(rename = "continue")]
        token: Option<String>,
    }
    let list: List = serde_json::from_slice(page).ok()?;
    list.metadata.token.filter(|token| !token.is_empty())
}
