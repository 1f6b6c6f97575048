//! Applies the events of the watches, and does what is due while this replica is the leader.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::runtime::watcher::Event as WatchEvent;
use lease::{Role, WriteLease};
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::compact::Compact;
use super::metrics::Metrics;
use super::requests::{self, Event, Touch};
use super::watches::{Change, Message};
use crate::decide::{Decision, Target};
use crate::refresh;
use crate::sealed::Sealed;
use crate::state::{Outcome, SecretId, State, Step};
use crate::workload::{Id, Kind, Workload};

/// The longest pause between two steps.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The pause after a failed request.
const RETRY_PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// The pause after a conflict: the next event brings the newer version.
const CONFLICT_PAUSE: SignedDuration = SignedDuration::from_millis(500);

const RESTARTED: Event = Event {
    is_warning: false,
    reason: "Restarted",
    message: "restarted, because the content of a Secret changed",
};
const REVERTED: Event = Event {
    is_warning: true,
    reason: "RestartReverted",
    message: "another client removed sealedsecrets.bitnami.com/restarted-for from the Pod template twice; some Pods still \
              have an earlier content of a Secret",
};

/// The part of a replica that acts.
pub(super) struct Worker {
    pub(super) client: Client,
    pub(super) state: State,
    pub(super) messages: Receiver<Message>,
    pub(super) write_lease: Arc<WriteLease>,
    pub(super) role: watch::Receiver<Role>,
    pub(super) metrics: Arc<Metrics>,
    /// Time between two refreshes of Pods.
    pub(super) refresh_interval: Duration,
    pub(super) lists: Lists,
    pub(super) touches: VecDeque<Touch>,
    pub(super) next_touch: Instant,
}

/// The lists that are not complete yet, by the number of the watch.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Whether actions wait for the first list.
    required: Vec<bool>,
    complete: BTreeSet<usize>,
    secrets: BTreeMap<usize, BTreeSet<SecretId>>,
    workloads: BTreeMap<usize, BTreeSet<Id>>,
}

impl Lists {
    pub(super) fn new(required: Vec<bool>) -> Self {
        Self {
            required,
            ..Self::default()
        }
    }

    fn are_complete(&self) -> bool {
        self.complete.len() == self.required.len()
    }

    /// Records that a watch fails. Only a required one delays the start.
    fn record_failure(&mut self, watch: usize) {
        if self.required.get(watch) == Some(&false) {
            self.complete.insert(watch);
        }
    }
}

impl Worker {
    /// Works until the future is dropped, or until the watches have ended.
    pub(super) async fn run(&mut self) {
        loop {
            let pause = self.step().await;
            tokio::select! {
                biased;
                message = self.messages.recv() => match message {
                    Some(message) => self.apply(message),
                    None => return,
                },
                _ = self.role.changed() => {}
                () = sleep(pause) => {}
            }
            while let Ok(message) = self.messages.try_recv() {
                self.apply(message);
            }
            self.update_metrics();
        }
    }

    fn update_metrics(&self) {
        let (workloads, waiting) = self.state.counts();
        self.metrics.workloads.set(workloads);
        self.metrics.waiting.set(waiting);
        self.metrics.is_leader.set(usize::from(self.may_write()));
        if self.lists.are_complete() {
            self.metrics.set_ready();
        }
    }

    fn may_write(&self) -> bool {
        *self.role.borrow() == Role::Leader && self.write_lease.is_valid()
    }

    /// Does one step, if this replica may write. Returns the pause before the next one.
    async fn step(&mut self) -> Duration {
        if !self.lists.are_complete() || !self.may_write() {
            return MAX_PAUSE;
        }
        if !self.touches.is_empty() && self.next_touch <= Instant::now() {
            self.touch().await;
            return Duration::ZERO;
        }
        let now = Timestamp::now();
        match self.state.next(now) {
            Step::Refresh(id) => self.find_pods_to_refresh(id, now).await,
            Step::Consider(namespace) => self.consider(&namespace, now).await,
            Step::Idle(next) => return self.pause(next, now),
        }
        Duration::ZERO
    }

    fn pause(&self, next: Option<Timestamp>, now: Timestamp) -> Duration {
        let until =
            next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
        let pause = until.unwrap_or(MAX_PAUSE).min(MAX_PAUSE);
        if self.touches.is_empty() {
            return pause;
        }
        pause.min(self.next_touch.duration_since(Instant::now()))
    }

    async fn find_pods_to_refresh(&mut self, id: SecretId, now: Timestamp) {
        let Some(history) = self.state.take_refresh(&id, now) else {
            return;
        };
        match requests::list_pods(&self.client, &id.0).await {
            Ok(pods) => {
                let version = history.newest().map(|newest| newest.version.to_string());
                let chosen = refresh::choose(&pods, &id.1, &history);
                let touches = chosen.into_iter().map(|pod| Touch {
                    namespace: pod.namespace.clone(),
                    name: pod.name.clone(),
                    uid: pod.uid.clone(),
                    version: version.clone().unwrap_or_default(),
                });
                self.touches.extend(touches);
            }
            Err(failure) => {
                self.record_failure("Cannot list Pods", &failure);
                self.state.retry_refresh(id);
                sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn touch(&mut self) {
        self.next_touch = Instant::now() + self.refresh_interval;
        let Some(touch) = self.touches.pop_front() else {
            return;
        };
        match requests::refresh(&self.client, &touch).await {
            Ok(()) => {
                self.metrics.refreshes.increment();
                debug!(namespace = touch.namespace, pod = touch.name, "Refreshed");
            }
            Err(failure) if failure.is_outdated() => {}
            Err(failure) => self.record_failure("Cannot refresh a Pod", &failure),
        }
    }

    async fn consider(&mut self, namespace: &str, now: Timestamp) {
        let pods = if self.state.needs_pods(namespace, now) {
            match requests::list_pods(&self.client, namespace).await {
                Ok(pods) => pods,
                Err(failure) => {
                    self.record_failure("Cannot list Pods", &failure);
                    let retry_at = now.checked_add(RETRY_PAUSE).unwrap_or(now);
                    return self.state.postpone(namespace, now, retry_at);
                }
            }
        } else {
            Vec::new()
        };
        for Outcome { id, decision } in self.state.consider(namespace, &pods, now) {
            match decision {
                Decision::Restart(target) => self.restart(&id, target).await,
                Decision::Reverted => self.report_reverted(&id).await,
                Decision::Blocked(obstacle) => {
                    info!(workload = %id, "Not restarted: {obstacle}");
                }
                Decision::UpToDate | Decision::Wait(..) => {}
            }
        }
    }

    async fn restart(&mut self, id: &Id, target: Target) {
        let Some(workload) = self.state.workload(id).cloned() else {
            return;
        };
        let result = if self.may_write() {
            requests::restart(&self.client, id, &workload, &target).await
        } else {
            return;
        };
        let now = Timestamp::now();
        match result {
            Ok(updated) => {
                self.metrics.restarts.increment();
                info!(workload = %id, "Restarted");
                self.state.record_restart(id, target, updated, now);
                self.report(id, &workload.uid, RESTARTED).await;
            }
            Err(failure) => {
                let is_outdated = failure.is_outdated();
                if !is_outdated {
                    self.record_failure("Cannot restart a workload", &failure);
                }
                let pause = if is_outdated {
                    CONFLICT_PAUSE
                } else {
                    RETRY_PAUSE
                };
                self.state
                    .record_failure(id, now.checked_add(pause).unwrap_or(now));
            }
        }
    }

    async fn report_reverted(&mut self, id: &Id) {
        self.metrics.reverted.increment();
        warn!(workload = %id, "Another client reverted the restart twice");
        if let Some(uid) = self.state.workload(id).map(|workload| workload.uid.clone()) {
            self.report(id, &uid, REVERTED).await;
        }
    }

    /// Writes an event. A failure is only logged.
    async fn report(&self, id: &Id, uid: &str, event: Event) {
        if let Err(failure) = requests::report(&self.client, id, uid, event, Timestamp::now()).await
        {
            debug!(error = failure.text(), "Cannot write an event");
        }
    }

    fn record_failure(&self, message: &str, failure: &requests::Failure) {
        self.metrics.failures.increment();
        warn!(error = failure.text(), "{message}; retrying");
    }

    fn apply(&mut self, message: Message) {
        let now = Timestamp::now();
        let Message {
            watch,
            namespace,
            change,
        } = message;
        match change {
            Change::Sealed(event) => self.apply_sealed(watch, namespace.as_deref(), event, now),
            Change::Workload(kind, event) => {
                self.apply_workload(watch, (kind, namespace.as_deref()), event, now);
            }
            Change::Namespace(event) => match event {
                WatchEvent::Apply(object) | WatchEvent::InitApply(object) => {
                    self.state.apply_namespace(&object.name(), object.form, now);
                }
                WatchEvent::Delete(object) => self.state.delete_namespace(&object.name()),
                WatchEvent::Init => {}
                WatchEvent::InitDone => {
                    self.lists.complete.insert(watch);
                }
            },
            Change::Failed => self.lists.record_failure(watch),
        }
    }

    fn apply_sealed(
        &mut self,
        watch: usize,
        namespace: Option<&str>,
        event: WatchEvent<Compact<Sealed>>,
        now: Timestamp,
    ) {
        let listed = self.lists.secrets.entry(watch).or_default();
        match event {
            WatchEvent::Init => listed.clear(),
            WatchEvent::InitApply(object) => {
                let id = (object.namespace(), object.name());
                self.state.apply_secret(&id, object.form, now);
                listed.insert(id);
            }
            WatchEvent::InitDone => {
                let listed = self.lists.secrets.remove(&watch).unwrap_or_default();
                self.state.retain_secrets(namespace, &listed);
                self.lists.complete.insert(watch);
            }
            WatchEvent::Apply(object) => {
                let id = (object.namespace(), object.name());
                self.state.apply_secret(&id, object.form, now);
            }
            WatchEvent::Delete(object) => {
                self.state
                    .delete_secret(&(object.namespace(), object.name()));
            }
        }
    }

    fn apply_workload(
        &mut self,
        watch: usize,
        (kind, namespace): (Kind, Option<&str>),
        event: WatchEvent<Compact<Workload>>,
        now: Timestamp,
    ) {
        let id = |object: &Compact<Workload>| Id {
            namespace: object.namespace(),
            kind,
            name: object.name(),
        };
        let listed = self.lists.workloads.entry(watch).or_default();
        match event {
            WatchEvent::Init => listed.clear(),
            WatchEvent::InitApply(object) => {
                let id = id(&object);
                if self.state.apply_workload(&id, object.form, now) {
                    listed.insert(id);
                }
            }
            WatchEvent::InitDone => {
                let listed = self.lists.workloads.remove(&watch).unwrap_or_default();
                self.state.retain_workloads(kind, namespace, &listed);
                self.lists.complete.insert(watch);
            }
            WatchEvent::Apply(object) => {
                self.state.apply_workload(&id(&object), object.form, now);
            }
            WatchEvent::Delete(object) => self.state.delete_workload(&id(&object)),
        }
    }
}
