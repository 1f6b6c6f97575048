//! Reads and writes objects of the API server as JSON bytes.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::Value as Json;
use shared::readable::Object;
use zeroize::Zeroizing;

use super::api::{Api, Response};
use super::{Access, ApiPath, ClusterError, Clusters};
use crate::bounded::Kind;

/// The maximum number of objects in one page of a list.
const PAGE: usize = 200;

/// The maximum number of pages, for a million objects, so that a hostile server cannot continue a list endlessly.
const MAX_PAGES: usize = 5_000;

/// The maximum number of pages without objects.
const MAX_EMPTY_PAGES: usize = 100;

/// The maximum size of a list, in bytes of the JSON that is kept.
const MAX_LIST: usize = 512 << 20;

/// An authenticated client of an API server.
pub struct Objects {
    api: Arc<Api>,
    deadline: Option<Instant>,
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
            deadline: None,
        })
    }

    /// Returns a client with the same connection whose requests fail with [`ClusterError::TimeLimit`] after `deadline`,
    /// even while they wait for a response.
    #[must_use]
    pub fn until(&self, deadline: Instant) -> Self {
        Self {
            api: Arc::clone(&self.api),
            deadline: Some(deadline),
        }
    }

    /// Returns the address of the API server.
    pub fn server(&self) -> &str {
        &self.api.address.server
    }

    /// Reads the parts of an object that [`Object`] keeps. Returns `None` if the object does not exist.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the request fails, or the response is not an object.
    pub fn get(
        &self,
        failure: &'static str,
        path: &ApiPath,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, ClusterError> {
        let response = self.send(&Method::GET, path, None)?;
        if response.code == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let object = object(failure, &Zeroizing::new(response.success(failure)?))?;
        Ok(Some(Zeroizing::new(object.to_string().into_bytes())))
    }

    /// Reads a list in pages and returns, for each page, the JSON that [`Object`] keeps. `path` may contain a query.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if a request fails, a response is not a list, or the list is too long.
    pub fn list(
        &self,
        failure: &'static str,
        path: &ApiPath,
    ) -> Result<Vec<Zeroizing<Vec<u8>>>, ClusterError> {
        self.list_as(Kind::List, failure, path)
    }

    /// Like [`Self::list`], but requests only the metadata of the objects: the API server sends no values of Secrets.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::list`].
    pub fn list_metadata(
        &self,
        failure: &'static str,
        path: &ApiPath,
    ) -> Result<Vec<Zeroizing<Vec<u8>>>, ClusterError> {
        self.list_as(Kind::MetadataList, failure, path)
    }

    fn list_as(
        &self,
        kind: Kind,
        failure: &'static str,
        path: &ApiPath,
    ) -> Result<Vec<Zeroizing<Vec<u8>>>, ClusterError> {
        let first = path.parameter("limit", &PAGE.to_string());
        let mut pages = Pages::new(MAX_PAGES, MAX_EMPTY_PAGES, MAX_LIST);
        let mut next = first.clone();
        loop {
            let response = self.send_with(&Method::GET, &next, None, kind)?;
            let body = Zeroizing::new(response.success(failure)?);
            let Page {
                json,
                is_empty,
                next: token,
            } = page(failure, &body)?;
            if !pages.add(json, is_empty) {
                return Err(ClusterError::EndlessList { failure });
            }
            let Some(token) = token else {
                return Ok(pages.read);
            };
            next = first.parameter("continue", &token);
        }
    }

    /// Changes an object with a JSON merge patch (RFC 7386).
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the request fails, or the response is not the changed object.
    pub fn merge(
        &self,
        failure: &'static str,
        path: &ApiPath,
        change: &Json,
    ) -> Result<(), ClusterError> {
        let body = change.to_string().into_bytes();
        let content_type = "application/merge-patch+json";
        let response = self.send(&Method::PATCH, path, Some((body, content_type)))?;
        let changed = object(failure, &Zeroizing::new(response.success(failure)?))?;
        if contains(&changed, change) {
            return Ok(());
        }
        let expected = "the changed object";
        Err(ClusterError::Unexpected { failure, expected })
    }

    /// Creates an object, unless one of that name exists.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the request fails, or the response is not an object. An existing object is not an
    /// error.
    pub fn create(
        &self,
        failure: &'static str,
        path: &ApiPath,
        body: Vec<u8>,
    ) -> Result<CreateOutcome, ClusterError> {
        let response = self.send(&Method::POST, path, Some((body, "application/json")))?;
        if response.code == StatusCode::CONFLICT {
            return Ok(CreateOutcome::Exists);
        }
        object(failure, &Zeroizing::new(response.success(failure)?)).map(|_| CreateOutcome::Created)
    }

    /// Sends a GET request and returns the status code and the body, even if the code reports a failure.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if there is no response.
    pub fn get_raw(&self, path: &ApiPath) -> Result<(u16, Vec<u8>), ClusterError> {
        let (code, body, _) = self.get_with_date(path)?;
        Ok((code, body))
    }

    /// Like [`Self::get_raw`], and also returns the server's time, from the `Date` header.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if there is no response.
    pub fn get_with_date(
        &self,
        path: &ApiPath,
    ) -> Result<(u16, Vec<u8>, Option<Timestamp>), ClusterError> {
        let response = self.send_with(&Method::GET, path, None, Kind::Response)?;
        Ok((response.code.as_u16(), response.body, response.date))
    }

    fn send(
        &self,
        method: &Method,
        path: &ApiPath,
        body: Option<(Vec<u8>, &'static str)>,
    ) -> Result<Response, ClusterError> {
        self.send_with(method, path, body, Kind::List)
    }

    fn send_with(
        &self,
        method: &Method,
        path: &ApiPath,
        body: Option<(Vec<u8>, &'static str)>,
        response_kind: Kind,
    ) -> Result<Response, ClusterError> {
        let (body, content_type) = body.unwrap_or((Vec::new(), "application/json"));
        match self.deadline {
            None => self
                .api
                .send_once(method, path, body, content_type, response_kind),
            Some(deadline) => {
                let request = (method, path, body, content_type);
                self.api.send_once_until(deadline, request, response_kind)
            }
        }
    }
}

/// The pages of a list, and how much more is accepted.
struct Pages {
    read: Vec<Zeroizing<Vec<u8>>>,
    count_left: usize,
    empty_left: usize,
    bytes_left: usize,
}

impl Pages {
    fn new(count_left: usize, empty_left: usize, bytes_left: usize) -> Self {
        Self {
            read: Vec::new(),
            count_left,
            empty_left,
            bytes_left,
        }
    }

    /// Adds a page. Returns `false` if the list is too long.
    fn add(&mut self, page: Zeroizing<Vec<u8>>, is_empty: bool) -> bool {
        let left = (
            self.count_left.checked_sub(1),
            self.empty_left.checked_sub(usize::from(is_empty)),
            self.bytes_left.checked_sub(page.len()),
        );
        let (Some(count_left), Some(empty_left), Some(bytes_left)) = left else {
            return false;
        };
        (self.count_left, self.empty_left, self.bytes_left) = (count_left, empty_left, bytes_left);
        self.read.push(page);
        true
    }
}

/// A page of a list.
struct Page {
    /// The JSON that [`Object`] keeps.
    json: Zeroizing<Vec<u8>>,
    is_empty: bool,
    /// The token of the next page; `None` for the last page.
    next: Option<String>,
}

/// Parses a response of the API server.
///
/// # Errors
///
/// Fails if the response is not JSON.
pub fn parse(body: &[u8]) -> serde_json::Result<Json> {
    serde_json::from_slice(body).map(|Object(json)| json)
}

/// Returns the object in a response. Anything else, such as the page of a proxy, is an error: it must not look like an
/// object without fields.
fn object(failure: &'static str, body: &[u8]) -> Result<Json, ClusterError> {
    let object = parse(body).ok();
    let is_object =
        |object: &Json| object["kind"].is_string() && object["metadata"]["name"].is_string();
    let expected = "an object";
    object
        .filter(is_object)
        .ok_or(ClusterError::Unexpected { failure, expected })
}

/// Returns a page of a list with the parts that [`Object`] keeps, so that no object can make a list unreadable. Anything
/// but a list is an error: it must not look like a list without objects.
fn page(failure: &'static str, body: &[u8]) -> Result<Page, ClusterError> {
    let expected = "a list of objects";
    let error = || ClusterError::Unexpected { failure, expected };
    let mut list = parse(body).map_err(|_| error())?;
    if list["kind"] == "PartialObjectMetadataList" && list["items"].is_null() {
        // The API server sends null for a list of metadata without objects.
        list["items"] = Json::Array(Vec::new());
    }
    let is_list = list["kind"]
        .as_str()
        .is_some_and(|kind| kind.ends_with("List"));
    let items = list["items"].as_array().filter(|_| is_list);
    let is_empty = items.ok_or_else(error)?.is_empty();
    // API servers send tokens in base64 that needs no escaping in a query.
    let next = match &list["metadata"]["continue"] {
        Json::Null => None,
        Json::String(token) => Some(token.clone()).filter(|token| !token.is_empty()),
        _ => return Err(error()),
    };
    Ok(Page {
        json: Zeroizing::new(list.to_string().into_bytes()),
        is_empty,
        next,
    })
}

/// Returns whether an object has the values of a merge patch, except for the version that the patch requires.
fn contains(object: &Json, patch: &Json) -> bool {
    match patch {
        Json::Object(fields) => fields
            .iter()
            .filter(|(name, _)| *name != "resourceVersion")
            .all(|(name, value)| contains(&object[name], value)),
        value => object == value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_response_contains_a_change_only_with_all_of_its_values() {
        let object = json!({
            "metadata": { "resourceVersion": "8", "labels": { "a": "b", "other": "x" } }, "status": { "conditions": [] },
        });
        for (patch, want) in [
            (
                json!({ "metadata": { "resourceVersion": "7", "labels": { "a": "b" } } }),
                true,
            ),
            (json!({ "metadata": { "labels": { "a": "c" } } }), false),
            (
                json!({ "metadata": { "labels": { "other": null } } }),
                false,
            ),
            (
                json!({ "metadata": { "annotations": { "a": "b" } } }),
                false,
            ),
            (
                json!({ "metadata": { "annotations": { "a": null } } }),
                true,
            ),
            (
                json!({ "status": { "conditions": [], "items": null } }),
                true,
            ),
            (json!({ "status": { "conditions": [{}] } }), false),
        ] {
            assert_eq!(contains(&object, &patch), want, "{patch}");
        }
    }

    /// Attack: a server that impersonates the API server continues a list endlessly, to exhaust the memory.
    #[test]
    fn the_pages_of_a_list_and_their_bytes_are_limited() {
        let page = |length| Zeroizing::new(vec![0; length]);
        for (lengths, want) in [
            (&[1, 1][..], true),
            (&[5, 5], true),
            (&[1, 1, 1], false),
            (&[5, 6], false),
            (&[11], false),
        ] {
            let mut pages = Pages::new(2, 0, 10);
            let is_read = lengths.iter().all(|length| pages.add(page(*length), false));
            assert_eq!(is_read, want, "{lengths:?}");
        }
    }

    /// Attack: a server that impersonates the API server continues a list with empty pages, so that the command does not
    /// end.
    #[test]
    fn the_empty_pages_of_a_list_are_limited() {
        let mut pages = Pages::new(9, 2, 10);
        let mut add = |is_empty| pages.add(Zeroizing::new(Vec::new()), is_empty);
        assert!(add(true) && add(false) && add(true) && add(false));
        assert!(!add(true));
    }

    /// Fault: a proxy in front of the API server responds with success and something other than a list.
    #[test]
    fn accepts_only_a_list_as_a_page() {
        for (body, want) in [
            (
                r#"{"kind":"SecretList","metadata":{},"items":[]}"#,
                Some(None),
            ),
            (r#"{"kind":"SecretList","items":[]}"#, Some(None)),
            (
                r#"{"kind":"PartialObjectMetadataList","metadata":{},"items":null}"#,
                Some(None),
            ),
            (
                r#"{"kind":"SecretList","metadata":{"continue":"abc"},"items":[]}"#,
                Some(Some("abc")),
            ),
            ("", None),
            ("null", None),
            ("[]", None),
            ("5", None),
            ("{}", None),
            ("# comment", None),
            ("<html>login</html>", None),
            (r#"{"kind":"Status","items":[]}"#, None),
            (r#"{"kind":"SecretList"}"#, None),
            (r#"{"kind":"SecretList","items":null}"#, None),
            (r#"{"kind":"SecretList","items":{}}"#, None),
            (r#"{"items":[]}"#, None),
            (
                r#"{"kind":"SecretList","metadata":{"continue":5},"items":[]}"#,
                None,
            ),
        ] {
            let token = page("x", body.as_bytes()).ok().map(|page| page.next);
            let want = want.map(|token: Option<&str>| token.map(str::to_owned));
            assert_eq!(token, want, "{body}");
        }
    }
}
