//! State from the watches: every SealedSecret, and the version of its Secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller_core::object_id::ObjectId;
use controller_core::{drift, status};
use kube::api::DynamicObject;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::json;
use shared::readable::adapt_metadata;
use shared::record::Identity;
use shared::resource::{SealedSecret, SealedSecretStatus};

use super::id_of;
use super::watched::Watched;
use crate::metrics::instance_label;
use crate::store::Source;

/// Returns an API for the SealedSecrets of a namespace, or of all.
pub fn sealed_secrets(client: Client, namespace: Option<&str>) -> Api<Watched> {
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

/// Maximum bytes of objects that are kept in memory until they are reconciled. Objects beyond that are fetched
/// again when needed.
const AT_HAND: usize = 4 << 20;

/// What is kept of an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kept {
    /// The whole object.
    Whole(Source),
    /// Only what shows whether its Secret is up to date: neither sealed values nor the status of each item.
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
    /// Whether the annotations turn the correction of drift off.
    pub(super) opts_out: bool,
    /// The label `app.kubernetes.io/instance`.
    pub(super) instance: Box<str>,
    /// A digest of all labels and annotations.
    texts: [u8; 32],
    /// Bytes of the whole object.
    size: usize,
    secret: Known,
    /// The generation that was unsealed last: by this process, or according to a record that it verified. A
    /// status alone does not count, since other clients can write it.
    unsealed: Option<i64>,
    claim: Claim,
}

/// What the status said when this process first saw the object. This process knows what happened since, so
/// later statuses do not count.
#[derive(Debug, Clone, Copy, Default)]
struct Claim {
    /// The generation that the status called unsealed.
    unsealed: Option<i64>,
    /// Whether there were conditions, or this process has written some since.
    was_reported: bool,
}

impl Claim {
    fn of(status: Option<&SealedSecretStatus>) -> Self {
        let synced = status.filter(|status| status::is_synced(status));
        Self {
            unsealed: synced.and_then(|status| status.observed_generation),
            was_reported: status.is_some_and(|status| !status.conditions.is_empty()),
        }
    }
}

impl Entry {
    pub(super) fn of(object: Watched) -> Self {
        let metadata = object.metadata;
        let status = serde_json::from_value(object.status);
        let size = size(&metadata, &object.spec);
        let source = source(&metadata, object.spec);
        let identity = match &source {
            Source::Sealed(sealed) => Identity::of(sealed),
            Source::Malformed(_) | Source::Gone => None,
        };
        let status: Option<SealedSecretStatus> = status.ok().flatten();
        Self {
            kept: Kept::Whole(source),
            identity,
            uid: metadata.uid,
            generation: metadata.generation,
            resource_version: metadata.resource_version,
            claim: Claim::of(status.as_ref()),
            status,
            opts_out: drift::opts_out(metadata.annotations.as_ref()),
            instance: instance_label(metadata.labels.as_ref()).into(),
            texts: object.texts,
            size,
            secret: Known::default(),
            unsealed: None,
        }
    }

    /// Returns whether there is no sign that a version of the object was ever unsealed or refused.
    pub(super) fn is_fresh(&self) -> bool {
        !self.claim.was_reported && self.unsealed.is_none()
    }

    /// Returns whether the first status called the current version unsealed, and this process knows of none
    /// that was.
    pub(super) fn is_claimed(&self) -> bool {
        self.unsealed.is_none()
            && self.claim.unsealed.is_some()
            && self.claim.unsealed == self.generation
    }

    /// Takes over what is known about an earlier version of the same object.
    pub(super) fn recall(&mut self, before: &Self) {
        if self.uid == before.uid {
            self.unsealed = self.unsealed.max(before.unsealed);
            self.claim = before.claim;
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.kept == Kept::Whole(Source::Gone)
    }

    /// Returns the bytes of the object that are in memory until it is shortened.
    fn at_hand(&self) -> usize {
        match &self.kept {
            Kept::Whole(Source::Sealed(_)) => self.size,
            Kept::Whole(Source::Malformed(_) | Source::Gone) | Kept::Digest => 0,
        }
    }

    /// Returns whether there is no sign that a Secret ever existed.
    pub(super) fn was_never_synced(&self) -> bool {
        let conditions = self.status.as_ref().map(|status| &status.conditions);
        conditions.is_none_or(Vec::is_empty)
    }

    /// Returns whether this process knows that the current version was unsealed, whatever failed since.
    pub(super) fn is_settled(&self) -> bool {
        self.unsealed.is_some() && self.unsealed == self.generation
    }

    /// Returns whether the current version was unsealed and nothing has failed since.
    pub(super) fn is_well(&self) -> bool {
        self.status.as_ref().is_some_and(|status| {
            status::is_synced(status) && status.observed_generation == self.generation
        })
    }

    /// Drops the sealed values. A malformed object is small already, and its message is still needed.
    fn shorten(&mut self) {
        if matches!(self.kept, Kept::Whole(Source::Sealed(_))) {
            self.kept = Kept::Digest;
        }
        self.drop_items();
    }

    /// Drops the item statuses, since they are needed only together with the values, when the object is
    /// fetched.
    fn drop_items(&mut self) {
        if let (Kept::Digest, Some(status)) = (&self.kept, &mut self.status) {
            status.items = Vec::new();
        }
    }

    /// Returns whether the two versions are equal in everything that concerns the Secret. A change of the
    /// spec shows in the generation, a change of the scope in the annotations.
    fn says_the_same(&self, other: &Self) -> bool {
        self.uid == other.uid && self.generation == other.generation && self.texts == other.texts
    }
}

/// Returns about how many bytes an object takes in memory, apart from what is kept of every object.
fn size(metadata: &ObjectMeta, spec: &serde_json::Value) -> usize {
    let annotations = metadata.annotations.iter().flat_map(BTreeMap::values);
    spec.to_string().len() + annotations.map(String::len).sum::<usize>()
}

/// Builds the object without its status, since other clients can write it.
fn source(metadata: &ObjectMeta, spec: serde_json::Value) -> Source {
    if !spec.is_object() {
        return Source::Malformed("it has no `spec`, so it is not a SealedSecret".into());
    }
    let mut json = json!({ "metadata": metadata });
    json["spec"] = spec;
    if let Some(of_template) = json.pointer_mut("/spec/template/metadata") {
        adapt_metadata(of_template);
    }
    match serde_json::from_value::<SealedSecret>(json) {
        Ok(sealed) => Source::Sealed(Arc::new(sealed)),
        Err(_) => Source::Malformed(
            "a field has the wrong kind of value; compare it with `kubectl explain sealedsecret.spec --recursive`".into(),
        ),
    }
}

/// What is known about the Secret of an object, from the last read, write or watch event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Known {
    /// It was never read.
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

/// Identifies a version of a Secret.
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

/// All SealedSecrets: those that exist, and deleted ones that are not reconciled yet.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    /// Boxed, since a map that is filled in order leaves half of its capacity unused.
    entries: BTreeMap<ObjectId, Box<Entry>>,
    /// Bytes of whole objects in `entries`.
    at_hand: usize,
}

impl Catalogue {
    pub(super) fn entry(&self, id: &ObjectId) -> Option<&Entry> {
        self.entries.get(id).map(Box::as_ref)
    }

    /// Stores an object. Returns its id if it is new or changed in a way that concerns its Secret.
    pub(super) fn take(&mut self, object: Watched) -> Option<ObjectId> {
        let id = id_of(&object.metadata)?;
        let mut entry = Entry::of(object);
        let known = self.entries.get(&id);
        let is_old = known.is_some_and(|known| !known.is_gone() && known.says_the_same(&entry));
        // An object that was reconciled stays shortened.
        let is_done = is_old && known.is_some_and(|known| known.kept == Kept::Digest);
        if is_done || self.at_hand + entry.at_hand() > AT_HAND {
            entry.shorten();
        }
        self.put(id.clone(), entry);
        (!is_old).then_some(id)
    }

    /// Keeps only what is needed to recognise an object.
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

    /// Stores the answer to a status update, which is as reliable as the watch, and earlier. If the watch
    /// then delivers an older version, the only cost is a conflict.
    pub(super) fn wrote_status(&mut self, answer: &DynamicObject) {
        let Some(entry) = id_of(&answer.metadata).and_then(|id| self.entries.get_mut(&id)) else {
            return;
        };
        if entry.uid == answer.metadata.uid && entry.generation == answer.metadata.generation {
            entry
                .resource_version
                .clone_from(&answer.metadata.resource_version);
            let status = serde_json::from_value(answer.data["status"].clone());
            entry.status = status.ok().flatten();
            entry.claim.was_reported = true;
            entry.drop_items();
        }
    }

    /// Records that this generation of the object was unsealed, whether or not the status can record it.
    pub(super) fn unsealed(&mut self, id: &ObjectId, uid: Option<&str>, generation: Option<i64>) {
        let entry = self.entries.get_mut(id);
        if let Some(entry) = entry.filter(|entry| entry.uid.as_deref() == uid) {
            entry.unsealed = entry.unsealed.max(generation);
        }
    }

    /// Records that the current version was unsealed, if it is still this one.
    pub(super) fn recognised(&mut self, id: &ObjectId, identity: Identity) {
        let entry = self.entries.get_mut(id);
        if let Some(entry) = entry.filter(|entry| entry.identity == Some(identity)) {
            entry.unsealed = entry.generation;
        }
    }

    /// Marks an object as deleted. Keeps what is needed to delete its Secret.
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

    /// Removes a deleted object. Returns whether it was marked as deleted.
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

    /// Returns the existing Secret, as far as is known.
    pub(super) fn secret(&self, id: &ObjectId) -> Option<&Seen> {
        match &self.entries.get(id)?.secret {
            Known::There(seen) => Some(seen),
            Known::Nothing | Known::Absent => None,
        }
    }

    /// Returns whether the Secret was ever read, written or seen by the watch.
    pub(super) fn knows_of_secret(&self, id: &ObjectId) -> bool {
        let entry = self.entries.get(id);
        entry.is_some_and(|entry| entry.secret != Known::Nothing)
    }

    pub(super) fn saw_secret(&mut self, id: &ObjectId, seen: Option<Seen>) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.secret = seen.into();
        }
    }

    /// Records a watch event about a Secret. Returns whether the Secret belongs to a SealedSecret and differs
    /// from what was known. If its Secret was never read, the object is in the queue already.
    pub(super) fn observe_secret(&mut self, id: &ObjectId, seen: Option<&Seen>) -> bool {
        let Some(entry) = self.entries.get_mut(id) else {
            return false;
        };
        let now = Known::from(seen.cloned());
        let before = std::mem::replace(&mut entry.secret, now);
        before != Known::Nothing && before != entry.secret
    }
}
