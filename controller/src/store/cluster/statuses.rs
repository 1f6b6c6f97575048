//! Writes statuses with PUT to the `status` subresource.

use std::sync::atomic::Ordering;

use controller_core::object_id::ObjectId;
use kube::api::PostParams;
use shared::resource::SealedSecretStatus;
use tracing::warn;

use super::catalog::Entry;
use super::watched::Watched;
use super::{ClusterStore, has_status};
use crate::store::{StoreError, api_error};

/// Maximum number of attempts to write a status while other clients change the object. After these attempts, the next
/// reconciliation writes the status.
const MAX_ATTEMPTS: usize = 5;

impl ClusterStore {
    /// Writes the status. After a conflict, retries with the new version of the object, unless the object was deleted
    /// or recreated, or has a new generation.
    pub(super) async fn write_status(
        &self,
        id: &ObjectId,
        entry: Entry,
        status: SealedSecretStatus,
    ) -> Result<(), StoreError> {
        let sealed_secrets = self.sealed_secrets(id);
        let mut version = entry.resource_version.clone();
        for _ in 0..MAX_ATTEMPTS {
            let body = Watched::with_status(id, version.as_deref(), &status);
            match sealed_secrets
                .replace_status(&id.name, &PostParams::default(), &body)
                .await
            {
                Ok(response) => {
                    self.lacks_subresource.store(false, Ordering::Relaxed);
                    self.detect_pruning(&status, &response);
                    self.catalog().store_status(&response);
                    return Ok(());
                }
                Err(error) if has_status(&error, 404) => {
                    return self.detect_missing_subresource(id, &entry).await;
                }
                Err(error) if has_status(&error, 409) => {
                    let current = sealed_secrets.get_opt(&id.name).await;
                    let Some(current) =
                        current.map_err(api_error("cannot read the SealedSecret"))?
                    else {
                        return Ok(());
                    };
                    // The object was recreated or its spec changed: its own reconciliation reports the outcome.
                    let current = current.metadata;
                    if current.uid != entry.uid || current.generation != entry.generation {
                        return Ok(());
                    }
                    version.clone_from(&current.resource_version);
                }
                Err(error) => return Err(api_error("cannot update the status")(error)),
            }
        }
        Err(StoreError::Contended)
    }

    /// Handles a 404 response to a status update: if the object exists, the CRD has no `status` subresource. Logs a
    /// warning once.
    async fn detect_missing_subresource(
        &self,
        id: &ObjectId,
        entry: &Entry,
    ) -> Result<(), StoreError> {
        if self.lacks_subresource.load(Ordering::Relaxed) {
            return Ok(());
        }
        let response = self.sealed_secrets(id).get_opt(&id.name).await;
        let object = response.map_err(api_error("cannot read the SealedSecret"))?;
        let exists = object.is_some_and(|object| object.metadata.uid == entry.uid);
        if exists && !self.lacks_subresource.swap(true, Ordering::Relaxed) {
            warn!(
                "The CustomResourceDefinition sealedsecrets.bitnami.com in this cluster has no `status` subresource, so no \
                 status can be written: apply the CustomResourceDefinition of this controller, then restart the controller"
            );
        }
        Ok(())
    }

    /// Logs a warning once for each of the fields `items`, `record` and `versions` that was sent and that the API
    /// server dropped.
    fn detect_pruning(&self, sent: &SealedSecretStatus, response: &Watched) {
        let lacks = |field: &str| response.status[field].is_null();
        if !sent.items.is_empty()
            && lacks("items")
            && !self.drops_items.swap(true, Ordering::Relaxed)
        {
            warn!(
                "The CustomResourceDefinition sealedsecrets.bitnami.com in this cluster drops `status.items`, which names the \
                 key that unsealed each item: apply the CustomResourceDefinition of this controller"
            );
        }
        if sent.record.is_some()
            && lacks("record")
            && !self.drops_record.swap(true, Ordering::Relaxed)
        {
            warn!(
                "The CustomResourceDefinition sealedsecrets.bitnami.com in this cluster drops `status.record`, so the \
                 controller decrypts every value again each time it starts: apply the CustomResourceDefinition of this \
                 controller"
            );
        }
        if !sent.versions.is_empty()
            && lacks("versions")
            && !self.drops_versions.swap(true, Ordering::Relaxed)
        {
            warn!(
                "The CustomResourceDefinition sealedsecrets.bitnami.com in this cluster drops `status.versions`, so \
                 `seal pods` and `seal restart` cannot see which content a Secret has: apply the CustomResourceDefinition \
                 of this controller"
            );
        }
    }
}
