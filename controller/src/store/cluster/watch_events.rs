//! Records watch events in the store.

use std::collections::BTreeSet;

use controller_core::object_id::ObjectId;
use kube::core::ObjectMeta;

use super::watched::Watched;
use super::{ClusterStore, id_of};

impl ClusterStore {
    /// Stores a SealedSecret from the watch. Returns the object to reconcile, if the change affects its Secret.
    pub fn store_object(&self, object: Watched) -> Option<ObjectId> {
        let changed = self.catalog().store(object);
        changed.inspect(|id| self.changes.report(id))
    }

    /// Records that a SealedSecret was deleted. Returns the object to reconcile; `None` if the store does not contain
    /// it.
    pub fn mark_deleted(&self, object: &Watched) -> Option<ObjectId> {
        let id = id_of(&object.metadata)?;
        let deleted = self.catalog().mark_deleted(&id).then_some(id);
        deleted.inspect(|id| self.changes.report(id))
    }

    /// Marks the objects in a namespace (or in all namespaces) that are not in a complete list as deleted, and
    /// returns them.
    pub fn mark_missing_as_deleted(
        &self,
        namespace: Option<&str>,
        listed: &BTreeSet<ObjectId>,
    ) -> Vec<ObjectId> {
        let mut catalog = self.catalog();
        let missing = catalog.missing_ids(namespace, listed);
        for id in &missing {
            catalog.mark_deleted(id);
            self.changes.report(id);
        }
        missing
    }

    /// Records the version of a Secret. Returns the object to reconcile, if its Secret has changed. Stores nothing
    /// about Secrets without a SealedSecret.
    pub fn record_secret(&self, secret: &ObjectMeta) -> Option<ObjectId> {
        let id = id_of(secret)?;
        self.catalog()
            .observe_secret(&id, Some(secret))
            .then_some(id)
    }

    /// Returns all objects, including deleted objects that are not reconciled yet.
    pub fn ids(&self) -> Vec<ObjectId> {
        self.catalog().ids(None).cloned().collect()
    }

    /// Forgets an object if it was deleted. Called for objects that another replica now reconciles.
    pub fn forget_if_deleted(&self, id: &ObjectId) {
        if self.catalog().forget(id) {
            self.events.forget(id);
        }
    }

    /// Returns whether the status reports that the object is synced, and has a record, so that its Secret can show that
    /// no reconciliation is needed.
    pub fn may_be_recognized(&self, id: &ObjectId) -> bool {
        let catalog = self.catalog();
        catalog.entry(id).is_some_and(|entry| {
            entry.is_synced() && entry.status.as_ref().is_some_and(|s| s.record.is_some())
        })
    }

    /// Records that a Secret was deleted. Returns the object to reconcile, if the Secret belongs to a SealedSecret and
    /// was not already absent.
    pub fn record_secret_deletion(&self, secret: &ObjectMeta) -> Option<ObjectId> {
        let id = id_of(secret)?;
        self.catalog().observe_secret(&id, None).then_some(id)
    }

    /// Returns whether the store contains a SealedSecret with this namespace and name, possibly as deleted.
    pub fn contains(&self, id: &ObjectId) -> bool {
        self.catalog().entry(id).is_some()
    }

    /// Returns the objects in a namespace (or in all namespaces) whose Secret existed and is not in a complete list.
    /// The caller must confirm the absence by a read.
    pub fn ids_without_secret(
        &self,
        namespace: Option<&str>,
        listed: &BTreeSet<ObjectId>,
    ) -> Vec<ObjectId> {
        self.catalog().ids_without_secret(namespace, listed)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{client, id, refusal};

    fn object(name: &str) -> Watched {
        let json = json!({
            "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
            "metadata": { "name": name, "namespace": "ns" }, "spec": { "encryptedData": {} },
        });
        serde_json::from_value(json).unwrap()
    }

    #[tokio::test]
    async fn a_standby_forgets_only_deleted_objects() {
        let store = ClusterStore::new(client(|_, _| refusal(500, "not asked")), false);
        for name in ["deleted", "existing"] {
            store.store_object(object(name));
        }
        store.mark_deleted(&object("deleted"));
        for name in ["deleted", "existing"] {
            store.forget_if_deleted(&id(name));
        }
        assert_eq!(store.ids(), [id("existing")]);
    }
}
