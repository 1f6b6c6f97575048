//! gather → desired → decide → apply, for each object that changed or failed.

mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use shared::error_chain;
use shared::key::Fingerprint;
use shared::key_ring::KeyRing;
use shared::unseal::{Chance, Rules, UnsealError, unseal};
use tokio::task::JoinSet;
use tracing::{debug, error, info};

use crate::decide::{Desired, Existing, Plan, Refusal, decide};
use crate::pool::{Pool, Stopped};
use crate::status::{self, Outcome};
use crate::store::{ObjectId, Observed, Source, Store, StoreError};
use queue::Queue;
pub use queue::wait;

/// Objects in one go. Between two of them keys and files are looked at again, so that a long queue
/// delays neither.
const BATCH: usize = 16;

/// What the user chose.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Does the deprecated `spec.data` open?
    pub accept_legacy: bool,
    /// Are templates refused that use time, chance or new keys?
    pub refuse_chance: bool,
    /// Are outcomes recorded?
    pub update_status: bool,
}

impl Policy {
    fn rules(self) -> Rules {
        Rules {
            accept_legacy: self.accept_legacy,
            refuse_chance: self.refuse_chance,
        }
    }
}

/// Brings Secrets into line with SealedSecrets.
#[derive(Debug)]
pub struct Reconciler<S> {
    tools: Arc<Tools<S>>,
    ring: Arc<KeyRing>,
    queue: Queue,
    troubles: BTreeMap<ObjectId, Trouble>,
}

/// What every attempt needs.
#[derive(Debug)]
struct Tools<S> {
    store: Arc<S>,
    pool: Pool,
    policy: Policy,
}

/// An object that is not as it shall be.
#[derive(Debug, Default)]
struct Trouble {
    failures: u32,
    message: String,
    waits_for_keys: bool,
}

/// How an attempt ended, and what has to happen for the next one to end otherwise.
#[derive(Debug)]
enum Ended {
    /// As it shall be; says whether a value changed.
    Well { changed: bool },
    /// The SealedSecret is gone, and so is what came of it.
    Gone { removed: bool },
    /// Only another key helps.
    WaitsForKeys(Report),
    /// Only another SealedSecret helps.
    WaitsForChange(Report),
    /// Time may help.
    Retry(Report),
}

#[derive(Debug)]
struct Report {
    reason: &'static str,
    message: String,
}

impl<S: Store> Reconciler<S> {
    /// Starts with nothing to do and without keys.
    pub fn new(store: Arc<S>, pool: Pool, policy: Policy) -> Self {
        Self {
            tools: Arc::new(Tools {
                store,
                pool,
                policy,
            }),
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
            attempts.spawn(async move {
                let ended = tools.attempt(&id, ring, now).await;
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
        self.queue.next()
    }

    fn settle(&mut self, id: ObjectId, ended: Ended, now: Timestamp) {
        let (report, waits_for_keys, retry) = match ended {
            Ended::Well { changed } => return self.settle_well(&id, changed),
            Ended::Gone { removed } => return self.settle_gone(&id, removed),
            Ended::WaitsForKeys(report) => (report, true, false),
            Ended::WaitsForChange(report) => (report, false, false),
            Ended::Retry(report) => (report, false, true),
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

impl<S: Store> Tools<S> {
    async fn attempt(&self, id: &ObjectId, ring: Arc<KeyRing>, now: Timestamp) -> Ended {
        match self.reconcile(id, ring, now).await {
            Ok(ended) => ended,
            Err(error) => Ended::Retry(Report {
                reason: "ErrUpdateFailed",
                message: error_chain(&error),
            }),
        }
    }

    async fn reconcile(
        &self,
        id: &ObjectId,
        ring: Arc<KeyRing>,
        now: Timestamp,
    ) -> Result<Ended, StoreError> {
        let observed = self.store.gather(id).await?;
        let (desired, sealed_by) = self.desired(&observed.source, ring, now).await?;
        let plan = decide(id, desired, &observed.existing);
        let changed = matches!(plan, Plan::Create(_) | Plan::Replace(_) | Plan::Remove);
        let refusal = match &plan {
            Plan::Refuse(why) => Some(why.clone()),
            _ => None,
        };
        let applied = self.store.apply(id, plan).await;
        if observed.source == Source::Gone {
            applied?;
            return self.forget(id, changed).await;
        }
        let keeps_values =
            matches!(&observed.existing, Existing::Ours(values) if !values.is_empty());
        let outcome = match (&refusal, &applied) {
            (_, Err(error)) => Outcome::Failed {
                message: error_chain(error),
                keeps_values,
            },
            (Some(why), Ok(())) => Outcome::Refused { why, keeps_values },
            (None, Ok(())) => Outcome::Unsealed(&sealed_by),
        };
        self.record(id, &observed, &outcome, now).await?;
        Ok(ended(&outcome, applied, changed))
    }

    async fn desired(
        &self,
        source: &Source,
        ring: Arc<KeyRing>,
        now: Timestamp,
    ) -> Result<(Desired, BTreeMap<String, Fingerprint>), Stopped> {
        let unknown = |why| Ok((Desired::Unknown(why), BTreeMap::new()));
        match source {
            Source::Gone => Ok((Desired::Nothing, BTreeMap::new())),
            Source::Malformed(why) => unknown(Refusal::Malformed(why.clone())),
            Source::Sealed(sealed) => {
                let (sealed, rules) = (Arc::clone(sealed), self.policy.rules());
                let open = move || {
                    let rng = &mut rand::rng();
                    unseal(&sealed, &ring, rules, &mut Chance { now, rng })
                };
                match self.pool.run(open).await? {
                    Ok(unsealed) => Ok((
                        Desired::Secret(Box::new(unsealed.secret)),
                        unsealed.sealed_by,
                    )),
                    Err(error) => unknown(error.into()),
                }
            }
        }
    }

    async fn forget(&self, id: &ObjectId, removed: bool) -> Result<Ended, StoreError> {
        self.store.record(id, None).await?;
        Ok(Ended::Gone { removed })
    }

    async fn record(
        &self,
        id: &ObjectId,
        observed: &Observed,
        outcome: &Outcome<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let generation = match &observed.source {
            Source::Sealed(sealed) => sealed.metadata.generation,
            _ => observed
                .status
                .as_ref()
                .and_then(|status| status.observed_generation),
        };
        let next = status::next(observed.status.as_ref(), outcome, generation, now);
        match next {
            Some(status) if self.policy.update_status => self.store.record(id, Some(status)).await,
            _ => Ok(()),
        }
    }
}

fn ended(outcome: &Outcome<'_>, applied: Result<(), StoreError>, changed: bool) -> Ended {
    let Some(message) = outcome.message() else {
        return Ended::Well { changed };
    };
    let report = Report {
        reason: outcome.reason(),
        message,
    };
    match (outcome, applied) {
        (_, Err(error)) if error.is_final() => Ended::WaitsForChange(report),
        (_, Err(_)) => Ended::Retry(report),
        (Outcome::Refused { why, .. }, Ok(())) => match why {
            Refusal::Unseal(UnsealError::Items(_) | UnsealError::LegacyNoKey(_)) => {
                Ended::WaitsForKeys(report)
            }
            Refusal::Malformed(_) | Refusal::Unseal(_) => Ended::WaitsForChange(report),
            Refusal::NotManaged(_) => Ended::Retry(report),
        },
        (_, Ok(())) => Ended::Well { changed },
    }
}
