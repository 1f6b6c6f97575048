//! Publishes the certificate in a `ConfigMap`, for clients that cannot use the service proxy.
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
use shared::key_ring::KeyRing;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::readable::Readable;
use crate::reconcile::backoff;
use crate::store::api_response;

/// The item with the certificate of the sealing key, in PEM.
pub const ITEM: &str = "cert.pem";
/// Pause between two checks for changes by other clients.
const CHECK_INTERVAL: Duration = Duration::from_mins(5);

/// Writes the certificate of the sealing key to the `ConfigMap` whenever either changes.
pub struct Publisher {
    config_maps: Api<Readable<ConfigMap>>,
    name: String,
    namespace: String,
    ring: watch::Receiver<Arc<KeyRing>>,
    /// The last logged error; empty after a success.
    reported: String,
}

impl Publisher {
    /// Creates a publisher for a `ConfigMap`.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        ring: watch::Receiver<Arc<KeyRing>>,
    ) -> Self {
        Self {
            config_maps: Api::namespaced(client, namespace),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            ring,
            reported: String::new(),
        }
    }

    /// Runs until the sender of the key ring is dropped. Cancel safe.
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

    /// Logs an error, unless it equals the last one.
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
        let Some(certificate) = sealing.and_then(|key| key.certificate()) else {
            return Ok(());
        };
        let pem = certificate.to_pem();
        let existing = self.config_maps.get_opt(&self.name).await?;
        let is_new = existing.is_none();
        let Some(updated) = update(existing, &self.name, &pem)? else {
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
        let fingerprint = certificate.fingerprint();
        info!(configmap = self.name, %fingerprint, "Certificate published");
        Ok(())
    }
}

/// The certificate cannot be published.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("{}", api_response(.0))]
    Api(#[from] kube::Error),
    #[error("has another certificate and is immutable")]
    Immutable,
    #[error("has a field that this controller cannot read")]
    Unreadable,
}

/// Returns the `ConfigMap` with this certificate, or `None` if it is up to date. Keeps other items.
///
/// # Errors
///
/// Fails if the `ConfigMap` cannot be read, or is immutable and has another certificate or none.
fn update(
    existing: Option<Readable<ConfigMap>>,
    name: &str,
    pem: &str,
) -> Result<Option<ConfigMap>, PublishError> {
    let mut object = match existing {
        Some(existing) => existing.object().ok_or(PublishError::Unreadable)?,
        None => ConfigMap::default(),
    };
    object.metadata.name = Some(name.to_owned());
    let data = object.data.get_or_insert_default();
    let previous = data.insert(ITEM.to_owned(), pem.to_owned());
    match object.immutable {
        _ if previous.as_deref() == Some(pem) => Ok(None),
        Some(true) => Err(PublishError::Immutable),
        _ => Ok(Some(object)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_only_an_outdated_certificate_and_keeps_other_items() {
        let update = |existing: Option<&ConfigMap>, pem| {
            update(existing.cloned().map(Readable::Object), "c", pem).unwrap()
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
            let result = update(Some(Readable::Object(existing)), "c", "new");
            assert_eq!(result.is_err(), fails, "{previous:?} {immutable:?}");
        }
        let unreadable = Readable::Unreadable(Box::default());
        assert!(matches!(
            update(Some(unreadable), "c", "new"),
            Err(PublishError::Unreadable)
        ));
    }
}
