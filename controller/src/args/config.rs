//! The controller's configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use shared::key::KeySpec;
use shared::key_secret::OrderPriority;
use shared::renewal;

use super::Address;
use crate::log;
use crate::reconcile::Policy;

/// The complete configuration.
#[derive(Debug)]
pub struct Config {
    /// Cluster or directory.
    pub place: Place,
    /// Configuration of keys.
    pub keys: KeyConfig,
    /// How SealedSecrets are turned into Secrets.
    pub policy: Policy,
    /// Address of the HTTP server.
    pub listen: Address,
    /// Address of the metrics server.
    pub listen_metrics: Address,
    /// Address of the server for authorised callers, if it is enabled.
    pub listen_authorised: Option<Address>,
    /// Whether the unauthenticated port serves only the certificate, not verify and rotate.
    pub plain_certificate_only: bool,
    /// Whether object names are left out of the metrics.
    pub omits_names: bool,
    /// Maximum number of objects with their own metric series.
    pub most_named: usize,
    /// Requests per second of one caller, and the burst.
    pub rate: (u32, u32),
    /// Timeout for reading a request.
    pub read_timeout: Duration,
    /// Timeout for writing a response.
    pub write_timeout: Duration,
    /// Configuration of the log.
    pub log: log::Config,
    /// Warnings to log once at start.
    pub warnings: Vec<String>,
}

/// Where SealedSecrets, keys and Secrets are stored.
#[allow(clippy::large_enum_variant, reason = "there is one in a process")]
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// In this directory.
    Directory(PathBuf),
    /// In a cluster.
    Cluster(ClusterConfig),
}

/// Configuration of the controller in a cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterConfig {
    /// The kubeconfig file; without one the in-cluster configuration is used.
    pub kubeconfig: Option<PathBuf>,
    /// The Pod of this process, as far as its environment says.
    pub pod: Pod,
    /// Whether all namespaces are watched.
    pub all_namespaces: bool,
    /// Namespaces to watch besides the controller's own.
    pub additional_namespaces: Vec<String>,
    /// Label selector of the SealedSecrets to process.
    pub label_selector: Option<String>,
    /// Whether the controller deletes Secrets with their SealedSecret, instead of leaving this to the garbage
    /// collector.
    pub deletes_secrets: bool,
    /// Which events about SealedSecrets are written.
    pub announced: Announced,
    /// Whether Secrets are watched.
    pub watches_secrets: bool,
    /// The `ConfigMap` in the controller's namespace to publish the certificate in, if configured.
    pub certificate_config_map: Option<String>,
    /// Rate limit for requests to the API server: requests per second and burst. `None` for no limit.
    pub rate: Option<(f64, u32)>,
    /// Leader election among replicas.
    pub election: Election,
}

/// The Pod of this process, read from `POD_NAMESPACE`, `POD_NAME` and `POD_UID`, which the manifests set
/// through the downward API. Unset and empty variables are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its uid.
    pub uid: Option<String>,
}

impl Pod {
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let filled = |name: &str| variable(name).filter(|text| !text.is_empty());
        Self {
            namespace: filled("POD_NAMESPACE"),
            name: filled("POD_NAME"),
            uid: filled("POD_UID"),
        }
    }
}

/// Which events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// All events.
    Everything,
    /// Only warnings.
    Warnings,
}

/// Leader election: which of several replicas writes, and how soon another one takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Election {
    /// Whether leader election is enabled.
    pub elects: bool,
    /// Name of the Lease, in the controller's namespace.
    pub lease_name: String,
    /// How long after the leader's last renewal another replica takes over.
    pub lease_duration: Duration,
    /// How long after its last renewal the leader stops writing.
    pub renew_deadline: Duration,
    /// Pause between two attempts to acquire or renew the Lease.
    pub retry_period: Duration,
}

impl ClusterConfig {
    /// Returns the namespaces to watch; `None` in the list means all.
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

/// Configuration of keys.
#[derive(Debug, Clone)]
pub struct KeyConfig {
    /// Prefix of the names of new keys; also the name of the key that needs no label.
    pub prefix: String,
    /// Namespace of new keys.
    pub namespace: String,
    /// Labels of new keys.
    pub labels: BTreeMap<String, String>,
    /// Annotations of new keys.
    pub annotations: BTreeMap<String, String>,
    /// Size, validity and common name of new keys.
    pub spec: KeySpec,
    /// When keys are renewed.
    pub policy: renewal::Policy,
    /// What keys are ordered by.
    pub priority: OrderPriority,
    /// Whether a key seals only after it is marked as backed up.
    pub requires_backup: bool,
}
