//! Connects to the API server.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use connect::Connections;
use http::{HeaderValue, header};
use kube::client::ClientBuilder;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::requests::{Bounded, Bounds};
use super::watches;
use crate::args::ClusterConfig;
use crate::leader::WriteLease;

/// The file with the namespace of the Pod.
const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// The files with the token of the Pod's service account and the API server's certificate authority.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const AUTHORITY: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";
/// Timeout of a connection on which no data arrives. A working API server responds to an ordinary request much earlier.
const MAX_SILENCE: Duration = Duration::from_secs(20);
/// The time that is added to the duration of a watch to get the timeout of its connection.
const WATCH_MARGIN: Duration = Duration::from_secs(5);
/// The API server records the text before the slash as the manager of the fields that this controller writes
/// (`managedFields`), since no request sets a field manager.
const USER_AGENT: &str = concat!("sealed-secrets-controller/", env!("CARGO_PKG_VERSION"));
/// Timeout for establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The clients of the API server, and the controller's namespace.
pub(super) struct Connection {
    /// For requests about objects. The rate is limited, and writes are sent only while this replica is the leader.
    pub(super) requests: Client,
    /// For requests that every replica may send and that must not wait for other requests.
    pub(super) unrestricted: Client,
    /// For watches.
    pub(super) watches: Client,
    /// The namespace of this controller and its keys.
    pub(super) own_namespace: String,
}

/// Why the connection to the cluster cannot be configured.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The process does not run in a cluster.
    #[error(
        "no cluster found: in a Pod, the service account must be mounted (automountServiceAccountToken); outside a \
         cluster, set --kubeconfig FILE, or --directory DIR to use a directory"
    )]
    NoCluster(#[source] InClusterError),
    /// The kubeconfig file cannot be used.
    #[error("--kubeconfig: cannot use {path}")]
    Kubeconfig {
        /// The argument of `--kubeconfig`.
        path: String,
        /// The underlying error.
        source: kube::config::KubeconfigError,
    },
    /// The client cannot be built, for example because of the TLS settings.
    #[error("cannot create a client for the API server with these settings")]
    Client(#[source] Box<kube::Error>),
}

impl Connection {
    /// Reads the settings and builds the clients. Sends no request yet.
    pub(super) async fn new(
        cluster_config: &ClusterConfig,
        write_lease: Arc<WriteLease>,
    ) -> Result<Self, ConnectError> {
        let mut config = config(cluster_config).await?;
        // The reconcile queue retries failed requests, so the client must not: its retries would delay other
        // objects for minutes.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let user_agent = HeaderValue::from_static(USER_AGENT);
        config.headers.push((header::USER_AGENT, user_agent));
        let bounds = Bounds::new(cluster_config.rate, write_lease);
        Self::with_config(&config, bounds, own_namespace(cluster_config))
            .map_err(|error| ConnectError::Client(Box::new(error)))
    }

    /// Builds the clients. `requests` and `unrestricted` share their connections, so that the renewals of the Lease
    /// keep a connection open: otherwise the first write after an idle time would wait for a TLS handshake.
    fn with_config(
        config: &Config,
        bounds: Arc<Bounds>,
        own_namespace: String,
    ) -> kube::Result<Self> {
        let watch_duration = Duration::from_secs(watches::MAX_SECONDS.into());
        let connections = pool(config, MAX_SILENCE)?;
        let watch_connections = pool(config, watch_duration + WATCH_MARGIN)?;
        let requests = connections.clone().client_builder(config)?;
        Ok(Self {
            requests: requests.with_layer(&Bounded(bounds)).build(),
            unrestricted: connections.client_builder(config)?.build(),
            watches: watch_connections.client_builder(config)?.build(),
            own_namespace,
        })
    }
}

/// Creates a pool of direct connections.
fn pool(config: &Config, max_silence: Duration) -> kube::Result<Connections> {
    let mut config = config.clone();
    if config.proxy_url.is_some() {
        // Returns an error: proxies are not compiled in.
        ClientBuilder::try_from(config.clone())?;
    }
    config.read_timeout = Some(max_silence);
    Connections::new(&config)
}

async fn config(cluster_config: &ClusterConfig) -> Result<Config, ConnectError> {
    let Some(path) = &cluster_config.kubeconfig else {
        return in_cluster_config().map_err(ConnectError::NoCluster);
    };
    let to_error = |source| ConnectError::Kubeconfig {
        path: path.display().to_string(),
        source,
    };
    let kubeconfig = Kubeconfig::read_from(path).map_err(to_error)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(to_error)
}

/// Returns the in-cluster configuration. `Config::incluster` requires the file with the namespace, which the
/// controller does not need: as in client-go, `POD_NAMESPACE` can replace the file.
fn in_cluster_config() -> Result<Config, InClusterError> {
    match Config::incluster() {
        Err(InClusterError::ReadDefaultNamespace(_)) => config_without_namespace_file(),
        result => result,
    }
}

fn config_without_namespace_file() -> Result<Config, InClusterError> {
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
    let der = certificates.map(|certificate| certificate.map(|der| der.to_vec()));
    der.collect::<Result<_, _>>().map_err(io::Error::other)
}

/// Returns the URL of the API server, with brackets around an IPv6 address.
fn url(host: &str, port: u16) -> String {
    match host.parse() {
        Ok(IpAddr::V6(address)) => format!("https://[{address}]:{port}"),
        _ => format!("https://{host}:{port}"),
    }
}

/// Returns the controller's namespace: `POD_NAMESPACE`, the content of the service account's file, or `default`, in
/// upstream's order.
fn own_namespace(cluster_config: &ClusterConfig) -> String {
    let read_file = || std::fs::read_to_string(OWN_NAMESPACE).ok();
    namespace(cluster_config.pod.namespace.clone(), read_file)
}

/// Returns the first non-empty source, or `default`.
fn namespace(variable: Option<String>, read_file: impl FnOnce() -> Option<String>) -> String {
    let non_empty = |text: String| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    variable
        .and_then(non_empty)
        .or_else(|| read_file().and_then(non_empty))
        .unwrap_or_else(|| "default".into())
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::serve::ListenerExt as _;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_request_about_an_object_uses_the_open_connection_of_the_lease() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let listener = listener.tap_io(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        let server = axum::serve(listener, Router::new().fallback(async || "{}"));
        tokio::spawn(server.into_future());

        let config = Config::new(url.parse().unwrap());
        let bounds = Bounds::new(None, Arc::default());
        let connection = Connection::with_config(&config, bounds, "ns".into()).unwrap();
        for client in [&connection.unrestricted, &connection.requests] {
            let request = http::Request::get("/x").body(Vec::new()).unwrap();
            client.request_text(request).await.unwrap();
        }
        assert_eq!(connections.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_namespace_comes_from_the_variable_or_the_file_or_is_default() {
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
    fn encloses_an_ipv6_address_in_brackets() {
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
