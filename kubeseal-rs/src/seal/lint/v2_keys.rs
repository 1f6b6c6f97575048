//! Compares the recipients of v2 values with the keys that a rule retires and pins, as far as possible without a
//! network.

use kubeseal_library::rules::Rule;
use shared::key::Fingerprint;
use shared::key_ring::KeyRing;
use shared::v2::{ItemView, Recipient as _, ShortKeyId, Suite};

use super::object::CheckContext;
use crate::seal::object::{Form, Object};

/// A recipient of a value: the key and its suite, or `None` for an unknown suite.
type Recipient = (ShortKeyId, Option<Suite>);

/// How a recipient compares with the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecipientStatus {
    /// The rule lists the key as retired.
    Retired,
    /// The rule accepts other keys only.
    NotAccepted,
    /// The key cannot be compared with the rule.
    Unknown,
    /// The rule neither retires nor excludes the key, but does not necessarily list the key.
    Fine,
}

/// Compares a recipient with the rule. The fingerprint of an RSA key is known only if its certificate or private key
/// can be read; its identifier does not contain the fingerprint.
pub(super) fn compare((id, suite): &Recipient, context: CheckContext<'_>) -> RecipientStatus {
    let Some(rule) = &context.settings.rule else {
        return RecipientStatus::Unknown;
    };
    let fingerprint = fingerprint(*id, context);
    let is_unnamed_rsa = *suite == Some(Suite::Rsa) && fingerprint.is_none();
    let is_retired = |fingerprint: &Fingerprint| context.settings.is_retired(fingerprint);
    if rule
        .retired_ids
        .iter()
        .any(|retired| retired.short() == *id)
        || fingerprint.as_ref().is_some_and(is_retired)
    {
        RecipientStatus::Retired
    } else if is_unnamed_rsa && !rule.retired.is_empty() {
        RecipientStatus::Unknown
    } else if context.recipients.has(*id) {
        RecipientStatus::Fine
    } else {
        compare_unlisted((*id, fingerprint), is_unnamed_rsa, rule, context)
    }
}

/// Compares a recipient with the pins of the rule, if the recipient is not among the known keys of the rule.
fn compare_unlisted(
    (id, fingerprint): (ShortKeyId, Option<Fingerprint>),
    is_unnamed_rsa: bool,
    rule: &Rule,
    context: CheckContext<'_>,
) -> RecipientStatus {
    let is_pinned = fingerprint.is_some_and(|fingerprint| rule.fingerprints.contains(&fingerprint))
        || rule.key_ids.iter().any(|pin| pin.short() == id);
    let has_pins = !rule.fingerprints.is_empty() || !rule.key_ids.is_empty();
    if context.recipients.unknown == 0 || is_pinned {
        RecipientStatus::Fine
    } else if !has_pins || (is_unnamed_rsa && !rule.fingerprints.is_empty()) {
        RecipientStatus::Unknown
    } else {
        RecipientStatus::NotAccepted
    }
}

/// Returns the fingerprint of an RSA key whose certificate or private key can be read.
fn fingerprint(id: ShortKeyId, context: CheckContext<'_>) -> Option<Fingerprint> {
    let from_rule = context.recipients.fingerprints.get(&id).cloned();
    let certificate = context
        .certificate
        .filter(|c| c.public_key().key_id().short() == id);
    let ring = context.ring.into_iter().flat_map(KeyRing::keys);
    let mut from_ring = ring.filter(|key| key.key_id().short() == id);
    from_rule
        .or_else(|| certificate.map(|certificate| certificate.fingerprint().clone()))
        .or_else(|| from_ring.next().map(|key| key.fingerprint().clone()))
}

/// Returns the number of v2 items with recipients that cannot be compared with the rule.
pub(super) fn count_uncompared(object: &Object, context: CheckContext<'_>) -> usize {
    let is_unknown = |view: &ItemView| {
        let mut recipients = view.recipients.iter();
        recipients.any(|key| compare(key, context) == RecipientStatus::Unknown)
    };
    let items = object.items.iter();
    let uncompared = items.filter(|item| matches!(&item.form, Form::V2(view) if is_unknown(view)));
    uncompared.count()
}
