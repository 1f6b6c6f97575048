//! Publishes the certificate in a `ConfigMap`, for clients that cannot use the service proxy, and the CA certificate of
//! the TLS port, for clients that send a token to it.
//!
//! Disabled by default: the controller needs `get` and `update` on that `ConfigMap` and `create` on configmaps, which
//! upstream's roles do not grant. Other clients may be able to write the `ConfigMap`, so `kubeseal` accepts a
//! certificate from a `ConfigMap` only if it knows the fingerprint.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use shared::key::Certificate;
use shared::key_ring::KeyRing;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::readable::Readable;
use crate::reconcile::backoff;
use crate::store::api_response;

/// The item with the certificate of the sealing key, in PEM.
pub const ITEM: &str = "cert.pem";
/// The item with the CA certificates of the TLS ports of all replicas, in PEM, newest first.
pub const AUTHORITY_ITEM: &str = "ca.pem";
/// The maximum number of CA certificates. Each start of a replica adds a certificate; the keys of earlier certificates
/// no longer exist.
const MAX_AUTHORITIES: usize = 10;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
/// Pause between two checks for changes by other clients.
const CHECK_INTERVAL: Duration = Duration::from_mins(5);

/// Writes the certificate of the sealing key, and the CA certificate, to the `ConfigMap` when the key ring changes, and
/// every five minutes checks for changes by other clients.
pub struct Publisher {
    config_maps: Api<Readable<ConfigMap>>,
    name: String,
    namespace: String,
    ring: watch::Receiver<Arc<KeyRing>>,
    /// The CA certificate of this process's TLS port, in PEM, if that port is enabled.
    authority: Option<String>,
    /// The last logged error; empty after a success.
    reported: String,
}

impl Publisher {
    /// Creates a publisher for a `ConfigMap`. `authority` is the CA certificate of the TLS port, in PEM.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        ring: watch::Receiver<Arc<KeyRing>>,
        authority: Option<String>,
    ) -> Self {
        Self {
            config_maps: Api::namespaced(client, namespace),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            ring,
            authority,
            reported: String::new(),
        }
    }

    /// Publishes until the sender of the key ring is dropped. Cancel safe.
    pub async fn run(mut self) {
        let mut failures = 0;
        loop {
            let pause = match self.publish().await {
                Ok(()) => {
                    failures = 0;
                    CHECK_INTERVAL
                }
                Err(error) => {
                    failures += 1;
                    self.report(&error);
                    backoff(failures, shared::random::number())
                        .unsigned_abs()
                        .min(CHECK_INTERVAL)
                }
            };
            tokio::select! {
                changed = self.ring.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Logs an error, unless it equals the last logged error.
    fn report(&mut self, error: &PublishError) {
        let is_forbidden =
            matches!(error, PublishError::Api(kube::Error::Api(status)) if status.code == 403);
        let text = error.to_string();
        if text == self.reported {
            return;
        }
        let (name, namespace) = (&self.name, &self.namespace);
        if !matches!(error, PublishError::Api(_)) {
            warn!(
                "--certificate-configmap: the certificate is not published, because the ConfigMap {name} in \
                 {namespace} {text}; delete the ConfigMap, and the controller recreates it"
            );
        } else if is_forbidden {
            warn!(
                error = text,
                "--certificate-configmap: the certificate is not published, because RBAC does not allow this \
                 controller to get, create and update the ConfigMap {name} in {namespace}; grant these verbs, or remove \
                 the flag"
            );
        } else {
            warn!(error = text, "Cannot publish the certificate; retrying");
        }
        self.reported = text;
    }

    async fn publish(&mut self) -> Result<(), PublishError> {
        let ring = Arc::clone(&self.ring.borrow_and_update());
        let sealing = ring.sealing_key(Timestamp::now()).ok();
        let certificate = sealing.and_then(|key| key.certificate());
        let pem = certificate.map(Certificate::to_pem);
        if pem.is_none() && self.authority.is_none() {
            return Ok(());
        }
        let existing = self.config_maps.get_opt(&self.name).await?;
        let is_new = existing.is_none();
        let items = (pem.as_deref(), self.authority.as_deref());
        let Some(updated) = update(existing, &self.name, items)? else {
            return Ok(());
        };
        let updated = Readable::Object(updated);
        let params = PostParams::default();
        if is_new {
            self.config_maps.create(&params, &updated).await?;
        } else {
            let name = updated.name_any();
            self.config_maps.replace(&name, &params, &updated).await?;
        }
        self.reported.clear();
        let fingerprint = certificate.map(|certificate| certificate.fingerprint().to_string());
        info!(configmap = self.name, fingerprint, "Certificate published");
        Ok(())
    }
}

/// Why the certificate cannot be published.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("{}", api_response(.0))]
    Api(#[from] kube::Error),
    #[error("lacks the current certificate and is immutable")]
    Immutable,
    #[error("has a field that this controller cannot read")]
    Unreadable,
}

/// Returns the `ConfigMap` with this certificate and this CA certificate, or `None` if it is up to date. Keeps other
/// items.
///
/// # Errors
///
/// Fails if the `ConfigMap` cannot be read, or is immutable and lacks a certificate.
fn update(
    existing: Option<Readable<ConfigMap>>,
    name: &str,
    (certificate, authority): (Option<&str>, Option<&str>),
) -> Result<Option<ConfigMap>, PublishError> {
    let mut object = match existing {
        Some(existing) => existing.object().ok_or(PublishError::Unreadable)?,
        None => ConfigMap::default(),
    };
    object.metadata.name = Some(name.to_owned());
    let data = object.data.get_or_insert_default();
    let previous = data.clone();
    if let Some(pem) = certificate {
        data.insert(ITEM.to_owned(), pem.to_owned());
    }
    if let Some(own) = authority {
        let others = data.get(AUTHORITY_ITEM).map_or("", String::as_str);
        let all = with_authority(others, own);
        data.insert(AUTHORITY_ITEM.to_owned(), all);
    }
    match object.immutable {
        _ if *data == previous => Ok(None),
        Some(true) => Err(PublishError::Immutable),
        _ => Ok(Some(object)),
    }
}

/// Adds a CA certificate to those of other replicas if it is missing, and drops the oldest certificates above the
/// limit.
fn with_authority(others: &str, own: &str) -> String {
    if others.contains(own) {
        return others.to_owned();
    }
    let kept = others.split(BEGIN).skip(1).take(MAX_AUTHORITIES - 1);
    let kept = kept.map(|rest| format!("{BEGIN}{rest}"));
    std::iter::once(own.to_owned()).chain(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_only_an_outdated_certificate_and_keeps_other_items() {
        let update = |existing: Option<&ConfigMap>, pem| {
            let existing = existing.cloned().map(Readable::Object);
            update(existing, "c", (Some(pem), None)).unwrap()
        };
        let created = update(None, "new").unwrap();
        assert_eq!(created.name_any(), "c");
        assert_eq!(update(Some(&created), "new"), None);
        let mut with_note = created;
        let data = with_note.data.get_or_insert_default();
        data.insert("note".into(), "kept".into());
        let updated = update(Some(&with_note), "newer").unwrap().data.unwrap();
        assert_eq!(updated[ITEM], "newer");
        assert_eq!(updated["note"], "kept");
    }

    #[test]
    fn an_immutable_config_map_is_an_error_only_if_it_lacks_the_certificate() {
        for (previous, immutable, fails) in [
            (Some("old"), Some(true), true),
            (None, Some(true), true),
            (Some("new"), Some(true), false),
            (Some("old"), Some(false), false),
            (Some("old"), None, false),
        ] {
            let data = previous.map(|pem| [(ITEM.to_owned(), pem.to_owned())].into());
            let existing = ConfigMap {
                data,
                immutable,
                ..ConfigMap::default()
            };
            let items = (Some("new"), None);
            let result = update(Some(Readable::Object(existing)), "c", items);
            assert_eq!(result.is_err(), fails, "{previous:?} {immutable:?}");
        }
        let unreadable = Readable::Unreadable(Box::default());
        assert!(matches!(
            update(Some(unreadable), "c", (Some("new"), None)),
            Err(PublishError::Unreadable)
        ));
    }

    #[test]
    fn publishes_the_ca_certificates_of_all_replicas_and_drops_the_oldest() {
        let authority = |number: usize| format!("{BEGIN}\n{number}\n-----END CERTIFICATE-----\n");
        let mut existing = None;
        for number in 0..=MAX_AUTHORITIES {
            let pem = authority(number);
            let before = existing.map(Readable::Object);
            existing = update(before, "c", (None, Some(&pem))).unwrap();
        }
        let object = existing.unwrap();
        let data = object.data.as_ref().unwrap();
        let newest_first: String = (1..=MAX_AUTHORITIES).rev().map(authority).collect();
        assert_eq!(data[AUTHORITY_ITEM], newest_first);
        assert!(!data.contains_key(ITEM));
        for (number, is_known) in [(1, true), (0, false)] {
            let pem = authority(number);
            let before = Some(Readable::Object(object.clone()));
            let updated = update(before, "c", (None, Some(&pem))).unwrap();
            assert_eq!(updated.is_none(), is_known, "{number}");
        }
    }
}
