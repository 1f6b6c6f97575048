//! Unseals the items of a SealedSecret and renders its templates.

use std::sync::Arc;

use controller_core::author_limits::AuthorLimits;
use controller_core::decide::{self, Desired, Refusal};
use controller_core::delivery::{self, UnknownDelivery};
use controller_core::no_secret;
use controller_core::object_id::ObjectId;
use controller_core::ownership;
use controller_core::previous;
use controller_core::status;
use jiff::Timestamp;
use shared::hints::Hints;
use shared::key_ring::KeyRing;
use shared::meter::{Interrupted, Meter, Unmetered};
use shared::resource::SealedSecret;
use shared::secret::Secret;
use shared::secret_types::values_len;
use shared::unseal::{
    Admission, EarlierResults, Randomness, TemplateError, TemplateErrors, UnsealError, Unsealed,
    UnsealedItems, unseal_items,
};
use shared::v2::{OpenedLocks, Target};
use tokio::time::Instant;

use super::attempt::{Inputs, Tools};
use super::schedule::Schedule;
use super::timing::Class;
use super::versioning::Provenance;
use crate::pool::{Budget, Stopped};
use crate::store::{Observed, Source, Store};

/// The budget of one attempt for unsealing items: more than one operation for each item of the largest object, so that
/// an attempt that continues an earlier one always makes progress.
const UNSEAL_BUDGET: Budget = Budget::seconds(30);

impl<S: Store> Tools<S> {
    /// Returns the desired state of the Secret, and the origin of its values.
    pub(super) async fn desired(
        &self,
        id: &ObjectId,
        observed: &Observed,
        inputs: &Inputs,
        schedule: &mut Schedule,
    ) -> Result<(Desired, Provenance), Stopped> {
        let unknown = |refusal| Ok((Desired::Unknown(refusal), Provenance::default()));
        match &observed.source {
            Source::Gone => Ok((Desired::Nothing, Provenance::default())),
            Source::Malformed(reason) => unknown(Refusal::Malformed(reason.clone())),
            Source::Sealed(owner) => {
                if let Err(error) = self.check_delivery(owner) {
                    return unknown(Refusal::Malformed(error.to_string()));
                }
                let is_only_delivered = self.is_only_delivered(owner);
                let refusal = value_independent_refusal(id, owner, observed);
                if let Some(refusal) = refusal.filter(|_| !is_only_delivered) {
                    return unknown(refusal);
                }
                if let Err(error) = previous::Request::of(owner) {
                    return unknown(Refusal::Malformed(error.to_string()));
                }
                let mut hints = status::sealed_by(observed.status.as_ref());
                self.progress().add_to(id, &mut hints);
                let items = self.unseal(id, owner, inputs, hints).await?;
                let unsealed = match items {
                    Ok((items, class)) => {
                        let now = self.first_attempts().render_time(id, observed, inputs.now);
                        let ring = Arc::clone(&inputs.ring);
                        self.render(id, owner, (items, class), ring, now, schedule)
                            .await?
                    }
                    Err(refusal) => Err(refusal),
                };
                match unsealed {
                    Ok(mut unsealed) => {
                        ownership::set_owner(&mut unsealed.secret, owner);
                        if self.store.is_public() {
                            self.policy.added.add_to(&mut unsealed.secret.metadata);
                        }
                        let desired = if is_only_delivered {
                            Desired::Delivered
                        } else {
                            Desired::Secret {
                                secret: Box::new(unsealed.secret),
                                random_items: unsealed.random_items.clone(),
                            }
                        };
                        let provenance = Provenance {
                            sealed_by: unsealed.sealed_by,
                            digests: unsealed.digests,
                            random_items: unsealed.random_items,
                        };
                        Ok((desired, provenance))
                    }
                    Err(refusal) => unknown(refusal),
                }
            }
        }
    }

    async fn unseal(
        &self,
        id: &ObjectId,
        sealed: &Arc<SealedSecret>,
        inputs: &Inputs,
        hints: Hints,
    ) -> Result<Result<(UnsealedItems, Class), Refusal>, Stopped> {
        let (sealed, ring) = (Arc::clone(sealed), Arc::clone(&inputs.ring));
        let limits = Arc::clone(&self.policy.author_limits);
        let admission = self.admission(&sealed, inputs.now);
        let mut locks = self.progress().take_locks(id);
        let unseal = move |meter: &mut dyn Meter| {
            let earlier_results = EarlierResults {
                hints: &hints,
                locks: &mut locks,
            };
            let items =
                unseal_if_allowed(&sealed, &ring, &limits, admission, earlier_results, meter);
            (items, locks)
        };
        let unsealed = self.pool.work_for(&id.namespace, UNSEAL_BUDGET, unseal);
        let (items, locks) = unsealed.await?;
        self.record_progress(id, items.as_ref().err(), locks);
        Ok(items)
    }

    /// Returns the requirements that an object must satisfy before any of its items is unsealed.
    fn admission(&self, sealed: &SealedSecret, now: Timestamp) -> Admission {
        let target = if self.is_only_delivered(sealed) {
            Target::Other
        } else {
            Target::Secret
        };
        Admission {
            accept_legacy: self.policy.rules.accept_legacy,
            policy: self.policy.author_limits.policy_of(sealed, now),
            target,
        }
    }

    /// Refuses an unknown value of the annotation for delivery. A directory has no Pods, so the annotation has no
    /// effect there.
    fn check_delivery(&self, sealed: &SealedSecret) -> Result<(), UnknownDelivery> {
        if !self.store.is_public() {
            return Ok(());
        }
        delivery::check_annotation(sealed)
    }

    /// Returns whether the values are only delivered to Pods; false for a directory, which has no Pods.
    pub(super) fn is_only_delivered(&self, sealed: &SealedSecret) -> bool {
        self.store.is_public() && delivery::is_only_delivered(sealed)
    }

    /// Renders the templates, and checks the result against the author limits. The duration depends on the values, and
    /// is hidden from clients that observe the outcome.
    async fn render(
        &self,
        id: &ObjectId,
        sealed: &Arc<SealedSecret>,
        (items, class): (UnsealedItems, Class),
        ring: Arc<KeyRing>,
        now: Timestamp,
        schedule: &mut Schedule,
    ) -> Result<Result<Unsealed, Refusal>, Stopped> {
        let has_templates = sealed.spec.template.data.is_some();
        let is_only_delivered = self.is_only_delivered(sealed);
        let (sealed, rules) = (Arc::clone(sealed), self.policy.rules);
        let limits = Arc::clone(&self.policy.author_limits);
        let render = move |meter: &mut dyn Meter| {
            let mut randomness = Randomness {
                now,
                rng: &mut shared::random::system(),
            };
            let refuse_random = rules.refuse_random || is_only_delivered;
            let unsealed = items.render(&sealed, refuse_random, &mut randomness, meter);
            let unsealed = unsealed.map_err(|why| match random_template(&why) {
                Some(why) if is_only_delivered && !rules.refuse_random => why,
                _ => why.into(),
            })?;
            limits.allow(&sealed, &unsealed, &ring, now)?;
            Ok::<_, Refusal>(unsealed)
        };
        if !has_templates {
            return Ok(render(&mut Unmetered));
        }
        // The measurement starts in the job: waiting for a slot does not depend on the values.
        let render = move |meter: &mut dyn Meter| (Instant::now(), render(meter));
        let (start, unsealed) = self
            .pool
            .render_for(&id.namespace, class.rendering(), render)
            .await?;
        schedule.set_class(class);
        if self.store.is_public() {
            let secret = unsealed.as_ref().map(|unsealed| &unsealed.secret);
            schedule.set_times(start, secret.map_or(0, values_len));
        }
        Ok(unsealed)
    }

    fn record_progress(&self, id: &ObjectId, refusal: Option<&Refusal>, locks: OpenedLocks) {
        let hints = match refusal {
            Some(Refusal::Unseal(UnsealError::BudgetUsedUp { opened })) => opened.clone(),
            Some(Refusal::Unseal(UnsealError::KeyUnavailable { .. })) => Hints::new(),
            _ => return self.progress().forget(id),
        };
        self.progress().keep(id, hints, locks);
    }
}

/// Returns the refusal of a template that would give each Pod different values, if that is the error.
fn random_template(why: &UnsealError) -> Option<Refusal> {
    let UnsealError::Template(TemplateErrors(errors)) = why else {
        return None;
    };
    errors.iter().find_map(|error| match error {
        TemplateError::Randomness(item) => Some(Refusal::Malformed(format!(
            "template {item:?} uses the time, random values or new keys, so each Pod would get different values; seal a fixed value \
             instead, or let the controller create a Secret"
        ))),
        TemplateError::Parse(_) => None,
    })
}

/// Unseals the items of an object, if its templates are allowed.
fn unseal_if_allowed(
    sealed: &SealedSecret,
    ring: &KeyRing,
    limits: &AuthorLimits,
    admission: Admission,
    earlier_results: EarlierResults<'_>,
    meter: &mut dyn Meter,
) -> Result<(UnsealedItems, Class), Refusal> {
    limits.allow_templates(sealed)?;
    let class = Class::of(sealed, meter).map_err(|Interrupted| budget_used_up_error())?;
    let items = unseal_items(sealed, ring, admission, earlier_results, meter)?;
    Ok((items, class))
}

/// Returns the error for an attempt whose budget was used up before any item was unsealed.
fn budget_used_up_error() -> UnsealError {
    let opened = Hints::new();
    UnsealError::BudgetUsedUp { opened }
}

/// Returns a refusal that does not depend on the values, before any template is rendered; see
/// [`decide::value_independent_refusal`]. Returns `None` for the deprecated form and for objects without templates:
/// without a visible template, the time of a failure cannot reveal a value, so items that cannot be unsealed are
/// reported first.
fn value_independent_refusal(
    id: &ObjectId,
    sealed: &SealedSecret,
    observed: &Observed,
) -> Option<Refusal> {
    let template = &sealed.spec.template;
    if template.data.is_none() || no_secret::is_legacy(sealed) {
        return None;
    }
    let mut secret = Secret {
        type_: template.type_.clone().filter(|type_| !type_.is_empty()),
        immutable: template.immutable,
        ..Secret::default()
    };
    let metadata = &template.metadata;
    secret.metadata.labels.clone_from(&metadata.labels);
    secret
        .metadata
        .annotations
        .clone_from(&metadata.annotations);
    ownership::set_owner(&mut secret, sealed);
    decide::value_independent_refusal(
        id,
        secret,
        &observed.existing,
        observed.settled || observed.claimed,
        observed.is_exclusive,
    )
}
