//! One look at one object: gather → desired → decide → apply → record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use shared::error_chain;
use shared::key::Fingerprint;
use shared::key_ring::KeyRing;
use shared::meter::{Meter, Unmetered};
use shared::resource::SealedSecret;
use shared::secret::Secret;
use shared::unseal::{Chance, OpenedOnly, UnsealError, Unsealed, open_only};

use super::Policy;
use super::ended::{self, Ended, Report};
use super::progress::Progress;
use super::timing;
use crate::author_limits::risky_type;
use crate::decide::{self, Circumstances, Desired, Existing, Held, Plan, Refusal, decide, within};
use crate::drift::{self, Drift, Interference};
use crate::metrics::{Fault, Metrics, SEALED_TYPE, instance_label};
use crate::no_secret::{self, NoSecret};
use crate::ownership;
use crate::pool::{Budget, Pool, Stopped, thread_time};
use crate::status::{self, Outcome};
use crate::store::{Applied, Look, ObjectId, Observed, Source, Store, StoreError};

/// What one attempt may use to open items: more than one operation for each item of the largest object, so
/// that an attempt whose items are known from the one before always comes further.
const OPENING: Budget = Budget::seconds(30);

/// What one attempt may use to render templates: more than the templates' own limits allow, so that these
/// decide. A budget shared with the items would end at a point that depends on the values.
const RENDERING: Budget = Budget::seconds(30);

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

impl Done {
    fn depends_on_values(&self, sealed: &SealedSecret) -> bool {
        match (&self.applied, &self.refusal) {
            (Err(error), _) => no_secret::error_depends_on_values(error, sealed),
            (Ok(_), Some(why)) => no_secret::refusal_depends_on_values(why, sealed),
            (Ok(_), None) => false,
        }
    }
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
        let brought_about = self.bring_about(id, observed, desired, now).await?;
        let Some((observed, done)) = brought_about else {
            return Ok(None);
        };
        let Some((observed, done)) = self.without_values(id, observed, done, now).await? else {
            return Ok(None);
        };
        if observed.source == Source::Gone {
            done.applied?;
            return self.forget(id, done.changed).await.map(Some);
        }
        if let Some(risky_type) = risky_type.filter(|_| done.changed) {
            self.warn_of(id, &observed.source, risky_type).await;
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
        if let Some(fight) = &done.fight {
            return Ok(Ended::not_before(fight.until, &outcome));
        }
        let is_news = done.changed || self.policy.update_status && !observed.settled;
        Ok(Ended::of(&outcome, done.applied.as_ref().err(), is_news))
    }

    /// A failure that depends on the values becomes [`Refusal::Values`], so that all of them are reported
    /// alike, end alike, and are counted alike. `None` as in [`Self::look_again`].
    async fn without_values(
        &self,
        id: &ObjectId,
        observed: Observed,
        done: Done,
        now: Timestamp,
    ) -> Result<Option<(Observed, Done)>, StoreError> {
        let sealed = match &observed.source {
            Source::Sealed(sealed) if done.depends_on_values(sealed) => Arc::clone(sealed),
            _ => return Ok(Some((observed, done))),
        };
        let report = move |meter: &mut dyn Meter| NoSecret::of(&sealed, now, meter);
        let report = self
            .pool
            .render_for(&id.namespace, RENDERING, report)
            .await?;
        let observed = if observed.guessed {
            match self.look_again(id, &observed).await? {
                Some(fetched) => fetched,
                None => return Ok(None),
            }
        } else {
            observed
        };
        let done = Done {
            refusal: Some(Refusal::Values(report)),
            fight: None,
            changed: false,
            applied: Ok(None),
        };
        Ok(Some((observed, done)))
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

    async fn warn_of(&self, id: &ObjectId, source: &Source, risky_type: &'static str) {
        let is_legacy = matches!(source, Source::Sealed(sealed) if no_secret::is_legacy(sealed));
        let (label, news) = if is_legacy {
            (SEALED_TYPE, ended::risky_unnamed())
        } else {
            (risky_type, ended::risky(risky_type))
        };
        self.metrics.makes_risky(label);
        self.store.announce(id, news).await;
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
            hides_equality: self.hides_equality(observed),
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
        if refusal.is_none() && applied.is_ok() && matches!(observed.source, Source::Sealed(_)) {
            self.store.note_unsealed(id, observed);
        }
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

    /// A Secret that was made of this very object may be compared with it as long as nothing was ever
    /// reported of that, as after a crash between the two. So may one that is to be taken over: an
    /// immutable one could not be otherwise.
    ///
    /// An immutable Secret may always be compared, since otherwise no re-encryption of its SealedSecret could
    /// succeed: whether the values are the same is the one bit that an edit reveals anyway. Where templates
    /// are forbidden an edit reveals nothing, and so the Secret has to be deleted first.
    fn hides_equality(&self, observed: &Observed) -> bool {
        let may_compare = match &observed.existing {
            Existing::Ours(Held::Secret(secret)) => {
                let metadata = &secret.metadata;
                let is_frozen = secret.immutable == Some(true);
                if is_frozen && !self.forbids_templates(&observed.source) {
                    true
                } else if ownership::is_controlled_by(metadata, observed.uid.as_deref()) {
                    observed.is_fresh
                } else {
                    ownership::is_handed_over(metadata)
                }
            }
            _ => false,
        };
        self.policy.update_status && self.store.is_public() && !may_compare
    }

    fn forbids_templates(&self, source: &Source) -> bool {
        let limits = &self.policy.author_limits;
        matches!(source, Source::Sealed(sealed) if limits.forbids_templates(sealed.namespace_or_empty()))
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
                if let Some(why) = public_obstacle(id, owner, observed) {
                    return unknown(why);
                }
                let mut remembered = status::sealed_by(observed.status.as_ref());
                self.progress().add_to(id, &mut remembered);
                match self.unseal(id, owner, ring, remembered, now).await? {
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

    /// Opens, then renders.
    async fn unseal(
        &self,
        id: &ObjectId,
        sealed: &Arc<SealedSecret>,
        ring: Arc<KeyRing>,
        remembered: BTreeMap<String, Fingerprint>,
        now: Timestamp,
    ) -> Result<Result<Unsealed, Refusal>, Stopped> {
        let opened = self.open(id, sealed, &ring, remembered).await?;
        self.note_progress(id, opened.as_ref().err());
        match opened {
            Ok(opened) => self.render(id, sealed, opened, ring, now).await,
            Err(why) => Ok(Err(why)),
        }
    }

    async fn open(
        &self,
        id: &ObjectId,
        sealed: &Arc<SealedSecret>,
        ring: &Arc<KeyRing>,
        remembered: BTreeMap<String, Fingerprint>,
    ) -> Result<Result<OpenedOnly, Refusal>, Stopped> {
        let (sealed, ring, rules) = (Arc::clone(sealed), Arc::clone(ring), self.policy.rules);
        let limits = Arc::clone(&self.policy.author_limits);
        let open = move |meter: &mut dyn Meter| {
            limits.allow_templates(&sealed)?;
            Ok(open_only(
                &sealed,
                &ring,
                rules.accept_legacy,
                &remembered,
                meter,
            )?)
        };
        self.pool.work_for(&id.namespace, OPENING, open).await
    }

    /// How long templates take depends on the values, and is hidden from anyone who watches the outcome.
    /// The time of the thread is measured, not that of the clock: waiting for others depends on others.
    async fn render(
        &self,
        id: &ObjectId,
        sealed: &Arc<SealedSecret>,
        opened: OpenedOnly,
        ring: Arc<KeyRing>,
        now: Timestamp,
    ) -> Result<Result<Unsealed, Refusal>, Stopped> {
        let has_templates = sealed.spec.template.data.is_some();
        let (sealed, rules) = (Arc::clone(sealed), self.policy.rules);
        let limits = Arc::clone(&self.policy.author_limits);
        let render = move |meter: &mut dyn Meter| {
            let mut chance = Chance {
                now,
                rng: &mut shared::random::system(),
            };
            let unsealed = opened.render(&sealed, rules.refuse_chance, &mut chance, meter)?;
            limits.allow(&sealed, &unsealed, &ring, now)?;
            Ok::<_, Refusal>(unsealed)
        };
        if !has_templates {
            return Ok(render(&mut Unmetered));
        }
        let render = move |meter: &mut dyn Meter| {
            let start = thread_time();
            let unsealed = render(meter);
            (unsealed, thread_time().saturating_sub(start))
        };
        let (unsealed, took) = self
            .pool
            .render_for(&id.namespace, RENDERING, render)
            .await?;
        if self.store.is_public() {
            tokio::time::sleep(timing::publication(took).saturating_sub(took)).await;
        }
        Ok(unsealed)
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

/// A refusal that does not depend on the values, of an object with templates: of one without, nothing depends on the
/// time, and what does not open is reported first.
fn public_obstacle(id: &ObjectId, sealed: &SealedSecret, observed: &Observed) -> Option<Refusal> {
    let template = &sealed.spec.template;
    if template.data.is_none() || no_secret::is_legacy(sealed) {
        return None;
    }
    let mut shell = Secret {
        type_: template.type_.clone().filter(|type_| !type_.is_empty()),
        immutable: template.immutable,
        ..Secret::default()
    };
    let metadata = &template.metadata;
    shell.metadata.labels.clone_from(&metadata.labels);
    shell.metadata.annotations.clone_from(&metadata.annotations);
    ownership::own(&mut shell, sealed);
    decide::public_obstacle(id, shell, &observed.existing, observed.settled)
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
