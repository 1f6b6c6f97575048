//! The watches, each a task that sends what it sees; what a complete list lacks is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use controller_core::object_id::ObjectId;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::runtime::watcher::{Error as WatchError, Event};
use kube::{Api, Client};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::connection::Connection;
use super::watch_retry::{WatchRetry, is_expired};
use crate::args::ClusterConfig;
use crate::cluster_keys;
use crate::store::api_answer;
use crate::store::cluster::{ClusterStore, sealed_secrets};
use crate::watch_health::{Cause, WatchHealth};

/// What a watch saw. The number is that of the namespace in the list of those watched.
#[derive(Debug)]
pub(super) enum Change {
    Key(Event<Secret>),
    Sealed(usize, Event<DynamicObject>),
    Secret(usize, Event<PartialObjectMeta<Secret>>),
    /// Secrets of that namespace are not told of, for now or for ever.
    Unseen(usize),
    /// SealedSecrets of that namespace may not be seen: it is not there yet, or not ours to see.
    Denied(usize),
}

/// What has been listed in each watched namespace.
#[derive(Debug)]
pub(super) struct Watches {
    /// `None` stands for all.
    namespaces: Vec<Option<String>>,
    sealed: BTreeMap<usize, BTreeSet<ObjectId>>,
    secrets: BTreeMap<usize, BTreeSet<ObjectId>>,
    complete: BTreeSet<usize>,
    /// Where Secrets were listed, or never will be.
    seen: BTreeSet<usize>,
    /// Objects that need not be looked at closely if their Secret is the one on record, until it is
    /// known which Secrets there are.
    waiting: BTreeMap<usize, Vec<ObjectId>>,
}

/// Lists at once: a thousand namespaces would ask the API server for all of theirs together.
const LISTS: usize = 32;
/// Time between two watches that start again, on average, when the API server is reached after an outage.
const BETWEEN_RESTARTS: Duration = Duration::from_millis(4);
/// A watch that says nothing for so long after a failure works again: a connection fails sooner, and one that is
/// established has nothing to say while nothing changes.
const WORKS_AGAIN: Duration = Duration::from_secs(15);
/// A watch is begun again after so many seconds, whereupon the API server looks at the rights anew. With many namespaces
/// the time is longer, up to what the API server allows, so that not all of its work is this.
const SECONDS: u32 = 60;
const MOST_SECONDS: u32 = 290;
/// Objects of one page: so many are in memory at once. Annotations may have 256 KiB each, a SealedSecret 1.5 MiB.
const PAGE: u32 = 100;
const PAGE_OF_SEALED: u32 = 50;

impl Watches {
    pub(super) fn new(namespaces: Vec<Option<String>>, watches_secrets: bool) -> Self {
        let unseen = if watches_secrets { 0 } else { namespaces.len() };
        Self {
            seen: (0..unseen).collect(),
            waiting: BTreeMap::new(),
            namespaces,
            sealed: BTreeMap::new(),
            secrets: BTreeMap::new(),
            complete: BTreeSet::new(),
        }
    }

    /// Begins to watch. A namespace that does not exist yet is seen when it appears. Secrets are
    /// watched as soon as the SealedSecrets of their namespace are known, so that nothing has to be
    /// kept of the Secrets of others.
    pub(super) fn start(
        &self,
        connection: &Connection,
        place: &ClusterConfig,
        changes: &Sender<Change>,
        reached: watch::Receiver<u64>,
        health: Arc<WatchHealth>,
    ) {
        let (client, own) = (&connection.watches, connection.own_namespace.as_str());
        let begin = Begin {
            changes: changes.clone(),
            lists: Arc::new(Semaphore::new(LISTS)),
            reached,
            spread: BETWEEN_RESTARTS.saturating_mul(clamped(self.namespaces.len())),
            namespaces: self.namespaces.len(),
            health,
        };
        let keys = Api::<Secret>::namespaced(client.clone(), own);
        let labelled = begin.config().labels(&cluster_keys::selector());
        let what = format!("the key Secrets in {own}");
        let what = What {
            text: what,
            is_optional: false,
        };
        begin.run(what, watcher(keys, labelled), Change::Key, || None, || ());
        for (number, namespace) in self.namespaces.iter().enumerate() {
            let place_of = place_of(namespace.as_deref());
            let sealed = sealed_secrets(client.clone(), namespace.as_deref());
            let chosen = watcher::Config {
                label_selector: place.label_selector.clone(),
                ..begin.config().page_size(PAGE_OF_SEALED)
            };
            let (secrets, watches_secrets) = (begin.clone(), place.watches_secrets);
            let (client, namespace) = (client.clone(), namespace.clone());
            begin.run(
                What {
                    text: format!("SealedSecrets in {place_of}"),
                    is_optional: false,
                },
                watcher(sealed, chosen),
                move |event| Change::Sealed(number, event),
                move || Some(Change::Denied(number)),
                move || {
                    if watches_secrets {
                        secrets.watch_secrets(number, namespace.as_deref(), client);
                    }
                },
            );
        }
    }

    /// Has each namespace been listed once? One that may not be seen counts too, for it may never
    /// be; the first, which is our own or stands for all, does not.
    pub(super) fn are_complete(&self) -> bool {
        self.complete.len() == self.namespaces.len()
    }

    /// Takes note of a namespace that may not be seen.
    pub(super) fn denied(&mut self, number: usize) {
        if number > 0 {
            self.complete.insert(number);
        }
    }

    /// The objects to look at.
    pub(super) fn sealed(
        &mut self,
        number: usize,
        event: Event<DynamicObject>,
        store: &ClusterStore,
    ) -> Vec<ObjectId> {
        let listed = self.sealed.entry(number).or_default();
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.extend(id(&object.metadata));
                let taken = store.take(object);
                return taken
                    .filter(|id| !self.waits(number, id, store))
                    .into_iter()
                    .collect();
            }
            Event::InitDone => {
                let listed = self.sealed.remove(&number).unwrap_or_default();
                self.complete.insert(number);
                return store.lose_all_but(self.namespace(number), &listed);
            }
            Event::Apply(object) => return store.take(object).into_iter().collect(),
            Event::Delete(object) => return store.lose(&object).into_iter().collect(),
        }
        Vec::new()
    }

    /// The objects to look at.
    pub(super) fn secret(
        &mut self,
        number: usize,
        event: Event<PartialObjectMeta<Secret>>,
        store: &ClusterStore,
    ) -> Vec<ObjectId> {
        let listed = self.secrets.entry(number).or_default();
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(secret) => {
                let ours = id(&secret.metadata).filter(|id| store.has(id));
                listed.extend(ours);
                return store.take_secret(&secret).into_iter().collect();
            }
            Event::InitDone => {
                let listed = self.secrets.remove(&number).unwrap_or_default();
                let mut due = store.without_secret(self.namespace(number), &listed);
                due.extend(self.unseen(number));
                return due;
            }
            Event::Apply(secret) => return store.take_secret(&secret).into_iter().collect(),
            Event::Delete(secret) => return store.lose_secret(&secret).into_iter().collect(),
        }
        Vec::new()
    }

    /// Nothing is to be learnt of Secrets there: the objects that waited for it.
    pub(super) fn unseen(&mut self, number: usize) -> Vec<ObjectId> {
        self.seen.insert(number);
        self.waiting.remove(&number).unwrap_or_default()
    }

    fn waits(&mut self, number: usize, id: &ObjectId, store: &ClusterStore) -> bool {
        let waits = !self.seen.contains(&number) && store.may_be_recognised(id);
        if waits {
            self.waiting.entry(number).or_default().push(id.clone());
        }
        waits
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

fn place_of(namespace: Option<&str>) -> String {
    namespace.map_or_else(
        || "all namespaces".into(),
        |name| format!("namespace {name}"),
    )
}

/// How watches are begun.
#[derive(Clone)]
struct Begin {
    changes: Sender<Change>,
    lists: Arc<Semaphore>,
    /// Changes when the API server answers again after a failure.
    reached: watch::Receiver<u64>,
    /// The watches start again within this time then, not all at once.
    spread: Duration,
    /// How many are watched.
    namespaces: usize,
    health: Arc<WatchHealth>,
}

/// What is watched.
struct What {
    /// As it stands after "Cannot watch".
    text: String,
    /// The roles of upstream do not allow it, so that it is no failure if it was never possible.
    is_optional: bool,
}

impl Begin {
    fn config(&self) -> watcher::Config {
        watcher::Config::default().timeout(seconds(self.namespaces))
    }

    fn watch_secrets(&self, number: usize, namespace: Option<&str>, client: Client) {
        let secrets = match namespace {
            Some(name) => Api::<PartialObjectMeta<Secret>>::namespaced(client, name),
            None => Api::all(client),
        };
        let place_of = place_of(namespace);
        self.run(
            What {
                text: format!(
                    "Secrets in {place_of}, so those that others edit or delete are not put right"
                ),
                is_optional: true,
            },
            watcher(secrets, self.config().page_size(PAGE)),
            move |event| Change::Secret(number, event),
            move || Some(Change::Unseen(number)),
            || (),
        );
    }

    /// Watches for ever: a watch that failed continues from where it broke off, or from a new list, after a
    /// pause that [`WatchRetry`] gives, or as soon as the API server is reached by other means. `denied` makes what is to be told when the first list fails, `listed` is called once
    /// after the first one that is complete.
    fn run<K: Debug + Send + 'static>(
        &self,
        what: What,
        events: impl futures::Stream<Item = Result<Event<K>, WatchError>> + Send + 'static,
        change: impl Fn(Event<K>) -> Change + Send + 'static,
        denied: impl Fn() -> Option<Change> + Send + 'static,
        listed: impl FnOnce() + Send + 'static,
    ) {
        let Self {
            changes,
            lists,
            mut reached,
            spread,
            namespaces,
            health,
            ..
        } = self.clone();
        tokio::spawn(async move {
            let mut turn = lists.acquire_owned().await.ok();
            let mut events = Box::pin(events);
            let (mut told, mut listed) = (None, Some(listed));
            let (mut retry, mut pause) = (WatchRetry::of(namespaces), Duration::ZERO);
            let name = what.text.split(',').next().unwrap_or_default().to_owned();
            loop {
                let next = after(pause, spread, &mut reached, events.next());
                let works = || {
                    health.works(&name);
                };
                let Some(event) = noticing(next, pause + WORKS_AGAIN, works).await else {
                    break;
                };
                pause = Duration::ZERO;
                let is_listed = matches!(event, Ok(Event::InitDone));
                if is_listed || event.is_err() {
                    turn = None;
                }
                let change = match event {
                    Ok(event) => {
                        told = None;
                        retry.works();
                        health.works(&name);
                        Some(change(event))
                    }
                    Err(error) => {
                        tell(&what.text, &error, &mut told);
                        let was_never_served = what.is_optional && listed.is_some();
                        if !was_never_served && !is_expired(&error) {
                            health.fails(&name, cause(&error), Timestamp::now());
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
            drop(turn);
        });
    }
}

/// Awaits `next` after a pause, which ends early, at a random point of `spread`, when the API server is reached.
async fn after<T>(
    pause: Duration,
    spread: Duration,
    reached: &mut watch::Receiver<u64>,
    next: impl Future<Output = T>,
) -> T {
    if !pause.is_zero() {
        reached.mark_unchanged();
        let early = async {
            if reached.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(spread.mul_f64(shared::random::number())).await;
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = early => {}
        }
    }
    next.await
}

/// Awaits `next`, and calls `quiet` once if that takes longer than `patience`.
async fn noticing<T>(next: impl Future<Output = T>, patience: Duration, quiet: impl Fn()) -> T {
    let mut next = std::pin::pin!(next);
    if let Ok(done) = tokio::time::timeout(patience, &mut next).await {
        return done;
    }
    quiet();
    next.await
}

/// How long one watch lasts, of so many namespaces.
pub(super) fn seconds(namespaces: usize) -> u32 {
    let longer = clamped(namespaces).saturating_mul(SECONDS) / 100;
    longer.clamp(SECONDS, MOST_SECONDS)
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

fn clamped(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Once for each kind of trouble in a row.
fn tell(what: &str, error: &WatchError, told: &mut Option<String>) {
    let text = answer(error);
    if told.as_ref() == Some(&text) {
        debug!(error = text, "Still cannot watch {what}");
    } else {
        warn!(error = text, "Cannot watch {what}");
        *told = Some(text);
    }
}

fn is_denial(error: &WatchError) -> bool {
    matches!(error, WatchError::InitialListFailed(kube::Error::Api(status)) if status.code == 403)
}

fn answer(error: &WatchError) -> String {
    match error {
        WatchError::InitialListFailed(error)
        | WatchError::WatchStartFailed(error)
        | WatchError::WatchFailed(error) => api_answer(error),
        WatchError::WatchError(status) => status.message.clone(),
        WatchError::NoResourceVersion => "the API server gave no resourceVersion".into(),
    }
}
