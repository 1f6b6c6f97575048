//! Applies the events of the watches and, while this replica is the leader, does the work that is due.

use std::collections::{BTreeMap, BTreeSet};
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

use super::compact::CompactObject;
use super::metrics::Metrics;
use super::requests::{self, Event};
use super::watches::{Change, Message};
use crate::annotations::{MAX_NAMES, MAX_PATTERNS};
use crate::consumption::MAX_USES;
use crate::decide::{Decision, Target};
use crate::pod::Pod;
use crate::refresh;
use crate::refresh_queue::RefreshQueue;
use crate::sealed::Sealed;
use crate::state::{Outcome, SecretId, State, Step};
use crate::turns::Work;
use crate::workload::{Id, Kind, Workload};

/// The longest pause between two steps.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// The pause after a failed restart, or after a failed list of the Pods of due workloads.
const RETRY_PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// The pause after a failed list of the Pods to refresh.
const LIST_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// How long a list may wait for its next page. After this time the list restarts, since its first pages are outdated.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The pause after a conflict; the newer version usually arrives earlier, as an event.
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
              use earlier content of a Secret",
};

/// Writes restarts, refreshes and events.
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
    pub(super) refresh_queue: RefreshQueue,
    pub(super) next_refresh: Instant,
    /// The incomplete lists of Pods, by namespace and kind of work.
    pub(super) listings: BTreeMap<(String, Work), Listing>,
}

/// A partial list of Pods. Between its pages, the worker does the work of other namespaces.
#[derive(Debug)]
pub(super) struct Listing {
    pods: Vec<Pod>,
    token: String,
    /// When the first page was requested.
    started: Timestamp,
    read_at: Instant,
}

/// Which first lists are complete, and the objects of incomplete lists, by index of the watch.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// For each watch, whether restarts and refreshes wait for its first list even if the watch fails.
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

    /// Records that a watch fails. The first list of a failing optional watch is not waited for.
    fn record_failure(&mut self, watch: usize) {
        if self.required.get(watch) == Some(&false) {
            self.complete.insert(watch);
        }
    }
}

impl Worker {
    /// Runs until the future is dropped or the watches have ended.
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
        self.metrics.workloads.set(workloads as u64);
        self.metrics.waiting.set(waiting as u64);
        self.metrics.is_leader.set(self.may_write().into());
        if self.lists.are_complete() {
            self.metrics.set_ready();
        }
    }

    fn may_write(&self) -> bool {
        *self.role.borrow() == Role::Leader && self.write_lease.is_valid()
    }

    /// Does one step, if the first lists are complete and this replica may write. Returns the pause before the next
    /// step.
    async fn step(&mut self) -> Duration {
        if !self.lists.are_complete() || !self.may_write() {
            return MAX_PAUSE;
        }
        if !self.refresh_queue.is_empty() && self.next_refresh <= Instant::now() {
            self.refresh().await;
        }
        let now = Timestamp::now();
        match self.state.next(now) {
            Step::Work(namespace, Work::Schedule) => self.state.schedule_changed(&namespace, now),
            Step::Work(namespace, Work::Match) => self.state.match_names(&namespace, now),
            Step::Work(namespace, Work::Consider) => self.consider(namespace, now).await,
            Step::Work(namespace, Work::Refresh) => self.find_pods_to_refresh(namespace, now).await,
            Step::Idle(next) => return self.pause(next, now),
        }
        Duration::ZERO
    }

    fn pause(&self, next: Option<Timestamp>, now: Timestamp) -> Duration {
        let until =
            next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
        let pause = until.unwrap_or(MAX_PAUSE).min(MAX_PAUSE);
        if self.refresh_queue.is_empty() {
            return pause;
        }
        pause.min(self.next_refresh.duration_since(Instant::now()))
    }

    /// Reads the next page of a list of Pods. If the list is complete, returns it with the time of its first page.
    async fn read_page(
        &mut self,
        namespace: &str,
        work: Work,
        now: Timestamp,
    ) -> Result<Option<(Vec<Pod>, Timestamp)>, requests::Failure> {
        let id = (namespace.to_owned(), work);
        let listing = self.listings.remove(&id);
        let listing = listing.filter(|listing| listing.read_at.elapsed() < LONGEST_WAIT);
        let token = listing.as_ref().map(|listing| listing.token.clone());
        let page = requests::list_pods(&self.client, namespace, token.as_deref()).await;
        let (more, token) =
            page.inspect_err(|failure| self.record_failure("Cannot list Pods", failure))?;
        let (mut pods, started) =
            listing.map_or((Vec::new(), now), |listing| (listing.pods, listing.started));
        pods.extend(more);
        let Some(token) = token else {
            return Ok(Some((pods, started)));
        };
        let listing = Listing {
            pods,
            token,
            started,
            read_at: Instant::now(),
        };
        self.listings.insert(id, listing);
        Ok(None)
    }

    async fn find_pods_to_refresh(&mut self, namespace: String, now: Timestamp) {
        match self.read_page(&namespace, Work::Refresh, now).await {
            Ok(Some((pods, _))) => {
                let due = self.state.take_refreshes(&namespace, now);
                let recent = self.state.recent_changes(&namespace, now);
                for refresh in refresh::plan(&pods, &due, &recent) {
                    self.refresh_queue.add(refresh);
                }
            }
            Ok(None) => {}
            Err(_) => {
                let retry_at = now.checked_add(LIST_PAUSE).unwrap_or(now);
                self.state.postpone_refreshes(&namespace, retry_at);
            }
        }
    }

    async fn refresh(&mut self) {
        self.next_refresh = Instant::now() + self.refresh_interval;
        let Some(refresh) = self.refresh_queue.take(Timestamp::now()) else {
            return;
        };
        match requests::refresh(&self.client, &refresh).await {
            Ok(()) => {
                self.metrics.refreshes.increment();
                debug!(
                    namespace = refresh.namespace,
                    pod = refresh.name,
                    "Refreshed"
                );
            }
            Err(failure) if failure.is_outdated() => {}
            Err(failure) => self.record_failure("Cannot refresh a Pod", &failure),
        }
    }

    async fn consider(&mut self, namespace: String, now: Timestamp) {
        if !self.state.needs_pods(&namespace, now) {
            return self.decide(&namespace, &[], now).await;
        }
        match self.read_page(&namespace, Work::Consider, now).await {
            Ok(Some((pods, started))) => self.decide(&namespace, &pods, started).await,
            Ok(None) => {}
            Err(_) => {
                let retry_at = now.checked_add(RETRY_PAUSE).unwrap_or(now);
                self.state.postpone(&namespace, now, retry_at);
            }
        }
    }

    async fn decide(&mut self, namespace: &str, pods: &[Pod], now: Timestamp) {
        for Outcome { id, decision } in self.state.consider(namespace, pods, now) {
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
                self.apply_workload(watch, (kind, namespace.as_deref()), event);
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
        event: WatchEvent<CompactObject<Sealed>>,
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
        event: WatchEvent<CompactObject<Workload>>,
    ) {
        let id = |object: &CompactObject<Workload>| Id {
            namespace: object.namespace(),
            kind,
            name: object.name(),
        };
        let listed = self.lists.workloads.entry(watch).or_default();
        match event {
            WatchEvent::Init => listed.clear(),
            WatchEvent::InitApply(object) => {
                let id = id(&object);
                report_ignored_parts(&self.state, &id, &object.form);
                if self.state.apply_workload(&id, object.form) {
                    listed.insert(id);
                }
            }
            WatchEvent::InitDone => {
                let listed = self.lists.workloads.remove(&watch).unwrap_or_default();
                self.state.retain_workloads(kind, namespace, &listed);
                self.lists.complete.insert(watch);
            }
            WatchEvent::Apply(object) => {
                let id = id(&object);
                report_ignored_parts(&self.state, &id, &object.form);
                self.state.apply_workload(&id, object.form);
            }
            WatchEvent::Delete(object) => self.state.delete_workload(&id(&object)),
        }
    }
}

/// Logs that parts of a workload are ignored, unless the stored version of the workload shows that this is not new.
fn report_ignored_parts(state: &State, id: &Id, workload: &Workload) {
    let stored = state.workload(id);
    let is_unchanged = stored.is_some_and(|stored| stored.opt_in == workload.opt_in);
    let was_too_large = stored.is_some_and(|stored| stored.uses.is_too_large());
    if workload.uses.is_too_large() && !was_too_large {
        info!(workload = %id, "Ignoring the Secrets that the containers use: there are too many (more than {MAX_USES} pairs of a container and a Secret)");
    }
    if workload.opt_in.is_truncated() && !is_unchanged {
        info!(workload = %id, "Ignoring some entries of an annotation: there are too many (more than {MAX_PATTERNS} patterns or {MAX_NAMES} names), or a pattern is too long");
    }
}
