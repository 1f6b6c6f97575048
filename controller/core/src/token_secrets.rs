//! The changes that Kubernetes itself makes to Secrets of type `kubernetes.io/service-account-token`.
//!
//! Kubernetes modifies Secrets of no other built-in type. The token controller adds the items `token` and `namespace`
//! if they are missing or empty, always sets `ca.crt` to the cluster's certificate authority, and records the uid of
//! the `ServiceAccount` in an annotation. None of this is drift. Removing these additions would create a new token each
//! time and invalidate the token that clients use.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use shared::secret::Secret;

use crate::ownership::secret_type;

/// The Secret type of service account tokens.
pub const TYPE: &str = "kubernetes.io/service-account-token";

/// Annotation with the name of the `ServiceAccount`. The author of the Secret must set it.
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// The annotations that determine to which `ServiceAccount` the token belongs.
pub const ANNOTATIONS: [&str; 2] = [ACCOUNT, ACCOUNT_UID];

const AUTHORITY: &str = "ca.crt";
const ADDED_ITEMS: [&str; 3] = ["token", AUTHORITY, "namespace"];

/// Copies Kubernetes' additions from the existing Secret, if both Secrets have [`TYPE`]. If the `ServiceAccount`
/// changes, removes the uid of the previous one instead: Kubernetes deletes a Secret whose uid does not belong to the
/// named account.
pub fn keep_additions(next: &mut Secret, existing: &Secret) {
    if secret_type(next) != TYPE || secret_type(existing) != TYPE {
        return;
    }
    if annotation(&next.metadata, ACCOUNT) != annotation(&existing.metadata, ACCOUNT) {
        drop_uid(&mut next.metadata, &existing.metadata);
        return;
    }
    for item in ADDED_ITEMS {
        keep_item(item, next, existing);
    }
    if let Some(uid) = annotation(&existing.metadata, ACCOUNT_UID) {
        let annotations = next.metadata.annotations.get_or_insert_default();
        annotations
            .entry(ACCOUNT_UID.into())
            .or_insert_with(|| uid.to_owned());
    }
}

fn keep_item(item: &str, next: &mut Secret, existing: &Secret) {
    let is_empty = |secret: &Secret| {
        secret
            .data
            .get(item)
            .is_none_or(|value| value.expose().is_empty())
    };
    if is_empty(existing) || (item != AUTHORITY && !is_empty(next)) {
        return;
    }
    if let Some(value) = existing.data.get(item) {
        next.data.insert(item.into(), value.clone());
    }
}

/// Removes the uid if it equals that of the existing Secret.
fn drop_uid(next: &mut ObjectMeta, existing: &ObjectMeta) {
    if annotation(next, ACCOUNT_UID) == annotation(existing, ACCOUNT_UID) {
        next.annotations
            .as_mut()
            .and_then(|annotations| annotations.remove(ACCOUNT_UID));
    }
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    let annotations = metadata.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use shared::plain::Plain;

    use super::*;

    fn secret(type_: &str, items: &[(&str, &str)], annotations: &[(&str, &str)]) -> Secret {
        let mut secret = Secret {
            type_: Some(type_.into()),
            ..Secret::default()
        };
        for (item, value) in items {
            let value = Plain::from((*value).to_owned());
            secret.data.insert((*item).into(), value);
        }
        let to_owned_pair =
            |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let annotations: BTreeMap<_, _> = annotations.iter().map(to_owned_pair).collect();
        secret.metadata.annotations = Some(annotations);
        secret
    }

    fn values(secret: &Secret) -> Vec<(&str, &str)> {
        let pairs = secret.data.iter();
        pairs
            .map(|(item, value)| (item.as_str(), std::str::from_utf8(value.expose()).unwrap()))
            .collect()
    }

    const ACCOUNT_A: (&str, &str) = (ACCOUNT, "a");
    const UID: (&str, &str) = (ACCOUNT_UID, "u");

    #[test]
    fn keeps_additions_of_the_token_controller() {
        let existing = secret(
            TYPE,
            &[
                ("ca.crt", "C"),
                ("namespace", "ns"),
                ("old", "1"),
                ("token", "T"),
            ],
            &[ACCOUNT_A, UID],
        );
        for (case_name, sealed, want) in [
            (
                "nothing sealed",
                &[][..],
                &[("ca.crt", "C"), ("namespace", "ns"), ("token", "T")][..],
            ),
            (
                "additional item",
                &[("x", "1")],
                &[
                    ("ca.crt", "C"),
                    ("namespace", "ns"),
                    ("token", "T"),
                    ("x", "1"),
                ],
            ),
            (
                "empty items",
                &[("namespace", ""), ("token", "")],
                &[("ca.crt", "C"), ("namespace", "ns"), ("token", "T")],
            ),
            (
                "sealed token and namespace take precedence, and the authority is the cluster's",
                &[
                    ("ca.crt", "sealed"),
                    ("namespace", "other"),
                    ("token", "sealed"),
                ],
                &[("ca.crt", "C"), ("namespace", "other"), ("token", "sealed")],
            ),
        ] {
            let mut next = secret(TYPE, sealed, &[ACCOUNT_A]);
            keep_additions(&mut next, &existing);
            assert_eq!(values(&next), want, "{case_name}");
            assert_eq!(
                annotation(&next.metadata, ACCOUNT_UID),
                Some("u"),
                "{case_name}"
            );
        }
    }

    #[test]
    fn removes_the_additions_if_the_account_changes() {
        let existing = secret(TYPE, &[("token", "T")], &[ACCOUNT_A, UID]);
        for annotations in [&[(ACCOUNT, "b")][..], &[(ACCOUNT, "b"), UID]] {
            let mut next = secret(TYPE, &[], annotations);
            keep_additions(&mut next, &existing);
            assert_eq!(values(&next), []);
            assert_eq!(annotation(&next.metadata, ACCOUNT_UID), None);
        }
    }

    #[test]
    fn items_of_the_token_controller_are_drift_in_other_types() {
        let items = [("ca.crt", "C"), ("namespace", "ns"), ("token", "T")];
        for type_ in [
            "Opaque",
            "kubernetes.io/tls",
            "bootstrap.kubernetes.io/token",
        ] {
            let existing = secret(type_, &items, &[ACCOUNT_A, UID]);
            let mut next = secret(type_, &[], &[ACCOUNT_A]);
            keep_additions(&mut next, &existing);
            assert_eq!(values(&next), [], "{type_}");
        }
    }
}
