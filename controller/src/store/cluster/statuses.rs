//! Writes statuses by PUT to their subresource.

use std::sync::atomic::Ordering;

use controller_core::object_id::ObjectId;
use kube::Resource as _;
use kube::api::{ApiResource, DynamicObject, PostParams};
use serde_json::json;
use shared::resource::{SealedSecret, SealedSecretStatus};
use tracing::warn;

use super::catalogue::Entry;
use super::{ClusterStore, is};
use crate::readable::Readable;
use crate::store::{StoreError, api};

/// Maximum number of attempts to write a status if other clients change the object meanwhile; after that it
/// is left to the next reconciliation.
const STATUS_TRIES: usize = 5;

impl ClusterStore {
    /// Writes the status. After a conflict it reads the new version and retries, so that changes by other
    /// clients to other fields are kept.
    pub(super) async fn write_status(
        &self,
        id: &ObjectId,
        entry: Entry,
        status: SealedSecretStatus,
    ) -> Result<(), StoreError> {
        let sealed = self.sealed(id);
        let mut version = entry.resource_version.clone();
        for _ in 0..STATUS_TRIES {
            let body = Readable::Object(status_body(id, version.as_deref(), &status));
            match sealed
                .replace_status(&id.name, &PostParams::default(), &body)
                .await
            {
                Ok(answer) => {
                    self.lacks_statuses.store(false, Ordering::Relaxed);
                    if let Some(answer) = answer.object() {
                        self.notice_pruning(&status, &answer);
                        self.catalogue().wrote_status(&answer);
                    }
                    return Ok(());
                }
                Err(error) if is(&error, 404) => {
                    return self.notice_missing_subresource(id, &entry).await;
                }
                Err(error) if is(&error, 409) => {
                    let current = sealed.get_opt(&id.name).await;
                    let Some(current) = current.map_err(api("cannot read the SealedSecret"))?
                    else {
                        return Ok(());
                    };
                    // The object was recreated or its spec changed: its own reconciliation will report the
                    // outcome.
                    let current = current.meta();
                    if current.uid != entry.uid || current.generation != entry.generation {
                        return Ok(());
                    }
                    version.clone_from(&current.resource_version);
                }
                Err(error) => return Err(api("cannot update the status")(error)),
            }
        }
        Err(StoreError::Contended)
    }

    /// Detects a resource definition without statuses. The API server gives the same answer as for a deleted
    /// object, so if the object exists, the definition has no statuses.
    async fn notice_missing_subresource(
        &self,
        id: &ObjectId,
        entry: &Entry,
    ) -> Result<(), StoreError> {
        if self.lacks_statuses.load(Ordering::Relaxed) {
            return Ok(());
        }
        let found = self.sealed(id).get_opt(&id.name).await;
        let found = found.map_err(api("cannot read the SealedSecret"))?;
        let is_there = found.is_some_and(|found| found.meta().uid == entry.uid);
        if is_there && !self.lacks_statuses.swap(true, Ordering::Relaxed) {
            warn!(
                "The definition of SealedSecrets in this cluster (the CustomResourceDefinition \
                 sealedsecrets.bitnami.com) has no `status` subresource, so no status can be written: apply the \
                 definition that comes with this controller, then restart the controller"
            );
        }
        Ok(())
    }

    fn notice_pruning(&self, sent: &SealedSecretStatus, answer: &DynamicObject) {
        let lacks = |field: &str| answer.data["status"][field].is_null();
        if !sent.items.is_empty()
            && lacks("items")
            && !self.drops_items.swap(true, Ordering::Relaxed)
        {
            warn!(
                "The definition of SealedSecrets in this cluster drops `status.items`, which names the key \
                 behind each item: apply the definition that comes with this controller"
            );
        }
        if sent.record.is_some()
            && lacks("record")
            && !self.drops_record.swap(true, Ordering::Relaxed)
        {
            warn!(
                "The definition of SealedSecrets in this cluster drops `status.record`, so that each start \
                 decrypts everything again: apply the definition that comes with this controller"
            );
        }
    }
}

/// Returns the request body, without `spec`: the API server keeps the stored object's.
fn status_body(id: &ObjectId, version: Option<&str>, status: &SealedSecretStatus) -> DynamicObject {
    let mut body = DynamicObject::new(&id.name, &ApiResource::erase::<SealedSecret>(&()))
        .within(&id.namespace);
    body.metadata.resource_version = version.map(str::to_owned);
    body.data = json!({ "status": status });
    body
}
