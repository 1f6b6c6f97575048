//! The controller in a cluster: what the watches tell, keys, renewal, and the objects that are due.

mod connection;
mod open_files;
mod requests;
mod watch_retry;
mod watches;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use controller_core::author_limits::AuthorLimits;
use jiff::{SignedDuration, Timestamp};
use kube::runtime::watcher::Event;
use shared::error_chain;
use shared::key::NewKey;
use shared::key_ring::KeyRing;
use shared::renewal::made_last;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{debug, error};

use crate::args::{ClusterConfig, Config, KeyConfig};
use crate::cluster_keys::ClusterKeys;
use crate::http::Facts;
use crate::http::reviews::Reviews;
use crate::key_renewal::{KeyRenewal, NoNewKey};
use crate::leader::{Candidate, Role, Term};
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::published::Publisher;
use crate::reconcile::{Policy, Reconciler, Urgency, wait};
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

/// Objects at work at once, most of which wait for the API server or a processor. Their values are in
/// memory.
const PLACES: usize = 32;

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
    candidate: Option<Candidate>,
    standing: Option<Standing>,
    role: watch::Receiver<Role>,
    reached: watch::Receiver<u64>,
    /// Has the key been made that is due at a start?
    has_begun: bool,
    /// Was another one the leader at the last turn?
    follows: bool,
    failures: u32,
    not_before: Timestamp,
}

/// A candidate at work.
#[derive(Debug)]
struct Standing {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
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
        let term = Arc::new(Term::default());
        open_files::raise(2 * place.additional_namespaces.len());
        let connection = Connection::new(place, Arc::clone(&term)).await?;
        let own = &connection.own_namespace;
        metrics.renews_every(config.keys.policy.period);
        let key_config = KeyConfig {
            namespace: own.clone(),
            ..config.keys.clone()
        };
        let limits = AuthorLimits::clone(&config.policy.author_limits);
        let policy = Policy {
            author_limits: Arc::new(limits.guarding_keys(own, &key_config.prefix)),
            ..config.policy.clone()
        };
        let client = &connection.requests;
        let pool = Pool::new();
        let store = ClusterStore::new(client.clone(), place.deletes_secrets);
        let store = Arc::new(store.announcing(place.announced));
        let (sender, changes) = mpsc::channel(BACKLOG);
        let election = place.election.clone();
        let (questions, pod) = (connection.questions.clone(), place.pod.clone());
        let health = Arc::clone(metrics.watches());
        let candidate = Candidate::new(questions, own, election, pod, term, health);
        Ok(Self {
            keys: ClusterKeys::new(client.clone(), key_config),
            renewal: KeyRenewal::new(config.keys.spec.clone(), config.keys.policy, pool.clone()),
            ring: watch::Sender::default(),
            reconciler: Reconciler::new(Arc::clone(&store), pool, policy, Arc::clone(&metrics)),
            watches: Watches::new(place.namespaces(own), place.watches_secrets),
            role: candidate.role(),
            reached: candidate.reached(),
            candidate: Some(candidate),
            standing: None,
            has_begun: false,
            follows: false,
            failures: 0,
            not_before: Timestamp::MIN,
            ready: Arc::default(),
            place: place.clone(),
            metrics,
            connection,
            sender,
            store,
            changes,
        })
    }

    /// Stands for election, reads the keys, and begins to watch. The leader makes a key if one is due.
    /// Tries for ever, and says what it waits for: an API server that is down now will be up again. May
    /// be dropped at any time.
    pub async fn begin(&mut self, now: impl Fn() -> Timestamp) {
        self.stand();
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
            let pause = wait(failures, shared::random::number()).min(START_PAUSE);
            tokio::time::sleep(pause.unsigned_abs()).await;
        }
        self.use_ring(now());
        self.watches.start(
            &self.connection,
            &self.place,
            &self.sender,
            self.reached.clone(),
            Arc::clone(self.metrics.watches()),
        );
    }

    /// The lead is given up when the process ends, and so that nothing hangs, with a time limit.
    fn stand(&mut self) {
        let Some(mut candidate) = self.candidate.take() else {
            return;
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stands = async {
                candidate.run().await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = stands => {}
                _ = stopped => {}
            }
            candidate.release().await;
        });
        self.standing = Some(Standing { stop, task });
    }

    async fn load_keys(&mut self, now: Timestamp) -> Result<(), NotYet> {
        self.keys.load(now).await?;
        // It ends only when nobody can tell any more.
        let _ = self.role.wait_for(|role| *role != Role::Unknown).await;
        if self.leads() {
            self.make_first_key(now).await?;
        }
        Ok(())
    }

    /// Makes the key that is due at a start: none is there, or the newest is too old.
    async fn make_first_key(&mut self, now: Timestamp) -> Result<(), NotYet> {
        // Whoever removed the keys is about to restore them, and a key made in between would seal for ever after.
        let are_removed = self.keys.ring().is_removed();
        if !are_removed && let Some(new) = self.renewal.start(self.newest(now), now).await? {
            self.keys.add(&new, now).await?;
        }
        self.has_begun = true;
        Ok(())
    }

    /// A follower that leads now for the first time sees to the keys first; its list of them may be a
    /// moment old.
    async fn take_over(&mut self, now: Timestamp) {
        if now < self.not_before {
            return;
        }
        if let Err(error) = self.load_keys(now).await {
            error!(
                error = error_chain(&error),
                "Cannot take over yet, will try again"
            );
            self.failures = self.failures.saturating_add(1);
            let wait = wait(self.failures, shared::random::number()).min(START_PAUSE);
            self.not_before = now.saturating_add(wait).unwrap_or(now);
        }
        self.use_ring(now);
    }

    /// Another replica sees to everything, and tells of it in its metrics. What it leaves undone is
    /// found by looking at every object after it.
    async fn follow(&mut self) {
        self.follows = true;
        for id in self.reconciler.hand_over().await {
            self.store.leave_to_others(&id);
        }
    }

    fn leads(&self) -> bool {
        *self.role.borrow() == Role::Leader
    }

    /// Stops, and lets another replica lead.
    pub async fn end(mut self, now: Timestamp) {
        self.reconciler.suspend(now).await;
        if let Some(Standing { stop, task }) = self.standing.take() {
            let _ = stop.send(());
            let _ = task.await;
        }
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
        Reviews::new(self.connection.questions.clone())
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
        self.keys.expire(now);
        let next = now.saturating_add(RENEWAL).unwrap_or(now);
        self.metrics.leads(self.leads());
        if !self.leads() {
            self.follow().await;
            return next;
        }
        if std::mem::take(&mut self.follows) {
            let ids = self.store.ids();
            self.reconciler.changed(ids, Urgency::Backlog, now);
        }
        if !self.has_begun {
            self.take_over(now).await;
        }
        self.keys.announce(now).await;
        if self.keys.asks_for_key() {
            self.renewal.ask();
        }
        if let Some(new) = self.renewal.turn(self.newest(now), now).await {
            self.keep(&new, now).await;
        }
        match self.reconciler.begin(PLACES, now) {
            Some(due) => due.min(next),
            None => next,
        }
    }

    /// Waits for something to change. May be dropped at any time.
    pub async fn changed(&mut self, now: impl Fn() -> Timestamp) {
        let ended = async {
            if self.reconciler.end(&now).await.is_none() {
                std::future::pending::<()>().await;
            }
        };
        let change = tokio::select! {
            () = ended => None,
            changed = self.role.changed() => match changed {
                Ok(()) => None,
                Err(_) => std::future::pending().await,
            },
            change = self.changes.recv() => change,
        };
        if let Some(change) = change {
            self.take(change, now());
        }
    }

    fn take(&mut self, change: Change, now: Timestamp) {
        match change {
            Change::Key(event) => {
                if self.keys.take(event, now) {
                    self.use_ring(now);
                }
                self.count_keys();
                self.see_whether_ready();
            }
            Change::Sealed(watch, event) => {
                let urgency = urgency(&event);
                let ids = self.watches.sealed(watch, event, &self.store);
                self.reconciler.changed(ids, urgency, now);
                self.see_whether_ready();
            }
            Change::Denied(watch) => {
                self.watches.denied(watch);
                self.see_whether_ready();
            }
            Change::Secret(watch, event) => {
                let urgency = urgency(&event);
                let ids = self.watches.secret(watch, event, &self.store);
                self.reconciler.changed(ids, urgency, now);
            }
            Change::Unseen(watch) => {
                let ids = self.watches.unseen(watch);
                self.reconciler.changed(ids, Urgency::Backlog, now);
            }
        }
    }

    fn see_whether_ready(&self) {
        // A follower may be there before the first key is.
        let has_keys = self.has_begun || !self.keys.ring().is_empty();
        if has_keys && self.watches.are_complete() {
            self.ready.store(true, Ordering::Release);
        }
    }

    async fn keep(&mut self, new: &NewKey, now: Timestamp) {
        match self.keys.add(new, now).await {
            Ok(()) => self.use_ring(now),
            Err(error) => {
                error!(error = error_chain(&error), "Failed to store the new key");
                self.renewal.failed(now);
            }
        }
    }

    fn newest(&self, now: Timestamp) -> Option<Timestamp> {
        made_last(self.keys.ring(), now)
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

/// What a list has was there before.
fn urgency<K>(event: &Event<K>) -> Urgency {
    match event {
        Event::Init | Event::InitApply(_) | Event::InitDone => Urgency::Backlog,
        Event::Apply(_) | Event::Delete(_) => Urgency::Fresh,
    }
}
