//! Explains why an item cannot be unsealed.

use std::fmt::Write as _;

use kubeseal_library::keys::{KeyRecord, V2KeyRecord};
use shared::hints;
use shared::needs::{Reason, ScopedName, own_scoped_name};
use shared::resource::{KEY_ACTIVE, KEY_LABEL, SealedSecret, V2_KEY_LABEL};
use shared::scope::Scope;
use shared::unseal::UsedKey;
use shared::v2::Refusal;

use super::findings::Finding;
use super::keys::StoredKeys;
use crate::seal::keys::rotate_command;

/// Explains why an item can or cannot be unsealed, and what to do.
pub(super) fn explain(sealed: &SealedSecret, item: &str, reason: &Reason) -> Finding {
    match reason {
        Reason::Opens(key) => Finding::good(format!("can be unsealed with {key}")),
        Reason::OpensV2(key) => Finding::good(format!("can be unsealed with {key}")),
        Reason::Elsewhere(scoped_name, _) | Reason::MovedV2(scoped_name) => {
            let (finding, remedy) =
                explain_other_scoped_name(scoped_name, &own_scoped_name(sealed));
            Finding::bad(finding, remedy)
        }
        Reason::Damaged(key) => Finding::bad(
            format!(
                "it was sealed for {key} and for this object, but was damaged or truncated since"
            ),
            "restore it from an earlier commit, or seal the value again",
        ),
        Reason::NotSealed(why) => Finding::bad(
            why.to_string(),
            "check for a lost line or a plain value, and seal the value again",
        ),
        Reason::NoKeyOfSize(bits) => Finding::bad(
            format!("it was sealed for a key of {bits} bits, and no available key has this size"),
            "it was sealed for another cluster, or its beginning is missing: seal it with the certificate of this \
             cluster",
        ),
        Reason::Refused(why) if matches!(**why, Refusal::UnknownKey { .. }) => Finding::bad(
            why.to_string(),
            "pass a backup of one of these keys with --backup; if the controller lacks the key, restore it with `seal \
             keys restore BACKUP`; if the key is lost, seal the values again",
        ),
        Reason::Refused(why) => Finding::bad(
            why.to_string(),
            "restore the object from an earlier commit, or seal the values again",
        ),
        Reason::Unknown => explain_unknown(sealed, item),
    }
}

/// Returns a finding if no active key Secret contains `key`, which unseals an item. Returns `None` if no key Secrets
/// were read.
pub(super) fn unused_key(key: &UsedKey, stored: &StoredKeys) -> Option<Finding> {
    let own = secrets_with(key, stored);
    if stored.is_empty() || own.iter().any(|secret| secret.is_active) {
        return None;
    }
    let rotate = rotate_command(key);
    Some(match own.first() {
        Some(KeySecretUse { name, label, .. }) => Finding::bad(
            format!("its key {key} is retired, so the controller cannot unseal it"),
            format!(
                "re-encrypt the value with `{rotate}`, or restore the label {label}={KEY_ACTIVE} of the Secret {name}"
            ),
        ),
        None => Finding::bad(
            format!("{key} can unseal it, but is not a key of the controller"),
            format!(
                "re-encrypt the value with `{rotate}`, or restore the key with `seal keys restore BACKUP`"
            ),
        ),
    })
}

/// A key Secret, with the label that shows whether its key is in use.
struct KeySecretUse<'a> {
    name: &'a str,
    label: &'static str,
    is_active: bool,
}

/// Returns the Secrets that contain a key.
fn secrets_with<'a>(key: &UsedKey, stored: &'a StoredKeys) -> Vec<KeySecretUse<'a>> {
    let has_rsa = |record: &&KeyRecord| record.fingerprint() == key.fingerprint();
    let rsa = stored
        .rsa
        .iter()
        .filter(has_rsa)
        .map(|record| KeySecretUse {
            name: record.name(),
            label: KEY_LABEL,
            is_active: record.properties.is_active,
        });
    let has_v2 = |record: &&V2KeyRecord| {
        let id = record.key_id();
        id.is_some_and(|id| *key == UsedKey::V2(id.short()))
    };
    let v2 = stored.v2.iter().filter(has_v2).map(|record| KeySecretUse {
        name: record.name(),
        label: V2_KEY_LABEL,
        is_active: record.is_active,
    });
    match key {
        UsedKey::Rsa(_) => rsa.collect(),
        UsedKey::V2(_) => v2.collect(),
    }
}

fn explain_unknown(sealed: &SealedSecret, item: &str) -> Finding {
    let hints = hints::read(sealed.metadata.annotations.as_ref());
    let hint = hints.get(item).map(|key| format!("; its hint names {key}"));
    Finding::bad(
        format!(
            "no available key can unseal it, for this object or for another likely name or namespace{}",
            hint.unwrap_or_default()
        ),
        "it was sealed for another cluster or a lost key: seal it with the certificate of this cluster, or pass more \
         keys with --backup; if it was sealed for another object, pass --try-namespace and --try-name",
    )
}

/// Returns how the scope, namespace or name that an item was sealed for differs from those of its object, and the
/// remedy.
fn explain_other_scoped_name(scoped_name: &ScopedName, own: &ScopedName) -> (String, String) {
    let (finding, reversal) = if scoped_name.scope == own.scope {
        in_same_scope(scoped_name, own)
    } else {
        in_another_scope(scoped_name, own)
    };
    let remedy = format!("{reversal}, or seal the value again for this object");
    (finding, remedy)
}

fn in_another_scope(scoped_name: &ScopedName, own: &ScopedName) -> (String, String) {
    let mut finding = format!(
        "it was sealed with scope {}, but the object declares {}",
        scoped_name.scope, own.scope
    );
    if scoped_name.scope == Scope::Strict
        && (scoped_name.name != own.name || scoped_name.namespace != own.namespace)
    {
        let _ = write!(
            finding,
            ", for {}/{}",
            scoped_name.namespace, scoped_name.name
        );
    } else if scoped_name.scope == Scope::NamespaceWide && scoped_name.namespace != own.namespace {
        let _ = write!(finding, ", for the namespace {}", scoped_name.namespace);
    }
    let reversal = match scoped_name.scope.annotation() {
        Some(name) => format!("restore the annotation {name}: \"true\" of the SealedSecret"),
        None => "remove the scope annotation of the SealedSecret".to_owned(),
    };
    (finding, reversal)
}

fn in_same_scope(scoped_name: &ScopedName, own: &ScopedName) -> (String, String) {
    let (mut parts, mut reversals) = (Vec::new(), Vec::new());
    if scoped_name.namespace != own.namespace {
        parts.push(format!("the namespace {}", scoped_name.namespace));
        reversals.push(format!(
            "move the object back to the namespace {}",
            scoped_name.namespace
        ));
    }
    if scoped_name.scope == Scope::Strict && scoped_name.name != own.name {
        parts.push(format!("the name {}", scoped_name.name));
        reversals.push(format!("rename the object back to {}", scoped_name.name));
    }
    let finding = format!("it was sealed for {}", parts.join(" and "));
    (finding, reversals.join(" and "))
}
