//! The watches of SealedSecrets, Secrets and key Secrets. Each watch is a task that sends events. An object that is
//! missing from a complete list counts as deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use controller_core::object_id::ObjectId;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::runtime::watcher::{Error as WatchError, Event};
use kube::{Api, Client, Resource as _};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::connection::Connection;
use super::lasting_watch::{self, Periods};
use super::watch_retry::{WatchRetry, is_expired};
use crate::args::ClusterConfig;
use crate::key_store::KeyFormat;
use crate::readable::Readable;
use crate::store::api_response;
use crate::store::cluster::{ClusterStore, Watched, sealed_secrets};
use crate::watch_health::{Cause, WatchHealth};

/// An event of a watch. The number is the index of the namespace in the list of watched namespaces.
#[derive(Debug)]
pub(super) enum Change {
    Key(KeyFormat, Event<Readable<Secret>>),
    Sealed(usize, Event<Watched>),
    Secret(usize, Event<Readable<PartialObjectMeta<Secret>>>),
    /// Secrets in the namespace cannot be listed: permission is missing.
    SecretsUnwatched(usize),
    /// SealedSecrets in the namespace cannot be listed: the namespace does not exist yet, or permission is missing.
    Denied(usize),
}

/// The progress of the lists in each watched namespace, by the index of the namespace.
#[derive(Debug)]
pub(super) struct Watches {
    /// `None` means all namespaces.
    namespaces: Vec<Option<String>>,
    /// SealedSecrets and Secrets in lists that are not complete yet.
    sealed: BTreeMap<usize, BTreeSet<ObjectId>>,
    secrets: BTreeMap<usize, BTreeSet<ObjectId>>,
    /// Namespaces whose SealedSecrets were listed, or cannot be listed.
    complete: BTreeSet<usize>,
    /// Namespaces whose Secrets were listed, or are not watched.
    secrets_known: BTreeSet<usize>,
    /// Objects that need no reconciliation if their Secret is the recorded Secret. They wait until the Secrets of their
    /// namespace are listed or cannot be listed.
    waiting: BTreeMap<usize, Vec<ObjectId>>,
}

/// Maximum number of watches whose first list is in progress, so that a thousand namespaces are not listed at the same
/// time.
const MAX_LISTS: usize = 32;
/// When the API server is reachable again after an outage, the restarts of the watches are spread over this time
/// multiplied by the number of namespaces.
const RESTART_INTERVAL: Duration = Duration::from_millis(4);
/// After a failure and the pause that follows it, a watch without an event or error for this long counts as working
/// again. A failed attempt to connect is reported earlier, and an established watch sends no events while nothing
/// changes.
const RECOVERED_AFTER: Duration = Duration::from_secs(15);
/// Duration after which a watch restarts, and the API server checks the permissions again. With many namespaces, the
/// duration is longer, up to [`MAX_SECONDS`], to limit the load of restarts.
const MIN_SECONDS: u32 = 60;
/// Maximum duration of a watch, after which the API server ends it. A watch continues until then if the next watch is
/// forbidden.
pub(super) const MAX_SECONDS: u32 = 290;
/// The pause between two requests for the next watch while it is forbidden.
const FORBIDDEN_PERIOD: Duration = Duration::from_secs(5);
/// Number of objects per page of a list. The complete response with one page is in memory at once. The annotations of
/// an object can have 256 KiB, a SealedSecret 1.5 MiB.
const SECRETS_PER_PAGE: u32 = 100;
const SEALED_SECRETS_PER_PAGE: u32 = 20;

impl Watches {
    pub(super) fn new(namespaces: Vec<Option<String>>, watches_secrets: bool) -> Self {
        let secrets_unwatched = if watches_secrets { 0 } else { namespaces.len() };
        Self {
            secrets_known: (0..secrets_unwatched).collect(),
            waiting: BTreeMap::new(),
            namespaces,
            sealed: BTreeMap::new(),
            secrets: BTreeMap::new(),
            complete: BTreeSet::new(),
        }
    }

    /// Starts the watches of objects. The returned [`Starter`] starts the watches of keys. A namespace that does not
    /// exist yet is watched when it is created. The watch of Secrets starts when the SealedSecrets in the namespace are
    /// listed, so that no data about other Secrets has to be stored.
    pub(super) fn start(
        &self,
        connection: &Connection,
        config: &ClusterConfig,
        changes: &Sender<Change>,
        recoveries: watch::Receiver<u64>,
        health: Arc<WatchHealth>,
    ) -> Starter {
        let client = &connection.watches;
        let starter = Starter {
            changes: changes.clone(),
            lists: Arc::new(Semaphore::new(MAX_LISTS)),
            recoveries,
            spread: RESTART_INTERVAL.saturating_mul(saturating_u32(self.namespaces.len())),
            namespaces: self.namespaces.len(),
            health,
        };
        for (number, namespace) in self.namespaces.iter().enumerate() {
            let scope = describe_scope(namespace.as_deref());
            let target = Target::required(format!("SealedSecrets in {scope}"));
            let (lasting_client, denial) = starter.lasting_client(client, &target);
            let api = sealed_secrets(lasting_client, namespace.as_deref());
            let watcher_config = watcher::Config {
                label_selector: config.label_selector.clone(),
                ..Starter::config().page_size(SEALED_SECRETS_PER_PAGE)
            };
            let (secrets_starter, watches_secrets) = (starter.clone(), config.watches_secrets);
            let (client, namespace) = (client.clone(), namespace.clone());
            starter.run(
                target,
                denial,
                watcher(api, watcher_config),
                move |event| Change::Sealed(number, event),
                move || Some(Change::Denied(number)),
                move || {
                    if watches_secrets {
                        secrets_starter.watch_secrets(number, namespace.as_deref(), &client);
                    }
                },
            );
        }
        starter
    }

    /// Returns whether every namespace has been listed once. A namespace that cannot be listed counts as listed, since
    /// the denial can be permanent, except for the first entry (the controller's own namespace, or all namespaces).
    pub(super) fn are_complete(&self) -> bool {
        self.complete.len() == self.namespaces.len()
    }

    /// Records that a namespace cannot be listed.
    pub(super) fn record_denial(&mut self, number: usize) {
        if number > 0 {
            self.complete.insert(number);
        }
    }

    /// Applies an event about a SealedSecret. Returns the objects to reconcile.
    pub(super) fn apply_sealed_event(
        &mut self,
        number: usize,
        event: Event<Watched>,
        store: &ClusterStore,
    ) -> Vec<ObjectId> {
        let listed = self.sealed.entry(number).or_default();
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.extend(id(&object.metadata));
                let changed = store.store_object(object);
                return changed
                    .filter(|id| !self.defer(number, id, store))
                    .into_iter()
                    .collect();
            }
            Event::InitDone => {
                let listed = self.sealed.remove(&number).unwrap_or_default();
                self.complete.insert(number);
                return store.mark_missing_as_deleted(self.namespace(number), &listed);
            }
            Event::Apply(object) => return store.store_object(object).into_iter().collect(),
            Event::Delete(object) => return store.mark_deleted(&object).into_iter().collect(),
        }
        Vec::new()
    }

    /// Applies an event about a Secret. Returns the objects to reconcile.
    pub(super) fn apply_secret_event(
        &mut self,
        number: usize,
        event: Event<Readable<PartialObjectMeta<Secret>>>,
        store: &ClusterStore,
    ) -> Vec<ObjectId> {
        let listed = self.secrets.entry(number).or_default();
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(secret) => {
                listed.extend(id(secret.meta()).filter(|id| store.contains(id)));
                return store.record_secret(secret.meta()).into_iter().collect();
            }
            Event::InitDone => {
                let listed = self.secrets.remove(&number).unwrap_or_default();
                let mut due = store.ids_without_secret(self.namespace(number), &listed);
                due.extend(self.record_unwatched_secrets(number));
                return due;
            }
            Event::Apply(secret) => {
                return store.record_secret(secret.meta()).into_iter().collect();
            }
            Event::Delete(secret) => {
                return store
                    .record_secret_deletion(secret.meta())
                    .into_iter()
                    .collect();
            }
        }
        Vec::new()
    }

    /// Records that no object needs to wait for the Secrets in a namespace. Returns the objects that waited for them.
    pub(super) fn record_unwatched_secrets(&mut self, number: usize) -> Vec<ObjectId> {
        self.secrets_known.insert(number);
        self.waiting.remove(&number).unwrap_or_default()
    }

    /// Makes an object wait for the Secrets in its namespace if its Secret can show that no reconciliation is needed.
    /// Returns whether the object waits.
    fn defer(&mut self, number: usize, id: &ObjectId, store: &ClusterStore) -> bool {
        let must_wait = !self.secrets_known.contains(&number) && store.may_be_recognized(id);
        if must_wait {
            self.waiting.entry(number).or_default().push(id.clone());
        }
        must_wait
    }

    fn namespace(&self, number: usize) -> Option<&str> {
        self.namespaces
            .get(number)
            .and_then(|namespace| namespace.as_deref())
    }
}

fn id(metadata: &kube::core::ObjectMeta) -> Option<ObjectId> {
    Some(ObjectId {
        namespace: metadata.namespace.clone()?,
        name: metadata.name.clone()?,
    })
}

fn describe_scope(namespace: Option<&str>) -> String {
    namespace.map_or_else(
        || "all namespaces".into(),
        |name| format!("namespace {name}"),
    )
}

/// Starts the watches of the cluster, which share the event queue and the limit on concurrent first lists.
#[derive(Clone)]
pub(super) struct Starter {
    changes: Sender<Change>,
    lists: Arc<Semaphore>,
    /// Changes each time the API server responds to the leader election after a failure.
    recoveries: watch::Receiver<u64>,
    /// The period over which the restarts of the watches are spread after such a response.
    spread: Duration,
    /// The number of watched namespaces.
    namespaces: usize,
    health: Arc<WatchHealth>,
}

/// The target of a watch.
struct Target {
    /// A phrase that completes the log message "Cannot watch".
    text: String,
    /// Whether upstream's roles do not allow this watch. If so, a failure before the first complete list is logged, but
    /// the watch does not count as failing.
    is_optional: bool,
}

impl Target {
    fn required(text: String) -> Self {
        Self {
            text,
            is_optional: false,
        }
    }

    /// Returns the name of the watch in reports of failing watches: the text up to its first comma.
    fn name(&self) -> String {
        self.text.split(',').next().unwrap_or_default().to_owned()
    }
}

/// Whether a watch continues although the next watch is forbidden.
#[derive(Debug, Clone, Default)]
struct Denial(Arc<AtomicBool>);

impl Denial {
    /// Records that the next watch is forbidden. Returns whether it was allowed before.
    fn record_forbidden(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Records that the next watch is allowed. Returns whether it was forbidden before.
    fn record_allowed(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }

    fn is_active(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Starter {
    /// Starts the watches of the key Secrets, one for each format.
    pub(super) fn watch_keys(&self, connection: &Connection) {
        let namespace = connection.own_namespace.as_str();
        for format in KeyFormat::ALL {
            let kind = match format {
                KeyFormat::Rsa => "key Secrets",
                KeyFormat::V2 => "v2 key Secrets",
            };
            let target = Target::required(format!("the {kind} in {namespace}"));
            let (client, denial) = self.lasting_client(&connection.watches, &target);
            let api = Api::<Readable<Secret>>::namespaced(client, namespace);
            let config = Self::config().labels(&format.selector());
            let change = move |event| Change::Key(format, event);
            self.run(target, denial, watcher(api, config), change, || None, || ());
        }
    }

    /// Returns a client for a watch that continues while the next watch is forbidden, and the flag that shows whether
    /// the next watch is forbidden. With so many namespaces that watches last the maximum duration, returns the client
    /// unchanged: no watch can continue beyond the maximum.
    fn lasting_client(&self, client: &Client, target: &Target) -> (Client, Denial) {
        let denial = Denial::default();
        if watch_seconds(self.namespaces) >= MAX_SECONDS {
            return (client.clone(), denial);
        }
        let periods = Periods {
            allowed: Duration::from_secs(watch_seconds(self.namespaces).into()),
            forbidden: FORBIDDEN_PERIOD,
        };
        let name = target.name();
        let (health, denial_flag) = (Arc::clone(&self.health), denial.clone());
        let report = move |result: Result<(), String>| match result {
            Ok(()) => {
                if denial_flag.record_allowed() {
                    health.record_success(&name);
                }
            }
            Err(error) => {
                if denial_flag.record_forbidden() {
                    warn!(
                        error,
                        "Cannot watch {name} again; the current watch continues until the API server ends it"
                    );
                }
                health.record_failure(&name, Cause::Forbidden, Timestamp::now());
            }
        };
        let client = lasting_watch::client(client.clone(), periods, Arc::new(report));
        (client, denial)
    }

    fn config() -> watcher::Config {
        watcher::Config::default().timeout(MAX_SECONDS)
    }

    fn watch_secrets(&self, number: usize, namespace: Option<&str>, client: &Client) {
        let scope = describe_scope(namespace);
        let target = Target {
            text: format!("Secrets in {scope}, so edits and deletions of them are not corrected"),
            is_optional: true,
        };
        let (client, denial) = self.lasting_client(client, &target);
        let api = match namespace {
            Some(name) => Api::<Readable<PartialObjectMeta<Secret>>>::namespaced(client, name),
            None => Api::all(client),
        };
        self.run(
            target,
            denial,
            watcher(api, Self::config().page_size(SECRETS_PER_PAGE)),
            move |event| Change::Secret(number, event),
            move || Some(Change::SecretsUnwatched(number)),
            || (),
        );
    }

    /// Runs a watch until the controller stops. A watch that failed continues where it stopped, or from a new list,
    /// after a pause from [`WatchRetry`], or at a random time within `spread` after the API server responds to the
    /// leader election again. `denied` returns the change to send when a list is forbidden; `listed` is called once
    /// after the first complete list.
    fn run<K: Debug + Send + 'static>(
        &self,
        target: Target,
        denial: Denial,
        events: impl futures::Stream<Item = Result<Event<K>, WatchError>> + Send + 'static,
        change: impl Fn(Event<K>) -> Change + Send + 'static,
        denied: impl Fn() -> Option<Change> + Send + 'static,
        listed: impl FnOnce() + Send + 'static,
    ) {
        let Self {
            changes,
            lists,
            mut recoveries,
            spread,
            namespaces,
            health,
            ..
        } = self.clone();
        tokio::spawn(async move {
            let mut list_permit = lists.acquire_owned().await.ok();
            let mut events = Box::pin(events);
            let (mut reported, mut listed) = (None, Some(listed));
            let (mut retry, mut pause) = (WatchRetry::new(namespaces), Duration::ZERO);
            let name = target.name();
            loop {
                let next = await_after(pause, spread, &mut recoveries, events.next());
                let report_working = || {
                    if !denial.is_active() {
                        health.record_success(&name);
                    }
                };
                let Some(event) =
                    await_with_notice(next, pause + RECOVERED_AFTER, &report_working).await
                else {
                    break;
                };
                pause = Duration::ZERO;
                let is_listed = matches!(event, Ok(Event::InitDone));
                if is_listed || event.is_err() {
                    list_permit = None;
                }
                let change = match event {
                    Ok(event) => {
                        reported = None;
                        retry.record_event();
                        report_working();
                        Some(change(event))
                    }
                    Err(error) => {
                        log_failure(&target.text, &error, &mut reported);
                        let was_never_listed = target.is_optional && listed.is_some();
                        if !was_never_listed && !is_expired(&error) {
                            health.record_failure(&name, cause(&error), Timestamp::now());
                        }
                        pause = retry.pause(&error, Instant::now(), shared::random::number());
                        denied().filter(|_| is_denial(&error))
                    }
                };
                if let Some(change) = change
                    && changes.send(change).await.is_err()
                {
                    return;
                }
                if let Some(listed) = listed.take_if(|_| is_listed) {
                    listed();
                }
            }
            drop(list_permit);
        });
    }
}

/// Awaits `next` after a pause. If the API server responds to the leader election again, the pause ends after a random
/// part of `spread` instead, if this is earlier.
async fn await_after<T>(
    pause: Duration,
    spread: Duration,
    recoveries: &mut watch::Receiver<u64>,
    next: impl Future<Output = T>,
) -> T {
    if !pause.is_zero() {
        recoveries.mark_unchanged();
        let reachable_again = async {
            if recoveries.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(spread.mul_f64(shared::random::number())).await;
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = reachable_again => {}
        }
    }
    next.await
}

/// Awaits `next`, and calls `notice` once if `next` takes longer than `limit`.
async fn await_with_notice<T>(
    next: impl Future<Output = T>,
    limit: Duration,
    notice: impl Fn(),
) -> T {
    let mut next = std::pin::pin!(next);
    if let Ok(output) = tokio::time::timeout(limit, &mut next).await {
        return output;
    }
    notice();
    next.await
}

/// Returns the duration of one watch in seconds, for the given number of watched namespaces.
pub(super) fn watch_seconds(namespaces: usize) -> u32 {
    let scaled = saturating_u32(namespaces).saturating_mul(MIN_SECONDS) / 100;
    scaled.clamp(MIN_SECONDS, MAX_SECONDS)
}

fn cause(error: &WatchError) -> Cause {
    match error {
        WatchError::InitialListFailed(error)
        | WatchError::WatchStartFailed(error)
        | WatchError::WatchFailed(error) => error.into(),
        WatchError::WatchError(status) => Cause::from_code(status.code),
        WatchError::NoResourceVersion => Cause::Failed,
    }
}

fn saturating_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Logs a failure: at WARN the first time, and at DEBUG while the same error repeats.
fn log_failure(target: &str, error: &WatchError, reported: &mut Option<String>) {
    let text = describe_error(error);
    if reported.as_ref() == Some(&text) {
        debug!(error = text, "Still cannot watch {target}");
    } else {
        warn!(error = text, "Cannot watch {target}");
        *reported = Some(text);
    }
}

fn is_denial(error: &WatchError) -> bool {
    matches!(error, WatchError::InitialListFailed(kube::Error::Api(status)) if status.code == 403)
}

fn describe_error(error: &WatchError) -> String {
    match error {
        WatchError::InitialListFailed(error)
        | WatchError::WatchStartFailed(error)
        | WatchError::WatchFailed(error) => api_response(error),
        WatchError::WatchError(status) => status.message.clone(),
        WatchError::NoResourceVersion => "the API server returned no resourceVersion".into(),
    }
}
