//! The controller on a directory, one round after the other: keys, renewal, scan, reconcile.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use shared::error_chain;
use shared::key::NewKey;
use shared::key_ring::KeyRing;
use shared::renewal::made_last;
use tokio::sync::watch;
use tracing::error;

use crate::args::Config;
use crate::folder::{FileError, Folder};
use crate::http::Facts;
use crate::key_renewal::{KeyRenewal, NoNewKey};
use crate::key_store::KeyStore;
use crate::metrics::Metrics;
use crate::pool::{Pool, Stopped};
use crate::reconcile::{Reconciler, Urgency};
use crate::store::directory::DirectoryStore;

/// Between two looks at files. A key or object takes effect within two of these and a little.
pub const INTERVAL: SignedDuration = SignedDuration::from_millis(500);
const LOCK: &str = ".controller.lock";

/// The controller at rest between two rounds.
#[derive(Debug)]
pub struct Rounds {
    keys: Arc<Mutex<KeyStore>>,
    renewal: KeyRenewal,
    store: Arc<DirectoryStore>,
    reconciler: Reconciler<DirectoryStore>,
    ring: watch::Sender<Arc<KeyRing>>,
    ready: Arc<AtomicBool>,
    pool: Pool,
    metrics: Arc<Metrics>,
    scanned: Timestamp,
    _lock: OwnedFd,
}

/// The controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder itself.
    #[error("--directory takes a folder that is there; make it and `sealed` in it first")]
    Directory(#[source] FileError),
    /// Another one is at work.
    #[error(
        "another controller works on {}; one folder has one controller, so stop that one first",
        .0.display()
    )]
    Locked(PathBuf),
    /// Something in the folder.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no key and none can be made.
    #[error(transparent)]
    Key(#[from] NoNewKey),
    /// The process is ending.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Rounds {
    /// Takes the folder into possession, reads the keys and makes one if one is due.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub async fn start(
        config: &Config,
        directory: &Path,
        metrics: Arc<Metrics>,
        now: Timestamp,
    ) -> Result<Self, StartError> {
        metrics.renews_every(config.keys.policy.period);
        let pool = Pool::new();
        let root = Arc::new(Folder::open(directory).map_err(StartError::Directory)?);
        let lock = root.lock(LOCK)?;
        let lock = lock.ok_or_else(|| StartError::Locked(directory.to_owned()))?;
        let keys = KeyStore::open(Arc::clone(&root), config.keys.clone(), now)?;
        let store = Arc::new(DirectoryStore::open(
            root,
            pool.clone(),
            config.policy.tolerates_drift,
        )?);
        let mut rounds = Self {
            reconciler: Reconciler::new(
                Arc::clone(&store),
                pool.clone(),
                config.policy.clone(),
                Arc::clone(&metrics),
            ),
            renewal: KeyRenewal::new(config.keys.spec.clone(), config.keys.policy, pool.clone()),
            ring: watch::Sender::new(Arc::clone(keys.ring())),
            keys: Arc::new(Mutex::new(keys)),
            ready: Arc::default(),
            scanned: Timestamp::MIN,
            metrics,
            store,
            pool,
            _lock: lock,
        };
        if let Some(new) = rounds.renewal.start(rounds.newest(now), now).await? {
            rounds.add_key(new, now).await??;
        }
        rounds.use_ring(now);
        Ok(rounds)
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

    /// Looks at keys and files if it is time to, and at some of the objects that are due. Gives the
    /// time of the next round, which may be now. May be dropped when the process ends: what was being
    /// written then is written to its end.
    pub async fn round(&mut self, now: Timestamp) -> Timestamp {
        let since = now.duration_since(self.scanned);
        // A clock that was set back must not stop us.
        if since >= INTERVAL || since.is_negative() {
            self.scanned = now;
            self.look(now).await;
        }
        let next = self.scanned.saturating_add(INTERVAL).unwrap_or(now);
        match self.reconciler.round(now).await {
            Some(due) => due.min(next),
            None => next,
        }
    }

    /// Stops. What is at work ends before its next operation.
    pub async fn end(mut self, now: Timestamp) {
        self.reconciler.suspend(now).await;
    }

    async fn look(&mut self, now: Timestamp) {
        let keys = Arc::clone(&self.keys);
        let changed = self.pool.run(move || lock(&keys).poll(now)).await;
        if changed == Ok(true) {
            self.use_ring(now);
        }
        if lock(&self.keys).asks_for_key() {
            self.renewal.ask();
        }
        if let Some(new) = self.renewal.turn(self.newest(now), now).await {
            self.keep(new, now).await;
        }
        match self.store.scan(now).await {
            Ok(ids) => {
                self.reconciler.changed(ids, Urgency::Fresh, now);
                self.ready.store(true, Ordering::Release);
            }
            Err(error) => error!(error = error_chain(&error), "Cannot scan"),
        }
    }

    async fn keep(&mut self, new: NewKey, now: Timestamp) {
        match self.add_key(new, now).await {
            Ok(Ok(())) => self.use_ring(now),
            Ok(Err(error)) => self.lose(&error, now),
            Err(error) => self.lose(&error, now),
        }
    }

    fn lose(&mut self, error: &dyn std::error::Error, now: Timestamp) {
        error!(error = error_chain(error), "Failed to store the new key");
        self.renewal.failed(now);
    }

    async fn add_key(&self, new: NewKey, now: Timestamp) -> Result<Result<(), FileError>, Stopped> {
        let keys = Arc::clone(&self.keys);
        self.pool.run(move || lock(&keys).add(&new, now)).await
    }

    fn newest(&self, now: Timestamp) -> Option<Timestamp> {
        made_last(lock(&self.keys).ring(), now)
    }

    fn use_ring(&mut self, now: Timestamp) {
        let (ring, unusable) = {
            let keys = lock(&self.keys);
            (Arc::clone(keys.ring()), keys.unusable())
        };
        self.metrics.keys(Arc::clone(&ring), unusable);
        self.reconciler.use_ring(Arc::clone(&ring), now);
        self.ring.send_replace(ring);
    }
}

/// What a panicking thread leaves is whole: each look takes in every file anew.
fn lock(keys: &Mutex<KeyStore>) -> std::sync::MutexGuard<'_, KeyStore> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}
