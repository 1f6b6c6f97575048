//! How the API server is reached.

use std::sync::Arc;
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::requests::{Bounded, Bounds};
use crate::args::ClusterConfig;
use crate::leader::Term;

/// Where a Pod finds the namespace that it runs in.
const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// After so long without a byte a connection counts as dead. An API server that lives answers an
/// ordinary request long before.
const ANSWER: Duration = Duration::from_secs(20);
/// A watch is ended by the API server after 290 seconds, and may be silent until then.
const WATCH: Duration = Duration::from_secs(295);
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
    NoCluster(#[source] kube::config::InClusterError),
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
        let builder = |silence| {
            let mut config = config.clone();
            config.read_timeout = Some(silence);
            ClientBuilder::try_from(config).map_err(|error| ConnectError::Client(Box::new(error)))
        };
        let client = |silence| Ok(builder(silence)?.build());
        let bounds = Bounds::new(place.rate, term);
        Ok(Self {
            requests: builder(ANSWER)?.with_layer(&Bounded(bounds)).build(),
            questions: client(ANSWER)?,
            watches: client(WATCH)?,
            own_namespace: own_namespace(place),
        })
    }
}

async fn config(place: &ClusterConfig) -> Result<Config, ConnectError> {
    let Some(path) = &place.kubeconfig else {
        return Config::incluster().map_err(ConnectError::NoCluster);
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

/// The peer's order: variable, service account, `default`.
fn own_namespace(place: &ClusterConfig) -> String {
    let mounted = || {
        std::fs::read_to_string(OWN_NAMESPACE)
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let filled = |text: String| Some(text).filter(|text| !text.is_empty());
    place
        .own_namespace
        .clone()
        .or_else(mounted)
        .and_then(filled)
        .unwrap_or_else(|| "default".into())
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
