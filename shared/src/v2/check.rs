//! The checks before a private key is used. They depend on public data only, so error messages may report their results
//! exactly.

use super::error::{FormatProblem, Refusal, RequiredBy};
use super::lock::Lock;
use super::object::{Object, is_v2};
use super::place::Place;
use super::template::TemplateDigest;
use crate::resource::SealedSecret;
use crate::scope::Scope;

/// The requirements of administrators for the objects of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Requires v2: at least one sealed item, no v1 item and no `spec.data`. The locks must be either all bound to the
    /// template, or all unbound.
    pub require_v2: bool,
    /// Requires that every value is bound to the template. This is the only protection for values that exist unbound,
    /// for example in the history of a repository.
    pub require_bound: bool,
    /// Requires a post-quantum suite for every recipient of every item.
    pub require_post_quantum: bool,
    /// The highest accepted revision, in milliseconds since 1970; `None` to accept all revisions.
    pub highest_revision: Option<u64>,
    /// Maximum number of locks of an object, each of which costs a private-key operation.
    pub max_locks: usize,
}

/// The purpose for which the values of an object are opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A Secret object. Values that must never become a Secret object are refused.
    Secret,
    /// Anything else: files, a change to the sealed object, recovery.
    Other,
}

/// Maximum number of locks of an object unless an administrator chooses a different number.
pub const DEFAULT_MAX_LOCKS: usize = 256;

impl Default for Policy {
    fn default() -> Self {
        Self {
            require_v2: false,
            require_bound: false,
            require_post_quantum: false,
            highest_revision: None,
            max_locks: DEFAULT_MAX_LOCKS,
        }
    }
}

/// An object that passed all checks that precede the use of a private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub(super) object: Object,
    pub(super) place: Place,
    /// The digest of the object's template, whether values are bound to it or not.
    pub(super) template: TemplateDigest,
}

impl Checked {
    /// Parses and checks an object. The annotations of the object determine its scope.
    ///
    /// # Errors
    ///
    /// Returns the refusal of the first check that fails, in this order: form, suites, format, place, template,
    /// revision, target.
    pub fn new(sealed: &SealedSecret, policy: &Policy, target: Target) -> Result<Self, Refusal> {
        let object = Object::parse(&sealed.spec.encrypted_data)?;
        check_suites(&object)?;
        check_classical(&object, sealed, policy)?;
        check_format(&object, sealed, policy)?;
        let place = check_place(&object, sealed)?;
        let template = TemplateDigest::of(&sealed.spec.template);
        check_template(&object, &template)?;
        check_revisions(&object, policy)?;
        check_target(&object, target)?;
        Ok(Self {
            object,
            place,
            template,
        })
    }

    /// Returns the parsed object.
    pub fn object(&self) -> &Object {
        &self.object
    }

    /// Returns the place of the object; the cluster-wide place for an object that has no v2 item and lacks the
    /// namespace or name that its scope requires.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

fn check_suites(object: &Object) -> Result<(), Refusal> {
    for (item, lock) in object.locks_by_item() {
        let item = item.to_owned();
        if !lock.stanzas.values().any(|stanza| stanza.suite().is_some()) {
            return Err(Refusal::UnsupportedSuite { item });
        }
    }
    Ok(())
}

fn check_classical(object: &Object, sealed: &SealedSecret, policy: &Policy) -> Result<(), Refusal> {
    for (item, lock) in object.locks_by_item() {
        let item = item.to_owned();
        if let Some(required_by) = violated_requirement(lock, policy) {
            return Err(Refusal::SuiteRefused { item, required_by });
        }
    }
    if policy.require_post_quantum {
        check_no_v1(object, sealed)?;
    }
    Ok(())
}

/// Refuses v1 items and `spec.data`, since v1 supports RSA keys only.
fn check_no_v1(object: &Object, sealed: &SealedSecret) -> Result<(), Refusal> {
    if let Some(item) = object.v1_items.first() {
        let (item, required_by) = (item.clone(), RequiredBy::Policy);
        return Err(Refusal::SuiteRefused { item, required_by });
    }
    match sealed.spec.data {
        None => Ok(()),
        Some(_) => Err(Refusal::LegacyDataRefused),
    }
}

fn violated_requirement(lock: &Lock, policy: &Policy) -> Option<RequiredBy> {
    let mut stanzas = lock.stanzas.values();
    if stanzas.all(|stanza| stanza.suite.is_post_quantum()) {
        None
    } else if lock.header.fields.is_post_quantum_only {
        Some(RequiredBy::Lock)
    } else {
        policy.require_post_quantum.then_some(RequiredBy::Policy)
    }
}

fn check_format(
    object: &Object,
    sealed: &SealedSecret,
    policy: &Policy,
) -> Result<(), FormatProblem> {
    let limit = policy.max_locks;
    if object.locks.len() > limit {
        return Err(FormatProblem::Locks { limit });
    }
    if policy.require_v2 {
        check_v2_only(object, sealed)?;
    }
    if policy.require_bound {
        check_bound(object, sealed)?;
    }
    check_neighbors(object, sealed)
}

fn check_v2_only(object: &Object, sealed: &SealedSecret) -> Result<(), FormatProblem> {
    let bound = object.locks.iter().filter(|lock| is_bound(lock)).count();
    if sealed.spec.data.is_some() {
        Err(FormatProblem::LegacyData)
    } else if !object.v1_items.is_empty() {
        Err(FormatProblem::V1Item)
    } else if object.items.is_empty() {
        Err(FormatProblem::Empty)
    } else if bound > 0 && bound < object.locks.len() {
        Err(FormatProblem::PartlyBound)
    } else {
        Ok(())
    }
}

fn check_bound(object: &Object, sealed: &SealedSecret) -> Result<(), FormatProblem> {
    let has_v1 = !object.v1_items.is_empty() || sealed.spec.data.is_some();
    if has_v1 || !object.locks.iter().all(is_bound) {
        Err(FormatProblem::Unbound)
    } else {
        Ok(())
    }
}

/// Checks whether the locks of an object allow its other content, regardless of the policy.
fn check_neighbors(object: &Object, sealed: &SealedSecret) -> Result<(), FormatProblem> {
    let has_v1_items = !object.v1_items.is_empty();
    if sealed.spec.data.is_some() && is_v2(&sealed.spec.encrypted_data) {
        Err(FormatProblem::DataWithV2)
    } else if has_v1_items && object.locks.iter().any(is_bound) {
        Err(FormatProblem::V1WithBound)
    } else if object.is_alone() && (has_v1_items || object.locks.len() > 1) {
        Err(FormatProblem::NotAlone)
    } else {
        Ok(())
    }
}

fn is_bound(lock: &Lock) -> bool {
    lock.header.fields.template.is_some()
}

fn check_place(object: &Object, sealed: &SealedSecret) -> Result<Place, Refusal> {
    let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
    let place = Place::of(scope, sealed.namespace_or_empty(), sealed.name_or_empty());
    for (item, lock) in object.locks_by_item() {
        let is_for_place = |place: &Place| lock.header.fields.is_for(place);
        if !place.as_ref().is_some_and(is_for_place) {
            let item = item.to_owned();
            return Err(Refusal::ScopeMismatch { item });
        }
    }
    Ok(place.unwrap_or_else(Place::anywhere))
}

fn check_template(object: &Object, digest: &TemplateDigest) -> Result<(), Refusal> {
    for (item, lock) in object.locks_by_item() {
        let bound = lock.header.fields.template.as_ref();
        if bound.is_some_and(|bound| bound != digest) {
            let item = item.to_owned();
            return Err(Refusal::TemplateChanged { item });
        }
    }
    Ok(())
}

fn check_revisions(object: &Object, policy: &Policy) -> Result<(), Refusal> {
    let revision = |lock: &Lock| lock.header.fields.revision;
    let highest = object
        .locks_by_item()
        .max_by_key(|(_, lock)| revision(lock));
    let Some(((item, lock), limit)) = highest.zip(policy.highest_revision) else {
        return Ok(());
    };
    let (item, revision) = (item.to_owned(), revision(lock));
    if revision > limit {
        Err(Refusal::RevisionInFuture { item, revision })
    } else {
        Ok(())
    }
}

fn check_target(object: &Object, target: Target) -> Result<(), Refusal> {
    let mut locks = object.locks_by_item();
    let never_secret = locks.find(|(_, lock)| lock.header.fields.is_never_secret);
    match never_secret.filter(|_| target == Target::Secret) {
        None => Ok(()),
        Some((item, _)) => Err(Refusal::NeverSecret {
            item: item.to_owned(),
        }),
    }
}
