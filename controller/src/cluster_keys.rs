//! Maintains the key ring from the key Secrets in a cluster.
//!
//! A Secret counts as a key if it has the label of an active key of v1 or of v2, or if its name equals the key prefix,
//! as in upstream's first releases. A selector cannot match either of two labels, so each format has its own list and
//! watch. Secrets that cannot be used as keys are reported by name and skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller_core::object_id::ObjectId;
use controller_core::reason::Reason;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret as ApiSecret;
use kube::api::{ListParams, PostParams};
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt as _};
use shared::key_ring::KeyRing;
use shared::key_secret::OrderPriority;
use shared::resource::RENEW_ANNOTATION;
use shared::v2::Suite;
use tracing::{error, info};

use crate::args::KeyConfig;
use crate::key_changes::{self, RemovedKeys};
use crate::key_renewal::{AcceptedRequests, GeneratedKey};
use crate::key_store::{
    KeyFormat, NOT_BACKED_UP, StoredKey, build_ring, key_secret, log_new_key, name_start,
    new_keys_without_backup,
};
use crate::readable::Readable;
use crate::store::cluster::events::{Events, Subject};
use crate::store::cluster::{rejection, secret};
use crate::store::{EventRecord, StoreError, api_error, require_readable};

/// The keys in a namespace.
pub struct ClusterKeys {
    api: Api<Readable<ApiSecret>>,
    config: KeyConfig,
    secrets: BTreeMap<KeyFormat, KeySecrets>,
    ring: Arc<KeyRing>,
    removed: RemovedKeys,
    /// Unsent events about key Secrets, each with the `uid` of its Secret.
    events_to_send: Vec<(ObjectId, Option<String>, EventRecord)>,
    events: Events,
    accepted: AcceptedRequests,
    /// The `uid` of each key Secret.
    uids: BTreeMap<String, String>,
}

/// The key Secrets of one format, by name.
#[derive(Default)]
struct KeySecrets {
    keys: BTreeMap<String, StoredKey>,
    /// The names in an incomplete list.
    listed: BTreeSet<String>,
    /// The reported problem of each unusable key Secret.
    reported: BTreeMap<String, String>,
    /// Names of key Secrets whose annotation requests a newer key.
    renewal_requests: BTreeSet<String>,
}

impl KeySecrets {
    /// Records whether a Secret requests a newer key.
    fn record_request(&mut self, name: &str, secret: &Readable<ApiSecret>) {
        let renew = secret.annotations().get(RENEW_ANNOTATION);
        if renew.is_some_and(|value| value == "true") {
            self.renewal_requests.insert(name.to_owned());
        } else {
            self.renewal_requests.remove(name);
        }
    }

    fn remove(&mut self, name: &str) {
        self.keys.remove(name);
        self.reported.remove(name);
        self.renewal_requests.remove(name);
    }

    /// Forgets the Secrets that a complete list does not contain, except the unlabeled key of upstream's first
    /// releases, which no list contains.
    fn retain_listed(&mut self, unlabeled: Option<&str>) {
        let mut listed = std::mem::take(&mut self.listed);
        listed.extend(unlabeled.map(str::to_owned));
        self.keys.retain(|name, _| listed.contains(name));
        self.reported.retain(|name, _| listed.contains(name));
        self.renewal_requests.retain(|name| listed.contains(name));
    }

    /// Records the problem of an unusable key. Returns whether the problem is new.
    fn record_problem(&mut self, name: &str, problem: &str) -> bool {
        let before = self.reported.insert(name.to_owned(), problem.to_owned());
        before.as_deref() != Some(problem)
    }
}

impl ClusterKeys {
    /// Creates a store without keys.
    pub fn new(client: Client, config: KeyConfig) -> Self {
        Self {
            api: Api::namespaced(client.clone(), &config.namespace),
            events: Events::new(client, Subject::Secrets),
            config,
            secrets: BTreeMap::new(),
            ring: Arc::default(),
            removed: RemovedKeys::default(),
            events_to_send: Vec::new(),
            accepted: AcceptedRequests::default(),
            uids: BTreeMap::new(),
        }
    }

    /// Loads the existing keys.
    ///
    /// # Errors
    ///
    /// Fails if a request to the API server fails. An unusable key is not an error.
    pub async fn load(&mut self, now: Timestamp) -> Result<(), StoreError> {
        info!("Searching for existing private keys");
        for format in KeyFormat::ALL {
            let labeled = ListParams::default().labels(&format.selector());
            let secrets = self.api.list(&labeled).await;
            for secret in secrets.map_err(api_error("cannot list the key Secrets"))? {
                self.put(format, secret);
            }
        }
        let legacy = self.api.get_opt(&self.config.prefix).await;
        if let Some(secret) = legacy.map_err(api_error("cannot read the unlabeled key Secret"))? {
            self.put(KeyFormat::Rsa, secret);
        }
        self.update_ring(now);
        Ok(())
    }

    /// Returns the name prefix of key Secrets.
    pub fn prefix(&self) -> &str {
        &self.config.prefix
    }

    /// Returns the current key ring.
    pub fn ring(&self) -> &Arc<KeyRing> {
        &self.ring
    }

    /// Returns the number of key Secrets that cannot be used.
    pub fn unusable_count(&self) -> usize {
        let secrets = self.secrets.values();
        secrets.map(|secrets| secrets.reported.len()).sum()
    }

    /// Applies an event of the watch of a format. Returns whether the key ring changed.
    pub fn apply_event(
        &mut self,
        format: KeyFormat,
        event: Event<Readable<ApiSecret>>,
        now: Timestamp,
    ) -> bool {
        let secrets = self.secrets.entry(format).or_default();
        match event {
            Event::Init => {
                secrets.listed.clear();
                return false;
            }
            Event::InitApply(secret) => {
                secrets.listed.insert(secret.name_any());
                self.put(format, secret);
                return false;
            }
            Event::InitDone => {
                let oldest = Some(self.config.prefix.as_str());
                secrets.retain_listed(oldest.filter(|_| format == KeyFormat::Rsa));
            }
            Event::Apply(secret) => self.put(format, secret),
            // The Secret was deleted, or its label was removed.
            Event::Delete(secret) => secrets.remove(&secret.name_any()),
        }
        let is_changed = self.update_ring(now);
        self.forget_uids();
        is_changed
    }

    /// Forgets the `uid` of Secrets that are no longer keys, once the events about their removal are recorded.
    fn forget_uids(&mut self) {
        let secrets = &self.secrets;
        self.uids.retain(|name, _| {
            let mut secrets = secrets.values();
            secrets.any(|s| s.keys.contains_key(name) || s.reported.contains_key(name))
        });
    }

    /// Returns the suites whose newest key Secret has [`RENEW_ANNOTATION`] with the value `true`, which requests a new
    /// key. Returns a suite only once per requesting key Secret.
    pub fn accept_renewal_requests(&mut self) -> Vec<Suite> {
        let secrets = &self.secrets;
        let is_requested = |name: &str| {
            let mut secrets = secrets.values();
            secrets.any(|secrets| secrets.renewal_requests.contains(name))
        };
        self.accepted.accept(&self.ring, is_requested)
    }

    /// Sends the pending events about key Secrets.
    pub async fn send_events(&mut self, now: Timestamp) {
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
    /// Fails if the request to the API server fails.
    pub async fn add(&mut self, new: &GeneratedKey, now: Timestamp) -> Result<(), StoreError> {
        let mut secret = key_secret(new, "", &self.config);
        secret.metadata.name = None;
        secret.metadata.generate_name = Some(name_start(new.suite(), &self.config));
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
        log_new_key(new);
        let format = match new {
            GeneratedKey::Rsa(_) => KeyFormat::Rsa,
            GeneratedKey::V2(_) => KeyFormat::V2,
        };
        self.put(format, created);
        self.update_ring(now);
        Ok(())
    }

    fn put(&mut self, format: KeyFormat, secret: Readable<ApiSecret>) {
        let (name, uid) = (secret.name_any(), secret.uid());
        if let Some(uid) = &uid {
            self.uids.insert(name.clone(), uid.clone());
        }
        let secrets = self.secrets.entry(format).or_default();
        secrets.record_request(&name, &secret);
        match read(format, secret, self.config.priority) {
            Ok(stored) => {
                secrets.reported.remove(&name);
                secrets.keys.insert(name, stored);
            }
            // A key that became unreadable stays in use until its Secret is deleted.
            Err(problem) => {
                if secrets.record_problem(&name, &problem) {
                    error!(secretname = name, error = problem, "Error reading key");
                    self.record_unusable_key(&name, uid, &problem);
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

    /// Updates the key ring from the stored keys. Returns whether it changed.
    fn update_ring(&mut self, now: Timestamp) -> bool {
        let keys = self.secrets.values().flat_map(|s| s.keys.values());
        let stored = build_ring(keys, &self.config);
        let ring = self.removed.next_ring(&self.ring, stored, now);
        key_changes::log_changes(&self.ring, &ring);
        for (name, event) in key_changes::events(&self.ring, &ring) {
            self.record_event(&name, self.uids.get(&name).cloned(), event);
        }
        let is_changed = !ring.has_same_keys(&self.ring);
        self.report_keys_without_backup(&ring);
        self.ring = Arc::new(ring);
        is_changed
    }

    /// Records an event about each new key that must be backed up before it seals: once for each key, and once after
    /// each restart.
    fn report_keys_without_backup(&mut self, ring: &KeyRing) {
        for key in new_keys_without_backup(&self.ring, ring) {
            let event = EventRecord {
                is_warning: true,
                reason: Reason::WaitsForBackup,
                message: NOT_BACKED_UP.to_owned(),
            };
            let uid = self.uids.get(key.name()).cloned();
            self.record_event(key.name(), uid, event);
        }
    }
}

/// Reads a key Secret. Takes ownership, so that the private key in the Secret is wiped.
fn read(
    format: KeyFormat,
    secret: Readable<ApiSecret>,
    priority: OrderPriority,
) -> Result<StoredKey, String> {
    let secret = require_readable(secret, "cannot read the Secret");
    let secret = secret::from_api(secret.map_err(|error| error.to_string())?);
    format.read(&secret, priority)
}

impl std::fmt::Debug for ClusterKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterKeys").finish_non_exhaustive()
    }
}
