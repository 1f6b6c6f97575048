//! One reconciliation attempt of one object: gather → desired → decide → apply → record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use controller_core::author_limits::risky_type;
use controller_core::decide::{
    Circumstances, Content, Desired, Existing, Plan, Refusal, decide, enforce_api_rules,
    enforce_limits,
};
use controller_core::drift::{self, Drift, Interference};
use controller_core::fault::Fault;
use controller_core::no_secret::{self, NoSecret};
use controller_core::object_id::ObjectId;
use controller_core::ownership;
use controller_core::reason::Reason;
use controller_core::status::{self, KeptValues, Outcome};
use jiff::Timestamp;
use shared::error_chain;
use shared::key::Fingerprint;
use shared::key_ring::KeyRing;
use shared::meter::{Interrupted, Meter};
use shared::resource::{SealedSecret, SealedSecretStatus};
use shared::secret::Secret;
use shared::unseal::UnsealError;

use super::Policy;
use super::attempt_result::{self, AttemptResult, Report};
use super::first_attempts::FirstAttempts;
use super::holds::Holds;
use super::pauses::Pauses;
use super::progress::Progress;
use super::schedule::Schedule;
use super::timing::{Class, SlowClass};
use crate::metrics::{Metrics, SEALED_TYPE, instance_label};
use crate::pool::turns::Turns;
use crate::pool::{Budget, Pool, Stopped};
use crate::store::{Applied, Kept, Observed, ReadMode, Source, Store, StoreError};

/// Maximum number of concurrent writes of Secrets from objects with templates.
const MAX_WRITES: usize = 32;

/// The budget for determining the class of templates.
const PARSING_BUDGET: Budget = Budget::seconds(30);

/// The dependencies of every attempt.
#[derive(Debug)]
pub(super) struct Tools<S> {
    pub(super) store: Arc<S>,
    pub(super) pool: Pool,
    pub(super) policy: Policy,
    /// The author limits and added metadata as a string, which becomes part of the records.
    pub(super) limits_text: String,
    /// The keys that verify records.
    ring: Mutex<Arc<KeyRing>>,
    drift: Mutex<Drift>,
    progress: Mutex<Progress>,
    first_attempts: Mutex<FirstAttempts>,
    pub(super) pauses: Pauses,
    holds: Holds,
    /// Slots for writing Secrets, for attempts that gave up their own slot.
    pub(super) writes: Turns,
    pub(super) metrics: Arc<Metrics>,
}

/// The inputs of one attempt.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) ring: Arc<KeyRing>,
    pub(super) now: Timestamp,
    pub(super) was_failing: bool,
}

/// The result of applying a plan.
struct PlanResult {
    refusal: Option<Refusal>,
    fight: Option<drift::Fight>,
    changed: bool,
    /// Whether an edit by another client was corrected.
    corrected: bool,
    /// Whether another rendering could produce different values.
    is_random: bool,
    applied: Result<Option<Box<Secret>>, StoreError>,
}

enum ApplyResult {
    Done(PlanResult),
    /// A Secret already exists unexpectedly; this is the Secret to write.
    Exists(Box<Secret>),
}

impl PlanResult {
    fn depends_on_values(&self, sealed: &SealedSecret) -> bool {
        match (&self.applied, &self.refusal) {
            (Err(error), _) => error.depends_on_values(sealed),
            (Ok(_), Some(why)) => no_secret::refusal_depends_on_values(why, sealed),
            (Ok(_), None) => false,
        }
    }
}

/// Returns a string for the settings of the policy that a record does not cover otherwise. Destructures the policy
/// without `..`, so that the compiler requires a decision about each new setting.
fn limits_text(policy: &Policy) -> String {
    let Policy {
        author_limits,
        added,
        // `record::Origin` contains these.
        rules: _,
        tolerates_drift: _,
        // These do not affect the desired Secret.
        update_status: _,
        retries: _,
    } = policy;
    author_limits.as_text() + &added.as_text()
}

impl<S: Store> Tools<S> {
    pub(super) fn new(store: Arc<S>, pool: Pool, policy: Policy, metrics: Arc<Metrics>) -> Self {
        Self {
            limits_text: limits_text(&policy),
            store,
            pool,
            policy,
            ring: Mutex::default(),
            drift: Mutex::default(),
            progress: Mutex::default(),
            first_attempts: Mutex::default(),
            pauses: Pauses::default(),
            holds: Holds::default(),
            writes: Turns::reserving(MAX_WRITES, MAX_WRITES / 4),
            metrics,
        }
    }

    pub(super) fn use_ring(&self, ring: Arc<KeyRing>) {
        *self.ring.lock().unwrap_or_else(PoisonError::into_inner) = ring;
    }

    pub(super) fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Drops state that is valid only while this replica is the leader.
    pub(super) fn hand_over(&self) {
        *self.drift.lock().unwrap_or_else(PoisonError::into_inner) = Drift::default();
        *self.progress() = Progress::default();
        *self.first_attempts() = FirstAttempts::default();
        self.metrics.hand_over();
    }

    pub(super) async fn attempt(&self, id: &ObjectId, inputs: &Inputs) -> AttemptResult {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        let result = match self.reconcile(id, inputs, &mut schedule).await {
            Ok(result) => result,
            Err(error) => AttemptResult::Retry(Report {
                reason: Reason::ErrUpdateFailed,
                message: error_chain(&error),
            }),
        };
        let event = result.event(inputs.was_failing);
        if event.is_some() {
            self.wait_to_report(id, &mut schedule).await;
        }
        self.metrics
            .observe_reconcile(schedule.metric_duration(start.elapsed()));
        if matches!(result, AttemptResult::UpToDate { .. }) {
            self.store.release(id);
            self.first_attempts().forget(id);
        }
        if let Some(event) = event {
            self.store.announce(id, event).await;
        }
        result
    }

    async fn reconcile(
        &self,
        id: &ObjectId,
        inputs: &Inputs,
        schedule: &mut Schedule,
    ) -> Result<AttemptResult, StoreError> {
        if let Some(instance) = self.recognize(id, &inputs.ring) {
            return Ok(self.record_up_to_date(id, &instance));
        }
        let observed = self.gather(id, ReadMode::Guess).await?;
        let Some(class) = self.slow_class(id, &observed, &inputs.ring).await? else {
            return self
                .reconcile_or_refetch(id, observed, inputs, schedule)
                .await;
        };
        // An attempt that waits for its hold keeps no large data.
        drop(observed);
        let _pause = self.pauses.begin_without_values(&id.namespace);
        schedule.keep_hold(self.holds.wait(&id.namespace, class).await?);
        let observed = self.gather(id, ReadMode::Guess).await?;
        let result = self
            .reconcile_or_refetch(id, observed, inputs, schedule)
            .await;
        schedule.release_hold();
        result
    }

    /// Returns the class of an object if it needs a hold: its templates have slow functions, and its Secret is not
    /// known to be up to date.
    async fn slow_class(
        &self,
        id: &ObjectId,
        observed: &Observed,
        ring: &KeyRing,
    ) -> Result<Option<SlowClass>, Stopped> {
        let Source::Sealed(sealed) = &observed.source else {
            return Ok(None);
        };
        let has_templates = sealed.spec.template.data.is_some();
        if !has_templates
            || !self.store.is_public()
            || self.recognize_observed(observed, ring).is_some()
        {
            return Ok(None);
        }
        let sealed = Arc::clone(sealed);
        let class = move |meter: &mut dyn Meter| Class::of(&sealed, meter);
        let class = self.pool.work_for(&id.namespace, PARSING_BUDGET, class);
        let class = class.await?.map_err(|Interrupted| Stopped)?;
        Ok(class.slow_class())
    }

    async fn reconcile_or_refetch(
        &self,
        id: &ObjectId,
        observed: Observed,
        inputs: &Inputs,
        schedule: &mut Schedule,
    ) -> Result<AttemptResult, StoreError> {
        if let Some(result) = self
            .reconcile_observed(id, observed, inputs, schedule)
            .await?
        {
            return Ok(result);
        }
        // After a fetch nothing is assumed, so one more attempt is enough.
        let observed = self.gather(id, ReadMode::Fetch).await?;
        let result = self
            .reconcile_observed(id, observed, inputs, schedule)
            .await?;
        result.ok_or(StoreError::Exists)
    }

    /// Unseals, decides, applies and records. Returns `None` if the object changed meanwhile: the result belongs to the
    /// earlier version and must not be recorded for the current one.
    async fn reconcile_observed(
        &self,
        id: &ObjectId,
        mut observed: Observed,
        inputs: &Inputs,
        schedule: &mut Schedule,
    ) -> Result<Option<AttemptResult>, StoreError> {
        if observed.source != Source::Gone {
            self.metrics.count_reconcile(id);
        }
        if let Some(sealed) = self.recognize_observed(&observed, &inputs.ring) {
            return Ok(Some(self.record_up_to_date(id, sealed_instance(&sealed))));
        }
        let desired = self.desired(id, &observed, inputs, schedule).await?;
        let (desired, sealed_by) = desired;
        if observed.guessed && !matches!(desired, Desired::Secret { .. }) {
            let Some(fetched) = self.refetch(id, &observed).await? else {
                return Ok(None);
            };
            observed = fetched;
        }
        let risky_type = desired.secret().and_then(risky_type);
        let applied = self
            .apply_desired(id, observed, desired, inputs.now, schedule)
            .await?;
        let Some((observed, plan_result)) = applied else {
            return Ok(None);
        };
        let plan_result = self.repeat_first_report(id, plan_result, schedule);
        let plan_result = self.hide_values(id, observed, plan_result, inputs.now, schedule);
        let Some((observed, plan_result)) = plan_result.await? else {
            return Ok(None);
        };
        if observed.source == Source::Gone {
            plan_result.applied?;
            return self.forget(id, plan_result.changed).await.map(Some);
        }
        if plan_result.corrected {
            self.wait_to_report(id, schedule).await;
            self.store
                .announce(id, attempt_result::drift_corrected_event())
                .await;
        }
        if let Some(risky_type) = risky_type.filter(|_| plan_result.changed) {
            self.wait_to_report(id, schedule).await;
            self.warn_about_risky_type(id, &observed.source, risky_type)
                .await;
        }
        let result = self.report(id, &observed, &plan_result, &sealed_by, inputs, schedule);
        result.await.map(Some)
    }

    /// Fetches the state that was only assumed. Returns `None` if the object changed meanwhile.
    async fn refetch(
        &self,
        id: &ObjectId,
        before: &Observed,
    ) -> Result<Option<Observed>, StoreError> {
        let observed = self.gather(id, ReadMode::Fetch).await?;
        Ok(observed.is_about_the_same(before).then_some(observed))
    }

    /// Reports the outcome in metrics and status.
    async fn report(
        &self,
        id: &ObjectId,
        observed: &Observed,
        plan_result: &PlanResult,
        sealed_by: &BTreeMap<String, Fingerprint>,
        inputs: &Inputs,
        schedule: &mut Schedule,
    ) -> Result<AttemptResult, StoreError> {
        let outcome = self.outcome(observed, plan_result, sealed_by, &inputs.ring);
        let status = self.next_status(observed, &outcome, inputs.now);
        let is_synced = outcome.message().is_none();
        if status.is_some() || plan_result.changed || !is_synced {
            self.wait_to_report(id, schedule).await;
        }
        if let Some(fault) = outcome.fault() {
            self.metrics.count_failure(id, fault);
        }
        self.metrics
            .set_condition(id, source_instance(&observed.source), is_synced);
        if let Some(status) = status {
            let uid = observed.uid.as_deref();
            let recorded = self.store.record(id, uid, Some(status)).await;
            recorded.inspect_err(|_| self.metrics.count_failure(id, Fault::Status))?;
        }
        if let Some(fight) = &plan_result.fight {
            return Ok(AttemptResult::retry_not_before(fight.until, &outcome));
        }
        let is_new = !observed.settled && !observed.claimed;
        let is_event = plan_result.changed || self.policy.update_status && is_new;
        Ok(AttemptResult::from_outcome(
            &outcome,
            plan_result.applied.as_ref().err(),
            is_event,
        ))
    }

    /// Repeats the report of the first attempt. An attempt that failed at the store has shown that the templates
    /// render. A later attempt must not reveal that they fail at other times, so it reports the earlier store error
    /// again.
    fn repeat_first_report(
        &self,
        id: &ObjectId,
        plan_result: PlanResult,
        schedule: &Schedule,
    ) -> PlanResult {
        if !schedule.is_set() {
            return plan_result;
        }
        let mut first_attempts = self.first_attempts();
        let is_rejected = matches!(
            plan_result.applied,
            Err(StoreError::Rejected { public: None, .. })
        );
        let is_unrendered = matches!(
            plan_result.refusal,
            Some(Refusal::Unseal(UnsealError::Render(_)))
        );
        if is_unrendered || is_rejected && plan_result.is_random {
            return match first_attempts.error(id) {
                Some((text, is_stalled)) => PlanResult {
                    refusal: None,
                    applied: Err(StoreError::AsBefore { text, is_stalled }),
                    ..plan_result
                },
                None => plan_result,
            };
        }
        if let (Err(error), false) = (&plan_result.applied, is_rejected) {
            first_attempts.record_error(id, error_chain(error), error.is_stalled());
        }
        plan_result
    }

    /// Replaces a failure that depends on the values with [`Refusal::Values`], so that all such failures are reported,
    /// retried and counted in the same way. Returns `None` like [`Self::refetch`].
    async fn hide_values(
        &self,
        id: &ObjectId,
        observed: Observed,
        plan_result: PlanResult,
        now: Timestamp,
        schedule: &mut Schedule,
    ) -> Result<Option<(Observed, PlanResult)>, StoreError> {
        let sealed = match &observed.source {
            Source::Sealed(sealed) if plan_result.depends_on_values(sealed) => Arc::clone(sealed),
            _ => return Ok(Some((observed, plan_result))),
        };
        // From here on, everything takes the same time for all values.
        self.wait_to_report(id, schedule).await;
        let class = schedule.class();
        let report = move |meter: &mut dyn Meter| NoSecret::new(&sealed, now, meter);
        let rendered = self
            .pool
            .render_for(&id.namespace, class.rendering(), report);
        let report = rendered.await?;
        let observed = if observed.guessed {
            match self.refetch(id, &observed).await? {
                Some(fetched) => fetched,
                None => return Ok(None),
            }
        } else {
            observed
        };
        let plan_result = PlanResult {
            refusal: Some(Refusal::Values(report)),
            fight: plan_result.fight,
            changed: false,
            corrected: false,
            is_random: false,
            applied: Ok(None),
        };
        Ok(Some((observed, plan_result)))
    }

    fn outcome<'a>(
        &self,
        observed: &Observed,
        plan_result: &'a PlanResult,
        sealed_by: &'a BTreeMap<String, Fingerprint>,
        ring: &KeyRing,
    ) -> Outcome<'a> {
        let kept = kept_values(observed);
        match (&plan_result.refusal, &plan_result.applied) {
            (_, Err(error)) => Outcome::Failed {
                message: error_chain(error),
                is_stalled: error.is_stalled(),
                kept,
            },
            (Some(why), Ok(_)) => Outcome::Refused { why, kept },
            (None, Ok(stored)) => Outcome::Unsealed {
                sealed_by,
                record: self.new_record(observed, stored.as_deref(), ring),
            },
        }
    }

    async fn gather(&self, id: &ObjectId, mode: ReadMode) -> Result<Observed, StoreError> {
        let observed = self.store.gather(id, mode).await;
        let mut observed =
            observed.inspect_err(|_| self.metrics.count_failure(id, Fault::Fetch))?;
        if !observed.settled && self.was_unsealed(&observed) {
            self.store.note_unsealed(id, &observed, Kept::Unknown);
            (observed.settled, observed.claimed) = (true, false);
        }
        Ok(observed)
    }

    async fn warn_about_risky_type(
        &self,
        id: &ObjectId,
        source: &Source,
        risky_type: &'static str,
    ) {
        let is_legacy = matches!(source, Source::Sealed(sealed) if no_secret::is_legacy(sealed));
        let (label, event) = if is_legacy {
            (SEALED_TYPE, attempt_result::sealed_risky_type_event())
        } else {
            (risky_type, attempt_result::risky_type_event(risky_type))
        };
        self.metrics.count_risky_secret(label);
        self.store.announce(id, event).await;
    }

    /// Decides and applies the plan. If a Secret exists unexpectedly, does so again with the existing Secret. Returns
    /// `None` like [`Self::refetch`].
    async fn apply_desired(
        &self,
        id: &ObjectId,
        observed: Observed,
        desired: Desired,
        now: Timestamp,
        schedule: &mut Schedule,
    ) -> Result<Option<(Observed, PlanResult)>, StoreError> {
        let random_items = match &desired {
            Desired::Secret { random_items, .. } => random_items.clone(),
            Desired::Nothing | Desired::Unknown(_) => BTreeSet::new(),
        };
        let was_guessed = observed.guessed;
        match self.apply(id, &observed, desired, now, schedule).await? {
            ApplyResult::Done(plan_result) => Ok(Some((observed, plan_result))),
            ApplyResult::Exists(_) if !was_guessed => Err(StoreError::Exists),
            ApplyResult::Exists(secret) => {
                let Some(observed) = self.refetch(id, &observed).await? else {
                    return Ok(None);
                };
                let desired = Desired::Secret {
                    secret,
                    random_items,
                };
                match self.apply(id, &observed, desired, now, schedule).await? {
                    ApplyResult::Done(plan_result) => Ok(Some((observed, plan_result))),
                    ApplyResult::Exists(_) => Err(StoreError::Exists),
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
        schedule: &mut Schedule,
    ) -> Result<ApplyResult, Stopped> {
        let is_random = desired.is_random();
        let had_added_metadata = match &observed.existing {
            Existing::Owned(Content::Secret(secret)) => self.policy.added.are_on(&secret.metadata),
            _ => true,
        };
        let circumstances = Circumstances {
            settled: observed.settled,
            claimed: observed.claimed,
            tolerates_drift: self.tolerates_drift(&observed.source),
            hides_equality: self.hides_equality(observed),
        };
        let plan = decide(id, desired, &observed.existing, circumstances);
        let restored = self.policy.added.missing_on(&observed.existing);
        let plan = match (plan, &restored) {
            // Edits are tolerated, except those of the metadata that the administrator adds.
            (Plan::Leave, Some(secret)) => Plan::Replace(secret.clone()),
            (plan, _) => plan,
        };
        let plan = enforce_limits(&self.policy.author_limits, plan);
        let plan = if self.store.is_public() {
            enforce_api_rules(plan, has_public_size(observed))
        } else {
            plan
        };
        let interference = Interference::undone_by(&plan, observed.settled);
        let fight = interference
            .and_then(|interference| self.record_correction(id, interference, now).err());
        let plan = fight
            .as_ref()
            .map_or(plan, |fight| Plan::Refuse(fight.into()));
        let changed = matches!(plan, Plan::Create(_) | Plan::Replace(_) | Plan::Remove);
        // Where edits are tolerated, the Secret keeps edited values unless its values are written.
        let is_good = !circumstances.tolerates_drift || changed && restored.is_none();
        let refusal = match &plan {
            Plan::Refuse(why) => Some(why.clone()),
            _ => None,
        };
        let (plan, fight) = match restored {
            // The metadata of the administrator is restored even if the object is refused, and nothing else.
            Some(secret) if refusal.is_some() && fight.is_none() => {
                match self.record_correction(id, Interference::Edit, now) {
                    Ok(()) => (Plan::Replace(secret), None),
                    Err(fight) => (plan, Some(fight)),
                }
            }
            _ => (plan, fight),
        };
        let slot = match &plan {
            Plan::Leave => None,
            _ => self.wait_to_write(id, schedule).await?,
        };
        let applied = match self.store.apply(id, plan).await {
            Ok(Applied::Exists(secret)) => return Ok(ApplyResult::Exists(secret)),
            Ok(Applied::Done(stored)) => Ok(stored),
            Err(error) => Err(error),
        };
        drop(slot);
        if let (None, Ok(stored), Source::Sealed(_)) = (&refusal, &applied, &observed.source) {
            let kept = if is_good {
                Kept::Good(stored.as_deref().or(observed.existing.secret()))
            } else {
                Kept::Unknown
            };
            self.store.note_unsealed(id, observed, kept);
        }
        Ok(ApplyResult::Done(PlanResult {
            // A correction is reported only if the administrator's added metadata was in place before: otherwise a new
            // setting may have caused the change.
            corrected: interference == Some(Interference::Edit)
                && had_added_metadata
                && changed
                && applied.is_ok(),
            is_random,
            refusal,
            fight,
            changed,
            applied,
        }))
    }

    /// Returns whether the outcome must not depend on whether the new values equal the existing ones.
    ///
    /// The values of a Secret that this object controls may be compared in three cases: if nothing was reported about
    /// the object before this process started, as after a crash between writing the Secret and the status; if the
    /// status of that time claims that the version was unsealed, as that of upstream's controller does, which has no
    /// record; and if the Secret is immutable, since otherwise no re-encryption of its SealedSecret could succeed. The
    /// first two can be forged before a start, and all three reveal whether the values are equal, which is the one bit
    /// that an edit reveals anyway. Where templates are forbidden an edit reveals nothing, so none of the three counts
    /// there, and an immutable Secret must be deleted first.
    ///
    /// A Secret that is handed over may be compared too: otherwise an immutable one could not be handed over. A Secret
    /// that only consents to a merge may not be compared: each edit would test a guess of values that do not belong to
    /// the author.
    fn hides_equality(&self, observed: &Observed) -> bool {
        let may_compare = match &observed.existing {
            Existing::Owned(Content::Secret(secret)) => {
                let metadata = &secret.metadata;
                let is_frozen = secret.immutable == Some(true);
                if ownership::is_controlled_by(metadata, observed.uid.as_deref()) {
                    let may_reveal = is_frozen || observed.claimed || observed.is_fresh;
                    may_reveal && !self.forbids_templates(&observed.source)
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

    fn record_correction(
        &self,
        id: &ObjectId,
        interference: Interference,
        now: Timestamp,
    ) -> Result<(), drift::Fight> {
        let mut drift = self.drift.lock().unwrap_or_else(PoisonError::into_inner);
        drift.record_correction(id, interference, now)
    }

    pub(super) fn first_attempts(&self) -> MutexGuard<'_, FirstAttempts> {
        self.first_attempts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn forget(&self, id: &ObjectId, removed: bool) -> Result<AttemptResult, StoreError> {
        self.store.record(id, None, None).await?;
        self.metrics.forget(id);
        self.drift
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .forget(id);
        self.first_attempts().forget(id);
        Ok(AttemptResult::Gone { removed })
    }

    /// Returns the status to record, or `None` if it is unchanged.
    fn next_status(
        &self,
        observed: &Observed,
        outcome: &Outcome<'_>,
        now: Timestamp,
    ) -> Option<SealedSecretStatus> {
        let next = status::next(observed.status.as_ref(), outcome, observed.generation, now);
        // A store that records which version was unsealed needs the status of a new version even if its text is
        // unchanged.
        let was_unsealed = observed.settled || observed.claimed;
        let is_new = matches!(outcome, Outcome::Unsealed { .. }) && !was_unsealed;
        let next = next.or_else(|| observed.status.clone().filter(|_| is_new));
        next.filter(|_| self.policy.update_status)
    }
}

/// Returns which values the Secret keeps if it is not written.
fn kept_values(observed: &Observed) -> KeptValues {
    match &observed.existing {
        Existing::Owned(content) if !content.values().is_empty() => {
            if observed.is_good {
                KeptValues::Good
            } else {
                KeptValues::Unknown
            }
        }
        _ => KeptValues::None,
    }
}

/// Returns whether the size of the Secret follows from the size of the sealed values. It does not if templates produce
/// values, or if some values belong to another client.
fn has_public_size(observed: &Observed) -> bool {
    let Source::Sealed(sealed) = &observed.source else {
        return false;
    };
    let is_alone = match &observed.existing {
        Existing::Owned(Content::Secret(secret)) => !ownership::is_merged_into(&secret.metadata),
        _ => true,
    };
    is_alone && sealed.spec.template.data.is_none() && !no_secret::is_legacy(sealed)
}

/// Returns the instance label, which distinguishes releases of a chart; empty if there is none.
fn source_instance(source: &Source) -> &str {
    let Source::Sealed(sealed) = source else {
        return "";
    };
    sealed_instance(sealed)
}

fn sealed_instance(sealed: &SealedSecret) -> &str {
    instance_label(sealed.metadata.labels.as_ref())
}
