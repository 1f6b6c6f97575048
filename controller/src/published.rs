//! Publishes the certificate in a `ConfigMap`, for clients that cannot use the service proxy.
//!
//! Opt-in: it needs `get` and `update` on that `ConfigMap` and `create` on configmaps, which upstream's roles do not
//! grant. Readers must not trust the `ConfigMap` more than any other object that other clients can write: `kubeseal`
//! accepts a certificate from it only if it knows the fingerprint.

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
use crate::reconcile::wait;
use crate::store::api_response;

/// The item with the certificate of the newest key, in PEM.
pub const ITEM: &str = "cert.pem";
/// Pause between two checks for changes by other clients.
const CHECK_INTERVAL: Duration = Duration::from_mins(5);

/// Writes the certificate of the newest key to the `ConfigMap` whenever one of them changes.
pub struct Publisher {
    config_maps: Api<Readable<ConfigMap>>,
    name: String,
    namespace: String,
    ring: watch::Receiver<Arc<KeyRing>>,
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
                    wait(failures, shared::random::number())
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

    /// Logs an error, unless it is the same as the last one.
    fn report(&mut self, error: &Unpublished) {
        let forbidden =
            matches!(error, Unpublished::Api(kube::Error::Api(status)) if status.code == 403);
        let text = error.to_string();
        if text == self.reported {
            return;
        }
        let (name, namespace) = (&self.name, &self.namespace);
        if !matches!(error, Unpublished::Api(_)) {
            warn!(
                "--certificate-configmap: the certificate is not published, because the ConfigMap {name} in \
                 {namespace} {text}. Delete it: the controller creates it again"
            );
        } else if forbidden {
            warn!(
                error = text,
                "--certificate-configmap: the certificate is not published, because RBAC does not allow this \
                 controller to get, create and update the ConfigMap {name} in {namespace}; grant these verbs, or remove \
                 the flag"
            );
        } else {
            warn!(
                error = text,
                "Cannot publish the certificate, will try again"
            );
        }
        self.reported = text;
    }

    async fn publish(&mut self) -> Result<(), Unpublished> {
        let ring = Arc::clone(&self.ring.borrow_and_update());
        let sealing = ring.sealing(Timestamp::now()).ok();
        let Some(certificate) = sealing.and_then(|key| key.certificate()) else {
            return Ok(());
        };
        let pem = certificate.to_pem();
        let existing = self.config_maps.get_opt(&self.name).await?;
        let is_new = existing.is_none();
        let Some(changed) = updated(existing, &self.name, &pem)? else {
            return Ok(());
        };
        let changed = Readable::Object(changed);
        let params = PostParams::default();
        if is_new {
            self.config_maps.create(&params, &changed).await?;
        } else {
            let name = changed.name_any();
            self.config_maps.replace(&name, &params, &changed).await?;
        }
        self.reported.clear();
        let fingerprint = certificate.fingerprint();
        info!(configmap = self.name, %fingerprint, "Certificate published");
        Ok(())
    }
}

/// Why the certificate is not published.
#[derive(Debug, thiserror::Error)]
enum Unpublished {
    #[error("{}", api_response(.0))]
    Api(#[from] kube::Error),
    #[error("has another certificate and is immutable")]
    Immutable,
    #[error("has a field that this controller cannot read")]
    Unreadable,
}

/// Returns the `ConfigMap` with the current certificate, or `None` if it is up to date. Keeps other items.
fn updated(
    existing: Option<Readable<ConfigMap>>,
    name: &str,
    pem: &str,
) -> Result<Option<ConfigMap>, Unpublished> {
    let mut object = match existing {
        Some(existing) => existing.object().ok_or(Unpublished::Unreadable)?,
        None => ConfigMap::default(),
    };
    object.metadata.name = Some(name.to_owned());
    let data = object.data.get_or_insert_default();
    let before = data.insert(ITEM.to_owned(), pem.to_owned());
    match object.immutable {
        _ if before.as_deref() == Some(pem) => Ok(None),
        Some(true) => Err(Unpublished::Immutable),
        _ => Ok(Some(object)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_only_an_outdated_certificate_and_keeps_other_items() {
        let updated = |existing: Option<&ConfigMap>, pem| {
            updated(existing.cloned().map(Readable::Object), "c", pem).unwrap()
        };
        let created = updated(None, "new").unwrap();
        assert_eq!(created.name_any(), "c");
        assert_eq!(updated(Some(&created), "new"), None);
        let mut others = created;
        let data = others.data.get_or_insert_default();
        data.insert("note".into(), "ours".into());
        let changed = updated(Some(&others), "newer").unwrap().data.unwrap();
        assert_eq!(changed[ITEM], "newer");
        assert_eq!(changed["note"], "ours");
    }

    #[test]
    fn an_immutable_config_map_is_an_error_only_if_its_certificate_is_another() {
        for (before, immutable, fails) in [
            (Some("old"), Some(true), true),
            (None, Some(true), true),
            (Some("new"), Some(true), false),
            (Some("old"), Some(false), false),
            (Some("old"), None, false),
        ] {
            let data = before.map(|pem| [(ITEM.to_owned(), pem.to_owned())].into());
            let existing = ConfigMap {
                data,
                immutable,
                ..ConfigMap::default()
            };
            let result = updated(Some(Readable::Object(existing)), "c", "new");
            assert_eq!(result.is_err(), fails, "{before:?} {immutable:?}");
        }
        let odd = Readable::Unreadable(Box::default());
        assert!(matches!(
            updated(Some(odd), "c", "new"),
            Err(Unpublished::Unreadable)
        ));
    }
}
