//! Which objects are looked at, when, and what is said about how it went.

mod attempt;
mod ended;
mod first_attempts;
mod holds;
mod known;
mod pauses;
mod progress;
mod queue;
mod schedule;
mod timing;
mod unsealing;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use shared::key_ring::KeyRing;
use shared::unseal::Rules;
use tokio::task::{self, JoinSet};
use tracing::{debug, error, info};

use crate::added_metadata::AddedMetadata;
use crate::author_limits::AuthorLimits;
use crate::fair::most_each;
use crate::metrics::Metrics;
use crate::pool::{Pool, Stopped};
use crate::store::{ObjectId, Store};
use attempt::{Occasion, Tools};
use ended::{Ended, Report};
use queue::Queue;
pub use queue::{Urgency, wait};

/// Objects at work at once in a directory.
const ROUND: usize = 16;
/// Attempts without a slot, over all namespaces. Each takes a few kilobytes, beside the values that [`pauses`] counts.
const AWAY: usize = 16_384;
/// A round ends after this, whatever is still at work, so that keys and files are looked at again.
const LONGEST_ROUND: Duration = Duration::from_millis(500);

/// What the user chose.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What opens.
    pub rules: Rules,
    /// What authors of SealedSecrets may ask for.
    pub author_limits: Arc<AuthorLimits>,
    /// What every Secret gets beside what its SealedSecret asks for.
    pub added: Arc<AddedMetadata>,
    /// Are outcomes recorded?
    pub update_status: bool,
    /// Are edits that others make on Secrets left as they are?
    pub tolerates_drift: bool,
    /// So many failures in a row, after the first, are reported once more.
    pub retries: u32,
}

/// Brings Secrets into line with SealedSecrets, many at once and each by one attempt at a time.
#[derive(Debug)]
pub struct Reconciler<S> {
    tools: Arc<Tools<S>>,
    ring: Arc<KeyRing>,
    queue: Queue,
    troubles: BTreeMap<ObjectId, Trouble>,
    attempts: JoinSet<(Ended, Arc<KeyRing>)>,
    at_work: HashMap<task::Id, ObjectId>,
    /// Those at work, and when they became due once more meanwhile.
    again: HashMap<ObjectId, Option<(Timestamp, Urgency)>>,
}

/// An object that is not as it shall be.
#[derive(Debug, Default)]
struct Trouble {
    failures: u32,
    message: String,
    waits_for_keys: bool,
}

impl<S: Store> Reconciler<S> {
    /// Starts with nothing to do and without keys.
    pub fn new(store: Arc<S>, pool: Pool, policy: Policy, metrics: Arc<Metrics>) -> Self {
        Self {
            tools: Arc::new(Tools::new(store, pool, policy, metrics)),
            ring: Arc::default(),
            queue: Queue::default(),
            troubles: BTreeMap::new(),
            attempts: JoinSet::new(),
            at_work: HashMap::new(),
            again: HashMap::new(),
        }
    }

    /// Takes note of objects that changed.
    pub fn changed(
        &mut self,
        ids: impl IntoIterator<Item = ObjectId>,
        urgency: Urgency,
        now: Timestamp,
    ) {
        for id in ids {
            self.add(id, now, urgency);
        }
    }

    /// Opens with these keys from now on. What did not open is tried again; what is fine is not
    /// looked at, whichever key it needed.
    pub fn use_ring(&mut self, ring: Arc<KeyRing>, now: Timestamp) {
        self.ring = ring;
        let waiting = self.troubles.iter();
        let waiting = waiting.filter(|(_, trouble)| trouble.waits_for_keys);
        let waiting: Vec<ObjectId> = waiting.map(|(id, _)| id.clone()).collect();
        self.changed(waiting, Urgency::Backlog, now);
    }

    /// Begins with objects that are due, as long as no more than `places` are at work, of which each
    /// namespace has its part and a quarter is kept for namespaces without any. Says when to call again,
    /// unless that is when one is done.
    pub fn begin(&mut self, places: usize, now: Timestamp) -> Option<Timestamp> {
        self.queue.ripen(now);
        let mut held = self.held();
        let mut working: usize = held.values().sum();
        let away = self.tools.pauses.attempts();
        let most_away = most_each(AWAY, AWAY / 2, self.queue.active(&away, places));
        while working < places {
            let active = self.queue.active(&held, places);
            let most = most_each(places, places / 4, active);
            // Places come back late where attempts wait with large results, so the last ones are kept for namespaces that
            // hold none, whatever came before.
            let most = if working < places - places / 4 {
                most
            } else {
                1
            };
            let may_begin = |namespace: &str| {
                held.get(namespace).is_none_or(|n| *n < most)
                    && away.get(namespace).is_none_or(|n| *n < most_away)
            };
            let Some((id, _)) = self.queue.take(may_begin) else {
                break;
            };
            *held.entry(id.namespace.clone()).or_default() += 1;
            working += 1;
            self.spawn(id, now);
        }
        self.tools.metrics.queued(self.queue.len());
        self.queue.next().filter(|_| working < places)
    }

    /// Attempts of each namespace that hold a place.
    fn held(&self) -> HashMap<String, usize> {
        let mut held: HashMap<String, usize> = HashMap::new();
        for id in self.at_work.values() {
            *held.entry(id.namespace.clone()).or_default() += 1;
        }
        for (namespace, away) in self.tools.pauses.attempts() {
            if let Some(held) = held.get_mut(&namespace) {
                *held = held.saturating_sub(away);
            }
        }
        held.retain(|_, held| *held > 0);
        held
    }

    /// Waits for the end of an attempt and takes note of it, or until one gives up its place for now. `None` at
    /// once if none is at work. May be dropped at any time.
    pub async fn end(&mut self, now: impl Fn() -> Timestamp) -> Option<()> {
        if self.attempts.is_empty() {
            return None;
        }
        let joined = tokio::select! {
            joined = self.attempts.join_next_with_id() => joined,
            () = self.tools.pauses.begun() => return Some(()),
        };
        let (task, ended) = match joined? {
            Ok((task, ended)) => (task, Some(ended)),
            Err(error) => (error.id(), None),
        };
        let Some(id) = self.at_work.remove(&task) else {
            return Some(());
        };
        let now = now();
        if let Some((at, urgency)) = self.again.remove(&id).flatten() {
            self.queue.add(id.clone(), at, urgency);
        }
        let (ended, ring) = ended.unwrap_or_else(|| (cut_short(), Arc::clone(&self.ring)));
        // The keys changed while it tried with the old ones.
        if matches!(ended, Ended::WaitsForKeys(_)) && !Arc::ptr_eq(&ring, &self.ring) {
            self.queue.add(id.clone(), now, Urgency::Backlog);
        }
        self.settle(id, ended, now);
        Some(())
    }

    /// Looks at objects that are due, until all are done or half a second is over. What takes longer goes
    /// on meanwhile. Says when to call again: at once if more are due, or at work. May be dropped at any
    /// time.
    pub async fn round(&mut self, now: Timestamp) -> Option<Timestamp> {
        let begun = async {
            self.begin(ROUND, now);
            while self.end(|| now).await.is_some() {
                self.begin(ROUND, now);
            }
        };
        let is_done = tokio::time::timeout(LONGEST_ROUND, begun).await.is_ok();
        self.tools.metrics.queued(self.queue.len());
        if is_done {
            self.queue.next()
        } else {
            Some(now)
        }
    }

    /// Drops whatever is at work, wherever it is, and keeps it for later.
    pub async fn suspend(&mut self, now: Timestamp) {
        self.attempts.shutdown().await;
        for (_, id) in std::mem::take(&mut self.at_work) {
            self.again.remove(&id);
            self.queue.add(id, now, Urgency::Backlog);
        }
    }

    /// Drops whatever is at work and whatever waits, because another replica sees to it now. Gives the
    /// objects.
    pub async fn hand_over(&mut self) -> Vec<ObjectId> {
        self.attempts.shutdown().await;
        self.again.clear();
        self.troubles.clear();
        self.tools.hand_over();
        let mut ids = self.queue.drain();
        ids.extend(std::mem::take(&mut self.at_work).into_values());
        ids
    }

    fn add(&mut self, id: ObjectId, at: Timestamp, urgency: Urgency) {
        match self.again.get_mut(&id) {
            Some(due) => {
                let known = due.unwrap_or((at, urgency));
                *due = Some((known.0.min(at), known.1.max(urgency)));
            }
            None => self.queue.add(id, at, urgency),
        }
    }

    fn spawn(&mut self, id: ObjectId, now: Timestamp) {
        let (tools, ring) = (Arc::clone(&self.tools), Arc::clone(&self.ring));
        let occasion = Occasion {
            ring: Arc::clone(&ring),
            now,
            was_in_trouble: self.troubles.contains_key(&id),
        };
        self.again.insert(id.clone(), None);
        let object = id.clone();
        let attempt = async move { (tools.attempt(&object, &occasion).await, ring) };
        self.at_work.insert(self.attempts.spawn(attempt).id(), id);
    }

    fn settle(&mut self, id: ObjectId, ended: Ended, now: Timestamp) {
        let (report, waits_for_keys, retry) = match ended {
            Ended::Well { changed } => return self.settle_well(&id, changed),
            Ended::Gone { removed } => return self.settle_gone(&id, removed),
            Ended::WaitsForKeys(report) => (report, true, false),
            Ended::WaitsForChange(report) => (report, false, false),
            Ended::Retry(report) => (report, false, true),
            Ended::NotBefore(time, report) => {
                self.queue.add(id.clone(), time, Urgency::Backlog);
                (report, false, false)
            }
        };
        let trouble = self.troubles.entry(id.clone()).or_default();
        trouble.failures = trouble.failures.saturating_add(1);
        trouble.waits_for_keys = waits_for_keys;
        let Report { reason, message } = report;
        if trouble.message == message {
            debug!(
                namespace = id.namespace,
                name = id.name,
                reason,
                error = message,
                "Still failing"
            );
        } else {
            error!(
                namespace = id.namespace,
                name = id.name,
                reason,
                error = message,
                "Failed to unseal"
            );
        }
        trouble.message = message;
        if u64::from(trouble.failures) == u64::from(self.tools.policy.retries) + 1 {
            error!(
                namespace = id.namespace,
                name = id.name,
                failures = trouble.failures,
                error = trouble.message,
                "Keeps failing, and is tried again ever more slowly"
            );
        }
        if retry {
            let wait = wait(trouble.failures, shared::random::number());
            let at = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
            self.queue.add(id, at, Urgency::Backlog);
        }
    }

    fn settle_well(&mut self, id: &ObjectId, changed: bool) {
        let was_in_trouble = self.troubles.remove(id).is_some();
        if changed || was_in_trouble {
            info!(
                namespace = id.namespace,
                name = id.name,
                "SealedSecret unsealed successfully"
            );
        }
    }

    fn settle_gone(&mut self, id: &ObjectId, removed: bool) {
        self.troubles.remove(id);
        if removed {
            info!(
                namespace = id.namespace,
                name = id.name,
                "Secret removed: its SealedSecret is gone"
            );
        }
    }
}

/// It ended by itself, without a word.
fn cut_short() -> Ended {
    Ended::Retry(Report {
        reason: "ErrUpdateFailed",
        message: Stopped.to_string(),
    })
}

#[cfg(test)]
mod tests;
