//! The store in a cluster: receives SealedSecrets from a watch, reads and writes Secrets one by one, and writes
//! statuses and events.
//!
//! Apart from lists of Pods, which are optional, the store needs only the permissions of upstream's roles: it writes
//! Secrets by POST, and by PUT with the `resourceVersion` that it read, and deletes them if `--old-gc-behavior` is set
//! or their values are only delivered; it writes statuses by PUT, and events by POST and PATCH.

mod catalog;
pub(crate) mod changes;
mod consumers;
pub(crate) mod delivery;
pub(crate) mod events;
pub(crate) mod rejection;
pub(crate) mod secret;
mod statuses;
mod watch_events;
mod watched;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use controller_core::decide::{Content, Existing, Plan};
use controller_core::object_id::ObjectId;
use controller_core::{ownership, previous};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::{Api, Client};
use shared::random_mark;
use shared::record::Identity;
use shared::resource::SealedSecretStatus;
use shared::secret::Secret;

use crate::args::EventLevel;
use crate::readable::Readable;
use crate::store::{
    AppliedPlan, CachedState, EventRecord, Observed, ReadMode, RecognizedSecret, Source, Store,
    StoreError, StoredSecret, api_error, require_readable,
};
pub use catalog::sealed_secrets;
use catalog::{CachedSource, Catalog, Entry, SecretVersion, VerifiedSecret};
use changes::Changes;
use events::{Events, Subject};
pub use watched::Watched;

/// The operation in errors about a Secret that cannot be read.
const READ_SECRET_FAILED: &str = "cannot read the Secret";

/// The store for a cluster: SealedSecrets come from a watch, Secrets are read one by one.
pub struct ClusterStore {
    client: Client,
    catalog: Mutex<Catalog>,
    changes: Changes,
    events: Events,
    event_level: EventLevel,
    /// Whether the controller deletes Secrets itself instead of leaving this to the garbage collector.
    deletes: bool,
    /// Whether the CRD in the cluster drops `status.items`.
    drops_items: AtomicBool,
    /// Whether the CRD in the cluster drops `status.record`.
    drops_record: AtomicBool,
    /// Whether the CRD in the cluster drops `status.versions`.
    drops_versions: AtomicBool,
    /// Whether the CRD in the cluster has no `status` subresource.
    lacks_subresource: AtomicBool,
}

impl ClusterStore {
    /// Creates a store without objects. `deletes` is `--old-gc-behavior`.
    pub fn new(client: Client, deletes: bool) -> Self {
        Self {
            events: Events::new(client.clone(), Subject::SealedSecrets),
            event_level: EventLevel::All,
            client,
            catalog: Mutex::default(),
            changes: Changes::default(),
            deletes,
            drops_items: AtomicBool::new(false),
            drops_record: AtomicBool::new(false),
            drops_versions: AtomicBool::new(false),
            lacks_subresource: AtomicBool::new(false),
        }
    }

    /// Sets the level of the emitted events. By default, all events are emitted.
    #[must_use]
    pub fn with_event_level(mut self, event_level: EventLevel) -> Self {
        self.event_level = event_level;
        self
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn secrets(&self, id: &ObjectId) -> Api<Readable<core::Secret>> {
        Api::namespaced(self.client.clone(), &id.namespace)
    }

    fn sealed_secrets(&self, id: &ObjectId) -> Api<Watched> {
        sealed_secrets(self.client.clone(), Some(&id.namespace))
    }

    /// Reads the Secret, with its values.
    async fn secret(&self, id: &ObjectId) -> Result<Option<Secret>, StoreError> {
        let response = self.secrets(id).get_opt(&id.name).await;
        let secret = response.map_err(api_error(READ_SECRET_FAILED))?;
        let secret = secret
            .map(|secret| require_readable(secret, READ_SECRET_FAILED))
            .transpose()?;
        let secret = secret.map(secret::from_api);
        self.set_secret(id, secret.as_ref().map(|secret| &secret.metadata));
        Ok(secret)
    }

    /// Reads the metadata of the Secret, without its values.
    async fn secret_metadata(&self, id: &ObjectId) -> Result<Option<ObjectMeta>, StoreError> {
        let api: Api<Readable<PartialObjectMeta<core::Secret>>> =
            Api::namespaced(self.client.clone(), &id.namespace);
        let response = api.get_opt(&id.name).await;
        let secret = response.map_err(api_error(READ_SECRET_FAILED))?;
        let secret = secret
            .map(|secret| require_readable(secret, READ_SECRET_FAILED))
            .transpose()?;
        let metadata = secret.map(|secret| secret.metadata);
        self.set_secret(id, metadata.as_ref());
        Ok(metadata)
    }

    fn set_secret(&self, id: &ObjectId, metadata: Option<&ObjectMeta>) {
        self.catalog().set_secret(id, metadata);
    }

    /// Reads the Secret if the SealedSecret may change the Secret, or if the Secret has marks of former values. The
    /// second result is a Secret with such marks that is not owned. The values of other Secrets are not read, unless
    /// another client replaced the Secret after its metadata was read or reported by the watch.
    async fn existing(
        &self,
        id: &ObjectId,
        source: &Source,
        uid: Option<&str>,
    ) -> Result<(Existing, Option<Box<Secret>>), StoreError> {
        let may_read = self.catalog().may_read_secret(id);
        if !may_read {
            match self.secret_metadata(id).await? {
                None => return Ok((Existing::Absent, None)),
                Some(metadata)
                    if is_owned(&metadata, source, uid) || previous::has_marks(&metadata) => {}
                Some(_) => return Ok((Existing::NotOwned, None)),
            }
        }
        Ok(match self.secret(id).await? {
            None => (Existing::Absent, None),
            Some(secret) if is_owned(&secret.metadata, source, uid) => {
                let content = Content::Secret(Box::new(secret));
                (Existing::Owned(content), None)
            }
            Some(secret) => {
                let unmanaged = Some(secret).filter(|s| previous::has_marks(&s.metadata));
                (Existing::NotOwned, unmanaged.map(Box::new))
            }
        })
    }

    /// Returns the Secret of a deleted SealedSecret that may have former values, unless the garbage collector deletes
    /// it.
    async fn orphan(
        &self,
        id: &ObjectId,
        entry: Option<&Entry>,
    ) -> Result<Option<Box<Secret>>, StoreError> {
        let Some(entry) = entry.filter(|entry| entry.may_keep_former) else {
            return Ok(None);
        };
        let uid = entry.uid.as_deref();
        let is_orphan = |metadata: &ObjectMeta| {
            previous::has_marks(metadata) && !ownership::is_controlled_by(metadata, uid)
        };
        let metadata = self.secret_metadata(id).await?;
        if !metadata.as_ref().is_some_and(is_orphan) {
            return Ok(None);
        }
        let secret = self.secret(id).await?;
        Ok(secret.filter(|s| is_orphan(&s.metadata)).map(Box::new))
    }

    /// Returns the state of a deleted object. Its Secret is left to the garbage collector, unless `--old-gc-behavior`
    /// is set. In that case, the API server must confirm the deletion first, since an object that the label selector no
    /// longer matches also disappears from the watch.
    async fn gather_deleted(
        &self,
        id: &ObjectId,
        entry: Option<Entry>,
    ) -> Result<Observed, StoreError> {
        let uid = entry.as_ref().and_then(|entry| entry.uid.clone());
        let (existing, unmanaged) = match &entry {
            Some(_) if self.deletes && !self.exists(id).await? => {
                self.existing(id, &Source::Gone, uid.as_deref()).await?
            }
            _ => (Existing::Absent, self.orphan(id, entry.as_ref()).await?),
        };
        Ok(Observed {
            source: Source::Gone,
            uid,
            existing,
            unmanaged,
            generation: None,
            status: None,
            settled: false,
            claimed: false,
            assumed_absent: false,
            has_unsealed_values: false,
            is_fresh: false,
            is_exclusive: false,
            random_mark: None,
            trusts_mark: false,
        })
    }

    /// Reads the current object, which can be newer than the object from the watch. Returns `None` if it does not
    /// exist.
    async fn fetch(&self, id: &ObjectId) -> Result<Option<(Entry, Source)>, StoreError> {
        let response = self.sealed_secrets(id).get_opt(&id.name).await;
        let entry = response
            .map_err(api_error("cannot read the SealedSecret"))?
            .map(Entry::new);
        Ok(entry.and_then(|entry| match entry.cached.clone() {
            CachedSource::Complete(source) => Some((entry, source)),
            CachedSource::Digest => None,
        }))
    }

    async fn exists(&self, id: &ObjectId) -> Result<bool, StoreError> {
        let response = self.sealed_secrets(id).get_opt(&id.name).await;
        Ok(response
            .map_err(api_error("cannot read the SealedSecret"))?
            .is_some())
    }

    async fn create(&self, id: &ObjectId, secret: Box<Secret>) -> Result<AppliedPlan, StoreError> {
        rejection::check_size("cannot create the Secret", &secret)?;
        let body = Readable::Object(secret::to_api(&secret));
        let result = self.secrets(id).create(&PostParams::default(), &body).await;
        match result {
            Ok(created) => self.process_stored(id, created),
            Err(error) if has_status(&error, 409) => Ok(AppliedPlan::Exists(secret)),
            Err(error) => Err(rejection::secret_error("cannot create the Secret", &secret)(error)),
        }
    }

    /// Records the version of a Secret that was created or replaced, or that finalizers keep after its deletion.
    fn process_stored(
        &self,
        id: &ObjectId,
        secret: Readable<core::Secret>,
    ) -> Result<AppliedPlan, StoreError> {
        let secret = secret::from_api(require_readable(secret, "cannot read the stored Secret")?);
        self.set_secret(id, Some(&secret.metadata));
        Ok(AppliedPlan::Done(Some(Box::new(secret))))
    }

    async fn replace(&self, id: &ObjectId, secret: &Secret) -> Result<AppliedPlan, StoreError> {
        rejection::check_size("cannot update the Secret", secret)?;
        let body = Readable::Object(secret::to_api(secret));
        let result = self
            .secrets(id)
            .replace(&id.name, &PostParams::default(), &body)
            .await;
        let replaced =
            result.map_err(rejection::secret_error("cannot update the Secret", secret))?;
        self.process_stored(id, replaced)
    }

    /// Deletes the Secret if the SealedSecret controls it, with the precondition that its version is unchanged since
    /// this check. Returns the Secret if its finalizers delay the deletion.
    async fn remove(&self, id: &ObjectId) -> Result<AppliedPlan, StoreError> {
        let Some(metadata) = self.secret_metadata(id).await? else {
            return Ok(AppliedPlan::Done(None));
        };
        let uid = self.catalog().entry(id).and_then(|entry| entry.uid.clone());
        if !ownership::is_controlled_by(&metadata, uid.as_deref()) {
            return Ok(AppliedPlan::Done(None));
        }
        let precondition = Preconditions {
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
        };
        let params = DeleteParams::default().preconditions(precondition);
        match self.secrets(id).delete(&id.name, &params).await {
            Ok(response) => match response.left() {
                Some(remaining) => self.process_stored(id, remaining),
                None => Ok(AppliedPlan::Done(None)),
            },
            Err(error) if has_status(&error, 404) => Ok(AppliedPlan::Done(None)),
            Err(error) => {
                let secret = Secret {
                    metadata,
                    ..Secret::default()
                };
                Err(rejection::secret_error("cannot delete the Secret", &secret)(error))
            }
        }
    }

    /// Returns whether the Secret can be assumed to be absent: the object has no conditions, and the Secret was never
    /// read, written or in a watch event.
    fn is_probably_new(&self, id: &ObjectId, entry: &Entry) -> bool {
        entry.was_never_synced() && !self.catalog().has_secret_state(id)
    }
}

impl Store for ClusterStore {
    fn cached_state(&self, id: &ObjectId) -> Option<CachedState> {
        let catalog = self.catalog();
        let entry = catalog.entry(id).filter(|entry| entry.is_synced())?;
        let SecretVersion { uid, version } = catalog.secret(id)?.clone();
        // Only the Secret shows its former values: other clients may write the status.
        let exists = !entry.is_gone() && !entry.may_keep_former && !entry.requests_delivery;
        Some(CachedState {
            identity: entry.identity.filter(|_| exists)?,
            opts_out: entry.opts_out,
            labels: entry.labels.clone(),
            record: entry.status.as_ref()?.record.clone()?,
            version_key: entry.version_key(),
            secret: (uid, version),
        })
    }

    fn is_public(&self) -> bool {
        true
    }

    async fn is_current_everywhere(
        &self,
        id: &ObjectId,
        changed_at: Timestamp,
        now: Timestamp,
    ) -> Option<bool> {
        consumers::are_current(&self.client, id, changed_at, now).await
    }

    fn note_unsealed(&self, id: &ObjectId, observed: &Observed, stored: StoredSecret<'_>) {
        let (uid, generation) = (observed.uid.as_deref(), observed.generation);
        let version = stored
            .secret
            .and_then(|secret| SecretVersion::from_metadata(&secret.metadata));
        let verified = version.map(|version| {
            VerifiedSecret::new(version, stored.has_unsealed_values, stored.is_exclusive)
        });
        self.catalog()
            .record_unsealed(id, uid, generation, verified.unwrap_or_default());
    }

    fn note_delivered(&self, id: &ObjectId) {
        self.catalog().forget_unsealed(id);
    }

    fn note_recognized(&self, id: &ObjectId, identity: Identity, secret: RecognizedSecret<'_>) {
        let version = SecretVersion {
            uid: secret.uid.to_owned(),
            version: secret.version.to_owned(),
        };
        let verified =
            VerifiedSecret::new(version, secret.has_unsealed_values, secret.is_exclusive);
        self.catalog().record_recognized(id, identity, verified);
    }

    fn release(&self, id: &ObjectId) {
        self.catalog().shorten(id);
    }

    async fn gather(&self, id: &ObjectId, mode: ReadMode) -> Result<Observed, StoreError> {
        let entry = self.catalog().entry(id).cloned();
        let entry = match entry {
            Some(entry) if !entry.is_gone() => entry,
            entry => return self.gather_deleted(id, entry).await,
        };
        let (entry, source) = match entry.cached.clone() {
            CachedSource::Complete(source) => (entry, source),
            CachedSource::Digest => match self.fetch(id).await? {
                Some((mut fetched, source)) => {
                    fetched.inherit(&entry);
                    (fetched, source)
                }
                None => return self.gather_deleted(id, Some(entry)).await,
            },
        };
        let is_assumed_absent = mode == ReadMode::Guess && self.is_probably_new(id, &entry);
        let (existing, unmanaged) = if is_assumed_absent {
            (Existing::Absent, None)
        } else {
            self.existing(id, &source, entry.uid.as_deref()).await?
        };
        Ok(Observed {
            assumed_absent: is_assumed_absent,
            has_unsealed_values: has_unsealed_values(&existing, &entry),
            is_exclusive: is_exclusive(&existing, &entry),
            random_mark: existing.secret().and_then(random_mark::of).cloned(),
            trusts_mark: false,
            settled: entry.is_settled(),
            existing,
            unmanaged,
            claimed: entry.is_claimed(),
            is_fresh: entry.is_fresh(),
            generation: entry.generation,
            uid: entry.uid,
            source,
            status: entry.status,
        })
    }

    async fn apply(&self, id: &ObjectId, plan: Plan) -> Result<AppliedPlan, StoreError> {
        match plan {
            Plan::Create(secret) => self.create(id, secret).await,
            Plan::Replace(secret) => self.replace(id, &secret).await,
            Plan::Remove => self.remove(id).await,
            Plan::Leave | Plan::Refuse(_) => Ok(AppliedPlan::Done(None)),
        }
    }

    async fn record(
        &self,
        id: &ObjectId,
        uid: Option<&str>,
        status: Option<SealedSecretStatus>,
    ) -> Result<(), StoreError> {
        let Some(mut status) = status else {
            self.catalog().forget(id);
            self.events.forget(id);
            return Ok(());
        };
        let entry = self.catalog().entry(id).cloned();
        let Some(entry) = entry.filter(|entry| entry.uid.as_deref() == uid) else {
            return Ok(());
        };
        if self.drops_items.load(Ordering::Relaxed) {
            status.items.clear();
        }
        if self.drops_record.load(Ordering::Relaxed) {
            status.record = None;
        }
        if entry.status.as_ref() == Some(&status) && entry.is_settled() {
            return Ok(());
        }
        self.write_status(id, entry, status).await
    }

    async fn emit_event(&self, id: &ObjectId, event: EventRecord) {
        if self.event_level == EventLevel::Warnings && !event.is_warning {
            return;
        }
        let entry = self.catalog().entry(id).cloned();
        let uid = entry.and_then(|entry| entry.uid);
        self.events.write(id, uid, event, Timestamp::now()).await;
    }
}

/// Returns whether the SealedSecret may write the Secret; for a deleted or malformed SealedSecret, whether it controls
/// the Secret.
fn is_owned(secret: &ObjectMeta, source: &Source, uid: Option<&str>) -> bool {
    match source {
        Source::Sealed(sealed) => {
            let template = &sealed.spec.template.metadata;
            ownership::is_owned(secret, &sealed.metadata, template, false)
        }
        Source::Malformed(_) | Source::Gone => ownership::is_controlled_by(secret, uid),
    }
}

/// Returns whether the Secret is known to have the values of the last version that was unsealed.
fn has_unsealed_values(existing: &Existing, entry: &Entry) -> bool {
    matches!(existing, Existing::Owned(Content::Secret(secret)) if entry.has_unsealed_values(&secret.metadata))
}

/// Returns whether all content of the Secret is known to come from the SealedSecret.
fn is_exclusive(existing: &Existing, entry: &Entry) -> bool {
    matches!(existing, Existing::Owned(Content::Secret(secret)) if entry.is_exclusive(&secret.metadata))
}

fn id_of(metadata: &ObjectMeta) -> Option<ObjectId> {
    Some(ObjectId {
        namespace: metadata.namespace.clone()?,
        name: metadata.name.clone()?,
    })
}

fn has_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

impl std::fmt::Debug for ClusterStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterStore").finish_non_exhaustive()
    }
}
