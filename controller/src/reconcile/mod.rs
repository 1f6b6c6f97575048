//! Which objects are looked at, when, and what is said about how it went.

mod attempt;
mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use shared::key_ring::KeyRing;
use shared::unseal::Rules;
use tokio::task::JoinSet;
use tracing::{debug, error, info};

use crate::metrics::Metrics;
use crate::pool::{Pool, Stopped};
use crate::store::{ObjectId, Store};
use attempt::{Ended, Report, Tools};
use queue::Queue;
pub use queue::wait;

/// Objects in one go. Between two of them keys and files are looked at again, so that a long queue
/// delays neither.
const BATCH: usize = 16;

/// What the user chose.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// What opens.
    pub rules: Rules,
    /// Are outcomes recorded?
    pub update_status: bool,
    /// Are edits that others make on Secrets left as they are?
    pub tolerates_drift: bool,
    /// So many failures in a row, after the first, are reported once more.
    pub retries: u32,
}

/// Brings Secrets into line with SealedSecrets.
#[derive(Debug)]
pub struct Reconciler<S> {
    tools: Arc<Tools<S>>,
    ring: Arc<KeyRing>,
    queue: Queue,
    troubles: BTreeMap<ObjectId, Trouble>,
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
        }
    }

    /// Takes note of objects that changed.
    pub fn changed(&mut self, ids: impl IntoIterator<Item = ObjectId>, now: Timestamp) {
        for id in ids {
            self.queue.add(id, now);
        }
    }

    /// Opens with these keys from now on. What did not open is tried again; what is fine is not
    /// looked at, whichever key it needed.
    pub fn use_ring(&mut self, ring: Arc<KeyRing>, now: Timestamp) {
        self.ring = ring;
        for (id, trouble) in &self.troubles {
            if trouble.waits_for_keys {
                self.queue.add(id.clone(), now);
            }
        }
    }

    /// Looks at some of the objects that are due. Says when to call again: at once if more are due.
    pub async fn work(&mut self, now: Timestamp) -> Option<Timestamp> {
        let batch: BTreeSet<ObjectId> = self.queue.take(now, BATCH).into_iter().collect();
        let mut attempts = JoinSet::new();
        for id in batch.clone() {
            let (tools, ring) = (Arc::clone(&self.tools), Arc::clone(&self.ring));
            let was_in_trouble = self.troubles.contains_key(&id);
            attempts.spawn(async move {
                let ended = tools.attempt(&id, ring, was_in_trouble, now).await;
                (id, ended)
            });
        }
        let mut lost = batch;
        while let Some(attempt) = attempts.join_next().await {
            if let Ok((id, ended)) = attempt {
                lost.remove(&id);
                self.settle(id, ended, now);
            }
        }
        for id in lost {
            let report = Report {
                reason: "ErrUpdateFailed",
                message: Stopped.to_string(),
            };
            self.settle(id, Ended::Retry(report), now);
        }
        self.tools.metrics.queued(self.queue.len());
        self.queue.next()
    }

    fn settle(&mut self, id: ObjectId, ended: Ended, now: Timestamp) {
        let (report, waits_for_keys, retry) = match ended {
            Ended::Well { changed } => return self.settle_well(&id, changed),
            Ended::Gone { removed } => return self.settle_gone(&id, removed),
            Ended::WaitsForKeys(report) => (report, true, false),
            Ended::WaitsForChange(report) => (report, false, false),
            Ended::Retry(report) => (report, false, true),
            Ended::NotBefore(time, report) => {
                self.queue.add(id.clone(), time);
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
            let wait = wait(trouble.failures, rand::random());
            self.queue
                .add(id, now.saturating_add(wait).unwrap_or(Timestamp::MAX));
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
