//! Objects of the API server, as bytes of JSON: what commands about keys read and write.

use http::{Method, StatusCode};
use serde_json::Value as Json;
use zeroize::Zeroizing;

use super::api::{Answer, Api};
use super::{Access, ClusterError};
use crate::bounded::Kind;
use crate::surroundings::Surroundings;

/// Objects of one page of a list.
const PAGE: usize = 200;

/// An API server and who we are to it.
pub struct Objects {
    api: Api,
}

/// What became of an object that was to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is there now.
    Created,
    /// One of that name was there before; it is as it was.
    Exists,
}

impl Objects {
    /// Reads the kubeconfig. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`ClusterError`].
    pub fn connect(access: &Access) -> Result<Self, ClusterError> {
        Ok(Self {
            api: Api::new(access, &Surroundings::of_this_process())?,
        })
    }

    /// Address of the API server.
    pub fn server(&self) -> &str {
        &self.api.address.server
    }

    /// One object; none if it is not there.
    ///
    /// # Errors
    ///
    /// [`ClusterError`].
    pub fn get(
        &self,
        what: &'static str,
        path: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, ClusterError> {
        let answer = self.ask(&Method::GET, path, None)?;
        if answer.code == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        answer.success(what).map(Zeroizing::new).map(Some)
    }

    /// A list in pages, each the JSON of a list. `path` may have a query.
    ///
    /// # Errors
    ///
    /// [`ClusterError`].
    pub fn list(
        &self,
        what: &'static str,
        path: &str,
    ) -> Result<Vec<Zeroizing<Vec<u8>>>, ClusterError> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut pages = Vec::new();
        let mut next = format!("{path}{joint}limit={PAGE}");
        loop {
            let page = Zeroizing::new(self.ask(&Method::GET, &next, None)?.success(what)?);
            let token = continuation(&page);
            pages.push(page);
            let Some(token) = token else { return Ok(pages) };
            next = format!("{path}{joint}limit={PAGE}&continue={token}");
        }
    }

    /// Changes an object by a JSON merge patch (RFC 7386).
    ///
    /// # Errors
    ///
    /// [`ClusterError`].
    pub fn merge(&self, what: &'static str, path: &str, change: &Json) -> Result<(), ClusterError> {
        let body = change.to_string().into_bytes();
        let kind = "application/merge-patch+json";
        let answer = self.ask(&Method::PATCH, path, Some((body, kind)))?;
        answer.success(what).map(drop)
    }

    /// Makes an object.
    ///
    /// # Errors
    ///
    /// [`ClusterError`].
    pub fn create(
        &self,
        what: &'static str,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Created, ClusterError> {
        let answer = self.ask(&Method::POST, path, Some((body, "application/json")))?;
        if answer.code == StatusCode::CONFLICT {
            return Ok(Created::Exists);
        }
        answer.success(what).map(|_| Created::Created)
    }

    /// Any answer to a GET, whatever it says: its code and its body.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn look(&self, path: &str) -> Result<(u16, Vec<u8>), ClusterError> {
        let none = (Vec::new(), "application/json");
        let answer = self
            .api
            .once(&Method::GET, path, none.0, none.1, Kind::Answer)?;
        Ok((answer.code.as_u16(), answer.body))
    }

    fn ask(
        &self,
        method: &Method,
        path: &str,
        body: Option<(Vec<u8>, &'static str)>,
    ) -> Result<Answer, ClusterError> {
        let (bytes, kind) = body.unwrap_or((Vec::new(), "application/json"));
        self.api.once(method, path, bytes, kind, Kind::List)
    }
}

/// The token of the next page, which is base64 of a kind that needs no escape in a query.
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
