//! One look at one object: gather → desired → decide → apply → record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use shared::error_chain;
use shared::key::Fingerprint;
use shared::key_ring::KeyRing;
use shared::record::{self, Identity, Origin};
use shared::resource::{SealedSecret, SecretRecord};
use shared::secret::Secret;
use shared::unseal::{Chance, UnsealError, unseal_again};

use super::Policy;
use crate::author_limits::risky_type;
use crate::decide::{Circumstances, Desired, Existing, Held, Plan, Refusal, decide};
use crate::drift::{self, Drift};
use crate::metrics::{Fault, Metrics, instance_label};
use crate::ownership;
use crate::pool::{Pool, Stopped};
use crate::status::{self, Outcome};
use crate::store::{Applied, Look, News, ObjectId, Observed, Source, Store, StoreError};

/// What every attempt needs.
#[derive(Debug)]
pub(super) struct Tools<S> {
    store: Arc<S>,
    pool: Pool,
    pub(super) policy: Policy,
    drift: Mutex<Drift>,
    pub(super) metrics: Arc<Metrics>,
}

/// How an attempt ended, and what has to happen for the next one to end otherwise.
#[derive(Debug)]
pub(super) enum Ended {
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
    /// Nothing is to be done before that time.
    NotBefore(Timestamp, Report),
}

#[derive(Debug)]
pub(super) struct Report {
    pub(super) reason: &'static str,
    pub(super) message: String,
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
            metrics,
        }
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
        if let Some(news) = news(&ended, was_in_trouble) {
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
        let mut observed = self.gather(id, Look::Guess).await?;
        if observed.source != Source::Gone {
            self.metrics.looks_at(id);
        }
        if let Some(sealed) = self.fits(&observed, &ring) {
            return Ok(self.in_place(id, instance_of(&sealed)));
        }
        let (desired, sealed_by) = self.desired(&observed, Arc::clone(&ring), now).await?;
        if observed.guessed && !matches!(desired, Desired::Secret { .. }) {
            observed = self.gather(id, Look::Fetch).await?;
        }
        let risky_type = desired.secret().and_then(risky_type);
        let (observed, done) = self.bring_about(id, observed, desired, now).await?;
        let Done {
            refusal,
            fight,
            changed,
            applied,
        } = done;
        if observed.source == Source::Gone {
            applied?;
            return self.forget(id, changed).await;
        }
        if let Some(risky_type) = risky_type.filter(|_| changed) {
            self.warn_of(id, risky_type).await;
        }
        let keeps_values =
            matches!(&observed.existing, Existing::Ours(held) if !held.values().is_empty());
        let outcome = match (&refusal, &applied) {
            (_, Err(error)) => Outcome::Failed {
                message: error_chain(error),
                keeps_values,
            },
            (Some(why), Ok(_)) => Outcome::Refused { why, keeps_values },
            (None, Ok(stored)) => Outcome::Unsealed {
                sealed_by: &sealed_by,
                record: self.proof(&observed, stored.as_deref(), &ring),
            },
        };
        if let Some(fault) = outcome.fault() {
            self.metrics.failed(id, fault);
        }
        let instance = instance(&observed.source);
        self.metrics
            .condition(id, instance, outcome.message().is_none());
        let recorded = self.record(id, &observed, &outcome, now).await;
        recorded.inspect_err(|_| self.metrics.failed(id, Fault::Status))?;
        Ok(match fight {
            Some(fight) => not_before(fight.until, &outcome),
            None => ended(&outcome, applied.map(drop), changed),
        })
    }

    async fn gather(&self, id: &ObjectId, look: Look) -> Result<Observed, StoreError> {
        let observed = self.store.gather(id, look).await;
        observed.inspect_err(|_| self.metrics.failed(id, Fault::Fetch))
    }

    async fn warn_of(&self, id: &ObjectId, risky_type: &'static str) {
        self.metrics.makes_risky(risky_type);
        self.store.announce(id, risky(risky_type)).await;
    }

    /// The instance label of the object, if its Secret is known to be in place without fetching or decrypting anything.
    fn recognised(&self, id: &ObjectId, ring: &KeyRing) -> Option<String> {
        let glance = self.store.glance(id).filter(|_| self.trusts_records())?;
        let (record, (uid, version)) = (&glance.record, &glance.secret);
        let origin = self.origin(glance.identity, glance.opts_out);
        let is_known =
            record::names(record, uid, version) && record::is_genuine(record, origin, ring);
        is_known.then_some(glance.instance)
    }

    /// The same without decrypting, from the Secret as it was fetched.
    fn fits(&self, observed: &Observed, ring: &KeyRing) -> Option<Arc<SealedSecret>> {
        let (Source::Sealed(sealed), Existing::Ours(Held::Secret(secret))) =
            (&observed.source, &observed.existing)
        else {
            return None;
        };
        let record = observed.status.as_ref()?.record.as_ref()?;
        let origin = self.origin(
            Identity::of(sealed)?,
            drift::opts_out(sealed.metadata.annotations.as_ref()),
        );
        let fits = self.trusts_records()
            && observed.settled
            && record::is_genuine(record, origin, ring)
            && record::fits(record, sealed, ring, secret);
        fits.then(|| Arc::clone(sealed))
    }

    /// A record tells what was allowed when it was made.
    fn trusts_records(&self) -> bool {
        !self.policy.author_limits.depend_on_time()
    }

    fn in_place(&self, id: &ObjectId, instance: &str) -> Ended {
        self.metrics.recognised();
        self.metrics.condition(id, instance, true);
        Ended::Well { changed: false }
    }

    /// A record of the Secret as it is stored now: as the store told, or as it was found.
    fn proof(
        &self,
        observed: &Observed,
        stored: Option<&Secret>,
        ring: &KeyRing,
    ) -> Option<SecretRecord> {
        let Source::Sealed(sealed) = &observed.source else {
            return None;
        };
        let found = match &observed.existing {
            Existing::Ours(Held::Secret(secret)) => Some(&**secret),
            _ => None,
        };
        let origin = self.origin(
            Identity::of(sealed)?,
            drift::opts_out(sealed.metadata.annotations.as_ref()),
        );
        record::record(origin, stored.or(found)?, ring)
    }

    fn origin(&self, identity: Identity, opts_out: bool) -> Origin<'_> {
        Origin {
            identity,
            rules: self.policy.rules,
            limits: self.policy.author_limits.as_text(),
            tolerates_drift: self.policy.tolerates_drift || opts_out,
        }
    }

    /// Decides and applies; a second time, with what there is, if a Secret was there that was not
    /// expected.
    async fn bring_about(
        &self,
        id: &ObjectId,
        observed: Observed,
        desired: Desired,
        now: Timestamp,
    ) -> Result<(Observed, Done), StoreError> {
        let by_chance = match &desired {
            Desired::Secret { by_chance, .. } => by_chance.clone(),
            Desired::Nothing | Desired::Unknown(_) => BTreeSet::new(),
        };
        let guessed = observed.guessed;
        match self.apply(id, &observed, desired, now).await {
            Attempted::Done(done) => Ok((observed, done)),
            Attempted::Exists(_) if !guessed => Err(StoreError::Exists),
            Attempted::Exists(secret) => {
                let observed = self.gather(id, Look::Fetch).await?;
                let desired = Desired::Secret { secret, by_chance };
                match self.apply(id, &observed, desired, now).await {
                    Attempted::Done(done) => Ok((observed, done)),
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
        let is_drift = observed.settled && matches!(plan, Plan::Replace(_));
        let fight = is_drift
            .then(|| self.correct(id, now))
            .and_then(Result::err);
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
        if is_drift && changed && applied.is_ok() {
            self.store.announce(id, drift_corrected()).await;
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

    fn correct(&self, id: &ObjectId, now: Timestamp) -> Result<(), drift::Fight> {
        let mut drift = self.drift.lock().unwrap_or_else(PoisonError::into_inner);
        drift.correct(id, now)
    }

    async fn desired(
        &self,
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
                let remembered = status::sealed_by(observed.status.as_ref());
                let open = move || {
                    let mut chance = Chance {
                        now,
                        rng: &mut rand::rng(),
                    };
                    let unsealed = unseal_again(&sealed, &ring, rules, &mut chance, &remembered)?;
                    limits.allow(&sealed, &unsealed, &ring, now)?;
                    Ok::<_, Refusal>(unsealed)
                };
                match self.pool.run(open).await? {
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

    async fn forget(&self, id: &ObjectId, removed: bool) -> Result<Ended, StoreError> {
        self.store.record(id, None).await?;
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
        match next {
            Some(status) if self.policy.update_status => self.store.record(id, Some(status)).await,
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
            // The two that an API server refuses wait for the Secret to go, which wakes us.
            Refusal::Malformed(_)
            | Refusal::Unseal(_)
            | Refusal::Breach(_)
            | Refusal::TypeChange { .. }
            | Refusal::Immutable(_) => Ended::WaitsForChange(report),
            Refusal::NotManaged(_) | Refusal::DriftFight { .. } => Ended::Retry(report),
        },
        (_, Ok(())) => Ended::Well { changed },
    }
}

fn not_before(until: Timestamp, outcome: &Outcome<'_>) -> Ended {
    let report = Report {
        reason: outcome.reason(),
        message: outcome.message().unwrap_or_default(),
    };
    Ended::NotBefore(until, report)
}

/// Success is news when something changed; a failure is each time, and whoever keeps the news counts
/// those that are alike.
fn news(ended: &Ended, was_in_trouble: bool) -> Option<News> {
    match ended {
        Ended::Well { changed } if *changed || was_in_trouble => Some(News {
            is_warning: false,
            reason: "Unsealed",
            message: "SealedSecret unsealed successfully".into(),
        }),
        Ended::Well { .. } | Ended::Gone { .. } => None,
        Ended::WaitsForKeys(report)
        | Ended::WaitsForChange(report)
        | Ended::Retry(report)
        | Ended::NotBefore(_, report) => Some(News {
            is_warning: true,
            reason: report.reason,
            message: warning(report),
        }),
    }
}

/// The peer's words before its error.
fn warning(report: &Report) -> String {
    match report.reason {
        "ErrUnsealFailed" => format!("Failed to unseal: {}", report.message),
        _ => report.message.clone(),
    }
}

fn risky(risky_type: &str) -> News {
    News {
        is_warning: true,
        reason: "RiskyType",
        message: format!(
            "the Secret has the type {risky_type}, which gives its author more than the values that were sealed; \
             if that is not meant, run the controller with --forbid-secret-types={risky_type}"
        ),
    }
}

fn drift_corrected() -> News {
    News {
        is_warning: true,
        reason: "DriftCorrected",
        message: "somebody else had changed the Secret; it is again as the SealedSecret says"
            .into(),
    }
}
