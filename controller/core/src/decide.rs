//! Decides how to change a Secret from its desired and its existing state, with pure functions.

use std::collections::{BTreeMap, BTreeSet};

use shared::plain::Plain;
use shared::secret::Secret;
use shared::secret_types::{MAX_SECRET_LEN, Missing, check_names};
use shared::unseal::UnsealError;

use crate::author_limits::{AuthorLimits, Violation};
use crate::drift::Fight;
use crate::names_size;
use crate::no_secret::NoSecret;
use crate::object_id::ObjectId;
use crate::ownership::{is_equivalent, secret_type, successor};

/// The desired state of a SealedSecret's Secret.
#[derive(Debug)]
pub enum Desired {
    /// A Secret.
    Secret {
        /// The Secret that the SealedSecret currently describes.
        secret: Box<Secret>,
        /// Items whose values differ between renderings.
        random_items: BTreeSet<String>,
    },
    /// No Secret: the SealedSecret is deleted.
    Nothing,
    /// No Secret: the SealedSecret was unsealed, and its values are only delivered to Pods.
    Delivered,
    /// Unknown: the SealedSecret cannot be read, cannot be unsealed, or is refused.
    Unknown(Refusal),
}

impl Desired {
    /// Returns whether each rendering has different values.
    pub fn is_random(&self) -> bool {
        matches!(self, Self::Secret { random_items, .. } if !random_items.is_empty())
    }

    /// Returns the desired Secret; `None` if there is none, or if it is unknown.
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Secret { secret, .. } => Some(secret),
            Self::Nothing | Self::Delivered | Self::Unknown(_) => None,
        }
    }
}

/// The existing state of a SealedSecret's Secret.
#[derive(Debug)]
pub enum Existing {
    /// The Secret does not exist.
    Absent,
    /// The controller owns the Secret.
    Owned(Content),
    /// The controller does not own the Secret.
    NotOwned,
    /// The Secret cannot be read, for this reason.
    Unreadable(String),
}

impl Existing {
    /// Returns the complete Secret; `None` if the controller does not own it, or knows at most its values.
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Owned(Content::Secret(secret)) => Some(secret),
            Self::Owned(Content::Values(_))
            | Self::Absent
            | Self::NotOwned
            | Self::Unreadable(_) => None,
        }
    }
}

/// The known content of an existing Secret.
#[derive(Debug)]
pub enum Content {
    /// Only the values. Values that cannot be read are left out.
    Values(BTreeMap<String, Plain>),
    /// The complete Secret.
    Secret(Box<Secret>),
}

impl Content {
    /// Returns the values; for [`Self::Secret`], its data.
    pub fn values(&self) -> &BTreeMap<String, Plain> {
        match self {
            Self::Values(values) => values,
            Self::Secret(secret) => &secret.data,
        }
    }
}

/// Input of the decision besides the desired and the existing state.
#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent flags, each with a name wherever it is set or read"
)]
pub struct Circumstances<'a> {
    /// Whether the SealedSecret is unchanged since the last success. If so, another client caused any difference
    /// between the Secret and the desired Secret.
    pub settled: bool,
    /// Whether only a status, which any client may have written, claims that the SealedSecret is unchanged since the
    /// last success. If so, labels and annotations of other clients are kept, as in the settled case.
    pub claimed: bool,
    /// Whether edits by other clients are left in place.
    pub tolerates_drift: bool,
    /// Whether all content of the existing Secret is known to come from the SealedSecret. See
    /// [`crate::ownership::merges`].
    pub is_exclusive: bool,
    /// Whether a new version counts as different from the Secret even if its values are equal. Otherwise, any user who
    /// can edit the SealedSecret could confirm a guess of a value.
    pub hides_equality: bool,
    /// The existing Secret without the former values that are no longer needed; `None` if all are needed. Updates are
    /// based on this Secret, so that a merge does not keep those values.
    pub purged: Option<&'a Secret>,
}

/// The change to apply.
#[derive(Debug, PartialEq)]
pub enum Plan {
    /// Create the Secret.
    Create(Box<Secret>),
    /// Replace the Secret with this one.
    Replace(Box<Secret>),
    /// Delete the Secret.
    Remove,
    /// Change nothing.
    Leave,
    /// Change nothing and report the reason.
    Refuse(Refusal),
}

/// Why the Secret does not match the SealedSecret.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The SealedSecret, one of its annotations or one of its templates is invalid.
    #[error("{0}")]
    Malformed(String),
    /// The SealedSecret cannot be unsealed.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// The SealedSecret was unsealed, but no valid Secret results from its values.
    #[error("{0}")]
    Values(NoSecret),
    /// The SealedSecret requires something that the author limits forbid.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The type of the Secret requires an item that is missing.
    #[error("cannot write the Secret: {0}; add the missing items, or change the type")]
    Missing(#[from] Missing),
    /// The values are larger than an API server accepts, by their public size. Occurs only for objects without
    /// templates and without the deprecated field `spec.data`: the size of other values is not public.
    #[error(
        "cannot write the Secret: its values have {0} bytes, and the limit of Kubernetes is {MAX_SECRET_LEN}; split the object"
    )]
    TooLarge(usize),
    /// The existing Secret cannot be read.
    #[error("cannot read the existing values: {0}")]
    Unreadable(String),
    /// A Secret that is not owned has the same name. The text equals upstream's.
    #[error("failed update: Resource {:?} already exists and is not managed by SealedSecret", .0.name)]
    NotManaged(ObjectId),
    /// The type of the Secret would change, which an API server does not allow.
    #[error(
        "the Secret {id} has type {from:?} but the template requires {to:?}, and the type of a Secret cannot be changed: \
         delete the Secret, and the controller recreates it"
    )]
    TypeChange {
        /// The Secret.
        id: ObjectId,
        /// The type of the existing Secret.
        from: String,
        /// The type in the template; `Opaque` if the template has none.
        to: String,
    },
    /// An immutable Secret would become mutable or get different values, neither of which an API server allows. Values
    /// that must not be compared count as different.
    #[error(
        "Error updating {0}: the target Secret is immutable. Its values stay as they are; \
         delete the Secret, and the controller recreates it"
    )]
    Immutable(ObjectId),
    /// Another client keeps reverting the controller's corrections.
    #[error(transparent)]
    DriftFight(Fight),
}

/// Decides what to do for one object.
///
/// Secrets that are not owned are never modified or deleted. While the desired state is unknown, the Secret
/// stays as it is.
pub fn decide(
    id: &ObjectId,
    desired: Desired,
    existing: &Existing,
    circumstances: Circumstances<'_>,
) -> Plan {
    match (desired, existing) {
        (Desired::Unknown(refusal), _) => Plan::Refuse(refusal),
        (Desired::Nothing | Desired::Delivered, Existing::Owned(_)) => Plan::Remove,
        (Desired::Nothing | Desired::Delivered, Existing::Absent | Existing::NotOwned) => {
            Plan::Leave
        }
        (_, Existing::Unreadable(reason)) => Plan::Refuse(Refusal::Unreadable(reason.clone())),
        (Desired::Secret { secret, .. }, Existing::Absent) => Plan::Create(secret),
        (Desired::Secret { secret, .. }, Existing::Owned(content)) => {
            plan_update(id, *secret, content, circumstances)
        }
        (Desired::Secret { .. }, Existing::NotOwned) => {
            Plan::Refuse(Refusal::NotManaged(id.clone()))
        }
    }
}

/// Returns the plan, or a refusal if the plan would write a Secret of a forbidden type, or one that the controller
/// would load as a key. The SealedSecret itself is checked earlier. This check covers merges, since the existing Secret
/// can have a type or a label that is not in the SealedSecret. Forbidden labels and annotations are not checked here,
/// since the author of the SealedSecret did not choose those of the existing Secret.
pub fn enforce_limits(limits: &AuthorLimits, plan: Plan) -> Plan {
    match &plan {
        Plan::Create(secret) | Plan::Replace(secret) => match limits.allow_secret(secret) {
            Ok(()) => plan,
            Err(violation) => Plan::Refuse(violation.into()),
        },
        Plan::Remove | Plan::Leave | Plan::Refuse(_) => plan,
    }
}

/// Returns the plan, or a refusal if an API server would never accept the Secret. The Secret must have the items that
/// its type requires, and its values must not be too large. The size is checked only if `public_size` returns it.
pub fn enforce_api_rules(plan: Plan, public_size: impl FnOnce(&Secret) -> Option<usize>) -> Plan {
    let (Plan::Create(secret) | Plan::Replace(secret)) = &plan else {
        return plan;
    };
    let has = |name: &str| secret.data.contains_key(name);
    if let Err(missing) = check_names(secret.type_.as_deref(), has) {
        return Plan::Refuse(missing.into());
    }
    match public_size(secret) {
        Some(size) if size > MAX_SECRET_LEN => Plan::Refuse(Refusal::TooLarge(size)),
        _ => plan,
    }
}

fn plan_update(
    id: &ObjectId,
    desired: Secret,
    existing: &Content,
    circumstances: Circumstances<'_>,
) -> Plan {
    let is_tolerated = circumstances.settled && circumstances.tolerates_drift;
    match existing {
        Content::Values(values) if desired.data == *values || is_tolerated => Plan::Leave,
        Content::Values(_) => Plan::Replace(Box::new(desired)),
        Content::Secret(existing) => {
            let is_kept = circumstances.settled || circumstances.claimed;
            let metadata = [&desired.metadata, &existing.metadata];
            let keeps_added_metadata = is_kept && names_size::leave_room(&desired.data, &metadata);
            let is_exclusive = circumstances.is_exclusive;
            let base = circumstances.purged.unwrap_or(existing);
            let next = successor(desired, base, keeps_added_metadata, is_exclusive);
            let is_new = circumstances.hides_equality && !circumstances.settled;
            if is_tolerated || !is_new && is_equivalent(&next, existing) {
                return Plan::Leave;
            }
            match update_refusal(id, &next, existing, is_new) {
                Some(refusal) => Plan::Refuse(refusal),
                None => Plan::Replace(Box::new(make_distinct(next, existing))),
            }
        }
    }
}

/// Returns the refusal that applies regardless of the values; `None` if there is none. `without_values` is the desired
/// Secret without its values.
///
/// The controller checks this before it renders templates. Such a refusal is repeated until the Secret or the
/// SealedSecret changes. If each repetition rendered the templates, an author could write a template that begins to
/// fail at a time that depends on a value, and infer the value from the time when the status changes.
pub fn value_independent_refusal(
    id: &ObjectId,
    without_values: Secret,
    existing: &Existing,
    settled: bool,
    is_exclusive: bool,
) -> Option<Refusal> {
    match existing {
        Existing::NotOwned => Some(Refusal::NotManaged(id.clone())),
        Existing::Owned(Content::Secret(existing)) => {
            let mut next = successor(without_values, existing, settled, is_exclusive);
            next.data.clone_from(&existing.data);
            update_refusal(id, &next, existing, false)
        }
        Existing::Owned(Content::Values(_)) | Existing::Absent | Existing::Unreadable(_) => None,
    }
}

/// Makes the Secret differ from the existing one if both are equal. A write of an equal Secret is a no-op in
/// the API server: it leaves `resourceVersion` and the revision counts of other programs unchanged.
/// Kubernetes treats `immutable: false` like an absent field, so this function toggles between the two. An immutable
/// Secret stays equal.
fn make_distinct(mut next: Secret, existing: &Secret) -> Secret {
    if is_equivalent(&next, existing) {
        next.immutable = match existing.immutable {
            None => Some(false),
            Some(false) => None,
            Some(true) => Some(true),
        };
    }
    next
}

/// Returns the refusal of an update that an API server would reject because it changes the type of the Secret, or makes
/// an immutable Secret mutable or changes its values; `None` for other updates. Values of a new version (`is_new`)
/// count as different, since they must not be compared.
fn update_refusal(
    id: &ObjectId,
    next: &Secret,
    existing: &Secret,
    is_new: bool,
) -> Option<Refusal> {
    let is_immutable = existing.immutable == Some(true);
    if secret_type(next) != secret_type(existing) {
        let (from, to) = (secret_type(existing).into(), secret_type(next).into());
        let id = id.clone();
        return Some(Refusal::TypeChange { id, from, to });
    }
    let becomes_mutable = next.immutable != Some(true);
    let changes_values = is_new || next.data != existing.data;
    (is_immutable && (becomes_mutable || changes_values)).then(|| Refusal::Immutable(id.clone()))
}

#[cfg(test)]
mod tests;
