//! What the watches told: every SealedSecret, and the version of each of their Secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller_core::object_id::ObjectId;
use controller_core::status;
use kube::api::{ApiResource, DynamicObject};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::json;
use shared::record::Identity;
use shared::resource::{LAST_APPLIED_ANNOTATIONS, SealedSecret, SealedSecretStatus};

use super::id_of;
use crate::store::Source;

/// The SealedSecrets of a namespace, or of all, as whatever they are: one that does not fit the type
/// must not stop the stream of the others.
pub fn sealed_secrets(client: Client, namespace: Option<&str>) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<SealedSecret>(&());
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &kind),
        None => Api::all_with(client, &kind),
    }
}

/// Bytes of sealed values that are kept at hand until their objects are done. What is beyond that is
/// fetched again when its turn comes.
const AT_HAND: usize = 4 << 20;

/// What is kept of an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kept {
    /// All of it.
    Whole(Source),
    /// No more than tells whether it is in place: neither sealed values nor the status of each item.
    Digest,
}

/// One SealedSecret.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) kept: Kept,
    pub(super) identity: Option<Identity>,
    pub(super) uid: Option<String>,
    pub(super) generation: Option<i64>,
    pub(super) resource_version: Option<String>,
    pub(super) status: Option<SealedSecretStatus>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// Without copies of the whole object.
    pub(super) annotations: Option<BTreeMap<String, String>>,
    secret: Known,
    /// The generation that was unsealed last, as far as this process knows. A definition that drops
    /// the record from the status forgets it with the next failure.
    unsealed: Option<i64>,
}

impl Entry {
    pub(super) fn of(mut object: DynamicObject) -> Self {
        object.metadata.managed_fields = None;
        let metadata = object.metadata.clone();
        let status = serde_json::from_value(object.data["status"].take());
        let mut annotations = metadata.annotations;
        for name in LAST_APPLIED_ANNOTATIONS {
            annotations.as_mut().and_then(|texts| texts.remove(name));
        }
        let source = source(object);
        let identity = match &source {
            Source::Sealed(sealed) => Identity::of(sealed),
            Source::Malformed(_) | Source::Gone => None,
        };
        let mut entry = Self {
            kept: Kept::Whole(source),
            identity,
            uid: metadata.uid,
            generation: metadata.generation,
            resource_version: metadata.resource_version,
            status: None,
            labels: metadata.labels,
            annotations,
            secret: Known::default(),
            unsealed: None,
        };
        entry.learn(status.ok().flatten());
        entry
    }

    fn learn(&mut self, status: Option<SealedSecretStatus>) {
        if let Some(status) = status.as_ref().filter(|status| status::is_synced(status)) {
            self.unsealed = status.observed_generation;
        }
        self.status = status;
    }

    /// Does nothing show that a version of it was ever unsealed or refused?
    pub(super) fn is_fresh(&self) -> bool {
        self.was_never_synced() && self.unsealed.is_none()
    }

    /// Of the same object at an earlier time.
    pub(super) fn recall(&mut self, before: &Self) {
        if self.uid == before.uid {
            self.unsealed = self.unsealed.max(before.unsealed);
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.kept == Kept::Whole(Source::Gone)
    }

    /// Bytes of sealed values in memory.
    fn at_hand(&self) -> usize {
        match &self.kept {
            Kept::Whole(Source::Sealed(sealed)) => {
                let values = sealed.spec.encrypted_data.values();
                values.chain(&sealed.spec.data).map(String::len).sum()
            }
            Kept::Whole(Source::Malformed(_) | Source::Gone) | Kept::Digest => 0,
        }
    }

    /// Does nothing say that there ever was a Secret?
    pub(super) fn was_never_synced(&self) -> bool {
        let conditions = self.status.as_ref().map(|status| &status.conditions);
        conditions.is_none_or(Vec::is_empty)
    }

    /// Was this very version of it unsealed, whatever failed since?
    pub(super) fn is_settled(&self) -> bool {
        let status = self.status.as_ref();
        self.unsealed.is_some() && self.unsealed == self.generation
            || status.is_some_and(|status| status::is_settled(status, self.generation))
    }

    /// The same, and nothing has failed since.
    pub(super) fn is_well(&self) -> bool {
        self.status.as_ref().is_some_and(|status| {
            status::is_synced(status) && status.observed_generation == self.generation
        })
    }

    /// A malformed object is short already, and says so in its own words.
    fn shorten(&mut self) {
        if matches!(self.kept, Kept::Whole(Source::Sealed(_))) {
            self.kept = Kept::Digest;
        }
        self.drop_items();
    }

    /// Whoever needs them fetches the object, since they go with its values.
    fn drop_items(&mut self) {
        if let (Kept::Digest, Some(status)) = (&self.kept, &mut self.status) {
            status.items = Vec::new();
        }
    }

    /// Does anything of the other one concern the Secret? The spec shows in the generation, the
    /// scope in the annotations.
    fn says_the_same(&self, other: &Self) -> bool {
        self.uid == other.uid
            && self.generation == other.generation
            && self.labels == other.labels
            && self.annotations == other.annotations
    }
}

fn source(object: DynamicObject) -> Source {
    let mut json = object.data;
    json["metadata"] = json!(object.metadata);
    // Not used, and not to be trusted either.
    json["status"] = serde_json::Value::Null;
    if !json["spec"].is_object() {
        return Source::Malformed("it has no `spec`, so it is not a SealedSecret".into());
    }
    match serde_json::from_value::<SealedSecret>(json) {
        Ok(sealed) => Source::Sealed(Arc::new(sealed)),
        Err(_) => Source::Malformed(
            "a field has the wrong kind of value; compare it with `kubectl explain sealedsecret.spec --recursive`".into(),
        ),
    }
}

/// The Secret of an object, as we read, wrote or heard of it last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Known {
    /// It was never looked at.
    #[default]
    Nothing,
    Absent,
    There(Seen),
}

impl From<Option<Seen>> for Known {
    fn from(seen: Option<Seen>) -> Self {
        seen.map_or(Self::Absent, Self::There)
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
    /// In boxes, since a map leaves half of its room empty when it is filled in order.
    entries: BTreeMap<ObjectId, Box<Entry>>,
    /// Bytes of sealed values in `entries`.
    at_hand: usize,
}

impl Catalogue {
    pub(super) fn entry(&self, id: &ObjectId) -> Option<&Entry> {
        self.entries.get(id).map(Box::as_ref)
    }

    /// Gives the object if it is new or changed in what concerns its Secret.
    pub(super) fn take(&mut self, object: DynamicObject) -> Option<ObjectId> {
        let id = id_of(&object.metadata)?;
        let mut entry = Entry::of(object);
        let known = self.entries.get(&id);
        let is_old = known.is_some_and(|known| !known.is_gone() && known.says_the_same(&entry));
        // One that is done stays short.
        let is_done = is_old && known.is_some_and(|known| known.kept == Kept::Digest);
        if is_done || self.at_hand + entry.at_hand() > AT_HAND {
            entry.shorten();
        }
        self.put(id.clone(), entry);
        (!is_old).then_some(id)
    }

    /// Keeps no more of an object than is needed to know it again.
    pub(super) fn shorten(&mut self, id: &ObjectId) {
        if let Some(entry) = self.entries.get_mut(id) {
            self.at_hand -= entry.at_hand();
            entry.shorten();
        }
    }

    fn put(&mut self, id: ObjectId, mut entry: Entry) {
        self.at_hand += entry.at_hand();
        if let Some(before) = self.entries.get_mut(&id) {
            self.at_hand -= before.at_hand();
            entry.recall(before);
            entry.secret = std::mem::take(&mut before.secret);
        }
        self.entries.insert(id, Box::new(entry));
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
            let status = serde_json::from_value(answer.data["status"].clone());
            entry.learn(status.ok().flatten());
            entry.drop_items();
        }
    }

    /// That generation of the object was unsealed, whether the status will say so or not.
    pub(super) fn unsealed(&mut self, id: &ObjectId, uid: Option<&str>, generation: Option<i64>) {
        let entry = self.entries.get_mut(id);
        if let Some(entry) = entry.filter(|entry| entry.uid.as_deref() == uid) {
            entry.unsealed = entry.unsealed.max(generation);
        }
    }

    /// Keeps what is needed to see to the Secret.
    pub(super) fn lose(&mut self, id: &ObjectId) -> bool {
        match self.entries.get_mut(id) {
            Some(entry) => {
                self.at_hand -= entry.at_hand();
                entry.kept = Kept::Whole(Source::Gone);
                true
            }
            None => false,
        }
    }

    /// Keeps nothing of an object that is gone. Says whether it was.
    pub(super) fn forget(&mut self, id: &ObjectId) -> bool {
        let is_gone = self.entries.get(id).is_some_and(|entry| entry.is_gone());
        if is_gone {
            self.entries.remove(id);
        }
        is_gone
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
        let had = |id: &&ObjectId| self.secret(id).is_some();
        let ids = self.ids(namespace).filter(had);
        let ids: Vec<ObjectId> = ids.filter(|id| !listed.contains(id)).cloned().collect();
        for id in &ids {
            self.saw_secret(id, None);
        }
        ids
    }

    pub(super) fn ids(&self, namespace: Option<&str>) -> impl Iterator<Item = &ObjectId> {
        let ids = self.entries.keys();
        ids.filter(move |id| namespace.is_none_or(|namespace| id.namespace == namespace))
    }

    /// The Secret that is there, as far as is known.
    pub(super) fn secret(&self, id: &ObjectId) -> Option<&Seen> {
        match &self.entries.get(id)?.secret {
            Known::There(seen) => Some(seen),
            Known::Nothing | Known::Absent => None,
        }
    }

    /// Was it ever read, written or heard of?
    pub(super) fn knows_of_secret(&self, id: &ObjectId) -> bool {
        let entry = self.entries.get(id);
        entry.is_some_and(|entry| entry.secret != Known::Nothing)
    }

    pub(super) fn saw_secret(&mut self, id: &ObjectId, seen: Option<Seen>) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.secret = seen.into();
        }
    }

    /// Takes note of what the watch tells. Is it about one of our Secrets, and other than what was
    /// known? One that was never looked at is in the queue already.
    pub(super) fn heard_of_secret(&mut self, id: &ObjectId, seen: Option<&Seen>) -> bool {
        let Some(entry) = self.entries.get_mut(id) else {
            return false;
        };
        let now = Known::from(seen.cloned());
        let before = std::mem::replace(&mut entry.secret, now);
        before != Known::Nothing && before != entry.secret
    }
}
