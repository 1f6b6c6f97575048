//! The controller in a cluster: what the watches tell, keys, renewal, and the objects that are due.

mod connection;
mod watches;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use shared::error_chain;
use shared::key::NewKey;
use shared::key_ring::KeyRing;
use tokio::sync::{mpsc, watch};
use tracing::{debug, error};

use crate::args::{ClusterConfig, Config, KeyConfig};
use crate::cluster_keys::ClusterKeys;
use crate::http::Facts;
use crate::http::reviews::Reviews;
use crate::key_renewal::{KeyRenewal, NoNewKey};
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::published::Publisher;
use crate::reconcile::{Reconciler, wait};
use crate::store::StoreError;
use crate::store::cluster::ClusterStore;
pub use connection::ConnectError;
use connection::Connection;
use watches::{Change, Watches};

/// Between two looks at the clock for a renewal that is due.
const RENEWAL: SignedDuration = SignedDuration::from_secs(1);
/// Between two attempts to start.
const START_PAUSE: SignedDuration = SignedDuration::from_secs(5);
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
    sender: mpsc::Sender<Change>,
    connection: Connection,
    place: ClusterConfig,
    metrics: Arc<Metrics>,
    ring: watch::Sender<Arc<KeyRing>>,
    ready: Arc<AtomicBool>,
}

/// There are no keys to begin with.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Key(#[from] NoNewKey),
}

impl Cluster {
    /// Prepares everything. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    pub async fn new(
        config: &Config,
        place: &ClusterConfig,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ConnectError> {
        let connection = Connection::new(place).await?;
        let own = &connection.own_namespace;
        let key_config = KeyConfig {
            namespace: own.clone(),
            ..config.keys.clone()
        };
        let client = &connection.requests;
        let pool = Pool::new();
        let store = Arc::new(ClusterStore::new(client.clone(), place.deletes_secrets));
        let (sender, changes) = mpsc::channel(BACKLOG);
        Ok(Self {
            keys: ClusterKeys::new(client.clone(), key_config),
            renewal: KeyRenewal::new(config.keys.spec.clone(), config.keys.policy, pool.clone()),
            ring: watch::Sender::default(),
            reconciler: Reconciler::new(
                Arc::clone(&store),
                pool,
                config.policy,
                Arc::clone(&metrics),
            ),
            watches: Watches::new(place.namespaces(own)),
            ready: Arc::default(),
            place: place.clone(),
            metrics,
            connection,
            sender,
            store,
            changes,
        })
    }

    /// Reads the keys, makes one if one is due, and begins to watch. Tries for ever, and says what it
    /// waits for: an API server that is down now will be up again. May be dropped at any time.
    pub async fn begin(&mut self, now: impl Fn() -> Timestamp) {
        let (mut failures, mut told) = (0, String::new());
        while let Err(error) = self.load_keys(now()).await {
            let text = error_chain(&error);
            if told == text {
                debug!(error = text, "Still cannot start");
            } else {
                error!(error = text, "Cannot start yet, will try again");
                told = text;
            }
            failures += 1;
            let pause = wait(failures, rand::random()).min(START_PAUSE);
            tokio::time::sleep(pause.unsigned_abs()).await;
        }
        self.use_ring(now());
        self.watches
            .start(&self.connection, &self.place, &self.sender);
    }

    async fn load_keys(&mut self, now: Timestamp) -> Result<(), NotYet> {
        self.keys.load().await?;
        if let Some(new) = self.renewal.start(self.newest(), now).await? {
            self.keys.add(&new).await?;
        }
        Ok(())
    }

    /// What the HTTP server answers from.
    pub fn facts(&self) -> Facts {
        Facts {
            ring: self.ring.subscribe(),
            ready: Arc::clone(&self.ready),
        }
    }

    /// Asks the API server about callers.
    pub fn reviews(&self) -> Reviews {
        Reviews::new(self.connection.requests.clone())
    }

    /// Publishes the certificate, if it is to be.
    pub fn publisher(&self) -> Option<Publisher> {
        let name = self.place.certificate_config_map.as_ref()?;
        let client = self.connection.requests.clone();
        let ring = self.ring.subscribe();
        Some(Publisher::new(client, self.own_namespace(), name, ring))
    }

    /// The namespace of this controller.
    pub fn own_namespace(&self) -> &str {
        &self.connection.own_namespace
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
        self.keys.announce(now).await;
        if self.keys.asks_for_key() {
            self.renewal.ask();
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
                self.count_keys();
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
        self.keys.ring().last_made().map(|key| key.order_time())
    }

    fn use_ring(&mut self, now: Timestamp) {
        let ring = Arc::clone(self.keys.ring());
        self.reconciler.use_ring(Arc::clone(&ring), now);
        self.ring.send_replace(ring);
        self.count_keys();
    }

    fn count_keys(&self) {
        let ring = Arc::clone(self.keys.ring());
        self.metrics.keys(ring, self.keys.unusable());
    }
}
