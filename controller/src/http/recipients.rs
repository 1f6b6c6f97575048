//! The public keys that `/v2/recipients` lists.

use jiff::Timestamp;
use shared::key::{Certificate, Validity};
use shared::key_ring::{AnyKey, KeyRing, NoSealingKey};
use shared::v2::{ListedRecipient, RecipientList};

/// Returns the keys that may seal now. The first is the sealing key of the preferred suite; like a certificate, it is
/// listed even if it is expired, unless there is a newer key. Clients check the validity. The other keys of the
/// preferred suite follow, and then the keys of other suites, newest first.
///
/// # Errors
///
/// Returns the reason why no key of the preferred suite may seal. A key of another suite does not take the first
/// position: clients seal with the first key, so the protection against quantum computers could be lost.
pub(super) fn list(ring: &KeyRing, now: Timestamp) -> Result<RecipientList, NoSealingKey> {
    let suite = ring.preferred_suite();
    let first = ring.sealing_key_of(suite, now)?;
    let mut others: Vec<AnyKey> = ring.all_keys().collect();
    others.retain(|key| key.key_id() != first.key_id() && may_seal(ring, key, now));
    others.sort_by_key(|key| (key.suite() != suite, key.suite()));
    let keys = [first].into_iter().chain(others);
    let recipients = keys.filter_map(|key| listed_recipient(&key)).collect();
    Ok(RecipientList { recipients })
}

fn may_seal(ring: &KeyRing, key: &AnyKey, now: Timestamp) -> bool {
    let sealing_half = key.sealing_half();
    sealing_half.is_some_and(|half| half.validity(now) == Validity::Valid)
        && ring.why_key_cannot_seal(key).is_none()
}

fn listed_recipient(key: &AnyKey) -> Option<ListedRecipient> {
    let sealing_half = key.sealing_half()?;
    let recipient = match key {
        AnyKey::Rsa(_) => None,
        AnyKey::V2(key) => Some(key.recipient().to_string()),
    };
    Some(ListedRecipient {
        suite: key.suite().to_string(),
        key_id: key.key_id().to_string(),
        recipient,
        certificate: sealing_half.certificate.map(Certificate::to_pem),
        not_before: sealing_half.not_before,
        not_after: sealing_half.not_after,
    })
}
