//! One reconciliation attempt of one object: gather → desired → decide → apply → record.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use controller_core::author_limits::risky_type;
use controller_core::decide::{Content, Desired, Existing};
use controller_core::drift::Drift;
use controller_core::fault::Fault;
use controller_core::object_id::ObjectId;
use controller_core::ownership;
use controller_core::reason::Reason;
use jiff::Timestamp;
use shared::error_chain;
use shared::key_ring::KeyRing;
use shared::meter::{Interrupted, Meter};
use tracing::warn;

use super::Policy;
use super::attempt_result::{self, AttemptResult, Report};
use super::first_attempts::FirstAttempts;
use super::former_values::{self, next_check, without_former_values};
use super::pauses::Pauses;
use super::permits::Permits;
use super::progress::Progress;
use super::schedule::Schedule;
use super::timing::{Class, SlowClass};
use super::versioning::Versioning;
use crate::metrics::{Metrics, ObjectLabels};
use crate::pool::{Budget, Pool, Stopped};
use crate::store::{Observed, ReadMode, Source, Store, StoreError, StoredSecret};
use fair::Slots;

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
    versioning: Mutex<Option<Versioning>>,
    drift: Mutex<Drift>,
    progress: Mutex<Progress>,
    first_attempts: Mutex<FirstAttempts>,
    pub(super) pauses: Arc<Pauses>,
    permits: Permits,
    /// Slots for writing Secrets of objects with templates, since their attempts usually gave up their own slots.
    pub(super) writes: Slots,
    pub(super) metrics: Arc<Metrics>,
}

/// The result of an attempt, and the time of the next check.
#[derive(Debug)]
pub(super) struct FinishedAttempt {
    pub(super) result: AttemptResult,
    /// When to check again whether the Secret still needs its former values, or whether it still exists; `None` if
    /// neither is to be checked.
    pub(super) next_check: Option<Timestamp>,
}

impl From<AttemptResult> for FinishedAttempt {
    fn from(result: AttemptResult) -> Self {
        let next_check = None;
        Self { result, next_check }
    }
}

/// The inputs of one attempt.
#[derive(Debug, Clone)]
pub(super) struct Inputs {
    pub(super) ring: Arc<KeyRing>,
    pub(super) now: Timestamp,
    pub(super) was_failing: bool,
    /// Whether Pods no longer use the former values in the Secret.
    pub(super) drops_former: bool,
}

/// Returns a string for the settings of the policy that no other field of a record covers. Destructures the policy
/// without `..`, so that the compiler requires a decision about each new setting.
fn limits_text(policy: &Policy) -> String {
    let Policy {
        author_limits,
        added,
        // `record::Origin` contains these settings.
        rules: _,
        tolerates_drift: _,
        // These settings do not affect the desired Secret.
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
            versioning: Mutex::default(),
            drift: Mutex::default(),
            progress: Mutex::default(),
            first_attempts: Mutex::default(),
            pauses: Arc::default(),
            permits: Permits::default(),
            writes: Slots::reserving(MAX_WRITES, MAX_WRITES / 4),
            metrics,
        }
    }

    pub(super) fn use_ring(&self, ring: Arc<KeyRing>) {
        *self.ring.lock().unwrap_or_else(PoisonError::into_inner) = ring;
    }

    pub(super) fn record_versions(&self, versioning: Versioning) {
        *self.versioning_lock() = Some(versioning);
    }

    /// Returns how versions of contents are calculated; `None` if they are not recorded.
    pub(super) fn versioning(&self) -> Option<Versioning> {
        self.versioning_lock().clone()
    }

    fn versioning_lock(&self) -> MutexGuard<'_, Option<Versioning>> {
        self.versioning
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.ring.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Drops state that is valid only while this replica is the leader.
    pub(super) fn hand_over(&self) {
        *self.drift() = Drift::default();
        *self.progress() = Progress::default();
        *self.first_attempts() = FirstAttempts::default();
        self.metrics.hand_over();
    }

    pub(super) async fn attempt(&self, id: &ObjectId, inputs: &Inputs) -> FinishedAttempt {
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
            self.store.emit_event(id, event).await;
        }
        let next_check = schedule.next_check();
        FinishedAttempt { result, next_check }
    }

    async fn reconcile(
        &self,
        id: &ObjectId,
        inputs: &Inputs,
        schedule: &mut Schedule,
    ) -> Result<AttemptResult, StoreError> {
        if let Some(labels) = self.recognize(id, &inputs.ring) {
            return Ok(self.record_up_to_date(id, &labels));
        }
        let observed = self.gather(id, ReadMode::Guess).await?;
        let Some(class) = self.slow_class(id, &observed, &inputs.ring).await? else {
            return self
                .reconcile_or_refetch(id, observed, inputs, schedule)
                .await;
        };
        // An attempt that waits for its permit keeps no large data.
        drop(observed);
        schedule.keep_pause(self.pauses.begin_without_values(&id.namespace));
        schedule.keep_permit(self.permits.acquire(&id.namespace, class).await?);
        let observed = self.gather(id, ReadMode::Guess).await?;
        let result = self
            .reconcile_or_refetch(id, observed, inputs, schedule)
            .await;
        schedule.release_permit();
        result
    }

    /// Returns the class of an object if it needs a permit: its templates are in a slow class, its Secret is not known
    /// to be up to date, and the store is public.
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
            || self.recognize_observed(id, observed, ring).is_some()
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
        // After a fetch nothing is assumed, so a single further attempt is enough.
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
        if is_terminating(&observed) {
            return Ok(Some(AttemptResult::UpToDate { changed: false }));
        }
        let mut inputs = inputs.clone();
        inputs.drops_former = self.may_drop_former_values(id, &observed, &inputs).await;
        let inputs = &inputs;
        self.purge_unmanaged(id, &observed, inputs).await?;
        let recognized = self.recognize_observed(id, &observed, &inputs.ring);
        let is_due = without_former_values(id, &observed, inputs).is_some();
        if let Some(sealed) = recognized.filter(|_| !is_due) {
            let existing = observed.existing.secret();
            schedule.set_next_check(next_check(id, &observed, existing, true, inputs));
            return Ok(Some(self.record_up_to_date(id, &ObjectLabels::of(&sealed))));
        }
        let desired = self.desired(id, &observed, inputs, schedule).await?;
        let (desired, provenance) = desired;
        if observed.assumed_absent && !matches!(desired, Desired::Secret { .. }) {
            let Some(fetched) = self.refetch(id, &observed).await? else {
                return Ok(None);
            };
            observed = fetched;
        }
        let risky_type = desired.secret().and_then(risky_type);
        let applied = self
            .apply_desired(id, observed, (desired, &provenance), inputs, schedule)
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
        if let Some(correction) = plan_result.correction {
            self.wait_to_report(id, schedule).await;
            self.store
                .emit_event(id, attempt_result::drift_corrected_event(correction))
                .await;
        }
        if plan_result.is_regenerated {
            self.wait_to_report(id, schedule).await;
            warn_about_new_random_values(id);
        }
        if let Some(risky_type) = risky_type.filter(|_| plan_result.changed) {
            self.wait_to_report(id, schedule).await;
            self.warn_about_risky_type(id, &observed.source, risky_type)
                .await;
        }
        let not_kept = former_values::why_not_kept(&observed);
        if let Some(not_kept) = not_kept.filter(|_| plan_result.changed) {
            self.wait_to_report(id, schedule).await;
            let event = attempt_result::former_value_not_kept_event(&not_kept);
            self.store.emit_event(id, event).await;
        }
        let result = self.report(id, &observed, &plan_result, &provenance, inputs, schedule);
        result.await.map(Some)
    }

    /// Fetches the state that was only assumed. Returns `None` if the object changed in the meantime.
    pub(super) async fn refetch(
        &self,
        id: &ObjectId,
        before: &Observed,
    ) -> Result<Option<Observed>, StoreError> {
        let observed = self.gather(id, ReadMode::Fetch).await?;
        Ok(observed.has_same_sealed_secret(before).then_some(observed))
    }

    async fn gather(&self, id: &ObjectId, mode: ReadMode) -> Result<Observed, StoreError> {
        let observed = self.store.gather(id, mode).await;
        let mut observed =
            observed.inspect_err(|_| self.metrics.count_failure(id, Fault::Fetch))?;
        observed.is_exclusive |= self.was_exclusive(&observed);
        if !observed.settled && self.was_unsealed(&observed) {
            let stored_secret = StoredSecret {
                secret: observed.existing.secret(),
                has_unsealed_values: false,
                is_exclusive: observed.is_exclusive,
            };
            self.store.note_unsealed(id, &observed, stored_secret);
            (observed.settled, observed.claimed) = (true, false);
        }
        mark_as_not_owned(&mut observed);
        Ok(observed)
    }

    pub(super) fn first_attempts(&self) -> MutexGuard<'_, FirstAttempts> {
        self.first_attempts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn drift(&self) -> MutexGuard<'_, Drift> {
        self.drift.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn forget(&self, id: &ObjectId, removed: bool) -> Result<AttemptResult, StoreError> {
        self.store.record(id, None, None).await?;
        self.metrics.forget(id);
        self.drift().forget(id);
        self.progress().forget(id);
        self.first_attempts().forget(id);
        Ok(AttemptResult::Gone { removed })
    }
}

fn warn_about_new_random_values(id: &ObjectId) {
    warn!(
        namespace = id.namespace,
        name = id.name,
        "Random values were generated again, because the earlier values were changed or deleted, or because no key verifies them; \
         restart the programs that use them"
    );
}

/// Marks the Secret as not owned if all its content comes from the SealedSecret and another client has since removed
/// the owner: the annotation for merging then does not prove the consent of an earlier owner.
fn mark_as_not_owned(observed: &mut Observed) {
    if let (Source::Sealed(sealed), Some(secret)) = (&observed.source, observed.existing.secret())
        && observed.is_exclusive
        && !ownership::is_owned(
            &secret.metadata,
            &sealed.metadata,
            &sealed.spec.template.metadata,
            true,
        )
    {
        let existing = std::mem::replace(&mut observed.existing, Existing::NotOwned);
        if let Existing::Owned(Content::Secret(secret)) = existing {
            observed.unmanaged = Some(secret);
        }
    }
}

/// Returns whether the SealedSecret is being deleted and its Secret does not exist. The Secret is not created: while a
/// finalizer keeps the SealedSecret, an author could have its templates rendered any number of times.
fn is_terminating(observed: &Observed) -> bool {
    let is_absent = matches!(observed.existing, Existing::Absent);
    matches!(&observed.source, Source::Sealed(sealed) if sealed.metadata.deletion_timestamp.is_some())
        && is_absent
}
