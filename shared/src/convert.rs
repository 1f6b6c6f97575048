//! Converts SealedSecrets from v2 to v1, for users who hold the private keys. [`crate::reseal`] converts to v2.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rand::CryptoRng;

use crate::key::PublicKey;
use crate::key_ring::KeyRing;
use crate::meter::Unmetered;
use crate::names::NameError;
use crate::resource::SealedSecret;
use crate::scope::Scope;
use crate::v2::{self, Checked, Edit, OpenError, OpenedLocks, Policy, Refusal, Target};
use crate::{base64, envelope};

/// The maximum time by which a revision may be ahead of the current time.
const MAX_AHEAD: SignedDuration = SignedDuration::from_hours(24);

/// Why an object cannot be converted. On an error, no value is converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The object violates the v2 format or the policy.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A value cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The scope needs a name or namespace, which the object lacks or the API server would reject.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The RSA key cannot encrypt.
    #[error(transparent)]
    Seal(#[from] envelope::SealError),
    /// v1 cannot express that values must never become a Secret object.
    #[error(
        "the values are sealed for use without a Secret object, which v1 cannot express; seal them again for a Secret"
    )]
    NeverSecret,
}

/// Returns a policy for users who may read the values. It refuses only revisions more than 24 hours after `now`, and
/// more than [`v2::DEFAULT_MAX_LOCKS`] locks.
pub fn policy(now: Timestamp) -> Policy {
    let highest = now.saturating_add(MAX_AHEAD).unwrap_or(Timestamp::MAX);
    Policy {
        highest_revision: u64::try_from(highest.as_millisecond()).ok(),
        ..Policy::default()
    }
}

/// Seals all v2 values again as v1, for one RSA key. v1 values stay as they are. Gives up what v1 lacks, such as the
/// binding to the item key and the template, post-quantum encryption, and several recipients.
///
/// # Errors
///
/// Returns [`ConvertError`] if the object cannot be converted.
pub fn to_v1(
    sealed: &SealedSecret,
    ring: &KeyRing,
    key: &PublicKey,
    policy: &Policy,
    random: &mut impl CryptoRng,
) -> Result<Edit, ConvertError> {
    if !v2::is_v2(&sealed.spec.encrypted_data) {
        return Ok(Edit::default());
    }
    let checked = Checked::new(sealed, policy, Target::Other)?;
    if checked.object().is_never_secret() {
        return Err(ConvertError::NeverSecret);
    }
    let scope = Scope::from_annotations(sealed.metadata.annotations.as_ref());
    let label = scope.label_for_sealing(sealed.namespace_or_empty(), sealed.name_or_empty())?;
    let (keys, mut opened) = (ring.openers(), OpenedLocks::default());
    let values = v2::open(&checked, &keys, &mut opened, &mut Unmetered, random)?;
    let mut set = BTreeMap::new();
    for (item, opened) in values {
        let text = envelope::seal(key, &label, opened.value.plain.expose(), random)?;
        set.insert(item, base64::encode(&text));
    }
    let names = sealed.spec.encrypted_data.keys();
    let locks = names.filter(|name| v2::is_lock_entry(name));
    let remove = locks.cloned().collect();
    Ok(Edit { set, remove })
}
