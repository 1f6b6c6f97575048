//! The controller in a cluster: processes watch events, manages keys and their renewal, and reconciles
//! objects that are due.

mod connection;
mod lasting_watch;
mod open_files;
mod requests;
mod watch_retry;
mod watches;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use controller_core::author_limits::AuthorLimits;
use jiff::{SignedDuration, Timestamp};
use kube::runtime::watcher::Event;
use shared::error_chain;
use shared::key_ring::KeyRing;
use shared::v2::VersionKey;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{debug, error, warn};

use crate::args::{ClusterConfig, Config, KeyConfig};
use crate::cluster_keys::ClusterKeys;
use crate::http::reviews::Reviews;
use crate::http::{Delivery, ServerState};
use crate::key_renewal::{GeneratedKey, NoNewKey, Renewals};
use crate::leader::{Candidate, Role, WriteLease};
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::published::Publisher;
use crate::reconcile::{Policy, Reconciler, Urgency, backoff, is_waiting};
use crate::store::StoreError;
use crate::store::cluster::ClusterStore;
use crate::version_key;
pub use connection::ConnectError;
use connection::Connection;
use watches::{Change, Watches};

/// Pause between two checks whether a renewal is due.
const RENEWAL_CHECK_INTERVAL: SignedDuration = SignedDuration::from_secs(1);
/// Maximum pause between two attempts to start or to take over.
const MAX_START_PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// Pause between two attempts to read the content-version key.
const VERSION_KEY_PAUSE: Duration = Duration::from_secs(2);
/// Pause between two attempts of the leader to load or create the content-version key.
const VERSION_KEY_RETRY: SignedDuration = SignedDuration::from_secs(10);
/// Capacity of the queue of watch events. When it is full, the watches wait. An event can contain a whole object of up
/// to 1.5 MiB.
const EVENT_QUEUE: usize = 64;

/// Maximum number of objects that are reconciled concurrently. Most of them wait for the API server or a processor,
/// with their values in memory.
const MAX_CONCURRENT: usize = 32;

/// The controller in a cluster.
#[derive(Debug)]
pub struct Cluster {
    keys: ClusterKeys,
    renewals: Renewals,
    store: Arc<ClusterStore>,
    reconciler: Reconciler<ClusterStore>,
    watches: Watches,
    changes: mpsc::Receiver<Change>,
    sender: mpsc::Sender<Change>,
    connection: Connection,
    config: ClusterConfig,
    metrics: Arc<Metrics>,
    policy: Policy,
    ring: watch::Sender<Arc<KeyRing>>,
    /// The content-version key, on every replica.
    version_key: watch::Sender<Option<Arc<VersionKey>>>,
    /// When the leader next tries to load or create the content-version key; `None` once the leader has the key.
    version_key_due: Option<Timestamp>,
    /// A copy of `is_complete` for the delivery to Pods, which does not depend on the election.
    shared_is_complete: Arc<AtomicBool>,
    ready: Arc<AtomicBool>,
    /// Whether this replica has had keys and has listed the objects of every namespace, except namespaces that cannot
    /// be listed. If so, it is ready unless the election is stuck.
    is_complete: bool,
    candidate: Option<Candidate>,
    election_task: Option<ElectionTask>,
    role: watch::Receiver<Role>,
    /// Changes each time the API server responds to the leader election after a failure.
    recoveries: watch::Receiver<u64>,
    /// Whether this replica has been the leader and has generated the keys that were due.
    has_started: bool,
    /// Whether this replica was a standby in the last round.
    was_standby: bool,
    failures: u32,
    not_before: Timestamp,
}

/// A running election task.
#[derive(Debug)]
struct ElectionTask {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// The keys cannot be loaded, generated or stored yet.
#[derive(Debug, thiserror::Error)]
enum NotReady {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Key(#[from] NoNewKey),
}

impl Cluster {
    /// Builds the controller and its clients. Sends no request yet.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError`] if the client cannot be configured.
    pub async fn new(
        config: &Config,
        cluster_config: &ClusterConfig,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ConnectError> {
        let write_lease = Arc::new(WriteLease::default());
        open_files::raise(2 * cluster_config.additional_namespaces.len());
        let connection = Connection::new(cluster_config, Arc::clone(&write_lease)).await?;
        let own_namespace = &connection.own_namespace;
        metrics.set_renewal_period(config.keys.policy.period);
        let key_config = KeyConfig {
            namespace: own_namespace.clone(),
            ..config.keys.clone()
        };
        let limits = AuthorLimits::clone(&config.policy.author_limits);
        let policy = Policy {
            author_limits: Arc::new(limits.guarding_keys(own_namespace, &key_config.prefix)),
            ..config.policy.clone()
        };
        let client = &connection.requests;
        let pool = Pool::new();
        let store = ClusterStore::new(client.clone(), cluster_config.deletes_secrets);
        let store = Arc::new(store.with_event_level(cluster_config.event_level));
        let (sender, changes) = mpsc::channel(EVENT_QUEUE);
        let election = cluster_config.election.clone();
        let (unrestricted, pod) = (connection.unrestricted.clone(), cluster_config.pod.clone());
        let health = Arc::clone(metrics.watches());
        let candidate = Candidate::new(
            unrestricted,
            own_namespace,
            election,
            pod,
            write_lease,
            health,
        );
        Ok(Self {
            keys: ClusterKeys::new(client.clone(), key_config),
            renewals: Renewals::new(&config.keys, &pool),
            ring: watch::Sender::default(),
            version_key: watch::Sender::new(None),
            version_key_due: Some(Timestamp::MIN),
            shared_is_complete: Arc::default(),
            policy: policy.clone(),
            reconciler: Reconciler::new(Arc::clone(&store), pool, policy, Arc::clone(&metrics)),
            watches: Watches::new(
                cluster_config.namespaces(own_namespace),
                cluster_config.watches_secrets,
            ),
            role: candidate.role(),
            recoveries: candidate.recoveries(),
            candidate: Some(candidate),
            election_task: None,
            has_started: false,
            was_standby: false,
            failures: 0,
            not_before: Timestamp::MIN,
            ready: Arc::default(),
            is_complete: false,
            config: cluster_config.clone(),
            metrics,
            connection,
            sender,
            store,
            changes,
        })
    }

    /// Joins the leader election, watches the objects and loads the keys, all at the same time: listed objects wait in
    /// the queue, so the leader writes as soon as it holds the Lease. The leader generates a new key if one is due.
    /// Retries without limit and logs the reason, since an API server that is down will become available again. Cancel
    /// safe.
    pub async fn begin(&mut self, now: impl Fn() -> Timestamp) {
        self.start_election();
        self.await_version_key();
        let starter = self.watches.start(
            &self.connection,
            &self.config,
            &self.sender,
            self.recoveries.clone(),
            Arc::clone(self.metrics.watches()),
        );
        let (mut failures, mut reported) = (0, String::new());
        while let Err(error) = self.load_keys(now()).await {
            let text = error_chain(&error);
            if reported == text {
                debug!(error = text, "Still cannot start");
            } else {
                error!(error = text, "Cannot start yet; retrying");
                reported = text;
            }
            failures += 1;
            let pause = backoff(failures, shared::random::number()).min(MAX_START_PAUSE);
            tokio::time::sleep(pause.unsigned_abs()).await;
        }
        self.use_ring(now());
        // Start this watch only now: if its list was older than the first key, the controller would treat that key as
        // removed.
        starter.watch_keys(&self.connection);
    }

    /// Starts the election task. When the controller shuts down, the task releases the leadership, with a time limit so
    /// that shutdown cannot hang.
    fn start_election(&mut self) {
        let Some(mut candidate) = self.candidate.take() else {
            return;
        };
        let (stop, stop_received) = oneshot::channel();
        let task = tokio::spawn(async move {
            let election = async {
                candidate.run().await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = election => {}
                _ = stop_received => {}
            }
            candidate.release().await;
        });
        self.election_task = Some(ElectionTask { stop, task });
    }

    async fn load_keys(&mut self, now: Timestamp) -> Result<(), NotReady> {
        self.keys.load(now).await?;
        // Returns an error only if the election task has ended.
        let _ = self.role.wait_for(|role| *role != Role::Unknown).await;
        if self.is_leader() {
            self.create_first_keys(now).await?;
            self.create_version_key(now).await;
        }
        Ok(())
    }

    /// Loads or creates the content-version key, if an attempt is due. Without this key, Secrets are still written, but
    /// no versions are recorded.
    async fn create_version_key(&mut self, now: Timestamp) {
        let Some(due) = self.version_key_due else {
            return;
        };
        if is_waiting(due, now) {
            return;
        }
        let (client, namespace) = (&self.connection.requests, &self.connection.own_namespace);
        let random = &mut shared::random::system();
        match version_key::load(client, namespace, self.keys.prefix(), random).await {
            Ok(key) => {
                self.version_key.send_replace(Some(Arc::clone(&key)));
                self.reconciler.record_versions(key, Timestamp::now);
                self.version_key_due = None;
                // Objects that were reconciled without this key have no version yet.
                let ids = self.store.ids();
                self.reconciler.enqueue(ids, Urgency::Backlog, now);
            }
            Err(error) => {
                self.version_key_due = Some(now.saturating_add(VERSION_KEY_RETRY).unwrap_or(now));
                warn!(
                    error = error_chain(&error),
                    "Cannot load the content-version key; retrying. Until then, statuses do not show which version of \
                     a Secret is current, so `seal pods` and `seal restart` cannot work"
                );
            }
        }
    }

    /// Starts a task that waits until the leader has created the content-version key, and reads the key: a standby
    /// delivers values too.
    fn await_version_key(&self) {
        let (client, sender) = (self.connection.requests.clone(), self.version_key.clone());
        let (namespace, prefix) = (
            self.own_namespace().to_owned(),
            self.keys.prefix().to_owned(),
        );
        tokio::spawn(async move {
            while sender.borrow().is_none() {
                // The leader reports why it cannot create the key.
                if let Ok(Some(key)) = version_key::find(&client, &namespace, &prefix).await {
                    sender.send_if_modified(|current| {
                        let is_missing = current.is_none();
                        current.get_or_insert(key);
                        is_missing
                    });
                }
                tokio::time::sleep(VERSION_KEY_PAUSE).await;
            }
        });
    }

    /// Generates and stores a key of each suite for which one is due.
    async fn create_first_keys(&mut self, now: Timestamp) -> Result<(), NotReady> {
        for suite in self.renewals.suites() {
            if let Some(key) = self.renewals.start(suite, self.keys.ring(), now).await? {
                self.keys.add(&key, now).await?;
            }
        }
        self.has_started = true;
        Ok(())
    }

    /// Before the first round as leader, loads the keys, since a standby's list of keys may be slightly outdated, and
    /// generates keys that are due. After a failure, does nothing until the next attempt is due.
    async fn take_over(&mut self, now: Timestamp) {
        if is_waiting(self.not_before, now) {
            return;
        }
        if let Err(error) = self.load_keys(now).await {
            error!(
                error = error_chain(&error),
                "Cannot take over yet; retrying"
            );
            self.failures = self.failures.saturating_add(1);
            let pause = backoff(self.failures, shared::random::number()).min(MAX_START_PAUSE);
            self.not_before = now.saturating_add(pause).unwrap_or(now);
        }
        self.use_ring(now);
    }

    /// Leaves all objects to the leader, which also reports them in its metrics. When this replica becomes the leader,
    /// it reconciles every object, so that work that the previous leader did not finish is completed.
    async fn stand_by(&mut self) {
        self.was_standby = true;
        for id in self.reconciler.hand_over().await {
            self.store.forget_if_deleted(&id);
        }
    }

    fn is_leader(&self) -> bool {
        *self.role.borrow() == Role::Leader
    }

    /// Stops the controller and releases the leadership.
    pub async fn shut_down(mut self, now: Timestamp) {
        self.reconciler.suspend(now).await;
        if let Some(ElectionTask { stop, task }) = self.election_task.take() {
            let _ = stop.send(());
            let _ = task.await;
        }
    }

    /// Returns the state that the HTTP server serves.
    pub fn server_state(&self) -> ServerState {
        ServerState {
            ring: self.ring.subscribe(),
            ready: Arc::clone(&self.ready),
        }
    }

    /// Returns a client that asks the API server to authenticate and authorize callers.
    pub fn reviews(&self) -> Reviews {
        Reviews::new(self.connection.unrestricted.clone())
    }

    /// Returns the parts of the controller that the delivery endpoint reads. When `stopping` becomes true, its waiting
    /// requests end.
    pub fn delivery(&self, stopping: watch::Receiver<bool>) -> Delivery {
        Delivery {
            store: Arc::clone(&self.store),
            ring: self.ring.subscribe(),
            version_key: self.version_key.subscribe(),
            is_complete: Arc::clone(&self.shared_is_complete),
            policy: self.policy.clone(),
            stopping,
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Returns the publisher of the certificate and of the CA certificate of the TLS port, if a `ConfigMap` is
    /// configured.
    pub fn publisher(&self, authority: Option<String>) -> Option<Publisher> {
        let name = self.config.certificate_config_map.as_ref()?;
        let client = self.connection.requests.clone();
        let ring = self.ring.subscribe();
        let namespace = self.own_namespace();
        Some(Publisher::new(client, namespace, name, ring, authority))
    }

    /// Returns the namespace of this controller.
    pub fn own_namespace(&self) -> &str {
        &self.connection.own_namespace
    }

    /// Requests one new key of each suite. Each key is generated as soon as possible.
    pub fn request_key(&mut self) {
        self.renewals.request(&self.renewals.suites());
    }

    /// Processes pending watch events and, on the leader, renews keys and begins to reconcile objects that are due.
    /// Returns the time of the next round, which may be now.
    pub async fn run_once(&mut self, now: Timestamp) -> Timestamp {
        while let Ok(change) = self.changes.try_recv() {
            self.apply(change, now);
        }
        self.keys.expire(now);
        let next = now.saturating_add(RENEWAL_CHECK_INTERVAL).unwrap_or(now);
        self.metrics.set_leader(self.is_leader());
        self.update_readiness();
        if !self.is_leader() {
            self.stand_by().await;
            return next;
        }
        if std::mem::take(&mut self.was_standby) {
            let ids = self.store.ids();
            self.reconciler.enqueue(ids, Urgency::Backlog, now);
        }
        if !self.has_started {
            self.take_over(now).await;
        }
        self.create_version_key(now).await;
        self.keys.send_events(now).await;
        self.renewals.request(&self.keys.accept_renewal_requests());
        for key in self.renewals.poll(self.keys.ring(), now).await {
            self.store_key(&key, now).await;
        }
        match self.reconciler.begin_attempts(MAX_CONCURRENT, now) {
            Some(due) => due.min(next),
            None => next,
        }
    }

    /// Waits until an attempt ends or gives up its slot, the role of this replica changes, or a watch event arrives.
    /// Processes the result of the attempt, or the event. Cancel safe.
    pub async fn wait_for_change(&mut self, now: impl Fn() -> Timestamp) {
        let attempt_ended = async {
            if self.reconciler.finish_next(&now).await.is_none() {
                std::future::pending::<()>().await;
            }
        };
        let change = tokio::select! {
            () = attempt_ended => None,
            changed = self.role.changed() => match changed {
                Ok(()) => None,
                Err(_) => std::future::pending().await,
            },
            change = self.changes.recv() => change,
        };
        if let Some(change) = change {
            self.apply(change, now());
        }
    }

    fn apply(&mut self, change: Change, now: Timestamp) {
        match change {
            Change::Key(format, event) => {
                if self.keys.apply_event(format, event, now) {
                    self.use_ring(now);
                }
                self.count_keys();
                self.update_readiness();
            }
            Change::Sealed(watch, event) => {
                let urgency = urgency(&event);
                let ids = self.watches.apply_sealed_event(watch, event, &self.store);
                self.reconciler.enqueue(ids, urgency, now);
                self.update_readiness();
            }
            Change::Denied(watch) => {
                self.watches.record_denial(watch);
                self.update_readiness();
            }
            Change::Secret(watch, event) => {
                let urgency = urgency(&event);
                let ids = self.watches.apply_secret_event(watch, event, &self.store);
                self.reconciler.enqueue(ids, urgency, now);
            }
            Change::SecretsUnwatched(watch) => {
                let ids = self.watches.record_unwatched_secrets(watch);
                self.reconciler.enqueue(ids, Urgency::Backlog, now);
            }
        }
    }

    fn update_readiness(&mut self) {
        // `has_started` is false on a replica that was never the leader: it only loads keys.
        let has_keys = self.has_started || !self.keys.ring().is_empty();
        self.is_complete |= has_keys && self.watches.are_complete();
        self.shared_is_complete
            .store(self.is_complete, Ordering::Release);
        let is_stuck = *self.role.borrow() == Role::Stuck;
        self.ready
            .store(self.is_complete && !is_stuck, Ordering::Release);
    }

    async fn store_key(&mut self, key: &GeneratedKey, now: Timestamp) {
        match self.keys.add(key, now).await {
            Ok(()) => self.use_ring(now),
            Err(error) => {
                error!(error = error_chain(&error), "Failed to store the new key");
                self.renewals.record_failure(key.suite(), now);
            }
        }
    }

    /// Passes the current key ring to the reconciler, the HTTP endpoints and the metrics.
    fn use_ring(&mut self, now: Timestamp) {
        let ring = Arc::clone(self.keys.ring());
        self.reconciler.use_ring(Arc::clone(&ring), now);
        self.ring.send_replace(ring);
        self.count_keys();
    }

    fn count_keys(&self) {
        let ring = Arc::clone(self.keys.ring());
        self.metrics.set_keys(ring, self.keys.unusable_count());
    }
}

/// Returns the urgency of an event. Objects in a list need not have changed, so they are not urgent.
fn urgency<K>(event: &Event<K>) -> Urgency {
    match event {
        Event::Init | Event::InitApply(_) | Event::InitDone => Urgency::Backlog,
        Event::Apply(_) | Event::Delete(_) => Urgency::Fresh,
    }
}
