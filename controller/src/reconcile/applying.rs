//! Decides how to change the Secret of an object, and applies the change.

use std::collections::BTreeSet;

use controller_core::decide::{
    Circumstances, Content, Desired, Existing, Plan, Refusal, decide, enforce_api_rules,
    enforce_limits,
};
use controller_core::drift::{self, Interference};
use controller_core::no_secret;
use controller_core::object_id::ObjectId;
use controller_core::ownership;
use controller_core::protected::Protected;
use controller_core::status::RemainingSecret;
use controller_core::{previous, public_size};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use shared::resource::SealedSecret;
use shared::secret::Secret;

use super::attempt::{Inputs, Tools};
use super::former_values::{has_own_marks, without_former_values};
use super::schedule::Schedule;
use super::versioning::Provenance;
use crate::pool::Stopped;
use crate::store::{AppliedPlan, Observed, Source, Store, StoreError, StoredSecret};

/// Pause between two checks whether a Secret that is being deleted still exists. The controller might not observe the
/// deletion, since watching Secrets is optional.
const DELETION_CHECK_PAUSE: SignedDuration = SignedDuration::from_secs(30);

/// The result of applying a plan.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent flags, each with a name wherever it is set or read"
)]
pub(super) struct PlanResult {
    pub(super) refusal: Option<Refusal>,
    pub(super) fight: Option<drift::Fight>,
    pub(super) changed: bool,
    /// How an edit by another client was corrected.
    pub(super) correction: Option<Correction>,
    /// Whether all content of the Secret is now known to come from the SealedSecret.
    pub(super) is_exclusive: bool,
    /// Whether another rendering could produce different values.
    pub(super) is_random: bool,
    /// Whether random values of a version that was unsealed before were generated again.
    pub(super) is_regenerated: bool,
    /// Whether no Secret is created, because the values are only delivered to Pods.
    pub(super) is_delivered: bool,
    /// Why a Secret of this name exists although the values are only delivered.
    pub(super) remaining: Option<RemainingSecret>,
    pub(super) applied: Result<Option<Box<Secret>>, StoreError>,
}

/// How an edit of a Secret by another client was corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Correction {
    /// The Secret matches the SealedSecret again.
    Restored,
    /// Random values were generated again, since only the Secret contained them.
    Regenerated,
}

enum ApplyResult {
    Done(Box<PlanResult>),
    /// A Secret already exists unexpectedly; this is the Secret to write.
    Exists(Box<Secret>),
}

/// A plan, and its properties that are reported.
struct Decision {
    plan: Plan,
    refusal: Option<Refusal>,
    fight: Option<drift::Fight>,
    /// The interference that the plan undoes.
    interference: Option<Interference>,
    /// Whether the desired Secret is written, or the existing Secret removed.
    changed: bool,
    /// Whether the plan corrects an edit by another client.
    is_correction: bool,
    /// Whether applying the plan leaves the Secret with the values of this version.
    has_unsealed_values: bool,
}

impl PlanResult {
    /// Returns when to check again whether a Secret that is being deleted still exists; `None` if there is none.
    pub(super) fn next_check(&self, now: Timestamp) -> Option<Timestamp> {
        let is_being_deleted = self.remaining == Some(RemainingSecret::BeingDeleted);
        is_being_deleted.then(|| {
            let next_check = now.saturating_add(DELETION_CHECK_PAUSE);
            next_check.unwrap_or(Timestamp::MAX)
        })
    }

    pub(super) fn depends_on_values(&self, sealed: &SealedSecret) -> bool {
        match (&self.applied, &self.refusal) {
            (Err(error), _) => error.depends_on_values(sealed),
            (Ok(_), Some(refusal)) => no_secret::refusal_depends_on_values(refusal, sealed),
            (Ok(_), None) => false,
        }
    }
}

impl<S: Store> Tools<S> {
    /// Decides and applies the plan. If a Secret that was assumed to be absent exists, decides again with the existing
    /// Secret. Returns `None` if the object changed in the meantime.
    pub(super) async fn apply_desired(
        &self,
        id: &ObjectId,
        observed: Observed,
        (desired, provenance): (Desired, &Provenance),
        inputs: &Inputs,
        schedule: &mut Schedule,
    ) -> Result<Option<(Observed, PlanResult)>, StoreError> {
        let random_items = match &desired {
            Desired::Secret { random_items, .. } => random_items.clone(),
            Desired::Nothing | Desired::Delivered | Desired::Unknown(_) => BTreeSet::new(),
        };
        let was_assumed_absent = observed.assumed_absent;
        let desired = (desired, provenance);
        match self.apply(id, &observed, desired, inputs, schedule).await? {
            ApplyResult::Done(plan_result) => Ok(Some((observed, *plan_result))),
            ApplyResult::Exists(_) if !was_assumed_absent => Err(StoreError::Exists),
            ApplyResult::Exists(secret) => {
                let Some(observed) = self.refetch(id, &observed).await? else {
                    return Ok(None);
                };
                let desired = Desired::Secret {
                    secret,
                    random_items,
                };
                let desired = (desired, provenance);
                match self.apply(id, &observed, desired, inputs, schedule).await? {
                    ApplyResult::Done(plan_result) => Ok(Some((observed, *plan_result))),
                    ApplyResult::Exists(_) => Err(StoreError::Exists),
                }
            }
        }
    }

    async fn apply(
        &self,
        id: &ObjectId,
        observed: &Observed,
        (mut desired, provenance): (Desired, &Provenance),
        inputs: &Inputs,
        schedule: &mut Schedule,
    ) -> Result<ApplyResult, Stopped> {
        let is_random = desired.is_random();
        let is_delivered = matches!(desired, Desired::Delivered);
        let is_regenerated = match &mut desired {
            Desired::Secret {
                secret,
                random_items,
            } => self.keep_random_values(observed, random_items, secret),
            Desired::Nothing | Desired::Delivered | Desired::Unknown(_) => false,
        };
        if let Desired::Secret { secret, .. } = &mut desired {
            self.keep_former_values(id, observed, provenance, secret, inputs);
        }
        let now = inputs.now;
        let decision = self.decide(id, observed, desired, inputs);
        let is_exclusive = becomes_exclusive(observed, &decision.plan);
        let slot = match &decision.plan {
            Plan::Leave => None,
            _ => self.wait_to_write(id, schedule).await?,
        };
        let applied = match self.store.apply(id, decision.plan).await {
            Ok(AppliedPlan::Exists(secret)) => return Ok(ApplyResult::Exists(secret)),
            Ok(AppliedPlan::Done(stored)) => Ok(stored),
            Err(error) => Err(error),
        };
        drop(slot);
        if let (Some(interference), Ok(_)) = (decision.interference, &applied) {
            self.drift().record_correction(id, interference, now);
        }
        if let (None, Ok(stored), Source::Sealed(_)) =
            (&decision.refusal, &applied, &observed.source)
            && !is_delivered
        {
            let stored_secret = StoredSecret {
                secret: stored.as_deref().or(observed.existing.secret()),
                has_unsealed_values: decision.has_unsealed_values,
                is_exclusive,
            };
            self.store.note_unsealed(id, observed, stored_secret);
        }
        if is_delivered && applied.is_ok() {
            self.store.note_delivered(id);
        }
        let stored = applied.as_ref().ok().and_then(Option::as_deref);
        let remaining = remaining_secret(observed, decision.changed, stored);
        let is_regenerated = is_regenerated && decision.changed && applied.is_ok();
        let correction = Some(if is_regenerated {
            Correction::Regenerated
        } else {
            Correction::Restored
        });
        Ok(ApplyResult::Done(Box::new(PlanResult {
            correction: correction.filter(|_| decision.is_correction && applied.is_ok()),
            is_exclusive,
            is_random,
            is_regenerated,
            is_delivered,
            remaining: remaining.filter(|_| is_delivered),
            refusal: decision.refusal,
            fight: decision.fight,
            changed: decision.changed,
            applied,
        })))
    }

    /// Decides how to change the Secret, within the author limits and the limit on corrections.
    fn decide(
        &self,
        id: &ObjectId,
        observed: &Observed,
        desired: Desired,
        inputs: &Inputs,
    ) -> Decision {
        let now = inputs.now;
        let tolerates_drift = self.tolerates_drift(&observed.source);
        let is_delivered = matches!(desired, Desired::Delivered);
        let purged = without_former_values(id, observed, inputs).filter(|_| !is_delivered);
        let restored = self.restored(observed, purged.as_ref());
        let restored = restored.filter(|_| !is_delivered);
        let (purged, restored_secret) = (purged.as_ref(), restored.as_deref());
        let plan = self.allowed_plan(id, observed, desired, (restored_secret, purged));
        let is_own_change = has_own_marks(id, observed, &inputs.ring)
            && changes_only_former_values(observed, &plan, purged);
        let interference = Interference::undone_by(&plan, observed.settled && !is_own_change);
        let fight = interference
            .and_then(|interference| self.drift().allow_correction(id, interference, now).err());
        let plan = fight
            .as_ref()
            .map_or(plan, |fight| Plan::Refuse(fight.into()));
        let changed = matches!(plan, Plan::Create(_) | Plan::Replace(_) | Plan::Remove);
        let decision = Decision {
            interference: interference.filter(|_| fight.is_none()),
            changed,
            // A correction is reported only if the administrator's added metadata was in place before: otherwise a new
            // setting may have caused the change. If edits are tolerated, only metadata is restored.
            is_correction: interference == Some(Interference::Edit)
                && self.has_added_metadata(observed)
                && !tolerates_drift
                && changed,
            // If edits are tolerated, the Secret keeps edited values unless its values are written.
            has_unsealed_values: !tolerates_drift || changed && restored.is_none(),
            refusal: match &plan {
                Plan::Refuse(refusal) => Some(refusal.clone()),
                _ => None,
            },
            plan,
            fight,
        };
        self.restore_despite_refusal(id, decision, (restored, purged), now)
    }

    /// Returns the plan before the limit on corrections applies. `restored` is the result of [`Self::restored`], and
    /// `purged` that of [`without_former_values`].
    fn allowed_plan(
        &self,
        id: &ObjectId,
        observed: &Observed,
        desired: Desired,
        (restored, purged): (Option<&Secret>, Option<&Secret>),
    ) -> Plan {
        let circumstances = Circumstances {
            settled: observed.settled,
            claimed: observed.claimed,
            is_exclusive: observed.is_exclusive,
            tolerates_drift: self.tolerates_drift(&observed.source),
            hides_equality: self.hides_equality(observed),
            purged,
        };
        let stays = matches!(desired, Desired::Delivered)
            && (outlives_delivery(observed) || is_being_deleted(observed));
        let plan = match (
            decide(id, desired, &observed.existing, circumstances),
            restored,
        ) {
            (Plan::Remove, _) if stays => Plan::Leave,
            // Even if edits are tolerated, protected metadata is restored and unneeded former values are removed.
            (Plan::Leave, Some(secret)) => Plan::Replace(Box::new(secret.clone())),
            (plan, _) => plan,
        };
        let plan = enforce_limits(&self.policy.author_limits, plan);
        if self.store.is_public() {
            enforce_api_rules(plan, |secret| public_size(observed, secret))
        } else {
            plan
        }
    }

    /// Restores the protected metadata and removes unneeded former values even if the object is refused. A removal of
    /// former values corrects nothing, so it takes place even while corrections pause.
    fn restore_despite_refusal(
        &self,
        id: &ObjectId,
        mut decision: Decision,
        (restored, purged): (Option<Box<Secret>>, Option<&Secret>),
        now: Timestamp,
    ) -> Decision {
        let Some(restored) = restored.filter(|_| decision.refusal.is_some()) else {
            return decision;
        };
        let edit = Interference::Edit;
        let allowed = if purged == Some(&*restored) {
            Ok(None)
        } else if let Some(fight) = &decision.fight {
            Err(fight.clone())
        } else {
            let allowed = self.drift().allow_correction(id, edit, now);
            allowed.map(|()| Some(edit))
        };
        match allowed {
            Ok(interference) => {
                (decision.plan, decision.interference) = (Plan::Replace(restored), interference);
            }
            Err(fight) => {
                if let Some(purged) = purged {
                    decision.plan = Plan::Replace(Box::new(purged.clone()));
                }
                decision.fight = Some(fight);
            }
        }
        decision
    }

    /// Returns the owned Secret with its protected metadata restored and unneeded former values removed; `None` if
    /// nothing changes, or if there is no owned Secret. `purged` is the result of [`without_former_values`].
    fn restored(&self, observed: &Observed, purged: Option<&Secret>) -> Option<Box<Secret>> {
        let secret = observed.existing.secret()?;
        let metadata = self.restored_metadata(observed);
        if purged.is_none() && metadata.is_none() {
            return None;
        }
        let mut restored = purged.unwrap_or(secret).clone();
        if let Some(mut metadata) = metadata {
            previous::copy_marks(&restored.metadata, &mut metadata);
            restored.metadata = metadata;
        }
        Some(Box::new(restored))
    }

    /// Returns the protected metadata of the owned Secret; `None` if the Secret already has this metadata, or if there
    /// is no owned Secret.
    pub(super) fn restored_metadata(&self, observed: &Observed) -> Option<ObjectMeta> {
        let template = match &observed.source {
            Source::Sealed(sealed) if !no_secret::is_legacy(sealed) => {
                Some(&sealed.spec.template.metadata)
            }
            Source::Sealed(_) | Source::Malformed(_) | Source::Gone => None,
        };
        let protected = Protected {
            added: &self.policy.added,
            template,
            settled: observed.settled,
            is_exclusive: observed.is_exclusive,
        };
        protected.restored(observed.existing.secret()?)
    }

    /// Returns whether the existing Secret has the metadata that the administrator adds. True if the Secret does not
    /// exist, is not owned, or has unknown metadata.
    fn has_added_metadata(&self, observed: &Observed) -> bool {
        match &observed.existing {
            Existing::Owned(Content::Secret(secret)) => {
                self.policy.added.are_present_on(&secret.metadata)
            }
            _ => true,
        }
    }

    /// Returns whether the outcome must not depend on whether the new values equal the existing values.
    ///
    /// The values of a Secret that this object controls may be compared in three cases. First, nothing was reported
    /// about the object before this process started, for example after a crash between writing the Secret and the
    /// status. Second, the status at startup claims that the version was unsealed, as the status of upstream's
    /// controller does, which has no record. Third, the Secret is immutable, since otherwise no re-encryption of its
    /// SealedSecret could succeed. A client can forge the first two cases before a start, and all three reveal whether
    /// the values are equal, which is the one bit that an edit reveals anyway. If templates are forbidden, an edit
    /// reveals nothing, so none of the three cases applies, and an immutable Secret must be deleted first.
    ///
    /// A Secret that is handed over may be compared too: otherwise an immutable Secret could not be handed over. A
    /// Secret that only consents to a merge may not be compared: each edit would test a guess of values that do not
    /// belong to the author.
    fn hides_equality(&self, observed: &Observed) -> bool {
        let may_compare = match &observed.existing {
            Existing::Owned(Content::Secret(secret)) => {
                let metadata = &secret.metadata;
                let is_immutable = secret.immutable == Some(true);
                if ownership::is_controlled_by(metadata, observed.uid.as_deref()) {
                    let may_reveal = is_immutable || observed.claimed || observed.is_fresh;
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
}

/// Returns whether the Secret stays although the values are only delivered now. A Secret that the SealedSecret does not
/// control belongs to another client, or outlives the SealedSecret intentionally. A Secret that the SealedSecret was
/// merged into can have values of other clients.
fn outlives_delivery(observed: &Observed) -> bool {
    let metadata = observed.existing.secret().map(|secret| &secret.metadata);
    let may_have_other_values = metadata.is_some_and(ownership::is_merged_into);
    !is_controlled(observed) || may_have_other_values && !observed.is_exclusive
}

/// Returns whether the deletion of the Secret was requested, and finalizers delay it.
fn is_being_deleted(observed: &Observed) -> bool {
    let secret = observed.existing.secret();
    secret.is_some_and(|secret| secret.metadata.deletion_timestamp.is_some())
}

/// Returns why a Secret exists after the plan of an object whose values are only delivered was applied. `is_removed` is
/// whether the plan removed the Secret; `stored` is the Secret after that, if finalizers delay its deletion.
fn remaining_secret(
    observed: &Observed,
    is_removed: bool,
    stored: Option<&Secret>,
) -> Option<RemainingSecret> {
    if matches!(observed.existing, Existing::Absent) || is_removed && stored.is_none() {
        None
    } else if is_removed || is_being_deleted(observed) {
        Some(RemainingSecret::BeingDeleted)
    } else {
        Some(RemainingSecret::Kept)
    }
}

/// Returns whether the SealedSecret controls the Secret.
fn is_controlled(observed: &Observed) -> bool {
    let secret = observed.existing.secret();
    secret.is_some_and(|secret| {
        ownership::is_controlled_by(&secret.metadata, observed.uid.as_deref())
    })
}

/// Returns whether all content of the Secret is known to come from the SealedSecret after the plan was applied: this
/// was known before, the controller creates the Secret, or the existing Secret does not consent to a merge.
fn becomes_exclusive(observed: &Observed, plan: &Plan) -> bool {
    match (plan, observed.existing.secret()) {
        (Plan::Create(_), _) => true,
        (_, Some(existing)) => {
            observed.is_exclusive || !ownership::is_merged_into(&existing.metadata)
        }
        (_, None) => false,
    }
}

/// Returns whether the plan only removes former values of the existing Secret or changes their marks.
fn changes_only_former_values(observed: &Observed, plan: &Plan, purged: Option<&Secret>) -> bool {
    let Plan::Replace(next) = plan else {
        return false;
    };
    let base = purged.or(observed.existing.secret());
    base.is_some_and(|base| previous::differ_only_in_marks(next, base))
}

/// Returns the size of the Secret's values, if the size of the sealed values determines it; `None` if templates produce
/// values, if the Secret is sealed as a whole, if some values belong to another client, or if there is no valid
/// SealedSecret.
fn public_size(observed: &Observed, secret: &Secret) -> Option<usize> {
    let Source::Sealed(sealed) = &observed.source else {
        return None;
    };
    let template = &sealed.spec.template.metadata;
    let has_only_own_values = observed.existing.secret().is_none_or(|existing| {
        !ownership::merges(template, &existing.metadata, observed.is_exclusive)
    });
    let is_public = has_only_own_values && public_size::is_public(sealed);
    is_public.then(|| public_size::values_len(sealed, secret))
}
