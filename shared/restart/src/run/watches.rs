//! Watches of SealedSecrets, workloads and Namespaces, each in a task that sends events.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt as _;
use kube::core::ApiResource;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use lease::api_response;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::compact::{CompactObject, Form, WorkloadOfKind, resource, workloads};
use super::connection::WATCH_SECONDS;
use crate::sealed::{Namespace, Sealed};
use crate::workload::{Kind, Workload};

/// The number of objects in one page of a list. A complete page is in memory; an object usually takes less than 20 KB,
/// and at most 1.5 MB.
const PER_PAGE: u32 = 20;
/// Minimum pause after a failure of a watch.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// Maximum pause of a watch that restarts and refreshes depend on, so that they resume soon after an outage.
const MAX_PAUSE: Duration = Duration::from_secs(8);
/// Maximum pause of an optional watch, whose resource may be missing or forbidden.
const MAX_OPTIONAL_PAUSE: Duration = Duration::from_mins(1);

/// An event of a watch.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the queue is short, and each event is moved only once"
)]
pub(super) enum Change {
    Sealed(Event<CompactObject<Sealed>>),
    Namespace(Event<CompactObject<Namespace>>),
    Workload(Kind, Event<CompactObject<Workload>>),
    /// The watch failed.
    Failed,
}

/// An event, and the watch that sent it.
#[derive(Debug)]
pub(super) struct Message {
    /// The index of the watch.
    pub(super) watch: usize,
    /// The namespace of the watch; `None` for all.
    pub(super) namespace: Option<String>,
    pub(super) change: Change,
}

/// The tasks of the running watches, and which of them are required.
pub(super) struct Watches {
    tasks: JoinSet<()>,
    /// For each watch, whether restarts and refreshes wait for its first list even if the watch fails.
    pub(super) are_required: Vec<bool>,
}

impl Watches {
    /// Starts the watches in these namespaces, or in all namespaces if the list is empty.
    pub(super) fn start(
        client: &Client,
        namespaces: &[String],
        messages: &Sender<Message>,
    ) -> Self {
        let mut starter = Starter {
            client: client.clone(),
            messages: messages.clone(),
            watches: Self {
                tasks: JoinSet::new(),
                are_required: Vec::new(),
            },
        };
        let all: Vec<Option<String>> = namespaces.iter().cloned().map(Some).collect();
        let scopes = if all.is_empty() { vec![None] } else { all };
        for namespace in &scopes {
            starter.watch_sealed_secrets(namespace.as_ref());
            starter.watch_workloads::<0>(namespace.as_ref());
            starter.watch_workloads::<1>(namespace.as_ref());
            starter.watch_workloads::<2>(namespace.as_ref());
            starter.watch_workloads::<3>(namespace.as_ref());
        }
        starter.watch_namespaces();
        starter.watches
    }

    /// Waits until the task of a watch ends. A task ends only when the receiver of its messages is dropped.
    pub(super) async fn wait(&mut self) {
        self.tasks.join_next().await;
    }
}

struct Starter {
    client: Client,
    messages: Sender<Message>,
    watches: Watches,
}

impl Starter {
    fn watch_sealed_secrets(&mut self, namespace: Option<&String>) {
        let resource = resource("bitnami.com", "v1alpha1", "SealedSecret", "sealedsecrets");
        self.watch(&resource, namespace, true, Change::Sealed);
    }

    fn watch_namespaces(&mut self) {
        let resource = resource("", "v1", "Namespace", "namespaces");
        self.watch(&resource, None, false, Change::Namespace);
    }

    /// Watches workloads. Rollouts are served only where Argo Rollouts is installed.
    fn watch_workloads<const KIND: usize>(&mut self, namespace: Option<&String>) {
        let kind = Kind::ALL[KIND];
        let is_required = kind != Kind::Rollout;
        let to_change = move |event: Event<CompactObject<WorkloadOfKind<KIND>>>| {
            Change::Workload(kind, to_workload_event(event))
        };
        self.watch(&workloads(kind), namespace, is_required, to_change);
    }

    fn watch<F: Form>(
        &mut self,
        resource: &ApiResource,
        namespace: Option<&String>,
        is_required: bool,
        to_change: impl Fn(Event<CompactObject<F>>) -> Change + Send + 'static,
    ) {
        let api: Api<CompactObject<F>> = match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        };
        let config = watcher::Config::default()
            .page_size(PER_PAGE)
            .timeout(WATCH_SECONDS);
        let (messages, namespace) = (self.messages.clone(), namespace.cloned());
        let (watch, resource_name) = (self.watches.are_required.len(), resource.plural.clone());
        self.watches.are_required.push(is_required);
        let events = watcher(api, config);
        let sending = async move {
            let mut events = pin!(events);
            let mut pause = Duration::ZERO;
            while let Some(event) = events.next().await {
                let is_first_failure = pause.is_zero();
                pause = next_pause(pause, &event, is_required);
                let is_failure = event.is_err();
                let change = event.map_or_else(
                    |error| {
                        log(&resource_name, &error, is_required && is_first_failure);
                        Change::Failed
                    },
                    &to_change,
                );
                let namespace = namespace.clone();
                let message = Message {
                    watch,
                    namespace,
                    change,
                };
                if messages.send(message).await.is_err() {
                    return;
                }
                if is_failure {
                    sleep(pause).await;
                }
            }
        };
        self.watches.tasks.spawn(sending);
    }
}

/// Returns the pause before the next attempt after this event; zero while the watch works. Only an object or the end of
/// a list shows that the watch works, because the watcher announces a list before it requests the list: if the
/// announcement counted, a resource that is not installed would be requested every second.
fn next_pause<F>(
    pause: Duration,
    event: &Result<Event<F>, watcher::Error>,
    is_required: bool,
) -> Duration {
    let max = if is_required {
        MAX_PAUSE
    } else {
        MAX_OPTIONAL_PAUSE
    };
    match event {
        Err(_) => (pause * 2).clamp(MIN_PAUSE, max),
        Ok(Event::Init) => pause,
        Ok(Event::InitApply(_) | Event::InitDone | Event::Apply(_) | Event::Delete(_)) => {
            Duration::ZERO
        }
    }
}

fn to_workload_event<const KIND: usize>(
    event: Event<CompactObject<WorkloadOfKind<KIND>>>,
) -> Event<CompactObject<Workload>> {
    let map = |object: CompactObject<WorkloadOfKind<KIND>>| {
        object.map(|WorkloadOfKind(workload)| workload)
    };
    match event {
        Event::Apply(object) => Event::Apply(map(object)),
        Event::Delete(object) => Event::Delete(map(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(map(object)),
        Event::InitDone => Event::InitDone,
    }
}

fn log(resource_name: &str, error: &watcher::Error, is_new: bool) {
    let text = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => api_response(error),
        watcher::Error::WatchError(status) => shared::visible_line(&status.message).into_owned(),
        watcher::Error::NoResourceVersion => "the list has no resourceVersion".into(),
    };
    if is_new {
        warn!(error = text, "Cannot watch {resource_name}; retrying");
    } else {
        debug!(error = text, "Cannot watch {resource_name}; retrying");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_until_the_watch_works() {
        let failure = || Err(watcher::Error::NoResourceVersion);
        let seconds = |pause: Duration| pause.as_secs();
        for (is_required, want) in [
            (true, [1, 2, 4, 8, 8, 8, 8, 8]),
            (false, [1, 2, 4, 8, 16, 32, 60, 60]),
        ] {
            let (mut pause, mut pauses) = (Duration::ZERO, Vec::new());
            for _ in 0..8 {
                pause = next_pause::<()>(pause, &Ok(Event::Init), is_required);
                pause = next_pause::<()>(pause, &failure(), is_required);
                pauses.push(seconds(pause));
            }
            assert_eq!(pauses, want, "{is_required}");
        }
        for event in [
            Event::InitApply(()),
            Event::InitDone,
            Event::Apply(()),
            Event::Delete(()),
        ] {
            assert_eq!(seconds(next_pause(MIN_PAUSE, &Ok(event), true)), 0);
        }
    }
}
