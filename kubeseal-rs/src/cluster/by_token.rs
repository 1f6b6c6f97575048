//! The way to the controller's port for callers with a token: which address, whose token.
//!
//! It is taken if it is named, or if the unauthenticated port leaves verify and rotate to such callers. A token is for
//! the controller alone (its audience), and made anew for each run; whoever gets it may do for ten minutes what the
//! account may do with SealedSecrets. So it is sent only to a controller that the user named, and never to one that
//! a file of the repository names.

use std::path::PathBuf;

use http::{Method, StatusCode};
use serde_json::json;
use zeroize::Zeroizing;

use super::authorised::{Authorised, AuthorisedError};
use super::error::one_line;
use super::{ClusterError, Controller, Service};
use crate::bounded::Kind;
use crate::files;

/// What a token is made for.
const AUDIENCE: &str = "sealed-secrets.bitnami.com";
/// The shortest life of a token that an API server gives.
const SECONDS: u32 = 600;
/// What the name of a service account begins with.
const ACCOUNT: &str = "system:serviceaccount:";

/// What flags say about the port for callers with a token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByToken {
    /// Its address, instead of that of the Service.
    pub url: Option<String>,
    /// A file with a token, instead of one that is made.
    pub token_file: Option<PathBuf>,
    /// A file with its authority, instead of the one that the controller publishes.
    pub authority: Option<PathBuf>,
    /// The service account that a token is made for, `NAMESPACE/NAME`; else that of the kubeconfig.
    pub account: Option<String>,
    /// Was the controller named by a file that somebody else may have written?
    pub is_by_rule: bool,
}

/// There is no way to it.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    /// It would go to whom the author of a file chose.
    #[error(
        "a rule names this controller, and no token is sent where a rule leads: name it with --controller-name and \
         --controller-namespace if you trust it, or its port with --authorized"
    )]
    ByRule,
    /// Nobody says where it is.
    #[error("the Service {0} names no port \"authorized\": name its address with --authorized")]
    NoPort(Service),
    /// People have no service account.
    #[error(
        "a token for it is made for a service account, and you are {0:?}: name an account whose tokens you may make \
         with --token-account NAMESPACE/NAME, or give a token with --token-file"
    )]
    NoAccount(String),
    /// No name of an account.
    #[error("--token-account {0:?} is not of the form NAMESPACE/NAME")]
    Malformed(String),
    /// The API server makes none.
    #[error(
        "no token for it can be made for the service account {account}: {why}. The right to `create` \
         serviceaccounts/token of that account is needed"
    )]
    Refused {
        /// The account.
        account: String,
        /// What the API server says.
        why: String,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// The port refuses, or cannot be reached.
    #[error(transparent)]
    Port(#[from] AuthorisedError),
}

impl Controller {
    /// The port for callers with a token.
    ///
    /// # Errors
    ///
    /// [`ClusterError`].
    pub fn authorised(&self) -> Result<&Authorised, ClusterError> {
        if let Some(known) = self.authorised.get() {
            return Ok(known);
        }
        let made = self.connect()?;
        Ok(self.authorised.get_or_init(|| made))
    }

    /// The same, for one who needs nothing else of it.
    ///
    /// # Errors
    ///
    /// [`ClusterError`].
    pub fn into_authorised(self) -> Result<Authorised, ClusterError> {
        self.connect()
    }

    fn connect(&self) -> Result<Authorised, ClusterError> {
        let way = &self.by_token;
        if way.is_by_rule && way.url.is_none() {
            return Err(NoToken::ByRule.into());
        }
        let url = match &way.url {
            Some(url) => url.clone(),
            None => self.found_url()?,
        };
        let authority = match &way.authority {
            Some(path) => files::read_as(path, Kind::Certificate)
                .map_err(NoToken::from)?
                .to_vec(),
            None => self.authority()?,
        };
        let token = match &way.token_file {
            Some(path) => files::read_as(path, Kind::Credential).map_err(NoToken::from)?,
            None => self.new_token()?,
        };
        let port = Authorised::new(&url, &token, &authority).map_err(NoToken::from)?;
        Ok(port)
    }

    /// The name that its certificate has, which only the cluster's own DNS knows.
    fn found_url(&self) -> Result<String, NoToken> {
        let service = &self.service;
        let port = self
            .authorised_port
            .ok_or_else(|| NoToken::NoPort(service.clone()))?;
        let Service { namespace, name } = service;
        Ok(format!("https://{name}.{namespace}.svc:{port}"))
    }

    fn new_token(&self) -> Result<Zeroizing<Vec<u8>>, ClusterError> {
        let account = match &self.by_token.account {
            Some(account) => account.clone(),
            None => self.own_account()?,
        };
        let (namespace, name) = account
            .split_once('/')
            .filter(|(namespace, name)| is_label(namespace) && is_label(name))
            .ok_or_else(|| NoToken::Malformed(account.clone()))?;
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": { "audiences": [AUDIENCE], "expirationSeconds": SECONDS },
        });
        let (code, answer) = self.make(&path, &request)?;
        let token = answer["status"]["token"].as_str();
        if let (true, Some(token)) = (code.is_success(), token) {
            return Ok(Zeroizing::new(token.as_bytes().to_vec()));
        }
        let why = answer["message"].as_str().map(one_line);
        Err(NoToken::Refused {
            account,
            why: why.unwrap_or_else(|| code.to_string()),
        }
        .into())
    }

    /// The service account whose credentials the kubeconfig has.
    fn own_account(&self) -> Result<String, ClusterError> {
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
        });
        let (_, answer) = self.make(path, &request)?;
        let user = answer["status"]["userInfo"]["username"].as_str();
        let user = user.unwrap_or_default();
        let account = user
            .strip_prefix(ACCOUNT)
            .and_then(|rest| rest.split_once(':'));
        match account {
            Some((namespace, name)) => Ok(format!("{namespace}/{name}")),
            None => Err(NoToken::NoAccount(user.to_owned()).into()),
        }
    }

    fn make(
        &self,
        path: &str,
        request: &serde_json::Value,
    ) -> Result<(StatusCode, serde_json::Value), ClusterError> {
        let body = request.to_string().into_bytes();
        let answer =
            self.cluster
                .api
                .once(&Method::POST, path, body, "application/json", Kind::Answer)?;
        Ok((answer.code, answer.json()))
    }
}

/// Nothing that would lead a path elsewhere.
fn is_label(text: &str) -> bool {
    let is_part =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    !text.is_empty() && !text.starts_with('.') && text.bytes().all(is_part)
}

impl From<NoToken> for ClusterError {
    fn from(error: NoToken) -> Self {
        Self::ByToken(Box::new(error))
    }
}

impl From<AuthorisedError> for ClusterError {
    fn from(error: AuthorisedError) -> Self {
        NoToken::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack: a name of an account that leads to another path of the API server.
    #[test]
    fn names_of_accounts_lead_nowhere_else() {
        for (text, want) in [
            ("default", true),
            ("ci-1.x", true),
            ("", false),
            ("..", false),
            ("a/../b", false),
            ("a?b", false),
            ("A", false),
        ] {
            assert_eq!(is_label(text), want, "{text}");
        }
    }
}
