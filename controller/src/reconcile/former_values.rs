//! Keeps former values in Secrets for their retention period, or until no Pod uses them.

use std::collections::{BTreeMap, BTreeSet};

use controller_core::decide::Plan;
use controller_core::object_id::ObjectId;
use controller_core::previous::{self, FormerValues, NewValues, NotKept, Request, Retention};
use controller_core::{ownership, public_size};
use jiff::Timestamp;
use shared::error_chain;
use shared::former_mark::Prover;
use shared::key_ring::KeyRing;
use shared::record;
use shared::resource::SealedSecret;
use shared::secret::Secret;
use tracing::warn;

use super::attempt::{Inputs, Tools};
use super::versioning::{Provenance, Versioning};
use crate::store::{Observed, Source, Store, StoreError};

impl<S: Store> Tools<S> {
    /// Adds the former values that the SealedSecret requests to its desired Secret.
    ///
    /// A Secret with content of another owner keeps no former values: they could replace an item of that owner. Marks
    /// with a valid proof show that the controller wrote a Secret without such content.
    pub(super) fn keep_former_values(
        &self,
        id: &ObjectId,
        observed: &Observed,
        provenance: &Provenance,
        desired: &mut Secret,
        inputs: &Inputs,
    ) {
        previous::remove_marks(desired);
        let (Source::Sealed(sealed), Some(versioning)) = (&observed.source, self.versioning())
        else {
            return;
        };
        let existing = observed.existing.secret();
        let prover = prover(id, observed, &inputs.ring);
        let has_only_own_content = existing.is_none_or(|secret| {
            observed.is_exclusive || FormerValues::of(secret, &prover).is_some()
        });
        let Some(request) = request_of(observed).filter(|_| has_only_own_content) else {
            return;
        };
        let new = new_values(observed, (sealed, provenance), &versioning, desired, inputs);
        previous::keep(desired, existing, &request, new, &prover);
    }

    /// Returns whether Pods no longer use the former values of the observed Secret; false if this is unknown, if there
    /// are none, or if they are kept for the full retention period. The status can only delay the removal, since other
    /// clients may write it.
    pub(super) async fn may_drop_former_values(
        &self,
        id: &ObjectId,
        observed: &Observed,
        inputs: &Inputs,
    ) -> bool {
        let secret = observed.existing.secret();
        let former = secret.and_then(|secret| find(id, observed, secret, &inputs.ring));
        let keeps_full_period =
            request_of(observed).is_some_and(|request| request.keeps_full_period());
        let Some(former) = former.filter(|_| !keeps_full_period) else {
            return false;
        };
        let status = observed.status.as_ref();
        let newest = status.and_then(|status| status.versions.first());
        let reported = newest
            .and_then(|newest| newest.time.as_ref())
            .map(|time| time.0);
        let changed_at = former.since().max(reported.unwrap_or(former.since()));
        let is_current = self.store.is_current_everywhere(id, changed_at, inputs.now);
        is_current.await == Some(true)
    }

    /// Removes unneeded former values from a Secret that the SealedSecret no longer manages: its owner was removed,
    /// the SealedSecret cannot be read, or the SealedSecret was deleted.
    pub(super) async fn purge_unmanaged(
        &self,
        id: &ObjectId,
        observed: &Observed,
        inputs: &Inputs,
    ) -> Result<(), StoreError> {
        let secret = observed.unmanaged.as_deref();
        let Some(next) = secret.and_then(|secret| purged_secret(id, observed, secret, inputs))
        else {
            return Ok(());
        };
        match self.store.apply(id, Plan::Replace(Box::new(next))).await {
            Ok(_) => Ok(()),
            // Nothing else reconciles the object of a deleted SealedSecret again.
            Err(error) if observed.source == Source::Gone => Err(error),
            Err(error) => {
                warn!(
                    namespace = id.namespace,
                    name = id.name,
                    error = error_chain(&error),
                    "Cannot remove former values from a Secret that is no longer managed; the controller retries"
                );
                Ok(())
            }
        }
    }
}

/// Returns the properties of the new values of the Secret that determine which former values are kept.
fn new_values<'a>(
    observed: &Observed,
    (sealed, provenance): (&SealedSecret, &Provenance),
    versioning: &'a Versioning,
    desired: &Secret,
    inputs: &Inputs,
) -> NewValues<'a> {
    let content_version = versioning.version_without_random_values(sealed, provenance);
    let status = observed.status.as_ref();
    let newest = status.and_then(|status| status.versions.first());
    let is_changed = newest.is_some_and(|newest| newest.version != content_version);
    let version = |item: &String| {
        let version = versioning.item_version(sealed, provenance, &content_version, item);
        (item.clone(), version)
    };
    let items = request_of(observed).map_or_else(BTreeSet::new, |request| request.items().clone());
    let items = items.iter();
    let versions: BTreeMap<String, String> = items
        .filter(|item| desired.data.contains_key(*item))
        .map(version)
        .collect();
    NewValues {
        versions,
        key_id: versioning.key.id(),
        is_changed: !observed.settled && is_changed && had_public_sizes(observed, &inputs.ring),
        drops_former: inputs.drops_former,
        public_len: public_size::values_len(sealed, desired),
        now: inputs.now,
    }
}

/// Returns the identity and the keys that prove marks on the Secret of an object.
fn prover<'a>(id: &'a ObjectId, observed: &'a Observed, ring: &'a KeyRing) -> Prover<'a> {
    Prover {
        namespace: &id.namespace,
        name: &id.name,
        uid: observed.uid.as_deref().unwrap_or_default(),
        ring,
    }
}

/// Returns whether the existing Secret comes from a version of the SealedSecret whose item names and sizes are public.
/// Otherwise the status would show which items existed, and whether their former values fit.
fn had_public_sizes(observed: &Observed, ring: &KeyRing) -> bool {
    let record = observed.status.as_ref().and_then(|s| s.record.as_ref());
    let secret = observed.existing.secret();
    record
        .zip(secret)
        .is_some_and(|(record, secret)| record::has_public_sizes(record, &secret.metadata, ring))
}

/// Returns the former values in a Secret of an object; `None` if there are none.
pub(super) fn find(
    id: &ObjectId,
    observed: &Observed,
    secret: &Secret,
    ring: &KeyRing,
) -> Option<FormerValues> {
    FormerValues::of(secret, &prover(id, observed, ring)).filter(|former| !former.is_empty())
}

/// Returns the existing Secret without unneeded former values; `None` if nothing has to be removed.
pub(super) fn without_former_values(
    id: &ObjectId,
    observed: &Observed,
    inputs: &Inputs,
) -> Option<Secret> {
    purged_secret(id, observed, observed.existing.secret()?, inputs)
}

/// Returns whether the controller itself may change the marks of the existing Secret: they have a valid proof, or no
/// other client has written the Secret since it had the values of the last version that was unsealed.
pub(super) fn has_own_marks(id: &ObjectId, observed: &Observed, ring: &KeyRing) -> bool {
    let secret = observed.existing.secret();
    let proven = secret.and_then(|secret| FormerValues::of(secret, &prover(id, observed, ring)));
    proven.is_some() || observed.has_unsealed_values
}

fn purged_secret(
    id: &ObjectId,
    observed: &Observed,
    secret: &Secret,
    inputs: &Inputs,
) -> Option<Secret> {
    let prover = prover(id, observed, &inputs.ring);
    let former = FormerValues::of(secret, &prover)?;
    let request = request_of(observed);
    let retention = Retention {
        request: request.as_ref(),
        is_unknown: matches!(observed.source, Source::Malformed(_)),
        drops_former: inputs.drops_former,
        now: inputs.now,
        own_items: own_items(observed),
    };
    former.removed_from(secret, &retention, &prover)
}

/// Returns the items that the SealedSecret specifies.
fn own_items(observed: &Observed) -> BTreeSet<&str> {
    let Source::Sealed(sealed) = &observed.source else {
        return BTreeSet::new();
    };
    let templates = sealed.spec.template.data.iter().flatten();
    let templates = templates.map(|(item, _)| item);
    let items = sealed.spec.encrypted_data.keys().chain(templates);
    items.map(String::as_str).collect()
}

/// Returns why some or all requested former values are not kept; `None` if none are requested, or if there is no public
/// reason.
pub(super) fn why_not_kept(observed: &Observed) -> Option<NotKept> {
    let Source::Sealed(sealed) = &observed.source else {
        return None;
    };
    Request::of(sealed).ok()??.why_not_kept(sealed)
}

/// Returns the SealedSecret's request for former values; `None` if there is none, or if its Secret may have no former
/// values. Invalid annotations count as no request; the object is refused.
///
/// No former values are kept if the names or sizes of values are not public, since the status shows which former values
/// the Secret has, or if the SealedSecret is merged into the Secret, since a merge never removes items.
pub(super) fn request_of(observed: &Observed) -> Option<Request> {
    let Source::Sealed(sealed) = &observed.source else {
        return None;
    };
    let template = &sealed.spec.template.metadata;
    let existing = observed.existing.secret();
    let merges = ownership::is_merged_into(template)
        || existing.is_some_and(|secret| {
            ownership::merges(template, &secret.metadata, observed.is_exclusive)
        });
    let request = Request::of(sealed).ok().flatten();
    request.filter(|_| public_size::is_public(sealed) && !merges)
}

/// Returns when to check again whether the former values of a Secret are needed; `None` if it has none, or if it is
/// immutable, so that nothing can be removed.
pub(super) fn next_check(
    id: &ObjectId,
    observed: &Observed,
    secret: Option<&Secret>,
    is_synced: bool,
    inputs: &Inputs,
) -> Option<Timestamp> {
    let secret = secret.or(observed.unmanaged.as_deref());
    let secret = secret.filter(|secret| secret.immutable != Some(true))?;
    let former = find(id, observed, secret, &inputs.ring)?;
    let request = request_of(observed);
    Some(former.next_check(request.as_ref(), is_synced, inputs.now))
}
