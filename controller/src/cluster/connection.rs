//! How the API server is reached.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, header};
use kube::client::ClientBuilder;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::requests::{Bounded, Bounds};
use super::watches;
use crate::args::ClusterConfig;
use crate::leader::Term;

/// Where a Pod finds the namespace that it runs in.
const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// Where a Pod finds its token, and the authority of the API server.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const AUTHORITY: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
/// After so long without a byte a connection counts as dead. An API server that lives answers an
/// ordinary request long before.
const ANSWER: Duration = Duration::from_secs(20);
/// So much longer than a watch lasts may a connection for watches be silent.
const SILENT_WATCH: Duration = Duration::from_secs(5);
/// By this name the API server notes the fields that this controller writes (`managedFields`), since no
/// request names a manager of its own: what stands before the slash.
const USER_AGENT: &str = concat!("sealed-secrets-controller/", env!("CARGO_PKG_VERSION"));
/// For TCP and TLS.
const CONNECT: Duration = Duration::from_secs(10);

/// Clients, and the place that is ours.
pub(super) struct Connection {
    /// For whatever concerns objects: bounded, and without writes unless this replica leads.
    pub(super) requests: Client,
    /// For questions that every replica may ask, and that may not wait behind the others.
    pub(super) questions: Client,
    /// For watches.
    pub(super) watches: Client,
    /// The namespace of this controller and its keys.
    pub(super) own_namespace: String,
}

/// There is nothing to connect to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not in a cluster.
    #[error(
        "there is no cluster to work on: in a Pod the service account must be mounted \
         (automountServiceAccountToken); elsewhere say --kubeconfig FILE, or --directory DIR to work on a folder"
    )]
    NoCluster(#[source] InClusterError),
    /// `--kubeconfig` is unusable.
    #[error("--kubeconfig {path}: cannot be used")]
    Kubeconfig {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// TLS or the like.
    #[error("the settings of the cluster cannot be used")]
    Client(#[source] Box<kube::Error>),
}

impl Connection {
    /// Reads the settings. Nothing is sent yet.
    pub(super) async fn new(place: &ClusterConfig, term: Arc<Term>) -> Result<Self, ConnectError> {
        let mut config = config(place).await?;
        // The queue repeats what failed, so the client must not: it would hold up the other objects
        // of a batch for minutes.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT);
        let user_agent = HeaderValue::from_static(USER_AGENT);
        config.headers.push((header::USER_AGENT, user_agent));
        let builder = |silence| {
            let mut config = config.clone();
            config.read_timeout = Some(silence);
            ClientBuilder::try_from(config).map_err(|error| ConnectError::Client(Box::new(error)))
        };
        let client = |silence| Ok(builder(silence)?.build());
        let bounds = Bounds::new(place.rate, term);
        let seconds = watches::seconds(1 + place.additional_namespaces.len());
        let watch = Duration::from_secs(seconds.into());
        Ok(Self {
            requests: builder(ANSWER)?.with_layer(&Bounded(bounds)).build(),
            questions: client(ANSWER)?,
            watches: client(watch + SILENT_WATCH)?,
            own_namespace: own_namespace(place),
        })
    }
}

async fn config(place: &ClusterConfig) -> Result<Config, ConnectError> {
    let Some(path) = &place.kubeconfig else {
        return in_pod().map_err(ConnectError::NoCluster);
    };
    let wrong = |source| ConnectError::Kubeconfig {
        path: path.display().to_string(),
        source,
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(wrong)
}

/// `Config::incluster` requires a file with the namespace, and nothing here reads that from the
/// settings: `POD_NAMESPACE` may stand in for it, as in client-go.
fn in_pod() -> Result<Config, InClusterError> {
    match Config::incluster() {
        Err(InClusterError::ReadDefaultNamespace(_)) => without_namespace_file(),
        found => found,
    }
}

fn without_namespace_file() -> Result<Config, InClusterError> {
    let variable = |name| std::env::var(name).map_err(InClusterError::ReadEnvironmentVariable);
    let port = variable("KUBERNETES_SERVICE_PORT")?.parse();
    let port = port.map_err(InClusterError::ParseClusterPort)?;
    let url = url(&variable("KUBERNETES_SERVICE_HOST")?, port);
    let mut config = Config::new(url.parse().map_err(InClusterError::ParseClusterUrl)?);
    config.root_cert = Some(authority().map_err(InClusterError::ReadCertificateBundle)?);
    config.root_cert_file = Some(AUTHORITY.into());
    config.auth_info.token_file = Some(TOKEN.into());
    Ok(config)
}

fn authority() -> io::Result<Vec<Vec<u8>>> {
    let certificates = CertificateDer::pem_file_iter(AUTHORITY).map_err(io::Error::other)?;
    let der = certificates.map(|found| found.map(|der| der.to_vec()));
    der.collect::<Result<_, _>>().map_err(io::Error::other)
}

/// An IPv6 address needs brackets.
fn url(host: &str, port: u16) -> String {
    match host.parse() {
        Ok(IpAddr::V6(address)) => format!("https://[{address}]:{port}"),
        _ => format!("https://{host}:{port}"),
    }
}

/// Upstream's order: `POD_NAMESPACE`, the file of the service account, `default`.
fn own_namespace(place: &ClusterConfig) -> String {
    let mounted = || std::fs::read_to_string(OWN_NAMESPACE).ok();
    namespace(place.pod.namespace.clone(), mounted)
}

/// An empty text counts as none.
fn namespace(variable: Option<String>, mounted: impl FnOnce() -> Option<String>) -> String {
    let filled = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    variable
        .and_then(filled)
        .or_else(|| mounted().and_then(filled))
        .unwrap_or_else(|| "default".into())
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_namespace_is_that_of_the_variable_then_of_the_file_then_default() {
        for (variable, file, want) in [
            (Some("a"), Some("b"), "a"),
            (Some("a"), None, "a"),
            (None, Some("b\n"), "b"),
            (Some(""), Some("b"), "b"),
            (Some(""), Some(""), "default"),
            (None, None, "default"),
        ] {
            let text = |text: Option<&str>| text.map(str::to_owned);
            assert_eq!(namespace(text(variable), || text(file)), want);
        }
    }

    #[test]
    fn an_address_with_colons_is_put_into_brackets() {
        for (host, want) in [
            ("10.0.0.1", "https://10.0.0.1:443"),
            ("fd00::1", "https://[fd00::1]:443"),
            (
                "kubernetes.default.svc",
                "https://kubernetes.default.svc:443",
            ),
        ] {
            assert_eq!(url(host, 443), want);
        }
    }
}
