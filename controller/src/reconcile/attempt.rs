//! One look at one object: gather → desired → decide → apply → record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use shared::error_chain;
use shared::key::Fingerprint;
use shared::key_ring::KeyRing;
use shared::meter::Meter;
use shared::resource::SealedSecret;
use shared::secret::Secret;
use shared::unseal::{Chance, UnsealError, unseal_within};

use super::Policy;
use super::ended::{self, Ended, Report};
use super::progress::Progress;
use crate::author_limits::risky_type;
use crate::decide::{Circumstances, Desired, Existing, Plan, Refusal, decide, within};
use crate::drift::{self, Drift, Interference};
use crate::metrics::{Fault, Metrics, instance_label};
use crate::ownership;
use crate::pool::{Budget, Pool, Stopped};
use crate::status::{self, Outcome};
use crate::store::{Applied, Look, ObjectId, Observed, Source, Store, StoreError};

/// What one attempt may use, for private-key operations, keys and password hashes of templates, and the rest
/// of their work: more than one operation for each item of the largest object, so that an attempt whose
/// items are known from the one before always comes further.
const ATTEMPT: Budget = Budget::seconds(30);

/// What every attempt needs.
#[derive(Debug)]
pub(super) struct Tools<S> {
    pub(super) store: Arc<S>,
    pool: Pool,
    pub(super) policy: Policy,
    drift: Mutex<Drift>,
    progress: Mutex<Progress>,
    pub(super) metrics: Arc<Metrics>,
}

/// What came of a plan.
struct Done {
    refusal: Option<Refusal>,
    fight: Option<drift::Fight>,
    changed: bool,
    applied: Result<Option<Box<Secret>>, StoreError>,
}

enum Attempted {
    Done(Done),
    /// There was a Secret that was not expected; this one is still wanted.
    Exists(Box<Secret>),
}

impl<S: Store> Tools<S> {
    pub(super) fn new(store: Arc<S>, pool: Pool, policy: Policy, metrics: Arc<Metrics>) -> Self {
        Self {
            store,
            pool,
            policy,
            drift: Mutex::default(),
            progress: Mutex::default(),
            metrics,
        }
    }

    /// Forgets what only counts while this replica leads.
    pub(super) fn hand_over(&self) {
        *self.drift.lock().unwrap_or_else(PoisonError::into_inner) = Drift::default();
        *self.progress() = Progress::default();
        self.metrics.hand_over();
    }

    pub(super) async fn attempt(
        &self,
        id: &ObjectId,
        ring: Arc<KeyRing>,
        was_in_trouble: bool,
        now: Timestamp,
    ) -> Ended {
        let start = Instant::now();
        let ended = match self.reconcile(id, ring, now).await {
            Ok(ended) => ended,
            Err(error) => Ended::Retry(Report {
                reason: "ErrUpdateFailed",
                message: error_chain(&error),
            }),
        };
        self.metrics.looked(start.elapsed());
        if matches!(ended, Ended::Well { .. }) {
            self.store.rest(id);
        }
        if let Some(news) = ended.news(was_in_trouble) {
            self.store.announce(id, news).await;
        }
        ended
    }

    async fn reconcile(
        &self,
        id: &ObjectId,
        ring: Arc<KeyRing>,
        now: Timestamp,
    ) -> Result<Ended, StoreError> {
        if let Some(instance) = self.recognised(id, &ring) {
            return Ok(self.in_place(id, &instance));
        }
        let observed = self.gather(id, Look::Guess).await?;
        if let Some(ended) = self.follow(id, observed, &ring, now).await? {
            return Ok(ended);
        }
        // Of what is fetched nothing is guessed, so nothing is looked at a second time.
        let observed = self.gather(id, Look::Fetch).await?;
        let ended = self.follow(id, observed, &ring, now).await?;
        ended.ok_or(StoreError::Exists)
    }

    /// `None` if the object turned out to be another one meanwhile: what was opened is not what it says
    /// any more, and must not be recorded for what it says now.
    async fn follow(
        &self,
        id: &ObjectId,
        mut observed: Observed,
        ring: &Arc<KeyRing>,
        now: Timestamp,
    ) -> Result<Option<Ended>, StoreError> {
        if observed.source != Source::Gone {
            self.metrics.looks_at(id);
        }
        if let Some(sealed) = self.fits(&observed, ring) {
            return Ok(Some(self.in_place(id, instance_of(&sealed))));
        }
        let (desired, sealed_by) = self.desired(id, &observed, Arc::clone(ring), now).await?;
        if observed.guessed && !matches!(desired, Desired::Secret { .. }) {
            let Some(fetched) = self.look_again(id, &observed).await? else {
                return Ok(None);
            };
            observed = fetched;
        }
        let risky_type = desired.secret().and_then(risky_type);
        let Some((observed, done)) = self.bring_about(id, observed, desired, now).await? else {
            return Ok(None);
        };
        if observed.source == Source::Gone {
            done.applied?;
            return self.forget(id, done.changed).await.map(Some);
        }
        if let Some(risky_type) = risky_type.filter(|_| done.changed) {
            self.warn_of(id, risky_type).await;
        }
        let ended = self.tell(id, &observed, &done, &sealed_by, ring, now).await;
        ended.map(Some)
    }

    /// Fetches what was guessed. `None` if the object is another one by now.
    async fn look_again(
        &self,
        id: &ObjectId,
        before: &Observed,
    ) -> Result<Option<Observed>, StoreError> {
        let observed = self.gather(id, Look::Fetch).await?;
        Ok(observed.is_about_the_same(before).then_some(observed))
    }

    /// Says in metrics and status what came of it.
    async fn tell(
        &self,
        id: &ObjectId,
        observed: &Observed,
        done: &Done,
        sealed_by: &BTreeMap<String, Fingerprint>,
        ring: &KeyRing,
        now: Timestamp,
    ) -> Result<Ended, StoreError> {
        let outcome = self.outcome(observed, done, sealed_by, ring);
        if let Some(fault) = outcome.fault() {
            self.metrics.failed(id, fault);
        }
        let is_well = outcome.message().is_none();
        self.metrics
            .condition(id, instance(&observed.source), is_well);
        let recorded = self.record(id, observed, &outcome, now).await;
        recorded.inspect_err(|_| self.metrics.failed(id, Fault::Status))?;
        Ok(match &done.fight {
            Some(fight) => Ended::not_before(fight.until, &outcome),
            None => Ended::of(&outcome, done.applied.as_ref().err(), done.changed),
        })
    }

    fn outcome<'a>(
        &self,
        observed: &Observed,
        done: &'a Done,
        sealed_by: &'a BTreeMap<String, Fingerprint>,
        ring: &KeyRing,
    ) -> Outcome<'a> {
        let keeps_values =
            matches!(&observed.existing, Existing::Ours(held) if !held.values().is_empty());
        match (&done.refusal, &done.applied) {
            (_, Err(error)) => Outcome::Failed {
                message: error_chain(error),
                keeps_values,
            },
            (Some(why), Ok(_)) => Outcome::Refused { why, keeps_values },
            (None, Ok(stored)) => Outcome::Unsealed {
                sealed_by,
                record: self.proof(observed, stored.as_deref(), ring),
            },
        }
    }

    async fn gather(&self, id: &ObjectId, look: Look) -> Result<Observed, StoreError> {
        let observed = self.store.gather(id, look).await;
        observed.inspect_err(|_| self.metrics.failed(id, Fault::Fetch))
    }

    async fn warn_of(&self, id: &ObjectId, risky_type: &'static str) {
        self.metrics.makes_risky(risky_type);
        self.store.announce(id, ended::risky(risky_type)).await;
    }

    /// Decides and applies; a second time, with what there is, if a Secret was there that was not
    /// expected. `None` as in [`Self::look_again`].
    async fn bring_about(
        &self,
        id: &ObjectId,
        observed: Observed,
        desired: Desired,
        now: Timestamp,
    ) -> Result<Option<(Observed, Done)>, StoreError> {
        let by_chance = match &desired {
            Desired::Secret { by_chance, .. } => by_chance.clone(),
            Desired::Nothing | Desired::Unknown(_) => BTreeSet::new(),
        };
        let guessed = observed.guessed;
        match self.apply(id, &observed, desired, now).await {
            Attempted::Done(done) => Ok(Some((observed, done))),
            Attempted::Exists(_) if !guessed => Err(StoreError::Exists),
            Attempted::Exists(secret) => {
                let Some(observed) = self.look_again(id, &observed).await? else {
                    return Ok(None);
                };
                let desired = Desired::Secret { secret, by_chance };
                match self.apply(id, &observed, desired, now).await {
                    Attempted::Done(done) => Ok(Some((observed, done))),
                    Attempted::Exists(_) => Err(StoreError::Exists),
                }
            }
        }
    }

    async fn apply(
        &self,
        id: &ObjectId,
        observed: &Observed,
        desired: Desired,
        now: Timestamp,
    ) -> Attempted {
        let circumstances = Circumstances {
            settled: observed.settled,
            tolerates_drift: self.tolerates_drift(&observed.source),
        };
        let plan = decide(id, desired, &observed.existing, circumstances);
        let plan = within(&self.policy.author_limits, plan);
        let undone = Interference::undone_by(&plan, observed.settled);
        let fight = undone.and_then(|what| self.correct(id, what, now).err());
        let plan = fight
            .as_ref()
            .map_or(plan, |fight| Plan::Refuse(fight.into()));
        let changed = matches!(plan, Plan::Create(_) | Plan::Replace(_) | Plan::Remove);
        let refusal = match &plan {
            Plan::Refuse(why) => Some(why.clone()),
            _ => None,
        };
        let applied = match self.store.apply(id, plan).await {
            Ok(Applied::Exists(secret)) => return Attempted::Exists(secret),
            Ok(Applied::Done(stored)) => Ok(stored),
            Err(error) => Err(error),
        };
        if undone == Some(Interference::Edit) && changed && applied.is_ok() {
            self.store.announce(id, ended::drift_corrected()).await;
        }
        Attempted::Done(Done {
            refusal,
            fight,
            changed,
            applied,
        })
    }

    fn tolerates_drift(&self, source: &Source) -> bool {
        let opts_out = matches!(source, Source::Sealed(sealed) if drift::opts_out(sealed.metadata.annotations.as_ref()));
        self.policy.tolerates_drift || opts_out
    }

    fn correct(
        &self,
        id: &ObjectId,
        what: Interference,
        now: Timestamp,
    ) -> Result<(), drift::Fight> {
        let mut drift = self.drift.lock().unwrap_or_else(PoisonError::into_inner);
        drift.correct(id, what, now)
    }

    async fn desired(
        &self,
        id: &ObjectId,
        observed: &Observed,
        ring: Arc<KeyRing>,
        now: Timestamp,
    ) -> Result<(Desired, BTreeMap<String, Fingerprint>), Stopped> {
        let unknown = |why| Ok((Desired::Unknown(why), BTreeMap::new()));
        match &observed.source {
            Source::Gone => Ok((Desired::Nothing, BTreeMap::new())),
            Source::Malformed(why) => unknown(Refusal::Malformed(why.clone())),
            Source::Sealed(owner) => {
                let (sealed, rules) = (Arc::clone(owner), self.policy.rules);
                let limits = Arc::clone(&self.policy.author_limits);
                let mut remembered = status::sealed_by(observed.status.as_ref());
                self.progress().add_to(id, &mut remembered);
                let open = move |meter: &mut dyn Meter| {
                    let mut chance = Chance {
                        now,
                        rng: &mut rand::rng(),
                    };
                    let unsealed =
                        unseal_within(&sealed, &ring, rules, &mut chance, &remembered, meter)?;
                    limits.allow(&sealed, &unsealed, &ring, now)?;
                    Ok::<_, Refusal>(unsealed)
                };
                let opened = self.pool.work_for(&id.namespace, ATTEMPT, open).await?;
                self.note_progress(id, opened.as_ref().err());
                match opened {
                    Ok(mut unsealed) => {
                        ownership::own(&mut unsealed.secret, owner);
                        let desired = Desired::Secret {
                            secret: Box::new(unsealed.secret),
                            by_chance: unsealed.by_chance,
                        };
                        Ok((desired, unsealed.sealed_by))
                    }
                    Err(why) => unknown(why),
                }
            }
        }
    }

    fn note_progress(&self, id: &ObjectId, why: Option<&Refusal>) {
        match why {
            Some(Refusal::Unseal(UnsealError::BudgetUsedUp { opened })) => {
                self.progress().keep(id, opened);
            }
            _ => self.progress().forget(id),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn forget(&self, id: &ObjectId, removed: bool) -> Result<Ended, StoreError> {
        self.store.record(id, None, None).await?;
        self.metrics.forget(id);
        self.drift
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .forget(id);
        Ok(Ended::Gone { removed })
    }

    async fn record(
        &self,
        id: &ObjectId,
        observed: &Observed,
        outcome: &Outcome<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let next = status::next(observed.status.as_ref(), outcome, observed.generation, now);
        // The same words about another version are news to a store that notes which it is.
        let is_new = matches!(outcome, Outcome::Unsealed { .. }) && !observed.settled;
        let next = next.or_else(|| observed.status.clone().filter(|_| is_new));
        let uid = observed.uid.as_deref();
        match next {
            Some(status) if self.policy.update_status => {
                self.store.record(id, uid, Some(status)).await
            }
            _ => Ok(()),
        }
    }
}

/// The label by which releases of a chart are told apart.
fn instance(source: &Source) -> &str {
    let Source::Sealed(sealed) = source else {
        return "";
    };
    instance_of(sealed)
}

fn instance_of(sealed: &SealedSecret) -> &str {
    instance_label(sealed.metadata.labels.as_ref())
}
