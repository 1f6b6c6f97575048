//! Maintains the key ring from the key Secrets in a cluster.
//!
//! A Secret counts as a key if it has the label of an active key, or if its name equals the key prefix, as
//! in upstream's first releases. Secrets that cannot be used as keys are reported by name and skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller_core::object_id::ObjectId;
use controller_core::reason::Reason;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret as ApiSecret;
use kube::api::{ListParams, PostParams};
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt as _};
use shared::error_chain;
use shared::key::NewKey;
use shared::key_ring::{KeyRing, RingKey};
use shared::key_secret;
use shared::resource::{KEY_ACTIVE, KEY_LABEL, RENEW_ANNOTATION};
use tracing::{error, info};

use crate::args::KeyConfig;
use crate::key_changes::{self, RemovedKeys};
use crate::key_store::{NOT_BACKED_UP, StoredKey, build_ring, key_without_backup, log_certificate};
use crate::readable::Readable;
use crate::store::cluster::events::{Events, Subject};
use crate::store::cluster::{rejection, secret};
use crate::store::{EventRecord, StoreError, api_error, require_readable};

/// The keys in a namespace.
pub struct ClusterKeys {
    api: Api<Readable<ApiSecret>>,
    config: KeyConfig,
    keys: BTreeMap<String, StoredKey>,
    /// The names in an incomplete list.
    listed: BTreeSet<String>,
    ring: Arc<KeyRing>,
    removed: RemovedKeys,
    /// The reported problem of each unusable key Secret.
    reported: BTreeMap<String, String>,
    /// Events about key Secrets that are not yet sent, each with the `uid` of the Secret.
    events_to_send: Vec<(ObjectId, Option<String>, EventRecord)>,
    events: Events,
    /// Names of key Secrets whose annotation requests a newer key.
    renewal_requests: BTreeSet<String>,
    /// The name of the last key Secret whose renewal request was accepted.
    last_accepted: Option<String>,
    /// The `uid` of each key Secret.
    uids: BTreeMap<String, String>,
}

/// Returns the label selector of active keys.
pub fn selector() -> String {
    format!("{KEY_LABEL}={KEY_ACTIVE}")
}

impl ClusterKeys {
    /// Creates a store without keys.
    pub fn new(client: Client, config: KeyConfig) -> Self {
        Self {
            api: Api::namespaced(client.clone(), &config.namespace),
            events: Events::new(client, Subject::Secrets),
            config,
            keys: BTreeMap::new(),
            listed: BTreeSet::new(),
            ring: Arc::default(),
            removed: RemovedKeys::default(),
            reported: BTreeMap::new(),
            events_to_send: Vec::new(),
            renewal_requests: BTreeSet::new(),
            last_accepted: None,
            uids: BTreeMap::new(),
        }
    }

    /// Loads the existing keys.
    ///
    /// # Errors
    ///
    /// Returns the error of the API server. An unusable key is not an error.
    pub async fn load(&mut self, now: Timestamp) -> Result<(), StoreError> {
        info!("Searching for existing private keys");
        let labeled = ListParams::default().labels(&selector());
        let secrets = self.api.list(&labeled).await;
        for secret in secrets.map_err(api_error("cannot list the key Secrets"))? {
            self.put(secret);
        }
        let legacy = self.api.get_opt(&self.config.prefix).await;
        if let Some(secret) = legacy.map_err(api_error("cannot read the unlabeled key Secret"))? {
            self.put(secret);
        }
        self.update_ring(now);
        Ok(())
    }

    /// Returns the current key ring.
    pub fn ring(&self) -> &Arc<KeyRing> {
        &self.ring
    }

    /// Returns the number of key Secrets that cannot be used.
    pub fn unusable_count(&self) -> usize {
        self.reported.len()
    }

    /// Applies a watch event. Returns whether the key ring changed.
    pub fn apply_event(&mut self, event: Event<Readable<ApiSecret>>, now: Timestamp) -> bool {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(secret) => {
                self.listed.insert(secret.name_any());
                self.put(secret);
            }
            Event::InitDone => {
                let mut listed = std::mem::take(&mut self.listed);
                listed.insert(self.config.prefix.clone());
                let is_listed = |name: &String| listed.contains(name);
                self.keys.retain(|name, _| is_listed(name));
                self.reported.retain(|name, _| is_listed(name));
                self.renewal_requests.retain(&is_listed);
                let changed = self.update_ring(now);
                self.uids.retain(|name, _| is_listed(name));
                return changed;
            }
            Event::Apply(secret) => {
                self.put(secret);
                return self.update_ring(now);
            }
            // The Secret was deleted, or its label was removed.
            Event::Delete(secret) => {
                self.keys.remove(&secret.name_any());
                self.reported.remove(&secret.name_any());
                self.renewal_requests.remove(&secret.name_any());
                let changed = self.update_ring(now);
                self.uids.remove(&secret.name_any());
                return changed;
            }
        }
        false
    }

    /// Returns whether the newest key Secret has [`RENEW_ANNOTATION`] with the value `true`, which requests a new key.
    /// Returns true once, and again only after a request of another key was accepted.
    pub fn accept_renewal_request(&mut self) -> bool {
        let newest = self.ring.newest_key().map(|key| key.name().to_owned());
        let is_requested = newest
            .as_ref()
            .is_some_and(|name| self.renewal_requests.contains(name));
        let is_new = is_requested && self.last_accepted != newest;
        if is_new {
            info!(secretname = newest, "New key requested by annotation");
            self.last_accepted = newest;
        }
        is_new
    }

    /// Sends the pending events about key Secrets.
    pub async fn announce(&mut self, now: Timestamp) {
        for (id, uid, event) in std::mem::take(&mut self.events_to_send) {
            self.events.write(&id, uid, event, now).await;
        }
    }

    /// Forgets removed keys after their retention time.
    pub fn expire(&mut self, now: Timestamp) {
        self.removed.expire(now);
    }

    /// Stores a new key under a name that the API server generates, and adds it to the key ring.
    ///
    /// # Errors
    ///
    /// Returns the error of the API server.
    pub async fn add(&mut self, new: &NewKey, now: Timestamp) -> Result<(), StoreError> {
        let (labels, annotations) = (self.config.labels.clone(), self.config.annotations.clone());
        let mut secret = key_secret::build("", &self.config.namespace, new, labels, annotations);
        secret.metadata.name = None;
        secret.metadata.generate_name = Some(self.config.prefix.clone());
        secret.metadata.creation_timestamp = None;
        let result = self
            .api
            .create(
                &PostParams::default(),
                &Readable::Object(secret::to_api(&secret)),
            )
            .await;
        let created =
            result.map_err(rejection::secret_error("cannot store the new key", &secret))?;
        let (namespace, name) = (&self.config.namespace, created.name_any());
        info!(namespace, name, "New key written");
        log_certificate(new.pair.certificate());
        self.put(created);
        self.update_ring(now);
        Ok(())
    }

    fn put(&mut self, secret: Readable<ApiSecret>) {
        let (name, uid) = (secret.name_any(), secret.uid());
        if let Some(uid) = &uid {
            self.uids.insert(name.clone(), uid.clone());
        }
        let renew = secret.annotations().get(RENEW_ANNOTATION);
        if renew.is_some_and(|value| value == "true") {
            self.renewal_requests.insert(name.clone());
        } else {
            self.renewal_requests.remove(&name);
        }
        match self.parse(secret) {
            Ok(stored) => {
                self.reported.remove(&name);
                self.keys.insert(name, stored);
            }
            Err(problem) => {
                // A key that became unreadable stays in use until its Secret is deleted.
                if self.reported.get(&name) != Some(&problem) {
                    error!(secretname = name, error = problem, "Error reading key");
                    self.record_unusable_key(&name, uid, &problem);
                    self.reported.insert(name, problem);
                }
            }
        }
    }

    fn record_unusable_key(&mut self, name: &str, uid: Option<String>, problem: &str) {
        let event = EventRecord {
            is_warning: true,
            reason: Reason::UnusableKey,
            message: format!("this key cannot be used: {problem}"),
        };
        self.record_event(name, uid, event);
    }

    fn record_event(&mut self, name: &str, uid: Option<String>, event: EventRecord) {
        let id = ObjectId {
            namespace: self.config.namespace.clone(),
            name: name.to_owned(),
        };
        self.events_to_send.push((id, uid, event));
    }

    fn parse(&self, secret: Readable<ApiSecret>) -> Result<StoredKey, String> {
        let secret = require_readable(secret, "cannot read the Secret");
        let secret = secret::from_api(secret.map_err(|error| error.to_string())?);
        let created = secret
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0);
        let key: RingKey = key_secret::parse(&secret, self.config.priority)
            .map_err(|error| error_chain(&error))?;
        Ok(StoredKey {
            key: Arc::new(key),
            created,
        })
    }

    /// Updates the key ring from the stored keys. Returns whether it changed.
    fn update_ring(&mut self, now: Timestamp) -> bool {
        let stored = build_ring(self.keys.values(), &self.config);
        let ring = self.removed.next_ring(&self.ring, stored, now);
        key_changes::log_changes(&self.ring, &ring);
        for (name, event) in key_changes::events(&self.ring, &ring) {
            self.record_event(&name, self.uids.get(&name).cloned(), event);
        }
        let is_changed = !ring.has_same_keys(&self.ring);
        self.report_key_without_backup(&ring);
        self.ring = Arc::new(ring);
        is_changed
    }

    /// Records an event about a new key that is not backed up: once for each key, and once after each restart.
    fn report_key_without_backup(&mut self, ring: &KeyRing) {
        let name = |ring| key_without_backup(ring).map(|key| key.name().to_owned());
        let Some(name) = name(ring).filter(|after| name(&self.ring).as_ref() != Some(after)) else {
            return;
        };
        let event = EventRecord {
            is_warning: true,
            reason: Reason::WaitsForBackup,
            message: NOT_BACKED_UP.to_owned(),
        };
        self.record_event(&name, self.uids.get(&name).cloned(), event);
    }
}

impl std::fmt::Debug for ClusterKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterKeys").finish_non_exhaustive()
    }
}
