//! Keeps former values in Secrets, until no Pod uses them.

use std::collections::BTreeMap;

use controller_core::object_id::ObjectId;
use controller_core::ownership;
use controller_core::previous::{self, FormerValues, NewValues, Request};
use jiff::Timestamp;
use shared::secret::Secret;

use super::attempt::{Inputs, Tools};
use super::versioning::Provenance;
use crate::store::{Observed, Source, Store};

impl<S: Store> Tools<S> {
    /// Adds the former values that the SealedSecret requests to its desired Secret. Returns whether the Secret then
    /// changes without an edit by another client.
    ///
    /// A Secret with content of another owner, or into which the SealedSecret is merged, keeps no former values: they
    /// could replace an item of that owner, and would not be removed.
    pub(super) fn keep_former_values(
        &self,
        observed: &Observed,
        provenance: &Provenance,
        desired: &mut Secret,
        inputs: &Inputs,
    ) -> bool {
        previous::remove_marks(desired);
        let (Source::Sealed(sealed), Some(versioning)) = (&observed.source, self.versioning())
        else {
            return false;
        };
        let existing = observed.existing.secret();
        let has_only_own_content = existing.is_none_or(|secret| {
            let merges =
                ownership::merges(&desired.metadata, &secret.metadata, observed.is_exclusive);
            observed.is_exclusive && !merges
        });
        let request = requested(observed).filter(|_| has_only_own_content);
        let Some(request) = request else {
            return false;
        };
        let content_version = versioning.version_without_random_values(sealed, provenance);
        let newest = observed
            .status
            .as_ref()
            .and_then(|status| status.versions.first());
        let is_changed = newest.is_some_and(|newest| newest.version != content_version);
        let version = |item: &String| {
            let version = versioning.item_version(sealed, provenance, &content_version, item);
            (item.clone(), version)
        };
        let items = request.items().iter();
        let versions: BTreeMap<String, String> = items
            .filter(|item| desired.data.contains_key(*item))
            .map(version)
            .collect();
        let new = NewValues {
            versions,
            key_id: versioning.key.id(),
            is_changed: !observed.settled && is_changed,
            drops_former: inputs.drops_former,
        };
        previous::keep(desired, existing, &request, new, inputs.now)
    }

    /// Returns whether no Pod uses the former values of the observed Secret anymore. The status can only delay the
    /// removal, since other clients may write it.
    pub(super) async fn may_drop_former_values(
        &self,
        id: &ObjectId,
        observed: &Observed,
        now: Timestamp,
    ) -> bool {
        let former = observed
            .existing
            .secret()
            .and_then(|secret| FormerValues::of(secret, now));
        let is_by_time = requested(observed).is_some_and(|request| request.is_by_time());
        let Some(former) = former.filter(|_| !is_by_time) else {
            return false;
        };
        let status = observed.status.as_ref();
        let newest = status.and_then(|status| status.versions.first());
        let reported = newest
            .and_then(|newest| newest.time.as_ref())
            .map(|time| time.0);
        let changed_at = former.since().max(reported.unwrap_or(former.since()));
        self.store.is_current_everywhere(id, changed_at, now).await == Some(true)
    }
}

/// Returns the existing Secret without unneeded former values; `None` if all are needed.
pub(super) fn without_former_values(observed: &Observed, inputs: &Inputs) -> Option<Secret> {
    let secret = observed.existing.secret()?;
    let former = FormerValues::of(secret, inputs.now)?;
    let request = requested(observed);
    let until = former.until(request.as_ref());
    let is_over = inputs.drops_former || until <= inputs.now;
    // If the SealedSecret cannot be read, its request is unknown.
    let is_known = matches!(observed.source, Source::Sealed(_));
    let request = request.filter(|_| is_known);
    (is_known || is_over)
        .then(|| former.removed_from(secret, request.as_ref(), is_over))
        .flatten()
}

/// Returns the request of the SealedSecret. Invalid annotations count as no request; the object is refused.
pub(super) fn requested(observed: &Observed) -> Option<Request> {
    match &observed.source {
        Source::Sealed(sealed) => Request::of(sealed).ok().flatten(),
        Source::Malformed(_) | Source::Gone => None,
    }
}

/// Returns when to check again whether the former values of a Secret are needed; `None` if it has none, or if it is
/// immutable, so that nothing can be removed.
pub(super) fn next_check(
    observed: &Observed,
    secret: Option<&Secret>,
    is_synced: bool,
    now: Timestamp,
) -> Option<Timestamp> {
    let secret = secret.filter(|secret| secret.immutable != Some(true))?;
    let former = FormerValues::of(secret, now)?;
    Some(former.next_check(requested(observed).as_ref(), is_synced, now))
}
