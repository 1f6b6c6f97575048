//! Decides when objects are reconciled, and reports the outcome.

mod applying;
mod attempt;
mod attempt_result;
mod first_attempts;
mod former_values;
mod pauses;
mod permits;
mod progress;
mod random_values;
mod recognition;
mod reporting;
mod schedule;
pub(crate) mod timing;
mod unsealing;
pub(crate) mod versioning;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use controller_core::added_metadata::AddedMetadata;
use controller_core::author_limits::AuthorLimits;
use controller_core::object_id::ObjectId;
use controller_core::queue::Queue;
use controller_core::reason::Reason;
use fair::max_each;
use jiff::Timestamp;
use shared::key_ring::KeyRing;
use shared::unseal::Rules;
use shared::v2::VersionKey;
use tokio::task::{self, JoinSet};
use tracing::{debug, error, info};

use crate::metrics::Metrics;
use crate::pool::{Pool, Stopped};
use crate::store::Store;
use attempt::{FinishedAttempt, Inputs, Tools};
use attempt_result::{AttemptResult, Report};
pub use controller_core::queue::{Urgency, backoff, is_waiting};
use versioning::Versioning;

/// Maximum number of objects in progress in a controller on a directory.
const MAX_IN_PROGRESS: usize = 16;
/// Maximum number of attempts without a slot, over all namespaces. Each attempt takes a few kilobytes, in addition to
/// the values that [`pauses`] counts.
const MAX_PAUSED: usize = 16_384;
/// A round ends after this time, even with attempts in progress, so that keys and files are checked again.
const MAX_ROUND_DURATION: Duration = Duration::from_millis(500);

/// The configured behavior of the reconciler.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Whether the deprecated `spec.data` is accepted, and whether templates with random results are refused.
    pub rules: Rules,
    /// The restrictions that administrators set for authors of SealedSecrets.
    pub author_limits: Arc<AuthorLimits>,
    /// The metadata that is added to every Secret.
    pub added: Arc<AddedMetadata>,
    /// Whether outcomes are recorded in the status.
    pub update_status: bool,
    /// Whether edits of Secrets by other clients are left in place.
    pub tolerates_drift: bool,
    /// The number of consecutive failed retries after which an object is logged as still failing.
    pub retries: u32,
}

/// Reconciles Secrets with SealedSecrets: many objects concurrently, with one attempt per object at a time.
#[derive(Debug)]
pub struct Reconciler<S> {
    tools: Arc<Tools<S>>,
    ring: Arc<KeyRing>,
    queue: Queue,
    failing: BTreeMap<ObjectId, FailingObject>,
    attempts: JoinSet<(FinishedAttempt, Arc<KeyRing>)>,
    in_progress: HashMap<task::Id, ObjectId>,
    /// Objects in progress, and when they are due again if they were queued in the meantime.
    requeued: HashMap<ObjectId, Option<(Timestamp, Urgency)>>,
}

/// An object that is not up to date.
#[derive(Debug, Default)]
struct FailingObject {
    failures: u32,
    /// A digest of the last logged message.
    message_digest: u64,
    is_pending_on_keys: bool,
}

impl<S: Store> Reconciler<S> {
    /// Creates a reconciler with an empty queue and no keys.
    pub fn new(store: Arc<S>, pool: Pool, policy: Policy, metrics: Arc<Metrics>) -> Self {
        Self {
            tools: Arc::new(Tools::new(store, pool, policy, metrics)),
            ring: Arc::default(),
            queue: Queue::default(),
            failing: BTreeMap::new(),
            attempts: JoinSet::new(),
            in_progress: HashMap::new(),
            requeued: HashMap::new(),
        }
    }

    /// Enables recording the version of the content of each Secret. `clock` returns the current time.
    pub fn record_versions(&mut self, key: Arc<VersionKey>, clock: fn() -> Timestamp) {
        self.tools.record_versions(Versioning { key, clock });
    }

    /// Queues objects, usually because they changed.
    pub fn enqueue(
        &mut self,
        ids: impl IntoIterator<Item = ObjectId>,
        urgency: Urgency,
        now: Timestamp,
    ) {
        for id in ids {
            self.add(id, now, urgency);
        }
    }

    /// Replaces the key ring. Objects that wait for keys are retried; objects that are up to date are not, regardless
    /// of the key that they needed.
    pub fn use_ring(&mut self, ring: Arc<KeyRing>, now: Timestamp) {
        self.tools.use_ring(Arc::clone(&ring));
        self.ring = ring;
        let waiting = self.failing.iter();
        let waiting = waiting.filter(|(_, failing)| failing.is_pending_on_keys);
        let waiting: Vec<ObjectId> = waiting.map(|(id, _)| id.clone()).collect();
        self.enqueue(waiting, Urgency::Backlog, now);
    }

    /// Starts attempts of objects that are due while fewer than `slots` are in progress. Each namespace gets an equal
    /// share, and a quarter is reserved for namespaces without a slot. Returns when to call again, or `None` if no
    /// object waits for its time, or nothing can start before an attempt ends.
    pub fn begin_attempts(&mut self, slots: usize, now: Timestamp) -> Option<Timestamp> {
        self.queue.mark_due(now);
        let mut in_use = self.slots_in_use();
        let mut running: usize = in_use.values().sum();
        let paused = self.tools.pauses.count_attempts();
        let max_paused = max_each(
            MAX_PAUSED,
            MAX_PAUSED / 2,
            self.queue.count_active_namespaces(&paused, slots),
        );
        while running < slots {
            let active = self.queue.count_active_namespaces(&in_use, slots);
            let max = max_each(slots, slots / 4, active);
            // Slots are released late if attempts wait with large results, so the last quarter is reserved for
            // namespaces without a slot, even if fewer namespaces were active earlier.
            let max = if running < slots - slots / 4 { max } else { 1 };
            let may_begin = |namespace: &str| {
                in_use.get(namespace).is_none_or(|n| *n < max)
                    && paused.get(namespace).is_none_or(|n| *n < max_paused)
            };
            let Some((id, _)) = self.queue.take(may_begin) else {
                break;
            };
            *in_use.entry(id.namespace.clone()).or_default() += 1;
            running += 1;
            self.spawn(id, now);
        }
        self.tools
            .metrics
            .set_queue_length(self.queue.count_objects());
        self.queue.next_due_time().filter(|_| running < slots)
    }

    /// Returns the number of attempts of each namespace that hold a slot.
    fn slots_in_use(&self) -> HashMap<String, usize> {
        let mut in_use: HashMap<String, usize> = HashMap::new();
        for id in self.in_progress.values() {
            *in_use.entry(id.namespace.clone()).or_default() += 1;
        }
        for (namespace, paused) in self.tools.pauses.count_attempts() {
            if let Some(count) = in_use.get_mut(&namespace) {
                *count = count.saturating_sub(paused);
            }
        }
        in_use.retain(|_, count| *count > 0);
        in_use
    }

    /// Waits until an attempt ends and processes its result, or until an attempt gives up its slot. Returns `None`
    /// immediately if no attempt is in progress. Cancel safe.
    pub async fn finish_next(&mut self, now: impl Fn() -> Timestamp) -> Option<()> {
        if self.attempts.is_empty() {
            return None;
        }
        let joined = tokio::select! {
            joined = self.attempts.join_next_with_id() => joined,
            () = self.tools.pauses.wait_for_pause() => return Some(()),
        };
        let (task, result) = match joined? {
            Ok((task, result)) => (task, Some(result)),
            Err(error) => (error.id(), None),
        };
        let Some(id) = self.in_progress.remove(&task) else {
            return Some(());
        };
        let now = now();
        self.queue.observe(now);
        if let Some((time, urgency)) = self.requeued.remove(&id).flatten() {
            // A later time comes from a clock that has been set back since.
            self.queue.add(id.clone(), time.min(now), urgency);
        }
        let interrupted = || (interrupted_result().into(), Arc::clone(&self.ring));
        let (FinishedAttempt { result, next_check }, ring) = result.unwrap_or_else(interrupted);
        if let Some(time) = next_check {
            self.queue.add(id.clone(), time, Urgency::Backlog);
        }
        // The keys changed during the attempt, which used the old keys.
        if matches!(result, AttemptResult::PendingOnKeys(_)) && !Arc::ptr_eq(&ring, &self.ring) {
            self.queue.add(id.clone(), now, Urgency::Backlog);
        }
        self.finish(id, result, now);
        Some(())
    }

    /// Reconciles objects that are due, until all are done or half a second has passed. Longer attempts continue in the
    /// background. Returns when to call again: now if more objects are due or in progress; `None` if the queue is
    /// empty. Cancel safe.
    pub async fn run_once(&mut self, now: Timestamp) -> Option<Timestamp> {
        let work = async {
            self.begin_attempts(MAX_IN_PROGRESS, now);
            while self.finish_next(|| now).await.is_some() {
                self.begin_attempts(MAX_IN_PROGRESS, now);
            }
        };
        let is_done = tokio::time::timeout(MAX_ROUND_DURATION, work).await.is_ok();
        self.tools
            .metrics
            .set_queue_length(self.queue.count_objects());
        if is_done {
            self.queue.next_due_time()
        } else {
            Some(now)
        }
    }

    /// Cancels all attempts in progress and queues their objects again.
    pub async fn suspend(&mut self, now: Timestamp) {
        self.attempts.shutdown().await;
        for (_, id) in std::mem::take(&mut self.in_progress) {
            self.requeued.remove(&id);
            self.queue.add(id, now, Urgency::Backlog);
        }
    }

    /// Cancels all attempts and clears the queue, because another replica is the leader now. Returns the affected
    /// objects.
    pub async fn hand_over(&mut self) -> Vec<ObjectId> {
        self.attempts.shutdown().await;
        self.requeued.clear();
        self.failing.clear();
        self.tools.hand_over();
        let mut ids = self.queue.drain();
        ids.extend(std::mem::take(&mut self.in_progress).into_values());
        ids
    }

    fn add(&mut self, id: ObjectId, due_time: Timestamp, urgency: Urgency) {
        match self.requeued.get_mut(&id) {
            Some(due) => {
                let earlier = due.unwrap_or((due_time, urgency));
                *due = Some((earlier.0.min(due_time), earlier.1.max(urgency)));
            }
            None => self.queue.add(id, due_time, urgency),
        }
    }

    fn spawn(&mut self, id: ObjectId, now: Timestamp) {
        let (tools, ring) = (Arc::clone(&self.tools), Arc::clone(&self.ring));
        let inputs = Inputs {
            ring: Arc::clone(&ring),
            now,
            drops_former: false,
            was_failing: self.failing.contains_key(&id),
        };
        self.requeued.insert(id.clone(), None);
        let object = id.clone();
        let attempt = async move { (tools.attempt(&object, &inputs).await, ring) };
        self.in_progress
            .insert(self.attempts.spawn(attempt).id(), id);
    }

    fn finish(&mut self, id: ObjectId, result: AttemptResult, now: Timestamp) {
        let (report, is_pending_on_keys, retry, next) = match result {
            AttemptResult::UpToDate { changed } => return self.finish_up_to_date(&id, changed),
            AttemptResult::Gone { removed } => return self.finish_deleted_object(&id, removed),
            AttemptResult::PendingOnKeys(report) => {
                let next = "not retried until the object, its Secret or the keys change";
                (report, true, false, next)
            }
            AttemptResult::PendingOnChange(report) => {
                let next = "not retried until the object or its Secret changes";
                (report, false, false, next)
            }
            AttemptResult::Retry(report) => (report, false, true, "retrying with backoff"),
            AttemptResult::NotBefore(time, report) => {
                self.queue.add(id.clone(), time, Urgency::Backlog);
                (report, false, false, "the next retry is scheduled")
            }
        };
        let failing = self.failing.entry(id.clone()).or_default();
        failing.failures = failing.failures.saturating_add(1);
        failing.is_pending_on_keys = is_pending_on_keys;
        let Report { reason, message } = report;
        let message_digest = digest(&message);
        if failing.message_digest == message_digest {
            debug!(
                namespace = id.namespace,
                name = id.name,
                reason = reason.as_str(),
                error = message,
                "Still failing"
            );
        } else {
            error!(
                namespace = id.namespace,
                name = id.name,
                reason = reason.as_str(),
                error = message,
                "Failed to unseal"
            );
        }
        failing.message_digest = message_digest;
        if u64::from(failing.failures) == u64::from(self.tools.policy.retries) + 1 {
            error!(
                namespace = id.namespace,
                name = id.name,
                failures = failing.failures,
                error = message,
                "Still failing after --max-unseal-retries; {next}"
            );
        }
        if retry {
            let pause = backoff(failing.failures, shared::random::number());
            let due_time = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
            self.queue.add(id, due_time, Urgency::Backlog);
        }
    }

    fn finish_up_to_date(&mut self, id: &ObjectId, changed: bool) {
        let was_failing = self.failing.remove(id).is_some();
        if changed || was_failing {
            info!(
                namespace = id.namespace,
                name = id.name,
                "SealedSecret unsealed successfully"
            );
        }
    }

    fn finish_deleted_object(&mut self, id: &ObjectId, removed: bool) {
        self.failing.remove(id);
        if removed {
            info!(
                namespace = id.namespace,
                name = id.name,
                "Secret deleted, because its SealedSecret was deleted"
            );
        }
    }
}

/// Returns a digest that shows whether a message was logged before.
fn digest(message: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    hasher.finish()
}

/// Returns the result of an attempt that was canceled or panicked.
fn interrupted_result() -> AttemptResult {
    AttemptResult::Retry(Report {
        reason: Reason::ErrUpdateFailed,
        message: format!("{Stopped}; the controller will retry"),
    })
}

#[cfg(test)]
mod tests;
