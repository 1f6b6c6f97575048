//! The controller in a cluster: what the watches tell, keys, renewal, and the objects that are due.

mod watches;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config as KubeConfig};
use shared::error_chain;
use shared::key::NewKey;
use shared::key_ring::KeyRing;
use tokio::sync::{mpsc, watch};
use tracing::error;

use crate::args::{ClusterConfig, Config, KeyConfig};
use crate::cluster_keys::ClusterKeys;
use crate::http::Facts;
use crate::key_renewal::{KeyRenewal, NoNewKey};
use crate::pool::Pool;
use crate::reconcile::Reconciler;
use crate::store::StoreError;
use crate::store::cluster::ClusterStore;
use watches::{Change, Watches};

/// Where a Pod finds the namespace that it runs in.
const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
/// Between two looks at the clock for a renewal that is due.
const RENEWAL: SignedDuration = SignedDuration::from_secs(1);
/// Changes that wait to be taken in; the watches wait when there are more.
const BACKLOG: usize = 1024;

/// The controller in a cluster, at rest between two turns.
#[derive(Debug)]
pub struct Cluster {
    keys: ClusterKeys,
    renewal: KeyRenewal,
    store: Arc<ClusterStore>,
    reconciler: Reconciler<ClusterStore>,
    watches: Watches,
    changes: mpsc::Receiver<Change>,
    ring: watch::Sender<Arc<KeyRing>>,
    ready: Arc<AtomicBool>,
}

/// The controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
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
    /// The keys cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no key and none can be made.
    #[error(transparent)]
    Key(#[from] NoNewKey),
}

impl Cluster {
    /// Reads the keys, makes one if one is due, and begins to watch.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub async fn start(
        config: &Config,
        place: &ClusterConfig,
        now: Timestamp,
    ) -> Result<Self, StartError> {
        let client = client(place).await?;
        let own = own_namespace(place);
        let key_config = KeyConfig {
            namespace: own.clone(),
            ..config.keys.clone()
        };
        let pool = Pool::new();
        let keys = ClusterKeys::load(client.clone(), key_config).await?;
        let renewal = KeyRenewal::new(config.keys.spec.clone(), config.keys.policy, pool.clone());
        let store = Arc::new(ClusterStore::new(client.clone(), place.deletes_secrets));
        let (sender, changes) = mpsc::channel(BACKLOG);
        let mut cluster = Self {
            ring: watch::Sender::new(Arc::clone(keys.ring())),
            reconciler: Reconciler::new(Arc::clone(&store), pool, config.policy),
            watches: Watches::new(place.namespaces(&own)),
            ready: Arc::default(),
            keys,
            renewal,
            store,
            changes,
        };
        if let Some(new) = cluster.renewal.start(cluster.newest(), now).await? {
            cluster.keys.add(&new).await?;
        }
        cluster.use_ring(now);
        cluster.watches.start(&client, place, &own, &sender);
        Ok(cluster)
    }

    /// What the HTTP server answers from.
    pub fn facts(&self) -> Facts {
        Facts {
            ring: self.ring.subscribe(),
            ready: Arc::clone(&self.ready),
        }
    }

    /// Makes a new key as soon as possible.
    pub fn ask_for_key(&mut self) {
        self.renewal.ask();
    }

    /// Takes in what changed, and looks at some of the objects that are due. Gives the time of the
    /// next turn, which may be now.
    pub async fn turn(&mut self, now: Timestamp) -> Timestamp {
        while let Ok(change) = self.changes.try_recv() {
            self.take(change, now);
        }
        if let Some(new) = self.renewal.turn(self.newest(), now).await {
            self.keep(&new, now).await;
        }
        let next = now.saturating_add(RENEWAL).unwrap_or(now);
        match self.reconciler.work(now).await {
            Some(due) => due.min(next),
            None => next,
        }
    }

    /// Waits for something to change. May be dropped at any time.
    pub async fn changed(&mut self, now: impl Fn() -> Timestamp) {
        match self.changes.recv().await {
            Some(change) => self.take(change, now()),
            None => std::future::pending().await,
        }
    }

    fn take(&mut self, change: Change, now: Timestamp) {
        match change {
            Change::Key(event) => {
                if self.keys.take(event) {
                    self.use_ring(now);
                }
            }
            Change::Sealed(watch, event) => {
                let ids = self.watches.sealed(watch, event, &self.store);
                self.reconciler.changed(ids, now);
                self.see_whether_ready();
            }
            Change::Denied(watch) => {
                self.watches.denied(watch);
                self.see_whether_ready();
            }
            Change::Secret(watch, event) => {
                let ids = self.watches.secret(watch, event, &self.store);
                self.reconciler.changed(ids, now);
            }
        }
    }

    fn see_whether_ready(&self) {
        if self.watches.are_complete() {
            self.ready.store(true, Ordering::Release);
        }
    }

    async fn keep(&mut self, new: &NewKey, now: Timestamp) {
        match self.keys.add(new).await {
            Ok(()) => self.use_ring(now),
            Err(error) => {
                error!(error = error_chain(&error), "Failed to store the new key");
                self.renewal.failed(now);
            }
        }
    }

    fn newest(&self) -> Option<Timestamp> {
        self.keys.ring().newest().map(|key| key.order_time())
    }

    fn use_ring(&mut self, now: Timestamp) {
        let ring = Arc::clone(self.keys.ring());
        self.reconciler.use_ring(Arc::clone(&ring), now);
        self.ring.send_replace(ring);
    }
}

/// The queue repeats what failed, so the client must not: it would hold up the other objects of a
/// batch for minutes.
async fn client(place: &ClusterConfig) -> Result<Client, StartError> {
    let mut config = match &place.kubeconfig {
        None => KubeConfig::incluster().map_err(StartError::NoCluster)?,
        Some(path) => {
            let wrong = |source| StartError::Kubeconfig {
                path: path.display().to_string(),
                source,
            };
            let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
            KubeConfig::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(wrong)?
        }
    };
    config.default_retry = false;
    Client::try_from(config).map_err(|error| StartError::Client(Box::new(error)))
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
