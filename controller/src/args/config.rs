//! The controller's configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lease::{Election, Pod};
use shared::key::KeySpec;
use shared::key_secret::OrderPriority;
use shared::renewal;
use shared::v2::{PublicRecipient, Suite};

use super::Address;
use crate::log;
use crate::reconcile::Policy;

/// The configuration of the controller.
#[derive(Debug)]
pub struct Config {
    /// The cluster or directory to use.
    pub backend: Backend,
    /// The configuration of keys.
    pub keys: KeyConfig,
    /// The rules by which SealedSecrets become Secrets.
    pub policy: Policy,
    /// The address of the HTTP server.
    pub listen: Address,
    /// The address of the metrics server.
    pub listen_metrics: Address,
    /// The address of the TLS port for authenticated callers, if enabled.
    pub listen_authorized: Option<Address>,
    /// Whether the unauthenticated port serves neither verify nor rotate.
    pub plain_certificate_only: bool,
    /// Whether object names are omitted from the metrics.
    pub omits_names: bool,
    /// The maximum number of objects with a separate metric series.
    pub max_named_objects: usize,
    /// The rate limit of one caller: requests per second, and the burst.
    pub rate: (u32, u32),
    /// The timeout for reading a request.
    pub read_timeout: Duration,
    /// The timeout for writing a response.
    pub write_timeout: Duration,
    /// The configuration of the log.
    pub log: log::Config,
    /// The warnings to log once at startup.
    pub warnings: Vec<String>,
}

/// The store of SealedSecrets, keys and Secrets.
#[allow(clippy::large_enum_variant, reason = "a process has only one")]
#[derive(Debug, Clone, PartialEq)]
pub enum Backend {
    /// The subdirectories of a directory, without a cluster.
    Directory(PathBuf),
    /// A cluster, through its API server.
    Cluster(ClusterConfig),
}

/// The configuration of the controller in a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterConfig {
    /// The kubeconfig file; `None` for the in-cluster configuration.
    pub kubeconfig: Option<PathBuf>,
    /// The Pod in which this process runs.
    pub pod: Pod,
    /// Whether all namespaces are watched, unless `additional_namespaces` names some.
    pub all_namespaces: bool,
    /// Namespaces to watch besides the controller's own.
    pub additional_namespaces: Vec<String>,
    /// The label selector of the SealedSecrets to process.
    pub label_selector: Option<String>,
    /// Whether the controller deletes the Secret of a deleted SealedSecret, instead of leaving this to the garbage
    /// collector.
    pub deletes_secrets: bool,
    /// The level of the events about SealedSecrets.
    pub event_level: EventLevel,
    /// Whether the controller watches Secrets, to revert changes by other clients.
    pub watches_secrets: bool,
    /// The `ConfigMap` in the controller's namespace in which the certificate is published, if configured.
    pub certificate_config_map: Option<String>,
    /// The rate limit of requests to the API server: requests per second, and the burst. `None` for no limit.
    pub rate: Option<(f64, u32)>,
    /// The leader election among replicas.
    pub election: Election,
}

/// The level of the events to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventLevel {
    /// All events.
    All,
    /// Only warnings.
    Warnings,
}

impl ClusterConfig {
    /// Returns the namespaces to watch. The only element is `None` if all namespaces are watched. `own` is the
    /// controller's namespace.
    pub fn namespaces(&self, own: &str) -> Vec<Option<String>> {
        if self.all_namespaces && self.additional_namespaces.is_empty() {
            return vec![None];
        }
        let mut names = vec![own.to_owned()];
        for name in &self.additional_namespaces {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names.into_iter().map(Some).collect()
    }
}

/// The configuration of keys.
#[derive(Debug, Clone)]
pub struct KeyConfig {
    /// The name prefix of new keys. A key Secret with exactly this name, as upstream's first releases created, needs no
    /// label.
    pub prefix: String,
    /// The namespace of new keys.
    pub namespace: String,
    /// Additional labels of new key Secrets.
    pub labels: BTreeMap<String, String>,
    /// Annotations of new key Secrets.
    pub annotations: BTreeMap<String, String>,
    /// The size, validity and common name of new RSA keys. The validity applies to v2 keys too.
    pub spec: KeySpec,
    /// The suite of the preferred v2 key. Keys of this suite are generated in addition to RSA keys, which v1 needs.
    pub sealing_suite: Suite,
    /// Public keys of additional recipients for rotated v2 values.
    pub additional_recipients: Arc<[PublicRecipient]>,
    /// When keys are renewed.
    pub policy: renewal::Policy,
    /// The timestamp that orders the keys.
    pub priority: OrderPriority,
    /// Whether a key seals only after it is marked as backed up.
    pub requires_backup: bool,
}
