//! What the watches tell.

use std::collections::BTreeSet;

use controller_core::object_id::ObjectId;
use k8s_openapi::api::core::v1 as core;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;

use super::catalogue::Seen;
use super::{ClusterStore, id_of};

impl ClusterStore {
    /// Takes in a SealedSecret as the watch gave it. Says which object is to be looked at, if the
    /// change concerns us.
    pub fn take(&self, object: DynamicObject) -> Option<ObjectId> {
        self.catalogue().take(object)
    }

    /// Takes note that a SealedSecret is gone.
    pub fn lose(&self, object: &DynamicObject) -> Option<ObjectId> {
        let id = id_of(&object.metadata)?;
        self.catalogue().lose(&id).then_some(id)
    }

    /// The objects of that namespace, or of all, that a complete list does not have.
    pub fn lose_all_but(
        &self,
        namespace: Option<&str>,
        listed: &BTreeSet<ObjectId>,
    ) -> Vec<ObjectId> {
        let mut catalogue = self.catalogue();
        let lost = catalogue.missing(namespace, listed);
        for id in &lost {
            catalogue.lose(id);
        }
        lost
    }

    /// Takes in a Secret's metadata. Says which object is to be looked at: one whose Secret is not
    /// as we know it. Nothing is kept of Secrets that belong to no SealedSecret.
    pub fn take_secret(&self, secret: &PartialObjectMeta<core::Secret>) -> Option<ObjectId> {
        let id = id_of(&secret.metadata)?;
        let seen = Seen::of(&secret.metadata);
        self.catalogue()
            .heard_of_secret(&id, seen.as_ref())
            .then_some(id)
    }

    /// Every object. One that is gone is among them until that was seen to.
    pub fn ids(&self) -> Vec<ObjectId> {
        self.catalogue().ids(None).cloned().collect()
    }

    /// Another replica sees to it: if the object is gone, nothing need be kept of it.
    pub fn leave_to_others(&self, id: &ObjectId) {
        if self.catalogue().forget(id) {
            self.events.forget(id);
        }
    }

    /// May a record tell that nothing is to be done for this object, once its Secret was heard of?
    pub fn may_be_recognised(&self, id: &ObjectId) -> bool {
        let catalogue = self.catalogue();
        catalogue.entry(id).is_some_and(|entry| {
            entry.is_well() && entry.status.as_ref().is_some_and(|s| s.record.is_some())
        })
    }

    /// Takes note that a Secret is gone.
    pub fn lose_secret(&self, secret: &PartialObjectMeta<core::Secret>) -> Option<ObjectId> {
        let id = id_of(&secret.metadata)?;
        self.catalogue().heard_of_secret(&id, None).then_some(id)
    }

    /// Is there a SealedSecret of that name?
    pub fn has(&self, id: &ObjectId) -> bool {
        self.catalogue().entry(id).is_some()
    }

    /// Every object in that namespace, or in all, whose Secret a complete list does not have. It has to
    /// be fetched to be believed.
    pub fn without_secret(
        &self,
        namespace: Option<&str>,
        listed: &BTreeSet<ObjectId>,
    ) -> Vec<ObjectId> {
        self.catalogue().without_secret(namespace, listed)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{client, id, refusal};

    fn object(name: &str) -> DynamicObject {
        let json = json!({
            "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
            "metadata": { "name": name, "namespace": "ns" }, "spec": { "encryptedData": {} },
        });
        serde_json::from_value(json).unwrap()
    }

    #[tokio::test]
    async fn of_what_is_left_to_others_only_what_is_gone_is_forgotten() {
        let store = ClusterStore::new(client(|_, _| refusal(500, "not asked")), false);
        for name in ["gone", "there"] {
            store.take(object(name));
        }
        store.lose(&object("gone"));
        for name in ["gone", "there"] {
            store.leave_to_others(&id(name));
        }
        assert_eq!(store.ids(), [id("there")]);
    }
}
