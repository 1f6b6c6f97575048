//! What the watches told: every SealedSecret, and the version of each of their Secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::api::{ApiResource, DynamicObject};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::json;
use shared::resource::{SealedSecret, SealedSecretStatus};

use super::id_of;
use crate::status;
use crate::store::{ObjectId, Source};

/// The SealedSecrets of a namespace, or of all, as whatever they are: one that does not fit the type
/// must not stop the stream of the others.
pub fn sealed_secrets(client: Client, namespace: Option<&str>) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<SealedSecret>(&());
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &kind),
        None => Api::all_with(client, &kind),
    }
}

/// One SealedSecret.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) source: Source,
    pub(super) uid: Option<String>,
    pub(super) generation: Option<i64>,
    pub(super) resource_version: Option<String>,
    pub(super) status: Option<SealedSecretStatus>,
    annotations: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

impl Entry {
    fn of(object: DynamicObject) -> Self {
        let metadata = object.metadata.clone();
        let status = serde_json::from_value(object.data["status"].clone());
        Self {
            source: source(object),
            uid: metadata.uid,
            generation: metadata.generation,
            resource_version: metadata.resource_version,
            status: status.ok().flatten(),
            annotations: metadata.annotations,
            labels: metadata.labels,
        }
    }

    /// Does nothing say that there ever was a Secret?
    pub(super) fn was_never_synced(&self) -> bool {
        let conditions = self.status.as_ref().map(|status| &status.conditions);
        conditions.is_none_or(Vec::is_empty)
    }

    /// Was this very version of it unsealed?
    pub(super) fn is_settled(&self) -> bool {
        self.status.as_ref().is_some_and(|status| {
            status::is_synced(status) && status.observed_generation == self.generation
        })
    }

    /// Does anything of the other one concern the Secret? The spec shows in the generation, the
    /// scope in the annotations.
    fn says_the_same(&self, other: &Self) -> bool {
        self.uid == other.uid
            && self.generation == other.generation
            && self.annotations == other.annotations
            && self.labels == other.labels
    }
}

fn source(object: DynamicObject) -> Source {
    let mut json = object.data;
    json["metadata"] = json!(object.metadata);
    // Not used, and not to be trusted either.
    json["status"] = serde_json::Value::Null;
    if !json["spec"].is_object() {
        return Source::Malformed("it has no `spec`, so it is no SealedSecret".into());
    }
    match serde_json::from_value::<SealedSecret>(json) {
        Ok(sealed) => Source::Sealed(Arc::new(sealed)),
        Err(_) => Source::Malformed(
            "a field has the wrong kind of value; compare it with `kubectl explain sealedsecret.spec --recursive`".into(),
        ),
    }
}

/// Which Secret there was when it was last heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) uid: String,
    pub(super) version: String,
}

impl Seen {
    pub(super) fn of(metadata: &ObjectMeta) -> Option<Self> {
        Some(Self {
            uid: metadata.uid.clone()?,
            version: metadata.resource_version.clone()?,
        })
    }
}

/// Every SealedSecret that is there, or that is gone and not yet seen to.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    entries: BTreeMap<ObjectId, Entry>,
    /// The Secret of each as we read, wrote or heard of it last; `None` for none.
    secrets: BTreeMap<ObjectId, Option<Seen>>,
}

impl Catalogue {
    pub(super) fn entry(&self, id: &ObjectId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// Gives the object if it is new or changed in what concerns its Secret.
    pub(super) fn take(&mut self, object: DynamicObject) -> Option<ObjectId> {
        let id = id_of(&object.metadata)?;
        let entry = Entry::of(object);
        let known = self.entries.insert(id.clone(), entry.clone());
        let is_old =
            known.is_some_and(|known| known.source != Source::Gone && known.says_the_same(&entry));
        (!is_old).then_some(id)
    }

    /// An answer to our own write is as good as the watch, and earlier. Older news that the watch
    /// still brings only costs a conflict.
    pub(super) fn wrote_status(&mut self, answer: &DynamicObject) {
        let Some(entry) = id_of(&answer.metadata).and_then(|id| self.entries.get_mut(&id)) else {
            return;
        };
        if entry.uid == answer.metadata.uid && entry.generation == answer.metadata.generation {
            entry
                .resource_version
                .clone_from(&answer.metadata.resource_version);
            entry.status = serde_json::from_value(answer.data["status"].clone())
                .ok()
                .flatten();
        }
    }

    /// Keeps what is needed to see to the Secret.
    pub(super) fn lose(&mut self, id: &ObjectId) -> bool {
        match self.entries.get_mut(id) {
            Some(entry) => {
                entry.source = Source::Gone;
                true
            }
            None => false,
        }
    }

    pub(super) fn forget(&mut self, id: &ObjectId) {
        if self
            .entries
            .get(id)
            .is_some_and(|entry| entry.source == Source::Gone)
        {
            self.entries.remove(id);
            self.secrets.remove(id);
        }
    }

    pub(super) fn missing(
        &self,
        namespace: Option<&str>,
        listed: &BTreeSet<ObjectId>,
    ) -> Vec<ObjectId> {
        self.ids(namespace)
            .filter(|id| !listed.contains(id))
            .cloned()
            .collect()
    }

    pub(super) fn without_secret(
        &mut self,
        namespace: Option<&str>,
        listed: &BTreeSet<ObjectId>,
    ) -> Vec<ObjectId> {
        let had = |id: &&ObjectId| matches!(self.secrets.get(*id), Some(Some(_)));
        let ids = self.ids(namespace).filter(had);
        let ids: Vec<ObjectId> = ids.filter(|id| !listed.contains(id)).cloned().collect();
        for id in &ids {
            self.secrets.insert(id.clone(), None);
        }
        ids
    }

    fn ids(&self, namespace: Option<&str>) -> impl Iterator<Item = &ObjectId> {
        let ids = self.entries.keys();
        ids.filter(move |id| namespace.is_none_or(|namespace| id.namespace == namespace))
    }

    /// The Secret that is there, as far as is known.
    pub(super) fn secret(&self, id: &ObjectId) -> Option<&Seen> {
        self.secrets.get(id)?.as_ref()
    }

    /// Was it ever read, written or heard of?
    pub(super) fn knows_of_secret(&self, id: &ObjectId) -> bool {
        self.secrets.contains_key(id)
    }

    pub(super) fn saw_secret(&mut self, id: &ObjectId, seen: Option<Seen>) {
        if self.entries.contains_key(id) {
            self.secrets.insert(id.clone(), seen);
        }
    }

    /// Takes note of what the watch tells. Is it about one of our Secrets, and other than what was
    /// known? One that was never looked at is in the queue already.
    pub(super) fn heard_of_secret(&mut self, id: &ObjectId, seen: Option<&Seen>) -> bool {
        if !self.entries.contains_key(id) {
            return false;
        }
        let known = self.secrets.insert(id.clone(), seen.cloned());
        known.is_some_and(|known| known.as_ref() != seen)
    }
}
