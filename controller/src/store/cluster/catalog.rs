//! The state that the watches report: every SealedSecret, and the version of its Secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller_core::object_id::ObjectId;
use controller_core::{delivery, drift, ownership, status};
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::json;
use shared::record::Identity;
use shared::resource::{KEEP_PREVIOUS_ANNOTATION, SealedSecret, SealedSecretStatus};

use super::id_of;
use super::watched::{MAX_SPEC_ENTRIES, Watched};
use crate::metrics::ObjectLabels;
use crate::store::Source;
use shared::known_fields::Pruned;

/// Returns an API for the SealedSecrets in a namespace, or in all namespaces.
pub fn sealed_secrets(client: Client, namespace: Option<&str>) -> Api<Watched> {
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

/// Maximum total size of the objects that are cached until they are reconciled, in bytes. Objects that do not fit are
/// read again when needed.
const MAX_CACHED_BYTES: usize = 4 << 20;

/// The cached part of an object.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum CachedSource {
    /// The complete object.
    Complete(Source),
    /// Only the data that shows whether the Secret is up to date: no sealed values, and no items and messages of the
    /// status.
    Digest,
}

/// The state of one SealedSecret.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent flags, each with a name wherever it is set or read"
)]
pub(super) struct Entry {
    pub(super) cached: CachedSource,
    pub(super) identity: Option<Identity>,
    pub(super) uid: Option<String>,
    pub(super) generation: Option<i64>,
    pub(super) resource_version: Option<String>,
    pub(super) status: Option<SealedSecretStatus>,
    /// Whether the annotations disable drift correction.
    pub(super) opts_out: bool,
    /// Whether the annotations request that no Secret is created.
    pub(super) requests_delivery: bool,
    /// The labels in the metrics.
    pub(super) labels: ObjectLabels,
    /// Whether the last status had conditions, even if [`Self::shorten_status`] has dropped them.
    has_conditions: bool,
    /// A digest of all labels and annotations, except copies of the complete object.
    metadata_digest: [u8; 32],
    /// The approximate size of spec and annotations in bytes.
    spec_size: usize,
    /// The size of the status in bytes.
    status_size: usize,
    secret: SecretState,
    /// What this process knows about the Secret from its own writes and from records that it verified.
    verified: VerifiedSecret,
    /// The last generation that was unsealed, by this process or according to a record that this process verified. A
    /// status alone does not count, since other clients can write statuses.
    unsealed: Option<i64>,
    claim: Claim,
    /// Whether the Secret may have former values: the annotation or a status has indicated them since this process
    /// started observing the object. If so, the Secret is read, since only the Secret shows its former values.
    pub(super) may_keep_former: bool,
}

/// The claims of the status that an object had when this process first observed the object. Later statuses do not
/// count, since this process has observed all later changes itself.
#[derive(Debug, Clone, Copy, Default)]
struct Claim {
    /// The last unsealed generation according to the status.
    unsealed: Option<i64>,
    /// Whether the status had conditions, or this process has written a status since.
    was_reported: bool,
}

impl Claim {
    fn from_status(status: Option<&SealedSecretStatus>) -> Self {
        let synced = status.filter(|status| status::is_synced(status));
        Self {
            unsealed: synced.and_then(|status| status.observed_generation),
            was_reported: has_conditions(status),
        }
    }
}

impl Entry {
    pub(super) fn new(object: Watched) -> Self {
        let metadata = object.metadata;
        let status_size = object.status.to_string().len();
        let status = serde_json::from_value(object.status);
        let spec_size = spec_size(&metadata, &object.spec.json);
        let source = parse_source(&metadata, object.spec);
        let identity = match &source {
            Source::Sealed(sealed) => Identity::of(sealed),
            Source::Malformed(_) | Source::Gone => None,
        };
        let labels = match &source {
            Source::Sealed(sealed) => ObjectLabels::of(sealed),
            Source::Malformed(_) | Source::Gone => ObjectLabels::default(),
        };
        let status: Option<SealedSecretStatus> = status.ok().flatten();
        Self {
            cached: CachedSource::Complete(source),
            identity,
            uid: metadata.uid,
            generation: metadata.generation,
            resource_version: metadata.resource_version,
            claim: Claim::from_status(status.as_ref()),
            has_conditions: has_conditions(status.as_ref()),
            may_keep_former: may_keep_former(metadata.annotations.as_ref(), status.as_ref()),
            status,
            opts_out: drift::opts_out(metadata.annotations.as_ref()),
            requests_delivery: delivery::opts_in(metadata.annotations.as_ref()),
            labels,
            metadata_digest: object.metadata_digest,
            spec_size,
            status_size,
            secret: SecretState::default(),
            verified: VerifiedSecret::default(),
            unsealed: None,
        }
    }

    /// Returns whether the object appears to be new: neither its first observed status nor this process shows an
    /// earlier result.
    pub(super) fn is_fresh(&self) -> bool {
        !self.claim.was_reported && self.unsealed.is_none()
    }

    /// Returns whether the first observed status claims that the current version was unsealed, and this process knows
    /// of no unsealed version itself.
    pub(super) fn is_claimed(&self) -> bool {
        self.unsealed.is_none()
            && self.claim.unsealed.is_some()
            && self.claim.unsealed == self.generation
    }

    /// Returns whether this version of the Secret is known to have the values of the last version that was unsealed.
    pub(super) fn has_unsealed_values(&self, secret: &ObjectMeta) -> bool {
        let good_version = self.verified.good_version.as_ref();
        good_version.is_some() && good_version == SecretVersion::from_metadata(secret).as_ref()
    }

    /// Returns whether all content of this Secret is known to come from the SealedSecret.
    pub(super) fn is_exclusive(&self, secret: &ObjectMeta) -> bool {
        let exclusive = self.verified.exclusive.as_ref();
        exclusive.is_some() && exclusive == secret.uid.as_ref()
    }

    /// Copies the knowledge of this process about an earlier version of the object, if both versions have the same
    /// `uid`.
    pub(super) fn inherit(&mut self, previous: &Self) {
        if self.uid == previous.uid {
            self.unsealed = self.unsealed.max(previous.unsealed);
            self.claim = previous.claim;
            self.verified.clone_from(&previous.verified);
            self.may_keep_former |= previous.may_keep_former;
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.cached == CachedSource::Complete(Source::Gone)
    }

    /// Returns the size of the cached part that [`Self::shorten`] drops, in bytes.
    fn cached_bytes(&self) -> usize {
        match &self.cached {
            CachedSource::Complete(Source::Sealed(_)) => self.spec_size + self.status_size,
            CachedSource::Complete(Source::Malformed(_)) => self.status_size,
            CachedSource::Complete(Source::Gone) | CachedSource::Digest => 0,
        }
    }

    /// Returns whether the status has no conditions. If so, the Secret probably never existed.
    pub(super) fn was_never_synced(&self) -> bool {
        !self.has_conditions
    }

    /// Returns whether this process knows that the current version was unsealed, regardless of later failures.
    pub(super) fn is_settled(&self) -> bool {
        self.unsealed.is_some() && self.unsealed == self.generation
    }

    /// Returns whether the status reports that the current version was unsealed and that nothing has failed since.
    /// Other clients can write the status, so this proves nothing.
    pub(super) fn is_synced(&self) -> bool {
        self.status.as_ref().is_some_and(|status| {
            status::is_synced(status) && status.observed_generation == self.generation
        })
    }

    /// Returns the key ID of the newest content version in the status.
    pub(super) fn version_key(&self) -> Option<String> {
        let newest = self.status.as_ref()?.versions.first()?;
        Some(newest.key_id.clone())
    }

    /// Drops the sealed values and most of the status, unless the object was deleted.
    fn shorten(&mut self) {
        if !self.is_gone() {
            self.cached = CachedSource::Digest;
        }
        self.shorten_status();
    }

    /// If the values were dropped, drops the items of the status, the details of its conditions, and all content
    /// versions except the newest: they are needed only together with the values, when the object is read again.
    fn shorten_status(&mut self) {
        if let (CachedSource::Digest, Some(status)) = (&self.cached, &mut self.status) {
            let is_synced = status::is_synced(status);
            status.items = Vec::new();
            status.versions.truncate(1);
            status.conditions = is_synced.then(status::synced).into_iter().collect();
        }
    }

    /// Returns whether both versions are equal in everything that determines the Secret. A change to the spec changes
    /// the generation; a change to the scope changes the annotations.
    fn has_same_content(&self, other: &Self) -> bool {
        self.uid == other.uid
            && self.generation == other.generation
            && self.metadata_digest == other.metadata_digest
    }
}

fn has_conditions(status: Option<&SealedSecretStatus>) -> bool {
    status.is_some_and(|status| !status.conditions.is_empty())
}

fn may_keep_former(
    annotations: Option<&BTreeMap<String, String>>,
    status: Option<&SealedSecretStatus>,
) -> bool {
    annotations.is_some_and(|annotations| annotations.contains_key(KEEP_PREVIOUS_ANNOTATION))
        || status.is_some_and(|status| status.previous.is_some())
}

/// Returns the approximate size of the spec and annotations of an object in memory, in bytes.
fn spec_size(metadata: &ObjectMeta, spec: &serde_json::Value) -> usize {
    let annotations = metadata.annotations.iter().flat_map(BTreeMap::values);
    spec.to_string().len() + annotations.map(String::len).sum::<usize>()
}

/// Parses the object without its status, since other clients can write the status.
fn parse_source(metadata: &ObjectMeta, spec: Pruned) -> Source {
    if spec.is_too_large {
        return Source::Malformed(format!(
            "the object has more than {MAX_SPEC_ENTRIES} items, templates, labels and annotations; split the object"
        ));
    }
    if !spec.json.is_object() {
        return Source::Malformed("the object has no `spec`, so it is not a SealedSecret".into());
    }
    let mut json = json!({ "metadata": metadata });
    json["spec"] = spec.json;
    match serde_json::from_value::<SealedSecret>(json) {
        Ok(sealed) => Source::Sealed(Arc::new(sealed)),
        Err(_) => Source::Malformed(
            "a field has a value of the wrong type; compare the object with `kubectl explain sealedsecret.spec \
             --recursive`"
                .into(),
        ),
    }
}

/// The state of an object's Secret, from the last read, write or watch event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum SecretState {
    /// The Secret was never read or written, and there was no watch event about it.
    #[default]
    Unknown,
    Absent,
    Present {
        version: SecretVersion,
        /// Whether its owner or its annotations may allow the SealedSecret to change it. If so, its values
        /// may be read without reading its metadata first.
        is_readable: bool,
    },
}

impl SecretState {
    /// Returns the state of the Secret of the SealedSecret with this `uid`.
    fn new(secret: Option<&ObjectMeta>, uid: Option<&str>) -> Self {
        let version = secret.and_then(SecretVersion::from_metadata);
        match secret.zip(version) {
            Some((metadata, version)) => Self::Present {
                version,
                is_readable: ownership::may_be_owned(metadata, uid),
            },
            None => Self::Absent,
        }
    }
}

/// Identifies a version of a Secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecretVersion {
    pub(super) uid: String,
    pub(super) version: String,
}

impl SecretVersion {
    /// Returns the version from the metadata of a Secret; `None` without `uid` or `resourceVersion`.
    pub(super) fn from_metadata(metadata: &ObjectMeta) -> Option<Self> {
        Some(Self {
            uid: metadata.uid.clone()?,
            version: metadata.resource_version.clone()?,
        })
    }
}

/// Properties of a Secret that this process has verified, regardless of its annotations and of the status of its
/// SealedSecret.
#[derive(Debug, Clone, Default)]
pub(super) struct VerifiedSecret {
    /// The version that had the values of the last version of the SealedSecret that was unsealed.
    good_version: Option<SecretVersion>,
    /// The `uid` of the Secret, if all its content comes from the SealedSecret.
    exclusive: Option<String>,
}

impl VerifiedSecret {
    pub(super) fn new(
        version: SecretVersion,
        has_unsealed_values: bool,
        is_exclusive: bool,
    ) -> Self {
        Self {
            exclusive: is_exclusive.then(|| version.uid.clone()),
            good_version: has_unsealed_values.then_some(version),
        }
    }

    /// Adds newer results. A field that is missing in `newer` is kept.
    fn add(&mut self, newer: Self) {
        self.good_version = newer.good_version.or(self.good_version.take());
        self.exclusive = newer.exclusive.or(self.exclusive.take());
    }
}

/// All existing SealedSecrets, and deleted SealedSecrets that are not reconciled yet.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    /// Boxed, since a `BTreeMap` that is filled in order leaves half of its capacity unused.
    entries: BTreeMap<ObjectId, Box<Entry>>,
    /// The total size of complete objects in `entries`, in bytes.
    cached_bytes: usize,
}

impl Catalog {
    pub(super) fn entry(&self, id: &ObjectId) -> Option<&Entry> {
        self.entries.get(id).map(Box::as_ref)
    }

    /// Stores an object. Returns its id if it is new or has changed in a way that affects its Secret.
    pub(super) fn store(&mut self, object: Watched) -> Option<ObjectId> {
        let id = id_of(&object.metadata)?;
        let mut entry = Entry::new(object);
        let previous = self.entries.get(&id);
        let is_unchanged = previous
            .is_some_and(|previous| !previous.is_gone() && previous.has_same_content(&entry));
        // An object that was reconciled stays shortened.
        let is_reconciled = is_unchanged
            && previous.is_some_and(|previous| previous.cached == CachedSource::Digest);
        if is_reconciled || self.cached_bytes + entry.cached_bytes() > MAX_CACHED_BYTES {
            entry.shorten();
        }
        self.put(id.clone(), entry);
        (!is_unchanged).then_some(id)
    }

    /// Drops the data of an object that is not needed to detect whether its Secret is up to date.
    pub(super) fn shorten(&mut self, id: &ObjectId) {
        if let Some(entry) = self.entries.get_mut(id) {
            self.cached_bytes -= entry.cached_bytes();
            entry.shorten();
        }
    }

    fn put(&mut self, id: ObjectId, mut entry: Entry) {
        self.cached_bytes += entry.cached_bytes();
        if let Some(previous) = self.entries.get_mut(&id) {
            self.cached_bytes -= previous.cached_bytes();
            entry.inherit(previous);
            entry.secret = std::mem::take(&mut previous.secret);
        }
        self.entries.insert(id, Box::new(entry));
    }

    /// Stores the response to a status update. The response is as reliable as the watch, and arrives earlier. If the
    /// watch then delivers an older version, the next status update causes a conflict.
    pub(super) fn store_status(&mut self, response: &Watched) {
        let Some(entry) = id_of(&response.metadata).and_then(|id| self.entries.get_mut(&id)) else {
            return;
        };
        if entry.uid != response.metadata.uid || entry.generation != response.metadata.generation {
            return;
        }
        entry
            .resource_version
            .clone_from(&response.metadata.resource_version);
        let status = &response.status;
        self.cached_bytes -= entry.cached_bytes();
        entry.status_size = status.to_string().len();
        entry.status = serde_json::from_value(status.clone()).ok().flatten();
        entry.has_conditions = has_conditions(entry.status.as_ref());
        entry.claim.was_reported = true;
        if self.cached_bytes + entry.cached_bytes() > MAX_CACHED_BYTES {
            entry.shorten();
        }
        entry.shorten_status();
        self.cached_bytes += entry.cached_bytes();
    }

    /// Records that this generation of the object was unsealed, whatever the object's status says, and adds what is
    /// known about its Secret.
    pub(super) fn record_unsealed(
        &mut self,
        id: &ObjectId,
        uid: Option<&str>,
        generation: Option<i64>,
        verified: VerifiedSecret,
    ) {
        let entry = self.entries.get_mut(id);
        if let Some(entry) = entry.filter(|entry| entry.uid.as_deref() == uid) {
            entry.unsealed = entry.unsealed.max(generation);
            entry.verified.add(verified);
        }
    }

    /// Records that the object intentionally has no Secret, so that a later creation of the Secret does not count as a
    /// correction.
    pub(super) fn forget_unsealed(&mut self, id: &ObjectId) {
        if let Some(entry) = self.entries.get_mut(id) {
            (entry.unsealed, entry.claim.unsealed) = (None, None);
            entry.verified = VerifiedSecret::default();
        }
    }

    /// Records that the version with this identity was unsealed. Does nothing if the object has another version now.
    pub(super) fn record_recognized(
        &mut self,
        id: &ObjectId,
        identity: Identity,
        verified: VerifiedSecret,
    ) {
        let entry = self.entries.get_mut(id);
        if let Some(entry) = entry.filter(|entry| entry.identity == Some(identity)) {
            entry.unsealed = entry.generation;
            entry.verified.add(verified);
        }
    }

    /// Marks an object as deleted. Keeps the data that is needed to delete its Secret. Returns whether the object
    /// existed.
    pub(super) fn mark_deleted(&mut self, id: &ObjectId) -> bool {
        match self.entries.get_mut(id) {
            Some(entry) => {
                self.cached_bytes -= entry.cached_bytes();
                entry.cached = CachedSource::Complete(Source::Gone);
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

    /// Returns the objects in the namespace (or in all namespaces) that are not in `listed`.
    pub(super) fn missing_ids(
        &self,
        namespace: Option<&str>,
        listed: &BTreeSet<ObjectId>,
    ) -> Vec<ObjectId> {
        self.ids(namespace)
            .filter(|id| !listed.contains(id))
            .cloned()
            .collect()
    }

    /// Returns the objects in the namespace (or in all namespaces) whose Secret existed and is not in `listed`. Records
    /// these Secrets as absent.
    pub(super) fn ids_without_secret(
        &mut self,
        namespace: Option<&str>,
        listed: &BTreeSet<ObjectId>,
    ) -> Vec<ObjectId> {
        let has_secret = |id: &&ObjectId| self.secret(id).is_some();
        let ids = self.ids(namespace).filter(has_secret);
        let ids: Vec<ObjectId> = ids.filter(|id| !listed.contains(id)).cloned().collect();
        for id in &ids {
            self.set_secret(id, None);
        }
        ids
    }

    /// Returns the objects in the namespace, or in all namespaces.
    pub(super) fn ids(&self, namespace: Option<&str>) -> impl Iterator<Item = &ObjectId> {
        let ids = self.entries.keys();
        ids.filter(move |id| namespace.is_none_or(|namespace| id.namespace == namespace))
    }

    /// Returns the last observed version of the Secret; `None` if no Secret is known to exist.
    pub(super) fn secret(&self, id: &ObjectId) -> Option<&SecretVersion> {
        match &self.entries.get(id)?.secret {
            SecretState::Present { version, .. } => Some(version),
            SecretState::Unknown | SecretState::Absent => None,
        }
    }

    /// Returns whether the Secret was ever read or written, or was in a watch event.
    pub(super) fn has_secret_state(&self, id: &ObjectId) -> bool {
        let entry = self.entries.get(id);
        entry.is_some_and(|entry| entry.secret != SecretState::Unknown)
    }

    /// Returns whether the values of the Secret may be read according to its last known metadata.
    pub(super) fn may_read_secret(&self, id: &ObjectId) -> bool {
        let secret = self.entries.get(id).map(|entry| &entry.secret);
        matches!(secret, Some(SecretState::Present { is_readable, .. }) if *is_readable)
    }

    pub(super) fn set_secret(&mut self, id: &ObjectId, secret: Option<&ObjectMeta>) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.secret = SecretState::new(secret, entry.uid.as_deref());
        }
    }

    /// Records a watch event about a Secret. Returns whether the Secret belongs to a SealedSecret and has changed.
    /// Returns false for the first state of a Secret: in that case, the object is already in the queue.
    pub(super) fn observe_secret(&mut self, id: &ObjectId, secret: Option<&ObjectMeta>) -> bool {
        let Some(entry) = self.entries.get_mut(id) else {
            return false;
        };
        let state = SecretState::new(secret, entry.uid.as_deref());
        let previous = std::mem::replace(&mut entry.secret, state);
        previous != SecretState::Unknown && previous != entry.secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECTS: usize = 200;

    /// Returns the status of an object that failed with long messages, with a condition of another client.
    fn long_status() -> serde_json::Value {
        let condition = |type_: &str, status: &str| json!({ "type": type_, "status": status, "message": "x".repeat(32 << 10) });
        let conditions = [condition("Synced", "False"), condition("Other", "True")];
        json!({ "observedGeneration": 1, "conditions": conditions })
    }

    fn object(number: usize, status: &serde_json::Value) -> serde_json::Value {
        let metadata = json!({
            "name": format!("n{number}"), "namespace": "ns", "uid": "u", "generation": 1, "resourceVersion": "1",
        });
        json!({ "metadata": metadata, "spec": { "encryptedData": {} }, "status": status })
    }

    fn kept_bytes(catalog: &Catalog) -> usize {
        let statuses = catalog.entries.values().map(|entry| &entry.status);
        let texts = statuses.map(|status| serde_json::to_string(status).unwrap());
        texts.map(|text| text.len()).sum()
    }

    /// Attack: a tenant creates thousands of objects that fail with long messages, or writes long statuses, so that the
    /// controller runs out of memory.
    #[test]
    fn long_statuses_of_many_objects_are_not_kept_in_memory() {
        let status = long_status();
        let (mut listed, mut written) = (Catalog::default(), Catalog::default());
        for i in 0..OBJECTS {
            let watched = |status| serde_json::from_value(object(i, status)).unwrap();
            listed.store(watched(&status));
            written.store(watched(&serde_json::Value::Null));
            written.store_status(&watched(&status));
        }
        for catalog in [listed, written] {
            assert_eq!(catalog.entries.len(), OBJECTS);
            assert!(
                catalog
                    .entries
                    .values()
                    .all(|e| !e.was_never_synced() && !e.is_synced())
            );
            let kept = kept_bytes(&catalog);
            assert!(kept < MAX_CACHED_BYTES + 100 * OBJECTS, "{kept}");
        }
    }
}
