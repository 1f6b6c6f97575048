//! The controller on a directory. It loads keys, renews them and scans the files at intervals, and reconciles objects
//! in each round.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use shared::error_chain;
use shared::key_ring::KeyRing;
use shared::v2::Suite;
use tokio::sync::watch;
use tracing::error;

use crate::args::Config;
use crate::files::{Directory, FileError};
use crate::http::ServerState;
use crate::key_renewal::{GeneratedKey, NoNewKey, Renewals};
use crate::key_store::KeyStore;
use crate::metrics::Metrics;
use crate::pool::{Pool, Stopped};
use crate::reconcile::{Reconciler, Urgency};
use crate::store::directory::DirectoryStore;

/// The pause between two scans of the files. A new key or object takes effect after at most slightly more than two
/// intervals.
pub const INTERVAL: SignedDuration = SignedDuration::from_millis(500);
const LOCK: &str = ".controller.lock";

/// The controller on a directory.
#[derive(Debug)]
pub struct DirectoryController {
    keys: Arc<Mutex<KeyStore>>,
    renewals: Renewals,
    store: Arc<DirectoryStore>,
    reconciler: Reconciler<DirectoryStore>,
    ring: watch::Sender<Arc<KeyRing>>,
    ready: Arc<AtomicBool>,
    pool: Pool,
    metrics: Arc<Metrics>,
    scanned: Timestamp,
    _lock: OwnedFd,
}

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory itself cannot be opened.
    #[error(
        "--directory: cannot open the directory; it must exist and be accessible, with a subdirectory `sealed`"
    )]
    Directory(#[source] FileError),
    /// Another controller uses the directory.
    #[error(
        "{} is in use by another controller; stop that controller first",
        .0.display()
    )]
    Locked(PathBuf),
    /// A file in the directory cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key that is due at startup cannot be generated.
    #[error(transparent)]
    Key(#[from] NoNewKey),
    /// The work was interrupted; see [`Stopped`].
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl DirectoryController {
    /// Locks the directory, loads the keys and generates new keys that are due.
    ///
    /// # Errors
    ///
    /// Returns [`StartError`] if the directory is locked or cannot be used, or if a key that is due cannot be
    /// generated.
    pub async fn start(
        config: &Config,
        directory: &Path,
        metrics: Arc<Metrics>,
        now: Timestamp,
    ) -> Result<Self, StartError> {
        metrics.set_renewal_period(config.keys.policy.period);
        let pool = Pool::new();
        let root = Arc::new(Directory::open(directory).map_err(StartError::Directory)?);
        let lock = root.lock(LOCK)?;
        let lock = lock.ok_or_else(|| StartError::Locked(directory.to_owned()))?;
        let keys = KeyStore::open(Arc::clone(&root), config.keys.clone(), now)?;
        let store = Arc::new(DirectoryStore::open(
            root,
            pool.clone(),
            config.policy.tolerates_drift,
        )?);
        let mut controller = Self {
            reconciler: Reconciler::new(
                Arc::clone(&store),
                pool.clone(),
                config.policy.clone(),
                Arc::clone(&metrics),
            ),
            renewals: Renewals::new(&config.keys, &pool),
            ring: watch::Sender::new(Arc::clone(keys.ring())),
            keys: Arc::new(Mutex::new(keys)),
            ready: Arc::default(),
            scanned: Timestamp::MIN,
            metrics,
            store,
            pool,
            _lock: lock,
        };
        for suite in controller.renewals.suites() {
            let ring = controller.key_ring();
            if let Some(key) = controller.renewals.start(suite, &ring, now).await? {
                controller.add_key(key, now).await??;
            }
        }
        controller.use_ring(now);
        Ok(controller)
    }

    /// Returns the state that the HTTP server serves.
    pub fn server_state(&self) -> ServerState {
        ServerState {
            ring: self.ring.subscribe(),
            ready: Arc::clone(&self.ready),
        }
    }

    /// Requests one new key of each suite. Each key is generated as soon as possible.
    pub fn request_key(&mut self) {
        self.renewals.request(&self.renewals.suites());
    }

    /// Scans keys and files if the interval has passed, and reconciles some of the objects that are due. Returns the
    /// time of the next round, which may be now. Can be canceled at shutdown: a write in progress still completes.
    pub async fn run_once(&mut self, now: Timestamp) -> Timestamp {
        let elapsed = now.duration_since(self.scanned);
        // A negative time means that the clock was set back.
        if elapsed >= INTERVAL || elapsed.is_negative() {
            self.scanned = now;
            self.scan(now).await;
        }
        let next = self.scanned.saturating_add(INTERVAL).unwrap_or(now);
        match self.reconciler.run_once(now).await {
            Some(due) => due.min(next),
            None => next,
        }
    }

    /// Stops the controller. Work in progress stops before its next operation.
    pub async fn shut_down(mut self, now: Timestamp) {
        self.reconciler.suspend(now).await;
    }

    async fn scan(&mut self, now: Timestamp) {
        let keys = Arc::clone(&self.keys);
        let changed = self.pool.run(move || lock(&keys).poll(now)).await;
        if changed == Ok(true) {
            self.use_ring(now);
        }
        let requested = lock(&self.keys).accept_renewal_requests();
        self.renewals.request(&requested);
        let ring = self.key_ring();
        for key in self.renewals.poll(&ring, now).await {
            self.store_key(key, now).await;
        }
        match self.store.scan(now).await {
            Ok(ids) => {
                self.reconciler.enqueue(ids, Urgency::Fresh, now);
                self.ready.store(true, Ordering::Release);
            }
            Err(error) => error!(error = error_chain(&error), "Cannot scan the directory"),
        }
    }

    async fn store_key(&mut self, key: GeneratedKey, now: Timestamp) {
        let suite = key.suite();
        match self.add_key(key, now).await {
            Ok(Ok(())) => self.use_ring(now),
            Ok(Err(error)) => self.record_store_failure(suite, &error, now),
            Err(error) => self.record_store_failure(suite, &error, now),
        }
    }

    fn record_store_failure(
        &mut self,
        suite: Suite,
        error: &dyn std::error::Error,
        now: Timestamp,
    ) {
        error!(error = error_chain(error), "Failed to store the new key");
        self.renewals.record_failure(suite, now);
    }

    async fn add_key(
        &self,
        key: GeneratedKey,
        now: Timestamp,
    ) -> Result<Result<(), FileError>, Stopped> {
        let keys = Arc::clone(&self.keys);
        self.pool.run(move || lock(&keys).add(&key, now)).await
    }

    fn key_ring(&self) -> Arc<KeyRing> {
        Arc::clone(lock(&self.keys).ring())
    }

    fn use_ring(&mut self, now: Timestamp) {
        let (ring, unusable) = {
            let keys = lock(&self.keys);
            (Arc::clone(keys.ring()), keys.unusable_count())
        };
        self.metrics.set_keys(Arc::clone(&ring), unusable);
        self.reconciler.use_ring(Arc::clone(&ring), now);
        self.ring.send_replace(ring);
    }
}

/// Locks the key store. Ignores poisoning: a panicked thread leaves no lasting damage, since each poll re-reads every
/// changed file.
fn lock(keys: &Mutex<KeyStore>) -> std::sync::MutexGuard<'_, KeyStore> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}
