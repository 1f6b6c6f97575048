//! One look at one object: gather → desired → decide → apply → record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use shared::error_chain;
use shared::key::Fingerprint;
use shared::key_ring::KeyRing;
use shared::resource::SealedSecret;
use shared::unseal::{Chance, UnsealError, unseal};

use super::Policy;
use crate::decide::{Circumstances, Desired, Existing, Plan, Refusal, decide};
use crate::drift::{self, Drift};
use crate::metrics::{Fault, Metrics};
use crate::ownership;
use crate::pool::{Pool, Stopped};
use crate::status::{self, Outcome};
use crate::store::{News, ObjectId, Observed, Source, Store, StoreError};

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
        let failed = |fault| move |_: &StoreError| self.metrics.failed(id, fault);
        let observed = self
            .store
            .gather(id)
            .await
            .inspect_err(failed(Fault::Fetch))?;
        if observed.source != Source::Gone {
            self.metrics.looks_at(id);
        }
        let (desired, sealed_by) = self.desired(&observed.source, ring, now).await?;
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
        let applied = self.store.apply(id, plan).await;
        if observed.source == Source::Gone {
            applied?;
            return self.forget(id, changed).await;
        }
        if is_drift && changed && applied.is_ok() {
            self.store.announce(id, drift_corrected()).await;
        }
        let keeps_values =
            matches!(&observed.existing, Existing::Ours(held) if !held.values().is_empty());
        let outcome = match (&refusal, &applied) {
            (_, Err(error)) => Outcome::Failed {
                message: error_chain(error),
                keeps_values,
            },
            (Some(why), Ok(())) => Outcome::Refused { why, keeps_values },
            (None, Ok(())) => Outcome::Unsealed(&sealed_by),
        };
        if let Some(fault) = outcome.fault() {
            self.metrics.failed(id, fault);
        }
        let instance = instance(&observed.source);
        self.metrics
            .condition(id, instance, outcome.message().is_none());
        let recorded = self.record(id, &observed, &outcome, now).await;
        recorded.inspect_err(failed(Fault::Status))?;
        Ok(match fight {
            Some(fight) => not_before(fight.until, &outcome),
            None => ended(&outcome, applied, changed),
        })
    }

    fn tolerates_drift(&self, source: &Source) -> bool {
        let opted_out = |sealed: &SealedSecret| {
            let annotations = sealed.metadata.annotations.as_ref();
            annotations
                .and_then(|a| a.get(drift::ANNOTATION))
                .is_some_and(|value| value == "false")
        };
        self.policy.tolerates_drift || matches!(source, Source::Sealed(sealed) if opted_out(sealed))
    }

    fn correct(&self, id: &ObjectId, now: Timestamp) -> Result<(), drift::Fight> {
        let mut drift = self.drift.lock().unwrap_or_else(PoisonError::into_inner);
        drift.correct(id, now)
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
            Source::Sealed(owner) => {
                let (sealed, rules) = (Arc::clone(owner), self.policy.rules);
                let open = move || {
                    let mut chance = Chance {
                        now,
                        rng: &mut rand::rng(),
                    };
                    unseal(&sealed, &ring, rules, &mut chance)
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
                    Err(error) => unknown(error.into()),
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
        let is_new = matches!(outcome, Outcome::Unsealed(_)) && !observed.settled;
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
    let labels = sealed.metadata.labels.as_ref();
    let instance = labels.and_then(|labels| labels.get("app.kubernetes.io/instance"));
    instance.map_or("", String::as_str)
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

fn drift_corrected() -> News {
    News {
        is_warning: true,
        reason: "DriftCorrected",
        message: "somebody else had changed the Secret; it is again as the SealedSecret says"
            .into(),
    }
}
