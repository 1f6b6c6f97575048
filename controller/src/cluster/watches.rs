//! The watches, each a task that sends what it sees; what a complete list lacks is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{Error as WatchError, Event};
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::mpsc::Sender;
use tracing::{debug, warn};

use super::connection::Connection;
use crate::args::ClusterConfig;
use crate::cluster_keys;
use crate::store::cluster::{ClusterStore, sealed_secrets};
use crate::store::{ObjectId, api_answer};

/// What a watch saw. The number is that of the namespace in the list of those watched.
#[derive(Debug)]
pub(super) enum Change {
    Key(Event<Secret>),
    Sealed(usize, Event<DynamicObject>),
    Secret(usize, Event<PartialObjectMeta<Secret>>),
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
}

impl Watches {
    pub(super) fn new(namespaces: Vec<Option<String>>) -> Self {
        Self {
            namespaces,
            sealed: BTreeMap::new(),
            secrets: BTreeMap::new(),
            complete: BTreeSet::new(),
        }
    }

    /// Begins to watch. A namespace that does not exist yet is seen when it appears.
    pub(super) fn start(
        &self,
        connection: &Connection,
        place: &ClusterConfig,
        changes: &Sender<Change>,
    ) {
        let (client, own) = (&connection.watches, connection.own_namespace.as_str());
        let keys = Api::<Secret>::namespaced(client.clone(), own);
        let labelled = watcher::Config::default().labels(&cluster_keys::selector());
        let what = format!("the key Secrets in {own}");
        run(
            what,
            watcher(keys, labelled),
            Change::Key,
            || None,
            changes.clone(),
        );
        for (number, namespace) in self.namespaces.iter().enumerate() {
            let (name, place_of) = (namespace.as_deref(), place_of(namespace.as_deref()));
            let sealed = sealed_secrets(client.clone(), name);
            let chosen = watcher::Config {
                label_selector: place.label_selector.clone(),
                ..watcher::Config::default()
            };
            let change = move |event| Change::Sealed(number, event);
            let what = format!("SealedSecrets in {place_of}");
            let denied = move || Some(Change::Denied(number));
            run(
                what,
                watcher(sealed, chosen),
                change,
                denied,
                changes.clone(),
            );
            if place.watches_secrets {
                let secrets = match name {
                    Some(name) => {
                        Api::<PartialObjectMeta<Secret>>::namespaced(client.clone(), name)
                    }
                    None => Api::all(client.clone()),
                };
                let change = move |event| Change::Secret(number, event);
                let what = format!(
                    "Secrets in {place_of}, so those that others edit or delete are not put right"
                );
                run(
                    what,
                    watcher(secrets, watcher::Config::default()),
                    change,
                    || None,
                    changes.clone(),
                );
            }
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
                return store.take(object).into_iter().collect();
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
                listed.extend(id(&secret.metadata));
                return store.take_secret(&secret).into_iter().collect();
            }
            Event::InitDone => {
                let listed = self.secrets.remove(&number).unwrap_or_default();
                return store.without_secret(self.namespace(number), &listed);
            }
            Event::Apply(secret) => return store.take_secret(&secret).into_iter().collect(),
            Event::Delete(secret) => return store.lose_secret(&secret).into_iter().collect(),
        }
        Vec::new()
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

/// Watches for ever: what breaks is begun again, ever more slowly, from where it broke off or from a
/// new list.
fn run<K: Debug + Send + 'static>(
    what: String,
    events: impl futures::Stream<Item = Result<Event<K>, WatchError>> + Send + 'static,
    change: impl Fn(Event<K>) -> Change + Send + 'static,
    denied: impl Fn() -> Option<Change> + Send + 'static,
    changes: Sender<Change>,
) {
    tokio::spawn(async move {
        let mut events = Box::pin(events.default_backoff());
        let mut told = None;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    told = None;
                    if changes.send(change(event)).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tell(&what, &error, &mut told);
                    if let Some(change) = denied().filter(|_| is_denial(&error))
                        && changes.send(change).await.is_err()
                    {
                        return;
                    }
                }
            }
        }
    });
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
