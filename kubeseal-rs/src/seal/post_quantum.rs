//! Restricts new values of an object to post-quantum keys if its other values are restricted.

use anyhow::{Result, bail};
use shared::resource::SealedSecret;
use shared::v2::{Object, Recipient as _};

use super::recipients::Recipients;
use crate::failure::Failure;
use crate::report::shown;

/// Refuses a new value for a key that is not post-quantum if existing values are for post-quantum keys only. Otherwise,
/// anyone who can change the rule could weaken the next value. Existing values are those in the file and in
/// `committed`, the object in the last commit. A key that the user names is accepted.
///
/// # Errors
///
/// Fails if the protection would be lost.
pub(super) fn check(
    sealed: &SealedSecret,
    committed: Option<&SealedSecret>,
    recipients: &Recipients,
) -> Result<()> {
    let is_weaker = |key: &&kubeseal_library::recipients::RecipientKey| {
        let mut confirmed = recipients.confirmed.iter();
        !key.suite().is_post_quantum() && !confirmed.any(|id| id.is_of(&key.key_id()))
    };
    let Some(key) = recipients.keys.iter().find(is_weaker) else {
        return Ok(());
    };
    if !std::iter::once(sealed)
        .chain(committed)
        .any(is_for_post_quantum_only)
    {
        return Ok(());
    }
    let object_name = sealed.qualified_name();
    let message = format!(
        "values of {} are sealed for post-quantum keys only, and the new value would be for {} {}, which is not post-quantum",
        shown(&object_name),
        key.suite(),
        key.short_id()
    );
    bail!(
        Failure::new(message)
            .hint("check who changed the recipients in .seal.yaml; if this is intended, pass the key with --recipient FILE")
    );
}

fn is_for_post_quantum_only(sealed: &SealedSecret) -> bool {
    let object = Object::parse(&sealed.spec.encrypted_data);
    object.is_ok_and(|object| object.view().values().any(|item| item.is_post_quantum_only))
}
