//! Keeps former values in Secrets, until no Pod uses them.

use std::collections::BTreeMap;

use controller_core::object_id::ObjectId;
use controller_core::ownership::is_controlled_by;
use controller_core::previous::{self, Kept, NewValues, Request};
use jiff::{SignedDuration, Timestamp};
use shared::resource::{PreviousValues, SealedSecret, SecretVersion};
use shared::secret::Secret;

use super::attempt::{Inputs, Tools};
use super::attempt_result::AttemptResult;
use super::versioning::{Provenance, Versioning};
use crate::store::{Observed, Source, Store};

/// The pause between two checks whether Pods still use former values.
const CHECK_INTERVAL: SignedDuration = SignedDuration::from_secs(10);

impl<S: Store> Tools<S> {
    /// Adds the former values that the SealedSecret requests to its desired Secret.
    pub(super) fn keep_former_values(
        &self,
        observed: &Observed,
        provenance: &Provenance,
        desired: &mut Secret,
        inputs: &Inputs,
    ) -> Kept {
        let (Source::Sealed(sealed), Some(versioning)) = (&observed.source, self.versioning())
        else {
            return Kept::default();
        };
        let existing = observed.existing.secret();
        let may_have_other_owner = existing.is_some_and(|secret| {
            !observed.is_exclusive && !is_controlled_by(&secret.metadata, observed.uid.as_deref())
        });
        let request = Request::of(sealed).ok().flatten();
        let Some(request) = request.filter(|_| !may_have_other_owner) else {
            return Kept::default();
        };
        let is_changed = !observed.settled && is_changed(observed, &versioning, sealed, provenance);
        let new = NewValues {
            versions: item_versions(&request, &versioning, sealed, provenance),
            key_id: versioning.key.id(),
            is_changed,
            drops_former: inputs.drops_former,
        };
        previous::keep(desired, existing, &request, new, inputs.now)
    }

    /// Returns whether the former values of an object are not needed any more: their time is over, or all Pods that use
    /// the Secret have its present content.
    pub(super) async fn may_drop_former(
        &self,
        id: &ObjectId,
        previous: &PreviousValues,
        versions: &[SecretVersion],
        now: Timestamp,
    ) -> bool {
        let until = previous.until.as_ref();
        let is_over = until.is_none_or(|until| until.0 <= now);
        is_over || self.store.is_current_everywhere(id, versions, now).await == Some(true)
    }
}

/// Returns the result of an object that is up to date, with the time of the next check if it keeps former values.
pub(super) fn up_to_date(
    changed: bool,
    previous: Option<&PreviousValues>,
    now: Timestamp,
) -> AttemptResult {
    let next_check = previous.map(|previous| {
        let next = now.saturating_add(CHECK_INTERVAL).unwrap_or(now);
        let until = previous.until.as_ref().map_or(next, |until| until.0);
        next.min(until.max(now))
    });
    AttemptResult::UpToDate {
        changed,
        next_check,
    }
}

fn is_changed(
    observed: &Observed,
    versioning: &Versioning,
    sealed: &SealedSecret,
    provenance: &Provenance,
) -> bool {
    let status = observed.status.as_ref();
    let newest = status.and_then(|status| status.versions.first());
    newest.is_some_and(|newest| {
        newest.version != versioning.version_without_random_values(sealed, provenance)
    })
}

/// Returns the version of each requested value. Any of the sealed values can be part of a value that a template makes.
fn item_versions(
    request: &Request,
    versioning: &Versioning,
    sealed: &SealedSecret,
    provenance: &Provenance,
) -> BTreeMap<String, String> {
    let version = |item: &String| {
        (
            item.clone(),
            versioning.item_version(sealed, provenance, item),
        )
    };
    request.items().iter().map(version).collect()
}
