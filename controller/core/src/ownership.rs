//! The ownership of Secrets by SealedSecrets, and the update of an existing Secret, based on upstream's rules.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use shared::resource::{
    MANAGED_ANNOTATION, PATCH_ANNOTATION, PREVIOUS_VALUES_ANNOTATION, RANDOM_VALUES_ANNOTATION,
    SKIP_OWNER_ANNOTATION, SealedSecret,
};
use shared::secret::Secret;

use crate::token_secrets;

/// The type of a Secret whose type is not set.
const DEFAULT_TYPE: &str = "Opaque";

/// Annotations with which a Secret allows a SealedSecret to change it.
const CONSENT_ANNOTATIONS: [&str; 3] =
    [MANAGED_ANNOTATION, PATCH_ANNOTATION, SKIP_OWNER_ANNOTATION];

/// Sets the owner reference of a Secret before it is written, unless the template opts out. A SealedSecret without
/// `uid` cannot own anything.
pub fn set_owner(secret: &mut Secret, sealed: &SealedSecret) {
    if has_annotation(&secret.metadata, SKIP_OWNER_ANNOTATION) {
        return;
    }
    secret.metadata.owner_references = owner_reference(sealed).map(|owner| vec![owner]);
}

fn owner_reference(sealed: &SealedSecret) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: "bitnami.com/v1alpha1".into(),
        kind: "SealedSecret".into(),
        name: sealed.metadata.name.clone()?,
        uid: sealed.metadata.uid.clone()?,
        controller: Some(true),
        block_owner_deletion: None,
    })
}

/// Returns whether the SealedSecret with the metadata `sealed` and this template may write the Secret `existing`.
///
/// The SealedSecret may write the Secret if it already controls the Secret, or if annotations of the Secret allow this.
/// Such annotations grant nothing new: any client that can write them can also write the Secret. A Secret
/// that the controller created without an owner is recognized by the annotation [`SKIP_OWNER_ANNOTATION`], if the
/// template still has that annotation and no other object controls the Secret.
///
/// If all content of the Secret is known to come from the SealedSecret (`is_exclusive`), the annotation for merging does
/// not count, since there is no other owner who could consent to a merge. Otherwise, a client that removes the owner
/// could hide this by adding the annotation.
pub fn is_owned(
    existing: &ObjectMeta,
    sealed: &ObjectMeta,
    template: &ObjectMeta,
    is_exclusive: bool,
) -> bool {
    let skips_owner = has_annotation(existing, SKIP_OWNER_ANNOTATION)
        && has_annotation(template, SKIP_OWNER_ANNOTATION);
    is_controlled_by(existing, sealed.uid.as_deref())
        || has_annotation(existing, MANAGED_ANNOTATION)
        || !is_exclusive && is_merged_into(existing)
        || skips_owner && controller(existing).is_none()
}

/// Returns whether the SealedSecret with the given `uid` controls the Secret, or an annotation of the Secret allows a
/// SealedSecret to change it. If not, [`is_owned`] is false for every template.
pub fn may_be_owned(existing: &ObjectMeta, uid: Option<&str>) -> bool {
    let mut annotations = CONSENT_ANNOTATIONS.iter();
    is_controlled_by(existing, uid) || annotations.any(|name| has_annotation(existing, name))
}

/// Returns whether the object with the given `uid` controls the Secret; false without a `uid`.
pub fn is_controlled_by(existing: &ObjectMeta, uid: Option<&str>) -> bool {
    uid.is_some() && controller(existing).map(|owner| owner.uid.as_str()) == uid
}

/// Returns whether the Secret's annotations allow a SealedSecret to take over and own the Secret.
pub fn is_handed_over(existing: &ObjectMeta) -> bool {
    has_annotation(existing, MANAGED_ANNOTATION) && !has_annotation(existing, SKIP_OWNER_ANNOTATION)
}

/// Returns whether the Secret has the annotation for merging.
pub fn is_merged_into(existing: &ObjectMeta) -> bool {
    has_annotation(existing, PATCH_ANNOTATION)
}

/// Returns whether a SealedSecret is merged into the Secret instead of replacing it: the Secret has the annotation for
/// merging. If all content of the Secret comes from the SealedSecret (`is_exclusive`), the annotation counts only if
/// the template has it too. Otherwise, another client could permanently stop corrections by adding the annotation;
/// [`successor`] reverts such an addition.
pub fn merges(template: &ObjectMeta, existing: &ObjectMeta, is_exclusive: bool) -> bool {
    let is_allowed = !is_exclusive || has_annotation(template, PATCH_ANNOTATION);
    is_merged_into(existing) && is_allowed
}

/// Removes the annotation for merging if its value is `true`.
pub fn drop_consent(metadata: &mut ObjectMeta) {
    if is_merged_into(metadata)
        && let Some(annotations) = metadata.annotations.as_mut()
    {
        annotations.remove(PATCH_ANNOTATION);
    }
}

/// Removes all labels and annotations except those of the template (if it is known), and except the annotations for
/// consent, former values, random values and service account tokens. The additions of the administrator are removed
/// too; the caller adds them again.
pub fn drop_metadata_of_others(metadata: &mut ObjectMeta, template: Option<&ObjectMeta>) {
    let unknown = ObjectMeta::default();
    let template = template.unwrap_or(&unknown);
    retain(&mut metadata.labels, |key| has_key(&template.labels, key));
    retain(&mut metadata.annotations, |key| {
        has_key(&template.annotations, key) || is_own_annotation(key)
    });
}

fn retain(texts: &mut Metadata, is_kept: impl Fn(&str) -> bool) {
    if let Some(texts) = texts {
        texts.retain(|key, _| is_kept(key));
    }
}

fn has_key(texts: &Metadata, key: &str) -> bool {
    texts.as_ref().is_some_and(|texts| texts.contains_key(key))
}

fn is_own_annotation(key: &str) -> bool {
    CONSENT_ANNOTATIONS.contains(&key)
        || [RANDOM_VALUES_ANNOTATION, PREVIOUS_VALUES_ANNOTATION].contains(&key)
        || token_secrets::ANNOTATIONS.contains(&key)
}

fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true))
}

/// Returns whether the annotation has exactly the value `true`, as in upstream.
fn has_annotation(metadata: &ObjectMeta, annotation: &str) -> bool {
    let annotations = metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(annotation))
        .is_some_and(|value| value == "true")
}

/// Returns the updated version of an existing Secret. The Secret keeps its identity and the fields that upstream does
/// not change.
///
/// Values, labels and annotations are replaced; if the SealedSecret is merged into the Secret ([`merges`]), they are
/// added to the existing entries. With `keeps_metadata`, labels and annotations are added to the existing ones too. If
/// all content comes from the SealedSecret (`is_exclusive`), a consent to a merge that is not in the template is
/// removed. The additions of Kubernetes itself are kept as described in [`token_secrets::keep_additions`].
///
/// Consent to a merge covers only items, labels and annotations: a template that is merged into a Secret of another
/// owner cannot add consent annotations or make the Secret immutable.
pub fn successor(
    mut desired: Secret,
    existing: &Secret,
    keeps_metadata: bool,
    is_exclusive: bool,
) -> Secret {
    let merges = merges(&desired.metadata, &existing.metadata, is_exclusive);
    if merges && !is_controlled_by(&existing.metadata, owner_uid(&desired)) {
        let annotations = desired.metadata.annotations.as_mut();
        if let Some(annotations) = annotations {
            annotations.retain(|key, _| !CONSENT_ANNOTATIONS.contains(&key.as_str()));
        }
        desired.immutable = None;
    }
    let is_consent_added = is_exclusive && !is_merged_into(&desired.metadata);
    let owns = !merges || is_exclusive || has_annotation(&existing.metadata, MANAGED_ANNOTATION);
    let mut next = existing.clone();
    if merges {
        next.data.extend(desired.data);
        next.type_ = desired.type_.or(next.type_);
        next.immutable = desired.immutable.or(next.immutable);
    } else {
        next.data = desired.data;
        next.type_ = desired.type_;
        next.immutable = desired.immutable;
    }
    let (metadata, desired) = (&mut next.metadata, desired.metadata);
    let keeps_existing = merges || keeps_metadata;
    put(&mut metadata.labels, desired.labels, keeps_existing);
    put(
        &mut metadata.annotations,
        desired.annotations,
        keeps_existing,
    );
    if is_consent_added {
        drop_consent(metadata);
    }
    if owns {
        metadata.owner_references = desired.owner_references;
    }
    token_secrets::keep_additions(&mut next, existing);
    next
}

/// Returns the uid of the SealedSecret that will own the Secret; `None` if the Secret gets no owner reference.
fn owner_uid(desired: &Secret) -> Option<&str> {
    let owner = controller(&desired.metadata)?;
    Some(owner.uid.as_str())
}

/// Labels or annotations.
type Metadata = Option<BTreeMap<String, String>>;

fn put(into: &mut Metadata, desired: Metadata, keeps_existing: bool) {
    if keeps_existing {
        into.get_or_insert_default()
            .extend(desired.unwrap_or_default());
    } else {
        *into = desired;
    }
}

/// Returns whether both Secrets are equal in the fields that the controller writes. As for an API server, absent fields
/// equal empty fields and `false`, and an unset type equals `Opaque`.
pub fn is_equivalent(next: &Secret, existing: &Secret) -> bool {
    let owners = |secret: &Secret| secret.metadata.owner_references.clone().unwrap_or_default();
    let texts = |texts: &Metadata| texts.clone().unwrap_or_default();
    let (a, b) = (&next.metadata, &existing.metadata);
    next.data == existing.data
        && secret_type(next) == secret_type(existing)
        && next.immutable.unwrap_or_default() == existing.immutable.unwrap_or_default()
        && owners(next) == owners(existing)
        && texts(&a.labels) == texts(&b.labels)
        && texts(&a.annotations) == texts(&b.annotations)
}

/// Returns the type, with the default that the API server fills in.
pub fn secret_type(secret: &Secret) -> &str {
    let type_ = secret.type_.as_deref().unwrap_or_default();
    if type_.is_empty() {
        DEFAULT_TYPE
    } else {
        type_
    }
}

#[cfg(test)]
mod tests;
