//! Reports the outcome of an attempt: in the status, in events and in metrics.

use std::sync::Arc;

use controller_core::decide::{Existing, Refusal};
use controller_core::fault::Fault;
use controller_core::no_secret::{self, NoSecret};
use controller_core::object_id::ObjectId;
use controller_core::status::{self, KeptValues, Outcome};
use controller_core::versions::CurrentVersion;
use jiff::Timestamp;
use shared::error_chain;
use shared::meter::Meter;
use shared::resource::{PreviousValues, SealedSecretStatus};
use shared::secret::Secret;
use shared::unseal::UnsealError;

use super::applying::PlanResult;
use super::attempt::{Inputs, Tools};
use super::attempt_result::{self, AttemptResult};
use super::former_values;
use super::schedule::Schedule;
use super::versioning::Provenance;
use crate::metrics::{ObjectLabels, SEALED_TYPE};
use crate::store::{Observed, Source, Store, StoreError};

impl<S: Store> Tools<S> {
    /// Reports the outcome in metrics and status.
    pub(super) async fn report(
        &self,
        id: &ObjectId,
        observed: &Observed,
        plan_result: &PlanResult,
        provenance: &Provenance,
        inputs: &Inputs,
        schedule: &mut Schedule,
    ) -> Result<AttemptResult, StoreError> {
        let stored = plan_result.applied.as_ref().ok().and_then(Option::as_deref);
        let secret = stored.or(observed.existing.secret());
        let secret = secret.filter(|_| !plan_result.is_delivered);
        let former =
            secret.and_then(|secret| former_values::find(id, observed, secret, &inputs.ring));
        let request = former_values::request_of(observed);
        let previous = former.map(|former| former.status(request.as_ref(), inputs.now));
        let report = (provenance, previous.as_ref());
        let outcome = self.outcome(id, observed, plan_result, report, inputs, schedule);
        let status = self.next_status(observed, &outcome, plan_result, inputs.now);
        let is_synced = outcome.message().is_none();
        let is_reported = status.is_some() || !plan_result.is_delivered;
        let next_check = former_values::next_check(id, observed, secret, is_synced, inputs);
        let next_checks = next_check
            .into_iter()
            .chain(plan_result.next_check(inputs.now));
        schedule.set_next_check(next_checks.min());
        if status.is_some() || plan_result.changed || !is_synced {
            self.wait_to_report(id, schedule).await;
        }
        if let Some(fault) = outcome.fault() {
            self.metrics.count_failure(id, fault);
        }
        self.metrics
            .set_condition(id, &source_labels(&observed.source), is_synced);
        if let Some(status) = status {
            let uid = observed.uid.as_deref();
            let recorded = self.store.record(id, uid, Some(status)).await;
            recorded.inspect_err(|_| self.metrics.count_failure(id, Fault::Status))?;
        }
        if let Some(fight) = &plan_result.fight {
            return Ok(AttemptResult::retry_not_before(fight.until, &outcome));
        }
        let is_new = !observed.settled && !observed.claimed && is_reported;
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
    pub(super) fn repeat_first_report(
        &self,
        id: &ObjectId,
        plan_result: PlanResult,
        schedule: &Schedule,
    ) -> PlanResult {
        if !schedule.has_times() {
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
    /// retried and counted in the same way. Returns `None` if the object changed in the meantime.
    pub(super) async fn hide_values(
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
        // From here on, all steps take the same time for all values.
        self.wait_to_report(id, schedule).await;
        let class = schedule.class();
        let report = move |meter: &mut dyn Meter| NoSecret::new(&sealed, now, meter);
        let rendered = self
            .pool
            .render_for(&id.namespace, class.rendering(), report);
        let report = rendered.await?;
        let observed = if observed.assumed_absent {
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
            correction: None,
            is_exclusive: false,
            is_random: false,
            is_regenerated: false,
            is_delivered: false,
            remaining: None,
            applied: Ok(None),
        };
        Ok(Some((observed, plan_result)))
    }

    fn outcome<'a>(
        &self,
        id: &ObjectId,
        observed: &Observed,
        plan_result: &'a PlanResult,
        (provenance, previous): (&'a Provenance, Option<&'a PreviousValues>),
        inputs: &Inputs,
        schedule: &mut Schedule,
    ) -> Outcome<'a> {
        let kept = kept_values(observed);
        match (&plan_result.refusal, &plan_result.applied) {
            (_, Err(error)) => Outcome::Failed {
                message: error_chain(error),
                is_stalled: error.is_stalled(),
                kept,
                previous,
            },
            (Some(refusal), Ok(_)) => Outcome::Refused {
                refusal,
                kept,
                previous,
            },
            (None, Ok(_)) if plan_result.is_delivered => Outcome::Delivered {
                sealed_by: &provenance.sealed_by,
                version: self.current_version(observed, None, provenance, schedule),
                remaining: plan_result.remaining,
            },
            (None, Ok(stored)) => Outcome::Unsealed {
                sealed_by: &provenance.sealed_by,
                previous,
                version: self.current_version(observed, stored.as_deref(), provenance, schedule),
                record: self.new_record(
                    id,
                    observed,
                    stored.as_deref(),
                    plan_result.is_exclusive,
                    &inputs.ring,
                ),
            },
        }
    }

    /// Returns the version of the content of the Secret as currently stored; `None` if versions are not recorded.
    fn current_version(
        &self,
        observed: &Observed,
        stored: Option<&Secret>,
        provenance: &Provenance,
        schedule: &mut Schedule,
    ) -> Option<CurrentVersion> {
        let Source::Sealed(sealed) = &observed.source else {
            return None;
        };
        let versioning = self.versioning()?;
        let secret = stored.or(observed.existing.secret());
        let time = Self::version_time(versioning.clock, schedule);
        Some(versioning.current(sealed, provenance, secret, time))
    }

    pub(super) async fn warn_about_risky_type(
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
        self.store.emit_event(id, event).await;
    }

    /// Returns the status to write; `None` if none needs to be written, or if statuses are not written.
    fn next_status(
        &self,
        observed: &Observed,
        outcome: &Outcome<'_>,
        plan_result: &PlanResult,
        now: Timestamp,
    ) -> Option<SealedSecretStatus> {
        let next = status::next(observed.status.as_ref(), outcome, observed.generation, now);
        // A store can keep the unsealed version, and a copy of the mark of its random values, together with the status.
        // So the status is written for a new version of the SealedSecret and for a new mark, even if its text is
        // unchanged.
        let is_new = !(observed.settled || observed.claimed);
        let is_marked = plan_result.changed && plan_result.is_random;
        let is_needed = matches!(outcome, Outcome::Unsealed { .. }) && (is_new || is_marked);
        let next = next.or_else(|| observed.status.clone().filter(|_| is_needed));
        next.filter(|_| self.policy.update_status)
    }
}

/// Returns which values the Secret keeps if it is not written.
fn kept_values(observed: &Observed) -> KeptValues {
    match &observed.existing {
        Existing::Owned(content) if !content.values().is_empty() => {
            if observed.has_unsealed_values {
                KeptValues::Good
            } else {
                KeptValues::Unknown
            }
        }
        Existing::Unreadable(_) => KeptValues::Unknown,
        Existing::Owned(_) | Existing::Absent | Existing::NotOwned => KeptValues::None,
    }
}

/// Returns the labels of a SealedSecret in the metrics; none if the SealedSecret is unusable.
fn source_labels(source: &Source) -> ObjectLabels {
    match source {
        Source::Sealed(sealed) => ObjectLabels::of(sealed),
        Source::Malformed(_) | Source::Gone => ObjectLabels::default(),
    }
}
