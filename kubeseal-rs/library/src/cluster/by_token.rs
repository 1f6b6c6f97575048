//! Finds the address of the controller's TLS port, and a token for it.
//!
//! The port is used if the user names it, if the unauthenticated port does not serve verify and rotate, and to convert
//! values to v2. Unless the user passes a token file, each run creates a token. The token is valid for ten minutes and
//! only for the controller (its audience), and grants all permissions of the account for SealedSecrets. So a token is
//! never sent to a controller that only a file in the repository names, and only to a server whose certificate was
//! issued by a CA that the user or the API server names. The unauthenticated port serves the CA certificate too, but a
//! man in the middle can respond there.

use std::path::PathBuf;

use http::{Method, StatusCode};
use serde_json::json;
use zeroize::Zeroizing;

use super::authorized::{Authorized, AuthorizedError};
use super::error::one_line;
use super::{ApiPath, ClusterError, Controller, Service};
use crate::bounded::Kind;
use crate::files;

/// The audience of a token for the controller.
const AUDIENCE: &str = "sealed-secrets.bitnami.com";
/// The shortest lifetime of a token that an API server accepts, in seconds.
const TOKEN_LIFETIME_SECONDS: u32 = 600;
/// The prefix of a service account's user name.
const ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// How to reach the controller's TLS port, as set by flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenAccess {
    /// The port's URL, instead of the URL derived from the Service.
    pub url: Option<String>,
    /// A file with a token, instead of a newly requested one.
    pub token_file: Option<PathBuf>,
    /// A file with the port's CA certificates, instead of those that the controller publishes in a `ConfigMap`.
    pub authority: Option<PathBuf>,
    /// The service account to request a token for, as `NAMESPACE/NAME`. Defaults to the service account of the
    /// kubeconfig.
    pub account: Option<String>,
    /// Whether only a rule, whose author is untrusted, names the controller.
    pub is_by_rule: bool,
}

impl TokenAccess {
    /// Returns whether the address, the CA certificate and the token all come from the user, and none from the cluster.
    fn is_complete(&self) -> bool {
        self.url.is_some() && self.authority.is_some() && self.token_file.is_some()
    }
}

/// Why the TLS port cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ByTokenError {
    /// A rule names the controller, so the author of the rule would choose the server that gets the token, or the CA
    /// certificate that identifies the server.
    #[error(
        "a rule names this controller, and tokens are sent only to a controller that you name\n\
         hint: if you trust the controller, pass --controller-name and --controller-namespace; or --authorized, \
         --authority and --token-file, so that nothing depends on the rule"
    )]
    ByRule,
    /// The Service has no port named `authorized`.
    #[error(
        "the Service {0} has no port named \"authorized\"\nhint: pass the port's address with --authorized"
    )]
    NoPort(Service),
    /// The CA certificate of the port is not published, or not readable for the caller.
    #[error(
        "the CA certificate of the controller's TLS port is unknown: the ConfigMap {}/{config_map} does not exist or has no \
         item ca.pem, or you are not allowed to read it\n\
         hint: start the controller with --certificate-configmap {config_map} (chart: certificateConfigMap.enabled), which \
         publishes the CA certificate\n\
         hint: or run `kubectl -n {} port-forward service/{} 8080:http`, save http://localhost:8080/v1/ca.pem as a file, \
         and pass the file with --authority",
        service.namespace, service.namespace, service.name
    )]
    NoAuthority {
        /// The controller's Service.
        service: Service,
        /// The name of the `ConfigMap` in the namespace of the Service.
        config_map: String,
    },
    /// The user of the kubeconfig is not a service account, or is unknown (empty).
    #[error(
        "tokens are issued only for service accounts, and {}\n\
         hint: pass --token-account NAMESPACE/NAME with an account for which you may create tokens, or --token-file",
        describe_user(.0)
    )]
    NotServiceAccount(String),
    /// `--token-account` is malformed.
    #[error("invalid value {0:?} for --token-account: expected NAMESPACE/NAME")]
    Malformed(String),
    /// The API server issues no token.
    #[error(
        "cannot create a token for the service account {account}: {why}\n\
         hint: check that the service account exists, or ask an administrator for permission to `create` \
         serviceaccounts/token in its namespace"
    )]
    Refused {
        /// The service account.
        account: String,
        /// The API server's reason.
        why: String,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// The URL, the token or the CA certificate is invalid, or the port cannot be reached or refuses the request.
    #[error(transparent)]
    Port(#[from] AuthorizedError),
}

/// Returns a clause about the user of the kubeconfig. The user is empty if the API server does not report it.
fn describe_user(user: &str) -> String {
    if user.is_empty() {
        "the API server does not report the kubeconfig's user".to_owned()
    } else {
        format!("the kubeconfig's user is {user:?}")
    }
}

impl Controller {
    /// Returns the client of the TLS port. Creates it on first use, with a new token unless the user passes one.
    ///
    /// # Errors
    ///
    /// Returns a [`ClusterError`] if the port cannot be used; see [`ByTokenError`].
    pub fn authorized(&self) -> Result<&Authorized, ClusterError> {
        if let Some(authorized) = self.authorized.get() {
            return Ok(authorized);
        }
        let connection = self.connect()?;
        Ok(self.authorized.get_or_init(|| connection))
    }

    /// Converts the controller into a client of its TLS port.
    ///
    /// # Errors
    ///
    /// Fails like [`Self::authorized`].
    pub fn into_authorized(self) -> Result<Authorized, ClusterError> {
        self.connect()
    }

    fn connect(&self) -> Result<Authorized, ClusterError> {
        let flags = &self.by_token;
        if flags.is_by_rule && !flags.is_complete() {
            return Err(ByTokenError::ByRule.into());
        }
        let url = match &flags.url {
            Some(url) => url.clone(),
            None => self.service_url()?,
        };
        let authority = match &flags.authority {
            Some(path) => files::read_as(path, Kind::Certificate)
                .map_err(ByTokenError::from)?
                .to_vec(),
            None => self.authority()?,
        };
        let token = match &flags.token_file {
            Some(path) => files::read_as(path, Kind::Credential).map_err(ByTokenError::from)?,
            None => self.new_token()?,
        };
        let port = Authorized::new(&url, &token, &authority).map_err(ByTokenError::from)?;
        Ok(port.with_waiting(self.cluster.api.waiting))
    }

    /// Returns the URL of the TLS port. Its host is the DNS name in the port's certificate, which resolves only inside
    /// the cluster.
    fn service_url(&self) -> Result<String, ByTokenError> {
        let service = &self.service;
        let port = self
            .authorized_port
            .ok_or_else(|| ByTokenError::NoPort(service.clone()))?;
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
            .ok_or_else(|| ByTokenError::Malformed(account.clone()))?;
        let path = ApiPath::namespaced("/api/v1", namespace, "serviceaccounts")
            .and_then(|accounts| accounts.object(name))
            .map_err(|_| ByTokenError::Malformed(account.clone()))?
            .subresource("token");
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": { "audiences": [AUDIENCE], "expirationSeconds": TOKEN_LIFETIME_SECONDS },
        });
        let (code, response) = self.post_once(&path, &request)?;
        let token = response["status"]["token"].as_str();
        if let (true, Some(token)) = (code.is_success(), token) {
            return Ok(Zeroizing::new(token.as_bytes().to_vec()));
        }
        let why = response["message"].as_str().map(one_line);
        Err(ByTokenError::Refused {
            account,
            why: why.unwrap_or_else(|| code.to_string()),
        }
        .into())
    }

    /// Returns the service account whose credentials the kubeconfig contains, as `NAMESPACE/NAME`.
    fn own_account(&self) -> Result<String, ClusterError> {
        let path = ApiPath::fixed("/apis/authentication.k8s.io/v1/selfsubjectreviews");
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
        });
        let (_, response) = self.post_once(&path, &request)?;
        let user = response["status"]["userInfo"]["username"].as_str();
        let user = user.unwrap_or_default();
        let account = user
            .strip_prefix(ACCOUNT_PREFIX)
            .and_then(|rest| rest.split_once(':'));
        match account {
            Some((namespace, name)) => Ok(format!("{namespace}/{name}")),
            None => Err(ByTokenError::NotServiceAccount(user.to_owned()).into()),
        }
    }

    fn post_once(
        &self,
        path: &ApiPath,
        request: &serde_json::Value,
    ) -> Result<(StatusCode, serde_json::Value), ClusterError> {
        let body = request.to_string().into_bytes();
        let response = self.cluster.api.send_once(
            &Method::POST,
            path,
            body,
            "application/json",
            Kind::Response,
        )?;
        Ok((response.code, response.json()))
    }
}

impl From<ByTokenError> for ClusterError {
    fn from(error: ByTokenError) -> Self {
        Self::ByToken(Box::new(error))
    }
}

impl From<AuthorizedError> for ClusterError {
    fn from(error: AuthorizedError) -> Self {
        ByTokenError::from(error).into()
    }
}
